"""Image files of BOP data sets: PNG, JPEG and TIFF in, PNG out."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Num, UInt8, UInt16
from PIL import Image

from inverse_graphics.bop.findings import BopError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
"""Endings of images, in the order they are looked for."""
UNREADABLE = (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError)
"""What Pillow raises on files that are no images, or damaged ones."""
PNG_LEVEL = 3
"""Compression: higher ones gain little and take long."""


def decode_image(path: Path) -> Num[np.ndarray, "h w *c"]:
    """The pixels of a whole image: [h w] or [h w 3], 8 or 16 bits a channel.

    Raises:
        BopError: it is missing, damaged or cut off.
    """
    try:
        with Image.open(path) as image:
            if image.mode in ("P", "RGBA", "LA", "CMYK"):
                return np.asarray(image.convert("RGB" if image.mode != "LA" else "L"))
            return np.asarray(image).astype(np.uint8) * 255 if image.mode == "1" else np.asarray(image)
    except FileNotFoundError as error:
        raise BopError(f"{path}: expected an image, there is none; check the path, or add the file") from error
    except UNREADABLE as error:
        raise BopError(f"{path}: expected a whole image, reading failed with '{error}'; copy or write it anew") from error


def image_size_px(path: Path) -> tuple[int, int]:
    """Width and height of an image, from its header alone.

    Raises:
        BopError: it is missing or no image.
    """
    try:
        with Image.open(path) as image:
            return image.size
    except FileNotFoundError as error:
        raise BopError(f"{path}: expected an image, there is none; check the path, or add the file") from error
    except UNREADABLE as error:
        raise BopError(f"{path}: expected an image, reading failed with '{error}'; copy or write it anew") from error


def encode_png(pixels: UInt8[np.ndarray, "h w *c"] | UInt16[np.ndarray, "h w"]) -> bytes:
    """PNG of an image; the same pixels give the same bytes."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG", compress_level=PNG_LEVEL)
    return stream.getvalue()


def mask_box_px(mask: Bool[np.ndarray, "h w"]) -> tuple[int, int, int, int]:
    """Box x, y, width, height of a mask as BOP writes it: width = last column - first; -1 four times where it is empty."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if len(columns) == 0:
        return -1, -1, -1, -1
    return int(columns[0]), int(rows[0]), int(columns[-1] - columns[0]), int(rows[-1] - rows[0])
