"""``WorkerPool``: a painter that shares its shots among processes, and does again what was lost with one that died or hung."""

from __future__ import annotations

import logging
import math
import multiprocessing
import pickle
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Literal

from renderers.errors import BackendMissingError
from renderers.painting.checks import PainterError
from renderers.painting.shots import Painter, Picture, Shot
from renderers.painting.worker_process import MissingReply, PicturesReply, RaisedReply, ReadyReply, Worker

LOG = logging.getLogger(__name__)

CHUNKS_PER_WORKER = 4
"""A call's shots are dealt in about as many parts, so that a slow picture does not keep the others waiting."""

CHUNK_SHARE = 0.1
"""Share of its time-out that a chunk should take: those of slow painters are smaller, so that only what hangs is late."""

LEAST_SHOT_S = 1e-6
"""Less is not believed of a shot."""

MAX_CHUNK_BYTES = 2**15
"""Bound on the poses of a chunk: what is sent fits into the pipe."""


class WorkerError(RuntimeError):
    """Workers failed again and again over one shot, or could not be started."""


@dataclass(eq=False)
class _Chunk:
    """Shots that are drawn together; ``failures`` counts the workers that were lost over them."""

    first: int
    """Place of the first shot in the call."""
    shots: list[Shot]
    """What to draw."""
    failures: int = 0
    """How often a worker died or hung over it."""


