"""Objects and views as flat batches of layers on their own device: nothing here waits for the device."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_graphics.types import Objects, View, map_tensors


@dataclass(frozen=True)
class Batch:
    """Layers of b scenes with n slots each, as the kernels want them."""

    class_ids: Int[Tensor, "b n"]
    """int32."""
    T_camera_object: Float[Tensor, "b n 3 4"]
    """float32."""
    present: Int[Tensor, "b n"]
    """1 or 0, int32."""
    light: Float[Tensor, "b n 3"]
    """In each object's own frame: the unit vector to a far light, the position of a near one (metres), float32."""
    levels: Float[Tensor, "b n 2"]
    """Ambient and diffuse intensity, float32."""
    camera: Float[Tensor, "b 5"]
    """fx, fy, cx, cy (pixels) and the near plane (metres), float64."""
    near_light: bool
    """Whether ``light`` is a position."""


def make_batch(objects: Objects, view: View) -> Batch:
    """Flatten the batch dimensions; poses and lights keep their autograd history."""
    dims = objects.class_ids.dim() - 1
    # the poses of absent objects mean nothing, and may be no numbers
    nowhere = torch.eye(4, device=objects.T_world_object.device)
    T_world_object = torch.where(objects.present[..., None, None], objects.T_world_object.to(torch.float32), nowhere)
    T_camera_world = view.camera.T_camera_world.to(torch.float32)
    # sums of products instead of matmul: TF32 would round poses to three digits
    R_camera_world = T_camera_world[..., None, :3, :3]
    R_camera_object = (R_camera_world[..., :, :, None] * T_world_object[..., None, :3, :3]).sum(-2)
    t = (R_camera_world * T_world_object[..., None, :3, 3]).sum(-1) + T_camera_world[..., None, :3, 3]
    T_camera_object = torch.cat([R_camera_object, t[..., None]], -1)
    light = _light_in_objects(T_world_object, view)
    levels = torch.stack([view.light.ambient, view.light.diffuse], -1)[..., None, :].expand(*light.shape[:-1], 2)
    return Batch(
        flat(objects.class_ids, dims, torch.int32),
        flat(T_camera_object, dims, torch.float32),
        flat(objects.present, dims, torch.int32),
        flat(light, dims, torch.float32),
        flat(levels, dims, torch.float32),
        _camera(view),
        view.light.position_world is not None,
    )


def flat(tensor: Tensor, batch_dims: int, dtype: torch.dtype) -> Tensor:
    """Merge the batch dimensions into one; contiguous."""
    shape = tensor.shape
    return tensor.reshape(math.prod(shape[:batch_dims]), *shape[batch_dims:]).to(dtype).contiguous()


def part_of(batch: Batch, first: int, stop: int) -> Batch:
    """Some of the scenes."""
    return map_tensors(lambda tensor: tensor[first:stop], batch)


def detached(batch: Batch) -> Batch:
    """The same numbers without history."""
    return map_tensors(lambda tensor: tensor.detach(), batch)


def merge_slots(objects: Objects, batch_dims: int) -> Objects:
    """Objects [*b n a] as [*b n * a]."""
    return Objects(
        objects.class_ids.flatten(batch_dims),
        objects.T_world_object.flatten(batch_dims, batch_dims + 1),
        objects.present.flatten(batch_dims),
    )


def _camera(view: View) -> Tensor:
    K = view.camera.K_px.detach().reshape(-1, 3, 3).to(torch.float64)
    near = torch.full_like(K[:, 0, 0], view.camera.near_m)
    return torch.stack([K[:, 0, 0], K[:, 1, 1], K[:, 0, 2], K[:, 1, 2], near], -1)


def _light_in_objects(T_world_object: Tensor, view: View) -> Tensor:
    """[*b n 3] direction to a far light or position of a near one, in each object's frame."""
    R = T_world_object[..., :3, :3]
    if view.light.position_world is None:
        return (R * view.light.direction_world[..., None, :, None]).sum(-2)
    away = view.light.position_world[..., None, :] - T_world_object[..., :3, 3]
    return (R * away[..., :, None]).sum(-2)
