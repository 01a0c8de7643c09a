"""Show a catalogue: ``python -m assets --catalogue assets/tabletop.yaml --out sheet.png``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from assets.loading import load_catalogue
from assets.sheet import save_sheet, table


@dataclass(frozen=True)
class Arguments:
    """Print a table of a mesh catalogue and draw its meshes."""

    catalogue: str = "tabletop"
    """YAML file, or the name of a catalogue that comes with the package."""
    out: Path | None = None
    """Picture to write; none where absent."""


def main(arguments: Arguments) -> None:
    """Print the table, then write the picture if one is wanted."""
    catalogue = load_catalogue(arguments.catalogue)
    print(table(catalogue))
    if arguments.out is not None:
        save_sheet(catalogue, arguments.out)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
