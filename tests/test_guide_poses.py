"""Guides as methods on a BOP data set: frames, classes, scores and times of their rows, and what they refuse."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from bop_samples import change_json, copy_of, generator
from pose_files import IMAGES, SIZE_PX, experiment, make_dataset, make_run
from script_runs import results_of, run_script

from assets import load_catalogue
from inverse_graphics.bop import open_split, read_camera, read_image, read_results, read_scene
from inverse_graphics.checkpoints import load_guide
from inverse_graphics.config import load_dataclass
from inverse_graphics.guides.posterior import at_least_probabilities
from inverse_graphics.inference import Inference, infer
from inverse_graphics.types import Camera, Objects, Scene, map_tensors
from renderers import RasterRenderer
from scenes import ScenePrior, generate


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("guide_poses"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("guide_run"))


def guide_poses(monkeypatch: pytest.MonkeyPatch, run: Path, dataset: Path, out: Path, *options: object) -> int:
    files = ("--run", run, "--dataset", dataset, "--out", out)
    return run_script(monkeypatch, "guide_poses", *files, "--device", "cpu", *options)


def generated(dataset: Path) -> Scene:
    """The scenes of the data set, made again from its recipe."""
    recipe = load_dataclass(generator().Recipe, dataset / "generator.yaml")
    catalogue = load_catalogue(recipe.scene.catalogue, recipe.scene.classes)
    return generate(ScenePrior(recipe.scene, catalogue), RasterRenderer(catalogue, 1), recipe.seed, range(IMAGES)).scene


def test_a_guide_that_knows_the_truth_scores_one(
    dataset: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From world poses of our meshes to BOP's models in the camera's frame and back to 1.0."""
    scenes = generated(dataset)

    def knows(guide: object, image_rgb: torch.Tensor, camera: Camera, looks: int, apart_m: float) -> Inference:
        offsets = (scenes.view.camera.T_camera_world - camera.T_camera_world).abs().amax((-2, -1))
        (row,) = (offsets < 1e-5).nonzero()[:, 0].tolist()
        objects: Objects = map_tensors(lambda tensor: tensor[row : row + 1], scenes.objects)
        slots = objects.present.shape[-1]
        count = torch.nn.functional.one_hot(objects.count, slots + 1).float()
        return Inference(objects, count, torch.full((1, slots, 3), 1 / 3), torch.ones(1, slots, 2))

    monkeypatch.setattr(experiment("guide_poses"), "infer", knows)
    options = ("--dataset", dataset, "--run", run, "--out", tmp_path / "out", "--device", "cpu", "--no-report")
    assert run_script(monkeypatch, "evaluate_pose", *options) == 0
    results = results_of(tmp_path / "out")
    for name in ("ar", "ar_vsd", "ar_mssd", "ar_mspd", "map_2024", "add_recall", "recall_5deg_5cm"):
        assert results[name] == pytest.approx(1.0), name
    assert results["te_median_mm"] < 0.01 and results["re_median_deg"] < 0.1
    assert results["results"] == "guide" and results["time_s_mean"] > 0
    assert (tmp_path / "out" / "guide_tiny-test.csv").is_file()


def test_rows_say_what_the_guide_says(dataset: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "guide_tiny-test.csv"
    assert guide_poses(monkeypatch, run, dataset, file, "--min-presence", "1e-9") == 0
    rows = read_results(file)
    assert len(rows) == 3 * IMAGES
    guide = load_guide(run).eval()
    split = open_split(dataset, "test")
    for scene_id in split.scene_ids:
        scene = read_scene(split, scene_id)
        for im_id in scene.im_ids:
            camera = read_camera(scene, im_id)
            assert camera.T_camera_world_mm is not None
            T_camera_world = camera.T_camera_world_mm.copy()
            T_camera_world[:3, 3] /= 1000
            K, T = (torch.from_numpy(matrix).float()[None] for matrix in (camera.K_px, T_camera_world))
            srgb = read_image(scene, im_id) / 255
            linear = torch.from_numpy(np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)).float()
            said = infer(
                guide,
                linear[None],
                Camera(K, T, SIZE_PX, SIZE_PX),
                1,
                experiment("guide_poses").least_distance_m(load_catalogue("tabletop", ("box", "can", "mug"))),
            )
            mine = (rows.scene_id == scene_id) & (rows.im_id == im_id)
            np.testing.assert_array_equal(rows.obj_id[mine], said.objects.class_ids[0].numpy() + 1)
            np.testing.assert_allclose(rows.score[mine], at_least_probabilities(said.count_probabilities)[0], rtol=1e-6)
            T_world_model = np.linalg.inv(T_camera_world) @ (rows.T_camera_object_mm[mine] * metres())
            # a standing object turns about the vertical only; the middle of its box is half its height above the table
            np.testing.assert_allclose(T_world_model[:, 2, :3], np.tile([0.0, 0.0, 1.0], (3, 1)), atol=1e-5)
            heights_m = np.array([size_m(int(obj_id)) for obj_id in rows.obj_id[mine]])
            np.testing.assert_allclose(T_world_model[:, 2, 3], heights_m / 2, atol=1e-5)
            assert len(set(rows.time_s[mine])) == 1 and (rows.time_s[mine] > 0).all()


