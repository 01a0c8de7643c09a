"""The comparison of estimators from its command line: what it leaves and takes over; what its measures mean."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from script_runs import check_self_contained, results_of, run_script

from inverse_graphics.reporting.estimator_report import CurvePoint, SpreadRow, curve_table, seconds_to, spread_table


def test_scatter_and_curves_of_every_estimator_are_kept_and_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--preset", "smoke", "--device", "cpu", "--out", tmp_path)
    assert run_script(monkeypatch, "estimators", *options, "--seeds", "0") == 0, capsys.readouterr().err
    spreads = results_of(tmp_path)["spreads"]
    assert {(row["estimator"], row["step"], row["group"]) for row in spreads} == {
        (name, step, group) for name in ("exact", "nvil", "vimco") for step in (0, 2) for group in ("all", "presence")
    }
    assert all(row["variance"] > 0 and row["draws"] == 3 for row in spreads)
    with open(tmp_path / "curves.csv") as stream:
        first = list(csv.DictReader(stream))
    assert [(row["estimator"], row["step"]) for row in first] == [
        (name, step) for name in ("exact", "nvil", "vimco") for step in ("0", "2", "4")
    ]
    # the same weights at step 0
    assert len({row["bound"] for row in first if row["step"] == "0"}) == 1
    assert run_script(monkeypatch, "estimators", *options) == 0, capsys.readouterr().err
    with open(tmp_path / "curves.csv") as stream:
        both = list(csv.DictReader(stream))
    assert [row for row in both if row["seed"] == "0"] == first and len(both) == 18
    assert results_of(tmp_path)["spreads"] == spreads
    assert "nvil" in check_self_contained(tmp_path / "report.html")
    config = tmp_path / "other.yaml"
    config.write_text("draws: 2\nspread_steps: [0]\n")
    capsys.readouterr()
    assert run_script(monkeypatch, "estimators", *options, "--config", config) == 2
    assert "got another's; choose another" in capsys.readouterr().err
    config.write_text("spread_steps: [0, 9999999]\n")
    assert run_script(monkeypatch, "estimators", "--config", config, "--out", tmp_path / "b") == 2
    assert "spread_steps" in capsys.readouterr().err


def test_tables_compare_with_the_exact_estimator_and_say_when_ninety_percent_was_reached() -> None:
    rows = [
        SpreadRow("exact", 0, "all", 4.0, 1.0, 8, 0.1),
        SpreadRow("nvil", 0, "all", 100.0, 0.0, 8, 0.2),
    ]
    assert [line[1:] for line in spread_table(rows).rows] == [
        ("4", "1", "2", "100 ms", "1"),
        ("100", "0", "–", "200 ms", "50"),
    ]
    accuracies = {0: (0.3, 0.95, 0.97), 1: (0.3, 0.5, 0.8)}
    points = [
        CurvePoint("exact", seed, 10 * i, 2.0 * i, share, -5.0) for seed, own in accuracies.items() for i, share in enumerate(own)
    ]
    assert seconds_to(points, "exact", 0.9) == [2.0, None]
    assert curve_table(points).rows == (("exact", "2", "88.5 % (80.0–97.0)", "-5", "5.0/s", "2 s, –"),)
