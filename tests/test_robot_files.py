"""Links of URDF files and bodies of MJCF files as meshes of a catalogue, against shapes worked out by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import trimesh
import yaml
from mesh_samples import load_one
from trimesh.visual import ColorVisuals

from assets import CatalogueError, MeshColourWarning, MeshFileError, load_catalogue
from assets.robot_files import find_parts
from assets.robot_parts import Arguments, main
from inverse_graphics.config import ConfigError
from inverse_graphics.types import Mesh

pytest.importorskip("yourdfpy")
mujoco = pytest.importorskip("mujoco")

URDF = """\
<robot name="arm">
  <material name="red"><color rgba="1 0 0 1"/></material>
  <link name="base">
    <visual><origin xyz="0 0 0.05" rpy="0 0 1.5707963267948966"/>
      <geometry><box size="0.2 0.1 0.1"/></geometry><material name="red"/></visual>
    <visual><origin xyz="0 0 0.2"/><geometry><cylinder radius="0.02" length="0.2"/></geometry></visual>
    <collision><geometry><box size="9 9 9"/></geometry></collision>
  </link>
  <link name="tip">
    <visual><geometry><mesh filename="package://arm/meshes/brick.obj" scale="0.001 0.001 -0.001"/></geometry>
      <material name="blue"><color rgba="0 0 1 1"/></material></visual>
    <visual><origin xyz="0 0 0.5"/><geometry><sphere radius="0.1"/></geometry></visual>
  </link>
  <link name="frame"/>
  <joint name="a" type="fixed"><parent link="base"/><child link="tip"/></joint>
  <joint name="b" type="fixed"><parent link="tip"/><child link="frame"/></joint>
</robot>
"""
MJCF = """\
<mujoco>
  <asset>
    <mesh name="brick" file="meshes/brick.obj" scale="0.001 0.001 0.001"/>
    <material name="green" rgba="0 1 0 1"/>
    <texture name="check" type="2d" builtin="checker" rgb1="1 0 0" rgb2="0 0 1" width="8" height="8"/>
    <material name="checked" texture="check"/>
  </asset>
  <worldbody>
    <geom name="floor" type="plane" size="1 1 0.1"/>
    <body name="cart" pos="1 2 3">
      <geom name="deck" type="box" size="0.1 0.05 0.02" pos="0 0 0.3" quat="0.7071067811865476 0 0 0.7071067811865476"/>
      <geom type="box" size="1 1 1" group="3"/>
      <geom type="box" size="1 1 1" rgba="0 0 0 0"/>
      <body name="load">
        <geom name="brick" type="mesh" mesh="brick" material="green" pos="0 0 0.5"/>
        <geom name="drop" type="ellipsoid" size="0.01 0.02 0.03" material="checked" pos="0 0 1"/>
        <geom name="pill" type="capsule" size="0.01 0.02" pos="0 0 2"/>
        <geom name="rod" type="cylinder" size="0.01 0.02" pos="0 0 3" rgba="1 1 0 1"/>
        <geom name="bead" type="sphere" size="0.03" pos="0 0 4"/>
      </body>
    </body>
  </worldbody>
