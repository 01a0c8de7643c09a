"""The report on one results file, or on two side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from inverse_graphics.bop.comparison import Comparison
from inverse_graphics.bop.rows import PoseEvaluation
from inverse_graphics.reporting.figures import error_histogram
from inverse_graphics.reporting.headlines import MetricText, format_metric
from inverse_graphics.reporting.html import Headline, Picture, Provenance, Report, Table, write_report
from inverse_graphics.reporting.pose_figures import (
    FEWEST,
    differences_figure,
    errors_by_distance,
    errors_by_visibility,
    recall_curves,
)
from inverse_graphics.reporting.pose_overlays import PoseImages, image_overlay, overlay_sheet, target_overlay
from inverse_graphics.reporting.pose_rows import PoseSide, class_rows, target_recall

SHOWN_IMAGES = 8
WORST_TARGETS = 12
WORST_ROWS = 20
CHANGED_ROWS = 10
POSE_TEXTS: dict[str, MetricText] = {
    "ar": MetricText(
        "AR (BOP 2019)", "share", "Mean of the average recalls by VSD, MSSD and MSPD; the number of instances is given."
    ),
    "ar_vsd": MetricText("AR by VSD", "share", "Recall by the visible surface discrepancy, over tolerances and thresholds."),
    "ar_mssd": MetricText("AR by MSSD", "share", "Recall by the largest distance of the surfaces, over thresholds."),
    "ar_mspd": MetricText("AR by MSPD", "share", "Recall by the largest distance in pixels, over thresholds."),
    "map_2024": MetricText("mAP (BOP 2024)", "share", "Mean of mAP by MSSD and MSPD; the number of instances is not given."),
    "map_mssd": MetricText("mAP by MSSD", "share", "Average precision by MSSD, mean over thresholds and objects."),
    "map_mspd": MetricText("mAP by MSPD", "share", "Average precision by MSPD, mean over thresholds and objects."),
    "add_recall": MetricText("ADD(-S) recall", "share", "Share of the targets with an ADD(-S) below a tenth of the diameter."),
    "add_auc": MetricText("ADD(-S) AUC", "share", "Area under accuracy over the threshold of ADD(-S), 0 to 10 cm."),
    "adds_auc": MetricText("ADD-S AUC", "share", "The same of ADD-S for all objects."),
    "recall_5deg_5cm": MetricText("5°, 5 cm", "share", "Share of the targets within 5 degrees, modulo symmetry, and 5 cm."),
    "re_median_deg": MetricText(
        "rotation error, median", "deg", "Modulo symmetry; targets matched by MSSD below half a diameter."
    ),
    "te_median_m": MetricText("position error, median", "m", "Distance of the models' origins, the same targets."),
    "num_estimates_absent": MetricText("estimates of absent objects", "number", "Of objects of which the image holds none."),
}
"""Texts of the headline numbers, in the order in which a report shows them."""
SCORE_COLUMNS = ("ar_vsd", "ar_mssd", "ar_mspd", "ap_mssd", "ap_mspd", "add_recall", "add_auc", "adds_auc")
SCORE_HEADS = ("AR VSD", "AR MSSD", "AR MSPD", "AP MSSD", "AP MSPD", "ADD(-S)", "AUC ADD(-S)", "AUC ADD-S")


@dataclass(frozen=True)
class PoseReport:
    """What a report is made of."""

    title: str
    """Name of the data set and its part."""
    sides: tuple[PoseSide, ...]
    """One results file, or two to be compared."""
    images: PoseImages
    """Where overlays come from."""
    comparison: Comparison | None = None
    """Of the two."""
    warnings: tuple[str, ...] = ()
    """What is doubtful in the files."""
    speeds_s: tuple[float | None, ...] = ()
    """Mean time an image of each side, None where unknown."""


def headline_values(evaluation: PoseEvaluation) -> dict[str, float | int | None]:
    """The numbers of ``POSE_TEXTS``."""
    te_mm = evaluation.te_median_mm
    values = {name: getattr(evaluation, name) for name in POSE_TEXTS if name != "te_median_m"}
    return {name: values.get(name, None if te_mm is None else te_mm / 1000) for name in POSE_TEXTS}


def score_table(sides: Sequence[PoseSide], comparison: Comparison | None) -> Table:
    """All headline numbers of each side, and their differences."""
    values = [headline_values(side.evaluation) for side in sides]
    columns = ["score", *(side.label for side in sides)]
    if comparison is not None:
        columns += ["difference", f"{100 * comparison.confidence:g} % interval"]
    rows = []
    for key, text in POSE_TEXTS.items():
        row = [text.name, *(format_metric(one[key], text.unit) for one in values)]
        if comparison is not None:
            one = comparison.scores.get(key)
            row += ["–", "–"] if one is None else [f"{100 * one.value:+.2f}", f"{100 * one.low:+.2f} to {100 * one.high:+.2f}"]
        rows.append(tuple(row))
    note = "Differences in percentage points, second less first; intervals from a bootstrap over images, the same for both sides."
    return Table("Scores", tuple(columns), tuple(rows), note if comparison is not None else "")


def object_table(side: PoseSide, names: Mapping[int, str]) -> Table:
    """Scores object by object."""
    objects = side.evaluation.objects
    rows = []
    for index, obj_id in enumerate(objects.obj_id.tolist()):
        scores = (_share(float(getattr(objects, column)[index])) for column in SCORE_COLUMNS)
        errors = (_number(float(objects.re_median_deg[index]), "°"), _number(float(objects.te_median_mm[index]), " mm"))
        rows.append((f"{obj_id} {names[obj_id]}", str(int(objects.num_targets[index])), *scores, *errors))
    columns = ("object", "targets", *SCORE_HEADS, "rotation", "position")
    return Table(f"Per object: {side.label}", columns, tuple(rows), "Scores in percent; errors are medians of what is matched.")


def class_table(side: PoseSide, names: Mapping[int, str]) -> Table:
    """Scores class by class: objects of one name together."""
    rows = []
    for row in class_rows(side.evaluation, names):
        scores = (_share(row[column]) for column in SCORE_COLUMNS)
        errors = (_number(row["re_median_deg"], "°"), _number(row["te_median_mm"], " mm"))
        rows.append((row["class"], str(len(row["obj_ids"])), str(row["num_targets"]), *scores, *errors))
    columns = ("class", "objects", "targets", *SCORE_HEADS, "rotation", "position")
    return Table(
        f"Per class: {side.label}", columns, tuple(rows), "Targets of a class together; AP is the mean over its objects."
    )


def worst_targets(evaluation: PoseEvaluation, count: int) -> Int[np.ndarray, "n"]:
    """Targets that are not found at every threshold: least recall first, of equal ones the most visible first."""
    recall = target_recall(evaluation)
    order = np.lexsort((-evaluation.targets.visib_fract, recall))
    return order[recall[order] < 1][:count]


def target_table(
    title: str, side: PoseSide, source: PoseImages, rows: Int[np.ndarray, "n"], changes: np.ndarray | None = None
) -> Table:
    """Some targets with their errors.

    Args:
        title: heading.
        side: which estimates.
        source: ground truth and names.
        rows: of ``side.evaluation.targets``.
        changes: [r] differences of recall to show besides.
    """
    targets, recall = side.evaluation.targets, target_recall(side.evaluation)
    lines = []
    for row in rows.tolist():
        key = side.evaluation.images[targets.image[row]]
        gt_id, name = source.truths.gt_id[targets.gt_row[row]], source.names[int(targets.obj_id[row])]
        cells = [f"scene {key.scene_id}, image {key.im_id}, instance {gt_id}", name, _share(float(targets.visib_fract[row]))]
        cells += [f"{targets.distance_mm[row] / 1000:.2f} m", _share(float(recall[row]))]
        cells += [_number(float(targets.re_deg[row]), "°"), _number(float(targets.te_mm[row]), " mm")]
        lines.append((*cells, *([] if changes is None else [f"{100 * changes[row]:+.1f}"])))
    columns = ("target", "object", "visible", "distance", "recall", "rotation", "position")
    note = "Recall in percent of all thresholds; errors are missing where no estimate is within half a diameter."
    return Table(title, columns if changes is None else (*columns, "change"), tuple(lines), note)


def tables_of(report: PoseReport) -> list[Table]:
    """All tables of a report."""
    names = report.images.names
    tables = [score_table(report.sides, report.comparison)]
    for side in report.sides:
        tables.append(object_table(side, names))
        if len(set(names.values())) < len(names):
            tables.append(class_table(side, names))
    for side in report.sides:
        worst = worst_targets(side.evaluation, WORST_ROWS)
        if len(worst):
            tables.append(target_table(f"Worst targets: {side.label}", side, report.images, worst))
    if report.comparison is not None:
        changes, second = report.comparison.target_recall, report.sides[1]
        for title, order in (("Most improved", np.argsort(-changes)), ("Most worsened", np.argsort(changes))):
            rows = order[:CHANGED_ROWS]
            rows = rows[changes[rows] > 0] if title == "Most improved" else rows[changes[rows] < 0]
            if len(rows):
                tables.append(target_table(f"{title} by {second.label}", second, report.images, rows, changes))
    return tables


def summary_tables_text(report: PoseReport) -> str:
    """Scores and objects for the screen."""
    names = report.images.names
    tables = [score_table(report.sides, report.comparison), *(object_table(side, names) for side in report.sides)]
    return "\n\n".join(map(table_text, tables))


def table_text(table: Table) -> str:
    """A table in columns: the first to the left, the others to the right."""
    cells = [table.columns, *table.rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(table.columns))]
    lines = [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    ]
    return "\n".join([table.title, *(line.rstrip() for line in lines), *([table.note] if table.note else [])])


def write_pose_report(path: str | Path, report: PoseReport, provenance: Provenance, config: Any) -> None:
    """Write the HTML report.

    Args:
        path: the file.
        report: what it is made of.
        provenance: command, seed, commit, versions.
        config: what was asked for.
    """
    evaluation = report.sides[0].evaluation
    speeds = [f"{side.label}: {1000 * s:.0f} ms an image" for side, s in zip(report.sides, report.speeds_s, strict=False) if s]
    description = (
        f"{len(evaluation.images)} images, {len(evaluation.targets.gt_row)} targets; "
        f"{', '.join(f'{side.label}: {len(side.estimates)} estimates' for side in report.sides)}. {'. '.join(speeds)}"
    )
    write_report(
        path,
        Report(
            title=f"Poses: {report.title}",
            provenance=provenance,
            description=description.strip(),
            headlines=_headlines(report),
            pictures=_pictures(report),
            tables=tables_of(report),
            warnings=report.warnings,
            config=config,
        ),
    )


def _headlines(report: PoseReport) -> list[Headline]:
    """A card for each number; of two sides both values, and whether the difference is clear."""
    values = [headline_values(side.evaluation) for side in report.sides]
    cards = []
    for key, text in POSE_TEXTS.items():
        shown = " → ".join(format_metric(one[key], text.unit) for one in values)
        one = None if report.comparison is None else report.comparison.scores.get(key)
        meaning = text.meaning
        if one is not None:
            meaning += f" Difference {100 * one.value:+.1f}, interval {100 * one.low:+.1f} to {100 * one.high:+.1f} points."
        cards.append(Headline(text.name, shown, meaning))
    return cards


def _pictures(report: PoseReport) -> list[Picture]:
    """Differences, worst cases, images, curves."""
    pictures = []
    if report.comparison is not None:
        names = {key: text.name for key, text in POSE_TEXTS.items()}
        labels = (report.sides[0].label, report.sides[1].label)
        figure = differences_figure(report.comparison.scores, names, labels)
        caption = (
            f"Second less first, with {100 * report.comparison.confidence:g} % intervals; grey where the interval holds zero."
        )
        pictures.append(Picture("Differences", figure, caption))
    read = (
        "Truth outlined in white, estimates in colour, wrong ones dashed. Beside it the estimate's depth less the truth's: "
        "orange is too far, blue too near."
    )
    for side in report.sides:
        worst = worst_targets(side.evaluation, WORST_TARGETS)
        if len(worst):
            sheet = overlay_sheet([target_overlay(report.images, side, row) for row in worst.tolist()])
            pictures.append(Picture(f"Worst targets: {side.label}", sheet, f"Least recall first. {read}"))
    held = np.unique(report.sides[0].evaluation.targets.image)[:SHOWN_IMAGES].tolist()
    for side in report.sides if held else ():
        sheet = overlay_sheet([image_overlay(report.images, side, image) for image in held])
        pictures.append(Picture(f"Images: {side.label}", sheet, f"The first images that hold targets. {read}"))
    sides = report.sides
    pictures.append(Picture("Recall over thresholds", recall_curves(sides), "Average recall is the mean of each curve's points."))
    if held:
        caption = (
            f"Recall: mean over all thresholds, hollow where there are fewer than {FEWEST} targets. Errors: matched targets."
        )
        pictures.append(Picture("Visibility", errors_by_visibility(sides), caption))
        pictures.append(Picture("Distance", errors_by_distance(sides), caption))
    for side in sides:
        targets = side.evaluation.targets
        figure = error_histogram(targets.te_mm / 1000, targets.re_deg)
        pictures.append(Picture(f"Errors: {side.label}", figure, "Targets matched by MSSD below half a diameter."))
    return pictures


def _share(value: float | None) -> str:
    """Percent without the sign, a dash where there is none."""
    return "–" if value is None or np.isnan(value) else f"{100 * value:.1f}"


def _number(value: float | None, unit: str) -> str:
    return "–" if value is None or np.isnan(value) else f"{value:.1f}{unit}"
