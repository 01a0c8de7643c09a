"""A renderer such as a user may bring: Open3D's ray caster, shaded by hand, in one Python function.

python experiments/scenes3d.py --renderer callable --function experiments/user_renderer.py:draw --workers 2
"""

from __future__ import annotations

import numpy as np
import open3d as o3d


def draw(meshes, poses, camera):
    """Colours [h w 3] and z-depth [h w] of posed meshes; see docs/extending.md."""
    scene = o3d.t.geometry.RaycastingScene(nthreads=1)
    for mesh, T_world_object in zip(meshes, poses, strict=True):
        vertices_m = (mesh.vertices_m @ T_world_object[:3, :3].T + T_world_object[:3, 3]).astype(np.float32)
        scene.add_triangles(vertices_m, mesh.faces.astype(np.uint32))

    T_world_camera = np.linalg.inv(camera.T_camera_world)
    v, u = np.indices((camera.height_px, camera.width_px)) + 0.5
    # z = 1 in the camera's frame, so that the length along a ray is its z-depth
    directions = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(camera.K_px).T @ T_world_camera[:3, :3].T
    origins = np.broadcast_to(T_world_camera[:3, 3], directions.shape)
    rays = np.concatenate([origins, directions], -1).astype(np.float32)
    hits = scene.cast_rays(o3d.core.Tensor.from_numpy(rays), nthreads=1)

    depth_m = hits["t_hit"].numpy()
    face, owner, uv = hits["primitive_ids"].numpy(), hits["geometry_ids"].numpy(), hits["primitive_uvs"].numpy()
    rgb = np.zeros((*depth_m.shape, 3), np.float32)
    for k, (mesh, T_world_object) in enumerate(zip(meshes, poses, strict=True)):
        mine = np.isfinite(depth_m) & (owner == k)
        weights = np.concatenate([1 - uv[mine].sum(-1, keepdims=True), uv[mine]], -1)[:, :, None]
        albedo = (weights * mesh.corner_rgb[face[mine]]).sum(1)
        normals = (weights * mesh.corner_normals[face[mine]]).sum(1) @ T_world_object[:3, :3].T
        cosine = normals @ camera.direction_world / np.linalg.norm(normals, axis=-1)
        rgb[mine] = albedo * (camera.ambient + camera.diffuse * cosine.clip(0))[:, None]
    return rgb, depth_m
