"""Mitsuba's pictures against our own rasteriser's, and its paths against closed forms."""

from __future__ import annotations

import dataclasses
import functools
import multiprocessing
import sys

import numpy as np
import pytest
import torch
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
    textured_globe,
)
from renderer_scenes import ball, box, camera_view, catalogue_of, mesh_of, posed, quad, square, table_scene

from inverse_graphics.types import Catalogue, Objects, Texture, View, map_tensors
from renderers.errors import BackendMissingError
from renderers.painting.pictures import PictureRenderer, WholePictureRenderer
from renderers.painting.shots import Picture

pytest.importorskip("mitsuba")
import mitsuba

from renderers.mitsuba import scenes as mitsuba_scenes
from renderers.mitsuba.painter import Lighting, MitsubaPainter

LLVM = "llvm_ad_rgb"
RGB = 0.005
"""Colours are shaded by our own formula; only pixels on edges differ."""


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return tabletop()


@pytest.fixture(scope="module")
def painter(catalogue: Catalogue) -> MitsubaPainter:
    return MitsubaPainter(catalogue)


def need_llvm() -> None:
    try:
        mitsuba_scenes.import_mitsuba(LLVM)
    except OSError as error:
        pytest.skip(str(error))


def draw(make: functools.partial, shots: list) -> list[Picture]:
    return make().draw(shots)


def test_every_object_of_the_table_top(catalogue: Catalogue, painter: MitsubaPainter) -> None:
    view = camera_view(128, 128, 200.0, light=(0.3, -0.6, -0.8))
    for i in range(len(catalogue)):
        objects = posed([i], [[0.01, -0.02, 0.4]], [[1.2, 0.3, 0.2]])
        assert_close(distance(painter, catalogue, objects, view), RGB)


@pytest.mark.parametrize("near", [False, True])
def test_scenes_with_several_objects_of_a_class(catalogue: Catalogue, painter: MitsubaPainter, near: bool) -> None:
    objects, view = table_scene(2, 6, 128, classes=3, seed=3)
    lit = near_light(view, (0.1, -0.2, 0.35)) if near else view
    assert_close(distance(painter, catalogue, objects, lit), RGB, pixels=2000)


def test_lights_of_both_kinds_in_one_call(catalogue: Catalogue, painter: MitsubaPainter) -> None:
    objects, view = table_scene(1, 3, 32, classes=13)
    far, near = (shot_of(*scene_of(objects, v, 0)) for v in (view, near_light(view, (0.1, -0.2, 0.35))))
    apart = [painter.draw([shot])[0] for shot in (far, near, near, far)]
    assert same(painter.draw([far, near, near, far]), apart)


@pytest.mark.parametrize(("width", "height"), [(133, 97), (64, 131)])
def test_any_size_any_pinhole_textures_and_open_meshes(width: int, height: int) -> None:
    catalogue, objects = objects_of_every_kind()
    view = near_light(odd_pinhole(width, height), (0.2, -0.3, 0.1))
    assert_close(distance(MitsubaPainter(catalogue), catalogue, objects, view), RGB)


def test_edges_through_pixel_centres_leave_no_holes() -> None:
    shot = shot_of(posed([0], [[0.0, 0.0, 1.0]]), camera_view(32, 32, 32.0))
    assert MitsubaPainter(catalogue_of(square(0.25))).draw([shot])[0].depth_m[9:23, 9:23].all()


def test_near_plane_cuts_within_a_triangle() -> None:
    catalogue, objects, view = floor_through_the_near_plane()
    assert_close(distance(MitsubaPainter(catalogue), catalogue, objects, view), RGB, pixels=100)


def test_depth_far_away_and_behind_the_camera() -> None:
    catalogue = catalogue_of(ball(), box())
    objects = posed([0, 1], [[0.0, 0.0, 40.0], [0.0, 0.0, -1.0]])
    assert_close(distance(MitsubaPainter(catalogue), catalogue, objects, camera_view(64, 64, 20_000.0)), RGB)


