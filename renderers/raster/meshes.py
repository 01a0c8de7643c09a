"""Catalogue meshes packed into flat arrays, as the kernels want them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from inverse_graphics.types import Catalogue, Mesh

SAME_COLOUR = 1e-3
"""Colours and normals that differ by less are the same on both sides of an edge."""


class PackedMeshes(NamedTuple):
    """All meshes of a catalogue end to end; a tuple, so that compiled code takes it as it is."""

    vertices_m: np.ndarray
    """[v 3] float32."""
    vertices_by_axis: np.ndarray
    """[3 v] float32: the same, axis by axis."""
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
    corner_uv: np.ndarray
    """[f 3 2] float32: texture coordinates, 0 where there is no texture."""
    texels: np.ndarray
    """[t 3] float32: all textures, row by row."""
    textures: np.ndarray
    """[k 3] int32: a mesh's first texel, height and width; height 0 where it has no texture."""
    is_plain: np.ndarray
    """[f] bool: one colour and one normal at all corners, no texture."""
    planes: np.ndarray
    """[4 f] float32: a face's normal (any length) and its product with a corner, turned round: positive in front of the face."""
    across: np.ndarray
    """[f 3] int32: face on the other side of the edge opposite each corner; -1 where there is none."""
    smooth_across: np.ndarray
    """[f 3] int32: likewise, but only where colour and normal go on over that edge without a step; else -1."""


def pack_meshes(catalogue: Catalogue) -> PackedMeshes:
    """Pack a catalogue.

    Raises:
        ValueError: no meshes, or a mesh with non-finite vertices or with face indices out of range.
    """
    if len(catalogue) == 0:
        raise ValueError("catalogue: expected at least one mesh, got none; name the classes to load")
    meshes = catalogue.meshes
    for mesh in meshes:
        _check(mesh)
    texels = [mesh.texture.rgb.reshape(-1, 3) if mesh.texture else np.zeros((0, 3)) for mesh in meshes]
    sizes = [mesh.texture.rgb.shape[:2] if mesh.texture else (0, 0) for mesh in meshes]
    textures = np.concatenate([_starts([len(t) for t in texels])[:-1, None], np.array(sizes)], 1)
    packed = PackedMeshes(
        vertices_m=_join([mesh.vertices_m for mesh in meshes], np.float32),
        vertices_by_axis=np.zeros((3, 0), np.float32),
        faces=_join([mesh.faces for mesh in meshes], np.int32),
        corner_rgb=_join([mesh.corner_rgb for mesh in meshes], np.float32),
        corner_normals=_join([mesh.corner_normals for mesh in meshes], np.float32),
        vertex_start=_starts([len(mesh.vertices_m) for mesh in meshes]),
        face_start=_starts([len(mesh.faces) for mesh in meshes]),
        cull_back=np.array([mesh.watertight for mesh in meshes], dtype=np.bool_),
        radius_m=np.array([np.linalg.norm(mesh.vertices_m, axis=1).max(initial=1e-6) for mesh in meshes], dtype=np.float32),
        corner_uv=_join(
            [mesh.texture.corner_uv if mesh.texture else np.zeros((len(mesh.faces), 3, 2)) for mesh in meshes], np.float32
        ),
        texels=_join(texels, np.float32),
        textures=textures.astype(np.int32),
        is_plain=np.zeros(0, np.bool_),
        planes=np.zeros((4, 0), np.float32),
        across=_join([_across(mesh.vertices_m, mesh.faces) for mesh in meshes], np.int32),
        smooth_across=np.zeros((0, 3), np.int32),
    )
    return with_surfaces(packed, packed.vertices_m, packed.corner_rgb, packed.corner_normals)


def with_surfaces(
    meshes: PackedMeshes, vertices_m: np.ndarray, corner_rgb: np.ndarray, corner_normals: np.ndarray
) -> PackedMeshes:
    """The same meshes with other vertex positions, colours and normals."""
    look = np.concatenate([corner_rgb, corner_normals], -1)
    textured = np.repeat(meshes.textures[:, 1] > 0, np.diff(meshes.face_start))
    return meshes._replace(
        vertices_m=vertices_m,
        vertices_by_axis=np.ascontiguousarray(vertices_m.T),
        corner_rgb=corner_rgb,
        corner_normals=corner_normals,
        is_plain=(np.abs(look - look[:, :1]) < 1e-6).all((1, 2)) & ~textured,
        planes=_planes(meshes, vertices_m),
        smooth_across=_smooth_across(meshes, look),
    )


