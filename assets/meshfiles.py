"""Reading mesh files: geometry and colour as they are in the file, in the file's own frame and unit.

trimesh reads the formats; here scenes are flattened, colours become linear, and what cannot be used is refused.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh
from jaxtyping import Float, Int, Shaped
from PIL.Image import Image
from trimesh.visual.color import ColorVisuals
from trimesh.visual.material import PBRMaterial, SimpleMaterial, empty_material
from trimesh.visual.texture import TextureVisuals

from assets.colours import NEUTRAL_RGB, srgb_to_linear
from assets.errors import MeshFileError
from assets.imagefiles import FilesBeside, check_images

SUFFIXES = (".obj", ".ply", ".stl", ".glb", ".gltf")
"""Formats that can be read."""
UNREADABLE = (ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OSError, struct.error, RuntimeError)
"""What trimesh's readers raise on damaged files."""


@dataclass(frozen=True)
class TexturedSurface:
    """One piece of a file: triangles of one material, in the file's unit and axes."""

    vertices: Float[np.ndarray, "v 3"]
    """Positions, each used by a face."""
    faces: Int[np.ndarray, "f 3"]
    """Vertex indices."""
    corner_rgb: Float[np.ndarray, "f 3 3"]
    """Linear colour at the corners; where there is a texture, what it is multiplied by."""
    corner_uv: Float[np.ndarray, "f 3 2"]
    """Texture coordinates, (0, 0) at the lower left of the image; 0 where there is no texture."""
    texture: Float[np.ndarray, "h w 3"] | None
    """Linear image, first row on top."""


def read_surfaces(path: Path) -> list[TexturedSurface]:
    """Read all triangles of a mesh file, with the transforms of its scene graph applied.

    Raises:
        MeshFileError: the file is missing, has an unknown format, is damaged, holds no triangles, positions or texture
            coordinates that are not finite, only triangles without area, or names an image that cannot be read.
    """
    _check_file(path)
    try:
        pieces = [
            piece
            for piece in trimesh.load_scene(path, process=False, resolver=FilesBeside(path.parent)).dump()
            if isinstance(piece, trimesh.Trimesh) and len(piece.faces)
        ]
    except UNREADABLE as error:
        raise MeshFileError(f"{path}: expected a whole mesh file, reading failed with '{error}'; export it anew") from error
    if not pieces:
        raise MeshFileError(f"{path}: expected triangles, found none (an empty file or points only); export the surface")
    for piece in pieces:
        if not np.isfinite(piece.vertices).all():
            raise MeshFileError(f"{path}: expected finite vertex positions, found NaN or infinity; clean the mesh and export it")
    if sum(float(np.asarray(piece.area_faces).sum()) for piece in pieces) == 0:
        raise MeshFileError(f"{path}: expected triangles with an area, all of them are degenerate; check the export's scale")
    linear = path.suffix.lower() in (".glb", ".gltf")
    check_images(path)
    surfaces = [_surface(piece, linear) for piece in pieces]
    if not all(np.isfinite(surface.corner_uv).all() for surface in surfaces):
        raise MeshFileError(
            f"{path}: expected finite texture coordinates, found NaN or infinity; unwrap the mesh anew and export it"
        )
    return surfaces


def _check_file(path: Path) -> None:
    """Refuse what is no file of a known format."""
    if path.suffix.lower() not in SUFFIXES:
        raise MeshFileError(f"{path}: expected one of {', '.join(SUFFIXES)}, got {path.suffix!r}; convert the mesh")
    if not path.is_file():
        raise MeshFileError(f"{path}: expected a mesh file, there is none; check the path (relative ones start at the catalogue)")
    if path.stat().st_size == 0:
        raise MeshFileError(f"{path}: expected a mesh, the file is empty; export it anew")


def _surface(piece: trimesh.Trimesh, linear: bool) -> TexturedSurface:
    """Geometry and colour of one piece; ``linear`` says that the file's plain colours are linear, as glTF's are."""
    faces = np.asarray(piece.faces, dtype=np.int64)
    corner_rgb = np.broadcast_to(NEUTRAL_RGB, (len(faces), 3, 3)).copy()
    corner_uv, texture = np.zeros((len(faces), 3, 2)), None
    visual = piece.visual
    if isinstance(visual, TextureVisuals):
        material = visual.material
        texture = _texture(material) if visual.uv is not None and len(visual.uv) else None
        corner_rgb[:] = _factor(material, linear, texture is not None)
        if texture is not None:
            corner_uv = np.asarray(visual.uv, dtype=np.float64)[faces]
    elif isinstance(visual, ColorVisuals) and visual.kind == "vertex":
        corner_rgb = _plain(visual.vertex_colors, linear)[faces]
    elif isinstance(visual, ColorVisuals) and visual.kind == "face":
        corner_rgb[:] = _plain(visual.face_colors, linear)[:, None]
    used, inverse = np.unique(faces, return_inverse=True)
    vertices = np.asarray(piece.vertices, dtype=np.float64)[used]
    return TexturedSurface(vertices, inverse.reshape(-1, 3), corner_rgb, corner_uv, texture)


def _plain(rgba: Shaped[np.ndarray, "*n _"], linear: bool) -> Float[np.ndarray, "*n 3"]:
    """Linear colours of 8-bit ones."""
    rgb = np.asarray(rgba, dtype=np.float64)[..., :3] / 255.0
    return rgb if linear else srgb_to_linear(rgb)


def _texture(material: object) -> Float[np.ndarray, "h w 3"] | None:
    """The linear image of a material, None where it has none."""
    image = material.baseColorTexture if isinstance(material, PBRMaterial) else getattr(material, "image", None)
    if image is None or _is_stand_in(image):
        return None
    return srgb_to_linear(np.asarray(image.convert("RGB"), dtype=np.float64) / 255.0)


def _is_stand_in(image: Image) -> bool:
    """Whether an image is what trimesh puts where a file has texture coordinates, but no material."""
    stand_in = np.asarray(empty_material().image)
    return np.asarray(image).shape == stand_in.shape and bool((np.asarray(image) == stand_in).all())


def _factor(material: object, linear: bool, textured: bool) -> Float[np.ndarray, "3"]:
    """The colour of a material, or what multiplies its texture.

    A glTF factor multiplies the texture; an OBJ's Kd does not: many exporters write grey or black beside a texture.
    """
    if isinstance(material, PBRMaterial):
        factor = material.baseColorFactor
        return np.ones(3) if factor is None else _plain(np.asarray(factor), linear)
    if textured:
        return np.ones(3)
    if isinstance(material, SimpleMaterial) and "kd" in {key.lower() for key in material.kwargs}:
        return _plain(np.asarray(material.diffuse), linear)
    return np.asarray(NEUTRAL_RGB)
