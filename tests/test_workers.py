"""The pool of worker processes: the same pictures as in this process, whatever happens to the workers."""

from __future__ import annotations

import dataclasses
import functools
import logging
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from painters import EnvironmentPainter, FloorPainter, FragilePainter, RayPainter, SlowPainter, StillbornPainter
from renderer_scenes import ball, box, catalogue_of, table_scene

from renderers import BackendMissingError
from renderers.painting.packing import scene_arrays
from renderers.painting.pictures import PainterError, PictureRenderer
from renderers.painting.shots import Picture, Shot
from renderers.painting.worker_process import ReadyReply, Worker
from renderers.painting.workers import WorkerError, WorkerPool

CATALOGUE = catalogue_of(box(), ball(subdivisions=0))


def shots_of(count: int) -> list[Shot]:
    """Different pictures; shot i has an ambient intensity of i / 100."""
    scenes = scene_arrays(*table_scene(count, 2, 12, classes=2, seed=5), 1)
    shots = [scenes.shot_of_slots(scene, [0, 1]) for scene in range(count)]
    return [dataclasses.replace(shot, ambient=i / 100) for i, shot in enumerate(shots)]


SHOTS = shots_of(10)


@pytest.fixture(scope="module")
def expected() -> list[Picture]:
    return RayPainter(CATALOGUE).draw(SHOTS)


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool(functools.partial(RayPainter, CATALOGUE), 2) as pool:
        yield pool


def assert_same(pictures: list[Picture], expected: list[Picture]) -> None:
    assert len(pictures) == len(expected)
    for a, b in zip(pictures, expected, strict=True):
        assert np.array_equal(a.rgb, b.rgb)
        assert np.array_equal(a.depth_m, b.depth_m)


def fragile(log: Path, how: str, times: int) -> Callable[[], FragilePainter]:
    """A painter that fails at shot 6, as often as said."""
    return functools.partial(FragilePainter, CATALOGUE, how, 0.06, log / "log", times)


def test_pictures_are_the_same_and_in_order(pool: WorkerPool, expected: list[Picture]) -> None:
    assert pool.name == "rays"
    assert len(pool.process_ids) == 2
    for count in (10, 1, 0):
        assert_same(pool.draw(SHOTS[:count]), expected[:count])


def test_a_renderer_on_a_pool_is_the_same(pool: WorkerPool) -> None:
    objects, view = table_scene(2, 3, 12, classes=2)
    a = PictureRenderer(pool, CATALOGUE).render(objects, view)
    b = PictureRenderer(RayPainter(CATALOGUE), CATALOGUE).render(objects, view)
    assert (a.rgb == b.rgb).all()


def test_threads_take_turns(pool: WorkerPool, expected: list[Picture]) -> None:
    results: dict[int, list[Picture]] = {}
    threads = [threading.Thread(target=lambda i=i: results.update({i: pool.draw(SHOTS[i:])})) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(3):
        assert_same(results[i], expected[i:])


@pytest.mark.parametrize("how", ["kill", "hang", "stop"])
def test_what_a_lost_worker_had_is_drawn_again(
    how: str, tmp_path: Path, expected: list[Picture], caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.WARNING),
        WorkerPool(fragile(tmp_path, how, 2), 2, timeout_s=5.0 if how == "kill" else 0.7) as pool,
    ):
        before = set(pool.process_ids)
        assert_same(pool.draw(SHOTS), expected)
        assert len((tmp_path / "log").read_text().split()) == 3
        assert len(set(pool.process_ids) & before) < 2
        assert len(pool.process_ids) == 2
        assert_same(pool.draw(SHOTS), expected)
    assert len(caplog.records) >= 2
    assert ("SIGKILL" if how == "kill" else "within 0.7 s") in caplog.text


def test_a_slow_painter_is_not_taken_for_one_that_hangs(expected: list[Picture]) -> None:
    """Three pictures, a quarter of what one worker is asked for, take longer than the time-out; one does not."""
    with WorkerPool(functools.partial(SlowPainter, CATALOGUE, 0.3), 1, timeout_s=0.8) as pool:
        before = pool.process_ids
        assert_same(pool.draw(SHOTS[:9]), expected[:9])
        assert pool.process_ids == before


