"""Models of BOP data sets: PLY files in millimetres, and what ``models_info.json`` says of their size and symmetries."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float

from inverse_graphics.bop.findings import BopError, Findings
from inverse_graphics.bop.jsonfiles import read_numbered, take_number, take_numbers
from inverse_graphics.bop.posechecks import check_poses, check_size
from inverse_graphics.bop.types import Model
from inverse_graphics.symmetry import symmetry_transforms
from inverse_graphics.types import Symmetry

INFO_FILE = "models_info.json"
MM_PER_M = 1000.0
UNREADABLE = (ValueError, TypeError, KeyError, IndexError, AttributeError, EOFError, OSError, struct.error, RuntimeError)
"""What trimesh's reader raises on damaged files."""


@dataclass(frozen=True)
class ModelInfo:
    """What ``models_info.json`` says of a model."""

    diameter_mm: float
    """Largest distance of two vertices."""
    low_mm: Float[np.ndarray, "3"]
    """Least x, y, z."""
    size_mm: Float[np.ndarray, "3"]
    """Size of the bounding box."""
    symmetry: Symmetry
    """Symmetries in the model's frame, lengths in metres as everywhere in ``Symmetry``."""


def find_models(dataset: str | Path, evaluation: bool = True) -> Path:
    """The folder of a data set's models: ``models_eval`` where it is wanted and there, else ``models``.

    Raises:
        BopError: there is neither.
    """
    names = ("models_eval", "models") if evaluation else ("models", "models_eval")
    folders = [Path(dataset) / name for name in names]
    folder = next((folder for folder in folders if (folder / INFO_FILE).is_file()), None)
    if folder is None:
        raise BopError(f"{dataset}: expected models/{INFO_FILE} or models_eval/{INFO_FILE}, there is none; add the models")
    return folder


def read_models(folder: str | Path, obj_ids: Iterable[int] | None = None) -> dict[int, Model]:
    """Read models.

    Args:
        folder: ``models`` or ``models_eval`` of a data set, see ``find_models``.
        obj_ids: which; all that ``models_info.json`` names where None.

    Raises:
        BopError: a model is unknown, or a file is missing or has an error.
    """
    infos = read_models_info(folder)
    wanted = list(infos) if obj_ids is None else sorted(set(obj_ids))
    unknown = [obj_id for obj_id in wanted if obj_id not in infos]
    if unknown:
        known = ", ".join(map(str, infos))
        raise BopError(f"{Path(folder) / INFO_FILE}: expected one of {known}, received {unknown[0]}; ask for the models it names")
    return {obj_id: _read_model(Path(folder), obj_id, infos[obj_id]) for obj_id in wanted}


def read_models_info(folder: str | Path) -> dict[int, ModelInfo]:
    """Sizes and symmetries by the model's number.

    Raises:
        BopError: the file is missing or has an error.
    """
    found = Findings()
    infos = parse_models_info(Path(folder) / INFO_FILE, found)
    found.refuse()
    return infos


def model_path(folder: Path, obj_id: int) -> Path:
    """The PLY file of a model."""
    return folder / f"obj_{obj_id:06d}.ply"


def parse_models_info(path: Path, found: Findings) -> dict[int, ModelInfo]:
    """The entries of the file; those with an error are left out.

    Args:
        path: the file.
        found: findings are added to it.
    """
    infos = {}
    for obj_id, entry in (read_numbered(path, found) or {}).items():
        where = f'"{obj_id}"'
        names = ("diameter", "min_x", "min_y", "min_z", "size_x", "size_y", "size_z")
        numbers = [take_number(entry, name, path, where, found) for name in names]
        symmetry = _symmetry(entry, path, where, found) if isinstance(entry, dict) else None
        known = [number for number in numbers if number is not None]
        if len(known) < len(names) or symmetry is None:
            continue
        if known[0] <= 0 or min(known[4:]) < 0:
            found.error("range", path, where, "expected a diameter above 0 and sizes of at least 0", "measure the model")
            continue
        check_size(known[0], where, path, found)
        infos[obj_id] = ModelInfo(known[0], np.asarray(known[1:4]), np.asarray(known[4:7]), symmetry)
    return infos


