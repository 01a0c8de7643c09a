"""Shading in torch: from the faces that a rasteriser met at each sample to their colours.

The stages are gather (a catalogue's meshes and the objects to draw as flat tensors), interpolate (colour, texture and normal at a
fragment) and light, as ``Texture`` and ``Light`` define them.  All of it is in the object's frame and in perspective-correct
barycentric coordinates, so no axes of a backend are seen here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import normalize

from inverse_graphics.types import Catalogue, Mesh, Objects, Texture, View


@dataclass(frozen=True)
class PackedTextures:
    """The images of a catalogue's meshes one after the other; a mesh without one has a single white texel."""

    texels_rgb: Float[Tensor, "t 3"]
    """Linear colours, row by row, top row first."""
    corner_uv: Float[Tensor, "f 3 2"]
    """Texture coordinates at each corner, (0, 0) at the lower left."""
    first_texel: Int[Tensor, "f"]
    """Where the image of each face starts."""
    size: Int[Tensor, "f 2"]
    """Height and width of the image of each face."""


@dataclass(frozen=True)
class PackedMeshes:
    """A catalogue's meshes one after the other, on one device."""

    vertices_m: Float[Tensor, "v 3"]
    """Object frame."""
    corners_m: Float[Tensor, "f 3 3"]
    """Position of each corner of each face, object frame."""
    corner_rgb: Float[Tensor, "f 3 3"]
    """Linear colour at each corner."""
    corner_normals: Float[Tensor, "f 3 3"]
    """Shading normal at each corner, object frame."""
    face_normals: Float[Tensor, "f 3"]
    """Normal by the order of the corners (any length), object frame."""
    vertex_range: Int[Tensor, "c 2"]
    """First vertex and number of vertices of each class."""
    face_range: Int[Tensor, "c 2"]
    """First face and number of faces of each class."""
    faces: tuple[Int[Tensor, "_ 3"], ...]
    """Each class's faces, as indices into its own vertices."""
    textures: PackedTextures | None
    """Images that multiply the corner colours; None where no mesh has one."""


@dataclass(frozen=True)
class Instances:
    """The k objects of one call, with what each of them is seen by."""

    class_ids: Int[Tensor, "k"]
    """Index into the catalogue."""
    T_world_object: Float[Tensor, "k 4 4"]
    """Object to world."""
    K_px: Float[Tensor, "k 3 3"]
    """Intrinsics in pixels of the image."""
    T_camera_world: Float[Tensor, "k 4 4"]
    """World to camera."""
    direction_world: Float[Tensor, "k 3"]
    """Towards a light that is far away."""
    ambient: Float[Tensor, "k"]
    """Ambient intensity."""
    diffuse: Float[Tensor, "k"]
    """Diffuse intensity."""
    position_world: Float[Tensor, "k 3"] | None
    """Where a near light stands, in metres; None for lights that are far away."""


@dataclass(frozen=True)
class Fragments:
    """The faces met at every sample, nearest first."""

    face: Int[Tensor, "k hs ws faces_per_pixel"]
    """Index into the catalogue's faces, -1 where there is none."""
    depth_m: Float[Tensor, "k hs ws faces_per_pixel"]
    """z-depth."""
    barycentric: Float[Tensor, "k hs ws faces_per_pixel 3"]
    """Perspective-correct weights of the corners."""
    squared_distance_ndc: Float[Tensor, "k hs ws faces_per_pixel"]
    """Squared distance to the face's border, negative inside, in the backend's unit."""