def _check(mesh: Mesh) -> None:
    """Raise ValueError for a mesh that cannot be drawn."""
    if not np.isfinite(mesh.vertices_m).all():
        raise ValueError(f"mesh '{mesh.name}': vertices must be finite; repair the file or drop the mesh")
    if len(mesh.faces) and (mesh.faces.min() < 0 or mesh.faces.max() >= len(mesh.vertices_m)):
        raise ValueError(
            f"mesh '{mesh.name}': face indices must lie in 0..{len(mesh.vertices_m) - 1}, "
            f"got {mesh.faces.min()}..{mesh.faces.max()}; repair the file"
        )
    if mesh.texture is not None and (
        mesh.texture.rgb.size == 0
        or mesh.texture.corner_uv.shape != (len(mesh.faces), 3, 2)
        or not np.isfinite(mesh.texture.corner_uv).all()
    ):
        raise ValueError(
            f"mesh '{mesh.name}': texture: expected an image and finite corner_uv {(len(mesh.faces), 3, 2)}, got an image "
            f"{mesh.texture.rgb.shape} and corner_uv {mesh.texture.corner_uv.shape}; repair the file or drop the texture"
        )


def _across(vertices_m: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """[f 3] face on the other side of the edge opposite each corner, by position; -1 where not exactly two faces meet."""
    across = np.full(faces.shape, -1, np.int64)
    if len(faces) == 0:
        return across
    _, welded = np.unique(vertices_m, axis=0, return_inverse=True)
    ends = np.sort(welded.reshape(-1)[faces[:, [[1, 2], [2, 0], [0, 1]]]], -1).reshape(-1, 2)
    _, edge, count = np.unique(ends, axis=0, return_inverse=True, return_counts=True)
    edge = edge.reshape(-1)
    order = np.argsort(edge, kind="stable")
    pairs = order[count[edge[order]] == 2].reshape(-1, 2)
    across.reshape(-1)[pairs] = pairs[:, ::-1] // 3
    return across


def _planes(meshes: PackedMeshes, vertices_m: np.ndarray) -> np.ndarray:
    """``PackedMeshes.planes`` of other vertices."""
    a, b, c = vertices_m[_own_corners(meshes)].astype(np.float64).transpose(1, 0, 2)
    normals = np.cross(b - a, c - a)
    return np.concatenate([normals.T, -(normals * a).sum(-1)[None]]).astype(np.float32)


def _own_corners(meshes: PackedMeshes) -> np.ndarray:
    """[f 3] index of each corner among all meshes' vertices."""
    return meshes.faces + np.repeat(meshes.vertex_start[:-1], np.diff(meshes.face_start))[:, None]


def _smooth_across(meshes: PackedMeshes, look: np.ndarray) -> np.ndarray:
    """Where what the corners look like is the same on both sides of an edge."""
    smooth = np.full_like(meshes.across, -1)
    mesh_of_face = np.repeat(np.arange(len(meshes.face_start) - 1), np.diff(meshes.face_start))
    points = meshes.vertices_m[_own_corners(meshes)]
    uv = meshes.corner_uv
    for corner in range(3):
        other = meshes.across[:, corner]
        here = np.flatnonzero(other >= 0)
        there = other[here] + meshes.face_start[mesh_of_face[here]]
        same = np.ones(len(here), bool)
        for end in ((corner + 1) % 3, (corner + 2) % 3):
            # which corner of the other face is at the same place
            match = np.abs(points[there] - points[here, end][:, None]).sum(-1).argmin(-1)
            same &= (np.abs(look[there, match] - look[here, end]) < SAME_COLOUR).all(-1)
            same &= (np.abs(uv[there, match] - uv[here, end]) < SAME_COLOUR).all(-1)
        smooth[here[same], corner] = other[here[same]]
    return smooth


def _join(arrays: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.ascontiguousarray(np.concatenate(arrays), dtype=dtype)


def _starts(lengths: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
