"""The inference sheet: each input image beside the re-rendered inference, outlined and labelled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import contourpy
import numpy as np
from jaxtyping import Int
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from inverse_graphics.colours import linear_to_srgb
from inverse_graphics.metrics import Evaluation
from inverse_graphics.reporting.style import INK, MUTED, PALETTE, WRONG, figure_style
from inverse_graphics.types import Objects

_PANEL_IN = 1.95
"""Side of an image on the sheet."""
_GAP_IN, _MARGIN_IN = 0.08, 0.11
"""Between the two images of a pair, and left and right of the pair."""
_PAIR_IN = 2 * _PANEL_IN + _GAP_IN + 2 * _MARGIN_IN
"""Width of a pair."""
_FOOTER_IN, _BANDS_IN = 0.16, 0.4
"""Height below an image, and below and above it together."""
_LABEL_HEIGHT = 0.085
"""Height of a line of label text as a share of the panel's height."""


@dataclass(frozen=True)
class ObjectLabel:
    """What is written at an object."""

    name: str
    """Class name; decides the colour."""
    confidence: float | None = None
    """Probability of the class, 0..1; not written where None."""
    is_correct: bool | None = None
    """False marks the object as wrong (an inferred one) or not found (a true one); None where it was not judged."""


SceneLabels = Sequence[ObjectLabel | None]
"""One label for each slot of a scene, None where the slot is empty."""


def scene_labels(
    objects_est: Objects, objects_gt: Objects, evaluation: Evaluation, confidence_est: ArrayLike | None = None
) -> tuple[list[list[ObjectLabel | None]], list[list[ObjectLabel | None]]]:
    """Labels of inferred and true objects, marked right or wrong by an evaluation of the same objects.

    Args:
        objects_est: [*b n] inferred objects; the batch dimensions are flattened to s scenes.
        objects_gt: [*b m] true objects.
        evaluation: ``metrics.evaluate_objects(objects_est, objects_gt, ...)``.
        confidence_est: [*b n] probability of each inferred object's class.

    Returns:
        For each scene the labels of its inferred slots, and of its true slots.  An inferred object is right if it stands for a
        true one and has its class; a true one is wrong if nothing stands for it.
    """
    ids_est, ids_gt = _slots(objects_est), _slots(objects_gt)
    if len(ids_est) != len(evaluation.count_gt) or len(ids_gt) != len(evaluation.count_gt):
        raise ValueError(
            f"scene_labels: expected the {len(evaluation.count_gt)} scenes of the evaluation, received {len(ids_est)} inferred "
            f"and {len(ids_gt)} true ones; cut the objects down first, then evaluate and label the same ones."
        )
    names = evaluation.class_names
    confidence = None if confidence_est is None else np.asarray(confidence_est, np.float64).reshape(ids_est.shape)
    right = {(s, e) for s, e, ok in zip(evaluation.scene, evaluation.slot_est, evaluation.recognised, strict=True) if ok}
    found = {(s, g) for s, g, ok in zip(evaluation.scene, evaluation.slot_gt, evaluation.matched, strict=True) if ok}

    def label_est(scene: int, slot: int, index: int) -> ObjectLabel | None:
        sure = None if confidence is None else float(confidence[scene, slot])
        return None if index < 0 else ObjectLabel(names[index], sure, (scene, slot) in right)

    def label_gt(scene: int, slot: int, index: int) -> ObjectLabel | None:
        return None if index < 0 else ObjectLabel(names[index], None, (scene, slot) in found)

    labels_est = [[label_est(s, slot, int(i)) for slot, i in enumerate(row)] for s, row in enumerate(ids_est)]
    labels_gt = [[label_gt(s, slot, int(i)) for slot, i in enumerate(row)] for s, row in enumerate(ids_gt)]
    return labels_est, labels_gt


