"""Look at flat data: ``python -m scenes.flat digits --out sheet.png``, or ``characters``."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from scenes.flat.characters import draw_characters
from scenes.flat.digits import Split, load_digits
from scenes.flat.downloads import MNIST_FILES, OMNIGLOT_FILES, fetch
from scenes.flat.multi_mnist import FlatConfig, compose
from scenes.flat.omniglot import Part, load_omniglot
from scenes.flat.pen_strokes import PenConfig, embedded_characters
from scenes.flat.sheet import digit_sheet, stroke_sheet


@dataclass(frozen=True)
class DigitSheet:
    """Draw canvases of digits: MNIST's from --data-root, otherwise those that come with scikit-learn."""

    out: Path
    """Picture to write, PNG or another format that Pillow knows by its ending."""
    data_root: Path | None = None
    """Folder with the standard MNIST files."""
    download: bool = False
    """Fetch the files that are missing there first."""
    split: Split = "train"
    """Which digits."""
    count: int = 24
    """How many canvases."""
    seed: int = 0
    """Seed of the canvases."""
    config: FlatConfig = field(default_factory=FlatConfig)
    """What to draw."""


@dataclass(frozen=True)
class CharacterSheet:
    """Draw characters with their strokes in colours: Omniglot's from --data-root, otherwise made-up ones."""

    out: Path
    """Picture to write, PNG or another format that Pillow knows by its ending."""
    data_root: Path | None = None
    """Folder with images_background and strokes_background, or the zip files of these names."""
    download: bool = False
    """Fetch the files that are missing there first."""
    part: Part = "background"
    """Which set of Omniglot's."""
    count: int = 24
    """How many characters."""
    seed: int = 0
    """Seed of the choice, and of the made-up characters."""


def main(arguments: DigitSheet | CharacterSheet) -> None:
    """Draw the sheet and write the picture."""
    if arguments.count < 1:
        raise ValueError(f"count: expected at least 1, received {arguments.count}; ask for some images.")
    if arguments.download:
        if arguments.data_root is None:
            raise ValueError("--download: expected --data-root too, received none; say which folder the files go to.")
        fetch(MNIST_FILES if isinstance(arguments, DigitSheet) else OMNIGLOT_FILES, arguments.data_root)
    source = _digits(arguments) if isinstance(arguments, DigitSheet) else _characters(arguments)
    print(f"{arguments.out}: {arguments.count} of {source}")


def _digits(arguments: DigitSheet) -> str:
    digits = load_digits(arguments.split, arguments.data_root)
    digit_sheet(compose(digits, arguments.config, arguments.seed, range(arguments.count))).save(arguments.out)
    return digits.source


def _characters(arguments: CharacterSheet) -> str:
    if arguments.data_root is None:
        characters = embedded_characters(PenConfig(), arguments.seed, range(5))
    else:
        characters = load_omniglot(arguments.part, arguments.data_root)
    rows = draw_characters(characters, arguments.seed, range(arguments.count)).rows.tolist()
    stroke_sheet(characters, rows).save(arguments.out)
    return characters.source


if __name__ == "__main__":
    main(
        tyro.cli(
            Annotated[DigitSheet, tyro.conf.subcommand("digits")]  # type: ignore[arg-type]
            | Annotated[CharacterSheet, tyro.conf.subcommand("characters")]
        )
    )
