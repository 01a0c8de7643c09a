"""Small rigid motions of objects (``poses.move``): where finite differences go, how far, and back to a 4x4 gradient."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_graphics.types import View

Tangents = Literal["planar", "full"]
"""``planar``: world x, world y, rotation about world z.  ``full``: all three translations, all three rotations."""


MAX_STEP_RAD = 0.3
"""Longest step of a rotation: objects of about a pixel would otherwise be turned round."""


def tangent_basis(tangents: Tangents) -> Float[Tensor, "p 6"]:
    """Directions as (translation along world x, y, z; rotation about world x, y, z through the object's origin).

    Raises:
        ValueError: unknown name.
    """
    if tangents == "planar":
        return torch.eye(6)[[0, 1, 5]]
    if tangents == "full":
        return torch.eye(6)
    raise ValueError(f"tangents: expected 'planar' or 'full', got {tangents!r}")


def tangent_steps(
    T_world_object: Float[Tensor, "*b n 4 4"],
    radius_m: Float[Tensor, "*b n"],
    view: View,
    basis: Float[Tensor, "p 6"],
    step_px: float,
) -> Float[Tensor, "*b n p"]:
    """Step along each direction that moves the object's image by about ``step_px``.

    It is step_px * Z / f metres, and for rotations that over the object's radius, at most ``MAX_STEP_RAD``.
    """
    origin = T_world_object[..., :3, 3]
    forward = view.camera.T_camera_world[..., 2, :]
    depth_m = (forward[..., None, :3] * origin).sum(-1) + forward[..., None, 3]
    metres = step_px * depth_m.abs().clamp(min=view.camera.near_m) / view.camera.K_px[..., 0, 0, None]
    turns = basis[:, 3:].abs().sum(-1) > 0
    radians = (metres / radius_m.clamp(min=1e-6)).clamp(max=MAX_STEP_RAD)
    return torch.where(turns, radians[..., None], metres[..., None])


def matrix_gradient(
    T_world_object: Float[Tensor, "*b 4 4"], basis: Float[Tensor, "p 6"], slope: Float[Tensor, "*b p"]
) -> Float[Tensor, "*b 4 4"]:
    """Gradient with respect to the matrix whose product with any of the rigid motions is that motion's slope.

    With slopes g_t along the translations and g_w along the rotations it is [hat(g_w) R / 2 | g_t], last row 0: for a rotation w,
    <hat(g_w) R / 2, hat(w) R> = g_w . w.
    """
    g = slope @ basis.to(slope)
    R = T_world_object[..., :3, :3]
    out = torch.zeros_like(T_world_object)
    out[..., :3, :3] = 0.5 * torch.linalg.cross(g[..., None, 3:].transpose(-1, -2).expand(R.shape), R, dim=-2)
    out[..., :3, 3] = g[..., :3]
    return out
