"""Compiled merging of a stack of opaque layers: prefixes over the count, one layer replaced by others, one layer moved.

A layer is its nearness q = 1 / z at every sample, 0 where it is empty, its colour, and a box outside which it is empty: first
row, last row, first column and last column of samples, ends included, the last before the first where all of it is empty.
Outside the boxes q and colour are never looked at.  The nearest layer shows, at the same depth that of the lowest slot.

A replacement costs its own samples only: at each of them the nearest other layer of every prefix is found as the prefix grows,
and the search ends as soon as something hides the replacement.

Images, weights and targets are float32 with rows of w * 3 numbers, pixel by pixel.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from inverse_graphics.compiled import inlined, summed


@inlined
def covered(boxes):
    """Samples that any layer may cover: first row, last row, first column, last column."""
    top, bottom, left, right = np.int64(2**31), np.int64(-1), np.int64(2**31), np.int64(-1)
    for k in range(len(boxes)):
        if boxes[k, 1] >= boxes[k, 0]:
            top, bottom = min(top, boxes[k, 0]), max(bottom, boxes[k, 1])
            left, right = min(left, boxes[k, 2]), max(right, boxes[k, 3])
    return top, bottom, left, right


@inlined
def add_scaled(a, scale, b, out):
    """Fill ``out`` with a + scale * b, each [n]."""
    for i in range(len(out)):
        out[i] = a[i] + scale * b[i]


@inlined
def nearness(boxes, q, j, r, c):
    """How near layer j is at a sample (its q), 0 where it is empty."""
    if boxes[j, 0] <= r <= boxes[j, 1] and boxes[j, 2] <= c <= boxes[j, 3]:
        return q[j, r, c]
    return np.float32(0.0)


@inlined
def merge_layer(box, q, colour, front_q, front_rgb, pixel_sum, background, samples):
    """Put one shaded layer in front of what it hides, and keep the pixels' sums over their samples up to date.

    ``pixel_sum`` and ``background`` are [h w * 3], pixel by pixel.
    """
    for r in range(box[0], box[1] + 1):
        row = r // samples
        for c in range(box[2], box[3] + 1):
            if q[r, c] > front_q[r, c]:
                column = 3 * (c // samples)
                for i in range(3):
                    behind = front_rgb[r, c, i] if front_q[r, c] > 0.0 else background[row, column + i]
                    pixel_sum[row, column + i] += colour[r, c, i] - behind
                    front_rgb[r, c, i] = colour[r, c, i]
                front_q[r, c] = q[r, c]


@inlined
def weighted_change(k, box, new_q, new_rgb, boxes, q, colour, background, samples, weights):
    """Sum over the prefixes that hold slot k of weights * (samples with the replacement - samples without slot k).

    Args:
        k: the slot that is replaced.
        box, new_q, new_rgb: its replacement, [4], [hs ws] and [hs ws 3].
        boxes, q, colour: the stack, [n 4], [n hs ws] and [n hs ws 3].
        background: [h w * 3].
        samples: samples a pixel along each axis.
        weights: [n + 1 h w * 3].
    """
    total = 0.0
    for r in range(box[0], box[1] + 1):
        row = r // samples
        for c in range(box[2], box[3] + 1):
            if new_q[r, c] == 0.0:
                continue
            column = 3 * (c // samples)
            red, green, blue = background[row, column], background[row, column + 1], background[row, column + 2]
            behind_q = np.float32(0.0)
            for m in range(len(boxes)):
                other = nearness(boxes, q, m, r, c) if m != k else np.float32(0.0)
                if other > behind_q:
                    behind_q = other
                    red, green, blue = colour[m, r, c, 0], colour[m, r, c, 1], colour[m, r, c, 2]
                if behind_q >= new_q[r, c]:
                    break
                if m >= k:
                    total += weights[m + 1, row, column] * (new_rgb[r, c, 0] - red)
                    total += weights[m + 1, row, column + 1] * (new_rgb[r, c, 1] - green)
                    total += weights[m + 1, row, column + 2] * (new_rgb[r, c, 2] - blue)
    return total


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
def add_layer(j, without, boxes, q, colour, background, samples, residual):
    """Put layer j into a canvas that shows the layers before it, but not layer ``without``.

    Args:
        j: which layer.
        without: a layer that is left out, or -1.
        boxes, q, colour: the stack, as in ``weighted_change``.
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
            if q[j, r, c] == 0.0:
                continue
            behind, behind_q = -1, np.float32(0.0)
            for o in range(j):
                other = nearness(boxes, q, o, r, c) if o != without else np.float32(0.0)
                if other > behind_q:
                    behind, behind_q = o, other
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
def replaced_errors(k, box, new_q, new_rgb, boxes, q, colour, background, target, samples, span, residual, total, change, errors):
    """Squared errors of the prefixes with slot k replaced by another layer.

    Args:
        k, box, new_q, new_rgb, boxes, q, colour, background, samples: as in ``weighted_change``.
        target: [h w * 3].
        span: pixels outside which every canvas shows the background: first row, last row, first column, last column.
        residual: [n + 1 h w * 3]: canvases without slot k minus the target, within ``span``.
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
                    if new_q[r, c] == 0.0:
                        continue
                    if not seen:
                        seen = True
                        for m in range(k + 1, slots + 1):
                            change[m, 0] = change[m, 1] = change[m, 2] = 0.0
                    red, green, blue = background[row, column], background[row, column + 1], background[row, column + 2]
                    behind_q = np.float32(0.0)
                    for m in range(slots):
                        other = nearness(boxes, q, m, r, c) if m != k else np.float32(0.0)
                        if other > behind_q:
                            behind_q = other
                            red, green, blue = colour[m, r, c, 0], colour[m, r, c, 1], colour[m, r, c, 2]
                        if behind_q >= new_q[r, c]:
                            break
                        if m >= k:
                            change[m + 1, 0] += new_rgb[r, c, 0] - red
                            change[m + 1, 1] += new_rgb[r, c, 1] - green
                            change[m + 1, 2] += new_rgb[r, c, 2] - blue
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
def canvases_without(k, boxes, q, colour, background, samples, span, grown, grown_total, residual, total):
    """Residuals of the canvases of prefixes that would hold slot k, without it.

    Args:
        k, boxes, q, colour, background, samples: as in ``weighted_change``.
        span, residual, total: as in ``replaced_errors``; entries k + 1 .. n are filled.
        grown: [h w * 3]: the canvas of the slots before k minus the target, within ``span``.
        grown_total: its squared sum.
    """
    copy_residual(grown, span, residual[k + 1])
    total[k + 1] = grown_total
    for j in range(k + 1, len(boxes)):
        copy_residual(residual[j], span, residual[j + 1])
        more = add_layer(j, k, boxes, q, colour, background, samples, residual[j + 1])
        total[j + 1] = total[j] + more


@inlined
def pixels_touched(boxes, samples):
    """Pixels that any layer may touch: first row, last row, first column, last column."""
    r_first, r_last, c_first, c_last = covered(boxes)
    return r_first // samples, r_last // samples, c_first // samples, c_last // samples


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def stack_pass(alpha, depth_m, workers, q, boxes, hard):
    """Opaque layers from coverage and depth.

    Args:
        alpha, depth_m: [l hs ws] float32, as in ``types.Layers``.
        workers: how many work items to split into.
        q: [l hs ws] float32, filled.
        boxes: [l 4] int64, filled.
        hard: [l] bool, filled: whether alpha is 0 or 1 throughout.
    """
    layers, height, width = alpha.shape
    for worker in prange(workers):
        for i in range(worker, layers, workers):
            top, bottom, left, right, is_hard = height, -1, width, -1, True
            for r in range(height):
                first, last = width, -1
                for c in range(width):
                    a = alpha[i, r, c]
                    q[i, r, c] = np.float32(1.0) / depth_m[i, r, c] if a != 0.0 else np.float32(0.0)
                    if a != 0.0:
                        is_hard = is_hard and a == 1.0
                        first, last = min(first, c), c
                if last >= 0:
                    top, bottom, left, right = min(top, r), r, min(left, first), max(right, last)
            boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3] = top, bottom, left, right
            hard[i] = is_hard


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def prefix_merge_pass(boxes, q, colour, background, samples, first_prefix, workers, canvases):
    """Images of the first ``first_prefix``, ..., n layers.

    Args:
        boxes, q, colour: [b n 4], [b n hs ws], [b n hs ws 3].
        background: [b h w * 3].
        samples: samples a pixel along each axis.
        first_prefix: the first count whose canvas is wanted.
        workers: how many work items to split into.
        canvases: [b n + 1 - first_prefix h w * 3], filled.
    """
    batch, slots, hs, ws = q.shape
    height, width = background.shape[1:]
    scale = np.float32(1.0 / (samples * samples))
    for worker in prange(workers):
        front_q, front_rgb = np.empty((hs, ws), np.float32), np.empty((hs, ws, 3), np.float32)
        pixel_sum = np.empty((height, width), np.float32)
        for b in range(worker, batch, workers):
            front_q[:] = 0.0
            pixel_sum[:] = 0.0
            for k in range(slots + 1):
                if k > 0:
                    j = k - 1
                    merge_layer(boxes[b, j], q[b, j], colour[b, j], front_q, front_rgb, pixel_sum, background[b], samples)
                if k >= first_prefix:
                    for r in range(height):
                        add_scaled(background[b, r], scale, pixel_sum[r], canvases[b, k - first_prefix, r])


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def replacement_error_pass(k, boxes, q, colour, other_boxes, other_q, other_colour, background, target, samples, workers, errors):
    """Squared error of every prefix canvas with slot k replaced by other layers.

    Args:
        k: the slot.
        boxes, q, colour, background, samples, workers: as in ``prefix_merge_pass``.
        other_boxes, other_q, other_colour: the replacements, [b a 4], [b a hs ws], [b a hs ws 3].
        target: [b h w * 3].
        errors: [b a n + 1] float32, filled, 0 for prefixes that do not hold slot k.
    """
    batch, slots = q.shape[:2]
    height, width = background.shape[1:]
    for worker in prange(workers):
        residual = np.empty((slots + 1, height, width), np.float32)
        grown = np.empty((height, width), np.float32)
        change, total = np.empty((slots + 1, 4)), np.zeros(slots + 1)
        for b in range(worker, batch, workers):
            span = pixels_touched(boxes[b], samples)
            fill_residual(background[b], target[b], span, grown)
            grown_total = squared_sum(background[b], target[b])
            for j in range(k):
                grown_total += add_layer(j, -1, boxes[b], q[b], colour[b], background[b], samples, grown)
            canvases_without(k, boxes[b], q[b], colour[b], background[b], samples, span, grown, grown_total, residual, total)
            for a in range(other_q.shape[1]):
                replaced_errors(
                    k,
                    other_boxes[b, a],
                    other_q[b, a],
                    other_colour[b, a],
                    boxes[b],
                    q[b],
                    colour[b],
                    background[b],
                    target[b],
                    samples,
                    span,
                    residual,
                    total,
                    change,
                    errors[b, a],
                )


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def replacement_change_pass(boxes, q, colour, other_boxes, other_q, other_colour, background, samples, workers, weights, changes):
    """Sum over prefixes and pixels of weights * (canvas with a slot's layer replaced - canvas without it), slot by slot.

    Args:
        boxes, q, colour, background, samples, workers: as in ``prefix_merge_pass``.
        other_boxes, other_q, other_colour: replacements of each slot's layer, [m b n 4], [m b n hs ws], [m b n hs ws 3].
        weights: [b n + 1 h w * 3].
        changes: [m b n] float64, filled.
    """
    probes, batch, slots = other_boxes.shape[:3]
    for worker in prange(workers):
        for item in range(worker, probes * batch, workers):
            m, b = item // batch, item % batch
            for k in range(slots):
                total = weighted_change(
                    k,
                    other_boxes[m, b, k],
                    other_q[m, b, k],
                    other_colour[m, b, k],
                    boxes[b],
                    q[b],
                    colour[b],
                    background[b],
                    samples,
                    weights[b],
                )
                changes[m, b, k] = total / (samples * samples)
