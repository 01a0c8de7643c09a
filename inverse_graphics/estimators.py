"""From the bound's terms to a loss: objective and gradient estimator vary on their own.

``exact`` sums over the count and, slot by slot, over the classes and yaw bins.  ``nvil`` is the paper's own: count, classes and yaw bins
are drawn, their gradient is the score function times the bound less a learned baseline (Mnih and Gregor, "Neural variational
inference and learning in belief networks", 2014).  Both use the renderer's gradient for the poses (reparameterised).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inverse_graphics.guides.posterior import at_least_probabilities, draw_categorical
from inverse_graphics.objectives import BoundTerms


@dataclass(frozen=True)
class PoseWeights:
    """How much each prefix image pulls on the poses, classes and KLs of its slots.

    The bound's own weights are q(n).  From a cold start they vanish where q(n) does, and nothing would ever be learned about objects
    that are not yet believed in; so the weights are mixed with a uniform distribution over 1..N, whose share is annealed to 0.
    """

    uniform_share: float = 0.0
    """0: the bound's gradient; 1: every prefix counts the same."""
    coarse_share: float = 0.0
    """Weight of the blurred errors beside the plain ones in the gradient of the poses."""

    def of(self, count_log_q: Float[Tensor, "b n_plus_1"]) -> Float[Tensor, "b n_plus_1"]:
        """Weights of the prefixes 0..N; no gradient."""
        q = count_log_q.detach().exp()
        uniform = torch.full_like(q, 1.0 / (q.shape[-1] - 1))
        uniform[:, 0] = 0.0
        return (1 - self.uniform_share) * q + self.uniform_share * uniform


def exact_loss(terms: BoundTerms, weights: PoseWeights) -> Float[Tensor, "b"]:
    """Surrogate whose gradient is that of the negative bound, the count and each slot's class and yaw bin summed exactly.

    Slot by slot: the other slots' classes and poses are those drawn, so the estimate is unbiased with low variance.
    """
    w = weights.of(terms.count_log_q)
    inside = (terms.log_likelihood(terms.errors) - terms.kl_of_prefixes).detach()
    count = (terms.count_log_q.exp() * (inside + terms.count_log_p - terms.count_log_q)).sum(-1)
    category = _summed(terms.class_log_q, terms.log_likelihood(terms.class_errors), w)
    yaw = _summed(terms.yaw_log_q, terms.log_likelihood(terms.yaw_errors), w)
    return -(count + category + yaw + _pose(terms, weights, w))


def _summed(
    log_q: Float[Tensor, "b n k"], log_likelihood: Float[Tensor, "b n k n_plus_1"], w: Float[Tensor, "b n_plus_1"]
) -> Float[Tensor, "b"]:
    """Expected log-likelihood over one slot's alternatives, over the prefixes that hold the slot; summed over the slots."""
    value = torch.einsum("bm,bnkm->bnk", w, log_likelihood)
    value = value - value.mean(-1, keepdim=True)
    return (log_q.exp() * value).sum((-2, -1))


def _pose(terms: BoundTerms, weights: PoseWeights, w: Float[Tensor, "b n_plus_1"]) -> Float[Tensor, "b"]:
    """Reparameterised part: likelihood of the drawn poses, less the KL of class and pose."""
    errors = terms.errors + weights.coarse_share * terms.coarse_errors
    return (w * (terms.log_likelihood(errors) - terms.kl_of_prefixes)).sum(-1)


class Baseline(nn.Module):
    """Prediction of the bound from the image, to take variance off the score function; in units of ``scale`` nats."""

    def __init__(self, height_px: int, width_px: int, scale: float = 100.0) -> None:
        """Build a small network over the image at an eighth of its size."""
        super().__init__()
        self.scale = scale
        self.layers = nn.Sequential(
            nn.AvgPool2d(8), nn.Flatten(), nn.Linear(3 * (height_px // 8) * (width_px // 8), 64), nn.Tanh(), nn.Linear(64, 1)
        )

    def forward(self, image_rgb: Float[Tensor, "b h w 3"]) -> Float[Tensor, "b"]:
        """Expected bound in nats."""
        return self.scale * self.layers(image_rgb.permute(0, 3, 1, 2) * 2 - 1)[:, 0]


def nvil_loss(
    terms: BoundTerms,
    weights: PoseWeights,
    baseline: Float[Tensor, "b"],
    generator: torch.Generator | None,
) -> Float[Tensor, "b"]:
    """Surrogate of the paper's estimator: one count drawn, score function with a baseline for count, classes and yaw bins.

    The baseline is fitted by least squares in the same loss.
    """
    count = draw_categorical(terms.count_log_q, generator)[:, None]
    slots = terms.drawn_log_q.shape[-1]
    held = torch.arange(slots, device=count.device) < count
    log_q = terms.count_log_q.gather(-1, count)[:, 0] + (held * terms.drawn_log_q).sum(-1)
    inside = terms.log_likelihood(terms.errors) - terms.kl_of_prefixes
    value = (inside + terms.count_log_p - terms.count_log_q).gather(-1, count)[:, 0].detach()
    score = (value - baseline).detach() / 1.0 * log_q
    w = weights.of(terms.count_log_q)
    fit = 0.5 * ((value - baseline) / 100.0).square()
    kept = (1 - weights.uniform_share) * torch.zeros_like(w).scatter(-1, count, 1.0) + weights.uniform_share * (
        PoseWeights(1.0).of(terms.count_log_q)
    )
    count_kl = (at_least_probabilities(terms.count_log_q.exp()) * 0).sum(-1)
    return -(score + _pose(terms, weights, kept)) + fit + count_kl
