"""From objects and views to what the kernels take: flat batches of numpy arrays, poses in the camera's frame."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from inverse_graphics.types import View


def flatten(tensor: Tensor, batch_dims: int) -> Tensor:
    """The batch dimensions as one."""
    return tensor.reshape(math.prod(tensor.shape[:batch_dims]), *tensor.shape[batch_dims:])


def to_numpy(tensor: Tensor) -> np.ndarray:
    """On the CPU, contiguous, float32 (ids: int64, masks: bool)."""
    dtype = tensor.dtype if tensor.dtype in (torch.int64, torch.bool) else torch.float32
    return tensor.detach().to("cpu", dtype).contiguous().numpy()


def finite(tensor: Tensor) -> np.ndarray:
    """Which entries are finite.  For small tensors numpy takes a tenth of torch's time, and every call asks for it."""
    if tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.double()
    return np.isfinite(tensor.detach().cpu().numpy())


def from_numpy(array: np.ndarray, batch: tuple[int, ...], like: Tensor) -> Tensor:
    """With its batch dimensions back, on the device of ``like``, and of its type if of floats."""
    out = torch.from_numpy(array).reshape(*batch, *array.shape[1:])
    return out.to(like.device, like.dtype if out.is_floating_point() else out.dtype)


def camera_rows(view: View) -> np.ndarray:
    """[b 5] float64: fx, fy, cx, cy, near plane."""
    K = view.camera.K_px.detach().reshape(-1, 9).to("cpu", torch.float64).numpy()
    rows = np.full((len(K), 5), view.camera.near_m, np.float64)
    rows[:, :4] = K[:, [0, 4, 2, 5]]
    return rows
