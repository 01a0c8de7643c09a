"""Rigid transforms against scipy, closed forms and finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from inverse_graphics.poses import (
    invert_rigid,
    look_at,
    project_points,
    rigid_matrix,
    rotation_angle_rad,
    transform_points,
    upright_pose,
)
from inverse_graphics.types import Camera

DTYPES = [torch.float32, torch.float64]


def rotations(shape: tuple[int, ...], seed: int = 0) -> torch.Tensor:
    matrices = Rotation.random(math.prod(shape), np.random.default_rng(seed)).as_matrix()
    return torch.tensor(matrices).reshape(*shape, 3, 3)


def about(axis: list[float], angle_rad: float) -> torch.Tensor:
    return torch.tensor(Rotation.from_rotvec(angle_rad * np.array(axis) / np.linalg.norm(axis)).as_matrix())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 0), (2, 3)])
def test_upright_pose_against_scipy(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    xy_m, yaw_rad = (
        torch.randn(*shape, 2, generator=generator, dtype=dtype),
        9 * torch.randn(shape, generator=generator, dtype=dtype),
    )
    T = upright_pose(xy_m, yaw_rad)
    assert T.dtype == dtype
    assert T.shape == (*shape, 4, 4)
    for pose, xy, yaw in zip(T.reshape(-1, 4, 4), xy_m.reshape(-1, 2), yaw_rad.reshape(-1), strict=True):
        assert np.allclose(pose[:3, :3], Rotation.from_euler("z", yaw.item()).as_matrix(), atol=1e-5)
        assert pose[:3, 3].tolist() == [*xy.tolist(), 0]
        assert pose[3].tolist() == [0, 0, 0, 1]


def test_upright_pose_gradients() -> None:
    xy_m = torch.tensor([[0.1, 0.2], [-0.3, 0.0]], dtype=torch.float64, requires_grad=True)
    yaw_rad = torch.tensor([0.0, 2.5], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(upright_pose, (xy_m, yaw_rad))


@pytest.mark.parametrize("dtype", DTYPES)
def test_inverse_undoes(dtype: torch.dtype) -> None:
    T = rigid_matrix(rotations((2, 3)).to(dtype), torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0), dtype=dtype))
    assert torch.allclose(T @ invert_rigid(T), torch.eye(4, dtype=dtype), atol=1e-6)
    assert torch.allclose(invert_rigid(T), torch.linalg.inv(T), atol=1e-5)


def test_transformed_points_against_homogeneous_coordinates() -> None:
    T = rigid_matrix(rotations((2, 1)), torch.ones(2, 1, 3, dtype=torch.float64))
    points = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    homogeneous = torch.cat([points, torch.ones(5, 4, 1, dtype=torch.float64)], -1)
    expected = torch.einsum("abij,bpj->abpi", T.expand(2, 5, 4, 4), homogeneous)[..., :3]
    assert torch.allclose(transform_points(T, points), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_look_at_puts_the_target_ahead_and_up_upwards(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    eye, target = torch.randn(2, 4, 3, generator=generator, dtype=dtype)
    up = torch.tensor([0.0, 0, 1], dtype=dtype)
    T = look_at(eye, target, up)
    assert torch.allclose(torch.linalg.det(T), torch.ones(4, dtype=dtype), atol=1e-5)
    assert torch.allclose(transform_points(T, eye[:, None]), torch.zeros(4, 1, 3, dtype=dtype), atol=1e-5)
    distance_m = (target - eye).norm(dim=-1, keepdim=True)
    assert torch.allclose(transform_points(T, target[:, None])[:, 0], torch.cat([0 * eye[:, :2], distance_m], -1), atol=1e-5)
    up_camera = T[:, :3, :3] @ up
    assert torch.allclose(up_camera[:, 0], torch.zeros(4, dtype=dtype), atol=1e-6)
    assert (up_camera[:, 1] < 0).all()


def test_look_at_north_sees_east_on_the_right() -> None:
    T = look_at(torch.zeros(3), torch.tensor([0.0, 1, 0]), torch.tensor([0.0, 0, 2]))
    east, above = torch.tensor([[1.0, 1, 0]]), torch.tensor([[0.0, 1, 1]])
    assert transform_points(T, east).tolist() == [[1, 0, 1]]
    assert transform_points(T, above).tolist() == [[0, -1, 1]]


@pytest.mark.parametrize("target", [[0.0, 0, 1], [0.0, 0, 0]])
def test_look_at_refuses_what_it_cannot_orient(target: list[float]) -> None:
    with pytest.raises(ValueError, match=r"use up = \(0, 1, 0\)"):
        look_at(torch.tensor([0.0, 0, 1]), torch.tensor(target), torch.tensor([0.0, 0, 1]))


def camera(batch: tuple[int, ...] = ()) -> Camera:
    K_px = torch.tensor([[100.0, 0, 32], [0, 120, 24], [0, 0, 1]], dtype=torch.float64)
    eye, target, up = torch.tensor([[0.0, 0, 2], [0, 0, 0], [0, 1, 0]], dtype=torch.float64)
    T_camera_world = look_at(eye, target, up)
    return Camera(K_px.expand(*batch, 3, 3), T_camera_world.expand(*batch, 4, 4), 64, 48)


def test_projection_by_hand() -> None:
    points = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0, 0.1, 1]], dtype=torch.float64)
    uv_px, depth_m = project_points(camera(), points)
    assert np.allclose(uv_px, [[32, 24], [37, 24], [32, 12]])
    assert np.allclose(depth_m, [2, 2, 1])


def test_projection_broadcasts_cameras_and_points() -> None:
    points = torch.randn(5, 7, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.1
    uv_px, depth_m = project_points(camera((4, 1)), points)
    assert uv_px.shape == (4, 5, 7, 2)
    assert depth_m.shape == (4, 5, 7)
    assert torch.allclose(uv_px[2, 3], project_points(camera(), points[3])[0])


def test_points_behind_the_camera_are_nan_and_leave_other_gradients_alone() -> None:
    points = torch.tensor([[0.0, 0, 0], [0.1, 0, 2.0], [0, 0, 3]], dtype=torch.float64, requires_grad=True)
    uv_px, depth_m = project_points(camera(), points)
    assert uv_px.isnan().all(-1).tolist() == [False, True, True]
    assert depth_m.tolist() == [2, 0, -1]
    uv_px[0].sum().backward()
    assert points.grad is not None
    assert points.grad.isfinite().all()
    visible = points.detach()[:1].requires_grad_()
    assert torch.autograd.gradcheck(lambda p: project_points(camera(), p), (visible,))


@settings(max_examples=60, deadline=None)
@given(st.floats(0, math.pi), st.lists(st.floats(-1, 1), min_size=3, max_size=3).filter(lambda a: np.linalg.norm(a) > 0.1))
def test_angle_is_the_angle(angle_rad: float, axis: list[float]) -> None:
    R_a = rotations((), seed=3)
    assert rotation_angle_rad(R_a, R_a @ about(axis, angle_rad)).item() == pytest.approx(angle_rad, abs=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset_rad", [0.0, 1e-5, 1e-3])
def test_angle_is_accurate_at_both_ends(offset_rad: float, dtype: torch.dtype) -> None:
    identity = torch.eye(3, dtype=dtype)
    tolerance = 8 * torch.finfo(dtype).eps
    small = rotation_angle_rad(identity, about([1, 2, 3], offset_rad).to(dtype))
    large = rotation_angle_rad(identity, about([1, 2, 3], math.pi - offset_rad).to(dtype))
    assert abs(small.item() - offset_rad) <= tolerance
    assert abs(large.item() - (math.pi - offset_rad)) <= tolerance


def test_angle_has_finite_gradients_everywhere_and_right_ones_between() -> None:
    identity = torch.eye(3, dtype=torch.float64)
    for angle_rad in (0.0, 1e-9, math.pi - 1e-9, math.pi):
        R = about([1, 0, 0], angle_rad).requires_grad_()
        rotation_angle_rad(identity, R).backward()
        assert R.grad is not None
        assert R.grad.isfinite().all()
    yaw_rad = torch.tensor([1e-3, 0.7, -2.0, 3.14], dtype=torch.float64, requires_grad=True)

    def angle(yaw: torch.Tensor) -> torch.Tensor:
        return rotation_angle_rad(identity, upright_pose(torch.zeros(4, 2, dtype=torch.float64), yaw)[:, :3, :3])

    angle(yaw_rad).sum().backward()
    assert yaw_rad.grad is not None
    assert torch.allclose(yaw_rad.grad, yaw_rad.detach().sign())


def test_mismatched_shapes_are_refused() -> None:
    with pytest.raises(Exception, match="upright_pose"):
        upright_pose(torch.zeros(3, 2), torch.zeros(4))
