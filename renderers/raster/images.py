"""Images as differentiable functions of poses in the camera's frame, lights in the objects' frames, background and surfaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from inverse_graphics.compiled import KERNEL_LOCK, workers
from inverse_graphics.types import Objects, View
from renderers.raster.image_kernels import gradient_pass, mask_pass, render_pass
from renderers.raster.inputs import camera_rows, flatten, from_numpy, to_numpy
from renderers.raster.meshes import PackedMeshes, with_surfaces
from renderers.raster.scene_kernels import prefix_pass

BAND_SAMPLES = 128
"""Rows of samples that one work item draws, about."""
SURFACE_ITEMS = 8
"""Work items of a gradient by surfaces; fixed, so that sums do not depend on the number of threads."""


@dataclass(frozen=True)
class Surfaces:
    """Positions, colours and normals of a catalogue's meshes, end to end; what gradients by shape and colour refer to."""

    vertices_m: Tensor
    """[v 3] float32."""
    corner_rgb: Tensor
    """[f 3 3] float32."""
    corner_normals: Tensor
    """[f 3 3] float32."""


@dataclass(frozen=True)
class Call:
    """What an image needs beside the tensors that carry gradients."""

    meshes: PackedMeshes
    class_ids: np.ndarray
    present: np.ndarray
    camera: np.ndarray
    view: View
    samples: int

    @property
    def size(self) -> tuple[int, int, int, int]:
        """Scenes, slots, height and width."""
        camera = self.view.camera
        return (*self.class_ids.shape, camera.height_px, camera.width_px)  # type: ignore[return-value]

    def bands(self, samples: int) -> int:
        """Bands an image is split into."""
        return max(1, round(self.size[2] * samples / BAND_SAMPLES))


def make_call(meshes: PackedMeshes, objects: Objects, view: View, samples: int, surfaces: Surfaces | None) -> Call:
    """Collect what does not carry gradients."""
    if surfaces is not None:
        arrays = [to_numpy(x) for x in (surfaces.vertices_m, surfaces.corner_rgb, surfaces.corner_normals)]
        meshes = with_surfaces(meshes, *arrays)
    dims = objects.class_ids.dim() - 1
    class_ids, present = to_numpy(flatten(objects.class_ids, dims)), to_numpy(flatten(objects.present, dims))
    return Call(meshes, class_ids, present, camera_rows(view), view, samples)


class RenderedImages(torch.autograd.Function):
    """Colour, depth, ids and visible fractions of scenes."""

    @staticmethod
    def forward(ctx: Any, call: Call, T: Tensor, light: Tensor, background: Tensor, *surfaces: Tensor) -> tuple[Tensor, ...]:
        """Draw."""
        batch, slots, height, width = call.size
        canvas = np.empty((batch, height, 3 * width), np.float32)
        depth_m = np.empty((batch, height, width), np.float32)
        ids = np.empty((batch, height, width), np.int64)
        fields = (call.meshes, call.class_ids, to_numpy(T), call.present, to_numpy(light), call.camera)
        behind = to_numpy(background).reshape(batch, height, 3 * width)
        none = (np.empty((0, 0, 0), np.float32), np.empty((0, 0, 0), np.int64))
        counts = np.empty((batch, call.bands(1), slots, 2), np.int64)
        with KERNEL_LOCK:
            if call.samples == 1:
                render_pass(*fields, behind, 1, call.bands(1), workers(), canvas, depth_m, ids, counts)
            else:
                bands = call.bands(call.samples)
                not_counted = np.empty((batch, bands, slots, 2), np.int64)
                render_pass(*fields, behind, call.samples, bands, workers(), canvas, *none, not_counted)
                no_colours = np.empty((0, 0, 0), np.float32)
                render_pass(*fields, behind, 1, call.bands(1), workers(), no_colours, depth_m, ids, counts)
        seen, alone = counts.sum(1)[..., 0], counts.sum(1)[..., 1]
        visible = (seen / np.maximum(alone, 1)).astype(np.float32)
        ctx.call = call
        ctx.save_for_backward(T, light, background, *surfaces)
        out = tuple(from_numpy(x, (batch,), T) for x in (canvas.reshape(batch, height, width, 3), depth_m, ids, visible))
        ctx.mark_non_differentiable(out[2], out[3])
        ctx.set_materialize_grads(False)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Hand the gradient on."""
        call, slots = ctx.call, ctx.call.size[1]
        by_rgb, by_depth = grads[:2]
        total: tuple[Tensor | None, ...] = (None,) * len(ctx.saved_tensors)
        if slots == 0:
            return None, None, None, by_rgb, *total[3:]
        if by_rgb is not None:
            total = image_gradient(ctx, call, call.samples, slots, weights_rgb=to_numpy(by_rgb)[:, None])
        if by_depth is not None:
            more = image_gradient(ctx, call, 1, slots, weights_depth=to_numpy(by_depth))
            total = tuple(a if b is None else b if a is None else a + b for a, b in zip(total, more, strict=True))
        return (None, *total)


class PrefixImages(torch.autograd.Function):
    """Canvases of the first 0, 1, ..., n objects."""

    @staticmethod
    def forward(ctx: Any, call: Call, T: Tensor, light: Tensor, background: Tensor, *surfaces: Tensor) -> Tensor:
        """Draw."""
        batch, slots, height, width = call.size
        canvases = np.empty((batch, slots + 1, height, width, 3), np.float32)
        fields = (call.meshes, call.class_ids, to_numpy(T), call.present, to_numpy(light), call.camera)
        with KERNEL_LOCK:
            prefix_pass(*fields, to_numpy(background), call.samples, 0, workers(), canvases)
        ctx.call = call
        ctx.save_for_backward(T, light, background, *surfaces)
        return from_numpy(canvases, (batch,), T)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Hand the gradient on."""
        call = ctx.call
        T, light, background, *surfaces = image_gradient(ctx, call, call.samples, 1, weights_rgb=to_numpy(grads[0]))
        if background is not None:
            background = background + grads[0][:, 0]
        return None, T, light, background, *surfaces


