"""Catalogues of meshes from YAML files: the built-in meshes and users' own.

docs/assets.md lists the keys.  Everything about units and axes happens here; what comes out is in metres, z up.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from assets.errors import CatalogueError, MeshFileError, MeshSizeWarning
from assets.meshes import outwards, to_mesh
from assets.meshfiles import TexturedSurface, read_surfaces
from assets.procedural import PROCEDURAL, procedural_mesh
from assets.robot_files import PartAddress, parse_address, read_part
from assets.shading import CREASE_RAD
from assets.surfaces import Surface
from assets.textures import pack
from assets.texturing import bake
from inverse_graphics.config import ConfigError, FieldError, load_dataclass
from inverse_graphics.types import Catalogue, Mesh, Symmetry

UNITS_M = {"m": 1.0, "dm": 0.1, "cm": 0.01, "mm": 0.001, "inch": 0.0254, "foot": 0.3048}
"""Length of each unit in metres."""
TEXTURE_DETAIL = 1 / 24
"""Default size of the texture detail that survives, as a share of the mesh's diagonal."""
LARGEST_M, SMALLEST_M = 10.0, 0.001
"""Boxes beyond these sizes make a warning."""
_UP = {
    "z": np.eye(3),
    "y": np.asarray([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]]),
    "x": np.asarray([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]),
}
"""Rotations that bring each axis up."""


@dataclass(frozen=True)
class AxisEntry:
    """A continuous symmetry."""

    axis: tuple[float, float, float]
    """Direction of the axis, of any length but 0, in the file's axes."""
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """A point on the axis, in the file's unit and axes."""

    def __post_init__(self) -> None:
        """Refuse an axis without direction."""
        if not math.hypot(*self.axis) > 0:
            raise FieldError("axis", "a direction", self.axis, "[0, 0, 1] is the z axis")


@dataclass(frozen=True)
class SymmetryEntry:
    """Symmetries as in BOP's models_info.json, in the file's own unit and axes."""

    discrete: tuple[tuple[float, ...], ...] = ()
    """4x4 transforms, 16 numbers row by row each, without the identity."""
    continuous: tuple[AxisEntry, ...] = ()
    """Axes about which every rotation is a symmetry."""

    def __post_init__(self) -> None:
        """Refuse what is no rigid motion."""
        for index, numbers in enumerate(self.discrete):
            if len(numbers) != 16:
                raise FieldError(f"discrete[{index}]", "16 numbers", f"{len(numbers)} numbers", "write a 4x4 matrix row by row")
            matrix = np.asarray(numbers).reshape(4, 4)
            R = matrix[:3, :3]
            rigid = np.allclose(R @ R.T, np.eye(3), atol=1e-3) and np.linalg.det(R) > 0
            if not rigid or not np.allclose(matrix[3], [0, 0, 0, 1]):
                remedy = "rows are [R t] and [0 0 0 1]; a reflection is no symmetry of pose"
                raise FieldError(f"discrete[{index}]", "a rigid motion", numbers, remedy)


@dataclass(frozen=True)
class MeshEntry:
    """One mesh of a catalogue: a built-in one, a file, or a part of a robot's file."""

    name: str
    """Name of the class."""
    procedural: str | None = None
    """Name of a built-in mesh."""
    path: str | None = None
    """Mesh file (OBJ, PLY, STL, GLB, GLTF); relative paths start at the catalogue's folder."""
    urdf: str | None = None
    """Link of a URDF file, FILE#LINK; relative files start at the catalogue's folder, lengths are metres."""
    mjcf: str | None = None
    """Body or geom of an MJCF file, FILE#NAME; likewise."""
    unit: Literal["m", "dm", "cm", "mm", "inch", "foot"] | None = None
    """Unit of the file; mesh files do not tell, so it has to be given with ``path``, and only there."""
    up_axis: Literal["x", "y", "z"] = "z"
    """Which of the file's axes points up."""
    scale: float = 1.0
    """Further factor."""
    recentre: bool = True
    """Whether the middle of the box moves to x = y = 0 and its underside to z = 0; false keeps the file's origin."""
    shading: Literal["flat", "smooth"] = "smooth"
    """Smooth shading keeps edges sharper than 50 degrees."""
    textures: Literal["bake", "keep"] = "bake"
    """``bake``: faces are divided until corner colours stand for the texture; ``keep``: it stays an image (``Mesh.texture``)."""
    texture_detail_m: float | None = None
    """Size of the texture detail that survives ``bake``; 1/24 of the mesh's diagonal where absent."""
    symmetry: SymmetryEntry | None = None
    """Symmetries of shape and colour; none where absent (built-in meshes bring their own)."""

    def __post_init__(self) -> None:
        """Refuse contradictions and values out of range."""
        if not self.name:
            raise FieldError("name", "a name", self.name, "every mesh needs one")
        sources = (self.path, self.procedural, self.urdf, self.mjcf)
        if sum(source is not None for source in sources) != 1:
            raise FieldError("path", "either path or procedural, or urdf or mjcf", sources, "give the one, leave out the others")
        if self.procedural is not None and self.procedural not in PROCEDURAL:
            raise FieldError("procedural", f"one of {', '.join(PROCEDURAL)}", self.procedural, "pick a built-in mesh")
        if self.path is not None and self.unit is None:
            raise FieldError("unit", f"one of {', '.join(UNITS_M)}", None, "mesh files do not tell their unit: add it")
        if (self.urdf or self.mjcf) is not None and self.unit is not None:
            raise FieldError("unit", "nothing with urdf or mjcf", self.unit, "they are in metres: remove it, or use scale")
        if self.procedural is not None and self.differs_from_default():
            raise FieldError(self.differs_from_default()[0], "nothing", "a value", "with procedural, only name and scale count")
        if not self.scale > 0:
            raise FieldError("scale", "more than 0", self.scale, "1 keeps the size")
        if self.texture_detail_m is not None and not self.texture_detail_m > 0:
            raise FieldError("texture_detail_m", "more than 0", self.texture_detail_m, "leave it out for the default")
        if self.texture_detail_m is not None and self.textures == "keep":
            raise FieldError("texture_detail_m", "nothing with textures: keep", self.texture_detail_m, "all detail is kept")

    def differs_from_default(self) -> list[str]:
        """Names of the keys set that only make sense for files."""
        shared = ("name", "procedural", "path", "urdf", "mjcf", "scale")
        fields = [field for field in dataclasses.fields(self) if field.name not in shared]
        return [field.name for field in fields if getattr(self, field.name) != field.default]


