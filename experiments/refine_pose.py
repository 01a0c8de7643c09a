"""Improve the poses of a BOP results file, whatever estimated them, by following the gradients of rendered images.

    python experiments/refine_pose.py --dataset data/tabletop --results start_tabletop-test.csv --out refined_tabletop-test.csv
    python experiments/refine_pose.py --dataset data/tabletop --results start_tabletop-test.csv --renderer mujoco --use depth \
        --out refined_tabletop-test.csv

Estimates of one image are refined together.  Rows, scores and their order stay; rows that cannot be improved keep their very
poses.  The seconds that an image took are added to its time where that is known.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numba
import numpy as np
import torch
import tyro
from tqdm import tqdm

from assets.bop_models import BopCatalogue, load_bop_models
from assets.colours import srgb_to_linear
from inverse_graphics.bop.datasets import Split, image_path, open_split, read_camera, read_depth_mm, read_image, read_scene
from inverse_graphics.bop.findings import BopError
from inverse_graphics.bop.models import MM_PER_M, find_models
from inverse_graphics.bop.refinement import STEPS, WINDOW_PX, Observation, RefinedPoses, Use, check_settings, refine_image
from inverse_graphics.bop.results import UNKNOWN_TIME_S, poses_m, read_results, write_results
from inverse_graphics.bop.types import Estimates, ImageKey, select
from inverse_graphics.refinement import PoseSolver
from renderers import BackendMissingError, BackendOptions, DifferenceOptions, load_renderer
from renderers.loading import with_differences
from renderers.painting.workers import WorkerError


@dataclass(frozen=True)
class Arguments:
    """Improve the poses of a BOP results file by following the gradients of rendered images."""

    dataset: Path
    """Folder of the data set."""
    results: Path
    """Results file with the poses to start from."""
    out: Path
    """Results file to write."""
    split: str = "test"
    """Folder of the images, for example test or test_primesense."""
    renderer: str = "raster"
    """Backend that draws the models."""
    gradient: Literal["analytic", "finite-difference"] | None = None
    """How derivatives are taken: analytic by raster and raster-cuda, which is their default, finite-difference by any."""
    use: Use = "rgbd"
    """What is compared: colours, depth, or both."""
    steps: int = STEPS
    """Most steps of each stage."""
    window_px: int = WINDOW_PX
    """Width and height of the window around each object, in which it is drawn; wider parts of the image are made smaller."""
    samples: int = 2
    """Samples a pixel along each axis of what is drawn."""
    workers: int = 1
    """Processes that refine images side by side."""
    step_px: float = 1.0
    """finite-difference: length of a step in pixels of motion."""
    backend: BackendOptions = BackendOptions()
    """What the backend is told."""


@dataclass(frozen=True)
class Task:
    """What a process needs besides the estimates."""

    arguments: Arguments
    """The command line."""
    split: Split
    """The images."""
    models: BopCatalogue
    """The models."""
    renderer: PoseSolver
    """Draws them."""


@dataclass(frozen=True)
class Outcome:
    """What became of an image's estimates."""

    poses: RefinedPoses
    """The poses."""
    seconds: float
    """What they took, without reading the image."""


_TASKS: list[Task] = []
"""The task of a worker process."""


def load_task(arguments: Arguments) -> Task:
    """Open the data set and the renderer."""
    models = load_bop_models(find_models(arguments.dataset, evaluation=False))
    return Task(arguments, open_split(arguments.dataset, arguments.split), models, load_solver(arguments, models))


def load_solver(arguments: Arguments, models: BopCatalogue) -> PoseSolver:
    """The renderer with normal equations of all motions: its own where it has some, else by differences.

    Raises:
        ValueError: analytic ones of a renderer that gives none.
    """
    name, samples, gradient = arguments.renderer, arguments.samples, arguments.gradient
    differences = DifferenceOptions(tangents="full", step_px=arguments.step_px)
    renderer = load_renderer(name, models.catalogue, samples, "none", differences, arguments.backend)
    if gradient != "finite-difference" and isinstance(renderer, PoseSolver):
        return renderer
    if gradient == "analytic":
        raise ValueError(
            f"--gradient: expected finite-difference for renderer {name!r}, which gives no normal equations of its own, received "
            "analytic; leave it out"
        )
    return with_differences(renderer, differences)


def check_estimates(arguments: Arguments, split: Split, models: BopCatalogue, estimates: Estimates) -> None:
    """Find what would stop the run half-way.

    Raises:
        BopError: images or models that the data set does not have, or no depth image where depth is to be compared.
    """
    unknown = sorted(set(estimates.obj_id.tolist()) - set(models.obj_ids))
    if unknown:
        known = ", ".join(map(str, models.obj_ids))
        raise BopError(
            f"{arguments.results}: expected objects among {known}, received {unknown[0]}; take the data set's own file"
        )
    for scene_id in sorted(set(estimates.scene_id.tolist())):
        if scene_id not in split.scene_ids:
            raise BopError(f"{arguments.results}: expected scenes of {split.folder}, received {scene_id}; name its --split")
        scene = read_scene(split, scene_id)
        for im_id in sorted(set(estimates.im_id[estimates.scene_id == scene_id].tolist())):
            if im_id not in scene.im_ids:
                raise BopError(f"{arguments.results}: expected images of {scene.folder}, received {im_id}; name its --split")
            depth = image_path(scene.folder / "depth", im_id)
            if arguments.use != "rgb" and not depth.is_file():
                raise BopError(f"{depth}: expected a depth image, there is none; add it, or give --use rgb")


