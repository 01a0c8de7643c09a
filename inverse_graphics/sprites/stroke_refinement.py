"""Inverting the decoder on top of the guide: strokes moved uphill from several starts, and left out where that is cheaper.

The guide says at once roughly which strokes there are.  What is raised then is

    log p(x | strokes) + sum_i [log p(where_i) + log p(what_i) - price]

whose price stands for what the bound charges for a stroke beside its prior density: the entropy of q, which a point has not, and
the count's prior.  Gradients cannot make one stroke of two, nor find a way through a crossing: other starts are strokes traced
along the ink (``stroke_tracing``), with each number of strokes, and later, if asked for, pairs of strokes as one.  All are
refined, and of each image's the best is kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_graphics.config import FieldError
from inverse_graphics.sprites.explaining import check_grey
from inverse_graphics.sprites.objective import ImageModel
from inverse_graphics.sprites.stroke_merging import merge_strokes, pairs_of
from inverse_graphics.sprites.stroke_model import StrokeModel
from inverse_graphics.sprites.stroke_tracing import trace_strokes
from inverse_graphics.sprites.strokes import StrokeDecoder, carry_over, finer_decoder

BETAS = (0.8, 0.95)
"""Of Adam: rounds are short."""


@dataclass(frozen=True)
class StrokeRefinement:
    """How strokes are refined."""

    rounds: int = 1
    """How often; the guide alone where 0.  After the first round each tries the best pair of strokes as one."""
    steps: int = 30
    """Gradient steps a round."""
    rate: float = 0.1
    """Adam's rate in a round's first steps, falling to a tenth; in standard deviations of the prior."""
    price: float = 30.0
    """Nats that a stroke costs beside its prior density."""
    stray: float = 1e-4
    """Share of pixels with ink that no stroke explains: so small that a stroke is left out only where others have its ink."""
    degree: int = 14
    """Of the curves' polynomials, if the model's are not more: refined strokes may be longer and more bent than the guide's."""
    dots: int = 96
    """Dots that draw a stroke, if the model's are not more."""
    trace: bool = True
    """Begin not from the guide's strokes alone but from traced ones too."""

    def __post_init__(self) -> None:
        for name in ("rounds", "steps", "price"):
            if getattr(self, name) < 0:
                raise FieldError(name, "at least 0", getattr(self, name), "use 0 rounds for the guide alone")
        if not 0 < self.stray < 1:
            raise FieldError("stray", "a share above 0 and below 1", self.stray, "use for example 1e-4")
        if self.degree < 1 or self.dots < 4:
            raise FieldError("degree", "at least 1, and dots at least 4", self.degree, "use for example 14 and 96")
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
    """What is explained, and what draws it."""

    decoder: StrokeDecoder
    images: Float[Tensor, "b h w"]
    refinement: StrokeRefinement

    def of(self, rows: Int[Tensor, "g"]) -> _Problem:
        """Some of the images, which may be the same."""
        return _Problem(self.decoder, self.images[rows], self.refinement)

    def where(self, latents: Float[Tensor, "*b l"]) -> Float[Tensor, "*b 3"]:
        """Windows."""
        config = self.decoder.config
        return latents.new_tensor(config.where_mean) + latents.new_tensor(config.where_std) * latents[..., :3]

    def latents(self, where: Float[Tensor, "*b 3"], what: Float[Tensor, "*b z"]) -> Float[Tensor, "*b l"]:
        """Latents of windows, curves and pens."""
        config = self.decoder.config
        return torch.cat([(where - where.new_tensor(config.where_mean)) / where.new_tensor(config.where_std), what], -1)

    def draw(self, latents: Float[Tensor, "b n l"]) -> Float[Tensor, "b n h w"]:
        """Densities."""
        return self._drawn(latents.flatten(0, 1)).unflatten(0, latents.shape[:2])

    def score(self, guess: _Guess) -> Float[Tensor, "b"]:
        """What is raised; only strokes that are there are drawn."""
        held = guess.latents[guess.present]
        canvases = torch.zeros_like(self.images).index_add(0, guess.present.nonzero()[:, 0], self._drawn(held))
        cost = (0.5 * guess.latents.square().sum(-1) + self.refinement.price) * guess.present
        return self._likelihood(canvases[:, None])[:, 0] - cost.sum(-1)

    def _likelihood(self, canvases: Float[Tensor, "b m h w"]) -> Float[Tensor, "b m"]:
        return ImageModel("ink", stray=self.refinement.stray).log_likelihood(self.images, canvases)

    def _drawn(self, latents: Float[Tensor, "m l"]) -> Float[Tensor, "m h w"]:
        return self.decoder(latents[:, 3:], self.where(latents))

    def scores(
        self, densities: Float[Tensor, "b n h w"], latents: Float[Tensor, "b n l"], present: Bool[Tensor, "b m n"]
    ) -> Float[Tensor, "b m"]:
        """What is raised, for m choices of the strokes."""
        held = present.to(densities)
        canvases = (held @ densities.flatten(2)).unflatten(-1, self.images.shape[1:])
        cost = 0.5 * latents.square().sum(-1) + self.refinement.price
        return self._likelihood(canvases) - (held * cost[:, None]).sum(-1)


