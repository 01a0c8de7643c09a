"""Multi-MNIST: canvases with several digits, numbered and drawn on demand.

The rules for where digits may stand:

- ``strict``: the boxes of their ink share no pixel and lie on the canvas.  A digit that does not fit is placed again, then all.
- ``crude``: the rule of Pyro's generator (``pyro/contrib/examples/multi_mnist.py``).  Frames are uniform over the places where
  they lie on the canvas whole; the lot is placed again while any pixel's sum exceeds white.  So frames overlap often, and so does
  ink where it is faint.  Departures: Pyro draws other digits too when it places again, where here the same ones stay (their
  frequencies are exact); it never uses the last row and column of places; its resize is Pillow's bicubic, here it is linear with
  antialiasing.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt64
from scipy.special import ndtri
from torch import Tensor

from inverse_graphics.config import FieldError
from scenes.digit_kernels import OBJECT_TRIES, compose_images, fill_weights
from scenes.flat.digits import DIGIT_PX, Digits
from scenes.numbering import check_seed, counters, refresh_kernels
from scenes.stream import BatchStream

Tables = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class FlatConfig:
    """A family of canvases.  The defaults are the paper's set: 50 x 50 px, none, one or two digits, none overlapping."""

    canvas_px: int = 50
    """Side of the square canvas."""
    counts: tuple[int, ...] = (0, 1, 2)
    """Numbers of digits, equally likely; a number given twice is twice as likely."""
    rule: Literal["strict", "crude"] = "strict"
    """Where digits may stand, see the module."""
    digit_px: int = 28
    """Side that a frame of scale 1 has."""
    scale_range: tuple[float, float] = (0.625, 1.0)
    """Smallest and largest side of a frame, in units of ``scale_unit``; sides are whole pixels."""
    scale_unit: Literal["digit", "canvas"] = "digit"
    """Whether ``scale_range`` is relative to ``digit_px`` or to ``canvas_px``."""
    scale_law: Literal["inverse_normal", "uniform"] = "inverse_normal"
    """Uniform sides, or whole parts of 1 / z with z normal, the range's ends three standard deviations from its mean.  With the
    defaults that is 28 / N(1.3, 0.1), as in Pyro's data."""
    noise_std: float = 0.0
    """Standard deviation of normal noise on every pixel (65,536 values, the largest 4.3 standard deviations), before images are
    clipped to 0..1."""
    max_tries: int = 1000
    """Layouts tried for an image before it is an error."""

    def __post_init__(self) -> None:
        if self.canvas_px < 4:
            raise FieldError("canvas_px", "at least 4", self.canvas_px, "choose a larger canvas")
        if not self.counts or min(self.counts) < 0 or max(self.counts) < 1:
            raise FieldError(
                "counts", "numbers >= 0, one of them at least 1", self.counts, "list the numbers of digits, as 0, 1, 2"
            )
        if self.digit_px < 4:
            raise FieldError("digit_px", "at least 4", self.digit_px, "28 is MNIST's")
        low, high = self.scale_range
        if not 0 < low <= high or self.sides_px[0] < 4:
            raise FieldError("scale_range", "0 < low <= high and sides of at least 4 px", self.scale_range, "enlarge the digits")
        if self.rule == "crude" and self.sides_px[1] > self.canvas_px:
            remedy = "shrink the digits, enlarge canvas_px, or use the rule 'strict', which asks for the ink alone to fit"
            raise FieldError("scale_range", f"frames of at most {self.canvas_px} px, the canvas", self.sides_px[1], remedy)
        if not 0 <= self.noise_std < float("inf"):
            raise FieldError("noise_std", "a finite number >= 0", self.noise_std, "0 is no noise")
        if self.max_tries < 1:
            raise FieldError("max_tries", "at least 1", self.max_tries, "1000 is the default")

    @property
    def sides_px(self) -> tuple[int, int]:
        """Smallest and largest side of a digit's frame."""
        unit_px = self.digit_px if self.scale_unit == "digit" else self.canvas_px
        low, high = (int(scale * unit_px + 1e-9) for scale in self.scale_range)
        return low, high


@dataclass(frozen=True)
class FlatBatch:
    """Canvases and what is on them; the digits fill the first slots."""

    images: Float[Tensor, "b h w"]
    """Grey levels, 0..1, float32."""
    counts: Int[Tensor, "b"]
    """How many digits."""
    present: Bool[Tensor, "b n"]
    """Which slots hold one."""
    labels: Int[Tensor, "b n"]
    """The digits, 0..9; -1 in absent slots."""
    boxes: Float[Tensor, "b n 3"]
    """Each digit's frame: x and y of its centre, -1..1 from edge to edge of the canvas (x right, y down), and its side as a share
    of the canvas; 0 in absent slots.  A glimpse of it is ``affine_grid`` of [[scale, 0, x], [0, scale, y]]."""
    ink_px: Int[Tensor, "b n 4"]
    """Box of each digit's ink: left, top, and right and bottom, which are the first without ink; 0 in absent slots."""
    digit_ids: Int[Tensor, "b n"]
    """Which images of the source they are, -1 in absent slots."""


