"""From the bound's terms to a loss: objective and gradient estimator vary on their own.

``exact`` sums over the count and, slot by slot, over the classes and yaw bins.  ``nvil`` is the paper's own: count, classes
and yaw bins are drawn, their gradient is the score function times the bound less a learned baseline (Mnih and Gregor, "Neural
variational inference and learning in belief networks", 2014).  Both use the renderer's gradient for the poses (reparameterised).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inverse_graphics.guides.posterior import at_least_probabilities, draw_categorical
from inverse_graphics.objectives import BoundTerms


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
    """Surrogate whose gradient is that of the negative bound, the count and each slot's class and yaw bin summed exactly.

    Slot by slot: the other slots' classes and poses are those drawn, so the estimate is unbiased with low variance.  ``weights``
    other than the default bend it (see there).
    """
    w = weights.of(terms.count_log_q, terms.log_likelihood(terms.errors))
    inside = (terms.log_likelihood(terms.errors) - terms.kl_of_prefixes).detach() + terms.count_log_p
    value_class = _value(terms.log_likelihood(terms.class_errors), w)
    value_yaw = _value(terms.log_likelihood(terms.yaw_errors), w)
    bound = (
        (terms.count_log_q.exp() * (inside - terms.count_log_q)).sum(-1)
        + (terms.class_log_q.exp() * value_class).sum((-2, -1))
        + (terms.yaw_log_q.exp() * value_yaw).sum((-2, -1))
    )
    loss = -weights.scale * ((1 - weights.target_share) * bound + _pose(terms, weights, w))
    if weights.target_share > 0:
        held = at_least_probabilities(w)
        towards = (
            _cross_entropy(terms.count_log_q, inside)
            + (held * _cross_entropy(terms.class_log_q, value_class / held.clamp(min=1e-6)[..., None])).sum(-1)
            + (held * _cross_entropy(terms.yaw_log_q, value_yaw / held.clamp(min=1e-6)[..., None])).sum(-1)
        )
        loss = loss + weights.target_share * towards
    return loss


def _value(log_likelihood: Float[Tensor, "b n k n_plus_1"], w: Float[Tensor, "b n_plus_1"]) -> Float[Tensor, "b n k"]:
    """Expected log-likelihood of a slot's alternatives, over the prefixes that hold the slot, less its mean."""
    value = torch.einsum("bm,bnkm->bnk", w, log_likelihood)
    return value - value.mean(-1, keepdim=True)


def _cross_entropy(log_q: Float[Tensor, "*b k"], unnormalised: Float[Tensor, "*b k"]) -> Float[Tensor, "*b"]:
    """-sum_k q*(k) log q(k) with q* the softmax of fixed values."""
    return -(unnormalised.detach().softmax(-1) * log_q).sum(-1)


def _pose(terms: BoundTerms, weights: Weights, w: Float[Tensor, "b n_plus_1"]) -> Float[Tensor, "b"]:
    """Reparameterised part: likelihood of the drawn poses, less the KL of class and pose."""
    errors = terms.errors + weights.coarse * terms.coarse_errors
    return (w * (terms.log_likelihood(errors) - terms.kl_of_prefixes)).sum(-1)


BASELINE_SCALE = 100.0
"""Nats that the baseline counts as one."""


class Baseline(nn.Module):
    """Prediction of the bound from the image, to take variance off the score function."""

    def __init__(self, height_px: int, width_px: int) -> None:
        """Build a small network over the image at an eighth of its size."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.AvgPool2d(8), nn.Flatten(), nn.Linear(3 * (height_px // 8) * (width_px // 8), 64), nn.Tanh(), nn.Linear(64, 1)
        )

    def forward(self, image_rgb: Float[Tensor, "b h w 3"]) -> Float[Tensor, "b"]:
        """Expected bound in nats."""
        return BASELINE_SCALE * self.layers(image_rgb.permute(0, 3, 1, 2) * 2 - 1)[:, 0]


def nvil_loss(
    terms: BoundTerms, weights: Weights, baseline: Float[Tensor, "b"], generator: torch.Generator | None
) -> Float[Tensor, "b"]:
    """Surrogate of the paper's estimator: one count drawn, score function with a baseline for count, classes and yaw bins.

    The baseline is fitted by least squares in the same loss.  Of ``weights`` the targets are not used.
    """
    count = draw_categorical(terms.count_log_q, generator)[:, None]
    held = torch.arange(terms.drawn_log_q.shape[-1], device=count.device) < count
    log_q = terms.count_log_q.gather(-1, count)[:, 0] + (held * terms.drawn_log_q).sum(-1)
    inside = terms.log_likelihood(terms.errors) - terms.kl_of_prefixes + terms.count_log_p - terms.count_log_q
    value = inside.gather(-1, count)[:, 0].detach()
    drawn = torch.zeros_like(terms.errors).scatter(-1, count, 1.0)
    w = weights.of(drawn.log(), terms.log_likelihood(terms.errors))
    fit = 0.5 * ((value - baseline) / BASELINE_SCALE).square()
    return fit - weights.scale * ((value - baseline).detach() * log_q + _pose(terms, weights, w))
