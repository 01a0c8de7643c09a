"""Shading normals: one a face, or smooth across edges that are not sharp."""

from __future__ import annotations

import numpy as np
import scipy.sparse
from jaxtyping import Float, Int
from scipy.sparse.csgraph import connected_components

CREASE_RAD = np.deg2rad(50.0)
"""Faces that meet at a larger angle keep a visible edge."""


def face_normals(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, "f 3"]:
    """Unit normals of the faces; 0 for faces without area."""
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    return unit(np.cross(b - a, c - a))


def unit(vectors: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    """Scale vectors to length 1; 0 stays 0."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)


def corner_normals(
    vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"], crease_rad: float = CREASE_RAD
) -> Float[np.ndarray, "f 3 3"]:
    """Unit normals at the corners of the faces.

    Round a vertex, faces that are joined by edges flatter than the crease share one normal: the mean of theirs, weighted by their
    angles at the vertex.

    Args:
        vertices: positions; neighbouring faces must share vertices.
        faces: vertex indices, counter-clockwise seen from outside.
        crease_rad: 0 gives flat shading.
    """
    normals = face_normals(vertices, faces)
    group = _smooth_groups(faces, normals, crease_rad)
    weighted = (corner_angles(vertices, faces)[..., None] * normals[:, None]).reshape(-1, 3)
    total = np.stack([np.bincount(group, weighted[:, axis]) for axis in range(3)], -1)
    return unit(total)[group].reshape(-1, 3, 3)


def corner_angles(vertices: Float[np.ndarray, "v 3"], faces: Int[np.ndarray, "f 3"]) -> Float[np.ndarray, "f 3"]:
    """Inner angle at each corner of each face, in radians."""
    corners = vertices[faces]
    ahead, back = np.roll(corners, -1, 1) - corners, np.roll(corners, 1, 1) - corners
    return np.arctan2(np.linalg.norm(np.cross(ahead, back), axis=-1), (ahead * back).sum(-1))


def _smooth_groups(
    faces: Int[np.ndarray, "f 3"], normals: Float[np.ndarray, "f 3"], crease_rad: float
) -> Int[np.ndarray, "corners"]:
    """Label corners (3 a face) that share a normal."""
    corner = np.arange(3 * len(faces)).reshape(-1, 3)
    ahead = np.roll(faces, -1, 1)
    swap = (faces > ahead).reshape(-1)
    edge = np.sort(np.stack([faces, ahead], -1).reshape(-1, 2), 1)
    ends = np.stack([corner, np.roll(corner, -1, 1)], -1).reshape(-1, 2)
    ends = np.where(swap[:, None], ends[:, ::-1], ends)
    order = np.lexsort((edge[:, 1], edge[:, 0]))
    same = (edge[order][1:] == edge[order][:-1]).all(1)
    first, second = ends[order][:-1][same], ends[order][1:][same]
    cosine = (normals[first[:, 0] // 3] * normals[second[:, 0] // 3]).sum(-1)
    flat = cosine > np.cos(crease_rad)
    a, b = first[flat].reshape(-1), second[flat].reshape(-1)
    graph = scipy.sparse.coo_matrix((np.ones(len(a)), (a, b)), shape=(3 * len(faces),) * 2)
    return connected_components(graph, directed=False)[1]
