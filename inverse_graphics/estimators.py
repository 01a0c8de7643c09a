"""From the bound's terms to a loss: objective and gradient estimator vary on their own.

- ``exact`` sums over the count and, slot by slot, over the alternatives of each discrete latent.
- ``nvil`` is the paper's own: count and discrete latents are drawn, their gradient is the score function times the bound less a
  learned baseline (Mnih and Gregor, "Neural variational inference and learning in belief networks", 2014).
- ``vimco`` draws several particles an image and takes each one's baseline from the others (Mnih and Rezende, "Variational
  inference for Monte Carlo objectives", 2016); what it maximises is tighter than the bound.

All use the gradient of the image for continuous latents (reparameterised).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inverse_graphics.bound import BoundTerms, prefix_sums
from inverse_graphics.guides.posterior import at_least_probabilities, draw_categorical

Estimator = Literal["exact", "nvil", "vimco"]


@dataclass(frozen=True)
class Weights:
    """How the bound's gradient is bent from a cold start; the default bends nothing."""

    cold_share: float = 0.0
    """Share of a distribution over the counts 1..N that does not depend on q(n) in the weights of the prefix images.

    The bound's own weights are q(n).  From a cold start they vanish where q(n) does, and nothing would ever be learned about
    objects that are not yet believed in.  0: the bound's weights; 1: only the other distribution's."""
    target_share: float = 0.0
    """Share of the discrete latents' gradient that comes from coordinate-ascent targets.

    With all else fixed the bound is maximal at q*(k) proportional to p(k) exp(log p(x | k)), which enumeration gives exactly.
    The bound's own gradient towards it vanishes once q is sure of something wrong; that of KL(q* || q) does not."""
    coarse: float = 0.0
    """Weight of the blurred errors beside the plain ones in the gradient of the poses."""
    scale: float = 1.0
    """What the bound's own gradient is multiplied by, beside the targets' (nats of an image are many, of a choice few)."""
    temperature: float = math.inf
    """Nats by which a prefix image must be less likely than another to count e times less in that distribution; inf: it is
    uniform.

    A slot for which no object is left only adds error, and would be chased out of the image for nothing."""

    def of(
        self, count_log_q: Float[Tensor, "b n_plus_1"], log_likelihood: Float[Tensor, "b n_plus_1"]
    ) -> Float[Tensor, "b n_plus_1"]:
        """Weights of the prefixes 0..N; no gradient."""
        q = count_log_q.detach().exp()
        cold = (log_likelihood[:, 1:].detach() / self.temperature).softmax(-1)
        return (1 - self.cold_share) * q + self.cold_share * torch.nn.functional.pad(cold, (1, 0))


def exact_loss(terms: BoundTerms, weights: Weights) -> Float[Tensor, "b"]:
    """Surrogate whose gradient is that of the negative bound, the count and each slot's discrete latents summed exactly.

    Slot by slot: the other slots' latents are those drawn, so the estimate is unbiased with low variance.  ``weights`` other
    than the default bend it (see there).
    """
    w = weights.of(terms.count_log_q, terms.log_likelihood)
    inside = (terms.log_likelihood - terms.kl_of_prefixes).detach() + terms.count_log_p
    values = [_value(choice.log_likelihood, w) for choice in terms.choices]
    bound = (terms.count_log_q.exp() * (inside - terms.count_log_q)).sum(-1)
    for choice, value in zip(terms.choices, values, strict=True):
        bound = bound + (choice.log_q.exp() * value).sum((-2, -1))
    loss = -weights.scale * ((1 - weights.target_share) * bound + _pathwise(terms, weights, w))
    if weights.target_share > 0:
        held = at_least_probabilities(w)
        towards = _cross_entropy(terms.count_log_q, inside)
        for choice, value in zip(terms.choices, values, strict=True):
            towards = towards + (held * _cross_entropy(choice.log_q, value / held.clamp(min=1e-6)[..., None])).sum(-1)
        loss = loss + weights.target_share * towards
    return loss


def _value(log_likelihood: Float[Tensor, "b n k n_plus_1"], w: Float[Tensor, "b n_plus_1"]) -> Float[Tensor, "b n k"]:
    """Expected log-likelihood of a slot's alternatives, over the prefixes that hold the slot, less its mean."""
    value = torch.einsum("bm,bnkm->bnk", w, log_likelihood)
    return value - value.mean(-1, keepdim=True)


def _cross_entropy(log_q: Float[Tensor, "*b k"], unnormalised: Float[Tensor, "*b k"]) -> Float[Tensor, "*b"]:
    """-sum_k q*(k) log q(k) with q* the softmax of fixed values."""
    return -(unnormalised.detach().softmax(-1) * log_q).sum(-1)


def _pathwise(terms: BoundTerms, weights: Weights, w: Float[Tensor, "b n_plus_1"]) -> Float[Tensor, "b"]:
    """Reparameterised part: likelihood of the drawn latents, less their KL."""
    return (w * (terms.log_likelihood + weights.coarse * terms.coarse - terms.kl_of_prefixes)).sum(-1)


BASELINE_SCALE = 100.0
"""Nats that the baseline counts as one."""


