"""The built-in meshes, and a comparison of coloured surfaces that uses no code of the package."""

from __future__ import annotations

import numpy as np
from scipy.spatial import KDTree

from assets import (
    procedural_catalogue,
)
from inverse_graphics.types import Mesh

MESHES = {mesh.name: mesh for mesh in procedural_catalogue().meshes}


def surface_samples(mesh: Mesh, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Evenly spread points and their colours, from corners alone (no code of the package)."""
    generator = np.random.default_rng(0)
    a, b, c = np.moveaxis(mesh.vertices_m[mesh.faces].astype(np.float64), 1, 0)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=-1)
    face = generator.choice(len(area), count, p=area / area.sum())
    u, v = generator.random((2, count))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    weights = np.stack([1 - u - v, u, v], -1)
    points = (weights[..., None] * mesh.vertices_m[mesh.faces[face]]).sum(1)
    return points, (weights[..., None] * mesh.corner_rgb[face]).sum(1)


def mismatch(mesh: Mesh, T: np.ndarray) -> float:
    """Share of the surface that, once moved by T, has no surface of its colour nearby."""
    points, rgb = surface_samples(mesh, 6000)
    size_m = np.linalg.norm(np.ptp(points, axis=0))
    weight = 0.15 * size_m  # a whole step of one colour channel counts as much as 15% of the size
    tree = KDTree(np.concatenate([points, weight * rgb], 1))
    moved = points[::4] @ T[:3, :3].T + T[:3, 3]
    distance, _ = tree.query(np.concatenate([moved, weight * rgb[::4]], 1))
    return float((distance > 0.045 * size_m).mean())
