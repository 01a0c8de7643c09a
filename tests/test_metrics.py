"""Metrics against values worked out by hand."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from inverse_graphics.metrics import class_confusion, count_confusion, evaluate_objects, summary
from inverse_graphics.poses import upright_pose
from inverse_graphics.types import Catalogue, Mesh, Objects, Symmetry

KEYS = {
    "count_accuracy",
    "class_accuracy",
    "matched_share",
    "position_error_median_m",
    "position_error_p95_m",
    "rotation_error_median_deg",
    "rotation_error_p90_deg",
    "scene_accuracy",
    "num_eval_scenes",
    "per_class",
}


def make_catalogue() -> Catalogue:
    half_turn = np.diag([-1.0, -1, 1, 1])[None]
    round_z = Symmetry(continuous_axes=np.array([[0.0, 0, 1]]), continuous_offsets_m=np.zeros((1, 3)))
    vertices, faces, corners = np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32), np.ones((1, 3, 3), np.float32)
    symmetries = {"mug": Symmetry(), "bowl": round_z, "box": Symmetry(half_turn)}
    return Catalogue(tuple(Mesh(name, vertices, faces, corners, corners, s) for name, s in symmetries.items()))


CATALOGUE = make_catalogue()
MUG, BOWL, BOX = range(3)


def objects(scenes: list[list[tuple[int, float, float, float]]], slots: int = 3) -> Objects:
    """Scenes of (class, x in metres, y, yaw in degrees); empty slots hold a class too, and a pose far away."""
    rows = [[*scene, *[(2, 9.0, 9.0, 0.0)] * (slots - len(scene))] for scene in scenes]
    values = torch.tensor(rows, dtype=torch.float64).reshape(len(scenes), slots, 4)
    present = torch.tensor([[slot < len(scene) for slot in range(slots)] for scene in scenes], dtype=torch.bool)
    present = present.reshape(len(scenes), slots)
    return Objects(values[..., 0].long(), upright_pose(values[..., 1:3], torch.deg2rad(values[..., 3])), present)


TRUE = objects(
    [
        [(MUG, 0.0, 0.0, 10.0), (BOWL, 0.2, 0.0, 0.0)],
        [(BOX, 0.0, 0.0, 0.0)],
        [],
        [(MUG, 0.0, 0.0, 0.0), (MUG, 0.1, 0.0, 0.0), (BOX, 0.2, 0.0, 0.0)],
    ]
)
ESTIMATED = objects(
    [
        [(BOWL, 0.2, 0.01, 77.0), (MUG, 0.003, 0.004, 350.0)],  # all right: 5 mm and 20 degrees, 10 mm
        [(BOX, 0.03, 0.0, 178.0), (MUG, 0.3, 0.3, 0.0)],  # one too many; 30 mm, 2 degrees modulo the half turn
        [],
        [(MUG, 0.0, 0.0, 0.0), (BOX, 0.1, 0.0, 0.0), (BOX, 0.3, 0.0, 0.0)],  # one right, one of the wrong class, one missed
    ],
    slots=4,
)


def test_worked_example() -> None:
    evaluation = evaluate_objects(ESTIMATED, TRUE, CATALOGUE)
    assert evaluation.scene.tolist() == [0, 0, 1, 3, 3, 3]
    assert evaluation.slot_gt.tolist() == [0, 1, 0, 0, 1, 2]
    assert evaluation.slot_est.tolist() == [1, 0, 0, 0, 1, -1]
    assert evaluation.class_est.tolist() == [MUG, BOWL, BOX, MUG, BOX, -1]
    assert evaluation.class_gt.tolist() == [MUG, BOWL, BOX, MUG, MUG, BOX]
    assert evaluation.position_error_m == pytest.approx([0.005, 0.01, 0.03, 0, 0, np.nan], nan_ok=True)
    assert evaluation.rotation_error_deg == pytest.approx([20, np.nan, 2, 0, np.nan, np.nan], nan_ok=True)
    assert evaluation.scene_correct.tolist() == [True, False, True, False]
    assert np.isnan(evaluation.visible_fraction).all()
    values = summary(evaluation)
    assert set(values) == KEYS
    per_class = values.pop("per_class")
    assert values == {
        "count_accuracy": 3 / 4,
        "class_accuracy": 4 / 5,
        "matched_share": pytest.approx(5 / 6),
        "position_error_median_m": pytest.approx(0.005),
        "position_error_p95_m": pytest.approx(0.026),
        "rotation_error_median_deg": pytest.approx(2),
        "rotation_error_p90_deg": pytest.approx(16.4),
        "scene_accuracy": 2 / 4,
        "num_eval_scenes": 4,
    }
    assert per_class == {
        "mug": {
            "class_accuracy": pytest.approx(2 / 3),
            "position_error_median_m": pytest.approx(0),
            "rotation_error_median_deg": pytest.approx(10),
            "num_objects": 3,
        },
        "bowl": {
            "class_accuracy": 1.0,
            "position_error_median_m": pytest.approx(0.01),
            "rotation_error_median_deg": None,
            "num_objects": 1,
        },
        "box": {
            "class_accuracy": 1.0,
            "position_error_median_m": pytest.approx(0.03),
            "rotation_error_median_deg": pytest.approx(2),
            "num_objects": 2,
        },
    }


def test_confusions_by_hand() -> None:
    evaluation = evaluate_objects(ESTIMATED, TRUE, CATALOGUE)
    assert class_confusion(evaluation).tolist() == [[2, 0, 1, 0], [0, 1, 0, 0], [0, 0, 1, 1]]
    assert count_confusion(evaluation).tolist() == [[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def test_truth_judged_by_itself_is_perfect() -> None:
    values = summary(evaluate_objects(TRUE, TRUE, CATALOGUE))
    assert [values[key] for key in ("count_accuracy", "class_accuracy", "matched_share", "scene_accuracy")] == [1, 1, 1, 1]
    assert values["position_error_p95_m"] == 0
    assert values["rotation_error_p90_deg"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("est", "gt"),
    [
        (objects([]), objects([])),
        (objects([[]]), objects([[]])),
        (objects([[]]), objects([[(MUG, 0.0, 0.0, 0.0)]])),
        (objects([[(MUG, 0.0, 0.0, 0.0)]]), objects([[]])),
        (objects([[(MUG, 0.0, 0.0, 0.0)]]), objects([[(BOX, 1.0, 0.0, 0.0)]])),
        (objects([[]], slots=0), objects([[(BOWL, 0.0, 0.0, 0.0)]])),
        (objects([[(BOWL, 0.0, 0.0, 0.0)]]), objects([[]], slots=0)),
        (objects([[(BOWL, 0.0, 0.0, 0.0)]]), objects([[(BOWL, 0.0, 0.0, 50.0)]])),
    ],
)
def test_empty_cases_give_null_and_never_nan(est: Objects, gt: Objects) -> None:
    evaluation = evaluate_objects(est, gt, CATALOGUE)
    values = summary(evaluation)
    assert set(values) == KEYS
    json.dumps(values, allow_nan=False)
    assert values["rotation_error_median_deg"] is None
    assert (values["count_accuracy"] is None) == (len(evaluation.count_gt) == 0)
    assert class_confusion(evaluation).sum() == len(evaluation.class_gt)
    assert count_confusion(evaluation).sum() == len(evaluation.count_gt)


def test_order_of_slots_and_batch_shape_do_not_matter() -> None:
    expected = summary(evaluate_objects(ESTIMATED, TRUE, CATALOGUE))
    order = torch.tensor([2, 0, 3, 1])
    shuffled = Objects(ESTIMATED.class_ids[:, order], ESTIMATED.T_world_object[:, order], ESTIMATED.present[:, order])
    assert summary(evaluate_objects(shuffled, TRUE, CATALOGUE)) == expected
    est, gt = (
        Objects(o.class_ids.unflatten(0, (2, 2)), o.T_world_object.unflatten(0, (2, 2)), o.present.unflatten(0, (2, 2)))
        for o in (ESTIMATED, TRUE)
    )
    assert summary(evaluate_objects(est, gt, CATALOGUE)) == expected
    one = Objects(TRUE.class_ids[0], TRUE.T_world_object[0], TRUE.present[0])
    assert summary(evaluate_objects(one, one, CATALOGUE))["num_eval_scenes"] == 1


def test_visible_fractions_follow_their_objects() -> None:
    fraction = torch.arange(12, dtype=torch.float32).reshape(4, 3) / 12
    for values in (fraction, fraction.numpy()):
        evaluation = evaluate_objects(ESTIMATED, TRUE, CATALOGUE, values)
        assert evaluation.visible_fraction * 12 == pytest.approx([0, 1, 3, 9, 10, 11])


def test_float32_and_gradients_are_fine() -> None:
    T = ESTIMATED.T_world_object.float().requires_grad_()
    evaluation = evaluate_objects(replace(ESTIMATED, T_world_object=T), TRUE, CATALOGUE)
    assert evaluation.position_error_m.dtype == np.float64
    assert evaluation.rotation_error_deg[2] == pytest.approx(2, abs=1e-4)


def test_positions_are_three_dimensional() -> None:
    T = TRUE.T_world_object.clone()
    T[..., 2, 3] += 0.012
    values = summary(evaluate_objects(replace(TRUE, T_world_object=T), TRUE, CATALOGUE))
    assert values["position_error_median_m"] == pytest.approx(0.012)


def test_gate() -> None:
    assert summary(evaluate_objects(ESTIMATED, TRUE, CATALOGUE, gate_m=0.006))["matched_share"] == pytest.approx(3 / 6)


def test_bad_input_names_the_remedy() -> None:
    with pytest.raises(ValueError, match="same batch dimensions"):
        evaluate_objects(objects([[]]), TRUE, CATALOGUE)
    with pytest.raises(ValueError, match=r"objects_est.class_ids in 0..2, received 7"):
        evaluate_objects(replace(ESTIMATED, class_ids=torch.full_like(ESTIMATED.class_ids, 7)), TRUE, CATALOGUE)
    with pytest.raises(ValueError, match="finite poses"):
        evaluate_objects(TRUE, replace(TRUE, T_world_object=TRUE.T_world_object * math.nan), CATALOGUE)
    with pytest.raises(ValueError, match=r"\(4, 3\) of objects_gt.present, received \(4,\)"):
        evaluate_objects(ESTIMATED, TRUE, CATALOGUE, np.ones(4))
