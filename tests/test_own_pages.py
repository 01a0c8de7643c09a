"""docs/own_meshes.md and docs/own_camera.md run as they stand, and do what they say."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from page_runs import run_page
from PIL import Image
from script_runs import results_of

from assets import load_catalogue
from inverse_graphics.checkpoints import MODEL_FILE, save_model
from inverse_graphics.config import save_yaml
from inverse_graphics.guides import GuideConfig, GuideSizes, RecurrentGuide
from inverse_graphics.interop import read_poses_json
from inverse_graphics.symmetry import yaw_folds
from renderers import RasterRenderer
from scenes import SceneConfig, load_scene_config
from scenes.views import look_at


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where we are."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_own_meshes(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run_page("own_meshes.md", monkeypatch)
    assert "bracket" in capsys.readouterr().out
    bracket, roll, mug = load_catalogue(folder / "mine" / "meshes.yaml").meshes
    np.testing.assert_allclose(np.ptp(bracket.vertices_m, axis=0), [0.09, 0.06, 0.087], atol=1e-6)
    assert bracket.watertight
    np.testing.assert_allclose(np.ptp(roll.vertices_m, axis=0), [0.08, 0.11, 0.08], atol=1e-6)
    assert len(np.unique(roll.corner_rgb.reshape(-1, 3), axis=0)) == 2
    assert mug.name == "mug"
    for picture in ("meshes.png", "scenes.png"):
        assert np.asarray(Image.open(folder / "mine" / picture)).std() > 5
    results = results_of(folder / "runs" / "mine-smoke")
    assert (results["steps"], results["num_eval_scenes"]) == (2, 8)
    assert set(read_poses_json(folder / "mine" / "exported" / "poses.json").class_name) <= {"bracket", "roll", "mug"}
    assert len(list((folder / "mine" / "exported").glob("*.glb"))) == 2


def test_own_camera(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """With an untrained guide, what reaches it is what the renderer draws for the fitted camera, and the printed camera is it."""
    config = SceneConfig()
    catalogue = load_catalogue(config.catalogue, config.classes)
    run = folder / "runs" / "scenes3d"
    run.mkdir(parents=True)
    save_yaml(run / "scene.yaml", config)
    torch.manual_seed(0)
    folds = tuple(yaw_folds(mesh.symmetry) for mesh in catalogue.meshes)
    sizes = GuideSizes(glimpse_px=8, yaw_bins=8, channels=8, features=12, hidden=12)
    save_model(run / MODEL_FILE, RecurrentGuide(GuideConfig(3, folds, 64, 64, sizes=sizes)))
    names = run_page("own_camera.md", monkeypatch)
    camera, shot = names["camera"], names["shot"]
    printed = re.search(r"^camera:\n(?:  .*\n)+", capsys.readouterr().out, re.MULTILINE)
    assert printed is not None
    (folder / "printed.yaml").write_text(printed[0])
    scene = load_scene_config(folder / "printed.yaml")
    eye, target, up = (torch.tensor([v]) for v in (scene.camera.eye_world_m, scene.camera.target_world_m, scene.camera.up_world))
    torch.testing.assert_close(look_at(eye, target, up)[0], camera.T_camera_world, rtol=0, atol=1e-3)
    assert scene.camera.focal_px == pytest.approx(float(camera.K_px[1, 1]), abs=0.01)
    background = shot.scene.view.background_rgb[:, :64, :64]
    view = type(shot.scene.view)(names["cameras"], shot.scene.view.light, background)
    drawn = RasterRenderer(catalogue, 4).render(shot.scene.objects, view).rgb[0]
    off, shifted = ((image - drawn).abs()[:, 1:].mean() for image in (names["rgb"], names["rgb"].roll(1, 1)))
    assert float(off) < 4e-3
    assert float(shifted) > 3 * float(off)
    poses = read_poses_json(folder / "mine" / "poses.json")
    assert len(poses) == int(names["inference"].objects.present.sum())
    assert (folder / "mine" / "scene.glb").read_bytes()[:4] == b"glTF"
