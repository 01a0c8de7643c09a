"""A book: the one built-in mesh whose colours are an image, since print is finer than its few triangles.

Metres; z is up, the base lies on z = 0, the z axis passes through the middle.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float

from assets import symmetries
from assets.colours import from_hex
from assets.surfaces import Surface, cell_box
from inverse_graphics.types import Symmetry, Texture

BOOK_SIZE_M = (0.11, 0.16, 0.025)
"""Width, height of the page, thickness; it lies on its back, its spine towards -x."""
COVER_TEXELS = (64, 44)
"""Rows and columns of the picture on the cover: texels of 2.5 mm."""
STRIP_TEXELS = 8
"""Columns of each strip beside the picture: cloth, then paper."""


def book() -> tuple[Surface, Symmetry]:
    """A blue book with a title and a moon over a hill, 11 x 16 x 2.5 cm: 12 triangles and one image."""
    x, y, z = BOOK_SIZE_M
    box = cell_box(([-x / 2, x / 2], [-y / 2, y / 2], [0.0, z]), lambda *_: np.ones(3))
    cover = (0, COVER_TEXELS[1])
    cloth, paper = ((COVER_TEXELS[1] + k * STRIP_TEXELS, STRIP_TEXELS) for k in range(2))
    rgb = _print()
    sides = [cloth, paper, paper, paper, cloth, cover]  # -x (the spine), +x, -y, +y, -z, +z: two triangles each
    corner_uv = np.empty((12, 3, 2))
    corners = (box.vertices_m + [x / 2, y / 2, 0.0])[box.faces] / BOOK_SIZE_M
    for face in range(12):
        axis = face // 4
        first, columns = sides[face // 2]
        across, up = corners[face][:, (axis + 1) % 3], corners[face][:, (axis + 2) % 3]
        # Half a texel stays clear on all sides, or the look-up would mix in what is beside the strip.
        corner_uv[face, :, 0] = (first + 0.5 + across * (columns - 1)) / rgb.shape[1]
        corner_uv[face, :, 1] = (0.5 + up * (rgb.shape[0] - 1)) / rgb.shape[0]
    return dataclasses.replace(box, texture=Texture(corner_uv, rgb)), symmetries.NO_SYMMETRY


def _print() -> Float[np.ndarray, "h w 3"]:
    """The image: the cover, a strip of cloth, a strip of paper."""
    cloth, gold, hill = from_hex("#16407c"), from_hex("#f2c230"), from_hex("#5aa84a")
    rows, columns = COVER_TEXELS
    rgb = np.empty((rows, columns + 2 * STRIP_TEXELS, 3))
    rgb[:, : columns + STRIP_TEXELS] = cloth
    rgb[:, columns + STRIP_TEXELS :] = from_hex("#ece4d0")
    row, column = np.indices(COVER_TEXELS) + 0.5
    cover = rgb[:, :columns]
    cover[(6 < row) & (row < 11) & (5 < column) & (column < 39)] = from_hex("#f4f0e4")
    cover[(14 < row) & (row < 17) & (5 < column) & (column < 27)] = from_hex("#f4f0e4")
    cover[np.hypot(row - 30, column - 31) < 7] = gold
    cover[row > 62 - 20 * np.exp(-(((column - 14) / 11) ** 2))] = hill
    return rgb
