"""Refinement of a results file's poses: windows, depth and light against closed forms; the script on a small data set."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import roma
import torch
from bop_samples import copy_of, generator
from script_runs import run_script

from assets import procedural_catalogue
from experiments import refine_pose
from inverse_graphics.bop import (
    Estimates,
    PoseJudge,
    find_models,
    open_split,
    read_models,
    read_results,
    read_truths,
    select,
    write_results,
)
from inverse_graphics.bop.depth_alignment import depth_losses, pixel_rays, point_to_plane
from inverse_graphics.bop.lighting import background_colour, fit_light
from inverse_graphics.bop.refinement import Observation, refine_image
from inverse_graphics.bop.windows import cut_windows, frame_windows
from inverse_graphics.types import Camera, Light, Objects, View
from renderers import RasterRenderer

SCENE = """\
classes: [box, mug]
image_size_px: [160, 120]
samples_per_axis: 4
objects: {min_count: 2, max_count: 2, x_range_m: [-0.2, 0.2], y_range_m: [-0.2, 0.2], min_visible_fraction: 0.6}
camera: {vertical_fov_deg: 26.0}
"""
FAST = ("--window-px", 48, "--steps", 8)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("refine")
    (folder / "scene.yaml").write_text(SCENE)
    script = generator()
    script.main(script.Arguments(config=folder / "scene.yaml", num_images=2, out=folder / "tiny", seed=5))
    return folder / "tiny"


@pytest.fixture(scope="module")
def start(dataset: Path) -> Path:
    """A tenth of the diameter and 20 degrees off; the first image's time is known."""
    truths, models = read_truths(open_split(dataset, "test")), read_models(find_models(dataset))
    rng = np.random.default_rng(3)
    T_mm = truths.T_camera_object_mm.copy()
    for row, obj_id in enumerate(truths.obj_id.tolist()):
        axis, away = (x / np.linalg.norm(x) for x in rng.normal(size=(2, 3)))
        T_mm[row, :3, :3] = roma.rotvec_to_rotmat(torch.from_numpy(math.radians(20) * axis)).numpy() @ T_mm[row, :3, :3]
        T_mm[row, :3, 3] += 0.1 * models[obj_id].diameter_mm * away
    time_s = np.where(truths.im_id == 0, 2.0, -1.0)
    score = np.linspace(0.3, 0.9, len(truths))
    path = dataset.parent / "start_tiny-test.csv"
    write_results(path, Estimates(truths.scene_id, truths.im_id, truths.obj_id, score, T_mm, time_s))
    return path


def errors(dataset: Path, estimates: Estimates) -> np.ndarray:
    """ADD(-S) in diameters."""
    truths, models = read_truths(open_split(dataset, "test")), read_models(find_models(dataset))
    found = []
    for row, obj_id in enumerate(estimates.obj_id.tolist()):
        judge = PoseJudge(models[obj_id])
        error_mm = judge.adi_mm if judge.is_symmetric else judge.add_mm
        one = slice(row, row + 1)
        found.append(error_mm(estimates.T_camera_object_mm[one], truths.T_camera_object_mm[one])[0] / models[obj_id].diameter_mm)
    return np.array(found)


def view_of(size_px: int, light: Light | None = None) -> View:
    """One camera whose frame is the world."""
    K = torch.tensor([[[1.5 * size_px, 0.0, size_px / 2], [0.0, 1.5 * size_px, size_px / 2], [0.0, 0.0, 1.0]]])
    light = light or Light(torch.tensor([[0.0, 0.0, -1.0]]), torch.tensor([0.5]), torch.tensor([0.5]))
    return View(Camera(K, torch.eye(4)[None], size_px, size_px), light, torch.full((1, size_px, size_px, 3), 0.2))


def posed(class_id: int, rotvec: tuple[float, float, float], t_m: tuple[float, float, float]) -> Objects:
    T = torch.eye(4)[None, None].clone()
    T[..., :3, :3], T[..., :3, 3] = roma.rotvec_to_rotmat(torch.tensor(rotvec)), torch.tensor(t_m)
    return Objects(torch.tensor([[class_id]]), T, torch.tensor([[True]]))


