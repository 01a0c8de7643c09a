"""Omniglot (Lake, Salakhutdinov and Tenenbaum 2015): drawings of characters of 50 alphabets, with the strokes of the pen."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, UnidentifiedImageError

from scenes.flat.characters import Characters
from scenes.numbering import refresh_kernels
from scenes.pen_kernels import nearest_strokes

Part = Literal["background", "evaluation", "background_small1", "background_small2"]
"""The published sets: 30 alphabets for training, 20 others for tests, and two small choices of the former."""
SOURCE_PX = 105
"""Side of the published images."""
FOLDERS = ("", "python", "omniglot-py")
"""Where below the root the sets may lie, looked through in this order."""
MOST_STROKES = 127
"""Numbers of strokes are bytes in the maps."""
_REMEDY = "unpack the published files anew, or fetch them with --download"
_DRAWING = re.compile(r"(?P<alphabet>[^/]+)/character(?P<character>\d+)/(?P<stem>\d+_(?P<drawer>\d+))\.(?P<ending>png|txt)")


@dataclass(frozen=True)
class _Set:
    """Files of one set, in a folder or a zip file."""

    where: Path
    """The folder or zip file, for messages."""
    names: tuple[str, ...]
    """Paths of its drawings, from the alphabet on, sorted."""
    read: Callable[[str], bytes]
    """Content of one of them."""


def load_omniglot(part: Part, data_root: str | Path, canvas_px: int = 50) -> Characters:
    """Read a set of drawings with their strokes.

    ``images_<part>`` and ``strokes_<part>`` may be folders (alphabet/characterNN/NNNN_MM.png and .txt) or the zip files as
    published, in the root itself or in ``python`` or ``omniglot-py`` below it.

    Args:
        part: which set.
        data_root: where it lies.
        canvas_px: side of the images made; 50 as in the AIR paper.  Ink is averaged over areas.

    Raises:
        ValueError: a set or a stroke file is missing, or a file is damaged; the message names it.
    """
    if canvas_px < 16:
        raise ValueError(f"canvas_px: expected at least 16, received {canvas_px}; 50 is the AIR paper's.")
    refresh_kernels()
    pictures, strokes = _open(Path(data_root), f"images_{part}"), _open(Path(data_root), f"strokes_{part}")
    found = [match for name in pictures.names if (match := _DRAWING.fullmatch(name)) and match["ending"] == "png"]
    without = sorted({match[0][:-3] + "txt" for match in found} - set(strokes.names))
    if without or not found:
        received = f"{len(without)} missing, {without[0]} for one" if without else "no drawing"
        raise ValueError(
            f"{strokes.where}: expected strokes of every drawing of {pictures.where}, received {received}; {_REMEDY}."
        )
    shape = (len(found), canvas_px, canvas_px)
    images, stroke_ids = np.zeros(shape, np.uint8), np.full(shape, -1, np.int8)
    counts = np.zeros(len(found), np.int64)
    for row, match in enumerate(found):
        images[row] = _ink(pictures, match[0], canvas_px)
        points, offsets = _strokes(strokes, match[0][:-3] + "txt")
        counts[row] = len(offsets) - 1
        nearest_strokes(points * (canvas_px / SOURCE_PX), offsets, images[row], stroke_ids[row])
    alphabets, alphabet_ids = np.unique([match["alphabet"] for match in found], return_inverse=True)
    characters = [f"{match['alphabet']}/{match['character']}" for match in found]
    return Characters(
        images=images,
        stroke_ids=stroke_ids,
        stroke_counts=counts,
        alphabet_ids=alphabet_ids.astype(np.int64),
        character_ids=np.unique(characters, return_inverse=True)[1].astype(np.int64),
        drawer_ids=np.array([int(match["drawer"]) for match in found], np.int64),
        alphabets=tuple(str(name) for name in alphabets),
        source=f"Omniglot, {part}, {len(found)} drawings",
    )


def _open(root: Path, name: str) -> _Set:
    """A set by its name; a folder goes before a zip file."""
    for folder in (root / sub for sub in FOLDERS):
        if (folder / name).is_dir():
            base = folder / name
            names = sorted(path.relative_to(base).as_posix() for path in base.glob("*/character*/*.*"))
            return _Set(base, tuple(names), lambda file, base=base: (base / file).read_bytes())
        if (folder / f"{name}.zip").is_file():
            return _open_zip(folder / f"{name}.zip", f"{name}/")
    raise ValueError(f"data_root: expected {name} or {name}.zip in {root}, found neither; correct the folder, or {_REMEDY}.")


def _open_zip(path: Path, prefix: str) -> _Set:
    try:
        archive = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: expected a zip file, received one that fails with '{error}'; {_REMEDY}.") from error
    names = sorted(name.removeprefix(prefix) for name in archive.namelist() if name.startswith(prefix))
    return _Set(path, tuple(names), lambda file: archive.read(prefix + file))


def _ink(pictures: _Set, name: str, canvas_px: int) -> UInt8[np.ndarray, "h w"]:
    """A drawing, white on black, every pixel the mean of the area it covers."""
    try:
        picture = Image.open(io.BytesIO(pictures.read(name))).convert("L")
    except (UnidentifiedImageError, OSError, SyntaxError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{pictures.where}/{name}: expected a picture, received one that fails with '{error}'; {_REMEDY}."
        ) from error
    if picture.size != (SOURCE_PX, SOURCE_PX):
        size = " x ".join(map(str, picture.size))
        raise ValueError(f"{pictures.where}/{name}: expected {SOURCE_PX} x {SOURCE_PX} px, received {size}; {_REMEDY}.")
    return 255 - np.asarray(picture.resize((canvas_px, canvas_px), Image.Resampling.BOX))


def _strokes(strokes: _Set, name: str) -> tuple[Float[np.ndarray, "p 2"], Int[np.ndarray, "s1"]]:
    """Points of a drawing's strokes in pixels of the published images, and where each stroke begins.

    A file has the lines ``x,y,milliseconds`` after a ``START``; ``BREAK`` lifts the pen.  y runs up from the image's top, so it
    is negative, and whole numbers are pixels' centres.
    """
    try:
        lines = strokes.read(name).decode("ascii").split()
        if not lines or lines[0] != "START":
            raise ValueError("no START")
        points, offsets = [], [0]
        for line in lines[1:]:
            if line == "BREAK":
                offsets.append(len(points))
            else:
                x, y, _ = line.split(",")
                points.append((float(x), float(y)))
        if not np.isfinite(points).all():
            raise ValueError("a coordinate that is not a number")
        # a file may end with or without a BREAK; a stroke without a point does not count
        starts = np.unique([*offsets, len(points)])
        if not 1 < len(starts) <= MOST_STROKES + 1:
            raise ValueError(f"{len(starts) - 1} strokes, not 1..{MOST_STROKES}")
    except (ValueError, zipfile.BadZipFile) as error:
        raise ValueError(f"{strokes.where}/{name}: expected strokes, received what fails with '{error}'; {_REMEDY}.") from error
    return np.array(points) * (1.0, -1.0) + 0.5, starts
