"""Whole passes over a batch, in parts of as many scenes as the buffers may hold."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from renderers.raster.warp import passes
from renderers.raster.warp.batch import Batch, part_of
from renderers.raster.warp.packing import DeviceMeshes

BYTES_PER_SAMPLE = 20
"""Of a layer: key (8) and colour (12)."""

BYTES_PER_FACE = 8
"""Of a layer: its place on the list of large faces."""


@dataclass(frozen=True)
class Grid:
    """The image that a batch is drawn on, and the memory to do it in."""

    height_px: int
    """Image height."""
    width_px: int
    """Image width."""
    samples: int
    """Samples a pixel along each axis."""
    max_buffer_bytes: int
    """Scenes are drawn in parts whose buffers are about this large; a single scene is never divided."""


def parts(
    batch: Batch, meshes: DeviceMeshes, grid: Grid, layers_a_slot: int = 1, bytes_per_face: int = BYTES_PER_FACE
) -> Iterator[slice]:
    """Slices of the scenes; ``layers_a_slot`` counts alternatives as well."""
    scenes, slots = batch.class_ids.shape
    samples = grid.height_px * grid.width_px * grid.samples**2
    per_layer = samples * BYTES_PER_SAMPLE + meshes.most_faces * bytes_per_face
    count = max(1, grid.max_buffer_bytes // max(1, slots * layers_a_slot * per_layer))
    for first in range(0, scenes, count):
        yield slice(first, min(first + count, scenes))


def draw_part(meshes: DeviceMeshes, batch: Batch, grid: Grid, part: slice, samples: int | None = None) -> passes.Drawn:
    """Draw the layers of some scenes; with other samples a pixel than the grid's if given."""
    chosen = grid.samples if samples is None else samples
    return passes.draw(meshes, part_of(batch, part.start, part.stop), grid.height_px, grid.width_px, chosen)


def draw_layers(meshes: DeviceMeshes, batch: Batch, grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
    """Colour [b n hs ws 3], coverage [b n hs ws] and depth [b n hs ws] of every object alone."""
    scenes, slots = batch.class_ids.shape
    size = (scenes, slots, grid.height_px * grid.samples, grid.width_px * grid.samples)
    rgb = batch.light.new_zeros(*size, 3)
    alpha, depth_m = batch.light.new_empty(size), batch.light.new_empty(size)
    for part in parts(batch, meshes, grid):
        drawn = draw_part(meshes, batch, grid, part)
        passes.shade_into(drawn, rgb[part].flatten(0, 1))
        passes.unpack(drawn, alpha[part].flatten(0, 1), depth_m[part].flatten(0, 1))
    return rgb, alpha, depth_m


def draw_prefixes(
    meshes: DeviceMeshes, batch: Batch, background: Float[Tensor, "b h w 3"], grid: Grid
) -> Float[Tensor, "b n_plus_1 h w 3"]:
    """Images of the first 0, 1, ..., n objects."""
    scenes, slots = batch.class_ids.shape
    canvases = background.new_empty(scenes, slots + 1, grid.height_px, grid.width_px, 3)
    for part in parts(batch, meshes, grid):
        drawn = draw_part(meshes, batch, grid, part)
        passes.merge(drawn, passes.shade(drawn), background[part], 0, canvases[part])
    return canvases


def draw_images(
    meshes: DeviceMeshes, batch: Batch, background: Float[Tensor, "b h w 3"], grid: Grid
) -> tuple[Float[Tensor, "b h w 3"], Float[Tensor, "b h w"], Int[Tensor, "b h w"], Float[Tensor, "b n"]]:
    """Images of all objects; depth and ids at the pixels' centres, and the share of each object's pixels that is seen.

    With one sample a pixel the layers are drawn once for both.
    """
    scenes, slots = batch.class_ids.shape
    canvases = background.new_empty(scenes, 1, grid.height_px, grid.width_px, 3)
    depth_m = background.new_empty(canvases.shape[0], *canvases.shape[2:4])
    object_ids = torch.empty(depth_m.shape, dtype=torch.int64, device=depth_m.device)
    fraction = background.new_empty(scenes, slots)
    numbers = torch.arange(slots, device=depth_m.device)
    for part in parts(batch, meshes, grid):
        drawn = draw_part(meshes, batch, grid, part)
        passes.merge(drawn, passes.shade(drawn), background[part], slots, canvases[part])
        if grid.samples > 1:
            drawn = draw_part(meshes, batch, grid, part, samples=1)
        passes.visible(drawn, depth_m[part], object_ids[part])
        alone = (drawn.keys > 0).sum((-2, -1)).reshape(fraction[part].shape)
        seen = (object_ids[part, None] == numbers[:, None, None]).sum((-2, -1))
        fraction[part] = seen / alone.clamp(min=1)
    return canvases[:, 0], depth_m, object_ids, fraction


def share_samples(meshes: DeviceMeshes, batch: Batch, grid: Grid) -> Float[Tensor, "b n h w"]:
    """Share of each pixel's samples in which each object is seen."""
    masks = batch.light.new_zeros(*batch.class_ids.shape, grid.height_px, grid.width_px)
    for part in parts(batch, meshes, grid):
        passes.shares(draw_part(meshes, batch, grid, part), masks[part])
    return masks


def swap_errors(
    meshes: DeviceMeshes,
    batch: Batch,
    others: Batch,
    background: Float[Tensor, "b h w 3"],
    target: Float[Tensor, "b h w 3"],
    grid: Grid,
) -> Float[Tensor, "b n_a n_plus_1"]:
    """Squared error of every prefix with one slot replaced; ``others`` holds the n * a alternatives of each scene."""
    scenes, slots = batch.class_ids.shape
    layers = others.class_ids.shape[1]
    errors = background.new_zeros(scenes, layers, slots + 1)
    if slots == 0 or layers == 0:
        return errors
    alternatives = layers // slots
    for part in parts(batch, meshes, grid, 1 + alternatives):
        drawn, replaced = draw_part(meshes, batch, grid, part), draw_part(meshes, others, grid, part)
        rgb, other_rgb = passes.shade(drawn), passes.shade(replaced)
        found = passes.swap(drawn, rgb, replaced, other_rgb, background[part], target[part], alternatives)
        errors[part] = found.reshape(errors[part].shape)
    return errors
