"""Which estimated object stands for which true one: an optimal assignment by position, scene by scene."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Int
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

GATE_M = 0.05
"""An estimate farther than this from a true object does not stand for it."""


def match(
    xyz_est: ArrayLike, present_est: ArrayLike, xyz_gt: ArrayLike, present_gt: ArrayLike, gate_m: float = GATE_M
) -> Int[np.ndarray, "*b m"]:
    """Assign estimates to true objects, one to one, by position alone.

    As many pairs as possible within the gate, and among those assignments the one of least total distance (Hungarian method).

    Args:
        xyz_est: [*b n 3] estimated positions, world frame, metres.
        present_est: [*b n] which estimates hold an object.
        xyz_gt: [*b m 3] true positions, world frame, metres.
        present_gt: [*b m] which true slots hold an object.
        gate_m: largest distance of a pair.

    Returns:
        For each true slot the slot of its estimate, -1 where the object was missed or the slot is empty.

    Raises:
        ValueError: if shapes disagree, the gate is not positive and finite, or the position of a present object is not finite.
    """
    if not 0 < gate_m < np.inf:
        raise ValueError(f"match: expected a positive, finite gate_m, received {gate_m}; {GATE_M} (metres) is the usual one.")
    points_est, held_est = _checked("est", xyz_est, present_est)
    points_gt, held_gt = _checked("gt", xyz_gt, present_gt)
    if points_est.shape[:-2] != points_gt.shape[:-2]:
        raise ValueError(
            f"match: expected the same batch dimensions, received xyz_est {points_est.shape} and xyz_gt {points_gt.shape}; "
            "only the numbers of slots may differ."
        )
    *batch, slots_est, _ = points_est.shape
    slots_gt = points_gt.shape[-2]
    scenes = math.prod(batch)
    distances_m = np.linalg.norm(points_gt[..., :, None, :] - points_est[..., None, :, :], axis=-1)
    allowed = held_gt[..., :, None] & held_est[..., None, :] & (distances_m <= gate_m)
    # One pair more is worth any distance that the other pairs could save.
    costs = np.where(allowed, distances_m, gate_m * (min(slots_est, slots_gt) + 1))
    indices = np.full((*batch, slots_gt), -1, np.int64)
    flat_indices, flat_costs = indices.reshape(scenes, slots_gt), costs.reshape(scenes, slots_gt, slots_est)
    flat_allowed = allowed.reshape(scenes, slots_gt, slots_est)
    for scene in np.flatnonzero(flat_allowed.any((-2, -1))):
        slot_gt, slot_est = linear_sum_assignment(flat_costs[scene])
        flat_indices[scene, slot_gt] = np.where(flat_allowed[scene, slot_gt, slot_est], slot_est, -1)
    return indices


def _checked(kind: str, xyz: ArrayLike, present: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Positions (0 where nothing is present) and presence as float64 and bool arrays of agreeing shapes."""
    points, held = np.asarray(xyz, np.float64), np.asarray(present, bool)
    if points.shape[-1:] != (3,) or points.shape[:-1] != held.shape or held.ndim == 0:
        raise ValueError(
            f"match: expected xyz_{kind} [*b n 3] and present_{kind} [*b n], received {points.shape} and {held.shape}; "
            "positions are T_world_object[..., :3, 3]."
        )
    points = np.where(held[..., None], points, 0.0)
    if not np.isfinite(points).all():
        where = np.argwhere(~np.isfinite(points).all(-1))[0].tolist()
        raise ValueError(
            f"match: expected finite positions of present objects, received {points[tuple(where)].tolist()} in xyz_{kind} at "
            f"{where}; mend what produced it, or mark the slot as not present."
        )
    return points, held
