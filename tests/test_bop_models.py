"""Our meshes as BOP models and back: the shift to the box's middle, units, symmetries, colours, diameters."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from bop_samples import change_json
from renderer_scenes import ball, box
from scipy.spatial.distance import pdist
from scipy.spatial.transform import Rotation

from assets import procedural_mesh
from assets.bop_models import load_bop_models
from assets.symmetries import cube, half_turn_z
from inverse_graphics.bop import (
    BopError,
    T_camera_model_mm,
    T_camera_object_m,
    box_centre_m,
    find_models,
    read_models,
    write_models,
)
from inverse_graphics.bop.check.models import check_models
from inverse_graphics.bop.findings import Finding, Findings
from inverse_graphics.bop.modelfiles import diameter, info_entry
from inverse_graphics.symmetry import symmetry_transforms
from inverse_graphics.types import Mesh, Symmetry, Texture


def standing_cube(side_m: float = 0.08) -> Mesh:
    mesh = box((side_m, side_m, side_m))
    return dataclasses.replace(mesh, vertices_m=mesh.vertices_m + np.array([0, 0, side_m / 2], np.float32), symmetry=cube(side_m))


def findings_of(folder: Path) -> list[Finding]:
    found = Findings()
    check_models(folder, found)
    return found.list


def test_models_come_back_in_millimetres_about_their_middle(tmp_path: Path) -> None:
    meshes = {1: procedural_mesh("mug"), 4: procedural_mesh("can")}
    write_models(tmp_path / "models_eval", meshes, coloured=False)
    models = read_models(find_models(tmp_path))
    assert list(models) == [1, 4]
    for obj_id, mesh in meshes.items():
        points_mm = models[obj_id].points_mm
        np.testing.assert_allclose(points_mm.min(0), -points_mm.max(0), atol=1e-4)
        corners = (mesh.vertices_m[mesh.faces] - box_centre_m(mesh)) * 1000
        np.testing.assert_allclose(points_mm[models[obj_id].faces], corners, atol=1e-3)
        assert models[obj_id].diameter_mm == pytest.approx(pdist(points_mm).max(), rel=1e-9)
        np.testing.assert_allclose(np.linalg.norm(models[obj_id].normals, axis=-1), 1, atol=1e-5)
        assert len(points_mm) == len(np.unique(points_mm, axis=0))
    assert findings_of(tmp_path / "models_eval") == []


def test_poses_cross_to_the_middle_and_back() -> None:
    """A vertex lies at the same place in the camera's frame, whichever model it is of."""
    mesh = procedural_mesh("mug")
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = Rotation.from_rotvec([0.3, -1.2, 0.5]).as_matrix(), [0.1, -0.2, 0.9]
    centre_m = box_centre_m(mesh)
    T_mm = T_camera_model_mm(T, centre_m)
    model_mm = (mesh.vertices_m.astype(np.float64) - centre_m) * 1000
    expected_mm = 1000 * (mesh.vertices_m.astype(np.float64) @ T[:3, :3].T + T[:3, 3])
    np.testing.assert_allclose(model_mm @ T_mm[:3, :3].T + T_mm[:3, 3], expected_mm, atol=1e-9)
    np.testing.assert_allclose(T_camera_object_m(T_mm, centre_m), T, atol=1e-12)


@pytest.mark.parametrize(
    "mesh", [standing_cube(), procedural_mesh("can"), procedural_mesh("sponge")], ids=["cube", "can", "sponge"]
)
def test_symmetries_move_with_the_origin(tmp_path: Path, mesh: Mesh) -> None:
    """Model symmetries are the mesh's seen from the box's middle, and map the model's box onto itself."""
    write_models(tmp_path, {3: mesh})
    model = read_models(tmp_path)[3]
    shift = np.eye(4)
    shift[:3, 3] = box_centre_m(mesh)
    expected = np.linalg.inv(shift) @ symmetry_transforms(mesh.symmetry) @ shift
    expected[:, :3, 3] *= 1000
    np.testing.assert_allclose(model.symmetries, expected, atol=1e-6)
    assert len(model.symmetries) > 1
    np.testing.assert_allclose(model.symmetries[0], np.eye(4), atol=1e-12)
    if len(mesh.symmetry.discrete):
        moved = model.points_mm @ model.symmetries[1, :3, :3].T + model.symmetries[1, :3, 3]
        np.testing.assert_allclose(moved.max(0), model.points_mm.max(0), atol=1e-3)


def test_continuous_axes_are_sampled_as_bop_does(tmp_path: Path) -> None:
    mesh = dataclasses.replace(procedural_mesh("can"), symmetry=Symmetry(half_turn_z().discrete, np.eye(3)[2:], np.zeros((1, 3))))
    write_models(tmp_path, {1: mesh})
    symmetries = read_models(tmp_path)[1].symmetries
    assert len(symmetries) == 2 * 315
    np.testing.assert_allclose(symmetries[1, :3, :3], Rotation.from_rotvec([0, 0, 2 * np.pi / 315]).as_matrix(), atol=1e-9)


