"""The gradient estimators exact, nvil and vimco side by side: how much each scatters, and how fast each learns to count.

    python experiments/estimators.py --data-root mnist --out runs/estimators
    python experiments/estimators.py --preset smoke --out runs/estimators-smoke

Scatter is measured at fixed weights, at a few points of one training with the exact estimator.  Then each estimator trains on its
own, with the same images, schedule and rows a step.
"""

from __future__ import annotations

import copy
import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from command_line import run_command
from setup2d import Config, DigitSets, digit_sets
from setup_estimators import curve, fit_baseline, fixed_batch, fresh_state, spread_rows, train_with
from tqdm import tqdm

from inverse_graphics.config import FieldError, load_dataclass, save_yaml
from inverse_graphics.estimators import Estimator
from inverse_graphics.files import read_json, write_json, write_text
from inverse_graphics.reporting import Provenance, package_versions
from inverse_graphics.reporting.estimator_report import (
    CurvePoint,
    SpreadRow,
    estimator_text,
    estimators_of,
    last_accuracy,
    rows_csv,
    seconds_to,
    write_estimator_report,
)
from inverse_graphics.runs import CONFIG_FILE, REPORT_FILE, RESULTS_FILE, RunError, current_commit, pick_device
from inverse_graphics.sprites.model import SpriteModel
from inverse_graphics.training import TrainState

PRESETS = Path(__file__).parent / "presets"
SPREADS_FILE = "spreads.json"
CURVES_FILE = "curves.json"


@dataclass(frozen=True)
class EstimatorsConfig:
    """Everything that decides the comparison; saved as config.yaml."""

    sprites: Config = Config()
    """The model and its training; its estimator and seed are those compared."""
    estimators: tuple[Estimator, ...] = ("exact", "nvil", "vimco")
    """What is compared."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """A training of each estimator each."""
    spread_steps: tuple[int, ...] = (0, 300, 1000)
    """Steps of exact training (seed 0) after which the scatter is measured."""
    draws: int = 48
    """Gradients of each estimator there."""
    baseline_steps: int = 200
    """Steps by which nvil's baseline catches up with those weights."""
    check_every: int = 50
    """Steps between two looks at held-out images."""

    def __post_init__(self) -> None:
        for name, least in (("draws", 2), ("baseline_steps", 0), ("check_every", 1)):
            if getattr(self, name) < least:
                raise FieldError(name, f"at least {least}", getattr(self, name), "raise it")
        if not self.estimators:
            raise FieldError("estimators", "at least one", self.estimators, "use for example exact and nvil")
        if not self.seeds or min(self.seeds) < 0:
            raise FieldError("seeds", "at least one, none below 0", self.seeds, "use for example 0 1 2")
        if not self.spread_steps or min(self.spread_steps) < 0 or max(self.spread_steps) > self.sprites.training.steps:
            raise FieldError("spread_steps", "numbers from 0 to training.steps", self.spread_steps, "name such steps")


@dataclass(frozen=True)
class Arguments:
    """Compare gradient estimators; write figures, tables and a report."""

    preset: Literal["smoke", "quick"] = "quick"
    """smoke: does everything run; quick: a quarter of an hour on one core."""
    config: Path | None = None
    """YAML file to use instead of a preset."""
    seeds: tuple[int, ...] | None = None
    """A training of each estimator each."""
    data_root: Path | None = None
    """Folder with the standard MNIST files; without it, the small digits that scikit-learn ships."""
    download: bool = False
    """Download MNIST to --data-root first."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where everything runs."""
    out: Path = Path("runs/estimators")
    """Directory; what it holds already is not measured again."""


def resolve(arguments: Arguments, digits: DigitSets) -> EstimatorsConfig:
    """The preset or config file with the command line's changes.

    Raises:
        RunError: ``--out`` holds a comparison of another config.
    """
    config = load_dataclass(EstimatorsConfig, arguments.config or PRESETS / f"estimators_{arguments.preset}.yaml")
    sprites = dataclasses.replace(config.sprites, data=digits.source)
    config = dataclasses.replace(config, sprites=sprites, seeds=tuple(dict.fromkeys(arguments.seeds or config.seeds)))
    if (arguments.out / CONFIG_FILE).is_file():
        before = load_dataclass(EstimatorsConfig, arguments.out / CONFIG_FILE)
        if dataclasses.replace(before, seeds=config.seeds) != config:
            raise RunError(
                f"--out: expected a comparison of the config asked for in {arguments.out}, got another's; choose another"
            )
    return config


