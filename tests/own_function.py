"""A user's function that draws: triangles and textures in numpy, written from docs/conventions.md and nothing else.

It is named on command lines, imported by workers, and is the ``callable`` backend of the contract suite.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def draw(meshes: list[Any], poses: np.ndarray, camera: Any) -> tuple[np.ndarray, np.ndarray]:
    """Colours [h w 3] and z-depth [h w], infinite where there is nothing."""
    height, width = camera.height_px, camera.width_px
    rgb, depth_m = np.zeros((height, width, 3)), np.full((height, width), np.inf)
    v, u = np.indices((height, width)) + 0.5
    rays = np.einsum("ij,jvu->vui", np.linalg.inv(camera.K_px), np.stack([u, v, np.ones_like(u)]))
    for mesh, T_world_object in zip(meshes, poses, strict=True):
        T = camera.T_camera_world @ T_world_object
        corners_m = mesh.vertices_m[mesh.faces].astype(np.float64) @ T[:3, :3].T + T[:3, 3]
        across = np.cross(corners_m[:, 1] - corners_m[:, 0], corners_m[:, 2] - corners_m[:, 0])
        for face in np.flatnonzero(np.abs((across * corners_m[:, 0]).sum(-1)) > 1e-15):
            rows, columns = pixels_of(corners_m[face], camera)
            if rows.size and columns.size:
                where = np.ix_(rows, columns)
                part = draw_face(mesh, int(face), corners_m[face], T[:3, :3], camera, rays[where])
                nearer = part[1] < depth_m[where]
                rgb[where] = np.where(nearer[..., None], part[0], rgb[where])
                depth_m[where] = np.where(nearer, part[1], depth_m[where])
    return rgb, depth_m


def pixels_of(corners_m: np.ndarray, camera: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns that a face may cover: all of them where it reaches behind the camera."""
    if corners_m[:, 2].max() < camera.near_m:
        return np.zeros(0, int), np.zeros(0, int)
    low, high = np.zeros(2), np.array([camera.width_px, camera.height_px])
    if corners_m[:, 2].min() > 1e-6:
        seen_px = (corners_m @ camera.K_px.T)[:, :2] / corners_m[:, 2:]
        low, high = np.maximum(low, np.floor(seen_px.min(0)) - 1), np.minimum(high, np.ceil(seen_px.max(0)) + 1)
    return np.arange(int(low[1]), int(high[1])), np.arange(int(low[0]), int(high[0]))


def draw_face(
    mesh: Any, face: int, corners_m: np.ndarray, R: np.ndarray, camera: Any, rays: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Colours and depths of one face along rays [v u 3] with z = 1; infinite depth where it is not."""
    # einsum, not BLAS: its threads would cost more than such small products
    weights = np.einsum("vui,ij->vuj", rays, np.linalg.inv(corners_m))
    with np.errstate(divide="ignore", invalid="ignore"):
        z = 1 / weights.sum(-1)
    hit = (weights >= -1e-9).all(-1) & (z >= camera.near_m)
    z = np.where(hit, z, np.inf)
    share = weights * np.where(hit, z, 0)[..., None]
    normals = np.einsum("vui,ij,kj->vuk", share, mesh.corner_normals[face], R)
    if np.linalg.det(corners_m) > 0:
        normals = -normals
    lengths = np.maximum(np.linalg.norm(normals, axis=-1), 1e-12)
    cosine = (normals * to_light(camera, rays * np.where(hit, z, 1)[..., None])).sum(-1) / lengths
    colour = np.einsum("vui,ij->vuj", share, mesh.corner_rgb[face])
    if mesh.texture is not None:
        colour = colour * texels(mesh.texture.rgb, np.einsum("vui,ij->vuj", share, mesh.texture.corner_uv[face]))
    return colour * (camera.ambient + camera.diffuse * cosine.clip(0))[..., None], z


def to_light(camera: Any, points_m: np.ndarray) -> np.ndarray:
    """Unit vectors towards the light in the camera's frame."""
    R, t = camera.T_camera_world[:3, :3], camera.T_camera_world[:3, 3]
    if camera.position_world is None:
        return np.broadcast_to(R @ camera.direction_world, points_m.shape)
    towards = R @ camera.position_world + t - points_m
    return towards / np.linalg.norm(towards, axis=-1, keepdims=True)


def texels(image: np.ndarray, uv: np.ndarray) -> np.ndarray:
    """Bilinear look-up, the image repeated; (0, 0) is its lower left corner."""
    height, width = image.shape[:2]
    x, y = uv[..., 0] * width - 0.5, (1 - uv[..., 1]) * height - 0.5
    x0, y0 = np.floor(x).astype(int), np.floor(y).astype(int)
    fx, fy = (x - x0)[..., None], (y - y0)[..., None]
    above, below = (
        (1 - fx) * image[row % height, x0 % width] + fx * image[row % height, (x0 + 1) % width] for row in (y0, y0 + 1)
    )
    return (1 - fy) * above + fy * below
