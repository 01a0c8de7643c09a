"""Matching, localisation and detection against a naive twin and known values, and what must not change a score."""

from __future__ import annotations

import dataclasses
import json

import bop_twin as twin
import numpy as np
import pytest
from bop_pairs import (
    CUBE_MM,
    camera,
    estimates_of,
    make_estimates,
    make_model,
    make_truths,
    random_set,
)

from inverse_graphics.bop.detection import Outcomes, average_precisions
from inverse_graphics.bop.evaluation import evaluate
from inverse_graphics.bop.pairs import make_pairs, order_images
from inverse_graphics.bop.rows import HEADLINES, PoseEvaluation, pose_summary
from inverse_graphics.bop.types import Estimates, ImageKey, Model, Target, Truths, select
from inverse_graphics.files import to_jsonable

RandomSet = tuple[dict[int, Model], Truths, Estimates, list[Target], list[ImageKey]]


def score(data: RandomSet, max_estimates: int = 100, count_absent: bool = False, width_px: int = 640) -> PoseEvaluation:
    models, truths, estimates, targets, images = data
    view = camera(width_px, 480)
    limits = {"max_estimates": max_estimates, "count_absent": count_absent}
    return evaluate(estimates, truths, models, lambda image: view, targets, images, **limits)


def assert_perfect(evaluation: PoseEvaluation) -> None:
    for name in ("ar_mssd", "ar_mspd", "map_2024", "map_mssd", "map_mspd", "add_recall", "recall_5deg_5cm"):
        assert getattr(evaluation, name) == 1.0, name
    assert evaluation.add_auc == pytest.approx(1.0, abs=1e-12) and evaluation.adds_auc == pytest.approx(1.0, abs=1e-12)


def twin_errors(data: RandomSet) -> dict[str, dict[tuple[int, int], tuple]]:
    """Errors of every pair of one image and object, normalised, by row of estimate and truth."""
    models, truths, estimates, _, _ = data
    K = camera().K_px
    errors: dict[str, dict[tuple[int, int], tuple]] = {name: {} for name in ("mssd", "mspd", "add", "both")}
    for est in range(len(estimates)):
        for gt in twin.rows_of(truths, (estimates.scene_id[est], estimates.im_id[est], estimates.obj_id[est])):
            model = models[int(truths.obj_id[gt])]
            poses = (estimates.T_camera_object_mm[est], truths.T_camera_object_mm[gt])
            add = twin.adi(model, *poses) if len(model.symmetries) > 1 else twin.add(model, *poses)
            angles = [twin.rotation_deg(poses[0][:3, :3], (poses[1] @ S)[:3, :3]) for S in model.symmetries]
            errors["mssd"][est, gt] = (twin.mssd(model, *poses) / model.diameter_mm,)
            errors["mspd"][est, gt] = (twin.mspd(model, *poses, K),)
            errors["add"][est, gt] = (add / model.diameter_mm,)
            errors["both"][est, gt] = (min(angles), float(np.linalg.norm((poses[0] - poses[1])[:3, 3])))
    return errors


def assert_like_twin(data: RandomSet, max_estimates: int, count_absent: bool) -> None:
    _, truths, estimates, targets, images = data
    evaluation, errors = score(data, max_estimates, count_absent), twin_errors(data)
    judged = (estimates, truths, targets)

    def mean_recall(error: str, thresholds: list[tuple]) -> float:
        return float(np.mean([twin.localisation_recall(*judged, errors[error], threshold) for threshold in thresholds]))

    assert evaluation.ar_mssd == pytest.approx(mean_recall("mssd", [(step,) for step in twin.STEPS]), abs=1e-12)
    assert evaluation.ar_mspd == pytest.approx(mean_recall("mspd", [(step,) for step in twin.STEPS_PX]), abs=1e-12)
    assert evaluation.add_recall == pytest.approx(mean_recall("add", [(0.1,)]), abs=1e-12)
    assert evaluation.recall_5deg_5cm == pytest.approx(mean_recall("both", [(5.0, 50.0)]), abs=1e-12)
    for name, error, steps in (("map_mssd", "mssd", twin.STEPS), ("map_mspd", "mspd", twin.STEPS_PX)):
        expected = twin.mean_average_precision(estimates, truths, images, errors[error], steps, max_estimates, count_absent)
        assert getattr(evaluation, name) == pytest.approx(expected, abs=1e-12), name
    assert evaluation.curves.mssd.mean() == pytest.approx(evaluation.ar_mssd)
    assert evaluation.curves.mspd.mean() == pytest.approx(evaluation.ar_mspd)


