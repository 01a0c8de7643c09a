"""Experiments as a user starts them, but within the tests' process."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

EXPERIMENTS = Path(__file__).parent.parent / "experiments"


def run_script(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: object) -> int:
    """Run ``python experiments/NAME.py ARGUMENTS``; returns its exit status."""
    script = EXPERIMENTS / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(script), *map(str, arguments)])
    monkeypatch.setattr(sys, "path", [str(EXPERIMENTS), *sys.path])
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def results_of(run: Path) -> dict[str, Any]:
    """What a run wrote as results.json."""
    return json.loads((run / "results.json").read_text())


def check_self_contained(report: Path) -> str:
    """A report is one file that needs no other: every picture inside it, nothing fetched; returns the page."""
    page = report.read_text()
    assert page.lstrip().lower().startswith("<!doctype html>")
    assert "data:image/" in page
    assert re.findall(r"""(?:src|href)=["'](?!data:|#)([^"']+)""", page) == []
    assert "<script src" not in page
    assert "@import" not in page
    return page
