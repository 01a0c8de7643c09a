"""Parts of a robot or scene file: ``python -m assets.robot_parts robot.urdf --out robot.yaml`` makes a catalogue of them."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import tyro

from assets.errors import MeshFileError
from assets.robot_files import Kind, find_parts
from inverse_graphics.config import save_yaml


@dataclass(frozen=True)
class Arguments:
    """Print the links of a URDF file, or the bodies and named geoms of an MJCF file, that can be meshes of a catalogue."""

    file: tyro.conf.Positional[Path]
    """The file: MJCF if it ends in .xml or .mjcf, else URDF."""
    out: Path | None = None
    """Catalogue to write, with an entry for every part; none where absent."""


def main(arguments: Arguments) -> None:
    """Print the parts, then write the catalogue if one is wanted."""
    kind: Kind = "mjcf" if arguments.file.suffix in (".xml", ".mjcf") else "urdf"
    parts = find_parts(kind, arguments.file)
    if not parts:
        raise MeshFileError(f"{arguments.file}: expected parts with visible surfaces, found none; see docs/assets.md")
    for name in parts:
        print(name)
    if arguments.out is not None:
        file = os.path.relpath(arguments.file.resolve(), arguments.out.resolve().parent)
        save_yaml(arguments.out, {"meshes": [{"name": name, kind: f"{file}#{name}"} for name in parts]})


if __name__ == "__main__":
    try:
        main(tyro.cli(Arguments))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
