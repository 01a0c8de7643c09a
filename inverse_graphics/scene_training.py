"""Training on 3-D scenes: what a run is told, and its loss, the sleep phase's and the bound's together."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_graphics.bound import bound_scalars
from inverse_graphics.checkpoints import load_state
from inverse_graphics.config import FieldError
from inverse_graphics.estimators import Baseline, Estimator, Weights, surrogate_loss
from inverse_graphics.guides import GuideConfig, RecurrentGuide
from inverse_graphics.objectives import SleepTerms, UprightPrior, bound_terms, sleep_terms
from inverse_graphics.protocols import Renderer
from inverse_graphics.training import LoopConfig, TrainState, new_state
from inverse_graphics.types import Objects, View, map_tensors

Objective = Literal["bound", "sleep", "sleep+bound"]


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
class TrainingConfig(LoopConfig):
    """How the guide is trained."""

    learning_rate: float = 1.5e-3
    """Adam's rate after the warm-up; falls to 0 along a cosine, from ``constant_share`` of the steps on."""
    bound_from: float = 0.8
    """Share of the steps after which ``sleep+bound`` adds the bound to the sleep phase."""
    particles: int = 5
    """Draws an image of the estimator ``vimco``."""
    bound: BoundSchedule = field(default_factory=BoundSchedule)
    """Annealing of the bound."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.bound_from <= 1:
            raise FieldError("bound_from", "a share in 0..1", self.bound_from, "use for example 0.5")
        if self.particles < 2:
            raise FieldError("particles", "at least 2", self.particles, "use for example 5")


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


SPARE_BELOW = 5e-3
"""Once the cold start is over, alternatives of slots less probable than this are not drawn: what their choices would learn is
weighed by that probability, and half of the slots are empty."""


def scene_state(guide: RecurrentGuide, seed: int, device: torch.device) -> TrainState[RecurrentGuide]:
    """A state at step 0; the guide should have been built under the same seed."""
    guide = guide.to(device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  not in the stubs
    return new_state(guide, Baseline(guide.config.height_px, guide.config.width_px).to(device), seed)


def load_scene_state(path: str | Path, device: torch.device) -> TrainState[RecurrentGuide]:
    """Read the state of a run on 3-D scenes; see ``checkpoints.load_state``."""
    return load_state(path, GuideConfig, lambda config: scene_state(RecurrentGuide(config), 0, device))


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


@dataclass(frozen=True)
class SceneLoss:
    """The loss of a batch of scenes, see ``training.Loss``."""

    renderer: Renderer
    """Carries pose gradients; asked only for the bound, and for what a guide with feedback has found."""
    prior: UprightPrior
    """p(count, class, pose) of the bound."""
    config: TrainingConfig
    """How the bound is annealed."""
    objective: Objective
    """``sleep``: maximum likelihood on simulated pairs; ``bound``: images only; ``sleep+bound``: the first, later both."""
    estimator: Estimator
    """How the bound's discrete latents are trained."""

    def __call__(
        self, state: TrainState[RecurrentGuide], example: Example, progress: float
    ) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """Loss, and its terms for the log."""
        loss = example.image_rgb.new_zeros(())
        scalars: dict[str, float] = {}
        if self.objective != "bound":
            painter = state.model.painter(self.renderer, example.view)
            sleep = sleep_terms(state.model, example.image_rgb, example.view, example.truth, state.generator, painter)
            loss = loss + sum_sleep(sleep)
            scalars |= {f"sleep {name}": float(getattr(sleep, name).detach().mean()) for name in SLEEP_WEIGHTS}
        if self.objective == "bound" or (self.objective == "sleep+bound" and progress >= self.config.bound_from):
            # after a sleep phase there is nothing to anneal: the guide already knows where the objects are
            surrogate, terms = self._bound(
                state, example, anneal(self.config.bound, progress if self.objective == "bound" else 1.0)
            )
            loss, scalars = loss + surrogate, scalars | terms
        return loss, scalars

    def _bound(
        self, state: TrainState[RecurrentGuide], example: Example, now: Annealed
    ) -> tuple[Float[Tensor, ""], dict[str, float]]:
        """The bound's loss under a schedule."""
        particles = self.config.particles if self.estimator == "vimco" else 1
        seen = example if particles == 1 else map_tensors(lambda x: x.repeat(particles, *[1] * (x.dim() - 1)), example)
        terms = bound_terms(
            state.model,
            with_step(self.renderer, now.step_px),
            seen.image_rgb,
            seen.view,
            self.prior,
            now.sigma,
            self.config.bound.blur_px if now.weights.coarse > 0 else (),
            state.generator,
            now.explore,
            enumerated=self.estimator == "exact",
            spare_below=0.0 if now.weights.cold_share > 0 else SPARE_BELOW,
        )
        baseline = state.baseline(example.image_rgb)
        loss = surrogate_loss(self.estimator, terms, now.weights, baseline, particles, state.generator).mean()
        return loss, bound_scalars(terms) | {"bound sigma": now.sigma, "bound cold share": now.weights.cold_share}


def sum_sleep(terms: SleepTerms) -> Float[Tensor, ""]:
    """Weighted sum of the sleep phase's terms, mean over the batch."""
    return torch.stack([weight * getattr(terms, name).mean() for name, weight in SLEEP_WEIGHTS.items()]).sum()


def with_step(renderer: Renderer, step_px: float) -> Renderer:
    """The renderer with another finite-difference step, or itself if it takes none."""
    change = getattr(renderer, "with_step", None)
    return change(step_px) if change is not None else renderer
