"""Strokes against sums over dots and exact curves; refinement, merging, and scores of parts against independent ones."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from numpy.polynomial import legendre
from torch import Tensor

from inverse_graphics.config import FieldError
from inverse_graphics.sprites.objective import STRAY, ImageModel
from inverse_graphics.sprites.parts import (
    PartInference,
    PartTruth,
    agreement,
    component_map,
    infer_strokes,
    judge_parts,
    k_means_map,
    mean_interval,
    part_maps,
)
from inverse_graphics.sprites.steps import Variant
from inverse_graphics.sprites.stroke_merging import legendre_at, merge_strokes
from inverse_graphics.sprites.stroke_model import StrokeModel
from inverse_graphics.sprites.stroke_refinement import StrokeRefinement, Strokes, refine_strokes
from inverse_graphics.sprites.stroke_training import StrokeLoss, StrokeTraining, falling, stroke_state
from inverse_graphics.sprites.strokes import (
    WIDTH_SPREAD,
    StrokeConfig,
    StrokeDecoder,
    StrokeSizes,
    carry_over,
    dot_tables,
    finer_decoder,
    ink_of,
)
from inverse_graphics.training import train

TINY = StrokeSizes(degree=3, dots=30, window_px=12, hidden=12, channels=4, stroke_px=20.0)
CONFIG = StrokeConfig("dair", 30, 3, TINY)


def lines(decoder: StrokeDecoder, *ends: tuple[float, float, float, float]) -> tuple[Tensor, Tensor]:
    """Windows [1 n 3] and curves [1 n z] of straight lines from (x, y) to (x, y), in -1..1 of the canvas."""
    where, what = torch.zeros(1, len(ends), 3), torch.zeros(1, len(ends), TINY.what)
    amplitude = decoder.log_amplitudes.exp()[1].item()
    for i, (x0, y0, x1, y1) in enumerate(ends):
        where[0, i] = torch.tensor([CONFIG.where_mean[0], 0.5 * (x0 + x1), 0.5 * (y0 + y1)])
        what[0, i, 1] = 0.5 * (x1 - x0) * CONFIG.where_mean[0] / amplitude
        what[0, i, 1 + TINY.degree + 1] = 0.5 * (y1 - y0) * CONFIG.where_mean[0] / amplitude
    return where, what


def strokes_of(decoder: StrokeDecoder, where: Tensor, what: Tensor) -> Strokes:
    densities = decoder(what.flatten(0, 1), where.flatten(0, 1)).detach().unflatten(0, where.shape[:2])
    return Strokes(where, what, torch.ones(where.shape[:2], dtype=torch.bool), densities)


@pytest.mark.parametrize("blur_px", [0.0, 2.0])
def test_density_is_the_sum_over_dots(blur_px: float) -> None:
    decoder, generator = StrokeDecoder(CONFIG), torch.Generator().manual_seed(0)
    what = torch.randn(2, TINY.what, generator=generator)
    where = torch.tensor([[1.4, 0.1, -0.2], [1.6, -0.3, 0.0]])
    density = decoder(what, where, blur_px)
    t = (np.arange(TINY.dots) + 0.5) * 2 / TINY.dots - 1
    v, u = np.mgrid[:30, :30] + 0.5
    for b in range(2):
        weights = what[b, :-1].reshape(2, -1).numpy() * decoder.log_amplitudes.detach().exp().numpy()
        pen = TINY.pen_px * math.exp(WIDTH_SPREAD * float(what[b, -1]))
        wide = math.hypot(pen, blur_px)
        expected = np.zeros((30, 30))
        place, slope = (
            np.stack([legendre.legval(t, f(axis)) for axis in weights], -1) / float(where[b, 0]) * 15
            for f in (np.asarray, legendre.legder)
        )
        for (x, y), (dx, dy) in zip(place + (where[b, 1:].numpy() + 1) * 15, slope * 2 / TINY.dots, strict=True):
            long = math.sqrt(dx * dx + dy * dy + (2 * pen / TINY.dots) ** 2)
            dot = np.exp(-0.5 * ((u - x) ** 2 + (v - y) ** 2) / wide**2)
            expected += TINY.darkness * long * pen / (math.sqrt(2 * math.pi) * wide**2) * dot
        np.testing.assert_allclose(density[b].detach().numpy(), expected, rtol=2e-4, atol=1e-5)


def test_the_middle_of_a_long_stroke_is_as_dark_as_said() -> None:
    decoder = StrokeDecoder(CONFIG)
    where, what = lines(decoder, (-0.6, 1 / 30, 0.6, 1 / 30))
    density = decoder(what[0], where[0])[0].detach()
    assert float(density[15, 15]) == pytest.approx(TINY.darkness, rel=0.02)
    assert float(ink_of(density)[15, 15]) == pytest.approx(1 - math.exp(-TINY.darkness), rel=0.02)
    assert float(density[15, 1]) < 1e-3 and float(density[22, 15]) < 1e-3


def test_gradients_of_a_stroke_are_right() -> None:
    decoder = StrokeDecoder(StrokeConfig("dair", 8, 1, StrokeSizes(degree=2, dots=4, stroke_px=6.0))).double()
    what = torch.randn(1, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    where = torch.tensor([[1.3, 0.1, -0.2]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(decoder, (what, where))


def test_a_stroke_without_length_is_a_dot_with_a_gradient() -> None:
    decoder = StrokeDecoder(CONFIG)
    what = torch.zeros(1, TINY.what, requires_grad=True)
    density = decoder(what, torch.tensor([[1.5, 0.0, 0.0]]))
    (gradient,) = torch.autograd.grad(density.square().sum(), what)
    assert float(density.detach().sum()) > 0 and torch.isfinite(gradient).all()


def test_polynomials_are_legendre_s() -> None:
    at, slope = dot_tables(4, 9)
    t = torch.from_numpy((np.arange(9) + 0.5) * 2 / 9 - 1)
    np.testing.assert_allclose(legendre_at(t, 5).numpy(), at)
    np.testing.assert_allclose(slope[:, 2], 3 * t.numpy())


def test_ink_likelihood_is_that_of_coins() -> None:
    density = torch.rand(2, 3, 4, 4, dtype=torch.float64) * 3
    image = torch.rand(2, 4, 4, dtype=torch.float64)
    p = 1 - (1 - STRAY) * (-density).exp()
    expected = -torch.nn.functional.binary_cross_entropy(p, image[:, None].expand_as(p), reduction="none").sum((-2, -1))
    torch.testing.assert_close(ImageModel("ink").log_likelihood(image, density), expected)
    assert ImageModel("ink").constant(image) == 0


@pytest.mark.parametrize("variant", ["air", "dair"])
def test_the_model_draws_what_its_posterior_says(variant: Variant) -> None:
    torch.manual_seed(0)
    model = StrokeModel(StrokeConfig(variant, 30, 3, TINY))
    images = torch.rand(2, 30, 30)
    posterior = model(images, torch.Generator().manual_seed(0), draw=True)
    for step in range(3):
        layer = model.decoder(posterior.drawn_what[:, step], posterior.drawn_where[:, step])
        torch.testing.assert_close(posterior.layers[:, step], layer)
    torch.testing.assert_close(posterior.canvases()[:, 3], posterior.layers.sum(1))
    again = model(images, torch.Generator().manual_seed(0), draw=True)
    assert torch.equal(posterior.layers, again.layers)
    with pytest.raises(ValueError, match=r"StrokeModel: expected images \[b 30 30\], received \(2, 30, 20\); resize them"):
        model(images[..., :20])


def test_training_raises_the_bound() -> None:
    decoder = StrokeDecoder(CONFIG)
    where, what = lines(decoder, (-0.5, 0.3, 0.5, -0.2), (0.1, -0.6, 0.1, 0.6))
    image = ink_of(strokes_of(decoder, where, what).densities.sum(1)).repeat(4, 1, 1)
    state = stroke_state(CONFIG, 0, torch.device("cpu"))
    config = StrokeTraining(steps=60, batch_size=4, warmup_steps=5, learning_rate=3e-3)
    log: list[dict[str, float]] = []

    def bound_at_last() -> float:
        """Mean of several draws, under the schedule's end."""
        twin = dataclasses.replace(state, generator=torch.Generator().manual_seed(1))
        return float(np.mean([StrokeLoss(config)(twin, image, 1.0)[1]["bound"] for _ in range(8)]))

    before = bound_at_last()
    train(state, itertools.repeat(image), StrokeLoss(config), config, lambda _, scalars: log.append(scalars))
    assert bound_at_last() > before + 20, before
    assert log[0]["bound blur px"] == config.blur_px and log[-1]["bound cold share"] == 0
    assert [falling(p, 0.5) for p in (0.0, 0.25, 0.5, 1.0)] == [1.0, 0.5, 0.0, 0.0] and falling(0.0, 0.0) == 0