@dataclass(frozen=True)
class CatalogueFile:
    """What a catalogue file holds."""

    meshes: tuple[MeshEntry, ...]
    """One entry a class, in the order of the class ids."""

    def __post_init__(self) -> None:
        """Refuse empty catalogues and names given twice."""
        names = [entry.name for entry in self.meshes]
        if not names:
            raise FieldError("meshes", "at least one mesh", "none", "add an entry")
        for index, name in enumerate(names):
            if name in names[:index]:
                raise FieldError(f"meshes[{index}].name", "a name of its own", name, "rename one of the two")


def load_catalogue(path_or_name: str | Path, names: Sequence[str] | None = None) -> Catalogue:
    """Load the meshes of a catalogue file.

    Args:
        path_or_name: a YAML file, or the name of one that comes with the package: ``"tabletop"``, ``"paper_trio"``.
        names: which of its meshes, in the order of their class ids; all of them where None.

    Raises:
        ConfigError: the file is missing, or a key or value in it is wrong; names file and key.
        CatalogueError: an unknown catalogue or mesh name.
        MeshFileError: a mesh file, or a part of a robot's file, cannot be used; names the file.
    """
    path = find_catalogue(path_or_name)
    entries = {entry.name: entry for entry in load_dataclass(CatalogueFile, path).meshes}
    wanted = tuple(entries) if names is None else tuple(names)
    unknown = [name for name in wanted if name not in entries]
    if unknown or not wanted or len(set(wanted)) < len(wanted):
        raise CatalogueError(f"names: expected some of {', '.join(entries)}, none twice; got {wanted}; {path} has no others")
    return Catalogue(tuple(load_entry(entries[name], path) for name in wanted))


def find_catalogue(path_or_name: str | Path) -> Path:
    """The catalogue file meant by a path or by the name of one that comes with the package."""
    if Path(path_or_name).suffix in (".yaml", ".yml"):
        return Path(path_or_name)
    shipped = {path.stem: path for path in sorted(Path(__file__).parent.glob("*.yaml"))}
    if str(path_or_name) not in shipped:
        known = ", ".join(shipped)
        raise CatalogueError(f"path_or_name: expected a .yaml file or one of {known}; got {str(path_or_name)!r}; check the name")
    return shipped[str(path_or_name)]


def load_entry(entry: MeshEntry, catalogue_path: Path) -> Mesh:
    """Make the mesh of one catalogue entry.

    Args:
        entry: a checked entry.
        catalogue_path: the file it came from; relative paths start at its folder.
    """
    if entry.procedural is not None:
        return _scaled(procedural_mesh(entry.procedural), entry.name, entry.scale)
    path, pieces = _read_pieces(entry, catalogue_path.parent)
    T_object_file = _file_to_object(np.concatenate([piece.vertices for piece in pieces]), entry)
    surface = outwards(_join_pieces(pieces, T_object_file, entry, path))
    _check_size(surface, entry.unit or "m", path)
    symmetry = _symmetry(entry.symmetry, T_object_file)
    return to_mesh(entry.name, surface, symmetry, CREASE_RAD if entry.shading == "smooth" else 0.0)


def _read_pieces(entry: MeshEntry, folder: Path) -> tuple[Path, list[TexturedSurface]]:
    """The file of an entry, and its surfaces in the file's unit and axes."""
    if entry.path is not None:
        return folder / entry.path, read_surfaces(folder / entry.path)
    if entry.urdf is not None:
        address = parse_address(entry.urdf, folder)
        return _named(address), read_part("urdf", address)
    assert entry.mjcf is not None
    address = parse_address(entry.mjcf, folder)
    return _named(address), read_part("mjcf", address)


