"""Densities, draws and modes of the guide's distributions, against brute force, quadrature and closed forms."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from guide_scenes import random_reading

from inverse_graphics.guides.posterior import (
    Reading,
    at_least_probabilities,
    count_log_probabilities,
    draw_categorical,
    draw_yaw,
    gaussian_log_prob,
    wrap,
    yaw_log_prob,
    yaw_modes,
    yaw_of_phase,
)
from inverse_graphics.types import map_tensors

FOLDS = torch.tensor([1, 2, 4])


def repeat(reading: Reading, times: int) -> Reading:
    """The same reading for many glimpses."""
    return map_tensors(lambda x: x.expand(times, *x.shape), reading)


def chi_square_limit(cells: int) -> float:
    """Five standard deviations above the mean of chi-square with cells - 1 degrees of freedom."""
    return cells - 1 + 5 * math.sqrt(2 * (cells - 1))


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_count_probabilities_are_the_chain_of_presences(steps: int) -> None:
    logits = 3 * torch.randn(5, steps, dtype=torch.float64)
    presence = 1 / (1 + (-logits).exp())
    log_q = count_log_probabilities(logits)
    for b in range(5):
        for count in range(steps + 1):
            expected = math.prod(float(presence[b, i]) for i in range(count))
            expected *= 1 - float(presence[b, count]) if count < steps else 1.0
            assert float(log_q[b, count].exp()) == pytest.approx(expected, rel=1e-9)
    torch.testing.assert_close(log_q.exp().sum(-1), torch.ones(5, dtype=torch.float64))


def test_count_probabilities_keep_value_and_gradient_where_presence_saturates() -> None:
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    log_q = count_log_probabilities(logits)
    torch.testing.assert_close(log_q, torch.tensor([[-200.0, 0.0, -200.0]]))
    (gradient,) = torch.autograd.grad(log_q[0, 0], logits)
    torch.testing.assert_close(gradient, torch.tensor([[-1.0, 0.0]]))


def test_at_least_probabilities_sum_the_tail() -> None:
    q = torch.tensor([[0.1, 0.2, 0.3, 0.4], [1.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(at_least_probabilities(q), torch.tensor([[0.9, 0.7, 0.4], [0.0, 0.0, 0.0]]))


def test_wrap_gives_the_same_angle_in_one_turn() -> None:
    angle = torch.linspace(-20, 20, 1001, dtype=torch.float64, requires_grad=True)
    wrapped = wrap(angle)
    assert wrapped.min() >= -math.pi and wrapped.max() < math.pi
    torch.testing.assert_close(torch.polar(torch.ones_like(angle), wrapped), torch.polar(torch.ones_like(angle), angle))
    (gradient,) = torch.autograd.grad(wrapped.sum(), angle)
    assert torch.equal(gradient, torch.ones_like(angle))
    assert float(wrap(torch.tensor(math.pi, dtype=torch.float64))) == pytest.approx(-math.pi)


def test_gaussian_log_prob_is_that_of_torch() -> None:
    x, mean, std = torch.randn(4, 3), torch.randn(4, 3), torch.rand(4, 3) + 0.1
    expected = torch.distributions.Normal(mean, std).log_prob(x).sum(-1)
    torch.testing.assert_close(gaussian_log_prob(x, mean, std), expected)


@pytest.mark.parametrize("class_id", [0, 1, 2])
def test_yaw_density_integrates_to_one_over_the_phase(class_id: int) -> None:
    steps = 4000
    reading = random_reading((), seed=class_id)
    phase = (torch.arange(steps, dtype=torch.float64) + 0.5) * (2 * math.pi / steps) - math.pi
    density = yaw_log_prob(repeat(reading, steps), torch.full((steps,), class_id), phase / FOLDS[class_id], FOLDS).exp()
    assert float(density.mean()) * 2 * math.pi == pytest.approx(1.0, abs=1e-3)


def test_yaw_density_repeats_with_the_class_fold() -> None:
    reading = random_reading((6,))
    class_ids = torch.tensor([0, 1, 2, 2, 1, 0])
    yaw = 6 * torch.rand(6, dtype=torch.float64) - 3
    turned = yaw + 3 * 2 * math.pi / FOLDS[class_ids]
    torch.testing.assert_close(yaw_log_prob(reading, class_ids, turned, FOLDS), yaw_log_prob(reading, class_ids, yaw, FOLDS))


def test_yaw_density_is_the_mixture_of_nearest_images() -> None:
    reading = random_reading((4,))
    class_ids, yaw = torch.tensor([2, 0, 1, 2]), torch.tensor([0.3, -3.0, 2.0, 5.0], dtype=torch.float64)
    got = yaw_log_prob(reading, class_ids, yaw, FOLDS)
    for i, k in enumerate(class_ids.tolist()):
        weights = reading.yaw_logits[i, k].softmax(-1)
        density = 0.0
        for weight, centre, std in zip(weights, reading.yaw_phase_rad[i, k], reading.yaw_std_rad[i, k], strict=True):
            turns = [float(yaw[i] * FOLDS[k] - centre) + 2 * math.pi * n for n in range(-8, 9)]
            nearest = min(turns, key=abs)
            density += float(weight) * math.exp(-0.5 * (nearest / float(std)) ** 2) / (float(std) * math.sqrt(2 * math.pi))
        assert float(got[i]) == pytest.approx(math.log(density), rel=1e-9)


def test_yaw_that_cannot_be_seen_has_neither_density_nor_gradient() -> None:
    reading = random_reading((2,))
    logits = reading.yaw_logits.clone().requires_grad_()
    reading = dataclasses.replace(reading, yaw_logits=logits)
    folds = torch.tensor([0, 2, 1])
    yaw = torch.tensor([0.4, 0.7], dtype=torch.float64, requires_grad=True)
    log_q = yaw_log_prob(reading, torch.tensor([0, 1]), yaw, folds)
    assert float(log_q[0].detach()) == 0.0
    gradients = torch.autograd.grad(log_q.sum(), [logits, yaw])
    assert not gradients[0][0].any() and float(gradients[1][0]) == 0.0
    assert gradients[0][1].any() and torch.isfinite(gradients[1]).all()
    assert float(draw_yaw(reading, folds, torch.Generator().manual_seed(0))[1][:, 0].abs().max()) == 0.0
    assert float(yaw_modes(reading, folds)[1][:, 0].abs().max()) == 0.0


def test_modes_are_maxima_of_narrow_mixtures() -> None:
    reading = dataclasses.replace(random_reading((5,)), yaw_std_rad=torch.rand(5, 3, 8, dtype=torch.float64) * 0.02 + 0.01)
    centres = torch.arange(8, dtype=torch.float64) * (math.pi / 4) + 0.1
    reading = dataclasses.replace(reading, yaw_phase_rad=centres.expand(5, 3, 8))
    _, modes = yaw_modes(reading, FOLDS)
    phase = torch.linspace(-math.pi, math.pi, 2001, dtype=torch.float64)
    grid = repeat(reading, len(phase))
    for k in range(3):
        peak = yaw_log_prob(reading, torch.full((5,), k), modes[:, k], FOLDS)
        yaw = (phase / FOLDS[k])[:, None].expand(-1, 5)
        assert (yaw_log_prob(grid, torch.full(yaw.shape, k), yaw, FOLDS) <= peak + 1e-9).all()


def test_yaw_of_phase_lies_within_one_period() -> None:
    phase = torch.linspace(-10, 10, 60).reshape(20, 3)
    yaw = yaw_of_phase(phase, FOLDS)
    assert (yaw.abs() <= math.pi / FOLDS + 1e-6).all()
    torch.testing.assert_close((yaw * FOLDS).cos(), phase.cos(), rtol=0, atol=1e-5)


def test_categorical_draws_follow_the_softmax_and_the_uniform_share() -> None:
    logits, draws = torch.tensor([2.0, -1.0, 0.0, 0.5]), 20_000
    for explore in (0.0, 0.5, 1.0):
        picked = draw_categorical(logits.expand(draws, 4), torch.Generator().manual_seed(3), explore)
        expected = draws * ((1 - explore) * logits.softmax(-1) + explore / 4)
        statistic = ((torch.bincount(picked, minlength=4) - expected).square() / expected).sum()
        assert float(statistic) < chi_square_limit(4)


def test_yaw_draws_follow_the_density() -> None:
    draws, cells, k = 20_000, 24, 1
    one = random_reading(())
    bins, yaw = draw_yaw(repeat(one, draws), FOLDS, torch.Generator().manual_seed(5))
    expected_bins = draws * one.yaw_logits[k].softmax(-1)
    observed_bins = torch.bincount(bins[:, k], minlength=8)
    assert float(((observed_bins - expected_bins).square() / expected_bins).sum()) < chi_square_limit(8)

    fine = 50
    phase = (torch.arange(cells * fine, dtype=torch.float64) + 0.5) * (2 * math.pi / (cells * fine)) - math.pi
    ids = torch.full((cells * fine,), k)
    density = yaw_log_prob(repeat(one, len(ids)), ids, phase / FOLDS[k], FOLDS).exp()
    expected = draws * density.reshape(cells, fine).mean(-1) * (2 * math.pi / cells)
    observed = torch.histc(wrap(yaw[:, k] * FOLDS[k]), cells, -math.pi, math.pi)
    used = expected > 20
    assert used.sum() > 8
    statistic = ((observed - expected).square() / expected)[used].sum()
    assert float(statistic) < chi_square_limit(int(used.sum()))


def test_yaw_draws_carry_the_reparameterised_gradient() -> None:
    draws, fold = 20_000, 2
    centre = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    std = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    one = random_reading((draws,), classes=1, bins=1)
    reading = dataclasses.replace(one, yaw_phase_rad=centre.expand(draws, 1, 1), yaw_std_rad=std.expand(draws, 1, 1))
    _, yaw = draw_yaw(reading, torch.tensor([fold]), torch.Generator().manual_seed(1))
    gradients = torch.autograd.grad((fold * yaw).cos().mean(), [centre, std])
    # E cos(phase) = exp(-std^2 / 2) cos(centre)
    shrink = math.exp(-0.5 * 0.4**2)
    assert float(gradients[0]) == pytest.approx(-shrink * math.sin(0.7), abs=0.01)
    assert float(gradients[1]) == pytest.approx(-0.4 * shrink * math.cos(0.7), abs=0.02)


def test_draws_depend_on_the_generator_alone() -> None:
    reading = random_reading((50,))
    first = draw_yaw(reading, FOLDS, torch.Generator().manual_seed(1))
    torch.rand(3)
    again = draw_yaw(reading, FOLDS, torch.Generator().manual_seed(1))
    other = draw_yaw(reading, FOLDS, torch.Generator().manual_seed(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1], other[1])
