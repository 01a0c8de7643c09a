"""Differences of two results files: paired, and with intervals that are those of images drawn anew."""

from __future__ import annotations

import dataclasses
from typing import TypeVar

import numpy as np
import pytest
import torch
from bop_pairs import camera, random_set

from inverse_graphics.bop.comparison import compare, draw_images
from inverse_graphics.bop.detection import mean_average_precision
from inverse_graphics.bop.evaluation import evaluate
from inverse_graphics.bop.rows import PoseEvaluation
from inverse_graphics.bop.types import Estimates, ImageKey, Truths, select


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def two_sides(images: int = 30) -> tuple[PoseEvaluation, PoseEvaluation]:
    """A method, and another that is nearer to the truth."""
    models, truths, estimates, targets, keys = random_set(np.random.default_rng(0), images)
    better = estimates.T_camera_object_mm.copy()
    for est in range(len(estimates)):
        same = (truths.im_id == estimates.im_id[est]) & (truths.obj_id == estimates.obj_id[est])
        for gt in np.flatnonzero(same & (truths.scene_id == estimates.scene_id[est])).tolist():
            T_gt = truths.T_camera_object_mm[gt]
            if np.linalg.norm(better[est, :3, 3] - T_gt[:3, 3]) < 60:
                better[est, :3, 3] = 0.5 * (better[est, :3, 3] + T_gt[:3, 3])
    view = camera()
    tables = (estimates, dataclasses.replace(estimates, T_camera_object_mm=better))
    first, second = (evaluate(table, truths, models, lambda image: view, targets, keys) for table in tables)
    return first, second


def test_differences_of_the_scores() -> None:
    first, second = two_sides()
    comparison = compare(first, second, seeded(0), 200)
    assert set(comparison.scores) == {
        "ar_mssd",
        "ar_mspd",
        "map_2024",
        "map_mssd",
        "map_mspd",
        "add_recall",
        "add_auc",
        "adds_auc",
    }
    for name, difference in comparison.scores.items():
        assert difference.value == pytest.approx(getattr(second, name) - getattr(first, name)), name
        assert difference.low <= difference.value <= difference.high, name
    assert comparison.scores["ar_mssd"].low > 0
    np.testing.assert_allclose(comparison.target_recall.mean(), comparison_mean(first, second))
    held = np.unique(first.targets.image)
    assert np.isfinite(comparison.image_recall[held]).all() and np.isnan(comparison.image_recall).sum() == len(
        first.images
    ) - len(held)
    one = first.targets.image == held[0]
    assert comparison.image_recall[held[0]] == pytest.approx(comparison.target_recall[one].mean())


def comparison_mean(first: PoseEvaluation, second: PoseEvaluation) -> float:
    return (second.ar_mssd + second.ar_mspd - first.ar_mssd - first.ar_mspd) / 2


def test_a_seed_gives_the_same_intervals() -> None:
    first, second = two_sides(10)
    a, b, c = (compare(first, second, seeded(seed), 50) for seed in (1, 1, 2))
    assert a.scores == b.scores != c.scores
    same = compare(first, first, seeded(0), 50)
    assert {(one.value, one.low, one.high) for one in same.scores.values()} == {(0.0, 0.0, 0.0)}


def test_intervals_are_those_of_images_repeated() -> None:
    """Scores of a sample are those of a data set that holds each image as often as it was drawn; where scores are not equal."""
    rng = np.random.default_rng(3)
    models, truths, estimates, targets, _ = random_set(rng, 12)
    estimates = dataclasses.replace(estimates, score=rng.random(len(estimates)))
    keys = sorted({ImageKey(*key) for key in zip(truths.scene_id.tolist(), truths.im_id.tolist(), strict=True)})
    view = camera()
    whole = evaluate(estimates, truths, models, lambda image: view, targets, keys)
    weights = draw_images(len(whole.images), 20, seeded(4))
    assert (weights.sum(-1) == len(whole.images)).all() and (weights == 0).any() and (weights > 1).any()
    drawn = (mean_average_precision(whole.outcomes_mssd, weights), mean_average_precision(whole.outcomes_mspd, weights))
    for sample, counts in enumerate(weights):
        copies = [(image, copy) for image, count in zip(whole.images, counts.tolist(), strict=True) for copy in range(count)]
        # copies of one image follow each other, with numbers of their own
        names = {pair: ImageKey(1, 1000 * index) for index, pair in enumerate(copies)}
        gt, est = repeated(truths, copies, names), repeated(estimates, copies, names)
        anew = evaluate(est, gt, models, lambda image: view, [], list(names.values()))
        assert anew.map_mssd == pytest.approx(drawn[0][sample], abs=1e-12)
        assert anew.map_mspd == pytest.approx(drawn[1][sample], abs=1e-12)


Table = TypeVar("Table", Estimates, Truths)


def repeated(table: Table, copies: list, names: dict) -> Table:
    parts = []
    for image, copy in copies:
        part = select(table, np.flatnonzero((table.scene_id == image.scene_id) & (table.im_id == image.im_id)))
        ids = {"scene_id": np.full(len(part), names[image, copy].scene_id), "im_id": np.full(len(part), names[image, copy].im_id)}
        parts.append(dataclasses.replace(part, **ids))
    columns = [field.name for field in dataclasses.fields(table)]
    return type(table)(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in columns})


def test_sides_must_have_the_same_targets() -> None:
    first, second = two_sides(10)
    fewer = dataclasses.replace(second, targets=dataclasses.replace(second.targets, gt_row=second.targets.gt_row + 1))
    with pytest.raises(ValueError, match="compare: expected evaluations of the same targets"):
        compare(first, fewer, seeded(0))
    with pytest.raises(ValueError, match="expected samples >= 1 and confidence"):
        compare(first, second, seeded(0), confidence=1.0)
