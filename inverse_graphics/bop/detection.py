"""Detection (BOP 2024): the number of instances is not given.

Points that bear on agreement with bop_toolkit:

- Of each image the 100 estimates of the highest score are judged, of all objects together (XYZ-IBD: 200).
- All truths of an image may be matched.  Those less than 10 % visible are left out afterwards: they need not be found, and the
  estimates that they took are neither right nor wrong.
- An estimate of an object of which the image holds no truth at all is not judged by bop_toolkit, though nothing there is to be
  found.  ``count_absent`` makes it wrong; scores are then below bop_toolkit's.
- Precision and recall are taken over all images by descending score, object by object; equal scores come in the order of the
  images.  Interpolated precision is the highest at this recall or a higher one, at 101 recalls of ``numpy.linspace``.
- AP is averaged over thresholds, then over objects that have a truth to be found; mAP is the mean over MSSD and MSPD.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from inverse_graphics.bop.compiling import prepare
from inverse_graphics.bop.matching import match_estimates
from inverse_graphics.bop.pairs import Pairs, best_scored
from inverse_graphics.bop.score_kernels import average_precision_pass
from inverse_graphics.bop.types import Estimates, Truths
from inverse_graphics.compiled import KERNEL_LOCK, workers

MAX_ESTIMATES = 100
"""Estimates an image."""
MIN_VISIB_FRACT = 0.1
"""Truths less visible than this are left out."""
RECALLS = np.linspace(0.0, 1.0, 101)
"""Where precision is interpolated."""

RIGHT, WRONG, LEFT_OUT = 1, 0, -1
"""Outcomes of an estimate."""


@dataclass(frozen=True)
class Outcomes:
    """What became of one object's estimates, and what was to be found of it."""

    obj_id: int
    """The object."""
    est: Int[np.ndarray, "n"]
    """Its estimates by descending score, indices into ``pairs.est_row``."""
    image: Int[np.ndarray, "n"]
    """Their images."""
    outcome: Int[np.ndarray, "n k"]
    """RIGHT, WRONG or LEFT_OUT at each threshold."""
    targets: Int[np.ndarray, "i"]
    """Truths to be found in each image."""


def judged_estimates(
    pairs: Pairs, estimates: Estimates, max_estimates: int = MAX_ESTIMATES, count_absent: bool = False
) -> Bool[np.ndarray, "e"]:
    """The best scored estimates of each image, without those of objects of which it holds none unless they are to count."""
    has_truths = np.diff(pairs.gt_start)[pairs.est_group] > 0
    return best_scored(pairs, estimates, max_estimates) & (has_truths | count_absent)


def detection_outcomes(
    pairs: Pairs,
    estimates: Estimates,
    truths: Truths,
    est_used: Bool[np.ndarray, "e"],
    gt_used: Bool[np.ndarray, "t"],
    errors: Float[np.ndarray, "p"],
    thresholds: Float[np.ndarray, "k"],
    min_visib_fract: float = MIN_VISIB_FRACT,
) -> tuple[Outcomes, ...]:
    """Outcomes at each threshold, object by object, of those that have a truth to be found or an estimate judged.

    Args:
        pairs: which estimates meet which truths.
        estimates, truths: their tables.
        est_used: estimates judged.
        gt_used: truths of the images judged.
        errors: of the pairs, normalised like the thresholds.
        thresholds: k of them.
        min_visib_fract: truths that are less visible are left out, with what matches them.
    """
    matched = match_estimates(pairs, est_used, gt_used, errors[:, None], thresholds[:, None])
    is_target = gt_used & (truths.visib_fract[pairs.gt_row] >= min_visib_fract)
    if len(is_target):
        outcome = np.where(matched < 0, WRONG, np.where(is_target[matched], RIGHT, LEFT_OUT)).astype(np.int8)
    else:
        outcome = np.full(matched.shape, WRONG, np.int8)
    est_obj, gt_obj = pairs.group_obj_id[pairs.est_group], pairs.group_obj_id[pairs.gt_group]
    results = []
    for obj_id in np.unique(np.concatenate([est_obj[est_used], gt_obj[is_target]])).tolist():
        est = np.flatnonzero(est_used & (est_obj == obj_id))
        # groups are ordered by image: a stable sort leaves equal scores in the order of images, then of the file
        est = est[np.argsort(-estimates.score[pairs.est_row[est]], kind="stable")]
        targets = np.bincount(pairs.gt_image[is_target & (gt_obj == obj_id)], minlength=len(pairs.images))
        results.append(Outcomes(obj_id, est, pairs.est_image[est], outcome[est], targets))
    return tuple(results)


def average_precisions(outcomes: Outcomes, weights: Int[np.ndarray, "b i"] | None = None) -> Float[np.ndarray, "b k"]:
    """Average precision at each threshold.

    Args:
        outcomes: of one object.
        weights: how often each image counts, in b samples of the images; once each where None (b = 1).

    Returns:
        0 where no truth was to be found.
    """
    prepare()
    if weights is None:
        weights = np.ones((1, len(outcomes.targets)), np.int64)
    weights = np.ascontiguousarray(weights, np.int64)
    precisions = np.empty((len(weights), outcomes.outcome.shape[1]))
    judged = (np.ascontiguousarray(outcomes.outcome, np.int8), outcomes.image)
    with KERNEL_LOCK:
        average_precision_pass(*judged, weights, weights @ outcomes.targets, RECALLS, workers(), precisions)
    return precisions


def mean_average_precision(
    outcomes: tuple[Outcomes, ...], weights: Int[np.ndarray, "b i"] | None = None
) -> Float[np.ndarray, "b"]:
    """Mean over thresholds and then over the objects that have a truth to be found; 0 if none has."""
    count = 1 if weights is None else len(weights)
    total, objects = np.zeros(count), np.zeros(count, np.int64)
    for one in outcomes:
        has_targets = (np.ones((1, len(one.targets)), np.int64) if weights is None else weights) @ one.targets > 0
        total += np.where(has_targets, average_precisions(one, weights).mean(-1), 0.0)
        objects += has_targets
    return total / np.maximum(objects, 1)
