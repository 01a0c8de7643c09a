"""Counter-based random numbers: scene i is the same whatever the batch it is drawn in.

A stream is keyed by (seed, scene index, attempt, purpose); its k-th number is the splitmix64 finaliser of key + k * golden ratio
(Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).  Nothing is kept between calls.
"""

from __future__ import annotations

import numba
import numpy as np

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_UNIT = 1.0 / 9007199254740992.0
_S30, _S27, _S31, _S11 = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(11)

CONTENT, VIEW, PLACEMENT = np.uint64(1), np.uint64(2), np.uint64(3)
"""Purposes: count and classes; camera, light and background; where the objects stand."""


@numba.njit(cache=True, nogil=True, inline="always")
def mix(bits: np.uint64) -> np.uint64:
    """Bijective scrambling of 64 bits."""
    bits = (bits ^ (bits >> _S30)) * _FIRST
    bits = (bits ^ (bits >> _S27)) * _SECOND
    return bits ^ (bits >> _S31)


@numba.njit(cache=True, nogil=True)
def stream_key(seed: np.uint64, index: np.uint64, attempt: np.uint64, purpose: np.uint64) -> np.uint64:
    """Key of one stream; each argument is mixed in on its own, so that neighbours are unrelated."""
    key = mix(seed + GOLDEN)
    key = mix(key + GOLDEN + index)
    key = mix(key + GOLDEN + attempt)
    return mix(key + GOLDEN + purpose)


@numba.njit(cache=True, nogil=True, inline="always")
def uniform(key: np.uint64, draw: np.uint64) -> float:
    """The draw-th number of a stream, in [0, 1) with 53 random bits."""
    return np.float64(mix(key + (draw + np.uint64(1)) * GOLDEN) >> _S11) * _UNIT