def test_two_halves_of_a_line_are_merged_into_it() -> None:
    """Whichever way round they run."""
    decoder = StrokeDecoder(CONFIG)
    halves = [(-0.5, 0.2, 0.0, 0.1), (0.0, 0.1, 0.5, 0.0)]
    whole = decoder.courses(*(values[0] for values in reversed(lines(decoder, (-0.5, 0.2, 0.5, 0.0)))))[0]
    for first, second in itertools.product((False, True), repeat=2):
        turned = [(*h[2:], *h[:2]) if turn else h for h, turn in zip(halves, (first, second), strict=True)]
        where, what = lines(decoder, *turned)
        course = decoder.courses(*reversed(merge_strokes(decoder, where, what)))[0].detach()
        distance = torch.cdist(course, whole.detach())
        assert float(distance.min(0).values.max()) < 0.04 and float(distance.min(1).values.max()) < 0.04


def test_refinement_finds_a_moved_line_and_makes_one_of_two() -> None:
    torch.manual_seed(0)
    model = StrokeModel(CONFIG)
    where, what = lines(model.decoder, (-0.6, 0.0, 0.6, 0.0), (0.1, 0.2, 0.1, 0.7))
    image = ink_of(strokes_of(model.decoder, where, what).densities.sum(1))
    start = lines(model.decoder, (-0.6, 0.05, 0.0, 0.0), (0.1, 0.25, 0.15, 0.7), (0.0, 0.0, 0.5, -0.05))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    refinement = StrokeRefinement(2, 25, price=30.0, degree=TINY.degree, dots=TINY.dots, trace=False)
    refined = refine_strokes(model, image, strokes_of(model.decoder, *start), refinement)
    with pytest.raises(ValueError, match="expected finite grey values in 0..1, received nan in image 0"):
        refine_strokes(model, image * float("nan"), strokes_of(model.decoder, *start), refinement)
    assert int(refined.present.sum()) == 2
    found = ink_of((refined.densities * refined.present[..., None, None]).sum(1))
    assert float((found - image).square().mean()) < 1e-3
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    true = strokes_of(model.decoder, where, what)
    ink = image > 0.1
    assert agreement(part_maps(refined, ink)[0].numpy(), part_maps(true, ink)[0].numpy()) > 0.95


