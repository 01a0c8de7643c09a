"""Matching of estimates to truths of the same image and object, as in bop_toolkit.

Estimates come by descending score, equal scores in the order of the file.  Each takes the truth with the lowest error that is
still free; the error must be strictly below the threshold, and of equal errors the first truth wins.  An error of several numbers
(5 degrees, 5 cm) is lower where all of them are.  An estimate whose best truth is taken goes to the next best.  NaN matches
nothing.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from inverse_graphics.bop.compiling import prepare
from inverse_graphics.bop.pairs import Pairs
from inverse_graphics.bop.score_kernels import match_pass
from inverse_graphics.compiled import KERNEL_LOCK, workers

DIAMETER_THRESHOLDS = np.arange(0.05, 0.51, 0.05)
"""Thresholds of MSSD in diameters, and of VSD; with the rounding of ``numpy.arange``, as in bop_toolkit."""
PIXEL_THRESHOLDS = np.arange(5.0, 51.0, 5.0)
"""Thresholds of MSPD in pixels of an image 640 pixels wide."""
PIXEL_WIDTH = 640.0
"""That width: errors are multiplied by this and divided by the image's width before they are compared."""


def match_estimates(
    pairs: Pairs,
    est_used: Bool[np.ndarray, "e"],
    gt_used: Bool[np.ndarray, "t"],
    errors: Float[np.ndarray, "p m"],
    thresholds: Float[np.ndarray, "k m"],
) -> Int[np.ndarray, "e k"]:
    """Match at every threshold.

    Args:
        pairs: which estimates meet which truths.
        est_used: estimates that take part.
        gt_used: truths that may be taken.
        errors: m numbers a pair, normalised like the thresholds.
        thresholds: k of them.

    Returns:
        For each estimate and threshold the truth, an index into ``pairs.gt_row``, or -1.

    Raises:
        ValueError: errors of other pairs.
    """
    if len(errors) != pairs.pair_start[-1]:
        raise ValueError(
            f"errors: expected one row for each of {pairs.pair_start[-1]} pairs, received {len(errors)}; "
            "order them as pairs.pair_est and pairs.pair_gt."
        )
    prepare()
    matched = np.empty((len(pairs.est_row), len(thresholds)), np.int64)
    starts = (pairs.est_start, pairs.gt_start, pairs.pair_start)
    numbers = (np.ascontiguousarray(errors, np.float64), np.ascontiguousarray(thresholds, np.float64))
    with KERNEL_LOCK:
        match_pass(*starts, est_used, gt_used, *numbers, workers(), matched)
    return matched


def found(matched: Int[np.ndarray, "e k"], truths: int) -> Bool[np.ndarray, "t k"]:
    """Which truths are matched at each threshold."""
    hits = np.zeros((truths, matched.shape[1]), bool)
    est, threshold = np.nonzero(matched >= 0)
    hits[matched[est, threshold], threshold] = True
    return hits


def estimate_of(matched: Int[np.ndarray, "e"], truths: int) -> Int[np.ndarray, "t"]:
    """The estimate of each truth at one threshold, -1 without one."""
    estimates = np.full(truths, -1, np.int64)
    est = np.flatnonzero(matched >= 0)
    estimates[matched[est]] = est
    return estimates
