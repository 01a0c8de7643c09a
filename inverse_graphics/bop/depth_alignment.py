"""Rendered depth against measured depth: point-to-plane normal equations of an object's motion.

Each rendered point is paired with the measured point in the same pixel; their difference along the rendered normal is what a
motion can lower.  Chen and Medioni, Object modelling by registration of multiple range images, 1992.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

NORMAL_JUMP = 4.0
"""Neighbours whose depths differ by more than this many pixel widths have no common surface: a slope of 76 degrees."""


def pixel_rays(K_px: Float[Tensor, "k 3 3"], size_px: int) -> Float[Tensor, "k c c 3"]:
    """Rays through the middles of a window's pixels, with z = 1."""
    middles = torch.arange(size_px).to(K_px) + 0.5
    v, u = torch.meshgrid(middles, middles, indexing="ij")
    pixels = torch.stack([u, v, torch.ones_like(u)], -1)
    return pixels @ torch.linalg.inv(K_px).transpose(-1, -2)[:, None]


def depth_losses(
    drawn_m: Float[Tensor, "k h w"], measured_m: Float[Tensor, "k h w"], width_m: Float[Tensor, "k"]
) -> Float[Tensor, "k h w"]:
    """Loss of each pixel, 0..1: Geman and McClure's of the difference, 1 where one of the two is missing.

    A measured pixel without a drawn one costs as much as a wrong one, so that nothing is gained by drawing less.  A drawn pixel
    without a measured one costs a half: sensors have gaps, but an object in a gap is less likely than on a surface.

    Args:
        drawn_m: z-depth of the picture, 0 where there is nothing.
        measured_m: z-depth of the image, 0 where it is unknown, negative where it does not count.
        width_m: difference at which the loss is one half.
    """
    ratio = ((drawn_m - measured_m) / width_m[:, None, None]) ** 2
    both = torch.where((drawn_m > 0) & (measured_m > 0), ratio / (1 + ratio), 1.0)
    unmeasured = torch.where(drawn_m > 0, 0.5, 0.0)
    return torch.where(measured_m > 0, both, torch.where(measured_m == 0, unmeasured.to(both), 0.0))


def point_to_plane(
    drawn_m: Float[Tensor, "k c c"],
    own: Bool[Tensor, "k c c"],
    measured_m: Float[Tensor, "k c c"],
    rays: Float[Tensor, "k c c 3"],
    origin_m: Float[Tensor, "k 3"],
    width_m: Float[Tensor, "k"],
) -> tuple[Float[Tensor, "k 6"], Float[Tensor, "k 6 6"]]:
    """J^T r and J^T J of the distances along the normals by an object's motion, weighted as ``depth_losses`` weighs them.

    Args:
        drawn_m: z-depth of the picture.
        own: pixels that show the object.
        measured_m: z-depth of the image, not positive where it is unknown.
        rays: see ``pixel_rays``.
        origin_m: the object's origin, camera frame.
        width_m: difference at which a pixel's loss is one half; residuals are divided by it.

    Returns:
        By translation along x, y and z in metres and rotation about them through the origin in radians, camera frame.
    """
    points = rays * drawn_m[..., None]
    normals, known = _normals(points, drawn_m, own, rays)
    known = known & (measured_m > 0)
    ahead = torch.where(known, drawn_m - measured_m, 0.0) / width_m[:, None, None]
    weights = torch.where(known, 1 / (1 + ahead**2) ** 2, 0.0)
    slope = normals / width_m[:, None, None, None]
    along = (normals * rays).sum(-1) * ahead
    arm = points - origin_m[:, None, None]
    J = torch.cat([slope, torch.linalg.cross(arm, slope, dim=-1)], -1).flatten(1, 2)
    weighted = J * weights.flatten(1)[..., None]
    return (weighted * along.flatten(1)[..., None]).sum(1), weighted.transpose(-1, -2) @ J


def _normals(points: Tensor, drawn_m: Tensor, own: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
    """Unit normals of the drawn surface [k c c 3] by differences of neighbours, and where both neighbours are on it."""
    right, below = torch.zeros_like(points), torch.zeros_like(points)
    right[:, :, 1:-1] = points[:, :, 2:] - points[:, :, :-2]
    below[:, 1:-1] = points[:, 2:] - points[:, :-2]
    pixel_m = drawn_m * (rays[:, :1, 1:2, 0] - rays[:, :1, :1, 0]).abs()
    known = own.clone()
    known[:, :, 1:-1] &= own[:, :, 2:] & own[:, :, :-2]
    known[:, 1:-1] &= own[:, 2:] & own[:, :-2]
    known[:, :, [0, -1]] = False
    known[:, [0, -1]] = False
    known &= (right[..., 2].abs() < 2 * NORMAL_JUMP * pixel_m) & (below[..., 2].abs() < 2 * NORMAL_JUMP * pixel_m)
    normals = torch.linalg.cross(right, below, dim=-1)
    length = normals.norm(dim=-1, keepdim=True)
    return torch.where(known[..., None], normals / length.clamp(min=torch.finfo(length.dtype).tiny), 0.0), known
