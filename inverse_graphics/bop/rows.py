"""What an evaluation of poses holds: headline scores, and columns of targets, estimates and objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from inverse_graphics.bop.detection import Outcomes
from inverse_graphics.bop.types import ImageKey


@dataclass(frozen=True)
class TargetRows:
    """The r truths that localisation asks for; its scores are means over these rows."""

    gt_row: Int[np.ndarray, "r"]
    """Row of the truths."""
    image: Int[np.ndarray, "r"]
    """Image, an index into ``PoseEvaluation.images``."""
    obj_id: Int[np.ndarray, "r"]
    """Object."""
    visib_fract: Float[np.ndarray, "r"]
    """Visible share."""
    distance_mm: Float[np.ndarray, "r"]
    """Distance of the object's origin from the camera."""
    est_row: Int[np.ndarray, "r"]
    """Row of the estimate that stands for it: matched by MSSD below half a diameter; -1 where it was missed."""
    re_deg: Float[np.ndarray, "r"]
    """Least rotation error of that estimate over the symmetries, NaN where missed."""
    te_mm: Float[np.ndarray, "r"]
    """Distance of the origins, NaN where missed."""
    recall_vsd: Float[np.ndarray, "r"]
    """Share of tolerances and thresholds of VSD at which it is found; NaN without depth images."""
    recall_mssd: Float[np.ndarray, "r"]
    """Share of thresholds of MSSD."""
    recall_mspd: Float[np.ndarray, "r"]
    """Share of thresholds of MSPD."""
    found_add: Bool[np.ndarray, "r"]
    """Whether it is found by ADD(-S) below a tenth of the diameter."""
    area_add: Float[np.ndarray, "r"]
    """max(0, 1 - ADD(-S) / 100 mm) of the estimate matched by it, 0 where missed."""
    area_adds: Float[np.ndarray, "r"]
    """The same of ADD-S."""
    found_5deg_5cm: Bool[np.ndarray, "r"]
    """Whether it is found by a rotation error (over symmetries) below 5 degrees together with a translation error below 50 mm."""


@dataclass(frozen=True)
class EstimateRows:
    """The e estimates judged by either task, each beside a truth of its image and object.

    That is the truth matched by MSSD below half a diameter, of all truths there are; else the one with the least MSSD, which may
    be another's partner; else none, and numbers are NaN.
    """

    est_row: Int[np.ndarray, "e"]
    """Row of the estimates."""
    gt_row: Int[np.ndarray, "e"]
    """Row of the truth, -1 without one."""
    is_matched: Bool[np.ndarray, "e"]
    """Whether the two are matched."""
    visib_fract: Float[np.ndarray, "e"]
    """Visible share of the truth."""
    distance_mm: Float[np.ndarray, "e"]
    """Distance of the truth's origin from the camera."""
    add_mm: Float[np.ndarray, "e"]
    """ADD."""
    adi_mm: Float[np.ndarray, "e"]
    """ADI, also called ADD-S."""
    mssd_mm: Float[np.ndarray, "e"]
    """MSSD."""
    mspd_px: Float[np.ndarray, "e"]
    """MSPD in pixels of the image as it is."""
    proj_px: Float[np.ndarray, "e"]
    """Mean projection distance."""
    re_deg: Float[np.ndarray, "e"]
    """Rotation error without regard to symmetries."""
    symmetric_re_deg: Float[np.ndarray, "e"]
    """Least rotation error over the symmetries."""
    te_mm: Float[np.ndarray, "e"]
    """Distance of the origins."""
    vsd: Float[np.ndarray, "e tau"]
    """VSD at each tolerance; NaN without depth images, and where localisation does not judge this estimate and truth."""


