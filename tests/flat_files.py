"""Small IDX and Omniglot files for tests."""

from __future__ import annotations

import gzip
import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image


def idx_bytes(array: np.ndarray) -> bytes:
    """An IDX file of unsigned bytes."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def blocks(count: int, first_label: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images of 28 x 28 with a block that says which one it is, and labels that count up."""
    images = np.zeros((count, 28, 28), np.uint8)
    for i in range(count):
        images[i, 6 : 12 + i % 8, 5 : 11 + i // 8] = 100 + i
    return images, (np.arange(count) + first_label) % 10


def write_mnist(folder: Path, train: int = 12, test: int = 5, compressed: bool = False, joint: str = "-") -> None:
    """The four standard files, with blocks for digits; test labels start at 3."""
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, (images, labels) in (("train", blocks(train)), ("t10k", blocks(test, 3))):
        for kind, ending, array in (("images", "idx3-ubyte", images), ("labels", "idx1-ubyte", labels)):
            content = idx_bytes(array)
            name = f"{prefix}-{kind}{joint}{ending}"
            (folder / (name + ".gz" if compressed else name)).write_bytes(gzip.compress(content) if compressed else content)


def omniglot_files(part: str, alphabets: dict[str, int], drawers: int = 3) -> dict[str, bytes]:
    """Content of a set's files by path: two crossing lines a drawing, moved with its number."""
    files: dict[str, bytes] = {}
    number = 0
    for alphabet, characters in alphabets.items():
        for character in range(1, characters + 1):
            number += 1
            for drawer in range(1, drawers + 1):
                shift = number + 3 * drawer
                stem = f"{alphabet}/character{character:02d}/{number:04d}_{drawer:02d}"
                page = np.full((105, 105), 255, np.uint8)
                page[19 + shift : 22 + shift, 20:80] = 0
                page[10:90, 49:52] = 0
                stream = io.BytesIO()
                Image.fromarray(page).convert("1").save(stream, "PNG")
                files[f"images_{part}/{stem}.png"] = stream.getvalue()
                across = f"20,{-20 - shift},0\n50,{-20 - shift},40\n79,{-20 - shift},80"
                files[f"strokes_{part}/{stem}.txt"] = f"START\n{across}\nBREAK\n50,-10,100\n50,-89,200\nBREAK\n".encode()
    return files


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Files at their paths below a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
