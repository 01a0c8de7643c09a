"""Scenes as GLB files, which Blender, three.js, game engines and web pages open.

glTF has y up.  The root node, ``world``, turns our world into it; the poses of its children are as everywhere in this project:
metres, z up.  One child an object, named ``class_slot``; a mesh that stands in a scene twice is stored once.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float
from PIL import Image
from trimesh.path import Path3D
from trimesh.path.entities import Line
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from inverse_graphics.colours import linear_to_srgb
from inverse_graphics.files import write_bytes
from inverse_graphics.interop.quaternions import check_rigid
from inverse_graphics.types import Camera, Catalogue, Mesh, Objects

T_GLTF_WORLD = np.asarray([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""Our z is glTF's y, our y its -z."""
WORLD_NODE, CAMERA_NODE = "world", "camera"
"""Names of the nodes that are no objects."""


def write_glb(
    path: str | Path, catalogue: Catalogue, objects: Objects, camera: Camera | None = None, frustum_m: float = 0.15
) -> None:
    """Write a scene as a GLB file, atomically; see ``scene_glb``."""
    write_bytes(path, scene_glb(catalogue, objects, camera, frustum_m))


def scene_glb(catalogue: Catalogue, objects: Objects, camera: Camera | None = None, frustum_m: float = 0.15) -> bytes:
    """A scene as a GLB file.

    Args:
        catalogue: the meshes, with their colours and textures.
        objects: [n] of one scene; absent ones are left out.
        camera: [] drawn as a wire frame through the corners of its image; left out where None.
        frustum_m: depth of that frame.

    Raises:
        ValueError: objects of several scenes, or poses that are not rigid.
    """
    if objects.present.dim() != 1:
        raise ValueError(
            f"objects: expected those of one scene [n], received {tuple(objects.present.shape)}; take one with map_tensors."
        )
    T_world_object = objects.T_world_object.detach().cpu().double().numpy()
    present, class_ids = objects.present.cpu().numpy(), objects.class_ids.cpu().numpy()
    check_rigid(T_world_object[present], "objects.T_world_object")
    scene = trimesh.Scene(base_frame="gltf")
    scene.graph.update(frame_from="gltf", frame_to=WORLD_NODE, matrix=T_GLTF_WORLD)
    for slot in np.flatnonzero(present).tolist():
        mesh = catalogue.meshes[class_ids[slot]]
        if mesh.name not in scene.geometry:
            scene.geometry[mesh.name] = to_trimesh(mesh)
        node = f"{mesh.name}_{slot}"
        scene.graph.update(frame_from=WORLD_NODE, frame_to=node, matrix=T_world_object[slot], geometry=mesh.name)
    if camera is not None:
        T_camera_world = camera.T_camera_world.detach().cpu().double().numpy()
        scene.geometry[CAMERA_NODE] = _wire_frame(frustum_corners_m(camera, frustum_m))
        T_world_camera = np.linalg.inv(T_camera_world)
        scene.graph.update(frame_from=WORLD_NODE, frame_to=CAMERA_NODE, matrix=T_world_camera, geometry=CAMERA_NODE)
    content: Any = scene.export(file_type="glb", include_normals=True)
    return bytes(content)


def to_trimesh(mesh: Mesh) -> trimesh.Trimesh:
    """A mesh with a glTF material: metres, object frame; shading normals, linear corner colours (8 bits) and texture kept.

    Vertices are divided where normals, colours or texture coordinates are.
    """
    uv = np.zeros((*mesh.faces.shape, 2), np.float32) if mesh.texture is None else mesh.texture.corner_uv
    colours = np.round(255 * mesh.corner_rgb.clip(0, 1))
    corners = np.concatenate([mesh.vertices_m[mesh.faces], mesh.corner_normals, colours, uv], -1).astype(np.float64)
    rows, index = np.unique(corners.reshape(-1, 11), axis=0, return_inverse=True)
    material = PBRMaterial(
        metallicFactor=0.0, roughnessFactor=0.9, doubleSided=not mesh.watertight, baseColorTexture=_picture(mesh)
    )
    visual = TextureVisuals(uv=rows[:, 9:] if mesh.texture is not None else None, material=material)
    visual.vertex_attributes["color"] = np.concatenate([rows[:, 6:9], np.full((len(rows), 1), 255)], -1).astype(np.uint8)
    return trimesh.Trimesh(
        vertices=rows[:, :3], faces=index.reshape(-1, 3), vertex_normals=rows[:, 3:6], visual=visual, process=False
    )


def frustum_corners_m(camera: Camera, depth_m: float) -> Float[np.ndarray, "5 3"]:
    """The camera's centre and the corners of its image at a depth, clockwise from the upper left, in the camera's frame."""
    K_px = camera.K_px.detach().cpu().double().numpy()
    w, h = camera.width_px, camera.height_px
    corners_px = np.asarray([[0, 0, 1], [w, 0, 1], [w, h, 1], [0, h, 1]], np.float64)
    return np.concatenate([np.zeros((1, 3)), depth_m * corners_px @ np.linalg.inv(K_px).T])


def _wire_frame(corners: Float[np.ndarray, "5 3"]) -> Path3D:
    """Lines from the first point to the others, and round these; the image's upper edge is marked by a triangle."""
    top = (corners[1] + corners[2]) / 2 - 0.3 * (corners[3] - corners[2])
    points = np.concatenate([corners, top[None]])
    lines = [Line(order) for order in ([1, 2, 3, 4, 1], [1, 0, 2], [3, 0, 4], [1, 5, 2])]
    return Path3D(entities=lines, vertices=points, process=False)


def _picture(mesh: Mesh) -> Image.Image | None:
    """The texture as glTF wants it: 8 bits, sRGB."""
    if mesh.texture is None:
        return None
    return Image.fromarray(np.round(255 * linear_to_srgb(mesh.texture.rgb)).astype(np.uint8))
