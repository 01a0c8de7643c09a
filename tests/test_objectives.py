"""The bound's and the sleep phase's terms against naive loops: every alternative rendered as a scene of its own."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from guide_scenes import FOLDS, PRIOR, random_reading, scenes_of_counts, table_renderer, tiny_guide
from torch.distributions import Bernoulli, Categorical, Normal

from inverse_graphics.bound import BoundTerms, expected_count
from inverse_graphics.guides import Posterior, RecurrentGuide
from inverse_graphics.guides.posterior import yaw_log_prob
from inverse_graphics.objectives import (
    OVERLAP_M,
    UprightPrior,
    bound_terms,
    coarse_errors,
    drawn_objects,
    log_ratio,
    sleep_terms,
    slot_kl,
)
from inverse_graphics.poses import upright_pose
from inverse_graphics.types import Objects, View, map_tensors

SIGMA = 0.3
COUNTS = [0, 1, 2, 2]
LIMIT = 6.0


@pytest.fixture(scope="module")
def case() -> tuple[RecurrentGuide, View, torch.Tensor, Posterior, BoundTerms, torch.Tensor]:
    """A guide, scenes, what it drew, the bound's terms of the same draw, and the standard normal draws within the yaw bins."""
    guide = tiny_guide()
    with torch.no_grad():
        guide.get_parameter("step.2.bias")[0] = 9.0  # beyond the limit of the presences
        guide.offset_head.bias[2:] = -2.0
    _, view, image_rgb = scenes_of_counts(COUNTS)
    generator = torch.Generator().manual_seed(4)
    posterior = guide(image_rgb, view.camera, generator, draw=True, looks=1, explore=0.2)
    within_bins = torch.randn(len(COUNTS), 2, 8, generator=generator)
    terms = bound_terms(
        guide, table_renderer(), image_rgb, view, PRIOR, SIGMA, (4, 8), torch.Generator().manual_seed(4), 0.2, LIMIT
    )
    return guide, view, image_rgb, map_tensors(torch.Tensor.detach, posterior), terms, within_bins


def one(view: View, scene: int) -> View:
    return map_tensors(lambda x: x[scene], view)


def squared(log_likelihood: torch.Tensor) -> float:
    """The squared error behind a log-likelihood."""
    return float(log_likelihood.detach()) * -2 * SIGMA**2


def squared_error(objects: Objects, count: int, view: View, target_rgb: torch.Tensor) -> float:
    """Of the image that shows the first ``count`` of the objects of one scene."""
    cut = dataclasses.replace(objects, present=objects.present & (torch.arange(len(objects.present)) < count))
    return float((table_renderer().render(cut, view).rgb - target_rgb).detach().double().square().sum())


def objects_of(posterior: Posterior, scene: int) -> Objects:
    """What was drawn for one scene, pose by pose."""
    T, ids = [], posterior.class_ids[scene]
    for slot, k in enumerate(ids.tolist()):
        yaw = float(posterior.yaw_rad[scene, slot, k])
        R = torch.tensor([[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]])
        T.append(torch.eye(4))
        T[-1][:3, :3] = R
        T[-1][:2, 3] = posterior.xy_m[scene, slot].detach()
    return Objects(ids, torch.stack(T), torch.ones(len(ids), dtype=torch.bool))


def test_prior_of_positions_is_a_density_with_soft_edges() -> None:
    prior = UprightPrior((0.5, 0.5), 2, (-0.1, 0.05), (0.0, 0.08))
    step = 0.0005
    x, y = torch.meshgrid(torch.arange(-0.14, 0.09, step), torch.arange(-0.04, 0.12, step), indexing="ij")
    density = prior.position_log_prob(torch.stack([x, y], -1).double()).exp()
    assert float(density.sum()) * step**2 == pytest.approx(1.0, abs=1e-3)
    inside = prior.position_log_prob(torch.tensor([[0.0, 0.01], [-0.09, 0.07], [0.06, 0.04]]))
    assert float(inside[0]) == pytest.approx(float(inside[1]))
    assert float(inside[2] - inside[0]) == pytest.approx(-2.0, rel=1e-3)


