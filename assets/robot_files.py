"""Parts of robot and scene descriptions as meshes: links of URDF files, bodies and geoms of MJCF files.

A part is named after the file: ``robot.urdf#gripper``, ``scene.xml#table``.  What comes back is in metres, in the frame of the
link or body, with scales and local transforms applied; boxes, balls, cylinders and capsules become triangles.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import trimesh
from jaxtyping import Float

from assets.colours import srgb_to_linear
from assets.errors import MeshFileError
from assets.meshfiles import TexturedSurface

Kind = Literal["urdf", "mjcf"]
"""Formats that can be read."""
Parts = dict[str, Callable[[], list[TexturedSurface]]]
"""What reads each part of a file, by the part's name."""
SEGMENTS = 32
"""Corners of a cylinder's rim."""


@dataclass(frozen=True)
class PartAddress:
    """Which part of which file."""

    path: Path
    """The file."""
    part: str
    """Name of the link, body or geom."""


def parse_address(text: str, folder: Path) -> PartAddress:
    """Split ``FILE#PART``.

    Args:
        text: the address.
        folder: relative files start here.

    Raises:
        MeshFileError: there is no part in it.
    """
    file, _, part = text.rpartition("#")
    if not file or not part:
        raise MeshFileError(f"{text}: expected FILE#PART, for example robot.urdf#gripper; name the part after the file")
    return PartAddress(folder / file, part)


def read_part(kind: Kind, address: PartAddress) -> list[TexturedSurface]:
    """The visible surfaces of a part, in its own frame, metres.

    Raises:
        CatalogueError: the package that reads such files is missing; says how to install it.
        MeshFileError: a file is missing or damaged, there is no such part, or nothing of it is visible; names the file.
    """
    parts = find_parts(kind, address.path)
    if address.part not in parts:
        known = ", ".join(parts) or "none with visible surfaces"
        raise MeshFileError(f"{address.path}: expected one of its parts ({known}), got {address.part!r}; name one of these")
    return parts[address.part]()


def find_parts(kind: Kind, path: Path) -> Parts:
    """All parts of a file that have visible surfaces."""
    if not path.is_file():
        raise MeshFileError(f"{path}: expected a {kind.upper()} file, there is none; check the path")
    if kind == "urdf":
        from assets.urdf_files import urdf_parts

        return urdf_parts(path)
    from assets.mjcf_files import mjcf_parts

    return mjcf_parts(path)


def box(size_m: tuple[float, float, float]) -> trimesh.Trimesh:
    """A box about the origin."""
    return trimesh.creation.box(extents=size_m)


def ball(radii_m: tuple[float, float, float]) -> trimesh.Trimesh:
    """A ball, or an ellipsoid, about the origin."""
    shape = trimesh.creation.icosphere(subdivisions=3, radius=1.0)
    shape.vertices = shape.vertices * np.asarray(radii_m)
    return shape


def cylinder(radius_m: float, length_m: float) -> trimesh.Trimesh:
    """A cylinder along z about the origin."""
    return trimesh.creation.cylinder(radius=radius_m, height=length_m, sections=SEGMENTS)


def capsule(radius_m: float, length_m: float) -> trimesh.Trimesh:
    """A capsule along z about the origin; the length is that of its cylinder."""
    shape = trimesh.creation.capsule(height=length_m, radius=radius_m, count=[SEGMENTS, SEGMENTS])
    shape.vertices = shape.vertices - shape.bounds.mean(0)
    return shape


def painted(shape: trimesh.Trimesh, rgb_srgb: Float[np.ndarray, "3"]) -> TexturedSurface:
    """A shape of one colour."""
    faces = np.asarray(shape.faces, np.int64)
    corner_rgb = np.broadcast_to(srgb_to_linear(rgb_srgb), (len(faces), 3, 3)).copy()
    return TexturedSurface(np.asarray(shape.vertices, np.float64), faces, corner_rgb, np.zeros((len(faces), 3, 2)), None)


def moved(piece: TexturedSurface, T_part_piece: Float[np.ndarray, "4 4"]) -> TexturedSurface:
    """A surface in its part's frame; a transform that mirrors keeps the outside outside."""
    A, t = T_part_piece[:3, :3], T_part_piece[:3, 3]
    vertices = piece.vertices @ A.T + t
    if np.linalg.det(A) > 0:
        return dataclasses.replace(piece, vertices=vertices)
    turned = {name: getattr(piece, name)[:, ::-1] for name in ("faces", "corner_rgb", "corner_uv")}
    return TexturedSurface(vertices, turned["faces"], turned["corner_rgb"], turned["corner_uv"], piece.texture)
