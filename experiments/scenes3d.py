"""Learn count, class and pose of table-top objects from images, then say how well it works on scenes never seen.

    python experiments/scenes3d.py --preset quick --out runs/scenes3d
    python experiments/scenes3d.py --evaluate runs/scenes3d --num-eval-scenes 1000 --eval-seed 7 --out runs/scenes3d-again

A run's directory holds config.yaml, scene.yaml, results.json, report.html, TensorBoard scalars and the weights.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import torch
from command_line import FAULTS, given, run_command
from setup3d import Setup, bound_prior, build_setup, examples, guide_config, held_out, training_scenes

from inverse_graphics.checkpoints import STATE_FILE, load_guide
from inverse_graphics.config import load_dataclass, save_yaml
from inverse_graphics.estimators import Estimator
from inverse_graphics.evaluation import judge
from inverse_graphics.files import write_json
from inverse_graphics.guides import GuideSizes, RecurrentGuide
from inverse_graphics.reporting import Provenance, package_versions, summary_text, write_scene_report
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
from inverse_graphics.scene_training import Objective, SceneLoss, TrainingConfig, load_scene_state, scene_state
from inverse_graphics.training import TrainState, train
from renderers import BackendMissingError, BackendOptions, DifferenceOptions, Gradient
from renderers.differences import Scheme
from renderers.painting.workers import WorkerError
from scenes import SceneConfig, load_scene_config

PRESETS = Path(__file__).parent / "presets"
SCENE_FILE = "scene.yaml"
OWN_OPTIONS = ("renderer", "gradient", "estimator", "objective", "feedback", "seed")
"""Options that are fields of ``Config``, and those that are fields of its ``differences`` and ``backend``."""
DIFFERENCE_OPTIONS = ("scheme", "pairs")
SHOWN = ("sleep presence", "sleep position", "sleep category", "sleep yaw", "bound", "bound expected count")
"""Terms beside the progress bar."""
BACKEND_OPTIONS = ("function", "command", "variant", "surroundings", "workers", "timeout_s")


@dataclass(frozen=True)
class Config:
    """Everything that decides a run; saved as config.yaml."""

    scene: str = "../../scenes/tabletop.yaml"
    """Scene config, relative to this file."""
    renderer: str = "raster"
    """Backend that draws the images and the layers of the bound."""
    gradient: Gradient | None = None
    """How pose gradients are taken; the backend's default where null."""
    differences: DifferenceOptions = DifferenceOptions()
    """How finite differences are taken; the training sets their step."""
    backend: BackendOptions = BackendOptions()
    """What the backend is told."""
    objective: Objective = "sleep+bound"
    """What is maximised."""
    estimator: Estimator = "exact"
    """How the bound's count, class and yaw bin are trained."""
    feedback: bool = False
    """DAIR: each step sees what is left of the image once what has been found is drawn; without, an LSTM remembers (AIR)."""
    seed: int = 0
    """Of the weights, the training scenes and every draw."""
    num_eval_scenes: int = 1000
    """Held-out scenes."""
    eval_seed: int = 0
    """Of the held-out scenes; never those of any training seed."""
    looks: int = 3
    """Glimpses an object at test time."""
    recount_sigma: float | None = 0.15
    """Image noise for judging the count again by rendering at test time; null trusts the guide alone."""
    guide: GuideSizes = GuideSizes()
    """Sizes of the inference network."""
    training: TrainingConfig = field(default_factory=TrainingConfig)
    """How it is trained with a sleep phase."""
    bound_only: TrainingConfig = field(default_factory=TrainingConfig)
    """How it is trained by ``--objective bound``."""

    @property
    def chosen(self) -> TrainingConfig:
        """The settings of the run's objective."""
        return self.bound_only if self.objective == "bound" else self.training


