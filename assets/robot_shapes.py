"""What robot and scene descriptions are made of: primitive shapes, and surfaces painted and moved into a part's frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import trimesh
from jaxtyping import Float

from assets.colours import srgb_to_linear
from assets.meshfiles import TexturedSurface

Parts = dict[str, Callable[[], list[TexturedSurface]]]
"""What reads each part of a file, by the part's name."""
SEGMENTS = 32
"""Corners of a cylinder's rim."""


def box(size_m: tuple[float, float, float]) -> trimesh.Trimesh:
    """A box about the origin."""
    return trimesh.creation.box(extents=size_m)


def ball(radii_m: tuple[float, float, float]) -> trimesh.Trimesh:
    """A ball, or an ellipsoid, about the origin."""
    shape = trimesh.creation.icosphere(subdivisions=3, radius=1.0)
    shape.vertices = shape.vertices * np.asarray(radii_m)
    return shape


def cylinder(radius_m: float, length_m: float) -> trimesh.Trimesh:
    """A cylinder along z about the origin."""
    return trimesh.creation.cylinder(radius=radius_m, height=length_m, sections=SEGMENTS)


def capsule(radius_m: float, length_m: float) -> trimesh.Trimesh:
    """A capsule along z about the origin; the length is that of its cylinder."""
    shape = trimesh.creation.capsule(height=length_m, radius=radius_m, count=[SEGMENTS, SEGMENTS])
    shape.vertices = shape.vertices - shape.bounds.mean(0)
    return shape


def painted(shape: trimesh.Trimesh, rgb_srgb: Float[np.ndarray, "3"]) -> TexturedSurface:
    """A shape of one colour."""
    faces = np.asarray(shape.faces, np.int64)
    corner_rgb = np.broadcast_to(srgb_to_linear(rgb_srgb), (len(faces), 3, 3)).copy()
    return TexturedSurface(np.asarray(shape.vertices, np.float64), faces, corner_rgb, np.zeros((len(faces), 3, 2)), None)


def moved(piece: TexturedSurface, T_part_piece: Float[np.ndarray, "4 4"]) -> TexturedSurface:
    """A surface in its part's frame; a transform that mirrors keeps the outside outside."""
    A, t = T_part_piece[:3, :3], T_part_piece[:3, 3]
    vertices = piece.vertices @ A.T + t
    if np.linalg.det(A) > 0:
        return dataclasses.replace(piece, vertices=vertices)
    turned = {name: getattr(piece, name)[:, ::-1] for name in ("faces", "corner_rgb", "corner_uv")}
    return TexturedSurface(vertices, turned["faces"], turned["corner_rgb"], turned["corner_uv"], piece.texture)
