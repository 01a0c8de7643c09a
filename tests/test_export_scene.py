"""experiments/export_scene.py from its command line: poses and scenes of a run and of a data set."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import trimesh
from scene_runs import script, tiny_dataset, untrained_run
from script_runs import run_script

from inverse_graphics.bop import open_split, poses_m, read_truths
from inverse_graphics.interop import CAMERA_FRAME, PoseRows, read_poses_csv, read_poses_json


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_dataset(tmp_path_factory.mktemp("data") / "set")


def test_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, out = untrained_run(tmp_path / "run"), tmp_path / "out"
    options = ("--run", run, "--scenes", 3, "--out", out, "--stamp-ns", 10)
    assert run_script(monkeypatch, "export_scene", *options) == 0
    assert sorted(path.name for path in out.iterdir()) == [
        *("poses.csv", "poses.json"),
        *("scene_000.glb", "scene_001.glb", "scene_002.glb"),
    ]
    rows, lines = read_poses_json(out / "poses.json"), read_poses_csv(out / "poses.csv")
    assert all(np.array_equal(getattr(rows, f.name), getattr(lines, f.name)) for f in dataclasses.fields(PoseRows))
    assert set(rows.class_name) <= {"box", "mug"}
    assert set(rows.frame_id) <= {"world"}
    np.testing.assert_array_equal(rows.stamp_ns, 10 + rows.image_id)
    assert ((rows.score > 0) & (rows.score <= 1)).all()
    for image in range(3):
        content = (out / f"scene_{image:03d}.glb").read_bytes()
        nodes = set(trimesh.load_scene(io.BytesIO(content), file_type="glb", process=False).graph.nodes_geometry)
        of_image = rows.image_id == image
        wanted = {f"{rows.class_name[row]}_{rows.slot[row]}" for row in np.flatnonzero(of_image)}
        assert nodes == wanted | {"camera"}
    assert run_script(monkeypatch, "export_scene", *options) == 2  # nothing is overwritten


@pytest.mark.parametrize("frame", ["world", "camera"])
def test_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: Path, frame: str) -> None:
    """In the camera's frame poses are those of the files; in the world's, objects of the truth stand on the table."""
    truths = read_truths(open_split(dataset, "test"))
    for name, options, moved_m in (("truth", (), 0.0), ("estimates", ("--results", dataset / "results.csv"), 0.01)):
        out = tmp_path / name
        arguments = ("--dataset", dataset, *options, "--scenes", 10, "--frame", frame, "--out", out)
        assert run_script(monkeypatch, "export_scene", *arguments) == 0
        rows = read_poses_json(out / "poses.json")
        assert rows.image_id.tolist() == truths.im_id.tolist()
        assert rows.scene_id.tolist() == truths.scene_id.tolist()
        assert rows.class_name == tuple(f"obj_{obj_id:06d}" for obj_id in truths.obj_id)
        assert rows.score.tolist() == pytest.approx((0.5 + 0.01 * truths.gt_id if moved_m else np.ones(len(truths))).tolist())
        if frame == "camera":
            wanted = poses_m(truths)
            wanted[:, 0, 3] += moved_m
            np.testing.assert_allclose(rows.T_frame_object, wanted, atol=1e-9)
            assert set(rows.frame_id) == {CAMERA_FRAME}
        elif not moved_m:
            np.testing.assert_allclose(rows.T_frame_object[:, 2, :3], np.tile([0, 0, 1], (len(rows), 1)), atol=1e-6)
            # a BOP model's origin is the middle of its box: 7 cm above the table for the box, 4.75 for the mug
            heights_m = np.where(truths.obj_id == 1, 0.07, 0.0475)
            np.testing.assert_allclose(rows.T_frame_object[:, 2, 3], heights_m, atol=1e-5)


def test_a_world_that_nobody_knows(dataset: Path) -> None:
    export, posed = script("export_scene"), script("posed_scenes").scenes_of_dataset(dataset, "test", None, 1)
    nowhere = dataclasses.replace(posed.scenes[0], world_known=False)
    with pytest.raises(ValueError, match="--frame: expected camera"):
        export.rows_of(nowhere, posed.catalogue.names, "world", 0)
    with pytest.raises(ValueError, match="--results: expected a file"):
        export.posed_objects(dataclasses.replace(nowhere, truth=None))


def test_contradictions_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], dataset: Path
) -> None:
    wrong = {
        (): "expected one of the two",
        ("--run", tmp_path, "--dataset", dataset): "expected one of the two",
        ("--run", tmp_path, "--results", dataset / "results.csv"): "--results: expected none",
        ("--run", tmp_path): "holds config.yaml",
        ("--dataset", dataset, "--split", "train"): "expected one of test",
        ("--dataset", dataset, "--scenes", 0): "num_scenes: expected at least 1 image",
    }
    for options, message in wrong.items():
        assert run_script(monkeypatch, "export_scene", *options, "--out", tmp_path / "out") == 2
        assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
