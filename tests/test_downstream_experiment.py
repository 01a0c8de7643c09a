"""The experiment on pairs of digits from its command line: what it leaves, what it takes over, what it refuses."""

from __future__ import annotations

import csv
import importlib
from pathlib import Path

import pytest
import torch
from script_runs import EXPERIMENTS, check_self_contained, results_of, run_script
from sprite_samples import TINY

from inverse_graphics.reporting.downstream_report import Score, accuracy_table, downstream_summary
from inverse_graphics.sprites.model import SpriteConfig, SpriteModel
from scenes.flat.digits import embedded_digits


def test_scores_of_every_reader_are_kept_and_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    options = ("--preset", "smoke", "--device", "cpu", "--out", out)
    assert run_script(monkeypatch, "downstream", *options, "--seeds", "0") == 0, capsys.readouterr().err
    first = results_of(out)["scores"]
    assert run_script(monkeypatch, "downstream", *options, "--num-test-images", "30") == 0, capsys.readouterr().err
    results = results_of(out)
    cells = {(s["task"], s["reader"], s["labels"], s["seed"]) for s in results["scores"]}
    assert cells == {
        (task, reader, labels, seed)
        for task in ("sum", "ascending")
        for reader in ("latents", "pixels")
        for labels in (20, 40)
        for seed in (0, 1)
    }
    assert [s for s in results["scores"] if s["seed"] == 0] == first  # times included: nothing was trained again
    assert all(0 <= s["accuracy"] <= 1 for s in results["scores"])
    with open(out / "scores.csv") as stream:
        assert len(list(csv.DictReader(stream))) == 16
    page = check_self_contained(out / "report.html")
    assert "ascending from left to right" in page and "scikit-learn" in page
    other = ("--run", out / "sprites", "--out", tmp_path / "other", "--labels", "20", "--seeds", "0")
    assert run_script(monkeypatch, "downstream", "--preset", "smoke", "--device", "cpu", *other) == 0
    same = [s for s in first if s["labels"] == 20]
    assert [s["accuracy"] for s in results_of(tmp_path / "other")["scores"]] == [s["accuracy"] for s in same]
    capsys.readouterr()
    assert run_script(monkeypatch, "downstream", *options, "--num-test-images", "31") == 2
    assert "got another's; choose another --out" in capsys.readouterr().err
    assert run_script(monkeypatch, "downstream", *options, "--labels", "9") == 2
    assert "at least 10" in capsys.readouterr().err


def test_fewer_labels_are_some_of_the_more_and_frozen_means_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXPERIMENTS))
    pairs = importlib.import_module("setup_pairs")
    fitting = importlib.import_module("inverse_graphics.downstream.fitting")
    torch.manual_seed(0)
    model = SpriteModel(SpriteConfig("dair", 50, 3, TINY)).eval()
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    digits, sprites, cpu = embedded_digits("train"), pairs.Config(), torch.device("cpu")
    more = pairs.labelled_pairs(model, digits, sprites, 24, 0, cpu)
    fewer = pairs.labelled_pairs(model, digits, sprites, 12, 0, cpu)
    assert torch.equal(more.first(12).images, fewer.images) and torch.equal(more.first(12).digits, fewer.digits)
    assert torch.equal(more.first(12).latents.what.mean, more.latents.what.mean[:12])
    other = pairs.labelled_pairs(model, digits, sprites, 12, 1, cpu)
    assert not torch.equal(other.images, fewer.images)
    config = fitting.FitConfig(least_steps=3, most_steps=3, batch_size=4, hidden=4)
    score = pairs.fit_latents("sum", model, more, fewer, config, 0)
    assert (score.labels, score.steps) == (24, 3)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_summary_says_who_is_ahead_and_the_table_gives_ranges() -> None:
    scores = [
        Score(task, reader, labels, seed, value + 0.01 * seed, None if reader == "pixels" else 0.9, 0.1, 1, 2, 3.0)
        for task in ("sum", "ascending")
        for reader, values in (("latents", (0.5, 0.9)), ("pixels", (0.3, 0.9 if task == "sum" else 0.8)))
        for labels, value in zip((100, 1000), values, strict=True)
        for seed in (0, 1)
    ]
    summary = downstream_summary(scores)
    assert summary["latents_ahead_at_every_count"] == {"sum": False, "ascending": True}
    assert summary["mean_accuracy"]["sum"]["latents"]["100"] == pytest.approx(0.505)
    assert accuracy_table(scores).rows[0] == (
        "sum of the two digits, frozen latents", "50.5 % (50.0–51.0)", "90.5 % (90.0–91.0)"
    )  # fmt: skip
