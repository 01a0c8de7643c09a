"""Compiled passes round a ray caster: which samples an object may cover, the rays through them, and layers from their hits.

The caster holds each mesh in its own frame, so rays are carried there.  Workers take every so many-th item, and no two write the
same memory: the result does not depend on the number of threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from renderers.raster.draw_kernels import make_draw_scratch, object_box, transform_vertices
from renderers.raster.kernels import scaled_camera
from renderers.raster.shading_kernels import light_at, shade

ROOM = 0.01
"""Rays start in front of an object by this share of its extent in depth, so that no hit is at their very start."""


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def box_pass(meshes, class_ids, T_camera_object, present, camera, samples, height, width, workers, boxes, start_m):
    """Samples that each object may cover, and the depth at which rays towards it start.

    Args:
        meshes: PackedMeshes.
        class_ids: [b n] int64.
        T_camera_object: [b n 3 4] float32.
        present: [b n] bool.
        camera: [b 5] float64: fx, fy, cx, cy (pixels), near plane (metres).
        samples: samples a pixel along each axis.
        height, width: of the image, in samples.
        workers: how many work items to split into.
        boxes: [b n 4] int64: first row, last row, first column, last column; empty boxes end before they start.
        start_m: [b n] float64: z-depth, the near plane or farther.
    """
    slots = class_ids.shape[1]
    items = class_ids.shape[0] * slots
    for worker in prange(workers):
        scratch = make_draw_scratch(meshes)
        for item in range(worker, items, workers):
            b = item // slots
            k = item % slots
            boxes[b, k, 0], boxes[b, k, 1], boxes[b, k, 2], boxes[b, k, 3] = 0, -1, 0, -1
            start_m[b, k] = camera[b, 4]
            if not present[b, k]:
                continue
            cam = scaled_camera(camera[b], samples)
            near, far, around = transform_vertices(meshes, class_ids[b, k], T_camera_object[b, k], cam, scratch)
            box = object_box(near, far, around, cam[4], height, width)
            boxes[b, k, 0], boxes[b, k, 1], boxes[b, k, 2], boxes[b, k, 3] = box
            # near the object, where single precision is finer
            start_m[b, k] = max(cam[4], near - ROOM * (far - near) - 1e-5 * abs(near))


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def ray_pass(items, first_ray, T_camera_object, camera, start_m, samples, workers, rays):
    """Rays through samples, row by row of every item; their lengths are z-depths less the depth at which they start.

    Args:
        items: [m 6] int64: scene, slot, first row, last row, first column, last column.
        first_ray: [m] int64: where each item's rays begin.
        T_camera_object, camera, samples, workers: as in ``box_pass``.
        start_m: [b n] float64, from ``box_pass``.
        rays: [r 6] float32, filled: origin and direction in the object's frame.
    """
    for worker in prange(workers):
        for item in range(worker, len(items), workers):
            b, k = items[item, 0], items[item, 1]
            T = T_camera_object[b, k]
            cam = scaled_camera(camera[b], samples)
            start = start_m[b, k]
            tx, ty, tz = np.float64(T[0, 3]), np.float64(T[1, 3]), start - np.float64(T[2, 3])
            ray = first_ray[item]
            for r in range(items[item, 2], items[item, 3] + 1):
                y = (r + 0.5 - cam[3]) / cam[1]
                for c in range(items[item, 4], items[item, 5] + 1):
                    x = (c + 0.5 - cam[2]) / cam[0]
                    ox, oy = start * x - tx, start * y - ty
                    for i in range(3):
                        rays[ray, i] = T[0, i] * ox + T[1, i] * oy + T[2, i] * tz
                        rays[ray, 3 + i] = T[0, i] * x + T[1, i] * y + T[2, i]
                    ray += 1


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def hit_pass(meshes, class_ids, items, first_ray, start_m, light, rays, length_m, face, uv, workers, rgb, alpha, depth_m):
    """Shade the hits of the rays of ``ray_pass``.

    Args:
        meshes, class_ids, items, first_ray, start_m, rays, workers: as there and in ``box_pass``.
        light: [b n 6] float32, see ``shading_kernels``.
        length_m: [r] float32, inf where nothing was hit.
        face: [r] uint32: face within the object's mesh.
        uv: [r 2] float32: barycentric coordinates of corners 1 and 2.
        rgb: [b n hs ws 3] float32, zero on entry, filled.
        alpha: [b n hs ws] float32, zero on entry, filled.
        depth_m: [b n hs ws] float32, inf on entry, filled.
    """
    for worker in prange(workers):
        for item in range(worker, len(items), workers):
            b, k = items[item, 0], items[item, 1]
            class_id = class_ids[b, k]
            first_face = np.int64(meshes.face_start[class_id])
            lit = light_at(light[b], k)
            last = np.int64(-1)
            red, green, blue = np.float32(0.0), np.float32(0.0), np.float32(0.0)
            ray = first_ray[item] - 1
            for r in range(items[item, 2], items[item, 3] + 1):
                for c in range(items[item, 4], items[item, 5] + 1):
                    ray += 1
                    if not length_m[ray] < np.inf:
                        continue
                    f = first_face + np.int64(face[ray])
                    along = rays[ray, 3] * meshes.planes[0, f] + rays[ray, 4] * meshes.planes[1, f]
                    along += rays[ray, 5] * meshes.planes[2, f]
                    code = 2 * f + np.int64(along > 0)
                    if code != last:
                        red, green, blue = shade(meshes, class_id, code, uv[ray, 0], uv[ray, 1], lit)
                        last = code if meshes.is_plain[f] and lit[5] == 0 else np.int64(-1)
                    rgb[b, k, r, c, 0] = red
                    rgb[b, k, r, c, 1] = green
                    rgb[b, k, r, c, 2] = blue
                    alpha[b, k, r, c] = 1.0
                    depth_m[b, k, r, c] = start_m[b, k] + length_m[ray]
