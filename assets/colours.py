"""Colours: sRGB as files and people write them, to linear RGB as light adds up; ``inverse_graphics.colours`` goes back."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

NEUTRAL_RGB: tuple[float, float, float] = (0.5, 0.5, 0.5)
"""Linear colour of surfaces that have none."""


def srgb_to_linear(srgb: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Convert sRGB values in 0..1 to linear light in 0..1 (IEC 61966-2-1)."""
    srgb = np.asarray(srgb, dtype=np.float64)
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def from_hex(code: str) -> Float[np.ndarray, "3"]:
    """Linear colour of an sRGB code such as ``"#d8402a"``."""
    digits = code.removeprefix("#")
    if len(digits) != 6 or set(digits.lower()) - set("0123456789abcdef"):
        raise ValueError(f"code: expected '#rrggbb', got {code!r}; write two hexadecimal digits a channel")
    return srgb_to_linear(np.frombuffer(bytes.fromhex(digits), dtype=np.uint8) / 255.0)
