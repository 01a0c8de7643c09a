"""What each mesh occupies: the convex hull of its footprint on the table, and a bounding sphere."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import ConvexHull

from inverse_graphics.types import Mesh


@dataclass(frozen=True)
class Footprints:
    """Shapes of k classes, padded to the same number of corners so that kernels can index them."""

    corners_m: Float[np.ndarray, "k p 2"]
    """Corners of the convex hull of the vertices' (x, y) in the object frame, counter-clockwise; padding repeats the last."""
    corner_counts: Int[np.ndarray, "k"]
    """Corners that count."""
    radii_m: Float[np.ndarray, "k"]
    """Largest distance of a corner from the object's z axis."""
    sphere_centres_m: Float[np.ndarray, "k 3"]
    """Middle of the bounding box, object frame."""
    sphere_radii_m: Float[np.ndarray, "k"]
    """Largest distance of a vertex from there."""
    reaches_m: Float[np.ndarray, "k"]
    """Largest distance of a vertex from the z axis (upright) or from the origin (free)."""


def convex_footprint(mesh: Mesh) -> Float[np.ndarray, "p 2"]:
    """Corners of the convex hull of a mesh's vertices seen from above, counter-clockwise, in its object frame.

    Raises:
        ValueError: the vertices lie on one vertical line or plane.
    """
    xy_m = np.asarray(mesh.vertices_m, dtype=np.float64)[:, :2]
    extents = np.linalg.svd(xy_m - xy_m.mean(0), compute_uv=False) if len(xy_m) >= 3 else np.zeros(2)
    if extents[-1] <= 1e-9:
        raise ValueError(
            f"mesh {mesh.name!r}: expected a footprint with an area, received {len(xy_m)} vertices on one vertical plane; "
            "give the mesh a thickness or use free placement."
        )
    return xy_m[ConvexHull(xy_m).vertices]


def footprints(meshes: tuple[Mesh, ...], upright: bool) -> Footprints:
    """Shapes of the meshes.

    Args:
        meshes: one a class, not empty.
        upright: whether the hulls are needed; without them the footprints are single points.
    """
    hulls = [convex_footprint(mesh) if upright else np.zeros((1, 2)) for mesh in meshes]
    width = max(len(hull) for hull in hulls)
    vertices = [np.asarray(mesh.vertices_m, dtype=np.float64) for mesh in meshes]
    centres = np.stack([(v.min(0) + v.max(0)) / 2 for v in vertices])
    axes = 2 if upright else 3
    return Footprints(
        corners_m=np.stack([np.pad(hull, ((0, width - len(hull)), (0, 0)), mode="edge") for hull in hulls]),
        corner_counts=np.array([len(hull) for hull in hulls]),
        radii_m=np.array([np.linalg.norm(hull, axis=1).max() for hull in hulls]),
        sphere_centres_m=centres,
        sphere_radii_m=np.array([np.linalg.norm(v - c, axis=1).max() for v, c in zip(vertices, centres, strict=True)]),
        reaches_m=np.array([np.linalg.norm(v[:, :axes], axis=1).max() for v in vertices]),
    )
