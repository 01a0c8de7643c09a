"""Filament's pictures, where the machine has a graphics driver for it, and what is said where it has none."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from renderer_scenes import ball, box, camera_view, catalogue_of, posed, square, table_scene

from inverse_graphics.types import Catalogue, Texture
from renderers import RasterRenderer, open3d_offscreen
from renderers.errors import BackendMissingError
from renderers.open3d_offscreen import Open3DOffscreenPainter, lit_corners
from renderers.painting.pictures import PictureRenderer
from renderers.painting.shots import Shot

pytestmark = pytest.mark.skipif(importlib.util.find_spec("open3d") is None, reason="Open3D is not installed")


@pytest.fixture
def fresh_probe() -> Iterator[None]:
    open3d_offscreen._require_driver.cache_clear()
    yield
    open3d_offscreen._require_driver.cache_clear()


def painter(catalogue: Catalogue) -> Open3DOffscreenPainter:
    try:
        return Open3DOffscreenPainter(catalogue)
    except BackendMissingError as error:
        pytest.skip(str(error))


def shot(position_world: list[float] | None, T_camera_world: np.ndarray) -> Shot:
    direction, position = np.array([0.0, 0.6, -0.8]), None if position_world is None else np.array(position_world)
    T, K_px = np.eye(4)[None], np.array([[40.0, 0, 16], [0, 40.0, 16], [0, 0, 1]])
    return Shot(np.array([0]), T, T_camera_world, K_px, 32, 32, 0.01, direction, position, 0.3, 0.7)


def test_agrees_with_raster() -> None:
    objects, view = table_scene(2, 3, 96, classes=2, seed=3)
    catalogue = catalogue_of(box(), ball(subdivisions=3))
    ours = RasterRenderer(catalogue, 1).layers(objects, view)
    theirs = PictureRenderer(painter(catalogue), catalogue, 1).layers(objects, view)
    inside_a, inside_b = ours.alpha > 0, theirs.alpha > 0
    shared = inside_a & inside_b
    assert shared.sum() > 1000
    assert (inside_a ^ inside_b).sum() < 0.01 * shared.sum()
    assert ((ours.depth_m - theirs.depth_m)[shared].abs() < 1e-3).float().mean() > 0.99
    assert ((ours.rgb - theirs.rgb)[shared].abs().amax(-1) < 0.01).float().mean() > 0.99


def test_pictures_larger_than_the_canvas_and_the_near_plane() -> None:
    """The first picture is small; the others lie at the far corner of wide and of high images."""
    catalogue = catalogue_of(square(0.05))
    renderer = PictureRenderer(painter(catalogue), catalogue, 1)
    for width, height in ((20, 16), (300, 40), (40, 280)):
        view = camera_view(width, height, 100.0)
        x_m, y_m = (width / 2 - 6) / 100, (height / 2 - 6) / 100
        layers = renderer.layers(posed([0, 0], [[x_m, y_m, 1.0], [x_m * 0.005, 0.0, 0.005]]), view)
        expected = torch.zeros(height, width)
        expected[height - 11 : height - 1, width - 11 : width - 1] = 1
        assert torch.equal(layers.alpha[0], expected)
        assert layers.depth_m[0][expected > 0].sub(1).abs().max() < 1e-5
        assert layers.rgb[0][expected > 0].sub(torch.tensor([0.5, 0.6, 0.7])).abs().max() < 3e-3
        assert not layers.alpha[1].any()


def test_nothing_is_left_to_what_lies_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without coordinates of textures Open3D takes any; a picture of 0.05 s then took many seconds through Mesa's filter."""
    monkeypatch.setattr(open3d_offscreen, "_require_driver", lambda: None)
    added: list[Any] = []

    class Scene:
        def add_geometry(self, name: str, surface: Any, material: Any) -> None:
            added.append(surface)

    catalogue = catalogue_of(box(), ball(subdivisions=0))
    one = shot(None, np.eye(4))
    for class_id, mesh in enumerate(catalogue.meshes):
        Open3DOffscreenPainter(catalogue)._add(Scene(), dataclasses.replace(one, class_ids=np.array([class_id])), 0)
        np.testing.assert_array_equal(np.asarray(added[-1].triangle_uvs), np.zeros((3 * len(mesh.faces), 2)))
        assert added[-1].has_triangle_normals() and not added[-1].has_vertex_normals(), "Open3D would merge corners"
        assert len(added[-1].vertex_colors) == len(added[-1].vertices) == 3 * len(mesh.faces)


@pytest.mark.parametrize("position_world", [None, [0.3, -0.2, 0.1], [0.3, -0.2, 1.9]])
@pytest.mark.parametrize("behind", [False, True])
def test_light_at_corners_in_closed_form(position_world: list[float] | None, behind: bool) -> None:
    """A square in the plane z = 0 seen from -z, where its front is, or turned round and seen from its back."""
    mesh, T_camera_world = square(0.2), np.eye(4)
    T_camera_world[2, 3] = 1.0
    if behind:
        mesh = dataclasses.replace(mesh, faces=mesh.faces[:, ::-1].copy(), corner_normals=-mesh.corner_normals)
    view = shot(position_world, T_camera_world)
    corners_m = mesh.vertices_m[mesh.faces].astype(np.float64)
    if position_world is None:
        to_light = np.broadcast_to(view.direction_world, corners_m.shape)
    else:
        to_light = np.array(position_world) - corners_m
    cosine = np.maximum(0, -to_light[..., 2] / np.linalg.norm(to_light, axis=-1))
    expected = np.array([0.5, 0.6, 0.7]) * (0.3 + 0.7 * cosine)[..., None]
    np.testing.assert_allclose(lit_corners(mesh, corners_m + [0, 0, 1.0], np.eye(3), view), expected, atol=1e-6)


def test_textures_are_refused() -> None:
    texture = Texture(np.zeros((2, 3, 2), np.float32), np.ones((4, 4, 3), np.float32))
    with pytest.raises(ValueError, match="mesh 'square': expected no texture"):
        Open3DOffscreenPainter(catalogue_of(dataclasses.replace(square(0.1), texture=texture)))


@pytest.mark.usefixtures("fresh_probe")
def test_without_a_driver_it_says_what_to_install_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(open3d_offscreen, "PROBE", "import os; os.abort()")
    with pytest.raises(BackendMissingError, match=r"exit status -6.*apt-get install libvulkan1 mesa-vulkan-drivers"):
        Open3DOffscreenPainter(catalogue_of(box()))
    monkeypatch.setattr(open3d_offscreen, "PROBE", "raise RuntimeError('Failed to load vulkan library!')")
    with pytest.raises(BackendMissingError, match="Failed to load vulkan library"):
        Open3DOffscreenPainter(catalogue_of(box()))

    def never_answers(command: list[str], **_: object) -> None:
        raise subprocess.TimeoutExpired(command, 1.0)

    monkeypatch.setattr(subprocess, "run", never_answers)
    with pytest.raises(BackendMissingError, match="did not answer"):
        Open3DOffscreenPainter(catalogue_of(box()))
