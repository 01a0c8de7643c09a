"""Contact sheets of flat images: digits with boxes and labels, characters with each stroke in its colour."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont

from scenes.flat.characters import Characters
from scenes.flat.multi_mnist import FlatBatch

GAP_PX = 4
"""Between tiles, and around them."""
GAP_COLOUR = (52, 52, 58)
"""sRGB of the gaps."""
TILE_PX = 200
"""Tiles are upscaled by a whole number to about this width."""
LABEL_PX = 13
"""Height of the letters."""
STROKE_COLOURS = ((255, 255, 255), (86, 180, 233), (230, 159, 0), (0, 190, 130), (240, 120, 190), (250, 230, 80), (235, 90, 50))
"""sRGB of the strokes in their order, taken round again after the last."""


def digit_sheet(batch: FlatBatch, columns: int | None = None) -> Image.Image:
    """Canvases with a box round each digit's ink and its label beside it.

    Args:
        batch: [b] canvases, at least one.
        columns: tiles a row; half as many again as there are rows where None.

    Raises:
        ValueError: the batch is empty.
    """
    grey = np.round(255 * batch.images.cpu().numpy()).astype(np.uint8)
    tiles = _tiles(np.repeat(grey[..., None], 3, -1))
    font = ImageFont.load_default(size=LABEL_PX)
    for index, tile in enumerate(tiles):
        scale = tile.width // grey.shape[2]
        draw = ImageDraw.Draw(tile)
        for slot in range(int(batch.counts[index])):
            left, top, right, bottom = (value * scale for value in batch.ink_px[index, slot].tolist())
            colour = STROKE_COLOURS[1 + slot % (len(STROKE_COLOURS) - 1)]
            draw.rectangle((left, top, right - 1, bottom - 1), outline=colour)
            above = top > LABEL_PX + 2
            place = (left, top - 2) if above else (left + 2, bottom + 1)
            draw.text(place, str(int(batch.labels[index, slot])), font=font, anchor="ls" if above else "lt", fill=colour)
    return _grid(tiles, columns)


def stroke_sheet(characters: Characters, rows: Sequence[int] | None = None, columns: int | None = None) -> Image.Image:
    """Drawings with each stroke in its colour: white, blue, orange, green, pink, yellow, red, and again.

    Args:
        characters: the drawings.
        rows: which of them; all where None.
        columns: as for ``digit_sheet``.

    Raises:
        ValueError: there are none.
    """
    wanted = np.arange(len(characters)) if rows is None else np.asarray(rows, np.int64)
    ink = characters.images[wanted].astype(np.float32)[..., None] / 255
    colours = np.array(STROKE_COLOURS, np.float32)[characters.stroke_ids[wanted] % len(STROKE_COLOURS)]
    return _grid(_tiles(np.round(_on_black(ink, colours)).astype(np.uint8)), columns)


def _on_black(ink: Float[np.ndarray, "n h w 1"], colours: Float[np.ndarray, "n h w 3"]) -> Float[np.ndarray, "n h w 3"]:
    """Coloured ink, not less visible than it would be in white."""
    return np.sqrt(ink) * colours


def _tiles(images: UInt8[np.ndarray, "n h w 3"]) -> list[Image.Image]:
    """Upscaled images, every pixel a square block."""
    count, height, width, _ = images.shape
    if count == 0:
        raise ValueError("images: expected at least one, received none; draw some first.")
    scale = max(1, TILE_PX // width)
    return [Image.fromarray(image).resize((width * scale, height * scale), Image.Resampling.NEAREST) for image in images]


def _grid(tiles: Sequence[Image.Image], columns: int | None) -> Image.Image:
    """Tiles of one size in rows."""
    across = columns or min(len(tiles), math.ceil(math.sqrt(1.5 * len(tiles))))
    width, height = tiles[0].width + GAP_PX, tiles[0].height + GAP_PX
    sheet = Image.new("RGB", (across * width + GAP_PX, math.ceil(len(tiles) / across) * height + GAP_PX), GAP_COLOUR)
    for index, tile in enumerate(tiles):
        row, column = divmod(index, across)
        sheet.paste(tile, (GAP_PX + column * width, GAP_PX + row * height))
    return sheet
