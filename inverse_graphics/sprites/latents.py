"""Gaussian latents of sprites: heads, draws by reparameterisation, and what they cost against a Gaussian prior."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from inverse_graphics.guides.posterior import gaussian_log_prob, normal_like

LEAST_STD = 1e-4


@dataclass(frozen=True)
class Gaussian:
    """Independent Gaussians."""

    mean: Float[Tensor, "*b d"]
    """Means."""
    std: Float[Tensor, "*b d"]
    """Standard deviations."""

    @staticmethod
    def of(values: Float[Tensor, "*b two_d"], scale: float = 1.0) -> Gaussian:
        """From a network's output: means, and standard deviations before a softplus, times ``scale``."""
        mean, raw = values.chunk(2, -1)
        return Gaussian(mean, scale * F.softplus(raw) + LEAST_STD)

    def draw(self, generator: torch.Generator | None) -> Float[Tensor, "*b d"]:
        """A draw, with gradient."""
        return self.mean + self.std * normal_like(self.mean, generator)

    def log_prob(self, x: Float[Tensor, "*b d"]) -> Float[Tensor, "*b"]:
        """Log density, summed over the last axis."""
        return gaussian_log_prob(x, self.mean, self.std)

    def kl(self, mean: Float[Tensor, "d"], std: Float[Tensor, "d"]) -> Float[Tensor, "*b"]:
        """KL divergence from this to a prior, summed over the last axis."""
        ratio = self.std / std
        return 0.5 * (ratio.square() + ((self.mean - mean) / std).square() - 1 - 2 * ratio.log()).sum(-1)
