"""Two questions about pairs of digits, answered from a sprite model's frozen latents and, beside that, from pixels.

    python experiments/downstream.py --data-root mnist --out runs/downstream
    python experiments/downstream.py --run runs/multi_mnist --data-root mnist --labels 100 1000 --seeds 0 --out runs/downstream

What is the sum of the two digits, and are they in ascending order from left to right?  Accuracy on digits never seen, against
the number of labelled images.  The sprite model has seen images alone, and is not trained any further.
"""

from __future__ import annotations

import dataclasses
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from command_line import run_command
from generalization import trained
from setup2d import Config, DigitSets, digit_sets
from setup_pairs import PairSet, fit_latents, fit_pixels, held_out_pairs, labelled_pairs
from tqdm import tqdm

from inverse_graphics.checkpoints import MODEL_FILE
from inverse_graphics.config import FieldError, load_dataclass, save_yaml
from inverse_graphics.downstream.fitting import HELD_OUT, FitConfig
from inverse_graphics.downstream.readers import READERS, Reader
from inverse_graphics.downstream.tasks import TASKS, Task
from inverse_graphics.files import read_json, write_json, write_text
from inverse_graphics.reporting import Provenance, package_versions
from inverse_graphics.reporting.downstream_report import (
    Score,
    downstream_csv,
    downstream_summary,
    downstream_text,
    write_downstream_report,
)
from inverse_graphics.runs import CONFIG_FILE, REPORT_FILE, RESULTS_FILE, RunError, current_commit, find_run, pick_device
from inverse_graphics.sprites.model import SpriteModel
from inverse_graphics.sprites.training import load_sprites

PRESETS = Path(__file__).parent / "presets"
SCORES_FILE = "scores.json"
SPRITES_FOLDER = "sprites"


@dataclass(frozen=True)
class DownstreamConfig:
    """Everything that decides the experiment; saved as config.yaml."""

    sprites: Config = Config()
    """The sprite model's run."""
    latents: FitConfig = FitConfig()
    """How the reader of latents is trained."""
    pixels: FitConfig = FitConfig()
    """How the network on pixels is trained."""
    labels: tuple[int, ...] = (100, 316, 1000, 3162, 10000, 31623)
    """Numbers of labelled images; fewer are always some of the more."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of labelled images, weights and batches."""
    num_test_images: int = 5000
    """Images of digits never seen."""
    test_seed: int = 0
    """Of those images."""
    weights: str = ""
    """Fingerprint of the sprite model's weights; filled in by the run."""

    def __post_init__(self) -> None:
        if not self.labels or min(self.labels) < HELD_OUT:
            raise FieldError("labels", f"numbers of at least {HELD_OUT}, a tenth of which is held out", self.labels, "give more")
        if not self.seeds or min(self.seeds) < 0 or self.test_seed < 0:
            raise FieldError("seeds", "at least one, and none below 0, as test_seed", self.seeds, "use for example 0 1 2")
        if self.num_test_images < 1:
            raise FieldError("num_test_images", "at least 1", self.num_test_images, "raise it")


@dataclass(frozen=True)
class Arguments:
    """Answer two questions about pairs of digits from frozen latents and from pixels; write curves, a table and a report."""

    preset: Literal["smoke", "quick", "full"] = "full"
    """smoke: does everything run; quick: fewer labels and a sprite model of minutes; full: the best figures."""
    config: Path | None = None
    """YAML file to use instead of a preset."""
    run: Path | None = None
    """A trained run of multi_mnist.py; without it, a sprite model is trained below --out first."""
    data_root: Path | None = None
    """Folder with the standard MNIST files; without it, the small digits that scikit-learn ships."""
    download: bool = False
    """Download MNIST to --data-root first."""
    seeds: tuple[int, ...] | None = None
    """A training of every reader each."""
    labels: tuple[int, ...] | None = None
    """Numbers of labelled images."""
    num_test_images: int | None = None
    """Images to judge on."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where everything runs."""
    out: Path = Path("runs/downstream")
    """Directory; readers that it holds scores of are not trained again."""


def resolve(arguments: Arguments, digits: DigitSets) -> DownstreamConfig:
    """The preset or config file with the command line's changes and, with ``--run``, that run's config.

    Raises:
        ValueError: a number is out of range, or the run was trained on other digits.
    """
    config = load_dataclass(DownstreamConfig, arguments.config or PRESETS / f"downstream_{arguments.preset}.yaml")
    sprites = dataclasses.replace(config.sprites, data=digits.source)
    if arguments.run is not None:
        sprites = load_dataclass(Config, find_run(arguments.run) / CONFIG_FILE)
        if sprites.data != digits.source:
            raise ValueError(
                f"--data-root: expected the run's own digits, {sprites.data}, got {digits.source}; name their folder"
            )
    return dataclasses.replace(
        config,
        sprites=sprites,
        labels=tuple(sorted(set(arguments.labels or config.labels))),
        seeds=tuple(dict.fromkeys(arguments.seeds or config.seeds)),
        num_test_images=config.num_test_images if arguments.num_test_images is None else arguments.num_test_images,
    )


