"""Symmetries against sampled groups, BOP's golden value and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from inverse_graphics.symmetry import has_visible_yaw, rotation_error_rad, symmetry_transforms, yaw_period
from inverse_graphics.types import Symmetry


def discrete(*rotvecs_deg: list[float], offset_m: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    transforms = np.tile(np.eye(4), (len(rotvecs_deg), 1, 1))
    transforms[:, :3, :3] = Rotation.from_rotvec(np.array(rotvecs_deg), degrees=True).as_matrix()
    transforms[:, :3, 3] = np.array(offset_m) - transforms[:, :3, :3] @ np.array(offset_m)
    return transforms


def continuous(*axes: list[float]) -> dict[str, np.ndarray]:
    return {"continuous_axes": np.array(axes, float), "continuous_offsets_m": np.zeros((len(axes), 3))}


NONE = Symmetry()
TWO_FOLD = Symmetry(discrete([0, 0, 180]))
FOUR_FOLD = Symmetry(discrete([0, 0, 90], [0, 0, 180], [0, 0, 270]))
BOWL = Symmetry(**continuous([0, 0, 1]))
CYLINDER = Symmetry(discrete([180, 0, 0]), **continuous([0, 0, 1]))
LYING = Symmetry(discrete([0, 0, 180]), **continuous([1, 2, 0]))
BALL = Symmetry(**continuous([0, 0, 1], [1, 0, 0]))


def angle_of(R: np.ndarray) -> np.ndarray:
    return np.atleast_1d(Rotation.from_matrix(R.reshape(-1, 3, 3)).magnitude()).reshape(R.shape[:-2])


@pytest.mark.parametrize("symmetry", [NONE, TWO_FOLD, FOUR_FOLD, BOWL, CYLINDER, LYING])
def test_error_is_the_minimum_over_the_sampled_set(symmetry: Symmetry) -> None:
    R_est, R_gt = Rotation.random(2 * 50, np.random.default_rng(0)).as_matrix().reshape(2, 50, 3, 3)
    equivalents = R_gt[:, None] @ symmetry_transforms(symmetry, max_step_rad=0.003)[:, :3, :3]
    sampled = angle_of(np.swapaxes(equivalents, -1, -2) @ R_est[:, None]).min(-1)
    exact = rotation_error_rad(R_est, R_gt, symmetry)
    assert (exact <= sampled + 1e-12).all()
    assert np.allclose(exact, sampled, atol=0.003 if len(symmetry.continuous_axes) else 1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(-10, 10))
def test_error_ignores_the_symmetries_and_nothing_else(seed: int, turn_rad: float) -> None:
    R, S = Rotation.random(2, np.random.default_rng(seed)).as_matrix()
    spin = Rotation.from_rotvec([0, 0, turn_rad]).as_matrix()
    flip = CYLINDER.discrete[0, :3, :3]
    assert rotation_error_rad(R @ spin, R, BOWL) == pytest.approx(0, abs=1e-12)
    assert rotation_error_rad(R @ spin @ flip, R, CYLINDER) == pytest.approx(0, abs=1e-12)
    assert rotation_error_rad(R @ flip, R, BOWL) == pytest.approx(math.pi, abs=1e-12)
    assert rotation_error_rad(S @ R, S, BALL) == 0
    for symmetry in (NONE, FOUR_FOLD, CYLINDER):
        moved = rotation_error_rad(S @ R @ spin, S @ R, symmetry)
        assert moved == pytest.approx(rotation_error_rad(R @ spin, R, symmetry), abs=1e-9)


@pytest.mark.parametrize(("symmetry", "yaw_deg", "error_deg"), [(NONE, 200, 160), (TWO_FOLD, 170, 10), (FOUR_FOLD, 50, 40)])
def test_errors_about_the_upright_axis(symmetry: Symmetry, yaw_deg: float, error_deg: float) -> None:
    R = Rotation.from_euler("z", yaw_deg, degrees=True).as_matrix()
    assert np.degrees(rotation_error_rad(R, np.eye(3), symmetry)) == pytest.approx(error_deg)


def test_sampling_is_bops() -> None:
    transforms = symmetry_transforms(BOWL)
    assert transforms.shape == (315, 4, 4)
    assert (transforms[0] == np.eye(4)).all()
    assert symmetry_transforms(CYLINDER).shape == (630, 4, 4)
    assert symmetry_transforms(BALL).shape == (630, 4, 4)
    assert (symmetry_transforms(NONE) == np.eye(4)).all()
    # BOP's golden MSSD: a cube of half side 50 turned by 90 degrees, with a continuous symmetry about z.
    cube = 50.0 * (2 * np.stack(np.meshgrid([0, 1], [0, 1], [0, 1]), -1).reshape(-1, 3) - 1)
    turned = cube @ Rotation.from_euler("z", 90, degrees=True).as_matrix().T
    equivalents = np.einsum("sij,pj->spi", transforms[:, :3, :3], cube)
    assert np.linalg.norm(equivalents - turned, axis=-1).max(-1).min() == pytest.approx(0.3526, abs=5e-5)


def test_offsets_are_fixed_points() -> None:
    offset_m = np.array([[0.1, -0.2, 0.3]])
    symmetry = Symmetry(continuous_axes=np.array([[0.0, 3, 4]]), continuous_offsets_m=offset_m)
    transforms = symmetry_transforms(symmetry)
    moved = transforms[:, :3, :3] @ offset_m[0] + transforms[:, :3, 3]
    assert np.allclose(moved, offset_m)
    assert np.allclose(transforms[:, :3, :3] @ [0, 0.6, 0.8], [0, 0.6, 0.8])


def test_visible_yaw_and_its_period() -> None:
    cases = [(NONE, True, 1), (TWO_FOLD, True, 2), (FOUR_FOLD, True, 4), (LYING, True, 2)]
    for symmetry, visible, folds in cases:
        assert has_visible_yaw(symmetry) == visible
        assert yaw_period(symmetry) == pytest.approx(2 * math.pi / folds)
    for symmetry in (BOWL, CYLINDER, BALL, Symmetry(**continuous([0, 0, -2]))):
        assert not has_visible_yaw(symmetry)
        assert yaw_period(symmetry) == 0


def test_period_of_generators_flips_and_shifted_axes() -> None:
    assert yaw_period(Symmetry(discrete([0, 0, 90]))) == pytest.approx(math.pi / 2)
    assert yaw_period(Symmetry(discrete([0, 0, -240]))) == pytest.approx(2 * math.pi / 3)
    assert yaw_period(Symmetry(discrete([0, 0, 180], [0, 0, 120]))) == pytest.approx(math.pi / 3)
    assert yaw_period(Symmetry(discrete([180, 0, 0], [0, 180, 0]))) == pytest.approx(2 * math.pi)
    assert yaw_period(Symmetry(discrete([0, 0, 180], offset_m=(0.1, 0, 0)))) == pytest.approx(2 * math.pi)
    rounded = Symmetry(np.round(discrete([0, 0, 60]), 4))
    assert yaw_period(rounded) == pytest.approx(math.pi / 3)


def test_bad_input_names_the_remedy() -> None:
    with pytest.raises(ValueError, match="BOP's value"):
        symmetry_transforms(BOWL, max_step_rad=0.0)
    with pytest.raises(ValueError, match="unit vector"):
        rotation_error_rad(np.eye(3), np.eye(3), Symmetry(**continuous([0, 0, 0])))
    with pytest.raises(ValueError, match="3, :3"):
        rotation_error_rad(np.eye(4), np.eye(3), NONE)
    with pytest.raises(ValueError, match="declare a continuous symmetry"):
        yaw_period(Symmetry(discrete([0, 0, 100.03])))
