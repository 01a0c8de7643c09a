"""The table-top experiment from its command line: what a run leaves behind, resuming, judging again, and what it refuses."""

from __future__ import annotations

import json
import math
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from inverse_graphics.checkpoints import load_guide
from inverse_graphics.config import load_dataclass, load_yaml
from inverse_graphics.runs import Journal
from inverse_graphics.training import TrainState
from scenes import SceneConfig, load_scene_config

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "experiments" / "scenes3d.py"

NUMBERS = (
    "count_accuracy",
    "class_accuracy",
    "scene_accuracy",
    "matched_share",
    "position_error_median_m",
    "position_error_p95_m",
    "rotation_error_median_deg",
    "rotation_error_p90_deg",
    "steps",
    "steps_per_second",
    "wall_time_s",
    "seed",
    "num_eval_scenes",
)
TEXTS = ("renderer", "objective", "estimator", "commit")
FILES = ("config.yaml", "scene.yaml", "results.json", "report.html", "history.json", "model.safetensors", "state.safetensors")

SCENE = """\
classes: [box, mug]
image_size_px: [32, 32]
samples_per_axis: 1
objects: {max_count: 2}
camera: {vertical_fov_deg: 36.8}
"""
CONFIG = """\
scene: scene.yaml
num_eval_scenes: 4
looks: 1
training: {steps: 2, batch_size: 2, bound_from: 0.0}
bound_only: {steps: 2, batch_size: 2}
"""


