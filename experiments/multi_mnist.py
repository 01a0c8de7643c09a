"""Learn to count and place digits from images alone (AIR and DAIR), then say how well it works on digits never seen.

    python experiments/multi_mnist.py --preset quick --out runs/multi_mnist
    python experiments/multi_mnist.py --evaluate runs/multi_mnist --data-root mnist --eval-seed 7 --out runs/multi_mnist-again

A run's directory holds config.yaml, results.json, report.html, TensorBoard scalars and the weights.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from command_line import given, refuse, run_command
from setup2d import Config, DigitSets, digit_sets, held_out, sprite_config, train_run

from inverse_graphics.checkpoints import STATE_FILE
from inverse_graphics.config import load_dataclass, save_yaml
from inverse_graphics.estimators import Estimator
from inverse_graphics.files import write_json
from inverse_graphics.reporting import Provenance, package_versions
from inverse_graphics.reporting.sprite_report import sprite_summary_text, write_sprite_report
from inverse_graphics.runs import (
    CONFIG_FILE,
    REPORT_FILE,
    RESULTS_FILE,
    Journal,
    RunError,
    claim_run,
    current_commit,
    find_run,
    pick_device,
)
from inverse_graphics.sprites.evaluation import FlatEvaluation, judge_sprites
from inverse_graphics.sprites.looking import ONCE, Looking
from inverse_graphics.sprites.model import SpriteModel, on_canvas
from inverse_graphics.sprites.steps import Variant
from inverse_graphics.sprites.training import load_sprite_state, load_sprites, sprite_state
from inverse_graphics.training import TrainState

PRESETS = Path(__file__).parent / "presets"


@dataclass(frozen=True)
class Arguments:
    """Learn to count and place digits from images alone; evaluate on digits never seen; write a report.

    Options that are left out come from the preset or config file.
    """

    preset: Literal["smoke", "quick", "full"] = "quick"
    """smoke: does everything run; quick: minutes; full: the best figures."""
    config: Path | None = None
    """YAML file to use instead of a preset."""
    variant: Variant | None = None
    """air: an LSTM remembers; dair: every step sees what is left."""
    estimator: Estimator | None = None
    """exact: the count summed; nvil: drawn, score function with a baseline (the paper's); vimco: several draws."""
    data_root: Path | None = None
    """Folder with the standard MNIST files; without it, the small digits that scikit-learn ships."""
    download: bool = False
    """Download MNIST to --data-root first."""
    counts: str | None = None
    """Numbers of digits, equally likely, such as 0,1,2."""
    rule: Literal["strict", "crude"] | None = None
    """Where digits may stand: strict: their ink apart; crude: as in Pyro's data."""
    canvas_px: int | None = None
    """Side of the canvas; with --evaluate, a dair model's may be another one than in training."""
    digit_px: int | None = None
    """Side of a digit's frame at scale 1."""
    noise_std: float | None = None
    """Standard deviation of noise on every pixel."""
    max_objects: int | None = None
    """Steps, in training or (with --evaluate) of the trained model."""
    steps: int | None = None
    """Gradient steps."""
    seed: int | None = None
    """Of weights, training images and draws."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs."""
    out: Path = Path("runs/multi_mnist")
    """Run directory; must be new, or hold a run that --resume continues."""
    resume: bool = False
    """Continue the run in --out from its last checkpoint; only --steps and --device may change."""
    evaluate: Path | None = None
    """Evaluate this run on fresh images instead of training, and write to --out."""
    num_eval_images: int | None = None
    """How many held-out images."""
    eval_seed: int | None = None
    """Seed of the held-out images."""


IMAGE_OPTIONS = ("rule", "canvas_px", "digit_px", "noise_std")
RUN_OPTIONS = ("variant", "estimator", "seed")
EVAL_OPTIONS = ("num_eval_images", "eval_seed")


def with_images(config: Config, arguments: Arguments) -> Config:
    """The config with what the command line says of the images.

    Windows follow the digits' size, and so does the noise that images are supposed to have: a digit half as large has a quarter
    of the ink, and is worth as many nats where sigma is half as large.  Otherwise small digits are not worth their price.
    """
    changes = given(arguments, IMAGE_OPTIONS)
    if arguments.counts is not None:
        changes["counts"] = parse_counts(arguments.counts)
    images = dataclasses.replace(config.images, **changes)  # type: ignore[arg-type]
    scale = images.digit_px / config.images.digit_px
    sizes = dataclasses.replace(config.sizes, object_px=config.sizes.object_px * scale)
    image = dataclasses.replace(config.training.image, sigma=config.training.image.sigma * scale)
    training = dataclasses.replace(config.training, image=image)
    return dataclasses.replace(config, images=images, sizes=sizes, training=training)


def parse_counts(text: str) -> tuple[int, ...]:
    """``0,1,2`` as numbers."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise ValueError(f"--counts: expected numbers with commas between, such as 0,1,2, got {text!r}; write them so") from None


def resolve(arguments: Arguments) -> Config:
    """The preset or config file with the command line's changes."""
    config = load_dataclass(Config, arguments.config or PRESETS / f"multi_mnist_{arguments.preset}.yaml")
    config = with_images(config, arguments)
    config = dataclasses.replace(config, **given(arguments, (*RUN_OPTIONS, *EVAL_OPTIONS, "max_objects")))  # type: ignore[arg-type]
    return checked(with_steps(config, arguments.steps))


def with_steps(config: Config, steps: int | None) -> Config:
    """The config with another number of steps."""
    return config if steps is None else dataclasses.replace(config, training=dataclasses.replace(config.training, steps=steps))


def checked(config: Config) -> Config:
    """The config; ValueError where a number is out of range."""
    if config.num_eval_images < 1 or config.seed < 0 or config.eval_seed < 0:
        raise ValueError("--num-eval-images: expected at least 1, --seed and --eval-seed: at least 0; change them")
    return config


def open_run(arguments: Arguments, digits: DigitSets) -> tuple[Config, TrainState[SpriteModel]]:
    """A new run, or the one to resume."""
    device = pick_device(arguments.device)
    if arguments.resume:
        refuse(arguments, "--resume", (*IMAGE_OPTIONS, *RUN_OPTIONS, *EVAL_OPTIONS, "config", "counts", "max_objects"))
        run = find_run(arguments.out, STATE_FILE)
        state = load_sprite_state(run / STATE_FILE, device)
        config = with_steps(load_dataclass(Config, run / CONFIG_FILE), arguments.steps)
        if config.data != digits.source:
            raise ValueError(f"--data-root: expected the run's own digits, {config.data}, got {digits.source}; name their folder")
        save_yaml(run / CONFIG_FILE, config)
        return config, state
    config = dataclasses.replace(resolve(arguments), data=digits.source)
    state = sprite_state(sprite_config(config.images, config.variant, config.max_objects, config.sizes), config.seed, device)
    save_yaml(claim_run(arguments.out) / CONFIG_FILE, config)
    return config, state


def finish(
    out: Path, model: SpriteModel, config: Config, digits: DigitSets, journal: Journal | None, max_objects: int | None = None
) -> None:
    """Judge a model on held-out images; write results.json and report.html, print the headline numbers."""
    device = next(model.parameters()).device

    def judged(looking: Looking) -> FlatEvaluation:
        images = held_out(digits.test, config.images, config.num_eval_images, config.eval_seed)
        return judge_sprites(model.eval(), images, device, max_objects, looking)

    evaluation = judged(config.looking)
    alone = judged(ONCE) if config.reaches else evaluation
    speed = {"steps": config.training.steps, "wall_time_s": None, "steps_per_second": None}
    if journal is not None:
        speed |= {"wall_time_s": journal.seconds, "steps_per_second": config.training.steps / max(journal.seconds, 1e-9)}
    commit = current_commit()
    about = {"variant": model.config.variant, "estimator": config.estimator, "seed": config.seed, "eval_seed": config.eval_seed}
    about |= {"counts": list(config.images.counts), "overlap_rule": config.images.rule, "data": digits.source}
    about |= {"canvas_px": config.images.canvas_px, "reaches": list(config.reaches)}
    about |= {"count_accuracy_guide": alone.summary()["count_accuracy"]}
    summary = evaluation.summary() | speed | about | {"device": str(device), "commit": commit}
    write_json(out / RESULTS_FILE, summary)
    provenance = Provenance("python " + " ".join(sys.argv), config.seed, commit, package_versions())
    shown = next(held_out(digits.test, config.images, min(64, config.num_eval_images), config.eval_seed))
    history = journal.history if journal is not None else None
    write_sprite_report(
        out / REPORT_FILE, model, shown, evaluation, summary, history, provenance, config, max_objects, config.looking
    )
    print(f"\n{sprite_summary_text(summary)}\n\nresults: {out / RESULTS_FILE}\nreport:  {out / REPORT_FILE}")


def evaluate_run(arguments: Arguments, digits: DigitSets) -> None:
    """Judge a trained run on fresh images and write results and report to ``--out``."""
    refuse(arguments, "--evaluate", (*RUN_OPTIONS, "config", "steps", "digit_px"))
    run = find_run(arguments.evaluate or Path())
    config = with_images(load_dataclass(Config, run / CONFIG_FILE), arguments)
    config = checked(dataclasses.replace(config, **given(arguments, EVAL_OPTIONS)))  # type: ignore[arg-type]
    model = on_canvas(load_sprites(run, pick_device(arguments.device)), config.images.canvas_px)
    steps = max(model.config.max_objects, max(config.images.counts) + 1)
    finish(claim_run(arguments.out), model, config, digits, None, arguments.max_objects or steps)


def main(arguments: Arguments) -> None:
    """Train and judge, or only judge."""
    digits = digit_sets(arguments.data_root, arguments.download)
    if arguments.evaluate is not None:
        return evaluate_run(arguments, digits)
    config, state = open_run(arguments, digits)
    try:
        journal = train_run(config, digits, arguments.out, state)
    except KeyboardInterrupt:
        raise RunError(f"stopped at step {state.step}; continue with --resume --out {arguments.out}") from None
    finish(arguments.out, state.model, config, digits, journal)


if __name__ == "__main__":
    run_command(main, Arguments)
