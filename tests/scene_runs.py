"""An untrained run and a data set of tiny table-top scenes, for the tests of what reads them."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import torch

from assets import load_catalogue
from inverse_graphics.bop import estimates_of, open_split, poses_m, read_truths, write_results
from inverse_graphics.checkpoints import MODEL_FILE, save_model
from inverse_graphics.guides import GuideConfig, GuideSizes, RecurrentGuide
from inverse_graphics.symmetry import yaw_folds
from scenes import load_scene_config

EXPERIMENTS = Path(__file__).resolve().parent.parent / "experiments"
SCENE = """\
classes: [box, mug]
image_size_px: [32, 32]
samples_per_axis: 1
objects: {min_count: 1, max_count: 2}
camera: {vertical_fov_deg: 36.8}
"""


def script(name: str) -> Any:
    """A script of experiments/ as a module."""
    sys.path.insert(0, str(EXPERIMENTS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(EXPERIMENTS))


def untrained_run(folder: Path) -> Path:
    """A run directory as training leaves it, the weights as they were drawn."""
    folder.mkdir()
    (folder / "scene.yaml").write_text(SCENE)
    (folder / "config.yaml").write_text("scene: scene.yaml\nlooks: 1\n")
    config = load_scene_config(folder / "scene.yaml")
    folds = tuple(yaw_folds(mesh.symmetry) for mesh in load_catalogue(config.catalogue, config.classes).meshes)
    torch.manual_seed(0)
    sizes = GuideSizes(glimpse_px=8, yaw_bins=8, channels=8, features=12, hidden=12)
    save_model(folder / MODEL_FILE, RecurrentGuide(GuideConfig(2, folds, 32, 32, sizes=sizes)))
    return folder


def tiny_dataset(folder: Path) -> Path:
    """Three images in two scenes; ``results.csv`` in it holds the truth, moved by 1 cm along the camera's x."""
    folder.mkdir()
    (folder / "scene.yaml").write_text(SCENE)
    generator, out = script("generate_bop"), folder / "tiny"
    generator.main(generator.Arguments(config=folder / "scene.yaml", num_images=3, images_per_scene=2, out=out))
    truths = read_truths(open_split(out, "test"))
    T = poses_m(truths)
    T[:, 0, 3] += 0.01
    score = 0.5 + 0.01 * truths.gt_id
    write_results(out / "results.csv", estimates_of(truths.scene_id, truths.im_id, truths.obj_id, score, T))
    return out
