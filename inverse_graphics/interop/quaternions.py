"""4x4 matrices to and from what ROS calls a pose: a position in metres and a quaternion x, y, z, w."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

RIGID_TOLERANCE = 1e-3
"""How far R R^T may be from the identity; float32 networks and files of six digits stay well below."""
UNIT_TOLERANCE = 1e-3
"""How far a quaternion's length may be from 1."""


def check_rigid(T: Float[np.ndarray, "n 4 4"], argument: str) -> None:
    """Refuse matrices that are no rigid motions.

    Raises:
        ValueError: one is not finite, scales, shears, mirrors, or has another last row than 0 0 0 1.
    """
    finite = np.asarray(np.isfinite(T).all((-2, -1)))
    R = np.where(finite[:, None, None], T, 0.0)[:, :3, :3]
    gram_error = np.abs(R @ R.swapaxes(-1, -2) - np.eye(3)).max((-2, -1), initial=0.0)
    good = finite & (gram_error < RIGID_TOLERANCE) & (np.linalg.det(R) > 0) & (T[:, 3] == [0, 0, 0, 1]).all(-1)
    if not good.all():
        row = int(np.flatnonzero(~good)[0])
        raise ValueError(
            f"{argument}: expected rigid 4x4 matrices [R t; 0 0 0 1], received row {row}: {T[row].tolist()}; "
            "divide out the scale, and put the translation into the last column."
        )


def position_of(T_frame_object: Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, "n 3"]:
    """Positions in metres."""
    return np.asarray(T_frame_object, np.float64)[:, :3, 3].copy()


def quat_xyzw_of(T_frame_object: Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, "n 4"]:
    """Unit quaternions x, y, z, w of the rotations, with w >= 0, in ROS's order.

    Raises:
        ValueError: a matrix is not rigid.
    """
    T = np.asarray(T_frame_object, np.float64)
    check_rigid(T, "T_frame_object")
    return Rotation.from_matrix(T[:, :3, :3]).as_quat(canonical=True) if len(T) else np.zeros((0, 4))


def matrix_of_pose(position_m: ArrayLike, quat_xyzw: ArrayLike) -> Float[np.ndarray, "n 4 4"]:
    """4x4 matrices of positions and quaternions; the inverse of ``position_of`` and ``quat_xyzw_of``.

    Args:
        position_m: [n 3] metres.
        quat_xyzw: [n 4] quaternions x, y, z, w of length 1, of either sign.

    Raises:
        ValueError: another shape, a value that is not finite, or a quaternion whose length is not 1.
    """
    t, quat = np.asarray(position_m, np.float64), np.asarray(quat_xyzw, np.float64)
    if t.ndim != 2 or t.shape[1:] != (3,) or quat.shape != (len(t), 4) or not (np.isfinite(t).all() and np.isfinite(quat).all()):
        raise ValueError(
            f"position_m, quat_xyzw: expected finite [n 3] and [n 4], received {t.shape} and {quat.shape}; one row an object."
        )
    lengths = np.linalg.norm(quat, axis=-1)
    wrong = np.flatnonzero(np.abs(lengths - 1) > UNIT_TOLERANCE)
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(f"quat_xyzw: expected length 1, received {lengths[row]:.6g} in row {row}; divide by the length.")
    T = np.tile(np.eye(4), (len(t), 1, 1))
    if len(t):
        T[:, :3, :3] = Rotation.from_quat(quat).as_matrix()
    T[:, :3, 3] = t
    return T
