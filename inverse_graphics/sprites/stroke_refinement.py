"""Inverting the decoder on top of the guide: strokes moved uphill, joined, and left out where that is cheaper.

The guide says at once roughly which strokes there are.  What is raised then is

    log p(x | strokes) + sum_i [log p(where_i) + log p(what_i) - price]

whose price stands for what the bound charges for a stroke beside its prior density: the entropy of q, which a point has not, and
the count's prior.  Gradients cannot make one stroke of two, so every round tries the best of the pairs: both ways are refined,
and the better one is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from inverse_graphics.config import FieldError
from inverse_graphics.sprites.objective import ImageModel
from inverse_graphics.sprites.stroke_merging import merge_strokes, pairs_of
from inverse_graphics.sprites.stroke_model import StrokeModel

BETAS = (0.8, 0.95)
"""Of Adam: rounds are short."""


@dataclass(frozen=True)
class StrokeRefinement:
    """How strokes are refined."""

    rounds: int = 4
    """How often a pair is tried as one stroke; the guide alone where 0."""
    steps: int = 40
    """Gradient steps a round."""
    rate: float = 0.1
    """Adam's rate in a round's first steps, falling to a tenth; in standard deviations of the prior."""
    price: float = 30.0
    """Nats that a stroke costs beside its prior density."""

    def __post_init__(self) -> None:
        for name in ("rounds", "steps", "price"):
            if getattr(self, name) < 0:
                raise FieldError(name, "at least 0", getattr(self, name), "use 0 rounds for the guide alone")
        if not self.rate > 0:
            raise FieldError("rate", "a positive number", self.rate, "use for example 0.1")


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


@dataclass(frozen=True)
class _Guess:
    """Strokes as they are moved: windows in standard deviations from the prior's mean, then curves and pens."""

    latents: Float[Tensor, "b n l"]
    present: Bool[Tensor, "b n"]


@dataclass(frozen=True)
class _Problem:
    """What is explained, and by which strokes."""

    model: StrokeModel
    images: Float[Tensor, "b h w"]
    price: float

    def twice(self) -> _Problem:
        """The same images twice."""
        return _Problem(self.model, self.images.repeat(2, 1, 1), self.price)

    def where(self, latents: Float[Tensor, "*b l"]) -> Float[Tensor, "*b 3"]:
        """Windows."""
        config = self.model.config
        return latents.new_tensor(config.where_mean) + latents.new_tensor(config.where_std) * latents[..., :3]

    def latents(self, where: Float[Tensor, "*b 3"], what: Float[Tensor, "*b z"]) -> Float[Tensor, "*b l"]:
        """Latents of windows, curves and pens."""
        config = self.model.config
        return torch.cat([(where - where.new_tensor(config.where_mean)) / where.new_tensor(config.where_std), what], -1)

    def draw(self, latents: Float[Tensor, "b n l"]) -> Float[Tensor, "b n h w"]:
        """Densities."""
        flat = latents.flatten(0, 1)
        return self.model.decoder(flat[:, 3:], self.where(flat)).unflatten(0, latents.shape[:2])

    def scores(
        self, densities: Float[Tensor, "b n h w"], latents: Float[Tensor, "b n l"], present: Bool[Tensor, "b m n"]
    ) -> Float[Tensor, "b m"]:
        """What is raised, for m choices of the strokes."""
        held = present.to(densities)
        canvases = (held @ densities.flatten(2)).unflatten(-1, self.images.shape[1:])
        cost = 0.5 * latents.square().sum(-1) + self.price
        return ImageModel("ink").log_likelihood(self.images, canvases) - (held * cost[:, None]).sum(-1)


def refine_strokes(model: StrokeModel, images: Float[Tensor, "b h w"], strokes: Strokes, refinement: StrokeRefinement) -> Strokes:
    """Strokes that explain images better; weights of the model are left alone, and no gradient is kept.

    Args:
        model: whose decoder draws.
        images: ink, 0..1.
        strokes: where to start.
        refinement: how.
    """
    problem = _Problem(model, images, refinement.price)
    guess = _Guess(problem.latents(strokes.where, strokes.what).detach(), strokes.present)
    for _ in range(refinement.rounds):
        both = _refined(problem.twice(), _joined(guess, _with_one_pair_merged(problem, guess)), refinement)
        guess = _better_half(problem.twice(), both)
    with torch.no_grad():
        return Strokes(problem.where(guess.latents), guess.latents[..., 3:].clone(), guess.present, problem.draw(guess.latents))


def _refined(problem: _Problem, guess: _Guess, refinement: StrokeRefinement) -> _Guess:
    """Gradient steps, then the best change of one stroke's presence."""
    latents = guess.latents.clone().requires_grad_()
    present = guess.present[:, None]
    optimizer = torch.optim.Adam([latents], betas=BETAS)
    for step in range(refinement.steps):
        optimizer.param_groups[0]["lr"] = refinement.rate * (1 - 0.9 * step / refinement.steps)
        with torch.enable_grad():
            score = problem.scores(problem.draw(latents), latents, present).sum()
            (gradient,) = torch.autograd.grad(score, latents)
        latents.grad = -gradient
        optimizer.step()
    latents = latents.detach()
    with torch.no_grad():
        flips = torch.eye(present.shape[-1], dtype=torch.bool, device=present.device)
        choices = torch.cat([present, present ^ flips], 1)
        best = problem.scores(problem.draw(latents), latents, choices).argmax(-1)
    return _Guess(latents, choices[torch.arange(len(choices), device=best.device), best])


def _with_one_pair_merged(problem: _Problem, guess: _Guess) -> _Guess:
    """The guess with that pair of strokes as one that then explains the image best; unchanged where there is no pair."""
    with torch.no_grad():
        count = guess.present.shape[1]
        pairs = pairs_of(count, guess.present.device)
        if not len(pairs):
            return guess
        chosen = guess.latents[:, pairs].flatten(0, 1)
        merged = problem.latents(*merge_strokes(problem.model.decoder, problem.where(chosen), chosen[..., 3:]))
        merged = merged.unflatten(0, (-1, len(pairs)))
        old, new = problem.draw(guess.latents), problem.draw(merged)
        rows = torch.arange(len(old), device=old.device)
        best = torch.full_like(old[:, 0, 0, 0], -torch.inf)
        latents, present = guess.latents, guess.present
        for number, (i, j) in enumerate(pairs.tolist()):
            densities, tried, held = old.clone(), guess.latents.clone(), guess.present.clone()
            densities[:, i], tried[:, i] = new[:, number], merged[:, number]
            held[:, j] = False
            score = problem.scores(densities, tried, held[:, None])[:, 0]
            better = (score > best) & guess.present[rows, i] & guess.present[rows, j]
            best = torch.where(better, score, best)
            latents = torch.where(better[:, None, None], tried, latents)
            present = torch.where(better[:, None], held, present)
    return _Guess(latents, present)


def _joined(first: _Guess, second: _Guess) -> _Guess:
    return _Guess(torch.cat([first.latents, second.latents]), torch.cat([first.present, second.present]))


def _better_half(problem: _Problem, both: _Guess) -> _Guess:
    """Of each image's two guesses the one with the higher score."""
    with torch.no_grad():
        score = problem.scores(problem.draw(both.latents), both.latents, both.present[:, None])[:, 0]
    first, second = score.chunk(2)
    rows = torch.arange(len(first), device=first.device)
    rows = torch.where(second > first, rows + len(first), rows)
    return _Guess(both.latents[rows], both.present[rows])