def test_refinement_begins_from_traced_strokes_too() -> None:
    """A crossing that gradients alone, from strokes somewhere else, do not find."""
    torch.manual_seed(0)
    model = StrokeModel(CONFIG)
    true = strokes_of(model.decoder, *lines(model.decoder, (-0.6, -0.5, 0.6, 0.5), (-0.6, 0.5, 0.6, -0.5)))
    image = ink_of(true.densities.sum(1))
    start = strokes_of(
        model.decoder, *lines(model.decoder, (-0.6, -0.6, -0.2, -0.6), (0.0, 0.7, 0.6, 0.7), (0.6, 0.2, 0.7, -0.2))
    )
    ink = image > 0.1

    def agreement_with(trace: bool) -> float:
        refined = refine_strokes(model, image, start, StrokeRefinement(1, 15, price=30.0, trace=trace))
        return agreement(part_maps(refined, ink)[0].numpy(), part_maps(true, ink)[0].numpy())

    assert agreement_with(True) > 0.9 > 0.6 > agreement_with(False)


def test_a_finer_decoder_draws_what_is_carried_over() -> None:
    torch.manual_seed(0)
    decoder = StrokeDecoder(CONFIG)
    with torch.no_grad():
        decoder.log_amplitudes.add_(0.3 * torch.randn(4))
        decoder.log_pen_px.add_(0.1)
    what, where = torch.randn(3, TINY.what), torch.tensor([1.5, 0.1, -0.1]).repeat(3, 1)
    finer = finer_decoder(decoder, 7, TINY.dots)
    carried = carry_over(decoder, finer, what)
    assert carried.shape == (3, 2 * 8 + 1)
    torch.testing.assert_close(finer(carried, where), decoder(what, where).detach())
    assert len(finer_decoder(decoder, 1, 4).log_amplitudes) == TINY.degree + 1, "never coarser"


def test_images_are_refined_independently() -> None:
    torch.manual_seed(0)
    model = StrokeModel(CONFIG)
    images = torch.rand(3, 30, 30, generator=torch.Generator().manual_seed(0)).round()
    refinement = StrokeRefinement(1, 3)
    together = infer_strokes(model, images, refinement).strokes
    alone = infer_strokes(model, images[1:2], refinement).strokes
    torch.testing.assert_close(together.what[1:2], alone.what, rtol=1e-3, atol=1e-4)
    assert torch.equal(together.present[1:2], alone.present)


def test_no_rounds_leave_the_guide_s_strokes() -> None:
    inference = infer_strokes(StrokeModel(CONFIG), torch.rand(2, 30, 30), StrokeRefinement(rounds=0))
    assert inference.strokes is inference.guide


