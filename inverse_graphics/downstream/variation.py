"""Pictures moved, turned, scaled and slanted at random: what a training picture might have looked like as well."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from inverse_graphics.config import FieldError


@dataclass(frozen=True)
class Variation:
    """Limits of what is drawn uniformly for each training picture; the default changes nothing."""

    shift_px: float = 0.0
    """Largest move along either axis."""
    turn_deg: float = 0.0
    """Largest turn to either side."""
    stretch: float = 0.0
    """Largest share by which either axis is made longer or shorter."""
    slant: float = 0.0
    """Largest slant of upright lines to either side, sideways by height."""

    def __post_init__(self) -> None:
        for name in ("shift_px", "turn_deg", "stretch", "slant"):
            if not getattr(self, name) >= 0:
                raise FieldError(name, "a number >= 0", getattr(self, name), "0 is none")
        if self.stretch >= 1:
            raise FieldError("stretch", "a share below 1", self.stretch, "use for example 0.1")


def varied(pictures: Float[Tensor, "b p p"], limits: Variation, generator: torch.Generator) -> Float[Tensor, "b p p"]:
    """Each picture under an affine map of its own; black comes in at the edges.

    Args:
        pictures: grey values, 0 the background.
        limits: of the maps.
        generator: source of the draws, on the pictures' device.
    """
    u = 2 * torch.rand(6, len(pictures), generator=generator, device=pictures.device, dtype=pictures.dtype) - 1
    angle = u[0] * math.radians(limits.turn_deg)
    wide, high = 1 + limits.stretch * u[1], 1 + limits.stretch * u[2]
    move, slant = u[3:5] * (2 * limits.shift_px / pictures.shape[-1]), limits.slant * u[5]
    rows = (angle.cos() * wide, -angle.sin() * high + slant, move[0], angle.sin() * wide, angle.cos() * high, move[1])
    maps = torch.stack(rows, -1).unflatten(-1, (2, 3))
    grid = F.affine_grid(maps, [len(pictures), 1, *pictures.shape[1:]], align_corners=False)
    return F.grid_sample(pictures[:, None], grid, mode="bilinear", padding_mode="zeros", align_corners=False)[:, 0]
