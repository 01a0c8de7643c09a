"""Built-in meshes and catalogues: shape, colour, symmetry, shading; the command."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import trimesh
from mesh_samples import MESHES, mismatch, surface_samples
from PIL import Image
from scipy.spatial.transform import Rotation

from assets import (
    CatalogueError,
    load_catalogue,
    procedural_catalogue,
)
from assets.__main__ import Arguments, main
from assets.colours import from_hex, srgb_to_linear
from assets.meshes import is_closed, outwards, to_mesh
from assets.sheet import picture
from assets.surfaces import Surface, join, lathe
from assets.texturing import divide
from inverse_graphics.colours import linear_to_srgb
from inverse_graphics.symmetry import symmetry_transforms
from inverse_graphics.types import Mesh, Symmetry

FIXED = ("mug", "box", "pan", "teapot", "wedge", "textured_cylinder", "book")


def about_middle(mesh: Mesh, R: np.ndarray) -> np.ndarray:
    """Rotate about the z axis' point at half height."""
    middle = np.asarray([0, 0, np.ptp(mesh.vertices_m[:, 2]) / 2])
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = R, middle - R @ middle
    return T


@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
def test_procedural_meshes_are_sound(mesh: Mesh) -> None:
    assert mesh.vertices_m.dtype == mesh.corner_rgb.dtype == mesh.corner_normals.dtype == np.float32
    assert mesh.faces.dtype == np.int32
    assert all(array.flags.c_contiguous for array in (mesh.vertices_m, mesh.faces, mesh.corner_rgb, mesh.corner_normals))
    assert (12 if mesh.texture is not None else 150) <= len(mesh.faces) <= 600
    low, high = mesh.vertices_m.min(0), mesh.vertices_m.max(0)
    assert abs(low[2]) < 1e-7
    assert 0.015 < (high - low).min() <= (high - low).max() < 0.23
    assert low[0] < 0 < high[0]
    assert low[1] < 0 < high[1]
    assert 0 <= mesh.corner_rgb.min() <= mesh.corner_rgb.max() <= 1
    np.testing.assert_allclose(np.linalg.norm(mesh.corner_normals, axis=-1), 1, atol=1e-5)
    check = trimesh.Trimesh(mesh.vertices_m, mesh.faces, process=False)
    assert mesh.watertight
    assert check.is_watertight
    assert check.is_winding_consistent
    assert all(part.volume > 0 for part in check.split(only_watertight=False))
    assert check.area_faces.min() > 1e-8
    assert (np.einsum("fcx,fx->fc", mesh.corner_normals, check.face_normals) > 0.5).all()


@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
def test_declared_symmetries_keep_the_coloured_surface(mesh: Mesh) -> None:
    transforms = symmetry_transforms(mesh.symmetry, max_step_rad=0.5)
    for T in transforms:
        np.testing.assert_allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-12)
        assert mismatch(mesh, T) < 0.005


@pytest.mark.parametrize("mesh", MESHES.values(), ids=MESHES)
def test_other_rotations_are_visible(mesh: Mesh) -> None:
    """No symmetry is left out: neither a yaw nor a turn on its side or its head."""
    if mesh.name in ("sphere", "blue_sphere"):
        return
    yaws = [] if len(mesh.symmetry.continuous_axes) else [20, 45, 72, 120, 135]
    if mesh.name in FIXED:
        yaws += [90, 180, 270]
    rotations = [Rotation.from_euler("z", yaw, degrees=True).as_matrix() for yaw in yaws]
    if mesh.name != "red_cube":
        rotations += list(Rotation.from_euler("x", [[90], [180]], degrees=True).as_matrix())
        rotations += list(Rotation.from_euler("y", [[90], [180]], degrees=True).as_matrix())
    for R in rotations:
        assert mismatch(mesh, about_middle(mesh, R)) > 0.04


