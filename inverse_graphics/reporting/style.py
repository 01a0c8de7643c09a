"""How every figure looks: one colour-blind safe palette, one set of type sizes, colours for the screen.

Figures are made as ``matplotlib.figure.Figure`` objects, without pyplot: nothing is global and no display is needed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

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


def note_empty(axes: Axes, text: str) -> None:
    """Say in an empty panel why it is empty."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.text(0.5, 0.5, text, ha="center", va="center", color=MUTED, transform=axes.transAxes)
