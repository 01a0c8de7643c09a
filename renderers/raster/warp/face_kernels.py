# type: ignore  # device code: its types are checked by Warp's compiler
"""Warp functions that every kernel shares: a face's place on the image, its coverage, its depth key.

They are the twins of ``renderers/raster/kernels.py`` and do the same arithmetic in the same order, setup in float64 and samples
in float32, without fused multiply-adds, so that both draw the same samples.
"""

import warp as wp

wp.set_module_options({"enable_backward": False, "fuse_fp": False})

mat34 = wp.types.matrix(shape=(3, 4), dtype=wp.float32)
vec5d = wp.types.vector(length=5, dtype=wp.float64)

TOLERANCE = wp.constant(-1e-6)
"""Relative slack of the coverage test: neighbouring faces overlap by a millionth instead of leaving cracks."""

LOW_WORD = wp.constant(wp.int64(0xFFFFFFFF))
"""Lower half of a key."""

DRAWN = wp.constant(1)
"""State of a layer that may cover samples; 0 for others."""

CROSSES = wp.constant(2)
"""State of a layer whose object crosses the near plane."""


@wp.struct
class Meshes:
    """``renderers.raster.meshes.PackedMeshes`` and the textures, on one device."""

    vertices_m: wp.array(dtype=wp.vec3)
    faces: wp.array2d(dtype=wp.int32)
    corner_rgb: wp.array2d(dtype=wp.vec3)
    corner_normals: wp.array2d(dtype=wp.vec3)
    corner_uv: wp.array2d(dtype=wp.vec2)
    texels: wp.array(dtype=wp.vec3)
    texture_start: wp.array(dtype=wp.int32)
    texture_width: wp.array(dtype=wp.int32)
    texture_height: wp.array(dtype=wp.int32)
    vertex_start: wp.array(dtype=wp.int32)
    face_start: wp.array(dtype=wp.int32)
    cull_back: wp.array(dtype=wp.int32)
    smooth_across: wp.array2d(dtype=wp.int32)


@wp.struct
class Layout:
    """Sizes of a batch of layers: layer l belongs to scene l / layers_per_scene."""

    layers_per_scene: wp.int32
    rows: wp.int32
    columns: wp.int32
    samples: wp.int32


@wp.struct
class Placed:
    """Where layers stand and how they are lit; one entry a layer, cameras one a scene."""

    class_ids: wp.array(dtype=wp.int32)
    T_camera_object: wp.array(dtype=mat34)
    present: wp.array(dtype=wp.int32)
    light: wp.array(dtype=wp.vec3)
    levels: wp.array(dtype=wp.vec2)
    camera: wp.array(dtype=vec5d)
    near_light: wp.int32


@wp.struct
class Corner:
    """A vertex in the camera's frame (metres) and on the grid of samples."""

    point: wp.vec3d
    column: wp.float64
    row: wp.float64


@wp.struct
class Face:
    """What is left of a face on the grid: its box, ends included, and its edge functions.

    They are ``start`` at the box's first sample and grow by ``along`` and ``down``.
    """

    first_row: wp.int32
    last_row: wp.int32
    first_column: wp.int32
    last_column: wp.int32
    slack: wp.float32
    start: wp.vec3
    along: wp.vec3
    down: wp.vec3
    code: wp.int32


@wp.func
def scaled_camera(camera: vec5d, samples: wp.int32) -> vec5d:
    """Intrinsics for a grid of samples x samples samples a pixel; the near plane stays."""
    s = wp.float64(samples)
    return vec5d(camera[0] * s, camera[1] * s, camera[2] * s, camera[3] * s, camera[4])


@wp.func
def class_of(meshes: Meshes, placed: Placed, layer: wp.int32) -> wp.int32:
    """The layer's class, moved into the catalogue's range: on CUDA ids are not checked beforehand."""
    return wp.clamp(placed.class_ids[layer], 0, meshes.face_start.shape[0] - 2)


