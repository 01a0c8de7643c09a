"""What the experiment on characters is told, its drawings, and its training."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inverse_graphics.config import FieldError
from inverse_graphics.runs import Journal
from inverse_graphics.sprites.parts import PartTruth
from inverse_graphics.sprites.steps import Variant
from inverse_graphics.sprites.stroke_model import StrokeModel
from inverse_graphics.sprites.stroke_refinement import StrokeRefinement
from inverse_graphics.sprites.stroke_training import StrokeLoss, StrokeTraining
from inverse_graphics.sprites.strokes import StrokeConfig, StrokeSizes
from inverse_graphics.training import TrainState, train
from scenes.flat.characters import CharacterBatch, Characters, character_stream, select, split_by_alphabet, split_by_drawer
from scenes.flat.omniglot import Part, load_omniglot
from scenes.flat.pen_strokes import PenConfig, embedded_characters
from scenes.stream import BatchStream

SHOWN = ("bound", "bound expected count", "bound KL latents")
"""Terms beside the progress bar."""
PEN_SEED = 0
"""Of the made-up alphabets: the same in every run, as Omniglot's are."""


@dataclass(frozen=True)
class Config:
    """Everything that decides a run; saved as config.yaml."""

    pen: PenConfig = PenConfig()
    """Made-up characters, where no data are named."""
    num_alphabets: int = 30
    """How many made-up alphabets."""
    part: Part = "background"
    """Which set of Omniglot, where data are named."""
    held_out_share: float = 0.2
    """Share of the alphabets, and of the drawers, that nothing is trained on: the last ones."""
    variant: Variant = "dair"
    """air or dair."""
    max_objects: int = 4
    """Steps, each a stroke at the most."""
    sizes: StrokeSizes = StrokeSizes()
    """Of the model."""
    training: StrokeTraining = StrokeTraining()
    """How it is trained."""
    refinement: StrokeRefinement = StrokeRefinement()
    """How strokes are refined when the model is judged."""
    seed: int = 0
    """Of the weights, the training images and every draw."""
    num_eval_images: int = 500
    """Held-out drawings of each kind; fewer where there are fewer."""
    eval_seed: int = 0
    """Decides which of them."""
    data: str = ""
    """Where the drawings came from; filled in by the run."""

    def __post_init__(self) -> None:
        if self.num_alphabets < 2:
            raise FieldError("num_alphabets", "at least 2", self.num_alphabets, "raise it")
        if not 0 < self.held_out_share < 1:
            raise FieldError("held_out_share", "a share above 0 and below 1", self.held_out_share, "use for example 0.2")
        for name, least in (("max_objects", 1), ("num_eval_images", 1), ("seed", 0), ("eval_seed", 0)):
            if getattr(self, name) < least:
                raise FieldError(name, f"at least {least}", getattr(self, name), "raise it")


@dataclass(frozen=True)
class CharacterSets:
    """Drawings to train on, and those by which nothing was trained."""

    train: Characters
    """Drawn in training."""
    held_out_drawers: Characters
    """Alphabets of training by other drawers."""
    held_out_alphabets: Characters
    """Other alphabets, by all drawers."""

    @property
    def source(self) -> str:
        """Where they come from, for reports."""
        sizes = f"train {len(self.train)}, other drawers {len(self.held_out_drawers)}"
        return f"{self.train.source} ({sizes}, other alphabets {len(self.held_out_alphabets)})"


def character_sets(config: Config, data_root: Path | None) -> CharacterSets:
    """Omniglot from a folder, made-up characters where there is none.

    Raises:
        ValueError: files are missing or damaged, or there are too few alphabets or drawers to hold some out.
    """
    canvas_px = config.pen.canvas_px
    if data_root is None:
        drawings = embedded_characters(config.pen, PEN_SEED, range(config.num_alphabets))
    else:
        drawings = load_omniglot(config.part, data_root, canvas_px)
    # a drawing whose ink is all too faint for a grey level cannot be judged
    drawings = select(drawings, np.flatnonzero((drawings.stroke_ids >= 0).any((1, 2))))
    alphabets = drawings.alphabets[-_held_out(len(drawings.alphabets), config.held_out_share) :]
    known, others = split_by_alphabet(drawings, alphabets)
    drawers = sorted(set(known.drawer_ids.tolist()))
    kept, other_drawers = split_by_drawer(known, drawers[-_held_out(len(drawers), config.held_out_share) :])
    return CharacterSets(kept, other_drawers, others)


def _held_out(count: int, share: float) -> int:
    return max(1, math.floor(count * share))


def stroke_config(config: Config) -> StrokeConfig:
    """The model."""
    return StrokeConfig(config.variant, config.pen.canvas_px, config.max_objects, config.sizes)


def train_run(config: Config, characters: CharacterSets, run: Path, state: TrainState[StrokeModel]) -> Journal:
    """Train a run to its end; returns its journal."""
    training, device = config.training, next(state.model.parameters()).device
    start = state.step * training.batch_size
    with (
        character_stream(characters.train, training.batch_size, config.seed, start) as stream,
        Journal(run, training.steps, state.step, shown=SHOWN) as journal,
    ):
        train(state, on_device(stream, device), StrokeLoss(training), training, journal)
    return journal


def on_device(stream: BatchStream[CharacterBatch], device: torch.device) -> Iterator[Tensor]:
    """The images of a stream, where the model is."""
    for batch in stream:
        yield batch.images.to(device, non_blocking=True)


def held_out(characters: Characters, count: int, seed: int, device: torch.device, chunk: int = 100) -> Iterator[PartTruth]:
    """Some of the drawings, each once, in an order that the seed decides."""
    order = torch.randperm(len(characters), generator=torch.Generator().manual_seed(seed))[:count].numpy()
    for start in range(0, len(order), chunk):
        chosen = select(characters, order[start : start + chunk])
        images = torch.from_numpy(chosen.images).to(device, torch.float32) / 255
        yield PartTruth(images, torch.from_numpy(chosen.stroke_ids).to(device))
