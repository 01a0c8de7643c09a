"""Benchmarks run, at a size that measures nothing, and write every figure with its unit."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

SCENE = """\
catalogue: tabletop
classes: [box]
image_size_px: [16, 16]
samples_per_axis: 1
objects: {max_count: 1}
camera: {vertical_fov_deg: 36.8}
"""


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "renderers.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_renderers_side_by_side(tmp_path: Path) -> None:
    pytest.importorskip("pytorch3d")
    scene, figures_file = tmp_path / "scene.yaml", tmp_path / "renderers.json"
    scene.write_text(SCENE)
    small = "--scenes 2 --size 12 --objects 2 --triangles 20 --samples 1 --repeats 2 --yaw-bins 2 --soft".split()
    done = run(*small, "--scene", str(scene), "--json", str(figures_file), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    figures = json.loads(figures_file.read_text())
    parts = {"forward": "hard", "bound": "hard", "gradient": "soft", "training_step_sleep": "hard", "training_step_bound": "hard"}
    for part, mode in parts.items():
        seconds = [figures[f"{name}_{part}_s"] for name in ("raster", f"pytorch3d_{mode}")]
        assert min(seconds) > 0
        assert figures[f"raster_over_pytorch3d_{mode}_{part}"] == pytest.approx(seconds[1] / seconds[0])
        assert figures[f"raster_{part}_scenes_per_s"] == pytest.approx(2 / seconds[0])
        assert part in done.stdout
    assert (figures["scenes"], figures["size_px"], figures["scene"]) == (2, 12, "scene.yaml")


def test_a_mesh_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    done = run("--triangles", "100", cwd=tmp_path)
    assert done.returncode != 0
    assert "triangles: expected 20, 80, 320, 1280 or 5120, received 100; take the nearest of them" in done.stderr
