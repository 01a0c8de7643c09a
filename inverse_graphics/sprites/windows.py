"""The spatial transformer in 2-D: square windows of an image, read and written by bilinear interpolation.

A window is (zoom, x, y): the canvas is ``zoom`` times as wide as the window, whose centre lies at (x, y), the canvas reaching
from -1 to 1 along both axes (+x right, +y down).  Windows are upright, so that rows and columns are interpolated one after the
other, each by a matrix product, which on a CPU is several times as fast as gathering.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

LEAST_ZOOM = 0.5
"""Windows are at most twice as wide as the canvas."""


def read_windows(images: Float[Tensor, "b c h w"], where: Float[Tensor, "b 3"], size_px: int) -> Float[Tensor, "b c p p"]:
    """Crops of size_px x size_px, zero outside the images; gradient to images and windows."""
    height, width = images.shape[-2:]
    zoom, x, y = _split(where)
    # where the window's pixels lie in the canvas, -1..1
    own = _centres(size_px, where)
    rows = _tents(y + own / zoom, height)
    columns = _tents(x + own / zoom, width)
    return rows[:, None] @ images @ columns[:, None].transpose(-1, -2)


def write_windows(
    sprites: Float[Tensor, "b c p p"], where: Float[Tensor, "b 3"], height_px: int, width_px: int
) -> Float[Tensor, "b c h w"]:
    """Sprites put into their windows of an empty canvas; gradient to sprites and windows."""
    zoom, x, y = _split(where)
    # where the canvas's pixels lie in the window, -1..1
    rows = _tents((_centres(height_px, where) - y) * zoom, sprites.shape[-2])
    columns = _tents((_centres(width_px, where) - x) * zoom, sprites.shape[-1])
    return rows[:, None] @ sprites @ columns[:, None].transpose(-1, -2)


def window_boxes_px(where: Float[Tensor, "*b 3"], canvas_px: int) -> Float[Tensor, "*b 4"]:
    """Windows on a square canvas as (left, top, right, bottom) in pixels; they may reach outside."""
    zoom, x, y = where.clamp(min=LEAST_ZOOM)[..., 0], where[..., 1], where[..., 2]
    half = 0.5 * canvas_px
    return torch.stack([x - 1 / zoom + 1, y - 1 / zoom + 1, x + 1 / zoom + 1, y + 1 / zoom + 1], -1) * half


def _split(where: Float[Tensor, "b 3"]) -> tuple[Float[Tensor, "b 1"], Float[Tensor, "b 1"], Float[Tensor, "b 1"]]:
    return where[:, :1].clamp(min=LEAST_ZOOM), where[:, 1:2], where[:, 2:]


def _centres(count: int, like: Tensor) -> Float[Tensor, "p"]:
    """Centres of ``count`` pixels that cover -1..1."""
    return (torch.arange(count, dtype=like.dtype, device=like.device) + 0.5) * (2.0 / count) - 1.0


def _tents(at: Float[Tensor, "b p"], count: int) -> Float[Tensor, "b p n"]:
    """Bilinear weights along one axis of ``count`` pixels that cover -1..1, for samples at ``at``."""
    pixel = (at + 1.0) * (0.5 * count) - 0.5
    return torch.relu(1.0 - (pixel[..., None] - torch.arange(count, dtype=at.dtype, device=at.device)).abs())
