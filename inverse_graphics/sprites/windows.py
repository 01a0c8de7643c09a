"""The spatial transformer in 2-D: square windows of an image, read and written by bilinear interpolation.

A window is (zoom, x, y): the canvas is ``zoom`` times as wide as the window, whose centre lies at (x, y), the canvas reaching
from -1 to 1 along both axes (+x right, +y down).  Windows are upright, so that rows and columns are interpolated one after the
other: on a CPU by a compiled pass over the samples inside the image, elsewhere by a matrix product for each.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_graphics.compiled import drop_stale_kernels
from inverse_graphics.sprites.sprite_kernels import sample_gradient_pass, sample_pass

LEAST_ZOOM = 0.5
"""Windows are at most twice as wide as the canvas."""


def read_windows(images: Float[Tensor, "b c h w"], where: Float[Tensor, "b 3"], size_px: int) -> Float[Tensor, "b c p p"]:
    """Crops of size_px x size_px, zero outside the images; gradient to images and windows."""
    share = 1 / where[:, :1].clamp(min=LEAST_ZOOM)
    # sample k of p lies at (y + ((2 k + 1) / p - 1) share + 1) h / 2 - 1/2
    sizes, centre = where.new_tensor(images.shape[-2:]), where[:, [2, 1]]
    step = share * (sizes / size_px)
    first = (centre + 1) * (sizes / 2) - 0.5 - step * ((size_px - 1) / 2)
    return sample(images, torch.cat([first, step], 1), size_px, size_px)


def write_windows(
    sprites: Float[Tensor, "b c p p"], where: Float[Tensor, "b 3"], height_px: int, width_px: int
) -> Float[Tensor, "b c h w"]:
    """Sprites put into their windows of an empty canvas; gradient to sprites and windows."""
    zoom, size_px = where[:, :1].clamp(min=LEAST_ZOOM), sprites.shape[-1]
    # pixel k of h lies at sample ((2 k + 1) / h - 1 - y) zoom p / 2 + p / 2 - 1/2
    sizes, centre = where.new_tensor([height_px, width_px]), where[:, [2, 1]]
    step = zoom * (size_px / sizes)
    first = (1 / sizes - 1 - centre) * zoom * (size_px / 2) + (size_px - 1) / 2
    return sample(sprites, torch.cat([first, step], 1), height_px, width_px)


def window_boxes_px(where: Float[Tensor, "*b 3"], canvas_px: int) -> Float[Tensor, "*b 4"]:
    """Windows on a square canvas as (left, top, right, bottom) in pixels; they may reach outside."""
    zoom, x, y = where.clamp(min=LEAST_ZOOM)[..., 0], where[..., 1], where[..., 2]
    half = 0.5 * canvas_px
    return torch.stack([x - 1 / zoom + 1, y - 1 / zoom + 1, x + 1 / zoom + 1, y + 1 / zoom + 1], -1) * half


def sample(images: Float[Tensor, "b c h w"], grids: Float[Tensor, "b 4"], rows: int, columns: int) -> Float[Tensor, "b c p q"]:
    """Bilinear samples along grids (first row, first column, row step, column step), see ``sprite_kernels``.

    Gradient to images and grids; steps must be positive.
    """
    if images.device.type == "cpu":
        out: Any = _Samples.apply(images, grids, rows, columns)
        return out
    return sample_by_products(images, grids, rows, columns)


def sample_by_products(
    images: Float[Tensor, "b c h w"], grids: Float[Tensor, "b 4"], rows: int, columns: int
) -> Float[Tensor, "b c p q"]:
    """The same as a product of three matrices."""
    weights = [_tents(grids[:, [k, k + 2]], count, images.shape[2 + k]) for k, count in enumerate((rows, columns))]
    return weights[0][:, None] @ images @ weights[1][:, None].transpose(-1, -2)


def _tents(line: Float[Tensor, "b 2"], count: int, pixels: int) -> Float[Tensor, "b p n"]:
    """Bilinear weights of ``pixels`` for ``count`` samples along a line (first, step)."""
    along = torch.arange(max(count, pixels), dtype=line.dtype, device=line.device)
    at = line[:, :1] + along[:count] * line[:, 1:]
    return torch.relu(1.0 - (at[..., None] - along[:pixels]).abs())


class _Samples(torch.autograd.Function):
    """``sample`` on a CPU."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, grids: Tensor, rows: int, columns: int) -> Tensor:
        prepare_kernels()
        images, grids = images.detach().contiguous(), grids.detach().contiguous()
        out = images.new_empty((*images.shape[:2], rows, columns))
        sample_pass(images.numpy(), grids.numpy(), out.numpy())
        ctx.save_for_backward(images, grids)
        return out

    @staticmethod
    def backward(ctx: Any, *weights: Tensor) -> Any:
        images, grids = ctx.saved_tensors
        image_gradient = images.new_empty(images.shape if ctx.needs_input_grad[0] else (0, 0, 0, 0))
        grid_gradient = torch.empty_like(grids)
        arrays = (x.numpy() for x in (images, grids, weights[0].contiguous(), image_gradient, grid_gradient))
        sample_gradient_pass(*arrays)
        return image_gradient if ctx.needs_input_grad[0] else None, grid_gradient, None, None


@functools.cache
def prepare_kernels() -> None:
    """Once a process, before the first pass."""
    drop_stale_kernels(Path(__file__).parent)
