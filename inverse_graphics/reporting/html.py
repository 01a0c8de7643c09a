"""One self-contained HTML file for each run: headline numbers, figures, diagnoses, configuration and how to repeat it."""

from __future__ import annotations

import base64
import json
import platform
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from matplotlib.figure import Figure

from inverse_graphics.files import to_jsonable, write_text
from inverse_graphics.reporting.page import PAGE
from inverse_graphics.reporting.style import figure_bytes

_DISTRIBUTIONS = ("inverse-graphics", "torch", "numpy", "scipy", "numba", "matplotlib", "safetensors", "roma")
"""Packages whose versions a report names."""


@dataclass(frozen=True)
class Headline:
    """One number at the top of a report."""

    name: str
    """What it is, in a few words."""
    value: str
    """Formatted, with its unit."""
    meaning: str
    """One sentence that says how it is computed."""
    target: str = ""
    """What it should be, for example "at least 98 %"; nothing is shown where empty."""
    is_met: bool | None = None
    """Whether the target is met; None where there is no target or no value."""


@dataclass(frozen=True)
class Table:
    """A titled table."""

    title: str
    """Heading."""
    columns: tuple[str, ...]
    """Column headings; the first column holds names, the others numbers."""
    rows: tuple[tuple[str, ...], ...]
    """Formatted cells, as many in each row as there are columns."""
    note: str = ""
    """What the numbers mean."""


@dataclass(frozen=True)
class Picture:
    """A figure with its caption."""

    title: str
    """Heading."""
    figure: Figure
    """Embedded as SVG, or as PNG if it holds images."""
    caption: str
    """What is seen, and how to read it."""


@dataclass(frozen=True)
class Provenance:
    """How to repeat the run."""

    command: str
    """Command line."""
    seed: int | None
    """Seed of the run, None where nothing was random."""
    commit: str
    """Revision of the code, or why it is unknown."""
    versions: Mapping[str, str] = field(default_factory=dict)
    """Versions of what it ran on, for example of ``package_versions``."""


@dataclass(frozen=True)
class Report:
    """All that a report shows, in the order in which it does."""

    title: str
    """Heading of the page."""
    provenance: Provenance
    """Command, seed, commit, versions."""
    description: str = ""
    """A paragraph on what was run and on which data it was judged."""
    headlines: Sequence[Headline] = ()
    """Numbers at the top."""
    pictures: Sequence[Picture] = ()
    """Figures."""
    tables: Sequence[Table] = ()
    """Tables."""
    warnings: Sequence[str] = ()
    """Diagnoses and log messages that a reader must know; "none" is said where empty."""
    config: Any = None
    """The resolved configuration: a dataclass, mapping or anything with a JSON form."""


def write_report(path: str | Path, report: Report) -> None:
    """Write a report as one HTML file that refers to nothing outside itself, atomically.

    Args:
        path: the file, usually RUN/report.html.
        report: all text is escaped.

    Raises:
        ValueError: if a table's row has not as many cells as there are columns, or the configuration has no JSON form.
    """
    cards = "".join(map(_headline, report.headlines))
    pictures, tables = "\n".join(map(_picture, report.pictures)), "\n".join(map(_table, report.tables))
    write_text(
        path,
        string.Template(PAGE).substitute(
            title=escape(report.title),
            description=f"<p class='lead'>{escape(report.description)}</p>" if report.description else "",
            headlines=f"<div class='cards'>{cards}</div>" if cards else "",
            warnings=_warnings(report.warnings),
            pictures=f"<h2>Figures</h2>{pictures}" if pictures else "",
            tables=f"<h2>Tables</h2>{tables}" if tables else "",
            provenance=_provenance(report.provenance),
            config=escape(json.dumps(to_jsonable(report.config, "config"), indent=2, ensure_ascii=False)),
        ),
    )


def package_versions() -> dict[str, str]:
    """Versions of Python, the platform and the packages that matter, those that are not installed left out."""
    versions = {"python": platform.python_version(), "platform": platform.platform()}
    for name in _DISTRIBUTIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _headline(headline: Headline) -> str:
    """A card: name, value, target with its mark, meaning."""
    state = {True: "met", False: "missed", None: "open"}[headline.is_met]
    mark = {True: "✓ ", False: "✗ ", None: ""}[headline.is_met]
    target = f"<div class='target'>{mark}target: {escape(headline.target)}</div>" if headline.target else ""
    return (
        f"<article class='card {state}'><h3>{escape(headline.name)}</h3><div class='value'>{escape(headline.value)}</div>"
        f"{target}<p>{escape(headline.meaning)}</p></article>"
    )


def _warnings(warnings: Sequence[str]) -> str:
    """The diagnoses as a list, or the statement that there are none."""
    if not warnings:
        return "<p class='calm'>Nothing unusual was noticed.</p>"
    return "<ul class='warnings'>" + "".join(f"<li>{escape(warning)}</li>" for warning in warnings) + "</ul>"


def _picture(picture: Picture) -> str:
    """An embedded figure; raster images inside it ask for PNG, lines alone for SVG."""
    has_images = any(axes.images for axes in picture.figure.axes)
    kind: Literal["png", "svg"] = "png" if has_images else "svg"
    content = base64.b64encode(figure_bytes(picture.figure, kind)).decode("ascii")
    mime = {"png": "image/png", "svg": "image/svg+xml"}[kind]
    width_px = round(96 * picture.figure.get_figwidth())
    title, caption = escape(picture.title), escape(picture.caption)
    image = f"<img alt='{title}' style='width: {width_px}px' src='data:{mime};base64,{content}'>"
    return f"<figure><h3>{title}</h3><div class='paper'>{image}</div><figcaption>{caption}</figcaption></figure>"


def _table(table: Table) -> str:
    """A table; numbers are set in columns of equal digits."""
    wrong = [row for row in table.rows if len(row) != len(table.columns)]
    if wrong:
        raise ValueError(
            f"write_report: expected {len(table.columns)} cells in each row of table {table.title!r}, received {wrong[0]!r}; "
            "give one cell for each column."
        )
    head = "".join(f"<th scope='col'>{escape(column)}</th>" for column in table.columns)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in table.rows)
    note = f"<p class='note'>{escape(table.note)}</p>" if table.note else ""
    return (
        f"<section><h3>{escape(table.title)}</h3><div class='scroll'><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>{note}</section>"
    )


def _provenance(provenance: Provenance) -> str:
    """A list of terms: command, seed, commit, versions."""
    seed = "none" if provenance.seed is None else str(provenance.seed)
    terms = {"command": provenance.command, "seed": seed, "commit": provenance.commit, **provenance.versions}
    return "".join(f"<dt>{escape(name)}</dt><dd><code>{escape(value)}</code></dd>" for name, value in terms.items())
