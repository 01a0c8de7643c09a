"""The words that go with the numbers of ``metrics.summary``: names, units, meanings, targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from inverse_graphics.reporting.html import Headline, Table

Unit = Literal["share", "m", "px", "deg", "number", "value"]


@dataclass(frozen=True)
class MetricText:
    """How a metric is shown."""

    name: str
    """In a few words."""
    unit: Unit
    """Shares are shown in percent (more is better), metres in millimetres and degrees as such (less is better)."""
    meaning: str
    """One sentence that says how it is computed."""


METRIC_TEXTS: dict[str, MetricText] = {
    "count_accuracy": MetricText("count right", "share", "Share of scenes in which as many objects were inferred as there are."),
    "class_accuracy": MetricText("class right", "share", "Share of the matched objects whose inferred class is the true one."),
    "matched_share": MetricText(
        "objects found", "share", "Share of the true objects that an inferred one stands within 5 cm of."
    ),
    "scene_accuracy": MetricText(
        "whole scene right", "share", "Share of scenes with the right count, every class right and every position within 2 cm."
    ),
    "position_error_median_m": MetricText(
        "position error, median", "m", "Distance of inferred and true origin, matched objects."
    ),
    "position_error_p95_m": MetricText("position error, 95 %", "m", "95 % of the matched objects are nearer to their place."),
    "rotation_error_median_deg": MetricText(
        "rotation error, median", "deg", "Modulo symmetry; matched objects of the right class whose turn can be seen."
    ),
    "rotation_error_p90_deg": MetricText("rotation error, 90 %", "deg", "90 % of those objects are turned by less."),
    "num_eval_scenes": MetricText("scenes judged", "number", "Held-out scenes, none of them seen in training."),
}
"""Texts of the keys of ``metrics.summary``, in the order in which a report shows them."""


def format_metric(value: float | int | None, unit: Unit) -> str:
    """A number with its unit as readers want it, a dash where there is none."""
    if value is None:
        return "–"
    texts: dict[Unit, str] = {
        "share": f"{100 * value:.1f} %",
        "m": f"{1e3 * value:.1f} mm",
        "px": f"{value:.1f} px",
        "deg": f"{value:.1f}°",
        "number": f"{value:,}",
        "value": f"{value:.4g}",
    }
    return texts[unit]


def metric_headlines(
    summary: Mapping[str, Any], targets: Mapping[str, float] | None = None, texts: Mapping[str, MetricText] = METRIC_TEXTS
) -> list[Headline]:
    """Headline numbers of a summary.

    Args:
        summary: numbers by name, for example of ``metrics.summary``.
        targets: for some of its keys the value to reach: at least for shares and numbers, at most for errors.
        texts: what is shown of it, and how.

    Raises:
        ValueError: if a key of the targets is no metric.
    """
    goals = dict(targets or {})
    unknown = sorted(set(goals) - set(texts))
    if unknown:
        raise ValueError(f"metric_headlines: expected targets for {list(texts)}, received {unknown}; correct the name.")
    return [_headline(text, summary[key], goals.get(key)) for key, text in texts.items()]


def class_table(summary: Mapping[str, Any]) -> Table:
    """The per-class values of a summary of ``metrics.summary``."""
    rows = tuple(
        (
            name,
            format_metric(values["num_objects"], "number"),
            format_metric(values["class_accuracy"], "share"),
            format_metric(values["position_error_median_m"], "m"),
            format_metric(values["rotation_error_median_deg"], "deg"),
        )
        for name, values in summary["per_class"].items()
    )
    return Table(
        title="Per class",
        columns=("true class", "objects", "class right", "position error, median", "rotation error, median"),
        rows=rows,
        note="Over the matched objects of each true class; a dash where there is none, or where no turn can be seen.",
    )


def _headline(text: MetricText, value: float | int | None, goal: float | None) -> Headline:
    """One metric against its target."""
    if goal is None:
        return Headline(text.name, format_metric(value, text.unit), text.meaning)
    more_is_better = text.unit in ("share", "number")
    target = f"at {'least' if more_is_better else 'most'} {format_metric(goal, text.unit)}"
    is_met = None if value is None else (value >= goal if more_is_better else value <= goal)
    return Headline(text.name, format_metric(value, text.unit), text.meaning, target, is_met)
