"""Finite differences of the images of opaque layers: one layer of a stack is moved at a time, and the others stay."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from inverse_graphics.stacks import Stack, make_stack, prefix_canvases, replacement_changes
from renderers.differences.layers import DrawLayers, MakeProbes
from renderers.differences.schemes import Probes, chunks
from renderers.tangents import matrix_gradient

BYTES_PER_SAMPLE = 24
"""Colour, coverage, depth and nearness of a layer."""


class DifferencedStack(torch.autograd.Function):
    """Images of the first ``first``, ..., n layers; the gradient to the poses by the changes of those images.

    Unlike differences of layers, which a compositor merges afterwards, these know what each moved layer uncovers and hides.  One
    draw moves the objects of all scenes; the images are merged again only where a layer moved.
    """

    @staticmethod
    def forward(
        ctx: Any,
        T_world_object: Tensor,
        stack: Stack,
        background_rgb: Tensor,
        draw: DrawLayers,
        make_probes: MakeProbes,
        first: int,
    ) -> Tensor:
        """Merge; the stack is of the layers at these poses."""
        ctx.save_for_backward(T_world_object, background_rgb)
        ctx.stack, ctx.draw, ctx.make_probes, ctx.first = stack, draw, make_probes, first
        return prefix_canvases(stack, background_rgb, first).to(T_world_object)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Put each moved layer in place of its own."""
        T_world_object, background_rgb = ctx.saved_tensors
        stack: Stack = ctx.stack
        if stack.q.size == 0:
            return torch.zeros_like(T_world_object), *[None] * 5
        weights = torch.nn.functional.pad(grads[0], (0, 0, 0, 0, 0, 0, ctx.first, 0)) if ctx.first else grads[0]
        probes: Probes = ctx.make_probes(T_world_object)
        changes: list[Tensor] = []
        for chosen in chunks(len(probes), probes.sides * BYTES_PER_SAMPLE * stack.q.size):
            drawn = make_stack(ctx.draw(probes.moved(T_world_object, chosen)))
            if drawn is None:
                raise ValueError("layers: expected coverage of 0 or 1 at every pose, as at the first; draw soft layers always")
            change = replacement_changes(stack, drawn, background_rgb, weights)
            count = len(change) // probes.sides
            behind = change[count:] if probes.both_sides else replacement_changes(stack, _once(stack), background_rgb, weights)
            changes.append(change[:count] - behind)
        slopes = probes.slopes(torch.cat(changes).to(T_world_object))
        return matrix_gradient(T_world_object, probes.basis, slopes), *[None] * 5


def _once(stack: Stack) -> Stack:
    """The stack under a leading dimension of one."""
    return Stack(stack.q[None], stack.rgb[None], stack.boxes[None], stack.samples_per_axis)
