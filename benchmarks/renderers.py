"""Renderers side by side in one run: images of a batch, and what a training step asks of a renderer.

    python benchmarks/renderers.py --json renderers.json

Both backends draw the same scenes in turn, so that whatever else the machine does falls on both.  Times are medians over the
repeats after a warm-up of one scene; ratios are throughputs, ``raster_over_x`` = seconds of x / seconds of raster.  PyTorch3D
draws hard layers, differenced by ``FiniteDifferenceRenderer`` where a gradient is wanted, and merges them through
``compositing``; raster has passes of its own (``StackRenderer``).  Of simple shapes, all present:

- ``forward``: colour, depth, ids and visibility of every scene;
- ``bound``: the images of all prefixes, their gradient to every pose, and the errors of all prefixes with each object replaced by
  each class;
- ``gradient`` (with ``--soft``): the image and its gradient to every pose, PyTorch3D in its soft mode.

Of the default experiment's own scenes (``--scene``), as its training asks for them:

- ``training_step_sleep``: generate a batch, scenes redrawn until every object is seen;
- ``training_step_bound``: prefixes, their gradient, and the errors with each slot's class and yaw bin replaced.
"""

from __future__ import annotations

import json
import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
import trimesh
import tyro
from torch import Tensor

# python put benchmarks/ first, where this file would be taken for the package of the same name
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from assets import load_catalogue
from inverse_graphics.compositing import prefix_images, swap_errors
from inverse_graphics.guides import GuideSizes
from inverse_graphics.poses import look_at, upright_pose
from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Camera, Catalogue, Light, Mesh, Objects, View, map_tensors
from renderers import FiniteDifferenceRenderer, RasterRenderer
from renderers.pytorch3d import PyTorch3DRenderer
from scenes import ScenePrior, generate, load_scene_config


@dataclass(frozen=True)
class Settings:
    """What is drawn, and how often."""

    json: Path | None = None
    """Where to write the figures."""
    scenes: int = 64
    """Scenes in a batch."""
    size: int = 64
    """Width and height of the images in pixels."""
    objects: int = 3
    """Objects a scene, all present."""
    triangles: int = 320
    """Triangles of each mesh: 20, 80, 320, 1280 or 5120."""
    samples: int = 2
    """Antialiasing: samples a pixel along each axis."""
    repeats: int = 5
    """Timed runs of each forward pass."""
    bound_repeats: int = 1
    """Timed runs of each bound; 0 leaves it out."""
    scene: Path = Path(__file__).resolve().parent.parent / "scenes" / "tabletop.yaml"
    """Scene config of the training step."""
    yaw_bins: int = GuideSizes().yaw_bins
    """Yaw bins whose alternatives a training step on the bound compares; the guide's default."""
    step_repeats: int = 1
    """Timed runs of each part of a training step; 0 leaves it out."""
    soft: bool = False
    """Whether to time PyTorch3D's soft mode too (bound_repeats times)."""
    seed: int = 0
    """Seed of the scenes."""


@dataclass(frozen=True)
class Task:
    """A batch of scenes to draw and compare."""

    objects: Objects
    """[b n] the stack."""
    alternatives: Objects
    """[b n a] what may stand in each slot instead."""
    view: View
    """[b] views."""
    target_rgb: Tensor
    """[b h w 3] images to compare with."""

    def first(self, scenes: int) -> Task:
        """The first scenes of it."""
        return map_tensors(lambda tensor: tensor[:scenes], self)


Job = Callable[[int], None]
"""Does its work for that many scenes."""


def main(settings: Settings) -> None:
    """Measure, print a table, write the figures.

    Raises:
        ValueError: a number of triangles that no subdivided icosahedron has.
    """
    seconds = race_shapes(settings)
    if settings.step_repeats:
        seconds |= race_training_step(settings)
    report(settings, seconds)


def race_shapes(settings: Settings) -> dict[str, dict[str, float]]:
    """Seconds of each part and backend, of simple shapes."""
    catalogue = build_catalogue(settings.triangles)
    objects, view = sample_scenes(settings)
    raster, hard = RasterRenderer(catalogue, settings.samples), PyTorch3DRenderer(catalogue, settings.samples)
    stepped = FiniteDifferenceRenderer(hard)
    task = Task(objects, class_alternatives(objects, len(catalogue)), view, raster.render(objects, view).rgb.detach().roll(1, 0))
    forward = {"raster": forward_job(raster, task), "pytorch3d_hard": forward_job(hard, task)}
    seconds = {"forward": race(forward, settings.scenes, settings.repeats)}
    if settings.bound_repeats:
        bound = {"raster": bound_job(raster, task), "pytorch3d_hard": bound_job(stepped, task)}
        seconds["bound"] = race(bound, settings.scenes, settings.bound_repeats)
    if settings.soft and settings.bound_repeats:
        soft = PyTorch3DRenderer(catalogue, settings.samples, mode="soft")
        gradient = {"raster": gradient_job(raster, task), "pytorch3d_soft": gradient_job(soft, task)}
        seconds["gradient"] = race(gradient, settings.scenes, settings.bound_repeats)
    return seconds