def refine(task: Task, image: ImageKey, estimates: Estimates) -> Outcome:
    """Refine the estimates of an image."""
    scene = read_scene(task.split, image.scene_id)
    camera = read_camera(scene, image.im_id)
    rgb_srgb = read_image(scene, image.im_id).astype(np.float64) / 255
    depth_m = None
    if task.arguments.use != "rgb":
        depth_m = torch.from_numpy((read_depth_mm(scene, image.im_id) / MM_PER_M).astype(np.float32))
    start = time.perf_counter()
    rgb = torch.from_numpy(srgb_to_linear(rgb_srgb).astype(np.float32))
    observation = Observation(rgb, depth_m, torch.from_numpy(camera.K_px.astype(np.float32)))
    class_ids = np.array([task.models.class_id(obj_id) for obj_id in estimates.obj_id.tolist()], np.int64)
    chosen = task.arguments
    poses = refine_image(
        task.renderer,
        observation,
        class_ids,
        estimates.score,
        poses_m(estimates),
        chosen.use,
        chosen.steps,
        chosen.window_px,
    )
    return Outcome(poses, time.perf_counter() - start)


def rows_of_images(estimates: Estimates) -> dict[ImageKey, list[int]]:
    """Rows of each image, images in the order of the file."""
    rows: dict[ImageKey, list[int]] = {}
    for row, key in enumerate(zip(estimates.scene_id.tolist(), estimates.im_id.tolist(), strict=True)):
        rows.setdefault(ImageKey(*key), []).append(row)
    return rows


def outcomes(arguments: Arguments, task: Task, jobs: Sequence[tuple[ImageKey, Estimates]]) -> Iterator[Outcome]:
    """Outcomes of the images, in order."""
    if arguments.workers == 1:
        yield from (refine(task, image, estimates) for image, estimates in jobs)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.workers, context, start_worker, (arguments,)) as pool:
        try:
            yield from pool.map(refine_in_worker, *zip(*jobs, strict=True))
        finally:
            pool.shutdown(cancel_futures=True)


def start_worker(arguments: Arguments) -> None:
    """Make a worker process ready; the cores are shared by processes, not by threads."""
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    _TASKS.append(load_task(arguments))


def refine_in_worker(image: ImageKey, estimates: Estimates) -> Outcome:
    """Refine the estimates of an image in a worker process."""
    return refine(_TASKS[0], image, estimates)


def merged(estimates: Estimates, rows: Sequence[Sequence[int]], found: Sequence[Outcome]) -> Estimates:
    """The results file with the new poses and times."""
    T_mm, time_s = estimates.T_camera_object_mm.copy(), estimates.time_s.copy()
    for chosen, outcome in zip(rows, found, strict=True):
        index = np.asarray(chosen)
        moved = index[outcome.poses.is_moved]
        T_mm[moved] = outcome.poses.T_camera_object[outcome.poses.is_moved]
        T_mm[moved, :3, 3] *= MM_PER_M
        # a file may not hold a pose twice, so a row that came where another is stays where it was
        for row in moved.tolist():
            same = index[(estimates.obj_id[index] == estimates.obj_id[row]) & (index != row)]
            if (T_mm[same] == T_mm[row]).all((-2, -1)).any():
                T_mm[row] = estimates.T_camera_object_mm[row]
        known = index[time_s[index] != UNKNOWN_TIME_S]
        time_s[known] += outcome.seconds
    return dataclasses.replace(estimates, T_camera_object_mm=T_mm, time_s=time_s)


def main(arguments: Arguments) -> None:
    """Refine a results file."""
    check_settings(arguments.use, arguments.steps, arguments.window_px)
    if arguments.workers < 1 or arguments.out.is_dir():
        raise ValueError(
            f"--workers, --out: expected at least 1 and a file, received {arguments.workers} and {arguments.out}; change them"
        )
    estimates = read_results(arguments.results)
    task = load_task(arguments)
    check_estimates(arguments, task.split, task.models, estimates)
    rows = rows_of_images(estimates)
    jobs = [(image, select(estimates, np.asarray(chosen))) for image, chosen in rows.items()]
    interval_s = 0.5 if sys.stderr.isatty() else 15.0
    with tqdm(total=len(jobs), unit="image", file=sys.stderr, mininterval=interval_s) as bar:
        found = []
        for outcome in outcomes(arguments, task, jobs) if jobs else ():
            found.append(outcome)
            bar.update(1)
    write_results(arguments.out, merged(estimates, list(rows.values()), found))
    moved = sum(int(outcome.poses.is_moved.sum()) for outcome in found)
    seconds = sum(outcome.seconds for outcome in found)
    print(f"{arguments.out}: {moved} of {len(estimates)} poses improved, {seconds / max(len(estimates), 1):.2f} s a pose")


if __name__ == "__main__":
    try:
        main(tyro.cli(Arguments))
    except KeyboardInterrupt:
        print("error: stopped; nothing was written", file=sys.stderr)
        sys.exit(2)
    except (ValueError, OSError, BackendMissingError, WorkerError, BrokenProcessPool) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
