"""Charts: confusion matrices, errors, errors against visibility, training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import ArrayLike

from inverse_graphics.metrics import Evaluation
from inverse_graphics.reporting.style import GRID, INK, MUTED, PALETTE, figure_style, new_figure, note_empty

_BLUES = LinearSegmentedColormap.from_list("house blues", ["#FFFFFF", "#CFE3F2", "#6FB1DC", "#0072B2", "#003F66"])
_LOG_SPAN = 30.0
"""Positive curves whose largest value exceeds the smallest by this factor get a logarithmic axis."""
VISIBILITY_EDGES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.95, 1.0)
"""Bins of the visible fraction: the last holds what nothing or almost nothing hides."""

_FEWEST = 5
"""Fewer errors than this have no quartiles worth drawing."""


def confusion_matrix(
    counts: ArrayLike,
    names: Sequence[str],
    title: str,
    names_est: Sequence[str] | None = None,
    axis_labels: tuple[str, str] = ("true", "inferred"),
) -> Figure:
    """Shares of each true class (row) by inferred class (column); each cell shows its share and its number.

    Args:
        counts: [r c] numbers, for example of ``metrics.class_confusion`` or ``metrics.count_confusion``.
        names: names of the r rows.
        title: what is compared.
        names_est: names of the c columns; the rows' names, and "missed" for one column more, where None.
        axis_labels: what rows and columns are.

    Raises:
        ValueError: if the names do not fit the counts or a count is negative.
    """
    table = np.asarray(counts, np.float64)
    columns = list(names_est) if names_est is not None else [*names, "missed"][: table.shape[-1]]
    if table.shape != (len(names), len(columns)) or not (table >= 0).all():
        raise ValueError(
            f"confusion_matrix: expected counts >= 0 of shape {(len(names), len(columns))}, received shape {table.shape} and "
            f"minimum {table.min(initial=0)}; give one name for each row and column."
        )
    totals = table.sum(1, keepdims=True)
    shares = table / np.maximum(totals, 1)
    side_in = 0.62 if max(table.shape) <= 8 else 0.5
    with figure_style():
        figure = new_figure(2.2 + side_in * table.shape[1], 1.5 + side_in * table.shape[0])
        axes = figure.subplots()
        # A mesh of cells and not an image, so that the report can embed sharp SVG.
        cells = [np.arange(size + 1) - 0.5 for size in table.shape]
        axes.pcolormesh(cells[1], cells[0], shares, cmap=_BLUES, vmin=0, vmax=1, edgecolors=GRID, linewidth=0.8)
        axes.set_aspect("equal")
        axes.invert_yaxis()
        for (row, column), number in np.ndenumerate(table):
            if number:
                color = "white" if shares[row, column] > 0.5 else INK
                axes.text(column, row - 0.1, f"{100 * shares[row, column]:.0f}%", ha="center", va="center", color=color, size=9)
                axes.text(column, row + 0.24, f"{number:.0f}", ha="center", va="center", color=color, size=6.5, alpha=0.85)
        is_long = max(map(len, columns), default=0) >= 7
        slant = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"} if is_long else {}
        axes.set_xticks(range(len(columns)), columns, **slant)
        axes.set_yticks(range(len(names)), [f"{name} ({total:.0f})" for name, total in zip(names, totals[:, 0], strict=True)])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)
        axes.set(ylabel=axis_labels[0], xlabel=axis_labels[1], title=title)
    return figure


def error_histogram(position_error_m: ArrayLike, rotation_error_deg: ArrayLike) -> Figure:
    """Distributions of the position errors (millimetres) and rotation errors (degrees), with median and 90th percentile.

    Args:
        position_error_m: metres; NaN where there is none.
        rotation_error_deg: degrees; NaN where there is none.  Both on logarithmic axes: the tail is what matters.
    """
    with figure_style():
        figure = new_figure(8.4, 2.9)
        left, right = figure.subplots(1, 2)
        _histogram(left, 1e3 * np.asarray(position_error_m, np.float64), "position error", "mm", PALETTE[0])
        _histogram(right, np.asarray(rotation_error_deg, np.float64), "rotation error, modulo symmetry", "°", PALETTE[2])
        left.set_ylabel("objects")
    return figure


def _histogram(axes: Axes, values: np.ndarray, title: str, unit: str, color: str) -> None:
    """One distribution on a logarithmic axis."""
    values = values[~np.isnan(values)]
    axes.set_title(f"{title}  ({len(values)} objects)")
    if len(values) == 0:
        note_empty(axes, "no matched object has one")
        return
    largest = max(float(values.max()), 1e-6)
    smallest = max(float(np.percentile(values, 0.5)), largest * 1e-4)
    edges = np.geomspace(smallest / 1.3, largest * 1.05, 41)
    axes.hist(values.clip(edges[0], edges[-1]), bins=list(edges), color=color, alpha=0.75, edgecolor="white", linewidth=0.4)
    axes.set_xscale("log")
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel("mm" if unit == "mm" else "degrees")
    axes.grid(axis="y")
    axes.xaxis.set_major_locator(FixedLocator(_round_ticks(edges[0], edges[-1])))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_ylim(0, axes.get_ylim()[1] * 1.22)
    gap = " " if unit == "mm" else ""
    for percent, name, style, align in ((50, "median", "-", "right"), (90, "90th percentile", "--", "left")):
        value = float(np.percentile(values, percent))
        place = float(np.clip(value, edges[0], edges[-1]))
        axes.axvline(place, color=INK, linewidth=1.2, linestyle=style)
        text = f" {name} \n {value:.3g}{gap}{unit} "
        axes.text(place, 0.985, text, transform=axes.get_xaxis_transform(), ha=align, va="top", size=7.5, linespacing=1.25)


def _round_ticks(low: float, high: float) -> list[float]:
    """1, 2, 5 times powers of ten within a range, or powers of ten alone where there would be too many."""
    decades = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
    factors = (1, 2, 5) if np.log10(high / low) < 3 else (1,)
    return [f * 10.0**d for d in decades for f in factors if low <= f * 10.0**d <= high]


def error_against_visibility(evaluation: Evaluation) -> Figure:
    """What occlusion costs: shares found and recognised, and errors, by the true object's visible fraction.

    Whiskers of the shares are 95 % Wilson intervals; bands of the errors are quartiles.  Bins without objects are left out, and
    for the errors those with fewer than five.
    """
    edges = np.asarray(VISIBILITY_EDGES)
    bins = np.clip(np.searchsorted(edges, evaluation.visible_fraction, side="right") - 1, 0, len(edges) - 2)
    bins[np.isnan(evaluation.visible_fraction)] = -1
    numbers = np.bincount(bins[bins >= 0], minlength=len(edges) - 1)
    labels = [f"{100 * a:.0f}–{100 * b:.0f}\nn={n}" for a, b, n in zip(edges, edges[1:], numbers, strict=False)]
    with figure_style():
        figure = new_figure(10.6, 3.1)
        panels = figure.subplots(1, 3)
        if not numbers.any():
            for axes in panels:
                note_empty(axes, "visible fractions were not given")
            return figure
        _shares_by_bin(panels[0], bins, numbers, evaluation)
        _quartiles_by_bin(panels[1], bins, 1e3 * evaluation.position_error_m, len(numbers), PALETTE[0])
        _quartiles_by_bin(panels[2], bins, evaluation.rotation_error_deg, len(numbers), PALETTE[2])
        panels[1].set(title="position error, median and quartiles", ylabel="mm")
        panels[2].set(title="rotation error, median and quartiles", ylabel="degrees")
        for axes in panels:
            axes.set_xticks(range(len(numbers)), labels, size=6.8)
            axes.set_xlim(-0.5, len(numbers) - 0.5)
            axes.grid(axis="y")
        figure.supxlabel("visible share of the object's pixels, %", size=9, color=INK)
    return figure


def _shares_by_bin(axes: Axes, bins: np.ndarray, numbers: np.ndarray, evaluation: Evaluation) -> None:
    """Shares of objects found, and found and recognised, with intervals."""
    for mask, name, color, marker, shift in (
        (evaluation.matched, "found", PALETTE[0], "o", -0.07),
        (evaluation.recognised, "found and class right", PALETTE[1], "s", 0.07),
    ):
        used = np.flatnonzero(numbers)
        hits = np.bincount(bins[mask & (bins >= 0)], minlength=len(numbers))[used]
        share, (low, high) = hits / numbers[used], _wilson(hits, numbers[used])
        whiskers = np.maximum(np.stack([share - low, high - share]), 0)
        style = {"color": color, "marker": marker, "markersize": 4.5, "linewidth": 1.4, "capsize": 2, "elinewidth": 0.9}
        axes.errorbar(used + shift, share, yerr=whiskers, label=name, **style)
    axes.set(ylim=(-0.02, 1.04), title="share of the true objects")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.0f}%"))
    axes.legend(loc="lower right")


def _wilson(hits: np.ndarray, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """95 % interval of a share (Wilson 1927)."""
    z = 1.96
    centre = (hits + z * z / 2) / (numbers + z * z)
    half = z / (numbers + z * z) * np.sqrt(hits * (numbers - hits) / numbers + z * z / 4)
    return centre - half, centre + half


def _quartiles_by_bin(axes: Axes, bins: np.ndarray, errors: np.ndarray, count: int, color: str) -> None:
    """Median line and quartile band of the errors that exist."""
    groups = {index: errors[(bins == index) & ~np.isnan(errors)] for index in range(count)}
    used = [index for index, values in groups.items() if len(values) >= _FEWEST]
    if not used:
        note_empty(axes, f"fewer than {_FEWEST} objects in each bin")
        return
    low, middle, high = np.array([np.percentile(groups[index], [25, 50, 75]) for index in used]).T
    axes.fill_between(used, low, high, color=color, alpha=0.18, linewidth=0)
    axes.plot(used, middle, color=color, marker="o", markersize=4.5, linewidth=1.6)
    axes.set_ylim(0, 1.08 * max(float(high.max()), 1e-9))


def training_curves(history: Mapping[str, ArrayLike]) -> Figure:
    """One panel for each term against the step; a logarithmic axis where positive values span more than a factor of 30.

    Args:
        history: "step" [n] and any other terms [n]; NaN where a term was not logged at a step.  Noisy terms show the raw values
            pale and a running median on top.

    Raises:
        ValueError: if "step" is missing or a term's length differs from it.
    """
    if "step" not in history:
        raise ValueError(
            f"training_curves: expected a key 'step' in history, received {sorted(history)}; add the steps' numbers."
        )
    steps = np.asarray(history["step"], np.float64)
    terms = {name: np.asarray(values, np.float64) for name, values in history.items() if name != "step"}
    for name, values in terms.items():
        if values.shape != steps.shape or steps.ndim != 1:
            raise ValueError(
                f"training_curves: expected history[{name!r}] of the steps' shape {steps.shape} [n], received {values.shape}; "
                "fill steps at which a term was not logged with NaN."
            )
    columns = max(1, min(4, len(terms)))
    rows = max(1, -(-len(terms) // columns))
    with figure_style():
        figure = new_figure(0.5 + 2.7 * columns, 0.5 + 1.75 * rows)
        panels = figure.subplots(rows, columns, squeeze=False)
        for axes, (name, values) in zip(panels.flat, terms.items(), strict=False):
            _curve(axes, steps, values, name)
        for axes in panels.flat[len(terms) :]:
            axes.set_visible(False)
        if not terms:
            panels[0, 0].set_visible(True)
            note_empty(panels[0, 0], "nothing was logged")
        figure.supxlabel("step", size=9, color=INK)
    return figure


def _curve(axes: Axes, steps: np.ndarray, values: np.ndarray, name: str) -> None:
    """One term: raw values and, where there are many, their running median."""
    axes.set_title(name.replace("_", " "))
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    if len(values) == 0:
        note_empty(axes, "no finite value was logged")
        return
    window = len(values) // 25
    if window >= 3:
        axes.plot(steps, values, color=PALETTE[0], linewidth=0.6, alpha=0.3)
        values = _running_median(values, window)
    axes.plot(steps, values, color=PALETTE[0], linewidth=1.6, marker="o" if len(values) < 3 else "", markersize=4)
    if values.min() > 0 and values.max() > _LOG_SPAN * values.min():
        axes.set_yscale("log")
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step / 1000:g}k" if step >= 1000 else f"{step:g}"))
    axes.grid(axis="y")
    axes.annotate(f"{values[-1]:.4g}", (1, 1.03), xycoords="axes fraction", ha="right", va="bottom", size=8, color=MUTED)


def _running_median(values: np.ndarray, window: int) -> np.ndarray:
    """Median over a centred window that shrinks at both ends."""
    half = window // 2
    return np.array([np.median(values[max(0, i - half) : i + half + 1]) for i in range(len(values))])
