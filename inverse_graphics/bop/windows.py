"""Windows of an image around objects: square, of one size in pixels, so that many are drawn as one batch of small pictures.

A window is a virtual camera: the intrinsic matrix is shifted and divided by the window's scale.  Colours are box-filtered, as a
renderer's are; depth is taken at the middles of the window's pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

MARGIN = 1.35
"""Half a window, in radii of the object: it may start a third of its radius off."""
DEPTH_JUMP = 0.1
"""Depth is not interpolated between pixels that differ by more than this share of the object's radius."""


@dataclass(frozen=True)
class Windows:
    """The k windows of an image."""

    K_px: Float[Tensor, "k 3 3"]
    """Intrinsic matrices."""
    rgb: Float[Tensor, "k c c 3"]
    """Linear colours, 0 where there is no image."""
    inside: Bool[Tensor, "k c c"]
    """Pixels that lie whole within the image."""
    depth_m: Float[Tensor, "k c c"]
    """z-depth, 0 where it is unknown, -1 where a pixel lies across a border and has no depth of its own."""


def frame_windows(
    K_px: Float[Tensor, "3 3"], middle_m: Float[Tensor, "k 3"], radius_m: Float[Tensor, "k"], size_px: int
) -> tuple[Float[Tensor, "k 2"], Float[Tensor, "k"]]:
    """Where the windows lie.

    Args:
        K_px: intrinsic matrix of the image.
        middle_m: middles of the objects, camera frame, in front of it.
        radius_m: radii of the balls that hold them.
        size_px: width and height of a window in its own pixels.

    Returns:
        low_px: column and row of the windows' corners in the image.
        scale: pixels of the image that one of the window's stands for along each axis, at least 1.
    """
    uv_px = (middle_m @ K_px.T)[:, :2] / middle_m[:, 2:]
    focal_px = torch.maximum(K_px[0, 0], K_px[1, 1])
    half_px = MARGIN * focal_px * radius_m / middle_m[:, 2]
    scale = (2 * half_px / size_px).clamp(min=1.0)
    low_px = uv_px - 0.5 * size_px * scale[:, None]
    # windows at the image's own resolution take its very pixels
    return torch.where(scale[:, None] == 1, low_px.round(), low_px), scale


def cut_windows(
    rgb: Float[Tensor, "h w 3"],
    depth_m: Float[Tensor, "h w"],
    K_px: Float[Tensor, "3 3"],
    low_px: Float[Tensor, "k 2"],
    scale: Float[Tensor, "k"],
    radius_m: Float[Tensor, "k"],
    size_px: int,
) -> Windows:
    """Cut windows out of an image.

    Args:
        rgb: linear colours.
        depth_m: z-depth, 0 where it is unknown.
        K_px: intrinsic matrix of the image.
        low_px, scale: see ``frame_windows``.
        radius_m: radii of the objects.
        size_px: width and height of a window in its own pixels.
    """
    height_px, width_px = depth_m.shape
    across = _overlaps(low_px[:, 0], scale, size_px, width_px)
    down = _overlaps(low_px[:, 1], scale, size_px, height_px)
    colours = torch.stack([_boxed(rgb, d, a) for d, a in zip(down, across, strict=True)])
    inside = (down.sum(-1)[:, :, None] > 0.999) & (across.sum(-1)[:, None, :] > 0.999)
    to_window = torch.eye(3).to(K_px).repeat(len(scale), 1, 1)
    to_window[:, :2, 2] = -low_px
    to_window[:, :2] /= scale[:, None, None]
    depth = _sampled_depth(depth_m, low_px, scale, DEPTH_JUMP * radius_m, size_px)
    return Windows(to_window @ K_px, colours, inside, depth)


def _overlaps(low_px: Tensor, scale: Tensor, size_px: int, length_px: int) -> Tensor:
    """[k c l] share of each of the window's pixels that each of the image's pixels makes up, along one axis."""
    edges = low_px[:, None] + scale[:, None] * torch.arange(size_px + 1).to(low_px)
    first = torch.arange(length_px).to(low_px)
    overlap = torch.minimum(edges[:, 1:, None], first + 1) - torch.maximum(edges[:, :-1, None], first)
    return overlap.clamp(min=0) / scale[:, None, None]


def _boxed(rgb: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """[c c 3] the mean colours of a window's pixels; only the part of the image that it shows is touched."""
    rows, columns = ((weights > 0).any(0).nonzero()[:, 0] for weights in (down, across))
    if len(rows) == 0 or len(columns) == 0:
        return rgb.new_zeros(len(down), len(across), 3)
    rows, columns = slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)
    return torch.einsum("ir,rsc,js->ijc", down[:, rows], rgb[rows, columns], across[:, columns])


def _sampled_depth(depth_m: Tensor, low_px: Tensor, scale: Tensor, jump_m: Tensor, size_px: int) -> Tensor:
    """[k c c] depth at the middles of the windows' pixels, exact on planes; -1 at the edge of what is known, and at jumps."""
    height_px, width_px = depth_m.shape
    middles = scale[:, None] * (torch.arange(size_px).to(low_px) + 0.5) - 0.5
    u, v = low_px[:, :1] + middles, low_px[:, 1:] + middles
    column, row = u.floor(), v.floor()
    known = ((column >= 0) & (column < width_px - 1))[:, None, :] & ((row >= 0) & (row < height_px - 1))[:, :, None]
    x = column.clamp(0, max(width_px - 2, 0)).long()[:, None, :]
    y = row.clamp(0, max(height_px - 2, 0)).long()[:, :, None]
    right, below = min(1, width_px - 1), min(1, height_px - 1)
    corners = torch.stack([depth_m[y, x], depth_m[y, x + right], depth_m[y + below, x], depth_m[y + below, x + right]])
    even = known & (corners > 0).all(0) & (corners.amax(0) - corners.amin(0) < jump_m[:, None, None])
    unknown = (corners == 0).all(0) | ~known
    inverse = 1 / corners.clamp(min=torch.finfo(corners.dtype).tiny)
    a, b = (u - column)[:, None, :], (v - row)[:, :, None]
    mixed = (1 - b) * ((1 - a) * inverse[0] + a * inverse[1]) + b * ((1 - a) * inverse[2] + a * inverse[3])
    return torch.where(even, 1 / mixed, torch.where(unknown, 0.0, -1.0))
