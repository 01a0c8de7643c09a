"""What the experiment on pairs of digits asks its readers: labelled images, and one fit of each reader."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from setup2d import Config, of_count
from torch import Tensor, nn

from inverse_graphics.downstream.fitting import FitConfig, answer_all, fit_best
from inverse_graphics.downstream.latents import PAIR, PairLatents, pair_latents
from inverse_graphics.downstream.readers import LatentReader, PixelReader
from inverse_graphics.downstream.tasks import DIGITS, NUM_NAMES, Task, answer_log_probabilities, answers, in_order, left_first
from inverse_graphics.downstream.variation import varied
from inverse_graphics.reporting.downstream_report import Score
from inverse_graphics.sprites.model import SpriteModel
from scenes.flat.digits import Digits
from scenes.flat.multi_mnist import compose

LABELLED_SEEDS = 1_000_000
"""Labelled images have seeds from here on, so that they are none of those that a sprite model of a usual seed was trained on."""


@dataclass(frozen=True)
class PairSet:
    """Images of two digits, what is on them, and what the sprite model says of them."""

    images: Float[Tensor, "n h w"]
    """Grey values."""
    digits: Int[Tensor, "n 2"]
    """The digits, the left one first."""
    latents: PairLatents
    """Of the same images."""

    def first(self, count: int) -> PairSet:
        """The first so many: fewer labels are always some of the more."""
        return PairSet(self.images[:count], self.digits[:count], self.latents.first(count))

    @property
    def rows(self) -> Int[Tensor, "n"]:
        """Numbers of all images."""
        return torch.arange(len(self.digits), device=self.digits.device)

    def answers(self, task: Task) -> Int[Tensor, "n"]:
        """The right ones."""
        return answers(task, self.digits[:, 0], self.digits[:, 1])


def labelled_pairs(model: SpriteModel, digits: Digits, sprites: Config, count: int, seed: int, device: torch.device) -> PairSet:
    """Labelled images 0..count-1 of a seed; ``sprites`` is the model's run."""
    return _pairs(model, digits, sprites, 2 * (LABELLED_SEEDS + seed) + 1, count, device)


def held_out_pairs(model: SpriteModel, digits: Digits, sprites: Config, count: int, seed: int, device: torch.device) -> PairSet:
    """Images 0..count-1 that no training seed makes."""
    return _pairs(model, digits, sprites, 2 * seed, count, device)


def _pairs(
    model: SpriteModel, digits: Digits, sprites: Config, number: int, count: int, device: torch.device, chunk: int = 500
) -> PairSet:
    family = of_count(sprites.images, PAIR)
    parts = [compose(digits, family, number, range(i, min(i + chunk, count))) for i in range(0, count, chunk)]
    pictures = torch.cat([part.images for part in parts]).to(device)
    boxes = torch.cat([part.boxes for part in parts])
    ordered = in_order(left_first(boxes[..., 0], boxes[..., 1]), torch.cat([part.labels for part in parts]))
    return PairSet(pictures, ordered.to(device), pair_latents(model, pictures, sprites.looking))


def fit_latents(task: Task, model: SpriteModel, labelled: PairSet, test: PairSet, config: FitConfig, seed: int) -> Score:
    """Train the structured reader on latents and judge it; nothing of the sprite model is changed."""
    device = labelled.images.device

    def build() -> nn.Module:
        return LatentReader(task, model.config.sizes.window_px, config.hidden, config.dropout).to(device)

    def digits(reader: nn.Module, of: PairSet, rows: Tensor, generator: torch.Generator | None) -> Tensor:
        with torch.no_grad():
            sprites = model.decoder.sprites(of.latents.draw(rows, generator).flatten(0, 1))
        if generator is not None:
            sprites = varied(sprites, config.variation, generator)
        return reader(sprites.unflatten(0, (-1, PAIR)))

    def answer(reader: nn.Module, rows: Tensor, generator: torch.Generator | None) -> Tensor:
        return answer_log_probabilities(task, *digits(reader, labelled, rows, generator).unbind(1))

    reader, done = fit_best(build, answer, labelled.answers(task), config, seed)
    named = answer_all(reader, lambda net, *asked: digits(net, test, *asked), test.rows)
    told = answer_log_probabilities(task, *named.unbind(1))
    digit_accuracy = float((named.argmax(-1) == test.digits).float().mean()) if NUM_NAMES[task] == DIGITS else None
    return _score(task, "latents", labelled, told, test, seed, digit_accuracy, dataclasses.astuple(done))


def fit_pixels(task: Task, labelled: PairSet, test: PairSet, config: FitConfig, seed: int) -> Score:
    """Train the convolutional network on pixels and judge it."""
    device = labelled.images.device

    def build() -> nn.Module:
        return PixelReader(task, labelled.images.shape[-1], config.hidden, config.dropout).to(device)

    def answer(reader: nn.Module, of: PairSet, rows: Tensor, generator: torch.Generator | None) -> Tensor:
        images = of.images[rows]
        return reader(images if generator is None else varied(images, config.variation, generator))

    reader, done = fit_best(build, lambda net, *asked: answer(net, labelled, *asked), labelled.answers(task), config, seed)
    told = answer_all(reader, lambda net, *asked: answer(net, test, *asked), test.rows)
    return _score(task, "pixels", labelled, told, test, seed, None, dataclasses.astuple(done))


def _score(
    task: Task,
    reader: str,
    labelled: PairSet,
    told: Float[Tensor, "n answers"],
    test: PairSet,
    seed: int,
    digit_accuracy: float | None,
    fit: tuple[float, int, int, float],
) -> Score:
    accuracy = float((told.argmax(-1) == test.answers(task)).float().mean())
    return Score(task, reader, len(labelled.digits), seed, accuracy, digit_accuracy, *fit)
