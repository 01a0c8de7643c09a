"""Training a stroke model: what a run is told, and its loss."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_graphics.bound import bound_scalars
from inverse_graphics.checkpoints import load_model, load_state
from inverse_graphics.config import FieldError
from inverse_graphics.estimators import Baseline, Weights, exact_loss
from inverse_graphics.sprites.objective import ImageModel, count_log_prior, terms_of
from inverse_graphics.sprites.stroke_model import StrokeModel
from inverse_graphics.sprites.strokes import StrokeConfig
from inverse_graphics.training import LoopConfig, TrainState, new_state


@dataclass(frozen=True)
class StrokeTraining(LoopConfig):
    """How a stroke model is trained; the count is summed exactly."""

    batch_size: int = 32
    """Images a step."""
    learning_rate: float = 2e-3
    """Adam's rate after the warm-up; falls to 0 along a cosine."""
    max_gradient_norm: float = 1e3
    """Gradients, of nats of a whole image, are scaled down to this norm."""
    count_ratio: float = 1e-4
    """p(n) is proportional to this to the power of n."""
    cold_share: float = 0.8
    """Share of the steps over which prefixes not yet believed in count too, falling to nothing (``estimators.Weights``)."""
    temperature: float = 1000.0
    """Of those prefixes, in nats.  High, so that the first prefix counts about as much as all: one stroke is to draw much."""
    blur_px: float = 3.0
    """How much the pen is widened at first, so that curves are pulled to the ink from further away ..."""
    blur_share: float = 0.4
    """... falling to nothing over this share of the steps."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.count_ratio <= 1:
            raise FieldError("count_ratio", "a ratio in 0..1", self.count_ratio, "use for example 1e-4")
        for name in ("cold_share", "blur_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise FieldError(name, "a share in 0..1", getattr(self, name), "use for example 0.4")
        if not self.temperature > 0 or self.blur_px < 0:
            raise FieldError(
                "temperature", "a positive number, blur_px at least 0", self.temperature, "use for example 1000 and 3"
            )


@dataclass(frozen=True)
class StrokeLoss:
    """The negative bound of a batch of images, see ``training.Loss``."""

    config: StrokeTraining
    """Prior and cold start."""

    def __call__(
        self, state: TrainState[StrokeModel], image: Float[Tensor, "b h w"], progress: float
    ) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """Loss, and the bound's terms for the log."""
        config, model = self.config, state.model
        cold, blur = falling(progress, config.cold_share), config.blur_px * falling(progress, config.blur_share)
        posterior = model(image, state.generator, draw=True, blur_px=blur)
        log_p = count_log_prior(model.config.max_objects, config.count_ratio)
        terms = terms_of(posterior, image, ImageModel("ink"), model.config.where_mean, model.config.where_std, log_p)
        loss = exact_loss(terms, Weights(cold_share=cold, temperature=config.temperature)).mean()
        return loss, bound_scalars(terms) | {"bound cold share": cold, "bound blur px": blur}


def falling(progress: float, share: float) -> float:
    """From 1 at the start to 0 at a share of the run, and 0 from there on."""
    return max(0.0, 1 - progress / share) if share else 0.0


def stroke_state(config: StrokeConfig, seed: int, device: torch.device) -> TrainState[StrokeModel]:
    """A state at step 0, its weights drawn under the seed."""
    torch.manual_seed(seed)
    model = StrokeModel(config).to(device)
    return new_state(model, Baseline(config.canvas_px, config.canvas_px, channels=1).to(device), seed)


def load_stroke_state(path: str | Path, device: torch.device) -> TrainState[StrokeModel]:
    """Read the state of a run; see ``checkpoints.load_state``."""
    return load_state(path, StrokeConfig, lambda config: stroke_state(config, 0, device))


def load_strokes(path: str | Path, device: torch.device | str = "cpu") -> StrokeModel:
    """Read a trained model from its file or from a run directory; see ``checkpoints.load_model``."""
    return load_model(path, StrokeConfig, StrokeModel).to(device)
