"""DAIR in 3-D: before each step the guide is shown what is left of the image, and what is explained.

What has been found so far is drawn and subtracted; the step's features change with it.  The draws carry no gradient.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from inverse_graphics.compositing import draw_rgb
from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Objects, View, map_tensors

LEAST_CHANGE = 1 / 255
"""A pixel is explained where an object changes the background by more than this."""


@dataclass(frozen=True)
class FoundPainter:
    """Draws what has been found so far."""

    renderer: Renderer
    """Draws colours; its gradients are not asked for."""
    view: View
    """[b] camera, light and background of the images; they must be known."""

    def __call__(self, found: Objects) -> tuple[Float[Tensor, "b h w 3"], Bool[Tensor, "b h w"]]:
        """The image of the objects, and where it is theirs.

        Args:
            found: [b n] objects, on any device.

        Returns:
            Both on that device; no gradient.
        """
        device, own = found.class_ids.device, self.view.background_rgb.device
        rgb = draw_rgb(self.renderer, map_tensors(lambda tensor: tensor.detach().to(own), found), self.view)
        explained = (rgb - self.view.background_rgb).abs().amax(-1) > LEAST_CHANGE
        return rgb.to(device), explained.to(device)

    def repeat(self, times: int) -> FoundPainter:
        """For images that come ``times`` times each, one after the other."""
        return FoundPainter(self.renderer, map_tensors(lambda tensor: tensor.repeat_interleave(times, 0), self.view))


class LeftEncoder(nn.Module):
    """What is left of an image, as a change of its grid of local features."""

    def __init__(self, channels: int) -> None:
        """Build the layers for a grid of so many channels, a quarter of the image's size."""
        super().__init__()
        self.layers = nn.Sequential(
            nn.AvgPool2d(2),
            nn.Conv2d(4, 16, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 24, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(24, channels, 1),
        )

    def forward(self, left_rgb: Float[Tensor, "b h w 3"], explained: Bool[Tensor, "b h w"]) -> Float[Tensor, "b g c"]:
        """Encode the image less what was drawn, and where that is."""
        shown = torch.cat([left_rgb, explained[..., None].to(left_rgb.dtype)], -1).permute(0, 3, 1, 2)
        return self.layers(shown.contiguous(memory_format=torch.channels_last)).permute(0, 2, 3, 1).flatten(1, 2)
