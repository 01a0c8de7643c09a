"""The report on numbers of objects never trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from inverse_graphics.reporting.html import Headline, Picture, Provenance, Report, Table, write_report
from inverse_graphics.reporting.style import MUTED, PALETTE, figure_style, new_figure

GOALS: dict[tuple[str, tuple[int, ...]], float | None] = {
    ("air", (0, 1, 2)): None,
    ("air", (0, 1, 3)): None,
    ("dair", (0, 1, 2)): 0.90,
    ("dair", (0, 1, 3)): 0.97,
}
"""What accuracy on the number never trained on should reach."""


UNSEEN: dict[tuple[int, ...], int] = {(0, 1, 2): 3, (0, 1, 3): 2}
"""The number never trained on, by those that were."""


@dataclass(frozen=True)
class CountRow:
    """One training, tested on each number of objects."""

    variant: str
    """air or dair."""
    trained_on: tuple[int, ...]
    """Numbers of objects seen in training."""
    seed: int
    """Of the training."""
    accuracy: dict[int, float]
    """Count accuracy by number of objects."""


def grouped(rows: Sequence[CountRow]) -> dict[tuple[str, tuple[int, ...]], list[CountRow]]:
    """Trainings that differ by their seed alone."""
    groups: dict[tuple[str, tuple[int, ...]], list[CountRow]] = {}
    for row in rows:
        groups.setdefault((row.variant, row.trained_on), []).append(row)
    return groups


def generalization_table(rows: Sequence[CountRow]) -> Table:
    """Mean and range over the seeds, numbers never trained on marked."""
    numbers = sorted(rows[0].accuracy)
    lines = []
    for (variant, counts), group in grouped(rows).items():
        cells = []
        for n in numbers:
            shares = [100 * row.accuracy[n] for row in group]
            spread = f" ({min(shares):.1f}–{max(shares):.1f})" if len(shares) > 1 else ""
            cells.append(f"{np.mean(shares):.1f} %{spread}{'' if n in counts else ' *'}")
        lines.append((f"{variant.upper()}, trained on {', '.join(map(str, counts))}", str(len(group)), *cells))
    columns = ("training", "seeds", *(f"{n} digit{'s' * (n > 1)}" for n in numbers))
    return Table(
        "Count accuracy by number of digits", columns, tuple(lines), "* never seen in training. Mean (range) over seeds."
    )


def generalization_text(rows: Sequence[CountRow], data: str) -> str:
    """The table for the screen."""
    table = generalization_table(rows)
    cells = [table.columns, *table.rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([*lines, f"* never seen in training. Data: {data}"])


def generalization_figure(rows: Sequence[CountRow]) -> Figure:
    """Accuracy against the number of digits: a panel for each kind of training, a line for each variant."""
    groups = grouped(rows)
    kinds = sorted({counts for _, counts in groups})
    with figure_style():
        figure = new_figure(3.9 * len(kinds), 2.9)
        panels = figure.subplots(1, len(kinds), squeeze=False)[0]
        for panel, counts in zip(panels, kinds, strict=True):
            numbers = sorted(rows[0].accuracy)
            for n in numbers:
                if n not in counts:
                    panel.axvspan(n - 0.3, n + 0.3, color=PALETTE[1], alpha=0.15, linewidth=0)
            for color, variant in zip(PALETTE, ("dair", "air"), strict=False):
                group = groups.get((variant, counts), [])
                if not group:
                    continue
                shares = np.array([[row.accuracy[n] for n in numbers] for row in group])
                panel.plot(numbers, shares.mean(0), color=color, marker="o", markersize=4.5, label=variant.upper())
                panel.fill_between(numbers, shares.min(0), shares.max(0), color=color, alpha=0.2, linewidth=0)
            panel.set(ylim=(-0.03, 1.05), xticks=numbers, xlabel="digits in the image")
            panel.set_title(f"trained on {', '.join(map(str, counts))}")
            panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            panel.grid(axis="y")
        panels[0].set_ylabel("count right")
        panels[0].legend(loc="lower left")
        figure.supxlabel("shaded: numbers never seen in training", size=7.5, color=MUTED)
    return figure


def write_generalization_report(
    path: str | Path, rows: Sequence[CountRow], summary: Mapping[str, Any], provenance: Provenance, config: Any
) -> None:
    """Write the HTML report."""
    headlines = []
    for (variant, counts), group in grouped(rows).items():
        unseen = UNSEEN.get(counts)
        if unseen is None:
            continue
        share, goal = float(np.mean([row.accuracy[unseen] for row in group])), GOALS.get((variant, counts))
        name = f"{variant.upper()}: {', '.join(map(str, counts))} → {unseen}"
        meaning = f"Count accuracy on images of {unseen} digits, none of which were in training; mean over {len(group)} seed(s)."
        target = f"at least {100 * goal:.0f} %" if goal else ""
        headlines.append(Headline(name, f"{100 * share:.1f} %", meaning, target, share >= goal if goal else None))
    figure = Picture(
        "Count accuracy by number of digits", generalization_figure(rows), "Bands: smallest and largest of the seeds."
    )
    write_report(
        path,
        Report(
            title="Numbers of objects never trained on",
            provenance=provenance,
            description="Held-out images with one number of digits each. "
            f"Data: {summary['data']}. Rule: {summary['overlap_rule']}.",
            headlines=headlines,
            pictures=[figure],
            tables=[generalization_table(rows)],
            config=config,
        ),
    )