@dataclass(frozen=True)
class Arguments:
    """Learn count, class and pose of table-top objects by inverting a renderer; evaluate on held-out scenes; write a report.

    Options that are left out come from the preset or config file.
    """

    preset: Literal["smoke", "quick", "full"] = "quick"
    """smoke: does everything run; quick: minutes; full: the best figures."""
    config: Path | None = None
    """YAML file to use instead of a preset."""
    renderer: str | None = None
    """raster, raster-cuda, pytorch3d, open3d, open3d-offscreen, mujoco, mitsuba, mitsuba-path, pybullet or callable."""
    gradient: Gradient | None = None
    """How pose gradients are taken (default: the renderer's own)."""
    scheme: Scheme | None = None
    """Where finite differences draw."""
    pairs: int | None = None
    """Pairs of draws of the schemes spsa and smoothing."""
    function: str | None = None
    """callable: the Python function that draws, FILE.py:NAME or MODULE:NAME."""
    command: str | None = None
    """callable: the program that draws, with its arguments."""
    variant: str | None = None
    """mitsuba, mitsuba-path: scalar_rgb, llvm_ad_rgb or cuda_ad_rgb."""
    surroundings: str | None = None
    """mujoco: an MJCF file that stands around the objects."""
    workers: int | None = None
    """Processes that draw, for backends that draw one picture at a time."""
    timeout_s: float | None = None
    """Seconds that a worker or a command may take for its part of a batch."""
    estimator: Estimator | None = None
    """exact: count, class and yaw bin summed; nvil: drawn, score function with a baseline (the paper's); vimco: several draws."""
    objective: Objective | None = None
    """sleep: simulated pairs; bound: images only; sleep+bound: both."""
    feedback: bool | None = None
    """True: each step sees what is left of the image once what has been found is drawn (DAIR); False: an LSTM (AIR)."""
    steps: int | None = None
    """Gradient steps."""
    seed: int | None = None
    """Of weights, training scenes and draws."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the inference network runs."""
    out: Path = Path("runs/scenes3d")
    """Run directory; must be new, or hold a run that --resume continues."""
    resume: bool = False
    """Continue the run in --out from its last checkpoint; of its config only --steps and how a backend draws may change."""
    evaluate: Path | None = None
    """Evaluate this run on fresh scenes instead of training, and write to --out."""
    num_eval_scenes: int | None = None
    """How many held-out scenes."""
    eval_seed: int | None = None
    """Seed of the held-out scenes."""


def resolve(arguments: Arguments) -> Config:
    """The preset or config file with the command line's changes."""
    file = arguments.config or PRESETS / f"scenes3d_{arguments.preset}.yaml"
    config = load_dataclass(Config, file)
    config = dataclasses.replace(config, scene=str(file.parent / config.scene))
    config = with_given(config, arguments, (*OWN_OPTIONS, "num_eval_scenes", "eval_seed"))
    config = with_options(config, arguments)
    if config.differences.seed == 0:
        config = dataclasses.replace(config, differences=dataclasses.replace(config.differences, seed=config.seed))
    config = with_steps(config, arguments.steps)
    if config.num_eval_scenes < 1 or config.seed < 0 or config.eval_seed < 0:
        raise ValueError("--num-eval-scenes: expected at least 1, --seed and --eval-seed: at least 0; change them")
    return config


T = TypeVar("T")


def with_given(config: T, arguments: Arguments, names: Iterable[str]) -> T:
    """A dataclass with those of its fields changed that the command line gives."""
    return dataclasses.replace(config, **given(arguments, tuple(names)))  # type: ignore[type-var]


def with_options(config: Config, arguments: Arguments) -> Config:
    """The config with what the command line says of finite differences and of the backend."""
    return dataclasses.replace(
        config,
        differences=with_given(config.differences, arguments, DIFFERENCE_OPTIONS),
        backend=with_given(config.backend, arguments, BACKEND_OPTIONS),
    )


def resumed(config: Config, arguments: Arguments) -> Config:
    """A run's own config, with another number of steps if one is given."""
    names = ("config", *OWN_OPTIONS, *DIFFERENCE_OPTIONS)
    wrong = [f"--{name}" for name in given(arguments, names)]
    if wrong:
        raise ValueError(
            f"--resume continues under the run's own config, got {' '.join(wrong)}; leave it out, or start a new run"
        )
    return with_steps(with_options(config, arguments), arguments.steps)


def with_steps(config: Config, steps: int | None) -> Config:
    """The config with another number of steps for its objective."""
    if steps is None:
        return config
    which = "bound_only" if config.objective == "bound" else "training"
    return dataclasses.replace(config, **{which: dataclasses.replace(config.chosen, steps=steps)})


def build(config: Config, scene: SceneConfig, device: torch.device) -> Setup:
    """Catalogue, prior and renderers of a run."""
    return build_setup(scene, device, config.renderer, config.gradient, config.differences, config.backend)