def metres() -> np.ndarray:
    """Factors from millimetres of a pose's translation."""
    factors = np.ones((4, 4))
    factors[:3, 3] = 0.001
    return factors


def size_m(obj_id: int) -> float:
    """Height of a class."""
    mesh = load_catalogue("tabletop", ("box", "can", "mug")).meshes[obj_id - 1]
    return float(np.ptp(mesh.vertices_m[:, 2]))


def test_the_most_probable_count_is_written(dataset: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other presences, other rows; images without any are simply not named."""
    real = infer
    for count in (0, 2):

        def certain(*arguments: object, count: int = count) -> Inference:
            inference = real(*arguments)  # type: ignore[arg-type]
            present = (torch.arange(3) < count)[None]
            probabilities = torch.eye(4)[count][None] * 0.7 + 0.075
            objects = dataclasses.replace(inference.objects, present=present)
            return dataclasses.replace(inference, objects=objects, count_probabilities=probabilities)

        monkeypatch.setattr(experiment("guide_poses"), "infer", certain)
        out = tmp_path / str(count)
        options = ("--dataset", dataset, "--run", run, "--out", out, "--device", "cpu", "--no-vsd", "--no-report")
        assert run_script(monkeypatch, "evaluate_pose", *options) == 0
        rows = read_results(out / "guide_tiny-test.csv")
        assert len(rows) == count * IMAGES
        assert set(np.round(rows.score, 4)) == ({0.925, 0.85} if count else set())


def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], run: Path, dataset: Path, *options: str) -> str:
    """The one line of error."""
    out = run.parent / "refused_tiny-test.csv"
    assert guide_poses(monkeypatch, run, dataset, out, *options) == 2
    assert not out.exists()
    (line,) = [line for line in capsys.readouterr().err.strip().splitlines() if line.startswith("error")]
    return line


def test_images_must_fit_the_guide(
    dataset: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = make_dataset(tmp_path, "other", 48)
    line = refused(monkeypatch, capsys, run, other)
    assert "expected the 32 x 32 px that the guide was trained on, received 48 x 48" in line and "--image-size 32 32" in line
    lost = copy_of(dataset, tmp_path)
    for path in lost.glob("test/*/scene_camera.json"):
        change_json(path, lambda images: [image.pop(name) for image in images.values() for name in ("cam_R_w2c", "cam_t_w2c")])
    assert "expected cam_R_w2c and cam_t_w2c in scene_camera.json" in refused(monkeypatch, capsys, run, lost)


def test_classes_must_have_models(
    dataset: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = copy_of(dataset, tmp_path)
    (foreign / "generator.yaml").unlink()
    assert "received none for box; give box=ID" in refused(monkeypatch, capsys, run, foreign)
    wrong = ("--classes", "box=2", "can=1", "mug=3")
    assert "for box, received object 2 of" in refused(monkeypatch, capsys, run, foreign, *wrong)
    twice = ("--classes", "box=1,2", "mug=3")
    assert "expected one ID for each class of a guide" in refused(monkeypatch, capsys, run, foreign, *twice)
    file = tmp_path / "guide_tiny-test.csv"
    assert guide_poses(monkeypatch, run, foreign, file, "--classes", "box=1", "can=2", "mug=3", "--max-images", "1") == 0
    assert guide_poses(monkeypatch, run, foreign, file) == 2
    assert "expected a file that does not exist" in capsys.readouterr().err
    assert json.loads((foreign / "test_targets_bop24.json").read_text())
