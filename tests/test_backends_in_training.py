"""The table-top experiment with every backend that draws by finite differences, and what becomes of it when one fails."""

from __future__ import annotations

import importlib.util
import json
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import own_function
import pytest
import torch
from painters import RayPainter
from renderer_scenes import ball, box, catalogue_of, table_scene
from test_scenes3d import check_report, check_results, results_of, same_weights, start

from inverse_graphics.checkpoints import STATE_FILE
from inverse_graphics.config import load_yaml
from inverse_graphics.protocols import Renderer
from inverse_graphics.runs import Journal
from inverse_graphics.scene_training import load_scene_state
from inverse_graphics.training import TrainState
from inverse_graphics.types import RenderOutput
from renderers import load_renderer
from renderers.painting.pictures import PictureRenderer
from renderers.painting.shots import Picture, Shot

SCENE = """\
classes: [box, wedge]
image_size_px: [32, 32]
samples_per_axis: 1
objects: {max_count: 2}
camera: {vertical_fov_deg: 36.8}
"""
SINGLE = SCENE.replace("box, wedge", "wedge").replace("max_count: 2", "max_count: 1")
CONFIG = """\
scene: scene.yaml
num_eval_scenes: 1
looks: 1
recount_sigma: null
training: {steps: 2, batch_size: 2, bound_from: 0.0}
"""
FUNCTION = f"{own_function.__file__}:draw"

PROGRAM = """\
import json, sys
from pathlib import Path
from types import SimpleNamespace
import numpy as np, trimesh
from own_function import draw

def mesh_of(file):
    mesh = trimesh.load_mesh(file, process=False)
    rgb = mesh.visual.vertex_colors[:, :3] / 255
    corner_rgb, corner_normals = rgb[mesh.faces], mesh.vertex_normals[mesh.faces]
    return SimpleNamespace(
        vertices_m=mesh.vertices, faces=mesh.faces, corner_rgb=corner_rgb, corner_normals=corner_normals, texture=None
    )

folder = Path(sys.argv[-1])
request = json.loads((folder / "request.json").read_text())
meshes = [mesh_of(mesh["file"]) for mesh in request["meshes"]]
for number, shot in enumerate(request["shots"]):
    arrays = {name: np.array(shot[name]) for name in ("K_px", "T_camera_world")}
    light = {name: None if value is None else np.array(value) for name, value in shot["light"].items()}
    camera = SimpleNamespace(**{**shot, **light, **arrays})
    poses = [np.array(thing["T_world_object"]) for thing in shot["objects"]]
    rgb, depth_m = draw([meshes[thing["mesh"]] for thing in shot["objects"]], poses, camera)
    np.save(folder / f"rgb_{number:04d}.npy", rgb)
    np.save(folder / f"depth_{number:04d}.npy", depth_m)
"""
MJCF = """\
<mujoco>
  <worldbody>
    <geom type="plane" size="2 2 0.1" rgba="0.3 0.25 0.2 1"/>
    <geom type="box" size="0.02 0.02 0.15" pos="0.1 0.1 0.15" rgba="0.8 0.8 0.8 1"/>
  </worldbody>
</mujoco>
"""
FAULTY = """\
from pathlib import Path
import time
import numpy as np
import own_function

def draw(meshes, poses, camera):
    rgb, depth_m = own_function.draw(meshes, poses, camera)
    fault = Path(__file__).with_name("fault")
    how = fault.read_text() if fault.exists() else ""
    if how == "raise":
        raise ArithmeticError("the lamp went out")
    if how == "hang":
        time.sleep(600)
    return {
        "nan": (rgb * np.nan, depth_m), "size": (rgb[:-1], depth_m), "dtype": ((rgb * 255).astype(np.int32), depth_m)
    }.get(how, (rgb, depth_m))
"""


def needs(package: str) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")


