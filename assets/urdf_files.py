"""Links of URDF files; yourdfpy reads the file, our own readers the meshes that it names."""

from __future__ import annotations

import functools
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import Float

from assets.colours import NEUTRAL_RGB, srgb_to_linear
from assets.errors import CatalogueError, MeshFileError
from assets.meshfiles import TexturedSurface, read_surfaces
from assets.robot_shapes import Parts, ball, box, cylinder, moved, painted

INSTALL_COMMAND = 'pip install "yourdfpy>=0.0.58,<0.1"'
NEUTRAL_SRGB = np.asarray([188, 188, 188]) / 255
"""What is linear 0.5."""


def urdf_parts(path: Path) -> Parts:
    """The links with visuals; collision shapes are left out.

    Raises:
        CatalogueError: yourdfpy is not installed.
        MeshFileError: the file cannot be read.
    """
    yourdfpy = _import_yourdfpy()
    from lxml.etree import XMLSyntaxError

    try:
        robot: Any = yourdfpy.URDF.load(str(path), load_meshes=False, build_scene_graph=False).robot
    except (XMLSyntaxError, yourdfpy.urdf.URDFError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise MeshFileError(f"{path}: expected a URDF file, reading failed with '{error}'; run check_urdf on it") from error
    colours = {material.name: material for material in robot.materials}
    return {link.name: functools.partial(_link, link, colours, path) for link in robot.links if link.visuals}


def _import_yourdfpy() -> ModuleType:
    try:
        import yourdfpy
    except ImportError as error:
        message = f"urdf: expected the package 'yourdfpy', which cannot be imported here; install it with `{INSTALL_COMMAND}`"
        raise CatalogueError(message) from error
    return yourdfpy


def _link(link: Any, colours: dict[str, Any], path: Path) -> list[TexturedSurface]:
    """All visuals of a link, in its frame."""
    surfaces: list[TexturedSurface] = []
    for visual in link.visuals:
        T_link_visual = np.eye(4) if visual.origin is None else np.asarray(visual.origin, np.float64)
        rgb_srgb = _colour(visual.material, colours)
        pieces = _geometry(visual.geometry, rgb_srgb, path, link.name)
        surfaces += [moved(piece, T_link_visual) for piece in pieces]
    return surfaces


def _colour(material: Any, colours: dict[str, Any]) -> Float[np.ndarray, "3"] | None:
    """The colour of a visual; materials may be named once for the whole file."""
    known = colours.get(material.name) if material is not None and material.color is None else material
    if known is None or known.color is None:
        return None
    return np.asarray(known.color.rgba, np.float64)[:3]


def _geometry(geometry: Any, rgb_srgb: Float[np.ndarray, "3"] | None, path: Path, link: str) -> list[TexturedSurface]:
    """The surfaces of a visual, before its origin is applied."""
    plain = NEUTRAL_SRGB if rgb_srgb is None else rgb_srgb
    if geometry.box is not None:
        x, y, z = (float(length) for length in geometry.box.size)
        return [painted(box((x, y, z)), plain)]
    if geometry.sphere is not None:
        radius_m = float(geometry.sphere.radius)
        return [painted(ball((radius_m, radius_m, radius_m)), plain)]
    if geometry.cylinder is not None:
        return [painted(cylinder(float(geometry.cylinder.radius), float(geometry.cylinder.length)), plain)]
    if geometry.mesh is None:
        raise MeshFileError(f"{path}: expected a box, cylinder, sphere or mesh in link {link!r}, found none; add a geometry")
    scale = np.eye(4)
    scale[:3, :3] = np.diag(np.broadcast_to(1.0 if geometry.mesh.scale is None else geometry.mesh.scale, 3))
    if np.linalg.det(scale) == 0:
        raise MeshFileError(f"{path}: expected a scale without 0 in link {link!r}, got {geometry.mesh.scale}; correct it")
    pieces = read_surfaces(find_mesh(geometry.mesh.filename, path))
    return [moved(_tinted(piece, rgb_srgb), scale) for piece in pieces]


def _tinted(piece: TexturedSurface, rgb_srgb: Float[np.ndarray, "3"] | None) -> TexturedSurface:
    """The URDF's colour counts where the mesh has none of its own."""
    if rgb_srgb is None or piece.texture is not None or not np.allclose(piece.corner_rgb, NEUTRAL_RGB, atol=1e-6):
        return piece
    colour = np.broadcast_to(srgb_to_linear(rgb_srgb), piece.corner_rgb.shape).copy()
    return TexturedSurface(piece.vertices, piece.faces, colour, piece.corner_uv, None)


def find_mesh(name: str, path: Path) -> Path:
    """The file that a URDF means: beside it, or of ``package://NAME/REST`` in a folder above that is, or holds, the package.

    Raises:
        MeshFileError: there is none.
    """
    plain = name.removeprefix("file://")
    if not plain.startswith("package://"):
        candidates = [path.parent / plain]
    else:
        package, _, rest = plain.removeprefix("package://").partition("/")
        folders = path.resolve().parents
        candidates = [folder / package / rest for folder in folders]
        candidates += [folder / rest for folder in folders if folder.name == package]
    found = next((candidate for candidate in candidates if candidate.is_file()), None)
    if found is None:
        remedy = "put the package's folder above the file" if plain.startswith("package://") else "check the path"
        raise MeshFileError(f"{path}: expected the mesh {name}, there is none; {remedy}")
    return found