def compose(digits: Digits, config: FlatConfig, seed: int, indices: Sequence[int] | Tensor) -> FlatBatch:
    """Draw canvases; canvas i of a seed is the same in every batch and every call.

    Args:
        digits: what to draw.
        config: how.
        seed: 0..2^63 - 1.
        indices: [b] numbers of the canvases, at least 0, in any order.

    Returns:
        [b] canvases on the CPU with n = max(config.counts) slots.

    Raises:
        ValueError: seed or indices are out of range, or the digits of a canvas do not fit on it.
    """
    refresh_kernels()
    numbers = counters(indices)
    batch, slots = len(numbers), max(config.counts)
    picked = np.empty((batch, slots), np.int64)
    frames, ink = np.zeros((batch, slots, 3), np.int64), np.zeros((batch, slots, 4), np.int64)
    images = np.zeros((batch, config.canvas_px, config.canvas_px), np.float32)
    failed = np.zeros(batch, np.bool_)
    compose_images(
        check_seed(seed),
        numbers,
        digits.images,
        np.asarray(config.counts, np.int64),
        config.sides_px,
        (config.scale_law == "inverse_normal", config.rule == "strict"),
        _noise(config.noise_std),
        config.max_tries,
        _tables(*config.sides_px),
        picked,
        frames,
        ink,
        images,
        failed,
    )
    _check_placed(config, numbers, picked, failed)
    return _batch(digits, config, picked, frames, ink, images)


def digit_stream(
    digits: Digits, config: FlatConfig, batch_size: int, seed: int, start_index: int = 0, prefetch: int = 2
) -> BatchStream[FlatBatch]:
    """Batches of consecutive canvases, made ahead in a background thread; arguments as for ``compose`` and ``BatchStream``."""
    return BatchStream(lambda indices: compose(digits, config, seed, indices), batch_size, start_index, prefetch)


@functools.lru_cache(maxsize=16)
def _tables(low_px: int, high_px: int) -> Tables:
    """Resampling weights of a digit's 28 samples for every side low..high: starts, lengths, weights."""
    sides = range(low_px, high_px + 1)
    taps = 2 * max(1, -(-DIGIT_PX // low_px)) + 2
    starts, lengths = np.zeros((len(sides), high_px), np.int64), np.zeros((len(sides), high_px), np.int64)
    weights = np.zeros((len(sides), high_px, taps))
    for row, side_px in enumerate(sides):
        fill_weights(DIGIT_PX, side_px, starts[row], lengths[row], weights[row])
    return starts, lengths, weights


@functools.lru_cache(maxsize=4)
def _noise(std: float) -> Float[np.ndarray, "v"]:
    """65,536 equally likely values of normal noise, the middles of as many equal shares; none where std is 0."""
    if std == 0:
        return np.zeros(0, np.float32)
    return (std * ndtri((np.arange(65536) + 0.5) / 65536)).astype(np.float32)


def _check_placed(
    config: FlatConfig, numbers: UInt64[np.ndarray, "b"], picked: Int[np.ndarray, "b n"], failed: Bool[np.ndarray, "b"]
) -> None:
    if not failed.any():
        return
    first = int(np.flatnonzero(failed)[0])
    count = int((picked[first] >= 0).sum())
    tries = f"{config.max_tries} layouts" + (f" of {OBJECT_TRIES} tries a digit" if config.rule == "strict" else "")
    raise ValueError(
        f"canvas_px: expected room for every digit, received {int(failed.sum())} of {len(failed)} canvases of "
        f"{config.canvas_px} px whose digits ({config.sides_px[0]}..{config.sides_px[1]} px) found no place in {tries} "
        f"(canvas {int(numbers[first])}: {count} digits); enlarge canvas_px, or lower counts or scale_range."
    )


def _batch(
    digits: Digits,
    config: FlatConfig,
    picked: Int[np.ndarray, "b n"],
    frames: Int[np.ndarray, "b n 3"],
    ink: Int[np.ndarray, "b n 4"],
    images: Float[np.ndarray, "b h w"],
) -> FlatBatch:
    """What the kernel wrote, as tensors."""
    present = picked >= 0
    sides = frames[..., 2:]
    centres = (2 * frames[..., :2] + sides) / config.canvas_px - 1
    boxes = np.where(present[..., None], np.concatenate([centres, sides / config.canvas_px], -1), 0.0)
    return FlatBatch(
        images=torch.from_numpy(images),
        counts=torch.from_numpy(present.sum(-1)),
        present=torch.from_numpy(present),
        labels=torch.from_numpy(np.where(present, digits.labels[picked], -1)),
        boxes=torch.from_numpy(boxes.astype(np.float32)),
        ink_px=torch.from_numpy(ink),
        digit_ids=torch.from_numpy(picked),
    )
