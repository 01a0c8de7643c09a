"""Handwritten characters with the strokes that drew them: splits and numbered batches, whatever the source."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int8, UInt8
from torch import Tensor

from scenes.numbering import check_seed, counters, refresh_kernels
from scenes.pen_kernels import pick_rows
from scenes.stream import BatchStream


@dataclass(frozen=True)
class Characters:
    """Drawings of characters, white on black."""

    images: UInt8[np.ndarray, "n h w"]
    """Grey levels, 0..255; there is ink where they are above 0."""
    stroke_ids: Int8[np.ndarray, "n h w"]
    """The pen stroke that is nearest to each pixel with ink, in the order they were drawn; -1 where there is no ink."""
    stroke_counts: Int[np.ndarray, "n"]
    """How many strokes each drawing has."""
    alphabet_ids: Int[np.ndarray, "n"]
    """Index into ``alphabets``."""
    character_ids: Int[np.ndarray, "n"]
    """Number of the character; no two alphabets share one."""
    drawer_ids: Int[np.ndarray, "n"]
    """Who drew it."""
    alphabets: tuple[str, ...]
    """Names of the alphabets."""
    source: str
    """Where they come from, for reports."""

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class CharacterBatch:
    """Drawings for a training step."""

    images: Float[Tensor, "b h w"]
    """Grey levels, 0..1, float32."""
    stroke_ids: Int8[Tensor, "b h w"]
    """As in ``Characters``."""
    stroke_counts: Int[Tensor, "b"]
    """How many strokes each drawing has."""
    character_ids: Int[Tensor, "b"]
    """Number of the character."""
    rows: Int[Tensor, "b"]
    """Which drawings of the source they are."""


def select(characters: Characters, rows: Bool[np.ndarray, "n"] | Int[np.ndarray, "m"]) -> Characters:
    """Some of the drawings, by row or by mask; alphabets and numbers stay."""
    arrays = {
        field.name: getattr(characters, field.name)[rows]
        for field in dataclasses.fields(characters)
        if field.name not in ("alphabets", "source")
    }
    return dataclasses.replace(characters, **arrays)


def split_by_alphabet(characters: Characters, held_out: Sequence[str]) -> tuple[Characters, Characters]:
    """Drawings of all other alphabets, and those of the held-out ones.

    Raises:
        ValueError: a name is unknown, or one of the parts would be empty.
    """
    unknown = [name for name in held_out if name not in characters.alphabets]
    if unknown:
        raise ValueError(
            f"held_out: expected names of alphabets ({', '.join(characters.alphabets)}), received {', '.join(unknown)}; "
            "correct the names."
        )
    ids = [characters.alphabets.index(name) for name in held_out]
    return _split(characters, np.isin(characters.alphabet_ids, ids), f"alphabets {', '.join(held_out)}")


def split_by_drawer(characters: Characters, held_out: Sequence[int]) -> tuple[Characters, Characters]:
    """Drawings by all other drawers, and those by the held-out ones (of every character).

    Raises:
        ValueError: one of the parts would be empty.
    """
    return _split(characters, np.isin(characters.drawer_ids, list(held_out)), f"drawers {list(held_out)}")


def _split(characters: Characters, held: Bool[np.ndarray, "n"], what: str) -> tuple[Characters, Characters]:
    if held.all() or not held.any():
        raise ValueError(
            f"held_out: expected a part of the {len(held)} drawings, received {what}, which are {int(held.sum())}; choose others."
        )
    return select(characters, ~held), select(characters, held)


def draw_characters(characters: Characters, seed: int, indices: Sequence[int] | Tensor) -> CharacterBatch:
    """Drawings picked uniformly, with replacement; number i of a seed is the same in every batch and every call.

    Args:
        characters: what to pick from.
        seed: 0..2^63 - 1.
        indices: [b] numbers, at least 0, in any order.

    Raises:
        ValueError: seed or indices are out of range.
    """
    refresh_kernels()
    numbers = counters(indices)
    rows = np.empty(len(numbers), np.int64)
    pick_rows(check_seed(seed), numbers, len(characters), rows)
    return CharacterBatch(
        images=torch.from_numpy(characters.images[rows].astype(np.float32) / 255),
        stroke_ids=torch.from_numpy(characters.stroke_ids[rows]),
        stroke_counts=torch.from_numpy(characters.stroke_counts[rows]),
        character_ids=torch.from_numpy(characters.character_ids[rows]),
        rows=torch.from_numpy(rows),
    )


def character_stream(
    characters: Characters, batch_size: int, seed: int, start_index: int = 0, prefetch: int = 2
) -> BatchStream[CharacterBatch]:
    """Batches of picked drawings, made ahead in a background thread; arguments as for ``draw_characters`` and ``BatchStream``."""
    return BatchStream(lambda indices: draw_characters(characters, seed, indices), batch_size, start_index, prefetch)