@wp.func
def camera_depth(T: mat34, vertex: wp.vec3) -> wp.float64:
    """Depth of a vertex along the camera's axis."""
    X = wp.float64(vertex[0])
    Y = wp.float64(vertex[1])
    Z = wp.float64(vertex[2])
    return wp.float64(T[2, 0]) * X + wp.float64(T[2, 1]) * Y + wp.float64(T[2, 2]) * Z + wp.float64(T[2, 3])


@wp.func
def place_corner(T: mat34, vertex: wp.vec3, camera: vec5d) -> Corner:
    """Transform and project a vertex; ``camera`` in samples."""
    X = wp.float64(vertex[0])
    Y = wp.float64(vertex[1])
    Z = wp.float64(vertex[2])
    x = wp.float64(T[0, 0]) * X + wp.float64(T[0, 1]) * Y + wp.float64(T[0, 2]) * Z + wp.float64(T[0, 3])
    y = wp.float64(T[1, 0]) * X + wp.float64(T[1, 1]) * Y + wp.float64(T[1, 2]) * Z + wp.float64(T[1, 3])
    z = camera_depth(T, vertex)
    inverse = wp.float64(1.0) / z
    corner = Corner()
    corner.point = wp.vec3d(x, y, z)
    corner.column = camera[0] * x * inverse + camera[2]
    corner.row = camera[1] * y * inverse + camera[3]
    return corner


@wp.func
def first_sample(low: wp.float64) -> wp.int32:
    """First sample whose centre is at or after ``low``, at least 0; far outside the image any number past its end."""
    return wp.int32(wp.ceil(wp.min(wp.max(low, wp.float64(0.0)), wp.float64(1.0e9)) - wp.float64(0.5)))


@wp.func
def last_sample(high: wp.float64, last: wp.int32) -> wp.int32:
    """Last sample whose centre is at or before ``high``, at most ``last``; may be -1."""
    return wp.int32(wp.floor(wp.min(wp.max(high, wp.float64(-0.5)), wp.float64(last) + wp.float64(1.0)) - wp.float64(0.5)))


@wp.func
def edge_of(cross: wp.vec3d, kx: wp.float64, ky: wp.float64, inverse: wp.float64) -> wp.vec3d:
    """One edge function: its steps along a row and down a column, and its value at the principal point."""
    return wp.vec3d(cross[0] * kx, cross[1] * ky, cross[2] * inverse)


@wp.func
def cross_of(a: wp.vec3d, b: wp.vec3d) -> wp.vec3d:
    """Cross product, its terms in the order of the CPU's kernels."""
    return wp.vec3d(a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0])


@wp.func
def box_of_face(a: Corner, b: Corner, c: Corner, near_m: wp.float64, state: wp.int32, cull: wp.int32, layout: Layout) -> Face:
    """The samples that a face may cover; an empty box where nothing of it is to be drawn."""
    face = Face()
    face.code = -1
    face.first_row = 0
    face.first_column = 0
    face.last_row = -1
    face.last_column = -1
    face.slack = TOLERANCE * wp.float32(wp.float64(1.0) / near_m)
    z0 = a.point[2]
    z1 = b.point[2]
    z2 = c.point[2]
    if state != CROSSES or (z0 >= near_m and z1 >= near_m and z2 >= near_m):
        area = (b.column - a.column) * (c.row - a.row) - (c.column - a.column) * (b.row - a.row)
        if cull != 0 and area >= wp.float64(0.0):
            return face
        face.first_row = first_sample(wp.min(wp.min(a.row, b.row), c.row))
        face.last_row = last_sample(wp.max(wp.max(a.row, b.row), c.row), layout.rows - 1)
        face.first_column = first_sample(wp.min(wp.min(a.column, b.column), c.column))
        face.last_column = last_sample(wp.max(wp.max(a.column, b.column), c.column), layout.columns - 1)
        face.slack = TOLERANCE / wp.float32(wp.min(wp.min(z0, z1), z2))
    elif z0 >= near_m or z1 >= near_m or z2 >= near_m:
        face.last_row = layout.rows - 1
        face.last_column = layout.columns - 1
    return face


