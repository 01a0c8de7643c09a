"""Scenes of table-top objects afloat in front of a camera, near each other and one inside another, and the same disturbed."""

from __future__ import annotations

import math
from dataclasses import replace

import roma
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from inverse_graphics.poses import look_at, move
from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Camera, Catalogue, Light, Objects, Scene, View

DISTANCE_M = 0.55
"""From the camera to the middle of the scene."""
FOCAL_PER_SIZE = 1.5
"""Focal length as a multiple of the image's width."""
SPREAD_M = 0.07
"""Middles of the objects lie in a cube of twice this edge."""


def box_middles(catalogue: Catalogue) -> Float[Tensor, "k 3"]:
    """Middle of each mesh's bounding box, object frame."""
    return torch.stack([torch.as_tensor((m.vertices_m.min(0) + m.vertices_m.max(0)) / 2) for m in catalogue.meshes])


def sizes(catalogue: Catalogue) -> Float[Tensor, "k"]:
    """Diagonal of each mesh's bounding box in metres."""
    return torch.stack([torch.as_tensor(m.vertices_m.max(0) - m.vertices_m.min(0)).norm() for m in catalogue.meshes])


def float_scenes(catalogue: Catalogue, scenes: int, slots: tuple[int, int], size_px: int, generator: torch.Generator) -> Scene:
    """Objects in any orientation around the point that a camera looks at; the light is drawn anew for each scene.

    Args:
        catalogue: what is drawn from.
        scenes: how many.
        slots: least and most objects of a scene.
        size_px: width and height of the images.
        generator: source of the draws.
    """
    most = slots[1]
    counts = torch.randint(slots[0], most + 1, (scenes,), generator=generator)
    class_ids = torch.randint(len(catalogue), (scenes, most), generator=generator)
    T = torch.eye(4).repeat(scenes, most, 1, 1)
    T[..., :3, :3] = roma.random_rotmat((scenes, most), generator=generator)
    middle = (torch.rand(scenes, most, 3, generator=generator) * 2 - 1) * SPREAD_M
    T[..., :3, 3] = middle - (T[..., :3, :3] @ box_middles(catalogue)[class_ids][..., None])[..., 0]
    objects = Objects(class_ids, T, torch.arange(most) < counts[:, None])
    return Scene(objects, _view(scenes, size_px, generator))


def _view(scenes: int, size_px: int, generator: torch.Generator) -> View:
    eye = torch.nn.functional.normalize(torch.randn(scenes, 3, generator=generator), dim=-1) * DISTANCE_M
    up = torch.linalg.cross(eye, torch.randn(scenes, 3, generator=generator))
    focal_px, centre_px = FOCAL_PER_SIZE * size_px, size_px / 2
    K_px = torch.tensor([[focal_px, 0.0, centre_px], [0.0, focal_px, centre_px], [0.0, 0.0, 1.0]])
    camera = Camera(K_px.expand(scenes, 3, 3), look_at(eye, torch.zeros(3), up), size_px, size_px)
    # from the camera's side, or half of the scenes would show nothing but the ambient term
    towards = torch.nn.functional.normalize(eye, dim=-1) + 0.8 * torch.randn(scenes, 3, generator=generator)
    ambient = 0.2 + 0.4 * torch.rand(scenes, generator=generator)
    light = Light(torch.nn.functional.normalize(towards, dim=-1), ambient, 1 - ambient)
    background = torch.rand(scenes, 1, 1, 3, generator=generator).expand(scenes, size_px, size_px, 3)
    return View(camera, light, background)


def disturb(objects: Objects, catalogue: Catalogue, shift: float, turn_deg: float, generator: torch.Generator) -> Objects:
    """Every object shifted by a share of its size and turned about its middle, both in random directions."""
    shape = objects.class_ids.shape
    normalize = torch.nn.functional.normalize
    shift_m = shift * sizes(catalogue)[objects.class_ids]
    translation = normalize(torch.randn(*shape, 3, generator=generator), dim=-1) * shift_m[..., None]
    rotvec = normalize(torch.randn(*shape, 3, generator=generator), dim=-1) * math.radians(turn_deg)
    T = objects.T_world_object
    middle = (T[..., :3, :3] @ box_middles(catalogue)[objects.class_ids][..., None])[..., 0]
    turned = (roma.rotvec_to_rotmat(rotvec) @ middle[..., None])[..., 0]
    return replace(objects, T_world_object=move(T, torch.cat([translation + middle - turned, rotvec], -1)))


def meetings(renderer: Renderer, scene: Scene) -> tuple[Bool[Tensor, "b"], Bool[Tensor, "b"]]:
    """Where one object hides part of another, and where surfaces of two objects cross in plain sight.

    Surfaces cross where two objects cover both of two neighbouring samples, one is nearer in the first, the other in the
    second, and nothing else is in front of either.
    """
    depth_m = renderer.layers(scene.objects, scene.view, samples_per_axis=4).depth_m
    hidden = (torch.isfinite(depth_m).sum(1) > 1).flatten(1).any(-1)
    return hidden, _cross(depth_m) | _cross(depth_m.transpose(-1, -2))


def _cross(depth_m: Float[Tensor, "b n hs ws"]) -> Bool[Tensor, "b"]:
    """Crossings between horizontal neighbours."""
    left, right = depth_m[..., :-1], depth_m[..., 1:]
    first, second = left.argmin(1, keepdim=True), right.argmin(1, keepdim=True)
    across = torch.cat([left.gather(1, second), right.gather(1, first)], 1)
    return ((first != second)[:, 0] & torch.isfinite(across).all(1)).flatten(1).any(-1)
