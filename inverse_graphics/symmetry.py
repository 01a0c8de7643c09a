"""What an object's symmetries mean for its orientation: the transforms themselves, errors modulo them, and visible yaw.

The set of symmetries is BOP's: {C after D} with D the identity or a discrete transform and C a rotation about a continuous axis.
Everything is float64 numpy.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from inverse_graphics.types import Symmetry

AXIS_TOLERANCE = 1e-3
"""Sine of the angle below which two axes count as parallel, and distance (metres) below which two points coincide."""
MAX_YAW_FOLD = 360
"""The highest order of a rotation symmetry that ``yaw_period`` recognises."""


def symmetry_transforms(symmetry: Symmetry, max_step_rad: float = 0.01) -> Float[np.ndarray, "s 4 4"]:
    """All symmetry transforms of the object frame, the identity first, with continuous axes sampled.

    Args:
        symmetry: s_d discrete transforms and c continuous axes.
        max_step_rad: each continuous axis is sampled by n = ceil(pi / max_step_rad) rotations (315 by default) of 2 pi / n, as in
            bop_toolkit.

    Returns:
        x_object -> x_object transforms (metres): (1 + s_d) of them without continuous axes, else (1 + s_d) * c * n.  Two
        continuous axes are not composed with each other.

    Raises:
        ValueError: if the step is not positive.
    """
    if not max_step_rad > 0:
        raise ValueError(f"symmetry_transforms: expected max_step_rad > 0, received {max_step_rad}; 0.01 is BOP's value.")
    discrete = _with_identity(symmetry)
    if len(symmetry.continuous_axes) == 0:
        return discrete
    count = math.ceil(math.pi / max_step_rad)
    angles = 2 * np.pi / count * np.arange(count)
    sampled = []
    for axis, offset_m in zip(_unit_axes(symmetry), symmetry.continuous_offsets_m, strict=True):
        turns = np.tile(np.eye(4), (count, 1, 1))
        turns[:, :3, :3] = Rotation.from_rotvec(angles[:, None] * axis).as_matrix()
        turns[:, :3, 3] = offset_m - turns[:, :3, :3] @ offset_m
        sampled.append(turns)
    continuous = np.concatenate(sampled)
    return (continuous[None] @ discrete[:, None]).reshape(-1, 4, 4)


def rotation_error_rad(R_est: ArrayLike, R_gt: ArrayLike, symmetry: Symmetry) -> Float[np.ndarray, "*b"]:
    """Smallest angle between an estimated rotation and any equivalent of the true one, 0..pi.

    Continuous axes are minimised over in closed form: the least angle between M and the rotations about an axis a is the angle
    between a and M a.  Two continuous axes that are not parallel generate every rotation, so that the error is 0 (here BOP, which
    does not compose axes, would be left with the smaller of the two errors).

    Args:
        R_est: [*b 3 3] object to any frame.
        R_gt: [*b 3 3] object to the same frame; broadcasts against R_est.
        symmetry: of the object.

    Raises:
        ValueError: if the matrices are not 3x3.
    """
    R_est, R_gt = np.asarray(R_est, np.float64), np.asarray(R_gt, np.float64)
    for name, R in (("R_est", R_est), ("R_gt", R_gt)):
        if R.shape[-2:] != (3, 3):
            raise ValueError(f"rotation_error_rad: expected {name} [*b 3 3], received {R.shape}; pass T[..., :3, :3] of a 4x4.")
    R_relative = np.swapaxes(R_gt, -1, -2) @ R_est
    axes = _unit_axes(symmetry)
    if _generates_all_rotations(axes):
        return np.zeros(R_relative.shape[:-2])
    # R_est is compared with R_gt C D, so that what C has to undo is R_relative D^T.
    residual = R_relative[..., None, :, :] @ np.swapaxes(_with_identity(symmetry)[:, :3, :3], -1, -2)
    if len(axes) == 0:
        return np.asarray(_angles_rad(residual).min(-1))
    turned = residual @ axes[0]
    sine = np.linalg.norm(np.cross(axes[0], turned), axis=-1)
    return np.asarray(np.arctan2(sine, turned @ axes[0]).min(-1))


def has_visible_yaw(symmetry: Symmetry) -> bool:
    """Whether turning the object about its own z axis changes how it looks: False with a continuous symmetry about z."""
    axes = _unit_axes(symmetry)
    about_z = np.hypot(axes[:, 0], axes[:, 1]) < AXIS_TOLERANCE
    return not (bool(about_z.any()) or _generates_all_rotations(axes))


def yaw_period(symmetry: Symmetry) -> float:
    """Smallest turn about the object's z axis, in radians, that leaves it looking the same.

    Returns:
        2 pi without symmetry, 2 pi / n for n-fold symmetry, and 0.0 where yaw is not visible at all (``has_visible_yaw``).
        Only discrete symmetries about the z axis through the object's origin count: one about a shifted axis also moves the
        position.

    Raises:
        ValueError: if a discrete symmetry turns by an angle that is no fraction k / n of a full turn with n <= MAX_YAW_FOLD.
    """
    if not has_visible_yaw(symmetry):
        return 0.0
    folds = 1
    for T in np.asarray(symmetry.discrete, np.float64):
        is_about_z = T[2, 2] > 0 and np.hypot(T[0, 2], T[1, 2]) < AXIS_TOLERANCE
        if not is_about_z or np.linalg.norm(T[:3, 3]) > AXIS_TOLERANCE:
            continue
        turns = math.atan2(T[1, 0] - T[0, 1], T[0, 0] + T[1, 1]) / (2 * math.pi)
        fraction = Fraction(turns).limit_denominator(MAX_YAW_FOLD)
        if abs(float(fraction) - turns) > AXIS_TOLERANCE / MAX_YAW_FOLD:
            raise ValueError(
                f"yaw_period: expected discrete symmetries about z by k / n of a turn with n <= {MAX_YAW_FOLD}, received "
                f"{360 * turns:.6f} degrees; correct the matrix or declare a continuous symmetry about z."
            )
        folds = math.lcm(folds, fraction.denominator)
    return 2 * math.pi / folds


def yaw_folds(symmetry: Symmetry) -> int:
    """How often the object looks the same in a full turn about its z axis: 1 without symmetry, 0 where yaw is not visible."""
    period = yaw_period(symmetry)
    return round(2 * math.pi / period) if period > 0 else 0


def _with_identity(symmetry: Symmetry) -> Float[np.ndarray, "s 4 4"]:
    """The identity followed by the discrete symmetries."""
    return np.concatenate([np.eye(4)[None], np.asarray(symmetry.discrete, np.float64).reshape(-1, 4, 4)])


def _unit_axes(symmetry: Symmetry) -> Float[np.ndarray, "c 3"]:
    """The continuous axes at unit length; ValueError where one has none."""
    axes = np.asarray(symmetry.continuous_axes, np.float64).reshape(-1, 3)
    lengths = np.linalg.norm(axes, axis=-1, keepdims=True)
    if not (lengths > 0).all():
        raise ValueError(f"Symmetry.continuous_axes: expected non-zero axes, received {axes.tolist()}; give a unit vector each.")
    return axes / lengths


def _generates_all_rotations(axes: Float[np.ndarray, "c 3"]) -> bool:
    """Whether there are two continuous axes that are not parallel."""
    return len(axes) > 1 and bool((np.linalg.norm(np.cross(axes[0], axes[1:]), axis=-1) > AXIS_TOLERANCE).any())


def _angles_rad(R: Float[np.ndarray, "*b 3 3"]) -> Float[np.ndarray, "*b"]:
    """Rotation angles from sine and cosine, accurate at 0 and at pi."""
    twice_sine = np.sqrt(
        (R[..., 2, 1] - R[..., 1, 2]) ** 2 + (R[..., 0, 2] - R[..., 2, 0]) ** 2 + (R[..., 1, 0] - R[..., 0, 1]) ** 2
    )
    return np.asarray(np.arctan2(twice_sine, np.trace(R, axis1=-2, axis2=-1) - 1))
