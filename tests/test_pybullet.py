"""TinyRenderer's pictures against our own rasteriser's."""

from __future__ import annotations

import functools
import multiprocessing
import sys

import numpy as np
import pytest
from painter_checks import (
    assert_close,
    distance,
    floor_through_the_near_plane,
    near_light,
    objects_of_every_kind,
    odd_pinhole,
    same,
    scene_of,
    shot_of,
    tabletop,
)
from renderer_scenes import ball, box, camera_view, catalogue_of, posed, quad, square, table_scene

from inverse_graphics.types import Catalogue, Objects, map_tensors
from renderers.errors import BackendMissingError
from renderers.painting.baking import bake_colours
from renderers.painting.pictures import PictureRenderer

pytest.importorskip("pybullet")
from renderers.pybullet import PyBulletPainter

PLAIN_RGB = 0.012
"""Colours of 8 bits, rounded down up to three times: texel, product with the light, and picture."""

BAKED_RGB = 0.04
"""Where colours change within a face there is also half a texel of the baked texture."""

NEAR_LIGHT_RGB = 0.12
"""A near light is far away for each object; here objects of 10 cm are 30 cm from it."""


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return tabletop()


@pytest.fixture(scope="module")
def painter(catalogue: Catalogue) -> PyBulletPainter:
    return PyBulletPainter(catalogue)


def every_class(catalogue: Catalogue) -> tuple[Objects, ...]:
    return tuple(posed([i], [[0.01, -0.02, 0.4]], [[1.2, 0.3, 0.2]]) for i in range(len(catalogue)))


def test_every_object_of_the_table_top(catalogue: Catalogue, painter: PyBulletPainter) -> None:
    view = camera_view(128, 128, 200.0, light=(0.3, -0.6, -0.8))
    for objects in every_class(catalogue):
        assert_close(distance(painter, catalogue, objects, view), PLAIN_RGB)


def test_scenes_with_several_objects_of_a_class(catalogue: Catalogue, painter: PyBulletPainter) -> None:
    objects, view = table_scene(4, 6, 128, classes=3, seed=3)
    assert_close(distance(painter, catalogue, objects, view), PLAIN_RGB, pixels=4000)


@pytest.mark.parametrize(("width", "height"), [(133, 97), (64, 131)])
def test_any_size_any_pinhole_textures_and_open_meshes(width: int, height: int) -> None:
    catalogue, objects = objects_of_every_kind()
    assert_close(distance(PyBulletPainter(catalogue), catalogue, objects, odd_pinhole(width, height)), BAKED_RGB)


def test_edges_on_pixel_borders_are_exact() -> None:
    view = camera_view(40, 32, 50.0)
    x0, x1, y0, y1 = ((u - middle) * 2 / 50 for u, middle in ((6, 20), (17, 20), (3, 16), (10, 16)))
    corners = [[x0, y0, 0.0], [x0, y1, 0.0], [x1, y1, 0.0], [x1, y0, 0.0]]
    picture = PyBulletPainter(catalogue_of(quad(corners))).draw([shot_of(posed([0], [[0.0, 0.0, 2.0]]), view)])[0]
    expected = np.zeros((32, 40), bool)
    expected[3:10, 6:17] = True
    assert np.array_equal(picture.depth_m > 0, expected)
    assert np.allclose(picture.depth_m[expected], 2, rtol=0, atol=1e-5)
    assert np.allclose(picture.rgb[expected], [0.5, 0.6, 0.7], rtol=0, atol=PLAIN_RGB)


def test_a_near_light_is_far_away_for_each_object(catalogue: Catalogue, painter: PyBulletPainter) -> None:
    objects, view = table_scene(3, 4, 128, classes=13, seed=3)
    assert_close(distance(painter, catalogue, objects, near_light(view, (0.1, -0.2, 0.35))), NEAR_LIGHT_RGB)
    small = catalogue_of(square(0.01))
    single = posed([0, 0], [[0.05, 0.0, 0.5], [-0.05, 0.02, 0.6]])
    lit = near_light(camera_view(64, 64, 200.0), (0.3, -0.2, 0.1))
    assert_close(distance(PyBulletPainter(small), small, single, lit), 0.02, pixels=40)


