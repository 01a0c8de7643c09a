"""Functions and programs as painters: what they may return, what is refused, and which mistakes are recognised."""

from __future__ import annotations

import dataclasses
import functools
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from painters import RayPainter
from ray_casting import cast
from renderer_scenes import ball, box, catalogue_of, mesh_of, table_scene

from assets.colours import srgb_to_linear
from assets.meshfiles import read_surfaces
from inverse_graphics.colours import linear_to_srgb
from inverse_graphics.types import Mesh, Texture
from renderers.callable.command import CommandPainter
from renderers.callable.function import FunctionPainter, load_function
from renderers.callable.mesh_export import write_glb
from renderers.painting.packing import scene_arrays
from renderers.painting.pictures import PainterError, PictureRenderer
from renderers.painting.shots import Picture, Shot
from renderers.painting.workers import WorkerPool


def wedge() -> Mesh:
    """A tetrahedron without symmetries."""
    vertices = np.array([[0, 0, 0], [0.12, 0, 0.01], [0.02, 0.03, 0.14], [0.0, 0.06, 0.0]])
    hull = trimesh.convex.convex_hull(vertices)
    return mesh_of("wedge", hull.vertices, hull.faces, (0.8, 0.5, 0.3))


CATALOGUE = catalogue_of(wedge(), box())


def shots_of(size_px: int = 48, scenes: int = 2) -> list[Shot]:
    objects, view = table_scene(scenes, 2, size_px, classes=2, seed=2)
    objects.class_ids[:] = torch.tensor([0, 1])
    arrays = scene_arrays(objects, view, 1)
    return [arrays.shot_of_slots(scene, [0, 1]) for scene in range(scenes)]


SHOTS = shots_of()


def reference() -> list[Picture]:
    return RayPainter(CATALOGUE).draw(SHOTS)


def draw(meshes: list[Mesh], poses: np.ndarray, camera: Shot) -> tuple[np.ndarray, np.ndarray]:
    """What users write: colours and z-depth, infinite where there is nothing."""
    shot = dataclasses.replace(camera, class_ids=np.arange(len(meshes)), T_world_object=poses)
    picture = RayPainter(catalogue_of(*meshes)).picture(shot)
    return picture.rgb.astype(np.float64), np.where(picture.depth_m > 0, picture.depth_m, np.inf)


def draw_colours(meshes: list[Mesh], poses: np.ndarray, camera: Shot) -> np.ndarray:
    """The same without depth, as sRGB bytes over a grey background."""
    rgb, depth_m = draw(meshes, poses, camera)
    return np.round(linear_to_srgb(np.where(np.isinf(depth_m)[..., None], 0.05, rgb)) * 255).astype(np.uint8)


def test_a_function_with_depth() -> None:
    for picture, expected in zip(FunctionPainter(draw, CATALOGUE).draw(SHOTS), reference(), strict=True):
        assert np.array_equal(picture.rgb, expected.rgb)
        assert np.array_equal(picture.depth_m, expected.depth_m)


def test_a_function_of_bytes_without_depth() -> None:
    for picture, expected in zip(FunctionPainter(draw_colours, CATALOGUE).draw(SHOTS), reference(), strict=True):
        both = (picture.depth_m > 0) & (expected.depth_m > 0)
        assert both.sum() > 0.97 * ((picture.depth_m > 0) | (expected.depth_m > 0)).sum()
        np.testing.assert_allclose(picture.depth_m[both], expected.depth_m[both], atol=1e-4)
        np.testing.assert_allclose(picture.rgb[both], expected.rgb[both], atol=0.006)


def test_each_class_is_checked_once() -> None:
    drawn: list[int] = []

    def counted(meshes: list[Mesh], poses: np.ndarray, camera: Shot) -> tuple[np.ndarray, np.ndarray]:
        drawn.append(len(meshes))
        return draw(meshes, poses, camera)

    painter = FunctionPainter(counted, CATALOGUE)
    painter.draw(SHOTS)
    painter.draw(SHOTS)
    assert drawn == [1, 1, 2, 2, 2, 2]