@dataclass(frozen=True)
class ObjectRows:
    """Scores of k objects; NaN where an object has nothing to average over."""

    obj_id: Int[np.ndarray, "k"]
    """Object."""
    num_targets: Int[np.ndarray, "k"]
    """Truths that localisation asks for."""
    num_targets_2024: Int[np.ndarray, "k"]
    """Truths that detection asks for."""
    ar_vsd: Float[np.ndarray, "k"]
    """Average recall by VSD."""
    ar_mssd: Float[np.ndarray, "k"]
    """Average recall by MSSD."""
    ar_mspd: Float[np.ndarray, "k"]
    """Average recall by MSPD."""
    ap_mssd: Float[np.ndarray, "k"]
    """Average precision by MSSD, mean over thresholds."""
    ap_mspd: Float[np.ndarray, "k"]
    """Average precision by MSPD, mean over thresholds."""
    add_recall: Float[np.ndarray, "k"]
    """Share found by ADD(-S) below a tenth of the diameter."""
    add_auc: Float[np.ndarray, "k"]
    """Area under the accuracy curve of ADD(-S)."""
    adds_auc: Float[np.ndarray, "k"]
    """The same of ADD-S."""
    re_median_deg: Float[np.ndarray, "k"]
    """Median rotation error over symmetries of what is matched."""
    te_median_mm: Float[np.ndarray, "k"]
    """Median translation error of what is matched."""


@dataclass(frozen=True)
class RecallCurves:
    """Recall of localisation at each threshold."""

    diameter_thresholds: Float[np.ndarray, "k"]
    """Thresholds of MSSD, in diameters, and of VSD."""
    pixel_thresholds: Float[np.ndarray, "k"]
    """Thresholds of MSPD, in pixels of an image 640 pixels wide."""
    vsd_taus: Float[np.ndarray, "tau"]
    """Tolerances of VSD."""
    mssd: Float[np.ndarray, "k"]
    """Recall by MSSD."""
    mspd: Float[np.ndarray, "k"]
    """Recall by MSPD."""
    vsd: Float[np.ndarray, "tau k"] | None
    """Recall by VSD; None without depth images."""


@dataclass(frozen=True)
class PoseEvaluation:
    """Scores of one results file, each in 0..1, and what they are made of."""

    ar: float | None
    """Localisation (2019): mean of the three AR; None without depth images."""
    ar_vsd: float | None
    """Average recall by VSD; None without depth images."""
    ar_mssd: float
    """Average recall by MSSD."""
    ar_mspd: float
    """Average recall by MSPD."""
    map_2024: float
    """Detection (2024): mean of the two mAP."""
    map_mssd: float
    """Mean average precision by MSSD."""
    map_mspd: float
    """Mean average precision by MSPD."""
    add_recall: float
    """Share of targets found by ADD, for symmetric models ADD-S, below a tenth of the diameter."""
    add_auc: float
    """Area under the curve of accuracy over the threshold of ADD, for symmetric models ADD-S, from 0 to 100 mm."""
    adds_auc: float
    """The same of ADD-S for all models."""
    recall_5deg_5cm: float
    """Share of targets found within 5 degrees (over symmetries) and 5 cm."""
    re_median_deg: float | None
    """Median rotation error over symmetries of the targets matched; None if none is."""
    te_median_mm: float | None
    """Median translation error of the targets matched; None if none is."""
    num_estimates_absent: int
    """Estimates of objects of which their image holds none."""
    curves: RecallCurves
    """Recall over thresholds."""
    objects: ObjectRows
    """Scores of each object."""
    targets: TargetRows
    """Truths that localisation asks for."""
    estimates: EstimateRows
    """Estimates judged."""
    images: tuple[ImageKey, ...]
    """The images judged by either task."""
    outcomes_mssd: tuple[Outcomes, ...]
    """What detection found, by MSSD, object by object."""
    outcomes_mspd: tuple[Outcomes, ...]
    """The same by MSPD."""


HEADLINES = (
    "ar ar_vsd ar_mssd ar_mspd map_2024 map_mssd map_mspd add_recall add_auc adds_auc recall_5deg_5cm re_median_deg te_median_mm "
    "num_estimates_absent"
).split()
"""Numbers of a ``PoseEvaluation``."""


def pose_summary(evaluation: PoseEvaluation) -> dict[str, Any]:
    """Headline numbers and those of each object (``per_object``), ready for JSON: None where there is nothing to average over."""
    columns = {name: np.asarray(column).tolist() for name, column in vars(evaluation.objects).items()}
    per_object = [
        {name: None if isinstance(value, float) and np.isnan(value) else value for name, value in zip(columns, row, strict=True)}
        for row in zip(*columns.values(), strict=True)
    ]
    return {name: getattr(evaluation, name) for name in HEADLINES} | {"per_object": per_object}
