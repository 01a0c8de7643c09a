"""MuJoCo's pictures against our own rasteriser's."""

from __future__ import annotations

import dataclasses
import functools
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from renderer_scenes import ball, box, camera_view, catalogue_of, posed, quad, square, table_scene

from assets import load_catalogue
from inverse_graphics.types import Catalogue, Mesh, Objects, RenderOutput, Texture, View, map_tensors
from renderers.errors import BackendMissingError
from renderers.painting.shots import Picture, Shot
from renderers.raster import RasterRenderer

pytest.importorskip("mujoco")
from renderers.mujoco.painter import GraphicsLibraryError, MujocoPainter

ARM = """
<mujoco>
  <compiler discardvisual="true"/>
  <default><mesh scale="0.5 0.5 0.5"/><material texrepeat="5 5" emission="1" rgba="0 1 0 1"/></default>
  <asset><texture name="check" type="2d" builtin="checker" width="8" height="8" rgb1="1 1 1" rgb2="0 0 0"/></asset>
  <worldbody>
    <light pos="0 0 3" diffuse="0 0 0"/>
    <geom name="base" type="box" size="0.05 0.05 0.02" pos="0.3 0 0.02" rgba="0.2 0.2 0.2 1"/>
    <body name="arm" pos="0.3 0 0.04">
      <joint name="shoulder" type="hinge" axis="0 1 0"/>
      <geom type="capsule" fromto="0 0 0 0 0 0.3" size="0.02" rgba="0.8 0.5 0.1 1"/>
    </body>
  </worldbody>
  <keyframe><key name="home" qpos="-1.5707963267948966"/></keyframe>
</mujoco>
"""
"""The arm stands upright, and in its keyframe lies along -x at a height of 4 cm."""


def shot_of(objects: Objects, view: View, surroundings: bool = False) -> Shot:
    """The shot of one scene, one sample a pixel."""
    present, camera, light = objects.present, view.camera, view.light
    return Shot(
        class_ids=objects.class_ids[present].numpy(),
        T_world_object=objects.T_world_object[present].double().numpy(),
        T_camera_world=camera.T_camera_world.double().numpy(),
        K_px=camera.K_px.double().numpy(),
        width_px=camera.width_px,
        height_px=camera.height_px,
        near_m=camera.near_m,
        direction_world=light.direction_world.double().numpy(),
        position_world=None if light.position_world is None else light.position_world.double().numpy(),
        ambient=float(light.ambient),
        diffuse=float(light.diffuse),
        surroundings=surroundings,
    )


def scene_of(objects: Objects, view: View, scene: int) -> tuple[Objects, View]:
    return map_tensors(lambda x: x[scene], objects), map_tensors(lambda x: x[scene], view)


def lit_nearby(view: View, position_m: tuple[float, float, float]) -> View:
    position = torch.tensor(position_m).expand(view.light.direction_world.shape)
    return dataclasses.replace(view, light=dataclasses.replace(view.light, position_world=position))


def interior(covered: np.ndarray) -> np.ndarray:
    """Pixels whose neighbours are covered too."""
    padded = np.pad(covered, 1)
    shifts = [
        padded[1 + dy : 1 + dy + len(covered), 1 + dx : 1 + dx + covered.shape[1]] for dx in (-1, 0, 1) for dy in (-1, 0, 1)
    ]
    return np.logical_and.reduce(shifts)


def assert_alike(picture: Picture, image: RenderOutput, colour: float = 0.03, least_pixels: int = 50) -> None:
    """Silhouettes, depth and colours of a picture and of an image with one sample a pixel."""
    assert picture.rgb.dtype == picture.depth_m.dtype == np.float32
    drawn, expected = picture.depth_m > 0, image.object_ids.numpy() >= 0
    shared = drawn & expected
    assert shared.sum() >= least_pixels
    assert shared.sum() / (drawn | expected).sum() >= 0.97
    assert (np.abs(picture.depth_m - image.depth_m.numpy())[shared] < 2e-3).mean() >= 0.99
    inside = interior(shared)
    assert inside.any() or min(shared.shape) < 3
    assert not inside.any() or (np.abs(picture.rgb - image.rgb.numpy()).max(-1)[inside] < colour).mean() >= 0.98


def textured(mesh: Mesh, corner_uv: np.ndarray, rgb: np.ndarray) -> Mesh:
    return dataclasses.replace(mesh, texture=Texture(corner_uv.astype(np.float32), rgb.astype(np.float32)))


