"""The report on gradient estimators: how much each scatters, and how fast each learns to count."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from inverse_graphics.reporting.html import Headline, Picture, Provenance, Report, Table, write_report
from inverse_graphics.reporting.style import PALETTE, figure_style, new_figure

GROUPS = {"presence": "presence", "all": "all weights"}


@dataclass(frozen=True)
class SpreadRow:
    """Scatter of one estimator's gradient at one point of a training."""

    estimator: str
    """exact, nvil or vimco."""
    step: int
    """Steps of exact training behind the weights."""
    group: str
    """presence: the layer that gives the presence logits; all: every weight."""
    variance: float
    """Trace of the gradient's covariance over draws, on one batch."""
    mean_norm: float
    """Norm of the mean gradient."""
    draws: int
    """How many."""
    seconds: float
    """Wall time of a draw."""


@dataclass(frozen=True)
class CurvePoint:
    """A training, judged at one step."""

    estimator: str
    """exact, nvil or vimco."""
    seed: int
    """Of the training."""
    step: int
    """Steps done."""
    seconds: float
    """Wall time spent on them, judging left out."""
    count_accuracy: float
    """Share of held-out images counted rightly."""
    bound: float
    """Mean bound on them, nats an image, count summed exactly."""


def estimators_of(rows: Sequence[SpreadRow] | Sequence[CurvePoint]) -> list[str]:
    """Names in order of appearance."""
    return list(dict.fromkeys(row.estimator for row in rows))


def by_seed(points: Sequence[CurvePoint], estimator: str) -> dict[int, list[CurvePoint]]:
    """Curves of an estimator."""
    found: dict[int, list[CurvePoint]] = {}
    for point in points:
        if point.estimator == estimator:
            found.setdefault(point.seed, []).append(point)
    return found


def last_accuracy(points: Sequence[CurvePoint], estimator: str) -> float:
    """Mean over the seeds of the count accuracy at the end."""
    return float(np.mean([curve[-1].count_accuracy for curve in by_seed(points, estimator).values()]))


def seconds_to(points: Sequence[CurvePoint], estimator: str, accuracy: float) -> list[float | None]:
    """When each seed's count accuracy was first as high; None where it never was."""
    curves = by_seed(points, estimator).values()
    return [next((p.seconds for p in curve if p.count_accuracy >= accuracy), None) for curve in curves]


def rows_csv(rows: Sequence[SpreadRow] | Sequence[CurvePoint]) -> str:
    """Rows, a line each."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(dataclasses.asdict(rows[0])), lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(row) for row in rows)
    return stream.getvalue()


def spread_table(rows: Sequence[SpreadRow]) -> Table:
    """Variances, and what they are beside the exact estimator's in the same time."""
    lines = []
    for row in rows:
        same = [r for r in rows if (r.estimator, r.step, r.group) == ("exact", row.step, row.group)]
        price = row.variance * row.seconds
        ratio = f"{price / (same[0].variance * same[0].seconds):.3g}" if same and same[0].variance > 0 else "–"
        name = f"{row.estimator}, step {row.step}, {GROUPS[row.group]}"
        noise = f"{math.sqrt(row.variance) / row.mean_norm:.3g}" if row.mean_norm > 0 else "–"
        lines.append((name, f"{row.variance:.3g}", f"{row.mean_norm:.3g}", noise, f"{1000 * row.seconds:.0f} ms", ratio))
    note = "Noise: root of the variance over the mean's norm. Price: variance times time, over exact's. vimco's mean is another "
    note += "objective's, and its draw is of several particles an image. nvil's baseline was fitted to the weights first."
    columns = ("estimator and weights", "variance", "mean gradient", "noise", "a draw", "price")
    return Table("Scatter of the gradient", columns, tuple(lines), note)