</mujoco>
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A package ``arm`` with a URDF, an MJCF and a mesh of 100 x 60 x 30 mm, off its origin and without symmetry."""
    arm = tmp_path / "arm"
    (arm / "meshes").mkdir(parents=True)
    brick = trimesh.creation.box(extents=[100, 60, 30], transform=trimesh.transformations.translation_matrix([7, 8, 9]))
    peg = trimesh.creation.box(extents=[10, 10, 10], transform=trimesh.transformations.translation_matrix([40, 20, 29]))
    trimesh.util.concatenate([brick, peg]).export(arm / "meshes" / "brick.obj")
    (arm / "arm.urdf").write_text(URDF)
    (arm / "arm.xml").write_text(MJCF)
    return arm


def load(folder: Path, entry: str) -> Mesh:
    return load_one(folder, f"name: a, recentre: false, {entry}")


def box_m(mesh: Mesh) -> np.ndarray:
    """Least and largest x, y, z."""
    return np.stack([mesh.vertices_m.min(0), mesh.vertices_m.max(0)]).astype(np.float64)


def volume_m3(mesh: Mesh) -> float:
    return float(trimesh.Trimesh(mesh.vertices_m, mesh.faces, process=False).volume)


def test_a_link_of_primitives(folder: Path) -> None:
    """The box is turned by a quarter and lifted, the cylinder stands on it; colours by name, or grey; no collision shape."""
    mesh = load(folder, "urdf: arm.urdf#base")
    np.testing.assert_allclose(box_m(mesh), [[-0.05, -0.1, 0], [0.05, 0.1, 0.3]], atol=1e-7)
    assert mesh.watertight
    assert volume_m3(mesh) == pytest.approx(0.2 * 0.1 * 0.1 + np.pi * 0.02**2 * 0.2, rel=5e-3)
    low = mesh.vertices_m[mesh.faces].mean(1)[:, 2] <= 0.1 - 1e-6
    np.testing.assert_allclose(mesh.corner_rgb[low], np.broadcast_to([1.0, 0, 0], (low.sum(), 3, 3)))
    grey = mesh.corner_rgb[mesh.vertices_m[mesh.faces].mean(1)[:, 2] > 0.1 + 1e-6]
    np.testing.assert_allclose(grey, 0.5, atol=3e-3)


def test_a_link_with_a_mirrored_mesh_of_a_package(folder: Path) -> None:
    """The scale turns millimetres into metres and z round; the outside stays outside."""
    mesh = load(folder, "urdf: arm.urdf#tip")
    np.testing.assert_allclose(box_m(mesh), [[-0.1, -0.1, -0.034], [0.1, 0.1, 0.6]], atol=2e-3)
    lower = mesh.vertices_m[mesh.vertices_m[:, 2] < 0.1]
    np.testing.assert_allclose([lower.min(0), lower.max(0)], [[-0.043, -0.022, -0.034], [0.057, 0.038, 0.006]], atol=1e-7)
    assert mesh.watertight
    ball = 4 / 3 * np.pi * 0.1**3
    assert volume_m3(mesh) == pytest.approx(180e-6 + 1e-6 + ball, rel=1e-2)
    blue = mesh.vertices_m[mesh.faces].mean(1)[:, 2] < 0.1
    np.testing.assert_allclose(mesh.corner_rgb[blue], np.broadcast_to([0, 0, 1.0], (blue.sum(), 3, 3)))


def test_a_meshs_own_colour_counts_before_the_urdfs(folder: Path) -> None:
    shape = trimesh.creation.box(extents=[100, 60, 30])
    shape.visual = ColorVisuals(shape, vertex_colors=np.tile([255, 0, 255, 255], (8, 1)))
    shape.export(folder / "meshes" / "brick.ply")
    (folder / "arm.urdf").write_text(URDF.replace("brick.obj", "brick.ply"))
    mesh = load(folder, "urdf: arm.urdf#tip")
    own = mesh.vertices_m[mesh.faces].mean(1)[:, 2] < 0.1
    np.testing.assert_allclose(mesh.corner_rgb[own], np.broadcast_to([1.0, 0, 1], (12, 3, 3)))


def test_an_entry_keeps_its_other_keys(folder: Path) -> None:
    mesh = load_one(folder, "name: a, urdf: arm.urdf#base, scale: 0.5, up_axis: y, shading: flat")
    np.testing.assert_allclose(box_m(mesh), [[-0.025, -0.075, 0], [0.025, 0.075, 0.1]], atol=1e-7)


@pytest.mark.parametrize(
    ("part", "box", "volume"),
    [
        ("deck", [[-0.05, -0.1, 0.28], [0.05, 0.1, 0.32]], 0.2 * 0.1 * 0.04),
        ("cart", [[-0.05, -0.1, 0.28], [0.05, 0.1, 0.32]], 0.2 * 0.1 * 0.04),
        ("brick", [[-0.043, -0.022, 0.494], [0.057, 0.038, 0.534]], 181e-6),
        ("pill", [[-0.01, -0.01, 1.97], [0.01, 0.01, 2.03]], np.pi * 0.01**2 * 0.04 + 4 / 3 * np.pi * 0.01**3),
        ("rod", [[-0.01, -0.01, 2.98], [0.01, 0.01, 3.02]], np.pi * 0.01**2 * 0.04),
        ("bead", [[-0.03, -0.03, 3.97], [0.03, 0.03, 4.03]], 4 / 3 * np.pi * 0.03**3),
    ],
)
def test_parts_of_an_mjcf_file(folder: Path, part: str, box: list[list[float]], volume: float) -> None:
    """In the frame of their body; what is in the collision group, or transparent, is left out."""
    mesh = load(folder, f"mjcf: arm.xml#{part}")
    np.testing.assert_allclose(box_m(mesh), box, atol=3e-4)
    assert mesh.watertight
    assert volume_m3(mesh) == pytest.approx(volume, rel=2e-2)


def test_colours_of_an_mjcf_file(folder: Path) -> None:
    """A material's, a geom's own, and MuJoCo's grey, which is sRGB; a texture is told of."""
    assert np.unique(load(folder, "mjcf: arm.xml#brick").corner_rgb.reshape(-1, 3), axis=0).tolist() == [[0, 1, 0]]
    assert np.unique(load(folder, "mjcf: arm.xml#rod").corner_rgb.reshape(-1, 3), axis=0).tolist() == [[1, 1, 0]]
    np.testing.assert_allclose(load(folder, "mjcf: arm.xml#deck").corner_rgb, 0.21404, atol=1e-4)
    with pytest.warns(MeshColourWarning, match=r"arm\.xml: the texture of material 'checked' is left out"):
        drop = load(folder, "mjcf: arm.xml#drop")
    np.testing.assert_allclose(box_m(drop), [[-0.01, -0.02, 0.97], [0.01, 0.02, 1.03]], atol=1e-4)


