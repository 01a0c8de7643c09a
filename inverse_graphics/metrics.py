"""How well inferred objects agree with the true ones.  Each metric is defined in docs/metrics.md; everything is float64 numpy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike
from torch import Tensor

from inverse_graphics.matching import GATE_M, match
from inverse_graphics.symmetry import has_visible_yaw, rotation_error_rad
from inverse_graphics.types import Catalogue, Objects

SCENE_POSITION_LIMIT_M = 0.02
"""In a scene that counts as right no position is farther off than this."""


@dataclass(frozen=True)
class Evaluation:
    """Estimates against truth: s scenes and o true objects, scene after scene."""

    class_names: tuple[str, ...]
    """Names of the catalogue's k classes."""
    count_est: Int[np.ndarray, "s"]
    """Number of inferred objects in each scene."""
    count_gt: Int[np.ndarray, "s"]
    """Number of true objects in each scene."""
    scene: Int[np.ndarray, "o"]
    """Scene of each true object, an index into the counts."""
    slot_gt: Int[np.ndarray, "o"]
    """Slot of each true object within its scene."""
    slot_est: Int[np.ndarray, "o"]
    """Slot of the estimate matched to it, -1 where it was missed."""
    class_gt: Int[np.ndarray, "o"]
    """True class."""
    class_est: Int[np.ndarray, "o"]
    """Class of the matched estimate, -1 where the object was missed."""
    position_error_m: Float[np.ndarray, "o"]
    """Distance between the origins of the pair, NaN where the object was missed."""
    rotation_error_deg: Float[np.ndarray, "o"]
    """Angle modulo the symmetries; NaN where missed, of the wrong class, or without a visible orientation."""
    visible_fraction: Float[np.ndarray, "o"]
    """Share of the true object's pixels that nothing hides, NaN where not given."""

    @property
    def matched(self) -> Bool[np.ndarray, "o"]:
        """Which true objects have an estimate."""
        return self.slot_est >= 0

    @property
    def recognised(self) -> Bool[np.ndarray, "o"]:
        """Which true objects have an estimate of the right class."""
        return self.class_est == self.class_gt

    @property
    def scene_correct(self) -> Bool[np.ndarray, "s"]:
        """Which scenes have the right count, every class right and every position within SCENE_POSITION_LIMIT_M."""
        placed = np.nan_to_num(self.position_error_m, nan=np.inf) <= SCENE_POSITION_LIMIT_M
        wrong = np.bincount(self.scene[~(self.recognised & placed)], minlength=len(self.count_gt))
        return (self.count_est == self.count_gt) & (wrong == 0)


