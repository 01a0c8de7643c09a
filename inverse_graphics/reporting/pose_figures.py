"""Charts of pose errors: recall over thresholds, recall and errors against visibility and distance, differences of two files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from inverse_graphics.bop.comparison import Difference
from inverse_graphics.reporting.figures import VISIBILITY_EDGES
from inverse_graphics.reporting.pose_rows import PoseSide, target_recall
from inverse_graphics.reporting.style import GRID, INK, MUTED, PALETTE, WRONG, figure_style, new_figure, note_empty

DISTANCE_BINS = 6
"""Bins of the distance, of about equal numbers of targets."""
FEWEST = 5
"""Fewer errors than this have no quartiles worth drawing."""
MARKERS = ("o", "s")


def recall_curves(sides: Sequence[PoseSide]) -> Figure:
    """Recall of localisation over the threshold of each error; VSD as the mean over its tolerances, and pale at each of them."""
    with figure_style():
        figure = new_figure(10.6, 3.1)
        panels = figure.subplots(1, 3)
        for side, color, marker in zip(sides, PALETTE, MARKERS, strict=False):
            curves = side.evaluation.curves
            style = {"color": color, "marker": marker, "markersize": 4, "linewidth": 1.6}
            panels[0].plot(curves.diameter_thresholds, curves.mssd, label=side.label, **style)
            panels[1].plot(curves.pixel_thresholds, curves.mspd, label=side.label, **style)
            if curves.vsd is not None:
                panels[2].plot(curves.diameter_thresholds, curves.vsd.T, color=color, linewidth=0.7, alpha=0.3)
                panels[2].plot(curves.diameter_thresholds, curves.vsd.mean(0), label=side.label, **style)
        names = (("MSSD below", "diameters"), ("MSPD below", "px at 640 px width"), ("VSD below", "share of pixels"))
        for panel, (title, unit) in zip(panels, names, strict=True):
            panel.set(ylim=(-0.03, 1.04), title=f"recall: {title}", xlabel=unit)
            panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            panel.grid(axis="y")
        if all(side.evaluation.curves.vsd is None for side in sides):
            note_empty(panels[2], "VSD was not computed")
        _legend(figure, panels[0], sides)
    return figure


def errors_by_visibility(sides: Sequence[PoseSide]) -> Figure:
    """What occlusion costs: recall and errors of the targets by their visible share."""
    edges = np.asarray(VISIBILITY_EDGES)
    shares = sides[0].evaluation.targets.visib_fract
    bins = np.clip(np.searchsorted(edges, shares, side="right") - 1, 0, len(edges) - 2)
    labels = [f"{100 * low:.0f}–{100 * high:.0f}" for low, high in zip(edges, edges[1:], strict=False)]
    return _by_bin(sides, bins, labels, "visible share of the target's pixels, %")


def errors_by_distance(sides: Sequence[PoseSide]) -> Figure:
    """What distance costs: recall and errors of the targets in bins of equal numbers."""
    distance_mm = sides[0].evaluation.targets.distance_mm
    count = max(1, min(DISTANCE_BINS, len(distance_mm) // FEWEST))
    edges = np.unique(np.quantile(distance_mm, np.linspace(0, 1, count + 1))) if len(distance_mm) else np.zeros(2)
    bins = np.clip(np.searchsorted(edges, distance_mm, side="right") - 1, 0, max(0, len(edges) - 2))
    pairs = list(zip(edges, edges[1:], strict=False)) or [(edges[0], edges[0])]
    labels = [f"{low / 1000:.2f}–{high / 1000:.2f}" for low, high in pairs]
    return _by_bin(sides, bins, labels, "distance of the target from the camera, m")


def _by_bin(sides: Sequence[PoseSide], bins: Int[np.ndarray, "r"], labels: Sequence[str], what: str) -> Figure:
    """Recall, translation error and rotation error of the targets in each bin."""
    numbers = np.bincount(bins, minlength=len(labels))
    with figure_style():
        figure = new_figure(10.6, 3.1)
        panels = figure.subplots(1, 3)
        for index, side in enumerate(sides):
            targets, shift = side.evaluation.targets, 0.14 * (index - (len(sides) - 1) / 2)
            _means(panels[0], bins, target_recall(side.evaluation), shift, index, side.label)
            for panel, errors in ((panels[1], targets.te_mm), (panels[2], targets.re_deg)):
                _quartiles(panel, bins, errors, len(labels), shift, index)
        panels[0].set(title="mean recall, 95 % interval", ylim=(-0.03, 1.04))
        panels[0].yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        panels[1].set(title="position error, median and quartiles", ylabel="mm")
        panels[2].set(title="rotation error, median and quartiles", ylabel="degrees")
        ticks = [f"{label}\nn={number}" for label, number in zip(labels, numbers, strict=True)]
        for panel in panels:
            if panel is panels[0] or panel.lines or panel.containers:
                panel.set_xticks(range(len(ticks)), ticks, size=6.8)
                panel.set_xlim(-0.5, len(ticks) - 0.5)
                panel.grid(axis="y")
            else:
                note_empty(panel, f"fewer than {FEWEST} matched targets in each bin")
        _legend(figure, panels[0], sides)
        figure.supxlabel(what, size=9, color=INK)
    return figure


def _legend(figure: Figure, panel: Axes, sides: Sequence[PoseSide]) -> None:
    """Names of two sides above all panels."""
    if len(sides) > 1:
        handles, labels = panel.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper right", ncols=2)


def _means(panel: Axes, bins: Int[np.ndarray, "r"], values: Float[np.ndarray, "r"], shift: float, index: int, label: str) -> None:
    """Means of values in 0..1 with normal intervals, cut at 0 and 1; hollow and without interval where there are few."""
    used = np.unique(bins)
    groups = [values[bins == one] for one in used.tolist()]
    means = np.array([group.mean() for group in groups])
    few = np.array([len(group) < FEWEST for group in groups], bool)
    half = np.array([0.0 if len(group) < FEWEST else 1.96 * group.std(ddof=1) / np.sqrt(len(group)) for group in groups])
    whiskers = np.maximum(np.stack([means - np.maximum(means - half, 0), np.minimum(means + half, 1) - means]), 0)
    if len(used):
        panel.errorbar(used + shift, means, yerr=whiskers.reshape(2, -1), label=label, capsize=2, elinewidth=0.9, **_style(index))
        hollow: dict[str, Any] = _style(index) | {"markerfacecolor": "white", "linestyle": "none"}
        panel.plot((used + shift)[few], means[few], **hollow)


def _quartiles(
    panel: Axes, bins: Int[np.ndarray, "r"], errors: Float[np.ndarray, "r"], count: int, shift: float, index: int
) -> None:
    """Medians with quartiles as whiskers, of errors that exist."""
    groups = {one: errors[(bins == one) & ~np.isnan(errors)] for one in range(count)}
    used = np.array([one for one, values in groups.items() if len(values) >= FEWEST])
    if len(used) == 0:
        return
    low, middle, high = np.array([np.percentile(groups[one], [25, 50, 75]) for one in used.tolist()]).T
    panel.errorbar(used + shift, middle, yerr=np.stack([middle - low, high - middle]), capsize=2, elinewidth=0.9, **_style(index))
    panel.set_ylim(0, max(panel.get_ylim()[1], 1.08 * float(high.max()), 1e-9))


def _style(index: int) -> dict[str, Any]:
    """Colour and marker of a side."""
    return {"color": PALETTE[index], "marker": MARKERS[index], "markersize": 4.5, "linewidth": 1.4}


def differences_figure(differences: Mapping[str, Difference], names: Mapping[str, str], labels: tuple[str, str]) -> Figure:
    """Each score's difference with its interval; in colour where the interval leaves out zero.

    Args:
        differences: second less first, by score.
        names: how scores are called.
        labels: of the two sides.
    """
    rows = list(differences.items())
    with figure_style():
        figure = new_figure(7.6, 1.2 + 0.3 * len(rows))
        axes = figure.subplots()
        for place, (_, one) in enumerate(rows):
            color = PALETTE[2] if one.low > 0 else WRONG if one.high < 0 else MUTED
            axes.plot([one.low, one.high], [place, place], color=color, linewidth=2.2, solid_capstyle="round")
            axes.plot([one.value], [place], color=color, marker="o", markersize=5.5)
        axes.axvline(0, color=INK, linewidth=0.9)
        reach = 1.15 * max([0.01, *(max(abs(one.low), abs(one.high)) for _, one in rows)])
        axes.set(xlim=(-reach, reach), ylim=(len(rows) - 0.4, -0.6))
        axes.set_yticks(range(len(rows)), [names[key] for key, _ in rows])
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:+.3g}" if value else "0"))
        axes.grid(axis="x", color=GRID)
        axes.set_xlabel("percentage points")
        axes.set_title(f"← {labels[0]} is better    {labels[1]} is better →", loc="center", size=9)
    return figure
