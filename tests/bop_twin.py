"""BOP's metrics once more, in plain loops over one pose, one pixel and one estimate at a time, from their definitions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from inverse_graphics.bop.types import Estimates, ImageKey, Model, Target, Truths

STEPS = [float(x) for x in np.arange(0.05, 0.51, 0.05)]
STEPS_PX = [5.0 * k for k in range(1, 11)]


def moved(T: np.ndarray, points: np.ndarray) -> np.ndarray:
    return points @ T[:3, :3].T + T[:3, 3]


def pixels(K: np.ndarray, points: np.ndarray) -> np.ndarray:
    projected = points @ K.T
    return projected[:, :2] / projected[:, 2:]


def add(model: Model, T_est: np.ndarray, T_gt: np.ndarray) -> float:
    return float(np.linalg.norm(moved(T_est, model.points_mm) - moved(T_gt, model.points_mm), axis=-1).mean())


def adi(model: Model, T_est: np.ndarray, T_gt: np.ndarray) -> float:
    est = moved(T_est, model.points_mm)
    return float(np.mean([np.linalg.norm(est - point, axis=-1).min() for point in moved(T_gt, model.points_mm)]))


def mssd(model: Model, T_est: np.ndarray, T_gt: np.ndarray) -> float:
    est = moved(T_est, model.points_mm)
    return min(float(np.linalg.norm(est - moved(T_gt @ S, model.points_mm), axis=-1).max()) for S in model.symmetries)


def mspd(model: Model, T_est: np.ndarray, T_gt: np.ndarray, K: np.ndarray) -> float:
    est = moved(T_est, model.points_mm)
    if (est[:, 2] <= 0).any() or (moved(T_gt, model.points_mm)[:, 2] <= 0).any():
        return math.inf
    uv = pixels(K, est)
    return min(float(np.linalg.norm(uv - pixels(K, moved(T_gt @ S, model.points_mm)), axis=-1).max()) for S in model.symmetries)


def proj(model: Model, T_est: np.ndarray, T_gt: np.ndarray, K: np.ndarray) -> float:
    est, gt = moved(T_est, model.points_mm), moved(T_gt, model.points_mm)
    if (est[:, 2] <= 0).any() or (gt[:, 2] <= 0).any():
        return math.inf
    return float(np.linalg.norm(pixels(K, est) - pixels(K, gt), axis=-1).mean())


def rotation_deg(R_est: np.ndarray, R_gt: np.ndarray) -> float:
    return math.degrees(math.acos(min(1.0, max(-1.0, 0.5 * (np.trace(R_est @ np.linalg.inv(R_gt)) - 1)))))


def vsd(
    d_est: np.ndarray, d_gt: np.ndarray, d_test: np.ndarray, K: np.ndarray, delta: float, tau: float, diameter: float
) -> float:
    """Of three depth images in millimetres, 0 where there is nothing."""
    union, wrong = 0, 0
    for r in range(d_test.shape[0]):
        for c in range(d_test.shape[1]):
            ray = math.sqrt(((c - K[0, 2]) / K[0, 0]) ** 2 + ((r - K[1, 2]) / K[1, 1]) ** 2 + 1)
            est, gt, test = (float(d[r, c]) * ray for d in (d_est, d_gt, d_test))
            v_gt = gt > 0 and (test == 0 or gt - test <= delta)
            v_est = est > 0 and (test == 0 or est - test <= delta or v_gt)
            if v_gt or v_est:
                union += 1
                wrong += not (v_gt and v_est) or abs(est - gt) >= tau * diameter
    return wrong / union if union else 1.0


def match(rows: list[int], truths: list[int], score: np.ndarray, error: dict[tuple[int, int], tuple], threshold: tuple) -> dict:
    """Greedy matching of estimates to truths: truth of each estimate matched."""
    partner: dict[int, int] = {}
    for est in sorted(rows, key=lambda row: -score[row]):
        best, chosen = threshold, None
        for gt in truths:
            if gt not in partner.values() and all(a < b for a, b in zip(error[est, gt], best, strict=True)):
                best, chosen = error[est, gt], gt
        if chosen is not None:
            partner[est] = chosen
    return partner


def rows_of(table: Estimates | Truths, key: tuple[int, int, int]) -> list[int]:
    return np.flatnonzero((table.scene_id == key[0]) & (table.im_id == key[1]) & (table.obj_id == key[2])).tolist()


def localisation_recall(
    estimates: Estimates, truths: Truths, targets: Sequence[Target], error: dict[tuple[int, int], tuple], threshold: tuple
) -> float:
    """Share of the truths asked for that are found."""
    found, asked = 0, 0
    for target in targets:
        key = (target.scene_id, target.im_id, target.obj_id)
        est = sorted(rows_of(estimates, key), key=lambda row: -estimates.score[row])[: target.inst_count]
        gt = sorted(rows_of(truths, key), key=lambda row: -truths.visib_fract[row])[: target.inst_count]
        asked += len(gt)
        found += len(match(est, sorted(gt), estimates.score, error, threshold))
    return found / asked if asked else 0.0


def mean_average_precision(
    estimates: Estimates,
    truths: Truths,
    images: Sequence[ImageKey],
    error: dict[tuple[int, int], tuple],
    thresholds: list[float],
    limit: int = 100,
    count_absent: bool = False,
) -> float:
    """Mean over objects of the mean over thresholds."""
    scenes = list(dict.fromkeys(image.scene_id for image in images))
    ordered = [image for scene in scenes for image in dict.fromkeys(images) if image.scene_id == scene]
    judged: dict[ImageKey, list[int]] = {}
    for image in ordered:
        rows = np.flatnonzero((estimates.scene_id == image.scene_id) & (estimates.im_id == image.im_id)).tolist()
        judged[image] = sorted(rows, key=lambda row: -estimates.score[row])[:limit]
    means = []
    for obj_id in sorted(set(truths.obj_id.tolist())):
        values, wanted = [], 0
        for threshold in thresholds:
            labelled, wanted = [], 0
            for image in ordered:
                gt = rows_of(truths, (image.scene_id, image.im_id, obj_id))
                est = [row for row in judged[image] if estimates.obj_id[row] == obj_id]
                wanted += sum(truths.visib_fract[row] >= 0.1 for row in gt)
                if not gt and not count_absent:
                    continue
                partner = match(est, gt, estimates.score, error, (threshold,))
                for row in est:
                    if row not in partner or truths.visib_fract[partner[row]] >= 0.1:
                        labelled.append((estimates.score[row], row in partner))
            labelled.sort(key=lambda item: -item[0])
            values.append(average_precision([right for _, right in labelled], wanted))
        if wanted:
            means.append(float(np.mean(values)))
    return float(np.mean(means)) if means else 0.0


def average_precision(right: Sequence[bool], wanted: int) -> float:
    """101-point interpolated average precision of estimates by descending score."""
    points = [(0.0, 0.0)]
    for count in range(1, len(right) + 1):
        points.append((sum(right[:count]) / max(wanted, 1), sum(right[:count]) / count))
    recalls = np.linspace(0, 1, 101)
    return float(np.mean([max((p for r, p in points if r >= recall), default=0.0) for recall in recalls]))
