"""Images as functions that torch differentiates: of poses in the camera's frame, lights in the objects' frames, background and
surfaces.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from renderers.raster.warp import gradients, pipeline
from renderers.raster.warp.batch import Batch
from renderers.raster.warp.gradient_passes import Weights
from renderers.raster.warp.packing import DeviceMeshes
from renderers.raster.warp.pipeline import Grid


@dataclass(frozen=True)
class Call:
    """What an image needs beside the tensors that carry gradients."""

    meshes: DeviceMeshes
    """The catalogue, with other surfaces if given."""
    batch: Batch
    """The layers, without history."""
    grid: Grid
    """The image."""


class PrefixImages(torch.autograd.Function):
    """Images of the first 0, 1, ..., n objects.

    Layers are drawn again on the way back, which takes less time than keeping them takes memory.
    """

    @staticmethod
    def forward(ctx: Any, call: Call, T: Tensor, light: Tensor, levels: Tensor, background: Tensor, *surfaces: Tensor) -> Tensor:
        """Draw."""
        _remember(ctx, call, background)
        return pipeline.draw_prefixes(call.meshes, call.batch, background, call.grid)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Hand the gradient on."""
        weights = Weights(rgb=_plain(grads[0]))
        return _image_gradient(ctx, weights, ctx.call.grid, ctx.needs_input_grad[4])


class RenderedImages(torch.autograd.Function):
    """Colour, depth, ids and visible fractions of scenes."""

    @staticmethod
    def forward(
        ctx: Any, call: Call, T: Tensor, light: Tensor, levels: Tensor, background: Tensor, *surfaces: Tensor
    ) -> tuple[Tensor, ...]:
        """Draw."""
        _remember(ctx, call, background)
        ctx.set_materialize_grads(False)
        out = pipeline.draw_images(call.meshes, call.batch, background, call.grid)
        ctx.mark_non_differentiable(out[2], out[3])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Hand the gradient on: of colour and depth at once if they have the same samples."""
        call = ctx.call
        first = call.batch.class_ids.shape[1]
        rgb = None if grads[0] is None else _plain(grads[0][:, None])
        depth_m = None if grads[1] is None else _plain(grads[1])
        wants_background = ctx.needs_input_grad[4] and rgb is not None
        if rgb is None or depth_m is None or call.grid.samples == 1:
            grid = call.grid if depth_m is None else dataclasses.replace(call.grid, samples=1)
            return _image_gradient(ctx, Weights(rgb, depth_m, None, first), grid, wants_background)
        by_rgb = _image_gradient(ctx, Weights(rgb=rgb, first_prefix=first), call.grid, wants_background)
        by_depth = _image_gradient(ctx, Weights(depth_m=depth_m), dataclasses.replace(call.grid, samples=1), False)
        return tuple(a if a is None or b is None else a + b for a, b in zip(by_rgb, by_depth, strict=True))


class VisibleMasks(torch.autograd.Function):
    """Share of every pixel's samples in which an object is seen."""

    @staticmethod
    def forward(ctx: Any, call: Call, T: Tensor, light: Tensor, levels: Tensor, background: Tensor, *surfaces: Tensor) -> Tensor:
        """Draw."""
        _remember(ctx, call, background)
        return pipeline.share_samples(call.meshes, call.batch, call.grid)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Hand the gradient on."""
        return _image_gradient(ctx, Weights(masks=_plain(grads[0])), ctx.call.grid, False)


def _remember(ctx: Any, call: Call, background: Tensor) -> None:
    ctx.call = call
    ctx.save_for_backward(background)


def _plain(grad: Tensor) -> Tensor:
    return grad.to(torch.float32).contiguous()


def _image_gradient(ctx: Any, weights: Weights, grid: Grid, wants_background: bool) -> tuple[Tensor | None, ...]:
    """Gradient by each argument of ``forward``."""
    call, background = ctx.call, ctx.saved_tensors[0].detach()
    surfaces = ctx.needs_input_grad[5:]
    g = gradients.pull_images(call.meshes, call.batch, background, weights, grid, wants_background, any(surfaces))
    by_surface = (g.vertices_m, g.corner_rgb, g.corner_normals)[: len(surfaces)]
    return None, g.layers[..., :12].unflatten(-1, (3, 4)), g.layers[..., 12:15], g.layers[..., 15:], g.background, *by_surface
