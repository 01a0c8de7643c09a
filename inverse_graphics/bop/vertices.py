"""A model's vertices, arranged for the passes of ``pose_kernels`` and ``nearest_kernels``."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import ConvexHull, QhullError

LEAF = 16
"""Vertices of a leaf, at most."""
SPREAD = 64
"""Vertices that are chosen each as far as possible from those before it."""


@dataclass(frozen=True)
class Vertices:
    """One model's vertices in three arrangements, all float64."""

    points_mm: Float[np.ndarray, "3 v"]
    """All vertices, some that are far from each other first."""
    hull_mm: Float[np.ndarray, "3 h"]
    """Those of the convex hull, in which the largest distance of two poses of a rigid body is attained, likewise."""
    tree_mm: Float[np.ndarray, "3 v"]
    """All vertices in the order of the tree."""
    span: Int[np.ndarray, "m 2"]
    """First vertex of each node of the tree, and the one after its last."""
    boxes_mm: Float[np.ndarray, "m 6"]
    """Least and largest coordinates of each node."""


def arrange_vertices(points_mm: Float[np.ndarray, "v 3"]) -> Vertices:
    """Arrange a model's vertices.

    Raises:
        ValueError: no vertex, or one that is not finite.
    """
    points = np.asarray(points_mm, np.float64)
    if len(points) == 0 or not np.isfinite(points).all():
        raise ValueError(
            f"points_mm: expected at least one vertex and finite coordinates, received shape {points.shape}; "
            "load the model anew, or repair its file."
        )
    tree_mm, span, boxes_mm = _tree(points)
    return Vertices(_rows(spread_first(points)), _rows(spread_first(points[_hull(points)])), _rows(tree_mm), span, boxes_mm)


def spread_first(points: Float[np.ndarray, "v 3"], count: int = SPREAD) -> Float[np.ndarray, "v 3"]:
    """The same points, ``count`` that are far from each other first, the others by falling distance from the mean.

    The first point is the one farthest from the mean, each further one is the farthest from all before it.
    """
    from_mean = np.linalg.norm(points - points.mean(0), axis=-1)
    distance = np.full(len(points), np.inf)
    chosen = [int(from_mean.argmax())]
    for _ in range(min(count, len(points)) - 1):
        distance = np.minimum(distance, np.linalg.norm(points - points[chosen[-1]], axis=-1))
        distance[chosen] = -1.0
        chosen.append(int(distance.argmax()))
    from_mean[chosen] = np.inf
    others = np.argsort(-from_mean, kind="stable")[len(chosen) :]
    return points[np.concatenate([chosen, others])]


def _hull(points: Float[np.ndarray, "v 3"]) -> Int[np.ndarray, "h"]:
    """Indices of the vertices of the convex hull; of all points if they span no volume."""
    try:
        return np.sort(ConvexHull(points).vertices).astype(np.int64)
    except QhullError:  # fewer than four points, or all in a plane: taking them all is as exact
        return np.arange(len(points))


def _tree(points: Float[np.ndarray, "v 3"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points in the tree's order, spans and boxes of its nodes: halved again and again across the longest side of the box."""
    depth = max(0, math.ceil(math.log2(len(points) / LEAF)))
    order = np.arange(len(points))
    span, boxes = np.zeros((2 ** (depth + 1), 2), np.int64), np.zeros((2 ** (depth + 1), 6))
    span[1] = 0, len(points)
    for node in range(1, len(span)):
        first, last = span[node]
        inside = points[order[first:last]]
        boxes[node, :3], boxes[node, 3:] = inside.min(0), inside.max(0)
        if node < len(span) // 2:
            middle = (first + last) // 2
            axis = int((boxes[node, 3:] - boxes[node, :3]).argmax())
            order[first:last] = order[first:last][np.argpartition(inside[:, axis], middle - first)]
            span[2 * node], span[2 * node + 1] = (first, middle), (middle, last)
    return points[order], span, boxes


def _rows(points: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "3 v"]:
    """Rows of x, y and z."""
    return np.ascontiguousarray(points.T)
