"""A run's directory and its journal: progress bar, TensorBoard, history, checkpoints."""

from __future__ import annotations

import math
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from inverse_graphics.checkpoints import MODEL_FILE, STATE_FILE, save_model, save_state
from inverse_graphics.files import read_json, write_json
from inverse_graphics.training import TrainState

CONFIG_FILE = "config.yaml"
HISTORY_FILE = "history.json"
RESULTS_FILE = "results.json"
REPORT_FILE = "report.html"


class RunError(ValueError):
    """A run directory that cannot be used as asked."""


def claim_run(out: str | Path) -> Path:
    """Make a new run directory.

    Raises:
        RunError: it holds something already.
    """
    path = Path(out)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise RunError(
            f"--out: expected a new or empty directory, got {path}, which holds files; choose another, or add --resume"
        )
    path.mkdir(parents=True, exist_ok=True)
    return path


def find_run(path: str | Path, needed: str = MODEL_FILE) -> Path:
    """Check that a directory holds a run.

    Raises:
        RunError: it does not, or the run has not come as far as ``needed``.
    """
    run = Path(path)
    for name in (CONFIG_FILE, needed):
        if not (run / name).is_file():
            raise RunError(f"expected a run directory that holds {name}, got {run}; check the path, or train first")
    return run


def current_commit() -> str:
    """Revision of the code, with ``+changes`` where files differ from it; ``unknown`` outside a repository."""
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


class Journal:
    """Keeps a run's scalars and state: call it after every step, close it at the end (it is a context manager).

    Scalars are averaged over ``every`` steps for TensorBoard and the history; the state is saved every ``save_every_s`` seconds
    and on closing, whatever ended the run, so that ``--resume`` loses little.
    """

    def __init__(
        self,
        run: Path,
        steps: int,
        done: int = 0,
        every: int = 25,
        save_every_s: float = 120.0,
        shown: tuple[str, ...] = (),
    ) -> None:
        """Open a run's journal.

        Args:
            run: its directory.
            steps: how many steps there will be in all.
            done: how many are done already; what a former journal wrote of later steps is dropped.
            every: steps a logged value is the mean of.
            save_every_s: seconds between checkpoints.
            shown: scalars beside the progress bar, after the loss.
        """
        self._run, self._every, self._save_every_s, self._shown = run, every, save_every_s, ("loss", *shown)
        self._writer = SummaryWriter(str(run / "tensorboard"), purge_step=done + 1 if done else None)
        seen = sys.stderr.isatty()
        self._bar = tqdm(
            total=steps,
            initial=done,
            unit="step",
            smoothing=0.05,
            dynamic_ncols=seen,
            ncols=None if seen else 160,
            mininterval=0.2 if seen else 15.0,
            file=sys.stderr,
        )
        self._rows: list[dict[str, float]] = []
        if done and (run / HISTORY_FILE).is_file():
            table = read_json(run / HISTORY_FILE)
            rows = [dict(zip(table, values, strict=True)) for values in zip(*table.values(), strict=True)]
            self._rows = [{k: v for k, v in row.items() if v is not None} for row in rows if row["step"] <= done]
        self._recent: list[Mapping[str, float]] = []
        self._state: TrainState[Any] | None = None
        self._saved_at = self._started = time.monotonic()
        self._ended: float | None = None
        self._earlier_s = self._rows[-1].get("seconds", 0.0) if self._rows else 0.0

    @property
    def seconds(self) -> float:
        """Time spent in training, earlier parts of a resumed run included; stands still once the journal is closed."""
        now = time.monotonic() if self._ended is None else self._ended
        return self._earlier_s + now - self._started

    def __call__(self, state: TrainState[Any], scalars: Mapping[str, float]) -> None:
        """Record a step."""
        self._state = state
        self._recent.append(scalars)
        self._bar.update(1)
        if state.step % self._every == 0:
            self._flush(state.step)
        if time.monotonic() - self._saved_at > self._save_every_s:
            self.save()

    def _flush(self, step: int) -> None:
        if not self._recent:
            return
        names = {name for scalars in self._recent for name in scalars}
        row = {name: _mean([s[name] for s in self._recent if name in s]) for name in sorted(names)}
        self._recent.clear()
        for name, value in row.items():
            self._writer.add_scalar(name.replace(" ", "/", 1), value, step)
        self._rows.append({"step": float(step), "seconds": self.seconds} | row)
        self._bar.set_postfix({name: f"{row[name]:.3g}" for name in self._shown if name in row}, refresh=False)

    @property
    def history(self) -> dict[str, list[float]]:
        """Every scalar by step, NaN where it was not logged."""
        names = dict.fromkeys(name for row in self._rows for name in row)
        return {name: [row.get(name, math.nan) for row in self._rows] for name in names}

    def say(self, text: str) -> None:
        """Print a line above the progress bar."""
        self._bar.write(text, file=sys.stderr)

    def save(self) -> None:
        """Write history, state and weights now."""
        if self._state is None:
            return
        self._flush(self._state.step)
        table = {name: [value if math.isfinite(value) else None for value in values] for name, values in self.history.items()}
        write_json(self._run / HISTORY_FILE, table)
        save_state(self._run / STATE_FILE, self._state)
        save_model(self._run / MODEL_FILE, self._state.model)
        self._saved_at = time.monotonic()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._ended = time.monotonic()
        self._bar.close()
        self.save()
        self._writer.close()


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def pick_device(name: str) -> torch.device:
    """``auto``: the GPU if there is one.

    Raises:
        ValueError: ``cuda`` is asked for and there is none.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device: expected a CUDA GPU that torch can use, found none; use --device cpu")
    return torch.device("cuda" if name == "cuda" or (name == "auto" and torch.cuda.is_available()) else "cpu")
