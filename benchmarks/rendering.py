"""Renderers side by side in one run: images of a batch, and what one training step asks of a renderer.

    python benchmarks/rendering.py --json rendering.json

Both backends draw the same scenes in turn, so that whatever else the machine does falls on both.  Times are medians over the
repeats after one warm-up; ratios are throughputs, ``raster_over_x`` = seconds of x / seconds of raster.  The parts of a step are

- ``forward``: colour, depth, ids and visibility of every scene; what training on simulated scenes asks for;
- ``bound``: the images of all prefixes, their gradient to every pose, and the errors of all prefixes with each object replaced by
  each class; what the exact bound over the count asks for.  Raster does it in passes of its own (``StackRenderer``), PyTorch3D
  through its hard layers, ``FiniteDifferenceRenderer`` and ``compositing``;
- ``gradient`` (with ``--soft``): the image and its gradient to every pose, PyTorch3D in its soft mode.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import trimesh
import tyro
from torch import Tensor

from inverse_graphics.compositing import prefix_images, swap_errors
from inverse_graphics.poses import look_at, upright_pose
from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Camera, Catalogue, Light, Mesh, Objects, View
from renderers import FiniteDifferenceRenderer, RasterRenderer
from renderers.pytorch3d import PyTorch3DRenderer


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
    soft: bool = False
    """Whether to time PyTorch3D's soft mode too (bound_repeats times)."""
    seed: int = 0
    """Seed of the scenes."""


def main(settings: Settings) -> None:
    """Measure, print a table, write the figures.

    Raises:
        ValueError: a number of triangles that no subdivided icosahedron has.
    """
    catalogue = build_catalogue(settings.triangles)
    objects, view = sample_scenes(settings)
    raster, hard = RasterRenderer(catalogue, settings.samples), PyTorch3DRenderer(catalogue, settings.samples)
    backends: dict[str, tuple[Renderer, Renderer]] = {
        "raster": (raster, raster),
        "pytorch3d_hard": (hard, FiniteDifferenceRenderer(hard)),
    }
    target_rgb = raster.render(objects, view).rgb.detach().roll(1, 0)
    jobs = {name: forward_job(plain, objects, view) for name, (plain, _) in backends.items()}
    seconds = {"forward": race(jobs, settings.repeats)}
    if settings.bound_repeats:
        jobs = {name: bound_job(wrapped, objects, view, target_rgb) for name, (_, wrapped) in backends.items()}
        seconds["bound"] = race(jobs, settings.bound_repeats)
    if settings.soft and settings.bound_repeats:
        soft = PyTorch3DRenderer(catalogue, settings.samples, mode="soft")
        jobs = {"raster": gradient_job(raster, objects, view, target_rgb)}
        jobs["pytorch3d_soft"] = gradient_job(soft, objects, view, target_rgb)
        seconds["gradient"] = race(jobs, settings.bound_repeats)
    report(settings, seconds)


def race(jobs: dict[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Median seconds of each job, run in turn after a warm-up."""
    for job in jobs.values():
        job()
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def forward_job(renderer: Renderer, objects: Objects, view: View) -> Callable[[], None]:
    """Render the batch without gradients."""

    def job() -> None:
        with torch.no_grad():
            renderer.render(objects, view)

    return job


def bound_job(renderer: Renderer, objects: Objects, view: View, target_rgb: Tensor) -> Callable[[], None]:
    """Prefix images, the gradient of their errors to the poses, and the errors of all class alternatives."""
    classes = len(renderer.catalogue)
    *batch, slots = objects.class_ids.shape
    alternatives = Objects(
        torch.arange(classes).expand(*batch, slots, classes),
        objects.T_world_object[..., None, :, :].expand(*batch, slots, classes, 4, 4),
        objects.present[..., None].expand(*batch, slots, classes),
    )

    def job() -> None:
        T = objects.T_world_object.clone().requires_grad_()
        images = prefix_images(renderer, Objects(objects.class_ids, T, objects.present), view)
        (images - target_rgb[..., None, :, :, :]).square().sum().backward()
        swap_errors(renderer, objects, alternatives, view, target_rgb)

    return job


def gradient_job(renderer: Renderer, objects: Objects, view: View, target_rgb: Tensor) -> Callable[[], None]:
    """The image and the gradient of its error to the poses."""

    def job() -> None:
        T = objects.T_world_object.clone().requires_grad_()
        image = renderer.render(Objects(objects.class_ids, T, objects.present), view)
        (image.rgb - target_rgb).square().sum().backward()

    return job


def report(settings: Settings, seconds: dict[str, dict[str, float]]) -> None:
    """Print the table and write the JSON file: flat, with units in the keys."""
    figures: dict[str, float | int] = {}
    print(f"{'part':<14} {'backend':<16} {'seconds':>10} {'scenes/s':>10} {'raster is faster by':>20}")
    for part, times in seconds.items():
        for name, value in times.items():
            ratio = value / times["raster"]
            figures[f"{name}_{part}_s"] = value
            figures[f"{name}_{part}_scenes_per_s"] = settings.scenes / value
            if name != "raster":
                figures[f"raster_over_{name}_{part}"] = ratio
            print(f"{part:<14} {name:<16} {value:>10.4f} {settings.scenes / value:>10.1f} {ratio:>19.1f}x")
    if settings.json is not None:
        setup = {key: value for key, value in asdict(settings).items() if key not in ("json", "size")}
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
