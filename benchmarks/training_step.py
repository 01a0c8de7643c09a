"""What a training step of ``experiments/scenes3d.py`` asks of its renderer, for raster and for PyTorch3D.

PyTorch3D draws hard layers, differenced by ``FiniteDifferenceRenderer``, and merges them through ``compositing``; it needs many
minutes for a batch, so it may be given fewer scenes, and times are reported a scene.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import torch

from assets import load_catalogue
from benchmarks.tasks import Task, class_alternatives, judge
from benchmarks.timing import Times, race
from inverse_graphics.poses import upright_pose
from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Objects, map_tensors
from renderers import load_renderer
from scenes import ScenePrior, generate, load_scene_config

PARTS = ("training_step_sleep", "training_step_bound")
"""Generate a batch, scenes redrawn until every object is seen; and the bound: prefixes, their pose gradients, alternatives."""


def race_training_step(
    scene: Path, scenes: dict[str, int], yaw_bins: int, repeats: int, seed: int
) -> dict[str, dict[str, Times]]:
    """Time both parts of a step.

    Args:
        scene: scene config.
        scenes: how many scenes each side draws, for sides ``raster`` and ``pytorch3d``.
        yaw_bins: yaw bins whose alternatives the bound compares.
        repeats: turns of each side.
        seed: seed of the scenes.

    Returns:
        Times of each part and side, for all of the side's scenes.
    """
    config = load_scene_config(scene)
    catalogue = load_catalogue(config.catalogue, config.classes)
    prior = ScenePrior(config, catalogue)
    samples = config.samples_per_axis
    raster = load_renderer("raster", catalogue, samples)
    plain = {"raster": raster, "pytorch3d": load_renderer("pytorch3d", catalogue, samples, "none")}
    graded = {"raster": raster, "pytorch3d": load_renderer("pytorch3d", catalogue, samples, "finite-difference")}
    task = _task(prior, raster, max(scenes.values()), seed)
    others = _alternatives(task.objects, len(catalogue), yaw_bins)

    def bound(side: str) -> None:
        some = map_tensors(lambda tensor: tensor[: scenes[side]], others)
        judge(graded[side], task.first(scenes[side]), some)

    def sleep(side: str) -> None:
        with torch.no_grad():
            generate(prior, plain[side], seed, range(scenes[side]))

    # a minute of PyTorch3D would be spent on warming up what has nothing to warm
    sleep("raster")
    bound("raster")
    return {
        "training_step_sleep": race({side: partial(sleep, side) for side in scenes}, repeats, warm_up=False),
        "training_step_bound": race({side: partial(bound, side) for side in scenes}, repeats, warm_up=False),
    }


def _task(prior: ScenePrior, renderer: Renderer, scenes: int, seed: int) -> Task:
    """Scenes of the prior with every slot drawn, present or not, and 1 cm away from the truth."""
    batch = generate(prior, renderer, seed, range(scenes))
    truth = batch.scene.objects
    T = truth.T_world_object.clone()
    T[..., :2, 3] += 0.01
    objects = Objects(truth.class_ids, T, torch.ones_like(truth.present))
    return Task(objects, batch.scene.view, batch.image.rgb.detach())


def _alternatives(objects: Objects, classes: int, yaw_bins: int) -> Objects:
    """Every class in every slot's pose, then every slot's class at each yaw bin."""
    every = class_alternatives(objects, classes)
    turn = upright_pose(torch.zeros(yaw_bins, 2), torch.arange(yaw_bins) * (2 * math.pi / yaw_bins))
    shape = (*objects.class_ids.shape, yaw_bins)
    return Objects(
        torch.cat([every.class_ids, objects.class_ids[..., None].expand(shape)], -1),
        torch.cat([every.T_world_object, objects.T_world_object[..., None, :, :] @ turn], -3),
        torch.cat([every.present, objects.present[..., None].expand(shape)], -1),
    )