def curve_table(points: Sequence[CurvePoint]) -> Table:
    """Where the trainings ended, and when they were first at 90 %."""
    lines = []
    for estimator in estimators_of(points):
        ends = [curve[-1] for curve in by_seed(points, estimator).values()]
        percent = [100 * end.count_accuracy for end in ends]
        reached = seconds_to(points, estimator, 0.9)
        times = ", ".join("–" if s is None else f"{s:.0f} s" for s in reached)
        rate = np.mean([end.step / max(end.seconds, 1e-9) for end in ends])
        accuracy = f"{np.mean(percent):.1f} % ({min(percent):.1f}–{max(percent):.1f})"
        lines.append((estimator, str(len(ends)), accuracy, f"{np.mean([end.bound for end in ends]):.0f}", f"{rate:.1f}/s", times))
    columns = ("estimator", "seeds", "count right at the end", "bound, nats", "steps", "90 % after")
    return Table("Training", columns, tuple(lines), "Held-out images; time without judging; 90 %: seed by seed, – is never.")


def estimator_text(rows: Sequence[SpreadRow], points: Sequence[CurvePoint], data: str) -> str:
    """The tables for the screen."""
    blocks = []
    for table in (spread_table(rows), curve_table(points)):
        cells = [table.columns, *table.rows]
        widths = [max(len(row[i]) for row in cells) for i in range(len(table.columns))]
        blocks.append("\n".join("  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells))
    return "\n\n".join([*blocks, f"Data: {data}"])


def spread_figure(rows: Sequence[SpreadRow]) -> Figure:
    """Variance against the point of training: a panel for each set of weights, a line for each estimator."""
    steps = sorted({row.step for row in rows})
    with figure_style():
        figure = new_figure(8.4, 2.9)
        panels = figure.subplots(1, len(GROUPS))
        for panel, (group, title) in zip(panels, GROUPS.items(), strict=True):
            for color, name in zip(PALETTE, estimators_of(rows), strict=False):
                own = {row.step: row.variance for row in rows if (row.estimator, row.group) == (name, group)}
                panel.plot(steps, [own[step] for step in steps], color=color, marker="o", markersize=4.5, label=name)
            panel.set(title=f"variance of the gradient, {title}", xlabel="steps of exact training before", xticks=steps)
            panel.set_yscale("log")
            panel.grid(axis="y")
        panels[0].legend()
    return figure


def curve_figure(points: Sequence[CurvePoint]) -> Figure:
    """Count accuracy and bound against wall time: a line for each seed."""
    with figure_style():
        figure = new_figure(8.4, 2.9)
        left, right = figure.subplots(1, 2)
        for color, name in zip(PALETTE, estimators_of(points), strict=False):
            for number, curve in enumerate(by_seed(points, name).values()):
                label = name if number == 0 else None
                _line(left, curve, [p.count_accuracy for p in curve], color, label)
                _line(right, curve, [p.bound for p in curve], color, label)
        left.set(title="count right", xlabel="seconds of training", ylim=(0, 1.03))
        left.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        bounds = np.array([p.bound for p in points])
        right.set(title="bound, nats an image", xlabel="seconds of training", ylim=(np.percentile(bounds, 20), None))
        left.legend(loc="lower right")
        for axes in (left, right):
            axes.grid(axis="y")
    return figure


def _line(axes: Axes, curve: Sequence[CurvePoint], values: Sequence[float], color: str, label: str | None) -> None:
    axes.plot([p.seconds for p in curve], values, color=color, linewidth=1.4, alpha=0.85, label=label)


def write_estimator_report(
    path: str | Path,
    rows: Sequence[SpreadRow],
    points: Sequence[CurvePoint],
    summary: Mapping[str, Any],
    provenance: Provenance,
    config: Any,
) -> None:
    """Write the HTML report."""
    headlines = [
        Headline(name, f"{100 * last_accuracy(points, name):.1f} %", "Count accuracy at the end, mean over the seeds.")
        for name in estimators_of(points)
    ]
    pictures = [
        Picture("Scatter", spread_figure(rows), "Trace of the gradient's covariance over draws, on one batch of images."),
        Picture("Training", curve_figure(points), "A line for each seed; the bound's axis leaves out the lowest fifth."),
    ]
    write_report(
        path,
        Report(
            title="Gradient estimators side by side",
            provenance=provenance,
            description="The count summed exactly, drawn with a learned baseline (nvil), or drawn several times (vimco). "
            f"Data: {summary['data']}. Rule: {summary['overlap_rule']}.",
            headlines=headlines,
            pictures=pictures,
            tables=[spread_table(rows), curve_table(points)],
            config=config,
        ),
    )