def _named(address: PartAddress) -> Path:
    """What messages call a part."""
    return address.path.with_name(f"{address.path.name}#{address.part}")


def _scaled(mesh: Mesh, name: str, scale: float) -> Mesh:
    """A mesh under another name, larger or smaller."""
    discrete = mesh.symmetry.discrete.copy()
    discrete[:, :3, 3] *= scale
    symmetry = Symmetry(discrete, mesh.symmetry.continuous_axes, mesh.symmetry.continuous_offsets_m * scale)
    vertices_m = (mesh.vertices_m * np.float32(scale)).astype(np.float32)
    return dataclasses.replace(mesh, name=name, vertices_m=vertices_m, symmetry=symmetry)


def _file_to_object(vertices: Float[np.ndarray, "v 3"], entry: MeshEntry) -> Float[np.ndarray, "4 4"]:
    """The similarity from the file's unit and axes to metres, z up."""
    transform = np.eye(4)
    transform[:3, :3] = UNITS_M[entry.unit or "m"] * entry.scale * _UP[entry.up_axis]
    if entry.recentre:
        moved = vertices @ transform[:3, :3].T
        low, high = moved.min(0), moved.max(0)
        transform[:3, 3] = -np.asarray([(low[0] + high[0]) / 2, (low[1] + high[1]) / 2, low[2]])
    return transform


def _join_pieces(pieces: list[TexturedSurface], T_object_file: Float[np.ndarray, "4 4"], entry: MeshEntry, path: Path) -> Surface:
    """Join the pieces, weld equal positions, drop faces without area, turn textures into corner colours or into one image."""
    starts = np.cumsum([0] + [len(piece.vertices) for piece in pieces[:-1]])
    vertices = np.concatenate([piece.vertices for piece in pieces]) @ T_object_file[:3, :3].T + T_object_file[:3, 3]
    faces = np.concatenate([piece.faces + start for piece, start in zip(pieces, starts, strict=True)])
    diagonal_m = float(np.linalg.norm(np.ptp(vertices, axis=0)))
    key = np.round(vertices / (1e-6 * diagonal_m)).astype(np.int64)
    _, first, inverse = np.unique(key, axis=0, return_index=True, return_inverse=True)
    vertices, faces = vertices[first], inverse.reshape(-1)[faces]
    a, b, c = np.moveaxis(vertices[faces], 1, 0)
    kept = np.linalg.norm(np.cross(b - a, c - a), axis=-1) > 1e-12 * diagonal_m**2
    if not kept.any():
        raise MeshFileError(f"{path}: expected triangles with an area, all of them are degenerate; check the export's scale")
    used, kept_faces = np.unique(faces[kept], return_inverse=True)
    textures = [piece.texture for piece in pieces if piece.texture is not None]
    ids = np.cumsum([piece.texture is not None for piece in pieces]) - 1
    texture_ids = [np.full(len(p.faces), i if p.texture is not None else -1) for p, i in zip(pieces, ids, strict=True)]
    vertices, faces, face_texture_ids = vertices[used], kept_faces.reshape(-1, 3), np.concatenate(texture_ids)[kept]
    corner_rgb = np.concatenate([piece.corner_rgb for piece in pieces])[kept]
    corner_uv = np.concatenate([piece.corner_uv for piece in pieces])[kept]
    if entry.textures == "keep":
        texture = pack(corner_uv, face_texture_ids, textures, path) if (face_texture_ids >= 0).any() else None
        return Surface(vertices, faces, corner_rgb, texture)
    detail_m = entry.texture_detail_m or TEXTURE_DETAIL * diagonal_m
    return bake(vertices, faces, corner_rgb, corner_uv, face_texture_ids, textures, detail_m)


def _check_size(surface: Surface, unit: str, path: Path) -> None:
    """Warn where the unit is probably wrong."""
    size_m = float(np.ptp(surface.vertices_m, axis=0).max())
    if not SMALLEST_M <= size_m <= LARGEST_M:
        message = f"{path}: its box is {size_m:.3g} m long, read with unit {unit!r}; is that the file's unit?"
        warnings.warn(message, MeshSizeWarning, stacklevel=2)


def _symmetry(entry: SymmetryEntry | None, T_object_file: Float[np.ndarray, "4 4"]) -> Symmetry:
    """Symmetries of the file's frame in the object frame."""
    if entry is None:
        return Symmetry()
    discrete = np.asarray(entry.discrete, dtype=np.float64).reshape(-1, 4, 4)
    axes = np.asarray([item.axis for item in entry.continuous]).reshape(-1, 3) @ T_object_file[:3, :3].T
    offsets = np.asarray([item.offset for item in entry.continuous]).reshape(-1, 3)
    return Symmetry(
        discrete=T_object_file @ discrete @ np.linalg.inv(T_object_file),
        continuous_axes=axes / np.linalg.norm(axes, axis=-1, keepdims=True),
        continuous_offsets_m=offsets @ T_object_file[:3, :3].T + T_object_file[:3, 3],
    )


__all__ = ["CatalogueFile", "ConfigError", "MeshEntry", "find_catalogue", "load_catalogue", "load_entry"]
