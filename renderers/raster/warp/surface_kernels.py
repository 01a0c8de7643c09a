# type: ignore  # device code: its types are checked by Warp's compiler
"""Warp kernels for gradients with respect to the surfaces of the meshes: positions, colours and normals.

Sums are gathered, not scattered: a thread belongs to a face of a layer and looks at the samples near it, then faces are summed
over the layers that show their mesh, then vertices over their faces; always in the same order.
"""

import warp as wp

from renderers.raster.warp.border_kernels import EDGE_OF_A, EDGE_OF_B, INTERSECTION
from renderers.raster.warp.face_kernels import CROSSES, Layout, Meshes, Placed, class_of, code_of, place_corner, scaled_camera
from renderers.raster.warp.push_kernels import Push, joined, resolve_step
from renderers.raster.warp.sample_kernels import colour_inside, depth_inside
from renderers.raster.warp.seam_kernels import Loss, full_seam, has_weight, rgb_weight, seam_gradient
from renderers.raster.warp.stack_kernels import front_slot

wp.set_module_options({"enable_backward": False, "fuse_fp": False})

mat33 = wp.types.matrix(shape=(3, 3), dtype=wp.float32)


@wp.struct
class Face27:
    """Gradient by a face's corners, one a row: positions (object frame), colours, normals."""

    vertices: mat33
    rgb: mat33
    normals: mat33


@wp.func
def force_in_object(placed: Placed, layer: wp.int32, push: Push) -> wp.vec3:
    """A force turned from the camera's frame into the object's."""
    T = placed.T_camera_object[layer]
    f = push.force
    return wp.vec3(
        T[0, 0] * f[0] + T[1, 0] * f[1] + T[2, 0] * f[2],
        T[0, 1] * f[0] + T[1, 1] * f[1] + T[2, 1] * f[2],
        T[0, 2] * f[0] + T[1, 2] * f[1] + T[2, 2] * f[2],
    )


@wp.func
def add_sample(
    sums: Face27,
    meshes: Meshes,
    placed: Placed,
    layout: Layout,
    loss: Loss,
    layer: wp.int32,
    face: wp.int32,
    row: wp.int32,
    column: wp.int32,
) -> Face27:
    """Add what a sample hands on if it shows the face."""
    n = layout.layers_per_scene
    scene = layer // n
    key = loss.keys[layer, row, column]
    if key == wp.int64(0) or code_of(key) >> 1 != face:
        return sums
    if front_slot(loss.keys, scene * n, n, -1, row, column) != layer % n:
        return sums
    g = rgb_weight(loss, layout, scene, n, row, column)
    if g[0] != 0.0 or g[1] != 0.0 or g[2] != 0.0:
        inside = colour_inside(meshes, placed, layout, layer, code_of(key), row, column, g)
        force = force_in_object(placed, layer, inside.push) + inside.pull.point
        sums.vertices += wp.outer(inside.push.share, force)
        sums.rgb += wp.outer(inside.push.share, inside.pull.albedo)
        sums.normals += wp.outer(inside.push.share, inside.pull.normal)
    if loss.depth.shape[0] > 0:
        g_depth = loss.depth[scene, row, column]
        if g_depth != 0.0:
            push = depth_inside(meshes, placed, layout, layer, code_of(key), row, column, g_depth)
            sums.vertices += wp.outer(push.share, force_in_object(placed, layer, push))
    return sums


@wp.func
def add_step(
    sums: Face27,
    meshes: Meshes,
    placed: Placed,
    layout: Layout,
    loss: Loss,
    layer: wp.int32,
    face: wp.int32,
    row: wp.int32,
    column: wp.int32,
    down: wp.int32,
    right: wp.int32,
) -> Face27:
    """Add what the border between two neighbouring samples hands on if the face moves it."""
    if row + down >= layout.rows or column + right >= layout.columns:
        return sums
    if loss.keys[layer, row, column] == wp.int64(0) and loss.keys[layer, row + down, column + right] == wp.int64(0):
        return sums
    scene = layer // layout.layers_per_scene
    seam = full_seam(loss, layout, scene, row, column, down, right)
    if (seam.step.layer_a != layer and seam.step.layer_b != layer) or has_weight(loss, layout, scene, seam) == 0:
        return sums
    if joined(meshes, placed, seam.step) == 1:
        return sums
    pair = resolve_step(meshes, placed, layout, loss.background, scene, seam.step)
    both = wp.int32(0)
    if pair.what == wp.static(INTERSECTION):
        both = 1
    if seam.step.layer_a == layer and (both == 1 or pair.what == wp.static(EDGE_OF_A)):
        if pair.on_a.face == face:
            gradient = seam_gradient(loss, layout, scene, seam, pair)
            sums.vertices += wp.outer(pair.on_a.share, gradient * force_in_object(placed, layer, pair.on_a))
    if seam.step.layer_b == layer and (both == 1 or pair.what == wp.static(EDGE_OF_B)):
        if pair.on_b.face == face:
            gradient = seam_gradient(loss, layout, scene, seam, pair)
            sums.vertices += wp.outer(pair.on_b.share, gradient * force_in_object(placed, layer, pair.on_b))
    return sums


