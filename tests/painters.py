"""Painters for the tests: a ray caster in numpy that shares nothing with our rasteriser, and its faulty relatives.

Worker processes import this file by its name.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
from ray_casting import cast

from inverse_graphics.types import Catalogue
from renderers.painting.shots import Picture, Shot


class RayPainter:
    """Casts a ray through every pixel's centre; remembers what it was asked for."""

    name = "rays"

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.calls: list[list[Shot]] = []

    @property
    def shots(self) -> list[Shot]:
        return [shot for call in self.calls for shot in call]

    def draw(self, shots: list[Shot]) -> list[Picture]:
        self.calls.append(shots)
        return [self.picture(shot) for shot in shots]

    def picture(self, shot: Shot) -> Picture:
        v, u = np.indices((shot.height_px, shot.width_px)) + 0.5
        rays = np.linalg.inv(shot.K_px) @ np.stack([u, v, np.ones_like(u)]).reshape(3, -1)
        meshes = [self.catalogue.meshes[i] for i in shot.class_ids]
        albedo, normal, depth_m = cast(meshes, shot.T_camera_object, rays, shot.near_m)
        hit = np.isfinite(depth_m)
        points = (rays * np.where(hit, depth_m, 0)).T
        to_light = np.broadcast_to(shot.direction_world, points.shape) @ shot.T_camera_world[:3, :3].T
        if shot.position_world is not None:
            to_light = shot.T_camera_world[:3, :3] @ shot.position_world + shot.T_camera_world[:3, 3] - points
            to_light = to_light / np.linalg.norm(to_light, axis=1, keepdims=True)
        lit = shot.ambient + shot.diffuse * (normal * to_light).sum(1).clip(0)
        size = (shot.height_px, shot.width_px)
        rgb, depth_m = (albedo * lit[:, None]).reshape(*size, 3), np.where(hit, depth_m, 0).reshape(size)
        return Picture(rgb.astype(np.float32), depth_m.astype(np.float32))


class FloorPainter(RayPainter):
    """With a grey floor, the plane of height floor_m, as its surroundings."""

    has_surroundings = True

    def __init__(self, catalogue: Catalogue, floor_m: float) -> None:
        super().__init__(catalogue)
        self.floor_m = floor_m

    def picture(self, shot: Shot) -> Picture:
        picture = super().picture(shot)
        if not shot.surroundings:
            return picture
        v, u = np.indices((shot.height_px, shot.width_px)) + 0.5
        rays = np.linalg.inv(shot.K_px) @ np.stack([u, v, np.ones_like(u)]).reshape(3, -1)
        R, t = shot.T_camera_world[:3, :3], shot.T_camera_world[:3, 3]
        floor_m = ((self.floor_m + R.T[2] @ t) / (R.T[2] @ rays)).reshape(u.shape)
        seen = (floor_m > 0) & ((picture.depth_m == 0) | (floor_m < picture.depth_m))
        rgb = np.where(seen[..., None], np.float32(0.4), picture.rgb)
        return Picture(rgb, np.where(seen, floor_m, picture.depth_m).astype(np.float32))


class CarelessPainter(RayPainter):
    """Changes a field of its last picture before it is given back, unseen by the dataclass's own checks."""

    name = "careless"

    def __init__(self, catalogue: Catalogue, field: str, change: Any) -> None:
        super().__init__(catalogue)
        self.field, self.change = field, change

    def draw(self, shots: list[Shot]) -> list[Picture]:
        pictures = super().draw(shots)
        last = dataclasses.replace(pictures[-1])
        object.__setattr__(last, self.field, self.change(getattr(last, self.field)))
        return [*pictures[:-1], last]


class FragilePainter(RayPainter):
    """Comes to grief over the picture whose light has an ambient intensity of ``at``: as often as told.

    ``how`` is "kill", "hang", "stop" or "raise".
    """

    name = "fragile"

    def __init__(self, catalogue: Catalogue, how: str, at: float, log: Path, times: int) -> None:
        super().__init__(catalogue)
        self.how, self.at, self.log, self.times = how, at, log, times

    def picture(self, shot: Shot) -> Picture:
        if abs(shot.ambient - self.at) < 1e-6:
            with self.log.open("a+") as log:
                log.seek(0)
                before = len(log.readlines())
                log.write(f"{os.getpid()}\n")
            if before < self.times:
                self.fail()
        return super().picture(shot)

    def fail(self) -> None:
        if self.how == "raise":
            raise ArithmeticError("the seventh light went out")
        if self.how == "hang":
            time.sleep(600)
        os.kill(os.getpid(), signal.SIGKILL if self.how == "kill" else signal.SIGSTOP)


class SlowPainter(RayPainter):
    """Takes its time over every picture."""

    def __init__(self, catalogue: Catalogue, picture_s: float) -> None:
        super().__init__(catalogue)
        self.picture_s = picture_s

    def picture(self, shot: Shot) -> Picture:
        time.sleep(self.picture_s)
        return super().picture(shot)


class StillbornPainter(RayPainter):
    """Cannot be made: raises, or takes the process with it."""

    def __init__(self, catalogue: Catalogue, how: str) -> None:
        super().__init__(catalogue)
        if how == "missing":
            from renderers.errors import BackendMissingError

            raise BackendMissingError("stillborn", "nonesuch", "pip install nonesuch")
        if how == "raise":
            raise ArithmeticError("no such light")
        os._exit(3)


class EnvironmentPainter(RayPainter):
    """Draws pictures whose depth holds what the process is like: threads of OpenMP, torch and numba."""

    def picture(self, shot: Shot) -> Picture:
        import numba
        import torch

        threads = (int(os.environ["OMP_NUM_THREADS"]), torch.get_num_threads(), numba.get_num_threads(), os.getpid())
        depth_m = np.zeros((shot.height_px, shot.width_px), np.float64)
        depth_m[0, :4] = threads
        return Picture(np.zeros((shot.height_px, shot.width_px, 3), np.float32), depth_m)
