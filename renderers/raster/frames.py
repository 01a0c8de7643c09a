"""Poses in the camera's frame and lights in the objects' frames, as kernels take them and as functions of their inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from inverse_graphics.types import Objects, View
from renderers.raster.frame_kernels import frame_gradient_pass, frame_pass
from renderers.raster.inputs import flatten, to_numpy


def camera_frame(objects: Objects, view: View) -> tuple[Float[Tensor, "b n 3 4"], Float[Tensor, "b n 6"]]:
    """T_camera_object without its last row, and lights as in ``shading_kernels``; both carry gradients."""
    dims = objects.class_ids.dim() - 1
    light = view.light
    at = light.direction_world if light.position_world is None else light.position_world
    inputs = (objects.T_world_object, view.camera.T_camera_world, at, light.ambient, light.diffuse)
    frames: Any = _CameraFrame.apply(*(flatten(x, dims) for x in inputs), light.position_world is not None)
    return frames


def scene_arrays(objects: Objects, view: View) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Class ids, T_camera_object, presence and lights, as the kernels take them."""
    dims = objects.class_ids.dim() - 1
    with torch.no_grad():
        T, light = camera_frame(objects, view)
    return (
        to_numpy(flatten(objects.class_ids, dims)),
        to_numpy(T),
        to_numpy(flatten(objects.present, dims)),
        to_numpy(light),
    )


class _CameraFrame(torch.autograd.Function):
    """``frame_pass``, in the floating type of the poses, double where that is neither double nor single."""

    @staticmethod
    def forward(
        ctx: Any, T_world_object: Tensor, T_camera_world: Tensor, at: Tensor, ambient: Tensor, diffuse: Tensor, near: bool
    ) -> Any:
        """Transform."""
        dtype = np.float32 if T_world_object.dtype == torch.float32 else np.float64
        arrays = [_array(x, dtype) for x in (T_world_object, T_camera_world, at)]
        levels = np.stack([_array(ambient, dtype), _array(diffuse, dtype)], -1)
        T, light = np.empty((*arrays[0].shape[:2], 3, 4), dtype), np.empty((*arrays[0].shape[:2], 6), dtype)
        frame_pass(arrays[0], arrays[1], arrays[2], levels, near, T, light)
        ctx.arrays, ctx.near = arrays, near
        ctx.like = tuple((x.device, x.dtype) for x in (T_world_object, T_camera_world, at, ambient, diffuse))
        device, kind = ctx.like[0]
        return torch.from_numpy(T).to(device, kind), torch.from_numpy(light).to(device, kind)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Hand the gradient on."""
        T_world_object, T_camera_world, at = ctx.arrays
        dtype = T_world_object.dtype.type
        T_grad, light_grad = (_array(g, dtype) for g in grads)
        by = [np.zeros_like(x) for x in (T_world_object, T_camera_world, at)]
        by_levels = np.zeros((len(at), 2), dtype)
        frame_gradient_pass(T_world_object, T_camera_world, at, ctx.near, T_grad, light_grad, by[0], by[1], by[2], by_levels)
        out = [torch.from_numpy(x) for x in (*by, by_levels[:, 0].copy(), by_levels[:, 1].copy())]
        return *(x.to(device, kind) for x, (device, kind) in zip(out, ctx.like, strict=True)), None


def _array(tensor: Tensor, dtype: type) -> np.ndarray:
    """On the CPU, contiguous."""
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype)
