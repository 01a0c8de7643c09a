"""Mitsuba's side of ``mitsuba.MitsubaPainter``: its variants, and meshes, scenes and lights as it takes them.

Mitsuba's bitmaps have (0, 0) at the upper left; scenes for path tracing are in the camera's frame (OpenCV's axes).
"""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from inverse_graphics.types import Mesh
from renderers.errors import BackendMissingError
from renderers.painting.baking import bake_colours
from renderers.painting.shots import Shot

INSTALL_COMMAND = 'pip install "mitsuba>=3.9,<4"'
"""What users type to get Mitsuba."""

OLDEST_LLVM = 19
"""The oldest that was tried and draws: 15 and 16 abort the process with "Cannot select" on processors with AVX-512."""

_VARIANT_LOCK = threading.RLock()


def import_mitsuba(variant: str) -> Any:
    """Fail now rather than at the first picture.

    Raises:
        BackendMissingError: Mitsuba cannot be imported.
        OSError: the variant needs a library that cannot be loaded or is too old.
        ValueError: no such RGB variant.
    """
    try:
        import mitsuba as mi
    except ImportError as error:
        raise BackendMissingError("mitsuba", "mitsuba", INSTALL_COMMAND) from error
    known = [name for name in mi.variants() if name.endswith("_rgb")]
    if variant not in known:
        raise ValueError(f"MitsubaPainter: variant must be one of {', '.join(known)}, received {variant!r}; choose one of them")
    needs = f"LLVM {OLDEST_LLVM} or newer (Debian: apt install libllvm{OLDEST_LLVM})" if "llvm" in variant else "a CUDA GPU"
    remedy = f"MitsubaPainter: variant {variant!r} needs {needs}; install it or choose variant 'scalar_rgb', which needs nothing"
    try:
        with use_variant(mi, variant):
            pass
    except ImportError as error:
        raise OSError(f"{remedy}; Mitsuba said: {error}") from error
    if "llvm" in variant:
        import drjit.detail

        if drjit.detail.llvm_version()[0] < OLDEST_LLVM:
            raise OSError(f"{remedy}; found LLVM {drjit.detail.llvm_version()[0]}")
    return mi


@contextmanager
def use_variant(mi: Any, variant: str) -> Iterator[None]:
    """Switch Mitsuba to a variant, and back to that of before if there was one; one thread at a time."""
    with _VARIANT_LOCK:
        before = mi.variant()
        mi.set_variant(variant)
        try:
            yield
        finally:
            if before is not None:
                mi.set_variant(before)


def is_scalar(variant: str) -> bool:
    """Whether Mitsuba takes one ray at a time."""
    return variant.startswith("scalar")


def make_scene(mi: Any, parts: dict[str, Any]) -> Any:
    """A scene whose rays never slip between two faces that share an edge."""
    return mi.load_dict({"type": "scene", "embree_use_robust_intersections": True, **parts})


def bare_mesh(mi: Any, mesh: Mesh) -> Any:
    """Geometry alone."""
    shape = mi.Mesh(mesh.name, len(mesh.vertices_m), len(mesh.faces))
    parameters = mi.traverse(shape)
    parameters["vertex_positions"] = mesh.vertices_m.astype(np.float32).ravel()
    parameters["faces"] = mesh.faces.astype(np.uint32).ravel()
    parameters.update()
    return shape


def vertex_coloured(mi: Any) -> Any:
    """The material of meshes without textures; one for all, as Dr.Jit traces every material of the process for each picture."""
    return _diffuse(mi, {"type": "mesh_attribute", "name": "vertex_color"})


def _diffuse(mi: Any, reflectance: dict[str, Any]) -> Any:
    return mi.load_dict({"type": "twosided", "inside": {"type": "diffuse", "reflectance": reflectance}})


def coloured_mesh(mi: Any, mesh: Mesh, material: Any) -> Any:
    """A diffuse mesh; no two faces share a vertex, as colours and normals belong to corners.

    Args:
        mi: Mitsuba.
        mesh: what to draw.
        material: that of meshes without texture, see ``vertex_coloured``.
    """
    count = 3 * len(mesh.faces)
    texture, filter_type = mesh.texture, "bilinear"
    if texture is not None and (mesh.corner_rgb != mesh.corner_rgb[0, 0]).any():
        texture, filter_type = bake_colours(mesh), "nearest"
    elif texture is not None:
        texture = dataclasses.replace(texture, rgb=texture.rgb * mesh.corner_rgb[0, 0])
    if texture is not None:
        bitmap = mi.Bitmap(np.ascontiguousarray(texture.rgb, np.float32))
        material = _diffuse(
            mi, {"type": "bitmap", "bitmap": bitmap, "raw": True, "filter_type": filter_type, "wrap_mode": "repeat"}
        )
    properties = mi.Properties()
    properties["bsdf"] = material
    uv = texture is not None
    shape = mi.Mesh(mesh.name, count, len(mesh.faces), props=properties, has_vertex_normals=True, has_vertex_texcoords=uv)
    shape.add_attribute("vertex_color", 3, mesh.corner_rgb.astype(np.float32).ravel())
    parameters = mi.traverse(shape)
    parameters["vertex_positions"] = mesh.vertices_m[mesh.faces].astype(np.float32).ravel()
    parameters["vertex_normals"] = mesh.corner_normals.astype(np.float32).ravel()
    if texture is not None:
        parameters["vertex_texcoords"] = (texture.corner_uv * [1, -1] + [0, 1]).astype(np.float32).ravel()
    parameters["faces"] = np.arange(count, dtype=np.uint32)
    parameters.update()
    return shape


def lights(mi: Any, shot: Shot) -> dict[str, Any]:
    """Sky and light in the camera's frame: a white surface that faces the light has radiance ambient + diffuse."""

    def grey(value: float) -> dict[str, Any]:
        return {"type": "rgb", "value": [value] * 3}

    # A light of no strength would still be given half of the samples.
    parts: dict[str, Any] = {}
    if shot.ambient > 0:
        parts["sky"] = {"type": "constant", "radiance": grey(shot.ambient)}
    if shot.diffuse > 0:
        parts["light"] = _light(shot, grey)
    return parts


def _light(shot: Shot, grey: Callable[[float], dict[str, Any]]) -> dict[str, Any]:
    """The far or near light in the camera's frame."""
    R, t = shot.T_camera_world[:3, :3], shot.T_camera_world[:3, 3]
    if shot.position_world is None:
        return {
            "type": "directional",
            "direction": (-R @ shot.direction_world).tolist(),
            "irradiance": grey(math.pi * shot.diffuse),
        }
    squared_m2 = float(shot.position_world @ shot.position_world)
    if squared_m2 == 0:
        raise ValueError(
            "MitsubaPainter: position_world of a near light must not be the world's origin, where its strength is defined, "
            "received [0, 0, 0]; move the light or use lighting 'lambert'"
        )
    position = (R @ shot.position_world + t).tolist()
    return {"type": "point", "position": position, "intensity": grey(math.pi * shot.diffuse * squared_m2)}
