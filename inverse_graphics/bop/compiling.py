"""What every module here calls before its first compiled pass."""

from __future__ import annotations

import functools
from pathlib import Path

from inverse_graphics.compiled import drop_stale_kernels


@functools.cache
def prepare() -> None:
    """Once a process: drop kernels that were compiled from other sources."""
    drop_stale_kernels(Path(__file__).parent)