def spreads(config: EstimatorsConfig, digits: DigitSets, device: torch.device, out: Path) -> list[SpreadRow]:
    """Scatter of every estimator at the points of a training, or what ``out`` holds of it."""
    if (out / SPREADS_FILE).is_file():
        return [SpreadRow(**row) for row in read_json(out / SPREADS_FILE)]
    images = fixed_batch(config.sprites, digits, device)
    rows: list[SpreadRow] = []
    state = fresh_state(config.sprites, device)
    with tqdm(total=config.sprites.training.steps, unit="step", desc="scatter", file=sys.stderr, mininterval=1.0) as bar:

        def measure(now: TrainState[SpriteModel], _: dict[str, float]) -> None:
            bar.update(now.step - bar.n)
            if now.step not in config.spread_steps:
                return
            for estimator in config.estimators:
                # a copy: the draws of one must not depend on those of another
                own = copy.deepcopy(now)
                if estimator == "nvil":
                    fit_baseline(own, config.sprites, digits, config.baseline_steps)
                rows.extend(spread_rows(own, config.sprites, images, estimator, config.draws))

        measure(state, {})
        train_with(state, config.sprites, digits, "exact", measure)
    write_json(out / SPREADS_FILE, rows)
    return rows


def curves(config: EstimatorsConfig, digits: DigitSets, device: torch.device, out: Path) -> list[CurvePoint]:
    """A training of every estimator and seed; those that ``out`` holds are not repeated."""
    points = [CurvePoint(**point) for point in read_json(out / CURVES_FILE)] if (out / CURVES_FILE).is_file() else []
    done = {(point.estimator, point.seed) for point in points}
    plan: list[tuple[Estimator, int]] = [(estimator, seed) for seed in config.seeds for estimator in config.estimators]
    left = [cell for cell in plan if cell not in done]
    with tqdm(total=len(left), unit="training", file=sys.stderr, mininterval=1.0) as bar:
        for estimator, seed in left:
            own = dataclasses.replace(config.sprites, seed=seed)
            points += curve(own, digits, estimator, config.check_every, device, bar.set_postfix_str)
            write_json(out / CURVES_FILE, points)
            bar.update(1)
    return [point for cell in plan for point in points if (point.estimator, point.seed) == cell]


def main(arguments: Arguments) -> None:
    """Measure what is not there yet, report."""
    digits = digit_sets(arguments.data_root, arguments.download)
    config, out, device = resolve(arguments, digits), arguments.out, pick_device(arguments.device)
    out.mkdir(parents=True, exist_ok=True)
    save_yaml(out / CONFIG_FILE, config)
    rows = spreads(config, digits, device, out)
    points = curves(config, digits, device, out)
    commit = current_commit()
    summary = {
        "count_accuracy": {name: last_accuracy(points, name) for name in estimators_of(points)},
        "seconds_to_90_percent": {name: seconds_to(points, name, 0.9) for name in estimators_of(points)},
        "spreads": [dataclasses.asdict(row) for row in rows],
        "data": digits.source,
        "overlap_rule": config.sprites.images.rule,
        "variant": config.sprites.variant,
        "seeds": list(config.seeds),
        "device": str(device),
        "commit": commit,
    }
    write_json(out / RESULTS_FILE, summary)
    write_text(out / "spreads.csv", rows_csv(rows))
    write_text(out / "curves.csv", rows_csv(points))
    provenance = Provenance("python " + " ".join(sys.argv), None, commit, package_versions())
    write_estimator_report(out / REPORT_FILE, rows, points, summary, provenance, config)
    print(f"\n{estimator_text(rows, points, digits.source)}\n\nresults: {out / RESULTS_FILE}\nreport:  {out / REPORT_FILE}")


if __name__ == "__main__":
    run_command(main, Arguments, interrupted="stopped; run the same command again to go on")
