"""What the parts of ``benchmarks/black_box.py`` share: settings, installed backends, schemes, scenes, what is affordable."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import roma
import torch
from jaxtyping import Float
from torch import Tensor

from benchmarks.perturbed import box_middles, sizes
from benchmarks.timing import clock
from inverse_graphics.poses import move
from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Catalogue, Objects, Scene
from renderers import BackendMissingError, load_renderer
from renderers.differences import CountingRenderer, FiniteDifferenceRenderer, Scheme
from scenes import CameraConfig, ScenePrior, load_scene_config

Part = Literal["speed", "schemes", "recovery", "structure"]
Figures = dict[str, float | int | str]
"""What is reported: flat, units in the keys."""

TABLE = Path(__file__).resolve().parent.parent / "scenes" / "tabletop.yaml"
"""Where light, background and direction of sight come from."""
PLANAR = (0, 1, 5)
"""Planar motions among all: along x and y, about z."""


@dataclass(frozen=True)
class Settings:
    """What is measured, and how much of it."""

    json: Path | None = None
    """Where to write the figures."""
    quick: bool = False
    """Whether to shrink every size to what takes about a minute."""
    backends: tuple[str, ...] = ("open3d", "mujoco", "pybullet", "mitsuba", "mitsuba-path", "open3d-offscreen")
    """Black boxes that are measured where they are installed; raster stands beside them."""
    parts: tuple[Part, ...] = ("speed", "schemes", "recovery", "structure")
    """What is measured."""
    cores: int = 2
    """Processor cores that everything runs on."""
    clock: Literal["wall", "processor"] = "wall"
    """``processor`` counts this process's own time, for machines that others use too; sides with workers are left out."""
    workers: int = 2
    """Worker processes of backends that draw one picture at a time; 0 leaves those sides out."""
    size: int = 64
    """Width and height of the images in pixels."""
    objects: int = 3
    """Objects a scene where images and gradients are timed and schemes are compared."""
    samples: int = 2
    """Samples a pixel along each axis where schemes are compared."""
    steps_px: tuple[float, ...] = (1.0, 2.0)
    """Steps that schemes are compared with; everything else takes the first."""
    pairs: tuple[int, ...] = (1, 4, 16)
    """Pairs of draws of spsa and of smoothing."""
    shift: float = 0.1
    """How far objects stand from where they belong, as a share of their size."""
    turn_deg: float = 20.0
    """How far they are turned."""
    scenes: int = 32
    """Scenes whose images and gradients are timed."""
    repeats: int = 3
    """Turns of each side."""
    turn_s: float = 2.0
    """Longest turn: slow sides draw fewer of the scenes."""
    scheme_scenes: int = 60
    """Scenes whose gradients are compared with the reference."""
    scheme_s: float = 10.0
    """Longest comparison of one scheme: slow sides differentiate fewer of the scenes."""
    reference_samples: int = 16
    """Samples a pixel along each axis of the reference."""
    starts: int = 24
    """Scenes of disturbed objects whose poses are recovered."""
    start_objects: int = 2
    """Most objects of each of them."""
    recovery_samples: int = 2
    """Samples a pixel along each axis of what is fitted."""
    target_samples: int = 4
    """Samples a pixel along each axis of the targets."""
    gauss_newton_steps: int = 15
    """Most steps of Gauss-Newton at each width of the blur."""
    adam_steps: int = 20
    """Steps of Adam at each width of the blur."""
    budget_s: float = 6.0
    """About what recovering poses by one scheme may take: slow sides get fewer starts, none where one takes thrice that."""
    structure_objects: tuple[int, ...] = (1, 2, 4, 8)
    """Numbers of separate objects on screen."""
    structure_scenes: int = 4
    """Scenes of them."""
    structure_size: int = 192
    """Width and height of their images in pixels."""
    seed: int = 0
    """Seed of all scenes and starts."""

    def resized(self) -> Settings:
        """These settings, or with ``quick`` what takes about a minute and is no larger."""
        if self.clock == "processor" and self.workers:
            return replace(self, workers=0).resized()
        if not self.quick:
            return self
        most: dict[str, int | float] = {
            "scenes": 4,
            "repeats": 1,
            "turn_s": 0.3,
            "scheme_scenes": 6,
            "scheme_s": 0.5,
            "reference_samples": 8,
            "starts": 4,
            "gauss_newton_steps": 6,
            "adam_steps": 5,
            "budget_s": 1.0,
            "structure_scenes": 1,
        }
        return replace(self, pairs=self.pairs[:2], **{name: min(getattr(self, name), value) for name, value in most.items()})


@dataclass(frozen=True)
class Variant:
    """A scheme of finite differences and, where it has any, its number of pairs."""

    scheme: Scheme
    """Where the renderer is drawn."""
    pairs: int = 1
    """Pairs of draws of ``spsa`` and ``smoothing``."""

    @property
    def key(self) -> str:
        """What it is called in the figures."""
        return self.scheme if self.scheme in ("central", "forward") else f"{self.scheme}_{self.pairs}"

    @property
    def draws(self) -> int:
        """Draws on the way back, along planar tangents."""
        return {"central": 6, "forward": 3}.get(self.scheme, 2 * self.pairs)

    def around(self, renderer: Renderer, step_px: float) -> tuple[FiniteDifferenceRenderer, CountingRenderer]:
        """A renderer with planar gradients by this scheme, and the counter of what it draws."""
        counter = CountingRenderer(renderer)
        return FiniteDifferenceRenderer(counter, "planar", step_px, self.scheme, self.pairs), counter


