"""The bound of a sprite model: the same terms as in 3-D, of layers that add up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_graphics.bound import BoundTerms, gaussian_constant
from inverse_graphics.compositing import add_prefixes
from inverse_graphics.guides.posterior import count_log_probabilities
from inverse_graphics.sprites.explaining import SpritePosterior
from inverse_graphics.sprites.latents import Gaussian
from inverse_graphics.sprites.model import SpriteModel
from inverse_graphics.sprites.sprite_kernels import prefix_error_gradient_pass, prefix_error_pass
from inverse_graphics.sprites.windows import prepare_kernels

Likelihood = Literal["gaussian", "bernoulli", "ink"]
DARKEST = 1e-3
"""Bernoulli probabilities are kept this far from 0 and 1."""
STRAY = 1e-2
"""Of pixels with ink, where nothing else is said: small, so that ink is to be drawn, and not so small that a step of the guide
must draw all of it."""


@dataclass(frozen=True)
class ImageModel:
    """p(x | canvas), pixel by pixel."""

    likelihood: Likelihood = "gaussian"
    """gaussian: the canvas plus noise; bernoulli: the canvas is the probability of ink; ink: the canvas is a density, and the
    probability of ink 1 - (1 - stray) exp(-density)."""
    sigma: float = 0.3
    """Standard deviation of the noise (gaussian)."""
    stray: float = STRAY
    """Share of pixels with ink that no density explains (ink)."""

    def log_likelihood(self, image: Float[Tensor, "b h w"], canvases: Float[Tensor, "b m h w"]) -> Float[Tensor, "b m"]:
        """Log p(x | C) less ``constant``."""
        if self.likelihood == "gaussian":
            return (image[:, None] - canvases).square().sum((-2, -1)) * (-0.5 / self.sigma**2)
        if self.likelihood == "ink":
            log_bare = math.log1p(-self.stray) - canvases
            log_ink = torch.log(-torch.expm1(log_bare))
            return (image[:, None] * (log_ink - log_bare) + log_bare).sum((-2, -1))
        ink = canvases.clamp(DARKEST, 1 - DARKEST)
        seen = image[:, None]
        return (seen * ink.log() + (1 - seen) * torch.log1p(-ink)).sum((-2, -1))

    def prefix_log_likelihood(
        self, image: Float[Tensor, "b h w"], layers: Float[Tensor, "b n h w"]
    ) -> Float[Tensor, "b n_plus_1"]:
        """Log p(x | C_i) less ``constant`` of the sums C_0..C_n of the first layers; gradient to the layers.

        Of Gaussian images a compiled pass sums the squares, without making the canvases.
        """
        if self.likelihood != "gaussian" or image.device.type != "cpu":
            return self.log_likelihood(image, add_prefixes(layers))
        return prefix_errors(image.flatten(1), layers.flatten(2)) * (-0.5 / self.sigma**2)

    def constant(self, image: Float[Tensor, "b h w"]) -> float:
        """What is left out of ``log_likelihood``."""
        return gaussian_constant(image[0].numel(), self.sigma) if self.likelihood == "gaussian" else 0.0


def prefix_errors(image: Float[Tensor, "b p"], layers: Float[Tensor, "b n p"]) -> Float[Tensor, "b n_plus_1"]:
    """Squared errors of the sums of the first 0, 1, ..., n layers, on a CPU; gradient to the layers."""
    errors: Any = _PrefixErrors.apply(image, layers)
    return errors


class _PrefixErrors(torch.autograd.Function):
    """``prefix_errors``."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, layers: Tensor) -> Tensor:
        prepare_kernels()
        image, layers = image.detach().contiguous(), layers.detach().contiguous()
        residual, errors = torch.empty_like(image), layers.new_empty((len(layers), layers.shape[1] + 1))
        prefix_error_pass(*(x.numpy() for x in (image, layers, residual, errors)))
        ctx.save_for_backward(layers, residual)
        return errors

    @staticmethod
    def backward(ctx: Any, *weights: Tensor) -> Any:
        layers, residual = ctx.saved_tensors
        gradient = torch.empty_like(layers)
        prefix_error_gradient_pass(*(x.numpy() for x in (layers, residual, weights[0].contiguous(), gradient)))
        return None, gradient


def count_log_prior(max_objects: int, ratio: float) -> Float[Tensor, "n_plus_1"]:
    """Log p(n) for n = 0..N, p(n) proportional to ratio^n."""
    return (torch.arange(max_objects + 1) * math.log(ratio)).log_softmax(-1)


def sprite_terms(
    model: SpriteModel,
    image: Float[Tensor, "b h w"],
    image_model: ImageModel,
    count_log_p: Float[Tensor, " n_plus_1"],
    generator: torch.Generator | None,
) -> BoundTerms:
    """Run the model with draws and collect the terms of its bound; windows and appearances have Gaussian priors."""
    posterior = model(image, generator, draw=True)
    return terms_of(posterior, image, image_model, model.config.where_mean, model.config.where_std, count_log_p)


def terms_of(
    posterior: SpritePosterior,
    image: Float[Tensor, "b h w"],
    image_model: ImageModel,
    where_mean: tuple[float, float, float],
    where_std: tuple[float, float, float],
    count_log_p: Float[Tensor, " n_plus_1"],
) -> BoundTerms:
    """The bound's terms of what was drawn."""
    likelihood = image_model.prefix_log_likelihood(image, posterior.layers)
    prior = Gaussian(image.new_tensor(where_mean), image.new_tensor(where_std))
    standard = Gaussian(*(x.expand(posterior.drawn_what.shape[-1]) for x in (image.new_zeros(()), image.new_ones(()))))
    log_q = posterior.where.log_prob(posterior.drawn_where) + posterior.what.log_prob(posterior.drawn_what)
    log_p = prior.log_prob(posterior.drawn_where) + standard.log_prob(posterior.drawn_what)
    kl = posterior.where.kl(prior.mean, prior.std) + posterior.what.kl(standard.mean, standard.std)
    return BoundTerms(
        count_log_q=count_log_probabilities(posterior.presence_logits),
        count_log_p=count_log_p.to(image),
        log_likelihood=likelihood,
        coarse=torch.zeros_like(likelihood),
        choices=(),
        drawn_log_q=torch.zeros_like(kl),
        kl=kl,
        log_ratio=log_q - log_p,
        constant=image_model.constant(image),
    )