def race_training_step(settings: Settings) -> dict[str, dict[str, float]]:
    """Seconds that a training step on a scene config's scenes spends in each backend."""
    config = load_scene_config(settings.scene)
    catalogue = load_catalogue(config.catalogue, config.classes)
    prior = ScenePrior(config, catalogue)
    raster, hard = RasterRenderer(catalogue, config.samples_per_axis), PyTorch3DRenderer(catalogue, config.samples_per_axis)
    stepped = FiniteDifferenceRenderer(hard)
    batch = generate(prior, raster, settings.seed, range(settings.scenes))
    truth = batch.scene.objects
    # the bound draws every slot, present or not, away from the truth
    T = truth.T_world_object.clone()
    T[..., :2, 3] += 0.01
    objects = Objects(truth.class_ids, T, torch.ones_like(truth.present))
    others = step_alternatives(objects, len(catalogue), settings.yaw_bins)
    task = Task(objects, others, batch.scene.view, batch.image.rgb.detach())
    sleep = {"raster": sleep_job(prior, raster, settings.seed), "pytorch3d_hard": sleep_job(prior, hard, settings.seed)}
    bound = {"raster": bound_job(raster, task), "pytorch3d_hard": bound_job(stepped, task)}
    return {
        "training_step_sleep": race(sleep, settings.scenes, settings.step_repeats),
        "training_step_bound": race(bound, settings.scenes, settings.step_repeats),
    }


def race(jobs: dict[str, Job], scenes: int, repeats: int) -> dict[str, float]:
    """Median seconds of each job, run in turn; one scene comes first, so that nothing is compiled while the clock runs."""
    for job in jobs.values():
        job(1)
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            start = time.perf_counter()
            job(scenes)
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def forward_job(renderer: Renderer, task: Task) -> Job:
    """Render without gradients."""

    def job(scenes: int) -> None:
        some = task.first(scenes)
        with torch.no_grad():
            renderer.render(some.objects, some.view)

    return job


def sleep_job(prior: ScenePrior, renderer: Renderer, seed: int) -> Job:
    """Generate a training batch."""

    def job(scenes: int) -> None:
        with torch.no_grad():
            generate(prior, renderer, seed, range(scenes))

    return job


def class_alternatives(objects: Objects, classes: int) -> Objects:
    """Every class in every slot's pose."""
    *batch, slots = objects.class_ids.shape
    return Objects(
        torch.arange(classes).expand(*batch, slots, classes),
        objects.T_world_object[..., None, :, :].expand(*batch, slots, classes, 4, 4),
        objects.present[..., None].expand(*batch, slots, classes),
    )


def step_alternatives(objects: Objects, classes: int, yaw_bins: int) -> Objects:
    """Every class in every slot's pose, then every slot's class at each yaw bin."""
    every = class_alternatives(objects, classes)
    turn = upright_pose(torch.zeros(yaw_bins, 2), torch.arange(yaw_bins) * (2 * math.pi / yaw_bins))
    shape = (*objects.class_ids.shape, yaw_bins)
    return Objects(
        torch.cat([every.class_ids, objects.class_ids[..., None].expand(shape)], -1),
        torch.cat([every.T_world_object, objects.T_world_object[..., None, :, :] @ turn], -3),
        torch.cat([every.present, objects.present[..., None].expand(shape)], -1),
    )


def bound_job(renderer: Renderer, task: Task) -> Job:
    """Prefix images, the gradient of their errors to the poses, and the errors of all alternatives."""

    def job(scenes: int) -> None:
        some = task.first(scenes)
        objects = replace(some.objects, T_world_object=some.objects.T_world_object.clone().requires_grad_())
        images = prefix_images(renderer, objects, some.view)
        (images - some.target_rgb[..., None, :, :, :]).square().sum().backward()
        swap_errors(renderer, some.objects, some.alternatives, some.view, some.target_rgb)

    return job


