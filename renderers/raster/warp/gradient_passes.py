"""Launches of the kernels for gradients; tensors in and out, as in ``passes``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import warp as wp
from jaxtyping import Float, Int
from torch import Tensor

from renderers.raster.warp.gradient_kernels import bound_layers, pull_background, pull_layers
from renderers.raster.warp.normal_kernels import sum_normals
from renderers.raster.warp.packing import DeviceMeshes
from renderers.raster.warp.passes import VERTICES_A_LANE, Drawn, lanes_for, launch
from renderers.raster.warp.seam_kernels import Loss
from renderers.raster.warp.surface_kernels import pull_faces, sum_faces, sum_vertices

SAMPLES_A_LANE = 64
"""Samples of the image for one thread of a layer, which only looks at those near the object."""


@dataclass(frozen=True)
class Weights:
    """Gradient of a loss with respect to images of a stack; None where it does not depend on one."""

    rgb: Float[Tensor, "b m h w 3"] | None = None
    """By the images of the first first_prefix, first_prefix + 1, ... objects."""
    depth_m: Float[Tensor, "b h w"] | None = None
    """By depth, with one sample a pixel."""
    masks: Float[Tensor, "b n h w"] | None = None
    """By ``shares``."""
    first_prefix: int = 0
    """The first image of ``rgb``."""


def loss_argument(drawn: Drawn, background: Float[Tensor, "b h w 3"] | None, weights: Weights) -> Any:
    """The kernels' view of a loss; without a background the steps of colour over borders are not found."""
    loss = Loss()
    loss.keys, loss.first_prefix = wp.from_torch(drawn.keys), weights.first_prefix
    if background is not None:
        loss.background = wp.from_torch(background, dtype=wp.vec3, requires_grad=False)
    if weights.rgb is not None:
        loss.rgb = wp.from_torch(weights.rgb, dtype=wp.vec3, requires_grad=False)
    if weights.depth_m is not None:
        loss.depth = wp.from_torch(weights.depth_m, requires_grad=False)
    if weights.masks is not None:
        loss.masks = wp.from_torch(weights.masks, requires_grad=False)
    return loss


def bounds(drawn: Drawn, most_vertices: int) -> Int[Tensor, "l 4"]:
    """First row, first column, minus last row, minus last column of each layer."""
    boxes = torch.full((drawn.keys.shape[0], 4), 2**30, dtype=torch.int32, device=drawn.keys.device)
    lanes = lanes_for(boxes.device, -(-most_vertices // VERTICES_A_LANE))
    stack = [drawn.meshes, drawn.placed, drawn.layout]
    launch(bound_layers, (len(boxes), lanes), boxes.device, [*stack, drawn.states, lanes, boxes])
    return boxes


def pull(drawn: Drawn, background: Float[Tensor, "b h w 3"], weights: Weights, most_vertices: int) -> Float[Tensor, "l 17"]:
    """Gradient with respect to each layer: T_camera_object (12 numbers), light (3), levels (2)."""
    boxes, layers, lanes = bounds(drawn, most_vertices), drawn.keys.shape[0], lanes_of(drawn)
    sums = torch.empty(layers, 17, lanes, dtype=torch.float32, device=boxes.device)
    loss = loss_argument(drawn, None if weights.rgb is None else background, weights)
    launch(pull_layers, (layers, lanes), boxes.device, [drawn.meshes, drawn.placed, drawn.layout, loss, boxes, lanes, sums])
    return sums.sum(-1)


def pull_behind(drawn: Drawn, background: Float[Tensor, "b h w 3"], weights: Weights) -> Float[Tensor, "b h w 3"]:
    """Gradient with respect to the background; ``weights.rgb`` must be there."""
    out = torch.empty_like(background)
    loss = loss_argument(drawn, background, weights)
    launch(pull_background, background.shape[:3], out.device, [drawn.layout, loss, out])
    return out


def lanes_of(drawn: Drawn) -> int:
    """Threads that share a layer's samples."""
    return lanes_for(drawn.keys.device, min(4096, max(64, drawn.keys[:1].numel() // SAMPLES_A_LANE)))


def normals(
    drawn: Drawn, background: Float[Tensor, "b h w 3"], residual: Float[Tensor, "b h w 3"], most_vertices: int
) -> tuple[Float[Tensor, "l 6"], Float[Tensor, "l 6 6"]]:
    """J^T r and J^T J of each layer by its object's motions along and about the axes of its own frame; float64."""
    boxes, layers, lanes = bounds(drawn, most_vertices), drawn.keys.shape[0], lanes_of(drawn)
    sums = torch.empty(layers, 42, lanes, dtype=torch.float32, device=boxes.device)
    loss = loss_argument(drawn, background, Weights())
    stack = [drawn.meshes, drawn.placed, drawn.layout]
    launch(sum_normals, (layers, lanes), boxes.device, [*stack, loss, boxes, residual, lanes, sums])
    total = sums.sum(-1, dtype=torch.float64)
    return total[:, :6], total[:, 6:].unflatten(-1, (6, 6))


def pull_surface(
    drawn: Drawn,
    background: Float[Tensor, "b h w 3"],
    weights: Weights,
    meshes: DeviceMeshes,
    by_face: Float[Tensor, "f 3 3 3"],
) -> None:
    """Add the gradient by positions, colours and normals (second dimension) of each face's corners."""
    layers = drawn.keys.shape[0]
    by_layer = torch.empty(layers, meshes.most_faces, 3, 3, 3, dtype=torch.float32, device=by_face.device)
    loss = loss_argument(drawn, None if weights.rgb is None else background, weights)
    stack = [drawn.meshes, drawn.placed, drawn.layout]
    launch(pull_faces, by_layer.shape[:2], by_face.device, [*stack, loss, drawn.states, by_layer])
    launch(sum_faces, by_face.shape[:3], by_face.device, [drawn.meshes, drawn.placed, layers, by_layer, by_face])


def at_vertices(by_face: Float[Tensor, "f 3 3 3"], meshes: DeviceMeshes) -> Float[Tensor, "v 3"]:
    """The positions' part of ``pull_surface``, summed over the corners at each vertex."""
    out = torch.empty_like(meshes.vertices_m)
    launch(sum_vertices, out.shape[:1], out.device, [meshes.corner_start, meshes.corners, by_face, out])
    return out
