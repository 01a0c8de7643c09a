"""The training loop: batches in, a loss out, a state that can be saved and taken up again.  What is trained is the caller's."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inverse_graphics.config import FieldError
from inverse_graphics.estimators import Baseline

M = TypeVar("M", bound=nn.Module)
E = TypeVar("E")


@dataclass(frozen=True)
class LoopConfig:
    """How long and how fast."""

    steps: int = 3000
    """Gradient steps."""
    batch_size: int = 64
    """Images a step."""
    learning_rate: float = 1e-3
    """Adam's rate after the warm-up; falls to 0 along a cosine, from ``constant_share`` of the steps on."""
    constant_share: float = 0.0
    """Share of the steps before the rate begins to fall."""
    warmup_steps: int = 100
    """Steps over which the rate rises from 0."""
    max_gradient_norm: float = 20.0
    """Gradients are scaled down to this norm."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "warmup_steps"):
            if getattr(self, name) < 1:
                raise FieldError(name, "at least 1", getattr(self, name), "raise it")
        for name in ("learning_rate", "max_gradient_norm"):
            if not getattr(self, name) > 0:
                raise FieldError(name, "a positive number", getattr(self, name), "raise it")
        if not 0 <= self.constant_share <= 1:
            raise FieldError("constant_share", "a share in 0..1", self.constant_share, "use for example 0.5")


@dataclass
class TrainState(Generic[M]):
    """All that a run needs to go on where it stopped."""

    model: M
    """What is trained."""
    baseline: Baseline
    """Baseline of the score function; trained by ``nvil`` only."""
    optimizer: torch.optim.Adam
    """Over the parameters of both."""
    generator: torch.Generator
    """Source of every draw in training, on the model's device."""
    step: int = 0
    """Steps done."""


Loss = Callable[[TrainState[M], E, float], tuple[Float[Tensor, ""], dict[str, float]]]
"""The loss of a state and a batch at a share of the steps, 0..1, and its terms for the log."""


def new_state(model: M, baseline: Baseline, seed: int) -> TrainState[M]:
    """A state at step 0; model and baseline should have been built under the same seed and lie on one device."""
    optimizer = torch.optim.Adam(
        [{"params": list(model.parameters()), "ratio": 1.0}, {"params": list(baseline.parameters()), "ratio": 3.0}], fused=True
    )
    device = next(model.parameters()).device
    return TrainState(model, baseline, optimizer, torch.Generator(device).manual_seed(seed))


def learning_rate_at(config: LoopConfig, step: int) -> float:
    """Rate at a step, 1..steps: linear warm-up, constant, cosine to 0."""
    done = (step - 1) / config.steps
    fall = max(0.0, done - config.constant_share) / max(1e-9, 1 - config.constant_share)
    return config.learning_rate * min(1.0, step / config.warmup_steps) * 0.5 * (1 + math.cos(math.pi * min(fall, 1.0)))


def train(
    state: TrainState[M],
    examples: Iterator[E],
    loss_of: Loss[M, E],
    config: LoopConfig,
    on_step: Callable[[TrainState[M], dict[str, float]], None],
) -> None:
    """Train until ``config.steps`` steps are done.

    Args:
        state: where to start; updated in place.
        examples: batches, on the model's device.
        loss_of: what is minimised.
        config: how long and how fast.
        on_step: called after every step with the state and the step's scalars.

    Raises:
        FloatingPointError: the loss or its gradient is not finite; weights, optimizer and generator are left as before the step.
    """
    while state.step < config.steps:
        started = time.perf_counter()
        example = next(examples)
        waited_s = time.perf_counter() - started
        step = state.step + 1
        rate = learning_rate_at(config, step)
        for group in state.optimizer.param_groups:
            group["lr"] = rate * group["ratio"]
        with _undone_draws(state.generator):
            loss, scalars = loss_of(state, example, (step - 1) / config.steps)
            value = float(loss.detach())
            _check_finite("loss", value, step, scalars)
            state.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = _clip(list(state.model.parameters()), config.max_gradient_norm)
            _check_finite("gradient", norm, step, scalars)
        state.optimizer.step()
        state.step = step
        scalars |= {"loss": value, "gradient norm": norm, "learning rate": rate, "waiting s": waited_s}
        on_step(state, scalars)


def _clip(parameters: list[nn.Parameter], most: float) -> float:
    """Scale gradients down to a norm, if theirs is larger; returns theirs."""
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if not norm <= most:
        torch.nn.utils.clip_grads_with_norm_(parameters, most, norm)
    return float(norm)


def _check_finite(what: str, value: float, step: int, scalars: dict[str, float]) -> None:
    if not math.isfinite(value):
        raise FloatingPointError(
            f"the {what} is {value} at step {step} ({scalars}); lower the learning rate or check the images; "
            "the last checkpoint is intact"
        )


@contextmanager
def _undone_draws(generator: torch.Generator) -> Iterator[None]:
    """Where a step fails the generator is as before it too, so that a resumed run makes the same draws."""
    before = generator.get_state()
    try:
        yield
    except BaseException:
        generator.set_state(before)
        raise
