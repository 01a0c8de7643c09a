"""The report of a run on characters: strokes step by step, parts beside the pen's strokes, scores beside the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Integer
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from inverse_graphics.reporting.figures import training_curves
from inverse_graphics.reporting.html import Headline, Picture, Provenance, Report, Table, write_report
from inverse_graphics.reporting.style import INK, MUTED, PALETTE, figure_style, new_figure
from inverse_graphics.sprites.parts import WAYS, PartInference, PartTruth, part_maps
from inverse_graphics.sprites.strokes import StrokeDecoder, ink_of
from inverse_graphics.sprites.windows import window_boxes_px

WAY_NAMES = {
    "parts": "parts inferred",
    "guide": "the guide's parts, not refined",
    "k_means": "k-means",
    "components": "pieces that hang together",
    "one_part": "one part",
}
"""Ways of dividing the ink, in words."""
SET_NAMES = {"held_out_drawers": "drawers never seen", "held_out_alphabets": "alphabets never seen"}
"""Sets that are judged, in words; the keys of results.json."""


@dataclass(frozen=True)
class ShownParts:
    """Some drawings and what was inferred of them."""

    truth: PartTruth
    """The drawings."""
    inference: PartInference
    """Their strokes."""


def parts_summary_text(summary: Mapping[str, Any]) -> str:
    """The headline numbers, a line each, and what data it was."""
    lines = []
    for key, name in SET_NAMES.items():
        scores = ", ".join(f"{WAY_NAMES[way]} {_interval(summary[key]['agreement'][way])}" for way in WAYS)
        lines += [f"{name}: {scores}", f"  squared error {summary[key]['squared_error']['mean']:.4f}"]
    return "\n".join([*lines, f"data: {summary['data']}"])


def write_parts_report(
    path: str | Path,
    decoder: StrokeDecoder,
    shown: Mapping[str, ShownParts],
    summary: Mapping[str, Any],
    history: Mapping[str, Sequence[float]] | None,
    provenance: Provenance,
    config: Any,
) -> None:
    """Write the HTML report of a run.

    Args:
        path: the file.
        decoder: whose strokes they are.
        shown: some drawings of each set of ``SET_NAMES``.
        summary: the numbers of results.json.
        history: training scalars by step, None where nothing was trained.
        provenance: command, seed, commit, versions.
        config: the resolved configuration.
    """
    steps = (
        "From the left: the drawing; what the guide has drawn after each step, with that step's window and curve (pale where the "
        "step does not count); the reconstruction after refinement."
    )
    parts = "For each drawing: the pen's strokes, then the parts inferred (each pixel to the stroke that draws it most)."
    pictures = [
        *(Picture(f"Step by step, {SET_NAMES[key]}", step_figure(decoder, some), steps) for key, some in shown.items()),
        *(Picture(f"Strokes and parts, {SET_NAMES[key]}", part_figure(some), parts) for key, some in shown.items()),
    ]
    if history:
        curves = {name: np.asarray(values, np.float64) for name, values in history.items() if name != "seconds"}
        pictures.append(Picture("Training", training_curves(curves), "Terms of the bound, each on its own, in nats."))
    numbers = " and ".join(f"{summary[key]['num_images']} of {name}" for key, name in SET_NAMES.items())
    write_report(
        path,
        Report(
            title=f"Parts of characters: {summary['variant'].upper()}",
            provenance=provenance,
            description=f"Judged on drawings of {numbers}. Data: {summary['data']}.",
            headlines=[headline for key in SET_NAMES for headline in _headlines(key, summary[key])],
            pictures=pictures,
            tables=[_agreement_table(summary), _count_table(summary)],
            config=config,
        ),
    )


def step_figure(decoder: StrokeDecoder, shown: ShownParts) -> Figure:
    """One row a drawing: input, canvas with window and curve after every step of the guide, reconstruction."""
    guide, images = shown.inference.guide, shown.truth.images.cpu()
    rows, steps = guide.present.shape
    canvases = ink_of(guide.densities.cumsum(1)).cpu()
    boxes = window_boxes_px(guide.where, images.shape[-1]).cpu()
    courses = decoder.courses(guide.what.flatten(0, 1), guide.where.flatten(0, 1)).detach().cpu().unflatten(0, (rows, steps))
    courses_px = (courses + 1) * (0.5 * images.shape[-1]) - 0.5
    last = shown.inference.reconstructions.cpu()
    with figure_style():
        figure = new_figure(1.15 * (steps + 2), 1.2 * rows)
        panels = figure.subplots(rows, steps + 2, squeeze=False)
        for i, axes in enumerate(panels):
            _picture(axes[0], images[i])
            _picture(axes[-1], last[i])
            for step, panel in enumerate(axes[1:-1]):
                _picture(panel, canvases[i, step])
                shade = 1.0 if bool(guide.present[i, step]) else 0.35
                colour = PALETTE[step % len(PALETTE)]
                left, top, right, bottom = boxes[i, step].tolist()
                panel.add_patch(
                    Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, edgecolor=colour, alpha=shade)
                )
                panel.plot(*courses_px[i, step].T.numpy(), color=colour, linewidth=1.4, alpha=shade, scalex=False, scaley=False)
        for column, title in enumerate(["drawing", *(f"step {t + 1}" for t in range(steps)), "refined"]):
            panels[0, column].set_title(title, size=8, loc="center")
    return figure


def part_figure(shown: ShownParts, across: int = 5) -> Figure:
    """Pairs of pictures: true strokes, inferred parts; at most ``across`` pairs a row."""
    ids = shown.truth.stroke_ids.cpu()
    maps = part_maps(shown.inference.strokes, ids.to(shown.inference.strokes.present.device) >= 0).cpu().numpy()
    ink, true = shown.truth.images.cpu().numpy(), ids.numpy()
    across = min(across, len(ink))
    rows = -(-len(ink) // across)
    with figure_style():
        figure = new_figure(2.0 * across, 1.15 * rows)
        panels = figure.subplots(rows, 2 * across, squeeze=False)
        for panel in panels.flat:
            _bare(panel)
        for i, (picture, strokes, parts) in enumerate(zip(ink, true, maps, strict=True)):
            row, column = divmod(i, across)
            panels[row, 2 * column].imshow(coloured(picture, strokes), interpolation="nearest")
            panels[row, 2 * column + 1].imshow(coloured(picture, parts), interpolation="nearest")
            panels[row, 2 * column].set_xlabel("pen", size=6.5, color=MUTED, labelpad=1)
            panels[row, 2 * column + 1].set_xlabel("parts", size=6.5, color=INK, labelpad=1)
    return figure


def coloured(ink: Float[np.ndarray, "h w"], parts: Integer[np.ndarray, "h w"]) -> Float[np.ndarray, "h w 3"]:
    """Ink on white, every part in its colour."""
    palette = np.array([to_rgb(colour) for colour in PALETTE])
    shade = np.sqrt(ink)[..., None]
    return np.where(parts[..., None] >= 0, 1 - shade * (1 - palette[parts % len(palette)]), 1.0)


def _picture(panel: Axes, ink: Tensor) -> None:
    panel.imshow(1 - ink.numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    _bare(panel)


def _bare(panel: Axes) -> None:
    panel.set_xticks([])
    panel.set_yticks([])
    panel.spines[:].set_visible(False)


def _headlines(key: str, judged: Mapping[str, Any]) -> list[Headline]:
    name, agreement = SET_NAMES[key], judged["agreement"]
    best = max(agreement[way]["mean"] for way in ("k_means", "components", "one_part"))
    return [
        Headline(
            f"parts, {name}",
            _interval(agreement["parts"]),
            "Adjusted Rand index of parts and pen strokes over pixels with ink; mean and 95 % interval.",
            f"above {best:.3f}, the best baseline",
            agreement["parts"]["mean"] > best,
        ),
        Headline(
            f"squared error, {name}",
            f"{judged['squared_error']['mean']:.4f}",
            "Mean squared error of the reconstruction, a pixel, ink 0..1.",
        ),
    ]


def _agreement_table(summary: Mapping[str, Any]) -> Table:
    rows = tuple((WAY_NAMES[way], *(_interval(summary[key]["agreement"][way]) for key in SET_NAMES)) for way in WAYS)
    note = "Adjusted Rand index with the pen's strokes. K-means is told the number of parts inferred, image by image."
    return Table("Agreement with the pen", ("way of dividing the ink", *SET_NAMES.values()), rows, note)


def _count_table(summary: Mapping[str, Any]) -> Table:
    counts = sorted({n for key in SET_NAMES for n in summary[key]["agreement_by_count"]}, key=int)
    rows = []
    for n in counts:
        scores = [summary[key]["agreement_by_count"].get(n) for key in SET_NAMES]
        rows.append((n, *("–" if score is None else f"{score:.3f}" for score in scores)))
    right = (f"{100 * summary[key]['count_accuracy']['mean']:.1f} %" for key in SET_NAMES)
    rows.append(("as many parts as strokes", *right))
    return Table("By number of pen strokes", ("strokes", *SET_NAMES.values()), tuple(rows))


def _interval(values: Mapping[str, Any]) -> str:
    if values["high"] is None:
        return f"{values['mean']:.3f}"
    return f"{values['mean']:.3f} ± {values['high'] - values['mean']:.3f}"
