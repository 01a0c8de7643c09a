"""Scores of a results file against the ground truth: localisation (2019), detection (2024), ADD, and errors row by row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float, Int

from inverse_graphics.bop import detection, localisation
from inverse_graphics.bop.errors import AUC_LIMIT_MM, PoseErrors
from inverse_graphics.bop.matching import DIAMETER_THRESHOLDS, PIXEL_THRESHOLDS, PIXEL_WIDTH, estimate_of, match_estimates
from inverse_graphics.bop.pair_errors import errors_of_pairs, vsd_of_pairs
from inverse_graphics.bop.pairs import Pairs, known_objects, make_pairs
from inverse_graphics.bop.rows import EstimateRows, ObjectRows, PoseEvaluation, RecallCurves, TargetRows
from inverse_graphics.bop.types import Estimates, ImageCamera, ImageKey, Model, Target, Truths
from inverse_graphics.bop.vsd import VSD_TAUS, VsdSource

ADD_FRACTION = 0.1
"""ADD(-S) below this many diameters is right."""
ANGLE_LIMIT_DEG, DISTANCE_LIMIT_MM = 5.0, 50.0
"""5 degrees, 5 cm."""


@dataclass(frozen=True)
class _Table:
    """What everything below works on."""

    pairs: Pairs
    """Estimates judged by either task, and all truths of the images."""
    estimates: Estimates
    """The results file."""
    truths: Truths
    """The ground truth."""
    errors: PoseErrors
    """[p] errors."""
    diameter_mm: Float[np.ndarray, "p"]
    """Diameter of each pair's model."""
    is_symmetric: Bool[np.ndarray, "p"]
    """Whether that model has symmetries."""
    mspd_640_px: Float[np.ndarray, "p"]
    """MSPD in an image 640 pixels wide."""
    vsd: Float[np.ndarray, "p tau"] | None
    """VSD; None without depth images."""
    est_used: Bool[np.ndarray, "e"]
    """Estimates that localisation judges."""
    gt_used: Bool[np.ndarray, "t"]
    """Truths that it asks for."""


def evaluate(
    estimates: Estimates,
    truths: Truths,
    models: Mapping[int, Model],
    camera_of: Callable[[ImageKey], ImageCamera],
    targets: Sequence[Target],
    images: Sequence[ImageKey],
    vsd_source: VsdSource | None = None,
    max_estimates: int = detection.MAX_ESTIMATES,
    count_absent: bool = False,
) -> PoseEvaluation:
    """Score a results file.

    Memory grows by about 150 bytes for each estimate and truth of the same image and object; images are looked at one by one.

    Args:
        estimates: the results file.
        truths: all ground truth of the images.
        models: of the data set, ``models_eval`` where there are some.
        camera_of: camera of each image.
        targets: what localisation asks for; estimates of other images and objects are ignored there.
        images: what detection looks at; other images are ignored there.
        vsd_source: depth images and a renderer for VSD; without it ``ar`` and ``ar_vsd`` are None.
        max_estimates: estimates that detection judges in an image.
        count_absent: whether detection takes an estimate of an object of which the image holds none as wrong; bop_toolkit does
            not judge it.

    Raises:
        ValueError: a target twice, an object without model, or poses that are not finite.
    """
    everywhere = [*images, *(ImageKey(target.scene_id, target.im_id) for target in targets)]
    pairs = make_pairs(estimates, truths, everywhere)
    listed = set(images)
    in_2024 = np.array([image in listed for image in pairs.images], bool)
    counts = localisation.target_counts(pairs, targets)
    is_absent = np.diff(pairs.gt_start)[pairs.est_group] == 0
    by_score = detection.judged_estimates(pairs, estimates, max_estimates, count_absent) & in_2024[pairs.est_image]
    by_target = localisation.judged_estimates(pairs, counts)
    kept = by_score | by_target
    table = _table(pairs.keep_estimates(kept), by_target[kept], counts, estimates, truths, models, camera_of, vsd_source)
    in_gt = in_2024[table.pairs.gt_image]
    return _evaluation(table, by_score[kept], in_gt, int((is_absent & in_2024[pairs.est_image]).sum()))