def test_all_parts_as_a_catalogue(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The endless floor is no part, nor is a link without visuals."""
    assert list(find_parts("mjcf", folder / "arm.xml")) == ["cart", "load", "deck", "brick", "drop", "pill", "rod", "bead"]
    main(Arguments(folder / "arm.urdf", tmp_path / "elsewhere" / "arm.yaml"))
    assert capsys.readouterr().out.split() == ["base", "tip"]
    catalogue = load_catalogue(tmp_path / "elsewhere" / "arm.yaml")
    assert catalogue.names == ("base", "tip")
    assert yaml.safe_load((tmp_path / "elsewhere" / "arm.yaml").read_text())["meshes"][0]["name"] == "base"


BAD = {
    "urdf: arm.urdf": (MeshFileError, r"arm\.urdf: expected FILE#PART"),
    "urdf: arm.urdf#hand": (MeshFileError, r"arm\.urdf: expected one of its parts \(base, tip\), got 'hand'"),
    "urdf: none.urdf#hand": (MeshFileError, r"none\.urdf: expected a URDF file, there is none"),
    "urdf: junk.urdf#hand": (MeshFileError, r"junk\.urdf: expected a URDF file, reading failed"),
    "mjcf: junk.urdf#hand": (MeshFileError, r"junk\.urdf: expected an MJCF file, MuJoCo refuses it"),
    "mjcf: arm.xml#floor": (MeshFileError, r"arm\.xml: expected one of its parts \(cart, load"),
    "mjcf: arm.xml#cart, unit: mm": (ConfigError, "unit: expected nothing with urdf or mjcf"),
    "mjcf: arm.xml#cart, urdf: arm.urdf#base": (ConfigError, "either path or procedural, or urdf or mjcf"),
}


@pytest.mark.parametrize("entry", BAD)
def test_what_cannot_be_used_is_refused(folder: Path, entry: str) -> None:
    (folder / "junk.urdf").write_text("<robot")
    error, message = BAD[entry]
    with pytest.raises(error, match=message):
        load(folder, entry)


def test_a_missing_mesh_is_named(folder: Path) -> None:
    (folder / "meshes" / "brick.obj").unlink()
    with pytest.raises(MeshFileError, match=r"arm\.urdf: expected the mesh package://arm/meshes/brick\.obj, there is none"):
        load(folder, "urdf: arm.urdf#tip")
    with pytest.raises(MeshFileError, match=r"arm\.xml: expected an MJCF file, MuJoCo refuses it.*brick\.obj"):
        load(folder, "mjcf: arm.xml#brick")


@pytest.mark.parametrize(("package", "entry"), [("yourdfpy", "urdf: arm.urdf#base"), ("mujoco", "mjcf: arm.xml#cart")])
def test_a_missing_package_is_named_with_its_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch, package: str, entry: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(CatalogueError, match=rf'expected the package .{package}.*`pip install "{package}>='):
        load(folder, entry)
