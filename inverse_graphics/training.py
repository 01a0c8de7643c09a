"""The training loop: batches in, loss terms out, a state that can be saved and taken up again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_graphics.config import FieldError
from inverse_graphics.estimators import Baseline, Weights, exact_loss, nvil_loss
from inverse_graphics.guides.recurrent import RecurrentGuide
from inverse_graphics.objectives import BoundTerms, SleepTerms, UprightPrior, bound_terms, expected_count, sleep_terms
from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Objects, View

Objective = Literal["bound", "sleep", "sleep+bound"]
Estimator = Literal["exact", "nvil"]


@dataclass(frozen=True)
class BoundSchedule:
    """How the bound is annealed; shares are of the steps in which it is trained."""

    sigma_start: float = 0.5
    """Standard deviation of the image noise at first, in units of linear colour."""
    sigma_end: float = 0.15
    """The same after ``anneal_share``; between, geometric."""
    anneal_share: float = 0.6
    """Share of the steps over which sigma, blur and the finite-difference step are annealed."""
    cold_share: float = 0.5
    """Share of the steps over which the aids of a cold start fall: cold weights of the prefixes and exploration to 0,
    coordinate-ascent targets (see ``Weights``) to ``target_share_end``."""
    target_share_end: float = 1.0
    """What is left of the targets after that."""
    temperature: float = 20.0
    """Of the prefixes' cold weights, in nats (see ``Weights``)."""
    explore: float = 0.5
    """Share of uniform draws of class and yaw bin at first."""
    scale: float = 0.02
    """What the bound's gradient, in nats of a whole image, is multiplied by beside that of the targets."""
    coarse: float = 1.0
    """Weight of the blurred errors at first; falls to 0 over ``anneal_share``."""
    blur_px: tuple[int, ...] = (4, 8, 16)
    """Widths of the blurs."""
    step_px_start: float = 3.0
    """Finite-difference step at first, in pixels of motion."""
    step_px_end: float = 1.0
    """Finite-difference step after ``anneal_share``."""

    def __post_init__(self) -> None:
        for name in ("sigma_start", "sigma_end", "scale", "step_px_start", "step_px_end"):
            if not getattr(self, name) > 0:
                raise FieldError(name, "a positive number", getattr(self, name), "raise it")
        if self.coarse < 0 or any(width < 4 or width % 4 for width in self.blur_px):
            raise FieldError("blur_px", "multiples of 4 px, and coarse at least 0", self.blur_px, "use for example [4, 8, 16]")
        if not 0 <= self.target_share_end <= 1 or not 0 <= self.explore <= 1:
            raise FieldError("target_share_end", "a share in 0..1, as explore", self.target_share_end, "use for example 0.5")
        if not self.temperature > 0:
            raise FieldError("temperature", "a positive number of nats", self.temperature, "use for example 20")
        for name in ("anneal_share", "cold_share"):
            if not 0 < getattr(self, name) <= 1:
                raise FieldError(name, "a share above 0, at most 1", getattr(self, name), "use for example 0.5")


@dataclass(frozen=True)
class TrainingConfig:
    """How the guide is trained."""

    steps: int = 3000
    """Gradient steps."""
    batch_size: int = 64
    """Scenes a step."""
    learning_rate: float = 1.5e-3
    """Adam's rate after the warm-up; falls to 0 along a cosine, from ``constant_share`` of the steps on."""
    constant_share: float = 0.0
    """Share of the steps before the rate begins to fall."""
    warmup_steps: int = 100
    """Steps over which the rate rises from 0."""
    max_gradient_norm: float = 20.0
    """Gradients are scaled down to this norm."""
    bound_from: float = 0.8
    """Share of the steps after which ``sleep+bound`` adds the bound to the sleep phase."""
    bound: BoundSchedule = field(default_factory=BoundSchedule)
    """Annealing of the bound."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "warmup_steps"):
            if getattr(self, name) < 1:
                raise FieldError(name, "at least 1", getattr(self, name), "raise it")
        for name in ("learning_rate", "max_gradient_norm"):
            if not getattr(self, name) > 0:
                raise FieldError(name, "a positive number", getattr(self, name), "raise it")
        for name in ("constant_share", "bound_from"):
            if not 0 <= getattr(self, name) <= 1:
                raise FieldError(name, "a share in 0..1", getattr(self, name), "use for example 0.5")


SLEEP_WEIGHTS = {"presence": 1.0, "attention": 0.3, "position": 0.3, "category": 1.0, "yaw": 1.0}
"""Weights of the sleep phase's terms: narrow position densities would drown the rest."""


