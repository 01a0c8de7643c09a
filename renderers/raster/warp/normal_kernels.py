# type: ignore  # device code: its types are checked by Warp's compiler
"""Warp kernel for normal equations: the derivative of every pixel by an object's motions, summed at once into J^T r and J^T J.

Motions are those of the object in its own frame: three translations along its axes, three turns about them.
"""

import warp as wp

from renderers.raster.warp.border_kernels import EDGE_OF_A, EDGE_OF_B, INTERSECTION
from renderers.raster.warp.face_kernels import Layout, Meshes, Placed, code_of, mat34
from renderers.raster.warp.push_kernels import Push, joined, resolve_step
from renderers.raster.warp.sample_kernels import Inside, colour_inside
from renderers.raster.warp.seam_kernels import Loss, full_seam
from renderers.raster.warp.stack_kernels import front_slot

wp.set_module_options({"enable_backward": False, "fuse_fp": False})

vec6 = wp.types.vector(length=6, dtype=wp.float32)
mat66 = wp.types.matrix(shape=(6, 6), dtype=wp.float32)


@wp.struct
class Jacobian:
    """Derivative of a pixel's colour by the object's motions."""

    red: vec6
    green: vec6
    blue: vec6


@wp.func
def wrench_of(T: mat34, push: Push) -> vec6:
    """A force on a point as a gradient by the motions of the object."""
    force = wp.vec3(
        T[0, 0] * push.force[0] + T[1, 0] * push.force[1] + T[2, 0] * push.force[2],
        T[0, 1] * push.force[0] + T[1, 1] * push.force[1] + T[2, 1] * push.force[2],
        T[0, 2] * push.force[0] + T[1, 2] * push.force[1] + T[2, 2] * push.force[2],
    )
    turn = wp.cross(push.point, force)
    return vec6(force[0], force[1], force[2], turn[0], turn[1], turn[2])


@wp.func
def wrench_inside(placed: Placed, layer: wp.int32, inside: Inside) -> vec6:
    """What a sample's colour hands on as a gradient by the motions of the object: of the face, and of the light in its frame."""
    turn = wp.cross(inside.pull.light, placed.light[layer])
    force = wp.vec3(0.0, 0.0, 0.0)
    if placed.near_light != 0:
        force = -inside.pull.light
    by_light = vec6(force[0], force[1], force[2], turn[0], turn[1], turn[2])
    return wrench_of(placed.T_camera_object[layer], inside.push) + by_light


@wp.func
def add_inside(
    jacobian: Jacobian,
    meshes: Meshes,
    placed: Placed,
    layout: Layout,
    loss: Loss,
    layer: wp.int32,
    row: wp.int32,
    column: wp.int32,
) -> Jacobian:
    """Add what a sample changes if it shows the layer."""
    n = layout.layers_per_scene
    if front_slot(loss.keys, layer - layer % n, n, -1, row, column) != layer % n:
        return jacobian
    code = code_of(loss.keys[layer, row, column])
    share = 1.0 / wp.float32(layout.samples * layout.samples)
    channels = wp.int32(3)  # a number that the compiler does not unroll
    for channel in range(channels):
        g = wp.vec3(0.0, 0.0, 0.0)
        g[channel] = share
        wrench = wrench_inside(placed, layer, colour_inside(meshes, placed, layout, layer, code, row, column, g))
        if channel == 0:
            jacobian.red += wrench
        elif channel == 1:
            jacobian.green += wrench
        else:
            jacobian.blue += wrench
    return jacobian


@wp.func
def add_colour(jacobian: Jacobian, colour: wp.vec3, wrench: vec6) -> Jacobian:
    """Add a step of colour that moves."""
    jacobian.red += colour[0] * wrench
    jacobian.green += colour[1] * wrench
    jacobian.blue += colour[2] * wrench
    return jacobian


