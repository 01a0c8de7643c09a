"""A decoder that draws pen strokes: the renderer of characters, in place of the one that draws sprites.

A stroke is a curve c(t) = sum_k a_k z_k P_k(t), t in -1..1, with P_k Legendre's polynomials and z_k two standard Gaussian
numbers: a Gaussian process whose amplitudes a_k are learned, so that what a stroke costs in nats tells smooth curves from wild
ones.  The pen leaves a density of ink that falls off as a Gaussian across the curve; densities add up where strokes cross, and
ink is 1 - exp(-density), so that a stroke drawn twice is hardly darker than one.

The density is that of a row of round dots along the curve.  A round Gaussian is a product of one along x and one along y, and a
sum of such products over the dots is a product of two matrices: some fifty times as fast as distances from pixels to segments.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy.polynomial import legendre
from torch import Tensor, nn

from inverse_graphics.config import FieldError
from inverse_graphics.sprites.steps import Variant


@dataclass(frozen=True)
class StrokeSizes:
    """Sizes and priors of a stroke model."""

    degree: int = 5
    """Of the curves' polynomials."""
    dots: int = 36
    """Dots that draw a stroke; they should be nearer to each other than the pen is wide."""
    window_px: int = 28
    """Side of glimpses in samples."""
    looks: int = 2
    """Glimpses of a step: those after the first see the stroke proposed so far, and correct it."""
    hidden: int = 128
    """Hidden units of what reads a glimpse, and size of the LSTM (air)."""
    channels: int = 16
    """Channels of the search (dair) and of what reads a glimpse."""
    stroke_px: float = 36.0
    """Side of the windows in pixels of the image: the prior's zoom is the canvas's side over this ..."""
    stroke_spread: float = 0.1
    """... give or take this share of it (one standard deviation)."""
    pen_px: float = 0.5
    """Standard deviation of the pen's dots to begin with; learned, and each stroke has its own about it."""
    darkness: float = 3.0
    """Density in the middle of a stroke to begin with; learned."""
    shift: float = 0.3
    """How far from the attended place a step of dair may look, in shares of half the canvas."""
    presence_limit: float = 6.0
    """Presence logits are squashed softly to this size, so that no count loses its gradient."""

    def __post_init__(self) -> None:
        for name in ("degree", "looks", "hidden", "channels"):
            if getattr(self, name) < 1:
                raise FieldError(name, "at least 1", getattr(self, name), "raise it")
        for name in ("dots", "window_px"):
            if getattr(self, name) < 4:
                raise FieldError(name, "at least 4", getattr(self, name), "raise it")
        for name in ("stroke_px", "stroke_spread", "pen_px", "darkness", "shift", "presence_limit"):
            if not getattr(self, name) > 0:
                raise FieldError(name, "a positive number", getattr(self, name), "raise it")

    @property
    def what(self) -> int:
        """Numbers that say what a stroke looks like: x and y of each polynomial, and the pen's width."""
        return 2 * (self.degree + 1) + 1


@dataclass(frozen=True)
class StrokeConfig:
    """What a stroke model is built from."""

    variant: Variant = "dair"
    """air: an LSTM that sees the image once; dair: every step sees what is left."""
    canvas_px: int = 50
    """Side of the images."""
    max_objects: int = 4
    """Steps N, each a stroke at the most."""
    sizes: StrokeSizes = StrokeSizes()
    """Sizes and priors."""

    def __post_init__(self) -> None:
        if self.canvas_px < 8:
            raise FieldError("canvas_px", "at least 8", self.canvas_px, "use larger images")
        if self.max_objects < 1:
            raise FieldError("max_objects", "at least 1", self.max_objects, "raise it")
        if self.sizes.stroke_px > self.canvas_px:
            raise FieldError("sizes.stroke_px", f"at most canvas_px, {self.canvas_px}", self.sizes.stroke_px, "lower it")

    @property
    def where_mean(self) -> tuple[float, float, float]:
        """Means of the windows' prior (zoom, x, y)."""
        return self.canvas_px / self.sizes.stroke_px, 0.0, 0.0

    @property
    def where_std(self) -> tuple[float, float, float]:
        """Standard deviations of it."""
        return self.sizes.stroke_spread * self.where_mean[0], 0.5, 0.5


WIDTH_SPREAD = 0.3
"""A stroke's pen is e to this power wider or thinner than the others' (one standard deviation)."""
START_AMPLITUDES = (0.15, 0.6, 0.3)
"""Of the first three polynomials to begin with, in units of half a window ..."""
FALL = 1.2
"""... and the power of its degree with which each further one falls: slowly, as those of a line with corners do."""


