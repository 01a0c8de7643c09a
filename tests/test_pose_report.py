"""Tables and figures of an evaluation of poses: what they hold is what was computed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from bop_pairs import camera, random_set
from matplotlib.figure import Figure

from inverse_graphics.bop.comparison import compare
from inverse_graphics.bop.evaluation import evaluate
from inverse_graphics.bop.types import ImageCamera, ImageKey, Truths
from inverse_graphics.reporting import Table, figure_bytes
from inverse_graphics.reporting.pose_figures import differences_figure, errors_by_distance, errors_by_visibility, recall_curves
from inverse_graphics.reporting.pose_overlays import (
    Overlay,
    PoseImages,
    difference_mm,
    image_overlay,
    overlay_sheet,
    target_overlay,
)
from inverse_graphics.reporting.pose_report import (
    PoseReport,
    object_table,
    score_table,
    table_text,
    tables_of,
    target_table,
    worst_targets,
)
from inverse_graphics.reporting.pose_rows import PoseSide, class_rows, target_recall

NAMES = {1: "blob", 4: "cube", 7: "blob"}
VIEW = camera(64, 48)


def make_sides(images: int = 24) -> tuple[PoseSide, PoseSide, Truths]:
    """A method, and the same one with all its estimates 25 mm farther away."""
    models, truths, estimates, targets, keys = random_set(np.random.default_rng(5), images)
    T = estimates.T_camera_object_mm.copy()
    T[:, 2, 3] += 25
    sides = []
    for label, table in (("near", estimates), ("far", dataclasses.replace(estimates, T_camera_object_mm=T))):
        sides.append(PoseSide(label, table, evaluate(table, truths, models, lambda key: VIEW, targets, keys)))
    return sides[0], sides[1], truths


@pytest.fixture(scope="module")
def sides() -> tuple[PoseSide, PoseSide, Truths]:
    return make_sides()


def squares(obj_ids: np.ndarray, T_camera_object: np.ndarray, view: ImageCamera) -> np.ndarray:
    """Each object a square of 9 px about its origin, at its depth."""
    depth_m = np.zeros((len(obj_ids), view.height_px, view.width_px), np.float32)
    for image, T in zip(depth_m, T_camera_object, strict=True):
        u, v, w = view.K_px @ T[:3, 3]
        row, column = int(v / w), int(u / w)
        image[max(row - 4, 0) : max(row + 5, 0), max(column - 4, 0) : max(column + 5, 0)] = w
    return depth_m


def images_of(truths: Truths) -> PoseImages:
    grey = np.full((VIEW.height_px, VIEW.width_px, 3), 120, np.uint8)
    return PoseImages(truths, NAMES, lambda key: grey, lambda key: VIEW, squares)


def shown(figure: Figure) -> bytes:
    """Drawn whole, so that what is wrong with it raises."""
    return figure_bytes(figure, "png", 40.0)


def test_scores_and_differences_are_those_computed(sides: tuple[PoseSide, PoseSide, Truths]) -> None:
    near, far, _ = sides
    comparison = compare(near.evaluation, far.evaluation, torch.Generator().manual_seed(0), 40)
    table = score_table((near, far), comparison)
    assert table.columns == ("score", "near", "far", "difference", "95 % interval")
    rows = {row[0]: row[1:] for row in table.rows}
    one = comparison.scores["ar_mssd"]
    expected = (f"{100 * near.evaluation.ar_mssd:.1f} %", f"{100 * far.evaluation.ar_mssd:.1f} %", f"{100 * one.value:+.2f}")
    assert rows["AR by MSSD"] == (*expected, f"{100 * one.low:+.2f} to {100 * one.high:+.2f}")
    assert rows["AR (BOP 2019)"] == ("–", "–", "–", "–")
    assert near.evaluation.te_median_mm is not None
    assert rows["position error, median"][0] == f"{near.evaluation.te_median_mm:.1f} mm"
    figure = differences_figure(comparison.scores, dict.fromkeys(comparison.scores, "name"), ("near", "far"))
    points = [float(line.get_xdata()[0]) for line in figure.axes[0].lines if line.get_marker() == "o"]  # type: ignore[index]
    assert points == [one.value for one in comparison.scores.values()]


def test_classes_are_their_objects_together(sides: tuple[PoseSide, PoseSide, Truths]) -> None:
    evaluation = sides[0].evaluation
    rows = {row["class"]: row for row in class_rows(evaluation, NAMES)}
    assert list(rows) == ["blob", "cube"] and rows["blob"]["obj_ids"] == [1, 7]
    targets = evaluation.targets
    blob = [index for index, obj_id in enumerate(targets.obj_id.tolist()) if obj_id in (1, 7)]
    assert rows["blob"]["num_targets"] == len(blob)
    assert rows["blob"]["ar_mspd"] == pytest.approx(sum(targets.recall_mspd[index] for index in blob) / len(blob))
    errors = sorted(targets.te_mm[index] for index in blob if targets.est_row[index] >= 0)
    assert rows["blob"]["te_median_mm"] == pytest.approx(np.median(errors))
    assert rows["blob"]["ar_vsd"] is None
    precision = dict(zip(evaluation.objects.obj_id.tolist(), evaluation.objects.ap_mssd.tolist(), strict=True))
    assert rows["blob"]["ap_mssd"] == pytest.approx((precision[1] + precision[7]) / 2)
    assert rows["cube"]["ap_mssd"] == pytest.approx(precision[4])
    assert [row[0] for row in object_table(sides[0], NAMES).rows] == ["1 blob", "4 cube", "7 blob"]


def test_the_worst_come_first(sides: tuple[PoseSide, PoseSide, Truths]) -> None:
    near, _, truths = sides
    targets, recall = near.evaluation.targets, target_recall(near.evaluation)
    np.testing.assert_allclose(recall, (targets.recall_mssd + targets.recall_mspd) / 2)
    worst = worst_targets(near.evaluation, 1000)
    assert len(worst) == (recall < 1).sum() > 3
    keys = [(recall[row], -targets.visib_fract[row]) for row in worst.tolist()]
    assert keys == sorted(keys)
    table = target_table("Worst", near, images_of(truths), worst[:3])
    row, key = worst[0], near.evaluation.images[targets.image[worst[0]]]
    assert table.rows[0][0] == f"scene {key.scene_id}, image {key.im_id}, instance {truths.gt_id[targets.gt_row[row]]}"
    assert table.rows[0][4] == f"{100 * recall[row]:.1f}"
    assert (table.rows[0][5] == "–") == (targets.est_row[row] < 0)


def test_changes_are_listed_by_size(sides: tuple[PoseSide, PoseSide, Truths]) -> None:
    near, far, truths = sides
    comparison = compare(near.evaluation, far.evaluation, torch.Generator().manual_seed(0), 10)
    report = PoseReport("set", (near, far), images_of(truths), comparison)
    tables = {table.title: table for table in tables_of(report)}
    assert {"Scores", "Per object: near", "Per class: far", "Worst targets: far", "Most worsened by far"} <= set(tables)
    changes = [float(row[-1]) for row in tables["Most worsened by far"].rows]
    assert changes == sorted(changes) and changes[0] == pytest.approx(100 * comparison.target_recall.min(), abs=0.05)


def test_recall_curves_hold_the_recalls(sides: tuple[PoseSide, PoseSide, Truths]) -> None:
    figure = recall_curves(sides[:2])
    for panel, name in zip(figure.axes, ("mssd", "mspd"), strict=False):
        for line, side in zip(panel.lines, sides[:2], strict=True):
            np.testing.assert_array_equal(line.get_ydata(), getattr(side.evaluation.curves, name))
    assert [text.get_text() for text in figure.axes[2].texts] == ["VSD was not computed"]
    assert shown(figure)


def test_bins_hold_each_target_once(sides: tuple[PoseSide, PoseSide, Truths]) -> None:
    near, _, _ = sides
    total = len(near.evaluation.targets.gt_row)
    for figure in (errors_by_visibility(sides[:2]), errors_by_distance(sides[:2])):
        ticks = [text.get_text() for text in figure.axes[0].get_xticklabels()]
        assert sum(int(tick.rsplit("n=", 1)[1]) for tick in ticks) == total
        assert shown(figure)
    figure = errors_by_visibility((near,))
    recall, shares = target_recall(near.evaluation), near.evaluation.targets.visib_fract
    bins = ((0.0, 0.1), (0.1, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 0.95), (0.95, 1.01))
    naive = [recall[(shares >= low) & (shares < high)] for low, high in bins]
    line = next(line for line in figure.axes[0].lines if np.size(line.get_xdata()) > 1)
    np.testing.assert_allclose(np.asarray(line.get_ydata(), np.float64), [values.mean() for values in naive if len(values)])


def test_nothing_to_show_is_said() -> None:
    near, _, _ = make_sides(0)
    assert len(near.evaluation.targets.gt_row) == 0
    for figure in (recall_curves((near,)), errors_by_visibility((near,)), errors_by_distance((near,))):
        assert shown(figure)
    with pytest.raises(ValueError, match="overlay_sheet: expected at least one overlay"):
        overlay_sheet([])


def test_differences_of_depth() -> None:
    """Estimate behind the truth by 10 mm where both are; nothing where one of them is not; the nearest object counts."""
    truth, estimate = np.zeros((2, 6, 8), np.float32), np.zeros((1, 6, 8), np.float32)
    truth[0, 1:4, 1:5], truth[1, 2:5, 3:7], estimate[0, 1:4, 2:6] = 1.0, 0.5, 1.01
    overlay = Overlay("title", "caption", np.zeros((6, 8, 3), np.uint8), truth, estimate, ("cube 0.50",), (False,))
    difference = difference_mm(overlay)
    expected = np.full((6, 8), np.nan)
    expected[1:4, 2:5] = 10
    expected[2:4, 3:6] = 510
    np.testing.assert_allclose(difference, expected, atol=1e-3)
    assert shown(overlay_sheet([overlay, overlay, overlay]))


def test_overlays_show_the_matched_and_the_missed(sides: tuple[PoseSide, PoseSide, Truths]) -> None:
    near, _, truths = sides
    source, targets = images_of(truths), near.evaluation.targets
    found, missed = np.flatnonzero(targets.est_row >= 0), np.flatnonzero(targets.est_row < 0)
    overlay = target_overlay(source, near, int(found[0]))
    row = int(targets.est_row[found[0]])
    assert overlay.labels == (f"{NAMES[int(near.estimates.obj_id[row])]} {near.estimates.score[row]:.2f}",)
    assert overlay.is_wrong == (False,) and overlay.caption.startswith(f"{targets.te_mm[found[0]]:.1f} mm")
    assert overlay.rgb_srgb.shape[:2] == overlay.depth_gt_m.shape[1:] and overlay.rgb_srgb.shape[0] == overlay.rgb_srgb.shape[1]
    captions = [target_overlay(source, near, target).caption for target in missed.tolist()]
    assert captions and all(caption.startswith(("missed", "off by", "taken for")) for caption in captions)
    for image, key in enumerate(near.evaluation.images):
        overlay = image_overlay(source, near, image)
        rows = (truths.scene_id == key.scene_id) & (truths.im_id == key.im_id)
        assert len(overlay.depth_gt_m) == rows.sum() and overlay.title == f"scene {key.scene_id}, image {key.im_id}"
        wrong = sum(overlay.is_wrong)
        assert f"{len(overlay.labels) - wrong} found" in overlay.caption and ("wrong" in overlay.caption) == (wrong > 0)
        assert isinstance(key, ImageKey)


def test_tables_for_the_screen() -> None:
    table = Table("Title", ("name", "n", "share"), (("a", "1", "10.0"), ("long name", "200", "5.0")), "Note.")
    assert table_text(table) == "Title\nname         n  share\na            1   10.0\nlong name  200    5.0\nNote."
