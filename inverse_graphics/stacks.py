"""Opaque layers merged by compiled passes: what ``compositing`` and finite differences do with them again and again.

A stack is made once of the layers of a batch of scenes; soft layers, and layers on a GPU, are left to ``compositing``.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_graphics.compiled import KERNEL_LOCK, drop_stale_kernels, workers
from inverse_graphics.stack_kernels import prefix_merge_pass, replacement_change_pass, replacement_error_pass, stack_pass
from inverse_graphics.types import Layers


@dataclass(frozen=True)
class Stack:
    """Opaque layers of scenes, see ``stack_kernels``."""

    q: Float[np.ndarray, "*b n hs ws"]
    """1 / z, 0 where a layer is empty."""
    rgb: Float[np.ndarray, "*b n hs ws 3"]
    """Colour."""
    boxes: Int[np.ndarray, "*b n 4"]
    """First row, last row, first column and last column that a layer covers."""
    samples_per_axis: int
    """Samples a pixel along each axis."""

    def __getitem__(self, part: slice) -> Stack:
        """Some along the first dimension."""
        return Stack(self.q[part], self.rgb[part], self.boxes[part], self.samples_per_axis)


def make_stack(layers: Layers) -> Stack | None:
    """The stack of opaque layers on the CPU; None of others."""
    if layers.alpha.device.type != "cpu" or layers.alpha.dtype != torch.float32:
        return None
    _prepare()
    alpha, depth_m, rgb = (x.detach().contiguous().numpy() for x in (layers.alpha, layers.depth_m, layers.rgb))
    *batch, height, width = alpha.shape
    count = math.prod(batch)
    q = np.empty((count, height, width), np.float32)
    boxes, hard = np.empty((count, 4), np.int64), np.empty(count, np.bool_)
    with KERNEL_LOCK:
        stack_pass(alpha.reshape(q.shape), depth_m.reshape(q.shape), workers(), q, boxes, hard)
    if not hard.all():
        return None
    return Stack(q.reshape(alpha.shape), rgb, boxes.reshape(*batch, 4), layers.samples_per_axis)


def prefix_canvases(stack: Stack, background_rgb: Float[Tensor, "b h w 3"], first: int) -> Float[Tensor, "b m h w 3"]:
    """Images of the first ``first``, ..., n layers; the stack has one batch dimension."""
    background = pixel_rows(background_rgb)
    slots = stack.q.shape[1]
    canvases = np.empty((len(background), slots + 1 - first, *background.shape[1:]), np.float32)
    with KERNEL_LOCK:
        prefix_merge_pass(stack.boxes, stack.q, stack.rgb, background, stack.samples_per_axis, first, workers(), canvases)
    return torch.from_numpy(canvases).reshape(*canvases.shape[:2], *background_rgb.shape[1:])


def replacement_errors(
    slot: int, stack: Stack, others: Stack, background_rgb: Float[Tensor, "b h w 3"], target_rgb: Float[Tensor, "b h w 3"]
) -> Float[Tensor, "b a n_plus_1"]:
    """Squared errors of all prefix images with a slot's layer replaced, see ``compositing.swap_errors``.

    Args:
        slot: which layer.
        stack: [b n] layers.
        others: [b a] what replaces it.
        background_rgb, target_rgb: what is behind, and what to compare with.
    """
    background = pixel_rows(background_rgb)
    errors = np.zeros((*others.q.shape[:2], stack.q.shape[1] + 1), np.float32)
    mine, theirs = (stack.boxes, stack.q, stack.rgb), (others.boxes, others.q, others.rgb)
    with KERNEL_LOCK:
        replacement_error_pass(
            slot, *mine, *theirs, background, pixel_rows(target_rgb), stack.samples_per_axis, workers(), errors
        )
    return torch.from_numpy(errors)


def replacement_changes(
    stack: Stack, others: Stack, background_rgb: Float[Tensor, "b h w 3"], weights: Float[Tensor, "b n_plus_1 h w 3"]
) -> Float[Tensor, "m b n"]:
    """Weighted sum of what the prefix images change by when one slot's layer is put in, slot by slot.

    Args:
        stack: [b n] layers.
        others: [m b n] what is put in each slot's place.
        background_rgb: what is behind.
        weights: of every pixel of every prefix image.

    Returns:
        Sums of weights * (prefix image with the other layer - prefix image without the slot), float64.
    """
    background = pixel_rows(background_rgb)
    changes = np.empty(others.boxes.shape[:3])
    mine, theirs = (stack.boxes, stack.q, stack.rgb), (others.boxes, others.q, others.rgb)
    with KERNEL_LOCK:
        replacement_change_pass(*mine, *theirs, background, stack.samples_per_axis, workers(), pixel_rows(weights), changes)
    return torch.from_numpy(changes)


def pixel_rows(image: Float[Tensor, "*b h w 3"]) -> Float[np.ndarray, "*b h w3"]:
    """An image as the passes take it."""
    array = image.detach().to("cpu", torch.float32).contiguous().numpy()
    return array.reshape(*array.shape[:-2], 3 * array.shape[-2])


@functools.cache
def _prepare() -> None:
    """Once a process, before the first pass."""
    drop_stale_kernels(Path(__file__).parent)