def write_config(folder: Path, scene: str = SCENE, config: str = CONFIG) -> Path:
    (folder / "scene.yaml").write_text(scene)
    (folder / "config.yaml").write_text(config)
    return folder / "config.yaml"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("open3d", ()),
        ("mujoco", ("--scheme", "spsa", "--pairs", 2)),
        ("mitsuba", ("--workers", 2)),
        ("pybullet", ()),
        ("callable", ("--function", FUNCTION)),
    ],
)
def test_every_backend_trains_by_its_flag(
    name: str, options: tuple[object, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name != "callable":
        needs(name)
    config, run = write_config(tmp_path), tmp_path / "run"
    assert start(monkeypatch, "--config", config, "--out", run, "--renderer", name, *options) == 0
    check_trained(run, name)
    if "--scheme" in options:
        assert load_yaml(run / "config.yaml")["differences"]["scheme"] == "spsa"


def check_trained(run: Path, name: str) -> None:
    """A whole run whose loss holds the bound, with its gradient to the poses."""
    results, history = results_of(run), json.loads((run / "history.json").read_text())
    check_results(results)
    check_report(run / "report.html")
    assert results["renderer"] == name
    assert "bound KL count" in history
    assert all(np.isfinite(history["loss"]))


def test_a_program_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, run = tmp_path / "program.py", tmp_path / "run"
    program.write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(Path(own_function.__file__).parent))
    config = write_config(tmp_path, SINGLE, CONFIG.replace("steps: 2", "steps: 1"))
    command = f"{sys.executable} {program}"
    assert start(monkeypatch, "--config", config, "--out", run, "--renderer", "callable", "--command", command) == 0
    check_trained(run, "callable")


def test_the_path_tracer_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("mitsuba")
    config = CONFIG.replace("steps: 2, batch_size: 2", "steps: 1, batch_size: 1")
    options = ("--config", write_config(tmp_path, SINGLE, config), "--out", tmp_path / "run", "--renderer", "mitsuba-path")
    assert start(monkeypatch, *options) == 0
    check_trained(tmp_path / "run", "mitsuba-path")


def test_surroundings_are_part_of_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("mujoco")
    (tmp_path / "arm.xml").write_text(MJCF)
    config, run = write_config(tmp_path, SINGLE), tmp_path / "run"
    options = ("--config", config, "--renderer", "mujoco", "--surroundings", tmp_path / "arm.xml")
    assert start(monkeypatch, *options, "--out", run) == 0
    check_trained(run, "mujoco")
    (tmp_path / "arm.xml").unlink()
    assert start(monkeypatch, *options, "--out", tmp_path / "other") == 2
    assert not (tmp_path / "other").exists()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three steps in one process."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with pytest.MonkeyPatch.context() as patch:
        assert start(patch, *fault_options(folder), "--out", folder / "run") == 0
    return folder / "run"


def fault_options(folder: Path) -> tuple[object, ...]:
    (folder / "mine.py").write_text(FAULTY)
    config = write_config(folder, SINGLE, CONFIG.replace("steps: 2, batch_size: 2", "steps: 3, batch_size: 1"))
    return "--config", config, "--renderer", "callable", "--function", f"{folder / 'mine.py'}:draw"


def after_one_step(patch: pytest.MonkeyPatch, do: Callable[[], object]) -> None:
    record = Journal.__call__

    def recorded(journal: Journal, state: TrainState[RecurrentGuide], scalars: dict[str, float]) -> None:
        record(journal, state, scalars)
        if state.step == 1:
            do()

    patch.setattr(Journal, "__call__", recorded)


def test_a_worker_that_is_killed_leaves_no_trace(undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed: list[int] = []

    def kill() -> None:
        for child in multiprocessing.active_children():
            if child.pid is not None:
                os.kill(child.pid, signal.SIGKILL)
                killed.append(child.pid)

    after_one_step(monkeypatch, kill)
    assert start(monkeypatch, *fault_options(tmp_path), "--workers", 2, "--out", tmp_path / "run") == 0
    assert len(killed) >= 2
    assert same_weights(undisturbed, tmp_path / "run")


FAULTS = {
    "nan": "rgb: expected finite colours, received NaN or infinity",
    "size": r"rgb: expected shape \(32, 32, 3\), rows first, received \(31, 32, 3\)",
    "dtype": "rgb: expected floats .*, received int32",
    "raise": r"the function raised ArithmeticError: the lamp went out \(line 11 of .*mine.py\)",
    "hang": "3 workers were lost over it, the last gave no answer within 3 s",
}


@pytest.mark.parametrize("how", FAULTS)
def test_a_function_that_fails_ends_the_run_and_a_mended_one_resumes_it(
    how: str, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, fault = tmp_path / "run", tmp_path / "fault"
    workers = ("--workers", 1, "--timeout-s", 3) if how == "hang" else ()
    with monkeypatch.context() as patch:
        after_one_step(patch, lambda: fault.write_text(how))
        status = start(patch, *fault_options(tmp_path), *workers, "--out", run)
    printed = capsys.readouterr().err
    errors = [line for line in printed.splitlines() if line.startswith("error: ")]
    assert status == 2
    assert "Traceback" not in printed
    assert printed.rstrip().endswith(errors[-1])
    assert len(errors) == 1
    assert re.search(FAULTS[how], errors[0]), errors[0]
    assert load_scene_state(run / STATE_FILE, torch.device("cpu")).step == 1
    assert not (run / "results.json").exists()
    fault.unlink()
    resumed = ("--workers", 0) if how == "hang" else ()
    assert start(monkeypatch, "--resume", "--out", run, *resumed) == 0
    assert same_weights(undisturbed, run)


class OneAtATime(RayPainter):
    """Fails where two threads draw with it at once."""

    inside = False

    def draw(self, shots: list[Shot]) -> list[Picture]:
        assert not self.inside
        self.inside = True
        time.sleep(0.02)
        pictures = super().draw(shots)
        self.inside = False
        return pictures


@pytest.mark.parametrize("name", ["rays", "open3d"])
def test_threads_may_share_a_renderer(name: str) -> None:
    """Scenes are made in a background thread while the bound is drawn, sometimes by one renderer that has drawn nothing yet."""
    catalogue = catalogue_of(box(), ball(subdivisions=1))
    objects, view = table_scene(2, 3, 24, classes=2)
    if name == "open3d":
        needs("open3d")
    make: Callable[[], Renderer] = {
        "rays": lambda: PictureRenderer(OneAtATime(catalogue), catalogue, 1),
        "open3d": lambda: load_renderer("open3d", catalogue, 1, "none"),
    }[name]
    expected, shared = make().render(objects, view), make()
    drawn: list[RenderOutput] = []
    threads = [threading.Thread(target=lambda: drawn.append(shared.render(objects, view))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(drawn) == 4
    assert all(torch.equal(image.rgb, expected.rgb) and torch.equal(image.depth_m, expected.depth_m) for image in drawn)
