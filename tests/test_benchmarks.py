"""Benchmarks run, at a size that measures nothing, all sides draw the same, and every figure is written with its unit."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from benchmarks import growth, open3d_scene, pytorch3d_scene, tasks
from benchmarks.timing import TURN_S, Times, race
from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Catalogue
from renderers import GRADIENTS, DifferenceOptions, load_renderer

ROOT = Path(__file__).parent.parent

SCENE = """\
catalogue: tabletop
classes: [box]
image_size_px: [16, 16]
samples_per_axis: 1
objects: {max_count: 1}
camera: {vertical_fov_deg: 36.8}
"""


# not importorskip: Open3D brings a library along of whose version numba warns if it has not started its threads before
with_pytorch3d = pytest.mark.skipif(find_spec("pytorch3d") is None, reason="PyTorch3D is not installed")
with_open3d = pytest.mark.skipif(find_spec("open3d") is None, reason="Open3D is not installed")


def run(script: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    gradient = ("--gradient", GRADIENTS["raster"][0])
    command = [sys.executable, str(ROOT / "benchmarks" / script), *gradient, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def small_task(width_px: int = 48, height_px: int = 32, scenes: int = 2) -> tuple[Catalogue, Renderer, tasks.Task]:
    catalogue = tasks.build_catalogue(80)
    renderer = load_renderer("raster", catalogue, 1, differences=DifferenceOptions("full"))
    return catalogue, renderer, tasks.build_task(renderer, *tasks.sample_scenes(scenes, 3, width_px, height_px, seed=1))


@with_open3d
@with_pytorch3d
def test_renderers_side_by_side(tmp_path: Path) -> None:
    scene, figures_file = tmp_path / "scene.yaml", tmp_path / "renderers.json"
    scene.write_text(SCENE)
    small = "--scenes 2 --size 12 --objects 2 --triangles 20 --repeats 1 --gradient-repeats 1 --yaw-bins 2 --training-step "
    small += "--large-size 16 12 --large-triangles 80 --large-objects 2 --training-step-scenes-pytorch3d 1"
    done = run("renderers.py", *small.split(), "--scene", str(scene), "--json", str(figures_file), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads(figures_file.read_text())
    parts = {
        "forward": ("pytorch3d_hard", "open3d", "open3d_cast"),
        "forward_backward": ("pytorch3d_hard", "pytorch3d_soft"),
        "large_forward": ("open3d", "open3d_cast", "pytorch3d_hard_2_of_2_objects"),
    }
    for part, others in parts.items():
        for own in ("raster", "raster_2x2"):
            for other in others:
                seconds = [figures[f"{side}_{part}_s"] for side in (own, other)]
                assert 0 < figures[f"{other}_{part}_min_s"] <= seconds[1]
                assert figures[f"{own}_over_{other}_{part}"] == pytest.approx(seconds[1] / seconds[0])
        assert part in done.stdout
    assert figures["raster_object_images_per_second_with_gradient"] == pytest.approx(4 / figures["raster_forward_backward_s"])
    assert figures["air_step_renderer_2x2_ms"] == pytest.approx(figures["raster_2x2_air_step_renderer_s"] * 1e3)
    assert figures["air_step_renderer_ms"] == pytest.approx(figures["raster_air_step_renderer_s"] * 1e3)
    for part in ("training_step_sleep", "training_step_bound"):
        seconds = [figures[f"{side}_{part}_s_per_scene"] for side in ("raster", "pytorch3d")]
        assert figures[f"raster_over_pytorch3d_{part}"] == pytest.approx(seconds[1] / seconds[0])
    assert figures["pytorch3d_hard_same_object_share"] > 0.98 and figures["open3d_same_object_share"] > 0.98
    assert 1 < figures["object_size_mean_px"] < 144
    assert (figures["scenes"], figures["size_px"], figures["training_step_scene"]) == (2, 12, "scene.yaml")


def test_a_mesh_that_cannot_be_made_is_refused() -> None:
    with pytest.raises(ValueError, match="triangles: expected one of 20, 80, 320, .* received 100; take the nearest of them"):
        tasks.build_catalogue(100)


def test_meshes_are_closed_and_their_normals_point_outwards() -> None:
    for mesh in tasks.build_catalogue(320).meshes:
        corners = mesh.vertices_m[mesh.faces].astype(float)
        volume = (corners[:, 0] * torch.linalg.cross(*map(torch.as_tensor, (corners[:, 1], corners[:, 2]))).numpy()).sum() / 6
        size = corners.reshape(-1, 3).max(0) - corners.reshape(-1, 3).min(0)
        assert volume == pytest.approx(math.pi / 6 * size.prod(), rel=0.05)
        assert (mesh.corner_normals * (corners - corners.reshape(-1, 3).mean(0))).sum(-1).min() > 0


@with_open3d
@with_pytorch3d
@pytest.mark.parametrize("size", [(48, 32), (24, 40)])
def test_all_sides_draw_the_same(size: tuple[int, int]) -> None:
    catalogue, renderer, task = small_task(*size)
    with torch.no_grad():
        truth = renderer.render(task.objects, task.view)
        hard = pytorch3d_scene.draw(
            pytorch3d_scene.prepare(catalogue, task.objects, task.view, "hard"), task.objects.T_world_object
        )
        soft = pytorch3d_scene.draw(
            pytorch3d_scene.prepare(catalogue, task.objects, task.view, "soft"), task.objects.T_world_object
        )
    scenes = open3d_scene.prepare(catalogue, task.objects, task.view, threads=2)
    depth_m, ids = open3d_scene.cast(scenes, open3d_scene.build(scenes, task.objects.T_world_object))
    assert (truth.object_ids >= 0).float().mean() > 0.02
    for other_ids, other_depth_m in ((hard.object_ids, hard.depth_m), (ids, depth_m)):
        same = other_ids == truth.object_ids
        assert same.float().mean() > 0.995
        assert torch.allclose(other_depth_m[same], truth.depth_m[same], atol=1e-4)
    same = hard.object_ids == truth.object_ids
    assert torch.allclose(hard.rgb[same], truth.rgb[same], atol=1e-3)
    # blurred by about a pixel at borders, the same inside
    assert (soft.rgb - truth.rgb).abs().mean() < 0.05


@with_pytorch3d
def test_both_gradients_lead_towards_the_target() -> None:
    _, renderer, task = small_task(32, 32)
    soft = pytorch3d_scene.prepare(renderer.catalogue, task.objects, task.view, "soft")
    blurred = pytorch3d_scene.draw_gradient(soft, task.objects.T_world_object, task.target_rgb)
    moving = task.moving()
    (renderer.render(moving, task.view).rgb - task.target_rgb).square().sum().backward()
    assert moving.T_world_object.grad is not None
    for gradient in (blurred, moving.T_world_object.grad):
        # the target shows every object 1 cm farther along x
        assert (gradient[..., 0, 3] < 0).all()


@with_pytorch3d
def test_the_hard_gradient_knows_shading_only() -> None:
    catalogue, _, task = small_task(32, 32)
    T, target_rgb = task.objects.T_world_object, task.target_rgb
    gradient = pytorch3d_scene.draw_gradient(pytorch3d_scene.prepare(catalogue, task.objects, task.view, "hard"), T, target_rgb)
    assert torch.isfinite(gradient).all() and gradient.abs().sum() > 0
    light = replace(task.view.light, diffuse=torch.zeros_like(task.view.light.diffuse))
    unlit = pytorch3d_scene.prepare(catalogue, task.objects, replace(task.view, light=light), "hard")
    # one colour a mesh and no shading: only silhouettes would be left
    assert pytorch3d_scene.draw_gradient(unlit, T, target_rgb).abs().max() < 1e-3 * gradient.abs().max()


def test_scenes_that_cannot_be_joined_are_refused() -> None:
    catalogue, _, task = small_task()
    some = Catalogue((catalogue.meshes[0], tasks.build_catalogue(20).meshes[1]))
    with pytest.raises(ValueError, match="catalogue: expected meshes of one size, received"):
        pytorch3d_scene.check_alike(some, task.objects)
    task.objects.present[0, 0] = False
    with pytest.raises(ValueError, match="objects.present: expected all, received absent ones; fill every slot"):
        pytorch3d_scene.check_alike(catalogue, task.objects)


def test_sides_run_in_turn_and_fast_ones_more_often() -> None:
    calls: list[str] = []

    def fast() -> None:
        calls.append("fast")
        time.sleep(TURN_S / 4)

    def slow() -> None:
        calls.append("slow")
        time.sleep(TURN_S * 1.1)

    times = race({"fast": fast, "slow": slow}, repeats=2)
    assert calls[:2] == ["fast", "slow"], "a warm-up of each"
    assert [call for i, call in enumerate(calls[2:]) if i == 0 or call != calls[i + 1]] == ["fast", "slow", "fast", "slow"]
    assert times["slow"].runs == 2 and times["fast"].runs > 2
    assert TURN_S / 4 <= times["fast"].min_s <= times["fast"].median_s < times["slow"].min_s
    with pytest.raises(ValueError, match="repeats: expected at least 1, received 0"):
        race({"fast": fast}, repeats=0)


def test_growth_of_a_single_point(tmp_path: Path) -> None:
    one = "--sizes 12 --triangles 20 --scenes 1 --base-size 12 --base-triangles 20 --base-scenes 1 --repeats 1"
    done = run("growth.py", *one.split(), "--json", "growth.json", "--figure", "growth.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "growth.json").read_text())
    assert figures["size_px"] == [12] and figures["triangles"] == [20] and figures["scenes"] == [1]
    assert 0 < figures["scenes_sweep_forward_min_s"][0] <= figures["scenes_sweep_forward_s"][0]
    assert figures["scenes_sweep_process_memory_mib"][0] > max(50, figures["scenes_sweep_memory_mib"][0])
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


def test_growth_finds_the_slope(tmp_path: Path) -> None:
    settings = growth.Settings(sizes=(16, 32, 64, 128))
    measured = {
        name: {x: growth.Measured(1e-3 + 1e-6 * x**2, 1e-3, 2e-3 * x**2, 1e-3, x, 500.0, True, 80.0) for x in sweep}
        for name, sweep in growth.plan(settings).items()
    }
    figures = growth.figures_of(settings, measured)
    assert figures["size_px_sweep_forward_backward_s_slope"] == pytest.approx(2)
    assert figures["size_px_sweep_forward_s_slope"] < figures["size_px_sweep_forward_s_end_slope"] < 2  # type: ignore[operator]
    growth.plot(settings, measured, tmp_path / "growth.svg")
    assert "<svg" in (tmp_path / "growth.svg").read_text()


def test_times_a_scene() -> None:
    from benchmarks.renderers import per_scene

    assert per_scene({"raster": Times(6.0, 3.0, 2)}, {"raster": 3}) == {"raster": Times(2.0, 1.0, 2)}
