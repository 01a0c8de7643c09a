"""Merging object layers into images: the depth test, and prefixes over the count.

An image is a stack of layers.  The canvases C_0..C_N of its prefixes (the background, the first object, the first two, ...) are
what the exact bound over the count needs; a class alternative or a moved object replaces one layer and merges again.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_graphics import stacks
from inverse_graphics.protocols import ImageRenderer, Renderer, StackRenderer
from inverse_graphics.types import Layers, Objects, RenderOutput, View, map_tensors

SWAP_BYTES = 2**28
"""About what the layers of a slot's alternatives may take at a time."""
T = TypeVar("T")


def flatten_batch(value: T, dims: int) -> T:
    """The first ``dims`` dimensions of every tensor of a (nested) dataclass, or of a tuple of such, as one."""
    if isinstance(value, tuple):
        return tuple(flatten_batch(part, dims) for part in value)  # type: ignore[return-value]
    return map_tensors(lambda x: x.reshape(math.prod(x.shape[:dims]), *x.shape[dims:]), value)


def upsample(image: Float[Tensor, "*b h w c"], samples_per_axis: int) -> Float[Tensor, "*b hs ws c"]:
    """Repeat every pixel samples_per_axis times along both axes."""
    return image.repeat_interleave(samples_per_axis, -3).repeat_interleave(samples_per_axis, -2)


