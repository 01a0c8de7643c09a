"""The report on questions about pairs of digits: accuracy against the number of labels, from latents and from pixels."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from inverse_graphics.reporting.html import Headline, Picture, Provenance, Report, Table, write_report
from inverse_graphics.reporting.style import MUTED, PALETTE, figure_style, new_figure

GOALS = {"sum": 0.96, "ascending": 0.97}
"""What accuracy from latents should reach with the most labels."""
TITLES = {"sum": "sum of the two digits", "ascending": "ascending from left to right"}
NAMES = {"latents": "frozen latents", "pixels": "network on pixels"}
CHANCE = {"sum": 0.10, "ascending": 0.55}
"""Accuracy of always giving the most frequent answer where all digits are equally frequent."""


@dataclass(frozen=True)
class Score:
    """One reader, trained on one number of labels and judged on held-out images."""

    task: str
    """sum or ascending."""
    reader: str
    """latents or pixels."""
    labels: int
    """Labelled images, the held-out tenth among them."""
    seed: int
    """Of labelled images, weights and batches."""
    accuracy: float
    """Share of the test images answered rightly."""
    digit_accuracy: float | None
    """Share of the test images' digits that the reader of latents names rightly, though it was never told one; None where its
    names need not be the digits."""
    held_out_loss: float
    """Nats an answer of the held-out tenth."""
    best_step: int
    """Step at which that was smallest."""
    steps: int
    """Gradient steps."""
    seconds: float
    """Wall time of the training."""

    @property
    def cell(self) -> tuple[str, str, int, int]:
        """What no two scores of an experiment share."""
        return self.task, self.reader, self.labels, self.seed


def label_counts(scores: Sequence[Score]) -> list[int]:
    """Numbers of labels, ascending."""
    return sorted({score.labels for score in scores})


def shares(scores: Sequence[Score], task: str, reader: str, labels: int) -> Float[np.ndarray, "s"]:
    """Accuracies of the seeds."""
    return np.array([s.accuracy for s in scores if (s.task, s.reader, s.labels) == (task, reader, labels)])


def downstream_summary(scores: Sequence[Score]) -> dict[str, Any]:
    """Mean accuracies by task, reader and number of labels, and whether latents are ahead at every number."""
    counts = label_counts(scores)
    means = {
        task: {reader: {str(n): float(shares(scores, task, reader, n).mean()) for n in counts} for reader in NAMES}
        for task in TITLES
    }
    ahead = {task: all(by["latents"][str(n)] > by["pixels"][str(n)] for n in counts) for task, by in means.items()}
    return {"mean_accuracy": means, "latents_ahead_at_every_count": ahead, "scores": [dataclasses.asdict(s) for s in scores]}


def downstream_csv(scores: Sequence[Score]) -> str:
    """Every score, a line each."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [field.name for field in dataclasses.fields(Score)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(dataclasses.asdict(score) for score in scores)
    return stream.getvalue()


def accuracy_table(scores: Sequence[Score]) -> Table:
    """Mean and range over the seeds."""
    counts = label_counts(scores)
    rows = []
    for task, title in TITLES.items():
        for reader, name in NAMES.items():
            cells = []
            for n in counts:
                percent = 100 * shares(scores, task, reader, n)
                spread = f" ({percent.min():.1f}–{percent.max():.1f})" if len(percent) > 1 else ""
                cells.append(f"{percent.mean():.1f} %{spread}")
            rows.append((f"{title}, {name}", *cells))
    columns = ("question and reader", *(f"{n:,} labels" for n in counts))
    note = "Mean (range over seeds). A tenth of the labels decides when training was best."
    return Table("Right answers on digits never seen", columns, tuple(rows), note)