def gradient_job(renderer: Renderer, task: Task) -> Job:
    """The image and the gradient of its error to the poses."""

    def job(scenes: int) -> None:
        some = task.first(scenes)
        objects = replace(some.objects, T_world_object=some.objects.T_world_object.clone().requires_grad_())
        (renderer.render(objects, some.view).rgb - some.target_rgb).square().sum().backward()

    return job


def report(settings: Settings, seconds: dict[str, dict[str, float]]) -> None:
    """Print the table and write the JSON file: flat, with units in the keys."""
    figures: dict[str, float | int] = {}
    print(f"{'part':<20} {'backend':<16} {'seconds':>10} {'scenes/s':>10} {'raster is faster by':>20}")
    for part, times in seconds.items():
        for name, value in times.items():
            ratio = value / times["raster"]
            figures[f"{name}_{part}_s"] = value
            figures[f"{name}_{part}_scenes_per_s"] = settings.scenes / value
            if name != "raster":
                figures[f"raster_over_{name}_{part}"] = ratio
            print(f"{part:<20} {name:<16} {value:>10.4f} {settings.scenes / value:>10.1f} {ratio:>19.1f}x")
    if settings.json is not None:
        setup = {key: value for key, value in asdict(settings).items() if key not in ("json", "size", "scene")}
        setup |= {"scene": settings.scene.name}
        versions = {"torch_version": torch.__version__, "torch_threads": torch.get_num_threads()}
        settings.json.write_text(json.dumps({**figures, **setup, "size_px": settings.size, **versions}, indent=2) + "\n")


def build_catalogue(triangles: int) -> Catalogue:
    """Three closed shapes of the same number of triangles.

    Raises:
        ValueError: not 20 * 4^k.
    """
    subdivisions = round(math.log(max(triangles, 1) / 20, 4))
    if subdivisions < 0 or 20 * 4**subdivisions != triangles:
        raise ValueError(f"triangles: expected 20, 80, 320, 1280 or 5120, received {triangles}; take the nearest of them")
    shapes = {"ball": ((1.0, 1.0, 1.0), True), "egg": ((0.8, 0.8, 1.4), True), "stone": ((1.3, 0.7, 0.6), False)}
    meshes: list[Mesh] = []
    for i, (name, (scale, smooth)) in enumerate(shapes.items()):
        shape = trimesh.creation.icosphere(subdivisions, 0.05)
        shape.apply_scale(scale)
        shape.apply_translation([0, 0, -shape.bounds[0, 2]])
        normals = shape.vertex_normals[shape.faces] if smooth else np.repeat(shape.face_normals[:, None], 3, 1)
        rgb = np.full((triangles, 3, 3), 0.3, np.float32)
        rgb[..., i] = 0.8
        vertices, faces = shape.vertices.astype(np.float32), shape.faces.astype(np.int32)
        meshes.append(Mesh(name, vertices, faces, rgb, normals.astype(np.float32), watertight=True))
    return Catalogue(tuple(meshes))


def sample_scenes(settings: Settings) -> tuple[Objects, View]:
    """Upright objects on a table of 0.4 m, seen from 0.8 m at 45 degrees."""
    generator = torch.Generator().manual_seed(settings.seed)
    shape = (settings.scenes, settings.objects)
    xy_m = torch.rand(*shape, 2, generator=generator) * 0.4 - 0.2
    yaw_rad = torch.rand(shape, generator=generator) * 2 * math.pi
    class_ids = torch.randint(3, shape, generator=generator)
    objects = Objects(class_ids, upright_pose(xy_m, yaw_rad), torch.ones(shape, dtype=torch.bool))
    n, size = settings.scenes, settings.size
    T_camera_world = look_at(torch.tensor([0.0, -0.57, 0.57]), torch.zeros(3), torch.tensor([0.0, 0.0, 1.0]))
    focal_px, centre_px = 1.3 * size, size / 2
    K_px = torch.tensor([[focal_px, 0.0, centre_px], [0.0, focal_px, centre_px], [0.0, 0.0, 1.0]])
    direction = torch.nn.functional.normalize(torch.tensor([0.3, -0.5, 0.8]), dim=0).expand(n, 3)
    light = Light(direction, torch.full((n,), 0.4), torch.full((n,), 0.6))
    camera = Camera(K_px.expand(n, 3, 3), T_camera_world.expand(n, 4, 4), size, size)
    return objects, View(camera, light, torch.full((n, size, size, 3), 0.2))


if __name__ == "__main__":
    main(tyro.cli(Settings))
