"""Poses of generated BOP data sets, disturbed and refined: how many come right, how well, how fast.

    python benchmarks/refine_pose.py --json refine_pose.json

For each seed a data set is made, every true pose is moved by a share of its model's diameter and turned, both in random
directions, and the results file of these is refined by ``experiments/refine_pose.py``, once for each choice of what is compared.
The light is not known to it.  An error is ADD, or ADD-S of symmetric models.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    # python put benchmarks/ first, where this file would hide modules of the same name
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import tyro
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from experiments import generate_bop, refine_pose
from inverse_graphics.bop import (
    Estimates,
    Model,
    PoseJudge,
    Truths,
    find_models,
    open_split,
    read_models,
    read_results,
    read_truths,
    results_name,
    write_results,
)
from inverse_graphics.bop.refinement import Use

RIGHT = 0.1
"""Errors below this share of the diameter are right."""


@dataclass(frozen=True)
class Settings:
    """What is refined, and from where."""

    json: Path | None = None
    """Where to write the figures."""
    config: Path = Path("scenes/tabletop.yaml")
    """Scene config."""
    images: int = 40
    """Images of each seed."""
    size: tuple[int, int] = (640, 480)
    """Width and height of the images in pixels."""
    seeds: tuple[int, ...] = (100, 101, 102)
    """Of the scenes and the disturbances."""
    shift: float = 0.1
    """How far off the objects start, in diameters."""
    turn_deg: float = 20.0
    """How far they are turned at the start."""
    uses: tuple[Use, ...] = ("rgbd", "depth", "rgb")
    """What is compared."""
    renderer: str = "raster"
    """Backend that draws what is fitted."""
    samples: int = 2
    """Samples a pixel along each axis of what is fitted."""
    window_px: int = 96
    """Size of the windows."""
    workers: int = 1
    """Processes that refine images side by side."""


@dataclass(frozen=True)
class Fitted:
    """Objects before and after."""

    start: Float[np.ndarray, "n"]
    """Errors of the starts in diameters."""
    end: Float[np.ndarray, "n"]
    """Errors afterwards."""
    seconds: float
    """Sum of the images' times."""
    cpu_s: float
    """Processor time of this process for reading, refining and writing; without what worker processes took."""


def main(settings: Settings) -> None:
    """Measure, print, write the figures."""
    figures: dict[str, float] = {}
    numbers = f"{'objects':>8} {'recall before':>14} {'after':>7} {'median %':>9} {'s/object':>9} {'cpu s':>7}"
    print(f"{'compared':<8} {'seed':>6} {numbers}")
    with tempfile.TemporaryDirectory() as folder:
        datasets = {seed: make_dataset(settings, seed, Path(folder)) for seed in settings.seeds}
        warm_up(settings, next(iter(datasets.values())))
        for use in settings.uses:
            parts = [fitted(settings, seed, dataset, use) for seed, dataset in datasets.items()]
            for seed, part in zip(settings.seeds, parts, strict=True):
                report(use, str(seed), part)
            whole = Fitted(
                np.concatenate([part.start for part in parts]),
                np.concatenate([part.end for part in parts]),
                sum(part.seconds for part in parts),
                sum(part.cpu_s for part in parts),
            )
            figures |= report(use, "all", whole)
    if settings.json is not None:
        settings.json.write_text(json.dumps(figures, indent=2) + "\n")


def make_dataset(settings: Settings, seed: int, folder: Path) -> Path:
    """A data set and the results file of its disturbed poses, whose images took no time."""
    out = folder / f"seed{seed}"
    generate_bop.main(generate_bop.Arguments(settings.config, settings.images, out, image_size=settings.size, seed=seed))
    truths, models = read_truths(open_split(out, "test")), read_models(find_models(out))
    T_mm = disturbed(truths, models, settings, np.random.default_rng(seed))
    ones = np.ones(len(truths))
    write_results(start_path(out), Estimates(truths.scene_id, truths.im_id, truths.obj_id, ones, T_mm, 0 * ones))
    return out


