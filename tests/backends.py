"""Every backend for the contract suite: how it is built, and how far from docs/conventions.md it may be."""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import dataclass

import numpy as np
import own_function
import pytest

from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Catalogue
from renderers import BackendMissingError, BackendOptions, RasterRenderer, load_renderer
from renderers.loading import PAINTERS, painter_factory
from renderers.painting.pictures import PictureRenderer
from renderers.painting.shots import Painter
from renderers.raster.warp import WarpRasterRenderer


@dataclass(frozen=True)
class Bounds:
    """Largest errors of a backend's colours and depths.  Where objects are, and which is seen, is held to one bound for all."""

    flat: float = 1e-4
    """Colour of a plain face under a far light."""
    corners: float = 2e-4
    """Colours that differ from corner to corner."""
    texture: float = 4e-4
    """Texture, as it lies between texels' centres."""
    edges: float = 2e-4
    """Texture whose neighbouring texels have nothing in common."""
    smooth: float = 0.02
    """Smooth shading of a sphere of 1280 faces against the sphere's own normals."""
    near_plane: float = 3e-4
    """Near light on a plain face."""
    near_sphere: float = 0.02
    """Near light on that sphere."""
    near_far: float = 1e-3
    """A near light ten kilometres away against one that is far away."""
    company: float = 1e-5
    """Colour that changes by what is drawn beside it or in a larger picture."""
    agree: float = 5e-3
    """Colour against raster's, on 99 % of the pixels."""
    agree_lit: float = 5e-3
    """The same with textures and near lights."""


BOUNDS = {
    "raster": Bounds(),
    # on Warp's CPU device
    "raster-cuda": Bounds(),
    "pytorch3d": Bounds(),
    "open3d": Bounds(),
    "mitsuba": Bounds(),
    # tests/own_function.py
    "callable": Bounds(),
    # colours and textures have 8 bits, light is computed at corners of divided faces; depth's last bit
    # depends on the place in a buffer
    "mujoco": Bounds(
        flat=4e-3,
        corners=6e-3,
        texture=6e-3,
        edges=6e-3,
        smooth=0.025,
        near_plane=0.01,
        near_sphere=0.025,
        company=6e-3,
        agree=0.02,
        agree_lit=0.02,
    ),
    # 8 bits, three times rounded down; nearest texel of a baked image; a near light is far away for each object
    "pybullet": Bounds(
        flat=6e-3,
        corners=0.015,
        texture=0.015,
        edges=0.22,
        near_plane=0.25,
        near_sphere=0.28,
        agree=0.01,
        agree_lit=0.11,
    ),
    # 8 bits, light is computed at the corners of faces as they are
    "open3d-offscreen": Bounds(
        flat=2e-3, corners=3e-3, smooth=0.025, near_plane=0.09, near_sphere=0.025, agree=0.022, agree_lit=0.022
    ),
}

PACKAGES = {
    "raster-cuda": "warp",
    "pytorch3d": "pytorch3d",
    "open3d": "open3d",
    "open3d-offscreen": "open3d",
    "mujoco": "mujoco",
    "mitsuba": "mitsuba",
    "pybullet": "pybullet",
}
"""What backends import beyond the dependencies."""

WITHOUT_TEXTURES = ("open3d-offscreen",)
"""Backends that refuse meshes with textures."""

_painters: dict[tuple[str, bytes], Painter] = {}


def build(name: str, catalogue: Catalogue, samples_per_axis: int = 1) -> Renderer:
    """The backend without gradients; one painter a catalogue for the whole session."""
    if name in PACKAGES and importlib.util.find_spec(PACKAGES[name]) is None:
        pytest.skip(f"{PACKAGES[name]} is not installed")
    if name == "raster":
        return RasterRenderer(catalogue, samples_per_axis)
    if name == "raster-cuda":
        return WarpRasterRenderer(catalogue, samples_per_axis)
    if name not in PAINTERS:
        return load_renderer(name, catalogue, samples_per_axis, "none")
    return PictureRenderer(painter_of(name, catalogue), catalogue, samples_per_axis)


def painter_of(name: str, catalogue: Catalogue) -> Painter:
    """A painter that was made for equal meshes, or another."""
    key = name, digest(catalogue)
    if key not in _painters:
        options = BackendOptions(function=f"{own_function.__file__}:draw" if name == "callable" else None)
        try:
            _painters[key] = painter_factory(name, catalogue, options)()
        except BackendMissingError as error:
            # a graphics driver is a matter of the machine; packages were looked for above
            pytest.skip(str(error))
    return _painters[key]


def digest(catalogue: Catalogue) -> bytes:
    """Equal for equal meshes."""
    found = hashlib.sha256()
    for mesh in catalogue.meshes:
        arrays = [mesh.vertices_m, mesh.faces, mesh.corner_rgb, mesh.corner_normals]
        arrays += [] if mesh.texture is None else [mesh.texture.corner_uv, mesh.texture.rgb]
        for array in arrays:
            found.update(f"{mesh.name} {mesh.watertight} {array.dtype} {array.shape}".encode())
            found.update(np.ascontiguousarray(array).tobytes())
    return found.digest()