def inference_sheet(
    images_rgb_linear: ArrayLike,
    rerendered_rgb_linear: ArrayLike,
    ids_est: ArrayLike,
    labels_est: Sequence[SceneLabels],
    ids_gt: ArrayLike,
    labels_gt: Sequence[SceneLabels],
    class_names: Sequence[str] | None = None,
    scenes_per_row: int = 3,
) -> Figure:
    """Inputs (truth outlined) beside the re-rendered inference (outlined, labelled with class and confidence).

    A class has one colour on both sides.  What is wrong is dashed and marked with a cross: inferred objects that stand for
    nothing or have the wrong class, and true objects that were missed.

    Args:
        images_rgb_linear: [s h w 3] inputs, linear 0..1.
        rerendered_rgb_linear: [s h w 3] renderings of the inferred scenes.
        ids_est: [s h w] slot of the inferred object seen at each pixel, -1 where there is none (``RenderOutput.object_ids``).
        labels_est: for each scene the labels of its inferred slots.
        ids_gt: [s h w] likewise for the true scene.
        labels_gt: for each scene the labels of its true slots.
        class_names: order of the colours; the sorted names among the labels where None.
        scenes_per_row: pairs of images side by side.

    Raises:
        ValueError: if there is no scene or shapes and lengths disagree.
    """
    inputs, outputs = linear_to_srgb(images_rgb_linear), linear_to_srgb(rerendered_rgb_linear)
    maps_est, maps_gt = np.asarray(ids_est), np.asarray(ids_gt)
    lengths = {len(inputs), len(labels_est), len(labels_gt)}
    shapes = {inputs.shape, outputs.shape, (*maps_est.shape, 3), (*maps_gt.shape, 3)}
    if inputs.ndim != 4 or len(inputs) == 0 or len(shapes) > 1 or len(lengths) > 1 or scenes_per_row < 1:
        raise ValueError(
            f"inference_sheet: expected images [s h w 3], id maps [s h w] and s lists of labels, s >= 1, received images "
            f"{inputs.shape} and {outputs.shape}, id maps {maps_est.shape} and {maps_gt.shape}, {len(labels_est)} and "
            f"{len(labels_gt)} lists; pass the same scenes for each."
        )
    used = {label.name for labels in (*labels_est, *labels_gt) for label in labels if label is not None}
    ordered = list(class_names or []) + sorted(used - set(class_names or []))
    colors = {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(ordered)}
    columns = min(scenes_per_row, len(inputs))
    rows = -(-len(inputs) // columns)
    aspect = inputs.shape[1] / inputs.shape[2]
    with figure_style():
        figure = Figure(figsize=(columns * _PAIR_IN, rows * (_PANEL_IN * aspect + _BANDS_IN)))
        for scene in range(len(inputs)):
            left, right = _pair_axes(figure, scene, columns, aspect)
            _panel(left, inputs[scene], maps_gt[scene], labels_gt[scene], colors)
            _panel(right, outputs[scene], maps_est[scene], labels_est[scene], colors)
            _captions(left, right, labels_est[scene], labels_gt[scene])
    return figure


def _pair_axes(figure: Figure, scene: int, columns: int, aspect: float) -> tuple[Axes, Axes]:
    """The two panels of a scene, at the same size for all scenes whatever is written around them."""
    width_in, height_in = figure.get_size_inches()
    panel_height_in = _PANEL_IN * aspect
    row, column = divmod(scene, columns)
    bottom = (height_in - (row + 1) * (panel_height_in + _BANDS_IN) + _FOOTER_IN) / height_in
    size = (_PANEL_IN / width_in, panel_height_in / height_in)
    lefts_in = (column * _PAIR_IN + _MARGIN_IN, column * _PAIR_IN + _MARGIN_IN + _PANEL_IN + _GAP_IN)
    left, right = (figure.add_axes((left_in / width_in, bottom, *size)) for left_in in lefts_in)
    return left, right


def _slots(objects: Objects) -> Int[np.ndarray, "s n"]:
    """Class of each slot, -1 where it is empty, with flattened batch dimensions."""
    present = objects.present.detach().cpu().numpy().astype(bool)
    classes = np.where(present, objects.class_ids.detach().cpu().numpy(), -1)
    return classes.reshape(math.prod(classes.shape[:-1]), classes.shape[-1])


def _captions(left: Axes, right: Axes, labels_est: SceneLabels, labels_gt: SceneLabels) -> None:
    """What the two images are, and the counts; a wrong count stands out."""
    count_est, count_gt = (sum(label is not None for label in labels) for labels in (labels_est, labels_gt))
    is_right = count_est == count_gt
    missed = sum(label is not None and label.is_correct is False for label in labels_gt)
    note = f", {missed} missed" if missed else ""
    left.set_title(f"input: {count_gt} object{'s' * (count_gt != 1)}{note}", size=8, weight="normal", color=MUTED, pad=3)
    right.set_title(
        f"inferred: {count_est}" + ("" if is_right else "  ✗"),
        size=8,
        weight="normal" if is_right else "bold",
        color=MUTED if is_right else WRONG,
        pad=3,
    )


def _panel(axes: Axes, rgb: np.ndarray, ids: np.ndarray, labels: SceneLabels, colors: dict[str, str]) -> None:
    """An image with outlines and labels of its objects."""
    height, width = ids.shape
    axes.imshow(rgb, extent=(0, width, height, 0), interpolation="nearest")
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    halo = [patheffects.withStroke(linewidth=2.3, foreground="white", alpha=0.85)]
    anchors: list[tuple[float, float, ObjectLabel]] = []
    for slot, label in enumerate(labels):
        mask = ids == slot
        if label is None or not mask.any():
            continue
        style = (0, (2.2, 1.2)) if label.is_correct is False else "solid"
        lines = LineCollection(outline(mask), colors=colors[label.name], linewidths=1.2, linestyles=[style], capstyle="butt")
        lines.set_path_effects([*halo, patheffects.Normal()])
        axes.add_collection(lines)
        rows, columns = np.nonzero(mask)
        anchors.append((float(columns.mean() + 0.5), float(rows.min()), label))
    _write_labels(axes, anchors, colors, width, height)
    unseen = [label for slot, label in enumerate(labels) if label is not None and not (ids == slot).any()]
    if unseen:
        names = ", ".join(label.name for label in unseen)
        axes.text(0.5, -0.015, f"not visible: {names}", transform=axes.transAxes, ha="center", va="top", size=6.5, color=MUTED)


def outline(mask: ArrayLike) -> list[np.ndarray]:
    """Closed outlines [p 2] of a mask in pixel coordinates (x, y), pixel (0, 0) covering [0, 1) x [0, 1)."""
    padded = np.pad(np.asarray(mask, np.float64), 1)
    rows, columns = (np.arange(size) - 0.5 for size in padded.shape)
    return [np.asarray(line) for line in contourpy.contour_generator(columns, rows, padded).lines(0.5)]


def _write_labels(
    axes: Axes, anchors: list[tuple[float, float, ObjectLabel]], colors: dict[str, str], width: int, height: int
) -> None:
    """Labels above their objects, from the top down, each moved down past those that it would cover."""
    line = _LABEL_HEIGHT * height
    placed: list[tuple[float, float, float]] = []
    for x, top, label in sorted(anchors, key=lambda anchor: anchor[1]):
        text = _label_text(label)
        half = 0.5 * width * 0.031 * len(text) + 0.02 * width
        x = min(max(x, half), width - half)
        y = max(top - 0.6 * line, 0.6 * line)
        for other_x, other_y, other_half in placed:
            if abs(x - other_x) < half + other_half and abs(y - other_y) < 1.15 * line:
                y = other_y + 1.15 * line
        placed.append((x, y, half))
        box = {"boxstyle": "round,pad=0.18", "facecolor": "white", "alpha": 0.9, "linewidth": 0.8}
        box["edgecolor"] = WRONG if label.is_correct is False else colors[label.name]
        color = WRONG if label.is_correct is False else INK
        axes.text(x, y, text, ha="center", va="center", size=6, color=color, bbox=box, zorder=5)


def _label_text(label: ObjectLabel) -> str:
    """Name, confidence in percent, and a cross where wrong."""
    sure = "" if label.confidence is None else f" {100 * label.confidence:.0f}%"
    return ("✗ " if label.is_correct is False else "") + label.name + sure
