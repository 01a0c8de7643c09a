"""Rays and triangles in numpy, without anything of ours: also used by a program that the tests run."""

from __future__ import annotations

import numpy as np


def cast(meshes: list, T_camera_object: np.ndarray, rays: np.ndarray, near_m: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Albedo [m 3], normal [m 3] in the camera's frame and z-depth [m] (+inf for a miss) along rays [3 m] with z = 1."""
    albedo, normal, depth_m = np.zeros((rays.shape[1], 3)), np.zeros((rays.shape[1], 3)), np.full(rays.shape[1], np.inf)
    for mesh, T in zip(meshes, T_camera_object, strict=True):
        corners = mesh.vertices_m[mesh.faces].astype(np.float64) @ T[:3, :3].T + T[:3, 3]
        regular = np.abs(np.linalg.det(corners)) > 1e-14
        for face, triangle in zip(np.flatnonzero(regular), corners[regular], strict=True):
            weights = np.linalg.inv(triangle.T) @ rays
            with np.errstate(divide="ignore", invalid="ignore"):
                z = 1 / weights.sum(0)
            hit = (weights >= -1e-9).all(0) & (z >= near_m) & (z < depth_m)
            depth_m[hit] = z[hit]
            share = (weights[:, hit] * z[hit]).T
            albedo[hit] = share @ mesh.corner_rgb[face]
            n = share @ mesh.corner_normals[face] @ T[:3, :3].T
            away = np.cross(triangle[1] - triangle[0], triangle[2] - triangle[0]) @ triangle[0] > 0
            normal[hit] = n / np.linalg.norm(n, axis=1, keepdims=True) * (-1 if away else 1)
    return albedo, normal, depth_m
