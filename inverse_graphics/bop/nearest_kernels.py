"""Compiled search for nearest vertices, for ADI: a balanced tree of boxes over the model's vertices.

Node 1 is the root, 2 i and 2 i + 1 are the children of node i, the last half of the nodes are leaves.  A node holds the vertices
``span[i, 0]``, ..., ``span[i, 1] - 1`` in its box ``boxes[i]``: least x, y, z, largest x, y, z.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from inverse_graphics.compiled import inlined


@inlined
def box_square(box, x, y, z):
    """Squared distance of a point to a box."""
    dx = max(max(box[0] - x, x - box[3]), 0.0)
    dy = max(max(box[1] - y, y - box[4]), 0.0)
    dz = max(max(box[2] - z, z - box[5]), 0.0)
    return dx * dx + dy * dy + dz * dz


@inlined
def nearest(points, span, boxes, x, y, z, guess, nodes, squares):
    """Index of the vertex nearest to a point.

    Args:
        points: [3 v] in the tree's order.
        span, boxes: [m 2] and [m 6] the tree.
        x, y, z: the point.
        guess: a vertex that may be near.
        nodes, squares: [depth + 1] scratch.
    """
    best = guess
    dx, dy, dz = points[0, guess] - x, points[1, guess] - y, points[2, guess] - z
    least = dx * dx + dy * dy + dz * dz
    leaves = len(span) // 2
    waiting = 1
    nodes[0], squares[0] = 1, 0.0
    while waiting > 0:
        waiting -= 1
        node = nodes[waiting]
        if squares[waiting] >= least:
            continue
        while node < leaves:
            near, far = 2 * node, 2 * node + 1
            near_square, far_square = box_square(boxes[near], x, y, z), box_square(boxes[far], x, y, z)
            if far_square < near_square:
                near, far = far, near
                near_square, far_square = far_square, near_square
            if near_square >= least:
                break
            if far_square < least:
                nodes[waiting], squares[waiting] = far, far_square
                waiting += 1
            node = near
        if node >= leaves:
            for i in range(span[node, 0], span[node, 1]):
                dx, dy, dz = points[0, i] - x, points[1, i] - y, points[2, i] - z
                square = dx * dx + dy * dy + dz * dz
                if square < least:
                    least, best = square, i
    return best


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def adi_pass(points, span, boxes, T_est, T_gt, inverse_est, workers, errors):
    """ADI: neighbours are looked up in the model's frame, and the distance to them is taken in the camera's.

    Args:
        points, span, boxes: the tree.
        T_est, T_gt: [n 4 4].
        inverse_est: [n 3 3] inverses of the estimates' rotations.
        workers: how many work items to split into.
        errors: [n], filled.
    """
    count = points.shape[1]
    for worker in prange(workers):
        nodes, squares = np.empty(64, np.int64), np.empty(64)
        for n in range(worker, len(errors), workers):
            A, T, G = inverse_est[n], T_est[n], T_gt[n]
            total, found = 0.0, 0
            for i in range(count):
                a = G[0, 0] * points[0, i] + G[0, 1] * points[1, i] + G[0, 2] * points[2, i] + (G[0, 3] - T[0, 3])
                b = G[1, 0] * points[0, i] + G[1, 1] * points[1, i] + G[1, 2] * points[2, i] + (G[1, 3] - T[1, 3])
                c = G[2, 0] * points[0, i] + G[2, 1] * points[1, i] + G[2, 2] * points[2, i] + (G[2, 3] - T[2, 3])
                x = A[0, 0] * a + A[0, 1] * b + A[0, 2] * c
                y = A[1, 0] * a + A[1, 1] * b + A[1, 2] * c
                z = A[2, 0] * a + A[2, 1] * b + A[2, 2] * c
                # vertices that follow each other are close to each other, and so are their neighbours
                found = nearest(points, span, boxes, x, y, z, found, nodes, squares)
                p, q, r = points[0, found], points[1, found], points[2, found]
                a -= T[0, 0] * p + T[0, 1] * q + T[0, 2] * r
                b -= T[1, 0] * p + T[1, 1] * q + T[1, 2] * r
                c -= T[2, 0] * p + T[2, 1] * q + T[2, 2] * r
                total += np.sqrt(a * a + b * b + c * c)
            errors[n] = total / count