def evaluate_objects(
    objects_est: Objects,
    objects_gt: Objects,
    catalogue: Catalogue,
    visible_fraction_gt: ArrayLike | Tensor | None = None,
    gate_m: float = GATE_M,
) -> Evaluation:
    """Match estimates to the truth by position and compare class, position and rotation of each pair.

    Args:
        objects_est: [*b n] inferred objects.
        objects_gt: [*b m] true objects in the same scenes; n and m may differ.
        catalogue: the meshes that both sets of class ids refer to.
        visible_fraction_gt: [*b m] visible share of each true object's pixels.
        gate_m: estimates farther away than this from a true object do not stand for it.

    Raises:
        ValueError: if shapes disagree, or a present object has a class outside the catalogue or a pose that is not finite.
    """
    est, gt = _Arrays.of("objects_est", objects_est, len(catalogue)), _Arrays.of("objects_gt", objects_gt, len(catalogue))
    if objects_est.present.shape[:-1] != objects_gt.present.shape[:-1]:
        raise ValueError(
            "evaluate_objects: expected objects_est and objects_gt with the same batch dimensions, received "
            f"{tuple(objects_est.present.shape)} and {tuple(objects_gt.present.shape)}; only the numbers of slots may differ."
        )
    indices = match(est.T[..., :3, 3], est.present, gt.T[..., :3, 3], gt.present, gate_m)
    scene, slot_gt = np.nonzero(gt.present)
    slot_est = indices[scene, slot_gt]
    found = slot_est >= 0
    T_gt, class_gt = gt.T[scene, slot_gt], gt.class_ids[scene, slot_gt]
    # Slot -1 of a missed object reads some other slot; nothing of it survives the masks.
    T_est = est.T[scene, slot_est] if est.present.shape[1] else T_gt
    class_est = np.where(found, est.class_ids[scene, slot_est], -1) if est.present.shape[1] else np.full(len(scene), -1)
    position_error_m = np.where(found, np.linalg.norm(T_est[:, :3, 3] - T_gt[:, :3, 3], axis=-1), np.nan)
    return Evaluation(
        class_names=catalogue.names,
        count_est=est.present.sum(-1),
        count_gt=gt.present.sum(-1),
        scene=scene,
        slot_gt=slot_gt,
        slot_est=slot_est,
        class_gt=class_gt,
        class_est=class_est,
        position_error_m=position_error_m,
        rotation_error_deg=_rotation_errors_deg(T_est, T_gt, class_est, class_gt, catalogue),
        visible_fraction=_visible_fraction(visible_fraction_gt, objects_gt)[scene, slot_gt],
    )


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """The headline numbers, ready for JSON: floats, None where there is nothing to average over, and per-class values.

    Returns:
        count_accuracy, class_accuracy, matched_share, position_error_median_m, position_error_p95_m, rotation_error_median_deg,
        rotation_error_p90_deg, scene_accuracy (float or None), num_eval_scenes (int) and per_class: for each class name
        class_accuracy, position_error_median_m, rotation_error_median_deg (float or None) and num_objects (int).
    """
    matched = evaluation.matched
    return {
        "count_accuracy": _mean(evaluation.count_est == evaluation.count_gt),
        "class_accuracy": _mean(evaluation.recognised[matched]),
        "matched_share": _mean(matched),
        "position_error_median_m": _percentile(evaluation.position_error_m, 50),
        "position_error_p95_m": _percentile(evaluation.position_error_m, 95),
        "rotation_error_median_deg": _percentile(evaluation.rotation_error_deg, 50),
        "rotation_error_p90_deg": _percentile(evaluation.rotation_error_deg, 90),
        "scene_accuracy": _mean(evaluation.scene_correct),
        "num_eval_scenes": len(evaluation.count_gt),
        "per_class": {name: _class_summary(evaluation, index) for index, name in enumerate(evaluation.class_names)},
    }


def class_confusion(evaluation: Evaluation) -> Int[np.ndarray, "k k_plus_1"]:
    """Number of objects of each true class (row) that were taken for each class (column); the last column holds the missed."""
    classes = len(evaluation.class_names)
    table = np.zeros((classes, classes + 1), np.int64)
    np.add.at(table, (evaluation.class_gt, np.where(evaluation.matched, evaluation.class_est, classes)), 1)
    return table


def count_confusion(evaluation: Evaluation) -> Int[np.ndarray, "n_plus_1 n_plus_1"]:
    """Number of scenes with each true count (row) for which each count (column) was inferred."""
    size = 1 + int(max(evaluation.count_est.max(initial=0), evaluation.count_gt.max(initial=0)))
    table = np.zeros((size, size), np.int64)
    np.add.at(table, (evaluation.count_gt, evaluation.count_est), 1)
    return table