def test_objects_of_a_few_samples_are_checked_later() -> None:
    drawn: list[int] = []

    def counted(meshes: list[Mesh], poses: np.ndarray, camera: Shot) -> tuple[np.ndarray, np.ndarray]:
        drawn.append(len(meshes))
        return draw(meshes, poses, camera)

    painter = FunctionPainter(counted, CATALOGUE)
    painter.draw(shots_of(6))
    assert drawn == [2, 2]
    painter.draw(SHOTS[:1])
    assert drawn == [2, 2, 1, 1, 2]


FLIP = np.diag([1.0, -1.0, -1.0, 1.0])
Poses = np.ndarray


def moved(change: Callable[[Poses, Shot], tuple[Poses, Shot]]) -> Callable[..., Any]:
    """The function with other poses or another camera."""

    def wrong(meshes: list[Mesh], poses: np.ndarray, camera: Shot) -> tuple[np.ndarray, np.ndarray]:
        return draw(meshes, *change(poses, camera))

    return wrong


def with_camera(camera: Shot, T_camera_world: np.ndarray) -> Shot:
    return dataclasses.replace(camera, T_camera_world=T_camera_world)


def scaled(factor: float) -> Callable[..., Any]:
    def wrong(meshes: list[Mesh], poses: np.ndarray, camera: Shot) -> tuple[np.ndarray, np.ndarray]:
        larger = [dataclasses.replace(m, vertices_m=(m.vertices_m * factor).astype(np.float32)) for m in meshes]
        return draw(larger, poses, camera)

    return wrong


def imaged(change: Callable[[np.ndarray], np.ndarray]) -> Callable[..., Any]:
    def wrong(meshes: list[Mesh], poses: np.ndarray, camera: Shot) -> tuple[np.ndarray, ...]:
        return tuple(np.ascontiguousarray(change(image)) for image in draw(meshes, poses, camera))

    return wrong


def turned_rotation(poses: np.ndarray, camera: Shot) -> tuple[np.ndarray, Shot]:
    poses = poses.copy()
    poses[:, :3, :3] = np.swapaxes(poses[:, :3, :3], -1, -2)
    return poses, camera


MISTAKES: list[tuple[str, Callable[..., Any]]] = [
    ("OpenGL", moved(lambda poses, camera: (poses, with_camera(camera, FLIP @ camera.T_camera_world)))),
    (
        "camera's pose is inverted",
        moved(lambda poses, camera: (poses, with_camera(camera, np.linalg.inv(camera.T_camera_world)))),
    ),
    ("object-to-camera", moved(lambda poses, camera: (poses, with_camera(camera, np.eye(4))))),
    ("camera is applied twice", moved(lambda poses, camera: (camera.T_camera_world @ poses, camera))),
    ("pose is inverted", moved(lambda poses, camera: (np.linalg.inv(poses), camera))),
    ("rotation is transposed", moved(turned_rotation)),
    ("upside down", imaged(lambda image: image[::-1])),
    ("mirrored", imaged(lambda image: image[:, ::-1])),
    ("180 degrees", imaged(lambda image: image[::-1, ::-1])),
    ("rows and columns are exchanged", imaged(lambda image: image.swapaxes(0, 1))),
    ("taken for millimetres", scaled(0.001)),
    ("scaled to millimetres", scaled(1000.0)),
]


@pytest.mark.parametrize(("explanation", "function"), MISTAKES, ids=[text for text, _ in MISTAKES])
def test_mistakes_with_frames_are_named(explanation: str, function: Callable[..., Any]) -> None:
    with pytest.raises(PainterError, match=explanation) as error:
        FunctionPainter(function, CATALOGUE).draw(tilted_shots())
    assert "class 'wedge'" in str(error.value)
    assert "expected the object where the rasteriser draws it, received" in str(error.value)


