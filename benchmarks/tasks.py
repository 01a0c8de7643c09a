"""What the benchmarks draw: scenes of simple closed shapes of equal numbers of triangles, all objects present."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
import trimesh
from jaxtyping import Float
from torch import Tensor

from inverse_graphics.compositing import prefix_images, swap_errors
from inverse_graphics.poses import look_at, upright_pose
from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Camera, Catalogue, Light, Mesh, Objects, View, map_tensors

TRIANGLES = tuple(20 * 4**k for k in range(8))
"""Numbers of triangles that a subdivided icosahedron can have."""

SHAPES = {
    "ball": ((1.0, 1.0, 1.0), (0.8, 0.3, 0.3)),
    "egg": ((0.8, 0.8, 1.4), (0.3, 0.8, 0.3)),
    "stone": ((1.3, 0.7, 0.6), (0.3, 0.3, 0.8)),
    "disc": ((1.2, 1.2, 0.4), (0.8, 0.7, 0.2)),
    "pill": ((0.6, 0.6, 1.1), (0.6, 0.3, 0.7)),
}
"""Scales along x, y, z and colours of the shapes, by name."""

RADIUS_M = 0.05
"""Radius of the ball: about 80 pixels an object at 64 px, as in the table-top scenes."""


@dataclass(frozen=True)
class Task:
    """A batch of scenes to draw and to compare with images."""

    objects: Objects
    """[b n] the objects."""
    view: View
    """[b] views."""
    target_rgb: Float[Tensor, "b h w 3"]
    """Images of the same objects, a little displaced."""

    def first(self, scenes: int) -> Task:
        """The first scenes of it."""
        return map_tensors(lambda tensor: tensor[:scenes], self)

    @cached_property
    def prefix_weights(self) -> Float[Tensor, "b n_plus_1 h w 3"]:
        """A gradient by every prefix image, as a loss would hand it on."""
        count = self.objects.class_ids.shape[-1] + 1
        return self.target_rgb[:, None].expand(-1, count, -1, -1, -1).contiguous()

    def moving(self) -> Objects:
        """The objects with poses that ask for gradients."""
        return replace(self.objects, T_world_object=self.objects.T_world_object.clone().requires_grad_())


def build_catalogue(triangles: int) -> Catalogue:
    """Five closed, smooth shapes of the same number of triangles and vertices, each of one colour.

    Normals of vertices are means of those of their faces, weighted with the faces' areas, as PyTorch3D takes them.

    Raises:
        ValueError: no subdivided icosahedron has that number of triangles.
    """
    if triangles not in TRIANGLES:
        expected = ", ".join(map(str, TRIANGLES))
        raise ValueError(f"triangles: expected one of {expected}; received {triangles}; take the nearest of them")
    sphere = trimesh.creation.icosphere(TRIANGLES.index(triangles), RADIUS_M)
    faces = np.asarray(sphere.faces, np.int32)
    meshes: list[Mesh] = []
    for name, (scale, colour) in SHAPES.items():
        vertices = np.asarray(sphere.vertices) * scale
        vertices[:, 2] -= vertices[:, 2].min()
        corners = vertices[faces]
        areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normals = np.zeros_like(vertices)
        for corner in range(3):
            np.add.at(normals, faces[:, corner], areas)
        normals /= np.linalg.norm(normals, axis=1, keepdims=True)
        rgb = np.tile(np.asarray(colour, np.float32), (triangles, 3, 1))
        meshes.append(Mesh(name, vertices.astype(np.float32), faces, rgb, normals[faces].astype(np.float32), watertight=True))
    return Catalogue(tuple(meshes))


def sample_scenes(scenes: int, objects: int, width_px: int, height_px: int, seed: int) -> tuple[Objects, View]:
    """Upright objects anywhere on a table of 0.4 m, seen from 0.8 m at 45 degrees; they may hide and cut each other."""
    generator = torch.Generator().manual_seed(seed)
    shape = (scenes, objects)
    xy_m = torch.rand(*shape, 2, generator=generator) * 0.4 - 0.2
    yaw_rad = torch.rand(shape, generator=generator) * 2 * math.pi
    class_ids = torch.randint(len(SHAPES), shape, generator=generator)
    posed = Objects(class_ids, upright_pose(xy_m, yaw_rad), torch.ones(shape, dtype=torch.bool))
    T_camera_world = look_at(torch.tensor([0.0, -0.57, 0.57]), torch.zeros(3), torch.tensor([0.0, 0.0, 1.0]))
    focal_px = 1.3 * min(width_px, height_px)
    K_px = torch.tensor([[focal_px, 0.0, width_px / 2], [0.0, focal_px, height_px / 2], [0.0, 0.0, 1.0]])
    direction = torch.nn.functional.normalize(torch.tensor([0.3, -0.5, 0.8]), dim=0)
    camera = Camera(K_px.expand(scenes, 3, 3), T_camera_world.expand(scenes, 4, 4), width_px, height_px)
    light = Light(direction.expand(scenes, 3), torch.full((scenes,), 0.4), torch.full((scenes,), 0.6))
    return posed, View(camera, light, torch.tensor(0.2).expand(scenes, height_px, width_px, 3))


def build_task(renderer: Renderer, objects: Objects, view: View) -> Task:
    """Compare with images of the objects 1 cm to the side."""
    T = objects.T_world_object.clone()
    T[..., 0, 3] += 0.01
    with torch.no_grad():
        return Task(objects, view, renderer.render(replace(objects, T_world_object=T), view).rgb)


def object_size_px(renderer: Renderer, task: Task) -> float:
    """Mean number of pixels that an object covers, drawn alone."""
    with torch.no_grad():
        alpha = renderer.layers(task.objects, task.view, 1).alpha
    return float(alpha.sum() / task.objects.present.sum())


def class_alternatives(objects: Objects, classes: int) -> Objects:
    """Every class in every slot's pose."""
    *batch, slots = objects.class_ids.shape
    return Objects(
        torch.arange(classes, device=objects.class_ids.device).expand(*batch, slots, classes),
        objects.T_world_object[..., None, :, :].expand(*batch, slots, classes, 4, 4),
        objects.present[..., None].expand(*batch, slots, classes),
    )


def draw(renderer: Renderer, task: Task) -> None:
    """Colour, depth, ids and visibility of every scene."""
    with torch.no_grad():
        renderer.render(task.objects, task.view)


def draw_gradient(renderer: Renderer, task: Task) -> None:
    """The images and the gradient of their squared error to every pose."""
    image = renderer.render(task.moving(), task.view).rgb
    torch.nn.functional.mse_loss(image, task.target_rgb, reduction="sum").backward()


def judge(renderer: Renderer, task: Task, alternatives: Objects) -> None:
    """What a training step on the bound asks of its renderer.

    Prefix images, the gradient by every pose of their products with given weights (what turns images into a loss is no renderer's
    work), and the errors of every prefix with each slot's object replaced by each alternative.
    """
    images = prefix_images(renderer, task.moving(), task.view)
    images.backward(task.prefix_weights)
    swap_errors(renderer, task.objects, alternatives, task.view, task.target_rgb)
