# type: ignore  # device code: its types are checked by Warp's compiler
"""Warp functions for samples that keep their face: what the gradient of their colour and depth hands on."""

import warp as wp

from renderers.raster.warp.border_kernels import place_on_face, seen_face
from renderers.raster.warp.face_kernels import Layout, Meshes, Placed, scaled_camera
from renderers.raster.warp.push_kernels import Push, push_of, share_of
from renderers.raster.warp.shade_gradient_kernels import Pull, pull_colour

wp.set_module_options({"enable_backward": False, "fuse_fp": False})


@wp.struct
class Inside:
    """What the colour of a sample that keeps its face hands on."""

    push: Push
    pull: Pull


@wp.func
def colour_inside(
    meshes: Meshes, placed: Placed, layout: Layout, layer: wp.int32, code: wp.int32, row: wp.int32, column: wp.int32, g: wp.vec3
) -> Inside:
    """What the gradient ``g`` of the colour of a sample hands on."""
    camera = scaled_camera(placed.camera[layer // layout.layers_per_scene], layout.samples)
    x = wp.float64(column) + wp.float64(0.5)
    y = wp.float64(row) + wp.float64(0.5)
    seen = seen_face(meshes, placed, layer, code >> 1, camera)
    place = place_on_face(seen, x, y)
    out = Inside()
    out.pull = pull_colour(meshes, placed, layer, code, share_of(place), g)
    slope_1 = wp.float64(out.pull.barycentric[1] - out.pull.barycentric[0])
    slope_2 = wp.float64(out.pull.barycentric[2] - out.pull.barycentric[0])
    pull_x = slope_1 * (seen.e1[0] - place[0] * seen.q[0]) + slope_2 * (seen.e2[0] - place[1] * seen.q[0])
    pull_y = slope_1 * (seen.e1[1] - place[0] * seen.q[1]) + slope_2 * (seen.e2[1] - place[1] * seen.q[1])
    out.push = push_of(meshes, placed, layer, code, camera, seen, x, y, -pull_x / place[2], -pull_y / place[2], wp.float64(0.0))
    return out


@wp.func
def depth_inside(
    meshes: Meshes,
    placed: Placed,
    layout: Layout,
    layer: wp.int32,
    code: wp.int32,
    row: wp.int32,
    column: wp.int32,
    g: wp.float32,
) -> Push:
    """What the gradient ``g`` of the depth of a sample hands on.

    z at a fixed place rises with the material's depth and falls by its own slope times the material's motion.
    """
    camera = scaled_camera(placed.camera[layer // layout.layers_per_scene], layout.samples)
    x = wp.float64(column) + wp.float64(0.5)
    y = wp.float64(row) + wp.float64(0.5)
    seen = seen_face(meshes, placed, layer, code >> 1, camera)
    place = place_on_face(seen, x, y)
    scale = wp.float64(g) / (place[2] * place[2])
    return push_of(meshes, placed, layer, code, camera, seen, x, y, scale * seen.q[0], scale * seen.q[1], wp.float64(g))
