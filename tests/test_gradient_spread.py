"""Scatter of gradients: against numpy's covariance, and of estimators whose scatter is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from inverse_graphics.gradient_spread import gradient_spread


def test_variance_and_mean_are_those_of_all_draws_together() -> None:
    generator = torch.Generator().manual_seed(0)
    draws = [torch.randn(5, generator=generator) * 3 + torch.arange(5.0) for _ in range(40)]
    left = iter(draws)

    def draw() -> dict[str, Tensor]:
        gradient = next(left)
        return {"all": gradient, "two": gradient[:2]}

    found = gradient_spread(draw, 40)
    table = np.stack([gradient.numpy() for gradient in draws]).astype(np.float64)
    for name, columns in (("all", 5), ("two", 2)):
        covariance = np.cov(table[:, :columns].T)
        assert found[name].variance == pytest.approx(np.trace(covariance), rel=1e-6)
        mean = table[:, :columns].mean(0)
        assert found[name].mean_norm == pytest.approx(np.sqrt(max(0.0, mean @ mean - np.trace(covariance) / 40)), rel=1e-6)
        assert found[name].draws == 40 and found[name].seconds > 0
    assert found["all"].variance_seconds == pytest.approx(found["all"].variance * found["all"].seconds)


def test_a_gradient_without_chance_has_no_variance_and_one_of_chance_alone_no_mean() -> None:
    steady = gradient_spread(lambda: {"all": torch.tensor([3.0, 4.0])}, 5)["all"]
    assert (steady.variance, steady.mean_norm) == (0.0, pytest.approx(5.0))
    signs = iter([1.0, -1.0] * 3)
    chance = gradient_spread(lambda: {"all": torch.tensor([next(signs)])}, 6)["all"]
    assert chance.mean_norm == 0.0 and chance.variance == pytest.approx(1.2)
    with pytest.raises(ValueError, match="expected at least 2, received 1"):
        gradient_spread(lambda: {"all": torch.zeros(1)}, 1)
