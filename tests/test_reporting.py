"""Figures and the report, on synthetic scenes of shaded discs."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text

from inverse_graphics import reporting
from inverse_graphics.metrics import Evaluation, class_confusion, count_confusion, evaluate_objects, summary
from inverse_graphics.poses import upright_pose
from inverse_graphics.reporting.figures import _wilson
from inverse_graphics.reporting.sheet import outline
from inverse_graphics.types import Catalogue, Mesh, Objects, Symmetry

NAMES = ("mug", "bowl", "mustard_bottle", "cracker_box", "can")
SIDE_PX = 48


def catalogue() -> Catalogue:
    round_z = Symmetry(continuous_axes=np.array([[0.0, 0, 1]]), continuous_offsets_m=np.zeros((1, 3)))
    symmetries = (Symmetry(), round_z, Symmetry(), Symmetry(), round_z)
    vertices, faces = np.eye(3, dtype=np.float32), np.array([[0, 1, 2]], np.int32)
    corners = np.ones((1, 3, 3), np.float32)
    return Catalogue(
        tuple(Mesh(name, vertices, faces, corners, corners, symmetry) for name, symmetry in zip(NAMES, symmetries, strict=True))
    )


def sample_objects(scenes: int, seed: int) -> tuple[Objects, Objects]:
    """True objects, and estimates with errors of every kind."""
    rng = np.random.default_rng(seed)
    shape = (scenes, 4)
    cells = np.array([[-0.1, -0.1], [0.1, -0.1], [-0.1, 0.1], [0.1, 0.1]])
    xy = cells + rng.uniform(-0.03, 0.03, (*shape, 2))
    yaw, classes = rng.uniform(-np.pi, np.pi, shape), rng.integers(0, len(NAMES), shape)
    present = rng.random(shape) < 0.7
    xy_est = xy + 0.002 * rng.standard_t(2, (*shape, 2))
    yaw_est = yaw + 0.05 * rng.standard_t(1.2, shape)
    classes_est = np.where(rng.random(shape) < 0.08, rng.integers(0, len(NAMES), shape), classes)
    present_est = present ^ (rng.random(shape) < 0.04)
    return pose_objects(classes_est, xy_est, yaw_est, present_est), pose_objects(classes, xy, yaw, present)


def pose_objects(classes: np.ndarray, xy: np.ndarray, yaw: np.ndarray, present: np.ndarray) -> Objects:
    return Objects(torch.tensor(classes), upright_pose(torch.tensor(xy), torch.tensor(yaw)), torch.tensor(present))


def draw(objects: Objects) -> tuple[np.ndarray, np.ndarray]:
    """Linear images and id maps of shaded discs, later slots in front."""
    xy, classes, present = (t.numpy() for t in (objects.T_world_object[..., :2, 3], objects.class_ids, objects.present))
    scenes, slots = classes.shape
    rows, columns = np.mgrid[:SIDE_PX, :SIDE_PX] + 0.5
    rgb = np.full((scenes, SIDE_PX, SIDE_PX, 3), 0.25) + 0.1 * (rows / SIDE_PX)[None, ..., None]
    ids = np.full((scenes, SIDE_PX, SIDE_PX), -1)
    albedo = np.array([[0.7, 0.1, 0.1], [0.1, 0.3, 0.7], [0.8, 0.6, 0.05], [0.5, 0.25, 0.1], [0.5, 0.55, 0.5]])
    for scene, slot in np.argwhere(present):
        u, v = SIDE_PX * (0.5 + xy[scene, slot] / 0.4)
        radius = 5.0 + 2.2 * classes[scene, slot]
        dx, dy = (columns - u) / radius, (rows - v) / radius
        inside = dx**2 + dy**2 < 1
        shade = 0.35 + 0.65 * np.sqrt(np.clip(1 - (dx + 0.35) ** 2 - (dy + 0.35) ** 2, 0, 1))
        rgb[scene][inside] = (albedo[classes[scene, slot]] * shade[..., None])[inside]
        ids[scene][inside] = slot
    return rgb, ids


def make_evaluation(scenes: int = 400, seed: int = 0) -> tuple[Objects, Objects, Evaluation]:
    est, gt = sample_objects(scenes, seed)
    visible = np.random.default_rng(seed).beta(2.5, 0.6, gt.present.shape)
    return est, gt, evaluate_objects(est, gt, catalogue(), visible)


def make_sheet(scenes: int = 6) -> Figure:
    est, gt = sample_objects(scenes, 7)
    labels_est, labels_gt = reporting.scene_labels(
        est, gt, evaluate_objects(est, gt, catalogue()), np.random.default_rng(1).uniform(0.5, 1, est.present.shape)
    )
    (inputs, ids_gt), (outputs, ids_est) = draw(gt), draw(est)
    return reporting.inference_sheet(inputs, outputs, ids_est, labels_est, ids_gt, labels_gt, NAMES)


def make_history() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    steps = np.arange(0, 6000, 20.0)
    decay = np.exp(-steps / 900)
    names = ("bound", "log_likelihood", "kl_count", "kl_class", "kl_pose", "entropy_class", "learning_rate")
    terms = (-900 * decay - 40, -850 * decay - 20, 3 * decay + 0.4, 2 - 2 * decay, 9 - 8 * decay, 1.1 * decay, 1e-3 * decay)
    noise = (30, 30, 0.1, 0.1, 0.4, 0.03, 0)
    history = {
        name: term + scale * rng.standard_normal(len(steps)) for name, term, scale in zip(names, terms, noise, strict=True)
    }
    accuracy = np.where(steps % 500 == 0, 1 - 0.7 * decay, np.nan)
    return {"step": steps, **history, "eval_count_accuracy": accuracy}


@dataclass(frozen=True)
class DemoConfig:
    seed: int = 0
    scene: str = "scenes/tabletop.yaml"
    learning_rate: float = 3e-4
    image_px: tuple[int, int] = (64, 64)


def make_report() -> reporting.Report:
    _, _, evaluation = make_evaluation()
    values = summary(evaluation)
    count_names = [str(count) for count in range(len(count_confusion(evaluation)))]
    errors = reporting.error_histogram(evaluation.position_error_m, evaluation.rotation_error_deg)
    targets = {"count_accuracy": 0.9, "class_accuracy": 0.98, "rotation_error_median_deg": 5.0, "position_error_median_m": 0.005}
    return reporting.Report(
        title="Table-top scenes: bound & sleep <phase>",
        provenance=reporting.Provenance("python experiments/scenes3d.py --seed 0", 0, "0123abc", reporting.package_versions()),
        description="A guide trained for 6,000 steps on synthetic scenes, judged on 400 held-out ones.",
        headlines=reporting.metric_headlines(values, targets),
        pictures=[
            reporting.Picture("Inference", make_sheet(), "Left the input with the truth outlined, right what was inferred."),
            reporting.Picture(
                "Classes", reporting.confusion_matrix(class_confusion(evaluation), NAMES, "class"), "Rows sum to 1."
            ),
            reporting.Picture(
                "Counts", reporting.confusion_matrix(count_confusion(evaluation), count_names, "count"), "By scene."
            ),
            reporting.Picture("Errors", errors, "Matched objects."),
            reporting.Picture("Occlusion", reporting.error_against_visibility(evaluation), "Left to right: hidden to visible."),
            reporting.Picture("Training", reporting.training_curves(make_history()), "Pale: raw; dark: running median."),
        ],
        tables=[reporting.class_table(values)],
        warnings=["The count collapsed to 0 for steps 200 to 400: the prior on <n> may be too strong at the start."],
        config=DemoConfig(),
    )


class _References(HTMLParser):
    """Collects what a page refers to, and checks that its tags close."""

    void = frozenset({"meta", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.open: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        self.tags.add(tag)
        if tag not in self.void:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_report_is_one_self_contained_file(tmp_path: Path) -> None:
    path = tmp_path / "run" / "report.html"
    reporting.write_report(path, make_report())
    page = path.read_text(encoding="utf-8")
    parser = _References()
    parser.feed(page)
    assert parser.open == []
    assert len(parser.references) == 6
    assert all(re.match(r"data:image/(png|svg\+xml);base64,", reference) for reference in parser.references)
    assert not {"script", "link", "iframe", "phase", "n"} & parser.tags
    outside = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    assert "http" not in outside
    assert "url(" not in outside
    assert "@import" not in outside
    for text in (
        "bound &amp; sleep &lt;phase&gt;",
        "held-out",
        "target: at least 98.0 %",
        "scenes/tabletop.yaml",
        "0123abc",
        "&lt;n&gt;",
    ):
        assert text in page
    assert "$" not in outside
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_svg_pictures_refer_to_nothing_outside() -> None:
    content = reporting.figure_bytes(reporting.training_curves({"step": [0, 1], "loss": [2.0, 1.0]}), "svg").decode()
    assert not re.search(r"(href|src)=\"(?!#|data:)", content)


def test_figures_are_reproducible() -> None:
    _, _, evaluation = make_evaluation(50)
    for kind in ("png", "svg"):
        first, second = (reporting.figure_bytes(reporting.error_against_visibility(evaluation), kind) for _ in range(2))
        assert first == second


def test_report_without_numbers_or_figures(tmp_path: Path) -> None:
    provenance = reporting.Provenance("python x.py", None, "unknown: not a git checkout")
    reporting.write_report(tmp_path / "report.html", reporting.Report("Empty", provenance))
    page = (tmp_path / "report.html").read_text()
    assert "Nothing unusual" in page
    assert "<h2>Figures" not in page


def test_figures_of_nothing_say_so() -> None:
    est, gt, _ = make_evaluation(3)
    nothing = evaluate_objects(replace(est, present=est.present & False), gt, catalogue())
    for figure in (
        reporting.error_histogram(nothing.position_error_m, nothing.rotation_error_deg),
        reporting.error_against_visibility(nothing),
        reporting.training_curves({"step": [1.0, 2.0], "loss": [np.nan, np.nan]}),
        reporting.training_curves({"step": []}),
        reporting.confusion_matrix(np.zeros((2, 2)), ["a", "b"], "nothing"),
        reporting.error_histogram([0.0, 0.0], [0.0]),
    ):
        assert reporting.figure_bytes(figure, "png")[:4] == b"\x89PNG"
    headlines = reporting.metric_headlines(summary(nothing), {"position_error_median_m": 0.005})
    assert {h.name: h.value for h in headlines}["position error, median"] == "–"
    assert all(h.is_met is None for h in headlines)


def test_headlines_judge_shares_up_and_errors_down() -> None:
    _, _, evaluation = make_evaluation()
    values = summary(evaluation) | {"count_accuracy": 0.97, "position_error_median_m": 0.004}
    goals = {"count_accuracy": 0.98, "position_error_median_m": 0.005}
    cards = {headline.name: headline for headline in reporting.metric_headlines(values, goals)}
    assert cards["count right"].is_met is False
    assert cards["count right"].value == "97.0 %"
    assert cards["position error, median"].is_met is True
    assert cards["position error, median"].target == "at most 5.0 mm"
    assert cards["class right"].is_met is None
    assert set(reporting.METRIC_TEXTS) == set(values) - {"per_class"}
    with pytest.raises(ValueError, match="received \\['accuracy'\\]"):
        reporting.metric_headlines(values, {"accuracy": 1.0})


def test_linear_to_srgb_is_the_standard_curve() -> None:
    bytes_srgb = np.arange(256)
    encoded = bytes_srgb / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    round_trip = reporting.linear_to_srgb(np.stack([linear] * 3, -1))
    assert (np.round(255 * round_trip[:, 0]) == bytes_srgb).all()
    assert reporting.linear_to_srgb([-1.0, 2.0, 0.5]) == pytest.approx([0, 1, 0.735357], abs=1e-6)
    with pytest.raises(ValueError, match="1 NaN"):
        reporting.linear_to_srgb([0.0, np.nan, 0.0])


def test_outlines_run_between_pixels() -> None:
    mask = np.zeros((6, 8), bool)
    mask[0:3, 2:7] = True
    (line,) = outline(mask)
    assert line.min(0) == pytest.approx([2, 0])
    assert line.max(0) == pytest.approx([7, 3])
    assert (line[0] == line[-1]).all()
    assert len(outline(np.eye(3))) == 3 or len(outline(np.eye(3))) == 1


def test_labels_mark_what_is_wrong() -> None:
    xy = np.array([[[-0.1, 0.0], [0.1, 0.0], [0.0, 0.2]]])
    gt = pose_objects(np.array([[0, 1, 2]]), xy, np.zeros((1, 3)), np.array([[True, True, True]]))
    est = pose_objects(np.array([[3, 0, 1]]), xy[:, [1, 0, 2]], np.zeros((1, 3)), np.array([[True, True, False]]))
    evaluation = evaluate_objects(est, gt, catalogue())
    ((wrong, right, absent),), (true_labels,) = reporting.scene_labels(est, gt, evaluation, [[0.6, 0.9, 0.5]])
    assert wrong == reporting.ObjectLabel("cracker_box", 0.6, False)
    assert right == reporting.ObjectLabel("mug", 0.9, True)
    assert absent is None
    assert [label.is_correct for label in true_labels if label] == [True, True, False]
    texts = {text.get_text() for text in make_sheet(2).findobj(Text) if isinstance(text, Text)}
    assert any(text.startswith("inferred: ") for text in texts)


def test_wilson_interval_against_scipy() -> None:
    from scipy.stats import binomtest

    low, high = _wilson(np.array([3, 0, 20]), np.array([10, 5, 20]))
    for index, (hits, number) in enumerate(((3, 10), (0, 5), (20, 20))):
        interval = binomtest(hits, number).proportion_ci(0.95, "wilson")
        assert (low[index], high[index]) == pytest.approx((interval.low, interval.high), abs=1e-4)


def test_bad_input_names_the_remedy() -> None:
    images, ids = np.zeros((2, 4, 4, 3)), np.full((2, 4, 4), -1)
    with pytest.raises(ValueError, match="pass the same scenes"):
        reporting.inference_sheet(images, images[:1], ids, [[], []], ids, [[], []])
    with pytest.raises(ValueError, match="one name for each row"):
        reporting.confusion_matrix([[1, 2]], ["a", "b"], "x")
    with pytest.raises(ValueError, match="'step'"):
        reporting.training_curves({"loss": [1.0]})
    with pytest.raises(ValueError, match="'loss'"):
        reporting.training_curves({"step": [1, 2], "loss": [1.0]})
    table = reporting.Table("t", ("a", "b"), (("only one",),))
    with pytest.raises(ValueError, match="expected 2 cells"):
        reporting.write_report("unused.html", reporting.Report("t", reporting.Provenance("c", 0, "d"), tables=[table]))
