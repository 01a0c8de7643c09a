"""A small data set in BOP's format, and changes to its files, for the tests of readers and checker."""

from __future__ import annotations

import functools
import importlib
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WIDTH_PX, HEIGHT_PX = 40, 30
SCENE = f"""\
classes: [box, can, mug]
image_size_px: [{WIDTH_PX}, {HEIGHT_PX}]
samples_per_axis: 1
objects: {{min_count: 0, max_count: 3, keep_inside: false, x_range_m: [-0.2, 0.2], y_range_m: [-0.2, 0.2]}}
camera: {{vertical_fov_deg: 14.0, eye_jitter_m: [0.05, 0.05, 0.05]}}
"""
"""Some objects reach beyond the image's border."""


@functools.cache
def generator() -> ModuleType:
    """The script that makes data sets, as a module."""
    folder = str(ROOT / "experiments")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module("generate_bop")
    finally:
        sys.path.remove(folder)


def arguments(folder: Path, out: Path, **changes: Any) -> Any:
    """What the script is told to make five images in two scenes."""
    config = folder / "scene.yaml"
    config.write_text(SCENE)
    chosen = {"num_images": 5, "images_per_scene": 3, "seed": 3} | changes
    return generator().Arguments(config=config, out=out, **chosen)


def make(folder: Path, name: str = "tiny", **changes: Any) -> Path:
    """A data set."""
    generator().main(arguments(folder, folder / name, **changes))
    return folder / name


def copy_of(dataset: Path, folder: Path) -> Path:
    """A data set to be damaged."""
    shutil.copytree(dataset, folder / dataset.name)
    return folder / dataset.name


def change_json(path: Path, change: Callable[[Any], object]) -> None:
    """Change a JSON file in place; NaN may be written."""
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def files_of(folder: Path) -> dict[str, bytes]:
    """All files of a folder by their relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