def variants(pairs: Sequence[int]) -> tuple[Variant, ...]:
    """Every scheme."""
    random: tuple[Scheme, ...] = ("spsa", "smoothing")
    return (Variant("central"), Variant("forward"), *(Variant(scheme, count) for scheme in random for count in pairs))


def key_of(backend: str) -> str:
    """A backend's name in the figures."""
    return backend.replace("-", "_")


def find_backends(names: Iterable[str], catalogue: Catalogue) -> tuple[tuple[str, ...], dict[str, str]]:
    """Backends that can be built here, and why the others cannot.

    Raises:
        ValueError: a backend that there is not, or one that is told nothing here that it needs.
    """
    found: list[str] = []
    missing: dict[str, str] = {}
    for name in names:
        try:
            load_renderer(name, catalogue, 1, "none")
        except (BackendMissingError, RuntimeError) as error:  # RuntimeError: a library of the system is missing or refuses
            missing[name] = str(error)
        else:
            found.append(name)
    return tuple(found), missing


def table_scenes(
    catalogue: Catalogue, scenes: int, counts: tuple[int, int], size_px: int, seed: int, distance_m: float | None = None
) -> Scene:
    """Upright objects that do not touch, on the table of ``TABLE``.

    Args:
        catalogue: what is drawn from.
        scenes: how many.
        counts: least and most objects of a scene.
        size_px: width and height of the images.
        seed: seed of the scenes.
        distance_m: looks at the middle of the table from this distance, and objects stand close to it; as the config says where
            None.
    """
    config = load_scene_config(TABLE)
    objects = replace(config.objects, min_count=counts[0], max_count=counts[1], count_probabilities=None)
    camera = config.camera
    if distance_m is not None:
        half_m = 0.15 * distance_m
        objects = replace(objects, x_range_m=(-half_m, half_m), y_range_m=(-half_m, half_m), keep_inside=False)
        camera = _nearer(camera, distance_m)
    config = replace(config, classes=catalogue.names, image_size_px=(size_px, size_px), objects=objects, camera=camera)
    return ScenePrior(config, catalogue).sample(seed, range(scenes))


def _nearer(camera: CameraConfig, distance_m: float) -> CameraConfig:
    """The same direction of sight to the world's origin, from another distance."""
    x, y, z = (eye - target for eye, target in zip(camera.eye_world_m, camera.target_world_m, strict=True))
    scale = distance_m / math.hypot(x, y, z)
    return replace(camera, eye_world_m=(scale * x, scale * y, scale * z), target_world_m=(0.0, 0.0, 0.0))


def disturb_upright(objects: Objects, catalogue: Catalogue, shift: float, turn_deg: float, generator: torch.Generator) -> Objects:
    """Every object shifted on the table by a share of its size in a random direction, and turned about the upright through its
    middle, one way or the other.
    """  # fmt: skip
    shape = objects.class_ids.shape
    angle_rad = 2 * math.pi * torch.rand(shape, generator=generator)
    across = torch.stack([angle_rad.cos(), angle_rad.sin(), torch.zeros(shape)], -1)
    translation = shift * sizes(catalogue)[objects.class_ids][..., None] * across
    rotvec = torch.zeros(*shape, 3)
    rotvec[..., 2] = math.radians(turn_deg) * (2.0 * torch.randint(2, shape, generator=generator) - 1)
    T = objects.T_world_object
    middle: Float[Tensor, "*b 3"] = (T[..., :3, :3] @ box_middles(catalogue)[objects.class_ids][..., None])[..., 0]
    turned = (roma.rotvec_to_rotmat(rotvec) @ middle[..., None])[..., 0]
    return replace(objects, T_world_object=move(T, torch.cat([translation + middle - turned, rotvec], -1)))


def scene_seconds(job: Callable[[int], object], most: int, limit_s: float) -> float:
    """Seconds a scene of a job: of as many scenes at once as it likely does within a time.

    Args:
        job: does its work for that many scenes.
        most: at most so many.
        limit_s: the time.
    """
    # the fastest of a few: the first makes what is made on first use, and other processes may get in the way
    scenes, fastest_s = 1, min(clock(partial(job, 1)) for _ in range(2))
    while scenes < most and 2 * scenes * fastest_s <= limit_s:
        scenes = min(2 * scenes, most)
        fastest_s = min(fastest_s, clock(partial(job, scenes)) / scenes)
    return fastest_s


def affordable(job: Callable[[int], object], most: int, limit_s: float) -> int:
    """For how many scenes a job likely stays within a time, from 1 to ``most``; arguments as of ``scene_seconds``."""
    return max(1, min(most, int(limit_s / scene_seconds(job, most, limit_s))))
