"""Pose errors of BOP: how long they take for many estimates, and how much memory.

    python benchmarks/pose_errors.py --json pose_errors.json

- ``mssd_mspd_add_adi``: MSSD, MSPD, ADD and ADD-S of ``estimates`` pairs of a model with a continuous symmetry, sampled 315-fold.
  The model is a turned vase of ``vertices`` random points; estimates are off by some degrees, some millimetres and any turn about
  the axis.
- ``vsd``: VSD at all tolerances of estimates in full images, drawn by ``raster``, with reading of nothing from disk: estimates a
  second include drawing them.

Memory is the largest resident set of the whole process, libraries included, after each part.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":
    # python put benchmarks/ first, where this file would hide modules of the same name
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import numpy as np
import tyro
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from benchmarks import tasks
from benchmarks.timing import use_cores
from inverse_graphics.bop.errors import PoseJudge
from inverse_graphics.bop.types import ImageCamera, Model
from inverse_graphics.bop.vsd import renderer_depth, vsd_errors
from inverse_graphics.symmetry import symmetry_transforms
from inverse_graphics.types import Symmetry
from renderers import load_renderer


@dataclass(frozen=True)
class Settings:
    """How much is computed."""

    json: Path | None = None
    """Where to write the figures."""
    cores: int = 2
    """Processor cores that everything runs on."""
    estimates: int = 10_000
    """Pairs of an estimate and a truth."""
    vertices: int = 5_000
    """Vertices of the model."""
    vsd_images: int = 20
    """Images of VSD."""
    vsd_estimates: int = 10
    """Estimates an image."""
    triangles: int = 5120
    """Triangles of each mesh drawn: 20, 80, 320, 1280, 5120, ..."""
    size: tuple[int, int] = (640, 480)
    """Width and height of the images in pixels."""
    seed: int = 0
    """Seed of models and poses."""


def main(settings: Settings) -> None:
    """Measure, print, write the figures."""
    cores = use_cores(settings.cores)
    figures: dict[str, float | int] = {
        "cores": cores,
        "estimates": settings.estimates,
        "vertices": settings.vertices,
        "triangles": settings.triangles,
    }
    figures |= time_errors(settings)
    figures |= {"mssd_mspd_add_adi_peak_mib": peak_mib()}
    figures |= time_vsd(settings)
    figures |= {"vsd_peak_mib": peak_mib()}
    for name, value in figures.items():
        print(f"{name:<28} {value:>12.3f}" if isinstance(value, float) else f"{name:<28} {value:>12}")
    if settings.json is not None:
        settings.json.write_text(json.dumps(figures, indent=2) + "\n")


def time_errors(settings: Settings) -> dict[str, float]:
    """Seconds of each error of all pairs, and of arranging the model."""
    rng = np.random.default_rng(settings.seed)
    model = vase(settings.vertices, rng)
    T_gt_mm = random_poses(settings.estimates, rng)
    T_est_mm = disturbed(T_gt_mm, rng)
    K_px = np.tile(intrinsics(640, 480), (settings.estimates, 1, 1))
    start = time.perf_counter()
    judge = PoseJudge(model)
    seconds = {"arrange_s": time.perf_counter() - start}
    judge.errors(T_est_mm[:2], T_gt_mm[:2], K_px[:2])
    jobs = {
        "mssd_s": lambda: judge.mssd_mm(T_est_mm, T_gt_mm),
        "mspd_s": lambda: judge.mspd_px(T_est_mm, T_gt_mm, K_px),
        "add_s": lambda: judge.add_mm(T_est_mm, T_gt_mm),
        "adi_s": lambda: judge.adi_mm(T_est_mm, T_gt_mm),
    }
    for name, job in jobs.items():
        start = time.perf_counter()
        job()
        seconds[name] = time.perf_counter() - start
    return seconds | {"mssd_mspd_add_adi_s": sum(seconds.values())}


def time_vsd(settings: Settings) -> dict[str, float]:
    """Estimates a second of VSD, several estimates and as many truths of one image."""
    rng = np.random.default_rng(settings.seed)
    catalogue = tasks.build_catalogue(settings.triangles)
    depth_of = renderer_depth(load_renderer("raster", catalogue, 1), {index: index for index in range(len(catalogue))})
    width_px, height_px = settings.size
    camera = ImageCamera(intrinsics(width_px, height_px), width_px, height_px, 1.0)
    count = settings.vsd_estimates
    pairs = np.stack([np.arange(count), np.arange(count)], -1)
    spent_s = 0.0
    for image in range(settings.vsd_images + 1):
        obj_ids, T_gt_mm = rng.integers(0, len(catalogue), count), random_poses(count, rng)
        T_est_mm = disturbed(T_gt_mm, rng)
        test_mm = np.where(rng.random((height_px, width_px)) < 0.1, 0.0, 1000.0)
        start = time.perf_counter()
        vsd_errors(obj_ids, T_est_mm, obj_ids, T_gt_mm, pairs, np.full(count, 140.0), test_mm, camera, depth_of)
        # the first image compiles
        spent_s += (time.perf_counter() - start) * (image > 0)
    return {"vsd_s": spent_s, "vsd_estimates_per_s": count * settings.vsd_images / spent_s}


def vase(vertices: int, rng: np.random.Generator) -> Model:
    """Random points of a surface of revolution about z."""
    angle, z = rng.uniform(0, 2 * np.pi, vertices), rng.uniform(-60, 60, vertices)
    radius = 40 + 15 * np.sin(z / 20)
    points_mm = np.stack([radius * np.cos(angle), radius * np.sin(angle), z], -1)
    symmetry = Symmetry(continuous_axes=np.array([[0.0, 0.0, 1.0]]), continuous_offsets_m=np.zeros((1, 3)))
    faces, normals = np.zeros((0, 3), np.int64), np.zeros_like(points_mm)
    return Model(1, points_mm, faces, normals, 163.0, symmetry_transforms(symmetry))


def random_poses(count: int, rng: np.random.Generator) -> Float[np.ndarray, "n 4 4"]:
    """Objects somewhere before the camera."""
    T_mm = np.tile(np.eye(4), (count, 1, 1))
    T_mm[:, :3, :3] = Rotation.from_quat(rng.normal(size=(count, 4))).as_matrix()
    T_mm[:, :3, 3] = rng.uniform(-150, 150, (count, 3)) + [0, 0, 900]
    return T_mm


def disturbed(T_mm: Float[np.ndarray, "n 4 4"], rng: np.random.Generator) -> Float[np.ndarray, "n 4 4"]:
    """Off by about ten degrees and ten millimetres, and turned about the object's axis z by any angle."""
    count, out = len(T_mm), T_mm.copy()
    turn = Rotation.from_rotvec(rng.uniform(0, 2 * np.pi, count)[:, None] * [0.0, 0.0, 1.0]).as_matrix()
    out[:, :3, :3] = Rotation.from_rotvec(rng.normal(size=(count, 3)) * 0.1).as_matrix() @ out[:, :3, :3] @ turn
    out[:, :3, 3] += rng.normal(size=(count, 3)) * 6
    return out


def intrinsics(width_px: int, height_px: int) -> Float[np.ndarray, "3 3"]:
    """Of a camera whose focal length is 600 pixels of an image 640 pixels wide."""
    return np.array([[600 * width_px / 640, 0, width_px / 2], [0, 600 * width_px / 640, height_px / 2], [0, 0, 1]])


def peak_mib() -> float:
    """Largest resident set so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main(tyro.cli(Settings))