class WorkerPool:
    """Paints with several processes; results are in order and the same as those of one painter in this process.

    Workers are started anew (never forked from this process) and use one thread each.  One that dies, or gives no answer in
    time, is replaced and its shots are drawn by another; an exception in the painter stops the call at once instead, since it
    would come again.  A script that makes a pool needs ``if __name__ == "__main__":`` around what it runs.

    Close it with ``close()`` or use it in a ``with`` statement; what is left closes with the interpreter.  May be shared by
    threads, which then take turns.
    """

    def __init__(
        self,
        factory: Callable[[], Painter],
        workers: int,
        timeout_s: float = 60.0,
        attempts: int = 3,
        start_timeout_s: float = 120.0,
        method: Literal["forkserver", "spawn"] = "forkserver",
    ) -> None:
        """Start the workers and wait for the first.

        Args:
            factory: makes the painter in a worker; can be pickled, for example ``functools.partial(MujocoPainter, catalogue)``.
            workers: number of processes.
            timeout_s: how long a worker may take for one chunk of shots, which is a single one where shots take longer than a
                tenth of that.
            attempts: how many workers may be lost over one shot, or in a row before they are ready.
            start_timeout_s: how long a worker may take until it is ready.
            method: how processes are started: "forkserver" imports this package once for all of them.

        Raises:
            ValueError: a setting out of range.
            BackendMissingError: the painter's package is not installed.
            PainterError: the factory raised an exception, or cannot be pickled.
            WorkerError: ``attempts`` workers died or hung before they were ready.
        """
        _check_settings(workers, timeout_s, attempts, start_timeout_s, method)
        self._factory = _pickled(factory)
        self._timeouts_s = (start_timeout_s, timeout_s)
        self._attempts = attempts
        self._context = multiprocessing.get_context(method)
        if method == "forkserver":
            self._context.set_forkserver_preload(["renderers.painting.worker_process"])
        self._lock = threading.Lock()
        self._lost_in_a_row = 0
        self._shot_s = math.inf
        self._failure: str | None = None
        self._workers: list[Worker] = []
        self._finalizer = weakref.finalize(self, _stop, self._workers)
        self.name = ""
        self.has_surroundings = False
        try:
            self._workers.extend(self._start() for _ in range(workers))
            while not any(worker.is_ready for worker in self._workers):
                for worker in self._wait():
                    self._receive(worker)
        except BaseException:
            self.close()
            raise

    @property
    def process_ids(self) -> list[int]:
        """The workers' process ids; empty once the pool is closed."""
        return [worker.process.pid for worker in self._workers if worker.process.pid is not None]

    def draw(self, shots: list[Shot]) -> list[Picture]:
        """Draw pictures, one a shot; see ``Painter.draw``.

        Raises:
            PainterError: the painter raised an exception; its traceback is in the message.  The pool can be used on.
            WorkerError: ``attempts`` workers were lost over one shot, or before they were ready; the pool is closed, and a later
                call, by another thread perhaps, gets the same error.
            ValueError: the pool is closed.
        """
        with self._lock:
            if self._failure is not None:
                raise WorkerError(self._failure)
            if not self._finalizer.alive:
                raise ValueError("WorkerPool: expected an open pool, received a call of draw after it was closed; make another")
            pictures: dict[int, Picture] = {}
            waiting = deque(_deal(shots, len(self._workers)))
            dealt: dict[Worker, _Chunk] = {}
            while len(pictures) < len(shots):
                self._hand_out(waiting, dealt)
                for worker in self._wait():
                    chunk, spent_s = dealt.pop(worker, None), worker.spent_s
                    answer = self._receive(worker)
                    if isinstance(answer, RaisedReply) and chunk is not None:
                        raise PainterError(_raised(self.name, answer, len(shots)))
                    if isinstance(answer, PicturesReply) and chunk is not None:
                        self._shot_s = spent_s / len(chunk.shots)
                        pictures.update(enumerate(self._counted(answer, chunk), chunk.first))
                    if isinstance(answer, str) and chunk is not None:
                        waiting.extendleft(reversed(self._again(chunk, answer, len(shots))))
            return [pictures[place] for place in range(len(shots))]

    def close(self) -> None:
        """End the workers; may be called again."""
        self._finalizer()

    def __enter__(self) -> WorkerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> Worker:
        return Worker(self._context, self._factory, self._timeouts_s[0])

    def _hand_out(self, waiting: deque[_Chunk], dealt: dict[Worker, _Chunk]) -> None:
        """Give a chunk to every idle worker; one that cannot take it is found dead by ``_wait``.

        A chunk that would take too large a share of the time-out, as long as shots took last, is cut; before anything is known,
        to its first shot.
        """
        most = max(1, int(CHUNK_SHARE * self._timeouts_s[1] / max(self._shot_s, LEAST_SHOT_S)))
        for worker in self._workers:
            if waiting and worker.is_idle:
                chunk = waiting.popleft()
                if len(chunk.shots) > most:
                    waiting.appendleft(_Chunk(chunk.first + most, chunk.shots[most:], chunk.failures))
                    chunk = _Chunk(chunk.first, chunk.shots[:most], chunk.failures)
                dealt[worker] = chunk
                worker.ask(chunk.shots, self._timeouts_s[1])

    def _wait(self) -> list[Worker]:
        """Workers that have something to say, have died, or have run out of time; at least one of them."""
        while True:
            now = time.monotonic()
            late = [worker for worker in self._workers if worker.deadline <= now]
            if late:
                return late
            handles = {handle: worker for worker in self._workers for handle in (worker.pipe, worker.process.sentinel)}
            first = min(worker.deadline for worker in self._workers)
            heard = {handles[handle] for handle in wait(list(handles), None if first == math.inf else first - now)}
            if heard:
                return [worker for worker in self._workers if worker in heard]

    def _receive(self, worker: Worker) -> PicturesReply | RaisedReply | str | None:
        """What a worker answered, what became of it (text) where it was lost and replaced, or None where it became ready."""
        was_ready = worker.is_ready
        answer = worker.answer()
        if isinstance(answer, str):
            self._replace(worker, answer, was_ready)
            return answer
        if was_ready:
            assert not isinstance(answer, (ReadyReply, MissingReply))
            return answer
        if isinstance(answer, MissingReply):
            self.close()
            raise BackendMissingError(answer.renderer, answer.package, answer.install_command)
        if isinstance(answer, RaisedReply):
            self.close()
            raise PainterError(
                f"WorkerPool: factory: expected a painter, received {answer.what} in the worker; see its traceback:\n"
                f"{answer.traceback}"
            )
        assert isinstance(answer, ReadyReply)
        self.name, self.has_surroundings, self._lost_in_a_row = answer.name, answer.has_surroundings, 0
        return None

    def _replace(self, worker: Worker, what: str, was_ready: bool) -> None:
        self._lost_in_a_row = 0 if was_ready else self._lost_in_a_row + 1
        worker.kill()
        if self._lost_in_a_row >= self._attempts:
            raise self._failed(
                f"WorkerPool: expected a worker that gets ready, {self._attempts} in a row did not, the last {what}; "
                "make the painter in this process to see why, or raise start_timeout_s"
            )
        LOG.warning("worker %s of painter %s %s; another takes its place", worker.process.pid, self.name, what)
        self._workers[self._workers.index(worker)] = self._start()

    def _again(self, chunk: _Chunk, what: str, count: int) -> list[_Chunk]:
        """What to draw again, shot by shot, so that only the one that is to blame is tried until the attempts are used up."""
        failures = chunk.failures + 1
        if len(chunk.shots) == 1 and failures >= self._attempts:
            shot = chunk.shots[0]
            raise self._failed(
                f"WorkerPool: painter {self.name!r}, shot {chunk.first} of {count}: expected a picture, {failures} workers were "
                f"lost over it, the last {what}; draw it in this process to see why, or raise timeout_s: classes "
                f"{shot.class_ids.tolist()}, {shot.width_px} x {shot.height_px} px"
            )
        failures = min(failures, self._attempts - 1)
        return [_Chunk(chunk.first + i, [shot], failures) for i, shot in enumerate(chunk.shots)]

    def _failed(self, message: str) -> WorkerError:
        """Close the pool for good; the error to raise."""
        self._failure = message
        self.close()
        return WorkerError(message)

    def _counted(self, answer: PicturesReply, chunk: _Chunk) -> list[Picture]:
        if not isinstance(answer.pictures, list) or len(answer.pictures) != len(chunk.shots):
            received = len(answer.pictures) if isinstance(answer.pictures, list) else type(answer.pictures).__name__
            raise PainterError(
                f"painter {self.name!r}: draw: expected a list of {len(chunk.shots)} pictures, received {received}; "
                "return one picture a shot"
            )
        return answer.pictures


