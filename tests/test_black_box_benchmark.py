"""The benchmark of black boxes: its scenes, counts and limits against what is known, and a run that measures nothing."""

from __future__ import annotations

import dataclasses
import json
import math
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from assets import procedural_catalogue
from benchmarks import black_box_recovery, black_box_sides, tasks, timing
from benchmarks.black_box_recovery import Run
from benchmarks.black_box_sides import Settings, Variant, affordable, disturb_upright, find_backends, table_scenes, variants
from benchmarks.black_box_structure import CountingPainter, separate_task
from benchmarks.perturbed import box_middles, sizes
from inverse_graphics.poses import rotation_angle_rad, transform_points
from inverse_graphics.refinement import Refined
from inverse_graphics.types import Catalogue, Scene
from renderers import BackendMissingError, load_renderer

ROOT = Path(__file__).parent.parent
SMALL = """
    --quick --cores 1 --scenes 1 --size 16 --objects 1 --samples 1 --steps-px 1 --pairs 4 --workers 1 --scheme-scenes 2
    --starts 1 --start-objects 1 --recovery-samples 1 --gauss-newton-steps 1 --adam-steps 1 --budget-s 60
    --structure-objects 1 8
"""
INSTALLED = [name for name in ("open3d", "mujoco") if find_spec(name) is not None]


def small_scene(scenes: int, counts: tuple[int, int], size_px: int = 16) -> tuple[Catalogue, Scene]:
    catalogue = procedural_catalogue(black_box_recovery.CLASSES)
    return catalogue, table_scenes(catalogue, scenes, counts, size_px, seed=3)


@pytest.mark.parametrize("distance_m", [None, 0.6])
def test_objects_stand_upright_in_sight(distance_m: float | None) -> None:
    catalogue = procedural_catalogue(black_box_recovery.CLASSES)
    scene = table_scenes(catalogue, 20, (1, 2), 32, 0, distance_m)
    assert set(scene.objects.count.tolist()) == {1, 2}
    T = scene.objects.T_world_object
    assert torch.equal(T[..., 2, :], torch.tensor([0.0, 0.0, 1.0, 0.0]).expand_as(T[..., 2, :]))
    eye = torch.linalg.inv(scene.view.camera.T_camera_world)[:, :3, 3]
    if distance_m is not None:
        assert torch.allclose(eye.norm(dim=-1), torch.tensor(distance_m))
    shown = load_renderer("raster", catalogue, 1, "none").render(scene.objects, scene.view)
    assert ((shown.visible_fraction > 0) == scene.objects.present).all()


def test_upright_objects_are_disturbed_as_asked() -> None:
    catalogue, scene = small_scene(20, (2, 2))
    moved = disturb_upright(scene.objects, catalogue, 0.1, 20, torch.Generator().manual_seed(1))
    before, after = scene.objects.T_world_object, moved.T_world_object
    turns = after[..., :3, :3] @ before[..., :3, :3].transpose(-1, -2)
    assert torch.allclose(rotation_angle_rad(before[..., :3, :3], after[..., :3, :3]), torch.tensor(math.radians(20)), atol=1e-3)
    assert torch.allclose(turns[..., 2, 2], torch.ones(20, 2)), "about the upright"
    assert {float(x) for x in turns[..., 1, 0].sign().flatten()} == {-1.0, 1.0}
    middles = box_middles(catalogue)[scene.objects.class_ids][..., None, :]
    shift_m = (transform_points(after, middles) - transform_points(before, middles))[..., 0, :]
    assert torch.allclose(shift_m.norm(dim=-1), 0.1 * sizes(catalogue)[scene.objects.class_ids], rtol=1e-3)
    assert shift_m[..., 2].abs().max() < 1e-6, "on the table"


def test_every_scheme_draws_as_often_as_it_says() -> None:
    catalogue, scene = small_scene(2, (1, 1))
    raster = load_renderer("raster", catalogue, 1, "none")
    task = tasks.build_task(raster, scene.objects, scene.view)
    chosen = variants((1, 4))
    assert [one.key for one in chosen] == ["central", "forward", "spsa_1", "spsa_4", "smoothing_1", "smoothing_4"]
    for one, draws in zip(chosen, (6, 3, 2, 8, 2, 8), strict=True):
        renderer, counter = one.around(raster, 1.0)
        tasks.draw_gradient(renderer, task)
        assert one.draws == draws and counter.scenes_drawn == 2 * (1 + draws), one.key


@pytest.mark.parametrize(("limit_s", "scenes"), [(100.0, 24), (8.0, 12), (0.1, 1)])
def test_slow_sides_get_as_many_scenes_as_they_can_draw(monkeypatch: pytest.MonkeyPatch, limit_s: float, scenes: int) -> None:
    # in 8 s: eight at once take 5 s, 0.625 each, and sixteen would take 10
    monkeypatch.setattr(black_box_sides, "clock", lambda job: job())
    assert affordable(lambda count: 1 + 0.5 * count, 24, limit_s) == scenes


def test_missing_backends_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = procedural_catalogue(["box"])

    def load(name: str, *_: object) -> None:
        if name == "open3d":
            raise BackendMissingError("open3d", "open3d", "pip install some-open3d")
        if name == "mujoco":
            raise RuntimeError("no EGL here")

    monkeypatch.setattr(black_box_sides, "load_renderer", load)
    found, missing = find_backends(("open3d", "raster", "mujoco"), catalogue)
    assert found == ("raster",) and set(missing) == {"open3d", "mujoco"}
    assert "pip install some-open3d" in missing["open3d"] and missing["mujoco"] == "no EGL here"


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match="renderer: expected one of raster, .* got 'nonesuch'"):
        find_backends(("nonesuch",), procedural_catalogue(["box"]))


