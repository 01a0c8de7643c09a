"""Gradient estimators against the gradient of a bound whose count, classes and yaw bins are all enumerated.

Two slots, two classes and two yaw bins a class, so that a slot's draw (a class, and a bin for each class) has 8 outcomes and an
image depends on one of 4 (class, bin) pairs in each slot, through a table of squared errors.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from inverse_graphics.bound import BoundTerms, Choice, gaussian_constant
from inverse_graphics.estimators import BASELINE_SCALE, Baseline, Weights, exact_loss, nvil_loss, vimco_loss
from inverse_graphics.guides.posterior import count_log_probabilities

SLOTS, CLASSES, BINS = 2, 2, 2
LOG_P = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64).log()
SIGMA = 0.8
PRECISION = -0.5 / SIGMA**2
OUTCOMES = list(itertools.product(range(CLASSES), *[range(BINS)] * CLASSES))
"""What one slot may draw: a class, and a bin for each class."""


@dataclass(frozen=True)
class Logits:
    presence: Tensor
    classes: Tensor
    bins: Tensor

    def for_each(self, batch: int) -> Logits:
        """A leaf of its own for each example, so that gradients come apart."""
        return Logits(*(x.detach().expand(batch, *x.shape).clone().requires_grad_() for x in self.all))

    @property
    def all(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.presence, self.classes, self.bins


def random_logits() -> Logits:
    g = torch.Generator().manual_seed(2)
    shapes = (SLOTS,), (SLOTS, CLASSES), (SLOTS, CLASSES, BINS)
    return Logits(*(torch.randn(s, generator=g, dtype=torch.float64).requires_grad_() for s in shapes))


def error_table() -> Tensor:
    """[n, pair of slot 0, pair of slot 1] squared errors of the image of the first n slots."""
    g = torch.Generator().manual_seed(5)
    one = torch.rand(4, generator=g, dtype=torch.float64)
    both = torch.rand(4, 4, generator=g, dtype=torch.float64)
    return torch.stack([torch.full((4, 4), 1.5, dtype=torch.float64), 3 * one[:, None].expand(4, 4), 3 * both])


def slot_kl(logits: Logits) -> Tensor:
    """[*b slots] KL of class and bin from uniform ones."""
    q, log_q = logits.classes.softmax(-1), logits.classes.log_softmax(-1)
    bins = (logits.bins.softmax(-1) * (logits.bins.log_softmax(-1) + math.log(BINS))).sum(-1)
    return (q * (log_q + math.log(CLASSES) + bins)).sum(-1)


def enumerated_bound(logits: Logits) -> Tensor:
    """The bound with everything summed out."""
    pairs = (logits.classes.log_softmax(-1)[..., None] + logits.bins.log_softmax(-1)).exp().flatten(1)
    likelihood = torch.einsum("i,j,nij->n", pairs[0], pairs[1], -0.5 * error_table() / SIGMA**2)
    count_log_q = count_log_probabilities(logits.presence)
    kl = F.pad(slot_kl(logits).cumsum(0), (1, 0))
    return (count_log_q.exp() * (likelihood - kl + LOG_P - count_log_q)).sum()


def terms_of(logits: Logits, ids: Tensor, bins: Tensor) -> BoundTerms:
    """Terms of drawn classes [b slots] and bins [b slots classes]; logits with a leading batch dimension."""
    table = error_table()

    def errors(pair: Tensor, first: int) -> Tensor:
        found = torch.stack([table[n, pair[:, 0], pair[:, 1]] for n in range(SLOTS + 1)], -1)
        return torch.cat([torch.zeros_like(found[:, :first]), found[:, first:]], -1)

    def replaced(slot: int, value: Tensor) -> Tensor:
        other = pair.clone()
        other[:, slot] = value
        return errors(other, slot + 1)

    bin_of_class = bins.gather(-1, ids[..., None])[..., 0]
    pair = ids * BINS + bin_of_class
    class_log_q = logits.classes.log_softmax(-1)
    yaw_log_q = logits.bins.gather(-2, ids[..., None, None].expand(-1, -1, 1, BINS))[..., 0, :].log_softmax(-1)
    drawn = class_log_q.gather(-1, ids[..., None])[..., 0] + yaw_log_q.gather(-1, bin_of_class[..., None])[..., 0]
    by_class = [[replaced(s, k * BINS + bins[:, s, k]) for k in range(CLASSES)] for s in range(SLOTS)]
    by_bin = [[replaced(s, ids[:, s] * BINS + y) for y in range(BINS)] for s in range(SLOTS)]
    return BoundTerms(
        count_log_q=count_log_probabilities(logits.presence),
        count_log_p=LOG_P,
        log_likelihood=PRECISION * errors(pair, 0),
        coarse=torch.zeros(len(ids), SLOTS + 1, dtype=torch.float64),
        choices=(
            Choice(class_log_q, PRECISION * torch.stack([torch.stack(x, 1) for x in by_class], 1)),
            Choice(yaw_log_q, PRECISION * torch.stack([torch.stack(x, 1) for x in by_bin], 1)),
        ),
        drawn_log_q=drawn,
        kl=slot_kl(logits),
        log_ratio=drawn + math.log(CLASSES * BINS),
        constant=gaussian_constant(12, SIGMA),
    )


def every_draw() -> tuple[Tensor, Tensor]:
    """All 64 draws of both slots: classes and bins."""
    rows = torch.tensor(list(itertools.product(OUTCOMES, repeat=SLOTS)))
    return rows[..., 0], rows[..., 1:]


def draw_probabilities(logits: Logits, ids: Tensor, bins: Tensor) -> Tensor:
    q = logits.classes.detach().softmax(-1).expand(len(ids), -1, -1).gather(-1, ids[..., None])[..., 0]
    q_bins = logits.bins.detach().softmax(-1).expand(len(ids), -1, -1, -1).gather(-1, bins[..., None])[..., 0]
    return (q * q_bins.prod(-1)).prod(-1)


def bound_gradient(logits: Logits) -> tuple[Tensor, ...]:
    return torch.autograd.grad(-enumerated_bound(logits), logits.all)


def test_terms_hold_the_enumerated_bound() -> None:
    logits = random_logits()
    ids, bins = every_draw()
    probability = draw_probabilities(logits, ids, bins)
    assert float(probability.sum()) == pytest.approx(1.0)
    terms = terms_of(logits.for_each(len(ids)), ids, bins)
    mean = (probability * (terms.bound - terms.constant)).sum()
    torch.testing.assert_close(mean, enumerated_bound(logits))


def test_exact_gradient_is_that_of_the_enumerated_bound() -> None:
    logits = random_logits()
    ids, bins = every_draw()
    probability, each = draw_probabilities(logits, ids, bins), logits.for_each(len(ids))
    loss = (probability * exact_loss(terms_of(each, ids, bins), Weights())).sum()
    for got, expected in zip(torch.autograd.grad(loss, each.all), bound_gradient(logits), strict=True):
        torch.testing.assert_close(got.sum(0), expected)


def test_exact_gradient_of_one_slot_needs_no_draws() -> None:
    """With one slot and one bin nothing is left to chance: any draw gives the same gradient."""
    classes = torch.tensor([[[0.3, -0.4, 1.0]]], dtype=torch.float64, requires_grad=True)
    presence = torch.tensor([[0.5]], dtype=torch.float64, requires_grad=True)
    swapped = torch.tensor([2.0, 0.5, 1.0], dtype=torch.float64)
    q, log_q, count_log_q = classes.softmax(-1)[0, 0], classes.log_softmax(-1), count_log_probabilities(presence)
    expected = torch.autograd.grad(-(count_log_q[0].exp()[1] * -(q @ swapped) / 2), classes, retain_graph=True)
    for drawn in range(3):
        terms = dataclasses.replace(
            _one_slot(count_log_q, log_q, swapped),
            log_likelihood=-0.5 * torch.stack([torch.tensor(3.0), swapped[drawn]])[None].double(),
        )
        got = torch.autograd.grad(exact_loss(terms, Weights()).sum(), classes, retain_graph=True)
        torch.testing.assert_close(got[0], expected[0])


def _one_slot(count_log_q: Tensor, class_log_q: Tensor, swapped: Tensor) -> BoundTerms:
    zero = torch.zeros(1, 2, dtype=torch.float64)
    return BoundTerms(
        count_log_q=count_log_q,
        count_log_p=torch.tensor([0.5, 0.5], dtype=torch.float64).log(),
        log_likelihood=zero,
        coarse=zero,
        choices=(Choice(class_log_q, -0.5 * torch.stack([torch.zeros_like(swapped), swapped], -1)[None, None]),),
        drawn_log_q=torch.zeros(1, 1, dtype=torch.float64),
        kl=torch.zeros(1, 1, dtype=torch.float64),
        log_ratio=torch.zeros(1, 1, dtype=torch.float64),
        constant=gaussian_constant(3, 1.0),
    )


@pytest.mark.parametrize("baseline", [0.0, -4.0])
def test_nvil_gradient_agrees_with_the_enumerated_bound(baseline: float) -> None:
    draws, logits, g = 20_000, random_logits(), torch.Generator().manual_seed(7)
    q, q_bins = logits.classes.detach().softmax(-1), logits.bins.detach().softmax(-1)
    ids = torch.multinomial(q, draws, replacement=True, generator=g).T
    bins = torch.multinomial(q_bins.flatten(0, 1), draws, replacement=True, generator=g).T.reshape(draws, SLOTS, CLASSES)
    each = logits.for_each(draws)
    loss = nvil_loss(terms_of(each, ids, bins), Weights(), torch.full((draws,), baseline, dtype=torch.float64), g)
    for got, expected in zip(torch.autograd.grad(loss.sum(), each.all), bound_gradient(logits), strict=True):
        error = got.std(0) / math.sqrt(draws)
        assert (error > 0).all() and (error < 0.05).all()
        assert ((got.mean(0) - expected).abs() < 4.5 * error).all()


def enumerated_tighter_bound(logits: Logits) -> Tensor:
    """E[log (w_a + w_b) / 2] over all pairs of draws of two particles: each a count and a (class, bin) pair in each slot."""
    log_pair = (logits.classes.log_softmax(-1)[..., None] + logits.bins.log_softmax(-1)).flatten(1)
    count_log_q, table = count_log_probabilities(logits.presence), -0.5 * error_table() / SIGMA**2
    log_q, log_w = [], []
    for n, i, j in itertools.product(range(SLOTS + 1), range(4), range(4)):
        ratio = torch.stack([log_pair[0, i], log_pair[1, j]])[:n].sum() + n * math.log(CLASSES * BINS)
        log_q.append(count_log_q[n] + log_pair[0, i] + log_pair[1, j])
        log_w.append(table[n, i, j] + LOG_P[n] - count_log_q[n] - ratio)
    q, w = torch.stack(log_q).exp(), torch.stack(log_w)
    return q @ (torch.logaddexp(w[:, None], w[None]) - math.log(2)) @ q


def test_vimco_gradient_agrees_with_that_of_all_pairs_of_draws() -> None:
    draws, logits, g = 40_000, random_logits(), torch.Generator().manual_seed(3)
    q, q_bins = logits.classes.detach().softmax(-1), logits.bins.detach().softmax(-1)
    ids = torch.multinomial(q, draws, replacement=True, generator=g).T
    bins = torch.multinomial(q_bins.flatten(0, 1), draws, replacement=True, generator=g).T.reshape(draws, SLOTS, CLASSES)
    each = logits.for_each(draws)
    loss = vimco_loss(terms_of(each, ids, bins), Weights(), 2, g)
    assert len(loss) == draws // 2
    expected = torch.autograd.grad(-enumerated_tighter_bound(logits), logits.all)
    for got, wanted in zip(torch.autograd.grad(loss.sum(), each.all), expected, strict=True):
        pairs = got.unflatten(0, (2, -1)).sum(0)
        error = pairs.std(0) / math.sqrt(len(pairs))
        assert (error > 0).all() and (error < 0.05).all()
        assert ((pairs.mean(0) - wanted).abs() < 4.5 * error).all()


def test_vimco_wants_two_particles_that_divide_the_rows() -> None:
    terms = terms_of(random_logits().for_each(64), *every_draw())
    for particles in (1, 3):
        with pytest.raises(ValueError, match="expected at least 2 particles that divide 64 rows"):
            vimco_loss(terms, Weights(), particles, None)


def test_exact_gradient_varies_less_than_nvil() -> None:
    logits, repeats = random_logits(), 50
    ids, bins = (x.repeat(repeats, *[1] * (x.dim() - 1)) for x in every_draw())
    weight = draw_probabilities(logits, ids, bins)[:, None] / repeats
    spread: list[float] = []
    for name in ("exact", "nvil"):
        each = logits.for_each(len(ids))
        terms = terms_of(each, ids, bins)
        mean = terms.bound.detach().mean() - terms.constant
        loss = (
            exact_loss(terms, Weights())
            if name == "exact"
            else nvil_loss(terms, Weights(), mean.expand(len(ids)), torch.Generator().manual_seed(0))
        )
        gradients = torch.autograd.grad(loss.sum(), each.presence)[0]
        spread.append(float((weight * (gradients - (weight * gradients).sum(0)).square()).sum()))
    assert spread[0] < 0.2 * spread[1]


def test_baseline_is_fitted_by_least_squares_and_leaves_the_guide_alone() -> None:
    logits = random_logits()
    ids, bins = every_draw()
    each = logits.for_each(len(ids))
    baseline = torch.zeros(len(ids), dtype=torch.float64, requires_grad=True)
    terms = terms_of(each, ids, bins)
    loss = nvil_loss(terms, Weights(), baseline, torch.Generator().manual_seed(0))
    count = torch.multinomial(terms.count_log_q.detach().exp(), 1, generator=torch.Generator().manual_seed(0))
    inside = terms.log_likelihood - terms.kl_of_prefixes + LOG_P - terms.count_log_q
    expected = -inside.gather(1, count)[:, 0].detach() / BASELINE_SCALE**2
    torch.testing.assert_close(torch.autograd.grad(loss.sum(), baseline)[0], expected)
    image_rgb = torch.rand(3, 16, 24, 3)
    value = Baseline(16, 24)(image_rgb)
    assert value.shape == (3,) and value.requires_grad


def test_weights_of_prefixes_mix_in_a_share_that_ignores_the_count() -> None:
    count_log_q = torch.tensor([[0.7, 0.2, 0.1]]).log().requires_grad_()
    log_likelihood = torch.tensor([[-1.0, -30.0, -10.0]], requires_grad=True)
    torch.testing.assert_close(Weights().of(count_log_q, log_likelihood), torch.tensor([[0.7, 0.2, 0.1]]))
    torch.testing.assert_close(Weights(cold_share=1.0).of(count_log_q, log_likelihood), torch.tensor([[0.0, 0.5, 0.5]]))
    mixed = Weights(cold_share=0.4).of(count_log_q, log_likelihood)
    torch.testing.assert_close(mixed, torch.tensor([[0.42, 0.32, 0.26]]))
    assert not mixed.requires_grad


def test_cold_weights_fall_with_the_likelihood_by_their_temperature() -> None:
    count_log_q = torch.tensor([[0.7, 0.2, 0.1]]).log()
    log_likelihood = torch.tensor([[50.0, -30.0, -10.0]])
    cold = Weights(cold_share=1.0, temperature=10.0).of(count_log_q, log_likelihood)
    assert float(cold[0, 0]) == 0.0 and float(cold.sum()) == pytest.approx(1.0)
    assert float(cold[0, 2] / cold[0, 1]) == pytest.approx(math.exp(2.0), rel=1e-5)


def pose_gradients(weights: Weights, estimator: str = "exact") -> tuple[Tensor, Tensor]:
    """Gradients with respect to squared errors and blurred ones."""
    logits = random_logits()
    ids, bins = every_draw()
    terms = terms_of(logits.for_each(len(ids)), ids, bins)
    errors = (terms.log_likelihood / PRECISION).requires_grad_()
    coarse = torch.ones_like(errors).requires_grad_()
    terms = dataclasses.replace(terms, log_likelihood=PRECISION * errors, coarse=PRECISION * coarse)
    if estimator == "exact":
        loss = exact_loss(terms, weights)
    else:
        loss = nvil_loss(terms, weights, torch.zeros(len(ids), dtype=torch.float64), torch.Generator().manual_seed(0))
    gradients = torch.autograd.grad(loss.sum(), [errors, coarse])
    return gradients[0], gradients[1]


def test_poses_feel_the_errors_by_their_weights() -> None:
    q = count_log_probabilities(random_logits().presence).exp().detach()
    slope = 0.5 / SIGMA**2
    plain, coarse = pose_gradients(Weights())
    torch.testing.assert_close(plain, (slope * q).expand_as(plain))
    assert not coarse.any()
    plain, coarse = pose_gradients(Weights(cold_share=1.0, coarse=3.0, scale=0.1))
    uniform = torch.tensor([0.0, 0.5, 0.5], dtype=torch.float64)
    torch.testing.assert_close(plain, (0.1 * slope * uniform).expand_as(plain))
    torch.testing.assert_close(coarse, 3 * plain)


def test_nvil_poses_feel_the_drawn_count_and_the_cold_share() -> None:
    slope = 0.5 / SIGMA**2
    plain, _ = pose_gradients(Weights(), "nvil")
    torch.testing.assert_close(plain.sum(-1), torch.full((64,), slope, dtype=torch.float64))
    assert ((plain > 0).sum(-1) == 1).all()
    plain, _ = pose_gradients(Weights(cold_share=1.0), "nvil")
    torch.testing.assert_close(plain, (slope * torch.tensor([0.0, 0.5, 0.5], dtype=torch.float64)).expand_as(plain))


def optimum(terms: BoundTerms, weights: Weights) -> tuple[Tensor, Tensor, Tensor]:
    """log q* of count, classes and bins by the definition: p(k) times the expected likelihood, all else fixed."""
    w = weights.of(terms.count_log_q, terms.log_likelihood)
    count = (LOG_P + terms.log_likelihood - terms.kl_of_prefixes).detach().log_softmax(-1)
    classes, bins = terms.choices
    by_class, by_bin = torch.zeros_like(classes.log_q), torch.zeros_like(bins.log_q)
    for slot in range(SLOTS):
        held = w[:, slot + 1 :]
        share = (held / held.sum(-1, keepdim=True))[:, None]
        by_class[:, slot] = (share * classes.log_likelihood[:, slot, :, slot + 1 :]).sum(-1)
        by_bin[:, slot] = (share * bins.log_likelihood[:, slot, :, slot + 1 :]).sum(-1)
    return count, by_class.log_softmax(-1), by_bin.log_softmax(-1)


def target_gradients(terms: BoundTerms, log_q: tuple[Tensor, ...], target_share: float) -> tuple[Tensor, ...]:
    """Gradients with respect to logits that start from ``log_q``, the prefixes weighed alike whatever q is."""
    leaves = [x.detach().clone().requires_grad_() for x in log_q]
    terms = dataclasses.replace(
        terms,
        count_log_q=leaves[0].log_softmax(-1),
        choices=tuple(
            dataclasses.replace(choice, log_q=leaf.log_softmax(-1))
            for choice, leaf in zip(terms.choices, leaves[1:], strict=True)
        ),
        kl=terms.kl.detach(),
    )
    return torch.autograd.grad(exact_loss(terms, Weights(1.0, target_share)).sum(), leaves)


def test_target_gradient_vanishes_at_the_coordinate_optimum_only() -> None:
    ids, bins = every_draw()
    terms = terms_of(random_logits().for_each(len(ids)), ids, bins)
    best = optimum(terms, Weights(cold_share=1.0))
    for gradient in target_gradients(terms, best, 1.0):
        assert float(gradient.abs().max()) < 1e-12
    flat = tuple(torch.zeros_like(x) for x in best)
    assert all(float(gradient.abs().max()) > 0.01 for gradient in target_gradients(terms, flat, 1.0))


def test_target_gradient_survives_where_the_bound_has_none() -> None:
    ids, bins = every_draw()
    terms = terms_of(random_logits().for_each(len(ids)), ids, bins)
    wrong = torch.tensor([0.0, 60.0], dtype=torch.float64)
    sure = (torch.zeros(64, 3, dtype=torch.float64), wrong.expand(64, 2, 2), wrong.expand(64, 2, 2))
    plain, target = (target_gradients(terms, sure, share) for share in (0.0, 1.0))
    assert float(plain[1].abs().max()) < 1e-12
    assert float(target[1].abs().max()) > 0.1


def test_target_and_bound_gradients_mix_by_their_share() -> None:
    ids, bins = every_draw()
    terms = terms_of(random_logits().for_each(len(ids)), ids, bins)
    start = tuple(torch.zeros_like(x) for x in optimum(terms, Weights(1.0)))
    bound, mixed, target = (target_gradients(terms, start, share) for share in (0.0, 0.3, 1.0))
    for a, b, c in zip(bound, mixed, target, strict=True):
        torch.testing.assert_close(b, 0.7 * a + 0.3 * c)
