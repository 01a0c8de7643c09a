"""Compiled passes over whole images: what a scene looks like, and the gradient of a loss on it.

One work item is a band of rows of one scene: bands keep buffers in the cache and let all cores draw one large image.  Their
number depends on the image alone, and no two items write the same memory, so results do not depend on the number of threads.
Visible surfaces are found first; only they are shaded.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from inverse_graphics.compiled import inlined
from inverse_graphics.stack_kernels import add_scaled, covered
from renderers.raster.border_kernels import Scene, forget, make_seen
from renderers.raster.draw_kernels import draw_object, make_draw_scratch
from renderers.raster.gradient_kernels import scene_gradient
from renderers.raster.kernels import scaled_camera
from renderers.raster.shading_kernels import light_at, shade


@njit(cache=True, nogil=True, error_model="numpy")
def band_camera(camera, samples, top):
    """Intrinsics for the samples of a band whose first pixel row is ``top``."""
    out = scaled_camera(camera, samples)
    out[3] -= top * samples
    return out


@inlined
def draw_slots(meshes, class_ids, T_camera_object, present, camera, scratch, q, w1, w2, code, boxes):
    """Draw every layer of one band without shading.

    Fills q, w1, w2, code [n hs ws] within boxes [n 4] (empty ones for absent objects).
    """
    for k in range(len(class_ids)):
        box = (0, -1, 0, -1)
        if present[k]:
            box = draw_object(meshes, class_ids[k], T_camera_object[k], camera, scratch, q[k], w1[k], w2[k], code[k])
        for i in range(4):
            boxes[k, i] = box[i]


@njit(cache=True, nogil=True, error_model="numpy")
def make_buffers(size):
    """A worker's buffers for n layers of hs x ws samples: q, w1, w2, code, each [n hs ws], q in front [hs ws] and boxes [n 4]."""
    q, w1, w2 = np.empty(size, np.float32), np.empty(size, np.float32), np.empty(size, np.float32)
    return q, w1, w2, np.empty(size, np.int32), np.empty(size[1:], np.float32), np.empty((size[0], 4), np.int64)


@inlined
def put_in_front(k, box, q, code, front_q, winner):
    """Make slot k the winner of the samples where it is in front."""
    for i in range(box[1] - box[0] + 1):
        r = np.uintp(box[0]) + np.uintp(i)
        for j in range(box[3] - box[2] + 1):
            c = np.uintp(box[2]) + np.uintp(j)
            if code[r, c] >= 0 and q[r, c] > front_q[r, c]:
                front_q[r, c] = q[r, c]
                winner[r, c] = k


