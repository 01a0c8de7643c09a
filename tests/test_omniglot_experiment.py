"""Parts of characters from the command line: what a run leaves behind, resuming, judging again, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from flat_files import omniglot_files, write_files
from script_runs import check_self_contained, results_of, run_script

from inverse_graphics.config import load_yaml
from inverse_graphics.runs import Journal
from inverse_graphics.sprites.parts import WAYS
from inverse_graphics.sprites.stroke_training import load_strokes
from inverse_graphics.training import TrainState

CONFIG = """\
num_alphabets: 3
max_objects: 2
pen: {characters: 3, drawers: 4, canvas_px: 24}
sizes: {degree: 2, dots: 12, window_px: 8, hidden: 8, channels: 4, stroke_px: 16}
training: {steps: 3, batch_size: 4}
refinement: {rounds: 1, steps: 2}
num_eval_images: 2
"""
SETS = ("held_out_drawers", "held_out_alphabets")


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    return config


def start(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    return run_script(monkeypatch, "omniglot", *arguments, "--device", "cpu")


def test_a_run_leaves_results_report_and_weights_and_is_judged_again_on_other_data(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, again, root = tmp_path / "run", tmp_path / "again", tmp_path / "omniglot"
    assert start(monkeypatch, "--config", tiny, "--seed", "2", "--out", run) == 0, capsys.readouterr().err
    files = ("config.yaml", "results.json", "report.html", "history.json", "model.safetensors", "state.safetensors")
    assert all((run / name).stat().st_size > 0 for name in files)
    results = results_of(run)
    assert (results["variant"], results["steps"], results["seed"], results["trained_on"]) == ("dair", 3, 2, results["data"])
    # 3 alphabets of 3 characters by 4 drawers: one alphabet and one drawer are held out
    assert results["data"].endswith("(train 18, other drawers 6, other alphabets 12)") and "made-up" in results["data"]
    for name in SETS:
        judged = results[name]
        assert judged["num_images"] == 2 and set(judged["agreement"]) == set(WAYS)
        assert all(values["low"] <= values["mean"] <= values["high"] for values in judged["agreement"].values())
        assert judged["squared_error"]["mean"] > 0
    page = check_self_contained(run / "report.html")
    assert "made-up pen strokes" in page and "Step by step" in page and "k-means" in page
    assert "made-up pen strokes" in capsys.readouterr().out
    write_files(root, omniglot_files("background_small1", {"A": 1, "B": 1}))
    options = ("--data-root", root, "--part", "background_small1", "--rounds", "0", "--eval-seed", "5")
    assert start(monkeypatch, "--evaluate", run, *options, "--out", again) == 0, capsys.readouterr().err
    judged = results_of(again)
    assert "Omniglot" in judged["data"] and "made-up" in judged["trained_on"] and judged["eval_seed"] == 5
    assert judged["held_out_alphabets"]["num_images"] == 2 and judged["held_out_drawers"]["num_images"] == 1
    assert judged["held_out_alphabets"]["agreement"]["parts"] == judged["held_out_alphabets"]["agreement"]["guide"]


def test_a_run_stopped_and_resumed_equals_one_that_was_not(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert start(monkeypatch, "--config", tiny, "--variant", "air", "--out", whole) == 0
    record = Journal.__call__

    def stop_at_two(journal: Journal, state: TrainState, scalars: dict[str, float]) -> None:
        record(journal, state, scalars)
        if state.step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "__call__", stop_at_two)
        assert start(patch, "--config", tiny, "--variant", "air", "--out", broken) == 2
    assert start(monkeypatch, "--resume", "--rounds", "0", "--out", broken) == 0
    first, second = load_strokes(whole).state_dict(), load_strokes(broken).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert load_yaml(broken / "config.yaml")["refinement"]["rounds"] == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--data-root", "nowhere"), "nowhere"),
        (("--steps", "0"), "steps: expected at least 1"),
        (("--rounds", "-1"), "rounds: expected at least 0"),
        (("--num-eval-images", "0"), "num_eval_images: expected at least 1"),
        (("--resume",), "config.yaml"),
        (("--evaluate", "nowhere"), "nowhere"),
        (("--evaluate", "nowhere", "--variant", "air"), "--evaluate takes the run's own config, got --variant"),
        (("--resume", "--max-objects", "3"), "--resume takes the run's own config, got --max-objects"),
    ],
)
def test_what_cannot_be_done_is_one_clear_error(
    arguments: tuple[str, ...],
    message: str,
    tiny: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = () if {"--resume", "--evaluate"} & set(arguments) else ("--config", tiny)
    assert start(monkeypatch, *config, *arguments, "--out", tmp_path / "run") == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ") and message in error
