"""Two images with truth, estimates and samples made by hand, for the tests of the viewer."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from scene_runs import script

from assets import load_catalogue
from inverse_graphics.types import Camera, Objects

NAMES = ("box", "mug")


def turned_z(yaw_rad: float, t_m: list[float]) -> np.ndarray:
    """A pose on the table."""
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.asarray([[c, -s, 0, t_m[0]], [s, c, 0, t_m[1]], [0, 0, 1, t_m[2]], [0, 0, 0, 1]])


def objects_of(*present: tuple[int, float, list[float]] | None) -> Objects:
    """Objects by class, yaw and position, with empty slots."""
    filled = [slot or (0, 0.0, [0.0, 0.0, 0.0]) for slot in present]
    return Objects(
        torch.tensor([slot[0] for slot in filled]),
        torch.tensor(np.stack([turned_z(yaw, t) for _, yaw, t in filled])).float(),
        torch.tensor([slot is not None for slot in present]),
    )


def camera_from_above() -> Camera:
    """1 m above the origin, x to the right, the image's up along the world's y; the principal point off the middle."""
    T_camera_world = np.asarray([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 1], [0, 0, 0, 1]])
    K_px = np.asarray([[60.0, 0, 30], [0, 60.0, 26], [0, 0, 1]])
    return Camera(torch.tensor(K_px).float(), torch.tensor(T_camera_world).float(), 64, 48)


def posed_scene() -> Any:
    """An image of a box and a mug, of which the box was found."""
    samples = [
        objects_of((0, 0.4, [0.06, 0.1, 0]), None, None),
        objects_of((0, 0.2, [0.04, 0.1, 0]), (1, 0.0, [-0.1, 0, 0]), None),
    ]
    return script("posed_scenes").PosedScene(
        scene_id=4,
        image_id=7,
        image_srgb=np.arange(48 * 64 * 3, dtype=np.uint32).reshape(48, 64, 3).astype(np.uint8),
        camera=camera_from_above(),
        world_known=True,
        truth=objects_of((0, 0.3, [0.05, 0.1, 0]), None, (1, -1.2, [-0.1, 0, 0])),
        estimates=objects_of((0, 0.3, [0.06, 0.1, 0]), None),
        score=torch.tensor([0.75, 0.1]),
        samples=Objects(
            torch.stack([sample.class_ids for sample in samples]),
            torch.stack([sample.T_world_object for sample in samples]),
            torch.stack([sample.present for sample in samples]),
        ),
    )


def posed_scenes() -> Any:
    """That image, and one whose truth is secret and that has no samples."""
    scene = posed_scene()
    secret = dataclasses.replace(scene, image_id=8, truth=None, samples=None)
    return script("posed_scenes").PosedScenes(load_catalogue("tabletop", NAMES), (scene, secret))
