"""From coloured surfaces to catalogue meshes: shading normals, closedness, orientation, compact arrays."""

from __future__ import annotations

import dataclasses

import numpy as np
import trimesh
from jaxtyping import Float

from assets.shading import CREASE_RAD, corner_normals
from assets.surfaces import Surface
from inverse_graphics.types import Mesh, Symmetry, Texture


def to_mesh(name: str, surface: Surface, symmetry: Symmetry, crease_rad: float = CREASE_RAD) -> Mesh:
    """Make a catalogue mesh of a surface: shading normals, a check whether it is closed, compact arrays.

    Args:
        name: name of the class.
        surface: neighbouring faces share their vertices, counter-clockwise seen from outside.
        symmetry: in the surface's frame.
        crease_rad: edges sharper than this stay sharp in the shading; 0 gives flat shading.
    """
    return Mesh(
        name=name,
        vertices_m=np.ascontiguousarray(surface.vertices_m, dtype=np.float32),
        faces=np.ascontiguousarray(surface.faces, dtype=np.int32),
        corner_rgb=np.ascontiguousarray(surface.corner_rgb, dtype=np.float32),
        corner_normals=np.ascontiguousarray(corner_normals(surface.vertices_m, surface.faces, crease_rad), dtype=np.float32),
        symmetry=symmetry,
        watertight=is_closed(surface),
        texture=None if surface.texture is None else _compact(surface.texture),
    )


def _compact(texture: Texture) -> Texture:
    """The same texture in compact arrays."""
    corner_uv = np.ascontiguousarray(texture.corner_uv, dtype=np.float32)
    return Texture(corner_uv, np.ascontiguousarray(texture.rgb, dtype=np.float32))


def outwards(surface: Surface) -> Surface:
    """Turn a closed surface that faces inwards inside out; every other surface stays as it is."""
    if not _is_closed_consistently(surface) or _part_volumes(surface).sum() >= 0:
        return surface
    texture = surface.texture
    if texture is not None:
        texture = dataclasses.replace(texture, corner_uv=texture.corner_uv[:, ::-1])
    return Surface(surface.vertices_m, surface.faces[:, ::-1], surface.corner_rgb[:, ::-1], texture)


def is_closed(surface: Surface) -> bool:
    """Whether every connected part is closed and faces outwards, so that back faces are never seen."""
    return _is_closed_consistently(surface) and bool((_part_volumes(surface) > 0).all())


def _is_closed_consistently(surface: Surface) -> bool:
    """Whether every edge joins two faces that agree on what is outside."""
    mesh = trimesh.Trimesh(surface.vertices_m, surface.faces, process=False)
    return bool(mesh.is_watertight and mesh.is_winding_consistent)


def _part_volumes(surface: Surface) -> Float[np.ndarray, "parts"]:
    """Signed volume of every connected part of a closed surface, in cubic metres."""
    mesh = trimesh.Trimesh(surface.vertices_m, surface.faces, process=False)
    parts = trimesh.graph.connected_component_labels(mesh.face_adjacency, node_count=len(surface.faces))
    a, b, c = np.moveaxis((surface.vertices_m - surface.vertices_m.mean(0))[surface.faces], 1, 0)
    return np.bincount(parts, (a * np.cross(b, c)).sum(-1) / 6)
