"""How much the draws of an estimator scatter its gradient, at fixed weights and on a fixed batch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Spread:
    """Gradients of a set of parameters over many draws."""

    variance: float
    """Trace of the gradient's covariance: the expected squared distance of a draw from the mean."""
    mean_norm: float
    """Norm of the mean gradient, what chance adds to it taken off (0 where that is more than there is)."""
    draws: int
    """How many."""
    seconds: float
    """Wall time of a draw."""

    @property
    def variance_seconds(self) -> float:
        """Variance times the time of a draw: of draws averaged for one second.  An estimator that is twice as fast may scatter
        twice as much for the same price.
        """
        return self.variance * self.seconds


def gradient_spread(draw: Callable[[], Mapping[str, Float[Tensor, "_"]]], draws: int) -> dict[str, Spread]:
    """Spread of gradients by set of parameters, in one pass over the draws (Welford 1962).

    Args:
        draw: computes a gradient anew and returns it as a vector for each set.
        draws: how often, at least 2.

    Raises:
        ValueError: fewer than 2 draws.
    """
    if draws < 2:
        raise ValueError(f"draws: expected at least 2, received {draws}; a spread needs more than one")
    means: dict[str, Tensor] = {}
    squares: dict[str, float] = {}
    seconds = 0.0
    for number in range(1, draws + 1):
        started = time.perf_counter()
        gradients = draw()
        seconds += time.perf_counter() - started
        for name, gradient in gradients.items():
            value = gradient.detach().double()
            mean = means.get(name, torch.zeros_like(value))
            moved = mean + (value - mean) / number
            squares[name] = squares.get(name, 0.0) + float(((value - mean) * (value - moved)).sum())
            means[name] = moved
    return {
        name: Spread(
            variance=squares[name] / (draws - 1),
            mean_norm=math.sqrt(max(0.0, float(mean.square().sum()) - squares[name] / (draws - 1) / draws)),
            draws=draws,
            seconds=seconds / draws,
        )
        for name, mean in means.items()
    }
