"""Compiled pose errors of many pairs of one model; what they mean is said in ``errors``.

Vertices are [3 v] rows of x, y and z, in an order whose first ``FIRST`` stand for the whole model: a symmetry whose error there
is already larger than the best one so far is given up.  Poses are [n 4 4], symmetries [s 4 4], everything is float64.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from inverse_graphics.compiled import inlined, ranked, summed

FIRST = 32
"""Vertices that judge a symmetry before any other is looked at, and vertices between two looks at the best error so far."""


@inlined
def moved_by_symmetry(T, symmetry, out):
    """Fill ``out`` [12], rows of a 3x4 matrix, with T * symmetry."""
    for r in range(3):
        for c in range(4):
            total = T[r, 3] if c == 3 else 0.0
            for k in range(3):
                total += T[r, k] * symmetry[k, c]
            out[4 * r + c] = total


@inlined
def subtract_from(T, out):
    """Replace ``out`` [12] by T - out."""
    for r in range(3):
        for c in range(4):
            out[4 * r + c] = T[r, c] - out[4 * r + c]


@ranked
def largest_square(points, first, last, m):
    """Largest squared length of m * vertex over vertices first, ..., last - 1; m is a 3x4 matrix as [12]."""
    largest = 0.0
    for i in range(first, last):
        x, y, z = points[0, i], points[1, i], points[2, i]
        a = m[0] * x + m[1] * y + m[2] * z + m[3]
        b = m[4] * x + m[5] * y + m[6] * z + m[7]
        c = m[8] * x + m[9] * y + m[10] * z + m[11]
        largest = max(largest, a * a + b * b + c * c)
    return largest


@ranked
def largest_pixel_square(points, first, last, m, K, uv):
    """Largest squared pixel distance between uv and the projection of m * vertex; infinite if one is not before the camera."""
    largest = 0.0
    for i in range(first, last):
        x, y, z = points[0, i], points[1, i], points[2, i]
        a = m[0] * x + m[1] * y + m[2] * z + m[3]
        b = m[4] * x + m[5] * y + m[6] * z + m[7]
        c = m[8] * x + m[9] * y + m[10] * z + m[11]
        inverse = 1.0 / c
        du = uv[0, i] - ((K[0, 0] * a + K[0, 1] * b) * inverse + K[0, 2])
        dv = uv[1, i] - (K[1, 1] * b * inverse + K[1, 2])
        square = du * du + dv * dv if c > 0.0 else np.inf
        largest = max(largest, square)
    return largest


@summed
def length_sum(points, m):
    """Sum of the lengths of m * vertex."""
    total = 0.0
    for i in range(points.shape[1]):
        x, y, z = points[0, i], points[1, i], points[2, i]
        a = m[0] * x + m[1] * y + m[2] * z + m[3]
        b = m[4] * x + m[5] * y + m[6] * z + m[7]
        c = m[8] * x + m[9] * y + m[10] * z + m[11]
        total += np.sqrt(a * a + b * b + c * c)
    return total


@summed
def pixel_distance_sum(uv, other_uv):
    """Sum of the distances of pixel positions, both [2 v]."""
    total = 0.0
    for i in range(uv.shape[1]):
        du, dv = uv[0, i] - other_uv[0, i], uv[1, i] - other_uv[1, i]
        total += np.sqrt(du * du + dv * dv)
    return total


@inlined
def project(points, T, K, uv):
    """Fill ``uv`` [2 v] with the pixel positions of all vertices; returns whether all of them are before the camera."""
    for i in range(points.shape[1]):
        x, y, z = points[0, i], points[1, i], points[2, i]
        c = T[2, 0] * x + T[2, 1] * y + T[2, 2] * z + T[2, 3]
        if not c > 0.0:
            return False
        a = T[0, 0] * x + T[0, 1] * y + T[0, 2] * z + T[0, 3]
        b = T[1, 0] * x + T[1, 1] * y + T[1, 2] * z + T[1, 3]
        uv[0, i] = (K[0, 0] * a + K[0, 1] * b) / c + K[0, 2]
        uv[1, i] = K[1, 1] * b / c + K[1, 2]
    return True


@inlined
def least(values):
    """Index of the least value."""
    index = 0
    for i in range(1, len(values)):
        if values[i] < values[index]:
            index = i
    return index


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def add_pass(points, T_est, T_gt, workers, errors):
    """ADD.

    Args:
        points: [3 v].
        T_est, T_gt: [n 4 4].
        workers: how many work items to split into.
        errors: [n], filled.
    """
    for worker in prange(workers):
        m = np.empty(12)
        for n in range(worker, len(errors), workers):
            for r in range(3):
                for c in range(4):
                    m[4 * r + c] = T_est[n, r, c] - T_gt[n, r, c]
            errors[n] = length_sum(points, m) / points.shape[1]


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def mssd_pass(points, symmetries, T_est, T_gt, workers, errors):
    """MSSD; ``points`` may be those of the convex hull, the rest as in ``add_pass``.

    The symmetry that looks best by the first vertices is tried first, and the search ends as soon as no other can be better.
    """
    count = points.shape[1]
    for worker in prange(workers):
        motions, bounds = np.empty((len(symmetries), 12)), np.empty(len(symmetries))
        for n in range(worker, len(errors), workers):
            for k in range(len(symmetries)):
                moved_by_symmetry(T_gt[n], symmetries[k], motions[k])
                subtract_from(T_est[n], motions[k])
                bounds[k] = largest_square(points, 0, min(FIRST, count), motions[k])
            best = np.inf
            while True:
                k = least(bounds)
                if not bounds[k] < best:
                    break
                square, i = bounds[k], FIRST
                while i < count and square < best:
                    square = max(square, largest_square(points, i, min(i + FIRST, count), motions[k]))
                    i += FIRST
                best = min(best, square)
                bounds[k] = np.inf
            errors[n] = np.sqrt(best)


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def mspd_pass(points, symmetries, T_est, T_gt, K, workers, errors):
    """MSPD; ``K`` is [n 3 3], the rest as in ``mssd_pass`` with all vertices."""
    count = points.shape[1]
    for worker in prange(workers):
        uv = np.empty((2, count))
        motions, bounds = np.empty((len(symmetries), 12)), np.empty(len(symmetries))
        for n in range(worker, len(errors), workers):
            if not project(points, T_est[n], K[n], uv):
                errors[n] = np.inf
                continue
            for k in range(len(symmetries)):
                moved_by_symmetry(T_gt[n], symmetries[k], motions[k])
                bounds[k] = largest_pixel_square(points, 0, min(FIRST, count), motions[k], K[n], uv)
            best = np.inf
            while True:
                k = least(bounds)
                if not bounds[k] < best:
                    break
                square, i = bounds[k], FIRST
                while i < count and square < best:
                    square = max(square, largest_pixel_square(points, i, min(i + FIRST, count), motions[k], K[n], uv))
                    i += FIRST
                best = min(best, square)
                bounds[k] = np.inf
            errors[n] = np.sqrt(best)


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def proj_pass(points, T_est, T_gt, K, workers, errors):
    """Mean pixel distance; infinite if a vertex is not before the camera."""
    count = points.shape[1]
    for worker in prange(workers):
        uv, other_uv = np.empty((2, count)), np.empty((2, count))
        for n in range(worker, len(errors), workers):
            errors[n] = np.inf
            if project(points, T_est[n], K[n], uv) and project(points, T_gt[n], K[n], other_uv):
                errors[n] = pixel_distance_sum(uv, other_uv) / count
