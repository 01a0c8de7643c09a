"""Catalogue meshes as files that other programs read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh
from PIL import Image
from trimesh.visual.color import ColorVisuals
from trimesh.visual.material import PBRMaterial
from trimesh.visual.texture import TextureVisuals

from inverse_graphics.colours import linear_to_srgb
from inverse_graphics.types import Mesh


def write_glb(mesh: Mesh, path: Path) -> None:
    """Write a mesh as binary glTF: metres, its own axes (z up), every face with corners of its own.

    Corner colours are linear, 8 bits (glTF's COLOR_0); a texture is sRGB, 8 bits, and multiplied by them.

    Args:
        mesh: what to write.
        path: file to write, ending in .glb.
    """
    corners = mesh.vertices_m[mesh.faces].reshape(-1, 3)
    rgb = np.round(mesh.corner_rgb.reshape(-1, 3).clip(0, 1) * 255)
    rgba = np.concatenate([rgb, np.full((len(rgb), 1), 255)], 1).astype(np.uint8)
    shape = trimesh.Trimesh(
        corners, np.arange(len(corners)).reshape(-1, 3), vertex_normals=mesh.corner_normals.reshape(-1, 3), process=False
    )
    if mesh.texture is None:
        shape.visual = ColorVisuals(shape, vertex_colors=rgba)
    else:
        image = Image.fromarray(np.round(linear_to_srgb(mesh.texture.rgb) * 255).astype(np.uint8))
        material = PBRMaterial(baseColorTexture=image, metallicFactor=0.0, roughnessFactor=1.0)
        visual = TextureVisuals(uv=mesh.texture.corner_uv.reshape(-1, 2), material=material)
        visual.vertex_attributes["color"] = rgba
        shape.visual = visual
    shape.export(path, include_normals=True)
