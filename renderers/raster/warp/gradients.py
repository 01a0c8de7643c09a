"""Whole backward passes over a batch, in the same parts as ``pipeline``."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_graphics.types import map_tensors
from renderers.raster.warp import gradient_passes
from renderers.raster.warp.batch import Batch
from renderers.raster.warp.gradient_passes import Weights
from renderers.raster.warp.packing import DeviceMeshes
from renderers.raster.warp.pipeline import BYTES_PER_FACE, Grid, draw_part, parts

BYTES_PER_SURFACE_FACE = BYTES_PER_FACE + 108
"""Of a layer, where the gradient by surfaces is wanted: 27 numbers more."""


@dataclass(frozen=True)
class ImageGradient:
    """Gradient of a loss by all that an image is made of; None where it was not asked for."""

    layers: Float[Tensor, "b n 17"]
    """By T_camera_object (12 numbers), light (3) and levels (2)."""
    background: Float[Tensor, "b h w 3"] | None
    """By the background."""
    vertices_m: Float[Tensor, "v 3"] | None
    """By the meshes' positions."""
    corner_rgb: Float[Tensor, "f 3 3"] | None
    """By their colours."""
    corner_normals: Float[Tensor, "f 3 3"] | None
    """By their normals."""


def pull_images(
    meshes: DeviceMeshes,
    batch: Batch,
    background: Float[Tensor, "b h w 3"],
    weights: Weights,
    grid: Grid,
    wants_background: bool,
    wants_surfaces: bool,
) -> ImageGradient:
    """Gradient of a loss on images.

    Args:
        meshes: the catalogue.
        batch: the layers.
        background: behind them.
        weights: gradient of the loss with respect to the images.
        grid: their size.
        wants_background: whether the gradient by the background is asked for; then ``weights.rgb`` must be there.
        wants_surfaces: whether that by the surfaces is; then ``weights`` must be by images of all objects only.
    """
    layers = batch.light.new_empty(*batch.class_ids.shape, 17)
    behind = torch.empty_like(background) if wants_background else None
    by_face = layers.new_zeros(len(meshes.faces), 3, 3, 3)
    for part in parts(batch, meshes, grid, bytes_per_face=BYTES_PER_SURFACE_FACE if wants_surfaces else BYTES_PER_FACE):
        drawn = draw_part(meshes, batch, grid, part)
        some: Weights = map_tensors(lambda x, part=part: x[part], weights)
        pulled = gradient_passes.pull(drawn, background[part], some, meshes.most_vertices)
        layers[part] = pulled.reshape(layers[part].shape)
        if behind is not None:
            behind[part] = gradient_passes.pull_behind(drawn, background[part], some)
        if wants_surfaces:
            gradient_passes.pull_surface(drawn, background[part], some, meshes, by_face)
    if not wants_surfaces:
        return ImageGradient(layers, behind, None, None, None)
    vertices_m = gradient_passes.at_vertices(by_face, meshes)
    return ImageGradient(layers, behind, vertices_m, by_face[:, 1], by_face[:, 2])


def sum_normals(
    meshes: DeviceMeshes,
    batch: Batch,
    background: Float[Tensor, "b h w 3"],
    residual: Float[Tensor, "b h w 3"],
    grid: Grid,
) -> tuple[Float[Tensor, "b n 6"], Float[Tensor, "b n 6 6"]]:
    """J^T r and J^T J by the motions of the objects along and about the axes of their own frames; float64."""
    gradient = background.new_empty(*batch.class_ids.shape, 6, dtype=torch.float64)
    hessian = background.new_empty(*batch.class_ids.shape, 6, 6, dtype=torch.float64)
    for part in parts(batch, meshes, grid):
        drawn = draw_part(meshes, batch, grid, part)
        one, two = gradient_passes.normals(drawn, background[part], residual[part], meshes.most_vertices)
        gradient[part], hessian[part] = one.reshape(gradient[part].shape), two.reshape(hessian[part].shape)
    return gradient, hessian
