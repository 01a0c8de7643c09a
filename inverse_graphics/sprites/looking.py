"""Looking again: an image is explained several times, the first step looking elsewhere each time, and the best bound decides.

A window that lands between two digits, or off the middle of one, spoils all that follows it, and nothing in the guide goes back.
Looking first a little to every side of the place that was found, and going on from there, costs a run each and needs no labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_graphics.config import FieldError
from inverse_graphics.sprites.explaining import SpritePosterior, check_grey
from inverse_graphics.sprites.model import SpriteModel
from inverse_graphics.sprites.objective import ImageModel, count_log_prior, terms_of


@dataclass(frozen=True)
class Looking:
    """How images are explained when a model is used."""

    reaches: tuple[float, ...] = (0.24, 0.48)
    """How far from its place the first step looks, in sides of a window of the prior's size; none: images are explained once."""
    directions: int = 8
    """Sides to which it looks, for each reach."""
    image: ImageModel = field(default_factory=ImageModel)
    """p(x | canvas), as in training."""
    count_ratio: float = 1e-7
    """p(n) is proportional to this to the power of n, as in training."""

    def __post_init__(self) -> None:
        if self.directions < 1 or any(not 0 < reach <= 1 for reach in self.reaches):
            raise FieldError(
                "reaches", "shares of a window above 0, at most 1, and directions at least 1", self.reaches, "use 0.2"
            )

    def moves(self, window: float) -> Float[Tensor, "m 2"]:
        """Moves for a window of a side in shares of the canvas: (x, y), the canvas reaching from -1 to 1; none first."""
        turns = torch.arange(self.directions) * (2 * math.pi / self.directions)
        ring = torch.stack([turns.cos(), turns.sin()], -1)
        return torch.cat([torch.zeros(1, 2), *(2 * window * reach * ring for reach in self.reaches)])


ONCE = Looking(reaches=())
"""Images are explained once: the guide alone."""


def look(model: SpriteModel, images: Float[Tensor, "b h w"], looking: Looking, max_objects: int | None = None) -> SpritePosterior:
    """The best explanation of each image, at the means; no gradient.

    Args:
        model: a trained model.
        images: on the model's device.
        looking: where to look, and what the bound is made of.
        max_objects: steps; the model's own number where None.

    Raises:
        ValueError: images of another size than the model's canvas, or not of grey values in 0..1.
    """
    check_grey(images)
    config = model.config
    log_p = count_log_prior(max_objects or config.max_objects, looking.count_ratio)
    moves = looking.moves(1 / config.where_mean[0]).to(images)
    with torch.no_grad():
        if len(moves) == 1:
            return model(images, max_objects=max_objects)
        bounds = []
        for move in moves:
            found = model(images, max_objects=max_objects, move=move.expand(len(images), 2))
            bounds.append(terms_of(found, images, looking.image, config.where_mean, config.where_std, log_p).bound)
        return model(images, max_objects=max_objects, move=moves[torch.stack(bounds).argmax(0)])
