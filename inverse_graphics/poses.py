"""Rigid transforms and pinhole projection: plain functions on tensors, any batch dimensions, dtype and device from the inputs.

Frames: world is z-up; cameras are OpenCV's (+X right, +Y down, +Z forward), pixel (0, 0) covers [0, 1) x [0, 1).  Metres and
radians.  Everything is differentiable unless a docstring says otherwise.
"""

from __future__ import annotations

import roma
import torch
from jaxtyping import Float
from torch import Tensor

from inverse_graphics.types import Camera

PARALLEL_SINE = 1e-6
"""``look_at`` refuses an up vector whose angle to the line of sight has a sine below this."""


def rigid_matrix(R: Float[Tensor, "*b 3 3"], t: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 4 4"]:
    """Homogeneous matrix of x -> R x + t.

    Args:
        R: rotations.
        t: translations, in the unit that the result will have.
    """
    bottom = t.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*t.shape[:-1], 1, 4)
    return torch.cat([torch.cat([R, t[..., None]], -1), bottom], -2)


def upright_pose(xy_m: Float[Tensor, "*b 2"], yaw_rad: Float[Tensor, "*b"]) -> Float[Tensor, "*b 4 4"]:
    """Pose of an object that stands on the plane z = 0.

    Args:
        xy_m: position of the object's origin on the table, world frame.
        yaw_rad: rotation about world z, counter-clockwise seen from above.

    Returns:
        T_world_object, differentiable in both arguments.
    """
    if xy_m.shape[-1:] != (2,) or xy_m.shape[:-1] != yaw_rad.shape:
        raise ValueError(
            f"upright_pose: expected xy_m [*b 2] and yaw_rad [*b] with the same *b, received {tuple(xy_m.shape)} and "
            f"{tuple(yaw_rad.shape)}; expand the smaller one first."
        )
    zero = torch.zeros_like(yaw_rad)
    R_world_object = roma.rotvec_to_rotmat(torch.stack([zero, zero, yaw_rad], -1))
    return rigid_matrix(R_world_object, torch.cat([xy_m, torch.zeros_like(xy_m[..., :1])], -1))


