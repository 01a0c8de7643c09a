"""What the experiment on estimators measures: the scatter of a gradient, and count and bound while training."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float
from setup2d import Config, DigitSets, held_out, on_device, sprite_config, training_images
from torch import Tensor

from inverse_graphics.estimators import Estimator
from inverse_graphics.gradient_spread import gradient_spread
from inverse_graphics.reporting.estimator_report import CurvePoint, SpreadRow
from inverse_graphics.sprites.evaluation import infer_sprites
from inverse_graphics.sprites.model import SpriteModel
from inverse_graphics.sprites.objective import count_log_prior, sprite_terms
from inverse_graphics.sprites.training import SpriteLoss, SpriteTraining, sprite_state
from inverse_graphics.training import TrainState, train

BATCH_SEED = 5
"""Of the batch on which gradients are compared."""


def fresh_state(config: Config, device: torch.device) -> TrainState[SpriteModel]:
    """A state at step 0."""
    return sprite_state(sprite_config(config.images, config.variant, config.max_objects, config.sizes), config.seed, device)


def images_a_step(training: SpriteTraining, estimator: Estimator) -> int:
    """Images such that every estimator's step costs the same: vimco spreads its rows over several draws of fewer images."""
    return max(1, training.batch_size // training.particles) if estimator == "vimco" else training.batch_size


def train_with(
    state: TrainState[SpriteModel],
    config: Config,
    digits: DigitSets,
    estimator: Estimator,
    on_step: Callable[[TrainState[SpriteModel], dict[str, float]], None],
) -> None:
    """Train to the end of the schedule."""
    training, device = config.training, next(state.model.parameters()).device
    batch = images_a_step(training, estimator)
    with training_images(digits.train, config.images, batch, config.seed, state.step * batch) as stream:
        loss = SpriteLoss(training, estimator)
        train(state, on_device(stream, device), loss, training, on_step)


def fixed_batch(config: Config, digits: DigitSets, device: torch.device) -> Float[Tensor, "b h w"]:
    """Images that no training seed makes, of the training's digits."""
    return next(held_out(digits.train, config.images, config.training.batch_size, BATCH_SEED)).images.to(device)


def fit_baseline(state: TrainState[SpriteModel], config: Config, digits: DigitSets, steps: int) -> None:
    """Let the baseline catch up with weights that were trained without it; the model stays as it is."""
    loss = SpriteLoss(dataclasses.replace(config.training, cold_steps=0), "nvil")
    parameters = list(state.baseline.parameters())
    optimizer = torch.optim.Adam(parameters, 3e-3)
    device = parameters[0].device
    with training_images(digits.train, config.images, config.training.batch_size, config.seed, 0) as stream:
        for _, images in zip(range(steps), on_device(stream, device), strict=False):
            value, _ = loss(state, images, 1.0)
            for parameter, gradient in zip(parameters, torch.autograd.grad(value, parameters), strict=True):
                parameter.grad = gradient
            optimizer.step()


def spread_rows(
    state: TrainState[SpriteModel], config: Config, images: Float[Tensor, "b h w"], estimator: Estimator, draws: int
) -> list[SpreadRow]:
    """Scatter of an estimator's gradient of the bound itself (no cold start), mean over a batch."""
    loss = SpriteLoss(dataclasses.replace(config.training, cold_steps=0), estimator)
    named = dict(state.model.named_parameters())

    def draw() -> Mapping[str, Tensor]:
        value, _ = loss(state, images, 1.0)
        found = dict(zip(named, torch.autograd.grad(value, list(named.values())), strict=True))
        # the first row of a step's last layer gives the presence logit
        presence = torch.cat([found["steps.heads.0.2.weight"][0], found["steps.heads.0.2.bias"][:1]])
        return {"all": torch.cat([gradient.flatten() for gradient in found.values()]), "presence": presence}

    spreads = gradient_spread(draw, draws)
    return [
        SpreadRow(estimator, state.step, name, spread.variance, spread.mean_norm, spread.draws, spread.seconds)
        for name, spread in spreads.items()
    ]


def curve(
    config: Config, digits: DigitSets, estimator: Estimator, every: int, device: torch.device, shown: Callable[[str], None]
) -> list[CurvePoint]:
    """Train with an estimator; count accuracy and bound on held-out images, against the time spent on training alone."""
    state = fresh_state(config, device)
    points: list[CurvePoint] = []
    spent_s, started = 0.0, time.perf_counter()

    def check(now: TrainState[SpriteModel], _: dict[str, float]) -> None:
        nonlocal spent_s, started
        if now.step % every and now.step != config.training.steps:
            return
        spent_s += time.perf_counter() - started
        accuracy, bound = judged(now.model, config, digits)
        points.append(CurvePoint(estimator, config.seed, now.step, spent_s, accuracy, bound))
        shown(f"{estimator}, seed {config.seed}: step {now.step}, {100 * accuracy:.1f} % counted right")
        started = time.perf_counter()

    check(state, {})
    train_with(state, config, digits, estimator, check)
    return points


def judged(model: SpriteModel, config: Config, digits: DigitSets) -> tuple[float, float]:
    """Count accuracy and mean bound, nats an image, on held-out images."""
    device = next(model.parameters()).device
    log_p = count_log_prior(model.config.max_objects, config.training.count_ratio)
    generator = torch.Generator(device).manual_seed(0)
    right, bounds = [], []
    for truth in held_out(digits.test, config.images, config.num_eval_images, config.eval_seed):
        images = truth.images.to(device)
        right.append(infer_sprites(model, images).counts.cpu() == truth.counts)
        with torch.no_grad():
            bounds.append(sprite_terms(model, images, config.training.image, log_p, generator).bound)
    return float(torch.cat(right).float().mean()), float(torch.cat(bounds).mean())
