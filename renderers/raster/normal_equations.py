"""Normal equations of an image's residual by the motions of its objects, for Gauss-Newton and Levenberg-Marquardt steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from inverse_graphics.compiled import KERNEL_LOCK, workers
from inverse_graphics.types import Objects, View
from renderers.raster.frames import scene_arrays
from renderers.raster.inputs import camera_rows, flatten, from_numpy, to_numpy
from renderers.raster.meshes import PackedMeshes
from renderers.raster.normal_kernels import normal_pass


@dataclass(frozen=True)
class NormalEquations:
    """J^T r and J^T J, object by object; J is the image's derivative by the object's motions."""

    gradient: Float[Tensor, "*b n p"]
    """J^T r: half the gradient of the squared residual."""
    hessian: Float[Tensor, "*b n p p"]
    """J^T J: the Gauss-Newton approximation of half its Hessian."""


def normal_equations(
    meshes: PackedMeshes,
    objects: Objects,
    view: View,
    samples: int,
    basis: Float[Tensor, "p 6"],
    residual_rgb: Float[Tensor, "*b h w 3"],
) -> NormalEquations:
    """Draw, differentiate forwards and sum; see ``RasterRenderer.normal_equations``."""
    batch = tuple(objects.class_ids.shape[:-1])
    motion, light_motion = (flatten(x, len(batch)).to("cpu", torch.float64) for x in _motions(objects, view, basis))
    gradient = np.zeros(tuple(motion.shape[:3]))
    hessian = np.zeros((*motion.shape[:3], motion.shape[2]))
    with KERNEL_LOCK:
        normal_pass(
            meshes,
            *scene_arrays(objects, view),
            camera_rows(view),
            to_numpy(flatten(view.background_rgb, len(batch))),
            samples,
            workers(),
            motion.contiguous().numpy(),
            light_motion.contiguous().numpy(),
            to_numpy(flatten(residual_rgb, len(batch))),
            gradient,
            hessian,
        )
    return NormalEquations(*(from_numpy(x, batch, objects.T_world_object) for x in (gradient, hessian)))


def _motions(
    objects: Objects, view: View, basis: Float[Tensor, "p 6"]
) -> tuple[Float[Tensor, "*b n p 3 4"], Float[Tensor, "*b n p 3"]]:
    """Derivatives of T_camera_object and of the light in the objects' frames by each motion of the basis."""
    T, light = objects.T_world_object.detach()[..., None, :3, :], view.light
    shift, turn = basis.to(T)[:, :3], basis.to(T)[:, 3:]
    turned = torch.linalg.cross(
        turn[:, :, None].expand(*T.shape[:-3], -1, 3, 3), T[..., :3].expand(*T.shape[:-3], len(basis), 3, 3), dim=-2
    )
    T_motion = torch.cat([turned, shift[:, :, None].expand(*turned.shape[:-1], 1)], -1)
    R_camera_world = view.camera.T_camera_world.detach()[..., None, None, :3, :3]
    if light.position_world is None:
        at, moved = light.direction_world[..., None, None, :], torch.zeros_like(shift)
    else:
        at, moved = light.position_world[..., None, None, :] - T[..., 3], shift
    # d(R^T v) = -R^T (w x v) for a turn w, and a near light comes no nearer when the object goes
    change = (
        -torch.linalg.cross(turn.expand(*T.shape[:-3], -1, 3), at.detach().expand(*T.shape[:-3], len(basis), 3), dim=-1) - moved
    )
    return R_camera_world @ T_motion, (T[..., :3] * change[..., :, None]).sum(-2)