def eight_views(mesh: Mesh) -> np.ndarray:
    """Pictures of 24 pixels, one every eighth of a turn, from 50 degrees above, the mesh in the middle."""
    images = []
    for yaw in np.arange(8) * np.pi / 4:
        R = Rotation.from_euler("z", yaw).as_matrix().astype(np.float32)
        vertices_m, normals = mesh.vertices_m @ R.T, mesh.corner_normals @ R.T
        turned = dataclasses.replace(mesh, vertices_m=vertices_m, corner_normals=normals)
        images.append(picture(turned, 24, 0.25, samples=2))
    return np.stack(images)


@pytest.fixture(scope="module")
def unseen_step() -> float:
    """Change of a picture that a turn makes which is not to be seen: that of a can."""
    can = eight_views(MESHES["can"])
    return float(np.abs(can - can[0]).mean((1, 2, 3)).max())


@pytest.mark.parametrize("name", FIXED)
def test_yaw_is_seen_from_50_degrees_above(name: str, unseen_step: float) -> None:
    images = eight_views(MESHES[name])
    steps = np.abs(images[:, None] - images[None]).mean((2, 3, 4))[~np.eye(8, dtype=bool)]
    assert steps.min() > 3 * unseen_step


def test_meshes_differ_in_colour_or_size() -> None:
    def summary(mesh: Mesh) -> np.ndarray:
        _, rgb = surface_samples(mesh, 500)
        return np.concatenate([linear_to_srgb(rgb.mean(0)), 5 * np.ptp(mesh.vertices_m, axis=0)])

    summaries = np.stack([summary(mesh) for mesh in MESHES.values()])
    distance = np.linalg.norm(summaries[:, None] - summaries[None], axis=-1) + 9 * np.eye(len(summaries))
    assert distance.min() > 0.15


def test_catalogues_that_come_with_the_package() -> None:
    tabletop, trio = load_catalogue("tabletop"), load_catalogue("paper_trio")
    assert len(tabletop) == 13
    assert trio.names == ("red_cube", "blue_sphere", "textured_cylinder")
    chosen = load_catalogue(Path(__file__).parents[1] / "assets" / "tabletop.yaml", ["pan", "mug"])
    assert chosen.names == ("pan", "mug")
    np.testing.assert_array_equal(chosen.meshes[1].vertices_m, MESHES["mug"].vertices_m)
    assert procedural_catalogue(["bowl"]).names == ("bowl",)


def test_the_book_shows_its_print(tmp_path: Path) -> None:
    """Its texture survives a catalogue and a factor; title, moon, hill and pages are where they belong."""
    (tmp_path / "own.yaml").write_text("meshes:\n  - {name: novel, procedural: book, scale: 2}\n")
    mesh = load_catalogue(tmp_path / "own.yaml").meshes[0]
    assert mesh.texture is not None
    np.testing.assert_array_equal(mesh.texture.rgb, MESHES["book"].texture.rgb if MESHES["book"].texture else None)
    points, rgb = surface_samples(mesh, 6000)
    x, y, z = (points / 2).T
    top = z > 0.025 - 1e-6
    for code, spot in {
        "#f4f0e4": top & (abs(x) < 0.03) & (abs(y - 0.058) < 0.002),
        "#f2c230": top & (np.hypot(x - 0.0225, y - 0.005) < 0.012),
        "#5aa84a": top & (abs(x + 0.02) < 0.01) & (y < -0.05),
        "#16407c": (x < -0.055 + 1e-6) | (z < 1e-6),
        "#ece4d0": (x > 0.055 - 1e-6) | (abs(y) > 0.08 - 1e-6),
    }.items():
        assert spot.sum() > 20
        np.testing.assert_allclose(rgb[spot], np.broadcast_to(from_hex(code), rgb[spot].shape), atol=1e-5)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(CatalogueError, match=r"paper_trio, tabletop; got 'kitchen'"):
        load_catalogue("kitchen")
    with pytest.raises(CatalogueError, match=r"expected some of mug, .*'spoon'"):
        load_catalogue("tabletop", ["mug", "spoon"])
    with pytest.raises(CatalogueError, match="one of mug"):
        procedural_catalogue(["spoon"])
    with pytest.raises(CatalogueError, match="none twice"):
        procedural_catalogue(["mug", "mug"])


