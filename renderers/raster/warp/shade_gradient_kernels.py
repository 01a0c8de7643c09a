# type: ignore  # device code: its types are checked by Warp's compiler
"""Warp functions for the derivative of a sample's colour."""

import warp as wp

from renderers.raster.warp.face_kernels import Meshes, Placed, class_of
from renderers.raster.warp.shade_kernels import texel

wp.set_module_options({"enable_backward": False, "fuse_fp": False})


@wp.struct
class Pull:
    """Gradient of a loss with respect to what a sample's colour is made of."""

    barycentric: wp.vec3
    light: wp.vec3
    levels: wp.vec2
    albedo: wp.vec3
    normal: wp.vec3
    point: wp.vec3


@wp.struct
class Lookup:
    """A texture's colour and its derivatives along u and v."""

    rgb: wp.vec3
    along_u: wp.vec3
    along_v: wp.vec3


@wp.func
def look_up(meshes: Meshes, mesh: wp.int32, face: wp.int32, b: wp.vec3) -> Lookup:
    """As ``shade_kernels.texture_rgb``, with derivatives."""
    out = Lookup()
    out.rgb = wp.vec3(1.0, 1.0, 1.0)
    out.along_u = wp.vec3(0.0, 0.0, 0.0)
    out.along_v = wp.vec3(0.0, 0.0, 0.0)
    if meshes.texture_width[mesh] == 0:
        return out
    uv = b[0] * meshes.corner_uv[face, 0] + b[1] * meshes.corner_uv[face, 1] + b[2] * meshes.corner_uv[face, 2]
    width = wp.float32(meshes.texture_width[mesh])
    height = wp.float32(meshes.texture_height[mesh])
    x = (uv[0] - wp.floor(uv[0])) * width - 0.5
    y = (1.0 - (uv[1] - wp.floor(uv[1]))) * height - 0.5
    column = wp.int32(wp.floor(x))
    row = wp.int32(wp.floor(y))
    s = x - wp.floor(x)
    t = y - wp.floor(y)
    top_left = texel(meshes, mesh, row, column)
    top_right = texel(meshes, mesh, row, column + 1)
    bottom_left = texel(meshes, mesh, row + 1, column)
    bottom_right = texel(meshes, mesh, row + 1, column + 1)
    top = (1.0 - s) * top_left + s * top_right
    bottom = (1.0 - s) * bottom_left + s * bottom_right
    out.rgb = (1.0 - t) * top + t * bottom
    out.along_u = width * ((1.0 - t) * (top_right - top_left) + t * (bottom_right - bottom_left))
    out.along_v = -height * (bottom - top)
    return out


@wp.func
def towards_light_from(placed: Placed, layer: wp.int32, point: wp.vec3) -> wp.vec3:
    """Vector from a surface point to a near light, or the direction of a far one; object frame."""
    if placed.near_light == 0:
        return placed.light[layer]
    return placed.light[layer] - point


@wp.func
def point_of(meshes: Meshes, mesh: wp.int32, face: wp.int32, b: wp.vec3) -> wp.vec3:
    """A point of a face in the object's frame."""
    first = meshes.vertex_start[mesh]
    p0 = meshes.vertices_m[first + meshes.faces[face, 0]]
    p1 = meshes.vertices_m[first + meshes.faces[face, 1]]
    p2 = meshes.vertices_m[first + meshes.faces[face, 2]]
    return b[0] * p0 + b[1] * p1 + b[2] * p2


@wp.func
def pull_colour(meshes: Meshes, placed: Placed, layer: wp.int32, code: wp.int32, b: wp.vec3, g: wp.vec3) -> Pull:
    """Derivative of ``shade_kernels.shade``: from the gradient ``g`` of a colour to that of what it is made of."""
    face = code >> 1
    mesh = class_of(meshes, placed, layer)
    n0 = meshes.corner_normals[face, 0]
    n1 = meshes.corner_normals[face, 1]
    n2 = meshes.corner_normals[face, 2]
    n = b[0] * n0 + b[1] * n1 + b[2] * n2
    turned = wp.float32(1 - 2 * (code % 2))
    length = wp.sqrt(wp.max(wp.dot(n, n), 1e-24))
    unit = turned * n / length
    away = towards_light_from(placed, layer, point_of(meshes, mesh, face, b))
    distance = wp.float32(1.0)
    if placed.near_light != 0:
        distance = wp.sqrt(wp.max(wp.dot(away, away), 1e-24))
    towards = away / distance
    cosine = wp.dot(unit, towards)
    levels = placed.levels[layer]
    intensity = levels[0] + levels[1] * wp.max(cosine, 0.0)
    c0 = meshes.corner_rgb[face, 0]
    c1 = meshes.corner_rgb[face, 1]
    c2 = meshes.corner_rgb[face, 2]
    albedo = b[0] * c0 + b[1] * c1 + b[2] * c2
    texture = look_up(meshes, mesh, face, b)
    pull = Pull()
    g_intensity = wp.dot(g, wp.cw_mul(albedo, texture.rgb))
    pull.levels = wp.vec2(g_intensity, g_intensity * wp.max(cosine, 0.0))
    pull.albedo = intensity * wp.cw_mul(g, texture.rgb)
    g_texture = intensity * wp.cw_mul(g, albedo)
    g_cosine = wp.float32(0.0)
    if cosine > 0.0:
        g_cosine = g_intensity * levels[1]
    pull.light = g_cosine * unit
    pull.point = wp.vec3(0.0, 0.0, 0.0)
    if placed.near_light != 0:
        pull.light = g_cosine * (unit - cosine * towards) / distance
        pull.point = -pull.light
    pull.normal = g_cosine * turned * (towards - cosine * unit) / length
    g_u = wp.dot(g_texture, texture.along_u)
    g_v = wp.dot(g_texture, texture.along_v)
    uv0 = meshes.corner_uv[face, 0]
    uv1 = meshes.corner_uv[face, 1]
    uv2 = meshes.corner_uv[face, 2]
    p0 = point_of(meshes, mesh, face, wp.vec3(1.0, 0.0, 0.0))
    p1 = point_of(meshes, mesh, face, wp.vec3(0.0, 1.0, 0.0))
    p2 = point_of(meshes, mesh, face, wp.vec3(0.0, 0.0, 1.0))
    pull.barycentric = wp.vec3(
        wp.dot(pull.normal, n0) + wp.dot(pull.albedo, c0) + g_u * uv0[0] + g_v * uv0[1] + wp.dot(pull.point, p0),
        wp.dot(pull.normal, n1) + wp.dot(pull.albedo, c1) + g_u * uv1[0] + g_v * uv1[1] + wp.dot(pull.point, p1),
        wp.dot(pull.normal, n2) + wp.dot(pull.albedo, c2) + g_u * uv2[0] + g_v * uv2[1] + wp.dot(pull.point, p2),
    )
    return pull
