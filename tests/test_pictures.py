"""Renderers made of painters: packing, layers, surroundings, whole pictures, and what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from painters import CarelessPainter, FloorPainter, RayPainter
from renderer_scenes import alternatives_of, ball, box, camera_view, catalogue_of, posed, square, table_scene

import renderers.painting.pictures as pictures_module
from inverse_graphics import compositing
from inverse_graphics.protocols import Renderer, StackRenderer
from inverse_graphics.types import Catalogue, Layers, Objects, View, map_tensors
from renderers import FiniteDifferenceRenderer, RasterRenderer
from renderers.painting.packing import pack
from renderers.painting.pictures import PainterError, PictureRenderer, WholePictureRenderer

CATALOGUE = catalogue_of(box(), ball(subdivisions=1))


def made(samples_per_axis: int = 1, catalogue: Catalogue = CATALOGUE, **options: Any) -> tuple[PictureRenderer, RayPainter]:
    painter = RayPainter(catalogue)
    return PictureRenderer(painter, catalogue, samples_per_axis, **options), painter


def row_of(count: int, distance_m: float) -> tuple[Objects, View]:
    """Balls beside each other, two metres away."""
    view = camera_view(96, 24, 60.0)
    return posed([1] * count, [[(k - (count - 1) / 2) * distance_m, 0.0, 2.0] for k in range(count)]), view


def test_kinds_of_renderers() -> None:
    painter = RayPainter(CATALOGUE)
    layered, whole = PictureRenderer(painter, CATALOGUE), WholePictureRenderer(painter, CATALOGUE, name="whole")
    assert isinstance(layered, Renderer)
    assert not isinstance(layered, StackRenderer)
    assert isinstance(whole, StackRenderer)
    assert (layered.draws_whole_images, whole.draws_whole_images) == (False, True)
    assert (layered.name, whole.name, layered.samples_per_axis, layered.is_differentiable) == ("rays", "whole", 2, False)


def test_objects_apart_share_one_picture() -> None:
    renderer, painter = made()
    objects, view = row_of(8, 0.3)
    layers = renderer.layers(objects, view)
    assert (layers.alpha.sum((-2, -1)) > 3).all()
    assert len(painter.shots) == 1
    assert painter.shots[0].class_ids.tolist() == [1] * 8


def test_objects_that_overlap_do_not() -> None:
    renderer, painter = made()
    renderer.layers(*row_of(8, 0.2))
    assert len(painter.shots) in (2, 3)
    assert sum(len(shot.class_ids) for shot in painter.shots) == 8


def test_groups_are_disjoint_and_complete() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 60, (40, 2))
    boxes = np.concatenate([first, first + rng.integers(1, 30, (40, 2))], 1)
    boxes[7] = 0
    groups = pack(boxes)
    assert sorted(slot for group in groups for slot in group) == [slot for slot in range(40) if slot != 7]
    for group in groups:
        covered = np.zeros((100, 100), int)
        for x0, y0, x1, y1 in boxes[group]:
            covered[y0:y1, x0:x1] += 1
        assert covered.max() == 1
    assert pack(boxes) == groups
    assert pack(np.zeros((0, 4), int)) == []


@pytest.mark.parametrize("samples_per_axis", [1, 2])
def test_packed_layers_are_those_drawn_one_by_one(samples_per_axis: int) -> None:
    objects, view = table_scene(3, 5, 32, classes=2, seed=1)
    (packed, few), (single, many) = made(samples_per_axis), made(samples_per_axis, packed=False)
    assert_same_layers(packed.layers(objects, view), single.layers(objects, view))
    assert len(few.shots) < len(many.shots) == int(objects.present.sum())
    assert len(few.calls) == 1


def assert_same_layers(a: Layers, b: Layers) -> None:
    assert a.samples_per_axis == b.samples_per_axis
    for field in ("rgb", "alpha", "depth_m"):
        assert torch.equal(getattr(a, field), getattr(b, field))


def test_agrees_with_raster() -> None:
    objects, view = table_scene(2, 3, 96, classes=2, seed=3)
    ours, theirs = made()[0].layers(objects, view), RasterRenderer(CATALOGUE, 1).layers(objects, view)
    both, either = (ours.alpha * theirs.alpha).sum((-2, -1)), torch.maximum(ours.alpha, theirs.alpha).sum((-2, -1))
    assert (both / either)[objects.present].min() > 0.97
    shared = (ours.alpha * theirs.alpha) > 0
    torch.testing.assert_close(ours.depth_m[shared], theirs.depth_m[shared], rtol=0, atol=1e-4)
    torch.testing.assert_close(ours.rgb[shared], theirs.rgb[shared], rtol=0, atol=2e-3)


@pytest.mark.parametrize("batch", [(), (2, 2)])
def test_leading_dimensions(batch: tuple[int, ...]) -> None:
    objects, view = table_scene(4, 3, 16, classes=2)
    renderer, _ = made(2)
    flat = renderer.render(objects, view)
    count = int(np.prod(batch))
    shape = lambda x: x[:count].reshape((*batch, *x.shape[1:]))  # noqa: E731
    image = renderer.render(map_tensors(shape, objects), map_tensors(shape, view))
    for field in ("rgb", "depth_m", "object_ids", "visible_fraction"):
        assert torch.equal(getattr(image, field), shape(getattr(flat, field)))


def test_large_calls_are_drawn_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    objects, view = table_scene(4, 3, 16, classes=2)
    (whole, _), (parts, painter) = made(), made()
    expected = whole.layers(objects, view)
    monkeypatch.setattr(pictures_module, "MAX_PICTURE_BYTES", 2 * 16 * 16 * 16)
    assert_same_layers(parts.layers(objects, view), expected)
    assert {len(call) for call in painter.calls[:-1]} == {2}
    assert len(painter.calls) > 2


def test_what_cannot_be_seen_is_not_drawn() -> None:
    renderer, painter = made()
    view = camera_view(16, 12, 20.0)
    positions = [[0.0, 0.0, -1.0], [5.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]
    objects = posed([0, 1, 0, 1], positions)
    objects = dataclasses.replace(objects, present=torch.tensor([True, True, False, False]))
    objects.T_world_object[3] = torch.nan
    layers = renderer.layers(objects, view)
    assert not layers.alpha.any()
    assert torch.isinf(layers.depth_m).all()
    assert painter.calls == []


def test_what_crosses_the_near_plane_has_the_whole_picture() -> None:
    catalogue = catalogue_of(square(2.0), ball(subdivisions=1))
    renderer, painter = made(1, catalogue)
    objects = posed([0, 1, 1], [[0.0, 0.3, 0.0], [-0.3, 0.0, 1.0], [0.3, 0.0, 1.0]], [[1.5, 0.0, 0.0], [0.0] * 3, [0.0] * 3])
    view = camera_view(32, 32, 32.0)
    layers, expected = renderer.layers(objects, view), RasterRenderer(catalogue, 1).layers(objects, view)
    assert expected.alpha[0].sum() > 100
    torch.testing.assert_close(layers.alpha, expected.alpha, rtol=0, atol=0)
    assert sorted(shot.class_ids.tolist() for shot in painter.shots) == [[0], [1, 1]]


def test_pose_gradients_by_differences() -> None:
    renderer = FiniteDifferenceRenderer(made(2)[0])
    view = camera_view(24, 24, 40.0, background=0.0)
    objects = posed([1], [[0.02, 0.0, 0.5]])
    T = objects.T_world_object.clone().requires_grad_()
    image = renderer.render(dataclasses.replace(objects, T_world_object=T), view)
    u = torch.arange(24) + 0.5
    (image.rgb.sum(-1) * u).sum().backward()
    assert T.grad is not None
    assert float(T.grad[0, 0, 3]) > 0


class TestSurroundings:
    """A floor 2 cm above the objects' base hides what is below it."""

    def test_hide_what_is_behind(self) -> None:
        objects, view = table_scene(2, 3, 48, classes=2)
        floor = PictureRenderer(FloorPainter(CATALOGUE, 0.02), CATALOGUE, 1)
        open_air, _ = made()
        hidden, free = floor.layers(objects, view), open_air.layers(objects, view)
        height_m = self.heights(free.depth_m, view)
        drawn = free.alpha > 0
        assert torch.equal(hidden.alpha[drawn & (height_m > 0.021)], free.alpha[drawn & (height_m > 0.021)])
        assert not hidden.alpha[drawn & (height_m < 0.018)].any()
        assert (drawn & (height_m < 0.018)).sum() > 50
        assert torch.equal(torch.isinf(hidden.depth_m), hidden.alpha == 0)

    @staticmethod
    def heights(depth_m: torch.Tensor, view: View) -> torch.Tensor:
        v, u = torch.meshgrid(torch.arange(48) + 0.5, torch.arange(48) + 0.5, indexing="ij")
        rays = torch.stack([u, v, torch.ones_like(u)], -1) @ torch.linalg.inv(view.camera.K_px[0]).T
        points = rays * torch.where(torch.isinf(depth_m), 0, depth_m)[..., None]
        T_world_camera = torch.linalg.inv(view.camera.T_camera_world[0])
        return (points @ T_world_camera[:3, :3].T + T_world_camera[:3, 3])[..., 2]

    def test_are_drawn_once_a_camera(self) -> None:
        objects, view = table_scene(2, 3, 16, classes=2)
        painter = FloorPainter(CATALOGUE, 0.02)
        renderer = PictureRenderer(painter, CATALOGUE, 2)
        for _ in range(3):
            renderer.layers(objects, renderer.with_surroundings(view))
        assert sum(shot.surroundings for shot in painter.shots) == 1
        assert not any(len(shot.class_ids) for shot in painter.shots if shot.surroundings)

    def test_stand_behind_the_objects(self) -> None:
        objects, view = table_scene(2, 3, 16, classes=2)
        renderer = PictureRenderer(FloorPainter(CATALOGUE, -0.01), CATALOGUE, 2)
        behind = renderer.with_surroundings(view)
        torch.testing.assert_close(behind.background_rgb, torch.full((2, 16, 16, 3), 0.4))
        whole = WholePictureRenderer(FloorPainter(CATALOGUE, -0.01), CATALOGUE, 2)
        torch.testing.assert_close(whole.render(objects, view).rgb, renderer.render(objects, behind).rgb, rtol=0, atol=1e-6)

    def test_keep_the_background_beyond_them(self) -> None:
        view = camera_view(16, 12, 20.0, T_camera_world=torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0])))
        renderer = PictureRenderer(FloorPainter(CATALOGUE, 1.0), CATALOGUE, 2)
        assert torch.equal(renderer.with_surroundings(view).background_rgb, view.background_rgb)

    def test_none_leave_the_view_as_it_is(self) -> None:
        view = camera_view(16, 12, 20.0)
        assert made()[0].with_surroundings(view) is view

    def test_forget_the_oldest(self) -> None:
        painter = FloorPainter(CATALOGUE, 0.0)
        renderer = PictureRenderer(painter, CATALOGUE, 1)
        renderer._surroundings._max_bytes = 2 * 16 * 16 * 16
        for seed in (0, 1, 0, 2, 0, 1):
            view = dataclasses.replace(
                table_scene(1, 1, 16, 1)[1], light=camera_view(16, 16, 9.0, (1,), light=(float(seed), 0.0, 1.0)).light
            )
            renderer.with_surroundings(view)
        assert len(painter.shots) == 4