def invert_rigid(T_a_b: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 4 4"]:
    """T_b_a of a rigid T_a_b, by transposition: exact for rotations, wrong for transforms that scale or shear."""
    R_b_a = T_a_b[..., :3, :3].transpose(-1, -2)
    return rigid_matrix(R_b_a, -(R_b_a @ T_a_b[..., :3, 3:])[..., 0])


def transform_points(T_a_b: Float[Tensor, "*#b 4 4"], points_b: Float[Tensor, "*#b p 3"]) -> Float[Tensor, "*c p 3"]:
    """Points of frame b in frame a; the batch dimensions broadcast."""
    return points_b @ T_a_b[..., :3, :3].transpose(-1, -2) + T_a_b[..., None, :3, 3]


def move(T_world_object: Float[Tensor, "*b 4 4"], motion: Float[Tensor, "*b 6"]) -> Float[Tensor, "*b 4 4"]:
    """Translate along the world's axes and turn about the object's origin.

    Args:
        T_world_object: poses.
        motion: translation along world x, y, z in metres, then a rotation vector along the world's axes in radians.
    """
    R = roma.rotvec_to_rotmat(motion[..., 3:]) @ T_world_object[..., :3, :3]
    return rigid_matrix(R, T_world_object[..., :3, 3] + motion[..., :3])


def motion_slopes(T_world_object: Float[Tensor, "*b 4 4"], gradient: Float[Tensor, "*b 4 4"]) -> Float[Tensor, "*b 6"]:
    """Slopes along the motions of ``move``, taken at no motion, of a function whose gradient by the matrix is known.

    A rotation w changes R by hat(w) R, so that its slope is <dR, hat(w) R> = w . sum over columns k of R_k x dR_k.
    """
    R, dR = T_world_object[..., :3, :3], gradient[..., :3, :3]
    return torch.cat([gradient[..., :3, 3], torch.linalg.cross(R, dR, dim=-2).sum(-1)], -1)


def look_at(eye: Float[Tensor, "*#b 3"], target: Float[Tensor, "*#b 3"], up: Float[Tensor, "*#b 3"]) -> Float[Tensor, "*c 4 4"]:
    """Camera at ``eye`` whose +Z axis goes through ``target`` and whose image has ``up`` upwards.

    Args:
        eye: camera centre, world frame, metres.
        target: a point on the optical axis, in front of the camera, world frame, metres.
        up: direction, not necessarily of unit length, world frame; the three arguments broadcast.

    Returns:
        T_camera_world, OpenCV frame.

    Raises:
        ValueError: where the target is the eye or ``up`` is parallel to the line of sight.
    """
    eye, target, up = torch.broadcast_tensors(eye, target, up)
    sight = target - eye
    across = torch.linalg.cross(sight, up)
    lengths = torch.linalg.norm(sight, dim=-1) * torch.linalg.norm(up, dim=-1)
    if bool((torch.linalg.norm(across, dim=-1) <= PARALLEL_SINE * lengths).any()):
        raise ValueError(
            "look_at: expected target != eye and up not parallel to target - eye; received "
            f"eye={eye.tolist()}, target={target.tolist()}, up={up.tolist()}; for a view straight down use up = (0, 1, 0)."
        )
    forward = torch.nn.functional.normalize(sight, dim=-1)
    right = torch.nn.functional.normalize(across, dim=-1)
    down = torch.linalg.cross(forward, right)
    R_camera_world = torch.stack([right, down, forward], -2)
    return rigid_matrix(R_camera_world, -(R_camera_world @ eye[..., None])[..., 0])


def project_points(
    camera: Camera, points_world: Float[Tensor, "*b p 3"]
) -> tuple[Float[Tensor, "*c p 2"], Float[Tensor, "*c p"]]:
    """Where points of the world appear in the image.

    Args:
        camera: [*b] cameras; the batch dimensions broadcast against those of the points.
        points_world: metres.

    Returns:
        uv_px: column and row in pixels, continuous (the centre of pixel (0, 0) is (0.5, 0.5)); may lie outside the image, and is
            NaN, without gradient, where the depth is not positive.
        depth_m: z-depth; points at or below 0 lie behind the camera.
    """
    points_camera = transform_points(camera.T_camera_world, points_world)
    depth_m = points_camera[..., 2]
    in_front = (depth_m > 0)[..., None]
    divisor = torch.where(in_front, points_camera[..., 2:], torch.ones_like(points_camera[..., 2:]))
    rays = torch.cat([points_camera[..., :2] / divisor, torch.ones_like(divisor)], -1)
    uv_px = (rays @ camera.K_px.transpose(-1, -2))[..., :2]
    return torch.where(in_front, uv_px, torch.full_like(uv_px, torch.nan)), depth_m


def rotation_angle_rad(R_a: Float[Tensor, "*#b 3 3"], R_b: Float[Tensor, "*#b 3 3"]) -> Float[Tensor, "*c"]:
    """Angle between two rotations, 0..pi.

    atan2(sin, cos) from the antisymmetric part and the trace of R_a^T R_b: accurate at 0 and at pi, where acos of the trace loses
    half of the digits and its gradient diverges.  At exactly 0 and pi, where the angle has a kink, the gradient is 0.
    """
    R = R_a.transpose(-1, -2) @ R_b
    twice_sine_axis = torch.stack([R[..., 2, 1] - R[..., 1, 2], R[..., 0, 2] - R[..., 2, 0], R[..., 1, 0] - R[..., 0, 1]], -1)
    twice_cosine = R.diagonal(dim1=-2, dim2=-1).sum(-1) - 1
    return torch.atan2(torch.linalg.norm(twice_sine_axis, dim=-1), twice_cosine)
