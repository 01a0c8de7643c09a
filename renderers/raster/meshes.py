"""Catalogue meshes packed into flat arrays, as the kernels want them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from inverse_graphics.types import Catalogue


class PackedMeshes(NamedTuple):
    """All meshes of a catalogue end to end; a tuple, so that compiled code takes it as it is."""

    vertices_m: np.ndarray
    """[v 3] float32."""
    faces: np.ndarray
    """[f 3] int32, indices within the face's own mesh."""
    corner_rgb: np.ndarray
    """[f 3 3] float32."""
    corner_normals: np.ndarray
    """[f 3 3] float32."""
    vertex_start: np.ndarray
    """[k + 1] int32: mesh i owns vertices vertex_start[i] : vertex_start[i + 1]."""
    face_start: np.ndarray
    """[k + 1] int32: likewise for faces."""
    cull_back: np.ndarray
    """[k] bool: the mesh is closed, so faces turned away are never seen from outside."""
    radius_m: np.ndarray
    """[k] float32: largest distance of a vertex from the object's origin."""


def pack_meshes(catalogue: Catalogue) -> PackedMeshes:
    """Pack a catalogue.

    Raises:
        ValueError: no meshes, or a mesh with non-finite vertices or with face indices out of range.
    """
    if len(catalogue) == 0:
        raise ValueError("catalogue: expected at least one mesh, got none; name the classes to load")
    for mesh in catalogue.meshes:
        if not np.isfinite(mesh.vertices_m).all():
            raise ValueError(f"mesh '{mesh.name}': vertices must be finite; repair the file or drop the mesh")
        if len(mesh.faces) and (mesh.faces.min() < 0 or mesh.faces.max() >= len(mesh.vertices_m)):
            raise ValueError(
                f"mesh '{mesh.name}': face indices must lie in 0..{len(mesh.vertices_m) - 1}, "
                f"got {mesh.faces.min()}..{mesh.faces.max()}; repair the file"
            )
    meshes = catalogue.meshes
    return PackedMeshes(
        vertices_m=_join([mesh.vertices_m for mesh in meshes], np.float32),
        faces=_join([mesh.faces for mesh in meshes], np.int32),
        corner_rgb=_join([mesh.corner_rgb for mesh in meshes], np.float32),
        corner_normals=_join([mesh.corner_normals for mesh in meshes], np.float32),
        vertex_start=_starts([len(mesh.vertices_m) for mesh in meshes]),
        face_start=_starts([len(mesh.faces) for mesh in meshes]),
        cull_back=np.array([mesh.watertight for mesh in meshes], dtype=np.bool_),
        radius_m=np.array([np.linalg.norm(mesh.vertices_m, axis=1).max(initial=1e-6) for mesh in meshes], dtype=np.float32),
    )


def _join(arrays: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.ascontiguousarray(np.concatenate(arrays), dtype=dtype)


def _starts(lengths: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
