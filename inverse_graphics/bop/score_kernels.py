"""Compiled matching of estimates to truths, and average precision; see ``matching`` and ``detection``."""

from __future__ import annotations

import numpy as np
from numba import njit, prange


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def match_pass(est_start, gt_start, pair_start, est_used, gt_used, errors, thresholds, workers, matched):
    """Greedy matching in each group, for every threshold by itself.

    Args:
        est_start, gt_start, pair_start: [g + 1] of ``pairs.Pairs``.
        est_used, gt_used: [e] and [t] bool, what takes part.
        errors: [p m], m numbers an error.
        thresholds: [k m].
        workers: how many work items to split into.
        matched: [e k] int64, filled: the truth, -1 without one.
    """
    groups, parts = len(est_start) - 1, errors.shape[1]
    for worker in prange(workers):
        best = np.empty(parts)
        for g in range(worker, groups, workers):
            first_gt, count = gt_start[g], gt_start[g + 1] - gt_start[g]
            taken = np.zeros(count, np.bool_)
            for k in range(len(thresholds)):
                taken[:] = False
                for i in range(est_start[g], est_start[g + 1]):
                    matched[i, k] = -1
                    if not est_used[i]:
                        continue
                    best[:] = thresholds[k]
                    pair = pair_start[g] + (i - est_start[g]) * count
                    chosen = -1
                    for j in range(count):
                        if taken[j] or not gt_used[first_gt + j]:
                            continue
                        is_better = True
                        for m in range(parts):
                            is_better = is_better and errors[pair + j, m] < best[m]
                        if is_better:
                            chosen = j
                            best[:] = errors[pair + j]
                    if chosen >= 0:
                        taken[chosen] = True
                        matched[i, k] = first_gt + chosen


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def average_precision_pass(outcome, image, weights, targets, recalls, workers, precisions):
    """Interpolated average precision, with images counted as often as their weights say.

    A copy of an estimate follows it at once.  Then only the last copy shapes the curve: a run of right ones raises precision and
    recall, a run of wrong ones lowers the precision of the same recall.

    Args:
        outcome: [n k] int8 by descending score: 1 right, 0 wrong, -1 left out.
        image: [n] image of each estimate.
        weights: [b i] of each image.
        targets: [b] truths to be found.
        recalls: [r] ascending.
        workers: how many work items to split into.
        precisions: [b k], filled; 0 without truths.
    """
    count, thresholds = outcome.shape
    for worker in prange(workers):
        recall, precision = np.empty(count), np.empty(count)
        for item in range(worker, len(weights) * thresholds, workers):
            b, k = item // thresholds, item % thresholds
            right, wrong = 0, 0
            for i in range(count):
                right += weights[b, image[i]] * (outcome[i, k] == 1)
                wrong += weights[b, image[i]] * (outcome[i, k] == 0)
                recall[i] = right / max(targets[b], 1)
                precision[i] = right / (right + wrong) if right + wrong > 0 else 0.0
            best, total, r = 0.0, 0.0, len(recalls) - 1
            for i in range(count - 1, -1, -1):
                while r >= 0 and recall[i] < recalls[r]:
                    total += best
                    r -= 1
                best = max(best, precision[i])
            precisions[b, k] = (total + (r + 1) * best) / len(recalls) if targets[b] > 0 else 0.0
