"""Renderers side by side in one run: raster, PyTorch3D and Open3D on the same scenes.

    python benchmarks/renderers.py --json renderers.json

All sides draw in turn on the same cores, so that whatever else the machine does falls on all of them.  Times are medians (and
minima) after a warm-up; ratios are times, ``raster_over_x`` = seconds of x / seconds of raster.  PyTorch3D and the ray caster
take one sample a pixel; ``raster`` takes one too and ``raster_2x2`` four.

- ``forward``: colour, depth and ids of every scene.  PyTorch3D's hard rasteriser and Phong shader; Open3D's ray caster gives
  depth and ids only; ``open3d`` builds its tree anew, as moving objects ask for in every step, ``open3d_cast`` does not.
- ``forward_backward``: the image and the gradient of its squared error to every pose.  PyTorch3D's hard gradient knows no
  silhouettes; its soft one blurs them over the ten nearest faces.
- ``large_...``: the same of a single large image of detailed meshes.  PyTorch3D tests every pixel against every triangle there:
  it draws as many of the objects as fit into a minute, all or one or none, and the side's name says how many.
- ``air_step_renderer``: what a training step on the bound asks for: all prefixes, their pose gradients, the errors of all
  prefixes with each object replaced by each class.
- ``training_step_...`` (with ``--training-step``): see benchmarks/training_step.py.

With ``--device cuda`` the GPU's twin of raster runs against PyTorch3D on the same GPU: all but the large image and Open3D.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

if __name__ == "__main__":
    # python put benchmarks/ first, where this file would be taken for the package of the same name
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
import tyro
from torch import Tensor

from benchmarks import open3d_scene, pytorch3d_scene, tasks
from benchmarks.timing import Job, Times, race, use_cores
from benchmarks.training_step import PARTS, race_training_step
from inverse_graphics.guides import GuideSizes
from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Catalogue, Objects, View, map_tensors
from renderers import DifferenceOptions, load_renderer


@dataclass(frozen=True)
class Settings:
    """What is drawn, and how often."""

    json: Path | None = None
    """Where to write the figures."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where both sides draw."""
    cores: int = 2
    """Processor cores that everything runs on."""
    gradient: Literal["analytic", "finite-difference"] = "analytic"
    """How raster takes pose gradients."""
    scenes: int = 64
    """Scenes in a batch."""
    size: int = 64
    """Width and height of the images in pixels."""
    objects: int = 3
    """Objects a scene, all present."""
    triangles: int = 320
    """Triangles of each mesh: 20, 80, 320, 1280, 5120, 20480, ..."""
    repeats: int = 5
    """Turns of each side, forward."""
    gradient_repeats: int = 3
    """Turns of each side with gradients."""
    large: bool = True
    """Whether to draw the large image too."""
    large_size: tuple[int, int] = (640, 480)
    """Its width and height in pixels."""
    large_objects: int = 5
    """Its objects."""
    large_triangles: int = 20480
    """Triangles of each of them."""
    training_step: bool = False
    """Whether to time a training step on a scene config's scenes too; PyTorch3D needs minutes for it."""
    training_step_scenes_pytorch3d: int = 4
    """Scenes that PyTorch3D draws of it; raster draws a whole batch."""
    scene: Path = Path(__file__).resolve().parent.parent / "scenes" / "tabletop.yaml"
    """Scene config of the training step."""
    yaw_bins: int = GuideSizes().yaw_bins
    """Yaw bins whose alternatives the training step compares; the guide's default."""
    seed: int = 0
    """Seed of the scenes."""


Figures = dict[str, float | int | str]
"""What is reported: flat, units in the keys."""

PATIENCE_S = 60.0
"""Longest run of PyTorch3D on the large image."""


def main(settings: Settings) -> None:
    """Measure, print a table, write the figures.

    Raises:
        ValueError: a number of triangles that no subdivided icosahedron has.
        BackendMissingError: a side's package is not installed.
    """
    cores = use_cores(settings.cores)
    figures = describe(settings, cores)
    seconds = race_batch(settings, figures)
    if settings.large and settings.device == "cpu":
        spent_s = seconds["forward"]["pytorch3d_hard"].median_s
        pair_s = spent_s / (settings.scenes * settings.size**2 * settings.objects * settings.triangles)
        seconds |= race_large(settings, figures, pair_s)
    print(f"{'part':<24} {'side':<28} {'median s':>10} {'min s':>10} {'runs':>6} {'raster is faster by':>20}")
    report(figures, seconds)
    if settings.training_step and settings.device == "cpu":
        scenes = {"raster": settings.scenes, "pytorch3d": settings.training_step_scenes_pytorch3d}
        seconds = race_training_step(settings.scene, scenes, settings.yaw_bins, 1, settings.seed)
        figures |= {"training_step_scene": settings.scene.name, "training_step_pytorch3d_scenes": scenes["pytorch3d"]}
        report(figures, {part: per_scene(seconds[part], scenes) for part in PARTS}, unit="s_per_scene")
    if settings.json is not None:
        settings.json.write_text(json.dumps(figures, indent=2) + "\n")


