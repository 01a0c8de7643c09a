"""Training steps of the 2-D case a second, at the paper's network sizes: AIR and DAIR in turn, one core and two.

    python benchmarks/sprite_training.py --json sprite_training.json

A step is that of ``experiments/multi_mnist.py``: batches of 64 canvases of 50 x 50 pixels, made in a background thread from the
digits that scikit-learn ships, three steps of the guide, the bound with the count summed, one step of Adam.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    # python put benchmarks/ first, where this file would hide modules of the same name
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import torch
import tyro

from benchmarks.timing import use_cores
from experiments.setup2d import Config, DigitSets, digit_sets, on_device, sprite_config, training_images
from inverse_graphics.sprites.steps import Variant
from inverse_graphics.sprites.training import SpriteLoss, sprite_state
from inverse_graphics.training import TrainState, train

CPU = torch.device("cpu")
SECTION = 50
"""Steps of a side before the other has its turn."""


@dataclass(frozen=True)
class Settings:
    """What is timed."""

    json: Path | None = None
    """Where to write the figures."""
    variants: tuple[Variant, ...] = ("air", "dair")
    """Guides."""
    cores: tuple[int, ...] = (2, 1)
    """Numbers of processor cores."""
    turns: int = 4
    """Turns of ``SECTION`` steps of each side; the first of each warms up and is not counted."""
    batch_size: int = 64
    """Images a step."""


def timed_steps(config: Config, digits: DigitSets, turn: int) -> list[float]:
    """Seconds of the steps of one turn, the first few left out."""
    training = config.training
    state = sprite_state(sprite_config(config.images, config.variant, None, config.sizes), turn, CPU)
    ends: list[float] = []

    def note(state: TrainState, scalars: dict[str, float]) -> None:
        ends.append(time.perf_counter())

    with training_images(digits.train, config.images, training.batch_size, turn, 0) as stream:
        train(state, on_device(stream, CPU), SpriteLoss(training, config.estimator), training, note)
    return [after - before for before, after in zip(ends[4:], ends[5:], strict=False)]


def main(settings: Settings) -> None:
    """Time all sides in turn, print steps a second, write the figures."""
    if settings.turns < 2:
        raise ValueError(f"--turns: expected at least 2, the first of which warms up, got {settings.turns}; raise it")
    digits, base = digit_sets(None, download=False), Config()
    training = dataclasses.replace(base.training, steps=SECTION, batch_size=settings.batch_size)
    base = dataclasses.replace(base, training=training)
    figures: dict[str, float | int | str] = {}
    for cores in sorted(settings.cores, reverse=True):  # cores given up are gone for this process
        got = use_cores(cores)
        seconds: dict[Variant, list[float]] = {variant: [] for variant in settings.variants}
        for turn in range(settings.turns):
            for variant, spent in seconds.items():
                steps = timed_steps(dataclasses.replace(base, variant=variant), digits, turn)
                spent.extend(steps if turn else [])
        for variant, spent in seconds.items():
            name = f"{variant}_{got}_cores_steps_per_second"
            figures |= {f"{name}_median": 1 / statistics.median(spent), f"{name}_mean": len(spent) / sum(spent)}
            print(f"{variant:5s} {got} cores: {1 / statistics.median(spent):6.1f} steps/s in the median of {len(spent)}")
    figures |= {"batch_size": settings.batch_size, "torch_version": torch.__version__}
    if settings.json is not None:
        settings.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main(tyro.cli(Settings))
