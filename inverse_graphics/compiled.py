"""How kernels are compiled and entered, and what keeps them in step with their sources."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

import numba
from numba import njit

_INLINED: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "forceinline": True, "_nrt": False}
inlined = njit(**_INLINED)
"""Compiles a function into each of its callers, for what runs once a sample and allocates nothing.

numba counts references to every array that a function is handed, also in tuples, with an atomic addition each: for a small
function that takes several times as long as its work.  Without allocation there is nothing to count, so it is left out.
"""
summed = njit(**_INLINED, fastmath={"reassoc"})
"""The same for long sums, whose terms may be added in another order: in a fixed one, but several at once."""
ranked = njit(**_INLINED, fastmath={"nnan", "nsz"})
"""The same for least and greatest values of many: several at once, and any value where one of them is no number."""
STAMP = "kernels.sha256"
KERNEL_LOCK = threading.Lock()
"""Not every threading layer of numba may be entered from two threads at once."""


def workers() -> int:
    """Work items of a pass: one a thread."""
    return numba.get_num_threads()


def drop_stale_kernels(folder: Path) -> None:
    """Delete a folder's cached kernels if any of its ``*kernels.py`` has changed since they were compiled.

    numba watches only the file that a function stands in, not those whose functions are compiled into it, which may also be this
    package's own: after an update it would run old code.  Call this before the first kernel of the folder runs.
    """
    digest = hashlib.sha256()
    for source in sorted({*folder.glob("*kernels.py"), *Path(__file__).parent.glob("*kernels.py")}):
        digest.update(source.read_bytes())
    cache = folder / "__pycache__"
    stamp = cache / STAMP
    if stamp.is_file() and stamp.read_text() == digest.hexdigest():
        return
    for compiled in [*cache.glob("*.nbi"), *cache.glob("*.nbc")]:
        compiled.unlink(missing_ok=True)
    if cache.is_dir():
        stamp.write_text(digest.hexdigest())
