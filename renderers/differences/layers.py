"""Finite differences of layers: every object is alone in its own, so that all of them move at once.

The layers are differenced, not the loss: the loss's gradient with respect to the layers is contracted with their change, so that
any compositor may follow.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from inverse_graphics.types import Layers
from renderers.differences.schemes import Probes, chunks
from renderers.tangents import matrix_gradient

DrawLayers = Callable[[Tensor], Layers]
"""Layers at poses [*b n 4 4], or [k *b n 4 4]: the same scenes k times over."""
MakeProbes = Callable[[Tensor], Probes]
"""Motions about poses [*b n 4 4]."""


class DifferencedLayers(torch.autograd.Function):
    """Layers of a black box: drawn once before, as often as the probes say on the way back."""

    @staticmethod
    def forward(ctx: Any, T_world_object: Tensor, drawn: Layers, draw: DrawLayers, make_probes: MakeProbes, keep: bool) -> Any:
        """Hand on what was ``drawn`` at these poses; ``keep`` it where the probes compare with it."""
        rgb, alpha, depth_m = drawn.rgb.clone(), drawn.alpha.clone(), drawn.depth_m.clone()
        ctx.save_for_backward(T_world_object, *((rgb, alpha) if keep else ()))
        ctx.draw, ctx.make_probes = draw, make_probes
        ctx.mark_non_differentiable(depth_m)
        return rgb, alpha, depth_m

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Contract the layers' changes with the gradients that came in."""
        T_world_object, *still = ctx.saved_tensors
        grad_rgb, grad_alpha = grads[:2]
        if grad_alpha.numel() == 0:
            return torch.zeros_like(T_world_object), None, None, None, None
        probes: Probes = ctx.make_probes(T_world_object)
        changes: list[Tensor] = []
        for chosen in chunks(len(probes), probes.sides * layer_bytes(grad_alpha)):
            drawn: Layers = ctx.draw(probes.moved(T_world_object, chosen))
            count = len(drawn.rgb) // probes.sides
            rgb, alpha = (drawn.rgb[count:], drawn.alpha[count:]) if probes.both_sides else still
            change = (drawn.rgb[:count] - rgb).mul_(grad_rgb).sum((-3, -2, -1))
            changes.append(change + (drawn.alpha[:count] - alpha).mul_(grad_alpha).sum((-2, -1)))
        return matrix_gradient(T_world_object, probes.basis, probes.slopes(torch.cat(changes))), None, None, None, None


def layer_bytes(alpha: Float[Tensor, "*b n hs ws"]) -> int:
    """What colour, alpha and depth of layers take."""
    return 5 * alpha.numel() * alpha.element_size()


def continue_depth(depth_m: Float[Tensor, "*b n hs ws"], reach: int) -> Float[Tensor, "*b n hs ws"]:
    """Fill empty samples with the least depth within ``reach`` samples along both axes."""
    if reach == 0 or depth_m.numel() == 0:
        return depth_m
    images = depth_m.reshape(-1, 1, *depth_m.shape[-2:])
    nearest = -torch.nn.functional.max_pool2d(-images, 2 * reach + 1, stride=1, padding=reach)
    return torch.where(torch.isinf(depth_m), nearest.reshape(depth_m.shape), depth_m)