def reading_table(scores: Sequence[Score]) -> Table:
    """What the readers of latents learned about single digits, and what every training cost."""
    rows = []
    for task, title in TITLES.items():
        for n in label_counts(scores):
            own = {reader: [s for s in scores if (s.task, s.reader, s.labels) == (task, reader, n)] for reader in NAMES}
            shares_named = [s.digit_accuracy for s in own["latents"] if s.digit_accuracy is not None]
            named = f"{100 * np.mean(shares_named):.1f} %" if shares_named else "–"
            seconds = [f"{np.mean([s.seconds for s in own[reader]]):.0f} s" for reader in NAMES]
            rows.append((f"{title}, {n:,} labels", named, *seconds))
    note = "No reader is told a digit: answers alone are labels. An order needs ranks, not the digits' own names."
    columns = ("question", "digits named rightly", *(f"training, {name}" for name in NAMES.values()))
    return Table("Single digits, and time", columns, tuple(rows), note)


def downstream_text(scores: Sequence[Score], data: str) -> str:
    """The table for the screen."""
    table = accuracy_table(scores)
    cells = [table.columns, *table.rows]
    widths = [max(len(row[i]) for row in cells) for i in range(len(table.columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join([*lines, f"Data: {data}"])


def accuracy_figure(scores: Sequence[Score]) -> Figure:
    """Accuracy against the number of labels: a panel for each question, a line for each reader."""
    counts = label_counts(scores)
    with figure_style():
        figure = new_figure(8.4, 3.1)
        panels = figure.subplots(1, len(TITLES), sharey=True)
        for panel, (task, title) in zip(panels, TITLES.items(), strict=True):
            for color, (reader, name) in zip(PALETTE, NAMES.items(), strict=False):
                found = [shares(scores, task, reader, n) for n in counts]
                panel.plot(counts, [x.mean() for x in found], color=color, marker="o", markersize=4.5, label=name)
                low, high = [x.min() for x in found], [x.max() for x in found]
                panel.fill_between(counts, low, high, color=color, alpha=0.2, linewidth=0)
            panel.axhline(GOALS[task], color=MUTED, linewidth=0.9, linestyle="--", label="target")
            panel.axhline(CHANCE[task], color=MUTED, linewidth=0.9, linestyle=":", label="most frequent answer")
            panel.set_xscale("log")
            panel.set(ylim=(0, 1.03), xlabel="labelled images", title=title)
            panel.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
            panel.grid(axis="y")
        panels[0].set_ylabel("right answers")
        panels[-1].legend(loc="lower right")
    return figure


def write_downstream_report(
    path: str | Path, scores: Sequence[Score], summary: Mapping[str, Any], provenance: Provenance, config: Any
) -> None:
    """Write the HTML report."""
    most = label_counts(scores)[-1]
    headlines = []
    for task, title in TITLES.items():
        found = shares(scores, task, "latents", most)
        goal, share = GOALS[task], float(found.mean())
        meaning = f"From frozen latents with {most:,} labelled images; mean over {len(found)} seed(s), digits never seen."
        headlines.append(Headline(title, f"{100 * share:.1f} %", meaning, f"at least {100 * goal:.0f} %", share >= goal))
    for task, ahead in summary["latents_ahead_at_every_count"].items():
        meaning = "Whether frozen latents answer better than the network on pixels at every number of labels."
        headlines.append(Headline(f"{task}: ahead of pixels", "yes" if ahead else "no", meaning, "yes", ahead))
    caption = "Lines: means over the seeds. Bands: smallest and largest. The sprite model has seen images alone, and is frozen."
    write_report(
        path,
        Report(
            title="Questions about pairs of digits",
            provenance=provenance,
            description="Two digits an image. Ascending: the left digit is strictly smaller; left is the one whose frame's "
            f"centre has the smaller x. Data: {summary['data']}. Rule: {summary['overlap_rule']}.",
            headlines=headlines,
            pictures=[Picture("Right answers by number of labels", accuracy_figure(scores), caption)],
            tables=[accuracy_table(scores), reading_table(scores)],
            config=config,
        ),
    )