def train_run(config: Config, setup: Setup, run: Path, state: TrainState[RecurrentGuide]) -> Journal:
    """Train a run to its end; returns its journal."""
    training = config.chosen
    start = state.step * training.batch_size
    with (
        training_scenes(setup, training.batch_size, config.seed, start) as stream,
        Journal(run, training.steps, state.step, shown=SHOWN) as journal,
    ):
        prior = bound_prior(setup.scene, setup.catalogue)
        loss = SceneLoss(setup.renderer, prior, training, config.objective, config.estimator)
        train(state, examples(stream, setup.device), loss, training, journal)
    return journal


def open_run(arguments: Arguments) -> tuple[Config, Setup, TrainState[RecurrentGuide]]:
    """A new run, or the one to resume."""
    device = pick_device(arguments.device)
    if arguments.resume:
        run = find_run(arguments.out, STATE_FILE)
        config = resumed(load_dataclass(Config, run / CONFIG_FILE), arguments)
        save_yaml(run / CONFIG_FILE, config)
        state = load_scene_state(run / STATE_FILE, device)
        return config, build(config, load_scene_config(run / SCENE_FILE), device), state
    config = resolve(arguments)
    scene = load_scene_config(config.scene)
    setup = build(config, scene, device)
    torch.manual_seed(config.seed)
    guide = RecurrentGuide(guide_config(scene, setup.catalogue, config.guide, config.feedback))
    run = claim_run(arguments.out)
    save_yaml(run / CONFIG_FILE, dataclasses.replace(config, scene=SCENE_FILE))
    save_yaml(run / SCENE_FILE, scene)
    return config, setup, scene_state(guide, config.seed, device)


def finish(out: Path, guide: RecurrentGuide, config: Config, setup: Setup, journal: Journal | None) -> None:
    """Judge a guide on held-out scenes; write results.json and report.html, print the headline numbers."""
    counts = setup.scene.objects.probabilities
    mean_count = sum(count * probability for count, probability in enumerate(counts))
    judged = judge(
        guide,
        held_out(setup, config.num_eval_scenes, config.eval_seed),
        setup.images,
        setup.catalogue,
        mean_count,
        config.looks,
        setup.device,
        config.recount_sigma,
    )
    speed = {"steps": config.chosen.steps, "wall_time_s": None, "steps_per_second": None}
    if journal is not None:
        speed |= {"wall_time_s": journal.seconds, "steps_per_second": config.chosen.steps / max(journal.seconds, 1e-9)}
    commit = current_commit()
    run = {"seed": config.seed, "eval_seed": config.eval_seed, "renderer": config.renderer, "objective": config.objective}
    run |= {"estimator": config.estimator, "device": str(setup.device), "commit": commit, "warnings": list(judged.warnings)}
    write_json(out / RESULTS_FILE, judged.summary | speed | run)
    provenance = Provenance("python " + " ".join(sys.argv), config.seed, commit, package_versions())
    history = journal.history if journal is not None else None
    write_scene_report(out / REPORT_FILE, judged, setup.catalogue, history, provenance, (config, setup.scene))
    print(f"\n{summary_text(judged)}\n\nresults: {out / RESULTS_FILE}\nreport:  {out / REPORT_FILE}")


def evaluate_run(arguments: Arguments) -> None:
    """Judge a trained run on fresh scenes and write results and report to ``--out``."""
    run = find_run(arguments.evaluate or Path())
    config = load_dataclass(Config, run / CONFIG_FILE)
    config = with_options(with_given(config, arguments, ("renderer", "num_eval_scenes", "eval_seed")), arguments)
    setup = build(config, load_scene_config(run / SCENE_FILE), pick_device(arguments.device))
    guide = load_guide(run, setup.device)
    finish(claim_run(arguments.out), guide, config, setup, None)


def main(arguments: Arguments) -> None:
    """Train and judge, or only judge."""
    if arguments.evaluate is not None:
        return evaluate_run(arguments)
    config, setup, state = open_run(arguments)
    try:
        journal = train_run(config, setup, arguments.out, state)
    except KeyboardInterrupt:
        raise RunError(f"stopped at step {state.step}; continue with --resume --out {arguments.out}") from None
    finish(arguments.out, state.model, config, setup, journal)


if __name__ == "__main__":
    run_command(main, Arguments, (*FAULTS, BackendMissingError, WorkerError))