def test_pixels_go_to_the_stroke_that_draws_them_most() -> None:
    densities = torch.tensor([[[[3.0, 1.0, 0.0, 0.0]], [[9.0, 9.0, 9.0, 9.0]], [[0.0, 2.0, 1.0, 0.0]]]])
    present = torch.tensor([[True, False, True]])
    strokes = Strokes(torch.zeros(1, 3, 3), torch.zeros(1, 3, 1), present, densities)
    ink = torch.tensor([[[True, True, True, False]]])
    assert part_maps(strokes, ink).tolist() == [[[0, 2, 2, -1]]]
    none = Strokes(strokes.where, strokes.what, torch.zeros_like(present), densities)
    assert part_maps(none, ink).tolist() == [[[0, 0, 0, -1]]]


def pair_counting_index(first: np.ndarray, second: np.ndarray) -> float:
    """Hubert and Arabie's index, pair of pixels by pair of pixels."""
    pairs = list(itertools.combinations(range(len(first)), 2))
    both = sum(first[i] == first[j] and second[i] == second[j] for i, j in pairs)
    a, b = sum(first[i] == first[j] for i, j in pairs), sum(second[i] == second[j] for i, j in pairs)
    chance = a * b / len(pairs)
    return (both - chance) / (0.5 * (a + b) - chance)


def test_agreement_counts_pairs_over_ink_alone() -> None:
    true = np.array([[0, 0, 0, 1, 1, 1, -1, -1]])
    est = np.array([[1, 1, 0, 0, 0, 2, 0, 1]])
    assert agreement(est, true) == pytest.approx(pair_counting_index(est[0, :6], true[0, :6]))
    assert agreement(true, true) == 1.0
    one = np.where(true >= 0, 0, -1)
    assert agreement(one, one) == 1.0 and agreement(est, one) == 0.0


def test_baselines_divide_what_is_apart() -> None:
    ink = np.zeros((9, 9), bool)
    ink[1, 1:4] = ink[7, 5:8] = ink[6, 8] = True
    expected = np.where(np.arange(9)[:, None] < 4, 0, 1)[ink.nonzero()[0], 0]
    for divided in (k_means_map(ink, 2), component_map(ink)):
        assert (divided[~ink] == -1).all()
        assert pair_counting_index(divided[ink], expected) == 1
    assert set(k_means_map(ink, 1)[ink].tolist()) == {0}


def test_strokes_that_are_the_pen_s_score_one() -> None:
    decoder = StrokeDecoder(CONFIG)
    true = strokes_of(decoder, *lines(decoder, (-0.6, -0.4, 0.6, -0.4), (0.0, -0.2, 0.0, 0.7)))
    images = ink_of(true.densities.sum(1))
    ids = part_maps(true, images > 0.05)
    result = judge_parts(lambda _: PartInference(true, true), [PartTruth(images, ids), PartTruth(images, ids)])
    summary = result.summary()
    assert summary["agreement"]["parts"] == {"mean": 1.0, "low": 1.0, "high": 1.0}
    assert summary["agreement"]["one_part"]["mean"] == 0.0 and summary["lead"]["one_part"]["mean"] == 1.0
    assert summary["agreement_by_count"] == {"2": 1.0} and summary["count_accuracy"]["mean"] == 1.0
    assert summary["squared_error"]["mean"] < 1e-12 and summary["num_images"] == 2


def test_interval_is_the_normal_one() -> None:
    values = np.array([0.0, 1.0, 2.0, 3.0])
    half = 1.96 * np.std(values, ddof=1) / 2
    assert mean_interval(values[1:2]) == {"mean": 1.0, "low": None, "high": None}
    assert mean_interval(values) == pytest.approx({"mean": 1.5, "low": 1.5 - half, "high": 1.5 + half})


def test_what_cannot_be_judged_is_refused() -> None:
    with pytest.raises(ValueError, match="judge_parts: expected at least one batch"):
        judge_parts(lambda images: infer_strokes(StrokeModel(CONFIG), images, StrokeRefinement(0)), [])
    bare = PartTruth(torch.zeros(1, 30, 30), torch.full((1, 30, 30), -1))
    with pytest.raises(ValueError, match="judge_parts: expected ink in every drawing"):
        judge_parts(lambda images: infer_strokes(StrokeModel(CONFIG), images, StrokeRefinement(0)), [bare])


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: StrokeSizes(degree=0), "degree"),
        (lambda: StrokeSizes(pen_px=0.0), "pen_px"),
        (lambda: StrokeConfig(canvas_px=20), "sizes.stroke_px"),
        (lambda: StrokeRefinement(rounds=-1), "rounds"),
        (lambda: StrokeRefinement(stray=0.0), "stray"),
        (lambda: StrokeTraining(blur_share=1.5), "blur_share"),
    ],
)
def test_numbers_out_of_range_are_named(make: object, name: str) -> None:
    with pytest.raises(FieldError) as error:
        make()  # type: ignore[operator]
    assert error.value.name == name
