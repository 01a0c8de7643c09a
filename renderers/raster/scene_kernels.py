"""Compiled passes over batches of scenes: images, layers and prefix canvases.

One work item draws one scene (or one layer).  Workers own their scratch buffers, so nothing is allocated a scene, and no two
write the same memory: the result does not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from inverse_graphics.stack_kernels import add_scaled, merge_layer
from renderers.raster.kernels import draw_shaded, make_scratch, scaled_camera


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def layers_pass(meshes, class_ids, T_camera_object, present, light, camera, samples, workers, rgb, alpha, depth_m):
    """Draw every object alone.

    Args:
        meshes: PackedMeshes.
        class_ids: [b n] int64.
        T_camera_object: [b n 3 4] float32.
        present: [b n] bool.
        light: [b n 6] float32, see ``shading_kernels``.
        camera: [b 5] float64: fx, fy, cx, cy (pixels), near plane (metres).
        samples: samples a pixel along each axis.
        workers: how many work items to split into.
        rgb: [b n hs ws 3] float32, zero on entry, filled.
        alpha: [b n hs ws] float32, zero on entry, filled.
        depth_m: [b n hs ws] float32, inf on entry, filled.
    """
    slots = class_ids.shape[1]
    items = class_ids.shape[0] * slots
    height, width = alpha.shape[2:]
    for worker in prange(workers):
        scratch = make_scratch(meshes, height, width)
        q = np.empty((height, width), np.float32)
        code = np.empty((height, width), np.int32)
        for item in range(worker, items, workers):
            b = item // slots
            k = item % slots
            if not present[b, k]:
                continue
            cam = scaled_camera(camera[b], samples)
            box = draw_shaded(meshes, class_ids[b, k], T_camera_object[b, k], light[b, k], cam, scratch, q, code, rgb[b, k])
            for r in range(box[0], box[1] + 1):
                for c in range(box[2], box[3] + 1):
                    if code[r, c] >= 0:
                        alpha[b, k, r, c] = 1.0
                        depth_m[b, k, r, c] = np.float32(1.0) / q[r, c]


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def prefix_pass(meshes, class_ids, T_camera_object, present, light, camera, background, samples, first_prefix, workers, canvases):
    """Images of the first 0, 1, ..., n objects over the background (or only the last ones of that list).

    Args:
        meshes, class_ids, T_camera_object, present, light, camera, samples, workers: as in ``layers_pass``.
        background: [b h w 3] float32.
        first_prefix: the first count whose canvas is wanted.
        canvases: [b n + 1 - first_prefix h w 3] float32, filled.
    """
    batch, slots = class_ids.shape
    height, width = background.shape[1:3]
    scale = np.float32(1.0 / (samples * samples))
    for worker in prange(workers):
        scratch = make_scratch(meshes, height * samples, width * samples)
        q = np.empty((height * samples, width * samples), np.float32)
        code = np.empty(q.shape, np.int32)
        colour = np.empty((height * samples, width * samples, 3), np.float32)
        front_q = np.empty_like(q)
        front_rgb = np.empty_like(colour)
        pixel_sum = np.empty((height, 3 * width), np.float32)
        for b in range(worker, batch, workers):
            behind = background[b].reshape(height, 3 * width)
            cam = scaled_camera(camera[b], samples)
            front_q[:] = 0.0
            pixel_sum[:] = 0.0
            for k in range(slots + 1):
                if k > 0 and present[b, k - 1]:
                    j = k - 1
                    box = draw_shaded(meshes, class_ids[b, j], T_camera_object[b, j], light[b, j], cam, scratch, q, code, colour)
                    merge_layer(box, q, colour, front_q, front_rgb, pixel_sum, behind, samples)
                if k >= first_prefix:
                    canvas = canvases[b, k - first_prefix].reshape(height, 3 * width)
                    for r in range(height):
                        add_scaled(behind[r], scale, pixel_sum[r], canvas[r])
