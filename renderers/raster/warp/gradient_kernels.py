# type: ignore  # device code: its types are checked by Warp's compiler
"""Warp kernels for gradients of images with respect to poses and lighting of their objects, and to the background.

A thread belongs to one layer and sums over some of the samples near it; the sums of its threads are added in a fixed order
afterwards, so two runs give the same bits.
"""

import warp as wp

from renderers.raster.warp.border_kernels import EDGE_OF_A, EDGE_OF_B, INTERSECTION
from renderers.raster.warp.face_kernels import (
    CROSSES,
    Layout,
    Meshes,
    Placed,
    class_of,
    code_of,
    first_sample,
    inverse_depth_of,
    last_sample,
    mat34,
    place_corner,
    scaled_camera,
)
from renderers.raster.warp.push_kernels import joined, moment_of, resolve_step
from renderers.raster.warp.sample_kernels import colour_inside, depth_inside
from renderers.raster.warp.seam_kernels import Loss, Seam, has_weight, rgb_weight, seam_gradient, seam_of
from renderers.raster.warp.stack_kernels import front_slot

wp.set_module_options({"enable_backward": False, "fuse_fp": False})


@wp.struct
class Sums:
    """Gradient of a loss with respect to a layer's pose (in the camera's frame) and lighting."""

    T: mat34
    light: wp.vec3
    levels: wp.vec2


