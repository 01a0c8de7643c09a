"""Images and gradients a second of black boxes: parts of ``benchmarks/black_box.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from tqdm import tqdm

from benchmarks import tasks
from benchmarks.black_box_sides import Figures, Settings, Variant, affordable, key_of, table_scenes
from benchmarks.timing import Job, race
from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Catalogue
from renderers import BackendOptions, load_renderer
from renderers.loading import PAINTERS
from renderers.painting import PictureRenderer, WorkerPool

Work = Callable[[Renderer, tasks.Task], object]


def measure_speed(settings: Settings, backends: tuple[str, ...], catalogue: Catalogue) -> Figures:
    """Images, objects and gradients a second of every backend, those that draw one picture at a time also with workers."""
    counts = (settings.objects, settings.objects)
    scene = table_scenes(catalogue, settings.scenes, counts, settings.size, settings.seed)
    raster = load_renderer("raster", catalogue, 1)
    task = tasks.build_task(raster, scene.objects, scene.view)
    with open_sides(settings, backends, catalogue) as plain:
        stepped = {side: Variant("central").around(renderer, settings.steps_px[0])[0] for side, renderer in plain.items()}
        figures = race_sides("images", settings, plain, tasks.draw, task)
        figures |= race_sides("gradients", settings, {"raster_analytic": raster, **stepped}, tasks.draw_gradient, task)
    for side in plain:
        figures[f"{side}_objects_per_second"] = settings.objects * float(figures[f"{side}_images_per_second"])
    return figures


@contextmanager
def open_sides(settings: Settings, backends: tuple[str, ...], catalogue: Catalogue) -> Iterator[dict[str, Renderer]]:
    """Renderers without gradients by side; their workers end with the context."""
    sides: dict[str, Renderer] = {"raster": load_renderer("raster", catalogue, 1)}
    pools: list[WorkerPool] = []
    try:
        for name in tqdm(backends, desc="starting", disable=None, leave=False):
            sides[key_of(name)] = load_renderer(name, catalogue, 1, "none")
            if name in PAINTERS and settings.workers:
                pooled = load_renderer(name, catalogue, 1, "none", options=BackendOptions(workers=settings.workers))
                assert isinstance(pooled, PictureRenderer) and isinstance(pooled.painter, WorkerPool)
                pools.append(pooled.painter)
                sides[f"{key_of(name)}_{settings.workers}_workers"] = pooled
        yield sides
    finally:
        for pool in pools:
            pool.close()


def race_sides(what: str, settings: Settings, sides: dict[str, Renderer], work: Work, task: tasks.Task) -> Figures:
    """Time what each side does with as many of the scenes as it can in a turn; prints a row a side."""
    jobs: dict[str, Job] = {}
    scenes: dict[str, int] = {}
    with tqdm(desc=what, disable=None, leave=False, unit="turn") as bar:
        for side, renderer in sides.items():

            def some(count: int, renderer: Renderer = renderer) -> None:
                work(renderer, task.first(count))
                bar.update()

            scenes[side] = affordable(some, settings.scenes, settings.turn_s)
            jobs[side] = partial(some, scenes[side])
        times = race(jobs, settings.repeats)
    figures: Figures = {}
    print(f"{what + ' a second':<32} {'median':>10} {'fastest':>10} {'scenes':>7} {'turns':>6}")
    for side, one in times.items():
        figures[f"{side}_{what}_per_second"] = scenes[side] / one.median_s
        figures[f"{side}_{what}_per_second_max"] = scenes[side] / one.min_s
        figures |= {f"{side}_{what}_s": one.median_s, f"{side}_{what}_min_s": one.min_s, f"{side}_{what}_scenes": scenes[side]}
        rates = f"{scenes[side] / one.median_s:>10.1f} {scenes[side] / one.min_s:>10.1f}"
        print(f"{side:<32} {rates} {scenes[side]:>7} {one.runs:>6}")
    return figures