def test_a_large_mesh() -> None:
    catalogue = catalogue_of(ball(subdivisions=5))
    assert len(catalogue.meshes[0].faces) > 20_000
    objects = posed([0], [[0.01, 0.02, 0.4]], [[0.3, 0.2, 0.1]])
    assert_close(distance(MitsubaPainter(catalogue), catalogue, objects, camera_view(64, 64, 160.0)), RGB)


@pytest.mark.parametrize("lighting", ["lambert", "path"])
def test_nothing_to_draw(lighting: Lighting) -> None:
    painter = MitsubaPainter(catalogue_of(box()), lighting, samples=1)
    nothing = shot_of(map_tensors(lambda x: x[:0], posed([0], [[0.0, 0.0, 1.0]])), camera_view(9, 5, 10.0))
    behind = shot_of(posed([0], [[0.0, 0.0, -1.0]]), camera_view(9, 5, 10.0))
    for picture in painter.draw([nothing, behind]):
        assert picture.depth_m.shape == (5, 9)
        assert not picture.depth_m.any()
        assert np.isfinite(picture.rgb).all()
    assert painter.draw([]) == []
    assert MitsubaPainter(catalogue_of(), lighting).draw([nothing])[0].rgb.shape == (5, 9, 3)


def test_drawing_again_and_beside_others_changes_nothing(catalogue: Catalogue, painter: MitsubaPainter) -> None:
    objects, view = table_scene(4, 5, 40, classes=13, seed=5)
    shots = [shot_of(*scene_of(objects, view, i)) for i in range(4)]
    together = painter.draw(shots)
    assert same(together, painter.draw(shots))
    assert same(together, [painter.draw([shot])[0] for shot in shots])


def test_in_another_process(catalogue: Catalogue, painter: MitsubaPainter) -> None:
    shots = [shot_of(posed([3, 7], [[0.0, 0.0, 0.5], [0.1, 0.0, 0.6]]), camera_view(24, 24, 40.0))]
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert same(painter.draw(shots), pool.apply(draw, (functools.partial(MitsubaPainter, catalogue), shots)))


def test_a_variant_chosen_by_the_user_stays(painter: MitsubaPainter) -> None:
    before = mitsuba.variant()
    mitsuba.set_variant("scalar_spectral")
    painter.draw([shot_of(posed([3], [[0.0, 0.0, 0.5]]), camera_view(8, 8, 10.0))])
    assert mitsuba.variant() == "scalar_spectral"
    if before is not None:
        mitsuba.set_variant(before)


def test_llvm_draws_the_same(catalogue: Catalogue, painter: MitsubaPainter) -> None:
    need_llvm()
    objects, view = table_scene(2, 4, 64, classes=13, seed=6)
    shots = [shot_of(*scene_of(objects, view, i)) for i in range(2)]
    for a, b in zip(painter.draw(shots), MitsubaPainter(catalogue, variant=LLVM).draw(shots), strict=True):
        shared = (a.depth_m > 0) & (b.depth_m > 0)
        assert shared.sum() >= 0.99 * max((a.depth_m > 0).sum(), (b.depth_m > 0).sum()) > 0
        assert (np.abs(a.depth_m - b.depth_m)[shared] < 1e-5).mean() > 0.99
        assert (np.abs(a.rgb - b.rgb).max(-1)[shared] < 1e-4).mean() > 0.99


def floor_and_block() -> tuple[Catalogue, View]:
    """A grey floor of 40 cm at z = 0 seen from 1 m above, and a black block of 10 cm on it; 1 cm is a pixel of the floor."""
    floor = quad([[-0.2, -0.2, 0.0], [0.2, -0.2, 0.0], [0.2, 0.2, 0.0], [-0.2, 0.2, 0.0]], rgb=(0.5, 0.6, 0.7), name="floor")
    block = box((0.1, 0.1, 0.1), rgb=(0.0, 0.0, 0.0))
    block = dataclasses.replace(block, vertices_m=block.vertices_m + np.array([0, 0, 0.05], np.float32))
    T_camera_world = torch.tensor([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 1], [0, 0, 0, 1]])
    return catalogue_of(floor, block), camera_view(40, 40, 100.0, light=(1.0, 0.0, 1.0), T_camera_world=T_camera_world)


