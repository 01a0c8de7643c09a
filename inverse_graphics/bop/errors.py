"""Errors of estimated poses of one model, as in bop_toolkit: ADD, ADI, MSSD, MSPD, proj, re and te.

Poses are ``T_camera_object_mm`` [n 4 4], one pair a row.  Every vertex of ``models_eval`` counts alike.  Points that bear on
agreement with bop_toolkit:

- A symmetry S is applied to the truth: T_gt S.
- Rotations are taken as given, also where a file has rounded them.  ``re`` goes through atan2 and stays by the nearest rotations;
  bop_toolkit's arc cosine is off by up to some hundredths of a degree next to 0 and 180 where digits are rounded.
- bop_toolkit gives MSSD and ADD as infinite where the origins are a diameter or more apart, to save time; here they are what they
  are.  Both are above every threshold.
- A vertex at or behind the camera's plane has no projection: MSPD and proj are infinite if the estimate or the truth has one.
  bop_toolkit divides by the negative depth, and so may find a mirrored pose right.

Hodan et al., BOP: Benchmark for 6D Object Pose Estimation, ECCV 2018, and the BOP Challenges 2019 and 2020.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from inverse_graphics.bop.compiling import prepare
from inverse_graphics.bop.nearest_kernels import adi_pass
from inverse_graphics.bop.pose_kernels import add_pass, mspd_pass, mssd_pass, proj_pass
from inverse_graphics.bop.types import Model
from inverse_graphics.bop.vertices import Vertices, arrange_vertices
from inverse_graphics.compiled import KERNEL_LOCK, workers

AUC_LIMIT_MM = 100.0
"""Largest threshold of the area under the curve of accuracy over threshold."""


@dataclass(frozen=True)
class PoseErrors:
    """Errors of n pairs."""

    add_mm: Float[np.ndarray, "n"]
    """ADD."""
    adi_mm: Float[np.ndarray, "n"]
    """ADI, also called ADD-S."""
    mssd_mm: Float[np.ndarray, "n"]
    """Maximum symmetry-aware surface distance."""
    mspd_px: Float[np.ndarray, "n"]
    """Maximum symmetry-aware projection distance; infinite behind the camera."""
    proj_px: Float[np.ndarray, "n"]
    """Mean projection distance; infinite behind the camera."""
    re_deg: Float[np.ndarray, "n"]
    """Rotation error, 0..180, without regard to symmetries, as in bop_toolkit."""
    symmetric_re_deg: Float[np.ndarray, "n"]
    """Least rotation error over the model's symmetries."""
    te_mm: Float[np.ndarray, "n"]
    """Distance of the two origins."""


