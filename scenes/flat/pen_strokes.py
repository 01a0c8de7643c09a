"""Made-up characters of one to four smooth pen strokes: endless alphabets, known strokes, no download."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from inverse_graphics.config import FieldError
from scenes.flat.characters import Characters
from scenes.numbering import check_seed, counters, refresh_kernels
from scenes.pen_kernels import KNOTS, MAX_STROKES, STEPS, pen_characters

COURSE_POINTS = (KNOTS - 1) * STEPS + 1
"""Points of a stroke's course."""


@dataclass(frozen=True)
class PenConfig:
    """A family of characters.

    Alphabets differ in how round their strokes are; drawers in slant, proportions, size, pen and steadiness, the same in every
    alphabet.
    """

    canvas_px: int = 50
    """Side of the square images."""
    characters: int = 20
    """Characters an alphabet."""
    drawers: int = 20
    """Each draws every character once, as in Omniglot."""
    max_strokes: int = MAX_STROKES
    """Characters have 1..max_strokes strokes, equally likely."""
    widths_px: tuple[float, float] = (1.4, 2.6)
    """Thinnest and thickest pen."""

    def __post_init__(self) -> None:
        for name in ("characters", "drawers"):
            if getattr(self, name) < 1:
                raise FieldError(name, "at least 1", getattr(self, name), "20 is the default")
        if self.canvas_px < 16:
            raise FieldError("canvas_px", "at least 16", self.canvas_px, "choose a larger canvas")
        if not 1 <= self.max_strokes <= MAX_STROKES:
            raise FieldError("max_strokes", f"1..{MAX_STROKES}", self.max_strokes, "choose a number in that range")
        if not 0.5 <= self.widths_px[0] <= self.widths_px[1] <= self.canvas_px / 4:
            remedy = "1.4 to 2.6 px suits 50 px"
            raise FieldError("widths_px", f"0.5 <= thinnest <= thickest <= {self.canvas_px / 4}", self.widths_px, remedy)

    @property
    def drawings(self) -> int:
        """Drawings an alphabet."""
        return self.characters * self.drawers


@dataclass(frozen=True)
class PenDrawings:
    """Made-up characters and the courses of the pen."""

    characters: Characters
    """The drawings."""
    courses_px: Float[np.ndarray, "n s p 2"]
    """x and y of the pen along each stroke, in pixels; 0 where there is no such stroke."""


def embedded_characters(config: PenConfig, seed: int, alphabets: range) -> Characters:
    """All drawings of some alphabets; those of other numbers are others, for tests.

    Args:
        config: the family.
        seed: 0..2^63 - 1.
        alphabets: numbers of the alphabets, ``range(first, after)``.

    Raises:
        ValueError: there are none, or the seed or a number is out of range.
    """
    if len(alphabets) == 0 or alphabets.step != 1:
        raise ValueError(f"alphabets: expected a range of consecutive numbers, received {alphabets}; for example range(10).")
    numbers = range(alphabets.start * config.drawings, alphabets.stop * config.drawings)
    return draw_pen_characters(config, seed, numbers).characters


def draw_pen_characters(config: PenConfig, seed: int, indices: Sequence[int] | Tensor) -> PenDrawings:
    """Draw characters; drawing i of a seed is the same in every batch and every call.

    Drawing (alphabet * characters + character) * drawers + drawer; alphabets have no end.

    Args:
        config: the family.
        seed: 0..2^63 - 1.
        indices: [b] numbers of the drawings, at least 0, in any order.

    Raises:
        ValueError: seed or indices are out of range.
    """
    refresh_kernels()
    numbers = counters(indices)
    shape = (len(numbers), config.canvas_px, config.canvas_px)
    images, stroke_ids = np.zeros(shape, np.uint8), np.full(shape, -1, np.int8)
    counts = np.zeros(len(numbers), np.int64)
    courses_px = np.zeros((len(numbers), config.max_strokes, COURSE_POINTS, 2))
    pen_characters(
        check_seed(seed),
        numbers,
        np.uint64(config.characters),
        np.uint64(config.drawers),
        config.max_strokes,
        config.widths_px,
        courses_px,
        counts,
        images,
        stroke_ids,
    )
    return PenDrawings(_named(config, seed, numbers.astype(np.int64), images, stroke_ids, counts), courses_px)


def _named(
    config: PenConfig,
    seed: int,
    numbers: Int[np.ndarray, "n"],
    images: np.ndarray,
    stroke_ids: np.ndarray,
    counts: Int[np.ndarray, "n"],
) -> Characters:
    """Drawings with what their numbers say."""
    character_ids = numbers // config.drawers
    alphabets, alphabet_ids = np.unique(character_ids // config.characters, return_inverse=True)
    return Characters(
        images=images,
        stroke_ids=stroke_ids,
        stroke_counts=counts,
        alphabet_ids=alphabet_ids.astype(np.int64),
        character_ids=character_ids,
        drawer_ids=numbers % config.drawers,
        alphabets=tuple(f"pen alphabet {number}" for number in alphabets),
        source=f"made-up pen strokes, seed {seed}, {len(numbers)} drawings",
    )
