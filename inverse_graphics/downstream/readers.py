"""Two readers of pairs of digits: one knows how a picture is made up, the other sees pixels.

One tells either digit's probabilities, from which the task's rule makes those of the answer, the other the answer's; both are
trained from answers alone.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from inverse_graphics.downstream.tasks import NUM_NAMES, Task, num_answers

Reader = Literal["latents", "pixels"]
READERS: tuple[Reader, ...] = get_args(Reader)


class LatentReader(nn.Module):
    """From the latents of two digits to log probabilities of either digit's name; the task's rule puts the two together.

    An appearance is seen as the sprite that the frozen decoder makes of it: unlike its numbers, that can be moved and turned.
    """

    def __init__(self, task: Task, sprite_px: int, hidden: int, dropout: float) -> None:
        """Build the layers.

        Args:
            task: what is asked, which decides how many names there are.
            sprite_px: side of a sprite.
            hidden: units between the features and the name.
            dropout: share of the units that are dropped in training.
        """
        super().__init__()
        self.picture = nn.Sequential(*_convolution(1, 16, 5, 2), *_convolution(16, 32, 3, 2), *_convolution(32, 64), nn.Flatten())
        features = 64 * (-(-sprite_px // 4)) ** 2
        self.digit = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(features, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, NUM_NAMES[task])
        )

    def forward(self, sprites: Float[Tensor, "b 2 p p"]) -> Float[Tensor, "b 2 d"]:
        """Log probabilities of either digit's name."""
        return F.log_softmax(self.digit(self.picture(sprites.flatten(0, 1)[:, None])), -1).unflatten(0, (-1, 2))


class PixelReader(nn.Module):
    """A convolutional network over the whole image, trained from nothing."""

    def __init__(self, task: Task, canvas_px: int, hidden: int, dropout: float) -> None:
        """Build the layers; what is asked, side of an image, and as for ``LatentReader``."""
        super().__init__()
        side = -(-canvas_px // 4) // 2
        self.layers = nn.Sequential(
            *_convolution(1, 16, 5, 2),
            *_convolution(16, 32, 3, 2),
            *_convolution(32, 64),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(64 * side**2, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_answers(task)),
        )

    def forward(self, images: Float[Tensor, "b h w"]) -> Float[Tensor, "b answers"]:
        """Log probabilities of the answers."""
        return F.log_softmax(self.layers(images[:, None]), -1)


def _convolution(channels_in: int, channels: int, size_px: int = 3, stride: int = 1) -> tuple[nn.Module, ...]:
    """A convolution, its channels put on one scale over the batch, and what is above 0 of it."""
    convolution = nn.Conv2d(channels_in, channels, size_px, stride, size_px // 2, bias=False)
    return convolution, nn.BatchNorm2d(channels), nn.ReLU()
