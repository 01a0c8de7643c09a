"""Trainings on some numbers of digits, tested on others: every row is there, and what is trained is not trained again."""

from __future__ import annotations

from pathlib import Path

import pytest
from script_runs import check_self_contained, results_of, run_script

from inverse_graphics.reporting.generalization_report import CountRow, generalization_table


def test_every_training_is_tested_on_every_number_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--preset", "smoke", "--steps", "1", "--num-eval-images", "6", "--out", tmp_path, "--device", "cpu")
    assert run_script(monkeypatch, "generalization", *options) == 0, capsys.readouterr().err
    results = results_of(tmp_path)
    assert {(row["variant"], tuple(row["trained_on"])) for row in results["rows"]} == {
        (variant, counts) for variant in ("air", "dair") for counts in ((0, 1, 2), (0, 1, 3))
    }
    assert all(set(row["accuracy"]) == {"1", "2", "3", "4"} for row in results["rows"])
    assert results["unseen"].keys() >= {"dair trained on 0,1,2, tested on 3", "air trained on 0,1,3, tested on 2"}
    check_self_contained(tmp_path / "report.html")
    weights = tmp_path / "dair_012_seed0" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert run_script(monkeypatch, "generalization", *options) == 0
    assert weights.stat().st_mtime_ns == before and results_of(tmp_path)["rows"] == results["rows"]
    assert run_script(monkeypatch, "generalization", *options, "--steps", "2") == 2
    assert "got another; choose another --out" in capsys.readouterr().err


def test_table_gives_means_and_ranges_and_marks_what_was_not_seen() -> None:
    rows = [CountRow("dair", (0, 1, 2), seed, {2: share, 3: 0.5}) for seed, share in enumerate((0.9, 1.0))]
    (line,) = generalization_table(rows).rows
    assert line == ("DAIR, trained on 0, 1, 2", "2", "95.0 % (90.0–100.0)", "50.0 % (50.0–50.0) *")