class TestWholePictures:
    """Without shadows, whole pictures are merged layers."""

    def both(self) -> tuple[WholePictureRenderer, PictureRenderer, RayPainter]:
        painter = RayPainter(CATALOGUE)
        return WholePictureRenderer(painter, CATALOGUE, 2), PictureRenderer(painter, CATALOGUE, 2), painter

    def test_render(self) -> None:
        objects, view = table_scene(3, 4, 24, classes=2)
        whole, layered, painter = self.both()
        image, expected = whole.render(objects, view), layered.render(objects, view)
        torch.testing.assert_close(image.rgb, expected.rgb, rtol=0, atol=1e-6)
        for field in ("depth_m", "object_ids", "visible_fraction"):
            assert torch.equal(getattr(image, field), getattr(expected, field))
        assert any(len(shot.class_ids) == int(objects.present[0].sum()) for shot in painter.shots)

    @pytest.mark.parametrize("batch", [(), (3,)])
    def test_prefix_images(self, batch: tuple[int, ...]) -> None:
        objects, view = table_scene(3, 4, 24, classes=2)
        if not batch:
            objects, view = map_tensors(lambda x: x[0], objects), map_tensors(lambda x: x[0], view)
        whole, layered, painter = self.both()
        images = compositing.prefix_images(whole, objects, view)
        drawn = len(painter.shots)
        torch.testing.assert_close(images, compositing.prefix_images(layered, objects, view), rtol=0, atol=1e-6)
        assert drawn == int(objects.present.sum())

    def test_swap_errors(self) -> None:
        objects, view = table_scene(2, 3, 16, classes=2)
        alternatives = alternatives_of(objects, 2)
        whole, layered, _ = self.both()
        target_rgb = torch.rand(2, 16, 16, 3)
        errors = compositing.swap_errors(whole, objects, alternatives, view, target_rgb)
        expected = compositing.swap_errors(layered, objects, alternatives, view, target_rgb)
        torch.testing.assert_close(errors, expected, rtol=1e-5, atol=1e-4)
        assert not errors[:, 1, :, :2].any()

    def test_no_slots_and_no_scenes(self) -> None:
        whole, _, painter = self.both()
        view = camera_view(8, 6, 9.0, (2,))
        objects = Objects(torch.zeros(2, 0, dtype=torch.int64), torch.zeros(2, 0, 4, 4), torch.zeros(2, 0, dtype=torch.bool))
        assert torch.equal(whole.render(objects, view).rgb, view.background_rgb)
        assert whole.prefix_images(objects, view).shape == (2, 1, 6, 8, 3)
        nobody = map_tensors(lambda x: x[:0], objects)
        assert whole.prefix_images(nobody, map_tensors(lambda x: x[:0], view)).shape == (0, 1, 6, 8, 3)
        assert painter.calls == []


