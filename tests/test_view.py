"""What experiments/view.py shows, worked out by hand, and its server as a browser's first request and a command line see it."""

from __future__ import annotations

import dataclasses
import importlib
import re
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from posed_samples import NAMES, posed_scene, posed_scenes, turned_z
from scene_runs import EXPERIMENTS, script, tiny_dataset, untrained_run
from script_runs import run_script

from inverse_graphics.interop import matrix_of_pose
from inverse_graphics.types import Camera

nodes = script("view_nodes")


def projected_px(camera: Camera, points_world: np.ndarray) -> np.ndarray:
    """Pixels of points, by the definition."""
    T, K = camera.T_camera_world.double().numpy(), camera.K_px.double().numpy()
    points_px = (points_world @ T[:3, :3].T + T[:3, 3]) @ K.T
    return points_px[..., :2] / points_px[..., 2:]


def matrix_of(at: Any) -> np.ndarray:
    return matrix_of_pose(at.position_m[None], np.roll(at.quat_wxyz, -1)[None])[0]


def test_meshes_stand_at_their_poses() -> None:
    """Absent objects are left out, slots keep their numbers."""
    scene = posed_scene()
    shown = nodes.mesh_nodes("truth", scene.truth, NAMES)
    assert [(node.name, node.class_id) for node in shown] == [("/truth/box_0", 0), ("/truth/mug_2", 1)]
    np.testing.assert_allclose(matrix_of(shown[0].placement), turned_z(0.3, [0.05, 0.1, 0.0]), atol=1e-6)
    np.testing.assert_allclose(matrix_of(shown[1].placement), turned_z(-1.2, [-0.1, 0.0, 0.0]), atol=1e-6)


def test_poses_that_are_not_rigid_are_refused() -> None:
    truth = posed_scene().truth
    assert truth is not None
    with pytest.raises(ValueError, match="T_frame_object: expected rigid 4x4 matrices"):
        nodes.mesh_nodes("truth", dataclasses.replace(truth, T_world_object=2 * truth.T_world_object), NAMES)


def test_one_sample_or_all_of_them() -> None:
    scene = posed_scene()
    assert scene.samples is not None
    one, every = nodes.drawn_objects(scene, 1), nodes.drawn_objects(scene, None)
    torch.testing.assert_close(one.T_world_object, scene.samples.T_world_object[1])
    assert int(every.present.sum()) == int(scene.samples.present.sum()) == 3
    torch.testing.assert_close(every.T_world_object[3:], one.T_world_object)
    assert nodes.drawn_objects(dataclasses.replace(scene, samples=None), 0) is None