def test_colour_conversion() -> None:
    """IEC 61966-2-1: sRGB 0.5 is 0.2140 of linear light."""
    np.testing.assert_allclose(srgb_to_linear(np.asarray([0.0, 0.04, 0.5, 1.0])), [0, 0.04 / 12.92, 0.21404, 1], atol=1e-5)
    values = np.linspace(0, 1, 33).reshape(11, 3)
    np.testing.assert_allclose(linear_to_srgb(srgb_to_linear(values)), values, atol=1e-12)
    with pytest.raises(ValueError, match="rrggbb"):
        from_hex("#fff")


def test_smooth_and_flat_shading() -> None:
    """A finely cut cylinder: smooth round the side, sharp at the rim."""
    rgb = np.ones(3)
    tube = lathe([(0.0, 0.0), (1.0, 0.0), (1.0, 2.0), (0.0, 2.0)], [rgb, rgb, rgb], segments=32)
    smooth = to_mesh("t", tube, Symmetry())
    middle = smooth.vertices_m[smooth.faces].mean(1)
    side = np.linalg.norm(middle[:, :2], axis=1) > 0.9
    corners = smooth.vertices_m[smooth.faces[side]]
    np.testing.assert_allclose(smooth.corner_normals[side][..., :2], corners[..., :2], atol=1e-5)
    np.testing.assert_allclose(np.abs(smooth.corner_normals[~side][..., 2]), 1, atol=1e-6)
    flat = to_mesh("t", tube, Symmetry(), crease_rad=0.0)
    assert (flat.corner_normals == flat.corner_normals[:, :1]).all()


def test_a_cavity_is_not_culled() -> None:
    ball = MESHES["sphere"]
    outer = Surface(ball.vertices_m.astype(np.float64), ball.faces, ball.corner_rgb)
    inner = Surface(outer.vertices_m * 0.5, outer.faces[:, ::-1], outer.corner_rgb)
    assert is_closed(outer)
    assert not is_closed(join([outer, inner]))
    assert not is_closed(Surface(outer.vertices_m, outer.faces[1:], outer.corner_rgb[1:]))
    np.testing.assert_array_equal(outwards(inner).faces, outer.faces)


@pytest.mark.parametrize("seed", range(4))
def test_dividing_keeps_area_and_attributes(seed: int) -> None:
    ball = trimesh.creation.icosphere(subdivisions=1)
    marked = np.zeros((len(ball.faces), 3), dtype=bool)
    edges = np.sort(np.stack([ball.faces, np.roll(ball.faces, -1, 1)], -1), -1).reshape(-1, 2)
    _, index = np.unique(edges, axis=0, return_inverse=True)
    marked = (np.random.default_rng(seed).random(index.max() + 1) < 0.5)[index].reshape(-1, 3)
    vertices, faces, positions, parents = divide(
        ball.vertices.view(np.ndarray), ball.faces.view(np.ndarray), ball.triangles, marked
    )
    np.testing.assert_allclose(vertices[faces], positions, atol=1e-12)
    out = trimesh.Trimesh(vertices, faces, process=False)
    assert out.is_watertight
    assert out.volume == pytest.approx(ball.volume)
    np.testing.assert_allclose(np.bincount(parents, out.area_faces), ball.area_faces)


def test_command_prints_a_table(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(Arguments(catalogue="paper_trio", out=tmp_path / "trio.png"))
    printed = capsys.readouterr().out
    assert "red_cube" in printed
    assert "23 discrete" in printed
    assert np.asarray(Image.open(tmp_path / "trio.png").convert("RGB")).std() > 5