def race_batch(settings: Settings, figures: Figures) -> dict[str, dict[str, Times]]:
    """Time everything that is done to the batch of small scenes; adds to the figures what is known of the scenes themselves."""
    device = torch.device(settings.device)
    catalogue = tasks.build_catalogue(settings.triangles)
    objects, view = tasks.sample_scenes(settings.scenes, settings.objects, settings.size, settings.size, settings.seed)
    raster = {1: build_raster(settings, catalogue, 1), 2: build_raster(settings, catalogue, 2)}
    objects, view = map_tensors(lambda tensor: tensor.to(device), objects), map_tensors(lambda tensor: tensor.to(device), view)
    task = tasks.build_task(raster[1], objects, view)
    hard = pytorch3d_scene.prepare(catalogue, objects, view, "hard")
    soft = pytorch3d_scene.prepare(catalogue, objects, view, "soft")
    T = objects.T_world_object
    forward: dict[str, Job] = {
        "raster": partial(tasks.draw, raster[1], task),
        "raster_2x2": partial(tasks.draw, raster[2], task),
        "pytorch3d_hard": partial(pytorch3d_scene.draw_forward, hard, T),
    }
    if settings.device == "cpu":
        forward |= open3d_jobs(catalogue, objects, view)
    backward: dict[str, Job] = {
        "raster": partial(tasks.draw_gradient, raster[1], task),
        "raster_2x2": partial(tasks.draw_gradient, raster[2], task),
        "pytorch3d_hard": partial(pytorch3d_scene.draw_gradient, hard, T, task.target_rgb),
        "pytorch3d_soft": partial(pytorch3d_scene.draw_gradient, soft, T, task.target_rgb),
    }
    others = tasks.class_alternatives(objects, len(catalogue))
    step: dict[str, Job] = {name: partial(tasks.judge, raster[n], task, others) for name, n in (("raster", 1), ("raster_2x2", 2))}
    figures["object_size_mean_px"] = tasks.object_size_px(raster[1], task)
    figures |= agreement(raster[1], task, hard, catalogue)
    return {
        "forward": race(forward, settings.repeats, device),
        "forward_backward": race(backward, settings.gradient_repeats, device),
        "air_step_renderer": race(step, settings.gradient_repeats, device),
    }


def race_large(settings: Settings, figures: Figures, pair_s: float) -> dict[str, dict[str, Times]]:
    """Time one large image; ``pair_s`` are the seconds that PyTorch3D took for a pixel and a triangle of the small ones."""
    catalogue = tasks.build_catalogue(settings.large_triangles)
    width_px, height_px = settings.large_size
    count = settings.large_objects
    objects, view = tasks.sample_scenes(1, count, width_px, height_px, settings.seed)
    raster = {1: build_raster(settings, catalogue, 1), 2: build_raster(settings, catalogue, 2)}
    task = tasks.build_task(raster[1], objects, view)
    figures["large_object_size_mean_px"] = tasks.object_size_px(raster[1], task)
    forward: dict[str, Job] = {
        "raster": partial(tasks.draw, raster[1], task),
        "raster_2x2": partial(tasks.draw, raster[2], task),
        **open3d_jobs(catalogue, objects, view),
    }
    backward: dict[str, Job] = {
        "raster": partial(tasks.draw_gradient, raster[1], task),
        "raster_2x2": partial(tasks.draw_gradient, raster[2], task),
    }
    seconds = {
        "large_forward": race(forward, settings.repeats),
        "large_forward_backward": race(backward, settings.gradient_repeats),
    }
    object_s = pair_s * width_px * height_px * settings.large_triangles
    drawn = count if count * object_s <= PATIENCE_S else int(object_s <= PATIENCE_S)
    figures["large_pytorch3d_hard_objects"] = drawn
    if drawn:
        some = Objects(objects.class_ids[:, :drawn], objects.T_world_object[:, :drawn], objects.present[:, :drawn])
        hard = pytorch3d_scene.prepare(catalogue, some, view, "hard")
        job = partial(pytorch3d_scene.draw_forward, hard, some.T_world_object)
        name = f"pytorch3d_hard_{drawn}_of_{count}_objects"
        seconds["large_forward"] |= race({name: job}, 1, warm_up=False)
    return seconds