def test_separate_objects_stay_apart_when_they_move() -> None:
    settings = Settings(structure_scenes=3)
    catalogue = tasks.build_catalogue(320)
    task = separate_task(settings, catalogue, 8)
    with torch.no_grad():
        alpha = load_renderer("raster", catalogue, 1, "none").layers(task.objects, task.view).alpha
    reach_px = 11  # a step, what whole images count around an object, and a pixel or two
    grown = torch.nn.functional.max_pool2d(alpha.flatten(0, 1)[:, None], 2 * reach_px + 1, 1, reach_px)
    assert (alpha.sum((-2, -1)) > 20).all()
    assert (grown.reshape(alpha.shape).sum(1) <= 1).all()
    with pytest.raises(ValueError, match="structure_objects: expected 1 to 8, .* received 9; ask for fewer"):
        separate_task(settings, catalogue, 9)


def test_pictures_are_counted() -> None:
    class Echo:
        name = "echo"

        def draw(self, shots: list[object]) -> list[object]:
            return shots

    counter = CountingPainter(Echo())  # type: ignore[arg-type]
    assert (counter.draw([1, 2]), counter.draw([3]), counter.pictures, counter.name) == ([1, 2], [3], 3, "echo")


def test_recovered_is_what_ends_near_the_truth(capsys: pytest.CaptureFixture[str]) -> None:
    settings = Settings(starts=4, start_objects=1, size=32, target_samples=1)
    catalogue = procedural_catalogue(black_box_recovery.CLASSES)
    trial = black_box_recovery.upright_trial(settings, "raster", catalogue)
    assert trial.judged.all()
    T = trial.truth.objects.T_world_object.clone()
    T[0, 0, 0, 3] += 0.002
    T[1, 0, 0, 3] += 0.0005
    one = torch.zeros(4)
    refined = Refined(dataclasses.replace(trial.start, T_world_object=T), one, one, one.long(), one.long())
    figures = black_box_recovery.judge("side", refined, trial, catalogue, seconds=2.0, renders=7.0)
    assert figures["side_objects"] == 4 and figures["side_recovered_share"] == 0.75
    assert figures["side_recovered_per_second"] == 1.5 and figures["side_renders"] == 7
    assert "side" in capsys.readouterr().out


def test_runs_have_names_of_their_own() -> None:
    keys = [run.key for name in ("raster", "open3d-offscreen") for run in black_box_recovery.runs(Settings(), name)]
    assert len(set(keys)) == len(keys) == 2 * (2 + 8) + 2
    assert Run("open3d-offscreen", "gauss-newton", Variant("central")).key == "open3d_offscreen_gauss_newton_central"


def test_quick_settings_are_no_larger() -> None:
    mine = Settings(quick=True, scenes=2, pairs=(8,))
    assert mine.resized().scenes == 2 and mine.resized().pairs == (8,) and mine.resized().repeats == 1
    assert Settings(scenes=2).resized() == Settings(scenes=2)
    assert Settings(clock="processor").resized() == Settings(clock="processor", workers=0)


def test_processor_time_leaves_out_what_is_waited_for() -> None:
    timing.use_clock("processor")
    try:
        assert timing.clock(lambda: time.sleep(0.2)) < 0.1
    finally:
        timing.use_clock("wall")
    assert timing.clock(lambda: time.sleep(0.2)) >= 0.2


@pytest.mark.skipif(not INSTALLED, reason="no black box is installed")
def test_the_benchmark_runs_and_writes_every_figure(tmp_path: Path) -> None:
    file = tmp_path / "black_box.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "black_box.py"), *SMALL.split(), "--backends", *INSTALLED]
    done = subprocess.run([*command, "--json", str(file)], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(file.read_text())
    missing = figures["missing_backends"].split(", ") if figures["missing_backends"] else []
    sides = [name for name in INSTALLED if name not in missing]
    assert all(f"{name}_missing" in figures for name in missing)
    for side in ("raster", *sides):
        assert figures[f"{side}_images_per_second"] == pytest.approx(1 / figures[f"{side}_images_s"])
        assert figures[f"{side}_objects_per_second"] == pytest.approx(figures[f"{side}_images_per_second"])
        assert figures[f"{side}_gradients_per_second"] == pytest.approx(1 / figures[f"{side}_gradients_s"])
        assert 0 <= figures[f"{side}_recovered_share"] <= 1 and figures[f"{side}_recovered_per_second"] >= 0
        # four widths of one step, the start and the end, six draws for each gradient
        assert figures[f"{side}_adam_central_renders"] == 4 + 2 + 4 * 6
        for count in ("1_object", "8_objects"):
            assert figures[f"{side}_layers_renders_{count}"] == 7 and figures[f"{side}_layers_seconds_{count}"] > 0
        assert side in done.stdout
    # crude as it is, the reference shows which way to go
    assert figures["central_cosine_median"] > 0.7 and figures["reference_double_step_cosine_median"] > 0.9
    assert (figures["central_renders"], figures["forward_renders"], figures["spsa_4_renders"]) == (7, 4, 9)
    assert figures["layers_renders_1_object"] == figures["layers_renders_8_objects"] == 7
    if "mujoco" in sides:
        assert figures["mujoco_1_workers_images_per_second"] > 0 and figures["mujoco_1_workers_gradients_per_second"] > 0
        assert figures["images_renders_1_object"] == figures["images_renders_8_objects"] == 7
        assert figures["mujoco_layers_pictures_8_objects"] == 7
    assert all(not isinstance(value, float) or np.isfinite(value) for value in figures.values())