def _table(
    pairs: Pairs,
    est_used: Bool[np.ndarray, "e"],
    counts: Int[np.ndarray, "g"],
    estimates: Estimates,
    truths: Truths,
    models: Mapping[int, Model],
    camera_of: Callable[[ImageKey], ImageCamera],
    vsd_source: VsdSource | None,
) -> _Table:
    """Errors of all pairs."""
    known_objects(models, truths.obj_id[pairs.gt_row], "ground truth")
    cameras = [camera_of(image) for image in pairs.images]
    gt_used = localisation.judged_truths(pairs, truths, counts)
    errors = errors_of_pairs(pairs, estimates, truths, models, cameras)
    vsd = None
    if vsd_source is not None:
        vsd = vsd_of_pairs(pairs, est_used, gt_used, estimates, truths, models, cameras, vsd_source)
    pair_group = pairs.est_group[pairs.pair_est]
    group_models = [models.get(obj_id) for obj_id in pairs.group_obj_id.tolist()]
    diameter_mm = np.array([np.nan if model is None else model.diameter_mm for model in group_models], np.float64)
    is_symmetric = np.array([model is not None and len(model.symmetries) > 1 for model in group_models], bool)
    width_px = np.array([camera.width_px for camera in cameras], np.float64)[pairs.group_image]
    return _Table(
        pairs=pairs,
        estimates=estimates,
        truths=truths,
        errors=errors,
        diameter_mm=diameter_mm[pair_group],
        is_symmetric=is_symmetric[pair_group],
        mspd_640_px=PIXEL_WIDTH / width_px[pair_group] * errors.mspd_px,
        vsd=vsd,
        est_used=est_used,
        gt_used=gt_used,
    )


def _evaluation(
    table: _Table, by_score: Bool[np.ndarray, "e"], in_2024: Bool[np.ndarray, "t"], num_estimates_absent: int
) -> PoseEvaluation:
    """All scores from the errors of the pairs."""
    mssd = table.errors.mssd_mm / table.diameter_mm
    judged = (table.pairs, table.est_used, table.gt_used)
    hits_mssd = localisation.localisation_hits(*judged, mssd, DIAMETER_THRESHOLDS)
    hits_mspd = localisation.localisation_hits(*judged, table.mspd_640_px, PIXEL_THRESHOLDS)
    hits_vsd = None
    if table.vsd is not None:
        columns = [localisation.localisation_hits(*judged, column, DIAMETER_THRESHOLDS) for column in table.vsd.T]
        hits_vsd = np.stack(columns, 1)
    targets = _target_rows(table, mssd, hits_vsd, hits_mssd, hits_mspd)
    tables = (table.pairs, table.estimates, table.truths, by_score, in_2024)
    by_mssd = detection.detection_outcomes(*tables, mssd, DIAMETER_THRESHOLDS)
    by_mspd = detection.detection_outcomes(*tables, table.mspd_640_px, PIXEL_THRESHOLDS)
    map_mssd, map_mspd = (float(detection.mean_average_precision(outcomes)[0]) for outcomes in (by_mssd, by_mspd))
    ar_vsd = None if hits_vsd is None else _mean(targets.recall_vsd)
    ar_mssd, ar_mspd = _mean(targets.recall_mssd), _mean(targets.recall_mspd)
    matched = targets.est_row >= 0
    recalls = [localisation.recall(hits, table.gt_used) for hits in (hits_mssd, hits_mspd)]
    recall_vsd = None if hits_vsd is None else localisation.recall(hits_vsd, table.gt_used)
    return PoseEvaluation(
        ar=None if ar_vsd is None else (ar_vsd + ar_mssd + ar_mspd) / 3,
        ar_vsd=ar_vsd,
        ar_mssd=ar_mssd,
        ar_mspd=ar_mspd,
        map_2024=(map_mssd + map_mspd) / 2,
        map_mssd=map_mssd,
        map_mspd=map_mspd,
        add_recall=_mean(targets.found_add),
        add_auc=_mean(targets.area_add),
        adds_auc=_mean(targets.area_adds),
        recall_5deg_5cm=_mean(targets.found_5deg_5cm),
        re_median_deg=float(np.median(targets.re_deg[matched])) if matched.any() else None,
        te_median_mm=float(np.median(targets.te_mm[matched])) if matched.any() else None,
        num_estimates_absent=num_estimates_absent,
        curves=RecallCurves(DIAMETER_THRESHOLDS, PIXEL_THRESHOLDS, VSD_TAUS, recalls[0], recalls[1], recall_vsd),
        objects=_object_rows(targets, by_mssd, by_mspd),
        targets=targets,
        estimates=_estimate_rows(table, mssd),
        images=table.pairs.images,
        outcomes_mssd=by_mssd,
        outcomes_mspd=by_mspd,
    )


