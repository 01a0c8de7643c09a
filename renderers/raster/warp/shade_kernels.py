# type: ignore  # device code: its types are checked by Warp's compiler
"""Warp kernels that shade: the colour, coverage and depth of what every layer shows."""

import warp as wp

from renderers.raster.warp.face_kernels import (
    Layout,
    Meshes,
    Placed,
    class_of,
    code_of,
    inverse_depth_of,
    set_up_face,
    weights_at,
)

wp.set_module_options({"enable_backward": False, "fuse_fp": False})


@wp.func
def barycentric(weights: wp.vec3) -> wp.vec3:
    """Barycentric coordinates; those of samples within the tolerance of an edge, a little outside, are moved inside."""
    q = weights[0] + weights[1] + weights[2]
    b1 = wp.min(wp.max(weights[1] / q, 0.0), 1.0)
    b2 = wp.min(wp.max(weights[2] / q, 0.0), 1.0 - b1)
    return wp.vec3(1.0 - b1 - b2, b1, b2)


@wp.func
def wrapped(i: wp.int32, size: wp.int32) -> wp.int32:
    """A texel's index, repeated beyond the image."""
    rest = i % size
    if rest < 0:
        rest += size
    return rest


@wp.func
def texel(meshes: Meshes, mesh: wp.int32, row: wp.int32, column: wp.int32) -> wp.vec3:
    """Colour of a texel, repeated beyond the image."""
    width = meshes.texture_width[mesh]
    place = wrapped(row, meshes.texture_height[mesh]) * width + wrapped(column, width)
    return meshes.texels[meshes.texture_start[mesh] + place]


@wp.func
def texture_rgb(meshes: Meshes, mesh: wp.int32, face: wp.int32, b: wp.vec3) -> wp.vec3:
    """Bilinear colour of the mesh's texture, white where it has none; (0, 0) is the lower left, rows run from the top."""
    if meshes.texture_width[mesh] == 0:
        return wp.vec3(1.0, 1.0, 1.0)
    uv = b[0] * meshes.corner_uv[face, 0] + b[1] * meshes.corner_uv[face, 1] + b[2] * meshes.corner_uv[face, 2]
    x = (uv[0] - wp.floor(uv[0])) * wp.float32(meshes.texture_width[mesh]) - 0.5
    y = (1.0 - (uv[1] - wp.floor(uv[1]))) * wp.float32(meshes.texture_height[mesh]) - 0.5
    column = wp.int32(wp.floor(x))
    row = wp.int32(wp.floor(y))
    s = x - wp.floor(x)
    t = y - wp.floor(y)
    top = (1.0 - s) * texel(meshes, mesh, row, column) + s * texel(meshes, mesh, row, column + 1)
    bottom = (1.0 - s) * texel(meshes, mesh, row + 1, column) + s * texel(meshes, mesh, row + 1, column + 1)
    return (1.0 - t) * top + t * bottom


@wp.func
def towards_light(meshes: Meshes, placed: Placed, layer: wp.int32, mesh: wp.int32, face: wp.int32, b: wp.vec3) -> wp.vec3:
    """Unit vector to the light in the object's frame."""
    light = placed.light[layer]
    if placed.near_light == 0:
        return light
    first = meshes.vertex_start[mesh]
    p0 = meshes.vertices_m[first + meshes.faces[face, 0]]
    p1 = meshes.vertices_m[first + meshes.faces[face, 1]]
    p2 = meshes.vertices_m[first + meshes.faces[face, 2]]
    away = light - (b[0] * p0 + b[1] * p1 + b[2] * p2)
    return away / wp.sqrt(wp.max(wp.dot(away, away), 1e-24))


@wp.func
def shade(meshes: Meshes, placed: Placed, layer: wp.int32, code: wp.int32, b: wp.vec3) -> wp.vec3:
    """Colour of a sample: albedo * (ambient + diffuse * max(0, n . l)), the normal turned towards the camera."""
    face = code >> 1
    mesh = class_of(meshes, placed, layer)
    n = b[0] * meshes.corner_normals[face, 0] + b[1] * meshes.corner_normals[face, 1] + b[2] * meshes.corner_normals[face, 2]
    cosine = wp.dot(n, towards_light(meshes, placed, layer, mesh, face, b)) / wp.sqrt(wp.max(wp.dot(n, n), 1e-24))
    if code % 2 == 1:
        cosine = -cosine
    levels = placed.levels[layer]
    light = levels[0] + levels[1] * wp.max(0.0, cosine)
    albedo = b[0] * meshes.corner_rgb[face, 0] + b[1] * meshes.corner_rgb[face, 1] + b[2] * meshes.corner_rgb[face, 2]
    return light * wp.cw_mul(albedo, texture_rgb(meshes, mesh, face, b))


@wp.kernel
def shade_layers(
    meshes: Meshes,
    placed: Placed,
    layout: Layout,
    states: wp.array(dtype=wp.int32),
    keys: wp.array3d(dtype=wp.int64),
    rgb: wp.array3d(dtype=wp.vec3),
):
    """Shade every covered sample; others are left as they were.  Launched with [layers hs ws] threads."""
    layer, row, column = wp.tid()
    key = keys[layer, row, column]
    if key == wp.int64(0):
        return
    code = code_of(key)
    face = set_up_face(meshes, placed, layout, layer, states[layer], code >> 1)
    rgb[layer, row, column] = shade(meshes, placed, layer, code, barycentric(weights_at(face, row, column)))


@wp.kernel
def unpack_layers(keys: wp.array3d(dtype=wp.int64), alpha: wp.array3d(dtype=wp.float32), depth_m: wp.array3d(dtype=wp.float32)):
    """Coverage and depth (inf where empty) of every sample.  Launched with [layers hs ws] threads."""
    layer, row, column = wp.tid()
    key = keys[layer, row, column]
    if key == wp.int64(0):
        alpha[layer, row, column] = 0.0
        depth_m[layer, row, column] = wp.inf
    else:
        alpha[layer, row, column] = 1.0
        depth_m[layer, row, column] = 1.0 / inverse_depth_of(key)