class Baseline(nn.Module):
    """Prediction of the bound from the image, to take variance off the score function."""

    def __init__(self, height_px: int, width_px: int, channels: int = 3) -> None:
        """Build a small network over the image at an eighth of its size."""
        super().__init__()
        values = channels * (height_px // 8) * (width_px // 8)
        self.layers = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(values, 64), nn.Tanh(), nn.Linear(64, 1))

    def forward(self, image: Float[Tensor, "b h w c"]) -> Float[Tensor, "b"]:
        """Expected bound in nats."""
        return BASELINE_SCALE * self.layers(image.permute(0, 3, 1, 2) * 2 - 1)[:, 0]


def nvil_loss(
    terms: BoundTerms, weights: Weights, baseline: Float[Tensor, "b"], generator: torch.Generator | None
) -> Float[Tensor, "b"]:
    """Surrogate of the paper's estimator: one count drawn, score function with a baseline for count and discrete latents.

    The baseline is fitted by least squares in the same loss.  Of ``weights`` the targets are not used.
    """
    count, log_q = _drawn_count(terms, generator)
    inside = terms.log_likelihood - terms.kl_of_prefixes + terms.count_log_p - terms.count_log_q
    value = inside.gather(-1, count)[:, 0].detach()
    drawn = torch.zeros_like(terms.log_likelihood).scatter(-1, count, 1.0)
    w = weights.of(drawn.log(), terms.log_likelihood)
    fit = 0.5 * ((value - baseline) / BASELINE_SCALE).square()
    return fit - weights.scale * ((value - baseline).detach() * log_q + _pathwise(terms, weights, w))


def vimco_loss(
    terms: BoundTerms, weights: Weights, particles: int, generator: torch.Generator | None
) -> Float[Tensor, "b_over_particles"]:
    """Surrogate of VIMCO: the negative of log mean_k w_k, w_k = p(x, z_k) / q(z_k), of ``particles`` draws z_k of all latents.

    The score function of a particle is weighed by what the objective is more than with that particle's weight replaced by the
    geometric mean of the others'.  Of ``weights`` ``scale``, ``coarse`` and the cold share of the continuous latents are used.

    Args:
        terms: [particles * images], an image's particles ``images`` rows apart.
        weights: how the gradient is bent.
        particles: draws an image, at least 2.
        generator: source of the counts.

    Raises:
        ValueError: fewer than 2 particles, or rows that they do not divide.
    """
    rows = len(terms.count_log_q)
    if particles < 2 or rows % particles:
        raise ValueError(
            f"vimco_loss: expected at least 2 particles that divide {rows} rows, received {particles}; repeat images"
        )
    count, log_q = _drawn_count(terms, generator)
    inside = terms.log_likelihood - prefix_sums(terms.log_ratio) + terms.count_log_p - terms.count_log_q
    log_w = inside.gather(-1, count)[:, 0].unflatten(0, (particles, -1))
    value = log_w.detach()
    learned = torch.logsumexp(value, 0) - _leave_one_out(value)
    normalised = value.softmax(0)
    # discrete draws have no path: the normalised weights carry the derivative of log q(discrete) too, as the estimator asks
    score = (learned * log_q.unflatten(0, (particles, -1))).sum(0)
    path = (normalised * log_w).sum(0)
    bent = _bent_path(terms, weights, count, normalised)
    return -weights.scale * (score + path + bent)


def _leave_one_out(log_w: Float[Tensor, "k b"]) -> Float[Tensor, "k b"]:
    """Log sum_j w_j with each particle's weight in turn replaced by the geometric mean of the others'."""
    particles = len(log_w)
    others = (log_w.sum(0) - log_w) / (particles - 1)
    eye = torch.eye(particles, dtype=torch.bool, device=log_w.device)[..., None]
    return torch.logsumexp(torch.where(eye, others[:, None], log_w[None]), 1)


def _bent_path(terms: BoundTerms, weights: Weights, count: Tensor, normalised: Float[Tensor, "k b"]) -> Float[Tensor, "b"]:
    """What ``weights`` other than the default add to the gradient of the continuous latents."""
    drawn = torch.zeros_like(terms.log_likelihood).scatter(-1, count, 1.0)
    more = weights.of(drawn.log(), terms.log_likelihood) - drawn
    path = (more * (terms.log_likelihood - terms.kl_of_prefixes)).sum(-1)
    path = path + weights.coarse * ((drawn + more) * terms.coarse).sum(-1)
    return (normalised * path.unflatten(0, normalised.shape)).sum(0)


def _drawn_count(terms: BoundTerms, generator: torch.Generator | None) -> tuple[Tensor, Float[Tensor, "b"]]:
    """A count drawn for each example, [b 1], and log q of it and of the discrete latents that it holds."""
    count = draw_categorical(terms.count_log_q, generator)[:, None]
    held = torch.arange(terms.drawn_log_q.shape[-1], device=count.device) < count
    return count, terms.count_log_q.gather(-1, count)[:, 0] + (held * terms.drawn_log_q).sum(-1)


def surrogate_loss(
    estimator: Estimator,
    terms: BoundTerms,
    weights: Weights,
    baseline: Float[Tensor, "b"],
    particles: int,
    generator: torch.Generator | None,
) -> Float[Tensor, "b"]:
    """The loss of an estimator, by name; ``baseline`` is used by ``nvil`` alone, ``particles`` by ``vimco`` alone."""
    if estimator == "exact":
        return exact_loss(terms, weights)
    if estimator == "nvil":
        return nvil_loss(terms, weights, baseline, generator)
    return vimco_loss(terms, weights, particles, generator)
