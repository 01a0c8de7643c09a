"""Inferring images with a sprite model, and judging the counts and windows against the truth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_graphics.guides.posterior import count_log_probabilities
from inverse_graphics.matching import match
from inverse_graphics.sprites.looking import ONCE, Looking, look
from inverse_graphics.sprites.model import SpriteModel
from inverse_graphics.sprites.windows import window_boxes_px

GATE_SHARE = 0.15
"""A window stands for an object whose centre is nearer than this share of the canvas."""


@dataclass(frozen=True)
class FlatTruth:
    """Images and what is on them."""

    images: Float[Tensor, "b h w"]
    """Grey values."""
    counts: Int[Tensor, "b"]
    """How many objects."""
    centres: Float[Tensor, "b m 2"]
    """Where they are, x and y in -1..1 of the canvas."""
    present: Bool[Tensor, "b m"]
    """Which of them are there."""


@dataclass(frozen=True)
class FlatInference:
    """What a model says of images, steps at the means."""

    counts: Int[Tensor, "b"]
    """Most probable count."""
    count_probabilities: Float[Tensor, "b n_plus_1"]
    """q(n)."""
    where: Float[Tensor, "b n 3"]
    """Windows of all N steps (zoom, x, y)."""
    what: Float[Tensor, "b n z"]
    """Appearances of all N steps."""
    layers: Float[Tensor, "b n h w"]
    """Each step's sprite alone."""

    @property
    def present(self) -> Bool[Tensor, "b n"]:
        """Steps that count."""
        return torch.arange(self.where.shape[1], device=self.counts.device) < self.counts[:, None]

    @property
    def reconstructions(self) -> Float[Tensor, "b h w"]:
        """The sprites that count, added up."""
        return (self.layers * self.present[..., None, None]).sum(1)


def infer_sprites(
    model: SpriteModel, images: Float[Tensor, "b h w"], max_objects: int | None = None, looking: Looking = ONCE
) -> FlatInference:
    """Run a model at its means; ``max_objects`` steps, its own number where None; ``looking`` once or again, see there."""
    posterior = look(model, images, looking, max_objects)
    q = count_log_probabilities(posterior.presence_logits).exp()
    return FlatInference(q.argmax(-1), q, posterior.drawn_where, posterior.drawn_what, posterior.layers)


@dataclass(frozen=True)
class FlatEvaluation:
    """Inferred counts and windows against the truth, of s images with o objects in all."""

    count_est: Int[np.ndarray, "s"]
    """Inferred counts."""
    count_gt: Int[np.ndarray, "s"]
    """True counts."""
    centre_error_px: Float[np.ndarray, "o"]
    """From each true object's centre to that of the window matched to it, NaN where there is none."""
    squared_error: Float[np.ndarray, "s"]
    """Mean squared error of the reconstruction, a pixel."""
    log_probability: Float[np.ndarray, "s"]
    """log q of the true count."""

    def summary(self) -> dict[str, Any]:
        """The headline numbers, ready for JSON."""
        right = self.count_est == self.count_gt
        counts = sorted(set(self.count_gt.tolist()))
        found = ~np.isnan(self.centre_error_px)
        return {
            "count_accuracy": float(right.mean()),
            "count_accuracy_by_count": {str(n): float(right[self.count_gt == n].mean()) for n in counts},
            "count_confusion": self.count_confusion().tolist(),
            "matched_share": float(found.mean()) if len(found) else None,
            "centre_error_median_px": float(np.median(self.centre_error_px[found])) if found.any() else None,
            "squared_error": float(self.squared_error.mean()),
            "num_eval_images": len(right),
        }

    def count_confusion(self) -> Int[np.ndarray, "n_plus_1 n_plus_1"]:
        """Number of images with each true count (row) for which each count (column) was inferred."""
        size = 1 + int(max(self.count_est.max(initial=0), self.count_gt.max(initial=0)))
        table = np.zeros((size, size), np.int64)
        np.add.at(table, (self.count_gt, self.count_est), 1)
        return table


def judge_sprites(
    model: SpriteModel,
    truths: Iterable[FlatTruth],
    device: torch.device,
    max_objects: int | None = None,
    looking: Looking = ONCE,
) -> FlatEvaluation:
    """Infer batches of images and compare with the truth.

    Args:
        model: a trained model, on ``device``.
        truths: batches.
        device: where the model runs.
        max_objects: steps; the model's own number where None.
        looking: whether images are explained once or again.

    Raises:
        ValueError: no images.
    """
    parts = [_judge_batch(model, truth, device, max_objects, looking) for truth in truths]
    if not parts:
        raise ValueError("judge_sprites: expected at least one batch, received none; raise the number of images")
    return FlatEvaluation(*(np.concatenate([part[i] for part in parts]) for i in range(5)))


def _judge_batch(
    model: SpriteModel, truth: FlatTruth, device: torch.device, max_objects: int | None, looking: Looking
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    images = truth.images.to(device)
    inference = infer_sprites(model, images, max_objects, looking)
    canvas_px = images.shape[-1]
    boxes = window_boxes_px(inference.where, canvas_px).cpu().double()
    centres_est = torch.cat([0.5 * (boxes[..., :2] + boxes[..., 2:]), torch.zeros_like(boxes[..., :1])], -1).numpy()
    centres_px = (truth.centres.double() + 1) * (0.5 * canvas_px)
    centres_gt = torch.cat([centres_px, torch.zeros_like(centres_px[..., :1])], -1).numpy()
    present_gt = truth.present.numpy()
    slots = match(centres_est, inference.present.cpu().numpy(), centres_gt, present_gt, GATE_SHARE * canvas_px)
    image, slot_gt = np.nonzero(present_gt)
    slot_est = slots[image, slot_gt]
    distance = np.linalg.norm(centres_est[image, slot_est] - centres_gt[image, slot_gt], axis=-1)
    error = (inference.reconstructions - images).square().mean((-2, -1))
    q = inference.count_probabilities
    reachable = truth.counts.to(device).clamp(max=q.shape[-1] - 1)
    log_q = q.gather(-1, reachable[:, None])[:, 0].clamp(min=1e-30).log()
    return (
        inference.counts.cpu().numpy(),
        truth.counts.numpy(),
        np.where(slot_est >= 0, distance, np.nan),
        error.cpu().numpy(),
        torch.where(truth.counts.to(device) < q.shape[-1], log_q, torch.full_like(log_q, np.log(1e-30))).cpu().numpy(),
    )
