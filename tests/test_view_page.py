"""The viewer's page in a real browser: what is drawn lies where the camera sees it, and the page's controls reach the server."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import Page, find_chromium, open_page, wait_for
from posed_samples import objects_of, posed_scenes
from scene_runs import script

pytestmark = [
    pytest.mark.skipif(find_chromium() is None, reason="no Chromium in PATH (Debian: apt-get install chromium)"),
    pytest.mark.skipif(importlib.util.find_spec("viser") is None, reason="viser is not installed"),
]

CONTROLS_PX = 860
"""Where the controls begin."""


def green(picture: np.ndarray) -> np.ndarray:
    """Where the truth is, left of the controls, among which is a green sign."""
    r, g, b = np.moveaxis(picture[:, :CONTROLS_PX].astype(int), -1, 0)
    return (g > r + 40) & (g > b + 40)


def test_the_page(tmp_path: Path) -> None:
    """Through the camera, a lone box is seen where its corners project to in the image that hangs behind it."""
    posed = posed_scenes()
    lone = objects_of((0, 0.3, [0.05, 0.1, 0]))
    plain = np.full((48, 64, 3), 200, np.uint8)
    first = dataclasses.replace(posed.scenes[0], truth=lone, estimates=None, samples=None, image_srgb=plain)
    viewer = script("view_server").Viewer(dataclasses.replace(posed, scenes=(first, posed.scenes[1])), port=18100)
    try:
        with open_page(viewer.url, tmp_path / "profile") as page:
            wait_for(lambda: "scene 4, image 7" in page.text(), "the table of the first image")
            assert "Truth (green)" in page.text()
            wait_for(lambda: green(page.screenshot()).sum() > 50, "a green mesh")
            page.click("Look through the camera")
            wait_for(lambda: off_px(page, viewer, posed) < 4, "the box where it is in the image")
            page.javascript("document.querySelectorAll('[role=slider]')[0].focus()")
            page.press_right()
            wait_for(lambda: "scene 4, image 8" in page.text(), "the second image")
            assert viewer.image.value == 1
            wait_for(lambda: not green(page.screenshot()).any(), "a picture without truth, which is secret")
    finally:
        viewer.server.stop()


def off_px(page: Page, viewer: Any, posed: Any) -> float:
    """How far the green box's sides are from where they should be, at most."""
    return float(np.abs(box_px(green(page.screenshot())) - expected_box_px(viewer, posed)).max())


def box_px(mask: np.ndarray) -> np.ndarray:
    """Left, top, right, bottom of a mask."""
    v, u = np.nonzero(mask)
    return np.asarray([u.min(), v.min(), u.max() + 1, v.max() + 1]) if len(u) else np.full(4, np.inf)


def expected_box_px(viewer: Any, posed: Any) -> np.ndarray:
    """Where the box is in the window: pinhole through the client's own vertical angle, the principal point in its middle."""
    (client,) = viewer.server.get_clients().values()
    camera, scene = client.camera, viewer.scene
    points = posed.catalogue.meshes[0].vertices_m @ scene.truth.T_world_object[0, :3, :3].numpy().T
    points = points + scene.truth.T_world_object[0, :3, 3].numpy()
    T = scene.camera.T_camera_world.numpy()
    x, y, z = (points @ T[:3, :3].T + T[:3, 3]).T
    f = camera.image_height / 2 / np.tan(camera.fov / 2)
    u, v = f * x / z + camera.image_width / 2, f * y / z + camera.image_height / 2
    return np.asarray([u.min(), v.min(), u.max(), v.max()])