def start_path(dataset: Path) -> Path:
    """The results file of the disturbed poses."""
    return dataset / results_name("start", dataset.name, "test")


def disturbed(
    truths: Truths, models: dict[int, Model], settings: Settings, rng: np.random.Generator
) -> Float[np.ndarray, "n 4 4"]:
    """True poses, shifted and turned about the models' origins."""
    T_mm = truths.T_camera_object_mm.copy()
    diameter_mm = np.array([models[obj_id].diameter_mm for obj_id in truths.obj_id.tolist()])
    axis, away = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in rng.normal(size=(2, len(T_mm), 3)))
    T_mm[:, :3, :3] = Rotation.from_rotvec(math.radians(settings.turn_deg) * axis).as_matrix() @ T_mm[:, :3, :3]
    T_mm[:, :3, 3] += settings.shift * diameter_mm[:, None] * away
    return T_mm


def warm_up(settings: Settings, dataset: Path) -> None:
    """Compile what the script needs, on one pose."""
    estimates = read_results(start_path(dataset))
    first = Estimates(*(getattr(estimates, name)[:1] for name in Estimates.__dataclass_fields__))
    path = dataset / results_name("first", dataset.name, "test")
    write_results(path, first)
    refine_pose.main(arguments(settings, dataset, path, dataset / "warm.csv", "rgbd"))


def fitted(settings: Settings, seed: int, dataset: Path, use: Use) -> Fitted:
    """Refine a data set's starts and judge them."""
    out = dataset / results_name(use, dataset.name, "test")
    start = time.process_time()
    refine_pose.main(arguments(settings, dataset, start_path(dataset), out, use))
    cpu_s = time.process_time() - start
    before, after = read_results(start_path(dataset)), read_results(out)
    _, rows = np.unique(np.stack([after.scene_id, after.im_id], -1), axis=0, return_index=True)
    return Fitted(errors(dataset, before), errors(dataset, after), float(after.time_s[rows].sum()), cpu_s)


def arguments(settings: Settings, dataset: Path, results: Path, out: Path, use: Use) -> refine_pose.Arguments:
    """What the script is told."""
    return refine_pose.Arguments(
        dataset,
        results,
        out,
        renderer=settings.renderer,
        use=use,
        window_px=settings.window_px,
        samples=settings.samples,
        workers=settings.workers,
    )


def errors(dataset: Path, estimates: Estimates) -> Float[np.ndarray, "n"]:
    """ADD(-S) of every row in diameters; rows are those of the truths."""
    truths, models = read_truths(open_split(dataset, "test")), read_models(find_models(dataset))
    found = np.zeros(len(truths))
    for obj_id in sorted(set(truths.obj_id.tolist())):
        rows, judge = truths.obj_id == obj_id, PoseJudge(models[obj_id])
        error_mm = judge.adi_mm if judge.is_symmetric else judge.add_mm
        found[rows] = error_mm(estimates.T_camera_object_mm[rows], truths.T_camera_object_mm[rows]) / models[obj_id].diameter_mm
    return found


def report(use: str, seed: str, part: Fitted) -> dict[str, float]:
    """Print a row; returns its numbers by name."""
    values = {
        "objects": float(len(part.end)),
        "recall_before": float((part.start < RIGHT).mean()),
        "recall_after": float((part.end < RIGHT).mean()),
        "error_median_diameters": float(np.median(part.end)),
        "seconds_per_object": part.seconds / len(part.end),
        "cpu_seconds_per_object": part.cpu_s / len(part.end),
    }
    count, before, after, median, seconds, cpu_s = values.values()
    row = f"{count:>8.0f} {before:>14.3f} {after:>7.3f} {100 * median:>9.3f} {seconds:>9.3f} {cpu_s:>7.3f}"
    print(f"{use:<8} {seed:>6} {row}", flush=True)
    return {f"refine_pose_{use}_{name}": value for name, value in values.items()}


if __name__ == "__main__":
    main(tyro.cli(Settings))