def tilted_shots() -> list[Shot]:
    """A wedge in a corner of the picture, so that every mistake shows."""
    shot = SHOTS[0]
    c, s = np.cos(2.4), np.sin(2.4)
    T = np.array([[c, -s, 0, 0.09], [s, c, 0, 0.05], [0, 0, 1, 0.02], [0, 0, 0, 1]])
    return [dataclasses.replace(shot, class_ids=np.array([0]), T_world_object=T[None])]


@pytest.mark.parametrize(
    ("change", "explanation"),
    [
        (lambda depth_m, lengths: depth_m * 1000, "divide it by 1000"),
        (lambda depth_m, lengths: depth_m * lengths, "multiply it by the z of the ray"),
        (lambda depth_m, lengths: np.where(np.isinf(depth_m), 0, 1 - 0.01 / depth_m), "depth buffer's own values"),
        (lambda depth_m, lengths: 1 - 0.01 / depth_m, "every sample counts as covered"),
    ],
)
def test_wrong_depths_are_named(change: Callable[..., np.ndarray], explanation: str) -> None:
    def wrong(meshes: list[Mesh], poses: np.ndarray, camera: Shot) -> tuple[np.ndarray, np.ndarray]:
        rgb, depth_m = draw(meshes, poses, camera)
        v, u = np.indices(depth_m.shape) + 0.5
        rays = np.linalg.inv(camera.K_px) @ np.stack([u, v, np.ones_like(u)]).reshape(3, -1)
        return rgb, change(depth_m, np.linalg.norm(rays, axis=0).reshape(depth_m.shape))

    (shot,) = tilted_shots()
    K_px, T = shot.K_px.copy(), shot.T_world_object.copy()
    K_px[0, 2], T[0, 0, 3] = -36, 0.55
    with pytest.raises(PainterError, match=explanation):
        FunctionPainter(wrong, CATALOGUE).draw([dataclasses.replace(shot, K_px=K_px, T_world_object=T)])


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (lambda rgb, depth_m: rgb * 255, "divide by 255"),
        (lambda rgb, depth_m: (rgb[:-1], depth_m), "rows first"),
        (lambda rgb, depth_m: (rgb, depth_m[None]), "depth_m: expected shape"),
        (lambda rgb, depth_m: (rgb * np.nan, depth_m), "finite colours"),
        (lambda rgb, depth_m: (rgb, -depth_m), "turn the sign round"),
        (lambda rgb, depth_m: (rgb, depth_m, 3), "tuple of 3"),
        (lambda rgb, depth_m: None, "received"),
        (lambda rgb, depth_m: (rgb * 99).astype(np.int64), "expected floats"),
    ],
)
def test_answers_that_cannot_be_used_are_refused(answer: Callable[..., Any], message: str) -> None:
    def wrong(meshes: list[Mesh], poses: np.ndarray, camera: Shot) -> Any:
        rgb, depth_m = draw(meshes, poses, camera)
        return answer(rgb, np.where(np.isinf(depth_m), 0, depth_m))

    with pytest.raises(PainterError, match=message):
        FunctionPainter(wrong, CATALOGUE).draw(SHOTS)


