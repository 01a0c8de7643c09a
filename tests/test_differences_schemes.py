"""Schemes of finite differences against the exact gradient of a smooth picture, and what they ask of the renderer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import pytest
import torch
from difference_scenes import SmoothRenderer, at, loss_of, slopes_of, smooth_scenes
from renderer_scenes import ball, box, catalogue_of, table_scene
from torch import Tensor

from inverse_graphics.poses import motion_slopes
from inverse_graphics.types import Objects, View, map_tensors
from renderers import FiniteDifferenceRenderer, RasterRenderer
from renderers.differences import CountingRenderer, Scheme, schemes
from renderers.tangents import Tangents

ALL: list[Scheme] = ["central", "forward", "spsa", "smoothing"]
RANDOM: list[Scheme] = ["spsa", "smoothing"]
POSITIONS_PX = [[10.0, 12.0], [16.0, 16.0], [22.0, 21.0]]
SIZE_PX = 32


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other cost more than they save on images this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def rgb_of(renderer: FiniteDifferenceRenderer | SmoothRenderer) -> Callable[[Objects, View], Tensor]:
    return lambda objects, view: renderer.render(objects, view).rgb


def errors(scheme: Scheme, steps_px: list[float], tangents: Tangents) -> list[float]:
    """Relative errors of the slopes at each step; the objects overlap."""
    objects, view = smooth_scenes(POSITIONS_PX, (2,), SIZE_PX)
    full = tangents == "full"
    exact = slopes_of(rgb_of(SmoothRenderer()), objects, view, full)
    out: list[float] = []
    for step_px in steps_px:
        renderer = FiniteDifferenceRenderer(SmoothRenderer(), tangents, step_px, scheme)
        out.append(float((slopes_of(rgb_of(renderer), objects, view, full) - exact).norm() / exact.norm()))
    return out


@pytest.mark.parametrize("tangents", ["planar", "full"])
def test_central_differences_are_exact_to_second_order(tangents: Tangents) -> None:
    coarse, fine = errors("central", [0.4, 0.2], tangents)
    assert fine < 0.02
    assert 3.4 < coarse / fine < 4.6


def test_forward_differences_are_biased_to_first_order() -> None:
    coarse, fine, finest = errors("forward", [0.2, 0.1, 0.001], "planar")
    assert 1.8 < coarse / fine < 2.2
    assert finest < 1e-3


@pytest.mark.parametrize("scheme", RANDOM)
@pytest.mark.parametrize("tangents", ["planar", "full"])
def test_random_directions_are_unbiased(scheme: Scheme, tangents: Tangents) -> None:
    """The mean over seeds lies within its own standard error of the exact gradient."""
    objects, view = smooth_scenes(POSITIONS_PX[:2], (), SIZE_PX)
    full = tangents == "full"
    exact = slopes_of(rgb_of(SmoothRenderer()), objects, view, full)
    one = FiniteDifferenceRenderer(SmoothRenderer(), tangents, 0.02, scheme, pairs=16)
    draws = [slopes_of(rgb_of(reseeded(one, seed)), objects, view, full) for seed in range(24)]
    samples = torch.stack(draws)
    standard_error = samples.std(0) / len(samples) ** 0.5
    # a motion along the line of sight changes little: its noise comes from the other tangents
    assert float((standard_error / exact.norm()).max()) < 0.1
    assert float(((samples.mean(0) - exact) / standard_error).abs().max()) < 4
    assert float((samples.mean(0) - exact).norm() / exact.norm()) < 0.2


def test_smoothing_is_the_gradient_of_the_mean_over_motions() -> None:
    """With a wide Gaussian along a single number, against quadrature: the image of a blob that slides across a fixed weight."""
    objects, view = smooth_scenes([[16.0, 16.0]], size_px=SIZE_PX)
    sigma_px, pairs = 3.0, 400
    renderer = FiniteDifferenceRenderer(SmoothRenderer(), "planar", sigma_px, "smoothing", pairs)
    weights = (torch.arange(SIZE_PX).double()[:, None] / 6).sin()
    T = objects.T_world_object.clone().requires_grad_()
    (weights * renderer.layers(at(objects, T), view).alpha).sum().backward()
    assert T.grad is not None
    sigma_m, radians = sigma_px * 0.5 / 60, 0.3
    at_m = torch.linspace(-4, 4, 81).double() * sigma_m
    density = torch.exp(-0.5 * (at_m / sigma_m) ** 2)
    turned = torch.randn(16, 1, generator=torch.Generator().manual_seed(1)).double() * radians
    moved = objects.T_world_object.repeat(16, 81, 1, 1)
    moved[..., 1, 3] += at_m
    c, s = turned.cos(), turned.sin()
    R = torch.stack([torch.cat([c, -s], -1), torch.cat([s, c], -1)], -2)[:, None]
    moved[..., :2, :2] = R @ moved[..., :2, :2]
    present, ids = torch.ones(16, 81, dtype=torch.bool), torch.zeros(16, 81, dtype=torch.int64)
    with torch.no_grad():
        views: View = map_tensors(lambda x: x.expand(16, *x.shape), view)
        alpha = SmoothRenderer().layers(Objects(ids, moved, present), views).alpha
        values = (weights * alpha).sum((-2, -1)).mean(0)
    expected = float((values * density * at_m / sigma_m**2).sum() / density.sum())
    assert float(T.grad[0, 1, 3]) == pytest.approx(expected, rel=0.15)


def reseeded(renderer: FiniteDifferenceRenderer, seed: int) -> FiniteDifferenceRenderer:
    r = renderer
    return FiniteDifferenceRenderer(r.renderer, r.tangents, r.step_px, r.scheme, r.pairs, seed, r.differences, r.reach_px)


@pytest.mark.parametrize("scheme", ALL)
def test_a_run_repeats_to_the_bit_and_leaves_the_global_generator_alone(scheme: Scheme) -> None:
    objects, view = smooth_scenes(POSITIONS_PX, (), SIZE_PX)
    renderer = FiniteDifferenceRenderer(SmoothRenderer(), "full", 1.0, scheme, pairs=2, seed=5)
    before = torch.random.get_rng_state()
    first = slopes_of(rgb_of(renderer), objects, view)
    slopes_of(rgb_of(renderer), smooth_scenes(POSITIONS_PX, (), SIZE_PX, seed=1)[0], view)
    again = slopes_of(rgb_of(reseeded(renderer, 5)), objects, view)
    assert torch.equal(first, again)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first, slopes_of(rgb_of(reseeded(renderer, -6)), objects, view)) == (scheme not in RANDOM)


@pytest.mark.parametrize("scheme", RANDOM)
def test_other_poses_and_other_objects_draw_other_directions(scheme: Scheme) -> None:
    objects, _ = smooth_scenes(POSITIONS_PX, (2,), SIZE_PX)
    T, steps, basis = objects.T_world_object, torch.ones(2, 3, 6).double(), torch.eye(6).double()
    here = schemes.make_probes(scheme, 3, 0, T, steps, basis)
    nudged = T.clone()
    nudged[0, 0, 0, 3] = torch.nextafter(nudged[0, 0, 0, 3], torch.tensor(9.0).double())
    there = schemes.make_probes(scheme, 3, 0, nudged, steps, basis)
    assert here.directions.shape == (3, 2, 3, 6)
    assert not torch.equal(here.directions[:, 1], there.directions[:, 1])
    assert here.directions.flatten(0, 2).unique(dim=0).shape[0] > 10
    if scheme == "spsa":
        assert bool((here.directions.abs() == 1).all())


@pytest.mark.parametrize(
    ("scheme", "pairs", "draws"), [("central", 9, 6), ("forward", 9, 3), ("spsa", 2, 4), ("smoothing", 5, 10)]
)
def test_all_draws_of_a_gradient_are_one_call_without_copies(scheme: Scheme, pairs: int, draws: int) -> None:
    objects, view = smooth_scenes(POSITIONS_PX, (2,), SIZE_PX)
    inner = SmoothRenderer()
    T = objects.T_world_object.clone().requires_grad_()
    layers = FiniteDifferenceRenderer(inner, scheme=scheme, pairs=pairs).layers(at(objects, T), view)
    assert len(inner.calls) == 1
    loss_of(layers.rgb).backward()
    assert len(inner.calls) == 2
    asked, seen = inner.calls[1]
    assert asked.T_world_object.shape == (draws, 2, 3, 4, 4)
    assert seen.background_rgb.data_ptr() == view.background_rgb.data_ptr()
    assert seen.background_rgb.stride()[0] == asked.class_ids.stride()[0] == asked.present.stride()[0] == 0


@pytest.mark.parametrize("scheme", ALL)
def test_the_cost_does_not_grow_with_the_objects(scheme: Scheme) -> None:
    drawn: list[int] = []
    for count in (1, 3):
        objects, view = smooth_scenes(POSITIONS_PX[:count], (2,), SIZE_PX)
        counter = CountingRenderer(SmoothRenderer())
        slopes_of(rgb_of(FiniteDifferenceRenderer(counter, scheme=scheme, pairs=2)), objects, view)
        drawn.append(counter.scenes_drawn)
        assert counter.objects_drawn == count * counter.scenes_drawn
    per_gradient = {"central": 6, "forward": 3, "spsa": 4, "smoothing": 4}[scheme]
    assert drawn == [2 * (1 + per_gradient)] * 2


@pytest.mark.parametrize("scheme", ALL)
def test_memory_is_bounded_by_drawing_in_parts(scheme: Scheme, monkeypatch: pytest.MonkeyPatch) -> None:
    objects, view = smooth_scenes(POSITIONS_PX, (2,), SIZE_PX)
    inner = SmoothRenderer()
    renderer = FiniteDifferenceRenderer(inner, scheme=scheme, pairs=3)
    whole = slopes_of(rgb_of(renderer), objects, view)
    monkeypatch.setattr(schemes, "MAX_BYTES", 1)
    inner.calls.clear()
    assert torch.equal(slopes_of(rgb_of(renderer), objects, view), whole)
    assert len(inner.calls) == 1 + 3
    assert [list(range(9))[chosen] for chosen in schemes.chunks(9, 1)] == [[i] for i in range(9)]
    monkeypatch.setattr(schemes, "MAX_BYTES", 40)
    assert list(schemes.chunks(9, 10)) == [slice(0, 4), slice(4, 8), slice(8, 9)]
    assert list(schemes.chunks(0, 10)) == []


@pytest.mark.parametrize("scheme", ALL)
def test_absent_objects_have_no_gradient_even_if_their_poses_are_no_numbers(scheme: Scheme) -> None:
    objects, view = smooth_scenes(POSITIONS_PX, (2,), SIZE_PX)
    objects.present[0, 1] = objects.present[1, 2] = False
    objects.T_world_object[0, 1] = torch.nan
    objects.T_world_object[1, 2] = torch.inf
    T = objects.T_world_object.clone().requires_grad_()
    loss_of(FiniteDifferenceRenderer(SmoothRenderer(), scheme=scheme).render(at(objects, T), view).rgb).backward()
    assert T.grad is not None
    assert bool(torch.isfinite(T.grad).all())
    assert not T.grad[~objects.present].any()
    assert bool((T.grad[objects.present].abs().sum((-2, -1)) > 0).all())


@pytest.mark.parametrize("differences", ["layers", "images"])
@pytest.mark.parametrize("scheme", ALL)
@pytest.mark.parametrize(("batch", "slots"), [((0,), 3), ((2,), 0), ((), 0), ((2, 0), 0)])
def test_nothing_to_draw(scheme: Scheme, batch: tuple[int, ...], slots: int, differences: str) -> None:
    objects, view = smooth_scenes(POSITIONS_PX[:slots], batch, SIZE_PX)
    renderer = FiniteDifferenceRenderer(RasterRenderer(catalogue_of(box())), scheme=scheme, differences=differences)  # type: ignore[arg-type]
    T = objects.T_world_object.float().requires_grad_()
    view = map_tensors(lambda x: x.float(), view)
    image = renderer.render(at(objects, T), view).rgb
    prefixes = renderer.prefix_images(at(objects, T), view)
    assert image.shape == (*batch, SIZE_PX, SIZE_PX, 3)
    assert prefixes.shape == (*batch, slots + 1, SIZE_PX, SIZE_PX, 3)
    (image.sum() + prefixes.sum() + 0 * T.sum()).backward()
    assert T.grad is not None
    assert T.grad.shape == (*batch, slots, 4, 4)
    if scheme in ("central", "forward"):
        equations = renderer.normal_equations(objects, view, view.background_rgb)
        assert equations.hessian.shape == (*batch, slots, 3, 3)


@pytest.mark.parametrize("scheme", ALL)
def test_raster_as_a_black_box_agrees_with_its_analytic_gradient(scheme: Scheme) -> None:
    objects, view = table_scene(2, 3, 48, classes=2, seed=1)
    inner = RasterRenderer(catalogue_of(box((0.12, 0.05, 0.08)), ball(subdivisions=2)), 3)
    renderer = FiniteDifferenceRenderer(inner, "planar", 0.7 if scheme == "smoothing" else 1.0, scheme, pairs=48)
    T = objects.T_world_object
    grads: list[Tensor] = []
    for one in (renderer, inner):
        leaf = T.clone().requires_grad_()
        rgb = one.render(at(objects, leaf), view).rgb
        loss_of(smooth_pixels(rgb)).backward()
        assert leaf.grad is not None
        grads.append(motion_slopes(T, leaf.grad)[..., [0, 1, 5]])
    per_step = torch.tensor([1.0, 1.0, 1 / 0.07])  # radians that move a surface as far as a metre
    a, b = (g[objects.present].mul(per_step).flatten() for g in grads)
    assert float(torch.nn.functional.cosine_similarity(a, b, dim=0)) > (0.92 if scheme in RANDOM else 0.98)
    assert 0.85 < float(a.norm() / b.norm()) < 1.15


def smooth_pixels(rgb: Tensor) -> Tensor:
    """Means over squares of 8 pixels, of which a loss is smooth over the steps."""
    return rgb.unflatten(-3, (6, 8)).unflatten(-2, (6, 8)).mean((-4, -2))


def test_settings_are_kept_when_the_step_changes() -> None:
    renderer = FiniteDifferenceRenderer(SmoothRenderer(), "full", 4.0, "spsa", 3, 7, "images", 2.0)
    other = renderer.with_step(1.5)
    kept = ("tangents", "scheme", "pairs", "seed", "differences", "reach_px", "renderer", "name", "samples_per_axis", "catalogue")
    assert [getattr(other, name) for name in kept] == [getattr(renderer, name) for name in kept]
    assert (renderer.step_px, other.step_px) == (4.0, 1.5)
    with pytest.raises(ValueError, match="step_px must be greater than 0, received -1.0"):
        renderer.with_step(-1.0)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"step_px": float("nan")}, "step_px must be greater than 0"),
        ({"pairs": 0}, "pairs must be at least 1, received 0"),
        ({"seed": 2**63}, "seed must have at most 64 bits"),
        ({"reach_px": -1.0}, "reach_px must be 0 or more, received -1.0"),
    ],
)
def test_settings_out_of_range_are_refused(setting: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FiniteDifferenceRenderer(SmoothRenderer(), **setting)  # type: ignore[arg-type]


def test_counts_start_again_and_prefixes_count_as_the_renderer_works() -> None:
    objects, view = smooth_scenes(POSITIONS_PX, (2,), SIZE_PX)
    objects.present[0, 0] = False
    merging, whole = CountingRenderer(SmoothRenderer()), CountingRenderer(SmoothRenderer())
    whole.draws_whole_images = True
    for counter, scenes, drawn in ((merging, 2, 5), (whole, 6, 1 + 2 + 1 + 2 + 3)):
        counter.prefix_images(objects, view)
        assert (counter.calls, counter.scenes_drawn, counter.objects_drawn) == (1, scenes, drawn)
        counter.reset()
        assert (counter.calls, counter.scenes_drawn, counter.objects_drawn) == (0, 0, 0)
    alternatives = Objects(*(x[:, :, None].repeat(1, 1, 2, *[1] * (x.dim() - 2)) for x in dataclasses.astuple(objects)))
    for counter, scenes, drawn in ((merging, 8, 5 + 10), (whole, 2 * 2 * 6, swapped_objects(objects, alternatives))):
        counter.swap_errors(objects, alternatives, view, view.background_rgb)
        assert (counter.scenes_drawn, counter.objects_drawn) == (scenes, drawn)


def swapped_objects(objects: Objects, alternatives: Objects) -> int:
    """Objects in every image with an alternative in slot k among the first m + 1."""
    total = 0
    for b, k, a in alternatives.present.nonzero().tolist() + (~alternatives.present).nonzero().tolist():
        for m in range(k, 3):
            others = sum(bool(objects.present[b, j]) for j in range(m + 1) if j != k)
            total += others + int(alternatives.present[b, k, a])
    return total
