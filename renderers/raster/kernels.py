"""Compiled building blocks that several passes share: a shaded layer, what boxes span, the camera of a grid of samples."""

from __future__ import annotations

import numpy as np
from numba import njit

from inverse_graphics.compiled import inlined
from renderers.raster.draw_kernels import draw_object, make_draw_scratch
from renderers.raster.shading_kernels import shade


@inlined
def draw_shaded(meshes, class_id, T, light, camera, scratch, inverse_depth, code, rgb):
    """Draw one object alone and shade what it covers.

    Args:
        meshes: PackedMeshes.
        class_id, T, camera, inverse_depth, code: as in ``draw_object``.
        light: [6] float32, see ``shading_kernels``.
        scratch: from ``make_scratch``.
        rgb: [hs ws 3] float32, filled where covered.

    Returns:
        The box, as ``draw_object``.
    """
    drawing, w1, w2 = scratch
    box = draw_object(meshes, class_id, T, camera, drawing, inverse_depth, w1, w2, code)
    lit = (light[0], light[1], light[2], light[3], light[4], light[5])
    plain = light[5] == 0
    last = np.int32(-1)
    red, green, blue = np.float32(0.0), np.float32(0.0), np.float32(0.0)
    for i in range(box[1] - box[0] + 1):
        r = np.uintp(box[0]) + np.uintp(i)
        for j in range(box[3] - box[2] + 1):
            c = np.uintp(box[2]) + np.uintp(j)
            seen = code[r, c]
            if seen < 0:
                continue
            if seen != last:
                z = np.float32(1.0) / inverse_depth[r, c]
                # samples within the tolerance of an edge lie a little outside the face
                b1 = min(max(w1[r, c] * z, np.float32(0.0)), np.float32(1.0))
                b2 = min(max(w2[r, c] * z, np.float32(0.0)), np.float32(1.0) - b1)
                red, green, blue = shade(meshes, class_id, seen, b1, b2, lit)
                last = seen if plain and meshes.is_plain[seen >> 1] else np.int32(-1)
            rgb[r, c, 0] = red
            rgb[r, c, 1] = green
            rgb[r, c, 2] = blue
    return box


@njit(cache=True, nogil=True, error_model="numpy")
def make_scratch(meshes, height, width):
    """A worker's scratch for ``draw_shaded``: that of ``draw_object``, and two weights a sample."""
    return make_draw_scratch(meshes), np.empty((height, width), np.float32), np.empty((height, width), np.float32)


@njit(cache=True, nogil=True, error_model="numpy")
def scaled_camera(camera, samples):
    """Intrinsics for a grid of samples x samples samples a pixel; the near plane stays."""
    out = camera.copy()
    for i in range(4):
        out[i] *= samples
    return out