def build_raster(settings: Settings, catalogue: Catalogue, samples_per_axis: int) -> Renderer:
    """Raster with gradients to all of a pose, on the settings' device."""
    name = "raster" if settings.device == "cpu" else "raster-cuda"
    return load_renderer(name, catalogue, samples_per_axis, settings.gradient, DifferenceOptions("full"))


def open3d_jobs(catalogue: Catalogue, objects: Objects, view: View) -> dict[str, Job]:
    """The ray caster, with and without building its tree."""
    scenes = open3d_scene.prepare(catalogue, objects, view, torch.get_num_threads())
    built = open3d_scene.build(scenes, objects.T_world_object)

    def build_and_cast() -> None:
        open3d_scene.cast(scenes, open3d_scene.build(scenes, objects.T_world_object))

    def build() -> None:
        open3d_scene.build(scenes, objects.T_world_object)

    def cast() -> None:
        open3d_scene.cast(scenes, built)

    return {"open3d": build_and_cast, "open3d_build": build, "open3d_cast": cast}


def agreement(renderer: Renderer, task: tasks.Task, hard: pytorch3d_scene.PyTorch3DScenes, catalogue: Catalogue) -> Figures:
    """How far the sides draw the same: share of pixels of the same object, and differences of colour and depth there."""
    with torch.no_grad():
        truth = renderer.render(task.objects, task.view)
        drawn = pytorch3d_scene.draw(hard, task.objects.T_world_object)
    figures: Figures = {"pytorch3d_hard_rgb_difference_mean": float((drawn.rgb - truth.rgb).abs().mean())}

    def compare(side: str, depth_m: Tensor, object_ids: Tensor) -> None:
        same = object_ids == truth.object_ids
        covered = same & (object_ids >= 0)
        figures[f"{side}_same_object_share"] = float(same.float().mean())
        if covered.any():
            figures[f"{side}_depth_difference_median_m"] = float((depth_m - truth.depth_m).abs()[covered].median())

    compare("pytorch3d_hard", drawn.depth_m, drawn.object_ids)
    if task.target_rgb.device.type == "cpu":
        scenes = open3d_scene.prepare(catalogue, task.objects, task.view, torch.get_num_threads())
        compare("open3d", *open3d_scene.cast(scenes, open3d_scene.build(scenes, task.objects.T_world_object)))
    return figures


def describe(settings: Settings, cores: int) -> Figures:
    """Settings and versions."""
    left_out = ("json", "size", "large", "large_size", "training_step", "training_step_scenes_pytorch3d", "scene", "cores")
    setup: Figures = {key: value for key, value in asdict(settings).items() if key not in left_out}
    setup |= {"size_px": settings.size, "cores": cores}
    setup |= {"large_width_px": settings.large_size[0], "large_height_px": settings.large_size[1]}
    for package in ("torch", "numba", "warp-lang", "open3d", "easypytorch3d"):
        key = f"{package.replace('-', '_')}_version"
        try:
            setup[key] = version(package)
        except PackageNotFoundError:
            setup[key] = "own build or none"
    if settings.device == "cuda":
        setup["gpu"] = torch.cuda.get_device_name()
    return setup


def per_scene(times: dict[str, Times], scenes: dict[str, int]) -> dict[str, Times]:
    """Times a scene where sides drew different numbers of them."""
    return {side: Times(one.median_s / scenes[side], one.min_s / scenes[side], one.runs) for side, one in times.items()}


def report(figures: Figures, seconds: dict[str, dict[str, Times]], unit: str = "s") -> None:
    """Print rows of the table, and add times and ratios to the figures."""
    for part, sides in seconds.items():
        for side, times in sides.items():
            figures |= {f"{side}_{part}_{unit}": times.median_s, f"{side}_{part}_min_{unit}": times.min_s}
            ratio = times.median_s / sides["raster"].median_s
            print(f"{part:<24} {side:<28} {times.median_s:>10.5f} {times.min_s:>10.5f} {times.runs:>6} {ratio:>19.2f}x")
            for own in ("raster", "raster_2x2"):
                if own in sides and not side.startswith("raster") and not side.endswith("_build"):
                    figures[f"{own}_over_{side}_{part}"] = times.median_s / sides[own].median_s
        if part == "forward_backward":
            drawn = int(figures["scenes"]) * int(figures["objects"])
            for own in ("raster", "raster_2x2"):
                figures[f"{own}_object_images_per_second_with_gradient"] = drawn / sides[own].median_s
        if part == "air_step_renderer":
            figures["air_step_renderer_ms"] = sides["raster"].median_s * 1e3
            figures["air_step_renderer_2x2_ms"] = sides["raster_2x2"].median_s * 1e3


if __name__ == "__main__":
    main(tyro.cli(Settings))
