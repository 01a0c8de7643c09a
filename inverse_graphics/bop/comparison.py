"""Two results files on the same targets: paired differences, and intervals for them from a bootstrap over images.

Images are drawn with replacement, for both sides the same ones, because targets of one image are not independent.  AR, ADD recall
and areas are means over targets; average precision is computed anew from the images drawn.
Of equal scores the copies of one estimate follow each other.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Generator

from inverse_graphics.bop.detection import mean_average_precision
from inverse_graphics.bop.rows import PoseEvaluation

SCORES = ("ar", "ar_vsd", "ar_mssd", "ar_mspd", "map_2024", "map_mssd", "map_mspd", "add_recall", "add_auc", "adds_auc")
"""Scores that are compared."""
COLUMNS = {
    "ar_vsd": "recall_vsd",
    "ar_mssd": "recall_mssd",
    "ar_mspd": "recall_mspd",
    "add_recall": "found_add",
    "add_auc": "area_add",
    "adds_auc": "area_adds",
}
"""Those that are means over a column of ``TargetRows``."""


@dataclass(frozen=True)
class Difference:
    """Score of the second results file less that of the first."""

    value: float
    """On all images."""
    low: float
    """Lower end of the interval."""
    high: float
    """Upper end of the interval."""


@dataclass(frozen=True)
class Comparison:
    """Two evaluations side by side."""

    scores: dict[str, Difference]
    """By name, without those of VSD where one side has none."""
    confidence: float
    """Share of bootstrap samples within each interval."""
    target_recall: Float[np.ndarray, "r"]
    """Of each target the difference of the recall that AR is the mean of; without VSD where one side has none."""
    image_recall: Float[np.ndarray, "i"]
    """Its mean over the targets of each image, NaN where an image has none."""


def compare(
    first: PoseEvaluation, second: PoseEvaluation, generator: Generator, samples: int = 1000, confidence: float = 0.95
) -> Comparison:
    """Compare two evaluations of the same targets and images.

    Args:
        first, second: the sides; differences are second - first.
        generator: draws the images; on the CPU.
        samples: bootstrap samples.
        confidence: share of them within each interval.

    Raises:
        ValueError: evaluations of other targets, no images, or a confidence outside 0..1.
    """
    _check(first, second, samples, confidence)
    weights = draw_images(len(first.images), samples, generator)
    everything = np.ones((1, len(first.images)), np.int64)
    with_vsd = first.ar_vsd is not None and second.ar_vsd is not None
    scores = {}
    for name in SCORES:
        if name in ("ar", "ar_vsd") and not with_vsd:
            continue
        value, drawn = (_score(second, name, chosen) - _score(first, name, chosen) for chosen in (everything, weights))
        low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
        scores[name] = Difference(float(value[0]), float(low), float(high))
    target_recall = _target_recall(second, with_vsd) - _target_recall(first, with_vsd)
    counts = np.bincount(first.targets.image, minlength=len(first.images))
    sums = np.bincount(first.targets.image, target_recall, minlength=len(first.images))
    image_recall = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return Comparison(scores, confidence, target_recall, image_recall)


def draw_images(images: int, samples: int, generator: Generator) -> Int[np.ndarray, "b i"]:
    """How often each image is in each bootstrap sample."""
    drawn = torch.randint(images, (samples, images), generator=generator).numpy()
    weights = np.zeros((samples, images), np.int64)
    np.add.at(weights, (np.arange(samples)[:, None], drawn), 1)
    return weights


def _score(evaluation: PoseEvaluation, name: str, weights: Int[np.ndarray, "b i"]) -> Float[np.ndarray, "b"]:
    """A score with images counted as often as their weights say."""
    parts: dict[str, tuple[str, ...]] = {"ar": ("ar_vsd", "ar_mssd", "ar_mspd"), "map_2024": ("map_mssd", "map_mspd")}
    if name in parts:
        return np.mean([_score(evaluation, part, weights) for part in parts[name]], axis=0)
    if name in ("map_mssd", "map_mspd"):
        outcomes = evaluation.outcomes_mssd if name == "map_mssd" else evaluation.outcomes_mspd
        return mean_average_precision(outcomes, weights)
    image, column = evaluation.targets.image, getattr(evaluation.targets, COLUMNS[name]).astype(np.float64)
    sums = np.bincount(image, column, minlength=weights.shape[1])
    counts = np.bincount(image, minlength=weights.shape[1])
    return (weights @ sums) / np.maximum(weights @ counts, 1)


def _target_recall(evaluation: PoseEvaluation, with_vsd: bool) -> Float[np.ndarray, "r"]:
    """Mean recall of each target over the errors."""
    targets = evaluation.targets
    columns = [targets.recall_mssd, targets.recall_mspd, *([targets.recall_vsd] if with_vsd else [])]
    return np.mean(columns, axis=0)


def _check(first: PoseEvaluation, second: PoseEvaluation, samples: int, confidence: float) -> None:
    """Raise ValueError unless both are of the same targets and the settings make sense."""
    same = np.array_equal(first.targets.gt_row, second.targets.gt_row)
    if not same or first.images != second.images or len(first.images) == 0:
        raise ValueError(
            f"compare: expected evaluations of the same targets in at least one image, received {len(first.targets.gt_row)} and "
            f"{len(second.targets.gt_row)} targets in {len(first.images)} and {len(second.images)} images; "
            "evaluate both files on the same data set."
        )
    if samples < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"compare: expected samples >= 1 and confidence in 0..1, received {samples} and {confidence}; "
            "1000 and 0.95 are usual."
        )