def path_picture(variant: str, catalogue: Catalogue, objects: Objects, view: View, samples: int = 16, depth: int = 4) -> Picture:
    if variant == LLVM:
        need_llvm()
    painter = MitsubaPainter(catalogue, "path", variant, samples, depth)
    return painter.draw([shot_of(objects, view)])[0]


VARIANTS = pytest.mark.parametrize("variant", ["scalar_rgb", LLVM])


@VARIANTS
@pytest.mark.parametrize("near", [False, True])
def test_a_lonely_floor_has_the_radiance_of_our_light(variant: str, near: bool) -> None:
    catalogue, view = floor_and_block()
    if near:
        view = near_light(view, (0.6, 0.0, 0.8))
    picture = path_picture(variant, catalogue, posed([0], [[0.0, 0.0, 0.0]]), view, 16)
    assert np.allclose(picture.depth_m, 1, rtol=0, atol=1e-5)
    x, y = np.meshgrid((np.arange(40) - 19.5) / 100, -(np.arange(40) - 19.5) / 100)
    squared = (0.6 - x) ** 2 + y**2 + 0.64
    lit = 0.3 + 0.7 * (0.8 / squared**1.5 if near else np.full((40, 40), np.sqrt(0.5)))
    found = picture.rgb.reshape(4, 10, 4, 10, 3).mean((1, 3))
    expected = (lit[..., None] * [0.5, 0.6, 0.7]).reshape(4, 10, 4, 10, 3).mean((1, 3))
    assert np.abs(found - expected).max() < 0.04
    assert np.abs((found - expected).mean()) < 0.004


@VARIANTS
def test_a_shadow_falls_where_geometry_says(variant: str) -> None:
    """The light stands at 45 degrees over +x: the shadow of the block, x in -5..5 cm, reaches to x = -15 cm."""
    catalogue, view = floor_and_block()
    light = dataclasses.replace(view.light, ambient=torch.tensor(0.0), diffuse=torch.tensor(0.8))
    objects = posed([0, 1], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    picture = path_picture(variant, catalogue, objects, dataclasses.replace(view, light=light), 8, depth=2)
    dark = picture.rgb.max(-1) < 1e-3
    expected = np.zeros((40, 40), bool)
    expected[15:25, 5:25] = True
    sure = np.abs(picture.depth_m - 1) < 1e-4
    assert sure.sum() > 1200
    assert (dark == expected)[sure].mean() > 0.99
    lit = sure & ~expected & ~dark
    assert np.allclose(picture.rgb[lit].mean(0), 0.8 * np.sqrt(0.5) * np.array([0.5, 0.6, 0.7]), rtol=0, atol=0.02)


def test_interreflection_brightens_a_corner() -> None:
    """Half of what leaves a point of a wall right at the corner meets the floor; more bounces, more light."""
    catalogue, view = floor_and_block()
    wall = quad([[0.0, -0.2, 0.0], [0.0, 0.2, 0.0], [0.0, 0.2, 0.3], [0.0, -0.2, 0.3]], rgb=(0.9, 0.1, 0.1), name="wall")
    catalogue = catalogue_of(catalogue.meshes[0], wall)
    light = dataclasses.replace(view.light, ambient=torch.tensor(0.0), diffuse=torch.tensor(0.8))
    objects, view = posed([0, 1], [[0.0, 0.0, 0.0], [-0.1, 0.0, 0.0]]), dataclasses.replace(view, light=light)
    direct, indirect = (path_picture("scalar_rgb", catalogue, objects, view, 12, depth) for depth in (2, 4))
    beside, away = (slice(10, 30), slice(11, 14)), (slice(10, 30), slice(34, 40))
    gain = (indirect.rgb - direct.rgb)[beside].mean((0, 1))
    assert gain[0] > 0.02
    assert gain[0] > 3 * gain[2]
    assert gain[0] > 1.5 * (indirect.rgb - direct.rgb)[away].mean((0, 1))[0]


@VARIANTS
@pytest.mark.parametrize("plain", [True, False])
def test_textures_of_paths(variant: str, plain: bool) -> None:
    """Against ``lambert``; two texels across, so that a texture upside down would show."""
    rgb = np.array([[[0.9, 0.1, 0.1], [0.1, 0.9, 0.1]], [[0.1, 0.1, 0.9], [0.9, 0.9, 0.1]]], np.float32)
    floor = floor_and_block()[0].meshes[0]
    uv = (floor.vertices_m[:, :2] / 0.4 + 0.5)[floor.faces].astype(np.float32)
    corner_rgb = np.full((2, 3, 3), 0.8, np.float32) if plain else (0.5 + floor.vertices_m[floor.faces] * 2).astype(np.float32)
    catalogue = catalogue_of(dataclasses.replace(floor, corner_rgb=corner_rgb, texture=Texture(uv, rgb)))
    view, objects = floor_and_block()[1], posed([0], [[0.0, 0.0, 0.0]])
    expected = MitsubaPainter(catalogue).draw([shot_of(objects, view)])[0].rgb
    found = path_picture(variant, catalogue, objects, view, 16).rgb
    error = (found - expected).reshape(8, 5, 8, 5, 3).mean((1, 3))
    assert np.abs(error).max() < 0.06
    assert np.abs(error).mean() < 0.012


@VARIANTS
def test_paths_have_common_random_numbers(variant: str) -> None:
    catalogue, view = floor_and_block()
    here, there = (posed([0, 1], [[0.0, 0.0, 0.0], [x, 0.0, 0.0]]) for x in (0.1, 0.11))
    first = path_picture(variant, catalogue, here, view, 4)
    assert same([first], [path_picture(variant, catalogue, here, view, 4)])
    moved = path_picture(variant, catalogue, there, view, 4)
    far_away = (slice(None), slice(0, 5))
    noise = first.rgb[far_away].std((0, 1)).mean()
    assert np.abs(moved.rgb - first.rgb)[far_away].mean() < 0.1 * noise


def test_whole_scenes_by_paths() -> None:
    catalogue, view = floor_and_block()
    catalogue = catalogue_of(*catalogue.meshes, textured_globe())
    objects = posed([0, 1, 2], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.1, 0.1, 0.06]])
    renderer = WholePictureRenderer(MitsubaPainter(catalogue, "path", samples=2), catalogue, 1)
    image = renderer.render(objects, view)
    assert set(image.object_ids.unique().tolist()) == {0, 1, 2}
    shadow, lit = image.rgb[15:25, 6:14].mean(), image.rgb[30:, 6:14].mean()
    assert shadow < 0.6 * lit


