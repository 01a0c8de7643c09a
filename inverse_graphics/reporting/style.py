"""How every figure looks: one colour-blind safe palette, one set of type sizes, colours for the screen.

Figures are made as ``matplotlib.figure.Figure`` objects, without pyplot: nothing is global and no display is needed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import ArrayLike

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#8C6D1F", "#7B61C9", "#4D4D4D", "#A3B500")
"""Okabe and Ito's colours (blue first, vermilion for what is wrong), then four more for large catalogues."""
INK, MUTED, GRID, WRONG = "#1F2933", "#667585", "#E3E8ED", "#C03A00"
"""Text; secondary text; grid lines; what is wrong."""

_RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#B6C0CA",
    "axes.linewidth": 0.8,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "figure.facecolor": "white",
    "svg.hashsalt": "inverse-graphics",
}


@contextmanager
def figure_style() -> Iterator[None]:
    """Matplotlib settings of the house, for the time of a ``with`` block."""
    with matplotlib.rc_context(_RC):
        yield


def new_figure(width_in: float, height_in: float) -> Figure:
    """An empty figure whose layout keeps labels from overlapping."""
    return Figure(figsize=(width_in, height_in), layout=ConstrainedLayoutEngine(h_pad=0.07, w_pad=0.05))


def figure_bytes(figure: Figure, format: Literal["png", "svg"], dpi: float = 160) -> bytes:
    """The figure as a file's content; the same figure always gives the same bytes."""
    metadata = {"Date": None} if format == "svg" else {"Software": None}
    stream = io.BytesIO()
    with figure_style():
        figure.savefig(stream, format=format, dpi=dpi, metadata=metadata)
    return stream.getvalue()


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


def note_empty(axes: Axes, text: str) -> None:
    """Say in an empty panel why it is empty."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.text(0.5, 0.5, text, ha="center", va="center", color=MUTED, transform=axes.transAxes)