@inlined
def find_winners(boxes, q, code, front_q, winner):
    """Fill ``winner`` [hs ws] with the slot that each sample shows, -1 where none, and ``front_q`` with its q."""
    front_q[:] = 0.0
    winner[:] = -1
    for k in range(len(boxes)):
        put_in_front(k, boxes[k], q[k], code[k], front_q, winner)


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def render_pass(
    meshes, class_ids, T_camera_object, present, light, camera, background, samples, bands, workers, canvas, depth_m, ids, counts
):
    """Images of scenes.

    Args:
        meshes: PackedMeshes.
        class_ids: [b n] int64.
        T_camera_object: [b n 3 4] float32.
        present: [b n] bool.
        light: [b n 6] float32, see ``shading_kernels``.
        camera: [b 5] float64: fx, fy, cx, cy (pixels), near plane (metres).
        background: [b h w * 3] float32, pixel by pixel.
        samples: samples a pixel along each axis.
        bands: how many bands an image is split into.
        workers: how many work items to split into.
        canvas: [b h w * 3] float32, filled; colours are left out where it is empty [0 0 0].
        depth_m: [b h w] float32, filled, 0 where there is no object; [0 0 0] unless there is one sample a pixel.
        ids: [b h w] int64, filled likewise, -1 where there is no object.
        counts: [b bands n 2] int64, filled: samples in which an object is seen, and which it would cover alone.
    """
    batch, slots = class_ids.shape
    height, width = background.shape[1], background.shape[2] // 3
    band_rows = (height + bands - 1) // bands
    scale = np.float32(1.0 / (samples * samples))
    for worker in prange(workers):
        scratch = make_draw_scratch(meshes)
        size = (slots, band_rows * samples, width * samples)
        q, w1, w2, code, front_q, boxes = make_buffers(size)
        winner = np.empty(size[1:], np.int8)
        line = np.empty(3 * width, np.float32)
        for item in range(worker, batch * bands, workers):
            b, band = item // bands, item % bands
            top = band * band_rows
            bottom = min(top + band_rows, height)
            rows = max(bottom - top, 0) * samples
            cam, lights, behind = band_camera(camera[b], samples, top), light[b], background[b]
            draw_slots(
                meshes,
                class_ids[b],
                T_camera_object[b],
                present[b],
                cam,
                scratch,
                q[:, :rows],
                w1[:, :rows],
                w2[:, :rows],
                code[:, :rows],
                boxes,
            )
            front_q[:] = 0.0
            winner[:] = -1
            for k in range(slots):
                put_in_front(k, boxes[k], q[k], code[k], front_q, winner)
                alone = 0
                for r in range(boxes[k, 0], boxes[k, 1] + 1):
                    for c in range(boxes[k, 2], boxes[k, 3] + 1):
                        alone += code[k, r, c] >= 0
                counts[b, band, k, 0] = 0
                counts[b, band, k, 1] = alone
            first_row, last_row, first, last = covered(boxes)
            for row in range(top, bottom):
                line[:] = 0.0
                for c in range(width if len(depth_m) else 0):
                    depth_m[b, row, c] = 0.0
                    ids[b, row, c] = -1
                last_code, last_slot = np.int32(-1), np.int64(-1)
                red, green, blue = np.float32(0.0), np.float32(0.0), np.float32(0.0)
                r_first, r_last = (row - top) * samples, (row - top + 1) * samples - 1
                for r in range(max(r_first, first_row), min(r_last, last_row) + 1):
                    for c in range(first, last + 1):
                        k = np.int64(winner[r, c])
                        if k < 0:
                            continue
                        counts[b, band, k, 0] += 1
                        if len(depth_m):
                            depth_m[b, row, c] = np.float32(1.0) / q[k, r, c]
                            ids[b, row, c] = k
                        if len(canvas) == 0:
                            continue
                        seen = code[k, r, c]
                        if seen != last_code or k != last_slot:
                            z = np.float32(1.0) / q[k, r, c]
                            # samples within the tolerance of an edge lie a little outside the face
                            b1 = min(max(w1[k, r, c] * z, np.float32(0.0)), np.float32(1.0))
                            b2 = min(max(w2[k, r, c] * z, np.float32(0.0)), np.float32(1.0) - b1)
                            red, green, blue = shade(meshes, class_ids[b, k], seen, b1, b2, light_at(lights, k))
                            last_code = np.int32(-1)
                            if meshes.is_plain[seen >> 1] and lights[k, 5] == 0:
                                last_code, last_slot = seen, k
                        i = 3 * (c // samples)
                        line[i] += red - behind[row, i]
                        line[i + 1] += green - behind[row, i + 1]
                        line[i + 2] += blue - behind[row, i + 2]
                if len(canvas):
                    add_scaled(behind[row], scale, line, canvas[b, row])


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def mask_pass(meshes, class_ids, T_camera_object, present, camera, samples, workers, masks):
    """Share of every pixel's samples in which an object is seen.

    Args:
        meshes, class_ids, T_camera_object, present, camera, samples, workers: as in ``render_pass``.
        masks: [b n h w] float32, zero on entry, filled.
    """
    batch, slots, height, width = masks.shape
    scale = np.float32(1.0 / (samples * samples))
    for worker in prange(workers):
        scratch = make_draw_scratch(meshes)
        size = (slots, height * samples, width * samples)
        q, w1, w2, code, front_q, boxes = make_buffers(size)
        winner = np.empty(size[1:], np.int8)
        for b in range(worker, batch, workers):
            cam = scaled_camera(camera[b], samples)
            draw_slots(meshes, class_ids[b], T_camera_object[b], present[b], cam, scratch, q, w1, w2, code, boxes)
            find_winners(boxes, q, code, front_q, winner)
            for r in range(size[1]):
                for c in range(size[2]):
                    if winner[r, c] >= 0:
                        masks[b, winner[r, c], r // samples, c // samples] += scale


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def gradient_pass(
    meshes,
    class_ids,
    T_camera_object,
    present,
    light,
    camera,
    background,
    samples,
    bands,
    first_prefix,
    weights_rgb,
    weights_depth,
    weights_masks,
    T_grad,
    light_grad,
    background_grad,
    surface,
    vertices_grad,
    rgb_grad,
    normals_grad,
):
    """Gradient of a loss on images to poses, lights, background and surfaces.

    Args:
        meshes, class_ids, T_camera_object, present, light, camera, samples, bands: as in ``render_pass``.
        background: [b h w 3] float32.
        first_prefix: number of objects in the first of the images, at least 1; each further one holds one more.
        weights_rgb: [b p h w 3] float32, gradient by the images, which may be preceded by others; empty along p where there is
            none.
        weights_depth: [b h w] float32, by depth (one sample a pixel, one prefix); empty along h where there is none.
        weights_masks: [b n h w] float32, by masks (one prefix); empty along n where there is none.
        T_grad: [b bands n 3 4] float64, zero on entry, filled.
        light_grad: [b bands n 6] float64, zero on entry, filled: by direction or position, ambient, diffuse.
        background_grad: [b h w 3] float32, zero on entry, filled; or empty [0 0 0 3].
        surface: whether the gradient of the surfaces is wanted.
        vertices_grad, rgb_grad, normals_grad: [i v 3], [i f 3 3], [i f 3 3] float64, zero on entry, filled; their sum over i is
            the gradient.  i is the number of work items.
    """
    batch, slots = class_ids.shape
    height, width = background.shape[1:3]
    band_rows = (height + bands - 1) // bands
    prefixes = slots + 1 - first_prefix
    workers = len(vertices_grad)
    for worker in prange(workers):
        scratch = make_draw_scratch(meshes)
        size = (slots, band_rows * samples + 1, width * samples)
        q, w1, w2, code, front_q, boxes = make_buffers(size)
        winners = np.empty((prefixes, size[1], size[2]), np.int8)
        seen = make_seen(meshes, slots)
        surface_grads = (vertices_grad[worker], rgb_grad[worker], normals_grad[worker])
        for item in range(worker, batch * bands, workers):
            b, band = item // bands, item % bands
            top = band * band_rows
            bottom = min(top + band_rows, height)
            rows = max(bottom - top, 0) * samples
            drawn = rows + 1 if bottom < height else rows
            cam = band_camera(camera[b], samples, top)
            draw_slots(
                meshes,
                class_ids[b],
                T_camera_object[b],
                present[b],
                cam,
                scratch,
                q[:, :drawn],
                w1[:, :drawn],
                w2[:, :drawn],
                code[:, :drawn],
                boxes,
            )
            front_q[:] = 0.0
            winners[:1] = -1
            for k in range(slots):
                p = max(k + 1 - first_prefix, 0)
                if p > 0:
                    winners[p] = winners[p - 1]
                put_in_front(k, boxes[k], q[k], code[k], front_q, winners[p])
            forget(meshes, class_ids[b], seen)
            scene = Scene(meshes, class_ids[b], T_camera_object[b], light[b], cam, background[b], samples, top, seen)
            images = (weights_rgb[b, max(weights_rgb.shape[1] - prefixes, 0) :], weights_depth[b], weights_masks[b])
            scene_gradient(
                scene,
                images,
                boxes,
                code,
                winners[:, :drawn],
                rows,
                T_grad[b, band],
                light_grad[b, band],
                surface,
                surface_grads,
            )
            if len(background_grad):
                scale = np.float32(1.0 / (samples * samples))
                for p in range(prefixes):
                    for r in range(rows):
                        row = top + r // samples
                        for c in range(width * samples):
                            if winners[p, r, c] < 0:
                                for i in range(3):
                                    background_grad[b, row, c // samples, i] += scale * images[0][p, row, c // samples, i]