@dataclass(frozen=True)
class Example:
    """A batch to train on."""

    image_rgb: Float[Tensor, "b h w 3"]
    """Observed images."""
    view: View
    """[b] their views."""
    truth: Objects
    """[b n] what was simulated; only the sleep phase looks at it."""


@dataclass
class TrainState:
    """All that a run needs to go on where it stopped."""

    guide: RecurrentGuide
    """The inference network."""
    baseline: Baseline
    """Baseline of the score function; trained by ``nvil`` only."""
    optimizer: torch.optim.Adam
    """Over the parameters of both."""
    generator: torch.Generator
    """Source of every draw in training, on the guide's device."""
    step: int = 0
    """Steps done."""


def new_state(guide: RecurrentGuide, seed: int, device: torch.device) -> TrainState:
    """A state at step 0; the guide should have been built under the same seed."""
    guide = guide.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  not in the stubs
    baseline = Baseline(guide.config.height_px, guide.config.width_px).to(device)
    optimizer = torch.optim.Adam(
        [{"params": list(guide.parameters()), "ratio": 1.0}, {"params": list(baseline.parameters()), "ratio": 3.0}]
    )
    return TrainState(guide, baseline, optimizer, torch.Generator(device).manual_seed(seed))


def learning_rate_at(config: TrainingConfig, step: int) -> float:
    """Rate at a step, 1..steps: linear warm-up, constant, cosine to 0."""
    done = (step - 1) / config.steps
    fall = max(0.0, done - config.constant_share) / max(1e-9, 1 - config.constant_share)
    return config.learning_rate * min(1.0, step / config.warmup_steps) * 0.5 * (1 + math.cos(math.pi * min(fall, 1.0)))


@dataclass(frozen=True)
class Annealed:
    """The bound's schedule at one step."""

    sigma: float
    weights: Weights
    explore: float
    step_px: float


def anneal(schedule: BoundSchedule, progress: float) -> Annealed:
    """The schedule at a share of the steps in which the bound is trained, 0..1."""
    part = min(1.0, progress / schedule.anneal_share)
    cold = max(0.0, 1 - progress / schedule.cold_share)
    sigma = schedule.sigma_start ** (1 - part) * schedule.sigma_end**part
    targets = max(cold, schedule.target_share_end)
    return Annealed(
        sigma=sigma,
        weights=Weights(cold, targets, schedule.coarse * (1 - part), schedule.scale, schedule.temperature),
        explore=schedule.explore * cold,
        step_px=schedule.step_px_start ** (1 - part) * schedule.step_px_end**part,
    )


