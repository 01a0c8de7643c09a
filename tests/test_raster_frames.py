"""Poses in the camera's frame and lights in the objects' frames, against the matrix products that they are."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from renderer_scenes import table_scene
from torch import Tensor

from inverse_graphics.types import Objects, View
from renderers.raster.frames import camera_frame, scene_arrays


def scenes(near: bool, dtype: torch.dtype) -> tuple[Objects, View]:
    objects, view = table_scene(2, 3, 16, 2)
    cast = dataclasses.replace(view.camera, T_camera_world=view.camera.T_camera_world.to(dtype).clone())
    position = torch.tensor([[0.3, -0.2, 0.7], [0.1, 0.4, 0.9]], dtype=dtype) if near else None
    light = dataclasses.replace(
        view.light,
        direction_world=view.light.direction_world.to(dtype).clone(),
        position_world=position,
        ambient=view.light.ambient.to(dtype).clone(),
        diffuse=view.light.diffuse.to(dtype).clone(),
    )
    objects = dataclasses.replace(objects, T_world_object=objects.T_world_object.to(dtype))
    return objects, dataclasses.replace(view, camera=cast, light=light)


@pytest.mark.parametrize("near", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_frames_are_products_of_matrices(near: bool, dtype: torch.dtype) -> None:
    objects, view = scenes(near, dtype)
    T, light = camera_frame(objects, view)
    assert T.dtype == light.dtype == dtype
    torch.testing.assert_close(T, (view.camera.T_camera_world[:, None] @ objects.T_world_object)[..., :3, :])
    R, t = objects.T_world_object[..., :3, :3], objects.T_world_object[..., :3, 3]
    at = view.light.direction_world[:, None] if view.light.position_world is None else view.light.position_world[:, None] - t
    torch.testing.assert_close(light[..., :3], (R.transpose(-1, -2) @ at.expand_as(t)[..., None])[..., 0])
    torch.testing.assert_close(light[..., 3], view.light.ambient[:, None].expand(2, 3))
    torch.testing.assert_close(light[..., 4], view.light.diffuse[:, None].expand(2, 3))
    assert (light[..., 5] == near).all()
    class_ids, T_rows, present, light_rows = scene_arrays(objects, view)
    torch.testing.assert_close(torch.from_numpy(T_rows), T.float(), rtol=0, atol=0)
    torch.testing.assert_close(torch.from_numpy(light_rows), light.float(), rtol=0, atol=0)
    assert (class_ids == objects.class_ids.numpy()).all()
    assert (present == objects.present.numpy()).all()


@pytest.mark.parametrize("near", [False, True])
def test_their_gradients(near: bool) -> None:
    objects, view = scenes(near, torch.float64)
    start = view.light.direction_world if view.light.position_world is None else view.light.position_world

    def frames(T: Tensor, T_camera_world: Tensor, at: Tensor, ambient: Tensor, diffuse: Tensor) -> tuple[Tensor, Tensor]:
        light = dataclasses.replace(
            view.light, ambient=ambient, diffuse=diffuse, **{"position_world" if near else "direction_world": at}
        )
        camera = dataclasses.replace(view.camera, T_camera_world=T_camera_world)
        moved = dataclasses.replace(objects, T_world_object=T)
        return camera_frame(moved, dataclasses.replace(view, camera=camera, light=light))

    inputs = (objects.T_world_object, view.camera.T_camera_world, start, view.light.ambient, view.light.diffuse)
    assert torch.autograd.gradcheck(frames, tuple(x.clone().requires_grad_() for x in inputs))
