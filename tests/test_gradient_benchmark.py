"""The gradient benchmark: its scenes, its reference and its judgement against what is known, and a run that measures nothing."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from renderer_scenes import ball, box, camera_view, catalogue_of, posed

from assets import procedural_catalogue
from benchmarks.perturbed import box_middles, disturb, float_scenes, meetings, sizes
from benchmarks.recovery import CLASSES, RecoverySettings, distant_trial, disturbed_trial, pose_errors
from inverse_graphics.poses import project_points, rotation_angle_rad, transform_points
from inverse_graphics.types import Scene, map_tensors
from renderers import RasterRenderer

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "benchmarks" / "gradients.py"
GRADIENTS = ("analytic", "analytic_samples_1", "analytic_samples_4", "central_difference", "pytorch3d_soft")
RUNS = ("analytic_gauss_newton", "analytic_adam", "central_difference_adam", "pytorch3d_soft_adam")
SMALL = """
    --scenes 2 --size 16 --most-objects 2 --reference-samples 8 --pytorch3d-scenes 1
    --recovery.starts 2 --recovery.size 16 --recovery.samples 2 --recovery.target-samples 2 --recovery.blur-px 1 0
    --recovery.gauss-newton-steps 2 --recovery.adam-steps 2 --recovery.pytorch3d-starts 1
    --recovery.reach-starts 2 --recovery.reach-shifts 0.1 1.0 --recovery.reach-adam
    --recovery.reach-blur-px 2 0
"""


def test_disturbed_objects_stand_as_far_off_as_asked() -> None:
    catalogue = procedural_catalogue(CLASSES)
    scene = float_scenes(catalogue, 20, (1, 3), 16, torch.Generator().manual_seed(0))
    assert set(scene.objects.count.tolist()) == {1, 2, 3}
    moved = disturb(scene.objects, catalogue, 0.1, 20, torch.Generator().manual_seed(1))
    before, after = scene.objects.T_world_object, moved.T_world_object
    assert torch.allclose(rotation_angle_rad(before[..., :3, :3], after[..., :3, :3]), torch.tensor(math.radians(20)), atol=1e-5)
    middles = box_middles(catalogue)[scene.objects.class_ids][..., None, :]
    shift_m = (transform_points(after, middles) - transform_points(before, middles))[..., 0, :].norm(dim=-1)
    assert torch.allclose(shift_m, 0.1 * sizes(catalogue)[scene.objects.class_ids], rtol=1e-4)


def test_floating_objects_are_in_sight() -> None:
    catalogue = procedural_catalogue(CLASSES)
    scene = float_scenes(catalogue, 20, (2, 3), 32, torch.Generator().manual_seed(0))
    middles = transform_points(scene.objects.T_world_object, box_middles(catalogue)[scene.objects.class_ids][..., None, :])
    uv_px, depth_m = project_points(scene.view.camera, middles[..., 0, :])
    assert ((uv_px > 0) & (uv_px < 32)).all() and (depth_m > 0.3).all()
    assert torch.allclose(scene.view.light.ambient + scene.view.light.diffuse, torch.ones(20))


@pytest.mark.parametrize(
    ("second_m", "hidden", "crossed"),
    [([0.15, 0.0, 0.5], False, False), ([0.03, 0.0, 0.7], True, False), ([0.05, 0.01, 0.47], True, True)],
    ids=["apart", "behind", "inside"],
)
def test_objects_that_hide_or_enter_each_other_are_told(second_m: list[float], hidden: bool, crossed: bool) -> None:
    catalogue = catalogue_of(box((0.1, 0.1, 0.1)), ball())
    one = posed([0, 1], [[0.0, 0.0, 0.5], second_m])
    objects = map_tensors(lambda x: x[None], one)
    scene = Scene(objects, camera_view(32, 32, 40.0, (1,)))
    assert [mask.tolist() for mask in meetings(RasterRenderer(catalogue), scene)] == [[hidden], [crossed]]


def test_trials_start_where_the_settings_say() -> None:
    settings = RecoverySettings(starts=4, size=32, reach_starts=5, samples=1, target_samples=1)
    catalogue = procedural_catalogue(CLASSES)
    near = disturbed_trial(settings, catalogue)
    _, angle_deg = pose_errors(near.start, near.truth.objects, catalogue)
    assert angle_deg == pytest.approx(20, abs=1e-2)
    assert not (near.judged & ~near.truth.objects.present).any()
    far = distant_trial(settings, catalogue, 1.5)
    middles = box_middles(catalogue)[far.start.class_ids][..., None, :]
    ends = [transform_points(objects.T_world_object, middles)[:, 0] for objects in (far.start, far.truth.objects)]
    apart_m = (ends[0] - ends[1])[:, 0].norm(dim=-1)
    assert torch.allclose(apart_m, 1.5 * sizes(catalogue)[far.start.class_ids[:, 0]], rtol=1e-4)
    # across the line of sight: at the same depth
    depths = [project_points(far.truth.view.camera, end)[1] for end in ends]
    assert torch.allclose(depths[0], depths[1], atol=1e-5)


def test_the_benchmark_runs_and_writes_every_figure(tmp_path: Path) -> None:
    pytest.importorskip("pytorch3d")
    figures_file, chart = tmp_path / "gradients.json", tmp_path / "reach.png"
    command = [sys.executable, str(SCRIPT), *SMALL.split(), "--json", str(figures_file), "--figure", str(chart)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads(figures_file.read_text())
    for name in GRADIENTS:
        assert -1 <= figures[f"{name}_cosine_p05"] <= figures[f"{name}_cosine_median"] <= 1
        assert figures[f"{name}_length_error_median"] >= 0
        assert f"{name}_given_residual_cosine_median" in figures and name in done.stdout
    assert figures["scenes_without_gradient"] == 0
    assert sum(figures[f"scenes_{group}"] for group in ("intersecting", "occluded", "apart")) == figures["scenes"] == 2
    # crude as they are, these images show which way to go
    assert figures["reference_double_step_cosine_median"] > 0.9
    assert figures["analytic_samples_4_cosine_median"] > 0.8
    for name in RUNS:
        assert 0 <= figures[f"recovery_{name}_share"] <= 1
        assert figures[f"recovery_{name}_renders_mean"] > 0 and figures[f"recovery_{name}_seconds_per_object"] > 0
    # two widths of two steps, the start and the end, and twelve draws for each of the four gradients
    assert figures["recovery_central_difference_adam_renders_mean"] == 6 + 12 * 4
    assert figures["recovery_analytic_adam_renders_mean"] == 6 + 4
    for kind in ("wide", "blur", "sharp"):
        assert 0 <= figures[f"reach_gauss_newton_{kind}_0.1_share"] <= 1 and f"reach_adam_{kind}_1_share" in figures
    assert figures["reach_overlap_0.1_share"] == 1
    assert chart.read_bytes().startswith(b"\x89PNG")
