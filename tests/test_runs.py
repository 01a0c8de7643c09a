"""Run directories are claimed once, and journals keep, resume and save what training says."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from guide_scenes import tiny_guide

from inverse_graphics.checkpoints import MODEL_FILE, STATE_FILE, load_guide
from inverse_graphics.guides import RecurrentGuide
from inverse_graphics.runs import CONFIG_FILE, HISTORY_FILE, Journal, RunError, claim_run, current_commit, find_run, pick_device
from inverse_graphics.scene_training import load_scene_state, scene_state
from inverse_graphics.training import TrainState

CPU = torch.device("cpu")


def state_at(step: int) -> TrainState[RecurrentGuide]:
    state = scene_state(tiny_guide(), 0, CPU)
    state.step = step
    return state


def record(journal: Journal, state: TrainState[RecurrentGuide], steps: range, **extra: float) -> None:
    for step in steps:
        state.step = step
        journal(state, {"loss": float(step)} | extra)


def strict_json(path: Path) -> dict[str, list[float | None]]:
    """JSON that holds no NaN and no infinity."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in {path}")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_claim_run_makes_new_directories_and_takes_empty_ones(tmp_path: Path) -> None:
    run = claim_run(tmp_path / "runs" / "first")
    assert run.is_dir() and claim_run(str(run)) == run


def test_claim_run_refuses_what_holds_something(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("kept")
    with pytest.raises(RunError, match=r"--out: expected a new or empty directory, got .*run.*--resume"):
        claim_run(tmp_path / "run")
    with pytest.raises(RunError, match="--out"):
        claim_run(tmp_path / "run" / "notes.txt")
    assert (tmp_path / "run" / "notes.txt").read_text() == "kept"


def test_find_run_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=CONFIG_FILE):
        find_run(tmp_path)
    (tmp_path / CONFIG_FILE).write_text("")
    with pytest.raises(RunError, match=MODEL_FILE):
        find_run(tmp_path)
    (tmp_path / MODEL_FILE).write_bytes(b"")
    assert find_run(str(tmp_path)) == tmp_path


def test_journal_averages_and_saves_on_closing(tmp_path: Path) -> None:
    state = state_at(0)
    with Journal(tmp_path, steps=6, every=2) as journal:
        record(journal, state, range(1, 6), bound=-3.0)
        assert journal.history["loss"] == [1.5, 3.5]
    history = strict_json(tmp_path / HISTORY_FILE)
    assert history["step"] == [2.0, 4.0, 5.0] and history["loss"] == [1.5, 3.5, 5.0] and history["bound"] == [-3.0] * 3
    assert all(value is not None and value >= 0 for value in history["seconds"])
    assert load_scene_state(tmp_path / STATE_FILE, CPU).step == 5
    assert load_guide(tmp_path).config == state.model.config
    assert any((tmp_path / "tensorboard").iterdir())


def test_journal_saves_whatever_ended_the_run(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError), Journal(tmp_path, steps=9, every=4) as journal:
        record(journal, state_at(0), range(1, 4))
        raise FloatingPointError
    assert load_scene_state(tmp_path / STATE_FILE, CPU).step == 3
    assert strict_json(tmp_path / HISTORY_FILE)["loss"] == [2.0]


def test_journal_without_a_step_writes_no_checkpoint(tmp_path: Path) -> None:
    with Journal(tmp_path, steps=3):
        pass
    assert not (tmp_path / STATE_FILE).exists() and not (tmp_path / HISTORY_FILE).exists()


def test_journal_saves_at_intervals(tmp_path: Path) -> None:
    with Journal(tmp_path, steps=3, save_every_s=-1.0) as journal:
        record(journal, state_at(0), range(1, 2))
        assert load_scene_state(tmp_path / STATE_FILE, CPU).step == 1


def test_history_on_disk_has_neither_nan_nor_infinity(tmp_path: Path) -> None:
    state = state_at(0)
    with Journal(tmp_path, steps=3, every=1) as journal:
        record(journal, state, range(1, 2))
        record(journal, state, range(2, 3), norm=math.inf)
        record(journal, state, range(3, 4), norm=2.0)
        assert math.isnan(journal.history["norm"][0])
    assert strict_json(tmp_path / HISTORY_FILE)["norm"] == [None, None, 2.0]
    assert load_scene_state(tmp_path / STATE_FILE, CPU).step == 3


def test_journal_resumes_and_drops_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    state = state_at(0)
    with Journal(tmp_path, steps=8, every=2) as journal:
        record(journal, state, range(1, 5), early=1.0)
        record(journal, state, range(5, 7))
    before = strict_json(tmp_path / HISTORY_FILE)
    with Journal(tmp_path, steps=8, done=4, every=2) as journal:
        assert journal.history["step"] == [2.0, 4.0] and journal.history["early"] == [1.0, 1.0]
        earlier = before["seconds"][1]
        assert earlier is not None and journal.seconds >= earlier
        record(journal, state, range(5, 9), late=2.0)
    history = strict_json(tmp_path / HISTORY_FILE)
    assert history["step"] == [2.0, 4.0, 6.0, 8.0] and history["loss"] == [1.5, 3.5, 5.5, 7.5]
    assert history["early"] == [1.0, 1.0, None, None] and history["late"] == [None, None, 2.0, 2.0]
    seconds = [value for value in history["seconds"] if value is not None]
    assert seconds == sorted(seconds)


def test_commit_is_a_hash_or_unknown() -> None:
    commit = current_commit().removesuffix("+changes")
    assert commit == "unknown" or (len(commit) == 40 and int(commit, 16) >= 0)


def test_devices_are_picked_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto") == pick_device("cpu") == CPU
    with pytest.raises(ValueError, match="--device: expected a CUDA GPU .* use --device cpu"):
        pick_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto") == pick_device("cuda") == torch.device("cuda")
    assert pick_device("cpu") == CPU
