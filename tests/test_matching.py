"""Assignments against brute force over all permutations."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from inverse_graphics.matching import match


def best_by_brute_force(
    xyz_est: np.ndarray, present_est: np.ndarray, xyz_gt: np.ndarray, present_gt: np.ndarray, gate_m: float
) -> tuple[int, float]:
    """Most pairs within the gate, and the least total distance with that many, over every assignment of one scene."""
    est, gt = np.flatnonzero(present_est), np.flatnonzero(present_gt)
    best = (0, 0.0)
    for chosen in itertools.product([-1, *est], repeat=len(gt)):
        used = [e for e in chosen if e >= 0]
        if len(set(used)) < len(used):
            continue
        distances = [np.linalg.norm(xyz_est[e] - xyz_gt[g]) for g, e in zip(gt, chosen, strict=True) if e >= 0]
        if all(d <= gate_m for d in distances):
            score = (len(distances), -float(sum(distances)))
            best = max(best, score)
    return best


@pytest.mark.parametrize(("slots_est", "slots_gt"), [(3, 3), (4, 2), (2, 4), (1, 1)])
def test_against_brute_force(slots_est: int, slots_gt: int) -> None:
    rng = np.random.default_rng(0)
    xyz_est, xyz_gt = rng.uniform(0, 0.12, (60, slots_est, 3)), rng.uniform(0, 0.12, (60, slots_gt, 3))
    present_est, present_gt = rng.random((60, slots_est)) < 0.75, rng.random((60, slots_gt)) < 0.75
    indices = match(xyz_est, present_est, xyz_gt, present_gt, 0.05)
    assert indices.shape == (60, slots_gt)
    for scene, row in enumerate(indices):
        gt = np.flatnonzero(row >= 0)
        est = row[gt]
        assert len(set(est)) == len(est)
        assert present_gt[scene, gt].all()
        assert present_est[scene, est].all()
        distances = np.linalg.norm(xyz_est[scene, est] - xyz_gt[scene, gt], axis=-1)
        assert (distances <= 0.05).all()
        number, negative_total = best_by_brute_force(xyz_est[scene], present_est[scene], xyz_gt[scene], present_gt[scene], 0.05)
        assert len(gt) == number
        assert distances.sum() == pytest.approx(-negative_total)


def test_more_pairs_beat_shorter_ones() -> None:
    xyz_gt = np.array([[0.0, 0, 0], [0.04, 0, 0]])
    xyz_est = np.array([[0.04, 0, 0], [0.085, 0, 0]])
    present = np.ones(2, bool)
    assert match(xyz_est, present, xyz_gt, present).tolist() == [0, 1]


def test_any_batch_dimensions_and_no_slots() -> None:
    rng = np.random.default_rng(0)
    xyz, present = rng.uniform(0, 1, (2, 3, 4, 3)), np.ones((2, 3, 4), bool)
    order = rng.permutation(4)
    indices = match(xyz[..., order, :], present, xyz, present)
    assert (indices == np.argsort(order)).all()
    assert match(xyz[1, 2], present[1, 2], xyz[1, 2], present[1, 2]).tolist() == [0, 1, 2, 3]
    assert match(xyz[..., :0, :], present[..., :0], xyz, present).max() == -1
    assert match(xyz, present, xyz[..., :0, :], present[..., :0]).shape == (2, 3, 0)
    assert match(xyz[:0], present[:0], xyz[:0], present[:0]).shape == (0, 3, 4)


def test_absent_slots_may_hold_anything() -> None:
    xyz = np.array([[0.0, 0, 0], [np.nan, np.inf, 0]])
    assert match(xyz, [True, False], xyz, [True, False]).tolist() == [0, -1]


def test_a_thousand_scenes_take_well_under_half_a_second() -> None:
    rng = np.random.default_rng(0)
    xyz, present = rng.uniform(0, 0.4, (1000, 6, 3)), rng.random((1000, 6)) < 0.8
    noisy = xyz + rng.normal(0, 0.02, xyz.shape)
    durations = []
    for _ in range(3):
        start = time.perf_counter()
        match(noisy, present, xyz, present)
        durations.append(time.perf_counter() - start)
    assert min(durations) < 0.5


def test_bad_input_names_the_remedy() -> None:
    xyz, present = np.zeros((2, 3, 3)), np.ones((2, 3), bool)
    with pytest.raises(ValueError, match="gate_m"):
        match(xyz, present, xyz, present, 0.0)
    with pytest.raises(ValueError, match="batch dimensions"):
        match(xyz, present, xyz[:1], present[:1])
    with pytest.raises(ValueError, match="positions are T_world_object"):
        match(xyz[..., :2], present, xyz, present)
    with pytest.raises(ValueError, match=r"in xyz_est at \[1, 0\]"):
        match(np.where(np.arange(2)[:, None, None] == 1, np.nan, xyz), present, xyz, present)
