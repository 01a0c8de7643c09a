"""Our meshes as BOP models: PLY files in millimetres about the box's middle, and ``models_info.json``.

Our meshes stand on their origin; BOP's have it in the middle of their bounding box.  ``box_centre_m`` is what lies between, and
``T_camera_model_mm`` takes poses across.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float

from inverse_graphics.bop.findings import BopError
from inverse_graphics.bop.jsonfiles import numbered_text
from inverse_graphics.bop.models import INFO_FILE, MM_PER_M, model_path
from inverse_graphics.colours import linear_to_srgb
from inverse_graphics.files import write_bytes, write_text
from inverse_graphics.types import Mesh, Symmetry


def box_centre_m(mesh: Mesh) -> Float[np.ndarray, "3"]:
    """Middle of a mesh's bounding box in its own frame: where BOP's model has its origin."""
    points_m = mesh.vertices_m.astype(np.float64)
    return (points_m.min(0) + points_m.max(0)) / 2


def T_camera_model_mm(
    T_camera_object: Float[np.ndarray, "*b 4 4"], centre_m: Float[np.ndarray, "*b 3"]
) -> Float[np.ndarray, "*b 4 4"]:
    """Poses of BOP models in millimetres.

    Args:
        T_camera_object: poses of our meshes in metres.
        centre_m: their ``box_centre_m``.
    """
    T = np.asarray(T_camera_object, np.float64).copy()
    T[..., :3, 3] = (T[..., :3, 3] + (T[..., :3, :3] @ np.asarray(centre_m, np.float64)[..., None])[..., 0]) * MM_PER_M
    return T


def T_camera_object_m(
    T_camera_model_mm: Float[np.ndarray, "*b 4 4"], centre_m: Float[np.ndarray, "*b 3"]
) -> Float[np.ndarray, "*b 4 4"]:
    """Poses of our meshes in metres: the inverse of ``T_camera_model_mm``."""
    T = np.asarray(T_camera_model_mm, np.float64).copy()
    T[..., :3, 3] = T[..., :3, 3] / MM_PER_M - (T[..., :3, :3] @ np.asarray(centre_m, np.float64)[..., None])[..., 0]
    return T


def centred_symmetry(symmetry: Symmetry, centre_m: Float[np.ndarray, "3"]) -> Symmetry:
    """The symmetries seen from a frame whose origin is ``centre_m`` and whose axes are the same; in metres."""
    discrete = np.array(symmetry.discrete, np.float64).reshape(-1, 4, 4)
    discrete[:, :3, 3] += discrete[:, :3, :3] @ centre_m - centre_m
    offsets_m = np.asarray(symmetry.continuous_offsets_m, np.float64).reshape(-1, 3) - centre_m
    return Symmetry(discrete, np.asarray(symmetry.continuous_axes, np.float64).reshape(-1, 3), offsets_m)


def diameter(points: Float[np.ndarray, "v 3"]) -> float:
    """Largest distance of two points, exactly: from the outermost inwards, until no pair can be farther apart."""
    points = np.unique(points, axis=0)
    radii = np.linalg.norm(points - (points.min(0) + points.max(0)) / 2, axis=-1)
    order = np.argsort(-radii, kind="stable")
    points, radii = points[order], radii[order]
    largest = 0.0
    for index in range(len(points)):
        if radii[index] + radii[min(index + 1, len(points) - 1)] <= largest:
            break
        largest = max(largest, float(np.linalg.norm(points[index:] - points[index], axis=-1).max()))
    return largest


def write_models(folder: str | Path, meshes: Mapping[int, Mesh], coloured: bool = True) -> None:
    """Write a folder of models.

    Args:
        folder: ``models`` or ``models_eval`` of a data set; made if it is not there.
        meshes: by the model's number.
        coloured: whether vertices carry colours and are divided where colours or normals are (``models``); else each position is
            one vertex, which is what errors are taken over (``models_eval``).

    Raises:
        BopError: a mesh has a texture, which vertices cannot carry.
    """
    for obj_id, mesh in meshes.items():
        write_bytes(model_path(Path(folder), obj_id), ply_bytes(mesh, coloured))
    write_text(Path(folder) / INFO_FILE, numbered_text({obj_id: info_entry(mesh) for obj_id, mesh in meshes.items()}))


def ply_bytes(mesh: Mesh, coloured: bool) -> bytes:
    """A mesh as binary PLY: millimetres about the box's middle, vertex normals, sRGB colours where ``coloured``."""
    points_mm = ((mesh.vertices_m.astype(np.float64) - box_centre_m(mesh)) * MM_PER_M).astype(np.float32)
    if coloured and mesh.texture is not None:
        raise BopError(f"meshes: expected corner colours, received {mesh.name!r} with a texture; load it with textures: bake")
    if coloured:
        corners = np.concatenate([points_mm[mesh.faces], mesh.corner_normals], -1).reshape(-1, 6)
        rgb = np.round(255 * linear_to_srgb(mesh.corner_rgb)).reshape(-1, 3)
        rows, index = np.unique(np.concatenate([corners, rgb], -1), axis=0, return_inverse=True)
        colours = np.concatenate([rows[:, 6:], np.full((len(rows), 1), 255)], -1).astype(np.uint8)
    else:
        rows, index = np.unique(points_mm[mesh.faces].reshape(-1, 3), axis=0, return_inverse=True)
        colours = None
    shape = trimesh.Trimesh(
        vertices=rows[:, :3],
        faces=index.reshape(-1, 3),
        vertex_normals=rows[:, 3:6] if coloured else None,
        vertex_colors=colours,
        process=False,
    )
    content = shape.export(file_type="ply", vertex_normal=True)
    assert isinstance(content, bytes)
    return content


def info_entry(mesh: Mesh) -> dict[str, Any]:
    """What ``models_info.json`` says of a mesh; lengths in millimetres."""
    centre_m = box_centre_m(mesh)
    points_mm = ((mesh.vertices_m.astype(np.float64) - centre_m) * MM_PER_M).astype(np.float32).astype(np.float64)
    low, size = points_mm.min(0), np.ptp(points_mm, axis=0)
    entry: dict[str, Any] = {"diameter": diameter(points_mm)}
    entry |= {f"min_{axis}": float(value) for axis, value in zip("xyz", low, strict=True)}
    entry |= {f"size_{axis}": float(value) for axis, value in zip("xyz", size, strict=True)}
    symmetry = centred_symmetry(mesh.symmetry, centre_m)
    if len(symmetry.discrete):
        discrete = symmetry.discrete.copy()
        discrete[:, :3, 3] *= MM_PER_M
        entry["symmetries_discrete"] = discrete.reshape(-1, 16).tolist()
    if len(symmetry.continuous_axes):
        pairs = zip(symmetry.continuous_axes.tolist(), (symmetry.continuous_offsets_m * MM_PER_M).tolist(), strict=True)
        entry["symmetries_continuous"] = [{"axis": axis, "offset": offset} for axis, offset in pairs]
    return entry