@pytest.mark.parametrize("depth_m", [0.2, 1.7])
def test_the_cameras_pixels_lie_on_the_hung_image(depth_m: float) -> None:
    """Its corners project to the image's corners, although the principal point is not in the middle."""
    camera = posed_scene().camera
    plane = nodes.image_plane(camera, depth_m)
    half = np.asarray([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * [plane.width_m / 2, plane.height_m / 2, 0]
    T = matrix_of(plane.placement)
    corners = half @ T[:3, :3].T + T[:3, 3]
    np.testing.assert_allclose(projected_px(camera, corners), [[0, 0], [64, 0], [64, 48], [0, 48]], atol=1e-3)
    edges = nodes.frustum_edges_m(camera, depth_m)
    np.testing.assert_allclose(edges[:4, 1], corners, atol=1e-6)
    np.testing.assert_allclose(edges[4:], np.stack([corners, np.roll(corners, -1, 0)], 1), atol=1e-6)
    centre = -camera.T_camera_world[:3, :3].T @ camera.T_camera_world[:3, 3]
    np.testing.assert_allclose(edges[:4, 0], np.tile(centre.numpy(), (4, 1)), atol=1e-6)


@pytest.mark.parametrize("aspect", [0.5, 1.0, 3.0])
def test_the_whole_image_is_seen_through_the_camera(aspect: float) -> None:
    """The corner that is farthest from the axis touches the window's border, none lies beyond it."""
    camera = posed_scene().camera
    K = camera.K_px.numpy()
    half_height = np.tan(nodes.field_of_view_rad(camera, aspect) / 2)
    corners = (np.asarray([[0, 0], [64, 0], [64, 48], [0, 48]]) - K[:2, 2]) / K[[0, 1], [0, 1]]
    assert np.abs(corners / [half_height * aspect, half_height]).max() == pytest.approx(1.0, rel=1e-6)


def test_distance_and_overview() -> None:
    """The camera of the sample looks down at the origin from 1 m; the eye beside it sees the camera and the origin."""
    scene = posed_scene()
    assert nodes.scene_distance_m(scene) == pytest.approx(1.0, abs=1e-6)
    assert nodes.scene_distance_m(dataclasses.replace(scene, truth=None, estimates=None)) == nodes.UNKNOWN_DISTANCE_M
    eye, target, up = nodes.overview(scene)
    np.testing.assert_allclose(target, [0, 0, 0], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(eye), np.hypot(1.5, 0.8), atol=1e-6)
    assert up.tolist() == [0, 0, 1]
    nowhere = nodes.overview(dataclasses.replace(scene, world_known=False))[2]
    np.testing.assert_allclose(nowhere, [0, 1, 0], atol=1e-6)


def test_the_table() -> None:
    assert nodes.table_text(posed_scene(), NAMES).splitlines() == [
        "scene 4, image 7",
        "",
        "| | class | x, y, z (cm) | score |",
        "|---|---|---|---|",
        "| truth | box | 5.0, 10.0, 0.0 |  |",
        "| truth | mug | -10.0, 0.0, 0.0 |  |",
        "| estimate | box | 6.0, 10.0, 0.0 | 0.750 |",
    ]


def messages_of(viewer: Any) -> dict[str, dict[str, Any]]:
    """What a page is told when it is opened: messages about nodes of the scene, by node."""
    msgpack = importlib.import_module("msgspec").msgpack
    zstandard = importlib.import_module("zstandard")
    connect = importlib.import_module("websockets.sync.client").connect
    version = importlib.import_module("viser").__version__
    told: dict[str, dict[str, Any]] = {}
    with connect(viewer.url.replace("http", "ws"), subprotocols=[f"viser-v{version}"], max_size=None) as page:
        for _ in range(100):
            data = page.recv(timeout=10)
            size = int.from_bytes(data[8:16], "little")
            messages = msgpack.decode(zstandard.ZstdDecompressor().decompress(data[16 : 16 + size]))["messages"]
            told |= {message["name"]: message for message in messages if "props" in message and "name" in message}
            if any("Done" in message["type"] or "Complete" in message["type"] for message in messages):
                break
    return told


@pytest.fixture
def viewer() -> Iterator[Any]:
    pytest.importorskip("viser")
    shown = script("view_server").Viewer(posed_scenes(), port=18080)
    yield shown
    shown.server.stop()


def meshes(told: dict[str, dict[str, Any]]) -> list[str]:
    return sorted(name for name in told if re.search(r"_\d+$", name))


def test_a_page_is_told_of_every_mesh(viewer: Any) -> None:
    assert b"<html" in urllib.request.urlopen(viewer.url, timeout=10).read()
    told = messages_of(viewer)
    assert meshes(told) == ["/estimates/box_0", "/samples/box_0", "/truth/box_0", "/truth/mug_2"]
    assert told["/truth/box_0"]["props"]["wireframe"]
    assert not told["/estimates/box_0"]["props"]["wireframe"]
    assert told["/camera/image"]["props"]["render_width"] == pytest.approx(0.25 * 64 / 60, rel=1e-5)
    assert "scene 4, image 7" in viewer.text.content


def test_controls_change_what_is_shown(viewer: Any) -> None:
    """Another image, another sample, all samples, own colours, names; the second image has no truth."""
    viewer.sample.value = 2
    assert meshes(messages_of(viewer))[1:3] == ["/samples/box_0", "/samples/mug_1"]
    viewer.all_samples.value = True
    assert [name for name in meshes(messages_of(viewer)) if "samples" in name] == [
        *("/samples/box_0", "/samples/box_3", "/samples/mug_4")
    ]
    viewer.colours.value, viewer.labels.value = "the meshes'", True
    told = messages_of(viewer)
    assert "Glb" in told["/truth/mug_2"]["type"]
    assert told["/truth/mug_2/name"]["props"]["text"] == "mug_2"
    viewer.image.value = 1
    assert meshes(messages_of(viewer)) == ["/estimates/box_0"]
    assert "scene 4, image 8" in viewer.text.content
    viewer.shown["estimates"].value = False
    assert not viewer._roots["estimates"].visible
    assert viewer._roots["truth"].visible


@pytest.mark.parametrize("source", ["run", "dataset"])
def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], source: str) -> None:
    """It serves until Ctrl-C, which is what its waiting is replaced by."""
    viser = pytest.importorskip("viser")
    pages: list[bytes] = []

    def interrupt(server: Any) -> None:
        pages.append(urllib.request.urlopen(f"http://127.0.0.1:{server.get_port()}", timeout=10).read())
        raise KeyboardInterrupt

    monkeypatch.setattr(viser.ViserServer, "sleep_forever", interrupt)
    if source == "run":
        options: tuple[object, ...] = ("--run", untrained_run(tmp_path / "run"), "--num-scenes", 2, "--draws", 2)
    else:
        data = tiny_dataset(tmp_path / "data")
        options = ("--dataset", data, "--results", data / "results.csv")
    assert run_script(monkeypatch, "view", *options, "--port", 18090) == 0
    assert b"<html" in pages[0]
    assert re.search(r"open http://127\.0\.0\.1:18\d+ in a browser", capsys.readouterr().out)


def test_contradictions_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = {
        (): "expected one of the two",
        ("--run", tmp_path, "--dataset", tmp_path): "expected one of the two",
        ("--run", tmp_path, "--results", tmp_path): "--results: expected none",
        ("--run", tmp_path, "--draws", -1): "--draws: expected at least 0",
        ("--run", tmp_path): "holds config.yaml",
    }
    for options, message in wrong.items():
        assert run_script(monkeypatch, "view", *options) == 2
        assert message in capsys.readouterr().err


def test_a_missing_package_is_named_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    monkeypatch.setitem(sys.modules, "viser", None)
    monkeypatch.delitem(sys.modules, "view_server", raising=False)
    with pytest.raises(ValueError, match='expected the package .viser.*`pip install "viser>='):
        script("view").open_viewer(posed_scenes(), "127.0.0.1", 18080)


def test_no_images_are_refused() -> None:
    pytest.importorskip("viser")
    with pytest.raises(ValueError, match="posed: expected at least one image"):
        script("view_server").Viewer(dataclasses.replace(posed_scenes(), scenes=()))
