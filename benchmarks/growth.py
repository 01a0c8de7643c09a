"""How raster's time and memory grow with the size of the images, the detail of the meshes and the number of scenes.

    python benchmarks/growth.py --json growth.json --figure growth.png

One quantity varies at a time, the others stay at their defaults.  Every point is measured in a process of its own, so that its
peak memory is its own (Linux only: read from /proc, since ``getrusage`` counts the parent's memory as well).  Slopes are those of
the times on the log-log plot: over all points, and over the last three, where fixed costs no longer show.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Literal

if __name__ == "__main__":
    # python put benchmarks/ first, where renderers.py would be taken for the package of the same name
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import matplotlib
import numpy as np
import tyro
from tqdm import tqdm

from benchmarks import tasks
from benchmarks.timing import Job, race, use_cores
from inverse_graphics.protocols import Renderer
from renderers import DifferenceOptions, load_renderer

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator


@dataclass(frozen=True)
class Settings:
    """What is varied, and how often each point is measured."""

    json: Path | None = None
    """Where to write the figures."""
    figure: Path | None = None
    """Where to draw them (PNG, PDF or SVG)."""
    sizes: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    """Widths and heights of the images in pixels."""
    triangles: tuple[int, ...] = (20, 80, 320, 1280, 5120, 20480, 81920, 327680)
    """Triangles of each mesh."""
    scenes: tuple[int, ...] = (1, 4, 16, 64, 256, 1024, 4096)
    """Scenes in a batch."""
    base_size: int = 64
    """Width and height in pixels while another quantity varies."""
    base_triangles: int = 320
    """Triangles while another quantity varies."""
    base_scenes: int = 16
    """Scenes while another quantity varies."""
    objects: int = 3
    """Objects a scene, all present."""
    samples: int = 2
    """Antialiasing: samples a pixel along each axis."""
    gradient: Literal["analytic", "finite-difference"] = "analytic"
    """How pose gradients are taken."""
    repeats: int = 3
    """Turns of each measurement."""
    cores: int = 2
    """Processor cores that everything runs on."""
    seed: int = 0
    """Seed of the scenes."""


@dataclass(frozen=True)
class Point:
    """One measurement to make."""

    size_px: int
    """Width and height of the images."""
    triangles: int
    """Triangles of each mesh."""
    scenes: int
    """Scenes in a batch."""


@dataclass(frozen=True)
class Measured:
    """What came out of it."""

    forward_s: float
    """Median seconds of the images, depths and ids of all scenes."""
    forward_min_s: float
    """Fastest of those."""
    forward_backward_s: float
    """Median seconds of the images and their gradient to every pose."""
    forward_backward_min_s: float
    """Fastest of those."""
    memory_mib: float
    """Most memory that drawing took: meshes, inputs, images, gradients, scratch."""
    process_memory_mib: float
    """Most memory that the process held meanwhile, libraries and compiled kernels included."""
    memory_is_exact: bool
    """False where the system does not let a process reset its peak: then ``memory_mib`` leaves out what libraries took before."""
    object_size_mean_px: float
    """Mean number of pixels that an object covers, drawn alone."""


TIMES = {"forward_s": ("images", "tab:blue"), "forward_backward_s": ("images, pose gradients", "tab:orange")}
"""What is plotted of the times, its label and its colour."""

LEAST_MIB = 0.1
"""Memory that is plotted where less was measured."""


def main(settings: Settings) -> None:
    """Measure, print a table, write figures and plot.

    Raises:
        ValueError: a number of triangles that no subdivided icosahedron has.
    """
    sweeps = plan(settings)
    points = {point for sweep in sweeps.values() for point in sweep.values()}
    # a fresh process a point; not forked, since threads do not survive a fork
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as pool:
        jobs = {point: pool.submit(measure, settings, point) for point in sorted(points, key=cost)}
        results = {point: job.result() for point, job in tqdm(jobs.items(), unit="point", disable=not sys.stderr.isatty())}
    measured = {name: {x: results[point] for x, point in sweep.items()} for name, sweep in sweeps.items()}
    for name, row in measured.items():
        print(f"{name:<12} {'forward s':>12} {'with gradient s':>16} {'memory MiB':>12}")
        for x, one in row.items():
            print(f"{x:<12} {one.forward_s:>12.5f} {one.forward_backward_s:>16.5f} {one.memory_mib:>12.1f}")
    if settings.json is not None:
        settings.json.write_text(json.dumps(figures_of(settings, measured), indent=2) + "\n")
    if settings.figure is not None:
        plot(settings, measured, settings.figure)


def plan(settings: Settings) -> dict[str, dict[int, Point]]:
    """Points of each sweep, by the quantity that varies."""
    size, triangles, scenes = settings.base_size, settings.base_triangles, settings.base_scenes
    return {
        "size_px": {x: Point(x, triangles, scenes) for x in sorted(settings.sizes)},
        "triangles": {x: Point(size, x, scenes) for x in sorted(settings.triangles)},
        "scenes": {x: Point(size, triangles, x) for x in sorted(settings.scenes)},
    }


def cost(point: Point) -> tuple[int, ...]:
    """Cheap points first; ties in a fixed order."""
    return point.scenes * (point.size_px**2 + point.triangles), point.size_px, point.triangles, point.scenes


def measure(settings: Settings, point: Point) -> Measured:
    """Measure one point; called in a process of its own."""
    use_cores(settings.cores)
    # libraries and compiled kernels are loaded before memory is counted
    for draw in jobs_of(settings, Point(16, 20, 1))[2].values():
        draw()
    before_mib = memory_mib("VmRSS")
    renderer, task, jobs = jobs_of(settings, point)
    exact = reset_peak()
    if not exact:
        before_mib = memory_mib("VmHWM")
    times = race(jobs, settings.repeats)
    peak_mib = memory_mib("VmHWM")
    forward, backward = times["forward"], times["backward"]
    return Measured(
        forward_s=forward.median_s,
        forward_min_s=forward.min_s,
        forward_backward_s=backward.median_s,
        forward_backward_min_s=backward.min_s,
        memory_mib=max(peak_mib - before_mib, 0.0),
        process_memory_mib=peak_mib,
        memory_is_exact=exact,
        object_size_mean_px=tasks.object_size_px(renderer, task.first(16)),
    )


def jobs_of(settings: Settings, point: Point) -> tuple[Renderer, tasks.Task, dict[str, Job]]:
    """A renderer, scenes, and what is to be done to them."""
    catalogue = tasks.build_catalogue(point.triangles)
    renderer = load_renderer("raster", catalogue, settings.samples, settings.gradient, DifferenceOptions("full"))
    objects, view = tasks.sample_scenes(point.scenes, settings.objects, point.size_px, point.size_px, settings.seed)
    task = tasks.build_task(renderer, objects, view)
    return (
        renderer,
        task,
        {"forward": partial(tasks.draw, renderer, task), "backward": partial(tasks.draw_gradient, renderer, task)},
    )


def memory_mib(field: Literal["VmRSS", "VmHWM"]) -> float:
    """Memory that this process holds (VmRSS), or the most that it held (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(field)) / 2**10