def box_filter(samples: Float[Tensor, "*b hs ws c"], samples_per_axis: int) -> Float[Tensor, "*b h w c"]:
    """Mean over each pixel's samples."""
    *batch, height, width, channels = samples.shape
    s = samples_per_axis
    return samples.reshape(*batch, height // s, s, width // s, s, channels).mean((-4, -2))


def merge_depth(layers: Layers, background_rgb: Float[Tensor, "*b h w 3"]) -> Float[Tensor, "*b h w 3"]:
    """Composite layers over a background, nearest first.

    Per sample the layers are sorted by depth and blended with "over": for alpha in {0, 1} this is the depth test, for soft alpha
    it is the usual transparency.  The order carries no gradient; colour and alpha do.
    """
    order = layers.depth_m.detach().argsort(dim=-3, descending=True)
    rgb = torch.take_along_dim(layers.rgb, order[..., None], dim=-4)
    alpha = torch.take_along_dim(layers.alpha, order, dim=-3)
    canvas = upsample(background_rgb, layers.samples_per_axis)
    for rgb_k, alpha_k in zip(rgb.unbind(-4), alpha.unbind(-3), strict=True):
        canvas = rgb_k + (1 - alpha_k[..., None]) * canvas
    return box_filter(canvas, layers.samples_per_axis)


def first_layers(layers: Layers, count: int) -> Layers:
    """The stack's first ``count`` layers."""
    return Layers(
        layers.rgb[..., :count, :, :, :],
        layers.alpha[..., :count, :, :],
        layers.depth_m[..., :count, :, :],
        layers.samples_per_axis,
    )


def prefix_canvases(layers: Layers, background_rgb: Float[Tensor, "*b h w 3"]) -> Float[Tensor, "*b n_plus_1 h w 3"]:
    """Images C_0..C_n of the first 0, 1, ..., n layers."""
    carries = torch.is_grad_enabled() and any(x.requires_grad for x in (layers.rgb, layers.alpha, background_rgb))
    batch, slots = background_rgb.shape[:-3], layers.alpha.shape[-3]
    flat_layers, flat_background = flatten_batch((layers, background_rgb), len(batch))
    stack = None if carries else stacks.make_stack(flat_layers)
    if stack is not None:
        canvases = stacks.prefix_canvases(stack, flat_background, 0)
        return canvases.to(background_rgb.dtype).reshape(*batch, slots + 1, *background_rgb.shape[-3:])
    return torch.stack([merge_depth(first_layers(layers, count), background_rgb) for count in range(slots + 1)], dim=-4)


def add_prefixes(layers: Float[Tensor, "*b n h w"]) -> Float[Tensor, "*b n_plus_1 h w"]:
    """Images C_0..C_n of the first 0, 1, ..., n layers where layers add up, as sprites do, on a black background."""
    return torch.cat([torch.zeros_like(layers[..., :1, :, :]), layers.cumsum(-3)], -3)


def prefix_images(renderer: Renderer, objects: Objects, view: View) -> Float[Tensor, "*b n_plus_1 h w 3"]:
    """Images of the first 0, 1, ..., n objects, with the renderer's gradients to their poses.

    A ``StackRenderer`` does it in one pass of its own, any other through its layers; the images are the same.
    """
    if isinstance(renderer, StackRenderer):
        return renderer.prefix_images(objects, view)
    return prefix_canvases(renderer.layers(objects, view), view.background_rgb)


def select_batch(value: T, chosen: slice) -> T:
    """Some along the first dimension of every tensor of a (nested) dataclass, or of a tuple of such."""
    if isinstance(value, tuple):
        return tuple(select_batch(part, chosen) for part in value)  # type: ignore[return-value]
    return map_tensors(lambda x: x[chosen], value)


def draw_rgb(renderer: Renderer, objects: Objects, view: View) -> Float[Tensor, "*b h w 3"]:
    """Colours of ``renderer.render``, by the shortest way the renderer has; no gradient."""
    with torch.no_grad():
        if isinstance(renderer, ImageRenderer):
            return renderer.images(objects, view)
        if isinstance(renderer, StackRenderer):
            return renderer.render(objects, view).rgb
        return merge_layers(renderer.layers(objects, view), view.background_rgb)


def merge_layers(layers: Layers, background_rgb: Float[Tensor, "*b h w 3"]) -> Float[Tensor, "*b h w 3"]:
    """``merge_depth`` without gradient, by a compiled pass where it can."""
    flat_layers, flat_background = flatten_batch((layers, background_rgb), background_rgb.dim() - 3)
    stack = stacks.make_stack(flat_layers)
    if stack is None:
        return merge_depth(layers, background_rgb).detach()
    canvases = stacks.prefix_canvases(stack, flat_background, layers.alpha.shape[-3])
    return canvases.to(background_rgb).reshape(background_rgb.shape)


def swap_errors(
    renderer: Renderer, objects: Objects, alternatives: Objects, view: View, target_rgb: Float[Tensor, "*b h w 3"]
) -> Float[Tensor, "*b n a n_plus_1"]:
    """Squared error of every prefix image with one slot's object replaced by an alternative.

    Args:
        renderer: draws the layers.
        objects: [*b n] the stack; what slots hold.
        alternatives: [*b n a] objects that may stand in each slot instead; absent ones leave the slot empty.
        view: [*b] views.
        target_rgb: the image to compare with.

    Returns:
        Entry (k, a, m): sum over pixels and channels of (C_m with alternative a in slot k - target)^2; 0 for m <= k, where slot k
        is not drawn.  Carries no gradient.
    """
    if isinstance(renderer, StackRenderer):
        return renderer.swap_errors(objects, alternatives, view, target_rgb)
    with torch.no_grad():
        return _swap_errors_of_layers(renderer, objects, alternatives, view, target_rgb)


def _swap_errors_of_layers(renderer: Renderer, objects: Objects, alternatives: Objects, view: View, target_rgb: Tensor) -> Tensor:
    """As many scenes at a time as ``SWAP_BYTES`` allows."""
    dims = objects.class_ids.dim() - 1
    stack, others, views, targets = flatten_batch((objects, alternatives, view, target_rgb), dims)
    scenes, slots, count = others.class_ids.shape
    errors = target_rgb.new_zeros(scenes, slots, count, slots + 1)
    samples = view.camera.height_px * view.camera.width_px * renderer.samples_per_axis**2
    step = max(1, SWAP_BYTES // max(1, 20 * samples * max(count, slots)))
    for start in range(0, scenes, step):
        chosen = slice(start, start + step)
        errors[chosen] = _swap_errors_of_part(renderer, *select_batch((stack, others, views, targets), chosen))
    return errors.reshape(*alternatives.class_ids.shape, slots + 1)


def _swap_errors_of_part(renderer: Renderer, objects: Objects, alternatives: Objects, view: View, target_rgb: Tensor) -> Tensor:
    slots, count = alternatives.class_ids.shape[-2:]
    layers = renderer.layers(objects, view)
    stack = stacks.make_stack(layers)
    errors = target_rgb.new_zeros(*alternatives.class_ids.shape, slots + 1)
    for k in range(slots):
        other = Objects(alternatives.class_ids[:, k], alternatives.T_world_object[:, k], alternatives.present[:, k])
        replacements = renderer.layers(other, view)
        others = None if stack is None else stacks.make_stack(replacements)
        if stack is not None and others is not None:
            errors[:, k] = stacks.replacement_errors(k, stack, others, view.background_rgb, target_rgb).to(errors)
            continue
        for a in range(count):
            swapped = replace_layer(layers, k, replacements, a)
            for m in range(k + 1, slots + 1):
                image = merge_depth(first_layers(swapped, m), view.background_rgb)
                errors[:, k, a, m] = (image - target_rgb).square().sum((-3, -2, -1))
    return errors


def replace_layer(layers: Layers, slot: int, other: Layers, other_slot: int) -> Layers:
    """The stack with one layer taken from another stack."""

    def put(mine: Tensor, theirs: Tensor, dim: int) -> Tensor:
        parts = list(mine.unbind(dim))
        parts[slot] = theirs.select(dim, other_slot)
        return torch.stack(parts, dim)

    return Layers(
        put(layers.rgb, other.rgb, -4),
        put(layers.alpha, other.alpha, -3),
        put(layers.depth_m, other.depth_m, -3),
        layers.samples_per_axis,
    )


def winners(layers: Layers) -> tuple[Float[Tensor, "*b hs ws"], Int[Tensor, "*b hs ws"]]:
    """Depth (0 where empty) and slot (-1 where empty) of the nearest layer at each sample."""
    depth_m = torch.where(layers.alpha >= 0.5, layers.depth_m, torch.inf)
    if depth_m.shape[-3] == 0:
        empty = depth_m.new_zeros(depth_m.shape[:-3] + depth_m.shape[-2:])
        return empty, torch.full(empty.shape, -1, dtype=torch.int64, device=empty.device)
    nearest_m, slot = depth_m.min(-3)
    hit = torch.isfinite(nearest_m)
    return torch.where(hit, nearest_m, torch.zeros_like(nearest_m)), torch.where(hit, slot, torch.full_like(slot, -1))


def render_layers(renderer: Renderer, objects: Objects, view: View) -> RenderOutput:
    """Make an image from a renderer's layers: colour from all samples, depth and ids at the pixels' centres."""
    layers = renderer.layers(objects, view)
    carries = torch.is_grad_enabled() and any(x.requires_grad for x in (layers.rgb, layers.alpha, view.background_rgb))
    rgb = (merge_depth if carries else merge_layers)(layers, view.background_rgb)
    return add_geometry(renderer, objects, view, rgb, layers)


def add_geometry(
    renderer: Renderer, objects: Objects, view: View, rgb: Float[Tensor, "*b h w 3"], layers: Layers | None = None
) -> RenderOutput:
    """Depth, ids and visibility beside an image: at the pixels' centres, from layers, if they stand there, or from new ones."""
    centres = layers
    if centres is None or centres.samples_per_axis != 1:
        centres = renderer.layers(objects, view, samples_per_axis=1)
    depth_m, object_ids = winners(centres)
    slots = torch.arange(objects.class_ids.shape[-1], device=object_ids.device)
    visible = (object_ids[..., None, :, :] == slots[:, None, None]).sum((-2, -1))
    alone = (centres.alpha >= 0.5).sum((-2, -1))
    return RenderOutput(
        rgb=rgb,
        depth_m=depth_m,
        object_ids=object_ids,
        visible_fraction=visible / alone.clamp(min=1),
    )
