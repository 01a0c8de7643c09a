"""One worker of a ``WorkerPool``: what runs in the process, and its end in this one."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from typing import Any

from renderers.errors import BackendMissingError
from renderers.painting.shots import Painter, Shot

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "LP_NUM_THREADS",
    "DRJIT_THREADS",
)
"""Set to 1 in workers for the libraries that a painter loads; LP is Mesa's software renderer.

Not numba's: it refuses to compile where its variable changed after its threads had started.
"""

MESSAGE_S = 10.0
"""How long a message may take to arrive once it has begun."""

LEAVE_S = 1.0
"""How long an idle worker may take to end by itself."""


@dataclass(frozen=True)
class ReadyReply:
    """The painter is made."""

    name: str
    """Its name."""
    has_surroundings: bool
    """Whether it draws surroundings."""


@dataclass(frozen=True)
class MissingReply:
    """The painter's package is not installed; the fields are those of ``BackendMissingError``."""

    renderer: str
    """Name of the renderer."""
    package: str
    """Module that cannot be imported."""
    install_command: str
    """How to get it."""


@dataclass(frozen=True)
class RaisedReply:
    """The factory or the painter raised an exception."""

    what: str
    """The exception's type and text."""
    traceback: str
    """Where it came from."""


@dataclass(frozen=True)
class PicturesReply:
    """What the painter drew."""

    pictures: Any
    """A list of pictures, unless the painter is wrong."""


Reply = ReadyReply | MissingReply | RaisedReply | PicturesReply


class Worker:
    """A process with a painter, seen from this one.  It has one thing to do at a time: to get ready, or a chunk of shots."""

    def __init__(self, context: BaseContext, factory: bytes, start_timeout_s: float) -> None:
        """Start the process; it is not waited for.

        Args:
            context: how processes are started.
            factory: what makes the painter, pickled.
            start_timeout_s: how long it may take until it is ready.
        """
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, factory, os.getcwd()), daemon=True)  # type: ignore[attr-defined]
        self.process.start()
        theirs.close()
        self.is_ready = False
        self.is_idle = False
        self._allowed_s = start_timeout_s
        self._asked_s = time.monotonic()
        self.deadline = self._asked_s + start_timeout_s
        """When an answer is due by ``time.monotonic``; infinity where nothing is asked."""

    @property
    def spent_s(self) -> float:
        """Seconds since it was last given something to do."""
        return time.monotonic() - self._asked_s

    def ask(self, shots: list[Shot], timeout_s: float) -> None:
        """Have shots drawn; a worker that cannot be reached is found dead when its answer is asked for."""
        self.is_idle = False
        self._allowed_s = timeout_s
        self._asked_s = time.monotonic()
        self.deadline = self._asked_s + timeout_s
        with self._killed_when_late(), contextlib.suppress(OSError):
            self.pipe.send(shots)

    def answer(self) -> Reply | str:
        """What it says, or in words what became of it: it died or it is late.  To be called when one of these is so."""
        try:
            if self.pipe.poll():
                with self._killed_when_late(MESSAGE_S):
                    reply: Reply = self.pipe.recv()
                self.is_ready = self.is_idle = True
                self.deadline = math.inf
                return reply
        except (EOFError, OSError):
            self.process.join(1)
        if self.deadline <= time.monotonic():
            return f"gave no answer within {self._allowed_s:g} s"
        return f"died ({_how(self.process.exitcode)})"

    def dismiss(self) -> None:
        """Tell an idle process that there is nothing more to do; it may take a moment to end."""
        if self.is_idle:
            self.pipe.close()

    def kill(self) -> None:
        """End the process: at once, or after a moment where it was dismissed."""
        if self.pipe.closed:
            self.process.join(LEAVE_S)
        self.process.kill()
        self.process.join()
        self.pipe.close()

    @contextlib.contextmanager
    def _killed_when_late(self, least_s: float = 0.0) -> Iterator[None]:
        """Ends a process that stands still in the middle of a message, which ends the wait for the rest of it.

        Args:
            least_s: time it has in any case: an answer that began to arrive is not late because nobody looked before.
        """
        left_s = self.deadline - time.monotonic() if self.deadline < math.inf else MESSAGE_S
        timer = threading.Timer(max(least_s, left_s), self.process.kill)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


def _how(exitcode: int | None) -> str:
    """An exit code in words."""
    if exitcode is None:
        return "its pipe is closed"
    if exitcode < 0:
        return f"signal {signal.Signals(-exitcode).name}"
    return f"exit code {exitcode}"


def _serve(pipe: Connection, factory: bytes, folder: str) -> None:
    """Make the painter and draw what is asked for until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.chdir(folder)
    _use_one_thread()
    try:
        painter: Painter = pickle.loads(factory)()
        reply: Reply = ReadyReply(painter.name, bool(getattr(painter, "has_surroundings", False)))
    except BackendMissingError as error:
        pipe.send(MissingReply(error.renderer, str(error.name), error.install_command))
        return
    except Exception as error:  # whatever it is, it is raised again in the process that asked
        pipe.send(_raised(error))
        return
    pipe.send(reply)
    while True:
        try:
            shots: list[Shot] = pipe.recv()
        except EOFError:
            return
        pipe.send_bytes(_draw(painter, shots))


def _draw(painter: Painter, shots: list[Shot]) -> bytes:
    """The pickled reply."""
    try:
        return pickle.dumps(PicturesReply(painter.draw(shots)), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # as above
        return pickle.dumps(_raised(error))


def _raised(error: Exception) -> RaisedReply:
    return RaisedReply(f"{type(error).__name__}: {error}", "".join(traceback.format_exception(error)))


def _use_one_thread() -> None:
    """One thread for everything: there are as many workers as the user wants threads."""
    import numba
    import torch

    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    numba.set_num_threads(1)
    torch.set_num_threads(1)  # last, since numba's threading layer sets OpenMP's number too


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, whatever it is doing."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
