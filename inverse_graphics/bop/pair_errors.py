"""Errors of all pairs of an evaluation, some thousand pairs at a time."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Bool, Float

from inverse_graphics.bop.errors import PoseErrors, PoseJudge
from inverse_graphics.bop.pairs import Pairs
from inverse_graphics.bop.types import Estimates, ImageCamera, Model, Truths
from inverse_graphics.bop.vsd import VSD_TAUS, VsdSource, vsd_errors

CHUNK = 8192
"""Pairs whose poses are gathered at once."""


def errors_of_pairs(
    pairs: Pairs, estimates: Estimates, truths: Truths, models: Mapping[int, Model], cameras: Sequence[ImageCamera]
) -> PoseErrors:
    """Errors of each pair; 64 bytes a pair are kept.

    Args:
        pairs: which estimates meet which truths.
        estimates, truths: their tables.
        models: of every object that has pairs.
        cameras: of each of ``pairs.images``.
    """
    names = [field.name for field in dataclasses.fields(PoseErrors)]
    columns = {name: np.empty(len(pairs.pair_est)) for name in names}
    pair_obj = pairs.group_obj_id[pairs.est_group[pairs.pair_est]]
    K_px = np.array([camera.K_px for camera in cameras], np.float64).reshape(-1, 3, 3)
    for obj_id in np.unique(pair_obj).tolist():
        judge = PoseJudge(models[obj_id])
        rows = np.flatnonzero(pair_obj == obj_id)
        for first in range(0, len(rows), CHUNK):
            some = rows[first : first + CHUNK]
            est, gt = pairs.pair_est[some], pairs.pair_gt[some]
            T_est_mm, T_gt_mm = (
                estimates.T_camera_object_mm[pairs.est_row[est]],
                truths.T_camera_object_mm[pairs.gt_row[gt]],
            )
            errors = judge.errors(T_est_mm, T_gt_mm, K_px[pairs.est_image[est]])
            for name in names:
                columns[name][some] = getattr(errors, name)
    return PoseErrors(**columns)


def vsd_of_pairs(
    pairs: Pairs,
    est_used: Bool[np.ndarray, "e"],
    gt_used: Bool[np.ndarray, "t"],
    estimates: Estimates,
    truths: Truths,
    models: Mapping[int, Model],
    cameras: Sequence[ImageCamera],
    source: VsdSource,
) -> Float[np.ndarray, "p tau"]:
    """VSD of the pairs of some estimates and truths, image by image; NaN for the others."""
    errors = np.full((len(pairs.pair_est), len(VSD_TAUS)), np.nan)
    rows = np.flatnonzero(est_used[pairs.pair_est] & gt_used[pairs.pair_gt])
    row_image = pairs.est_image[pairs.pair_est[rows]]
    for image in np.unique(row_image).tolist():
        some = rows[np.searchsorted(row_image, image) : np.searchsorted(row_image, image, side="right")]
        est, local_est = np.unique(pairs.pair_est[some], return_inverse=True)
        gt, local_gt = np.unique(pairs.pair_gt[some], return_inverse=True)
        est_rows, gt_rows = pairs.est_row[est], pairs.gt_row[gt]
        diameter_mm = np.array([models[obj_id].diameter_mm for obj_id in truths.obj_id[gt_rows[local_gt]].tolist()])
        errors[some] = vsd_errors(
            estimates.obj_id[est_rows],
            estimates.T_camera_object_mm[est_rows],
            truths.obj_id[gt_rows],
            truths.T_camera_object_mm[gt_rows],
            np.stack([local_est, local_gt], -1).astype(np.int64),
            diameter_mm,
            source.depth_mm_of(pairs.images[image]),
            cameras[image],
            source.depth_of,
            source.delta_mm,
        )
    return errors
