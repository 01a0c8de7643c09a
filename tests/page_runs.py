"""Runs the blocks of a page of docs/ in order, as a user who copies them would, in an empty folder."""

from __future__ import annotations

import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from script_runs import run_script

DOCS = Path(__file__).resolve().parent.parent / "docs"
RUN_LANGUAGES = ("bash", "python", "yaml")


def blocks_of(page: str) -> list[tuple[str, str]]:
    """Language and text of each block."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", (DOCS / page).read_text(), re.DOTALL | re.MULTILINE)


def run_page(page: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Write the YAML blocks as the files that their first lines name, run the others; returns Python's names at the end."""
    names: dict[str, Any] = {}
    for language, text in blocks_of(page):
        assert language in RUN_LANGUAGES, language
        if language == "python":
            exec(compile(text, page, "exec"), names)
        elif language == "yaml":
            file = Path(text.splitlines()[0].removeprefix("# "))
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        else:
            for line in text.splitlines():
                run_line(line, monkeypatch)
    return names


def run_line(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run ``python experiments/NAME.py ...`` or ``python -m MODULE ...``; another line, or a failure, is an error."""
    program, *words = shlex.split(line)
    assert program == "python", line
    with monkeypatch.context() as patch:
        if words[0] == "-m":
            patch.setattr(sys, "argv", words[1:])
            patch.delitem(sys.modules, f"{words[1]}.__main__", raising=False)  # another test may have imported it
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            folder, name = Path(words[0]).parts
            assert folder == "experiments", line
            assert run_script(patch, name.removesuffix(".py"), *words[1:]) == 0, line