def test_functions_are_found_by_name(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from test_callable import draw\nlimit = 3\n")
    function = load_function(f"{file}:draw")
    assert function is sys.modules["test_callable"].draw
    assert load_function("math:hypot")(3, 4) == 5
    for where, message in [
        (f"{file}:limit", "'limit'.*it has draw"),
        (f"{tmp_path / 'other.py'}:draw", "does not exist"),
        ("nonesuch.module:draw", "install it"),
        ("draw", "path/to/file.py:name"),
    ]:
        with pytest.raises(ValueError, match=message):
            FunctionPainter(where, CATALOGUE)


def test_a_function_in_workers(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("from painters import RayPainter\nfrom test_callable import draw\n")
    with WorkerPool(functools.partial(FunctionPainter, f"{file}:draw", CATALOGUE), 1) as pool:
        for picture, expected in zip(pool.draw(SHOTS), reference(), strict=True):
            assert np.array_equal(picture.rgb, expected.rgb)


PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
folder = Path(sys.argv[-1])
request = json.loads((folder / "request.json").read_text())
for i, shot in enumerate(request["shots"]):
    size = shot["height_px"], shot["width_px"]
"""


def program(tmp_path: Path, body: str, start: str = PROGRAM) -> list[str]:
    file = tmp_path / "program.py"
    file.write_text(start + textwrap.indent(textwrap.dedent(body), "    " if start else ""))
    return [sys.executable, str(file)]


WRITES = f"""
sys.path.insert(0, {str(Path(__file__).parent)!r})
import trimesh
from types import SimpleNamespace
from ray_casting import cast
meshes = []
for entry in shot["objects"]:
    mesh = trimesh.load_mesh(request["meshes"][entry["mesh"]]["file"], process=False)
    rgb = mesh.visual.vertex_colors[mesh.faces][..., :3] / 255
    normals = mesh.vertex_normals[mesh.faces]
    meshes.append(SimpleNamespace(vertices_m=mesh.vertices, faces=mesh.faces, corner_rgb=rgb, corner_normals=normals))
v, u = np.indices(size) + 0.5
rays = np.linalg.inv(shot["K_px"]) @ np.stack([u, v, np.ones_like(u)]).reshape(3, -1)
T = np.array([entry["T_world_object"] for entry in shot["objects"]]).reshape(-1, 4, 4)
albedo, normal, depth_m = cast(meshes, np.array(shot["T_camera_world"]) @ T, rays, shot["near_m"])
light = shot["light"]
to_light = np.array(shot["T_camera_world"])[:3, :3] @ light["direction_world"]
rgb = (albedo * (light["ambient"] + light["diffuse"] * (normal @ to_light).clip(0))[:, None]).reshape(*size, 3)
depth_m = depth_m.reshape(size)
"""


@pytest.mark.parametrize("output", ["npy", "png"])
def test_a_program(tmp_path: Path, output: str) -> None:
    ending = {
        "npy": """
np.save(folder / f"rgb_{i:04d}.npy", rgb)
np.save(folder / f"depth_{i:04d}.npy", depth_m)
""",
        "png": """
from PIL import Image
srgb = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb.clip(1e-3) ** (1 / 2.4) - 0.055)
Image.fromarray(np.round(srgb * 255).astype(np.uint8)).save(folder / f"rgb_{i:04d}.png")
""",
    }[output]
    painter = CommandPainter(program(tmp_path, WRITES + ending), CATALOGUE)
    for picture, expected in zip(painter.draw(SHOTS), reference(), strict=True):
        both = (picture.depth_m > 0) & (expected.depth_m > 0)
        assert both.sum() > 0.97 * ((picture.depth_m > 0) | (expected.depth_m > 0)).sum()
        np.testing.assert_allclose(picture.depth_m[both], expected.depth_m[both], atol=1e-4)
        np.testing.assert_allclose(picture.rgb[both], expected.rgb[both], atol=0.008)
    folder = painter._folder
    assert folder.is_dir()
    del painter
    assert not folder.exists()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("sys.exit('out of film')", r"(?s)exit code 0, received 1 from .*out of film"),
        ("import os; os.abort()", "received -6"),
        ("pass", "rgb_0000.npy or rgb_0000.png, received no files.*wrote nothing to stderr"),
        ("np.save(folder / 'rgb_0.npy', np.zeros((*size, 3)))", "received rgb_0.npy"),
        ("np.save(folder / f'rgb_{i:04d}.npy', np.zeros(size))", r"expected shape \(48, 48, 3\)"),
        ("np.save(folder / f'rgb_{i:04d}.npy', np.full((*size, 3), 200.0))", "divide by 255"),
        ("np.save(folder / f'rgb_{i:04d}.npy', np.array([{}]), allow_pickle=True)", "readable rgb_0000.npy"),
        ("(folder / f'rgb_{i:04d}.npy').write_bytes(b'')", "readable rgb_0000.npy"),
        ("(folder / f'rgb_{i:04d}.png').write_bytes(b'no picture')", "readable rgb_0000.png"),
        ("np.save(folder / f'rgb_{i:04d}.npy', np.zeros((*size, 3)))", "nothing was drawn at all"),
    ],
)
def test_programs_that_fail_are_refused(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(PainterError, match=message):
        CommandPainter(program(tmp_path, body), CATALOGUE).draw(SHOTS)


def test_a_program_that_hangs_is_killed_with_its_children(tmp_path: Path) -> None:
    body = f"""
    import subprocess, time
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    open({str(tmp_path / "child")!r}, "w").write(str(child.pid))
    print("waiting for the sun", file=sys.stderr, flush=True)
    time.sleep(600)
    """
    with pytest.raises(PainterError, match=r"(?s)within 1.5 s.*raise timeout_s.*waiting for the sun"):
        CommandPainter(program(tmp_path, body), CATALOGUE, timeout_s=1.5).draw(SHOTS)
    stat = Path(f"/proc/{(tmp_path / 'child').read_text()}/stat")
    deadline = time.monotonic() + 5
    while stat.exists() and stat.read_text().split()[2] != "Z" and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not stat.exists() or stat.read_text().split()[2] == "Z"


def test_a_command_that_cannot_be_run_is_named() -> None:
    with pytest.raises(PainterError, match=r"'nonesuch-renderer'.*check its name"):
        CommandPainter("nonesuch-renderer --fast", CATALOGUE).draw(SHOTS)
    with pytest.raises(ValueError, match="command: expected"):
        CommandPainter([], CATALOGUE)
    with pytest.raises(ValueError, match="timeout_s: expected"):
        CommandPainter("true", CATALOGUE, timeout_s=0.0)


def test_meshes_are_written_as_they_are(tmp_path: Path) -> None:
    texture = np.random.default_rng(0).uniform(size=(4, 6, 3)).astype(np.float32)
    plain = ball(subdivisions=1)
    uv = (plain.vertices_m[:, :2] * 10 + 0.5)[plain.faces].astype(np.float32)
    for mesh in (plain, dataclasses.replace(plain, texture=Texture(uv, texture))):
        write_glb(mesh, tmp_path / "mesh.glb")
        (surface,) = read_surfaces(tmp_path / "mesh.glb")
        np.testing.assert_allclose(surface.vertices[surface.faces], mesh.vertices_m[mesh.faces], atol=1e-7)
        if mesh.texture is None:
            np.testing.assert_allclose(surface.corner_rgb, mesh.corner_rgb, atol=0.5 / 255 + 1e-6)
        else:
            assert surface.texture is not None
            np.testing.assert_allclose(surface.corner_uv, uv, atol=1e-6)
            np.testing.assert_allclose(surface.texture, texture, atol=0.006)
    assert srgb_to_linear(np.array([1.0])) == 1
    assert PictureRenderer(FunctionPainter(draw, CATALOGUE), CATALOGUE).name == "function"
    assert cast([], np.zeros((0, 4, 4)), np.zeros((3, 1)), 0.0)[2] == np.inf


def test_what_a_function_raises_is_told_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def draw(meshes, poses, camera):\n    raise KeyError('no\\nlamp')\n")
    message = rf"picture 0 of 2: .* an image of wedge.* \(48 x 48 px\), the function raised KeyError: .* \(line 2 of {file}\)"
    with pytest.raises(PainterError, match=message) as error:
        FunctionPainter(f"{file}:draw", CATALOGUE).draw(SHOTS)
    assert isinstance(error.value.__cause__, KeyError)
    with WorkerPool(functools.partial(FunctionPainter, f"{file}:draw", CATALOGUE), 1) as pool:
        with pytest.raises(PainterError, match=message) as told:
            pool.draw(SHOTS)
    assert len(str(error.value).splitlines()) == len(str(told.value).splitlines()) == 1
    file.write_text("import nonesuch\n")
    with pytest.raises(ValueError, match=r"mine.py raised ModuleNotFoundError: No module named 'nonesuch' \(line 1 of"):
        load_function(f"{file}:draw")