def ripples(height: int, width: int) -> np.ndarray:
    row, column = np.indices((height, width)) * 2 * np.pi / [[[height]], [[width]]]
    return 0.6 + 0.4 * np.stack([np.sin(row), np.cos(column), np.sin(row + column)], -1)


def compare(catalogue: Catalogue, objects: Objects, view: View, colour: float = 0.03, least_pixels: int = 50) -> Picture:
    """Draw one scene with both."""
    painter = MujocoPainter(catalogue)
    picture = painter.draw([shot_of(objects, view)])[0]
    painter.close()
    assert_alike(picture, RasterRenderer(catalogue, 1).render(objects, view), colour, least_pixels)
    return picture


@pytest.fixture(scope="module")
def tabletop() -> Catalogue:
    return load_catalogue("tabletop")


@pytest.fixture(scope="module")
def painter(tabletop: Catalogue) -> Iterator[MujocoPainter]:
    painter = MujocoPainter(tabletop)
    yield painter
    painter.close()


@pytest.mark.parametrize("near", [False, True])
def test_every_object_of_the_table_top(tabletop: Catalogue, painter: MujocoPainter, near: bool) -> None:
    T = table_scene(13, 1, 128, classes=13, seed=5)[0].T_world_object
    objects = Objects(torch.arange(13)[:, None], T, torch.ones(13, 1, dtype=torch.bool))
    view = table_scene(13, 1, 128, classes=13, seed=5)[1]
    view = lit_nearby(view, (0.2, -0.3, 0.4)) if near else view
    pictures = painter.draw([shot_of(*scene_of(objects, view, k)) for k in range(13)])
    images = RasterRenderer(tabletop, 1).render(objects, view)
    for k, picture in enumerate(pictures):
        assert_alike(picture, map_tensors(lambda x, k=k: x[k], images), least_pixels=200)


def test_scenes_with_several_objects_of_a_class_in_one_call(tabletop: Catalogue, painter: MujocoPainter) -> None:
    objects, view = table_scene(12, 6, 96, classes=3, seed=2)
    pictures = painter.draw([shot_of(*scene_of(objects, view, k)) for k in range(12)])
    images = RasterRenderer(tabletop, 1).render(objects, view)
    for k, picture in enumerate(pictures):
        assert_alike(picture, map_tensors(lambda x, k=k: x[k], images))


