"""Numbered items: which numbers are asked for, and kernels that are in step with their sources."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt64
from torch import Tensor

from inverse_graphics.compiled import drop_stale_kernels


def check_seed(seed: int) -> np.uint64:
    """The seed as the kernels take it.

    Raises:
        ValueError: it is out of range.
    """
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed: expected 0 <= seed < 2^63, received {seed}; choose a number in that range.")
    return np.uint64(seed)


def counters(values: Sequence[int] | Tensor, name: str = "indices", items: str = "items") -> UInt64[np.ndarray, "b"]:
    """Numbers of items as the kernels take them.

    Args:
        values: the numbers.
        name, items: what the error calls the argument, and what is numbered.

    Raises:
        ValueError: they are no list of integers >= 0.
    """
    array = np.asarray(values)
    if array.ndim != 1 or (array.size and not np.issubdtype(array.dtype, np.integer)) or (array.size and array.min() < 0):
        raise ValueError(f"{name}: expected a list of integers >= 0, received {values!r}; number the {items} from 0.")
    return array.astype(np.uint64)


@functools.cache
def refresh_kernels() -> None:
    """Once a process, before the first kernel of ``scenes`` runs: drop those compiled from older sources."""
    drop_stale_kernels(Path(__file__).parent)
