"""The models of a BOP data set as a catalogue, so that every renderer draws them: metres, origin in the middle of the box."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from assets.loading import AxisEntry, MeshEntry, SymmetryEntry, load_entry
from inverse_graphics.bop.models import INFO_FILE, MM_PER_M, ModelInfo, model_path, read_models_info, scaled_symmetry
from inverse_graphics.types import Catalogue


@dataclass(frozen=True)
class BopCatalogue:
    """Models as meshes."""

    catalogue: Catalogue
    """The meshes, in metres, in the models' own frames: ``T_camera_object`` is BOP's pose with its translation in metres."""
    obj_ids: tuple[int, ...]
    """BOP's number of each class."""

    def class_id(self, obj_id: int) -> int:
        """Index of a model in the catalogue.

        Raises:
            ValueError: it is not among them.
        """
        if obj_id not in self.obj_ids:
            known = ", ".join(map(str, self.obj_ids))
            raise ValueError(f"obj_id: expected one of {known}, received {obj_id}; load the catalogue with that model")
        return self.obj_ids.index(obj_id)


def load_bop_models(
    folder: str | Path, obj_ids: Iterable[int] | None = None, textures: Literal["bake", "keep"] = "bake"
) -> BopCatalogue:
    """Load models.

    Args:
        folder: ``models`` or ``models_eval`` of a data set.
        obj_ids: which, in the order of their class ids; all where None.
        textures: see ``MeshEntry.textures``.

    Raises:
        ValueError: an unknown model, or a file that cannot be used.
    """
    path = Path(folder)
    infos = read_models_info(path)
    wanted = tuple(infos) if obj_ids is None else tuple(obj_ids)
    unknown = [obj_id for obj_id in wanted if obj_id not in infos]
    if unknown or not wanted:
        known = ", ".join(map(str, infos))
        raise ValueError(f"obj_ids: expected some of {known}, received {wanted}; {path / INFO_FILE} has no others")
    meshes = [load_entry(_entry(path, obj_id, infos[obj_id], textures), path / INFO_FILE) for obj_id in wanted]
    return BopCatalogue(Catalogue(tuple(meshes)), wanted)


def _entry(folder: Path, obj_id: int, info: ModelInfo, textures: Literal["bake", "keep"]) -> MeshEntry:
    """A model as a catalogue's entry."""
    in_mm = scaled_symmetry(info.symmetry, MM_PER_M)
    axes = zip(in_mm.continuous_axes.tolist(), in_mm.continuous_offsets_m.tolist(), strict=True)
    symmetry = SymmetryEntry(
        discrete=tuple(tuple(matrix) for matrix in in_mm.discrete.reshape(-1, 16).tolist()),
        continuous=tuple(AxisEntry(_three(axis), _three(offset)) for axis, offset in axes),
    )
    file = model_path(folder, obj_id)
    return MeshEntry(name=file.stem, path=file.name, unit="mm", recentre=False, textures=textures, symmetry=symmetry)


def _three(values: list[float]) -> tuple[float, float, float]:
    x, y, z = values
    return x, y, z
