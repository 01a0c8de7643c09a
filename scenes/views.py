"""Cameras, lights and backgrounds of scenes, drawn from a config's jitter ranges."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt64
from torch import Tensor

from inverse_graphics.poses import look_at
from inverse_graphics.types import Camera, Light, View
from scenes.config import CameraConfig, LightConfig, SceneConfig
from scenes.view_kernels import checker_weights, view_draws

CHECKER_SAMPLES = 4
"""Antialiasing of the chequered table: this squared samples a pixel."""
NUM_DRAWS = 11
"""Random numbers of one view: eye 3, target 3, light 2, colour 3."""


def sample_views(config: SceneConfig, seed: int, indices: UInt64[np.ndarray, "b"]) -> View:
    """Views of a batch of scenes: [b] cameras, lights and backgrounds, float32 on the CPU.

    Args:
        config: the family of scenes.
        seed: 0..2^64 - 1.
        indices: uint64 numbers of the scenes; a view depends on the seed and its own index only.
    """
    draws = np.empty((len(indices), NUM_DRAWS))
    view_draws(np.uint64(seed), indices, draws)
    signed = torch.from_numpy(2.0 * draws - 1.0)
    camera = _cameras(config.camera, config.image_size_px, signed[:, :6])
    light = _lights(config.light, torch.from_numpy(draws[:, 6:8]))
    return View(camera, light, _backgrounds(config, camera, signed[:, 8:11]))


def nominal_view(config: SceneConfig) -> View:
    """The view without jitter, light in the middle of its ranges; no batch dimensions."""
    camera = _cameras(config.camera, config.image_size_px, torch.zeros(1, 6, dtype=torch.float64))
    light = _lights(config.light, torch.full((1, 2), 0.5, dtype=torch.float64))
    background_rgb = _backgrounds(config, camera, torch.zeros(1, 3, dtype=torch.float64))
    return View(
        Camera(camera.K_px[0], camera.T_camera_world[0], camera.width_px, camera.height_px, camera.near_m),
        Light(light.direction_world[0], light.ambient[0], light.diffuse[0]),
        background_rgb[0],
    )


def _cameras(config: CameraConfig, image_size_px: tuple[int, int], signed: Float[Tensor, "b 6"]) -> Camera:
    """Cameras whose eye and target are jittered by numbers in -1..1."""
    width_px, height_px = image_size_px
    focal_px = config.focal_length_px(height_px)
    K_px = torch.tensor([[focal_px, 0.0, width_px / 2], [0.0, focal_px, height_px / 2], [0.0, 0.0, 1.0]])
    eye = signed.new_tensor(config.eye_world_m) + signed[:, :3] * signed.new_tensor(config.eye_jitter_m)
    target = signed.new_tensor(config.target_world_m) + signed[:, 3:] * signed.new_tensor(config.target_jitter_m)
    T_camera_world = look_at(eye, target, signed.new_tensor(config.up_world)).float()
    return Camera(K_px.expand(len(signed), 3, 3), T_camera_world, width_px, height_px)


def _lights(config: LightConfig, unit: Float[Tensor, "b 2"]) -> Light:
    """Lights whose azimuth and elevation lie at these shares of their ranges."""
    ranges = torch.deg2rad(unit.new_tensor([config.azimuth_range_deg, config.elevation_range_deg]))
    azimuth, elevation = (ranges[:, 0] + unit * (ranges[:, 1] - ranges[:, 0])).unbind(-1)
    across = torch.cos(elevation)
    direction = torch.stack([across * torch.cos(azimuth), across * torch.sin(azimuth), torch.sin(elevation)], -1)
    intensity = torch.ones(len(unit))
    return Light(direction.float(), config.ambient * intensity, config.diffuse * intensity)


def _backgrounds(config: SceneConfig, camera: Camera, signed: Float[Tensor, "b 3"]) -> Float[Tensor, "b h w 3"]:
    """Backgrounds whose colours are jittered by numbers in -1..1; an expanded view where they are plain."""
    settings = config.background
    first = (signed.new_tensor(settings.rgb) + settings.jitter * signed).clamp(0, 1).float()[:, None, None]
    if settings.kind == "plain":
        return first.expand(-1, camera.height_px, camera.width_px, 3)
    second = (signed.new_tensor(settings.second_rgb) + settings.jitter * signed).clamp(0, 1).float()[:, None, None]
    still = config.camera.eye_jitter_m == (0.0, 0.0, 0.0) == config.camera.target_jitter_m
    T_camera_world = camera.T_camera_world[:1] if still else camera.T_camera_world
    T_world_camera = np.linalg.inv(T_camera_world.double().numpy())
    weights = np.empty((len(T_world_camera), camera.height_px, camera.width_px, 2), dtype=np.float32)
    focal_px = config.camera.focal_length_px(camera.height_px)
    checker_weights(T_world_camera, focal_px, settings.square_m, CHECKER_SAMPLES, weights)
    odd = torch.from_numpy(weights)[..., :1]
    return torch.lerp(first, second, odd.expand(len(first), -1, -1, 3))
