"""Frozen latents of pairs of digits: inferred once, then drawn again for every batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_graphics.downstream.tasks import in_order, left_first
from inverse_graphics.sprites.latents import Gaussian
from inverse_graphics.sprites.looking import ONCE, Looking, look
from inverse_graphics.sprites.model import SpriteModel

PAIR = 2
"""Steps of the model that are read; it is known that there are two digits."""
CHUNK = 500


@dataclass(frozen=True)
class PairLatents:
    """What a model says of the two digits of n images, the left one first: all that the structured reader sees of an image."""

    what: Gaussian
    """[n 2 z] q(what)."""
    centres: Float[Tensor, "n 2 2"]
    """(x, y) of what is drawn for either digit, in -1..1 of the canvas."""

    def first(self, count: int) -> PairLatents:
        """Those of the first so many images."""
        return PairLatents(Gaussian(self.what.mean[:count], self.what.std[:count]), self.centres[:count])

    def draw(self, rows: Int[Tensor, "b"], generator: torch.Generator | None) -> Float[Tensor, "b 2 z"]:
        """Appearances of some images: drawn, or their means without a generator."""
        chosen = Gaussian(self.what.mean[rows], self.what.std[rows])
        return chosen.mean if generator is None else chosen.draw(generator)


def pair_latents(model: SpriteModel, images: Float[Tensor, "n h w"], looking: Looking = ONCE) -> PairLatents:
    """Infer images of two digits.

    Left is where the centre of mass of a step's own layer is: a window may stand a pixel off, and the sprite makes up for it.

    Args:
        model: a trained model; nothing of it is changed.
        images: on the model's device.
        looking: whether images are explained once or again.

    Raises:
        ValueError: the model takes fewer than two steps, or as ``look`` says of images.
    """
    if model.config.max_objects < PAIR:
        raise ValueError(
            f"model: expected at least {PAIR} steps, received max_objects={model.config.max_objects}; train it on images of two"
        )
    parts: list[tuple[Tensor, ...]] = []
    for chunk in images.split(CHUNK):
        posterior = look(model, chunk, looking, PAIR)
        centres = centres_of_mass(posterior.layers)
        first = left_first(centres[..., 0], centres[..., 1])
        parts.append(tuple(in_order(first, value) for value in (posterior.what.mean, posterior.what.std, centres)))
    mean, std, centres = (torch.cat(values) for values in zip(*parts, strict=True))
    return PairLatents(Gaussian(mean, std), centres)


def centres_of_mass(layers: Float[Tensor, "*b h w"]) -> Float[Tensor, "*b 2"]:
    """(x, y) of pictures' centres of mass, in -1..1 from edge to edge; 0 where a picture is black."""
    height, width = layers.shape[-2:]
    mass = layers.sum((-2, -1)).clamp(min=1e-6)
    x, y = ((2 * torch.arange(size, device=layers.device) + 1 - size) / size for size in (width, height))
    return torch.stack([(layers.sum(-2) * x).sum(-1) / mass, (layers.sum(-1) * y).sum(-1) / mass], -1)