def frozen_model(arguments: Arguments, config: DownstreamConfig, digits: DigitSets) -> tuple[SpriteModel, DownstreamConfig]:
    """The trained sprite model, and the config with its fingerprint."""
    device = pick_device(arguments.device)
    run = arguments.run or arguments.out / SPRITES_FOLDER
    if arguments.run is None:
        trained(run, config.sprites, digits, arguments.device)
    model = load_sprites(run, device).eval().requires_grad_(False)
    return model, dataclasses.replace(config, weights=hashlib.sha256((run / MODEL_FILE).read_bytes()).hexdigest()[:16])


def earlier_scores(out: Path, config: DownstreamConfig) -> list[Score]:
    """Scores that a folder holds; those of other numbers of labels and other seeds are welcome.

    Raises:
        RunError: it holds an experiment of another config.
    """
    if not (out / SCORES_FILE).is_file():
        return []
    before = load_dataclass(DownstreamConfig, out / CONFIG_FILE)
    if dataclasses.replace(before, labels=config.labels, seeds=config.seeds) != config:
        raise RunError(f"--out: expected scores of the config asked for in {out}, got another's; choose another --out")
    return [Score(**score) for score in read_json(out / SCORES_FILE)]


def cells(config: DownstreamConfig, seed: int) -> Iterator[tuple[Task, Reader, int]]:
    """What is trained for a seed, fewest labels first, and what is fast before what is slow."""
    for labels in config.labels:
        for reader in READERS:
            for task in TASKS:
                yield task, reader, labels


def score_all(model: SpriteModel, config: DownstreamConfig, digits: DigitSets, out: Path) -> list[Score]:
    """Train and judge every reader that has no score yet; each score is kept as soon as it is known."""
    scores = earlier_scores(out, config)
    save_yaml(out / CONFIG_FILE, config)
    device, sprites = next(model.parameters()).device, config.sprites
    done = {score.cell for score in scores}
    left = [(seed, cell) for seed in config.seeds for cell in cells(config, seed) if (*cell, seed) not in done]
    test: PairSet | None = None
    with tqdm(total=len(left), unit="reader", file=sys.stderr, mininterval=1.0) as bar:
        for seed in dict.fromkeys(seed for seed, _ in left):
            own = [cell for other, cell in left if other == seed]
            test = test or held_out_pairs(model, digits.test, sprites, config.num_test_images, config.test_seed, device)
            labelled = labelled_pairs(model, digits.train, sprites, max(labels for *_, labels in own), seed, device)
            for task, reader, labels in own:
                bar.set_postfix_str(f"seed {seed}, {labels} labels, {task} from {reader}")
                if reader == "latents":
                    score = fit_latents(task, model, labelled.first(labels), test, config.latents, seed)
                else:
                    score = fit_pixels(task, labelled.first(labels), test, config.pixels, seed)
                scores.append(score)
                write_json(out / SCORES_FILE, scores)
                bar.write(f"{task}, {labels} labels, seed {seed}, {reader}: {100 * score.accuracy:.1f} %", file=sys.stderr)
                bar.update(1)
    wanted = {(*cell, seed) for seed in config.seeds for cell in cells(config, seed)}
    return [score for score in scores if score.cell in wanted]


def main(arguments: Arguments) -> None:
    """Train what is not there yet, judge, report."""
    digits = digit_sets(arguments.data_root, arguments.download)
    config = resolve(arguments, digits)
    model, config = frozen_model(arguments, config, digits)
    arguments.out.mkdir(parents=True, exist_ok=True)
    scores = score_all(model, config, digits, arguments.out)
    commit, out = current_commit(), arguments.out
    about = {"data": digits.source, "overlap_rule": config.sprites.images.rule, "variant": model.config.variant}
    about |= {"num_test_images": config.num_test_images, "seeds": list(config.seeds), "commit": commit}
    summary = downstream_summary(scores) | about | {"seconds": sum(score.seconds for score in scores)}
    write_json(out / RESULTS_FILE, summary)
    write_text(out / "scores.csv", downstream_csv(scores))
    provenance = Provenance("python " + " ".join(sys.argv), None, commit, package_versions())
    write_downstream_report(out / REPORT_FILE, scores, summary, provenance, config)
    print(f"\n{downstream_text(scores, digits.source)}\n\nresults: {out / RESULTS_FILE}\nreport:  {out / REPORT_FILE}")


if __name__ == "__main__":
    run_command(main, Arguments, interrupted="stopped; run the same command again to go on")