class StrokeDecoder(nn.Module):
    """Curves and densities of strokes; learned are the amplitudes, the pen and its darkness."""

    def __init__(self, config: StrokeConfig) -> None:
        """Put the dots' places on the curves in tables."""
        super().__init__()
        sizes = config.sizes
        self.config = config
        self.canvas_px = config.canvas_px
        amplitudes = [*START_AMPLITUDES, *(START_AMPLITUDES[-1] * (2 / k) ** FALL for k in range(3, sizes.degree + 1))]
        self.log_amplitudes = nn.Parameter(torch.tensor(amplitudes[: sizes.degree + 1]).log())
        self.log_pen_px = nn.Parameter(torch.tensor(math.log(sizes.pen_px)))
        self.log_darkness = nn.Parameter(torch.tensor(math.log(sizes.darkness)))
        at, slope = dot_tables(sizes.degree, sizes.dots)
        self.register_buffer("at", torch.from_numpy(at).float(), persistent=False)
        self.register_buffer("slope", torch.from_numpy(slope).float(), persistent=False)

    def courses(self, what: Float[Tensor, "b z"], where: Float[Tensor, "b 3"]) -> Float[Tensor, "b d 2"]:
        """The dots' (x, y), in -1..1 of the canvas."""
        return where[:, None, 1:] + self.get_buffer("at") @ self._shape(what, where)

    def forward(self, what: Float[Tensor, "b z"], where: Float[Tensor, "b 3"], blur_px: float = 0.0) -> Float[Tensor, "b h w"]:
        """Densities of ink on empty canvases; gradient to strokes, windows and what is learned.

        Args:
            what: [b z] x and y of each polynomial's weight (x of all, then y of all), and the pen's width; all standard Gaussian.
            where: [b 3] zoom, x and y of the window in whose frame the curve is.
            blur_px: widens the pen, keeping the ink: curves are found from further away.
        """
        half = 0.5 * self.canvas_px
        shape = self._shape(what, where) * half
        dots_px = (where[:, None, 1:] + 1) * half + self.get_buffer("at") @ shape
        pen_px = (self.log_pen_px + WIDTH_SPREAD * what[:, -1:]).exp()
        wide_px = (pen_px.square() + blur_px**2).sqrt()
        count = dots_px.shape[1]
        # a stroke without length is a dot as long as its pen is wide
        step_px = ((self.get_buffer("slope") @ shape * (2 / count)).square().sum(-1) + (2 * pen_px / count).square()).sqrt()
        ink = self.log_darkness.exp() * step_px * pen_px / (math.sqrt(2 * math.pi) * wide_px.square())
        centres = torch.arange(self.canvas_px, dtype=what.dtype, device=what.device) + 0.5
        apart = (centres - dots_px[..., None]) / wide_px[..., None, None]
        columns, rows = (-0.5 * apart.square()).exp().unbind(2)
        return (rows * ink[..., None]).transpose(1, 2) @ columns

    def _shape(self, what: Float[Tensor, "b z"], where: Float[Tensor, "b 3"]) -> Float[Tensor, "b k 2"]:
        """Weights of the polynomials in units of half the canvas."""
        weights = what[:, :-1].unflatten(-1, (2, -1)).transpose(1, 2)
        return weights * self.log_amplitudes.exp()[:, None] / where[:, :1, None].clamp(min=0.5)


def finer_decoder(decoder: StrokeDecoder, degree: int, dots: int) -> StrokeDecoder:
    """A decoder with as many polynomials and dots at least and the same pen; what curves cost is as it was before training.

    Learned ones are those of the short and smooth strokes that a guide proposes: long ones with corners would cost too much.
    """
    sizes = decoder.config.sizes
    finer = dataclasses.replace(sizes, degree=max(degree, sizes.degree), dots=max(dots, sizes.dots))
    made = StrokeDecoder(dataclasses.replace(decoder.config, sizes=finer)).to(decoder.log_pen_px)
    with torch.no_grad():
        made.log_pen_px.copy_(decoder.log_pen_px)
        made.log_darkness.copy_(decoder.log_darkness)
    return made.requires_grad_(False)


def carry_over(decoder: StrokeDecoder, finer: StrokeDecoder, what: Float[Tensor, "*b z"]) -> Float[Tensor, "*b z_finer"]:
    """The same strokes for a finer decoder."""
    weights = what[..., :-1].unflatten(-1, (2, -1)) * decoder.log_amplitudes.detach().exp()
    more = len(finer.log_amplitudes) - len(decoder.log_amplitudes)
    weights = nn.functional.pad(weights, (0, more)) / finer.log_amplitudes.exp()
    return torch.cat([weights.flatten(-2), what[..., -1:]], -1)


def dot_tables(degree: int, dots: int) -> tuple[Float[np.ndarray, "d k"], Float[np.ndarray, "d k"]]:
    """Legendre's polynomials 0..degree and their derivatives, in the middles of ``dots`` equal parts of -1..1."""
    t = (np.arange(dots) + 0.5) * (2 / dots) - 1
    at = legendre.legvander(t, degree)
    slope = np.stack([legendre.legval(t, legendre.legder(row)) for row in np.eye(degree + 1)], -1)
    return at, slope


def ink_of(density: Tensor) -> Tensor:
    """Share of white of a density: 1 - exp(-density)."""
    return -torch.expm1(-density)
