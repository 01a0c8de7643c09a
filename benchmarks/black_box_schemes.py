"""Schemes of finite differences against the truth: a part of ``benchmarks/black_box.py``."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from benchmarks import gradients
from benchmarks.black_box_sides import (
    PLANAR,
    Figures,
    Settings,
    Variant,
    disturb_upright,
    key_of,
    scene_seconds,
    table_scenes,
    variants,
)
from benchmarks.timing import clock
from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Catalogue, map_tensors
from renderers import RasterRenderer, load_renderer

BATCH = 20
"""Scenes differentiated at once."""
ALL_SCHEMES = ("raster", "open3d")
"""Backends that are differenced by all schemes; the others by central differences only."""


@dataclass(frozen=True)
class Candidate:
    """A gradient to be judged."""

    key: str
    """What it is called in the figures: raster has no name there."""
    renderer: Renderer
    """The black box."""
    variant: Variant
    """How it is differenced."""
    step_px: float
    """By what step."""


def measure_schemes(settings: Settings, backends: tuple[str, ...], catalogue: Catalogue) -> Figures:
    """Cosines of every scheme's gradient with the reference's, the renders it took and its time; prints a row each."""
    task = build_task(settings, catalogue)
    how = gradients.Settings(scenes=settings.scheme_scenes, size=settings.size, reference_samples=settings.reference_samples)
    near, far = (
        gradients.reference_gradients(task, catalogue, how, factor * how.reference_step_px)[..., PLANAR] for factor in (1, 2)
    )
    figures: Figures = {"schemes_scenes_without_gradient": int((near.norm(dim=(1, 2)) == 0).sum())}
    print(f"{'gradient':<40} {'scenes':>6} {'cosine median':>14} {'5th percentile':>15} {'length error':>13}")
    # how far the reference agrees with itself at twice the step: no scheme can be told to be better than that
    figures |= gradients.judge("reference_double_step", far, near, {})
    for one in tqdm(candidates(settings, backends, catalogue), desc="schemes", disable=None):
        figures |= compare(one, task, near, settings)
    return figures


def build_task(settings: Settings, catalogue: Catalogue) -> gradients.Task:
    """Upright objects, and finely sampled images of the same disturbed."""
    generator = torch.Generator().manual_seed(settings.seed)
    # other scenes than those that are timed
    counts = (settings.objects, settings.objects)
    scene = table_scenes(catalogue, settings.scheme_scenes, counts, settings.size, settings.seed + 1)
    moved = disturb_upright(scene.objects, catalogue, settings.shift, settings.turn_deg, generator)
    fine = RasterRenderer(catalogue, settings.reference_samples)
    target = fine.render(moved, scene.view).rgb
    radii_m = torch.tensor([float(np.linalg.norm(mesh.vertices_m, axis=-1).max()) for mesh in catalogue.meshes])
    residual = fine.render(scene.objects, scene.view).rgb - target
    return gradients.Task(scene, target, residual, radii_m[scene.objects.class_ids])


def candidates(settings: Settings, backends: tuple[str, ...], catalogue: Catalogue) -> list[Candidate]:
    """All schemes of raster and Open3D, central differences of the others, each with every step."""
    found: list[Candidate] = []
    for name in ("raster", *backends):
        renderer = load_renderer(name, catalogue, settings.samples, "none")
        prefix = "" if name == "raster" else f"{key_of(name)}_"
        for variant in variants(settings.pairs) if name in ALL_SCHEMES else (Variant("central"),):
            for i, step_px in enumerate(settings.steps_px):
                suffix = f"_step_{step_px:g}_px".replace(".", "_") if i else ""
                found.append(Candidate(f"{prefix}{variant.key}{suffix}", renderer, variant, step_px))
    return found


def compare(one: Candidate, task: gradients.Task, reference: Float[Tensor, "b n 3"], settings: Settings) -> Figures:
    """Figures of one candidate."""
    renderer, counter = one.variant.around(one.renderer, one.step_px)

    def some(count: int) -> None:
        image_gradients(renderer, map_tensors(lambda x: x[:count], task))

    scene_s = scene_seconds(some, min(BATCH, len(reference)), 0.2 * settings.scheme_s)
    scenes = max(1, min(len(reference), int(settings.scheme_s / scene_s)))
    counter.reset()
    chosen = map_tensors(lambda x: x[:scenes], task)
    kept: list[Tensor] = []
    seconds = clock(lambda: kept.append(image_gradients(renderer, chosen)))
    with tqdm.external_write_mode():
        figures: Figures = dict(gradients.judge(one.key, kept[0], reference, {}))
    figures |= {f"{one.key}_renders": counter.scenes_drawn / scenes, f"{one.key}_scenes": scenes}
    return figures | {f"{one.key}_s_per_gradient": seconds / scenes}


def image_gradients(renderer: Renderer, task: gradients.Task) -> Float[Tensor, "b n 3"]:
    """Gradient of the squared error of the image by planar motions, all by metres."""
    parts: list[Tensor] = []
    for start in range(0, len(task.target_rgb), BATCH):
        some = map_tensors(lambda x, i=start: x[i : i + BATCH], task)
        T = some.scene.objects.T_world_object.clone().requires_grad_()
        rgb = renderer.render(replace(some.scene.objects, T_world_object=T), some.scene.view).rgb
        (gradient,) = torch.autograd.grad((rgb - some.target_rgb).square().sum(), T)
        parts.append(gradients.in_metres(gradient, some)[..., PLANAR])
    return torch.cat(parts)
