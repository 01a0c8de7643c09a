"""A small data set, results files for it and an untrained guide's run, for the tests of the evaluation of poses."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from bop_samples import ROOT, SCENE, make

from assets import load_catalogue
from inverse_graphics.bop import Estimates, Truths, open_split, read_truths, write_results
from inverse_graphics.bop.types import select
from inverse_graphics.checkpoints import MODEL_FILE, save_model
from inverse_graphics.config import save_yaml
from inverse_graphics.guides import GuideConfig, GuideSizes, RecurrentGuide
from inverse_graphics.symmetry import yaw_folds
from scenes import load_scene_config

SIZE_PX = 32
IMAGES = 5
TINY = GuideSizes(glimpse_px=8, window_m=0.2, height_m=0.03, yaw_bins=8, channels=8, features=12, hidden=12)


def make_dataset(folder: Path, name: str = "tiny", size_px: int = SIZE_PX) -> Path:
    """Five images in two scenes: box, can and mug."""
    return make(folder, name, num_images=IMAGES, image_size=(size_px, size_px))


def truths_of(dataset: Path) -> Truths:
    return read_truths(open_split(dataset, "test"))


def shifted(truths: Truths, shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0), time_s: float = 0.25) -> Estimates:
    """The truth, moved, as estimates; the more visible the surer."""
    T = truths.T_camera_object_mm.copy()
    T[:, :3, 3] += shift_mm
    return Estimates(truths.scene_id, truths.im_id, truths.obj_id, truths.visib_fract, T, np.full(len(T), time_s))


def write(folder: Path, method: str, estimates: Estimates) -> Path:
    path = folder / f"{method}_tiny-test.csv"
    write_results(path, estimates)
    return path


def without_objects(estimates: Estimates, obj_id: int) -> Estimates:
    return select(estimates, estimates.obj_id != obj_id)


def experiment(name: str) -> ModuleType:
    """A script as a module."""
    folder = str(ROOT / "experiments")
    sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(folder)


def make_run(folder: Path, name: str = "run") -> Path:
    """The directory of a run whose guide has not been trained."""
    run = folder / name
    run.mkdir()
    (run / "scene.yaml").write_text(SCENE.replace("[40, 30]", f"[{SIZE_PX}, {SIZE_PX}]"))
    scene = load_scene_config(run / "scene.yaml")
    save_yaml(run / "config.yaml", dataclasses.replace(experiment("scenes3d").Config(), scene="scene.yaml", looks=1))
    catalogue = load_catalogue(scene.catalogue, scene.classes)
    folds = tuple(yaw_folds(mesh.symmetry) for mesh in catalogue.meshes)
    torch.manual_seed(0)
    save_model(run / MODEL_FILE, RecurrentGuide(GuideConfig(3, folds, SIZE_PX, SIZE_PX, 0.2, TINY)))
    return run
