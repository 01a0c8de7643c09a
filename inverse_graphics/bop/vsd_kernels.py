"""Compiled visible surface discrepancy of pairs of one image, for all tolerances at once; see ``vsd``."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from inverse_graphics.compiled import inlined


@inlined
def distance(depth, r, c, K):
    """Distance from the camera to the point that pixel (r, c) shows; pixel indices stand for positions, as in bop_toolkit."""
    x = (c - K[0, 2]) / K[0, 0] * depth
    y = (r - K[1, 2]) / K[1, 1] * depth
    return np.sqrt(x * x + y * y + depth * depth)


@inlined
def is_seen(model, test, delta):
    """Whether a model's point may be seen: nothing measured is clearly before it, or nothing was measured.  Float32."""
    return np.float32(model) - np.float32(test) <= np.float32(delta) or test == 0.0


@inlined
def count_present(row):
    """Number of pixels of a row that hold something; several at once, for most rows hold nothing."""
    count = 0
    for c in range(len(row)):
        count += (row[c] > np.float32(0.0)) & (row[c] < np.float32(np.inf))
    return count


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def cut_soft_pass(alpha, depth, workers):
    """Empty the pixels of ``depth`` [n h w] float32, in place, that ``alpha`` covers by less than a half."""
    count, height, width = depth.shape
    for worker in prange(workers):
        for n in range(worker, count, workers):
            for r in range(height):
                if count_present(depth[n, r]) == 0:
                    continue
                for c in range(width):
                    if depth[n, r, c] < np.inf and alpha[n, r, c] < 0.5:
                        depth[n, r, c] = np.inf


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def boxes_pass(depth, workers, boxes):
    """Where images hold something.

    Args:
        depth: [n h w] float32, 0 or not finite where there is nothing.
        workers: how many work items to split into.
        boxes: [n 4] int64, filled: first row, last row, first column, last column; the last before the first in empty images.
    """
    count, height, width = depth.shape
    for worker in prange(workers):
        for n in range(worker, count, workers):
            top, bottom, left, right = height, -1, width, -1
            for r in range(height):
                if count_present(depth[n, r]) == 0:
                    continue
                for c in range(width):
                    if 0.0 < depth[n, r, c] < np.inf:
                        top, bottom = min(top, r), r
                        left, right = min(left, c), max(right, c)
            boxes[n, 0], boxes[n, 1], boxes[n, 2], boxes[n, 3] = top, bottom, left, right


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def vsd_pass(depth_est, depth_gt, boxes_est, boxes_gt, test_mm, K, pairs, diameter_mm, delta_mm, taus, unit_mm, workers, errors):
    """Errors of pairs of drawn models.

    Args:
        depth_est, depth_gt: [e h w] and [g h w] float32, 0 or not finite where there is nothing.
        boxes_est, boxes_gt: of ``boxes_pass``.
        test_mm: [h w] float64 measured depth, 0 where nothing was measured.
        K: [3 3].
        pairs: [p 2] int64, an image of depth_est and one of depth_gt.
        diameter_mm: [p].
        delta_mm: tolerance of visibility.
        taus: [t] ascending tolerances of the distance, in diameters.
        unit_mm: millimetres a unit of the drawn depth.
        workers: how many work items to split into.
        errors: [p t], filled.
    """
    count = len(taus)
    for worker in prange(workers):
        wrong = np.empty(count + 1, np.int64)
        for p in range(worker, len(pairs), workers):
            e, g = pairs[p, 0], pairs[p, 1]
            wrong[:] = 0
            union, intersection = 0, 0
            for r in range(min(boxes_est[e, 0], boxes_gt[g, 0]), max(boxes_est[e, 1], boxes_gt[g, 1]) + 1):
                for c in range(min(boxes_est[e, 2], boxes_gt[g, 2]), max(boxes_est[e, 3], boxes_gt[g, 3]) + 1):
                    in_est, in_gt = 0.0 < depth_est[e, r, c] < np.inf, 0.0 < depth_gt[g, r, c] < np.inf
                    if not (in_est or in_gt):
                        continue
                    test = distance(test_mm[r, c], r, c, K)
                    far_est = distance(unit_mm * depth_est[e, r, c], r, c, K) if in_est else 0.0
                    far_gt = distance(unit_mm * depth_gt[g, r, c], r, c, K) if in_gt else 0.0
                    seen_gt = in_gt and is_seen(far_gt, test, delta_mm)
                    seen_est = in_est and (seen_gt or is_seen(far_est, test, delta_mm))
                    union += seen_gt or seen_est
                    if seen_gt and seen_est:
                        intersection += 1
                        off = abs(far_gt - far_est) / diameter_mm[p]
                        k = 0
                        while k < count and taus[k] <= off:
                            k += 1
                        wrong[k] += 1
            # wrong[k] holds the pixels that are off by k tolerances: those beyond tolerance t have k > t
            beyond = 0
            for t in range(count - 1, -1, -1):
                beyond += wrong[t + 1]
                errors[p, t] = (beyond + union - intersection) / union if union > 0 else 1.0