def test_prior_keeps_origins_apart() -> None:
    prior = UprightPrior((0.5, 0.5), 2, (-0.1, 0.1), (-0.1, 0.1), apart_m=0.02)
    xy = torch.tensor([[[0.0, 0.0], [0.012, 0.0], [0.012, 0.016]]], requires_grad=True)
    cost = prior.apart_log_prob(xy)
    assert cost[0].tolist() == pytest.approx([0.0, -0.5 * (0.008 / OVERLAP_M) ** 2, -0.5 * (0.004 / OVERLAP_M) ** 2], rel=1e-4)
    cost[0, 1].backward()
    assert xy.grad is not None
    assert xy.grad[0, 1].tolist() == pytest.approx([0.008 / OVERLAP_M**2, 0.0], rel=1e-4)  # uphill is away
    same = torch.zeros(1, 2, 2, requires_grad=True)
    prior.apart_log_prob(same).sum().backward()
    assert same.grad is not None
    assert bool(torch.isfinite(same.grad).all())
    assert bool((UprightPrior((0.5, 0.5), 2, (-0.1, 0.1), (-0.1, 0.1)).apart_log_prob(xy) == 0).all())


def test_errors_of_prefixes_are_those_of_cut_scenes(case: tuple) -> None:
    _, view, image_rgb, posterior, terms, _ = case
    for b in range(len(COUNTS)):
        objects, view_b = objects_of(posterior, b), one(view, b)
        for n in range(3):
            assert squared(terms.log_likelihood[b, n]) == pytest.approx(squared_error(objects, n, view_b, image_rgb[b]), rel=1e-4)
    assert torch.equal(drawn_objects(posterior).class_ids, posterior.class_ids)
    torch.testing.assert_close(
        drawn_objects(posterior).T_world_object,
        torch.stack([objects_of(posterior, b).T_world_object for b in range(len(COUNTS))]),
    )


def test_errors_of_classes_are_those_of_the_scene_with_that_class(case: tuple) -> None:
    _, view, image_rgb, posterior, terms, _ = case
    differ = 0
    for b in range(len(COUNTS)):
        objects, view_b = objects_of(posterior, b), one(view, b)
        for slot in range(2):
            for k in range(len(FOLDS)):
                ids, T = objects.class_ids.clone(), objects.T_world_object.clone()
                ids[slot] = k
                T[slot] = upright_pose(posterior.xy_m[b, slot], posterior.yaw_rad[b, slot, k]).detach()
                for n in range(3):
                    expected = squared_error(Objects(ids, T, objects.present), n, view_b, image_rgb[b]) if n > slot else 0.0
                    assert squared(terms.choices[0].log_likelihood[b, slot, k, n]) == pytest.approx(expected, rel=1e-4)
                    differ += n > slot and abs(expected - squared(terms.log_likelihood[b, n])) > 0.1
    assert differ > 10


def test_errors_of_yaw_bins_are_those_of_the_scene_turned_to_a_draw_from_them(case: tuple) -> None:
    _, view, image_rgb, posterior, terms, within_bins = case
    seen = 0
    for b in range(len(COUNTS)):
        objects, view_b = objects_of(posterior, b), one(view, b)
        for slot, k in enumerate(objects.class_ids.tolist()):
            for i in range(8):
                T = objects.T_world_object.clone()
                if FOLDS[k]:
                    phase, std = (x[b, slot, k, i] for x in (posterior.reading.yaw_phase_rad, posterior.reading.yaw_std_rad))
                    yaw = (phase + std * within_bins[b, slot, i]) / FOLDS[k]
                    T[slot] = upright_pose(posterior.xy_m[b, slot], yaw).detach()
                for n in range(3):
                    turned = Objects(objects.class_ids, T, objects.present)
                    expected = squared_error(turned, n, view_b, image_rgb[b]) if n > slot and FOLDS[k] else 0.0
                    assert squared(terms.choices[1].log_likelihood[b, slot, i, n]) == pytest.approx(expected, rel=1e-4)
                    seen += expected > 0
    assert seen > 10


