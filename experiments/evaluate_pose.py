"""Judge estimated poses on a BOP data set: a results file, two of them side by side, or a trained guide.

    python experiments/evaluate_pose.py --dataset data/tabletop --results mine_tabletop-test.csv --out runs/mine
    python experiments/evaluate_pose.py --dataset data/tabletop --results A.csv B.csv --out runs/A-against-B
    python experiments/evaluate_pose.py --dataset data/tabletop --run runs/scenes3d --out runs/guide

Writes results.json, per_object.csv, per_target.csv, per_estimate.csv and report.html.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from bop_inputs import BopInputs, load_inputs, read_estimates, vsd_source
from guide_poses import guide_estimates, ids_by_class, load_method, parse_classes

from inverse_graphics.bop import Comparison, Estimates, compare, evaluate, pose_summary, results_name, write_results
from inverse_graphics.files import write_json, write_text
from inverse_graphics.reporting import Provenance, package_versions
from inverse_graphics.reporting.pose_overlays import PoseImages
from inverse_graphics.reporting.pose_report import PoseReport, summary_tables_text, write_pose_report
from inverse_graphics.reporting.pose_rows import PoseSide, class_rows, estimate_csv, object_csv, target_csv
from inverse_graphics.runs import REPORT_FILE, RESULTS_FILE, claim_run, current_commit, pick_device
from renderers import BackendMissingError, BackendOptions
from renderers.painting.workers import WorkerError


@dataclass(frozen=True)
class Arguments:
    """Judge estimated poses on a BOP data set and write a report."""

    dataset: Path
    """Folder of the data set."""
    out: Path
    """Directory for what is written; must be new or empty."""
    results: tuple[Path, ...] = ()
    """Results file; two are compared."""
    run: Path | None = None
    """Directory of a run of scenes3d.py, whose guide is run on the images; with a results file it is compared with that."""
    split: str = "test"
    """Part of the data set."""
    targets: Path | None = None
    """List of targets (2019) or images (2024) to use instead of the data set's."""
    max_images: int | None = None
    """How many images, the first ones; all where absent."""
    vsd: bool = True
    """Whether VSD, which needs depth images, is computed; without it there is no AR."""
    delta_mm: float = 15.0
    """Tolerance of visibility of VSD; ITODD's is 5."""
    count_absent: bool = False
    """Count estimates of objects of which the image holds none as wrong in mAP; bop_toolkit does not judge them."""
    renderer: str = "raster"
    """Backend that draws the models for VSD and overlays."""
    backend: BackendOptions = BackendOptions()
    """What the backend is told."""
    classes: tuple[str, ...] = ()
    """NAME=ID[,ID...]: names of objects; those of one name are also judged together.  With --run the guide's classes."""
    min_presence: float | None = None
    """--run: write every object at least this probable, instead of as many as the most probable count."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the guide runs; models are drawn on the CPU, or on the GPU by raster-cuda."""
    report: bool = True
    """Whether report.html is written; without it there are numbers and tables only, sooner."""
    samples: int = 1000
    """Bootstrap samples of the comparison."""
    seed: int = 0
    """Of the bootstrap."""


def check_arguments(arguments: Arguments) -> None:
    """Raise ValueError for options that do not go together."""
    sides = len(arguments.results) + (arguments.run is not None)
    if not 1 <= sides <= 2:
        raise ValueError(f"--results, --run: expected one or two results files, or a run, received {sides}; name what to judge")
    if arguments.max_images is not None and arguments.max_images < 1:
        raise ValueError(f"--max-images: expected at least 1, received {arguments.max_images}; leave it out for all")
    if not 0 < arguments.delta_mm < float("inf"):
        raise ValueError(f"--delta-mm: expected more than 0 mm, received {arguments.delta_mm}; 15 is usual")
    if arguments.samples < 1 or arguments.seed < 0:
        raise ValueError(
            f"--samples, --seed: expected at least 1 and 0, received {arguments.samples} and {arguments.seed}; change them"
        )
    if arguments.min_presence is not None and arguments.run is None:
        raise ValueError("--min-presence: expected --run, received none; results files have their own scores")


def run_guide(arguments: Arguments, run: Path, inputs: BopInputs) -> tuple[str, Estimates]:
    """Run a guide on the images and write its results file; returns its label and rows."""
    device = pick_device(arguments.device)
    given = ids_by_class(parse_classes(arguments.classes))
    method = load_method(run, arguments.dataset, given, arguments.min_presence, device)
    estimates = guide_estimates(method, inputs.split, inputs.images)
    name, _, kind = arguments.split.partition("_")
    plain = "".join(letter for letter in arguments.dataset.resolve().name if letter not in "_-")
    write_results(arguments.out / results_name("guide", plain, name, kind), estimates)
    return "guide", estimates


