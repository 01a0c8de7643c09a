"""The report of a run on flat images: windows step by step, reconstructions, counts, curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from inverse_graphics.reporting.figures import confusion_matrix, training_curves
from inverse_graphics.reporting.headlines import MetricText, format_metric, metric_headlines
from inverse_graphics.reporting.html import Picture, Provenance, Report, Table, write_report
from inverse_graphics.reporting.style import INK, MUTED, PALETTE, WRONG, figure_style, new_figure
from inverse_graphics.sprites.evaluation import FlatEvaluation, FlatInference, FlatTruth, infer_sprites
from inverse_graphics.sprites.looking import ONCE, Looking
from inverse_graphics.sprites.model import SpriteModel
from inverse_graphics.sprites.windows import window_boxes_px

SHOWN_IMAGES = 10
SPRITE_TEXTS: dict[str, MetricText] = {
    "count_accuracy": MetricText("count right", "share", "Share of images in which as many objects were inferred as there are."),
    "count_accuracy_guide": MetricText(
        "the guide alone", "share", "The same where images are explained once, by the guide, without looking again."
    ),
    "matched_share": MetricText(
        "objects found", "share", "Share of the true objects with a window's centre within 15 % of the canvas of their own."
    ),
    "centre_error_median_px": MetricText("centre error, median", "px", "Distance of window and true frame, matched objects."),
    "squared_error": MetricText("squared error", "value", "Mean squared error of the reconstruction, a pixel, grey values 0..1."),
    "num_eval_images": MetricText("images judged", "number", "Held-out images of objects never seen in training."),
}
"""Texts of the keys of ``FlatEvaluation.summary``, in the order in which a report shows them."""


def sprite_summary_text(summary: Mapping[str, Any]) -> str:
    """The headline numbers, a line each, the count's accuracy for each true count, and what data it was."""
    lines = [f"{text.name:24s} {format_metric(summary[key], text.unit)}" for key, text in SPRITE_TEXTS.items()]
    by_count = ", ".join(f"{n}: {100 * share:.1f} %" for n, share in summary["count_accuracy_by_count"].items())
    return "\n".join([*lines, f"{'by true count':24s} {by_count}", f"{'data':24s} {summary['data']}"])


def write_sprite_report(
    path: str | Path,
    model: SpriteModel,
    shown: FlatTruth,
    evaluation: FlatEvaluation,
    summary: Mapping[str, Any],
    history: Mapping[str, Sequence[float]] | None,
    provenance: Provenance,
    config: Any,
    max_objects: int | None = None,
    looking: Looking = ONCE,
) -> None:
    """Write the HTML report of a run.

    Args:
        path: the file.
        model: what was trained.
        shown: the first held-out images.
        evaluation: how all of them were judged.
        summary: the numbers of results.json.
        history: training scalars by step, None where nothing was trained.
        provenance: command, seed, commit, versions.
        config: the resolved configuration.
        max_objects: steps; the model's own number where None.
        looking: whether images are explained once or again.
    """
    device = next(model.parameters()).device
    inference = infer_sprites(model, shown.images.to(device), max_objects, looking)
    counts = evaluation.count_confusion()
    names = [str(n) for n in range(len(counts))]
    pictures = [
        *step_pictures(shown, inference),
        Picture("Count", confusion_matrix(counts, names, "count", names), "True against inferred number of objects."),
        *_curves(history),
    ]
    rule = {"strict": "ink never overlaps", "crude": "Pyro's rule: digits may overlap"}[summary["overlap_rule"]]
    write_report(
        path,
        Report(
            title=f"Multi-MNIST: {summary['variant'].upper()}",
            provenance=provenance,
            description=f"Judged on {summary['num_eval_images']} images of digits never seen in training ({rule}). "
            f"Data: {summary['data']}.",
            headlines=metric_headlines(summary, texts=SPRITE_TEXTS),
            pictures=pictures,
            tables=[_count_table(evaluation)],
            config=config,
        ),
    )


