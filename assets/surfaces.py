"""Closed coloured surfaces: rings of points stitched together, and boxes of coloured cells.

Faces are counter-clockwise seen from outside; lengths are in metres, colours linear.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from inverse_graphics.types import Texture


@dataclass(frozen=True)
class Surface:
    """Triangles with a colour at each corner, and an image on them where that is not enough."""

    vertices_m: Float[np.ndarray, "v 3"]
    """Positions; neighbouring faces share their vertices."""
    faces: Int[np.ndarray, "f 3"]
    """Vertex indices."""
    corner_rgb: Float[np.ndarray, "f 3 3"]
    """Linear colour at each corner of each face."""
    texture: Texture | None = None
    """An image that multiplies the corner colours; None where they say it all."""


def join(surfaces: Sequence[Surface]) -> Surface:
    """Put several surfaces into one, as they are (they may run into each other).

    Raises:
        ValueError: a surface has a texture.
    """
    textured = [index for index, surface in enumerate(surfaces) if surface.texture is not None]
    if textured:
        raise ValueError(f"surfaces: expected corner colours only, got textures at {textured}; join first, then add one texture")
    starts = np.cumsum([0] + [len(surface.vertices_m) for surface in surfaces[:-1]])
    return Surface(
        np.concatenate([surface.vertices_m for surface in surfaces]),
        np.concatenate([surface.faces + start for surface, start in zip(surfaces, starts, strict=True)]),
        np.concatenate([surface.corner_rgb for surface in surfaces]),
    )


def stitch(rings: Sequence[Float[np.ndarray, "_ 3"]], band_rgb: Float[np.ndarray, "bands #segments 3"]) -> Surface:
    """Join consecutive rings of points by bands of triangles.

    Args:
        rings: each [segments 3], or [1 3] for a pole that closes the surface.  Seen against the direction of travel, points go
            round counter-clockwise.
        band_rgb: linear colours of the len(rings) - 1 bands, for all or for each of the quads round a ring.
    """
    segments = max(len(ring) for ring in rings)
    starts = np.cumsum([0] + [len(ring) for ring in rings])
    here, after = np.arange(segments), (np.arange(segments) + 1) % segments
    colours = np.broadcast_to(band_rgb, (len(rings) - 1, segments, 3))
    faces, corner_rgb = [], []
    for band in range(len(rings) - 1):
        low, high = (starts[i] + (np.stack([here, after]) if len(rings[i]) > 1 else 0 * here) for i in (band, band + 1))
        if len(rings[band]) > 1:
            tip = high if len(rings[band + 1]) == 1 else high[1]
            faces.append(np.stack([low[0], low[1], tip], -1))
            corner_rgb.append(colours[band])
        if len(rings[band + 1]) > 1:
            base = low if len(rings[band]) == 1 else low[0]
            faces.append(np.stack([base, high[1], high[0]], -1))
            corner_rgb.append(colours[band])
    rgb = np.concatenate(corner_rgb)
    return Surface(np.concatenate(rings), np.concatenate(faces), np.repeat(rgb[:, None], 3, 1))


def lathe(
    profile_m: Sequence[tuple[float, float]],
    band_rgb: Sequence[Float[np.ndarray, "... 3"]],
    segments: int = 24,
    phase_rad: float = 0.0,
) -> Surface:
    """Turn a profile of (radius, height) points about the z axis.

    Args:
        profile_m: points of which the outside lies to the right; radius 0 is a pole.  The surface closes where both ends are
            poles or the last point is the first.
        band_rgb: linear colours of the len(profile_m) - 1 bands, [3] or [segments 3] each.
        segments: number of corners of a ring.
        phase_rad: direction of the first corner.
    """
    angle = phase_rad + 2 * np.pi * np.arange(segments) / segments
    circle = np.stack([np.cos(angle), np.sin(angle), np.zeros(segments)], -1)
    rings = [np.asarray([[0.0, 0.0, z]]) if r == 0 else r * circle + [0.0, 0.0, z] for r, z in profile_m]
    colours = np.stack([np.broadcast_to(rgb, (segments, 3)) for rgb in band_rgb])
    surface = stitch(rings, colours)
    if profile_m[0] != profile_m[-1]:
        return surface
    last = len(surface.vertices_m) - segments
    faces = np.where(surface.faces >= last, surface.faces - last, surface.faces)
    return Surface(surface.vertices_m[:last], faces, surface.corner_rgb)


def tube(
    centres_m: Float[np.ndarray, "n 3"],
    radii_m: Float[np.ndarray, "#n 2"],
    band_rgb: Float[np.ndarray, "#bands 3"],
    sides: int = 8,
) -> Surface:
    """Sweep an ellipse along a curve in a plane of constant y, with flat ends.

    Args:
        centres_m: points of the curve.
        radii_m: half axes of the ellipse within that plane and along y.
        band_rgb: linear colours of the n + 1 bands, both ends included.
        sides: number of corners of the ellipse.
    """
    tangent = np.gradient(centres_m, axis=0)
    tangent /= np.linalg.norm(tangent, axis=-1, keepdims=True)
    across = np.asarray([0.0, 1.0, 0.0])
    normal = np.cross(across, tangent)
    angle = 2 * np.pi * (np.arange(sides) + 0.5) / sides
    radii = np.broadcast_to(radii_m, (len(centres_m), 2))
    offset = radii[:, :1, None] * np.cos(angle)[:, None] * normal[:, None] + radii[:, 1:, None] * np.sin(angle)[:, None] * across
    rings = [centres_m[:1], *(centres_m[:, None] + offset), centres_m[-1:]]
    return stitch(rings, np.broadcast_to(band_rgb, (len(centres_m) + 1, 3))[:, None])


def cell_box(
    edges_m: tuple[Sequence[float], Sequence[float], Sequence[float]],
    cell_rgb: Callable[[int, int, int, int], Float[np.ndarray, "3"]],
) -> Surface:
    """Make a box of which every side is a grid of rectangles.

    Args:
        edges_m: positions of the grid lines along x, y and z, rising.
        cell_rgb: linear colour of a cell from (axis of the side's normal, its sign, and the cell's indices along the two
            following axes in cyclic order).
    """
    vertices, index, faces, colours = [], {}, [], []

    def vertex(cell: tuple[int, int, int]) -> int:
        if cell not in index:
            index[cell] = len(vertices)
            vertices.append([edges_m[axis][cell[axis]] for axis in range(3)])
        return index[cell]

    for axis in range(3):
        second, third = (axis + 1) % 3, (axis + 2) % 3
        for sign, level in ((-1, 0), (1, len(edges_m[axis]) - 1)):
            for i, j in np.ndindex(len(edges_m[second]) - 1, len(edges_m[third]) - 1):
                quad = []
                for di, dj in ((0, 0), (1, 0), (1, 1), (0, 1))[::sign]:
                    place = {axis: level, second: i + di, third: j + dj}
                    quad.append(vertex((place[0], place[1], place[2])))
                faces += [[quad[0], quad[1], quad[2]], [quad[0], quad[2], quad[3]]]
                colours += [cell_rgb(axis, sign, i, j)] * 2
    return Surface(np.asarray(vertices), np.asarray(faces), np.repeat(np.asarray(colours)[:, None], 3, 1))
