"""Open3D's ray caster (Embree): one ray a pixel centre, first hits, no shading.

Poses change in every step, so the scene and its tree are built anew each time.  All scenes of a batch stand in one
``RaycastingScene``, set far apart, so that one call builds and one call casts; rays are made once, before any clock runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from benchmarks.pytorch3d_scene import check_alike
from inverse_graphics.types import Catalogue, Objects, View
from renderers.errors import BackendMissingError

if TYPE_CHECKING:
    from open3d import t
    from open3d.core import Tensor as Open3DTensor

SPACING_M = 4.0
"""Distance between the scenes of a batch along the world's x."""


@dataclass(frozen=True)
class Open3DScenes:
    """A batch of scenes that stand side by side."""

    points_m: Float[Tensor, "bn v 3"]
    """Vertices of every object in its own frame."""
    faces: Open3DTensor
    """[bn * f 3] uint32, vertices of all objects."""
    rays: Open3DTensor
    """[b h w 6] origin and direction; directions have z-depth 1, so that the distance to a hit is its z-depth."""
    shift_m: Float[Tensor, "b 3"]
    """Where each scene's origin stands."""
    objects: int
    """Objects a scene."""
    triangles: int
    """Triangles an object."""
    threads: int
    """Threads that build and cast."""


def prepare(catalogue: Catalogue, objects: Objects, view: View, threads: int) -> Open3DScenes:
    """Set up scenes; every object present, every mesh of one size.

    Raises:
        BackendMissingError: Open3D cannot be imported.
        ValueError: an absent object, or meshes of different sizes.
    """
    try:
        from open3d.core import Tensor as Open3DTensor
    except ImportError as error:
        raise BackendMissingError("open3d", "open3d", "pip install open3d") from error
    check_alike(catalogue, objects)
    batch, slots = objects.class_ids.shape
    ids = objects.class_ids.flatten()
    points_m = torch.from_numpy(np.stack([mesh.vertices_m for mesh in catalogue.meshes]))[ids]
    faces = np.stack([mesh.faces for mesh in catalogue.meshes])[ids.numpy()].astype(np.uint32)
    faces += (np.arange(len(ids), dtype=np.uint32) * points_m.shape[1])[:, None, None]
    shift_m = torch.zeros(batch, 3)
    shift_m[:, 0] = torch.arange(batch) * SPACING_M
    return Open3DScenes(
        points_m=points_m,
        faces=Open3DTensor.from_numpy(np.ascontiguousarray(faces.reshape(-1, 3))),
        rays=Open3DTensor.from_numpy(_rays(view, shift_m).numpy()),
        shift_m=shift_m,
        objects=slots,
        triangles=faces.shape[1],
        threads=threads,
    )


def build(scenes: Open3DScenes, T_world_object: Float[Tensor, "b n 4 4"]) -> t.geometry.RaycastingScene:
    """Pose the meshes and build the tree (Open3D does so at the first query, here of a single point)."""
    from open3d import t
    from open3d.core import Tensor as Open3DTensor

    T = T_world_object.detach().flatten(0, 1)
    shift_m = scenes.shift_m.repeat_interleave(scenes.objects, 0)
    posed = torch.baddbmm((T[:, :3, 3] + shift_m)[:, None], scenes.points_m, T[:, :3, :3].transpose(1, 2))
    scene = t.geometry.RaycastingScene(scenes.threads)
    scene.add_triangles(Open3DTensor.from_numpy(posed.reshape(-1, 3).numpy()), scenes.faces)
    scene.cast_rays(scenes.rays[:1, :1, :1], scenes.threads)
    return scene


def cast(scenes: Open3DScenes, scene: t.geometry.RaycastingScene) -> tuple[Float[Tensor, "b h w"], Int[Tensor, "b h w"]]:
    """Depth (metres, 0 where there is no object) and slots (-1 there) at the pixels' centres."""
    hits = scene.cast_rays(scenes.rays, scenes.threads)
    depth_m = torch.from_numpy(hits["t_hit"].numpy())
    triangle = torch.from_numpy(hits["primitive_ids"].numpy().astype(np.int64))
    instance = triangle // scenes.triangles
    own = instance // scenes.objects == torch.arange(len(depth_m))[:, None, None]
    return torch.where(own, depth_m, 0), torch.where(own, instance % scenes.objects, -1)


def _rays(view: View, shift_m: Float[Tensor, "b 3"]) -> Float[Tensor, "b h w 6"]:
    camera = view.camera
    v, u = torch.meshgrid(torch.arange(camera.height_px) + 0.5, torch.arange(camera.width_px) + 0.5, indexing="ij")
    pixels = torch.stack([u, v, torch.ones_like(u)], -1)
    direction_camera = pixels @ torch.linalg.inv(camera.K_px).transpose(1, 2)[:, None]
    R, t = camera.T_camera_world[:, :3, :3], camera.T_camera_world[:, :3, 3]
    direction_world = direction_camera @ R[:, None]
    origin = -(t[:, None] @ R)[:, 0] + shift_m
    return torch.cat([origin[:, None, None].expand_as(direction_world), direction_world], -1)
