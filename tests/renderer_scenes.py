"""Small meshes, views and objects for the renderer tests.  The camera's frame is the world's unless a test says otherwise."""

from __future__ import annotations

import numpy as np
import torch
import trimesh
from torch import Tensor

from inverse_graphics.types import Camera, Catalogue, Light, Mesh, Objects, View


def mesh_of(name: str, vertices: np.ndarray, faces: np.ndarray, rgb: tuple[float, float, float], smooth: bool = False) -> Mesh:
    shape = trimesh.Trimesh(vertices, faces, process=False)
    normals = shape.vertex_normals[shape.faces] if smooth else np.repeat(shape.face_normals[:, None], 3, 1)
    return Mesh(
        name=name,
        vertices_m=np.asarray(shape.vertices, np.float32),
        faces=np.asarray(shape.faces, np.int32),
        corner_rgb=np.tile(np.asarray(rgb, np.float32), (len(shape.faces), 3, 1)),
        corner_normals=np.asarray(normals, np.float32),
        watertight=bool(shape.is_watertight),
    )


def box(size_m: tuple[float, float, float] = (0.1, 0.06, 0.08), rgb: tuple[float, float, float] = (0.8, 0.4, 0.2)) -> Mesh:
    shape = trimesh.creation.box(size_m)
    return mesh_of("box", shape.vertices, shape.faces, rgb)


def ball(radius_m: float = 0.05, subdivisions: int = 3, rgb: tuple[float, float, float] = (0.3, 0.5, 0.9)) -> Mesh:
    shape = trimesh.creation.icosphere(subdivisions, radius_m)
    return mesh_of("ball", shape.vertices, shape.faces, rgb, smooth=True)


def quad(corners_m: list[list[float]], rgb: tuple[float, float, float] = (0.5, 0.6, 0.7), name: str = "quad") -> Mesh:
    """Two triangles; the corners run counter-clockwise seen from the front."""
    return mesh_of(name, np.asarray(corners_m, np.float32), np.array([[0, 1, 2], [0, 2, 3]]), rgb)


def square(half_m: float, name: str = "square") -> Mesh:
    """In the plane z = 0, its front towards -z: towards a camera that looks along +z from below."""
    a = half_m
    return quad([[-a, -a, 0], [-a, a, 0], [a, a, 0], [a, -a, 0]], name=name)


def camera_view(
    width_px: int,
    height_px: int,
    focal_px: float,
    batch: tuple[int, ...] = (),
    near_m: float = 0.01,
    light: tuple[float, float, float] = (0.0, 0.0, -1.0),
    background: float = 0.1,
    T_camera_world: Tensor | None = None,
) -> View:
    """A camera at the world's origin looking along +z, its principal point in the middle of the image."""
    K_px = torch.tensor([[focal_px, 0.0, width_px / 2], [0.0, focal_px, height_px / 2], [0.0, 0.0, 1.0]])
    T = torch.eye(4) if T_camera_world is None else T_camera_world
    direction = torch.nn.functional.normalize(torch.tensor(light), dim=0)
    return View(
        camera=Camera(K_px.expand(*batch, 3, 3), T.expand(*batch, 4, 4), width_px, height_px, near_m),
        light=Light(direction.expand(*batch, 3), torch.full(batch, 0.3), torch.full(batch, 0.7)),
        background_rgb=torch.full((*batch, height_px, width_px, 3), background),
    )


def posed(class_ids: list[int], positions_m: list[list[float]], rotvecs_rad: list[list[float]] | None = None) -> Objects:
    """Objects of one scene, all present."""
    T = torch.eye(4).repeat(len(class_ids), 1, 1)
    T[:, :3, 3] = torch.tensor(positions_m)
    if rotvecs_rad is not None:
        for k, rotvec in enumerate(rotvecs_rad):
            w = torch.tensor(rotvec)
            hat = torch.tensor([[0, -w[2], w[1]], [w[2], 0, -w[0]], [-w[1], w[0], 0]])
            T[k, :3, :3] = torch.linalg.matrix_exp(hat)
    return Objects(torch.tensor(class_ids), T, torch.ones(len(class_ids), dtype=torch.bool))


def table_scene(scenes: int, slots: int, size_px: int, classes: int, seed: int = 0) -> tuple[Objects, View]:
    """Upright objects on a table seen from above at an angle, in [scenes] batches; some slots are empty."""
    generator = torch.Generator().manual_seed(seed)
    eye = torch.tensor([0.0, -0.5, 0.5])
    forward = -eye / eye.norm()
    right = torch.tensor([1.0, 0.0, 0.0])
    R = torch.stack([right, torch.linalg.cross(forward, right), forward])
    T_camera_world = torch.eye(4)
    T_camera_world[:3, :3], T_camera_world[:3, 3] = R, -R @ eye
    view = camera_view(size_px, size_px, 1.6 * size_px, (scenes,), light=(0.3, -0.4, 0.9), T_camera_world=T_camera_world)
    T = torch.eye(4).repeat(scenes, slots, 1, 1)
    T[..., :2, 3] = torch.rand(scenes, slots, 2, generator=generator) * 0.3 - 0.15
    yaw_rad = torch.rand(scenes, slots, generator=generator) * 6.28
    T[..., 0, 0], T[..., 0, 1] = yaw_rad.cos(), -yaw_rad.sin()
    T[..., 1, 0], T[..., 1, 1] = yaw_rad.sin(), yaw_rad.cos()
    class_ids = torch.randint(classes, (scenes, slots), generator=generator)
    present = torch.rand(scenes, slots, generator=generator) < 0.8
    return Objects(class_ids, T, present), view


def alternatives_of(objects: Objects, classes: int = 3) -> Objects:
    """Every class in the slot's pose, then the slot's class elsewhere, then nothing."""
    *batch, slots = objects.class_ids.shape
    every = torch.arange(classes, device=objects.class_ids.device).expand(*batch, slots, classes)
    class_ids = torch.cat([every, objects.class_ids[..., None].expand(*batch, slots, 2)], -1)
    T = objects.T_world_object[..., None, :, :].repeat(*[1] * (len(batch) + 1), class_ids.shape[-1], 1, 1)
    T[..., -2, :2, 3] += 0.03
    present = torch.ones_like(class_ids, dtype=torch.bool)
    present[..., -1] = False
    return Objects(class_ids, T, present)


def catalogue_of(*meshes: Mesh) -> Catalogue:
    return Catalogue(tuple(meshes))