def pack_meshes(catalogue: Catalogue, device: torch.device) -> PackedMeshes:
    """Catalogue as float32 tensors, meshes one after the other."""
    meshes = catalogue.meshes
    vertices = torch.tensor([len(mesh.vertices_m) for mesh in meshes], device=device)
    faces = torch.tensor([len(mesh.faces) for mesh in meshes], device=device)
    corners_m = _join([mesh.vertices_m[mesh.faces] for mesh in meshes], device)
    return PackedMeshes(
        vertices_m=_join([mesh.vertices_m for mesh in meshes], device),
        corners_m=corners_m,
        corner_rgb=_join([mesh.corner_rgb for mesh in meshes], device),
        corner_normals=_join([mesh.corner_normals for mesh in meshes], device),
        face_normals=torch.linalg.cross(corners_m[:, 1] - corners_m[:, 0], corners_m[:, 2] - corners_m[:, 0]),
        vertex_range=torch.stack([vertices.cumsum(0) - vertices, vertices], -1),
        face_range=torch.stack([faces.cumsum(0) - faces, faces], -1),
        faces=tuple(torch.as_tensor(mesh.faces, dtype=torch.int64, device=device) for mesh in meshes),
        textures=_pack_textures(meshes, device) if any(mesh.texture is not None for mesh in meshes) else None,
    )


def _join(arrays: list[np.ndarray], device: torch.device) -> Tensor:
    """Arrays one after the other, as one float32 tensor."""
    return torch.cat([torch.as_tensor(array, dtype=torch.float32) for array in arrays]).to(device)


def _pack_textures(meshes: tuple[Mesh, ...], device: torch.device) -> PackedTextures:
    """Images one after the other; at least one mesh has one."""
    white = np.ones((1, 1, 3), np.float32)
    textures = [mesh.texture or Texture(np.zeros((len(mesh.faces), 3, 2), np.float32), white) for mesh in meshes]
    shapes = [texture.rgb.shape[:2] for texture in textures]
    owner = torch.repeat_interleave(torch.arange(len(meshes)), torch.tensor([len(mesh.faces) for mesh in meshes]))
    texels = torch.tensor([height * width for height, width in shapes])
    return PackedTextures(
        texels_rgb=_join([texture.rgb.reshape(-1, 3) for texture in textures], device),
        corner_uv=_join([texture.corner_uv for texture in textures], device),
        first_texel=(texels.cumsum(0) - texels)[owner].to(device),
        size=torch.tensor(shapes)[owner].to(device),
    )


def check_textures(catalogue: Catalogue) -> None:
    """Refuse textures that cannot be looked up.

    Raises:
        ValueError: a texture is empty, does not fit its mesh, or has coordinates that are not finite; names the mesh.
    """
    for mesh in catalogue.meshes:
        texture, expected = mesh.texture, (len(mesh.faces), 3, 2)
        if texture is None:
            continue
        if texture.rgb.size == 0 or texture.corner_uv.shape != expected:
            raise ValueError(
                f"mesh {mesh.name!r}: expected a texture with texels and corner_uv {expected}, received an image "
                f"{texture.rgb.shape} and corner_uv {texture.corner_uv.shape}; give one coordinate to each corner of each face"
            )
        if not np.isfinite(texture.corner_uv).all():
            raise ValueError(f"mesh {mesh.name!r}: expected finite texture.corner_uv, received NaN or infinity; unwrap it anew")


def select_instances(objects: Objects, view: View, index: Int[Tensor, "k"]) -> Instances:
    """Gather objects by their flat index over [*b n], and for each its scene's camera and light."""
    *batch, slots = objects.present.shape
    scene = index // max(slots, 1)
    camera, light = view.camera, view.light
    position = light.position_world
    return Instances(
        class_ids=objects.class_ids.reshape(-1)[index].long(),
        T_world_object=objects.T_world_object.reshape(-1, 4, 4)[index],
        K_px=camera.K_px.expand(*batch, 3, 3).reshape(-1, 3, 3)[scene],
        T_camera_world=camera.T_camera_world.expand(*batch, 4, 4).reshape(-1, 4, 4)[scene],
        direction_world=light.direction_world.expand(*batch, 3).reshape(-1, 3)[scene],
        ambient=light.ambient.expand(batch).reshape(-1)[scene],
        diffuse=light.diffuse.expand(batch).reshape(-1)[scene],
        position_world=None if position is None else position.expand(*batch, 3).reshape(-1, 3)[scene],
    )