def _target_rows(
    table: _Table,
    mssd: Float[np.ndarray, "p"],
    hits_vsd: Bool[np.ndarray, "t tau k"] | None,
    hits_mssd: Bool[np.ndarray, "t k"],
    hits_mspd: Bool[np.ndarray, "t k"],
) -> TargetRows:
    """What became of the truths that localisation asks for."""
    pairs, chosen = table.pairs, np.flatnonzero(table.gt_used)
    rows = pairs.gt_row[chosen]
    errors = table.errors
    add_mm = np.where(table.is_symmetric, errors.adi_mm, errors.add_mm)
    both = np.stack([errors.symmetric_re_deg, errors.te_mm], -1)
    partner, re_deg, te_mm = _partners(
        table, mssd[:, None], DIAMETER_THRESHOLDS[-1:, None], errors.symmetric_re_deg, errors.te_mm
    )
    found_add = _partners(table, (add_mm / table.diameter_mm)[:, None], np.array([[ADD_FRACTION]]))[0] >= 0
    found_both = _partners(table, both, np.array([[ANGLE_LIMIT_DEG, DISTANCE_LIMIT_MM]]))[0] >= 0
    limit = np.array([[AUC_LIMIT_MM]])
    add, adds = (_partners(table, error[:, None], limit, error)[1] for error in (add_mm, errors.adi_mm))
    recall_vsd = np.full(len(rows), np.nan) if hits_vsd is None else hits_vsd[chosen].mean((-2, -1))
    return TargetRows(
        gt_row=rows,
        image=pairs.gt_image[chosen],
        obj_id=table.truths.obj_id[rows],
        visib_fract=table.truths.visib_fract[rows],
        distance_mm=np.linalg.norm(table.truths.T_camera_object_mm[rows, :3, 3], axis=-1),
        est_row=np.where(partner >= 0, pairs.est_row[partner], -1) if len(pairs.est_row) else partner,
        re_deg=re_deg,
        te_mm=te_mm,
        recall_vsd=recall_vsd,
        recall_mssd=hits_mssd[chosen].mean(-1),
        recall_mspd=hits_mspd[chosen].mean(-1),
        found_add=found_add,
        area_add=np.nan_to_num(1 - add / AUC_LIMIT_MM, nan=0.0),
        area_adds=np.nan_to_num(1 - adds / AUC_LIMIT_MM, nan=0.0),
        found_5deg_5cm=found_both,
    )


def _partners(
    table: _Table, errors: Float[np.ndarray, "p m"], threshold: Float[np.ndarray, "1 m"], *columns: Float[np.ndarray, "p"]
) -> list[np.ndarray]:
    """For each target the estimate matched, -1 without one, and columns of the two's pair, NaN without one."""
    matched = match_estimates(table.pairs, table.est_used, table.gt_used, errors, threshold)[:, 0]
    gt = np.flatnonzero(table.gt_used)
    est = estimate_of(matched, len(table.gt_used))[gt]
    has = est >= 0
    pair = table.pairs.pair_index(est[has], gt[has])
    values = [np.full(len(gt), np.nan) for _ in columns]
    for value, column in zip(values, columns, strict=True):
        value[has] = column[pair]
    return [est, *values]