def kl_of_slot(posterior: Posterior, b: int, slot: int) -> float:
    """KL of class, position (at the draw) and yaw (joint of bin and phase, bins of the prior twice as wide as their spacing)."""
    reading = map_tensors(lambda x: x[b, slot].detach().double(), posterior.reading)
    q_class = Categorical(logits=reading.class_logits)
    total = float(torch.distributions.kl_divergence(q_class, Categorical(torch.ones(3))))
    total -= float(Normal(reading.offset_mean_m, reading.offset_std_m).entropy().sum())
    total -= float(PRIOR.position_log_prob(posterior.xy_m[b, slot].detach()))
    for k, fold in enumerate(FOLDS):
        if fold:
            q_bin = Categorical(logits=reading.yaw_logits[k])
            entropy = q_bin.entropy() + (q_bin.probs * Normal(0.0, reading.yaw_std_rad[k]).entropy()).sum()
            total += float(q_class.probs[k]) * (math.log(4 * math.pi) - float(entropy))
    return total


def test_bound_is_the_sum_over_counts(case: tuple) -> None:
    _, view, image_rgb, posterior, terms, _ = case
    for b in range(len(COUNTS)):
        objects, view_b = objects_of(posterior, b), one(view, b)
        presence = torch.sigmoid(LIMIT * torch.tanh(posterior.presence_logits[b] / LIMIT)).tolist()
        q = [1 - presence[0], presence[0] * (1 - presence[1]), presence[0] * presence[1]]
        bound = 0.0
        for n in range(3):
            cut = dataclasses.replace(objects, present=torch.arange(2) < n)
            rgb = table_renderer().render(cut, view_b).rgb
            likelihood = float(Normal(rgb.double(), SIGMA).log_prob(image_rgb[b].double()).sum())
            kl = sum(kl_of_slot(posterior, b, slot) for slot in range(n))
            assert float(terms.kl_of_prefixes[b, n].detach()) == pytest.approx(kl, rel=1e-4, abs=1e-4)
            bound += q[n] * (likelihood - kl - math.log(q[n] / PRIOR.count_probabilities[n]))
        assert float(terms.bound[b].detach()) == pytest.approx(bound, rel=1e-5)
        assert float(expected_count(terms.count_log_q)[b].detach()) == pytest.approx(q[1] + 2 * q[2], rel=1e-5)


def test_drawn_log_q_is_that_of_class_and_visible_yaw_bin(case: tuple) -> None:
    _, _, _, posterior, terms, _ = case
    for b in range(len(COUNTS)):
        for slot, k in enumerate(posterior.class_ids[b].tolist()):
            expected = posterior.reading.class_logits[b, slot].log_softmax(-1)[k]
            yaw_log_q = posterior.reading.yaw_logits[b, slot, k].log_softmax(-1)
            torch.testing.assert_close(terms.choices[1].log_q[b, slot], yaw_log_q)
            if FOLDS[k]:
                expected = expected + yaw_log_q[posterior.yaw_bins[b, slot, k]]
            torch.testing.assert_close(terms.drawn_log_q[b, slot], expected)


def test_mean_of_the_drawn_ratio_is_the_kl() -> None:
    """Over many draws at one place; what the prior says of the position varies with the draw, and is in both."""
    guide = tiny_guide()
    _, view, image_rgb = scenes_of_counts([1])
    many, camera = image_rgb.expand(6000, *image_rgb.shape[1:]), map_tensors(lambda x: x.expand(6000, *x.shape[1:]), view.camera)
    posterior = guide(many, camera, torch.Generator().manual_seed(1), draw=True, looks=1)
    first = map_tensors(lambda x: x[:, :1].detach(), posterior)
    class_log_q = first.reading.class_logits.log_softmax(-1)
    yaw_log_q = first.reading.yaw_logits.log_softmax(-1)
    drawn_class = class_log_q.gather(-1, first.class_ids[..., None])[..., 0]
    of_class = yaw_log_q.gather(-1, first.yaw_bins[..., None])[..., 0]
    drawn_bin = of_class.gather(-1, first.class_ids[..., None])[..., 0] * (guide.folds > 0)[first.class_ids]
    difference = log_ratio(first, drawn_class, drawn_bin, guide.folds, PRIOR) - slot_kl(first, class_log_q, guide.folds, PRIOR)
    error = float(difference.std()) / math.sqrt(6000)
    assert abs(float(difference.mean())) < 4 * error < 0.2


