"""What docs/extending.md shows about renderers runs as it stands there."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from renderer_scenes import ball, box, catalogue_of, table_scene

from renderers import RasterRenderer
from renderers.callable.command import CommandPainter
from renderers.painting.pictures import PictureRenderer

PAGE = Path(__file__).resolve().parents[1] / "docs" / "extending.md"
CATALOGUE = catalogue_of(box(), ball(subdivisions=1))


def blocks() -> list[str]:
    section = PAGE.read_text().split("## A renderer\n")[1].split("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with plain.py, which is also the one we are in."""
    (tmp_path / "plain.py").write_text(blocks()[0])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "plain", raising=False)
    return tmp_path


def assert_agrees(renderer: PictureRenderer, colours: bool = True) -> None:
    """With the rasteriser, on a table with boxes and balls."""
    objects, view = table_scene(2, 3, 64, classes=2, seed=3)
    ours, theirs = renderer.layers(objects, view, 1), RasterRenderer(CATALOGUE, 1).layers(objects, view)
    both, either = (ours.alpha * theirs.alpha).sum((-2, -1)), torch.maximum(ours.alpha, theirs.alpha).sum((-2, -1))
    assert (both / either)[objects.present].min() > 0.97
    shared = (ours.alpha * theirs.alpha) > 0
    torch.testing.assert_close(ours.depth_m[shared], theirs.depth_m[shared], rtol=0, atol=1e-4)
    if colours:
        torch.testing.assert_close(ours.rgb[shared], theirs.rgb[shared], rtol=0, atol=2e-3)


def test_there_are_four_examples_and_the_first_is_short() -> None:
    example, *others = blocks()
    assert len(others) == 3
    assert len([line for line in example.splitlines() if line.strip()]) < 45


def test_the_painter(plain: Path) -> None:
    names: dict[str, Any] = {}
    exec(compile((plain / "plain.py").read_text(), "plain.py", "exec"), names)
    assert_agrees(PictureRenderer(names["PlainPainter"](CATALOGUE), CATALOGUE))


def test_the_function_and_the_pool(plain: Path) -> None:
    objects, view = table_scene(2, 3, 16, classes=2, seed=3)
    names: dict[str, Any] = {"catalogue": CATALOGUE, "objects": objects, "view": view}
    exec(compile(blocks()[1], "extending.md", "exec"), names)
    assert_agrees(names["renderer"])
    assert names["differentiable"].is_differentiable
    alone = names["image"]
    exec(compile(blocks()[3], "extending.md", "exec"), names)
    assert torch.equal(names["image"].rgb, alone.rgb)


def test_the_program(plain: Path) -> None:
    program = plain / "program.py"
    program.write_text(blocks()[2])
    painter = CommandPainter([sys.executable, str(program)], CATALOGUE)
    assert_agrees(PictureRenderer(painter, CATALOGUE), colours=False)
    assert np.isfinite([path.stat().st_size for path in painter._mesh_files]).all()
