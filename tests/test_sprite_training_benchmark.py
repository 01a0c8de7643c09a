"""The benchmark of training steps in 2-D, at a small size."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numba
import pytest
import torch

from benchmarks import sprite_training


def test_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    before = os.sched_getaffinity(0), torch.get_num_threads(), numba.get_num_threads()
    monkeypatch.setattr(sprite_training, "SECTION", 12)
    path = tmp_path / "figures.json"
    try:
        sprite_training.main(sprite_training.Settings(path, cores=(1,), turns=2, batch_size=8))
    finally:
        os.sched_setaffinity(0, before[0])
        torch.set_num_threads(before[1])
        numba.set_num_threads(before[2])
    figures = json.loads(path.read_text())
    rates = {name for name in figures if name.endswith(("_median", "_mean"))}
    assert rates == {f"{v}_1_cores_steps_per_second_{kind}" for v in ("air", "dair") for kind in ("median", "mean")}
    assert all(figures[name] > 1 for name in rates)
    assert "air" in capsys.readouterr().out


def test_a_single_turn_is_refused() -> None:
    with pytest.raises(ValueError, match="turns: expected at least 2"):
        sprite_training.main(sprite_training.Settings(turns=1))