def test_improbable_slots_are_spared() -> None:
    guide = tiny_guide()
    with torch.no_grad():
        guide.get_parameter("step.2.weight").zero_()
        guide.get_parameter("step.2.bias")[0] = -2.0  # 12 % for one object, 1.4 % for two
    _, view, image_rgb = scenes_of_counts([1, 2])

    def terms(spare_below: float) -> BoundTerms:
        generator = torch.Generator().manual_seed(0)
        return bound_terms(guide, table_renderer(), image_rgb, view, PRIOR, SIGMA, (), generator, spare_below=spare_below)

    every, spared = terms(0.0), terms(0.05)
    for choice, other in zip(every.choices, spared.choices, strict=True):
        assert torch.equal(choice.log_likelihood[:, 0], other.log_likelihood[:, 0])
        assert choice.log_likelihood[:, 1].any() and not other.log_likelihood[:, 1].any()
    gradients = [
        torch.autograd.grad(t.choices[0].log_q[:, 1, 0].sum(), guide.class_head.weight, allow_unused=True)[0]
        for t in (every, spared)
    ]
    assert gradients[0].any() and (gradients[1] is None or not gradients[1].any())
    assert torch.equal(every.log_likelihood, spared.log_likelihood)


def test_yaw_bins_that_cannot_be_seen_get_no_gradient() -> None:
    guide = tiny_guide()
    with torch.no_grad():
        guide.class_head.bias[1] = 50.0  # always the ball
    _, view, image_rgb = scenes_of_counts([1, 2])
    terms = bound_terms(guide, table_renderer(), image_rgb, view, PRIOR, SIGMA, (), torch.Generator().manual_seed(0))
    assert not terms.choices[1].log_likelihood.any()
    (gradient,) = torch.autograd.grad(terms.choices[1].log_q.sum(), guide.yaw_head.weight)
    assert not gradient.any()


def test_errors_pull_positions_and_swaps_carry_nothing(case: tuple) -> None:
    guide, _, _, _, terms, _ = case
    gradient = torch.autograd.grad(terms.log_likelihood[:, 1:].sum(), guide.offset_head.weight, retain_graph=True)[0]
    assert torch.isfinite(gradient).all() and gradient.any()
    gradient = torch.autograd.grad(terms.coarse.sum(), guide.offset_head.weight, retain_graph=True)[0]
    assert torch.isfinite(gradient).all() and gradient.any()
    assert not any(choice.log_likelihood.requires_grad for choice in terms.choices)


def test_yaw_kl_bounds_that_of_narrow_mixtures() -> None:
    spacing = 2 * math.pi / 8
    grid = (torch.arange(4000, dtype=torch.float64) + 0.5) * (2 * math.pi / 4000)
    for seed in range(5):
        one_reading = random_reading((), classes=1, seed=seed)
        reading = dataclasses.replace(one_reading, yaw_std_rad=0.3 * one_reading.yaw_std_rad)
        repeated = map_tensors(lambda x: x.expand(4000, *x.shape), reading)
        log_q = yaw_log_prob(repeated, torch.zeros(4000, dtype=torch.int64), grid, torch.tensor([1]))
        exact = float((log_q.exp() * (log_q + math.log(2 * math.pi))).mean()) * 2 * math.pi
        q_bin = Categorical(logits=reading.yaw_logits[0])
        entropy = q_bin.entropy() + (q_bin.probs * Normal(0.0, reading.yaw_std_rad[0]).entropy()).sum()
        joint = math.log(2 * spacing * 8) - float(entropy)
        assert joint > exact


@pytest.mark.parametrize(("height", "width"), [(16, 16), (16, 24)])
def test_coarse_errors_are_sums_over_boxes(height: int, width: int) -> None:
    residual = torch.randn(2, 3, height, width, 3)
    widths = (4, 8)
    expected = torch.zeros(2, 3, dtype=torch.float64)
    for w in widths:
        half = w // 2
        for top in range(-half, height - half + 1, half):
            for left in range(-half, width - half + 1, half):
                rows, columns = slice(max(top, 0), top + w), slice(max(left, 0), left + w)
                mean = residual[:, :, rows, columns].double().sum((2, 3)) / w**2
                expected += half**2 * mean.square().sum(-1)
    torch.testing.assert_close(coarse_errors(residual, widths), expected.float())
    assert not coarse_errors(residual, ()).any()


