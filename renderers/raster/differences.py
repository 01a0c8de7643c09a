"""Images with pose gradients by central differences of the one layer that moves."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from inverse_graphics.compiled import KERNEL_LOCK, workers
from inverse_graphics.poses import move
from inverse_graphics.types import Objects, View
from renderers.raster.frames import scene_arrays
from renderers.raster.inputs import camera_rows, flatten, from_numpy, to_numpy
from renderers.raster.meshes import PackedMeshes
from renderers.raster.scene_kernels import prefix_pass
from renderers.raster.stack_kernels import pose_difference_pass
from renderers.tangents import matrix_gradient, tangent_steps


class DifferencedPrefixImages(torch.autograd.Function):
    """Canvases of the first ``first``, first + 1, ..., n objects; gradient to ``T_world_object``."""

    @staticmethod
    def forward(
        ctx: Any,
        T: Tensor,
        objects: Objects,
        view: View,
        meshes: PackedMeshes,
        samples: int,
        first: int,
        basis: Tensor,
        step_px: float,
    ) -> Tensor:
        """Draw."""
        batch = tuple(T.shape[:-3])
        fields = scene_arrays(objects, view)
        background = to_numpy(flatten(view.background_rgb, len(batch)))
        canvases = np.empty((len(background), T.shape[-3] + 1 - first, *background.shape[1:]), np.float32)
        with KERNEL_LOCK:
            prefix_pass(meshes, *fields, camera_rows(view), background, samples, first, workers(), canvases)
        ctx.scene = (objects, view, meshes, samples, first, basis, step_px)
        return from_numpy(canvases, batch, T)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Move one layer at a time."""
        objects, view, meshes, samples, first, basis, step_px = ctx.scene
        T = objects.T_world_object.detach()
        batch, slots = tuple(T.shape[:-3]), T.shape[-3]
        weights = torch.nn.functional.pad(grads[0], (0, 0, 0, 0, 0, 0, first, 0)) if first else grads[0]
        radius_m = torch.from_numpy(meshes.radius_m).to(T)[objects.class_ids]
        basis = basis.to(T)
        steps = tangent_steps(T, radius_m, view, basis, step_px)
        motion = (steps[..., None] * basis)[..., None, :] * T.new_tensor([1.0, -1.0])[:, None]
        T_moved = move(T[..., None, None, :, :].expand(*motion.shape[:-1], 4, 4), motion)
        per_slot = len(basis) * 2
        moved = Objects(
            objects.class_ids.repeat_interleave(per_slot, -1),
            T_moved.reshape(*batch, slots * per_slot, 4, 4),
            objects.present.repeat_interleave(per_slot, -1),
        )
        _, T_moved_rows, _, light_moved = scene_arrays(moved, view)
        background = to_numpy(flatten(view.background_rgb, len(batch)))
        shape = (len(background), slots, len(basis), 2)
        difference = np.zeros(shape[:3], np.float32)
        with KERNEL_LOCK:
            pose_difference_pass(
                meshes,
                *scene_arrays(objects, view),
                T_moved_rows.reshape(*shape, 3, 4),
                light_moved.reshape(*shape, 6),
                camera_rows(view),
                background,
                samples,
                workers(),
                to_numpy(flatten(weights, len(batch))),
                difference,
            )
        slope = from_numpy(difference, batch, T) / (2 * steps)
        return matrix_gradient(T, basis, slope), None, None, None, None, None, None, None
