"""Fitting a reader to labelled images: Adam, averaged weights, the best of them on a held-out tenth of the labels."""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from inverse_graphics.config import FieldError
from inverse_graphics.downstream.variation import Variation

HELD_OUT = 10
"""Every tenth labelled image decides when a reader was best; it counts as a label."""
CHECKS = 10
"""How often that is looked at."""
WARMUP = 0.1
"""Share of the steps over which the rate rises."""
KEPT = 0.998
"""Share of the averaged weights that a step keeps; less in the first steps, so that nothing is left of the start."""
SEEDS_APART = 1_000_000
"""From the seed of one start to that of the next."""

Answer = Callable[[nn.Module, Int[Tensor, "b"], torch.Generator | None], Float[Tensor, "b *answers"]]
"""What a reader makes of the images of some numbers, as log probabilities; with a generator varied at random, for training."""


@dataclass(frozen=True)
class FitConfig:
    """How long and how fast a reader is trained."""

    epochs: float = 12.0
    """Times every labelled image is seen ..."""
    least_steps: int = 800
    """... but at least so many steps ..."""
    most_steps: int = 4000
    """... and at most so many."""
    starts: int = 1
    """Trainings from other weights, where labels are so few that ``least_steps`` hold; the held-out tenth chooses one."""
    batch_size: int = 64
    """Images a step."""
    learning_rate: float = 1e-3
    """Adam's highest rate, see ``rate_at``."""
    weight_decay: float = 1e-3
    """Share of the weights, times the rate, that is lost each step."""
    hidden: int = 128
    """Units of the reader before its answer."""
    dropout: float = 0.3
    """Share of the units dropped in training."""
    variation: Variation = Variation()
    """What is done to training pictures: sprites of the latents, or whole images."""

    def __post_init__(self) -> None:
        for name in ("least_steps", "most_steps", "starts", "batch_size", "hidden"):
            if getattr(self, name) < 1:
                raise FieldError(name, "at least 1", getattr(self, name), "raise it")
        for name in ("epochs", "learning_rate"):
            if not getattr(self, name) > 0:
                raise FieldError(name, "a positive number", getattr(self, name), "raise it")
        if not self.weight_decay >= 0:
            raise FieldError("weight_decay", "a number >= 0", self.weight_decay, "0 is none")
        if not 0 <= self.dropout < 1:
            raise FieldError("dropout", "a share below 1", self.dropout, "0 is none")

    def steps(self, labels: int) -> int:
        """Gradient steps for a number of labelled images."""
        return min(self.most_steps, max(self.least_steps, math.ceil(self.epochs * labels / self.batch_size)))

    def trainings(self, labels: int) -> int:
        """Trainings for a number of labelled images."""
        return self.starts if self.steps(labels) <= self.least_steps else 1


@dataclass(frozen=True)
class Fit:
    """What came of it."""

    held_out_loss: float
    """Mean negative log probability of the right answers of the held-out tenth, in nats, where it was smallest."""
    best_step: int
    """When that was."""
    steps: int
    """How many there were."""
    seconds: float
    """Wall time, of all trainings."""


def check_labels(count: int) -> None:
    """ValueError where there are too few labels for a held-out tenth."""
    if count < HELD_OUT:
        raise ValueError(f"labels: expected at least {HELD_OUT}, a tenth of which is held out, received {count}; give more")


def fit_best(
    build: Callable[[], nn.Module], answer: Answer, targets: Int[Tensor, "n"], config: FitConfig, seed: int
) -> tuple[nn.Module, Fit]:
    """Train readers from ``config.trainings`` starts; the one that answers the held-out labels best.

    Args:
        build: makes a reader, its weights drawn from torch's global generator, on the targets' device.
        answer, targets, config: see ``fit``.
        seed: of weights, batches and variations.

    Raises:
        ValueError, FloatingPointError: see ``fit``.
    """
    found: list[tuple[nn.Module, Fit]] = []
    for start in range(config.trainings(len(targets))):
        own = seed + SEEDS_APART * start
        with _seeded(targets.device, own):
            reader = build()
        found.append((reader, fit(reader, answer, targets, config, own)))
    reader, done = min(found, key=lambda trained: trained[1].held_out_loss)
    return reader, dataclasses.replace(done, seconds=sum(one.seconds for _, one in found))


def fit(reader: nn.Module, answer: Answer, targets: Int[Tensor, "n"], config: FitConfig, seed: int) -> Fit:
    """Train a reader, and leave it with its best averaged weights.

    Args:
        reader: what ``answer`` is given; updated in place.
        answer: see there.
        targets: right answers of the images 0..n-1, which are the labels; every tenth is held out.
        config: how.
        seed: of batches and variations.

    Raises:
        ValueError: too few labels for a held-out tenth.
        FloatingPointError: the loss was never finite.
    """
    check_labels(len(targets))
    with _seeded(targets.device, seed):  # dropout draws from the global generator
        return _fit(reader, answer, targets, config, torch.Generator(targets.device).manual_seed(seed))


@contextmanager
def _seeded(device: torch.device, seed: int) -> Iterator[None]:
    """The global generators under a seed; as they were before afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


def _fit(reader: nn.Module, answer: Answer, targets: Int[Tensor, "n"], config: FitConfig, generator: torch.Generator) -> Fit:
    """See ``fit``."""
    started = time.perf_counter()
    rows = torch.arange(len(targets), device=targets.device)
    held, used = rows[::HELD_OUT], rows[rows % HELD_OUT != 0]
    optimizer = torch.optim.AdamW(reader.parameters(), weight_decay=config.weight_decay, fused=True)
    steps = config.steps(len(targets))
    average = copy.deepcopy(reader)
    best, best_loss, best_step = copy.deepcopy(reader.state_dict()), math.inf, 0
    for step in range(1, steps + 1):
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate * rate_at(step, steps)
        batch = used[torch.randint(len(used), (config.batch_size,), generator=generator, device=used.device)]
        reader.train()
        loss = F.nll_loss(answer(reader, batch, generator), targets[batch])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        _move(average, reader, 1 - min(KEPT, step / (step + 9)))
        if step % max(1, steps // CHECKS) == 0 or step == steps:
            value = float(F.nll_loss(answer_all(average, answer, held), targets[held]))
            if value < best_loss:
                best, best_loss, best_step = copy.deepcopy(average.state_dict()), value, step
    reader.load_state_dict(best)
    if not math.isfinite(best_loss):
        raise FloatingPointError("the loss of the held-out labels was never finite; lower the learning rate")
    return Fit(best_loss, best_step, steps, time.perf_counter() - started)


def rate_at(step: int, steps: int) -> float:
    """Share of the learning rate at a step, 1..steps: it rises from 0, then falls to 0 along a cosine."""
    return min(1.0, step / (WARMUP * steps)) * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))


def _move(average: nn.Module, reader: nn.Module, share: float) -> None:
    """Averaged weights, and statistics of batches, a share of the way to a reader's."""
    with torch.no_grad():
        for mean, value in zip(average.state_dict().values(), reader.state_dict().values(), strict=True):
            if mean.is_floating_point():
                mean.lerp_(value, share)


def answer_all(reader: nn.Module, answer: Answer, rows: Int[Tensor, "n"], chunk: int = 500) -> Float[Tensor, "n *answers"]:
    """Answers for many images, nothing varied or dropped."""
    reader.eval()
    with torch.no_grad():
        return torch.cat([answer(reader, part, None) for part in rows.split(chunk)])
