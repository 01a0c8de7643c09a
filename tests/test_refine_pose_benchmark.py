"""The benchmark of refined poses, at a small size."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import refine_pose


def test_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "figures.json"
    refine_pose.main(refine_pose.Settings(path, images=3, size=(128, 96), seeds=(3,), uses=("depth",), window_px=32))
    figures = json.loads(path.read_text())
    assert {name.removeprefix("refine_pose_depth_") for name in figures} == {
        "objects",
        "recall_before",
        "recall_after",
        "error_median_diameters",
        "seconds_per_object",
        "cpu_seconds_per_object",
    }
    assert figures["refine_pose_depth_recall_after"] >= figures["refine_pose_depth_recall_before"]
    assert figures["refine_pose_depth_error_median_diameters"] < 0.05
    assert "depth" in capsys.readouterr().out