@wp.kernel
def bound_layers(
    meshes: Meshes,
    placed: Placed,
    layout: Layout,
    states: wp.array(dtype=wp.int32),
    lanes: wp.int32,
    boxes: wp.array2d(dtype=wp.int32),
):
    """The samples that each layer may cover.  Launched with [layers lanes] threads.

    Args:
        meshes, placed, layout: the batch.
        states: of the layers.
        lanes: threads a layer; each looks at every lanes-th vertex.
        boxes: [layers 4], first row, first column, minus last row, minus last column; the largest integer on entry, filled.
    """
    layer, lane = wp.tid()
    if states[layer] == 0:
        return
    if states[layer] == CROSSES:
        boxes[layer, 0] = 0
        boxes[layer, 1] = 0
        boxes[layer, 2] = 1 - layout.rows
        boxes[layer, 3] = 1 - layout.columns
        return
    mesh = class_of(meshes, placed, layer)
    camera = scaled_camera(placed.camera[layer // layout.layers_per_scene], layout.samples)
    for i in range(meshes.vertex_start[mesh] + lane, meshes.vertex_start[mesh + 1], lanes):
        corner = place_corner(placed.T_camera_object[layer], meshes.vertices_m[i], camera)
        wp.atomic_min(boxes, layer, 0, first_sample(corner.row))
        wp.atomic_min(boxes, layer, 1, first_sample(corner.column))
        wp.atomic_min(boxes, layer, 2, -last_sample(corner.row, layout.rows - 1))
        wp.atomic_min(boxes, layer, 3, -last_sample(corner.column, layout.columns - 1))


@wp.func
def visible_until(loss: Loss, layout: Layout, scene: wp.int32, slot: wp.int32, row: wp.int32, column: wp.int32) -> wp.int32:
    """The largest prefix in which nothing hides a layer at a sample that it covers; 0 where it is hidden from the start."""
    base = scene * layout.layers_per_scene
    mine = inverse_depth_of(loss.keys[base + slot, row, column])
    for j in range(layout.layers_per_scene):
        other = inverse_depth_of(loss.keys[base + j, row, column])
        if j < slot and other >= mine:
            return 0
        if j > slot and other > mine:
            return j
    return layout.layers_per_scene


@wp.func
def add_inside(
    sums: Sums, meshes: Meshes, placed: Placed, layout: Layout, loss: Loss, layer: wp.int32, row: wp.int32, column: wp.int32
) -> Sums:
    """Add what the colour and depth of a covered sample hand on."""
    n = layout.layers_per_scene
    scene = layer // n
    slot = layer % n
    until = visible_until(loss, layout, scene, slot, row, column)
    if until == 0:
        return sums
    code = code_of(loss.keys[layer, row, column])
    g = wp.vec3(0.0, 0.0, 0.0)
    for count in range(slot + 1, until + 1):
        g += rgb_weight(loss, layout, scene, count, row, column)
    if g[0] != 0.0 or g[1] != 0.0 or g[2] != 0.0:
        inside = colour_inside(meshes, placed, layout, layer, code, row, column, g)
        sums.T += moment_of(inside.push)
        sums.light += inside.pull.light
        sums.levels += inside.pull.levels
    if loss.depth.shape[0] > 0 and until == n:
        g_depth = loss.depth[scene, row, column]
        if g_depth != 0.0:
            sums.T += moment_of(depth_inside(meshes, placed, layout, layer, code, row, column, g_depth))
    return sums


@wp.func
def add_seam(sums: Sums, meshes: Meshes, placed: Placed, layout: Layout, loss: Loss, mine: wp.int32, seam: Seam) -> Sums:
    """Add what a border hands on to layer ``mine``."""
    if seam.step.layer_a != mine and seam.step.layer_b != mine:
        return sums
    scene = mine // layout.layers_per_scene
    if has_weight(loss, layout, scene, seam) == 0 or joined(meshes, placed, seam.step) == 1:
        return sums
    pair = resolve_step(meshes, placed, layout, loss.background, scene, seam.step)
    both = wp.int32(0)
    if pair.what == wp.static(INTERSECTION):
        both = 1
    moves_a = wp.int32(0)
    moves_b = wp.int32(0)
    if seam.step.layer_a == mine and (both == 1 or pair.what == wp.static(EDGE_OF_A)):
        moves_a = 1
    if seam.step.layer_b == mine and (both == 1 or pair.what == wp.static(EDGE_OF_B)):
        moves_b = 1
    if moves_a + moves_b > 0:
        gradient = seam_gradient(loss, layout, scene, seam, pair)
        if moves_a == 1:
            sums.T += gradient * moment_of(pair.on_a)
        if moves_b == 1:
            sums.T += gradient * moment_of(pair.on_b)
    return sums


@wp.func
def add_step(
    sums: Sums,
    meshes: Meshes,
    placed: Placed,
    layout: Layout,
    loss: Loss,
    layer: wp.int32,
    row: wp.int32,
    column: wp.int32,
    down: wp.int32,
    right: wp.int32,
) -> Sums:
    """Add what the borders between two neighbouring samples hand on to a layer, over all images."""
    if row + down >= layout.rows or column + right >= layout.columns:
        return sums
    if loss.keys[layer, row, column] == wp.int64(0) and loss.keys[layer, row + down, column + right] == wp.int64(0):
        return sums
    n = layout.layers_per_scene
    scene = layer // n
    front_a = wp.int32(-1)
    front_b = wp.int32(-1)
    depth_a = wp.float32(0.0)
    depth_b = wp.float32(0.0)
    rgb_a = wp.vec3(0.0, 0.0, 0.0)
    rgb_b = wp.vec3(0.0, 0.0, 0.0)
    # one turn more than there are layers: the last one adds what is left
    for count in range(1, n + 2):
        j = scene * n + count - 1
        q_a = wp.float32(0.0)
        q_b = wp.float32(0.0)
        is_last = wp.int32(1)
        if count <= n:
            q_a = inverse_depth_of(loss.keys[j, row, column])
            q_b = inverse_depth_of(loss.keys[j, row + down, column + right])
            is_last = 0
        if q_a > depth_a or q_b > depth_b or is_last == 1:
            seam = seam_of(loss, row, column, down, right, front_a, front_b, rgb_a, rgb_b, is_last)
            sums = add_seam(sums, meshes, placed, layout, loss, layer, seam)
            rgb_a = wp.vec3(0.0, 0.0, 0.0)
            rgb_b = wp.vec3(0.0, 0.0, 0.0)
        if q_a > depth_a:
            depth_a = q_a
            front_a = j
        if q_b > depth_b:
            depth_b = q_b
            front_b = j
        if is_last == 0:
            rgb_a += rgb_weight(loss, layout, scene, count, row, column)
            rgb_b += rgb_weight(loss, layout, scene, count, row + down, column + right)
    return sums


@wp.kernel
def pull_layers(
    meshes: Meshes,
    placed: Placed,
    layout: Layout,
    loss: Loss,
    boxes: wp.array2d(dtype=wp.int32),
    lanes: wp.int32,
    out: wp.array3d(dtype=wp.float32),
):
    """Gradient with respect to each layer's pose (12 numbers), light (3) and levels (2).  Launched with [layers lanes] threads.

    Args:
        meshes, placed, layout: the batch.
        loss: the stack and the gradient with respect to its images.
        boxes: from ``bound_layers``.
        lanes: threads a layer; each takes every lanes-th sample.
        out: [layers 17 lanes], filled with each thread's sums.
    """
    layer, lane = wp.tid()
    sums = Sums()
    ways = wp.int32(2)  # a number that the compiler does not unroll
    first_row = wp.max(boxes[layer, 0] - 1, 0)
    first_column = wp.max(boxes[layer, 1] - 1, 0)
    width = 1 - boxes[layer, 3] - first_column
    if boxes[layer, 0] <= -boxes[layer, 2] and boxes[layer, 1] <= -boxes[layer, 3]:
        for i in range(lane, width * (1 - boxes[layer, 2] - first_row), lanes):
            row = first_row + i // width
            column = first_column + i % width
            if loss.keys[layer, row, column] != wp.int64(0):
                sums = add_inside(sums, meshes, placed, layout, loss, layer, row, column)
            for way in range(ways):
                sums = add_step(sums, meshes, placed, layout, loss, layer, row, column, way, 1 - way)
    for i in range(3):
        for j in range(4):
            out[layer, 4 * i + j, lane] = sums.T[i, j]
        out[layer, 12 + i, lane] = sums.light[i]
    out[layer, 15, lane] = sums.levels[0]
    out[layer, 16, lane] = sums.levels[1]


@wp.kernel
def pull_background(layout: Layout, loss: Loss, out: wp.array3d(dtype=wp.vec3)):
    """Gradient with respect to the background.  Launched with [scenes h w] threads; ``out`` is [scenes h w], filled."""
    scene, row, column = wp.tid()
    n = layout.layers_per_scene
    s = layout.samples
    total = wp.vec3(0.0, 0.0, 0.0)
    for count in range(loss.first_prefix, n + 1):
        empty = wp.int32(0)
        for i in range(s * s):
            if front_slot(loss.keys, scene * n, count, -1, row * s + i // s, column * s + i % s) < 0:
                empty += 1
        total += wp.float32(empty) / wp.float32(s * s) * loss.rgb[scene, count - loss.first_prefix, row, column]
    out[scene, row, column] = total