def test_naive_twin_on_many_small_sets() -> None:
    rng = np.random.default_rng(0)
    seen = []
    for case in range(40):
        data = random_set(rng, int(rng.integers(1, 7)))
        assert_like_twin(data, 3 if case % 3 == 0 else 100, case % 4 == 0)
        seen.append(score(data).map_mssd)
    assert min(seen) == 0 and max(seen) > 0.6 and len(set(seen)) > 20


def test_naive_twin_on_a_large_set() -> None:
    assert_like_twin(random_set(np.random.default_rng(1), 120), 100, False)


def test_the_truth_handed_in_scores_one() -> None:
    rng = np.random.default_rng(2)
    models, truths, _, _, _ = random_set(rng, 30)
    images = order_images(ImageKey(*key) for key in zip(truths.scene_id.tolist(), truths.im_id.tolist(), strict=True))
    seen = select(truths, truths.visib_fract >= 0.1)
    rows = zip(seen.scene_id.tolist(), seen.im_id.tolist(), seen.obj_id.tolist(), strict=True)
    counts: dict[tuple[int, int, int], int] = {}
    for row in rows:
        counts[row] = counts.get(row, 0) + 1
    targets = [Target(*key, count) for key, count in counts.items()]
    # all truths handed in, hidden ones too: with equal scores those may take the place of visible ones in the 2019 task
    for handed in (seen, truths):
        evaluation = score((models, truths, estimates_of(handed), targets, list(images)))
        if handed is seen:
            assert_perfect(evaluation)
            assert evaluation.re_median_deg == pytest.approx(0, abs=1e-5) and evaluation.te_median_mm == pytest.approx(0)
        assert evaluation.map_2024 == 1.0
    turned = estimates_of(seen)
    symmetries = [models[int(obj_id)].symmetries for obj_id in seen.obj_id]
    T = np.stack([T @ S[len(S) // 2] for T, S in zip(turned.T_camera_object_mm, symmetries, strict=True)])
    evaluation = score((models, truths, dataclasses.replace(turned, T_camera_object_mm=T), targets, list(images)))
    assert evaluation.ar_mssd == evaluation.ar_mspd == evaluation.map_2024 == 1.0


def test_average_precision_of_known_rankings() -> None:
    def precision(outcome: list[int], targets: int) -> float:
        column, images = np.array(outcome, np.int8).reshape(-1, 1), np.zeros(len(outcome), np.int64)
        return float(average_precisions(Outcomes(1, np.arange(len(outcome)), images, column, np.array([targets])))[0, 0])

    assert precision([1], 2) == pytest.approx(0.50495, abs=1e-6)
    assert precision([1, 1], 2) == 1.0
    assert precision([0, 1], 1) == 0.5
    # left out: as if it had not been there
    assert precision([-1, 1, -1, 0, 1], 2) == precision([1, 0, 1], 2) == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert precision([], 3) == precision([0, 0], 3) == precision([1], 0) == 0.0
    rng = np.random.default_rng(3)
    for _ in range(300):
        right = (rng.random(int(rng.integers(1, 120))) < rng.random()).tolist()
        wanted = sum(right) + int(rng.integers(0, 5))
        if wanted:
            assert precision([int(x) for x in right], wanted) == pytest.approx(twin.average_precision(right, wanted), abs=1e-12)


def one_object(visib: list[float], shifts_mm: list[tuple[int, float, float]], count: int | None = None) -> RandomSet:
    """Truths 300 mm apart in one image; estimates as (truth, shift, score)."""
    T_gt = np.tile(np.eye(4), (len(visib), 1, 1))
    T_gt[:, :3, 3] = [[300.0 * index, 0.0, 1500.0] for index in range(len(visib))]
    truths = make_truths([(1, 0, 1, index) for index in range(len(visib))], T_gt, np.array(visib))
    T_est = np.stack([T_gt[index] for index, _, _ in shifts_mm]) if shifts_mm else np.zeros((0, 4, 4))
    T_est[:, 1, 3] += [shift for _, shift, _ in shifts_mm]
    estimates = make_estimates([(1, 0, 1)] * len(shifts_mm), T_est, np.array([value for _, _, value in shifts_mm]))
    model = dataclasses.replace(make_model(CUBE_MM), diameter_mm=100.0)
    return {1: model}, truths, estimates, [Target(1, 0, 1, len(visib) if count is None else count)], [ImageKey(1, 0)]


def test_localisation_by_hand() -> None:
    # 0.14 diameters: found from the threshold 0.15 on, which is 0.15000000000000002; 0.05 is not below 0.05
    evaluation = score(one_object([1.0, 1.0], [(0, 14.0, 0.5), (1, 5.0, 0.5)]))
    np.testing.assert_allclose(evaluation.curves.mssd, [0.0, 0.5] + 8 * [1.0])
    np.testing.assert_allclose(evaluation.targets.recall_mssd, [0.8, 0.9])
    assert evaluation.ar_mssd == pytest.approx(0.85)
    # 14 mm at 1450 mm are 5.8 px, 5 mm 2.1 px: found from 10 px and from 5 px on; half as wide an image halves the thresholds
    np.testing.assert_allclose(evaluation.curves.mspd, [0.5] + 9 * [1.0])
    assert evaluation.te_median_mm == pytest.approx(9.5) and evaluation.re_median_deg == pytest.approx(0)
    assert evaluation.add_recall == 0.5 and evaluation.recall_5deg_5cm == 1.0
    assert evaluation.add_auc == pytest.approx((0.86 + 0.95) / 2)


def test_only_the_asked_number_is_judged() -> None:
    """One of two: the best scored estimate against the most visible truth, though another estimate would fit it."""
    shifts = [(0, 0.0, 0.9), (1, 0.0, 0.8)]
    assert score(one_object([0.4, 0.9], shifts, count=1)).ar_mssd == 0.0
    assert score(one_object([0.9, 0.4], shifts, count=1)).ar_mssd == 1.0
    # equally visible, equally scored: the first of each
    assert score(one_object([0.5, 0.5], [(0, 0.0, 0.5), (1, 0.0, 0.5)], count=1)).ar_mssd == 1.0
    assert score(one_object([0.5, 0.5], [(1, 0.0, 0.5), (0, 0.0, 0.5)], count=1)).ar_mssd == 0.0


def test_the_better_scored_estimate_takes_its_best_truth() -> None:
    """Also where the other estimate is nearer; that one is left with nothing, once the truth is taken."""
    evaluation = score(one_object([1.0], [(0, 30.0, 0.9), (0, 1.0, 0.8)]))
    assert evaluation.map_mssd == pytest.approx((5 * 0.5 + 1 * 0.5 + 4 * 1.0) / 10)
    matched = dict(zip(evaluation.estimates.est_row.tolist(), evaluation.estimates.is_matched.tolist(), strict=True))
    assert matched == {0: True, 1: False}
    assert evaluation.estimates.gt_row.tolist() == [0, 0]


def test_hidden_truths_and_what_matches_them_are_left_out_of_detection() -> None:
    for estimate in ([], [(1, 0.0, 0.9)]):
        evaluation = score(one_object([1.0, 0.05], [(0, 0.0, 0.5), *estimate], count=1))
        assert evaluation.map_2024 == 1.0 and evaluation.objects.num_targets_2024.tolist() == [1]
    assert score(one_object([1.0, 0.1], [(0, 0.0, 0.5)])).map_2024 == pytest.approx(51 / 101)
    far = score(one_object([1.0, 0.05], [(0, 0.0, 0.5), (1, 200.0, 0.9)], count=1))
    assert far.map_mssd == 0.5


def test_detection_judges_so_many_estimates_an_image() -> None:
    shifts = [(0, 200.0, 0.9)] * 3 + [(0, 0.0, 0.5)]
    assert score(one_object([1.0], shifts), max_estimates=3).map_mssd == 0.0
    assert score(one_object([1.0], shifts), max_estimates=4).map_mssd == pytest.approx(0.25)


def test_objects_that_the_image_does_not_hold() -> None:
    """bop_toolkit does not judge them; here they may count as wrong."""
    models, truths, estimates, targets, images = one_object([1.0], [(0, 0.0, 0.5)])
    elsewhere = make_truths([(1, 0, 1, 0), (2, 5, 1, 0)], np.repeat(truths.T_camera_object_mm, 2, 0), np.ones(2))
    other = make_estimates([(1, 0, 1), (2, 6, 1)], np.repeat(estimates.T_camera_object_mm, 2, 0), np.array([0.5, 0.9]))
    data = (models, elsewhere, other, targets, [*images, ImageKey(2, 5), ImageKey(2, 6)])
    assert score(data).map_mssd == pytest.approx(51 / 101)
    assert score(data, count_absent=True).map_mssd == pytest.approx(51 / 101 / 2)
    assert score(data).num_estimates_absent == 1


def test_wide_images_have_wide_thresholds() -> None:
    """The same camera with twice the pixels: twice the pixel error, the same score."""
    data = random_set(np.random.default_rng(4), 20)
    narrow, wide = score(data), score(data, width_px=1280)
    assert narrow.ar_mspd != 1.0
    models, truths, estimates, targets, images = data
    view = camera(1280, 960)
    wide = evaluate(estimates, truths, models, lambda image: view, targets, images)
    assert wide.ar_mspd == pytest.approx(narrow.ar_mspd) and wide.map_mspd == pytest.approx(narrow.map_mspd)
    np.testing.assert_allclose(wide.estimates.mspd_px, 2 * narrow.estimates.mspd_px)


def test_scores_in_another_unit() -> None:
    """Metres for millimetres everywhere: thresholds in diameters, pixels and degrees judge the same."""
    models, truths, estimates, targets, images = random_set(np.random.default_rng(5), 20)

    def metres(T: np.ndarray) -> np.ndarray:
        T = T.copy()
        T[:, :3, 3] /= 1000
        return T

    small = {
        obj_id: dataclasses.replace(
            model, points_mm=model.points_mm / 1000, diameter_mm=model.diameter_mm / 1000, symmetries=metres(model.symmetries)
        )
        for obj_id, model in models.items()
    }
    gt = dataclasses.replace(truths, T_camera_object_mm=metres(truths.T_camera_object_mm))
    est = dataclasses.replace(estimates, T_camera_object_mm=metres(estimates.T_camera_object_mm))
    a = score((models, truths, estimates, targets, images))
    view = camera()
    b = evaluate(est, gt, small, lambda image: view, targets, images)
    for name in ("ar_mssd", "ar_mspd", "map_mssd", "map_mspd", "add_recall"):
        assert getattr(a, name) == pytest.approx(getattr(b, name), abs=1e-12), name


def test_rows_say_what_the_scores_are_made_of() -> None:
    data = random_set(np.random.default_rng(6), 40)
    models, truths, estimates, _, _ = data
    evaluation = score(data)
    rows, targets, objects = evaluation.estimates, evaluation.targets, evaluation.objects
    for index in range(len(rows.est_row)):
        est, gt = int(rows.est_row[index]), int(rows.gt_row[index])
        candidates = twin.rows_of(truths, (estimates.scene_id[est], estimates.im_id[est], estimates.obj_id[est]))
        if gt < 0:
            assert not candidates and np.isnan(rows.mssd_mm[index])
            continue
        model, T_est = models[int(truths.obj_id[gt])], estimates.T_camera_object_mm[est]
        assert rows.mssd_mm[index] == pytest.approx(twin.mssd(model, T_est, truths.T_camera_object_mm[gt]))
        assert rows.distance_mm[index] == pytest.approx(np.linalg.norm(truths.T_camera_object_mm[gt, :3, 3]))
        assert rows.visib_fract[index] == truths.visib_fract[gt]
        if not rows.is_matched[index]:
            least = min(twin.mssd(model, T_est, truths.T_camera_object_mm[other]) for other in candidates)
            assert rows.mssd_mm[index] == pytest.approx(least)
    for index, obj_id in enumerate(objects.obj_id.tolist()):
        mine = targets.obj_id == obj_id
        assert objects.num_targets[index] == mine.sum()
        if mine.any():
            assert objects.ar_mssd[index] == pytest.approx(targets.recall_mssd[mine].mean())
            assert objects.add_recall[index] == pytest.approx(targets.found_add[mine].mean())
    assert evaluation.map_mssd == pytest.approx(np.nanmean(objects.ap_mssd))
    matched = targets.est_row[targets.est_row >= 0]
    assert len(set(matched.tolist())) == len(matched)
    assert (estimates.obj_id[matched] == targets.obj_id[targets.est_row >= 0]).all()


def test_summary_is_json() -> None:
    evaluation = score(random_set(np.random.default_rng(7), 10))
    read = json.loads(json.dumps(to_jsonable(pose_summary(evaluation)), allow_nan=False))
    assert read["ar"] is None and read["ar_mssd"] == evaluation.ar_mssd
    assert set(read) == {*HEADLINES, "per_object"}
    assert [row["obj_id"] for row in read["per_object"]] == evaluation.objects.obj_id.tolist()
    assert all(row["ar_vsd"] is None for row in read["per_object"])


def test_nothing_estimated_and_nothing_asked() -> None:
    models, truths, estimates, targets, images = random_set(np.random.default_rng(8), 10)
    nothing = score((models, truths, select(estimates, slice(0, 0)), targets, images))
    assert nothing.ar_mssd == nothing.map_2024 == nothing.add_auc == nothing.adds_auc == 0.0
    assert nothing.re_median_deg is None and len(nothing.targets.gt_row) > 0
    unasked = score((models, select(truths, slice(0, 0)), estimates, targets, images), count_absent=True)
    assert unasked.ar_mssd == unasked.map_2024 == 0.0 and len(unasked.targets.gt_row) == 0
    empty = score((models, select(truths, slice(0, 0)), select(estimates, slice(0, 0)), targets, images))
    assert empty.ar_mssd == empty.map_2024 == 0.0 and len(empty.estimates.est_row) == len(empty.objects.obj_id) == 0


def test_a_symmetric_object_turned_by_any_symmetry_keeps_its_scores() -> None:
    """Applied to the truths: MSSD and MSPD have the same least, up to rounding."""
    rng = np.random.default_rng(9)
    data = random_set(rng, 30)
    models, truths, estimates, targets, images = data
    T = np.stack(
        [
            T @ models[obj_id].symmetries[int(rng.integers(len(models[obj_id].symmetries)))]
            for T, obj_id in zip(truths.T_camera_object_mm, truths.obj_id.tolist(), strict=True)
        ]
    )
    turned = score((models, dataclasses.replace(truths, T_camera_object_mm=T), estimates, targets, images))
    plain = score(data)
    for name in ("ar_mssd", "ar_mspd", "map_mssd", "map_mspd", "recall_5deg_5cm"):
        assert getattr(turned, name) == getattr(plain, name), name


def test_pairs_are_those_of_one_image_and_object() -> None:
    _, truths, estimates, _, images = random_set(np.random.default_rng(10), 30)
    pairs = make_pairs(estimates, truths, images)
    est, gt = pairs.est_row[pairs.pair_est], pairs.gt_row[pairs.pair_gt]
    found = set(zip(est.tolist(), gt.tolist(), strict=True))
    listed = set(images)
    expected = {
        (e, g)
        for e in range(len(estimates))
        for g in twin.rows_of(truths, (estimates.scene_id[e], estimates.im_id[e], estimates.obj_id[e]))
        if ImageKey(int(estimates.scene_id[e]), int(estimates.im_id[e])) in listed
    }
    assert found == expected and len(found) == len(pairs.pair_est)
    np.testing.assert_array_equal(pairs.pair_index(pairs.pair_est, pairs.pair_gt), np.arange(len(pairs.pair_est)))


def test_bad_input_is_refused() -> None:
    models, truths, estimates, targets, images = one_object([1.0], [(0, 0.0, 0.5)])
    with pytest.raises(ValueError, match="targets: expected each image and object once"):
        score((models, truths, estimates, [*targets, *targets], images))
    with pytest.raises(ValueError, match="models: expected a model for each object of the ground truth, .* obj_id 1"):
        score(({}, truths, estimates, targets, images))
    broken = dataclasses.replace(estimates, T_camera_object_mm=estimates.T_camera_object_mm * np.nan)
    with pytest.raises(ValueError, match="expected finite poses"):
        score((models, truths, broken, targets, images))


def test_order_of_images() -> None:
    """Scene after scene as first named: it decides between equal scores."""
    keys = [ImageKey(2, 5), ImageKey(1, 0), ImageKey(2, 1), ImageKey(2, 5), ImageKey(1, 9)]
    assert order_images(keys) == (ImageKey(2, 5), ImageKey(2, 1), ImageKey(1, 0), ImageKey(1, 9))