@wp.func
def add_step(
    jacobian: Jacobian,
    meshes: Meshes,
    placed: Placed,
    layout: Layout,
    loss: Loss,
    layer: wp.int32,
    pixel: wp.vec2i,
    row: wp.int32,
    column: wp.int32,
    down: wp.int32,
    right: wp.int32,
) -> Jacobian:
    """Add what the border between two neighbouring samples changes in a pixel."""
    if row < 0 or column < 0 or row + down >= layout.rows or column + right >= layout.columns:
        return jacobian
    scene = layer // layout.layers_per_scene
    seam = full_seam(loss, layout, scene, row, column, down, right)
    if (seam.step.layer_a != layer and seam.step.layer_b != layer) or joined(meshes, placed, seam.step) == 1:
        return jacobian
    pair = resolve_step(meshes, placed, layout, loss.background, scene, seam.step)
    if pair.row != pixel[0] or pair.column != pixel[1]:
        return jacobian
    both = wp.int32(0)
    if pair.what == wp.static(INTERSECTION):
        both = 1
    T = placed.T_camera_object[layer]
    colour = pair.colour / wp.float32(layout.samples * layout.samples)
    if seam.step.layer_a == layer and (both == 1 or pair.what == wp.static(EDGE_OF_A)):
        jacobian = add_colour(jacobian, colour, wrench_of(T, pair.on_a))
    if seam.step.layer_b == layer and (both == 1 or pair.what == wp.static(EDGE_OF_B)):
        jacobian = add_colour(jacobian, colour, wrench_of(T, pair.on_b))
    return jacobian


@wp.func
def pixel_jacobian(
    meshes: Meshes, placed: Placed, layout: Layout, loss: Loss, layer: wp.int32, row: wp.int32, column: wp.int32
) -> Jacobian:
    """Derivative of a pixel's colour by the motions of one object."""
    s = layout.samples
    jacobian = Jacobian()
    ways = wp.int32(2)  # a number that the compiler does not unroll
    pixel = wp.vec2i(row, column)
    for i in range(s * s):
        r = row * s + i // s
        c = column * s + i % s
        jacobian = add_inside(jacobian, meshes, placed, layout, loss, layer, r, c)
    for i in range(s * (s + 1)):
        across = i // (s + 1)
        along = i % (s + 1) - 1
        for way in range(ways):
            r = row * s + across * (1 - way) + along * way
            c = column * s + along * (1 - way) + across * way
            jacobian = add_step(jacobian, meshes, placed, layout, loss, layer, pixel, r, c, way, 1 - way)
    return jacobian


@wp.kernel
def sum_normals(
    meshes: Meshes,
    placed: Placed,
    layout: Layout,
    loss: Loss,
    boxes: wp.array2d(dtype=wp.int32),
    residual: wp.array3d(dtype=wp.vec3),
    lanes: wp.int32,
    out: wp.array3d(dtype=wp.float32),
):
    """J^T r (6 numbers) and J^T J (36) of each layer.  Launched with [layers lanes] threads.

    Args:
        meshes, placed, layout: the batch.
        loss: the stack; its gradients are not used.
        boxes: from ``gradient_kernels.bound_layers``.
        residual: [scenes h w], r.
        lanes: threads a layer; each takes every lanes-th pixel.
        out: [layers 42 lanes], filled with each thread's sums.
    """
    layer, lane = wp.tid()
    gradient = vec6()
    hessian = mat66()
    s = layout.samples
    scene = layer // layout.layers_per_scene
    if boxes[layer, 0] <= -boxes[layer, 2] and boxes[layer, 1] <= -boxes[layer, 3]:
        first_row = wp.max(boxes[layer, 0] - 1, 0) // s
        first_column = wp.max(boxes[layer, 1] - 1, 0) // s
        height = wp.min(1 - boxes[layer, 2], layout.rows - 1) // s + 1 - first_row
        width = wp.min(1 - boxes[layer, 3], layout.columns - 1) // s + 1 - first_column
        for i in range(lane, width * height, lanes):
            row = first_row + i // width
            column = first_column + i % width
            j = pixel_jacobian(meshes, placed, layout, loss, layer, row, column)
            r = residual[scene, row, column]
            gradient += r[0] * j.red + r[1] * j.green + r[2] * j.blue
            hessian += wp.outer(j.red, j.red) + wp.outer(j.green, j.green) + wp.outer(j.blue, j.blue)
    for i in range(6):
        out[layer, i, lane] = gradient[i]
        for j in range(6):
            out[layer, 6 + 6 * i + j, lane] = hessian[i, j]