def reset_peak() -> bool:
    """Count the most that this process held from now on; whether the system lets it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def slope(x: list[float], y: list[float]) -> float:
    """Least-squares slope on the log-log plot; 0 for a single point."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0]) if len(x) > 1 else 0.0


def figures_of(settings: Settings, measured: dict[str, dict[int, Measured]]) -> dict[str, object]:
    """Everything that was measured, flat, units in the keys: lists run over the varied quantity."""
    left_out = ("json", "figure", "sizes", "triangles", "scenes")
    figures: dict[str, object] = {key: value for key, value in asdict(settings).items() if key not in left_out}
    for name, row in measured.items():
        figures[name] = x = list(row)
        for key in asdict(next(iter(row.values()))):
            figures[f"{name}_sweep_{key}"] = y = [float(getattr(one, key)) for one in row.values()]
            if key in TIMES:
                figures[f"{name}_sweep_{key}_slope"] = slope(list(map(float, x)), y)
                figures[f"{name}_sweep_{key}_end_slope"] = slope(list(map(float, x[-3:])), y[-3:])
    return figures


def plot(settings: Settings, measured: dict[str, dict[int, Measured]], path: Path) -> None:
    """Draw times above, memory below, a column for each varied quantity."""
    size, triangles, scenes = settings.base_size, settings.base_triangles, settings.base_scenes
    columns = {
        "size_px": ("image width and height, px", f"{scenes} scenes, {triangles} triangles an object"),
        "triangles": ("triangles an object", f"{scenes} scenes, {size} px"),
        "scenes": ("scenes", f"{size} px, {triangles} triangles an object"),
    }
    figure, axes = plt.subplots(2, 3, figsize=(12, 6.4), sharex="col", sharey="row", layout="constrained")
    for column, (name, (label, title)) in enumerate(columns.items()):
        x, row = list(measured[name]), list(measured[name].values())
        plot_times(axes[0, column], x, row)
        plot_memory(axes[1, column], x, row)
        axes[0, column].set_title(title, fontsize=10)
        axes[1, column].set_xlabel(label)
    axes[0, 0].set_ylabel("time of the batch, s")
    axes[1, 0].set_ylabel("memory, MiB")
    points = [one for row in measured.values() for one in row.values()]
    whole_decades(axes[0, 0], [float(getattr(one, key)) for one in points for key in TIMES], headroom=0.5)
    whole_decades(axes[1, 0], [max(one.memory_mib, LEAST_MIB) for one in points])
    scene = f"{settings.objects} objects a scene, {settings.samples} x {settings.samples} samples a pixel, {settings.cores} cores"
    figure.suptitle(f"Raster: {scene}; slopes over the last three points", fontsize=11)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def plot_times(axes: Axes, x: list[int], row: list[Measured]) -> None:
    """Times on a log-log plot, with the slope over the last three points in the legend."""
    for key, (label, colour) in TIMES.items():
        y = [float(getattr(one, key)) for one in row]
        steep = slope(list(map(float, x[-3:])), y[-3:])
        axes.loglog(x, y, "o-", color=colour, markersize=4, label=f"{label}: slope {steep:.2f}")
    axes.legend(fontsize=8, frameon=False, loc="upper left")
    tidy(axes, x)


def plot_memory(axes: Axes, x: list[int], row: list[Measured]) -> None:
    """Peak memory of drawing on a log-log plot; nothing below ``LEAST_MIB`` is told apart."""
    axes.loglog(x, [max(one.memory_mib, LEAST_MIB) for one in row], "o-", color="tab:green", markersize=4)
    tidy(axes, x)


def tidy(axes: Axes, x: list[int]) -> None:
    """Ticks at the points themselves, plain numbers, a light grid."""
    axes.set_xticks(x, [f"{value:,}" if value < 10_000 else f"{value / 1000:,.0f}k" for value in x], fontsize=8)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, which="major", color="0.9", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)


def whole_decades(axes: Axes, values: list[float], headroom: float = 0.0) -> None:
    """End the vertical axis at powers of ten around the values, with room for so many decades above them."""
    low, high = np.log10(min(values)), np.log10(max(values)) + headroom
    axes.set_ylim(10 ** np.floor(low), 10 ** max(np.ceil(high), np.floor(low) + 1))


if __name__ == "__main__":
    main(tyro.cli(Settings))
