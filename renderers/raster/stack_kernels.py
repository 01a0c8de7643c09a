"""Compiled passes that replace one layer of a stack and leave the others: pose differences and alternatives.

A replacement costs its own samples only: at each of them the nearest other layer of every prefix is found as the prefix
grows, and the search ends as soon as something hides the replacement.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from inverse_graphics.compiled import inlined, summed
from renderers.raster.kernels import covered, draw_shaded, make_scratch, scaled_camera


@inlined
def draw_stack(meshes, class_ids, T_camera_object, present, light, camera, scratch, q, code, colour, boxes):
    """Draw every layer of one scene.

    Fills q, code [n hs ws], colour [n hs ws 3] and boxes [n 4] (empty ones for absent objects).
    """
    for k in range(len(class_ids)):
        boxes[k, 0] = 0
        boxes[k, 1] = -1
        boxes[k, 2] = 0
        boxes[k, 3] = -1
        if present[k]:
            box = draw_shaded(meshes, class_ids[k], T_camera_object[k], light[k], camera, scratch, q[k], code[k], colour[k])
            for i in range(4):
                boxes[k, i] = box[i]


@inlined
def covers(boxes, code, j, r, c):
    """Whether layer j covers a sample."""
    return boxes[j, 0] <= r <= boxes[j, 1] and boxes[j, 2] <= c <= boxes[j, 3] and code[j, r, c] >= 0


@inlined
def weighted_change(k, box, new_q, new_code, new_rgb, boxes, q, code, colour, background, samples, weights):
    """Sum over the prefixes that hold slot k of weights * (samples with the replacement - samples without slot k)."""
    slots = len(boxes)
    total = 0.0
    for r in range(box[0], box[1] + 1):
        row = r // samples
        for c in range(box[2], box[3] + 1):
            if new_code[r, c] < 0:
                continue
            column = c // samples
            red, green, blue = background[row, column, 0], background[row, column, 1], background[row, column, 2]
            behind_q = np.float32(0.0)
            for m in range(slots):
                if m != k and covers(boxes, code, m, r, c) and q[m, r, c] > behind_q:
                    behind_q = q[m, r, c]
                    red, green, blue = colour[m, r, c, 0], colour[m, r, c, 1], colour[m, r, c, 2]
                if behind_q >= new_q[r, c]:
                    break
                if m >= k:
                    total += weights[m + 1, row, column, 0] * (new_rgb[r, c, 0] - red)
                    total += weights[m + 1, row, column, 1] * (new_rgb[r, c, 1] - green)
                    total += weights[m + 1, row, column, 2] * (new_rgb[r, c, 2] - blue)
    return total


@inlined
def moved_change(meshes, k, class_id, T, light, camera, scratch, boxes, q, code, colour, background, samples, weights):
    """``weighted_change`` of slot k drawn with another pose; the last entries of q, code and colour are scratch."""
    n = len(boxes)
    box = draw_shaded(meshes, class_id, T, light, camera, scratch, q[n], code[n], colour[n])
    return weighted_change(k, box, q[n], code[n], colour[n], boxes, q, code, colour, background, samples, weights)


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def pose_difference_pass(
    meshes,
    class_ids,
    T_camera_object,
    present,
    light,
    T_moved,
    light_moved,
    camera,
    background,
    samples,
    workers,
    weights,
    difference,
):
    """Sum over prefixes and pixels of weights * (canvas with slot k moved forwards - canvas with slot k moved back).

    Args:
        meshes, class_ids, T_camera_object, present, light, camera, background, samples, workers: as in ``prefix_pass``.
        T_moved: [b n p 2 3 4] float32: slot k moved along tangent p, forwards and back.
        light_moved: [b n p 2 6] float32.
        weights: [b n + 1 h w 3] float32: gradient of a loss with respect to every prefix canvas.
        difference: [b n p] float32, filled.
    """
    batch, slots = class_ids.shape
    hs = background.shape[1] * samples
    ws = background.shape[2] * samples
    for worker in prange(workers):
        scratch = make_scratch(meshes, hs, ws)
        q = np.empty((slots + 1, hs, ws), np.float32)
        code = np.empty((slots + 1, hs, ws), np.int32)
        colour = np.empty((slots + 1, hs, ws, 3), np.float32)
        boxes = np.empty((slots, 4), np.int64)
        for b in range(worker, batch, workers):
            cam = scaled_camera(camera[b], samples)
            draw_stack(meshes, class_ids[b], T_camera_object[b], present[b], light[b], cam, scratch, q, code, colour, boxes)
            for k in range(slots):
                for p in range(T_moved.shape[2]):
                    total = 0.0
                    for side in range(2 if present[b, k] else 0):
                        change = moved_change(
                            meshes,
                            k,
                            class_ids[b, k],
                            T_moved[b, k, p, side],
                            light_moved[b, k, p, side],
                            cam,
                            scratch,
                            boxes,
                            q,
                            code,
                            colour,
                            background[b],
                            samples,
                            weights[b],
                        )
                        total += change if side == 0 else -change
                    difference[b, k, p] = total / (samples * samples)


@summed
def squared_sum(a, b):
    """Sum of (a - b)^2, both [h w * 3]."""
    total = 0.0
    for r in range(a.shape[0]):
        line = np.float32(0.0)
        for x in range(a.shape[1]):
            line += (a[r, x] - b[r, x]) * (a[r, x] - b[r, x])
        total += line
    return total


@inlined
def fill_residual(a, b, span, out):
    """Fill ``out`` with a - b within ``span``: pixels' first row, last row, first column, last column; all are [h w * 3]."""
    left = np.uintp(3 * span[2])
    for i in range(span[1] - span[0] + 1):
        r = np.uintp(span[0]) + np.uintp(i)
        for j in range(3 * (span[3] - span[2] + 1)):
            x = left + np.uintp(j)
            out[r, x] = a[r, x] - b[r, x]