def refine_strokes(model: StrokeModel, images: Float[Tensor, "b h w"], strokes: Strokes, refinement: StrokeRefinement) -> Strokes:
    """Strokes that explain images better; weights of the model are left alone, and no gradient is kept.

    Args:
        model: whose pen draws, with curves of more polynomials: refined ``what`` has other sizes than the model's.
        images: ink, 0..1.
        strokes: where to start.
        refinement: how.

    Raises:
        ValueError: images that are not of grey values in 0..1.
    """
    check_grey(images)
    decoder = finer_decoder(model.decoder, refinement.degree, refinement.dots)
    problem = _Problem(decoder, images, refinement)
    what = carry_over(model.decoder, decoder, strokes.what.detach())
    guess = _Guess(problem.latents(strokes.where.detach(), what), strokes.present)
    rows = torch.arange(len(images), device=images.device)
    for number in range(refinement.rounds):
        if number:
            others, owners = _with_one_pair_merged(problem, guess), rows
        else:
            others, owners = _traced(problem, refinement.trace)
        guess = _better(problem, guess, others, owners)
    with torch.no_grad():
        return Strokes(problem.where(guess.latents), guess.latents[..., 3:].clone(), guess.present, problem.draw(guess.latents))


def _traced(problem: _Problem, wanted: bool) -> tuple[_Guess, Int[Tensor, "g"]]:
    """Guesses traced along the ink, and the images that they are for; none where none is wanted."""
    with torch.no_grad():
        traced = trace_strokes(problem.decoder, problem.images if wanted else problem.images[:0])
        return _Guess(problem.latents(traced.where, traced.what), traced.present), traced.rows


def _refined(problem: _Problem, guess: _Guess) -> _Guess:
    """Gradient steps, then the best change of one stroke's presence."""
    refinement = problem.refinement
    latents = guess.latents.clone().requires_grad_()
    optimizer = torch.optim.Adam([latents], betas=BETAS)
    for step in range(refinement.steps):
        optimizer.param_groups[0]["lr"] = refinement.rate * (1 - 0.9 * step / refinement.steps)
        with torch.enable_grad():
            score = problem.score(_Guess(latents, guess.present)).sum()
            (gradient,) = torch.autograd.grad(score, latents)
        latents.grad = -gradient
        optimizer.step()
    latents = latents.detach()
    with torch.no_grad():
        present = guess.present[:, None]
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
        merged = problem.latents(*merge_strokes(problem.decoder, problem.where(chosen), chosen[..., 3:]))
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


def _better(problem: _Problem, guess: _Guess, others: _Guess, rows: Int[Tensor, "g"]) -> _Guess:
    """A guess for each image and others for some of them, all refined; of each image's that with the highest score."""
    own = torch.arange(len(guess.latents), device=rows.device)
    owners = torch.cat([own, rows])
    both = _Guess(torch.cat([guess.latents, others.latents]), torch.cat([guess.present, others.present]))
    refined = _refined(problem.of(owners), both)
    with torch.no_grad():
        score = problem.of(owners).score(refined)
        highest = score.new_full((len(own),), -torch.inf).scatter_reduce(0, owners, score, "amax")
        is_best = (score == highest[owners]).nonzero()[:, 0]
        # the first of those that are as good
        best = torch.full_like(own, len(owners)).scatter_reduce(0, owners[is_best], is_best, "amin")
    return _Guess(refined.latents[best], refined.present[best])