class VisibleMasks(torch.autograd.Function):
    """Share of every pixel's samples in which an object is seen."""

    @staticmethod
    def forward(ctx: Any, call: Call, T: Tensor, light: Tensor, background: Tensor, *surfaces: Tensor) -> Tensor:
        """Draw."""
        batch, slots, height, width = call.size
        masks = np.zeros((batch, slots, height, width), np.float32)
        with KERNEL_LOCK:
            mask_pass(call.meshes, call.class_ids, to_numpy(T), call.present, call.camera, call.samples, workers(), masks)
        ctx.call = call
        ctx.save_for_backward(T, light, background, *surfaces)
        return from_numpy(masks, (batch,), T)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Hand the gradient on."""
        call = ctx.call
        return None, *image_gradient(ctx, call, call.samples, max(call.size[1], 1), weights_masks=to_numpy(grads[0]))


def image_gradient(
    ctx: Any,
    call: Call,
    samples: int,
    first_prefix: int,
    weights_rgb: np.ndarray | None = None,
    weights_depth: np.ndarray | None = None,
    weights_masks: np.ndarray | None = None,
) -> tuple[Tensor | None, ...]:
    """Gradient by poses [b n 3 4], lights [b n 6], background [b h w 3] and, where given, surfaces; None where not asked for."""
    T, light, background, *surfaces = ctx.saved_tensors
    batch, slots, height, width = call.size
    bands = call.bands(samples)
    weights = (
        np.zeros((batch, 0, 0, 0, 3), np.float32) if weights_rgb is None else weights_rgb,
        np.zeros((batch, 0, 0), np.float32) if weights_depth is None else weights_depth,
        np.zeros((batch, 0, 0, 0), np.float32) if weights_masks is None else weights_masks,
    )
    T_grad, light_grad = np.zeros((batch, bands, slots, 3, 4)), np.zeros((batch, bands, slots, 6))
    wants_background = ctx.needs_input_grad[3] and weights_rgb is not None
    background_grad = np.zeros((batch, height, width, 3) if wants_background else (0, 0, 0, 3), np.float32)
    wants_surface = any(ctx.needs_input_grad[4:])
    shapes = [x.shape for x in surfaces] if wants_surface else [(0, 3), (0, 3, 3), (0, 3, 3)]
    surface_grads = [np.zeros((SURFACE_ITEMS if wants_surface else workers(), *shape)) for shape in shapes]
    fields = (call.meshes, call.class_ids, to_numpy(T), call.present, to_numpy(light), call.camera)
    with KERNEL_LOCK:
        gradient_pass(
            *fields,
            to_numpy(background),
            samples,
            bands,
            first_prefix,
            *weights,
            T_grad,
            light_grad,
            background_grad,
            wants_surface,
            *surface_grads,
        )
    by_surface = [from_numpy(grad.sum(0), shape[:1], x) for grad, shape, x in zip(surface_grads, shapes, surfaces, strict=False)]
    return (
        from_numpy(T_grad.sum(1), (batch,), T),
        from_numpy(light_grad.sum(1), (batch,), light),
        from_numpy(background_grad, (batch,), background) if wants_background else None,
        *(by_surface if wants_surface else [None] * len(surfaces)),
    )
