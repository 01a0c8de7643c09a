"""Image Jacobians from layers: what is seen to change when one object of a scene moves and the others stay."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_graphics.compositing import merge_depth
from inverse_graphics.types import Layers
from renderers.differences.layers import DrawLayers, layer_bytes
from renderers.differences.schemes import Probes, chunks
from renderers.raster.normal_equations import NormalEquations

MAX_POINTS = 2**18
"""Samples whose stacks are merged at once."""


def layer_jacobian(
    draw: DrawLayers,
    T_world_object: Float[Tensor, "b n 4 4"],
    probes: Probes,
    background_rgb: Float[Tensor, "b h w 3"],
) -> Float[Tensor, "b n p h w 3"]:
    """Derivatives of each scene's image by its objects' motions, of probes that move along one tangent each.

    All objects move in the same draws.  Each layer is then put in place of its own among the others as they were, and the stack
    is merged again, at those samples that the layer covers on either side.
    """
    still = draw(T_world_object)
    samples = still.samples_per_axis
    out = still.rgb.new_zeros(*probes.steps.shape, *background_rgb.shape[1:])
    for chosen in chunks(len(probes), probes.sides * layer_bytes(still.alpha)):
        drawn = draw(probes.moved(T_world_object, chosen))
        count = chosen.stop - chosen.start
        ahead = _part(drawn, slice(0, count))
        behind = _part(drawn, slice(count, None)) if probes.both_sides else _repeat(still, count)
        covered = (ahead.alpha > 0) | (behind.alpha > 0)
        for points in covered.nonzero().split(MAX_POINTS):
            probe, scene, slot, row, column = points.unbind(-1)
            change = _merged(still, ahead, background_rgb, points) - _merged(still, behind, background_rgb, points)
            pixel = (scene, slot, probe + chosen.start, row // samples, column // samples)
            out.index_put_(pixel, change / samples**2, accumulate=True)
    return out / (probes.width * probes.steps[..., None, None, None]).to(out)


def sum_equations(jacobian: Float[Tensor, "b n p h w 3"], residual_rgb: Float[Tensor, "b h w 3"]) -> NormalEquations:
    """J^T r and J^T J, object by object."""
    J, residual = jacobian.flatten(3), residual_rgb.flatten(1).to(jacobian)
    return NormalEquations((J @ residual[:, None, :, None])[..., 0], J @ J.transpose(-1, -2))


def _part(layers: Layers, part: slice) -> Layers:
    return Layers(layers.rgb[part], layers.alpha[part], layers.depth_m[part], layers.samples_per_axis)


def _repeat(layers: Layers, count: int) -> Layers:
    """The same layers under a leading dimension, without a copy."""
    rgb, alpha, depth_m = (x.expand(count, *x.shape) for x in (layers.rgb, layers.alpha, layers.depth_m))
    return Layers(rgb, alpha, depth_m, layers.samples_per_axis)


def _merged(
    still: Layers, moved: Layers, background_rgb: Float[Tensor, "b h w 3"], points: Int[Tensor, "q 5"]
) -> Float[Tensor, "q 3"]:
    """Colours at samples (probe, scene, slot, row, column) where that slot's layer is the moved one.

    The samples are laid side by side, as the only row of an image.
    """
    probe, scene, slot, row, column = points.unbind(-1)
    every = torch.arange(len(points), device=points.device)

    def stack(mine: Tensor, theirs: Tensor) -> Tensor:
        out = mine[scene, :, row, column]
        out[every, slot] = theirs[probe, scene, slot, row, column]
        return out.movedim(0, 1)[:, None]

    layers = Layers(stack(still.rgb, moved.rgb), stack(still.alpha, moved.alpha), stack(still.depth_m, moved.depth_m), 1)
    background = background_rgb[scene, row // still.samples_per_axis, column // still.samples_per_axis]
    return merge_depth(layers, background[None].to(still.rgb))[0]