def test_coarse_errors_of_a_smooth_residual_are_its_squares() -> None:
    v, u = torch.meshgrid(torch.linspace(-1, 1, 64), torch.linspace(-1, 1, 64), indexing="ij")
    residual = torch.exp(-0.5 * (u**2 + v**2) / 0.15**2)[None, None, :, :, None].expand(1, 1, 64, 64, 3)
    plain = float(residual.square().sum())
    assert float(coarse_errors(residual, (4,))) == pytest.approx(plain, rel=0.15)


def test_coarse_errors_pull_across_gaps() -> None:
    def between(gap_px: int, blurred: bool) -> float:
        residual = torch.zeros(1, 1, 32, 32, 3)
        residual[..., 14:18, 4:8, :] += 1.0
        residual[..., 14:18, 4 + gap_px : 8 + gap_px, :] -= 1.0
        return float(coarse_errors(residual, (16,)) if blurred else residual.square().sum())

    assert between(6, False) == between(10, False)
    assert between(6, True) < between(10, True)


def explicit_sleep(guide: RecurrentGuide, truth: Objects, view: View, image_rgb: torch.Tensor) -> dict[str, torch.Tensor]:
    """The sleep phase's terms of scenes with exactly one object each, in slot 0."""
    T = truth.T_world_object[:, 0]
    xy, yaw, ids = T[:, :2, 3], torch.atan2(T[:, 1, 0], T[:, 0, 0]), truth.class_ids[:, 0]
    features = guide.encode(image_rgb, view.camera)
    first, seen = guide.attend(features, *guide.start(features), [])
    told = guide.tell(seen, xy, torch.nn.functional.one_hot(ids, len(FOLDS)).float())
    second, _ = guide.attend(features, first.state, told, [xy])
    generator = torch.Generator().manual_seed(9)
    spread = 0.025 * torch.rand(len(xy), 1, generator=generator).square()
    at = xy + spread * torch.randn(len(xy), 2, generator=generator)
    reading = guide.read(features, torch.arange(len(xy)), at)
    presence = Bernoulli(logits=first.presence_logit).log_prob(torch.ones(len(xy)))
    return {
        "presence": -presence - Bernoulli(logits=second.presence_logit).log_prob(torch.zeros(len(xy))),
        "attention": -Normal(first.xy_m, first.std_m).log_prob(xy).sum(-1),
        "position": -Normal(at + reading.offset_mean_m, reading.offset_std_m).log_prob(xy).sum(-1),
        "category": -Categorical(logits=reading.class_logits).log_prob(ids),
        "yaw": -yaw_log_prob(reading, ids, yaw, torch.tensor(FOLDS)),
    }


def test_sleep_terms_of_one_object_scenes_are_log_likelihoods() -> None:
    truth, view, image_rgb = scenes_of_counts([1] * 6)
    guide = tiny_guide()
    terms = sleep_terms(guide, image_rgb, view, truth, torch.Generator().manual_seed(9))
    for name, expected in explicit_sleep(guide, truth, view, image_rgb).items():
        torch.testing.assert_close(getattr(terms, name), expected, msg=lambda text, name=name: f"{name}: {text}")


def test_sleep_terms_of_an_empty_table_hold_its_absence_only() -> None:
    truth, view, image_rgb = scenes_of_counts([0, 0])
    guide = tiny_guide()
    terms = sleep_terms(guide, image_rgb, view, truth, torch.Generator().manual_seed(0))
    features = guide.encode(image_rgb, view.camera)
    first, _ = guide.attend(features, *guide.start(features), [])
    torch.testing.assert_close(terms.presence, torch.nn.functional.softplus(first.presence_logit))
    for name in ("attention", "position", "category", "yaw"):
        assert not getattr(terms, name).any()


def test_sleep_terms_do_not_depend_on_the_order_of_the_truth() -> None:
    truth, view, image_rgb = scenes_of_counts([2] * 4)
    flipped = Objects(truth.class_ids.flip(1), truth.T_world_object.flip(1), truth.present)
    guide = tiny_guide()
    terms, other = (sleep_terms(guide, image_rgb, view, t, torch.Generator().manual_seed(0)) for t in (truth, flipped))
    for field in dataclasses.fields(terms):
        torch.testing.assert_close(getattr(terms, field.name), getattr(other, field.name), rtol=1e-4, atol=1e-4)
