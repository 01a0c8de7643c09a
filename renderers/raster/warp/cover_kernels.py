# type: ignore  # device code: its types are checked by Warp's compiler
"""Warp kernels that draw: which face every layer shows at every sample.

A key per sample holds 1 / z and the face; drawing is an atomic maximum of keys, which does not depend on the order of threads.
"""

import warp as wp

from renderers.raster.warp.face_kernels import (
    CROSSES,
    DRAWN,
    Face,
    Layout,
    Meshes,
    Placed,
    camera_depth,
    class_of,
    key_of,
    set_up_face,
    weights_at,
)

wp.set_module_options({"enable_backward": False, "fuse_fp": False})

LARGE = wp.constant(1024)
"""Samples in the box of a face that one thread draws by itself; larger ones are put on a list and shared out."""


@wp.func
def is_rigid_enough(placed: Placed, layer: wp.int32) -> wp.int32:
    """Whether a pose is finite: one that overflowed draws nothing."""
    T = placed.T_camera_object[layer]
    for i in range(3):
        for j in range(4):
            if not wp.isfinite(T[i, j]):
                return 0
    return 1


@wp.kernel
def classify_layers(meshes: Meshes, placed: Placed, layout: Layout, lanes: wp.int32, states: wp.array(dtype=wp.int32)):
    """State of each layer: 0, DRAWN or CROSSES.

    Launched with [layers lanes] threads; each looks at every lanes-th vertex.  ``states`` is 0 on entry.
    """
    layer, lane = wp.tid()
    if placed.present[layer] == 0 or is_rigid_enough(placed, layer) == 0:
        return
    if lane == 0:
        wp.atomic_max(states, layer, DRAWN)
    near_m = placed.camera[layer // layout.layers_per_scene][4]
    mesh = class_of(meshes, placed, layer)
    T = placed.T_camera_object[layer]
    crosses = wp.int32(0)
    for i in range(meshes.vertex_start[mesh] + lane, meshes.vertex_start[mesh + 1], lanes):
        if camera_depth(T, meshes.vertices_m[i]) < near_m:
            crosses = 1
    if crosses == 1:
        wp.atomic_max(states, layer, CROSSES)


@wp.func
def draw_rows(
    face: Face, inverse_near: wp.float32, layer: wp.int32, lane: wp.int32, lanes: wp.int32, keys: wp.array3d(dtype=wp.int64)
):
    """Draw every lanes-th sample of a face's box, beginning with number ``lane``."""
    width = face.last_column - face.first_column + 1
    count = width * (face.last_row - face.first_row + 1)
    for i in range(lane, count, lanes):
        row = face.first_row + i // width
        column = face.first_column + i % width
        w = weights_at(face, row, column)
        if w[0] >= face.slack and w[1] >= face.slack and w[2] >= face.slack:
            q = w[0] + w[1] + w[2]
            if q > 0.0 and q <= inverse_near:
                key = key_of(q, face.code)
                if key > keys[layer, row, column]:
                    wp.atomic_max(keys, layer, row, column, key)


@wp.kernel
def draw_faces(
    meshes: Meshes,
    placed: Placed,
    layout: Layout,
    states: wp.array(dtype=wp.int32),
    keys: wp.array3d(dtype=wp.int64),
    large_count: wp.array(dtype=wp.int32),
    large: wp.array(dtype=wp.vec2i),
):
    """Draw the small faces and list the large ones.

    Launched with [layers faces of the largest mesh] threads.

    Args:
        meshes, placed, layout: the batch.
        states: from ``classify_layers``.
        keys: [layers hs ws], 0 on entry.
        large_count: [1], 0 on entry: length of the list.
        large: [layers * faces of the largest mesh], layer and face, in any order.
    """
    layer, number = wp.tid()
    state = states[layer]
    if state == 0:
        return
    mesh = class_of(meshes, placed, layer)
    face_id = meshes.face_start[mesh] + number
    if face_id >= meshes.face_start[mesh + 1]:
        return
    face = set_up_face(meshes, placed, layout, layer, state, face_id)
    if face.code < 0:
        return
    if (face.last_row - face.first_row + 1) * (face.last_column - face.first_column + 1) > LARGE:
        place = wp.atomic_add(large_count, 0, 1)
        large[place] = wp.vec2i(layer, face_id)
        return
    near_m = placed.camera[layer // layout.layers_per_scene][4]
    draw_rows(face, wp.float32(wp.float64(1.0) / near_m), layer, 0, 1, keys)


@wp.kernel
def draw_large_faces(
    meshes: Meshes,
    placed: Placed,
    layout: Layout,
    states: wp.array(dtype=wp.int32),
    large_count: wp.array(dtype=wp.int32),
    large: wp.array(dtype=wp.vec2i),
    groups: wp.int32,
    lanes: wp.int32,
    keys: wp.array3d(dtype=wp.int64),
):
    """Draw the listed faces: [groups lanes] threads, a group takes every groups-th face, its lanes share the samples."""
    group, lane = wp.tid()
    for i in range(group, large_count[0], groups):
        layer = large[i][0]
        face = set_up_face(meshes, placed, layout, layer, states[layer], large[i][1])
        near_m = placed.camera[layer // layout.layers_per_scene][4]
        draw_rows(face, wp.float32(wp.float64(1.0) / near_m), layer, lane, lanes, keys)
