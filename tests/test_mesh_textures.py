"""Textures of users' meshes that stay images: packing, look-up, orientation, pictures, and images that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import trimesh
from mesh_samples import colours_at, load_one, quilt, surface_samples
from PIL import Image
from scipy.ndimage import map_coordinates
from scipy.spatial import KDTree
from trimesh.exchange.gltf import export_gltf
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from assets import MeshColourWarning, MeshFileError
from assets.colours import srgb_to_linear
from assets.sheet import picture
from assets.surfaces import Surface, join
from assets.textures import pack, sample
from inverse_graphics.types import Mesh, Texture


def noise(shape: tuple[int, int], seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8))


def tile(image: Image.Image | None, uv: np.ndarray, x: float, factor: float = 1.0) -> trimesh.Trimesh:
    """A unit square with its lower left corner at x."""
    piece = trimesh.Trimesh([[x, 0, 0], [x + 1, 0, 0], [x + 1, 1, 0], [x, 1, 0]], [[0, 1, 2], [0, 2, 3]], process=False)
    piece.visual = TextureVisuals(uv=uv, material=PBRMaterial(baseColorTexture=image, baseColorFactor=[factor, 1.0, 1.0, 1.0]))
    return piece


def colours_on_a_lattice(mesh: Mesh) -> tuple[np.ndarray, np.ndarray]:
    """Points on every face, the same ones whatever the order of the faces, and their colours."""
    weights = np.asarray([(i, j, 7 - i - j) for i in range(8) for j in range(8 - i)], dtype=np.float64) / 7
    face = np.repeat(np.arange(len(mesh.faces)), len(weights))
    weights = np.tile(weights, (len(mesh.faces), 1))
    points = (weights[..., None] * mesh.vertices_m[mesh.faces[face]]).sum(1)
    return points, colours_at(mesh, face, weights)


UNIT = np.asarray([[0.0, 0], [1, 0], [1, 1], [0, 1]])


def test_one_texture_is_kept_as_it_is(tmp_path: Path) -> None:
    mesh = load_one(quilt(tmp_path, 5), "name: quilt, path: quilt.obj, unit: cm, textures: keep")
    assert len(mesh.faces) == 2
    assert mesh.texture is not None
    assert mesh.texture.rgb.dtype == mesh.texture.corner_uv.dtype == np.float32
    assert mesh.texture.rgb.flags.c_contiguous
    assert mesh.texture.corner_uv.flags.c_contiguous
    np.testing.assert_array_equal(mesh.texture.rgb[[0, 0, -1], [0, 16, 0]], [[0, 0, 0], [1, 1, 1], [1, 0, 0]])
    np.testing.assert_allclose(mesh.corner_rgb, 1)
    points, rgb = surface_samples(mesh, 2000)
    cell = np.floor((points[:, :2] + 0.05) / 0.020).astype(int)
    expected = np.repeat((((4 - cell[:, 1]) + cell[:, 0]) % 2)[:, None], 3, 1).astype(float)
    expected[(cell == 0).all(1)] = [1, 0, 0]
    inside = (np.abs((points[:, :2] + 0.05) / 0.020 - cell - 0.5) < 0.46).all(1)
    np.testing.assert_allclose(rgb[inside], expected[inside], atol=1e-5)


def test_several_textures_look_the_same_in_one_image(tmp_path: Path) -> None:
    """Pieces of one file against the same pieces loaded one by one: sizes, factors, whole-number shifts, repeats, no texture."""
    pieces = [
        tile(noise((6, 9), 0), UNIT, 0),
        tile(noise((8, 3), 1), UNIT + [-3, 5], 2, factor=0.4),
        tile(noise((4, 4), 2), UNIT * [3, 2] - [1, 0.25], 4),
        tile(noise((6, 9), 0), UNIT[:, ::-1], 6),
        tile(None, UNIT, 8, factor=0.2),
    ]
    scene = trimesh.Scene()
    for index, piece in enumerate(pieces):
        scene.add_geometry(piece)
        piece.export(tmp_path / f"{index}.glb")
    scene.export(tmp_path / "all.glb")
    settings = "unit: cm, recentre: false, textures: keep"
    together = load_one(tmp_path, f"name: a, path: all.glb, {settings}")
    assert together.texture is not None
    assert together.texture.rgb.shape == (8 + 10 + (3 * 4 + 2) + 3, 3 * 4 + 2, 3)
    assert 0 <= together.texture.corner_uv.min() <= together.texture.corner_uv.max() <= 1
    alone = [load_one(tmp_path, f"name: a, path: {index}.glb, {settings}") for index in range(len(pieces))]
    assert alone[-1].texture is None
    points, rgb = colours_on_a_lattice(together)
    for mesh in alone:
        own_points, own_rgb = colours_on_a_lattice(mesh)
        distance, index = KDTree(points).query(own_points)
        assert distance.max() < 1e-6
        # on the diagonal two faces meet, which see the same there
        np.testing.assert_allclose(rgb[index], own_rgb, atol=2e-5)


def test_repeats_that_do_not_fit_into_one_image_are_refused(tmp_path: Path) -> None:
    scene = trimesh.Scene([tile(noise((64, 64), 0), UNIT * 200, 0), tile(noise((4, 4), 1), UNIT, 2)])
    scene.export(tmp_path / "all.glb")
    with pytest.raises(MeshFileError, match=r"all\.glb: expected textures that fit .*200 x 200.*textures: bake"):
        load_one(tmp_path, "name: a, path: all.glb, unit: cm, textures: keep")
    tile(noise((64, 64), 0), UNIT * 200, 0).export(tmp_path / "one.glb")
    alone = load_one(tmp_path, "name: a, path: one.glb, unit: cm, textures: keep")
    assert alone.texture is not None
    assert alone.texture.rgb.shape == (64, 64, 3)


def test_a_mesh_without_textures_keeps_none(tmp_path: Path) -> None:
    trimesh.creation.box().export(tmp_path / "a.ply")
    assert load_one(tmp_path, "name: a, path: a.ply, unit: cm, textures: keep").texture is None


def test_turning_faces_outwards_turns_their_texture(tmp_path: Path) -> None:
    """Colours stay where they are when an inside-out box is turned."""
    box = trimesh.creation.box()
    flat = trimesh.Trimesh(box.vertices[box.faces.ravel()], np.arange(36).reshape(-1, 3), process=False)
    uv = np.random.default_rng(0).random((36, 2))
    meshes = []
    for name in ("right", "wrong"):
        faces = flat.faces if name == "right" else flat.faces[:, ::-1]
        piece = trimesh.Trimesh(flat.vertices, faces, process=False)
        piece.visual = TextureVisuals(uv=uv, material=PBRMaterial(baseColorTexture=noise((8, 8), 0)))
        piece.export(tmp_path / f"{name}.glb")
        meshes.append(load_one(tmp_path, f"name: a, path: {name}.glb, unit: cm, textures: keep"))
    for mesh in meshes:
        assert mesh.watertight
        assert trimesh.Trimesh(mesh.vertices_m, mesh.faces, process=False).volume > 0
    # each face by itself, since neighbours differ on their common edge
    key = [np.lexsort(mesh.vertices_m[mesh.faces].mean(1).round(6).T) for mesh in meshes]
    for first, second in zip(*key, strict=True):
        own, other = (
            colours_on_a_lattice(Mesh("f", m.vertices_m, m.faces[[f]], m.corner_rgb[[f]], m.corner_normals[[f]], texture=t))
            for m, f in ((meshes[0], first), (meshes[1], second))
            if m.texture is not None
            for t in [Texture(m.texture.corner_uv[[f]], m.texture.rgb)]
        )
        distance, index = KDTree(other[0]).query(own[0])
        assert distance.max() < 1e-8
        np.testing.assert_allclose(other[1][index], own[1], atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 7), (1, 3), (1, 1)])
def test_look_up_against_scipy(shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(0)
    rgb, uv = generator.random((*shape, 3)), generator.uniform(-2, 3, (50, 2))
    at = np.stack([(1 - uv[:, 1]) * shape[0] - 0.5, uv[:, 0] * shape[1] - 0.5])
    expected = np.stack([map_coordinates(rgb[..., c], at, order=1, mode="grid-wrap") for c in range(3)], -1)
    np.testing.assert_allclose(sample(rgb, uv), expected, atol=1e-12)


def test_equal_images_are_packed_once() -> None:
    image = np.asarray(noise((4, 4), 0), dtype=np.float64) / 255
    texture = pack(np.tile(UNIT[:3], (3, 1, 1)), np.asarray([0, 1, 0]), [image, image.copy()], Path("a.obj"))
    np.testing.assert_allclose(texture.rgb, image, atol=1e-7)


def test_surfaces_with_textures_are_not_joined() -> None:
    texture = Texture(np.zeros((1, 3, 2)), np.ones((1, 1, 3)))
    surface = Surface(np.eye(3), np.asarray([[0, 1, 2]]), np.ones((1, 3, 3)), texture)
    with pytest.raises(ValueError, match=r"corner colours only, got textures at \[1\]"):
        join([Surface(surface.vertices_m, surface.faces, surface.corner_rgb), surface])


def test_pictures_show_textures(tmp_path: Path) -> None:
    """A kept texture looks like one that is baked finely, and neither like a uniform square."""
    quilt(tmp_path, 4)
    kept = load_one(tmp_path, "name: quilt, path: quilt.obj, unit: cm, textures: keep")
    baked = load_one(tmp_path, "name: quilt, path: quilt.obj, unit: cm, texture_detail_m: 0.002")
    images = [picture(mesh, 24, 0.12) for mesh in (kept, baked)]
    assert np.abs(images[0] - images[1]).mean() < 0.02
    inner = images[0][8:16, 8:16]
    assert inner.std() > 0.15


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "it is empty"), (b"no image", "reading failed"), (None, "reading failed")]
)
@pytest.mark.parametrize("textures", ["bake", "keep"])
def test_images_that_cannot_be_read_are_refused(tmp_path: Path, textures: str, content: bytes | None, message: str) -> None:
    image = quilt(tmp_path, 4) / "material_0.png"
    image.write_bytes(image.read_bytes()[:60] if content is None else content)
    with pytest.raises(MeshFileError, match=rf"quilt\.obj: expected (an image in material_0\.png|a whole mesh).*{message}"):
        load_one(tmp_path, f"name: quilt, path: quilt.obj, unit: cm, textures: {textures}")


def test_damaged_images_in_a_glb_are_refused(tmp_path: Path) -> None:
    tile(noise((8, 8), 0), UNIT, 0).export(tmp_path / "a.glb")
    data = (tmp_path / "a.glb").read_bytes()
    (tmp_path / "a.glb").write_bytes(data.replace(b"\x89PNG", b"XXXX"))
    with pytest.raises(MeshFileError, match=r"a\.glb: expected an image in image 0, reading failed"):
        load_one(tmp_path, "name: a, path: a.glb, unit: cm")


@pytest.mark.parametrize(
    ("name", "file"),
    [("../pictures/a.png", "pictures/a.png"), (r"sub\a.png", "meshes/sub/a.png"), ("-clamp on a.png", "meshes/a.png")],
)
def test_images_are_found_as_exporters_name_them(tmp_path: Path, name: str, file: str) -> None:
    for folder in ("meshes/sub", "pictures"):
        (tmp_path / folder).mkdir(parents=True)
    folder = quilt(tmp_path / "meshes", 4)
    (folder / "material_0.png").rename(tmp_path / file)
    material = folder / "material.mtl"
    assert "map_Kd material_0.png" in material.read_text()
    material.write_text(material.read_text().replace("material_0.png", name))
    assert load_one(folder, "name: quilt, path: quilt.obj, unit: cm, textures: keep").texture is not None


def test_images_beside_a_gltf(tmp_path: Path) -> None:
    """Read from a file beside it, missed with a warning when that is gone."""
    files = export_gltf(trimesh.Scene([tile(noise((8, 8), 0), UNIT, 0)]))
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    tree = json.loads(files["model.gltf"])
    tree["images"] = [{"uri": "my%20image.png"}]
    (tmp_path / "model.gltf").write_text(json.dumps(tree))
    noise((8, 8), 0).save(tmp_path / "my image.png")
    mesh = load_one(tmp_path, "name: a, path: model.gltf, unit: cm, textures: keep")
    assert mesh.texture is not None
    np.testing.assert_allclose(mesh.texture.rgb, srgb_to_linear(np.asarray(noise((8, 8), 0)) / 255), atol=1e-6)
    (tmp_path / "my image.png").unlink()
    with pytest.warns(MeshColourWarning, match=r"my%20image\.png"):
        load_one(tmp_path, "name: a, path: model.gltf, unit: cm")


@pytest.mark.parametrize("textures", ["bake", "keep"])
def test_texture_coordinates_that_are_not_finite_are_refused(tmp_path: Path, textures: str) -> None:
    quilt(tmp_path, 4)
    text = (tmp_path / "quilt.obj").read_text()
    assert "vt 0.00000000 0.00000000" in text
    (tmp_path / "quilt.obj").write_text(text.replace("vt 0.00000000 0.00000000", "vt nan 0"))
    with pytest.raises(MeshFileError, match=r"quilt\.obj: expected finite texture coordinates"):
        load_one(tmp_path, f"name: quilt, path: quilt.obj, unit: cm, textures: {textures}")
