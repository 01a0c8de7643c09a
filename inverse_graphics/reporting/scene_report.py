"""The report of a run on table-top scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from inverse_graphics.evaluation import Judged
from inverse_graphics.metrics import Evaluation, class_confusion, count_confusion, evaluate_objects
from inverse_graphics.reporting.figures import (
    confusion_matrix,
    error_against_visibility,
    error_histogram,
    training_curves,
)
from inverse_graphics.reporting.headlines import METRIC_TEXTS, class_table, format_metric, metric_headlines
from inverse_graphics.reporting.html import Picture, Provenance, Report, write_report
from inverse_graphics.reporting.sheet import inference_sheet, scene_labels
from inverse_graphics.types import Catalogue, Objects, map_tensors

SHEET_SCENES = 12


def summary_text(judged: Judged) -> str:
    """The headline numbers, a line each, and the failure signatures found."""
    lines = [f"{text.name:24s} {format_metric(judged.summary[key], text.unit)}" for key, text in METRIC_TEXTS.items()]
    return "\n".join([*lines, *(f"warning: {warning}" for warning in judged.warnings)])


def write_scene_report(
    path: str | Path,
    judged: Judged,
    catalogue: Catalogue,
    history: Mapping[str, Sequence[float]] | None,
    provenance: Provenance,
    config: Any,
    targets: Mapping[str, float] | None = None,
) -> None:
    """Write the HTML report of a run.

    Args:
        path: the file.
        judged: held-out scenes and what was inferred.
        catalogue: what class ids mean.
        history: training scalars by step, None where nothing was trained.
        provenance: command, seed, commit, versions.
        config: the resolved configuration.
        targets: what some of the headline numbers should be.
    """
    write_report(
        path,
        Report(
            title="Table-top scenes: count, class, pose",
            provenance=provenance,
            description=f"Judged on {judged.summary['num_eval_scenes']} rendered scenes that were never seen in training.",
            headlines=metric_headlines(judged.summary, targets),
            pictures=_scene_pictures(judged, catalogue) + _error_pictures(judged.evaluation, catalogue) + _curves(history),
            tables=[class_table(judged.summary)],
            warnings=judged.warnings,
            config=config,
        ),
    )


def _scene_pictures(judged: Judged, catalogue: Catalogue) -> list[Picture]:
    """Inputs beside re-rendered inferences: the first scenes that hold objects (any, if none does), and the worst ones."""
    holding = judged.scenes.objects.present.any(-1)
    shown = (holding if bool(holding.any()) else torch.ones_like(holding)).nonzero()[:SHEET_SCENES, 0]
    first = "The first held-out scenes that hold objects: input with the truth outlined, beside the re-rendered inference."
    pictures = [Picture("Held-out scenes", _sheet(judged, shown, catalogue), first)]
    worst = _worst(judged)
    if len(worst):
        largest = "The scenes with the largest mistakes: count first, then class, then pose."
        pictures.append(Picture("Worst scenes", _sheet(judged, worst, catalogue), largest))
    return pictures


def _error_pictures(evaluation: Evaluation, catalogue: Catalogue) -> list[Picture]:
    """Where count, class and pose go wrong."""
    counts, classes = count_confusion(evaluation), class_confusion(evaluation)
    poses = error_histogram(evaluation.position_error_m, evaluation.rotation_error_deg)
    return [
        Picture(
            "Count",
            confusion_matrix(counts, [str(n) for n in range(len(counts))], "count"),
            "True against inferred number of objects.",
        ),
        Picture(
            "Class",
            confusion_matrix(classes, catalogue.names, "class"),
            "True against inferred class of matched objects.",
        ),
        Picture("Pose errors", poses, "Matched objects; rotation modulo symmetry, where a turn can be seen."),
        Picture("Occlusion", error_against_visibility(evaluation), "How errors depend on how much of an object is visible."),
    ]


def _curves(history: Mapping[str, Sequence[float]] | None) -> list[Picture]:
    """Training curves, if anything was trained."""
    if not history:
        return []
    curves = {name: np.asarray(values, np.float64) for name, values in history.items() if name != "seconds"}
    return [Picture("Training", training_curves(curves), "Terms of the objective, each on its own, in nats.")]


def _worst(judged: Judged) -> Tensor:
    """Scenes with the largest mistakes, worst first; none where all is well within a centimetre and 20 degrees."""
    e = judged.evaluation
    badness = 10.0 * np.abs(e.count_est - e.count_gt)
    pose = np.where(np.isfinite(e.position_error_m), e.position_error_m / 0.01, 0) + np.where(
        np.isfinite(e.rotation_error_deg), e.rotation_error_deg / 20, 0
    )
    wrong = np.where(e.matched & ~e.recognised, 20.0, 0.0)
    np.maximum.at(badness, e.scene[e.matched], (pose + wrong)[e.matched])
    order = np.argsort(-badness)[:SHEET_SCENES]
    return torch.from_numpy(order[badness[order] > 1.0].copy())


def _sheet(judged: Judged, scenes: Tensor, catalogue: Catalogue) -> Figure:
    def pick(value: Objects) -> Objects:
        return map_tensors(lambda tensor: tensor[scenes], value)

    objects_est, objects_gt = pick(judged.inference.objects), pick(judged.scenes.objects)
    confidence = judged.inference.class_probabilities[scenes].max(-1).values
    evaluation = evaluate_objects(objects_est, objects_gt, catalogue)
    labels_est, labels_gt = scene_labels(objects_est, objects_gt, evaluation, confidence)
    return inference_sheet(
        judged.images.rgb[scenes],
        judged.rerendered.rgb[scenes],
        judged.rerendered.object_ids[scenes],
        labels_est,
        judged.images.object_ids[scenes],
        labels_gt,
        catalogue.names,
    )
