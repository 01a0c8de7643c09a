"""Judging a guide on scenes that it has never seen."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from inverse_graphics.diagnosis import diagnose, observe
from inverse_graphics.guides.recurrent import RecurrentGuide
from inverse_graphics.inference import Inference, infer, recount
from inverse_graphics.metrics import Evaluation, evaluate_objects, summary
from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Catalogue, RenderOutput, Scene, map_tensors, stack_tensors


@dataclass(frozen=True)
class Judged:
    """Held-out scenes, what was inferred of them, and how good that is."""

    scenes: Scene
    """[s] the truth."""
    images: RenderOutput
    """[s] what the guide was shown."""
    inference: Inference
    """[s] what it said."""
    rerendered: RenderOutput
    """[s] images of what it said."""
    evaluation: Evaluation
    """Errors, object by object."""
    summary: dict[str, Any]
    """Headline numbers, of ``metrics.summary``."""
    warnings: tuple[str, ...]
    """Failure signatures, in words."""


def judge(
    guide: RecurrentGuide,
    batches: Iterable[tuple[Scene, RenderOutput]],
    renderer: Renderer,
    catalogue: Catalogue,
    prior_mean_count: float,
    looks: int,
    device: torch.device,
    recount_sigma: float | None = None,
) -> Judged:
    """Infer the most probable scenes and compare them with the truth.

    Args:
        guide: a trained guide, on ``device``.
        batches: held-out scenes with their images.
        renderer: draws what is inferred.
        catalogue: what class ids mean.
        prior_mean_count: mean count of such scenes.
        looks: glimpses an object.
        device: where the guide runs.
        recount_sigma: noise for judging the count again by rendering (``inference.recount``); None trusts the guide.
    """
    guide.eval()
    apart_m = least_distance_m(catalogue)
    scenes: list[Scene] = []
    images: list[RenderOutput] = []
    inferred: list[Inference] = []
    rerendered: list[RenderOutput] = []
    for scene, image in batches:
        camera = map_tensors(lambda tensor: tensor.to(device), scene.view.camera)
        painter = guide.painter(renderer, scene.view)
        said = infer(guide, image.rgb.to(device), camera, looks, apart_m, painter)
        inference = map_tensors(lambda tensor: tensor.cpu(), said)
        if recount_sigma is not None:
            inference = recount(inference, renderer, scene.view, image.rgb, recount_sigma, apart_m)
        scenes.append(scene)
        images.append(image)
        inferred.append(inference)
        rerendered.append(map_tensors(torch.Tensor.detach, renderer.render(inference.objects, scene.view)))
    everything = (stack_tensors(scenes), stack_tensors(images), stack_tensors(inferred), stack_tensors(rerendered))
    truth, shown, inference, drawn = everything
    evaluation = evaluate_objects(inference.objects, truth.objects, catalogue, shown.visible_fraction)
    warnings = tuple(diagnose(observe(inference, drawn, prior_mean_count), catalogue.names))
    return Judged(truth, shown, inference, drawn, evaluation, summary(evaluation), warnings)


def least_distance_m(catalogue: Catalogue) -> float:
    """A distance that the origins of two standing objects keep: half the narrowest side of any mesh's box on the table."""
    return 0.5 * min(float(np.ptp(mesh.vertices_m[:, :2], axis=0).min()) for mesh in catalogue.meshes)
