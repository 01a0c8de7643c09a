"""A mesh's colours as one texture, for backends that know nothing else: corner colours times texture, baked into an atlas.

Every face gets a square block of texels whose lower left half it fills, made for looking up the nearest texel: blocks touch, and
bilinear look-ups would mix them.  Faces of one colour share a texel for each colour.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int
from scipy.ndimage import map_coordinates

from inverse_graphics.types import Mesh, Texture

TEXELS_PER_COLOUR_RANGE = 64
"""Texels along a side of a face whose corner colours differ by 1: the nearest is then within 1/128 of the true colour."""

TEXELS_PER_SOURCE_TEXEL = 4
"""Texels along a side of a face for each texel of the mesh's own texture."""

LARGEST_BLOCK = 1024
"""Texels along the sides of the largest block."""


def bake_colours(mesh: Mesh, max_texels: int = 2**22) -> Texture:
    """Bake corner colours and texture into one image.

    Args:
        mesh: any mesh; its texture, if it has one, fits its faces.
        max_texels: bound on the image's texels; finer faces are baked at half, a quarter, ... of the texels along a side.

    Returns:
        An image, square with a power of two as its side, and coordinates into it; look up the nearest texel.
    """
    plain = _is_plain(mesh)
    rgb, colour = np.unique(mesh.corner_rgb[plain, 0], axis=0, return_inverse=True)
    sides = np.concatenate([np.ones(len(rgb), np.int64), _sides(mesh, ~plain)])
    while (sides**2).sum() > max_texels and sides.max() > 1:
        sides = np.maximum(sides // 2, 1)
    column, row, size = _pack(sides)
    image = np.zeros((size, size, 3), np.float32)
    image[row[: len(rgb)], column[: len(rgb)]] = rgb
    corner_texel = np.empty((len(mesh.faces), 3, 2))
    corner_texel[plain] = np.stack([column, row], -1)[colour.reshape(-1)][:, None]
    rows, columns, blocks = row[len(rgb) :], column[len(rgb) :], sides[len(rgb) :]
    reach = np.maximum(blocks - 1, 0)
    corner_texel[~plain] = np.stack([columns, rows], -1)[:, None] + reach[:, None, None] * np.array([[0, 0], [1, 0], [0, 1]])
    for side in np.unique(blocks):
        chosen = np.flatnonzero(blocks == side)
        y, x = np.indices((side, side))
        image[rows[chosen][:, None, None] + y, columns[chosen][:, None, None] + x] = _block_colours(
            mesh, np.flatnonzero(~plain)[chosen], int(side)
        )
    u, v = np.moveaxis((corner_texel + 0.5) / size, -1, 0)
    return Texture(np.stack([u, 1 - v], -1).astype(np.float32), image)


def _is_plain(mesh: Mesh) -> np.ndarray:
    """[f] faces of one colour."""
    if mesh.texture is not None:
        return np.zeros(len(mesh.faces), bool)
    return (mesh.corner_rgb == mesh.corner_rgb[:, :1]).all((1, 2))


def _sides(mesh: Mesh, chosen: np.ndarray) -> Int[np.ndarray, "g"]:
    """Side of each chosen face's block, a power of two."""
    side = np.ptp(mesh.corner_rgb[chosen], axis=1).max(-1, initial=0) * TEXELS_PER_COLOUR_RANGE
    if mesh.texture is not None:
        height, width = mesh.texture.rgb.shape[:2]
        extent = np.ptp(mesh.texture.corner_uv[chosen], axis=1) * [width, height]
        side = np.maximum(side, extent.max(-1, initial=0) * TEXELS_PER_SOURCE_TEXEL)
    return 2 ** np.ceil(np.log2(np.clip(side, 1, LARGEST_BLOCK))).astype(np.int64)


def _pack(sides: Int[np.ndarray, "g"]) -> tuple[Int[np.ndarray, "g"], Int[np.ndarray, "g"], int]:
    """Places of square blocks in a square: along a Z-order curve, the largest first, so that each begins where its size fits.

    Returns:
        Column and row of each block's first texel, and the side of the square.
    """
    order = np.argsort(-sides, kind="stable")
    area = sides[order] ** 2
    start = np.empty_like(sides)
    start[order] = area.cumsum() - area
    column, row = np.zeros_like(sides), np.zeros_like(sides)
    for bit in range(31):
        column |= ((start >> (2 * bit)) & 1) << bit
        row |= ((start >> (2 * bit + 1)) & 1) << bit
    size = 1
    while size**2 < area.sum():
        size *= 2
    return column, row, size


def _block_colours(mesh: Mesh, faces: Int[np.ndarray, "g"], side: int) -> Float[np.ndarray, "g side side 3"]:
    """Colours at the texels of the blocks of some faces: corner 0 at the first texel, 1 along the row, 2 along the column."""
    y, x = np.indices((side, side)) / max(side - 1, 1) if side > 1 else np.full((2, 1, 1), 1 / 3)
    weights = np.stack([1 - x - y, x, y], -1).astype(np.float32)
    rgb = np.einsum("yxc,gck->gyxk", weights, mesh.corner_rgb[faces])
    if mesh.texture is not None:
        height, width = mesh.texture.rgb.shape[:2]
        u, v = np.moveaxis(np.einsum("yxc,gck->gyxk", weights, mesh.texture.corner_uv[faces]), -1, 0)
        at = np.stack([(1 - v) * height - 0.5, u * width - 0.5])
        channels = [map_coordinates(mesh.texture.rgb[..., k], at, order=1, mode="grid-wrap") for k in range(3)]
        rgb = rgb * np.stack(channels, -1)
    return np.clip(rgb, 0, 1).astype(np.float32)
