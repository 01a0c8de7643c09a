"""The guide's two convolutional networks: one over the image, one over a glimpse."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

CELL_PX = 4
"""Side of a cell of the image encoder's grid, in pixels."""


class ImageEncoder(nn.Module):
    """Image to a grid of local features, a quarter of the image's size, and one vector for all of it."""

    def __init__(self, height_px: int, width_px: int, channels: int, features: int) -> None:
        """Build the layers.

        Args:
            height_px: image height, a multiple of 8.
            width_px: image width, a multiple of 8.
            channels: channels of the grid.
            features: length of the vector; 0 for none.
        """
        super().__init__()
        if height_px % 8 or width_px % 8:
            raise ValueError(f"image: expected sides that are multiples of 8 px, got {width_px} x {height_px}; resize it")
        self.local = nn.Sequential(
            nn.Conv2d(3, 24, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(24, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, channels, 3, padding=2, dilation=2),
            nn.ReLU(),
        )
        self.whole: nn.Module | None = None
        if features:
            self.whole = nn.Sequential(
                nn.Conv2d(channels, 32, 3, stride=2, padding=1),
                nn.ReLU(),
                nn.Flatten(),
                nn.Linear(32 * (height_px // 8) * (width_px // 8), features),
                nn.ReLU(),
            )

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> tuple[Float[Tensor, "b c gh gw"], Float[Tensor, "b f"]]:
        """Encode images whose values lie around 0."""
        grid = self.local(image)
        return grid, grid.new_zeros(len(grid), 0) if self.whole is None else self.whole(grid)


class GlimpseEncoder(nn.Module):
    """Crop to a feature vector."""

    def __init__(self, size_px: int, features: int) -> None:
        """Build the layers.

        Args:
            size_px: side of the crop, a multiple of 4.
            features: length of the vector.
        """
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 24, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(24, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 48, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(48 * (size_px // 4) ** 2, features),
            nn.ReLU(),
        )

    def forward(self, crop: Float[Tensor, "g 3 p p"]) -> Float[Tensor, "g f"]:
        """Encode crops whose values lie around 0."""
        return self.layers(crop.contiguous(memory_format=torch.channels_last))