def step_pictures(shown: FlatTruth, inference: FlatInference) -> list[Picture]:
    """The first images that hold objects, step by step, and those whose count is wrong."""
    right = inference.counts.cpu() == shown.counts
    holding = (shown.counts > 0).nonzero()[:SHOWN_IMAGES, 0]
    caption = (
        "From the left: the image; what has been drawn after each step, that step's window over it (pale where the step does not "
        "count); the reconstruction. Numbers are the probability that there are at least as many objects."
    )
    pictures = [Picture("Step by step", step_figure(shown, inference, holding), caption)]
    wrong = (~right).nonzero()[:SHOWN_IMAGES, 0]
    if len(wrong):
        pictures.append(Picture("Wrong counts", step_figure(shown, inference, wrong), "Images whose count is not the true one."))
    return pictures


def step_figure(shown: FlatTruth, inference: FlatInference, rows: Tensor) -> Figure:
    """One row an image: input, canvas and window after every step, reconstruction."""
    steps = inference.where.shape[1]
    canvases = inference.layers.cumsum(1).cpu()
    boxes = window_boxes_px(inference.where, shown.images.shape[-1]).cpu()
    at_least = inference.count_probabilities.flip(-1).cumsum(-1).flip(-1).cpu()
    images = torch.cat([shown.images[:, None], canvases, inference.reconstructions.cpu()[:, None]], 1)
    pixels = images.clamp(0, 1).numpy()
    with figure_style():
        figure = new_figure(1.15 * (steps + 2), 1.25 * max(1, len(rows)))
        panels = figure.subplots(max(1, len(rows)), steps + 2, squeeze=False)
        for axes, i in zip(panels, rows.tolist(), strict=False):
            true, inferred = int(shown.counts[i]), int(inference.counts[i])
            for column, panel in enumerate(axes):
                panel.imshow(pixels[i, column], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                _bare(panel)
                if 1 <= column <= steps:
                    counted = column <= inferred
                    _window(panel, boxes[i, column - 1].tolist(), PALETTE[(column - 1) % len(PALETTE)], 1.0 if counted else 0.35)
                    panel.set_xlabel(f"{100 * float(at_least[i, column]):.0f} %", size=6.5, color=MUTED, labelpad=1)
            axes[0].set_xlabel(f"{true} true", size=6.5, color=MUTED, labelpad=1)
            axes[-1].set_xlabel(f"{inferred} inferred", size=6.5, color=INK if true == inferred else WRONG, labelpad=1)
        for column, title in enumerate(["image", *(f"step {t + 1}" for t in range(steps)), "inferred"]):
            panels[0, column].set_title(title, size=8, loc="center")
    return figure


def _bare(panel: Axes) -> None:
    panel.set_xticks([])
    panel.set_yticks([])
    panel.spines[:].set_visible(False)


def _window(panel: Axes, box: list[float], color: str, alpha: float) -> None:
    """A window's outline; pixel centres are whole numbers on the axes."""
    left, top, right, bottom = box
    panel.add_patch(
        Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor=color, linewidth=1.4, alpha=alpha)
    )


def _count_table(evaluation: FlatEvaluation) -> Table:
    """How often the count is right, and how sure the model is of it, by the true count."""
    rows = []
    for n in sorted(set(evaluation.count_gt.tolist())):
        chosen = evaluation.count_gt == n
        right = float((evaluation.count_est[chosen] == n).mean())
        nats = float(-evaluation.log_probability[chosen].mean())
        rows.append((str(n), f"{int(chosen.sum()):,}", f"{100 * right:.2f} %", f"{nats:.3f}"))
    note = "The last column is the mean of -log q(true count): 0 where the model is sure and right."
    return Table("By true count", ("true count", "images", "count right", "nats"), tuple(rows), note)


def _curves(history: Mapping[str, Sequence[float]] | None) -> list[Picture]:
    if not history:
        return []
    curves = {name: np.asarray(values, np.float64) for name, values in history.items() if name != "seconds"}
    return [Picture("Training", training_curves(curves), "Terms of the bound, each on its own, in nats.")]
