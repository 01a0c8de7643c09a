"""Parts of robot and scene descriptions as meshes: links of URDF files, bodies and geoms of MJCF files.

A part is named after the file: ``robot.urdf#gripper``, ``scene.xml#table``.  What comes back is in metres, in the frame of the
link or body, with scales and local transforms applied; boxes, balls, cylinders and capsules become triangles.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from assets.errors import MeshFileError
from assets.meshfiles import TexturedSurface
from assets.mjcf_files import mjcf_parts
from assets.robot_shapes import Parts
from assets.urdf_files import urdf_parts

Kind = Literal["urdf", "mjcf"]
"""Formats that can be read."""


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
        return urdf_parts(path)
    return mjcf_parts(path)
