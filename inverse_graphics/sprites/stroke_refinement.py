"""Inverting the decoder on top of the guide: strokes moved uphill through the renderer, and those that are not worth their nats left out.

The guide says at once roughly which strokes there are; gradient steps on windows and strokes then raise

    log p(x | strokes) + sum_i [log p(where_i) + log p(what_i)] / 1 - n * price

where the price of a stroke stands for what the bound charges for it beside its prior density: the entropy of q that a point has not,
and the count's prior.  A stroke is dropped where the image is explained as well, less its price, by the others.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from inverse_graphics.config import FieldError
from inverse_graphics.sprites.objective import ImageModel
from inverse_graphics.sprites.stroke_model import StrokeModel

BETWEEN = 4
"""Strokes are dropped in so many rounds, evenly spread over the steps."""


@dataclass(frozen=True)
class StrokeRefinement:
    """How strokes are refined."""

    steps: int = 60
    """Gradient steps; none where 0."""
    rate: float = 0.05
    """Adam's rate at first, falling to a tenth; in standard deviations of the prior."""
    price: float = 15.0
    """Nats that a stroke costs beside its prior density."""

    def __post_init__(self) -> None:
        if self.steps < 0:
            raise FieldError("steps", "at least 0", self.steps, "use 0 for the guide alone")
        if not self.rate > 0 or self.price < 0:
            raise FieldError("rate", "a positive number, price at least 0", self.rate, "use for example 0.05 and 15")


@dataclass(frozen=True)
class Strokes:
    """Strokes of images."""

    where: Float[Tensor, "b n 3"]
    """Windows."""
    what: Float[Tensor, "b n z"]
    """Curves and pens."""
    present: Bool[Tensor, "b n"]
    """Which of them are there."""
    densities: Float[Tensor, "b n h w"]
    """Ink of each alone, whether it is there or not."""


def refine_strokes(
    model: StrokeModel, images: Float[Tensor, "b h w"], strokes: Strokes, refinement: StrokeRefinement
) -> Strokes:
    """Strokes that explain images better; weights of the model are left alone.

    Args:
        model: whose decoder draws.
        images: ink, 0..1.
        strokes: where to start; strokes that are not there are moved too, and may come in.
        refinement: how.
    """
    mean, std = (images.new_tensor(values) for values in (model.config.where_mean, model.config.where_std))
    latents = torch.cat([(strokes.where - mean) / std, strokes.what], -1).detach().clone().requires_grad_()
    present = strokes.present
    # an Adam of one's own: rows of a batch are independent, and no weight of the model is to move
    optimizer = torch.optim.Adam([latents], lr=refinement.rate, betas=(0.8, 0.95))
    every = max(1, refinement.steps // BETWEEN)
    for step in range(refinement.steps):
        optimizer.param_groups[0]["lr"] = refinement.rate * (1 - 0.9 * step / refinement.steps)
        with torch.enable_grad():
            densities = draw(model, latents * 1.0, mean, std)
            score = _scores(images, densities, latents, present[:, None], 0.0)[:, 0]
            (latents.grad,) = torch.autograd.grad(-score.sum(), latents)
        optimizer.step()
        if step % every == every - 1:
            with torch.no_grad():
                present = _best_change(images, draw(model, latents, mean, std), latents, present, refinement.price)
    with torch.no_grad():
        densities = draw(model, latents, mean, std)
        present = _best_change(images, densities, latents, present, refinement.price)
    latents = latents.detach()
    return Strokes(mean + std * latents[..., :3], latents[..., 3:], present, densities)


def draw(model: StrokeModel, latents: Float[Tensor, "b n l"], mean: Tensor, std: Tensor) -> Float[Tensor, "b n h w"]:
    """Densities of strokes whose windows are given in standard deviations from the prior's mean."""
    flat = latents.flatten(0, 1)
    return model.decoder(flat[:, 3:], mean + std * flat[:, :3]).unflatten(0, latents.shape[:2])


def _scores(
    images: Float[Tensor, "b h w"],
    densities: Float[Tensor, "b n h w"],
    latents: Float[Tensor, "b n l"],
    present: Bool[Tensor, "b m n"],
    price: float,
) -> Float[Tensor, "b m"]:
    """Log joint of m choices of strokes, less their price."""
    held = present.to(densities)
    canvases = (held.flatten(-1) @ densities.flatten(2)).unflatten(-1, images.shape[1:])
    cost = 0.5 * latents.square().sum(-1) + price
    return ImageModel("ink").log_likelihood(images, canvases) - (held * cost[:, None]).sum(-1)


def _best_change(
    images: Tensor, densities: Tensor, latents: Tensor, present: Bool[Tensor, "b n"], price: float
) -> Bool[Tensor, "b n"]:
    """The strokes after the best of: no change, one stroke left out, one put in."""
    flips = torch.eye(present.shape[1], dtype=torch.bool, device=present.device)
    choices = torch.cat([present[:, None], present[:, None] ^ flips], 1)
    best = _scores(images, densities, latents, choices, price).argmax(-1)
    return choices[torch.arange(len(choices), device=best.device), best]
