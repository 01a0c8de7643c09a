"""Textures kept as images: several of one mesh become one image, and what is seen at a texture coordinate.

The other way, textures turned into corner colours, is ``assets.texturing``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from assets.errors import MeshFileError
from inverse_graphics.types import Texture

MAX_ATLAS_TEXELS = 1 << 25
"""Bound on the image that several textures are packed into: 400 MB."""
_ROUNDING = 1e-5
"""How far beyond a whole number a coordinate still counts as that number; tiles have a border of one texel for it."""

CornerUv = Float[np.ndarray, "f 3 2"]
Images = Sequence[Float[np.ndarray, "_ _ 3"]]


@dataclass(frozen=True)
class _Tile:
    """Where a texture lies in the image that holds several, without its border of one texel."""

    size: tuple[int, int]
    """Rows and columns of one repetition."""
    repeats: tuple[int, int]
    """Repetitions upwards and to the right."""
    first_row: int
    """Row of the tile's top; its first column is 1."""

    @property
    def outer_size(self) -> tuple[int, int]:
        """Rows and columns of all repetitions and the border."""
        return self.size[0] * self.repeats[0] + 2, self.size[1] * self.repeats[1] + 2


def sample(texture_rgb: Float[np.ndarray, "h w 3"], uv: Float[np.ndarray, "*b 2"]) -> Float[np.ndarray, "*b 3"]:
    """Bilinear look-up as ``Texture`` defines it: texel centres at half numbers, (0, 0) at the lower left, repeated."""
    height, width = texture_rgb.shape[:2]
    x, y = uv[..., 0] * width - 0.5, (1 - uv[..., 1]) * height - 0.5
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right, down = (x - column)[..., None], (y - row)[..., None]
    columns, rows = (column % width, (column + 1) % width), (row % height, (row + 1) % height)
    upper, lower = ((1 - right) * texture_rgb[r, columns[0]] + right * texture_rgb[r, columns[1]] for r in rows)
    return (1 - down) * upper + down * lower


def pack(corner_uv: CornerUv, texture_ids: Int[np.ndarray, "f"], textures: Images, source: Path) -> Texture:
    """Make one texture of all that a mesh has.

    One image for all faces stays as it is and may be repeated at will.  Several are put one below the other, each repeated as
    often as one face needs it (a face's coordinates are moved by whole numbers towards 0 first), with a border that continues
    the repetition, so that bilinear look-ups see what they would see in the image alone.

    Args:
        corner_uv: coordinates in each face's own image, (0, 0) at the lower left.
        texture_ids: index into ``textures``; -1 for faces without, which get a white texel.
        textures: linear images, top row first; equal ones are kept once.
        source: the mesh's file, for errors.

    Raises:
        MeshFileError: several images, and one repeats so often over a face that they do not fit together.
    """
    images, image_ids = _distinct(textures, texture_ids)
    uv = corner_uv - np.floor(corner_uv.min(1, keepdims=True) + _ROUNDING)
    if len(images) == 1:
        return Texture(uv.astype(np.float32), np.ascontiguousarray(images[0], dtype=np.float32))
    tiles = _place(uv, image_ids, images)
    height, width = tiles[-1].first_row - 1 + tiles[-1].outer_size[0], max(tile.outer_size[1] for tile in tiles)
    if height * width > MAX_ATLAS_TEXELS:
        repeats = " and ".join(f"{tile.repeats[1]} x {tile.repeats[0]}" for tile in tiles if tile.repeats != (1, 1)) or "none"
        raise MeshFileError(
            f"{source}: expected textures that fit into one image of {MAX_ATLAS_TEXELS} texels, its {len(images)} make one of "
            f"{height * width} ({width} x {height}; repeated over single faces: {repeats}); say 'textures: bake' in the "
            "catalogue, or divide the faces so that coordinates stay within 0..1"
        )
    rgb, packed = np.zeros((height, width, 3), np.float32), np.empty_like(uv)
    for index, (image, tile) in enumerate(zip(images, tiles, strict=True)):
        rows, columns = tile.outer_size
        top = tile.first_row - 1
        rgb[top : top + rows, :columns] = np.pad(np.tile(image, (*tile.repeats, 1)), ((1, 1), (1, 1), (0, 0)), mode="wrap")
        mine = image_ids == index
        packed[mine, :, 0] = (1 + uv[mine, :, 0] * tile.size[1]) / width
        packed[mine, :, 1] = 1 - (tile.first_row + (tile.repeats[0] - uv[mine, :, 1]) * tile.size[0]) / height
    return Texture(packed.astype(np.float32), rgb)


def _distinct(textures: Images, texture_ids: Int[np.ndarray, "f"]) -> tuple[Images, Int[np.ndarray, "f"]]:
    """The different images that faces use, and each face's index into them; faces without one share a white texel."""
    images, index_of = [], {}
    image_ids = np.zeros(len(texture_ids), dtype=np.int64)
    for texture_id in np.unique(texture_ids).tolist():
        image = textures[texture_id] if texture_id >= 0 else np.ones((1, 1, 3))
        key = (image.shape, image.tobytes())
        if key not in index_of:
            index_of[key] = len(images)
            images.append(image)
        image_ids[texture_ids == texture_id] = index_of[key]
    return images, image_ids


def _place(uv: CornerUv, image_ids: Int[np.ndarray, "f"], images: Images) -> list[_Tile]:
    """Put the images one below the other, each repeated as far as its faces' coordinates reach."""
    tiles, row = [], 1
    for index, image in enumerate(images):
        across, up = np.maximum(1, np.ceil(uv[image_ids == index].max((0, 1)) - _ROUNDING)).astype(int).tolist()
        tiles.append(_Tile((image.shape[0], image.shape[1]), (up, across), row))
        row += tiles[-1].outer_size[0]
    return tiles