def _raised(name: str, answer: RaisedReply, count: int) -> str:
    """What a painter's exception in a worker says here: a ``PainterError`` says all that there is to say by itself."""
    own = f"{PainterError.__name__}: "
    if answer.what.startswith(own):
        return answer.what.removeprefix(own)
    return (
        f"painter {name!r}: draw: expected {count} pictures, received {answer.what} in a worker; mend the painter or what it was "
        f"asked for, see its traceback:\n{answer.traceback}"
    )


def _deal(shots: list[Shot], workers: int) -> list[_Chunk]:
    """Shots in order, in parts of about the same number, none larger than what a pipe takes."""
    size = max(1, -(-len(shots) // (CHUNKS_PER_WORKER * workers)))
    largest = max((shot.T_world_object.nbytes + 1024 for shot in shots), default=1)
    size = max(1, min(size, MAX_CHUNK_BYTES // largest))
    return [_Chunk(first, shots[first : first + size]) for first in range(0, len(shots), size)]


def _pickled(factory: Callable[[], Painter]) -> bytes:
    """The factory as it is sent to workers; PainterError where that is not possible."""
    try:
        return pickle.dumps(factory)
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise PainterError(
            f"WorkerPool: factory: expected what can be pickled, received {factory!r}: {error}; give a function or class of a "
            "module, or a functools.partial of one"
        ) from error


def _stop(workers: list[Worker]) -> None:
    """End all workers and forget them: idle ones may leave by themselves, the others are killed."""
    for worker in workers:
        worker.dismiss()
    for worker in workers:
        worker.kill()
    workers.clear()


def _check_settings(workers: int, timeout_s: float, attempts: int, start_timeout_s: float, method: str) -> None:
    """Raise ValueError for settings out of range."""
    if method not in ("forkserver", "spawn"):
        raise ValueError(f"WorkerPool: method: expected 'forkserver' or 'spawn', received {method!r}; name one of these")
    for name, value in (("workers", workers), ("attempts", attempts)):
        if value < 1:
            raise ValueError(f"WorkerPool: {name}: expected at least 1, received {value}; 2 workers, 3 attempts are a start")
    for name, value in (("timeout_s", timeout_s), ("start_timeout_s", start_timeout_s)):
        if not value > 0:
            raise ValueError(f"WorkerPool: {name}: expected more than 0 seconds, received {value}; 60 is a good start")
