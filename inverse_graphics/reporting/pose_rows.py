"""Rows of an evaluation of poses: classes as JSON, and objects, targets and estimates as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from inverse_graphics.bop.rows import ObjectRows, PoseEvaluation
from inverse_graphics.bop.types import Estimates, Truths

TARGET_COLUMNS = (
    "visib_fract distance_mm re_deg te_mm recall_vsd recall_mssd recall_mspd found_add area_add area_adds found_5deg_5cm"
).split()
ESTIMATE_COLUMNS = (
    "is_matched visib_fract distance_mm add_mm adi_mm mssd_mm mspd_px proj_px re_deg symmetric_re_deg te_mm"
).split()


@dataclass(frozen=True)
class PoseSide:
    """One results file and how it was judged."""

    label: str
    """What readers call it."""
    estimates: Estimates
    """Its rows."""
    evaluation: PoseEvaluation
    """Its scores."""


def target_recall(evaluation: PoseEvaluation) -> Float[np.ndarray, "r"]:
    """The recall that AR is the mean of, target by target; without VSD where there is none."""
    targets = evaluation.targets
    columns = [targets.recall_mssd, targets.recall_mspd, *([] if evaluation.ar_vsd is None else [targets.recall_vsd])]
    return np.mean(columns, axis=0)


def class_rows(evaluation: PoseEvaluation, names: Mapping[int, str]) -> list[dict[str, Any]]:
    """Scores of each class, ready for JSON: targets of all its objects together, average precision as the mean over objects.

    Args:
        evaluation: of any objects.
        names: class of each obj_id; objects of one name are one class.
    """
    objects, targets = evaluation.objects, evaluation.targets
    target_names = np.array([names[obj_id] for obj_id in targets.obj_id.tolist()], object)
    object_names = np.array([names[obj_id] for obj_id in objects.obj_id.tolist()], object)
    rows = []
    for name in dict.fromkeys(object_names.tolist()):
        chosen, mine = target_names == name, object_names == name
        matched = chosen & (targets.est_row >= 0)
        rows.append(
            {
                "class": name,
                "obj_ids": objects.obj_id[mine].tolist(),
                "num_targets": int(chosen.sum()),
                "ar_vsd": _mean(targets.recall_vsd[chosen]),
                "ar_mssd": _mean(targets.recall_mssd[chosen]),
                "ar_mspd": _mean(targets.recall_mspd[chosen]),
                "ap_mssd": _mean(_known(objects.ap_mssd[mine])),
                "ap_mspd": _mean(_known(objects.ap_mspd[mine])),
                "add_recall": _mean(targets.found_add[chosen]),
                "add_auc": _mean(targets.area_add[chosen]),
                "adds_auc": _mean(targets.area_adds[chosen]),
                "re_median_deg": _median(targets.re_deg[matched]),
                "te_median_mm": _median(targets.te_mm[matched]),
            }
        )
    return rows


def object_csv(sides: Sequence[PoseSide], names: Mapping[int, str]) -> str:
    """One row an object and results file."""
    columns = [field.name for field in fields(ObjectRows)]
    rows = []
    for side in sides:
        objects = side.evaluation.objects
        for index, obj_id in enumerate(objects.obj_id.tolist()):
            rows.append((side.label, names[obj_id], *(getattr(objects, column)[index] for column in columns)))
    return _csv(("results", "name", *columns), rows)


def target_csv(sides: Sequence[PoseSide], truths: Truths, names: Mapping[int, str]) -> str:
    """One row a truth that localisation asks for and results file; ``score`` is empty where it was missed."""
    rows = []
    for side in sides:
        targets = side.evaluation.targets
        for index, gt_row in enumerate(targets.gt_row.tolist()):
            est_row = int(targets.est_row[index])
            score = side.estimates.score[est_row] if est_row >= 0 else math.nan
            key = (truths.scene_id[gt_row], truths.im_id[gt_row], truths.obj_id[gt_row], names[int(truths.obj_id[gt_row])])
            values = (getattr(targets, column)[index] for column in TARGET_COLUMNS)
            rows.append((side.label, *key, truths.gt_id[gt_row], score, *values))
    return _csv(("results", "scene_id", "im_id", "obj_id", "name", "gt_id", "score", *TARGET_COLUMNS), rows)


def estimate_csv(sides: Sequence[PoseSide], truths: Truths, names: Mapping[int, str]) -> str:
    """One row an estimate judged, beside the truth named by ``gt_id``; ``vsd_mean`` is over the tolerances."""
    rows = []
    for side in sides:
        judged, estimates = side.evaluation.estimates, side.estimates
        for index, est_row in enumerate(judged.est_row.tolist()):
            gt_row, obj_id = int(judged.gt_row[index]), int(estimates.obj_id[est_row])
            key = (estimates.scene_id[est_row], estimates.im_id[est_row], obj_id, names[obj_id])
            said = (estimates.score[est_row], estimates.time_s[est_row], truths.gt_id[gt_row] if gt_row >= 0 else "")
            values = (getattr(judged, column)[index] for column in ESTIMATE_COLUMNS)
            rows.append((side.label, *key, *said, *values, judged.vsd[index].mean()))
    head = ("results", "scene_id", "im_id", "obj_id", "name", "score", "time_s", "gt_id")
    return _csv((*head, *ESTIMATE_COLUMNS, "vsd_mean"), rows)


def _csv(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Lines of values; what is NaN stays empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([_plain(value) for value in row] for row in rows)
    return stream.getvalue()


def _plain(value: Any) -> Any:
    """A Python value as CSV has it: booleans as 0 and 1."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, bool):
        return int(value)
    return "" if isinstance(value, float) and math.isnan(value) else value


def _known(values: Float[np.ndarray, "n"]) -> Float[np.ndarray, "m"]:
    return values[~np.isnan(values)]


def _mean(values: Float[np.ndarray, "n"] | Bool[np.ndarray, "n"]) -> float | None:
    """None of nothing, and where a value is missing."""
    return None if len(values) == 0 or np.isnan(values).any() else float(values.mean())


def _median(values: Float[np.ndarray, "n"]) -> float | None:
    return float(np.median(values)) if len(values) else None
