"""Where to look next, and whether there is anything left: the two recurrences of AIR and DAIR.

- ``Remembering`` (AIR, Eslami et al. 2016): an LSTM sees the image once and remembers what its steps found.
- ``Differencing`` (DAIR): every step sees what is left, the image less the canvas so far, beside the canvas itself, and remembers
  nothing: a convolutional network searches it for the place to look at next.  (The paper keeps an LSTM; without one a step cannot
  count, only look, and numbers of objects never trained on come out right.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inverse_graphics.sprites.latents import Gaussian
from inverse_graphics.sprites.windows import read_windows

STRIDE_PX = 4
"""From one cell of the search to the next."""
KEY_LIMIT = 3.0
"""Nats by which what is learned may raise or lower a cell in the search."""
LEFT_POWER, LEAST_LEFT = 3.0, 3e-3
"""The search prefers cells by this power of the mean grey that is left around them, plus the second."""
LOOK_WIDTHS, LOOK_PX = (2.0, 1.4), 16
"""Widths of the close looks in windows of the prior's size, and their side in samples."""
START_LOGIT = 2.0
"""Steps begin with objects present ..."""
VAGUE, SHARP = -2.0, -4.0
"""... in windows of some doubt (before a softplus): an LSTM has to try places, a search has found one."""
Variant = Literal["air", "dair"]


@dataclass(frozen=True)
class Place:
    """What a step says before it looks closely."""

    presence_logit: Float[Tensor, "b"]
    """Logit that there is one object more."""
    where: Gaussian
    """[b 3] q(zoom, x, y), see ``windows``."""


@dataclass(frozen=True)
class Before:
    """What a step may look at."""

    image: Float[Tensor, "b h w"]
    """The image to explain."""
    canvas: Float[Tensor, "b h w"]
    """What the steps before have drawn; carries no gradient."""
    found: Float[Tensor, "b l"]
    """Latents (where, what) that the step before drew; zeros at first."""
    move: Float[Tensor, "b 2"] | None = None
    """How far from the place found to look instead, see ``looking``: dair moves what it attends to, and looks closely from there,
    air its window."""