@inlined
def copy_residual(a, span, out):
    """Copy a to ``out`` within ``span``."""
    left = np.uintp(3 * span[2])
    for i in range(span[1] - span[0] + 1):
        r = np.uintp(span[0]) + np.uintp(i)
        for j in range(3 * (span[3] - span[2] + 1)):
            x = left + np.uintp(j)
            out[r, x] = a[r, x]


@inlined
def add_layer(j, without, boxes, q, code, colour, background, samples, residual):
    """Put layer j into a canvas that shows the layers before it, but not layer ``without``.

    Args:
        j: which layer.
        without: a layer that is left out, or -1.
        boxes, q, code, colour: from ``draw_stack``.
        background: [h w * 3] float32, pixel by pixel.
        samples: samples a pixel along each axis.
        residual: [h w * 3] float32, the canvas minus a target, changed.

    Returns:
        How much the residual's squared sum changes.
    """
    scale, two = np.float32(1.0 / (samples * samples)), np.float32(2.0)
    total = 0.0
    for r in range(boxes[j, 0], boxes[j, 1] + 1):
        row = r // samples
        for c in range(boxes[j, 2], boxes[j, 3] + 1):
            if code[j, r, c] < 0:
                continue
            behind, behind_q = -1, np.float32(0.0)
            for o in range(j):
                if o != without and covers(boxes, code, o, r, c) and q[o, r, c] > behind_q:
                    behind, behind_q = o, q[o, r, c]
            if behind_q >= q[j, r, c]:
                continue
            column = 3 * (c // samples)
            for i in range(3):
                old = colour[behind, r, c, i] if behind >= 0 else background[row, column + i]
                d, rest = scale * (colour[j, r, c, i] - old), residual[row, column + i]
                residual[row, column + i] = rest + d
                total += d * (d + two * rest)
    return total


@inlined
def replaced_errors(k, box, layer, boxes, q, code, colour, background, target, samples, span, residual, total, change, errors):
    """Squared errors of the prefixes with slot k replaced by another layer.

    Args:
        k: the slot that is replaced.
        box: where the replacement may cover samples.
        layer: which layer of q, code and colour it is.
        boxes, q, code, colour: from ``draw_stack``, with the replacement's layer appended.
        background, target: [h w * 3] float32, pixel by pixel.
        samples: samples a pixel along each axis.
        span: pixels outside which every canvas shows the background: first row, last row, first column, last column.
        residual: [n + 1 h w * 3] float32: canvases without slot k minus the target, within ``span``.
        total: [n + 1] float64: their squared sums.
        change: [n + 1 4] float64 scratch.
        errors: [n + 1] float32, filled.
    """
    slots = len(boxes)
    scale = 1.0 / (samples * samples)
    for m in range(slots + 1):
        change[m, 3] = total[m] if m > k else 0.0
    for row in range(box[0] // samples, box[1] // samples + 1 if box[1] >= box[0] else 0):
        for pixel in range(box[2] // samples, box[3] // samples + 1):
            column, seen = 3 * pixel, False
            for r in range(max(row * samples, box[0]), min(row * samples + samples - 1, box[1]) + 1):
                for c in range(max(pixel * samples, box[2]), min(pixel * samples + samples - 1, box[3]) + 1):
                    if code[layer, r, c] < 0:
                        continue
                    if not seen:
                        seen = True
                        for m in range(k + 1, slots + 1):
                            change[m, 0] = change[m, 1] = change[m, 2] = 0.0
                    new_q = q[layer, r, c]
                    red, green, blue = background[row, column], background[row, column + 1], background[row, column + 2]
                    behind_q = np.float32(0.0)
                    for m in range(slots):
                        if m != k and covers(boxes, code, m, r, c) and q[m, r, c] > behind_q:
                            behind_q = q[m, r, c]
                            red, green, blue = colour[m, r, c, 0], colour[m, r, c, 1], colour[m, r, c, 2]
                        if behind_q >= new_q:
                            break
                        if m >= k:
                            change[m + 1, 0] += colour[layer, r, c, 0] - red
                            change[m + 1, 1] += colour[layer, r, c, 1] - green
                            change[m + 1, 2] += colour[layer, r, c, 2] - blue
            if seen:
                inside = span[0] <= row <= span[1] and span[2] <= pixel <= span[3]
                for m in range(k + 1, slots + 1):
                    for i in range(3):
                        at, d = column + i, scale * change[m, i]
                        rest = residual[m, row, at] if inside else background[row, at] - target[row, at]
                        change[m, 3] += d * (d + 2.0 * rest)
    for m in range(slots + 1):
        errors[m] = change[m, 3]


@inlined
def same_object(class_id, T, light, other_class_id, other_T, other_light):
    """Whether an alternative is the very object that it replaces."""
    if class_id != other_class_id:
        return False
    for i in range(3):
        for j in range(4):
            if T[i, j] != other_T[i, j]:
                return False
    for i in range(6):
        if light[i] != other_light[i]:
            return False
    return True


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def swap_error_pass(
    meshes,
    class_ids,
    T_camera_object,
    present,
    light,
    other_class_ids,
    T_other,
    other_present,
    light_other,
    camera,
    background,
    target,
    samples,
    workers,
    errors,
):
    """Squared error of every prefix canvas with one slot's object replaced by an alternative.

    Args:
        meshes, class_ids, T_camera_object, present, light, camera, background, samples, workers: as in ``prefix_pass``.
        other_class_ids, T_other, other_present, light_other: the alternatives, [b n a] and likewise; absent ones leave the slot
            empty.
        target: [b h w 3] float32.
        errors: [b n a n + 1] float32: sum over pixels and channels of (canvas - target)^2; entry m of slot k's alternatives is
            that of the prefix of m objects, and 0 for m <= k, where slot k is not drawn.
    """
    batch, slots = class_ids.shape
    height, width = background.shape[1:3]
    hs = height * samples
    ws = width * samples
    for worker in prange(workers):
        scratch = make_scratch(meshes, hs, ws)
        q = np.empty((slots + 1, hs, ws), np.float32)
        code = np.empty((slots + 1, hs, ws), np.int32)
        colour = np.empty((slots + 1, hs, ws, 3), np.float32)
        boxes = np.empty((slots, 4), np.int64)
        residual = np.empty((slots + 1, height, 3 * width), np.float32)
        grown = np.empty((height, 3 * width), np.float32)
        change = np.empty((slots + 1, 4))
        total = np.zeros(slots + 1)
        for b in range(worker, batch, workers):
            cam = scaled_camera(camera[b], samples)
            draw_stack(meshes, class_ids[b], T_camera_object[b], present[b], light[b], cam, scratch, q, code, colour, boxes)
            behind, wanted = background[b].reshape(height, 3 * width), target[b].reshape(height, 3 * width)
            r_first, r_last, c_first, c_last = covered(boxes)
            span = (r_first // samples, r_last // samples, c_first // samples, c_last // samples)
            # the canvas of the slots before k, minus the target, and its squared sum
            fill_residual(behind, wanted, span, grown)
            grown_total = squared_sum(behind, wanted)
            for k in range(slots):
                copy_residual(grown, span, residual[k + 1])
                total[k + 1] = grown_total
                for j in range(k + 1, slots):
                    copy_residual(residual[j], span, residual[j + 1])
                    more = add_layer(j, k, boxes, q, code, colour, behind, samples, residual[j + 1])
                    total[j + 1] = total[j] + more
                for a in range(other_class_ids.shape[2]):
                    other, T, other_light = other_class_ids[b, k, a], T_other[b, k, a], light_other[b, k, a]
                    box, layer = (0, -1, 0, -1), slots
                    if other_present[b, k, a] and present[b, k]:
                        if same_object(class_ids[b, k], T_camera_object[b, k], light[b, k], other, T, other_light):
                            box, layer = (boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3]), k
                    if other_present[b, k, a] and layer == slots:
                        box = draw_shaded(meshes, other, T, other_light, cam, scratch, q[slots], code[slots], colour[slots])
                    replaced_errors(
                        k,
                        box,
                        layer,
                        boxes,
                        q,
                        code,
                        colour,
                        behind,
                        wanted,
                        samples,
                        span,
                        residual,
                        total,
                        change,
                        errors[b, k, a],
                    )
                grown_total += add_layer(k, -1, boxes, q, code, colour, behind, samples, grown)