def test_windows_hold_pixels_means_of_them_and_points_where_the_camera_says() -> None:
    K = torch.tensor([[100.0, 0.0, 20.0], [0.0, 100.0, 16.0], [0.0, 0.0, 1.0]])
    rgb, depth_m = torch.rand(32, 40, 3), torch.full((32, 40), 2.0)
    cut = cut_windows(
        rgb, depth_m, K, torch.tensor([[3.0, 5.0], [4.0, 6.0], [-2.0, 0.0]]), torch.tensor([1.0, 2.0, 1.0]), torch.ones(3), 8
    )
    torch.testing.assert_close(cut.rgb[0], rgb[5:13, 3:11])
    torch.testing.assert_close(cut.rgb[1], rgb[6:22, 4:20].reshape(8, 2, 8, 2, 3).mean((1, 3)))
    assert cut.inside[2].all(0).tolist() == [False] * 2 + [True] * 6
    point = torch.tensor([0.1, -0.04, 1.0])
    uv = K @ point
    expected = (uv[:2] - torch.tensor([4.0, 6.0])) / 2
    torch.testing.assert_close((cut.K_px[1] @ point)[:2], expected)


def test_depth_of_windows_is_exact_on_planes_and_marked_at_borders() -> None:
    K = torch.tensor([[100.0, 0.0, 20.0], [0.0, 100.0, 16.0], [0.0, 0.0, 1.0]])
    v, u = torch.meshgrid(torch.arange(32) + 0.5, torch.arange(40) + 0.5, indexing="ij")

    def plane(u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return 1 / (0.5 + 0.3 * (u - 20) / 100 - 0.2 * (v - 16) / 100)

    depth_m = plane(u, v)
    depth_m[:, :12] = 0
    cut = cut_windows(torch.zeros(32, 40, 3), depth_m, K, torch.tensor([[6.3, 4.1]]), torch.tensor([1.5]), torch.ones(1), 12)
    middles = 1.5 * (torch.arange(12) + 0.5)
    expected = plane(6.3 + middles[None, :], 4.1 + middles[:, None])
    # columns whose four neighbours lie left of the known part, across its border, and in it
    first = np.floor(6.3 + middles.numpy() - 0.5)
    for column, left in enumerate(first):
        got = cut.depth_m[0, :, column]
        if left >= 12:
            torch.testing.assert_close(got, expected[:, column])
        else:
            assert set(got.tolist()) == ({-1.0} if left == 11 else {0.0})


def test_frames_hold_their_objects_and_never_enlarge() -> None:
    K = torch.tensor([[100.0, 0.0, 80.0], [0.0, 110.0, 60.0], [0.0, 0.0, 1.0]])
    middle_m, radius_m = torch.tensor([[0.1, 0.0, 1.0], [0.0, 0.1, 3.0]]), torch.tensor([0.3, 0.05])
    low_px, scale = frame_windows(K, middle_m, radius_m, 32)
    assert scale[0] > 1 and scale[1] == 1
    assert (low_px[1] == low_px[1].round()).all()
    torch.testing.assert_close(low_px[0] + 16 * scale[0], torch.tensor([90.0, 60.0]))
    assert 32 * scale[0] >= 2 * 110 * 0.3


def test_depth_losses() -> None:
    drawn = torch.tensor([[[1.0, 1.1, 0.0, 1.0, 0.0, 1.0]]])
    measured = torch.tensor([[[1.0, 1.0, 1.0, 0.0, 0.0, -1.0]]])
    losses = depth_losses(drawn, measured, torch.tensor([0.1]))
    torch.testing.assert_close(losses, torch.tensor([[[0.0, 0.5, 1.0, 0.5, 0.0, 0.0]]]))


def test_point_to_plane_is_the_slope_of_the_loss_of_a_wall_and_its_step_undoes_a_small_motion() -> None:
    view = view_of(48)
    rays = pixel_rays(view.camera.K_px, 48)
    wall, own = torch.full((1, 48, 48), 1.03), torch.ones(1, 48, 48, dtype=torch.bool)
    own[:, :1] = own[:, -1:] = own[:, :, :1] = own[:, :, -1:] = False
    width = torch.tensor([0.05])
    everywhere = torch.ones_like(own)
    gradient, _ = point_to_plane(wall, everywhere, torch.ones_like(wall), rays, torch.tensor([[0.0, 0.0, 1.03]]), width)
    loss = [depth_losses(wall + step, torch.ones_like(wall), width)[own].double().sum() for step in (1e-3, -1e-3)]
    assert gradient[0, 2] == pytest.approx(float(loss[0] - loss[1]) / 4e-3, rel=2e-3)
    assert gradient[0, :2].abs().max() < 1e-3 * gradient[0, 2]

    renderer = RasterRenderer(procedural_catalogue(("mug",)), 1)
    truth, off = posed(0, (2.0, 0.3, 0.2), (0.01, 0.02, 0.5)), posed(0, (2.02, 0.3, 0.2), (0.012, 0.019, 0.503))
    drawn, measured = renderer.render(off, view), renderer.render(truth, view)
    origin = off.T_world_object[:, 0, :3, 3]
    gradient, hessian = point_to_plane(drawn.depth_m, drawn.object_ids == 0, measured.depth_m, rays, origin, torch.tensor([0.02]))
    step = -torch.linalg.solve(hessian.double(), gradient.double())[0]
    torch.testing.assert_close(origin[0].double() + step[:3], truth.T_world_object[0, 0, :3, 3].double(), atol=6e-4, rtol=0)


def test_light_is_found_from_one_picture() -> None:
    renderer = RasterRenderer(procedural_catalogue(("mug", "box")), 1)
    direction = torch.nn.functional.normalize(torch.tensor([[0.5, -0.6, -0.6]]), dim=-1)
    view = view_of(48, Light(direction, torch.tensor([0.3]), torch.tensor([0.6])))
    objects = posed(0, (2.0, 0.3, 0.2), (0.0, 0.03, 0.4))
    rgb, inside = renderer.render(objects, view).rgb, torch.ones(1, 48, 48, dtype=torch.bool)
    found = fit_light(renderer, objects, view, rgb, inside)
    assert found is not None
    assert float(found.ambient) == pytest.approx(0.3, abs=0.03)
    assert float(found.diffuse) == pytest.approx(0.6, abs=0.03)
    assert float((found.direction_camera * direction[0]).sum()) > math.cos(math.radians(3))
    gone = dataclasses.replace(objects, present=torch.tensor([[False]]))
    assert fit_light(renderer, gone, view, rgb, inside) is None


def test_background_is_the_median_outside_the_windows() -> None:
    rgb = torch.full((20, 30, 3), 0.25)
    rgb[5:20, 5:30] = 0.9
    found = background_colour(rgb, torch.tensor([[5.0, 5.0]]), torch.tensor([25.0]))
    torch.testing.assert_close(found, torch.full((3,), 0.25))
    torch.testing.assert_close(background_colour(rgb, torch.zeros(1, 2), torch.tensor([30.0])), torch.full((3,), 0.9))


@pytest.mark.parametrize(("options", "limit"), [(("--use", "rgbd"), 0.02), (("--use", "depth"), 0.01), (("--use", "rgb"), 0.04)])
def test_the_script_improves_every_pose_and_keeps_the_rest(
    options: tuple[str, ...], limit: float, dataset: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "refined_tiny-test.csv"
    assert run_script(monkeypatch, "refine_pose", "--dataset", dataset, "--results", start, "--out", out, *FAST, *options) == 0
    before, after = read_results(start), read_results(out)
    for name in ("scene_id", "im_id", "obj_id", "score"):
        assert (getattr(before, name) == getattr(after, name)).all()
    start_errors, end_errors = errors(dataset, before), errors(dataset, after)
    assert (end_errors < start_errors).all()
    assert np.median(end_errors) < limit
    known = before.im_id == 0
    assert (after.time_s[known] > 2.0).all() and (after.time_s[~known] == -1).all()


def test_what_cannot_be_improved_stays_bit_for_bit_and_no_loss_grows(dataset: Path, start: Path) -> None:
    renderer = RasterRenderer(procedural_catalogue(("box",)), 2, tangents="full")
    view, truth = view_of(64), posed(0, (1.0, 0.5, 0.2), (0.0, 0.0, 0.7))
    output = renderer.render(truth, view)
    observation = Observation(output.rgb[0], output.depth_m[0], view.camera.K_px[0])
    T = truth.T_world_object[0].double().numpy().repeat(3, 0)
    T[1, :3, 3] = 0.0, 0.0, -0.7
    T[2, :3, 3] = 3.0, 0.0, 0.7
    found = refine_image(renderer, observation, np.zeros(3, np.int64), np.ones(3), T, "rgbd", 4, 32)
    assert (found.T_camera_object[1:] == T[1:]).all() and not found.is_moved[1:].any()
    assert np.isnan(found.losses[1:]).all()
    assert found.losses[0] <= found.start_losses[0]
    with pytest.raises(ValueError, match="use: expected 'rgb' for an image without depth"):
        refine_image(renderer, dataclasses.replace(observation, depth_m=None), np.zeros(3, np.int64), np.ones(3), T, "depth")


def test_differences_of_any_renderer_do_as_well(
    dataset: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "refined_tiny-test.csv"
    options = ("--gradient", "finite-difference", "--samples", 1, "--use", "depth", "--window-px", 32, "--steps", 4)
    assert run_script(monkeypatch, "refine_pose", "--dataset", dataset, "--results", start, "--out", out, *options) == 0
    assert np.median(errors(dataset, read_results(out))) < 0.3 * np.median(errors(dataset, read_results(start)))


FAULTS = {
    "unknown model": (lambda text: text.replace("0,0,2,", "0,0,9,"), (), "expected objects among 1, 2, received 9"),
    "unknown image": (lambda text: text.replace("0,1,", "0,7,"), (), "received 7; name its --split"),
    "unknown scene": (lambda text: text.replace("\n0,", "\n5,"), (), "received 5; name its --split"),
    "window": (lambda text: text, ("--window-px", 8), "steps, window_px: expected"),
    "workers": (lambda text: text, ("--workers", 0), "--workers, --out: expected at least 1"),
    "analytic": (
        lambda text: text,
        ("--renderer", "pybullet", "--gradient", "analytic"),
        "--gradient: expected finite-difference",
    ),
    "renderer": (lambda text: text, ("--renderer", "crayon"), "renderer: expected one of raster"),
    "rows": (lambda text: text.replace(",t,", ",q,"), (), "expected 'scene_id,im_id"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_told_and_leave_nothing_behind(
    fault: str,
    dataset: Path,
    start: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    change, options, message = FAULTS[fault]
    results, out = tmp_path / "start_tiny-test.csv", tmp_path / "refined_tiny-test.csv"
    results.write_text(change(start.read_text()))
    assert run_script(monkeypatch, "refine_pose", "--dataset", dataset, "--results", results, "--out", out, *options) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and message in told
    assert [path.name for path in tmp_path.iterdir()] == [results.name]


def test_a_data_set_without_depth_is_refused_unless_colours_do(
    dataset: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = copy_of(dataset, tmp_path)
    shutil.rmtree(other / "test" / "000000" / "depth")
    out = tmp_path / "refined_tiny-test.csv"
    command = ("--dataset", other, "--results", start, "--out", out, "--window-px", 16, "--steps", 1)
    assert run_script(monkeypatch, "refine_pose", *command) == 2
    assert "give --use rgb" in capsys.readouterr().err
    assert run_script(monkeypatch, "refine_pose", *command, "--use", "rgb") == 0
    assert len(read_results(out)) == len(read_results(start))


def test_worker_processes_give_the_same_poses(dataset: Path, start: Path) -> None:
    arguments = refine_pose.Arguments(dataset, start, start.with_name("unused.csv"), use="depth", steps=2, window_px=24)
    estimates, task = read_results(start), refine_pose.load_task(arguments)
    jobs = [(image, select(estimates, np.array(rows))) for image, rows in refine_pose.rows_of_images(estimates).items()]
    here, there = (list(refine_pose.outcomes(dataclasses.replace(arguments, workers=workers), task, jobs)) for workers in (1, 2))
    assert len(here) == len(there) == 2
    for one, other in zip(here, there, strict=True):
        assert (one.poses.T_camera_object == other.poses.T_camera_object).all()
        assert one.poses.is_moved.any()