def test_chunks_grow_where_pictures_are_quick(pool: WorkerPool, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def ask(worker: Worker, shots: list[Shot], timeout_s: float, ask: Callable[..., None] = Worker.ask) -> None:
        asked.append(len(shots))
        ask(worker, shots, timeout_s)

    monkeypatch.setattr(Worker, "ask", ask)
    pool.draw(SHOTS)
    pool.draw(SHOTS * 8)
    assert sum(asked) == 90 and max(asked) == 10


def test_workers_killed_from_outside_are_replaced(pool: WorkerPool, expected: list[Picture]) -> None:
    for pid in pool.process_ids:
        os.kill(pid, signal.SIGKILL)
    assert_same(pool.draw(SHOTS), expected)


def test_a_shot_that_always_kills_is_named(tmp_path: Path) -> None:
    pool = WorkerPool(fragile(tmp_path, "kill", 99), 2)
    with pytest.raises(WorkerError, match="shot 6 of 10.*3 workers were lost over it.*SIGKILL"):
        pool.draw(SHOTS)
    assert len((tmp_path / "log").read_text().split()) == 3
    assert pool.process_ids == []
    with pytest.raises(WorkerError, match="shot 6 of 10.*3 workers were lost over it"):
        pool.draw(SHOTS)


def test_an_exception_stops_at_once_and_the_pool_lives_on(tmp_path: Path, expected: list[Picture]) -> None:
    with WorkerPool(fragile(tmp_path, "raise", 1), 2) as pool:
        before = pool.process_ids
        with pytest.raises(PainterError, match=r"(?s)'fragile'.*ArithmeticError: the seventh light.*Traceback.*in fail"):
            pool.draw(SHOTS)
        assert len((tmp_path / "log").read_text().split()) == 1
        assert_same(pool.draw(SHOTS[:6]), expected[:6])
        assert pool.process_ids == before


def test_a_factory_that_fails_is_named() -> None:
    with pytest.raises(PainterError, match="ArithmeticError: no such light"):
        WorkerPool(functools.partial(StillbornPainter, CATALOGUE, "raise"), 1)
    with pytest.raises(BackendMissingError, match="pip install nonesuch"):
        WorkerPool(functools.partial(StillbornPainter, CATALOGUE, "missing"), 1)
    with pytest.raises(WorkerError, match=r"3 in a row did not, the last died \(exit code 3\)"):
        WorkerPool(functools.partial(StillbornPainter, CATALOGUE, "exit"), 1)
    with pytest.raises(PainterError, match="pickled"):
        WorkerPool(lambda: RayPainter(CATALOGUE), 1)


@pytest.mark.parametrize("settings", [{"workers": 0}, {"timeout_s": 0.0}, {"attempts": 0}, {"start_timeout_s": -1.0}])
def test_bad_settings_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(settings))}: expected"):
        WorkerPool(functools.partial(RayPainter, CATALOGUE), **{"workers": 1, **settings})


def test_workers_use_one_thread_each_and_tell_of_surroundings() -> None:
    with WorkerPool(functools.partial(EnvironmentPainter, CATALOGUE), 1) as pool:
        threads = pool.draw(SHOTS[:1])[0].depth_m[0, :4]
        assert threads.tolist() == [1, 1, 1, pool.process_ids[0]]
        assert not pool.has_surroundings
    with WorkerPool(functools.partial(FloorPainter, CATALOGUE, 0.0), 1) as pool:
        assert pool.has_surroundings


@pytest.mark.parametrize("end", ["pass", "os.kill(os.getpid(), 9)"])
def test_nothing_lingers(end: str, tmp_path: Path) -> None:
    """A pool that nobody closes ends with its process, also where a worker hangs and the process is killed."""
    script, log = tmp_path / "script.py", tmp_path / "log"
    script.write_text(
        textwrap.dedent(f"""
        import functools, os, pickle, sys, threading, time
        from pathlib import Path
        sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}

        if __name__ == "__main__":
            from painters import FragilePainter
            from renderers.painting.workers import WorkerPool

            catalogue, shots = pickle.loads(Path({str(tmp_path)!r}, "task").read_bytes())
            pool = WorkerPool(functools.partial(FragilePainter, catalogue, "hang", 0.06, Path({str(log)!r}), 1), 1)
            print(*pool.process_ids, flush=True)
            threading.Thread(target=lambda: pool.draw(shots), daemon=True).start()
            while not Path({str(log)!r}).exists():
                time.sleep(0.02)
            {end}
        """)
    )
    (tmp_path / "task").write_bytes(pickle.dumps((CATALOGUE, SHOTS)))
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == (-9 if "kill" in end else 0), run.stderr
    (pid,) = map(int, run.stdout.split())
    deadline = time.monotonic() + 10
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_alive(pid)


def is_alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


def test_an_answer_that_nobody_looked_at_in_time_is_not_late() -> None:
    """Workers get ready side by side, and the pool may hear of one long after its time was up."""
    context = multiprocessing.get_context("forkserver")
    worker = Worker(context, pickle.dumps(functools.partial(RayPainter, CATALOGUE)), 60.0)
    try:
        assert worker.pipe.poll(60)
        worker.deadline = time.monotonic() - 1
        assert isinstance(worker.answer(), ReadyReply)
        assert worker.process.is_alive()
    finally:
        worker.kill()
