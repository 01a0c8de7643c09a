"""The benchmark of pose errors runs at a size that measures nothing, and writes every figure with its unit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import pose_errors


def test_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # it would keep this process on some cores for good
    monkeypatch.setattr(pose_errors, "use_cores", lambda cores: cores)
    path = tmp_path / "figures.json"
    small = pose_errors.Settings(path, 2, 20, 50, 1, 2, 20, (32, 24))
    pose_errors.main(small)
    figures = json.loads(path.read_text())
    assert figures["mssd_mspd_add_adi_s"] > figures["adi_s"] > 0
    assert figures["vsd_estimates_per_s"] == pytest.approx(2 / figures["vsd_s"])
    assert 0 < figures["mssd_mspd_add_adi_peak_mib"] <= figures["vsd_peak_mib"]
