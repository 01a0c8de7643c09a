"""Checking a whole data set: camera, models, every scene, targets."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from inverse_graphics.bop.check.models import check_models
from inverse_graphics.bop.check.pixels import check_fractions, check_image, check_names, list_files
from inverse_graphics.bop.datasets import Split, scene_ids_in
from inverse_graphics.bop.findings import Finding, Findings
from inverse_graphics.bop.jsonfiles import read_entries, take_number
from inverse_graphics.bop.models import INFO_FILE, ModelInfo
from inverse_graphics.bop.scenefiles import TRUTH_FILE, SceneColumns, read_columns
from inverse_graphics.bop.targets import parse_targets_2019, parse_targets_2024, targets_2019_path, targets_2024_path
from inverse_graphics.bop.types import ImageKey, Truths

INSIDE = 0.5
"""Objects nearer to the camera than this share of their diameter make the unit suspicious."""


def check_dataset(dataset: str | Path, images: bool = True) -> list[Finding]:
    """Look at a data set.

    Args:
        dataset: its folder.
        images: whether every picture is read in full; else only the JSON files, the models and the names of files.

    Returns:
        What is wrong; nothing where it is as it should be.
    """
    folder, found = Path(dataset), Findings()
    if not folder.is_dir():
        found.error("missing", folder, "", "expected the folder of a data set, there is none", "check the path")
        return found.list
    size_px = _check_camera(folder, found)
    infos = _check_model_folders(folder, found)
    splits = list(_splits(folder))
    if not splits:
        remedy = "scenes are folders such as test/000000 that hold scene_camera.json"
        found.error("missing", folder, "", "expected at least one scene, there is none", remedy)
    total = sum(len(split.scene_ids) for split in splits)
    with tqdm(total=total, unit="scene", file=sys.stderr, disable=not sys.stderr.isatty(), leave=False) as bar:
        for split in splits:
            scenes, before = {}, len(found.errors)
            for scene_id in split.scene_ids:
                scenes[scene_id] = _check_scene(split, scene_id, infos, size_px, images, found)
                bar.update(1)
            if len(found.errors) == before:  # else images or truths are left out, and targets would seem wrong
                _check_targets(split, scenes, found)
    return found.list


def _splits(folder: Path) -> Iterator[Split]:
    """Folders of scenes, also of scenes that lack their files."""
    for path in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "models"))):
        scene_ids = scene_ids_in(path)
        if scene_ids:
            yield Split(folder, path.name, scene_ids)


def _check_camera(folder: Path, found: Findings) -> tuple[int, int] | None:
    """Look at ``camera.json``; returns its image size."""
    path = folder / "camera.json"
    if not path.is_file():
        if not list(folder.glob("camera_*.json")):
            found.warning("missing", path, "", "expected a file, there is none", "add fx, fy, cx, cy, width, height")
        return None
    entry = read_entries(path, found)
    if entry is None:
        return None
    numbers = [take_number(entry, name, path, "camera", found, 0.0) for name in ("fx", "fy", "cx", "cy", "width", "height")]
    return None if numbers[4] is None or numbers[5] is None else (int(numbers[4]), int(numbers[5]))


def _check_model_folders(folder: Path, found: Findings) -> dict[int, ModelInfo]:
    """Look at every folder of models; returns what ``models``, or else the first of them, says."""
    folders = [path for path in sorted(folder.glob("models*")) if path.is_dir()]
    if not folders:
        found.error("missing", folder / "models", "", "expected a folder of models, there is none", f"add it with {INFO_FILE}")
    infos = {path.name: check_models(path, found) for path in folders}
    return infos.get("models", next(iter(infos.values()), {}))


def _check_scene(
    split: Split, scene_id: int, infos: dict[int, ModelInfo], size_px: tuple[int, int] | None, images: bool, found: Findings
) -> SceneColumns:
    """Look at a scene; returns its JSON files."""
    folder = split.scene_folder(scene_id)
    before = len(found.errors)
    columns = read_columns(folder, scene_id, found)
    listing = list_files(folder, found)
    if len(found.errors) == before:  # else images that are in order would seem to be too many
        check_names(listing, columns, found)
    check_fractions(columns, folder, found)
    truths = columns.truths
    if truths is None:
        found.warning(
            "missing", folder / TRUTH_FILE, "", "expected the ground truth, there is none", "is this a test set kept secret?"
        )
    else:
        _check_objects(truths, infos, folder, found)
    if images:
        sizes = set()
        for row, im_id in enumerate(columns.cameras.im_id.tolist()):
            rows = np.flatnonzero(truths.im_id == im_id) if truths is not None else np.zeros(0, np.int64)
            sizes.add(check_image(listing, columns, row, rows, found))
        for size in sorted(size for size in sizes if size is not None and size_px not in (None, size)):
            problem = f"expected {size_px} px as in camera.json, received images of {size} px"
            found.warning("size", folder, "", problem, "correct camera.json, or write images of one size")
    return columns


def _check_objects(truths: Truths, infos: dict[int, ModelInfo], folder: Path, found: Findings) -> None:
    """Objects are known, and not so near that the camera would be inside of them."""
    path = folder / TRUTH_FILE
    diameters = np.asarray([infos[obj_id].diameter_mm if obj_id in infos else 0.0 for obj_id in truths.obj_id.tolist()])
    distances = np.linalg.norm(truths.T_camera_object_mm[:, :3, 3], axis=-1)
    for row in np.flatnonzero(~np.isin(truths.obj_id, list(infos))):
        where = f'"{truths.im_id[row]}"[{truths.gt_id[row]}].obj_id'
        problem = f"expected one of {', '.join(map(str, infos)) or 'no models'}, received {truths.obj_id[row]}"
        found.error("unknown", path, where, problem, f"add the model to {INFO_FILE}, or correct the number")
    for row in np.flatnonzero(distances < INSIDE * diameters):
        where = f'"{truths.im_id[row]}"[{truths.gt_id[row]}].cam_t_m2c'
        problem = f"expected more than half its diameter of {diameters[row]:.4g} mm, received {distances[row]:.4g} mm"
        found.warning("unit", path, where, problem, "if it is in metres, multiply by 1000")


def _check_targets(split: Split, scenes: dict[int, SceneColumns], found: Findings) -> None:
    """The targets name images that are there, and no more instances than these hold."""
    keys = {ImageKey(scene_id, im_id) for scene_id, columns in scenes.items() for im_id in columns.cameras.im_id.tolist()}
    path = targets_2019_path(split.dataset, split.name)
    for target in parse_targets_2019(path, found) if path.is_file() else ():
        where = f"scene {target.scene_id}, image {target.im_id}, object {target.obj_id}"
        if ImageKey(target.scene_id, target.im_id) not in keys:
            found.error("unknown", path, where, f"expected an image of {split.name}, there is none", "remove the target")
            continue
        truths = scenes[target.scene_id].truths
        if truths is not None:
            there = int(((truths.im_id == target.im_id) & (truths.obj_id == target.obj_id)).sum())
            if there < target.inst_count:
                found.error(
                    "targets", path, where, f"expected at most {there} instances, received {target.inst_count}", "count again"
                )
    path = targets_2024_path(split.dataset, split.name)
    for key in parse_targets_2024(path, found) if path.is_file() else ():
        if key not in keys:
            where = f"scene {key.scene_id}, image {key.im_id}"
            found.error("unknown", path, where, f"expected an image of {split.name}, there is none", "remove the target")
