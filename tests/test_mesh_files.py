"""Users' own meshes: units, axes, symmetry, textures, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trimesh
from mesh_samples import load_one, mismatch, quilt, surface_samples
from PIL import Image
from scipy.spatial import KDTree
from trimesh.visual import ColorVisuals, TextureVisuals
from trimesh.visual.material import PBRMaterial

from assets import (
    MeshColourWarning,
    MeshFileError,
    MeshSizeWarning,
    load_catalogue,
)
from inverse_graphics.config import ConfigError
from inverse_graphics.symmetry import symmetry_transforms


@pytest.fixture
def brick(tmp_path: Path) -> trimesh.Trimesh:
    """Make a box of 100 x 60 x 30 (in whatever unit), off the origin."""
    return trimesh.creation.box(extents=[100, 60, 30], transform=trimesh.transformations.translation_matrix([7, 8, 9]))


@pytest.mark.parametrize("suffix", ["obj", "ply", "stl", "glb"])
def test_every_format_gives_the_same_solid(tmp_path: Path, brick: trimesh.Trimesh, suffix: str) -> None:
    brick.export(tmp_path / f"brick.{suffix}")
    mesh = load_one(tmp_path, f"name: brick, path: brick.{suffix}, unit: mm, shading: flat")
    np.testing.assert_allclose(mesh.vertices_m.min(0), [-0.05, -0.03, 0], atol=1e-7)
    np.testing.assert_allclose(mesh.vertices_m.max(0), [0.05, 0.03, 0.03], atol=1e-7)
    assert mesh.watertight
    assert mesh.vertices_m.shape == (8, 3)
    assert mesh.vertices_m.dtype == np.float32
    assert mesh.faces.dtype == np.int32
    flat = trimesh.Trimesh(mesh.vertices_m, mesh.faces, process=False).face_normals
    np.testing.assert_allclose(mesh.corner_normals, np.repeat(flat[:, None], 3, 1), atol=1e-6)


@pytest.mark.parametrize(
    ("unit", "metres"), [("m", 1), ("dm", 0.1), ("cm", 0.01), ("mm", 0.001), ("inch", 0.0254), ("foot", 0.3048)]
)
def test_units(tmp_path: Path, unit: str, metres: float) -> None:
    trimesh.creation.box(extents=[3, 2, 1]).export(tmp_path / "a.ply")
    mesh = load_one(tmp_path, f"name: a, path: a.ply, unit: {unit}, scale: 0.5")
    np.testing.assert_allclose(np.ptp(mesh.vertices_m, axis=0), np.asarray([1.5, 1, 0.5]) * metres, rtol=1e-6)


@pytest.mark.parametrize(("axis", "size"), [("z", (3, 2, 1)), ("y", (3, 1, 2)), ("x", (2, 1, 3))])
def test_up_axis_turns_without_mirroring(tmp_path: Path, axis: str, size: tuple[float, ...]) -> None:
    """A peg marks the end of the up axis: it must end on top, and the volume must stay positive."""
    peg = trimesh.creation.box(
        extents=[0.2] * 3, transform=trimesh.transformations.translation_matrix(np.eye(3)["xyz".index(axis)] * 2)
    )
    trimesh.util.concatenate([trimesh.creation.box(extents=[3, 2, 1]), peg]).export(tmp_path / "a.ply")
    mesh = load_one(tmp_path, f"name: a, path: a.ply, unit: m, up_axis: {axis}")
    np.testing.assert_allclose(np.ptp(mesh.vertices_m, axis=0)[:2], size[:2], atol=1e-6)
    top = mesh.vertices_m[mesh.vertices_m[:, 2] > size[2] + 0.1]
    assert np.abs(top[:, :2]).max() < 0.11
    assert trimesh.Trimesh(mesh.vertices_m, mesh.faces, process=False).volume > 6


def test_origin_of_the_file_can_be_kept(tmp_path: Path, brick: trimesh.Trimesh) -> None:
    brick.export(tmp_path / "brick.ply")
    mesh = load_one(tmp_path, "name: brick, path: brick.ply, unit: cm, recentre: false")
    np.testing.assert_allclose((mesh.vertices_m.min(0) + mesh.vertices_m.max(0)) / 2, [0.07, 0.08, 0.09], atol=1e-6)


def test_symmetries_follow_the_mesh(tmp_path: Path) -> None:
    """BOP's symmetries, in the file's unit and axes, hold for the mesh that comes out."""
    move = trimesh.transformations.translation_matrix([40, -20, 10])
    trimesh.creation.box(extents=[100, 60, 30], transform=move).export(tmp_path / "brick.ply")
    half_turn = move @ np.diag([-1.0, 1, -1, 1]) @ np.linalg.inv(move)
    numbers = ", ".join(str(value) for value in half_turn.ravel())
    symmetry = f"symmetry: {{discrete: [[{numbers}]], continuous: [{{axis: [0, 2, 0], offset: [40, 0, 10]}}]}}"
    mesh = load_one(tmp_path, f"name: a, path: brick.ply, unit: mm, up_axis: y, scale: 2, {symmetry}")
    T = mesh.symmetry.discrete[0]
    moved = mesh.vertices_m @ T[:3, :3].T + T[:3, 3]
    distance, _ = KDTree(mesh.vertices_m).query(moved)
    assert distance.max() < 1e-6
    np.testing.assert_allclose(mesh.symmetry.continuous_axes, [[0, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(mesh.symmetry.continuous_offsets_m[0, :2], 0, atol=1e-9)


def test_scaled_builtin_keeps_its_symmetry(tmp_path: Path) -> None:
    mesh = load_one(tmp_path, "name: big, procedural: red_cube, scale: 1.5")
    assert mesh.name == "big"
    np.testing.assert_allclose(np.ptp(mesh.vertices_m, axis=0), 0.12, atol=1e-6)
    assert max(mismatch(mesh, T) for T in symmetry_transforms(mesh.symmetry)) < 0.02


def test_scene_graphs_are_flattened(tmp_path: Path) -> None:
    """A GLB with a shifted and a mirrored node; its colours are linear as glTF says."""
    plain, mirrored = trimesh.creation.box(), trimesh.creation.box()
    plain.visual = TextureVisuals(material=PBRMaterial(baseColorFactor=[0.2, 0.4, 1.0, 1.0]))
    mirrored.visual = ColorVisuals(mirrored, vertex_colors=np.tile([51, 0, 255, 255], (8, 1)))
    scene = trimesh.Scene()
    scene.add_geometry(plain, transform=trimesh.transformations.translation_matrix([0, 0, 2]))
    scene.add_geometry(mirrored, transform=np.diag([-1.0, 3.0, 1.0, 1.0]))
    scene.export(tmp_path / "two.glb")
    mesh = load_one(tmp_path, "name: two, path: two.glb, unit: cm")
    np.testing.assert_allclose(np.ptp(mesh.vertices_m, axis=0), [0.01, 0.03, 0.03], atol=1e-7)
    assert mesh.watertight
    top = mesh.vertices_m[mesh.faces].mean(1)[:, 2] > 0.015
    np.testing.assert_allclose(mesh.corner_rgb[top], np.broadcast_to([0.2, 0.4, 1.0], (12, 3, 3)), atol=2e-3)
    np.testing.assert_allclose(mesh.corner_rgb[~top], np.broadcast_to([0.2, 0, 1.0], (12, 3, 3)), atol=2e-3)


def test_plain_colours(tmp_path: Path) -> None:
    box = trimesh.creation.box()
    box.export(tmp_path / "grey.stl")
    np.testing.assert_allclose(load_one(tmp_path, "name: a, path: grey.stl, unit: cm").corner_rgb, 0.5)
    box.visual = ColorVisuals(box, vertex_colors=np.tile([128, 255, 0, 255], (8, 1)))
    box.export(tmp_path / "painted.ply")
    painted = load_one(tmp_path, "name: a, path: painted.ply, unit: cm").corner_rgb
    np.testing.assert_allclose(painted, np.broadcast_to([0.21586, 1, 0], (12, 3, 3)), atol=1e-4)


def test_material_colours_and_missing_library(tmp_path: Path) -> None:
    (tmp_path / "a.obj").write_text("mtllib a.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nusemtl r\nf 1 3 2\nusemtl g\nf 1 2 4\n")
    with pytest.warns(MeshColourWarning, match=r"a\.mtl"):
        assert np.unique(load_one(tmp_path, "name: a, path: a.obj, unit: cm").corner_rgb).tolist() == [0.5]
    (tmp_path / "a.mtl").write_text("newmtl r\nKd 1 0 0\nnewmtl g\nKd 0 1 0\nmap_Kd lost.png\n")
    with pytest.warns(MeshColourWarning, match=r"lost\.png"):
        mesh = load_one(tmp_path, "name: a, path: a.obj, unit: cm")
    assert not mesh.watertight
    assert sorted(mesh.corner_rgb[:, 0].tolist()) == [[0, 1, 0], [1, 0, 0]]


def test_texture_detail_survives(tmp_path: Path) -> None:
    """Cells of 20 mm come out in their places with a detail of 3 mm, without cracks, and become a mean with one of 1 m."""
    mesh = load_one(quilt(tmp_path, 5), "name: quilt, path: quilt.obj, unit: cm, texture_detail_m: 0.003")
    corners = mesh.vertices_m[mesh.faces]
    edges_m = np.linalg.norm(np.roll(corners, -1, 1) - corners, axis=-1)
    assert 0.0015 < edges_m.min() <= 0.003
    points, rgb = surface_samples(mesh, 4000)
    cell = np.floor((points[:, :2] + 0.05) / 0.020).astype(int)
    expected = np.repeat((((4 - cell[:, 1]) + cell[:, 0]) % 2)[:, None], 3, 1).astype(float)
    expected[(cell == 0).all(1)] = [1, 0, 0]
    inside = (np.abs((points[:, :2] + 0.05) / 0.020 - cell - 0.5) < 0.35).all(1)
    assert np.abs(rgb - expected)[inside].mean() < 0.01
    check = trimesh.Trimesh(mesh.vertices_m, mesh.faces, process=False)
    assert check.area == pytest.approx(0.01, rel=1e-5)
    boundary = check.edges_sorted[trimesh.grouping.group_rows(check.edges_sorted, require_count=1)]
    assert (np.abs(np.abs(check.vertices[boundary][..., :2]) - 0.05) < 1e-6).any(-1).all()
    coarse = load_one(tmp_path, "name: quilt, path: quilt.obj, unit: cm, texture_detail_m: 1.0")
    assert len(coarse.faces) == 2
    np.testing.assert_allclose(coarse.corner_rgb.mean(), 0.493, atol=0.03)


def test_uniform_textures_are_not_divided(tmp_path: Path) -> None:
    quilt(tmp_path, 4)
    Image.new("RGB", (64, 64), (188, 0, 0)).save(tmp_path / "material_0.png")
    mesh = load_one(tmp_path, "name: quilt, path: quilt.obj, unit: cm")
    assert len(mesh.faces) == 2
    np.testing.assert_allclose(mesh.corner_rgb[0, 0], [0.5029, 0, 0], atol=1e-3)


def test_unused_points_do_not_count(tmp_path: Path) -> None:
    """A stray vertex moves neither the origin nor the box."""
    text = trimesh.creation.box().export(file_type="obj")
    (tmp_path / "a.obj").write_text(f"{text}\nv 50 50 50\n")
    mesh = load_one(tmp_path, "name: a, path: a.obj, unit: cm")
    np.testing.assert_allclose(mesh.vertices_m.min(0), [-0.005, -0.005, 0], atol=1e-8)
    assert len(mesh.vertices_m) == 8


def test_inward_faces_are_turned(tmp_path: Path, brick: trimesh.Trimesh) -> None:
    brick.invert()
    brick.export(tmp_path / "brick.ply")
    mesh = load_one(tmp_path, "name: a, path: brick.ply, unit: mm")
    assert mesh.watertight
    assert trimesh.Trimesh(mesh.vertices_m, mesh.faces, process=False).volume > 0
    assert (mesh.corner_normals[..., 2].max(1) > 0.99).sum() == 2


@pytest.mark.parametrize(("unit", "size"), [("m", 60), ("mm", 0.5)])
def test_wrong_units_make_a_warning(tmp_path: Path, unit: str, size: float) -> None:
    trimesh.creation.box(extents=[size] * 3).export(tmp_path / "a.stl")
    with pytest.warns(MeshSizeWarning, match=rf"a\.stl.*unit '{unit}'"):
        load_one(tmp_path, f"name: a, path: a.stl, unit: {unit}")


BAD_FILES = {
    "missing.ply": (None, "there is none"),
    "empty.obj": (b"", "the file is empty"),
    "points.obj": (b"v 0 0 0\nv 1 0 0\nv 0 1 0\n", "found none"),
    "nan.obj": (b"v 0 0 nan\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", "NaN"),
    "degenerate.obj": (b"v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\nf 1 1 2\n", "degenerate"),
    "junk.glb": (b"not a mesh at all", "reading failed"),
    "junk.ply": (b"not a mesh at all", "reading failed"),
    "cut.ply": (None, "reading failed"),
    "junk.stl": (b"not a mesh at all", "found none|reading failed"),
    "mesh.dwg": (b"x", r"one of \.obj|\.obj, \.ply"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_mesh_files_are_refused_by_name(tmp_path: Path, name: str) -> None:
    content, message = BAD_FILES[name]
    if name == "cut.ply":
        whole = trimesh.creation.icosphere().export(file_type="ply")
        assert isinstance(whole, bytes)
        content = whole[: len(whole) // 2]
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(MeshFileError, match=rf"{name}: expected .*({message})"):
        load_one(tmp_path, f"name: a, path: {name}, unit: m")


BAD_ENTRIES = {
    "name: a, procedural: mug, colour: red": r"meshes\[0\]\.colour",
    "procedural: mug": r"meshes\[0\]\.name",
    "name: '', procedural: mug": r"meshes\[0\]\.name",
    "name: a": r"meshes\[0\]\.path.*either path or procedural",
    "name: a, procedural: mug, path: a.ply, unit: m": "either path or procedural",
    "name: a, procedural: spoon": r"meshes\[0\]\.procedural.*one of mug",
    "name: a, procedural: mug, unit: cm": r"meshes\[0\]\.unit",
    "name: a, path: a.ply": r"meshes\[0\]\.unit.*mm",
    "name: a, path: a.ply, unit: parsec": r"meshes\[0\]\.unit",
    "name: a, path: a.ply, unit: m, up_axis: w": r"up_axis",
    "name: a, path: a.ply, unit: m, scale: big": r"scale.*a finite number",
    "name: a, path: a.ply, unit: m, scale: -1": r"scale.*more than 0",
    "name: a, path: a.ply, unit: m, recentre: 1": r"recentre.*true or false",
    "name: a, path: a.ply, unit: m, texture_detail_m: 0": "texture_detail_m",
    "name: a, path: a.ply, unit: m, texture_detail_m: 0.01, textures: keep": "texture_detail_m.*nothing with textures: keep",
    "name: a, path: a.ply, unit: m, textures: crop": r"textures.*(bake|keep)",
    "name: a, procedural: mug, textures: keep": r"meshes\[0\]\.textures",
    "name: a, path: a.ply, unit: m, symmetry: {discrete: [[1, 2]]}": r"symmetry\.discrete\[0\].*16 numbers",
    "name: a, path: a.ply, unit: m, symmetry: {discrete: [[-1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1]]}": "rigid motion",
    "name: a, path: a.ply, unit: m, symmetry: {continuous: [{axis: [0, 0, 0]}]}": r"continuous\[0\]\.axis.*a direction",
}


@pytest.mark.parametrize("entry", BAD_ENTRIES)
def test_bad_entries_are_refused_by_file_and_key(tmp_path: Path, entry: str) -> None:
    with pytest.raises(ConfigError, match=rf"own\.yaml: .*{BAD_ENTRIES[entry]}"):
        load_one(tmp_path, entry)


def test_bad_catalogue_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_catalogue(tmp_path / "nowhere.yaml")
    path = tmp_path / "own.yaml"
    path.write_text("meshes: []\n")
    with pytest.raises(ConfigError, match="at least one mesh"):
        load_catalogue(path)
    path.write_text("meshes:\n  - {name: a, procedural: mug}\n  - {name: a, procedural: can}\n")
    with pytest.raises(ConfigError, match=r"meshes\[1\]\.name"):
        load_catalogue(path)
    path.write_text("meshes: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(ConfigError, match="valid YAML"):
        load_catalogue(path)
