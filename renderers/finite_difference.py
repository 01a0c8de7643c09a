"""Pose gradients of any renderer by central differences of its layers.

Every object is a layer of its own, so one pair of draws moves all objects of all scenes at once, and the cost is two draws a
number whatever the number of objects.  The layers are differenced, not the loss: the loss's gradient with respect to the layers
is contracted with their change, so that any compositor may follow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from inverse_graphics.compositing import render_layers
from inverse_graphics.poses import move
from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Catalogue, Layers, Objects, RenderOutput, View
from renderers.tangents import Tangents, matrix_gradient, tangent_basis, tangent_steps

Draw = Callable[[Tensor], Layers]


class FiniteDifferenceRenderer:
    """A renderer whose layers carry gradients to ``T_world_object``, around one that need not.

    Steps are given as motion in the image.  Below the sample spacing a renderer with 0/1 coverage shows no change, far above
    it curvature biases the gradient: 1 to 2 pixels are good, larger ones reach farther and may be annealed with ``with_step``.
    """

    name: str
    catalogue: Catalogue
    is_differentiable: bool
    samples_per_axis: int

    def __init__(self, renderer: Renderer, tangents: Tangents = "planar", step_px: float = 1.0) -> None:
        """Wrap a renderer.

        Args:
            renderer: what draws the layers; it need not be differentiable.
            tangents: "planar" for motions on a table (world x, y and rotation about world z through the object's origin, six
                draws), "full" for all rigid motions (twelve draws).  Along the other motions the gradient is zero.
            step_px: half of the distance between the two draws, as the motion of the object's surface in the image in pixels.

        Raises:
            ValueError: unknown tangents or a step that is not positive.
        """
        if not step_px > 0:
            raise ValueError(f"FiniteDifferenceRenderer: step_px must be greater than 0, received {step_px}; 1 is a good start")
        self.name = f"finite-difference-{renderer.name}"
        self.catalogue = renderer.catalogue
        self.is_differentiable = True
        self.samples_per_axis = renderer.samples_per_axis
        self.renderer = renderer
        self.tangents: Tangents = tangents
        self._basis = tangent_basis(tangents)
        self.step_px = step_px
        radii_m = [float(np.linalg.norm(mesh.vertices_m, axis=-1).max(initial=0)) for mesh in renderer.catalogue.meshes]
        self._radii_m = torch.tensor(radii_m)

    def with_step(self, step_px: float) -> FiniteDifferenceRenderer:
        """The same wrapper with another step, to anneal it."""
        return FiniteDifferenceRenderer(self.renderer, self.tangents, step_px)

    def layers(self, objects: Objects, view: View, samples_per_axis: int | None = None) -> Layers:
        """Draw each object alone; see ``Renderer.layers``.

        The gradient with respect to T_world_object is [hat(g_w) R / 2 | g_t] in the first three rows and zero in the last, where
        g_t and g_w are the derivatives by translation along and rotation about the world's axes through the object's origin:
        its product with the derivative of T along any rigid motion is the directional derivative.  ``depth_m``, camera and
        light carry no gradient.

        Where a gradient is wanted, ``depth_m`` continues over the object's border by the step (alpha stays 0): "over" sorts by
        depth, and a sample that the object is about to cover must know whether it would be in front.
        """

        def draw(T_world_object: Tensor) -> Layers:
            return self.renderer.layers(Objects(objects.class_ids, T_world_object, objects.present), view, samples_per_axis)

        T = objects.T_world_object
        if not (torch.is_grad_enabled() and T.requires_grad):
            return draw(T)
        class_ids = objects.class_ids.clamp(0, len(self.catalogue) - 1).long()
        radius_m = self._radii_m.to(T)[class_ids]
        basis = self._basis.to(T)
        steps = tangent_steps(T.detach(), radius_m, view, basis, self.step_px)
        rgb, alpha, depth_m, spacing = _DifferencedLayers.apply(T, draw, basis, steps)
        return Layers(rgb, alpha, _continue_depth(depth_m, math.ceil(self.step_px * spacing)), spacing)

    def render(self, objects: Objects, view: View) -> RenderOutput:
        """Draw the scene; ``rgb`` carries gradients to ``objects.T_world_object``."""
        return render_layers(self, objects, view)


class _DifferencedLayers(torch.autograd.Function):
    """Layers of a black box: drawn once on the way forward, twice a tangent on the way back."""

    @staticmethod
    def forward(ctx: Any, T_world_object: Tensor, draw: Draw, basis: Tensor, steps: Tensor) -> Any:
        ctx.save_for_backward(T_world_object, basis, steps)
        ctx.draw = draw
        with torch.no_grad():
            layers = draw(T_world_object)
        ctx.mark_non_differentiable(layers.depth_m)
        return layers.rgb, layers.alpha, layers.depth_m, layers.samples_per_axis

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Contract the layers' changes with the gradients that came in."""
        grad_rgb, grad_alpha = grads[:2]
        T_world_object, basis, steps = ctx.saved_tensors
        slopes: list[Tensor] = []
        for tangent, step in zip(basis, steps.unbind(-1), strict=True):
            motion = step[..., None] * tangent
            ahead: Layers = ctx.draw(move(T_world_object, motion))
            behind: Layers = ctx.draw(move(T_world_object, -motion))
            change = ((ahead.rgb - behind.rgb) * grad_rgb).sum((-3, -2, -1))
            change = change + ((ahead.alpha - behind.alpha) * grad_alpha).sum((-2, -1))
            slopes.append(change / (2 * step))
        return matrix_gradient(T_world_object, basis, torch.stack(slopes, -1)), None, None, None


def _continue_depth(depth_m: Float[Tensor, "*b n hs ws"], reach: int) -> Float[Tensor, "*b n hs ws"]:
    """Fill empty samples with the least depth within ``reach`` samples along both axes."""
    if reach == 0 or depth_m.numel() == 0:
        return depth_m
    images = depth_m.reshape(-1, 1, *depth_m.shape[-2:])
    nearest = -torch.nn.functional.max_pool2d(-images, 2 * reach + 1, stride=1, padding=reach)
    return torch.where(torch.isinf(depth_m), nearest.reshape(depth_m.shape), depth_m)
