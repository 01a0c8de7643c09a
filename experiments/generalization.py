"""Numbers of digits never trained on: train on 0-2 and test on 3, train on 0, 1, 3 and test on 2; AIR beside DAIR.

    python experiments/generalization.py --preset quick --out runs/generalization
    python experiments/generalization.py --data-root mnist --seeds 0 1 2 --out runs/generalization-mnist

Each training is a run of its own below --out, which ``multi_mnist.py --evaluate`` takes too; those there stay as they are.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from command_line import run_command
from multi_mnist import PRESETS
from setup2d import Config, DigitSets, digit_sets, held_out, of_count, sprite_config, train_run

from inverse_graphics.checkpoints import STATE_FILE
from inverse_graphics.config import load_dataclass, save_yaml
from inverse_graphics.files import write_json
from inverse_graphics.reporting import Provenance, package_versions
from inverse_graphics.reporting.generalization_report import CountRow, generalization_text, write_generalization_report
from inverse_graphics.runs import CONFIG_FILE, REPORT_FILE, RESULTS_FILE, RunError, current_commit, pick_device
from inverse_graphics.sprites.evaluation import judge_sprites
from inverse_graphics.sprites.model import SpriteModel
from inverse_graphics.sprites.steps import Variant
from inverse_graphics.sprites.training import load_sprite_state, sprite_state

TRAINED_ON = ((0, 1, 2), (0, 1, 3))
"""Numbers of digits of the two kinds of training."""
TESTED_ON = (1, 2, 3, 4)
"""Numbers of digits of the test images; each on its own."""


@dataclass(frozen=True)
class Arguments:
    """Train on some numbers of digits and test on others; write a table, a figure and a report."""

    preset: Literal["smoke", "quick", "full"] = "quick"
    """That of multi_mnist.py."""
    variants: tuple[Variant, ...] = ("air", "dair")
    """What to train."""
    seeds: tuple[int, ...] = (0,)
    """A training each."""
    steps: int | None = None
    """Gradient steps."""
    data_root: Path | None = None
    """Folder with the standard MNIST files; without it, the small digits that scikit-learn ships."""
    download: bool = False
    """Download MNIST to --data-root first."""
    num_eval_images: int | None = None
    """Held-out images of each number of digits."""
    eval_seed: int = 0
    """Seed of the held-out images."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the models run."""
    out: Path = Path("runs/generalization")
    """Directory; trainings that it holds are taken up or taken over."""


def configs(arguments: Arguments, digits: DigitSets) -> dict[str, Config]:
    """A config for each training, by the name of its folder."""
    base = load_dataclass(Config, PRESETS / f"multi_mnist_{arguments.preset}.yaml")
    if arguments.steps is not None:
        base = dataclasses.replace(base, training=dataclasses.replace(base.training, steps=arguments.steps))
    found: dict[str, Config] = {}
    for seed in arguments.seeds:
        for variant in arguments.variants:
            for counts in TRAINED_ON:
                images = dataclasses.replace(base.images, counts=counts)
                name = f"{variant}_{''.join(map(str, counts))}_seed{seed}"
                found[name] = dataclasses.replace(base, images=images, variant=variant, seed=seed, data=digits.source)
    return found


def trained(run: Path, config: Config, digits: DigitSets, device_name: str) -> SpriteModel:
    """The model of a run: as it lies there, taken up where it was stopped, or trained anew.

    Raises:
        RunError: the folder holds a run of another config.
    """
    device = pick_device(device_name)
    if (run / STATE_FILE).is_file():
        if load_dataclass(Config, run / CONFIG_FILE) != config:
            raise RunError(f"--out: expected a run of the config asked for in {run}, got another; choose another --out")
        state = load_sprite_state(run / STATE_FILE, device)
    else:
        state = sprite_state(sprite_config(config.images, config.variant, config.max_objects, config.sizes), config.seed, device)
        run.mkdir(parents=True, exist_ok=True)
        save_yaml(run / CONFIG_FILE, config)
    if state.step < config.training.steps:
        print(f"{run.name}: training", file=sys.stderr)
        train_run(config, digits, run, state)
    return state.model.eval()


def accuracies(model: SpriteModel, config: Config, digits: DigitSets, count: int, seed: int) -> dict[int, float]:
    """Count accuracy on held-out images of each number of digits; the model takes as many steps as it takes to tell."""
    device, steps = next(model.parameters()).device, max(TESTED_ON) + 1
    found: dict[int, float] = {}
    for number in TESTED_ON:
        images = held_out(digits.test, of_count(config.images, number), count, seed)
        found[number] = float(judge_sprites(model, images, device, steps, config.looking).summary()["count_accuracy"])
    return found


def main(arguments: Arguments) -> None:
    """Train what is not there yet, test all, report."""
    if not arguments.seeds or not arguments.variants:
        raise ValueError("--seeds, --variants: expected at least one each, got none; name some")
    digits = digit_sets(arguments.data_root, arguments.download)
    rows: list[CountRow] = []
    plan = configs(arguments, digits)
    for name, config in plan.items():
        model = trained(arguments.out / name, config, digits, arguments.device)
        number = arguments.num_eval_images or config.num_eval_images
        found = accuracies(model, config, digits, number, arguments.eval_seed)
        rows.append(CountRow(config.variant, config.images.counts, config.seed, found))
    summary = {
        "rows": [dataclasses.asdict(row) for row in rows],
        "unseen": {
            f"{variant} trained on {','.join(map(str, counts))}, tested on {unseen}": float(
                np.mean([row.accuracy[unseen] for row in rows if (row.variant, row.trained_on) == (variant, counts)])
            )
            for variant in arguments.variants
            for counts, unseen in zip(TRAINED_ON, (3, 2), strict=True)
        },
        "overlap_rule": next(iter(plan.values())).images.rule,
        "data": digits.source,
    }
    for row in summary["rows"]:
        row["accuracy"] = {str(n): share for n, share in row["accuracy"].items()}
    commit = current_commit()
    write_json(arguments.out / RESULTS_FILE, summary | {"commit": commit})
    provenance = Provenance("python " + " ".join(sys.argv), None, commit, package_versions())
    write_generalization_report(arguments.out / REPORT_FILE, rows, summary, provenance, arguments)
    print(f"\n{generalization_text(rows, digits.source)}\n")
    print(f"results: {arguments.out / RESULTS_FILE}\nreport:  {arguments.out / REPORT_FILE}")


if __name__ == "__main__":
    run_command(main, Arguments, interrupted="stopped; run the same command again to go on")
