"""Colours for the screen: linear light, as everywhere else in the project, to sRGB."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike


def linear_to_srgb(rgb_linear: ArrayLike) -> Float[np.ndarray, "*b 3"]:
    """Linear light to the sRGB transfer curve of screens (IEC 61966-2-1), both 0..1; what lies outside is clipped.

    Raises:
        ValueError: if the last dimension is not 3 or a value is NaN.
    """
    rgb = np.asarray(rgb_linear, np.float64)
    if rgb.shape[-1:] != (3,) or np.isnan(rgb).any():
        raise ValueError(
            f"linear_to_srgb: expected colours [*b 3] without NaN, received shape {rgb.shape} with "
            f"{int(np.isnan(rgb).sum())} NaN; channels come last."
        )
    rgb = rgb.clip(0, 1)
    return np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * np.power(np.maximum(rgb, 0.0031308), 1 / 2.4) - 0.055)