def test_near_plane_cuts_within_a_triangle() -> None:
    catalogue, objects, view = floor_through_the_near_plane()
    assert_close(distance(PyBulletPainter(catalogue), catalogue, objects, view), PLAIN_RGB, pixels=100)


def test_depth_far_away_and_behind_the_camera() -> None:
    catalogue = catalogue_of(ball(), box())
    objects = posed([0, 1], [[0.0, 0.0, 40.0], [0.0, 0.0, -1.0]])
    found = distance(PyBulletPainter(catalogue), catalogue, objects, camera_view(64, 64, 20_000.0))
    assert_close(found, PLAIN_RGB)


def test_nothing_to_draw(painter: PyBulletPainter) -> None:
    nothing = map_tensors(lambda x: x[:0], posed([0], [[0.0, 0.0, 1.0]]))
    shot = shot_of(nothing, camera_view(9, 5, 10.0))
    behind = shot_of(posed([2], [[0.0, 0.0, -1.0]]), camera_view(9, 5, 10.0))
    for picture in painter.draw([shot, behind]):
        assert picture.depth_m.shape == (5, 9)
        assert not picture.depth_m.any()
    assert painter.draw([]) == []


def test_what_was_drawn_before_changes_nothing(catalogue: Catalogue, painter: PyBulletPainter) -> None:
    objects, view = table_scene(6, 5, 48, classes=13, seed=5)
    shots = [shot_of(*scene_of(objects, view, i)) for i in range(6)]
    together = painter.draw(shots)
    assert same(together, painter.draw(shots))
    assert same(together, painter.draw(shots[::-1])[::-1])
    assert same(together[2:3], PyBulletPainter(catalogue).draw(shots[2:3]))


def test_a_mesh_of_more_than_one_shape() -> None:
    catalogue = catalogue_of(ball(subdivisions=6))
    assert len(catalogue.meshes[0].faces) > 80_000
    objects = posed([0], [[0.01, 0.02, 0.4]], [[0.3, 0.2, 0.1]])
    assert_close(distance(PyBulletPainter(catalogue), catalogue, objects, camera_view(64, 64, 160.0)), PLAIN_RGB)


def test_baked_colours_fit_any_budget() -> None:
    mesh = objects_of_every_kind()[0].meshes[1]
    for max_texels in (2**22, 2**14, 2**11):
        atlas = bake_colours(mesh, max_texels)
        assert atlas.rgb.shape[0] ** 2 <= 4 * max_texels
        assert ((atlas.corner_uv > 0) & (atlas.corner_uv < 1)).all()
    box_atlas = bake_colours(box())
    assert box_atlas.rgb.shape == (1, 1, 3)
    assert np.allclose(box_atlas.rgb, [0.8, 0.4, 0.2])


def test_two_painters_side_by_side_and_one_that_was_closed(catalogue: Catalogue, painter: PyBulletPainter) -> None:
    shot = shot_of(posed([3], [[0.0, 0.0, 0.5]]), camera_view(24, 24, 40.0))
    other = PyBulletPainter(catalogue)
    assert same(painter.draw([shot]), other.draw([shot]))
    other.close()
    other.close()
    assert painter.draw([shot])[0].depth_m.any()


def test_in_another_process(catalogue: Catalogue, painter: PyBulletPainter) -> None:
    shots = [shot_of(posed([3, 7], [[0.0, 0.0, 0.5], [0.1, 0.0, 0.6]]), camera_view(24, 24, 40.0))]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert same(painter.draw(shots), pool.apply(draw, (functools.partial(PyBulletPainter, catalogue), shots)))


def draw(make: functools.partial, shots: list) -> list:
    return make().draw(shots)


def test_images(catalogue: Catalogue, painter: PyBulletPainter) -> None:
    objects, view = table_scene(1, 3, 32, classes=13)
    image = PictureRenderer(painter, catalogue, 2).render(objects, view)
    assert image.rgb.shape == (1, 32, 32, 3)
    assert (image.object_ids >= 0).any()


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pybullet", None)
    with pytest.raises(BackendMissingError, match=r'pip install "pybullet'):
        PyBulletPainter(catalogue_of(box()))
