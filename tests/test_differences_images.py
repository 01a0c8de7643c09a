"""Differences of whole images: attribution to the objects in whose places the changes lie, and what it costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from difference_scenes import PLANAR, ShadowRenderer, at, loss_of, slopes_of, smooth_scenes
from renderer_scenes import ball, box, camera_view, catalogue_of, posed, table_scene
from torch import Tensor

from inverse_graphics import compositing
from inverse_graphics.poses import motion_slopes
from inverse_graphics.protocols import Renderer, StackRenderer
from inverse_graphics.types import Objects, View, map_tensors
from renderers import FiniteDifferenceRenderer, RasterRenderer
from renderers.differences import CountingRenderer, Scheme, schemes
from renderers.differences.groups import box_corners, group_apart, image_boxes, inside, touching

APART_PX = [[12.0, 12.0], [52.0, 14.0], [14.0, 52.0], [52.0, 54.0]]
CLOSE_PX = [[30.0, 30.0], [37.0, 33.0], [12.0, 12.0], [48.0, 34.0]]
SIZE_PX = 68

Draw = Callable[[Renderer], Callable[[Objects, View], Tensor]]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other cost more than they save on images this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def rgb_of(renderer: Renderer) -> Callable[[Objects, View], Tensor]:
    return lambda objects, view: renderer.render(objects, view).rgb


def prefixes_of(renderer: Renderer) -> Callable[[Objects, View], Tensor]:
    return lambda objects, view: compositing.prefix_images(renderer, objects, view)


@pytest.mark.parametrize("draw", [rgb_of, prefixes_of])
@pytest.mark.parametrize("positions_px", [APART_PX, CLOSE_PX])
@pytest.mark.parametrize("tangents", ["planar", "full"])
def test_gradients_are_those_of_images_with_shadows(positions_px: list[list[float]], tangents: str, draw: Draw) -> None:
    objects, view = smooth_scenes(positions_px, (2,), SIZE_PX)
    objects.present[1, 2] = False
    renderer = FiniteDifferenceRenderer(ShadowRenderer(), tangents, 0.05)  # type: ignore[arg-type]
    assert renderer.differences == "images"
    full = tangents == "full"
    exact = slopes_of(draw(ShadowRenderer()), objects, view, full)
    slopes = slopes_of(draw(renderer), objects, view, full)
    torch.testing.assert_close(slopes, exact, rtol=0.02, atol=0.004 * float(exact.abs().max()))
    with torch.no_grad():
        expected = draw(ShadowRenderer())(objects, view)
    T = objects.T_world_object.clone().requires_grad_()
    assert torch.equal(draw(renderer)(at(objects, T), view).detach(), expected)
    assert torch.equal(draw(renderer)(objects, view), expected)


@pytest.mark.parametrize("scheme", ["forward", "spsa", "smoothing"])
def test_other_schemes_point_the_same_way(scheme: Scheme) -> None:
    objects, view = smooth_scenes(CLOSE_PX, (), SIZE_PX)
    exact = slopes_of(rgb_of(ShadowRenderer()), objects, view)
    slopes = slopes_of(rgb_of(FiniteDifferenceRenderer(ShadowRenderer(), "planar", 0.02, scheme, 24)), objects, view)
    assert float(torch.nn.functional.cosine_similarity(exact.flatten(), slopes.flatten(), dim=0)) > 0.9


def test_a_shadow_beyond_the_reach_does_not_count() -> None:
    """The reach is what says where an object may change the image."""
    objects, view = smooth_scenes([[30.0, 30.0]], (), SIZE_PX)
    exact = slopes_of(rgb_of(ShadowRenderer()), objects, view)
    reaching, cut = (FiniteDifferenceRenderer(ShadowRenderer(), step_px=0.05, reach_px=reach) for reach in (8.0, 0.0))
    wide, narrow = (float((slopes_of(rgb_of(r), objects, view) - exact).norm() / exact.norm()) for r in (reaching, cut))
    assert wide < 0.002 < 0.02 < narrow


@pytest.mark.parametrize("draw", [rgb_of, prefixes_of])
def test_whole_images_and_layers_agree_where_images_are_merged(draw: Draw) -> None:
    objects, view = table_scene(3, 3, 48, classes=2, seed=1)
    inner = RasterRenderer(catalogue_of(box((0.12, 0.05, 0.08)), ball(subdivisions=2)), 2)
    by_layers = FiniteDifferenceRenderer(inner, "full")
    by_images = FiniteDifferenceRenderer(inner, "full", differences="images", reach_px=1.0)
    assert by_layers.differences == "layers"
    a, b = (slopes_of(draw(renderer), objects, view, full=True) for renderer in (by_layers, by_images))
    flat = [x[objects.present].flatten() for x in (a, b)]
    assert float(torch.nn.functional.cosine_similarity(*flat, dim=0)) > 0.97
    assert not b[~objects.present].any()
    # a separate object's changes are linear in its layer
    alone, alone_view = map_tensors(lambda x: x[:1].clone(), objects), map_tensors(lambda x: x[:1], view)
    alone.present[:, 1:] = False
    alone.present[:, 0] = True
    a, b = (slopes_of(draw(renderer), alone, alone_view, full=True) for renderer in (by_layers, by_images))
    assert float((a - b).norm() / a.norm()) < 0.1


def grid_px(count: int) -> list[list[float]]:
    return [[22.0 + 42 * (i % 4), 22.0 + 42 * (i // 4)] for i in range(count)]


@pytest.mark.parametrize(("scheme", "per_gradient"), [("central", 6), ("forward", 3), ("spsa", 4)])
def test_the_cost_is_that_of_one_object_for_eight_that_do_not_touch(scheme: Scheme, per_gradient: int) -> None:
    for count in (1, 2, 8):
        objects, view = smooth_scenes(grid_px(count), (1,), 172)
        counter = CountingRenderer(ShadowRenderer())
        renderer = FiniteDifferenceRenderer(counter, scheme=scheme, pairs=2)
        slopes_of(rgb_of(renderer), objects, view)
        assert (counter.calls, counter.scenes_drawn) == (2, 1 + per_gradient)
        assert counter.objects_drawn == count * (1 + per_gradient)


def test_only_scenes_whose_objects_touch_cost_more() -> None:
    objects, view = smooth_scenes(APART_PX, (3,), SIZE_PX)
    close, _ = smooth_scenes(CLOSE_PX, (3,), SIZE_PX)
    objects.T_world_object[1] = close.T_world_object[1]
    objects.present[2] = False
    counter = CountingRenderer(ShadowRenderer())
    slopes_of(rgb_of(FiniteDifferenceRenderer(counter, reach_px=6.0)), objects, view)
    groups = 1 + 3 + 0
    assert counter.scenes_drawn == 3 + 6 * groups
    counter.reset()
    slopes_of(prefixes_of(FiniteDifferenceRenderer(counter, reach_px=6.0)), objects, view)
    assert counter.scenes_drawn == 4 * (3 + 6 * groups)


def test_drawing_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    objects, view = smooth_scenes(CLOSE_PX, (2,), SIZE_PX)
    counter = CountingRenderer(ShadowRenderer())
    renderer = FiniteDifferenceRenderer(counter)
    whole = slopes_of(prefixes_of(renderer), objects, view)
    calls = counter.calls
    monkeypatch.setattr(schemes, "MAX_BYTES", 1)
    torch.testing.assert_close(slopes_of(prefixes_of(renderer), objects, view), whole, rtol=1e-9, atol=1e-9)
    assert counter.calls > 4 * calls


def test_absent_objects_have_no_gradient_even_if_their_poses_are_no_numbers() -> None:
    objects, view = smooth_scenes(CLOSE_PX, (2,), SIZE_PX)
    objects.present[0, 1] = False
    objects.T_world_object[0, 1] = torch.nan
    for draw in (rgb_of, prefixes_of):
        T = objects.T_world_object.clone().requires_grad_()
        loss_of(draw(FiniteDifferenceRenderer(ShadowRenderer()))(at(objects, T), view)).backward()
        assert T.grad is not None
        assert bool(torch.isfinite(T.grad).all())
        assert not T.grad[0, 1].any()
        assert bool((motion_slopes(objects.T_world_object, T.grad)[..., PLANAR][objects.present] != 0).all())


def test_colours_alone_are_asked_for_where_the_renderer_draws_them() -> None:
    class Quick(ShadowRenderer):
        asked = 0

        def images(self, objects: Objects, view: View) -> Tensor:
            self.asked += 1
            return self.prefix_images(objects, view)[..., -1, :, :, :]

    objects, view = smooth_scenes(APART_PX, (), SIZE_PX)
    quick = Quick()
    slopes = slopes_of(rgb_of(FiniteDifferenceRenderer(quick)), objects, view)
    assert quick.asked == 1
    assert torch.equal(slopes, slopes_of(rgb_of(FiniteDifferenceRenderer(ShadowRenderer())), objects, view))


def test_alternatives_are_compared_by_the_renderer_itself() -> None:
    objects, view = smooth_scenes(APART_PX, (2,), SIZE_PX)
    renderer = FiniteDifferenceRenderer(ShadowRenderer())
    assert isinstance(renderer, StackRenderer)
    alternatives = Objects(objects.class_ids[..., None], objects.T_world_object[:, :, None], objects.present[..., None])
    errors = compositing.swap_errors(renderer, objects, alternatives, view, view.background_rgb)
    assert torch.equal(errors, torch.ones(2, 4, 1, 5, dtype=torch.float64))


def test_groups_hold_no_two_objects_that_touch_and_are_few() -> None:
    generator = torch.Generator().manual_seed(0)
    touch = torch.rand(50, 7, 7, generator=generator) < 0.3
    touch = touch | touch.transpose(-1, -2) | torch.eye(7, dtype=torch.bool)
    present = torch.rand(50, 7, generator=generator) < 0.8
    groups = group_apart(touch, present)
    same = (groups[:, :, None] == groups[:, None]) & present[:, :, None] & ~torch.eye(7, dtype=torch.bool)
    assert not (same & touch).any()
    assert torch.equal(groups >= 0, present)
    most = (touch & present[:, None, :] & present[:, :, None]).sum(-1).amax(-1)
    assert bool((groups.amax(-1) < most.clamp(min=1)).all())
    assert torch.equal(
        group_apart(torch.eye(3, dtype=torch.bool)[None], torch.ones(1, 3, dtype=torch.bool)), torch.zeros(1, 3).long()
    )
    every = torch.ones(1, 3, 3, dtype=torch.bool)
    assert group_apart(every, torch.tensor([[True, False, True]])).tolist() == [[0, -1, 1]]


def test_places_hold_the_objects_silhouettes() -> None:
    objects, view = table_scene(8, 4, 40, classes=2, seed=5)
    catalogue = catalogue_of(box((0.12, 0.05, 0.08)), ball())
    corners = box_corners(catalogue)[objects.class_ids]
    boxes = image_boxes(corners, objects.T_world_object[None], view.camera, 0.0)
    alpha = RasterRenderer(catalogue, 1).layers(objects, view).alpha > 0
    places = inside(boxes.flatten(0, 1), 40, 40).unflatten(0, (8, 4))
    assert not (alpha & ~places).any()
    assert float(alpha.sum() / places[objects.present].sum()) > 0.4
    overlap = (places[:, :, None] & places[:, None]).any(-1).any(-1)
    assert torch.equal(touching(boxes), overlap)


def test_places_near_the_camera_and_out_of_sight() -> None:
    view = map_tensors(lambda x: x[None], camera_view(20, 10, 20.0, near_m=0.1))
    corners = box_corners(catalogue_of(box((0.1, 0.1, 0.1))))[torch.zeros(1, 4, dtype=torch.int64)]
    centres = [[0.0, 0.0, 0.1], [9.0, 0.0, 1.0], [0.0, 0.0, 1.05], [0.0, -9.0, 1.0]]
    T = posed([0] * 4, centres).T_world_object[None, None]
    near, right, middle, above = image_boxes(corners, T, view.camera, 0.0)[0].tolist()
    assert near == [0, 0, 20, 10]
    assert middle == [9, 4, 11, 6]
    assert right[0] == right[2] and above[1] == above[3]
    assert image_boxes(corners, T, view.camera, 2.0)[0, 2].tolist() == [7, 2, 13, 8]
    both = torch.cat([T, T + torch.nn.functional.pad(torch.tensor([[0.2], [0.0], [0.0], [0.0]]), (3, 0))])
    assert image_boxes(corners, both, view.camera, 0.0)[0, 2].tolist() == [9, 4, 15, 6]
