"""What the experiments on digits share: their config, digits and canvases, training, held-out images."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from inverse_graphics.estimators import Estimator
from inverse_graphics.runs import Journal
from inverse_graphics.sprites.evaluation import FlatTruth
from inverse_graphics.sprites.looking import Looking
from inverse_graphics.sprites.model import SpriteConfig, SpriteModel, SpriteSizes
from inverse_graphics.sprites.steps import Variant
from inverse_graphics.sprites.training import SpriteLoss, SpriteTraining
from inverse_graphics.training import TrainState, train
from scenes.flat.digits import Digits, load_digits
from scenes.flat.downloads import MNIST_FILES, fetch
from scenes.flat.multi_mnist import FlatBatch, FlatConfig, compose, digit_stream
from scenes.stream import BatchStream

SHOWN = ("bound", "bound expected count", "bound KL latents")
"""Terms beside the progress bar."""


@dataclass(frozen=True)
class Config:
    """Everything that decides a run; saved as config.yaml."""

    images: FlatConfig = FlatConfig()
    """What is on the canvases."""
    variant: Variant = "dair"
    """air or dair."""
    max_objects: int | None = None
    """Steps; one more than there are digits where null."""
    sizes: SpriteSizes = SpriteSizes()
    """Of the model."""
    training: SpriteTraining = SpriteTraining()
    """How it is trained."""
    estimator: Estimator = "exact"
    """How the count is trained."""
    seed: int = 0
    """Of the weights, the training images and every draw."""
    reaches: tuple[float, ...] = Looking().reaches
    """How far aside the first step looks when images are explained again, see ``sprites.looking``; none: the guide alone."""
    num_eval_images: int = 5000
    """Held-out images."""
    eval_seed: int = 0
    """Of the held-out images; never those of any training seed."""
    data: str = ""
    """Where the digits came from; filled in by the run."""

    @property
    def looking(self) -> Looking:
        """How images are explained when the model is judged."""
        return Looking(self.reaches, image=self.training.image, count_ratio=self.training.count_ratio)


@dataclass(frozen=True)
class DigitSets:
    """Digits to train on, and digits by which nothing was trained."""

    train: Digits
    """Drawn in training."""
    test: Digits
    """Drawn in held-out images."""

    @property
    def source(self) -> str:
        """Where they come from, for reports."""
        return f"{self.train.source} (train {len(self.train)}, test {len(self.test)} digits)"


def digit_sets(data_root: Path | None, download: bool) -> DigitSets:
    """MNIST from a folder, downloaded into it first where asked; the digits that scikit-learn ships where there is no folder.

    Raises:
        ValueError: ``download`` without a folder, or files that are missing or damaged.
        OSError: nothing could be downloaded.
    """
    if download:
        if data_root is None:
            raise ValueError("--download: expected --data-root, a folder to download to, got none; name one")
        fetch(MNIST_FILES, data_root)
    return DigitSets(load_digits("train", data_root), load_digits("test", data_root))


def sprite_config(images: FlatConfig, variant: Variant, max_objects: int | None, sizes: SpriteSizes) -> SpriteConfig:
    """The model that fits a family of canvases; one step more than there are digits where ``max_objects`` is None.

    Raises:
        ValueError: fewer steps than there are digits.
    """
    most = max(images.counts)
    if max_objects is not None and max_objects < most:
        raise ValueError(f"max_objects: expected at least {most}, the largest of counts, got {max_objects}; raise it")
    return SpriteConfig(variant, images.canvas_px, max_objects or most + 1, sizes)


def training_images(digits: Digits, images: FlatConfig, batch_size: int, seed: int, start: int) -> BatchStream[FlatBatch]:
    """Batches of training images, made ahead; no seed's are held-out images of any."""
    return digit_stream(digits, images, batch_size, 2 * seed + 1, start)


def train_run(config: Config, digits: DigitSets, run: Path, state: TrainState[SpriteModel]) -> Journal:
    """Train a run to its end; returns its journal."""
    training, device = config.training, next(state.model.parameters()).device
    start = state.step * training.batch_size
    with (
        training_images(digits.train, config.images, training.batch_size, config.seed, start) as stream,
        Journal(run, training.steps, state.step, shown=SHOWN) as journal,
    ):
        train(state, on_device(stream, device), SpriteLoss(training, config.estimator), training, journal)
    return journal


def on_device(stream: BatchStream[FlatBatch], device: torch.device) -> Iterator[Tensor]:
    """The images of a stream, where the model is."""
    for batch in stream:
        yield batch.images.to(device, non_blocking=True)


def held_out(digits: Digits, images: FlatConfig, count: int, seed: int, chunk: int = 500) -> Iterator[FlatTruth]:
    """Images that no training seed makes."""
    for start in range(0, count, chunk):
        batch = compose(digits, images, 2 * seed, range(start, min(start + chunk, count)))
        yield FlatTruth(batch.images, batch.counts, batch.boxes[..., :2], batch.present)


def of_count(images: FlatConfig, count: int) -> FlatConfig:
    """The same family with one number of digits alone."""
    return dataclasses.replace(images, counts=(count,))
