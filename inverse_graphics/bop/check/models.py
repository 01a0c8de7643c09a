"""Checking models: each file is there, whole, in millimetres, about its origin, and as ``models_info.json`` says."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from inverse_graphics.bop.findings import BopError, Findings
from inverse_graphics.bop.models import INFO_FILE, ModelInfo, load_ply, model_path, parse_models_info

SIZE_TOLERANCE = 0.02
"""Share of the diameter by which a file's box may differ from ``models_info.json`` (of another resolution of the same model)."""
CENTRE_TOLERANCE = 0.05
"""Share of the diameter by which the box's middle may lie off the origin."""


def check_models(folder: Path, found: Findings) -> dict[int, ModelInfo]:
    """Look at a folder of models; returns what its ``models_info.json`` says."""
    infos = parse_models_info(folder / INFO_FILE, found)
    for obj_id, info in infos.items():
        path = model_path(folder, obj_id)
        try:
            mesh = load_ply(path)
        except BopError as error:
            found.add(error, "model", path)
            continue
        points = np.asarray(mesh.vertices, np.float64)
        _check_box(points.min(0), points.max(0), info, path, found)
    known = {model_path(folder, obj_id).name for obj_id in infos}
    for path in sorted(folder.glob("obj_*.ply")):
        if path.name not in known:
            found.warning("unknown", path, "", f"expected an entry in {INFO_FILE}, there is none", "add it, or remove the file")
    return infos


def _check_box(low: np.ndarray, high: np.ndarray, info: ModelInfo, path: Path, found: Findings) -> None:
    """Compare a file's bounding box with what is said of it."""
    diagonal, said = float(np.linalg.norm(high - low)), float(np.linalg.norm(info.size_mm))
    ratio = said / diagonal if diagonal > 0 else np.inf
    if 300 < ratio < 3000 or 1 / 3000 < ratio < 1 / 300:
        metres = "the PLY" if ratio > 1 else INFO_FILE
        problem = f"expected a box of {said:.4g} mm as in {INFO_FILE}, received {diagonal:.4g}, as if {metres} were in metres"
        found.error("unit", path, "", problem, "write both in millimetres")
        return
    tolerance = SIZE_TOLERANCE * info.diameter_mm
    if np.abs(low - info.low_mm).max() > tolerance or np.abs(high - low - info.size_mm).max() > tolerance:
        problem = f"expected the box of {INFO_FILE}, from {info.low_mm} mm, received one from {low} to {high}"
        found.error("size", path, "", problem, "measure the model again")
    if info.diameter_mm > said * (1 + SIZE_TOLERANCE) or info.diameter_mm < info.size_mm.max() * (1 - SIZE_TOLERANCE):
        problem = f"expected a diameter between the box's longest side and its diagonal, received {info.diameter_mm:.4g} mm"
        found.error("size", path.with_name(INFO_FILE), path.stem, problem, "measure the model again")
    if np.abs(low + high).max() / 2 > CENTRE_TOLERANCE * info.diameter_mm:
        problem = f"expected the box's middle at the origin, received it at {(low + high) / 2} mm"
        found.warning("origin", path, "", problem, "move the model, and its poses with it")