@wp.func
def edges_of_face(face: Face, a: Corner, b: Corner, c: Corner, camera: vec5d, face_id: wp.int32) -> Face:
    """Complete a face with a box that is not empty: edge functions, and a code of at least 0 unless it is seen edge-on."""
    v0 = a.point
    cross = cross_of(b.point, c.point)
    det = v0[0] * cross[0] + v0[1] * cross[1] + v0[2] * cross[2]
    if det == wp.float64(0.0) or not wp.isfinite(det):
        return face
    inverse = wp.float64(1.0) / det
    kx = inverse * (wp.float64(1.0) / camera[0])
    ky = inverse * (wp.float64(1.0) / camera[1])
    e0 = edge_of(cross, kx, ky, inverse)
    e1 = edge_of(cross_of(c.point, v0), kx, ky, inverse)
    e2 = edge_of(cross_of(v0, b.point), kx, ky, inverse)
    x = wp.float64(face.first_column) + wp.float64(0.5) - camera[2]
    y = wp.float64(face.first_row) + wp.float64(0.5) - camera[3]
    face.start = wp.vec3(
        wp.float32(e0[0] * x + e0[1] * y + e0[2]),
        wp.float32(e1[0] * x + e1[1] * y + e1[2]),
        wp.float32(e2[0] * x + e2[1] * y + e2[2]),
    )
    face.along = wp.vec3(wp.float32(e0[0]), wp.float32(e1[0]), wp.float32(e2[0]))
    face.down = wp.vec3(wp.float32(e0[1]), wp.float32(e1[1]), wp.float32(e2[1]))
    face.code = 2 * face_id
    if det > wp.float64(0.0):
        face.code = 2 * face_id + 1
    return face


@wp.func
def set_up_face(meshes: Meshes, placed: Placed, layout: Layout, layer: wp.int32, state: wp.int32, face_id: wp.int32) -> Face:
    """A face of a layer on the grid; its code is -1 where nothing of it is to be drawn.

    Args:
        meshes, placed, layout: the batch.
        layer: which layer.
        state: the layer's, DRAWN or CROSSES.
        face_id: index into the packed faces.
    """
    mesh = class_of(meshes, placed, layer)
    T = placed.T_camera_object[layer]
    camera = scaled_camera(placed.camera[layer // layout.layers_per_scene], layout.samples)
    first = meshes.vertex_start[mesh]
    a = place_corner(T, meshes.vertices_m[first + meshes.faces[face_id, 0]], camera)
    b = place_corner(T, meshes.vertices_m[first + meshes.faces[face_id, 1]], camera)
    c = place_corner(T, meshes.vertices_m[first + meshes.faces[face_id, 2]], camera)
    cull = wp.int32(0)
    if state != CROSSES:
        cull = meshes.cull_back[mesh]
    face = box_of_face(a, b, c, camera[4], state, cull, layout)
    if face.last_row < face.first_row or face.last_column < face.first_column:
        return face
    return edges_of_face(face, a, b, c, camera, face_id)


@wp.func
def weights_at(face: Face, row: wp.int32, column: wp.int32) -> wp.vec3:
    """The edge functions at a sample: barycentric coordinates over z."""
    at_row = face.start + face.down * wp.float32(row - face.first_row)
    return at_row + face.along * wp.float32(column - face.first_column)


@wp.func
def key_of(inverse_depth: wp.float32, code: wp.int32) -> wp.int64:
    """A number that is larger for what is nearer, and of two faces equally near for the first: the depth test is a maximum.

    ``inverse_depth`` is positive; 0 is the key of nothing.
    """
    return (wp.int64(wp.cast(inverse_depth, wp.int32)) << wp.int64(32)) | (LOW_WORD - wp.int64(code))


@wp.func
def inverse_depth_of(key: wp.int64) -> wp.float32:
    """1 / z of a key, 0 of an empty one."""
    return wp.cast(wp.int32(key >> wp.int64(32)), wp.float32)


@wp.func
def code_of(key: wp.int64) -> wp.int32:
    """2 * face, plus 1 where it is seen from behind, of a key that is not empty."""
    return wp.int32(LOW_WORD - (key & LOW_WORD))