def train(
    state: TrainState,
    examples: Iterator[Example],
    renderer: Renderer,
    prior: UprightPrior,
    config: TrainingConfig,
    objective: Objective,
    estimator: Estimator,
    on_step: Callable[[TrainState, dict[str, float]], None],
) -> None:
    """Train until ``config.steps`` steps are done.

    Args:
        state: where to start; updated in place.
        examples: batches, on the guide's device.
        renderer: carries pose gradients; asked only for the bound.
        prior: p(count, class, pose) of the bound.
        config: how to train.
        objective: ``sleep``: maximum likelihood on simulated pairs; ``bound``: images only; ``sleep+bound``: the first, later
            both.
        estimator: how the bound's discrete latents are trained.
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
            loss, scalars = _loss(state, example, renderer, prior, config, objective, estimator, (step - 1) / config.steps)
            if not math.isfinite(float(loss.detach())):
                raise FloatingPointError(
                    f"the loss is {float(loss.detach())} at step {step} ({scalars}); lower the learning rate or check the "
                    "images; the last checkpoint is intact"
                )
            state.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(list(state.guide.parameters()), config.max_gradient_norm)
            if not bool(torch.isfinite(norm)):
                raise FloatingPointError(
                    f"the gradient is {float(norm)} at step {step} ({scalars}); lower the learning rate or check the images; "
                    "the last checkpoint is intact"
                )
        state.optimizer.step()
        state.step = step
        scalars |= {"loss": float(loss.detach()), "gradient norm": float(norm), "learning rate": rate, "waiting s": waited_s}
        on_step(state, scalars)


@contextmanager
def _undone_draws(generator: torch.Generator) -> Iterator[None]:
    """Where a step fails the generator is as before it too, so that a resumed run makes the same draws."""
    before = generator.get_state()
    try:
        yield
    except BaseException:
        generator.set_state(before)
        raise


def _loss(
    state: TrainState,
    example: Example,
    renderer: Renderer,
    prior: UprightPrior,
    config: TrainingConfig,
    objective: Objective,
    estimator: Estimator,
    progress: float,
) -> tuple[Tensor, dict[str, float]]:
    """Loss of one batch, and its terms for the log."""
    loss = example.image_rgb.new_zeros(())
    scalars: dict[str, float] = {}
    if objective != "bound":
        sleep = sleep_terms(state.guide, example.image_rgb, example.view, example.truth, state.generator)
        loss = loss + sum_sleep(sleep)
        scalars |= {f"sleep {name}": float(getattr(sleep, name).detach().mean()) for name in SLEEP_WEIGHTS}
    if objective == "bound" or (objective == "sleep+bound" and progress >= config.bound_from):
        # after a sleep phase there is nothing to anneal: the guide already knows where the objects are
        now = anneal(config.bound, progress if objective == "bound" else 1.0)
        stepped = with_step(renderer, now.step_px)
        blur_px = config.bound.blur_px if now.weights.coarse > 0 else ()
        terms = bound_terms(
            state.guide, stepped, example.image_rgb, example.view, prior, now.sigma, blur_px, state.generator, now.explore
        )
        if estimator == "exact":
            surrogate = exact_loss(terms, now.weights)
        else:
            surrogate = nvil_loss(terms, now.weights, state.baseline(example.image_rgb), state.generator)
        loss = loss + surrogate.mean()
        scalars |= bound_scalars(terms) | {"bound sigma": now.sigma, "bound cold share": now.weights.cold_share}
    return loss, scalars


def sum_sleep(terms: SleepTerms) -> Float[Tensor, ""]:
    """Weighted sum of the sleep phase's terms, mean over the batch."""
    return torch.stack([weight * getattr(terms, name).mean() for name, weight in SLEEP_WEIGHTS.items()]).sum()


def with_step(renderer: Renderer, step_px: float) -> Renderer:
    """The renderer with another finite-difference step, or itself if it takes none."""
    change = getattr(renderer, "with_step", None)
    return change(step_px) if change is not None else renderer


def bound_scalars(terms: BoundTerms) -> dict[str, float]:
    """Each term of the bound on its own, means over the batch."""
    with torch.no_grad():
        q = terms.count_log_q.exp()
        return {
            "bound": float(terms.bound.mean()),
            "bound log likelihood": float((q * terms.log_likelihood(terms.errors)).sum(-1).mean()) + terms.constant,
            "bound squared error": float((q * terms.errors).sum(-1).mean()),
            "bound KL count": float((q * (terms.count_log_q - terms.count_log_p)).sum(-1).mean()),
            "bound KL class and pose": float((q * terms.kl_of_prefixes).sum(-1).mean()),
            "bound expected count": float(expected_count(terms.count_log_q).mean()),
        }