FAULTS = [
    ("rgb", lambda x: np.where(x > 0.2, np.nan, x), "finite colours"),
    ("rgb", lambda x: x * 255, "divide by 255"),
    ("rgb", lambda x: -x, "linear colours in 0..1"),
    ("rgb", lambda x: x[..., :2], r"shape \(12, 16, 3\).*height_px"),
    ("rgb", lambda x: x.transpose(1, 0, 2), "rows first"),
    ("rgb", lambda x: (x * 255).astype(np.uint8), "expected floats"),
    ("rgb", lambda x: x.tolist(), "numpy array"),
    ("depth_m", lambda x: np.where(x > 0, x, np.inf), "use 0 where nothing is drawn"),
    ("depth_m", lambda x: np.where(x > 0, x, np.nan), "use 0 where nothing is drawn"),
    ("depth_m", lambda x: -x, "looks along -z"),
    ("depth_m", lambda x: x[:-1], r"shape \(12, 16\)"),
    ("depth_m", lambda x: None, "numpy array"),
]


@pytest.mark.parametrize(("field", "change", "message"), FAULTS)
def test_faulty_pictures_are_refused(field: str, change: Any, message: str) -> None:
    renderer = PictureRenderer(CarelessPainter(CATALOGUE, field, change), CATALOGUE, 1)
    with pytest.raises(PainterError, match=message) as error:
        renderer.layers(posed([0], [[0.0, 0.0, 0.4]]), camera_view(16, 12, 20.0))
    for part in ("'careless'", "picture 0 of 1", field, "expected", "received", ";"):
        assert part in str(error.value)


