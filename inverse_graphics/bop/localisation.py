"""Localisation (BOP 2019): the number of instances is given.

Of each target (image, object, inst_count) the inst_count estimates of the highest score are judged, against the inst_count truths
that are most visible; of equals the first ones, in the order of the file.  Other truths cannot be matched.  The recall at a
threshold is the share of all truths judged that are matched, over all objects together; AR of an error is the mean over its
thresholds (VSD: and over its tolerances), and AR the mean of the three.  Images and objects without target do not count, neither
do estimates of them.  A target whose image holds fewer truths than inst_count asks for what there is.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool, Float, Int

from inverse_graphics.bop.matching import found, match_estimates
from inverse_graphics.bop.pairs import Pairs, first_of_groups
from inverse_graphics.bop.types import ImageKey, Target, Truths


def target_counts(pairs: Pairs, targets: Iterable[Target]) -> Int[np.ndarray, "g"]:
    """Number of instances asked for in each group, 0 where it is no target.

    Raises:
        ValueError: one image and object twice, or a count below 1.
    """
    place = {image: index for index, image in enumerate(pairs.images)}
    asked: dict[tuple[int, int], int] = {}
    for target in targets:
        key = (place.get(ImageKey(target.scene_id, target.im_id), -1), target.obj_id)
        if key in asked and key[0] >= 0 or target.inst_count < 1:
            raise ValueError(
                f"targets: expected each image and object once and inst_count >= 1, received {target}; correct the targets file."
            )
        asked[key] = target.inst_count
    groups = zip(pairs.group_image.tolist(), pairs.group_obj_id.tolist(), strict=True)
    return np.array([asked.get(key, 0) for key in groups], np.int64)


def judged_estimates(pairs: Pairs, counts: Int[np.ndarray, "g"]) -> Bool[np.ndarray, "e"]:
    """The best scored estimates of each target."""
    return first_of_groups(pairs.est_group, counts)


def judged_truths(pairs: Pairs, truths: Truths, counts: Int[np.ndarray, "g"]) -> Bool[np.ndarray, "t"]:
    """The most visible truths of each target; of equally visible ones the first."""
    order = np.lexsort((np.arange(len(pairs.gt_row)), -truths.visib_fract[pairs.gt_row], pairs.gt_group))
    chosen = np.zeros(len(order), bool)
    chosen[order] = first_of_groups(pairs.gt_group[order], counts)
    return chosen


def localisation_hits(
    pairs: Pairs,
    est_used: Bool[np.ndarray, "e"],
    gt_used: Bool[np.ndarray, "t"],
    errors: Float[np.ndarray, "p"],
    thresholds: Float[np.ndarray, "k"],
) -> Bool[np.ndarray, "t k"]:
    """Which truths are found at each threshold of an error of one number."""
    matched = match_estimates(pairs, est_used, gt_used, errors[:, None], thresholds[:, None])
    return found(matched, len(pairs.gt_row))


def recall(hits: Bool[np.ndarray, "t *k"], gt_used: Bool[np.ndarray, "t"]) -> Float[np.ndarray, "*k"]:
    """Share of the truths judged that are found; 0 where none was judged, as in bop_toolkit."""
    return np.asarray(hits[gt_used].sum(0) / max(int(gt_used.sum()), 1), np.float64)
