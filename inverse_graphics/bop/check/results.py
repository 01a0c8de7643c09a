"""Checking a results file, by itself and against the data set it is of."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from inverse_graphics.bop.datasets import Split, open_split, read_image_keys
from inverse_graphics.bop.findings import BopError, Finding, Findings
from inverse_graphics.bop.models import INFO_FILE, find_models, read_models_info
from inverse_graphics.bop.results import NAME_PATTERN, parse_results
from inverse_graphics.bop.types import Estimates, ImageKey


def check_results(path: str | Path, dataset: str | Path | None = None) -> list[Finding]:
    """Look at a results file.

    Args:
        path: the file.
        dataset: folder of the data set; then objects and images must be its, and its part is that of the file's name.

    Returns:
        What is wrong; nothing where it is as it should be.
    """
    path, found = Path(path), Findings()
    if not NAME_PATTERN.fullmatch(path.name):
        problem = f"expected METHOD_DATASET-SPLIT[-TYPE][_ID].csv, received {path.name!r}"
        found.warning("name", path, "", problem, "rename the file; METHOD has no underscore")
    estimates, lines = parse_results(path, found)
    if dataset is not None:
        try:
            _check_against(estimates, lines, path, Path(dataset), found)
        except BopError as error:
            found.add(error, "dataset", Path(dataset))
    return found.list


def _check_against(estimates: Estimates, lines: np.ndarray, path: Path, dataset: Path, found: Findings) -> None:
    """Objects and images are those of the data set, and the camera is not inside of most objects."""
    infos = read_models_info(find_models(dataset))
    for row in np.flatnonzero(~np.isin(estimates.obj_id, list(infos))):
        problem = f"expected one of {', '.join(map(str, infos))}, received object {estimates.obj_id[row]}"
        found.error("unknown", path, f"line {lines[row]}", problem, f"name a model of {INFO_FILE}")
    keys = set(read_image_keys(_split(path, dataset)))
    for row, key in enumerate(zip(estimates.scene_id.tolist(), estimates.im_id.tolist(), strict=True)):
        if ImageKey(*key) not in keys:
            problem = f"expected an image of {dataset}, received scene {key[0]}, image {key[1]}"
            found.error("unknown", path, f"line {lines[row]}", problem, "name an image of the data set")
    diameters = np.asarray([infos[obj_id].diameter_mm if obj_id in infos else np.nan for obj_id in estimates.obj_id.tolist()])
    ratios = np.linalg.norm(estimates.T_camera_object_mm[:, :3, 3], axis=-1) / diameters
    ratios = ratios[np.isfinite(ratios)]
    if len(ratios) and np.median(ratios) < 0.5:
        problem = f"expected objects outside of the camera, received a median distance of {np.median(ratios):.3g} diameters"
        found.warning("unit", path, "t", problem, "if t is in metres, multiply it by 1000")


def _split(path: Path, dataset: Path) -> Split:
    """The part of the data set that the file's name says."""
    parts = path.stem.split("_")
    words = parts[1].split("-") if len(parts) > 1 else []
    if len(words) < 2:
        raise BopError(f"{path}: expected a name that says its split, received {path.name!r}; rename it METHOD_DATASET-SPLIT.csv")
    return open_split(dataset, "_".join(words[1:3]))
