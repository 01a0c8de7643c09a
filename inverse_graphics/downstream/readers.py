"""Two readers of pairs of digits: one knows how a picture is made up, the other sees pixels.

Both map what they see to log probabilities of the answers, [b answers], and are trained from answers alone.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from inverse_graphics.downstream.tasks import DIGITS, Task, answer_log_probabilities, num_answers

Reader = Literal["latents", "pixels"]
READERS: tuple[Reader, ...] = get_args(Reader)


class LatentReader(nn.Module):
    """From the latents of two digits: one network reads either digit, the task's rule puts the two together.

    A digit is seen as its appearance and as the sprite that the frozen decoder makes of it.
    """

    def __init__(self, task: Task, what: int, sprite_px: int, hidden: int, dropout: float) -> None:
        """Build the layers.

        Args:
            task: what is asked.
            what: numbers of an appearance.
            sprite_px: side of a sprite.
            hidden: units between the features and the digit.
            dropout: share of the units that are dropped in training.
        """
        super().__init__()
        self.task: Task = task
        self.picture = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        side = -(-sprite_px // 4)
        self.digit = nn.Sequential(
            nn.Dropout(dropout), nn.Linear(32 * side**2 + what, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, DIGITS)
        )

    def digits(self, what: Float[Tensor, "b 2 z"], sprites: Float[Tensor, "b 2 p p"]) -> Float[Tensor, "b 2 d"]:
        """Log probabilities of either digit."""
        seen = torch.cat([self.picture(sprites.flatten(0, 1)[:, None]), what.flatten(0, 1)], 1)
        return F.log_softmax(self.digit(seen), -1).unflatten(0, (-1, 2))

    def forward(self, what: Float[Tensor, "b 2 z"], sprites: Float[Tensor, "b 2 p p"]) -> Float[Tensor, "b answers"]:
        """Log probabilities of the answers."""
        left, right = self.digits(what, sprites).unbind(1)
        return answer_log_probabilities(self.task, left, right)


class PixelReader(nn.Module):
    """A convolutional network over the whole image, trained from nothing."""

    def __init__(self, task: Task, canvas_px: int, hidden: int, dropout: float) -> None:
        """Build the layers; arguments as for ``LatentReader``."""
        super().__init__()
        side = -(-canvas_px // 2) // 2 // 2
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
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