@dataclass(frozen=True)
class _Arrays:
    """Objects as numpy arrays with all batch dimensions flattened to one."""

    class_ids: Int[np.ndarray, "s n"]
    """Class ids."""
    T: Float[np.ndarray, "s n 4 4"]
    """T_world_object."""
    present: Bool[np.ndarray, "s n"]
    """Presence."""

    @staticmethod
    def of(name: str, objects: Objects, classes: int) -> _Arrays:
        """Convert, and check what is present."""
        slots = objects.present.shape[-1]
        expected = {"class_ids": objects.present.shape, "T_world_object": (*objects.present.shape, 4, 4)}
        for field, shape in expected.items():
            received = tuple(getattr(objects, field).shape)
            if received != tuple(shape):
                raise ValueError(
                    f"evaluate_objects: expected {name}.{field} of shape {tuple(shape)}, received {received}; all fields of "
                    "Objects share the batch dimensions and slots of `present`."
                )
        scenes = math.prod(objects.present.shape[:-1])
        present = _numpy(objects.present).astype(bool).reshape(scenes, slots)
        class_ids = _numpy(objects.class_ids).astype(np.int64).reshape(scenes, slots)
        T = _numpy(objects.T_world_object).astype(np.float64).reshape(scenes, slots, 4, 4)
        outside = present & ((class_ids < 0) | (class_ids >= classes))
        if outside.any():
            raise ValueError(
                f"evaluate_objects: expected {name}.class_ids in 0..{classes - 1}, received {int(class_ids[outside][0])}; "
                "evaluate with the catalogue that the ids refer to."
            )
        if not np.isfinite(T[present]).all():
            raise ValueError(
                f"evaluate_objects: expected finite poses of present objects, received NaN or infinity in {name}.T_world_object; "
                "mend what produced it, or mark the slot as not present."
            )
        return _Arrays(class_ids, T, present)


def _numpy(tensor: Tensor) -> np.ndarray:
    """The tensor's values on the CPU."""
    return tensor.detach().cpu().numpy()


def _visible_fraction(visible_fraction_gt: ArrayLike | Tensor | None, objects_gt: Objects) -> Float[np.ndarray, "s m"]:
    """Visible fractions with flattened batch dimensions, NaN where not given."""
    shape = tuple(objects_gt.present.shape)
    if visible_fraction_gt is None:
        values = np.full(shape, np.nan)
    else:
        values = _numpy(visible_fraction_gt) if isinstance(visible_fraction_gt, Tensor) else np.asarray(visible_fraction_gt)
    if values.shape != shape:
        raise ValueError(
            f"evaluate_objects: expected visible_fraction_gt of the shape {shape} of objects_gt.present, received "
            f"{values.shape}; it is RenderOutput.visible_fraction of the true scenes."
        )
    return values.astype(np.float64).reshape(math.prod(shape[:-1]), shape[-1])


def _rotation_errors_deg(
    T_est: np.ndarray, T_gt: np.ndarray, class_est: np.ndarray, class_gt: np.ndarray, catalogue: Catalogue
) -> Float[np.ndarray, "o"]:
    """Rotation errors of pairs of one class with a visible orientation, NaN elsewhere."""
    errors_deg = np.full(len(class_gt), np.nan)
    for index, mesh in enumerate(catalogue.meshes):
        chosen = (class_gt == index) & (class_est == index)
        if chosen.any() and has_visible_yaw(mesh.symmetry):
            errors_rad = rotation_error_rad(T_est[chosen, :3, :3], T_gt[chosen, :3, :3], mesh.symmetry)
            errors_deg[chosen] = np.degrees(errors_rad)
    return errors_deg


def _class_summary(evaluation: Evaluation, index: int) -> dict[str, float | int | None]:
    """The values of one true class."""
    chosen = evaluation.class_gt == index
    return {
        "class_accuracy": _mean(evaluation.recognised[chosen & evaluation.matched]),
        "position_error_median_m": _percentile(evaluation.position_error_m[chosen], 50),
        "rotation_error_median_deg": _percentile(evaluation.rotation_error_deg[chosen], 50),
        "num_objects": int(chosen.sum()),
    }


def _mean(values: np.ndarray) -> float | None:
    """Mean, None of nothing."""
    return float(np.mean(values)) if len(values) else None


def _percentile(values: np.ndarray, percent: int) -> float | None:
    """Percentile of the values that exist (NaN marks those that do not), None of nothing."""
    defined = values[~np.isnan(values)]
    return float(np.percentile(defined, percent)) if len(defined) else None
