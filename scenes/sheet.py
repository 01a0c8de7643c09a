"""Contact sheets: a grid of upscaled images with the names of the objects beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFont

from inverse_graphics.colours import linear_to_srgb
from scenes.generator import Batch

GAP_PX = 4
"""Between tiles, and around them."""
GAP_COLOUR = (22, 22, 24)
"""sRGB of the gaps."""
TILE_PX = 256
"""Tiles are upscaled by a whole number to about this width."""

LABEL_PX = 13
"""Height of the letters."""


def contact_sheet(batch: Batch, names: Sequence[str], columns: int | None = None) -> Image.Image:
    """Draw a batch as one picture.

    Args:
        batch: [b] scenes with their images.
        names: class names in the order of the catalogue's ids.
        columns: tiles a row; half as many again as there are rows where None.

    Returns:
        An sRGB picture; every pixel of the images is a square block, and each object's name stands over it.
    """
    rgb = batch.image.rgb.detach().cpu().numpy()
    count, height, width, _ = rgb.shape
    if count == 0:
        raise ValueError("batch: expected at least one scene, received none; draw some first.")
    scale = max(1, TILE_PX // width)
    across = columns or min(count, math.ceil(math.sqrt(1.5 * count)))
    rows = math.ceil(count / across)
    cell = (width * scale + GAP_PX, height * scale + GAP_PX)
    sheet = Image.new("RGB", (across * cell[0] + GAP_PX, rows * cell[1] + GAP_PX), GAP_COLOUR)
    for index in range(count):
        tile = Image.fromarray(_bytes(rgb[index])).resize((width * scale, height * scale), Image.Resampling.NEAREST)
        _label(tile, batch, index, names, scale)
        row, column = divmod(index, across)
        sheet.paste(tile, (GAP_PX + column * cell[0], GAP_PX + row * cell[1]))
    return sheet


def _bytes(rgb: np.ndarray) -> UInt8[np.ndarray, "h w 3"]:
    """A linear image as 8-bit sRGB."""
    return np.round(255 * linear_to_srgb(rgb)).astype(np.uint8)


def _label(tile: Image.Image, batch: Batch, index: int, names: Sequence[str], scale: int) -> None:
    """Write each object's name over what is seen of it, or below where another name is in the way."""
    draw = ImageDraw.Draw(tile)
    font = ImageFont.load_default(size=LABEL_PX)
    ids = batch.image.object_ids[index].cpu().numpy()
    taken: list[tuple[float, float, float]] = []
    for slot, class_id in enumerate(batch.scene.objects.class_ids[index].tolist()):
        rows, columns = np.nonzero(ids == slot)
        if len(rows) == 0:
            continue
        text = names[int(class_id)].replace("_", " ")
        half = draw.textlength(text, font=font) / 2 + 3
        x = float(np.clip((columns.min() + columns.max() + 1) / 2 * scale, half, tile.width - half))
        above = max(LABEL_PX + 3.0, float(rows.min() * scale - 4))
        below = min(tile.height - 4.0, float((rows.max() + 1) * scale + LABEL_PX))
        y = above if _is_free(x, above, half, taken) else below
        taken.append((x, y, half))
        draw.text((x, y), text, font=font, anchor="ms", fill=(255, 255, 255), stroke_width=2, stroke_fill=(30, 30, 32))


def _is_free(x: float, y: float, half: float, taken: list[tuple[float, float, float]]) -> bool:
    """Whether a label of this half-width, centred on x with its base at y, touches none of the others."""
    return all(abs(x - other_x) > half + other or abs(y - other_y) > LABEL_PX + 3 for other_x, other_y, other in taken)
