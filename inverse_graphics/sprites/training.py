"""Training a sprite model: what a run is told, and its loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_graphics.bound import bound_scalars
from inverse_graphics.checkpoints import load_model, load_state
from inverse_graphics.config import FieldError
from inverse_graphics.estimators import Baseline, Estimator, Weights, surrogate_loss
from inverse_graphics.sprites.model import SpriteConfig, SpriteModel
from inverse_graphics.sprites.objective import ImageModel, count_log_prior, sprite_terms
from inverse_graphics.training import LoopConfig, TrainState, new_state


@dataclass(frozen=True)
class SpriteTraining(LoopConfig):
    """How a sprite model is trained."""

    max_gradient_norm: float = 1e4
    """Gradients, of nats of a whole image, are scaled down to this norm."""
    image: ImageModel = field(default_factory=ImageModel)
    """p(x | canvas)."""
    count_ratio: float = 1e-7
    """p(n) is proportional to this to the power of n: an object must explain something to be worth it."""
    cold_steps: int = 1500
    """Steps over which prefixes that are not yet believed in count too, falling to nothing (see ``estimators.Weights``)."""
    temperature: float = 20.0
    """Of those prefixes, in nats."""
    particles: int = 5
    """Draws an image of the estimator ``vimco``."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.count_ratio <= 1:
            raise FieldError("count_ratio", "a ratio in 0..1", self.count_ratio, "use for example 1e-7")
        if self.cold_steps < 0:
            raise FieldError("cold_steps", "at least 0", self.cold_steps, "use for example 1500")
        if not self.temperature > 0 or not self.image.sigma > 0:
            raise FieldError("temperature", "a positive number, as image.sigma", self.temperature, "use for example 20 and 0.3")
        if self.particles < 2:
            raise FieldError("particles", "at least 2", self.particles, "use for example 5")


@dataclass(frozen=True)
class SpriteLoss:
    """The negative bound of a batch of images, see ``training.Loss``."""

    config: SpriteTraining
    """Likelihood, prior and cold start."""
    estimator: Estimator
    """How the count is trained."""

    def __call__(
        self, state: TrainState[SpriteModel], image: Float[Tensor, "b h w"], progress: float
    ) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """Loss, and the bound's terms for the log."""
        config = self.config
        cold = max(0.0, 1 - progress * config.steps / config.cold_steps) if config.cold_steps else 0.0
        particles = config.particles if self.estimator == "vimco" else 1
        log_p = count_log_prior(state.model.config.max_objects, config.count_ratio)
        terms = sprite_terms(state.model, image.repeat(particles, 1, 1), config.image, log_p, state.generator)
        weights = Weights(cold_share=cold, temperature=config.temperature)
        baseline = state.baseline(image[..., None]) if self.estimator == "nvil" else image.new_zeros(len(image))
        loss = surrogate_loss(self.estimator, terms, weights, baseline, particles, state.generator).mean()
        return loss, bound_scalars(terms) | {"bound cold share": cold}


def sprite_state(config: SpriteConfig, seed: int, device: torch.device) -> TrainState[SpriteModel]:
    """A state at step 0, its weights drawn under the seed."""
    torch.manual_seed(seed)
    model = SpriteModel(config).to(device)
    return new_state(model, Baseline(config.canvas_px, config.canvas_px, channels=1).to(device), seed)


def load_sprite_state(path: str | Path, device: torch.device) -> TrainState[SpriteModel]:
    """Read the state of a run; see ``checkpoints.load_state``."""
    return load_state(path, SpriteConfig, lambda config: sprite_state(config, 0, device))


def load_sprites(path: str | Path, device: torch.device | str = "cpu") -> SpriteModel:
    """Read a trained model from its file or from a run directory; see ``checkpoints.load_model``."""
    return load_model(path, SpriteConfig, SpriteModel).to(device)