def test_a_models_folder_is_a_catalogue(tmp_path: Path) -> None:
    """Geometry, colours and symmetries come back in metres, in the model's frame."""
    meshes = {2: procedural_mesh("mug"), 7: standing_cube()}
    write_models(tmp_path, meshes)
    loaded = load_bop_models(tmp_path)
    assert loaded.obj_ids == (2, 7)
    assert loaded.catalogue.names == ("obj_000002", "obj_000007")
    assert loaded.class_id(7) == 1
    for mesh, own in zip(loaded.catalogue.meshes, meshes.values(), strict=True):
        corners, expected = mesh.vertices_m[mesh.faces], own.vertices_m[own.faces] - box_centre_m(own)
        np.testing.assert_allclose(corners, expected, atol=1e-6)
        np.testing.assert_allclose(mesh.corner_rgb, own.corner_rgb, atol=0.006)
        assert mesh.watertight == own.watertight
        assert len(symmetry_transforms(mesh.symmetry)) == len(symmetry_transforms(own.symmetry))
    assert load_bop_models(tmp_path, [7]).catalogue.names == ("obj_000007",)
    with pytest.raises(ValueError, match="expected some of 2, 7, received"):
        load_bop_models(tmp_path, [3])
    with pytest.raises(ValueError, match="expected one of 2, 7, received 5"):
        loaded.class_id(5)


@pytest.mark.parametrize(
    "points", [np.random.default_rng(1).normal(size=(300, 3)), ball().vertices_m, np.eye(3), np.zeros((2, 3))]
)
def test_diameters_are_exact(points: np.ndarray) -> None:
    assert diameter(points.astype(np.float64)) == pytest.approx(pdist(points).max(), rel=1e-6)


def test_textures_are_refused(tmp_path: Path) -> None:
    mesh = box()
    texture = Texture(np.zeros((len(mesh.faces), 3, 2), np.float32), np.ones((2, 2, 3), np.float32))
    with pytest.raises(BopError, match="'box' with a texture; load it with textures: bake"):
        write_models(tmp_path, {1: dataclasses.replace(mesh, texture=texture)})


@pytest.mark.parametrize(("factor", "text"), [(0.001, "0.1414 mm, as if metres"), (1000.0, "141.4 m")])
def test_models_in_another_unit_are_suspected(tmp_path: Path, factor: float, text: str) -> None:
    """Both the file and what is said of it are wrong; also either of the two alone."""
    mesh = box()
    write_models(tmp_path / "both", {1: dataclasses.replace(mesh, vertices_m=mesh.vertices_m * np.float32(factor))})
    (finding,) = findings_of(tmp_path / "both")
    assert (finding.severity, finding.rule) == ("warning", "unit")
    assert text in finding.problem
    write_models(tmp_path / "one", {1: mesh})
    (tmp_path / "one" / "models_info.json").write_text((tmp_path / "both" / "models_info.json").read_text())
    assert {(finding.severity, finding.rule) for finding in findings_of(tmp_path / "one")} == {
        ("warning", "unit"),
        ("error", "unit"),
    }


def test_faults_of_models(tmp_path: Path) -> None:
    write_models(tmp_path, {1: box(), 2: box((0.2, 0.1, 0.1)), 3: ball(subdivisions=1)})
    path = tmp_path / "obj_000002.ply"
    path.write_bytes(path.read_bytes()[:-40])
    moved: Any = trimesh.load(tmp_path / "obj_000003.ply", process=False)
    moved.vertices += 20.0
    moved.export(tmp_path / "obj_000003.ply")
    (tmp_path / "obj_000009.ply").write_bytes((tmp_path / "obj_000001.ply").read_bytes())
    (tmp_path / "obj_000001.ply").unlink()
    with pytest.raises(BopError, match=r"obj_000001\.ply: expected a model, there is none"):
        read_models(tmp_path)
    with pytest.raises(BopError, match=r"obj_000002\.ply: expected a whole PLY"):
        read_models(tmp_path, [2])
    with pytest.raises(BopError, match="expected one of 1, 2, 3, received 8"):
        read_models(tmp_path, [8])
    rules = [(Path(finding.file).name, finding.severity, finding.rule) for finding in findings_of(tmp_path)]
    assert rules == [
        ("obj_000001.ply", "error", "model"),
        ("obj_000002.ply", "error", "model"),
        ("obj_000003.ply", "error", "size"),
        ("obj_000003.ply", "warning", "origin"),
        ("obj_000009.ply", "warning", "unknown"),
    ]


def test_the_info_of_a_box() -> None:
    entry = info_entry(box((0.1, 0.06, 0.08)))
    assert entry["diameter"] == pytest.approx(np.hypot(np.hypot(100, 60), 80), rel=1e-6)
    assert [entry[f"min_{axis}"] for axis in "xyz"] == pytest.approx([-50, -30, -40], rel=1e-6)
    assert [entry[f"size_{axis}"] for axis in "xyz"] == pytest.approx([100, 60, 80], rel=1e-6)
    assert "symmetries_discrete" not in entry


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("symmetries_discrete", [[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, -1, 0, 0, 0, 0, 1]], "reflection"),
        ("symmetries_discrete", [[1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 5, 0, 0, 1]], "0 0 0 1 as last row"),
        ("symmetries_discrete", [[1, 0, 0]], "expected 16 numbers, received 3"),
        ("symmetries_continuous", [{"axis": [0, 0, 0], "offset": [0, 0, 0]}], "expected a direction"),
        ("symmetries_continuous", [{"axis": [0, 0, 1]}], "add offset"),
        ("symmetries_continuous", {"axis": [0, 0, 1]}, "expected a list"),
        ("diameter", 0.0, "a diameter above 0"),
    ],
)
def test_faults_of_what_is_said_of_models(tmp_path: Path, key: str, value: object, text: str) -> None:
    write_models(tmp_path, {1: box()})
    change_json(tmp_path / "models_info.json", lambda content: content["1"].update({key: value}))
    with pytest.raises(BopError, match=f'models_info.json: "1".*{text}'):
        read_models(tmp_path)
