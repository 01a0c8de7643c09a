"""The catalogue on a device: packed meshes and their textures as tensors."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_graphics.types import Catalogue
from renderers.raster.meshes import SAME_COLOUR, PackedMeshes, pack_meshes


@dataclass(frozen=True)
class DeviceMeshes:
    """All meshes of a catalogue end to end, on one device."""

    vertices_m: Float[Tensor, "v 3"]
    """Object frame, float32."""
    faces: Int[Tensor, "f 3"]
    """Indices within the face's own mesh, int32."""
    corner_rgb: Float[Tensor, "f 3 3"]
    """Linear colour of each corner, float32."""
    corner_normals: Float[Tensor, "f 3 3"]
    """Unit normal of each corner, float32."""
    corner_uv: Float[Tensor, "f 3 2"]
    """Texture coordinates of each corner, 0 where the mesh has no texture, float32."""
    texels: Float[Tensor, "t 3"]
    """Textures end to end, rows from the top, float32; never empty."""
    texture_start: Int[Tensor, "k"]
    """First texel of each mesh, int32."""
    texture_width: Int[Tensor, "k"]
    """Texels in a row, 0 where the mesh has no texture, int32."""
    texture_height: Int[Tensor, "k"]
    """Rows of texels, int32."""
    vertex_start: Int[Tensor, "k_plus_1"]
    """Mesh i owns vertices vertex_start[i] : vertex_start[i + 1], int32."""
    face_start: Int[Tensor, "k_plus_1"]
    """Likewise for faces, int32."""
    cull_back: Int[Tensor, "k"]
    """1 where the mesh is closed, so that faces turned away are never seen from outside, int32."""
    smooth_across: Int[Tensor, "f 3"]
    """Face (of its own mesh) over the edge opposite each corner where colour and normal go on without a step, else -1; int32."""
    twins: Int[Tensor, "f 3 2"]
    """Where the ends of the edge opposite each corner lie in the face over it, as 3 * face + corner; -1 where none or where the
    texture has a step; int64."""
    corner_start: Int[Tensor, "v_plus_1"]
    """Vertex i is at the corners ``corners[corner_start[i] : corner_start[i + 1]]``, int32."""
    corners: Int[Tensor, "c"]
    """Corners as 3 * face + corner, vertex by vertex, int32."""
    most_vertices: int
    """Vertices of the largest mesh, at least 1."""
    most_faces: int
    """Faces of the mesh that has most, at least 1."""


def pack_for_device(catalogue: Catalogue, device: torch.device) -> DeviceMeshes:
    """Pack a catalogue and copy it to a device.

    Raises:
        ValueError: what ``pack_meshes`` refuses.
    """
    packed = pack_meshes(catalogue)
    starts, heights, widths = packed.textures.T
    mesh = np.repeat(np.arange(len(catalogue)), np.diff(packed.face_start))
    at = (packed.faces + packed.vertex_start[mesh][:, None]).reshape(-1)
    texels = np.concatenate([packed.texels, np.ones((1, 3), np.float32)])

    def tensor(array: np.ndarray, dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device, dtype)

    return DeviceMeshes(
        vertices_m=tensor(packed.vertices_m, torch.float32),
        faces=tensor(packed.faces, torch.int32),
        corner_rgb=tensor(packed.corner_rgb, torch.float32),
        corner_normals=tensor(packed.corner_normals, torch.float32),
        corner_uv=tensor(packed.corner_uv, torch.float32),
        texels=tensor(texels, torch.float32),
        texture_start=tensor(starts, torch.int32),
        texture_width=tensor(widths, torch.int32),
        texture_height=tensor(heights, torch.int32),
        vertex_start=tensor(packed.vertex_start, torch.int32),
        face_start=tensor(packed.face_start, torch.int32),
        cull_back=tensor(packed.cull_back, torch.int32),
        smooth_across=tensor(packed.smooth_across, torch.int32),
        corner_start=tensor(np.concatenate([[0], np.cumsum(np.bincount(at, minlength=len(packed.vertices_m)))]), torch.int32),
        corners=tensor(np.argsort(at, kind="stable"), torch.int32),
        twins=tensor(_twins(packed), torch.int64),
        most_vertices=max(1, int(np.diff(packed.vertex_start).max())),
        most_faces=max(1, int(np.diff(packed.face_start).max())),
    )


def with_surfaces(meshes: DeviceMeshes, vertices_m: Tensor, corner_rgb: Tensor, corner_normals: Tensor) -> DeviceMeshes:
    """The same meshes with other vertex positions, colours and normals; on their device, without waiting for it."""
    look = torch.cat([corner_rgb, corner_normals], -1)
    # opposite corner i lie the corners i + 1 and i + 2
    ends = torch.stack([look.roll(-1, 1), look.roll(-2, 1)], 2)
    there = look.flatten(0, 1)[meshes.twins.clamp(min=0)]
    same = (((there - ends).abs() < SAME_COLOUR).all(-1) & (meshes.twins >= 0)).all(-1)
    # the face is a twin's, counted from the first of its mesh
    faces = torch.arange(len(look), device=look.device)
    mesh = (torch.bucketize(faces, meshes.face_start.to(torch.int64), right=True) - 1)[:, None]
    across = meshes.twins[..., 0] // 3 - meshes.face_start.to(torch.int64)[mesh]
    return dataclasses.replace(
        meshes,
        vertices_m=vertices_m,
        corner_rgb=corner_rgb,
        corner_normals=corner_normals,
        smooth_across=torch.where(same, across, -1).to(torch.int32),
    )


def _twins(packed: PackedMeshes) -> np.ndarray:
    """[f 3 2] see ``DeviceMeshes.twins``; the ends of the edge opposite corner i are the corners i + 1 and i + 2."""
    twins = np.full((*packed.across.shape, 2), -1, np.int64)
    mesh = np.repeat(np.arange(len(packed.face_start) - 1), np.diff(packed.face_start))
    points = packed.vertices_m[packed.faces + packed.vertex_start[mesh][:, None]]
    for corner in range(3):
        here = np.flatnonzero(packed.across[:, corner] >= 0)
        there = packed.across[here, corner] + packed.face_start[mesh[here]]
        ends = [(corner + 1) % 3, (corner + 2) % 3]
        match = np.abs(points[there][:, None] - points[here][:, ends, None]).sum(-1).argmin(-1)
        step = np.abs(packed.corner_uv[there[:, None], match] - packed.corner_uv[here][:, ends]).max((1, 2), initial=0)
        found = 3 * there[:, None] + match
        twins[here, corner] = np.where((step < SAME_COLOUR)[:, None], found, -1)
    return twins
