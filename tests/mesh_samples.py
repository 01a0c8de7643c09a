"""The built-in meshes, small catalogues of files, and a comparison of coloured surfaces that uses no code of the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh
from PIL import Image
from scipy.ndimage import map_coordinates
from scipy.spatial import KDTree
from trimesh.visual import TextureVisuals
from trimesh.visual.material import SimpleMaterial

from assets import load_catalogue, procedural_catalogue
from inverse_graphics.types import Mesh

MESHES = {mesh.name: mesh for mesh in procedural_catalogue().meshes}


def write(folder: Path, entry: str) -> Path:
    """Write a catalogue of one entry."""
    path = folder / "own.yaml"
    path.write_text(f"meshes:\n  - {{{entry}}}\n")
    return path


def load_one(folder: Path, entry: str) -> Mesh:
    """Load the one mesh of a catalogue."""
    return load_catalogue(write(folder, entry)).meshes[0]


def quilt(folder: Path, cells: int) -> Path:
    """Write a square of 10 cm, two triangles, with a checkered texture; the lower left cell is red."""
    pixels = np.kron(np.indices((cells, cells)).sum(0) % 2, np.ones((16, 16)))[..., None] * np.ones(3) * 255
    pixels[-16:, :16] = [255, 0, 0]
    square = trimesh.Trimesh([[0, 0, 0], [10, 0, 0], [10, 10, 0], [0, 10, 0]], [[0, 1, 2], [0, 2, 3]], process=False)
    image = Image.fromarray(pixels.astype(np.uint8))
    square.visual = TextureVisuals(uv=[[0, 0], [1, 0], [1, 1], [0, 1]], material=SimpleMaterial(image=image))
    square.export(folder / "quilt.obj")
    return folder


def colours_at(mesh: Mesh, face: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Colours at barycentric coordinates [n 3] of faces [n], texture included (no code of the package)."""
    rgb = (weights[..., None] * mesh.corner_rgb[face]).sum(1, dtype=np.float64)
    if mesh.texture is None:
        return rgb
    height, width, _ = mesh.texture.rgb.shape
    u, v = (weights[..., None] * mesh.texture.corner_uv[face]).sum(1, dtype=np.float64).T
    at = np.stack([(1 - v) * height - 0.5, u * width - 0.5])
    channels = [map_coordinates(mesh.texture.rgb[..., c].astype(np.float64), at, order=1, mode="grid-wrap") for c in range(3)]
    return rgb * np.stack(channels, -1)


def surface_samples(mesh: Mesh, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Evenly spread points and their colours (no code of the package)."""
    generator = np.random.default_rng(0)
    a, b, c = np.moveaxis(mesh.vertices_m[mesh.faces].astype(np.float64), 1, 0)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=-1)
    face = generator.choice(len(area), count, p=area / area.sum())
    u, v = generator.random((2, count))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    weights = np.stack([1 - u - v, u, v], -1)
    points = (weights[..., None] * mesh.vertices_m[mesh.faces[face]]).sum(1)
    return points, colours_at(mesh, face, weights)


def mismatch(mesh: Mesh, T: np.ndarray) -> float:
    """Share of the surface that, once moved by T, has no surface of its colour nearby."""
    points, rgb = surface_samples(mesh, 6000)
    size_m = np.linalg.norm(np.ptp(points, axis=0))
    weight = 0.15 * size_m  # a whole step of one colour channel counts as much as 15% of the size
    tree = KDTree(np.concatenate([points, weight * rgb], 1))
    moved = points[::4] @ T[:3, :3].T + T[:3, 3]
    distance, _ = tree.query(np.concatenate([moved, weight * rgb[::4]], 1))
    return float((distance > 0.045 * size_m).mean())
