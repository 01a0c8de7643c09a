"""Clock: several sides of a comparison run in turn, so that whatever else the machine does falls on all of them."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numba
import torch

Job = Callable[[], object]
"""Does its whole work once; what it returns is dropped."""

TURN_S = 0.3
"""A job that is faster than this runs again within its turn: one run of a millisecond says little."""


@dataclass(frozen=True)
class Times:
    """How long the runs of one job took."""

    median_s: float
    """Median of all runs."""
    min_s: float
    """Fastest run."""
    runs: int
    """How many there were."""


CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}
"""What may be read for the time, by name; ``processor`` is this process's own, which other jobs do not lengthen."""

_CLOCK = ["wall"]
"""Which of them is read."""


def use_clock(name: str) -> None:
    """Read this one of ``CLOCKS`` from now on."""
    _CLOCK[0] = name


def use_cores(cores: int) -> int:
    """Keep this process and every library in it on the first cores it may use.

    Returns:
        How many those are: fewer than asked for on a small machine.
    """
    if hasattr(os, "sched_setaffinity"):
        chosen = sorted(os.sched_getaffinity(0))[:cores]
        os.sched_setaffinity(0, chosen)
        cores = len(chosen)
    torch.set_num_threads(cores)
    numba.set_num_threads(min(cores, numba.get_num_threads()))
    return cores


def clock(job: Job, device: torch.device | None = None) -> float:
    """Seconds of one run by the clock in use; on a GPU from an idle device to an idle device."""
    cuda = device is not None and device.type == "cuda"
    if cuda:
        torch.cuda.synchronize(device)
    now = CLOCKS[_CLOCK[0]]
    start = now()
    job()
    if cuda:
        torch.cuda.synchronize(device)
    return now() - start


def race(jobs: dict[str, Job], repeats: int, device: torch.device | None = None, warm_up: bool = True) -> dict[str, Times]:
    """Time jobs in turn.

    Args:
        jobs: what to run, by side.
        repeats: turns of each side, at least 1; in its turn a fast job runs until ``TURN_S`` have passed.
        device: where the jobs run; the CPU where None.
        warm_up: whether each job runs once before, so that nothing is compiled or allocated while the clock runs.

    Raises:
        ValueError: fewer than one turn.
    """
    if repeats < 1:
        raise ValueError(f"repeats: expected at least 1, received {repeats}; leave the part out instead")
    for job in jobs.values() if warm_up else ():
        job()
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(repeats):
        for name, job in jobs.items():
            spent_s = 0.0
            while spent_s < TURN_S:
                seconds[name].append(clock(job, device))
                spent_s += seconds[name][-1]
    return {name: Times(statistics.median(values), min(values), len(values)) for name, values in seconds.items()}