class PoseJudge:
    """A model made ready for many pairs."""

    def __init__(self, model: Model) -> None:
        """Arrange the model's vertices.

        Raises:
            ValueError: a model without vertices, or without the identity among its symmetries.
        """
        symmetries = np.ascontiguousarray(model.symmetries, np.float64)
        if symmetries.ndim != 3 or symmetries.shape[1:] != (4, 4) or not len(symmetries):
            raise ValueError(
                f"symmetries: expected [s 4 4] with the identity first, received {symmetries.shape} for obj_id {model.obj_id}; "
                "give np.eye(4)[None] for an object without symmetries."
            )
        prepare()
        self.model = model
        self.is_symmetric = len(symmetries) > 1
        """Whether ADD-S stands for ADD(-S): the model has a symmetry besides the identity."""
        self._symmetries = symmetries
        self._vertices: Vertices = arrange_vertices(model.points_mm)

    def errors(
        self, T_est_mm: Float[np.ndarray, "n 4 4"], T_gt_mm: Float[np.ndarray, "n 4 4"], K_px: Float[np.ndarray, "n 3 3"]
    ) -> PoseErrors:
        """All errors of n pairs."""
        return PoseErrors(
            add_mm=self.add_mm(T_est_mm, T_gt_mm),
            adi_mm=self.adi_mm(T_est_mm, T_gt_mm),
            mssd_mm=self.mssd_mm(T_est_mm, T_gt_mm),
            mspd_px=self.mspd_px(T_est_mm, T_gt_mm, K_px),
            proj_px=self.proj_px(T_est_mm, T_gt_mm, K_px),
            re_deg=rotation_error_deg(T_est_mm[:, :3, :3], T_gt_mm[:, :3, :3]),
            symmetric_re_deg=self.symmetric_re_deg(T_est_mm, T_gt_mm),
            te_mm=np.linalg.norm(T_est_mm[:, :3, 3] - T_gt_mm[:, :3, 3], axis=-1),
        )

    def add_mm(self, T_est_mm: Float[np.ndarray, "n 4 4"], T_gt_mm: Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, "n"]:
        """Mean distance of corresponding vertices."""
        T_est, T_gt, errors = _poses(T_est_mm, T_gt_mm)
        with KERNEL_LOCK:
            add_pass(self._vertices.points_mm, T_est, T_gt, workers(), errors)
        return errors

    def adi_mm(self, T_est_mm: Float[np.ndarray, "n 4 4"], T_gt_mm: Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, "n"]:
        """Mean distance from each vertex of the true pose to the nearest vertex of the estimated one.

        Raises:
            ValueError: an estimated rotation without an inverse.
        """
        T_est, T_gt, errors = _poses(T_est_mm, T_gt_mm)
        # not the transpose: a rotation that a file has rounded is none to the last digit
        try:
            inverse = np.ascontiguousarray(np.linalg.inv(T_est[:, :3, :3]))
        except np.linalg.LinAlgError as error:
            raise ValueError(
                "T_est_mm: expected rotations, received a singular matrix; check the results file that it comes from."
            ) from error
        v = self._vertices
        with KERNEL_LOCK:
            adi_pass(v.tree_mm, v.span, v.boxes_mm, T_est, T_gt, inverse, workers(), errors)
        return errors

    def mssd_mm(self, T_est_mm: Float[np.ndarray, "n 4 4"], T_gt_mm: Float[np.ndarray, "n 4 4"]) -> Float[np.ndarray, "n"]:
        """Least over symmetries of the largest distance of corresponding vertices."""
        T_est, T_gt, errors = _poses(T_est_mm, T_gt_mm)
        with KERNEL_LOCK:
            mssd_pass(self._vertices.hull_mm, self._symmetries, T_est, T_gt, workers(), errors)
        return errors

    def mspd_px(
        self, T_est_mm: Float[np.ndarray, "n 4 4"], T_gt_mm: Float[np.ndarray, "n 4 4"], K_px: Float[np.ndarray, "n 3 3"]
    ) -> Float[np.ndarray, "n"]:
        """Least over symmetries of the largest pixel distance of corresponding vertices."""
        T_est, T_gt, errors = _poses(T_est_mm, T_gt_mm)
        with KERNEL_LOCK:
            mspd_pass(self._vertices.points_mm, self._symmetries, T_est, T_gt, _intrinsics(K_px, errors), workers(), errors)
        return errors

    def proj_px(
        self, T_est_mm: Float[np.ndarray, "n 4 4"], T_gt_mm: Float[np.ndarray, "n 4 4"], K_px: Float[np.ndarray, "n 3 3"]
    ) -> Float[np.ndarray, "n"]:
        """Mean pixel distance of corresponding vertices."""
        T_est, T_gt, errors = _poses(T_est_mm, T_gt_mm)
        with KERNEL_LOCK:
            proj_pass(self._vertices.points_mm, T_est, T_gt, _intrinsics(K_px, errors), workers(), errors)
        return errors

    def symmetric_re_deg(
        self, T_est_mm: Float[np.ndarray, "n 4 4"], T_gt_mm: Float[np.ndarray, "n 4 4"]
    ) -> Float[np.ndarray, "n"]:
        """Least over symmetries of the rotation error; a sampled continuous axis is off by 0.6 degrees at most."""
        relative = np.swapaxes(T_gt_mm[:, :3, :3], -1, -2) @ T_est_mm[:, :3, :3]
        best, rotations = np.zeros(len(relative), np.int64), self._symmetries[:, :3, :3]
        if self.is_symmetric:
            # trace(S^T relative) is largest where the angle is least
            best = (relative.reshape(-1, 9) @ rotations.reshape(-1, 9).T).argmax(-1)
        return rotation_error_deg(relative, rotations[best])


def rotation_error_deg(R_est: Float[np.ndarray, "n 3 3"], R_gt: Float[np.ndarray, "n 3 3"]) -> Float[np.ndarray, "n"]:
    """Angle between rotations, 0..180 degrees, accurate at both ends."""
    R = np.asarray(R_est, np.float64) @ np.swapaxes(np.asarray(R_gt, np.float64), -1, -2)
    axis = np.stack([R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]], -1)
    return np.degrees(np.arctan2(np.linalg.norm(axis, axis=-1), np.trace(R, axis1=-2, axis2=-1) - 1))


def area_under_curve(errors_mm: ArrayLike, limit_mm: float = AUC_LIMIT_MM) -> float:
    """Exact area under the curve of accuracy over threshold from 0 to the limit, divided by it: mean(max(0, 1 - e / limit)).

    An infinite error is a miss and counts 0.

    Raises:
        ValueError: no errors, or one that is NaN.
    """
    errors = np.asarray(errors_mm, np.float64)
    if errors.size == 0 or np.isnan(errors).any():
        raise ValueError(
            f"errors_mm: expected at least one number and no NaN, received {errors.size} numbers; give inf for what was missed."
        )
    return float(np.maximum(0.0, 1.0 - errors / limit_mm).mean())


def _poses(T_est_mm: np.ndarray, T_gt_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Both sides as the passes take them, and room for the errors."""
    T_est, T_gt = np.ascontiguousarray(T_est_mm, np.float64), np.ascontiguousarray(T_gt_mm, np.float64)
    if T_est.shape != T_gt.shape or not (np.isfinite(T_est).all() and np.isfinite(T_gt).all()):
        raise ValueError(
            f"T_est_mm, T_gt_mm: expected finite poses, one truth for each estimate, received {T_est.shape} and {T_gt.shape}; "
            "drop rows that are not finite, and pair the others."
        )
    return T_est, T_gt, np.empty(len(T_est))


def _intrinsics(K_px: np.ndarray, errors: np.ndarray) -> np.ndarray:
    """Intrinsic matrices as the passes take them."""
    K = np.ascontiguousarray(K_px, np.float64)
    if len(K) != len(errors) or (K[:, 2] != (0.0, 0.0, 1.0)).any() or K[:, 1, 0].any():
        raise ValueError(
            f"K_px: expected {len(errors)} matrices [[fx, s, cx], [0, fy, cy], [0, 0, 1]], received shape {K.shape} or another "
            "form; divide by the last entry."
        )
    return K