def as_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the script import its neighbours."""
    monkeypatch.setattr(sys, "path", [str(SCRIPT.parent), *sys.path])


def start(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the script in this process, as ``python experiments/scenes3d.py`` does; returns its exit status."""
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *map(str, arguments), "--device", "cpu"])
    as_a_script(monkeypatch)
    try:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A config of 32 px scenes, two steps, beside its scene config."""
    (tmp_path / "scene.yaml").write_text(SCENE)
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    return config


def results_of(run: Path) -> dict[str, Any]:
    return json.loads((run / "results.json").read_text())


def check_results(results: dict[str, Any]) -> None:
    assert set(NUMBERS + TEXTS) <= results.keys()
    for name in NUMBERS:
        value = results[name]
        assert value is None or (isinstance(value, int | float) and math.isfinite(value)), name
    for name in ("count_accuracy", "scene_accuracy"):
        assert 0 <= results[name] <= 1
    assert all(isinstance(results[name], str) and results[name] for name in TEXTS)


def same_weights(a: Path, b: Path) -> bool:
    mine, theirs = load_guide(a).state_dict(), load_guide(b).state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)


def test_the_smoke_preset_leaves_a_whole_run(tmp_path: Path) -> None:
    """As a user types it, from another folder."""
    run = tmp_path / "run"
    options = ["--preset", "smoke", "--steps", "2", "--num-eval-scenes", "6", "--seed", "3", "--device", "cpu", "--out", "run"]
    done = subprocess.run([sys.executable, str(SCRIPT), *options], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert all((run / name).stat().st_size > 0 for name in FILES)
    assert list((run / "tensorboard").iterdir())
    results = results_of(run)
    check_results(results)
    expected = {
        "steps": 2,
        "seed": 3,
        "num_eval_scenes": 6,
        "renderer": "raster",
        "objective": "sleep+bound",
        "estimator": "exact",
    }
    assert {name: results[name] for name in expected} == expected
    assert results["wall_time_s"] > 0
    assert results["steps_per_second"] == pytest.approx(2 / results["wall_time_s"])
    assert re.fullmatch(r"[0-9a-f]{40}(\+changes)?|unknown", results["commit"])
    assert "report.html" in done.stdout
    check_report(run / "report.html")
    assert load_yaml(run / "config.yaml")["training"]["steps"] == 2
    assert load_scene_config(run / "scene.yaml") == load_dataclass(SceneConfig, ROOT / "scenes" / "tabletop.yaml")


def check_report(path: Path) -> None:
    """One file that needs no other: every picture inside it, nothing fetched."""
    page = path.read_text()
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "data:image/" in page or "<svg" in page
    assert re.findall(r"""(?:src|href)=["'](?!data:|#)([^"']+)""", page) == []
    assert "<script src" not in page
    assert "@import" not in page
    for word in ("Count", "Class", "Pose", "seed"):
        assert word in page


def test_a_stopped_run_goes_on_as_if_it_had_not_been(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert start(monkeypatch, "--config", tiny, "--steps", 4, "--out", whole) == 0
    record = Journal.__call__

    def stop_at_two(journal: Journal, state: TrainState[RecurrentGuide], scalars: dict[str, float]) -> None:
        record(journal, state, scalars)
        if state.step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "__call__", stop_at_two)
        assert start(patch, "--config", tiny, "--steps", 4, "--out", parts) == 2
    assert not (parts / "results.json").exists()
    assert start(monkeypatch, "--resume", "--out", parts) == 0
    assert results_of(parts)["steps"] == 4
    assert same_weights(whole, parts)
    accuracies = [{name: results_of(run)[name] for name in NUMBERS[:8]} for run in (whole, parts)]
    assert accuracies[0] == accuracies[1]
    history = json.loads((parts / "history.json").read_text())
    assert history["step"] == [2.0, 4.0]
    assert history["seconds"] == sorted(history["seconds"])


def test_a_finished_run_goes_on_for_more_steps_and_nothing_else(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    assert start(monkeypatch, "--config", tiny, "--out", run) == 0
    assert start(monkeypatch, "--resume", "--steps", 4, "--out", run) == 0
    capsys.readouterr()
    assert results_of(run)["steps"] == 4
    assert json.loads((run / "history.json").read_text())["step"] == [2.0, 4.0]
    status = start(monkeypatch, "--resume", "--seed", 3, "--out", run)
    check_refused(capsys, status, "--resume continues under the run's own config, got --seed; leave it out")


def test_a_run_is_judged_again_elsewhere(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, again = tmp_path / "run", tmp_path / "again"
    assert start(monkeypatch, "--config", tiny, "--out", run) == 0
    before = {name: (run / name).read_bytes() for name in FILES}
    assert start(monkeypatch, "--evaluate", run, "--out", again, "--num-eval-scenes", 5, "--eval-seed", 7) == 0
    assert {name: (run / name).read_bytes() for name in FILES} == before
    results = results_of(again)
    check_results(results)
    assert (results["num_eval_scenes"], results["eval_seed"], results["steps"]) == (5, 7, 2)
    assert results["wall_time_s"] is None
    check_report(again / "report.html")


@pytest.mark.parametrize("estimator", ["exact", "nvil"])
@pytest.mark.parametrize("objective", ["sleep", "bound", "sleep+bound"])
def test_every_objective_with_every_estimator(
    objective: str, estimator: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    assert start(monkeypatch, "--config", tiny, "--objective", objective, "--estimator", estimator, "--out", run) == 0
    results, history = results_of(run), json.loads((run / "history.json").read_text())
    check_results(results)
    assert (results["objective"], results["estimator"], results["steps"]) == (objective, estimator, 2)
    assert ("sleep presence" in history) == (objective != "bound")
    assert ("bound KL count" in history) == (objective != "sleep")
    assert all(math.isfinite(value) for value in history["loss"])


def test_a_guide_with_feedback_trains_and_is_judged_again(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, again = tmp_path / "run", tmp_path / "again"
    options = ("--feedback", "True", "--objective", "sleep+bound")
    assert start(monkeypatch, "--config", tiny, "--out", run, *options) == 0
    check_results(results_of(run))
    assert load_guide(run).config.feedback and load_yaml(run / "config.yaml")["feedback"] is True
    assert start(monkeypatch, "--evaluate", run, "--out", again) == 0
    assert results_of(again)["count_accuracy"] == results_of(run)["count_accuracy"]


@pytest.mark.parametrize("gradient", ["analytic", "finite-difference"])
def test_the_other_renderer(gradient: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pytorch3d")
    (tmp_path / "scene.yaml").write_text(SCENE.replace("box, mug", "box").replace("max_count: 2", "max_count: 1"))
    run = tmp_path / "run"
    options = ("--renderer", "pytorch3d", "--gradient", gradient, "--objective", "bound", "--steps", 1, "--num-eval-scenes", 2)
    assert start(monkeypatch, "--config", tiny, "--out", run, *options) == 0
    assert (results_of(run)["renderer"], results_of(run)["steps"]) == ("pytorch3d", 1)
    assert load_yaml(run / "config.yaml")["gradient"] == gradient


@pytest.mark.parametrize("count", [0, 1])
def test_scenes_that_always_hold_as_many_are_judged_too(
    count: int, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without objects no class, position or rotation can be right or wrong."""
    probabilities = "[1, 0, 0]" if count == 0 else "[0, 1, 0]"
    (tmp_path / "scene.yaml").write_text(SCENE.replace("max_count: 2", f"max_count: 2, count_probabilities: {probabilities}"))
    run = tmp_path / "run"
    assert start(monkeypatch, "--config", tiny, "--out", run, "--num-eval-scenes", 1, "--objective", "sleep") == 0
    check_results(results_of(run))
    check_report(run / "report.html")


BAD_CONFIGS = {
    "wrong key": (CONFIG + "stepz: 3\n", r"config\.yaml: stepz: expected one of .*; remove it"),
    "wrong nested key": (CONFIG.replace("batch_size", "batchsize"), r"training\.batchsize: .* did you mean 'batch_size'\?"),
    "wrong type": (CONFIG.replace("steps: 2", "steps: two", 1), r"training\.steps: expected an integer, received 'two'"),
    "out of range": (
        CONFIG.replace("batch_size: 2", "batch_size: 0", 1),
        r"training\.batch_size: expected at least 1, received 0",
    ),
    "unknown objective": (CONFIG + "objective: dream\n", r"objective: expected one of 'bound', 'sleep', 'sleep\+bound'"),
    "not YAML": ("scene: [", r"config\.yaml: expected valid YAML"),
    "missing scene": (CONFIG.replace("scene.yaml", "nowhere.yaml"), r"nowhere\.yaml: expected a readable file"),
}

BAD_SCENES = {
    "wrong scene key": (SCENE + "clases: [box]\n", r"scene\.yaml: clases: .* did you mean 'classes'\?"),
    "wrong scene type": (SCENE.replace("samples_per_axis: 1", "samples_per_axis: 1.5"), r"samples_per_axis: expected an integer"),
    "scene out of range": (SCENE.replace("max_count: 2", "max_count: 0"), r"objects\.max_count: expected a number in 1"),
    "unknown class": (SCENE.replace("mug", "spoon"), r"expected some of .*spoon"),
    "missing catalogue": (SCENE + "catalogue: own.yaml\n", r"own\.yaml: expected a readable file"),
    "missing mesh file": (SCENE.replace("box, mug", "a") + "catalogue: lost.yaml\n", r"lost\.ply: .*there is none"),
}

BAD_OPTIONS = {
    "unknown renderer": (("--renderer", "opengl"), r"renderer: expected one of raster, raster-cuda, .*, callable; got 'opengl'"),
    "no held-out scenes": (("--num-eval-scenes", 0), r"--num-eval-scenes: expected at least 1"),
    "no steps": (("--steps", 0), r"steps: expected at least 1, received 0"),
    "no run to resume": (("--resume",), r"expected a run directory that holds config\.yaml, got .*run"),
    "no run to judge": (("--evaluate", "nothing"), r"expected a run directory that holds config\.yaml, got nothing"),
}


def check_refused(capsys: pytest.CaptureFixture[str], status: int, message: str) -> None:
    """Exit status 2 and one line, without a traceback."""
    printed = capsys.readouterr().err
    assert status == 2
    assert printed.startswith("error: ")
    assert len(printed.splitlines()) == 1, printed
    assert "Traceback" not in printed
    assert re.search(message, printed), printed


@pytest.mark.parametrize("case", [*BAD_CONFIGS, *BAD_SCENES, *BAD_OPTIONS])
def test_what_cannot_be_run_is_refused(
    case: str, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "lost.yaml").write_text("meshes: [{name: a, path: lost.ply, unit: m}]\n")
    tiny.write_text(BAD_CONFIGS.get(case, (CONFIG, ""))[0])
    (tmp_path / "scene.yaml").write_text(BAD_SCENES.get(case, (SCENE, ""))[0])
    options, message = BAD_OPTIONS.get(case, ((), ""))
    message = message or (BAD_CONFIGS | BAD_SCENES)[case][1]
    status = start(monkeypatch, "--config", tiny, "--out", tmp_path / "run", *options)
    check_refused(capsys, status, message)
    assert not (tmp_path / "run").exists()


def test_a_run_is_not_overwritten(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "results.json").write_text("{}")
    status = start(monkeypatch, "--config", tiny, "--out", run)
    check_refused(capsys, status, r"--out: expected a new or empty directory, got .*run, which holds files; .*--resume")
    assert [path.name for path in run.iterdir()] == ["results.json"]


def test_a_gpu_that_is_not_there_is_an_error(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--config", str(tiny), "--out", str(tmp_path / "run"), "--device", "cuda"])
    as_a_script(monkeypatch)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert isinstance(end.value.code, int)
    check_refused(capsys, end.value.code, "--device: expected a CUDA GPU that torch can use, found none; use --device cpu")
