"""Pose errors against known values and a naive twin, and what must not change them."""

from __future__ import annotations

import dataclasses
import math

import bop_twin as twin
import numpy as np
import pytest
from bop_pairs import CUBE_MM, K_PX, NO_SYMMETRY, about_z, continuous, disturbed, make_model, random_poses
from scipy.spatial.transform import Rotation

from inverse_graphics.bop.errors import PoseErrors, PoseJudge, area_under_curve, rotation_error_deg
from inverse_graphics.bop.types import Model
from inverse_graphics.bop.vertices import arrange_vertices, spread_first


def repeated_K(count: int) -> np.ndarray:
    return np.tile(K_PX, (count, 1, 1))


def quarter_turn() -> tuple[np.ndarray, np.ndarray]:
    T_gt = np.eye(4)[None].copy()
    T_gt[0, 2, 3] = 800.0
    T_est = T_gt.copy()
    T_est[0, :3, :3] = [[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    return T_est, T_gt


def models(rng: np.random.Generator) -> list[Model]:
    """Of many shapes: few and many vertices, flat, in a line, a single one; with and without symmetries."""
    shifted = rng.uniform(-60, 60, (25, 3)) + [30.0, 0.0, 0.0]
    twice = np.concatenate([CUBE_MM, CUBE_MM])
    return [
        make_model(rng.uniform(-60, 60, (40, 3))),
        make_model(rng.uniform(-60, 60, (150, 3)), about_z(7)),
        make_model(shifted, about_z(5, (30.0, 10.0, 0.0))),
        make_model(rng.uniform(-60, 60, (20, 3)), continuous()),
        make_model(rng.uniform(-60, 60, (30, 3)) * [1.0, 1.0, 0.0], about_z(2)),
        make_model(np.linspace([-50.0, 0.0, 0.0], [50.0, 0.0, 0.0], 33), about_z(2)),
        make_model(np.array([[10.0, -5.0, 3.0]]), about_z(3)),
        make_model(twice, about_z(4)),
        make_model(rng.normal(size=(200, 3)) * [40.0, 20.0, 5.0]),
        make_model(rng.uniform(-60, 60, (5, 3)), about_z(16)),
    ]


def assert_same_errors(a: PoseErrors, b: PoseErrors, unit: float = 1.0, rtol: float = 1e-9, atol: float = 1e-7) -> None:
    for field in dataclasses.fields(PoseErrors):
        factor = unit if field.name.endswith("_mm") else 1.0
        np.testing.assert_allclose(factor * getattr(a, field.name), getattr(b, field.name), rtol, atol, err_msg=field.name)


def test_known_values() -> None:
    T_est, T_gt = quarter_turn()
    errors = PoseJudge(make_model(CUBE_MM)).errors(T_est, T_gt, repeated_K(1))
    known = {"add_mm": 100.0, "adi_mm": 0.0, "mssd_mm": 100.0, "mspd_px": 80.0, "re_deg": 90.0, "te_mm": 0.0}
    for name, value in known.items():
        assert getattr(errors, name)[0] == pytest.approx(value, abs=1e-6), name
    # the eight corners are displaced by 100 mm at 750 and 850 mm
    assert errors.proj_px[0] == pytest.approx(600 * 100 * (1 / 750 + 1 / 850) / 2)
    sampled = PoseJudge(make_model(CUBE_MM, continuous())).errors(T_est, T_gt, repeated_K(1))
    # 90 degrees lie a quarter of a step of 2 pi / 315 from the nearest sample
    assert sampled.mssd_mm[0] == pytest.approx(2 * 50 * math.sqrt(2) * math.sin(math.pi / 315 / 4), abs=1e-6)
    assert sampled.mssd_mm[0] == pytest.approx(0.3526, abs=5e-5)
    assert sampled.symmetric_re_deg[0] == pytest.approx(360 / 315 / 4, abs=1e-6)
    assert PoseJudge(make_model(CUBE_MM, about_z(4))).errors(T_est, T_gt, repeated_K(1)).mspd_px[0] == pytest.approx(0, abs=1e-6)


def test_naive_twin_on_a_thousand_pairs() -> None:
    rng = np.random.default_rng(0)
    for model in models(rng):
        T_gt = random_poses(100, rng)
        reach = np.repeat([(0.01, 1.0), (0.3, 20.0), (3.0, 200.0)], [30, 40, 30], axis=0)
        parts = [disturbed(T_gt[i : i + 1], rng, *reach[i].tolist()) for i in range(100)]
        T_est = np.concatenate(parts)
        errors = PoseJudge(model).errors(T_est, T_gt, repeated_K(100))
        pairs = list(zip(T_est, T_gt, strict=True))
        expected = {
            "add_mm": [twin.add(model, *pair) for pair in pairs],
            "adi_mm": [twin.adi(model, *pair) for pair in pairs],
            "mssd_mm": [twin.mssd(model, *pair) for pair in pairs],
            "mspd_px": [twin.mspd(model, *pair, K_PX) for pair in pairs],
            "proj_px": [twin.proj(model, *pair, K_PX) for pair in pairs],
            "te_mm": [float(np.linalg.norm(est[:3, 3] - gt[:3, 3])) for est, gt in pairs],
        }
        for name, values in expected.items():
            np.testing.assert_allclose(getattr(errors, name), values, rtol=1e-10, atol=1e-8, err_msg=name)
        np.testing.assert_allclose(errors.re_deg, [twin.rotation_deg(e[:3, :3], g[:3, :3]) for e, g in pairs], atol=1e-5)
        least = [min(twin.rotation_deg(e[:3, :3], (g @ S)[:3, :3]) for S in model.symmetries) for e, g in pairs]
        np.testing.assert_allclose(errors.symmetric_re_deg, least, atol=1e-5)


def test_rounded_rotations_are_taken_as_they_are() -> None:
    """A results file may hold few digits: nearest vertices must not be looked for with the transpose as inverse."""
    rng = np.random.default_rng(1)
    model, T_gt = make_model(rng.uniform(-60, 60, (60, 3))), random_poses(20, rng)
    T_est = disturbed(T_gt, rng, 0.05, 5.0)
    T_est[:, :3, :3] = T_est[:, :3, :3].round(2)
    expected = [twin.adi(model, est, gt) for est, gt in zip(T_est, T_gt, strict=True)]
    np.testing.assert_allclose(PoseJudge(model).adi_mm(T_est, T_gt), expected, rtol=2e-3)


def test_true_poses_have_no_error() -> None:
    rng = np.random.default_rng(2)
    T = random_poses(10, rng)
    for model in models(rng):
        errors = PoseJudge(model).errors(T, T, repeated_K(10))
        for field in dataclasses.fields(PoseErrors):
            np.testing.assert_allclose(getattr(errors, field.name), 0, atol=1e-5, err_msg=field.name)


@pytest.mark.parametrize("side", ["truth", "estimate"])
def test_symmetries_do_not_change_symmetric_errors(side: str) -> None:
    """The sampled sets are groups, so that one more symmetry on either side only permutes what the least is taken over."""
    rng = np.random.default_rng(3)
    points = rng.uniform(-60, 60, (15, 3))
    for symmetries in (about_z(6), continuous(), about_z(3, (20.0, 5.0, 0.0))):
        # the vertices share the symmetry, as a symmetric model's do: also the estimate may be turned
        orbit = np.concatenate([points @ S[:3, :3].T + S[:3, 3] for S in symmetries[:: max(1, len(symmetries) // 6)]])
        exact = symmetries if side == "truth" else symmetries[[0]]
        if side == "estimate" and len(symmetries) <= 6:
            exact = symmetries
        judge = PoseJudge(make_model(orbit, symmetries))
        T_gt = random_poses(20, rng)
        T_est = disturbed(T_gt, rng)
        turned = np.stack([exact[int(rng.integers(len(exact)))] for _ in range(20)])
        moved = (T_est, T_gt @ turned) if side == "truth" else (T_est @ turned, T_gt)
        for name in ("mssd_mm", "symmetric_re_deg"):
            np.testing.assert_allclose(getattr(judge, name)(*moved), getattr(judge, name)(T_est, T_gt), rtol=1e-7, atol=1e-6)
        K = repeated_K(20)
        np.testing.assert_allclose(judge.mspd_px(*moved, K), judge.mspd_px(T_est, T_gt, K), rtol=1e-7, atol=1e-6)


def test_a_rigid_motion_of_the_camera_frame_changes_no_distance() -> None:
    rng = np.random.default_rng(4)
    for model in models(rng):
        judge, T_gt = PoseJudge(model), random_poses(10, rng)
        T_est, T_new_old = disturbed(T_gt, rng), random_poses(1, rng)
        K = repeated_K(10)
        a, b = judge.errors(T_est, T_gt, K), judge.errors(T_new_old @ T_est, T_new_old @ T_gt, K)
        for name in ("add_mm", "adi_mm", "mssd_mm", "re_deg", "symmetric_re_deg", "te_mm"):
            np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-7, atol=1e-6, err_msg=name)


def test_a_rotation_about_the_optical_axis_changes_no_pixel_distance() -> None:
    rng = np.random.default_rng(5)
    model, T_gt = make_model(rng.uniform(-60, 60, (30, 3)), about_z(3)), random_poses(10, rng)
    T_est, judge = disturbed(T_gt, rng), PoseJudge(model)
    turned = about_z(11)[4]
    K = repeated_K(10)
    np.testing.assert_allclose(judge.mspd_px(turned @ T_est, turned @ T_gt, K), judge.mspd_px(T_est, T_gt, K), rtol=1e-9)
    np.testing.assert_allclose(judge.proj_px(turned @ T_est, turned @ T_gt, K), judge.proj_px(T_est, T_gt, K), rtol=1e-9)


def test_units_carry_through() -> None:
    """Metres in all lengths give metres, and the same pixels and degrees."""
    rng = np.random.default_rng(6)
    for model in models(rng):
        small = [T.copy() for T in (model.symmetries, random_poses(10, rng))]
        T_est = disturbed(small[1], rng)
        large = PoseJudge(model).errors(T_est, small[1], repeated_K(10))
        for T in (*small, T_est):
            T[:, :3, 3] /= 1000
        in_metres = dataclasses.replace(model, points_mm=model.points_mm / 1000, symmetries=small[0])
        assert_same_errors(large, PoseJudge(in_metres).errors(T_est, small[1], repeated_K(10)), unit=1e-3)


def test_skewed_intrinsics() -> None:
    rng = np.random.default_rng(7)
    model, T_gt = make_model(rng.uniform(-60, 60, (30, 3)), about_z(3)), random_poses(5, rng)
    T_est, K = disturbed(T_gt, rng), K_PX + np.array([[0.0, 12.0, 0.0], [0.0, 40.0, 0.0], [0.0, 0.0, 0.0]])
    judge = PoseJudge(model)
    expected = [twin.mspd(model, est, gt, K) for est, gt in zip(T_est, T_gt, strict=True)]
    np.testing.assert_allclose(judge.mspd_px(T_est, T_gt, np.tile(K, (5, 1, 1))), expected)
    expected = [twin.proj(model, est, gt, K) for est, gt in zip(T_est, T_gt, strict=True)]
    np.testing.assert_allclose(judge.proj_px(T_est, T_gt, np.tile(K, (5, 1, 1))), expected)


def test_what_is_behind_the_camera_has_no_projection() -> None:
    T_gt = np.tile(quarter_turn()[1], (3, 1, 1))
    T_est = T_gt.copy()
    T_est[0, 2, 3], T_est[1, 2, 3] = -800.0, 30.0
    errors = PoseJudge(make_model(CUBE_MM)).errors(T_est, T_gt, repeated_K(3))
    np.testing.assert_allclose(errors.mspd_px, [math.inf, math.inf, 0.0], atol=1e-9)
    np.testing.assert_allclose(errors.proj_px, [math.inf, math.inf, 0.0], atol=1e-9)
    np.testing.assert_allclose(errors.mssd_mm, [1600, 770, 0])
    behind = PoseJudge(make_model(CUBE_MM)).errors(T_gt, T_est, repeated_K(3))
    np.testing.assert_allclose(behind.mspd_px, [math.inf, math.inf, 0.0], atol=1e-9)


def test_rotation_error_is_accurate_at_both_ends() -> None:
    angles_deg = np.array([0.0, 1e-7, 1e-3, 90.0, 180 - 1e-6, 180.0])
    R = Rotation.from_rotvec(np.radians(angles_deg)[:, None] * np.array([0.6, 0.0, 0.8])).as_matrix()
    np.testing.assert_allclose(rotation_error_deg(R, np.tile(np.eye(3), (6, 1, 1))), angles_deg, rtol=1e-8, atol=1e-12)


def test_area_under_the_curve() -> None:
    errors_mm = np.array([0.0, 25.0, 99.0, 100.0, 400.0, math.inf])
    thresholds = (np.arange(200_000) + 0.5) / 2000
    numerical = np.mean([np.mean(errors_mm < threshold) for threshold in thresholds[::40]])
    assert area_under_curve(errors_mm) == pytest.approx((1 + 0.75 + 0.01) / 6)
    assert area_under_curve(errors_mm) == pytest.approx(numerical, abs=1e-3)
    assert area_under_curve([math.inf, math.inf]) == 0.0
    for wrong in ([], [math.nan]):
        with pytest.raises(ValueError, match="errors_mm: expected at least one number"):
            area_under_curve(wrong)


def test_points_that_are_far_apart_come_first() -> None:
    points = np.random.default_rng(8).uniform(-1, 1, (300, 3))
    ordered = spread_first(points, 10)
    assert sorted(map(tuple, ordered)) == sorted(map(tuple, points))
    for count in range(1, 10):
        gaps = np.linalg.norm(points[:, None] - ordered[:count], axis=-1).min(-1)
        assert np.linalg.norm(ordered[count] - ordered[:count], axis=-1).min() == pytest.approx(gaps.max())


def test_arrangements_hold_the_same_vertices() -> None:
    points = np.random.default_rng(9).uniform(-1, 1, (300, 3))
    vertices = arrange_vertices(points)
    whole = sorted(map(tuple, points))
    assert sorted(map(tuple, vertices.points_mm.T)) == whole
    assert sorted(map(tuple, vertices.tree_mm.T)) == whole
    assert set(map(tuple, vertices.hull_mm.T)) < set(whole)
    direction = np.random.default_rng(10).normal(size=(50, 3))
    np.testing.assert_allclose((direction @ vertices.hull_mm).max(-1), (direction @ points.T).max(-1))


def test_bad_input_is_refused() -> None:
    judge, T = PoseJudge(make_model(CUBE_MM)), quarter_turn()[0]
    with pytest.raises(ValueError, match="points_mm: expected at least one vertex"):
        PoseJudge(Model(1, np.zeros((0, 3)), np.zeros((0, 3), np.int64), np.zeros((0, 3)), 1.0, NO_SYMMETRY))
    with pytest.raises(ValueError, match="symmetries: expected .* for obj_id 3"):
        PoseJudge(make_model(CUBE_MM, np.zeros((0, 4, 4)), obj_id=3))
    with pytest.raises(ValueError, match="expected finite poses"):
        judge.add_mm(T * np.nan, T)
    with pytest.raises(ValueError, match="expected rotations, received a singular matrix"):
        judge.adi_mm(T * 0, T)
    with pytest.raises(ValueError, match="K_px: expected 1 matrices"):
        judge.mspd_px(T, T, 2 * repeated_K(1))