def judge(arguments: Arguments, inputs: BopInputs) -> tuple[list[PoseSide], list[str]]:
    """Evaluate each results file and the guide; returns what is doubtful besides."""
    tables: list[tuple[str, Estimates]] = []
    warnings: list[str] = []
    for path in arguments.results:
        estimates, doubts = read_estimates(path, inputs)
        tables.append((path.stem, estimates))
        warnings += doubts
    if arguments.run is not None:
        tables.append(run_guide(arguments, arguments.run, inputs))
    tables = list(zip(short_labels([label for label, _ in tables]), (estimates for _, estimates in tables), strict=True))
    source = vsd_source(inputs, arguments.delta_mm) if arguments.vsd else None
    sides = []
    for label, estimates in tables:
        judged = (estimates, inputs.truths, inputs.models, inputs.camera_of, inputs.targets, inputs.detection_images)
        sides.append(PoseSide(label, estimates, evaluate(*judged, source, count_absent=arguments.count_absent)))
        absent = sides[-1].evaluation.num_estimates_absent
        if absent and not arguments.count_absent:
            warnings.append(f"{label}: {absent} estimates of objects that their images do not hold are not judged by mAP")
    return sides, warnings


def short_labels(stems: list[str]) -> list[str]:
    """The method's names, or whole names of files, or these with numbers: the shortest that tell the sides apart."""
    methods = [stem.partition("_")[0] for stem in stems]
    numbered = [f"{stem} ({place})" for place, stem in enumerate(stems, 1)]
    return next(labels for labels in (methods, stems, numbered) if len(set(labels)) == len(labels))


def mean_time_s(estimates: Estimates) -> float | None:
    """Mean time an image that has estimates took; None where a time is unknown."""
    ids = np.stack([estimates.scene_id, estimates.im_id], -1)
    _, first = np.unique(ids, axis=0, return_index=True)
    times = estimates.time_s[first]
    return None if len(times) == 0 or (times < 0).any() else float(times.mean())


def side_summary(side: PoseSide, inputs: BopInputs) -> dict[str, Any]:
    """A side's part of results.json."""
    summary = pose_summary(side.evaluation)
    per_object = [{"name": inputs.names[row["obj_id"]]} | row for row in summary["per_object"]]
    numbers = {"results": side.label, "num_estimates": len(side.estimates), "time_s_mean": mean_time_s(side.estimates)}
    return numbers | summary | {"per_object": per_object, "per_class": class_rows(side.evaluation, inputs.names)}


def comparison_summary(comparison: Comparison) -> dict[str, Any]:
    """The differences' part of results.json."""
    return {"confidence": comparison.confidence, "differences": comparison.scores}


def write_all(
    arguments: Arguments, inputs: BopInputs, sides: list[PoseSide], comparison: Comparison | None, warnings: list[str]
) -> None:
    """Write results, tables and report, and print the tables."""
    out, commit = arguments.out, current_commit()
    summaries = [side_summary(side, inputs) for side in sides]
    about = {"dataset": inputs.split.dataset.resolve().name, "split": arguments.split, "num_images": len(inputs.images)}
    about |= {"num_targets": len(sides[0].evaluation.targets.gt_row), "count_absent": arguments.count_absent}
    about |= {"vsd_renderer": arguments.renderer if arguments.vsd else None, "delta_mm": arguments.delta_mm}
    about |= {"seed": arguments.seed, "commit": commit, "warnings": warnings}
    if comparison is None:
        write_json(out / RESULTS_FILE, summaries[0] | about)
    else:
        both = {"first": summaries[0], "second": summaries[1]}
        write_json(out / RESULTS_FILE, comparison_summary(comparison) | both | about)
    write_text(out / "per_object.csv", object_csv(sides, inputs.names))
    write_text(out / "per_target.csv", target_csv(sides, inputs.truths, inputs.names))
    write_text(out / "per_estimate.csv", estimate_csv(sides, inputs.truths, inputs.names))
    images = PoseImages(inputs.truths, inputs.names, inputs.image_of, inputs.camera_of, inputs.depth_of)
    title = f"{about['dataset']}, {arguments.split}"
    times = tuple(mean_time_s(side.estimates) for side in sides)
    report = PoseReport(title, tuple(sides), images, comparison, tuple(warnings), times)
    if arguments.report:
        provenance = Provenance("python " + " ".join(sys.argv), arguments.seed, commit, package_versions())
        write_pose_report(out / REPORT_FILE, report, provenance, arguments)
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(f"{summary_tables_text(report)}\n\nresults: {out / RESULTS_FILE}")
    if arguments.report:
        print(f"report:  {out / REPORT_FILE}")


def main(arguments: Arguments) -> None:
    """Judge, compare, write."""
    check_arguments(arguments)
    names = parse_classes(arguments.classes)
    part = (arguments.dataset, arguments.split, arguments.targets, arguments.max_images)
    inputs = load_inputs(*part, names, arguments.renderer, arguments.backend)
    claim_run(arguments.out)
    sides, warnings = judge(arguments, inputs)
    comparison = None
    if len(sides) == 2:
        generator = torch.Generator().manual_seed(arguments.seed)
        comparison = compare(sides[0].evaluation, sides[1].evaluation, generator, arguments.samples)
    write_all(arguments, inputs, sides, comparison, warnings)


if __name__ == "__main__":
    try:
        main(tyro.cli(Arguments))
    except (ValueError, OSError, BackendMissingError, WorkerError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
