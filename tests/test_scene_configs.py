"""Scene configs: the shipped ones, what they show, and the errors of others."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from assets import load_catalogue
from inverse_graphics.config import ConfigError, from_mapping, save_yaml, to_mapping
from inverse_graphics.poses import project_points, transform_points, upright_pose
from scenes import (
    SceneConfig,
    ScenePrior,
    load_scene_config,
)

ROOT = Path(__file__).parent.parent
CONFIGS = sorted((ROOT / "scenes").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_are_complete_and_survive_a_round_trip(path: Path, tmp_path: Path) -> None:
    config = load_scene_config(path)
    assert from_mapping(SceneConfig, to_mapping(config)) == config
    save_yaml(tmp_path / "copy.yaml", config)
    assert load_scene_config(tmp_path / "copy.yaml") == config
    scene = ScenePrior(config, load_catalogue(config.catalogue)).sample(0, range(32))
    assert bool(scene.objects.present.any())


def test_the_default_config_is_the_shipped_one() -> None:
    assert load_scene_config(ROOT / "scenes" / "tabletop.yaml") == SceneConfig()


@pytest.mark.parametrize("name", ["tabletop", "paper_trio"])
def test_objects_are_8_to_20_px_and_inside_the_image(name: str) -> None:
    config = load_scene_config(ROOT / "scenes" / f"{name}.yaml")
    prior = ScenePrior(config, load_catalogue(config.catalogue))
    yaw_rad = torch.arange(24) * (2 * math.pi / 24)
    half_m = config.objects.x_range_m[1]
    for class_id in prior.class_ids.tolist():
        points = torch.from_numpy(prior.catalogue.meshes[class_id].vertices_m)
        room = half_m - float(torch.linalg.norm(points[:, :2], dim=-1).max())
        for corner in torch.cartesian_prod(*[torch.tensor([-room, 0.0, room])] * 2):
            poses = upright_pose(corner.expand(24, 2), yaw_rad)
            uv_px, _ = project_points(prior.view.camera, transform_points(poses, points))
            assert 0 <= float(uv_px.min()), (class_id, corner)
            assert float(uv_px.max()) <= 64, (class_id, corner)
            sizes = (uv_px.amax(1) - uv_px.amin(1)).amax(-1)
            assert 8 <= float(sizes.min()), (class_id, corner)
            assert float(sizes.max()) <= 20, (class_id, corner)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("objects: {max_cuont: 3}", r"objects.max_cuont: expected one of .* did you mean 'max_count'"),
        ("objects: {min_count: 4}", r"objects.max_count: expected a number in 4..inf, received 3"),
        ("objects: {count_probabilities: [0.5, 0.5]}", r"objects.count_probabilities: expected 4 numbers"),
        ("objects: {x_range_m: [0.3, -0.3]}", r"objects.x_range_m: .* smaller number first"),
        ("objects: {z_range_m: [0.0, 0.3]}", r"objects.z_range_m: .* for upright objects"),
        ("objects: {yaw_range_deg: [-360.0, 360.0]}", r"objects.yaw_range_deg: .* at most 360"),
        ("objects: {placement: lying}", r"objects.placement: expected one of 'upright', 'free'"),
        ("camera: {}", r"camera.vertical_fov_deg: .* exactly one of the two"),
        ("camera: {vertical_fov_deg: 40.0, eye_jitter_m: [-1, 0, 0]}", r"camera.eye_jitter_m: expected half-widths"),
        ("camera: {focal_px: 80, eye_world_m: [0.0, 0.05, 0]}", r"camera.eye_world_m: expected a point other than the target"),
        ("light: {ambient: 0.6}", r"light.diffuse: expected ambient \+ diffuse <= 1"),
        ("background: {rgb: [255, 0, 0]}", r"background.rgb: .* divide 8-bit colours"),
        ("classes: []", r"classes: expected at least one class"),
        ("image_size_px: [64]", r"image_size_px: expected a list of 2 values"),
        ("image_size_px: [64, 0]", r"image_size_px: expected \[width, height\]"),
    ],
)
def test_config_errors_name_the_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "scene.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_scene_config(path)


def test_a_catalogue_path_is_relative_to_the_config(tmp_path: Path) -> None:
    (tmp_path / "scene.yaml").write_text("catalogue: mine/things.yaml")
    assert load_scene_config(tmp_path / "scene.yaml").catalogue == str(tmp_path / "mine/things.yaml")


def test_a_config_saved_elsewhere_means_the_same_catalogue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given by a relative path, as on a command line."""
    (tmp_path / "scene.yaml").write_text("catalogue: things.yaml")
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path)
    save_yaml("run/scene.yaml", load_scene_config("scene.yaml"))
    assert load_scene_config("run/scene.yaml").catalogue == str(tmp_path / "things.yaml")