@pytest.mark.parametrize(("answer", "message"), [(None, "list of 1"), ([], "received 0"), ([np.zeros(3)], r"Picture\(rgb")])
def test_faulty_lists_are_refused(answer: Any, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    renderer, painter = made()
    monkeypatch.setattr(painter, "draw", lambda shots: answer)
    with pytest.raises(PainterError, match=message):
        renderer.layers(posed([0], [[0.0, 0.0, 0.4]]), camera_view(16, 12, 20.0))


def test_colours_where_nothing_is_drawn_do_not_matter() -> None:
    def glare(rgb: np.ndarray) -> np.ndarray:
        return np.where(rgb > 0, rgb, np.float32(9))

    objects, view = posed([0], [[0.0, 0.0, 0.4]]), camera_view(16, 12, 20.0)
    layers = PictureRenderer(CarelessPainter(CATALOGUE, "rgb", glare), CATALOGUE, 1).layers(objects, view)
    assert_same_layers(layers, made()[0].layers(objects, view))


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ValueError, match="samples_per_axis"):
        made(0)
    with pytest.raises(ValueError, match="catalogue"):
        made(1, Catalogue(()))
    with pytest.raises(ValueError, match="class_ids"):
        made()[0].layers(posed([2], [[0.0, 0.0, 1.0]]), camera_view(8, 8, 10.0))
