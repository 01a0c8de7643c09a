"""The bound's terms, whatever draws the layers, and what estimators and logs read off them.

    L = sum_n q(n) [log p(x | C_n) - log q(n) / p(n) - sum_{i <= n} KL_i]

(Eslami et al. 2016, eq. 2, with the count summed instead of sampled): all N steps run, the layers' prefixes give the images
C_0..C_N.  Terms are per example and kept apart; ``estimators`` turns them into a loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_graphics.guides.posterior import LOG_TWO_PI, at_least_probabilities


@dataclass(frozen=True)
class Choice:
    """A discrete latent of every slot with all of its alternatives, the other slots' latents being those drawn."""

    log_q: Float[Tensor, "b n k"]
    """log q of each alternative."""
    log_likelihood: Float[Tensor, "b n k n_plus_1"]
    """What ``BoundTerms.log_likelihood`` would be with the alternative in the slot, for the prefixes that hold the slot."""


@dataclass(frozen=True)
class BoundTerms:
    """The bound's terms, per example, of one draw of every slot's latents."""

    count_log_q: Float[Tensor, "b n_plus_1"]
    """log q(n)."""
    count_log_p: Float[Tensor, " n_plus_1"]
    """log p(n)."""
    log_likelihood: Float[Tensor, "b n_plus_1"]
    """log p(x | C_n) less ``constant``; gradient to the drawn latents."""
    coarse: Float[Tensor, "b n_plus_1"]
    """The same of blurred residuals, summed over the blurs; gradient to the drawn latents.  Not part of the bound: it pulls
    objects across gaps."""
    choices: tuple[Choice, ...]
    """Discrete latents of a slot that are summed over; none where all are continuous."""
    drawn_log_q: Float[Tensor, "b n"]
    """log q of all discrete latents drawn for each slot together; 0 where all are continuous."""
    kl: Float[Tensor, "b n"]
    """KL(q || p) of each slot's latents, as far as it is known in closed form, else its estimate; gradient to the guide."""
    log_ratio: Float[Tensor, "b n"]
    """log q - log p of the latents drawn for each slot, whose mean is ``kl``; gradient to the drawn latents and to the guide."""
    constant: float
    """What log p(x | C) adds to ``log_likelihood``, whatever C."""

    @property
    def kl_of_prefixes(self) -> Float[Tensor, "b n_plus_1"]:
        """KL of the first 0, 1, ..., n slots."""
        return prefix_sums(self.kl)

    @property
    def bound(self) -> Float[Tensor, "b"]:
        """The bound in nats, an estimate with one draw of every slot's latents."""
        inside = self.log_likelihood - self.kl_of_prefixes + self.count_log_p - self.count_log_q
        return (self.count_log_q.exp() * inside).sum(-1) + self.constant


def prefix_sums(values: Float[Tensor, "*b n"]) -> Float[Tensor, "*b n_plus_1"]:
    """Sums of the first 0, 1, ..., n values."""
    return torch.cat([torch.zeros_like(values[..., :1]), values.cumsum(-1)], -1)


def gaussian_constant(num_values: int, sigma: float) -> float:
    """What the log density of ``num_values`` Gaussians of standard deviation sigma adds to -error / (2 sigma^2)."""
    return -0.5 * num_values * (LOG_TWO_PI + 2 * math.log(sigma))


def expected_count(count_log_q: Float[Tensor, "b n_plus_1"]) -> Float[Tensor, "b"]:
    """Mean of q(n)."""
    return at_least_probabilities(count_log_q.exp()).sum(-1)


def bound_scalars(terms: BoundTerms) -> dict[str, float]:
    """Each term of the bound on its own, means over the batch."""
    with torch.no_grad():
        q = terms.count_log_q.exp()
        return {
            "bound": float(terms.bound.mean()),
            "bound log likelihood": float((q * terms.log_likelihood).sum(-1).mean()) + terms.constant,
            "bound KL count": float((q * (terms.count_log_q - terms.count_log_p)).sum(-1).mean()),
            "bound KL latents": float((q * terms.kl_of_prefixes).sum(-1).mean()),
            "bound expected count": float(expected_count(terms.count_log_q).mean()),
        }