def load_ply(path: Path) -> trimesh.Trimesh:
    """The triangles of a PLY file, vertices as they stand in it.

    Raises:
        BopError: it is missing, damaged, or holds no triangles or numbers that are not finite.
    """
    if not path.is_file():
        raise BopError(f"{path}: expected a model, there is none; add the file, or take its number out of {INFO_FILE}")
    try:
        mesh: Any = trimesh.load(path, process=False, force="mesh")
        points, faces = np.asarray(mesh.vertices), np.asarray(mesh.faces)
    except UNREADABLE as error:
        raise BopError(f"{path}: expected a whole PLY file, reading failed with '{error}'; export it anew") from error
    if len(faces) == 0:
        raise BopError(f"{path}: expected triangles, received {len(points)} points without any; export the surface")
    if not np.isfinite(points).all() or faces.max() >= len(points):
        raise BopError(f"{path}: expected finite vertices and faces of them, received others; clean the mesh and export it")
    return mesh


def scaled_symmetry(symmetry: Symmetry, factor: float) -> Symmetry:
    """The same symmetries in another unit of length."""
    discrete = np.array(symmetry.discrete, np.float64)
    discrete[:, :3, 3] *= factor
    axes, offsets = np.asarray(symmetry.continuous_axes, np.float64), np.asarray(symmetry.continuous_offsets_m, np.float64)
    return Symmetry(discrete, axes, offsets * factor)


def _read_model(folder: Path, obj_id: int, info: ModelInfo) -> Model:
    mesh = load_ply(model_path(folder, obj_id))
    symmetries = symmetry_transforms(info.symmetry)
    symmetries[:, :3, 3] *= MM_PER_M
    return Model(
        obj_id=obj_id,
        points_mm=np.array(mesh.vertices, np.float64),
        faces=np.array(mesh.faces, np.int64),
        normals=np.array(mesh.vertex_normals, np.float64),
        diameter_mm=info.diameter_mm,
        symmetries=symmetries,
    )


def _symmetry(entry: dict[str, Any], path: Path, where: str, found: Findings) -> Symmetry | None:
    """The symmetries of an entry; None, and a finding, where they are none."""
    matrices, axes, offsets = [], [], []
    for key in ("symmetries_discrete", "symmetries_continuous"):
        if not isinstance(entry.get(key, []), list):
            found.error("key", path, f"{where}.{key}", "expected a list, received another value", "write [] for none")
            return None
    for index, numbers in enumerate(entry.get("symmetries_discrete", [])):
        place = f"{where}.symmetries_discrete"
        matrix = take_numbers({str(index): numbers}, str(index), 16, path, place, found)
        if matrix is None:
            return None
        if matrix[12:] != [0.0, 0.0, 0.0, 1.0]:
            found.error(
                "rotation", path, f"{place}[{index}]", f"expected 0 0 0 1 as last row, received {matrix[12:]}", "write rows"
            )
            return None
        matrices.append(np.reshape(matrix, (4, 4)))
    for index, item in enumerate(entry.get("symmetries_continuous", [])):
        place = f"{where}.symmetries_continuous[{index}]"
        axis, offset = (take_numbers(item, key, 3, path, place, found) for key in ("axis", "offset"))
        if axis is None or offset is None:
            return None
        if not np.linalg.norm(axis) > 0:
            found.error("range", path, f"{place}.axis", "expected a direction, received 0 0 0", "[0, 0, 1] is the z axis")
            return None
        axes.append(axis)
        offsets.append(offset)
    discrete = np.asarray(matrices, np.float64).reshape(-1, 4, 4)
    places = [f"{where}.symmetries_discrete[{index}]" for index in range(len(discrete))]
    if not check_poses(discrete, places, path, found).all():
        return None
    axis_array = np.asarray(axes, np.float64).reshape(-1, 3)
    return scaled_symmetry(Symmetry(discrete, axis_array, np.asarray(offsets, np.float64).reshape(-1, 3)), 1 / MM_PER_M)
