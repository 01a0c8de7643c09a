"""IDX files, the format of MNIST: a magic number, the sizes, then unsigned bytes; plain or compressed with gzip."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

IMAGES_MAGIC, LABELS_MAGIC = 0x803, 0x801
"""Two zero bytes, 8 for unsigned bytes, then the number of dimensions."""
REMEDY = "fetch the file anew (--download)"


def read_images(path: str | Path) -> UInt8[np.ndarray, "n h w"]:
    """Grey images of an IDX file, 0..255.

    Raises:
        ValueError: the file is missing, damaged, cut off, too long, or holds something else; the message names it.
    """
    return _read(Path(path), IMAGES_MAGIC, "images (magic 0x803)")


def read_labels(path: str | Path) -> UInt8[np.ndarray, "n"]:
    """Labels of an IDX file, 0..255.

    Raises:
        ValueError: as for ``read_images``.
    """
    return _read(Path(path), LABELS_MAGIC, "labels (magic 0x801)")


def read_pair(images: str | Path, labels: str | Path) -> tuple[UInt8[np.ndarray, "n h w"], UInt8[np.ndarray, "n"]]:
    """Images and their labels.

    Raises:
        ValueError: as for ``read_images``, or the two files do not hold the same number.
    """
    pictures, classes = read_images(images), read_labels(labels)
    if len(pictures) != len(classes):
        raise ValueError(
            f"{labels}: expected {len(pictures)} labels, one for each image of {Path(images).name}, received {len(classes)}; "
            "take both files from one data set."
        )
    return pictures, classes


def _read(path: Path, magic: int, what: str) -> np.ndarray:
    """The array behind a header with this magic number."""
    content = _content(path)
    dimensions = magic & 0xFF
    start = 4 * (1 + dimensions)
    found = struct.unpack(">I", content[:4])[0] if len(content) >= 4 else None
    if found != magic:
        received = f"a file of {len(content)} bytes" if found is None else f"magic {found:#x}"
        raise ValueError(f"{path}: expected an IDX file of {what}, received {received}; {REMEDY} or correct its name.")
    if len(content) < start:
        raise ValueError(f"{path}: expected a header of {start} bytes, received {len(content)}; {REMEDY}.")
    sizes = struct.unpack(f">{dimensions}I", content[4:start])
    expected = start + int(np.prod(sizes, dtype=object))
    if len(content) != expected:
        size = " x ".join(map(str, sizes))
        raise ValueError(f"{path}: expected {expected} bytes for {size} values, received {len(content)}; {REMEDY}.")
    return np.frombuffer(content, np.uint8, offset=start).reshape(sizes).copy()


def _content(path: Path) -> bytes:
    """The bytes of a file, unpacked if they are compressed, whatever its name."""
    if not path.is_file():
        raise ValueError(f"{path}: expected an IDX file, found none; correct the folder or {REMEDY}.")
    raw = path.read_bytes()
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        return gzip.decompress(raw)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path}: expected a whole gzip file, received one that fails with '{error}'; {REMEDY}.") from error
