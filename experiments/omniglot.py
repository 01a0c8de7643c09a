"""Learn to draw characters by parts (AIR and DAIR with a decoder of strokes), then compare the parts with the strokes of the pen.

    python experiments/omniglot.py --preset quick --out runs/omniglot
    python experiments/omniglot.py --preset quick --data-root omniglot --part background_small1 --out runs/omniglot-real

A run's directory holds config.yaml, results.json, report.html, TensorBoard scalars and the weights.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from command_line import given, refuse, run_command
from setup_characters import CharacterSets, Config, character_sets, held_out, stroke_config, train_run

from inverse_graphics.checkpoints import STATE_FILE
from inverse_graphics.config import load_dataclass, save_yaml
from inverse_graphics.files import write_json
from inverse_graphics.reporting import Provenance, package_versions
from inverse_graphics.reporting.parts_figures import SET_NAMES, ShownParts, parts_summary_text, write_parts_report
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
from inverse_graphics.sprites.parts import PartInference, infer_strokes, judge_parts
from inverse_graphics.sprites.steps import Variant
from inverse_graphics.sprites.stroke_model import StrokeModel
from inverse_graphics.sprites.stroke_training import load_stroke_state, load_strokes, stroke_state
from inverse_graphics.training import TrainState
from scenes.flat.omniglot import Part

PRESETS = Path(__file__).parent / "presets"
SHOWN_DRAWINGS = 10
"""Drawings of each set in a report."""


@dataclass(frozen=True)
class Arguments:
    """Learn to draw characters by parts; judge the parts of drawings by others and of alphabets never seen; write a report.

    Options that are left out come from the preset or config file.
    """

    preset: Literal["smoke", "quick", "full"] = "quick"
    """smoke: does everything run; quick: minutes; full: the best figures."""
    config: Path | None = None
    """YAML file to use instead of a preset."""
    variant: Variant | None = None
    """air: an LSTM remembers; dair: every step sees what is left."""
    data_root: Path | None = None
    """Folder with Omniglot's published files; without it, made-up pen strokes."""
    part: Part | None = None
    """Which set of Omniglot."""
    max_objects: int | None = None
    """Steps, each a stroke at the most."""
    steps: int | None = None
    """Gradient steps."""
    rounds: int | None = None
    """Rounds of refinement when judging; 0: the guide alone."""
    seed: int | None = None
    """Of weights, training images and draws."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the model runs."""
    out: Path = Path("runs/omniglot")
    """Run directory; must be new, or hold a run that --resume continues."""
    resume: bool = False
    """Continue the run in --out from its last checkpoint; only --steps, --rounds and --device may change."""
    evaluate: Path | None = None
    """Judge this run again instead of training, and write to --out; the data may be others than the run's."""
    num_eval_images: int | None = None
    """How many held-out drawings of each kind."""
    eval_seed: int | None = None
    """Decides which of them."""


RUN_OPTIONS = ("variant", "max_objects", "seed")
EVAL_OPTIONS = ("num_eval_images", "eval_seed")


def changed(config: Config, arguments: Arguments, names: tuple[str, ...]) -> Config:
    """The config with what the command line says of some options, of the steps and of the rounds."""
    changes = given(arguments, names)
    if arguments.steps is not None:
        changes["training"] = dataclasses.replace(config.training, steps=arguments.steps)
    if arguments.rounds is not None:
        changes["refinement"] = dataclasses.replace(config.refinement, rounds=arguments.rounds)
    return dataclasses.replace(config, **changes)


def open_run(arguments: Arguments) -> tuple[Config, CharacterSets, TrainState[StrokeModel]]:
    """A new run, or the one to resume."""
    device = pick_device(arguments.device)
    if arguments.resume:
        refuse(arguments, "--resume", (*RUN_OPTIONS, *EVAL_OPTIONS, "config", "part"))
        run = find_run(arguments.out, STATE_FILE)
        config = changed(load_dataclass(Config, run / CONFIG_FILE), arguments, ())
        characters = character_sets(config, arguments.data_root)
        if config.data != characters.source:
            raise ValueError(
                f"--data-root: expected the run's own drawings, {config.data}, got {characters.source}; name their folder"
            )
        state = load_stroke_state(run / STATE_FILE, device)
        save_yaml(run / CONFIG_FILE, config)
        return config, characters, state
    config = load_dataclass(Config, arguments.config or PRESETS / f"omniglot_{arguments.preset}.yaml")
    config = changed(config, arguments, (*RUN_OPTIONS, *EVAL_OPTIONS, "part"))
    characters = character_sets(config, arguments.data_root)
    config = dataclasses.replace(config, data=characters.source)
    state = stroke_state(stroke_config(config), config.seed, device)
    save_yaml(claim_run(arguments.out) / CONFIG_FILE, config)
    return config, characters, state


def finish(
    out: Path, model: StrokeModel, config: Config, characters: CharacterSets, trained_on: str, journal: Journal | None
) -> None:
    """Judge a model on held-out drawings; write results.json and report.html, print the headline numbers."""
    model.eval()
    device = next(model.parameters()).device

    def infer(images: torch.Tensor) -> PartInference:
        return infer_strokes(model, images, config.refinement)

    judged, shown = {}, {}
    for name in SET_NAMES:
        drawings = getattr(characters, name)
        judged[name] = judge_parts(infer, held_out(drawings, config.num_eval_images, config.eval_seed, device)).summary()
        some = next(held_out(drawings, min(SHOWN_DRAWINGS, config.num_eval_images), config.eval_seed, device))
        shown[name] = ShownParts(some, infer(some.images))
    commit = current_commit()
    about = {"variant": model.config.variant, "max_objects": model.config.max_objects, "seed": config.seed}
    about |= {"eval_seed": config.eval_seed, "data": characters.source, "trained_on": trained_on}
    about |= {"steps": config.training.steps, "wall_time_s": journal.seconds if journal is not None else None}
    summary = judged | about | {"device": str(device), "commit": commit}
    write_json(out / RESULTS_FILE, summary)
    provenance = Provenance("python " + " ".join(sys.argv), config.seed, commit, package_versions())
    history = journal.history if journal is not None else None
    write_parts_report(out / REPORT_FILE, model.decoder, shown, summary, history, provenance, config)
    print(f"\n{parts_summary_text(summary)}\n\nresults: {out / RESULTS_FILE}\nreport:  {out / REPORT_FILE}")


def evaluate_run(arguments: Arguments) -> None:
    """Judge a trained run and write results and report to ``--out``."""
    refuse(arguments, "--evaluate", (*RUN_OPTIONS, "config", "steps"))
    run = find_run(arguments.evaluate or Path())
    config = changed(load_dataclass(Config, run / CONFIG_FILE), arguments, (*EVAL_OPTIONS, "part"))
    characters = character_sets(config, arguments.data_root)
    model = load_strokes(run, pick_device(arguments.device))
    finish(claim_run(arguments.out), model, config, characters, config.data, None)


def main(arguments: Arguments) -> None:
    """Train and judge, or only judge."""
    if arguments.evaluate is not None:
        return evaluate_run(arguments)
    config, characters, state = open_run(arguments)
    try:
        journal = train_run(config, characters, arguments.out, state)
    except KeyboardInterrupt:
        raise RunError(f"stopped at step {state.step}; continue with --resume --out {arguments.out}") from None
    finish(arguments.out, state.model, config, characters, characters.source, journal)


if __name__ == "__main__":
    run_command(main, Arguments)