def shade(meshes: PackedMeshes, instances: Instances, fragments: Fragments) -> Float[Tensor, "k hs ws faces_per_pixel 3"]:
    """Colour of every fragment as ``Texture`` and ``Light`` define it; 0 where there is no face.

    A face seen from behind is shaded with its normals turned round.  Carries gradients to the barycentric coordinates, to the
    objects' poses and to the light.
    """
    hit = fragments.face >= 0
    owner, face = hit.nonzero()[:, 0], fragments.face[hit]
    weights = fragments.barycentric[hit][..., None]
    albedo = (weights * meshes.corner_rgb[face]).sum(-2)
    if meshes.textures is not None:
        albedo = albedo * look_up(meshes.textures, face, (weights * meshes.textures.corner_uv[face]).sum(-2))
    normal = normalize((weights * meshes.corner_normals[face]).sum(-2), dim=-1)
    cosine = (normal * _towards_light(meshes, instances, owner, face, weights)).sum(-1)
    to_camera = _cameras_in_object(instances).to(normal.dtype)[owner] - meshes.corners_m[face, 0]
    seen_from_behind = (to_camera * meshes.face_normals[face]).sum(-1) < 0
    cosine = torch.where(seen_from_behind, -cosine, cosine).clamp(min=0)
    intensity = instances.ambient.to(normal.dtype)[owner] + instances.diffuse.to(normal.dtype)[owner] * cosine
    colours = albedo.new_zeros(*fragments.face.shape, 3)
    colours[hit] = albedo * intensity[:, None]
    return colours


def look_up(textures: PackedTextures, face: Int[Tensor, "m"], uv: Float[Tensor, "m 2"]) -> Float[Tensor, "m 3"]:
    """Bilinear look-up: texel centres at half numbers, (0, 0) at the lower left, repeated; gradients to the coordinates."""
    height, width = textures.size[face].unbind(-1)
    x, y = uv[:, 0] * width - 0.5, (1 - uv[:, 1]) * height - 0.5
    column, row = x.detach().floor(), y.detach().floor()
    right, down = (x - column)[:, None], (y - row)[:, None]
    column, row = column.long(), row.long()

    def texel(rows_down: int, columns_right: int) -> Tensor:
        inside = (row + rows_down).remainder(height) * width + (column + columns_right).remainder(width)
        return textures.texels_rgb[textures.first_texel[face] + inside]

    upper = (1 - right) * texel(0, 0) + right * texel(0, 1)
    lower = (1 - right) * texel(1, 0) + right * texel(1, 1)
    return (1 - down) * upper + down * lower


def _towards_light(
    meshes: PackedMeshes, instances: Instances, owner: Int[Tensor, "m"], face: Int[Tensor, "m"], weights: Float[Tensor, "m 3 1"]
) -> Float[Tensor, "m 3"]:
    """Unit vector from each fragment's point to its light, object frame."""
    R, dtype = instances.T_world_object[:, :3, :3], weights.dtype
    if instances.position_world is None:
        return (instances.direction_world[:, None, :] @ R)[:, 0].to(dtype)[owner]
    from_origin = instances.position_world - instances.T_world_object[:, :3, 3]
    light_object = (from_origin[:, None, :] @ R)[:, 0].to(dtype)
    return normalize(light_object[owner] - (weights * meshes.corners_m[face]).sum(-2), dim=-1)


def _cameras_in_object(instances: Instances) -> Float[Tensor, "k 3"]:
    """Position of each instance's camera in its object frame; no gradient."""
    T_camera_object = (instances.T_camera_world @ instances.T_world_object).detach()
    return -(T_camera_object[:, None, :3, 3] @ T_camera_object[:, :3, :3])[:, 0]
