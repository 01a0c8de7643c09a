"""Whether numbers are poses: rotations, axes and the unit of lengths, many at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float

from inverse_graphics.bop.findings import Findings

ROTATION_TOLERANCE = 1e-3
"""Largest entry of R R^T - I that rounding may explain."""
NEAR_MM, FAR_MM = 10.0, 1e5
"""Distances from the camera beyond which the unit is suspected: 1 cm and 100 m."""
SMALL_MM, LARGE_MM = 1.0, 1e4
"""Diameters of models beyond which the unit is suspected: 1 mm and 10 m."""


def rotation_deviation(R: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "n"]:
    """Largest absolute entry of R R^T - I: 0 for rotations and reflections."""
    return np.abs(R @ np.swapaxes(R, -1, -2) - np.eye(3)).max((-2, -1), initial=0.0)


def check_poses(T_mm: Float[np.ndarray, "n 4 4"], places: list[str], file: Path, found: Findings) -> Bool[np.ndarray, "n"]:
    """Find poses that are none: NaN, reflections, and matrices that are no rotations.

    Args:
        T_mm: poses, translations in millimetres.
        places: where in the file each stands.
        file: the file.
        found: findings are added to it.

    Returns:
        Which poses are good.
    """
    finite = np.asarray(np.all(np.isfinite(T_mm), axis=(1, 2)))
    T = np.where(finite[:, None, None], T_mm, np.eye(4))
    deviation = rotation_deviation(T[:, :3, :3])
    determinant = np.linalg.det(T[:, :3, :3])
    skewed = deviation > ROTATION_TOLERANCE
    mirrored = ~skewed & (determinant < 0)
    for row in np.flatnonzero(~finite):
        found.error("nan", file, places[row], "expected finite numbers, received NaN or infinity", "leave such poses out")
    for row in np.flatnonzero(skewed):
        scale = np.cbrt(determinant[row])
        is_scaled = scale > 0 and rotation_deviation(T[row : row + 1, :3, :3] / scale)[0] < ROTATION_TOLERANCE
        hint = f" (a rotation times {scale:.4g})" if is_scaled else ""
        found.error(
            "rotation",
            file,
            places[row],
            f"expected a rotation, received R with R R^T - I up to {deviation[row]:.3g}{hint}",
            "write the nine numbers of a rotation matrix row by row, without scale",
        )
    for row in np.flatnonzero(mirrored):
        found.error(
            "mirrored",
            file,
            places[row],
            "expected a rotation, received a reflection (determinant -1)",
            "turn the axes to x right, y down, z forward by a rotation instead of flipping one of them",
        )
    return finite & ~skewed & ~mirrored


def check_distances(t_mm: Float[np.ndarray, "n 3"], what: str, file: Path, found: Findings) -> None:
    """Warn where translations are probably in another unit, or in other axes than OpenCV's; by their median.

    Args:
        t_mm: finite positions in the camera's frame.
        what: what they are called in the file.
        file: the file.
        found: findings are added to it.
    """
    if len(t_mm) == 0:
        return
    median_mm = float(np.median(np.linalg.norm(t_mm, axis=-1)))
    if median_mm < NEAR_MM:
        found.warning(
            "unit",
            file,
            what,
            f"expected millimetres, received a median distance of {median_mm:.4g} mm from the camera, as if metres",
            "multiply the translations by 1000",
        )
    elif median_mm > FAR_MM:
        found.warning(
            "unit",
            file,
            what,
            f"expected millimetres, received a median distance of {median_mm / 1000:.4g} m from the camera, as if millimetres "
            "taken for metres",
            "divide the translations by 1000",
        )
    if np.median(t_mm[:, 2]) < 0:
        found.warning(
            "axes",
            file,
            what,
            f"expected objects in front of the camera, received a median z of {np.median(t_mm[:, 2]):.4g} mm",
            "convert OpenGL's axes (z backward) to OpenCV's: negate the y and z rows of each pose",
        )


def check_size(diameter_mm: float, where: str, file: Path, found: Findings) -> None:
    """Warn where a model's size is probably in another unit."""
    if not SMALL_MM <= diameter_mm <= LARGE_MM:
        small = diameter_mm < SMALL_MM
        size = (
            f"{diameter_mm:.4g} mm, as if metres" if small else f"{diameter_mm / 1000:.4g} m, as if millimetres taken for metres"
        )
        found.warning(
            "unit",
            file,
            where,
            f"expected a model in millimetres, received a diameter of {size}",
            f"{'multiply' if small else 'divide'} its lengths by 1000 (a box of 300 m is a mug in mm)",
        )