def test_images(catalogue: Catalogue, painter: MitsubaPainter) -> None:
    objects, view = table_scene(1, 3, 32, classes=13)
    image = PictureRenderer(painter, catalogue, 2).render(objects, view)
    assert image.rgb.shape == (1, 32, 32, 3)
    assert (image.object_ids >= 0).any()


def test_a_mesh_of_one_face_without_area() -> None:
    speck = mesh_of("speck", square(0.05).vertices_m, np.array([[1, 1, 2]]), (0.9, 0.5, 0.4))
    shot = shot_of(posed([0], [[0.0, 0.0, 0.5]]), camera_view(9, 5, 10.0))
    assert not MitsubaPainter(catalogue_of(speck)).draw([shot])[0].depth_m.any()


def test_settings_out_of_range() -> None:
    catalogue, view = floor_and_block()
    with pytest.raises(ValueError, match="samples must be at least 1"):
        MitsubaPainter(catalogue, "path", samples=0)
    with pytest.raises(ValueError, match="variant must be one of"):
        MitsubaPainter(catalogue, variant="llvm_ad_spectral")
    lit = shot_of(posed([0], [[0.0, 0.0, 0.0]]), near_light(view, (0.0, 0.0, 0.0)))
    with pytest.raises(ValueError, match="must not be the world's origin"):
        MitsubaPainter(catalogue, "path", samples=1).draw([lit])


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mitsuba", None)
    with pytest.raises(BackendMissingError, match='pip install "mitsuba>=3.9,<4"'):
        MitsubaPainter(catalogue_of(box()))


def test_llvm_missing_or_too_old_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mitsuba_scenes, "OLDEST_LLVM", 1000)
    with pytest.raises(OSError, match="choose variant 'scalar_rgb'"):
        MitsubaPainter(catalogue_of(box()), variant=LLVM)