def _estimate_rows(table: _Table, mssd: Float[np.ndarray, "p"]) -> EstimateRows:
    """Every estimate beside a truth."""
    pairs, taus = table.pairs, len(VSD_TAUS)
    everything = (np.ones(len(pairs.est_row), bool), np.ones(len(pairs.gt_row), bool))
    gt = match_estimates(pairs, *everything, mssd[:, None], DIAMETER_THRESHOLDS[-1:, None])[:, 0]
    is_matched = gt >= 0
    nearest = np.full(len(gt), -1, np.int64)
    order = np.lexsort((pairs.pair_gt, mssd, pairs.pair_est))[::-1]
    # the last one written is the nearest of each estimate
    nearest[pairs.pair_est[order]] = pairs.pair_gt[order]
    gt = np.where(is_matched, gt, nearest)
    est = np.flatnonzero(gt >= 0)
    pair = pairs.pair_index(est, gt[est])

    def beside(column: np.ndarray) -> np.ndarray:
        values = np.full((len(gt), *column.shape[1:]), np.nan)
        values[est] = column[pair]
        return values

    gt_row = np.full(len(gt), -1, np.int64)
    gt_row[est] = pairs.gt_row[gt[est]]
    pair_gt_row = pairs.gt_row[pairs.pair_gt]
    return EstimateRows(
        est_row=pairs.est_row,
        gt_row=gt_row,
        is_matched=is_matched,
        visib_fract=beside(table.truths.visib_fract[pair_gt_row]),
        distance_mm=beside(np.linalg.norm(table.truths.T_camera_object_mm[:, :3, 3], axis=-1)[pair_gt_row]),
        vsd=np.full((len(gt), taus), np.nan) if table.vsd is None else beside(table.vsd),
        **{field.name: beside(getattr(table.errors, field.name)) for field in fields(PoseErrors)},
    )


def _object_rows(
    targets: TargetRows, by_mssd: tuple[detection.Outcomes, ...], by_mspd: tuple[detection.Outcomes, ...]
) -> ObjectRows:
    """Scores object by object."""
    wanted = {one.obj_id: int(one.targets.sum()) for one in by_mssd}
    precision = [
        {one.obj_id: float(detection.average_precisions(one).mean()) for one in outcomes if one.targets.any()}
        for outcomes in (by_mssd, by_mspd)
    ]
    obj_ids = sorted({*targets.obj_id.tolist(), *wanted})
    rows = [targets.obj_id == obj_id for obj_id in obj_ids]

    def means(column: np.ndarray) -> np.ndarray:
        return np.array([column[row].mean() if row.any() else np.nan for row in rows], np.float64)

    def medians(column: np.ndarray) -> np.ndarray:
        found = [column[row & (targets.est_row >= 0)] for row in rows]
        return np.array([np.median(values) if len(values) else np.nan for values in found], np.float64)

    return ObjectRows(
        obj_id=np.array(obj_ids, np.int64),
        num_targets=np.array([row.sum() for row in rows], np.int64),
        num_targets_2024=np.array([wanted.get(obj_id, 0) for obj_id in obj_ids], np.int64),
        ar_vsd=means(targets.recall_vsd),
        ar_mssd=means(targets.recall_mssd),
        ar_mspd=means(targets.recall_mspd),
        ap_mssd=np.array([precision[0].get(obj_id, np.nan) for obj_id in obj_ids], np.float64),
        ap_mspd=np.array([precision[1].get(obj_id, np.nan) for obj_id in obj_ids], np.float64),
        add_recall=means(targets.found_add),
        add_auc=means(targets.area_add),
        adds_auc=means(targets.area_adds),
        re_median_deg=medians(targets.re_deg),
        te_median_mm=medians(targets.te_mm),
    )


def _mean(values: np.ndarray) -> float:
    """Mean, 0 of nothing."""
    return float(values.mean()) if len(values) else 0.0