@wp.func
def reach_of_face(meshes: Meshes, placed: Placed, layout: Layout, layer: wp.int32, state: wp.int32, face: wp.int32) -> wp.vec4i:
    """Samples from which a step may cross the face's border: first row, last row, first column, last column."""
    if state == CROSSES:
        return wp.vec4i(0, layout.rows - 1, 0, layout.columns - 1)
    T = placed.T_camera_object[layer]
    camera = scaled_camera(placed.camera[layer // layout.layers_per_scene], layout.samples)
    first = meshes.vertex_start[class_of(meshes, placed, layer)]
    a = place_corner(T, meshes.vertices_m[first + meshes.faces[face, 0]], camera)
    b = place_corner(T, meshes.vertices_m[first + meshes.faces[face, 1]], camera)
    c = place_corner(T, meshes.vertices_m[first + meshes.faces[face, 2]], camera)
    far = wp.float64(1.0e6)
    top = wp.min(wp.min(a.row, b.row), c.row)
    bottom = wp.max(wp.max(a.row, b.row), c.row)
    left = wp.min(wp.min(a.column, b.column), c.column)
    right = wp.max(wp.max(a.column, b.column), c.column)
    return wp.vec4i(
        wp.max(wp.int32(wp.floor(wp.min(wp.max(top, -far), far))) - 2, 0),
        wp.min(wp.int32(wp.ceil(wp.min(wp.max(bottom, -far), far))) + 1, layout.rows - 1),
        wp.max(wp.int32(wp.floor(wp.min(wp.max(left, -far), far))) - 2, 0),
        wp.min(wp.int32(wp.ceil(wp.min(wp.max(right, -far), far))) + 1, layout.columns - 1),
    )


@wp.kernel
def pull_faces(
    meshes: Meshes,
    placed: Placed,
    layout: Layout,
    loss: Loss,
    states: wp.array(dtype=wp.int32),
    out: wp.array4d(dtype=wp.vec3),
):
    """Gradient by each face's corners in each layer.  Launched with [layers faces of the largest mesh] threads.

    Args:
        meshes, placed, layout: the batch.
        loss: the stack and the gradient with respect to images of all its objects.
        states: of the layers.
        out: [layers faces 3 3], filled: positions, colours and normals of each corner; 0 beyond the end of a mesh.
    """
    layer, number = wp.tid()
    mesh = class_of(meshes, placed, layer)
    face = meshes.face_start[mesh] + number
    sums = Face27()
    ways = wp.int32(2)  # a number that the compiler does not unroll
    if states[layer] != 0 and face < meshes.face_start[mesh + 1]:
        reach = reach_of_face(meshes, placed, layout, layer, states[layer], face)
        for row in range(reach[0], reach[1] + 1):
            for column in range(reach[2], reach[3] + 1):
                sums = add_sample(sums, meshes, placed, layout, loss, layer, face, row, column)
                for way in range(ways):
                    sums = add_step(sums, meshes, placed, layout, loss, layer, face, row, column, way, 1 - way)
    for i in range(3):
        out[layer, number, 0, i] = sums.vertices[i]
        out[layer, number, 1, i] = sums.rgb[i]
        out[layer, number, 2, i] = sums.normals[i]


@wp.kernel
def sum_faces(
    meshes: Meshes, placed: Placed, layers: wp.int32, by_layer: wp.array4d(dtype=wp.vec3), total: wp.array3d(dtype=wp.vec3)
):
    """Add each face's gradients over the layers that show its mesh.  Launched with [faces 3 3] threads.

    Args:
        meshes, placed: the batch.
        layers: how many.
        by_layer: from ``pull_faces``.
        total: [faces 3 3], added to.
    """
    face, kind, corner = wp.tid()
    found = wp.vec3(0.0, 0.0, 0.0)
    for layer in range(layers):
        number = face - meshes.face_start[class_of(meshes, placed, layer)]
        if number >= 0 and face < meshes.face_start[class_of(meshes, placed, layer) + 1]:
            found += by_layer[layer, number, kind, corner]
    total[face, kind, corner] = total[face, kind, corner] + found


@wp.kernel
def sum_vertices(
    corner_start: wp.array(dtype=wp.int32),
    corners: wp.array(dtype=wp.int32),
    by_face: wp.array3d(dtype=wp.vec3),
    out: wp.array(dtype=wp.vec3),
):
    """Add positions' gradients over the corners at each vertex.  Launched with [vertices] threads.

    Args:
        corner_start: [vertices + 1], where each vertex's corners begin.
        corners: corners as 3 * face + corner, vertex by vertex.
        by_face: from ``sum_faces``.
        out: [vertices], filled.
    """
    vertex = wp.tid()
    found = wp.vec3(0.0, 0.0, 0.0)
    for i in range(corner_start[vertex], corner_start[vertex + 1]):
        found += by_face[corners[i] // 3, 0, corners[i] % 3]
    out[vertex] = found
