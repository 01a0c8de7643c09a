"""Multi-MNIST from its command line: what a run leaves behind, resuming, judging again, and what it refuses."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from script_runs import EXPERIMENTS, check_self_contained, results_of, run_script

from inverse_graphics.config import load_yaml
from inverse_graphics.runs import Journal
from inverse_graphics.sprites.training import load_sprites
from inverse_graphics.training import TrainState

CONFIG = """\
images: {counts: [0, 1, 2]}
sizes: {what: 6, hidden: 16, channels: 8, sprite_hidden: 16}
training: {steps: 3, batch_size: 4}
num_eval_images: 24
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    config = tmp_path / "config.yaml"
    config.write_text(CONFIG)
    return config


def start(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    return run_script(monkeypatch, "multi_mnist", *arguments, "--device", "cpu")


def write_digits(folder: Path, count: int = 40) -> Path:
    """Files such as MNIST's, with made-up digits: bars whose length is the label."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem in ("train", "t10k"):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = np.zeros((count, 28, 28), np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[6 : 10 + label, 10:18] = 255
        (folder / f"{stem}-images-idx3-ubyte.gz").write_bytes(
            gzip.compress(struct.pack(">IIII", 2051, count, 28, 28) + images.tobytes())
        )
        (folder / f"{stem}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(struct.pack(">II", 2049, count) + labels.tobytes()))
    return folder


def test_a_run_leaves_results_report_and_weights_and_is_judged_again(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run, again = tmp_path / "run", tmp_path / "again"
    assert start(monkeypatch, "--config", tiny, "--variant", "dair", "--seed", "2", "--out", run) == 0, capsys.readouterr().err
    files = ("config.yaml", "results.json", "report.html", "history.json", "model.safetensors", "state.safetensors")
    assert all((run / name).stat().st_size > 0 for name in files)
    results = results_of(run)
    assert results["num_eval_images"] == 24 == sum(map(sum, results["count_confusion"]))
    assert (results["overlap_rule"], results["variant"], results["steps"], results["seed"]) == ("strict", "dair", 3, 2)
    assert "scikit-learn" in results["data"] and results["counts"] == [0, 1, 2]
    page = check_self_contained(run / "report.html")
    assert "scikit-learn" in page and "Step by step" in page
    assert "scikit-learn" in capsys.readouterr().out
    assert start(monkeypatch, "--evaluate", run, "--counts", "3", "--rule", "crude", "--eval-seed", "5", "--out", again) == 0
    judged = results_of(again)
    assert (judged["counts"], judged["overlap_rule"], judged["eval_seed"], judged["variant"]) == ([3], "crude", 5, "dair")
    assert list(judged["count_accuracy_by_count"]) == ["3"] and len(judged["count_confusion"]) >= 4
    options = ("--canvas-px", "72", "--counts", "4", "--num-eval-images", "6", "--out", tmp_path / "large")
    assert start(monkeypatch, "--evaluate", run, *options) == 0, capsys.readouterr().err
    assert results_of(tmp_path / "large")["canvas_px"] == 72


def test_a_run_stopped_and_resumed_equals_one_that_was_not(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert start(monkeypatch, "--config", tiny, "--out", whole) == 0
    record = Journal.__call__

    def stop_at_two(journal: Journal, state: TrainState, scalars: dict[str, float]) -> None:
        record(journal, state, scalars)
        if state.step == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "__call__", stop_at_two)
        assert start(patch, "--config", tiny, "--out", broken) == 2
    assert start(monkeypatch, "--resume", "--out", broken) == 0
    first, second = load_sprites(whole).state_dict(), load_sprites(broken).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_digits_from_files_are_used_and_named(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_digits(tmp_path / "mnist")
    run = tmp_path / "run"
    assert start(monkeypatch, "--config", tiny, "--data-root", root, "--steps", "1", "--estimator", "nvil", "--out", run) == 0
    assert "40 digits" in results_of(run)["data"] and results_of(run)["estimator"] == "nvil"
    assert load_yaml(run / "config.yaml")["training"]["steps"] == 1
    assert start(monkeypatch, "--resume", "--steps", "2", "--out", run) == 2  # other digits than the run's own
    assert start(monkeypatch, "--resume", "--steps", "2", "--data-root", root, "--out", run) == 0


def test_windows_and_noise_follow_the_digits_size(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = tmp_path / "run"
    assert start(monkeypatch, "--config", tiny, "--digit-px", "14", "--steps", "1", "--out", run) == 0
    small = load_yaml(run / "config.yaml")
    assert small["images"]["digit_px"] == 14
    assert small["sizes"]["object_px"] == pytest.approx(50 / 3 / 2)  # of digits of 28 px: 50 / 3, and 0.3
    assert small["training"]["image"]["sigma"] == pytest.approx(0.3 / 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--counts", "two"), "--counts: expected numbers with commas between"),
        (("--counts", "0,1,2,3", "--max-objects", "2"), "max_objects: expected at least 3"),
        (("--canvas-px", "20", "--counts", "4"), "canvas_px: expected room for every digit"),
        (("--data-root", "nowhere"), "nowhere"),
        (("--download",), "--download: expected --data-root"),
        (("--steps", "0"), "steps: expected at least 1"),
        (("--resume",), "config.yaml"),
        (("--evaluate", "nowhere"), "nowhere"),
        (("--evaluate", "nowhere", "--variant", "air"), "--evaluate takes the run's own config, got --variant"),
        (("--resume", "--rule", "crude"), "--resume takes the run's own config, got --rule"),
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


def test_digits_that_are_cut_off_are_named(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    root = write_digits(tmp_path / "mnist")
    file = root / "t10k-images-idx3-ubyte.gz"
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes())[:-100]))
    assert start(monkeypatch, "--config", tiny, "--data-root", root, "--out", tmp_path / "run") == 2
    assert "t10k-images-idx3-ubyte.gz" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


PRETRAINED = {"multi_mnist_dair_012": 0.98, "multi_mnist_dair_013": 0.98, "multi_mnist_air": 0.95}
"""Models that come with the project, and the least share of counts each gets right."""


def test_no_other_models_come_with_the_project() -> None:
    folders = {path.name: path for path in (EXPERIMENTS / "pretrained").iterdir()}
    assert set(folders) == set(PRETRAINED)
    assert all((path / "model.safetensors").stat().st_size <= 5e6 for path in folders.values())


@pytest.mark.parametrize("name", PRETRAINED)
def test_models_that_come_with_the_project_count_digits_they_were_not_trained_on(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--evaluate", EXPERIMENTS / "pretrained" / name, "--num-eval-images", 200, "--out", tmp_path / "judged")
    assert start(monkeypatch, *options) == 0
    results = results_of(tmp_path / "judged")
    assert results["count_accuracy"] > PRETRAINED[name] and results["num_eval_images"] == 200