@pytest.mark.parametrize(("width", "height"), [(64, 64), (97, 41), (33, 71), (1, 5)])
def test_any_size_and_any_pinhole(width: int, height: int) -> None:
    """Focal lengths that differ, and a principal point away from the middle."""
    view = camera_view(width, height, 60.0)
    K_px = torch.tensor([[1.1 * width, 0.0, 0.41 * width], [0.0, 0.9 * height, 0.63 * height], [0.0, 0.0, 1.0]])
    view = dataclasses.replace(view, camera=dataclasses.replace(view.camera, K_px=K_px))
    objects = posed([0, 1], [[-0.03, -0.06, 0.3], [0.09, 0.05, 0.4]], [[0.3, 0.5, 0.1], [0.0, 0.0, 0.0]])
    compare(catalogue_of(box(), ball()), objects, view, least_pixels=min(100, width * height // 4))


def test_edges_on_pixel_borders_are_exact() -> None:
    painter = MujocoPainter(catalogue_of(square(0.25)))
    picture = painter.draw([shot_of(posed([0], [[0.0625, 0.0, 1.0]]), camera_view(32, 24, 32.0))])[0]
    painter.close()
    expected = np.zeros((24, 32), np.float32)
    expected[4:20, 10:26] = 1
    np.testing.assert_allclose(picture.depth_m, expected, atol=1e-5)
    lit = np.asarray([0.5, 0.6, 0.7]) * expected[..., None]
    np.testing.assert_allclose(picture.rgb * expected[..., None], lit, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("corners", [np.ones(3), np.asarray([0.9, 0.5, 0.7]), None])
def test_textures(corners: np.ndarray | None) -> None:
    """Repeated, of odd size, times one colour, and times colours that differ from corner to corner."""
    globe = ball(subdivisions=2)
    globe = textured(globe, globe.vertices_m[globe.faces][..., :2] * 12, ripples(9, 7))
    globe.corner_rgb[:] = np.random.default_rng(0).uniform(0.3, 1, globe.corner_rgb.shape) if corners is None else corners
    compare(
        catalogue_of(box(), globe),
        posed([1, 0], [[-0.05, 0, 0.3], [0.08, 0, 0.3]]),
        camera_view(96, 64, 110.0),
        0.015 if corners is not None else 0.03,
    )


def test_texture_upright() -> None:
    """One texel a quarter, seen from the front: the upper left of the image is where u = 0 and v = 1."""
    corner_uv = np.asarray([[0, 1], [0, 0], [1, 0], [1, 1]])[[[0, 1, 2], [0, 2, 3]]]
    rgb = np.asarray([[[0.9, 0.1, 0.1], [0.1, 0.9, 0.1]], [[0.1, 0.1, 0.9], [0.8, 0.8, 0.1]]])
    mesh = textured(square(0.5), corner_uv, rgb)
    mesh.corner_rgb[:] = 1.0
    picture = compare(catalogue_of(mesh), posed([0], [[0.0, 0.0, 1.0]]), camera_view(32, 32, 32.0), 0.006)
    for (row, column), texel in zip([(8, 8), (8, 24), (24, 8), (24, 24)], rgb.reshape(4, 3), strict=True):
        assert np.abs(picture.rgb[row - 1 : row + 1, column - 1 : column + 1].mean((0, 1)) - texel).max() < 0.06


@pytest.mark.parametrize("low", [0.0, 0.4])
def test_colours_that_differ_from_corner_to_corner(low: float) -> None:
    """With and without colours that leave 0..1 beyond the face's edge."""
    mesh = ball(subdivisions=1)
    mesh.corner_rgb[:] = np.random.default_rng(1).uniform(low, 1 - low, mesh.corner_rgb.shape)
    compare(catalogue_of(mesh), posed([0], [[0.0, 0.0, 0.2]]), camera_view(96, 96, 130.0), 0.03, 1000)


def test_open_meshes_from_both_sides_and_faces_without_area() -> None:
    sheet = quad([[-0.1, -0.1, 0], [-0.1, 0.1, 0], [0.1, 0.1, 0], [0.1, -0.1, 0]])
    thin = Mesh(
        name="thin",
        vertices_m=np.asarray([[0, 0, 0], [0.1, 0, 0], [0.2, 0, 0], [0, 0.1, 0]], np.float32),
        faces=np.asarray([[0, 1, 2], [0, 3, 1], [3, 3, 3]], np.int32),
        corner_rgb=np.full((3, 3, 3), 0.5, np.float32),
        corner_normals=np.tile(np.asarray([0, 0, -1], np.float32), (3, 3, 1)),
    )
    none = dataclasses.replace(
        sheet, name="none", faces=sheet.faces[:0], corner_rgb=sheet.corner_rgb[:0], corner_normals=sheet.corner_normals[:0]
    )
    catalogue = catalogue_of(sheet, thin, none)
    turned = [[0.3, 0.0, 0.0], [0.3, 2.8, 0.0], [0.0, 0.0, 0.0]]
    objects = posed([0, 0, 1], [[-0.12, 0.1, 0.6], [0.12, 0.1, 0.6], [0.0, -0.15, 0.6]], turned)
    view = camera_view(64, 64, 70.0, light=(0.3, -0.2, -0.8))
    compare(catalogue, objects, view, least_pixels=300)
    compare(catalogue, objects, lit_nearby(view, (0.1, -0.1, 0.2)), least_pixels=300)
    painter = MujocoPainter(catalogue)
    assert not painter.draw([shot_of(posed([2], [[0.0, 0.0, 0.5]]), view)])[0].depth_m.any()
    painter.close()


def test_a_large_mesh() -> None:
    mesh = ball(subdivisions=5)
    assert len(mesh.faces) > 20_000
    compare(
        catalogue_of(dataclasses.replace(mesh, watertight=False)),
        posed([0], [[0.01, 0.0, 0.2]]),
        camera_view(64, 64, 80.0),
        0.006,
    )


def test_near_plane_cuts_within_a_triangle_and_depth_is_exact_far_away() -> None:
    view = camera_view(32, 32, 20.0, near_m=0.9)
    floor = quad([[-99.0, 0.5, -1.0], [99.0, 0.5, -1.0], [99.0, 0.5, 300.0], [-99.0, 0.5, 300.0]])
    picture = compare(catalogue_of(floor), posed([0], [[0.0, 0.0, 0.0]]), view)
    depth_m = 0.5 * 20 / (np.arange(32) + 0.5 - 16)
    expected = np.where((depth_m >= 0.9) & (depth_m <= 300), depth_m, 0)
    np.testing.assert_allclose(picture.depth_m, np.tile(expected[:, None], (1, 32)), rtol=1e-5)


def test_nothing_to_draw(painter: MujocoPainter) -> None:
    view = camera_view(20, 12, 20.0)
    nowhere = posed([0, 1], [[0.0, 0.0, -1.0], [5.0, 0.0, 1.0]])
    pictures = painter.draw([shot_of(nowhere, view), shot_of(map_tensors(lambda x: x[:0], nowhere), view)])
    for picture in pictures:
        assert picture.rgb.shape == (12, 20, 3)
        assert not picture.depth_m.any()
    assert painter.draw([]) == []


def test_drawing_again_and_beside_others_changes_nothing(painter: MujocoPainter) -> None:
    objects, view = table_scene(5, 3, 64, classes=13)
    shots = [shot_of(*scene_of(objects, view, k)) for k in range(5)]
    small = dataclasses.replace(shots[1], width_px=31, height_px=47)
    together, alone = painter.draw([*shots, small, *shots]), [painter.draw([shot])[0] for shot in [*shots, small, *shots]]
    for a, b in zip(together, alone, strict=True):
        np.testing.assert_allclose(a.depth_m, b.depth_m, atol=1e-5)
        assert (np.abs(a.rgb - b.rgb) > 1.5 / 255).mean() < 1e-3
    for a, b in zip(together, painter.draw([*shots, small, *shots]), strict=True):
        assert np.array_equal(a.rgb, b.rgb)
        assert np.array_equal(a.depth_m, b.depth_m)


def test_a_picture_larger_than_the_buffer(tabletop: Catalogue, painter: MujocoPainter) -> None:
    objects, view = table_scene(1, 3, 1100, classes=3)
    scene = scene_of(objects, view, 0)
    assert_alike(painter.draw([shot_of(*scene)])[0], RasterRenderer(tabletop, 1).render(*scene))
    with pytest.raises(ValueError, match="MujocoPainter: expected pictures of up to 8192"):
        painter.draw([dataclasses.replace(shot_of(*scene), width_px=9000)])


def test_threads_may_share_a_painter(painter: MujocoPainter) -> None:
    objects, view = table_scene(2, 3, 48, classes=13)
    shots = [shot_of(*scene_of(objects, view, k)) for k in range(2)]
    expected = painter.draw(shots)
    drawn: list[list[Picture]] = []
    threads = [threading.Thread(target=lambda: drawn.append(painter.draw(shots))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drawn) == 3
    assert all(np.array_equal(a.rgb, b.rgb) for pictures in drawn for a, b in zip(pictures, expected, strict=True))


def test_two_painters_side_by_side_and_one_that_was_closed() -> None:
    first, second = MujocoPainter(catalogue_of(box())), MujocoPainter(catalogue_of(ball(rgb=(0.9, 0.1, 0.1))))
    shot = shot_of(posed([0], [[0.0, 0.0, 0.5]]), camera_view(32, 32, 60.0))
    before = first.draw([shot])[0]
    assert second.draw([shot])[0].rgb[16, 16, 0] > 0.8
    second.close()
    second.close()
    assert np.array_equal(first.draw([shot])[0].rgb, before.rgb)
    with pytest.raises(ValueError, match="closed; make another"):
        second.draw([shot])


def arm_view() -> View:
    return map_tensors(lambda x: x[0], table_scene(1, 1, 96, classes=1)[1])


def test_surroundings_in_their_keyframe_hide_and_are_hidden(tmp_path: Path) -> None:
    file = tmp_path / "arm.xml"
    file.write_text(ARM)
    mesh, view = box((0.04, 0.04, 0.04), (0.1, 0.2, 0.9)), arm_view()
    painter = MujocoPainter(catalogue_of(mesh), file)
    assert painter.has_surroundings
    assert not MujocoPainter(catalogue_of(mesh)).has_surroundings
    objects = posed([0, 0], [[0.05, -0.08, 0.02], [0.15, 0.0, 0.04]])  # beside the arm, and half a centimetre out of it
    without, bare, full = painter.draw(
        [shot_of(objects, view), shot_of(map_tensors(lambda x: x[:0], objects), view, True), shot_of(objects, view, True)]
    )
    seen, arm, both = (picture.depth_m > 0 for picture in (without, bare, full))
    assert np.array_equal(both, seen | arm)
    nearest = np.minimum(*(np.where(picture.depth_m > 0, picture.depth_m, np.inf) for picture in (without, bare)))
    np.testing.assert_allclose(full.depth_m[both], nearest[both], atol=1e-5)
    # The camera looks down on a capsule along x from 0 to 0.3 at a height of 0.04, and a box at 0.3.
    T = view.camera.T_camera_world.double().numpy()
    K = view.camera.K_px.double().numpy()
    for x, expected in [(0.01, True), (0.15, True), (-0.05, False)]:
        point = T[:3, :3] @ [x, 0.0, 0.04] + T[:3, 3]
        u, v = (K @ point)[:2] / point[2]
        assert arm[int(v), int(u)] == expected
        if expected:
            ray = T[:3, :3].T @ [(int(u) + 0.5 - K[0, 2]) / K[0, 0], (int(v) + 0.5 - K[1, 2]) / K[1, 1], 1.0]
            eye = -T[:3, :3].T @ T[:3, 3]
            surface = eye + ray * bare.depth_m[int(v), int(u)]
            assert abs(np.linalg.norm(surface[1:] - [0.0, 0.04]) - 0.02) < 1e-3
            assert bare.rgb[int(v), int(u), 0] > 3 * bare.rgb[int(v), int(u), 2]


def test_an_endless_floor_reaches_the_horizon_and_not_the_objects(tmp_path: Path) -> None:
    file = tmp_path / "floor.xml"
    file.write_text('<mujoco><worldbody><geom type="plane" size="0 0 1" rgba="0.5 0.5 0.5 1"/></worldbody></mujoco>')
    painter, view = MujocoPainter(catalogue_of(box()), file), arm_view()
    picture = painter.draw([shot_of(posed([0], [[0.0, 0.0, 0.1]]), view, surroundings=True)])[0]
    assert (picture.depth_m > 0).all()
    camera = view.camera
    rows = (np.arange(96) + 0.5 - 48) / float(camera.K_px[1, 1])
    forward_down, eye_m = np.sqrt(0.5), 0.5
    np.testing.assert_allclose(picture.depth_m[:, 0], eye_m / (forward_down * (1 + rows)), rtol=1e-4)


def test_defaults_of_the_surroundings_do_not_reach_the_objects(tmp_path: Path) -> None:
    file = tmp_path / "arm.xml"
    file.write_text(ARM)
    globe = ball(subdivisions=2)
    globe = textured(globe, globe.vertices_m[globe.faces][..., :2] * 12, ripples(9, 7))
    shot = shot_of(posed([0], [[0.0, 0.0, 0.05]]), arm_view())
    inside, alone = (MujocoPainter(catalogue_of(globe), path).draw([shot])[0] for path in (file, None))
    assert (alone.depth_m > 0).sum() > 300
    assert np.array_equal(inside.rgb, alone.rgb)
    assert np.array_equal(inside.depth_m, alone.depth_m)


@pytest.mark.parametrize(
    ("text", "reason"),
    [(None, "is no file"), ("<mujoco><worldbody><geom type='ball'/></worldbody></mujoco>", "invalid keyword"), ("no XML", "XML")],
)
def test_surroundings_that_cannot_be_read(tmp_path: Path, text: str | None, reason: str) -> None:
    file = tmp_path / "broken.xml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(ValueError, match=f"surroundings: expected an MJCF file.*broken.xml.*{reason}"):
        MujocoPainter(catalogue_of(box()), file)


def test_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mujoco", None)
    with pytest.raises(BackendMissingError, match=r'pip install "mujoco>=4,<5"'):
        MujocoPainter(catalogue_of(box()))


def test_another_choice_of_opengl_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    with pytest.raises(ValueError, match="gl: expected 'egl' or 'osmesa'.*MUJOCO_GL='glfw'"):
        MujocoPainter(catalogue_of(box()))


def test_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import mujoco.egl

    def refuse(*_: int) -> None:
        raise ImportError("Cannot initialize a EGL device display.")

    monkeypatch.setattr(mujoco.egl, "GLContext", refuse)
    with pytest.raises(GraphicsLibraryError, match="through 'egl'.*device display.*apt-get install libegl1"):
        MujocoPainter(catalogue_of(box()))


def test_in_another_process_which_exits_quietly(tmp_path: Path) -> None:
    shots = [shot_of(posed([0], [[0.0, 0.0, 0.5]], [[0.3, 0.4, 0.0]]), camera_view(32, 24, 60.0))]
    painter_of = functools.partial(MujocoPainter, catalogue_of(box()))
    (tmp_path / "work").write_bytes(pickle.dumps((painter_of, shots)))
    code = (
        "import pathlib, pickle, sys\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "make, shots = pickle.loads((folder / 'work').read_bytes())\n"
        "kept = [make(), make()]\n"
        "(folder / 'pictures').write_bytes(pickle.dumps(kept[0].draw(shots)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    theirs = pickle.loads((tmp_path / "pictures").read_bytes())
    assert np.array_equal(theirs[0].rgb, painter_of().draw(shots)[0].rgb)