class Remembering(nn.Module):
    """AIR's LSTM."""

    def __init__(self, pixels: int, latents: int, hidden: int, where_mean: tuple[float, float, float]) -> None:
        """Build the layers.

        Args:
            pixels: of an image.
            latents: numbers of what a step before found.
            hidden: size of the LSTM's state.
            where_mean: the prior's mean, where steps look at first.
        """
        super().__init__()
        self.image = nn.Linear(pixels, 4 * hidden)
        self.cell = nn.Linear(latents + hidden, 4 * hidden, bias=False)
        self.heads = nn.ModuleList([nn.Sequential(nn.Linear(hidden, 200), nn.ReLU(), nn.Linear(200, 7))])
        _start_head(self.heads.get_submodule("0.2"), _begin(where_mean, VAGUE))

    def start(self, image: Float[Tensor, "b h w"]) -> tuple[Tensor, Tensor, Tensor]:
        """The state before the first step: what the image says, and the LSTM's own."""
        seen = self.image(image.flatten(1))
        zeros = seen.new_zeros(len(seen), seen.shape[1] // 4)
        return seen, zeros, zeros

    def forward(self, state: tuple[Tensor, Tensor, Tensor], before: Before) -> tuple[Place, tuple[Tensor, Tensor, Tensor]]:
        """One step."""
        seen, hidden, memory = state
        gates = seen + self.cell(torch.cat([before.found, hidden], 1))
        keep, take, new, show = gates.chunk(4, 1)
        memory = torch.sigmoid(keep + 1) * memory + torch.sigmoid(take) * torch.tanh(new)
        hidden = torch.sigmoid(show) * torch.tanh(memory)
        out = self.heads[0](hidden)
        where = Gaussian.of(out[:, 1:])
        if before.move is not None:
            where = Gaussian(where.mean + torch.nn.functional.pad(before.move, (1, 0)), where.std)
        return Place(out[:, 0], where), (seen, hidden, memory)


class Differencing(nn.Module):
    """DAIR's search of what is left: a coarse look, and close ones.

    A coarse look gives every cell of a grid a weight: how much grey is left around it, raised or lowered by what a convolutional
    network has learned.  The heaviest cell and its neighbours say where to look closely; of two objects that weigh the same it is
    one, not the middle between them.  A close look says where the window goes and whether there is an object; another, closer one
    at that window corrects it (not where the search ``is_fine``).
    """

    def __init__(
        self,
        height_px: int,
        width_px: int,
        channels: int,
        where_mean: tuple[float, float, float],
        shift: float,
        is_fine: bool = False,
        grown: float = 1.0,
    ) -> None:
        """Build the layers.

        Args:
            height_px, width_px: image size.
            channels: of the search's cells.
            where_mean: the prior's mean; only its zoom is used, places come from the cells.
            shift: how far from the attended place, in shares of half the canvas, a window may lie.
            is_fine: search pixels, for thin strokes, in place of their means, and look closely once.
            grown: how many times the canvas that the weights were trained on goes into this one; zooms and moves are told in
                units of that one.
        """
        super().__init__()
        self.shift, self.zoom, self.is_fine, self.grown = shift / grown, where_mean[0], is_fine, grown
        reach_px = int(width_px / self.zoom / 8)
        self.pool = nn.AvgPool2d(2 * reach_px + 1, STRIDE_PX, reach_px)
        self.cells = _search_of_pixels(channels) if is_fine else _search_of_means(channels)
        self.key = nn.Linear(channels, 1)
        self.widths = LOOK_WIDTHS[:1] if is_fine else LOOK_WIDTHS
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Linear(channels + 1 + 2 * LOOK_PX**2, 128), nn.ReLU(), nn.Linear(128, 7)) for _ in self.widths
        )
        for look, head in enumerate(self.heads):
            _start_head(head.get_submodule("2"), [0.0] * 7 if look else _begin((self.zoom / grown, 0.0, 0.0), SHARP))
        self.register_buffer("cell_xy", _cell_centres(height_px, width_px), persistent=False)

    def start(self, image: Float[Tensor, "b h w"]) -> None:
        """Nothing is remembered."""
        return None

    def forward(self, state: None, before: Before) -> tuple[Place, None]:
        """One step."""
        shown = torch.stack([before.image - before.canvas, before.canvas], 1)
        pooled, cell_xy = self.pool(shown), self.get_buffer("cell_xy")
        cells = self.cells(shown if self.is_fine else pooled).flatten(2).transpose(1, 2)
        left = pooled[:, 0].relu().flatten(1)
        value = KEY_LIMIT * torch.tanh(self.key(cells)[..., 0]) + LEFT_POWER * torch.log(left + LEAST_LEFT)
        peak_xy = cell_xy[value.argmax(-1)]
        is_far = (cell_xy - peak_xy[:, None]).abs().amax(-1) > 0.5 / self.zoom
        weights = value.masked_fill(is_far, -math.inf).softmax(-1)
        attended = weights @ cell_xy if before.move is None else weights @ cell_xy + before.move
        seen = torch.cat([(weights[:, None] @ cells)[:, 0], value.logsumexp(-1, keepdim=True) / 8], 1)
        told, xy = attended.new_zeros(len(attended), 7), attended
        for head, width in zip(self.heads, self.widths, strict=True):
            near = torch.cat([xy.new_full((len(xy), 1), self.zoom / width), xy.detach()], 1)
            told = told + head(torch.cat([read_windows(shown, near, LOOK_PX).flatten(1), seen], 1))
            xy = attended + self.shift * torch.tanh(told[:, 2:4])
        where = Gaussian.of(told[:, 1:])
        units = where.std.new_tensor([self.grown, 1 / self.grown, 1 / self.grown])
        return Place(told[:, 0], Gaussian(torch.cat([self.grown * where.mean[:, :1], xy], 1), units * where.std)), None


def _search_of_means(channels: int) -> nn.Sequential:
    """Cells from means around them."""
    return nn.Sequential(nn.Conv2d(2, channels, 5, padding=2), nn.ReLU(), nn.Conv2d(channels, channels, 1), nn.ReLU())


def _search_of_pixels(channels: int) -> nn.Sequential:
    """Cells from the pixels, by two strides of 2; several times as much work."""
    few = max(1, channels // 4)
    return nn.Sequential(
        nn.Conv2d(2, few, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(few, channels, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(channels, channels, 3, padding=2, dilation=2),
        nn.ReLU(),
    )


def _cell_centres(height_px: int, width_px: int) -> Float[Tensor, "g 2"]:
    """(x, y) of the centres of the search's cells, row by row: two strides of 2 put cell i on pixel 4 i."""
    rows, columns = (torch.arange(0, size, STRIDE_PX) for size in (height_px, width_px))
    y, x = torch.meshgrid((rows + 0.5) * (2 / height_px) - 1, (columns + 0.5) * (2 / width_px) - 1, indexing="ij")
    return torch.stack([x, y], -1).reshape(-1, 2)


def _begin(where_mean: tuple[float, float, float], raw_std: float) -> list[float]:
    """What a step says at first: there is an object, in a window as the prior has it, with errors of softplus(raw_std)."""
    return [START_LOGIT, *where_mean, *[raw_std] * 3]


def _start_head(layer: nn.Module, values: list[float]) -> None:
    """A layer begins by saying about these, whatever it sees."""
    assert isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight.mul_(0.01)
        layer.bias.copy_(torch.tensor(values))
