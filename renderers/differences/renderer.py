"""Pose gradients of any renderer, by finite differences of its layers or of its images."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from inverse_graphics import compositing, stacks
from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Catalogue, Layers, Objects, RenderOutput, View, map_tensors
from renderers.differences.groups import box_corners
from renderers.differences.images import DifferencedImages, WholeImages, draw_prefixes, draw_single, image_jacobian
from renderers.differences.jacobian import layer_jacobian, sum_equations
from renderers.differences.layers import DifferencedLayers, MakeProbes, continue_depth
from renderers.differences.schemes import DIRECT, SCHEMES, Probes, Scheme, chunks, make_probes
from renderers.differences.stacks import DifferencedStack
from renderers.raster.normal_equations import NormalEquations
from renderers.tangents import Tangents, tangent_basis, tangent_steps

Differences = Literal["auto", "layers", "images"]
"""What is differenced.  ``auto``: images of renderers whose class sets ``draws_whole_images = True``, layers of all others."""


class FiniteDifferenceRenderer:
    """A renderer whose images carry gradients to ``T_world_object``, around one that need not.

    Steps are given as motion in the image.  Below the sample spacing a renderer with 0/1 coverage shows no change, far above
    it curvature biases the gradient: 1 to 2 pixels are good, larger ones reach farther and may be annealed with ``with_step``.

    Draws for one gradient along p tangents, on the way back:

    - ``central``: 2 p, error of second order in the step;
    - ``forward``: p, against the picture that is there already, error of first order;
    - ``spsa``: 2 ``pairs``: all tangents move at once by plus and minus a step, each with a random sign (Spall, IEEE TAC 1992);
      unbiased to second order, its noise grows with p and falls with ``pairs``;
    - ``smoothing``: 2 ``pairs``: all tangents move at once by plus and minus normally distributed amounts, a step's standard
      deviation: the unbiased gradient of the picture averaged over such motions, which reaches farther than it is sharp.

    A draw is of all scenes: of layers, one of every object, whatever their number; or of whole images, one for each group of
    objects that do not touch.  All draws of a gradient are one call of ``renderer.layers`` with one more leading dimension (of
    whole images, one call with one leading dimension), or several where ``schemes.MAX_BYTES`` asks for it.

    Random directions are drawn on the CPU by a generator whose seed is a hash of ``seed`` and the bits of ``T_world_object``,
    independently for each object and pair.  No state is kept: repeated and resumed runs give identical bits, and gradients taken
    twice at the very same poses have the same noise; wrap with another ``seed`` for other noise.  Both sides of a pair share all
    else; what a renderer draws at random is seeded by itself.
    """

    name: str
    catalogue: Catalogue
    is_differentiable: bool
    samples_per_axis: int

    def __init__(
        self,
        renderer: Renderer,
        tangents: Tangents = "planar",
        step_px: float = 1.0,
        scheme: Scheme = "central",
        pairs: int = 1,
        seed: int = 0,
        differences: Differences = "auto",
        reach_px: float = 8.0,
    ) -> None:
        """Wrap a renderer.

        Args:
            renderer: what draws; it need not be differentiable.
            tangents: "planar" for motions on a table (world x, y and rotation about world z through the object's origin, p = 3),
                "full" for all rigid motions (p = 6).  Along the other motions the gradient is zero.
            step_px: length of a step, as the motion of the object's surface in the image in pixels.
            scheme: where the renderer is drawn, see above.
            pairs: pairs of draws of ``spsa`` and ``smoothing``; the others have no use for it.
            seed: of the random directions of ``spsa`` and ``smoothing``, a signed integer of 64 bits.
            differences: what is differenced.
            reach_px: how far around its box an object may change a whole image, by its shadow for example; what it changes
                beyond does not count.  Larger reaches make more groups, hence more draws.

        Raises:
            ValueError: unknown tangents, scheme or differences, or a number out of range.
        """
        _check_step(step_px)
        _check_choice("scheme", scheme, SCHEMES)
        _check_choice("differences", differences, get_args(Differences))
        if pairs < 1:
            raise ValueError(f"FiniteDifferenceRenderer: pairs must be at least 1, received {pairs}; more pairs, less noise")
        if not -(2**63) <= seed < 2**63:
            raise ValueError(f"FiniteDifferenceRenderer: seed must have at most 64 bits, received {seed}; take a smaller one")
        if not 0 <= reach_px < math.inf:
            raise ValueError(f"FiniteDifferenceRenderer: reach_px must be 0 or more, received {reach_px}; 8 is a good start")
        self.name = f"finite-difference-{renderer.name}"
        self.catalogue = renderer.catalogue
        self.is_differentiable = True
        self.samples_per_axis = renderer.samples_per_axis
        self.renderer = renderer
        self.tangents: Tangents = tangents
        self.step_px = step_px
        self.scheme: Scheme = scheme
        self.pairs, self.seed, self.reach_px = pairs, seed, reach_px
        whole = bool(getattr(renderer, "draws_whole_images", False))
        self.differences: Literal["layers", "images"] = (
            ("images" if whole else "layers") if differences == "auto" else differences
        )
        self._basis = tangent_basis(tangents)
        radii_m = [float(np.linalg.norm(mesh.vertices_m, axis=-1).max(initial=0)) for mesh in renderer.catalogue.meshes]
        self._radii_m = torch.tensor(radii_m)
        self._corners_m = box_corners(renderer.catalogue) if self.differences == "images" else None

    def with_step(self, step_px: float) -> FiniteDifferenceRenderer:
        """The same wrapper with another step, to anneal it."""
        _check_step(step_px)
        other = copy.copy(self)
        other.step_px = step_px
        return other

    def layers(self, objects: Objects, view: View, samples_per_axis: int | None = None) -> Layers:
        """Draw each object alone; see ``Renderer.layers``.

        The gradient with respect to T_world_object is [hat(g_w) R / 2 | g_t] in the first three rows and zero in the last, where
        g_t and g_w are the derivatives by translation along and rotation about the world's axes through the object's origin:
        its product with the derivative of T along any rigid motion is the directional derivative.  That of absent objects is
        zero.  ``depth_m``, camera and light carry no gradient.

        Where a gradient is wanted, ``depth_m`` continues over the object's border by the step (alpha stays 0): "over" sorts by
        depth, and a sample that the object is about to cover must know whether it would be in front.
        """
        if not _wants_gradient(objects):
            return self.renderer.layers(objects, view, samples_per_axis)
        objects = _safe(objects)
        return self._differenced_layers(objects, view, self._draw_layers(objects, view, samples_per_axis), samples_per_axis)

    def render(self, objects: Objects, view: View) -> RenderOutput:
        """Draw the scene; ``rgb`` carries gradients to ``objects.T_world_object``, as those of ``layers``.

        Layers merge with the background's gradients, whole images carry none but the poses'.
        """
        if not _wants_gradient(objects):
            return self.renderer.render(objects, view)
        if self.differences == "layers":
            rgb, layers = self._canvases(objects, view, objects.present.shape[-1])
            with torch.no_grad():
                geometry = compositing.add_geometry(self.renderer, _safe(objects), view, rgb[..., 0, :, :, :].detach(), layers)
            return dataclasses.replace(geometry, rgb=rgb[..., 0, :, :, :])
        with torch.no_grad():
            output = self.renderer.render(_safe(objects), view)
        rgb = self._differenced(objects, view, output.rgb[..., None, :, :, :], draw_single)
        return dataclasses.replace(output, rgb=rgb[..., 0, :, :, :])

    def prefix_images(self, objects: Objects, view: View) -> Float[Tensor, "*b n_plus_1 h w 3"]:
        """See ``compositing.prefix_images``; with gradients as ``render``."""
        if not _wants_gradient(objects):
            return compositing.prefix_images(self.renderer, objects, view)
        if self.differences == "layers":
            return self._canvases(objects, view, 0)[0]
        with torch.no_grad():
            canvases = compositing.prefix_images(self.renderer, _safe(objects), view)
        return self._differenced(objects, view, canvases, draw_prefixes)

    def swap_errors(
        self, objects: Objects, alternatives: Objects, view: View, target_rgb: Float[Tensor, "*b h w 3"]
    ) -> Float[Tensor, "*b n a n_plus_1"]:
        """See ``compositing.swap_errors``; the wrapped renderer's.  Carries no gradient."""
        return compositing.swap_errors(self.renderer, objects, alternatives, view, target_rgb)

    def image_jacobian(self, objects: Objects, view: View) -> Float[Tensor, "*b n p h w 3"]:
        """Change of the image when one object moves, per metre and radian along each tangent; zero for absent objects.

        Takes the image itself and the draws of one gradient: of layers, 1 + 2 p (``central``) or 1 + p (``forward``); of whole
        images, (2 p or p) x groups + 1.  From layers the attribution is exact: the others stay.  No gradient.

        Raises:
            ValueError: a scheme other than ``central`` and ``forward``.
        """
        self._check_direct("image_jacobian")
        batch = objects.present.shape[:-1]
        flat_objects, flat_view = _flatten(objects, view)
        jacobian = self._jacobian(flat_objects, flat_view)
        return jacobian.reshape(*batch, *jacobian.shape[1:])

    def normal_equations(self, objects: Objects, view: View, residual_rgb: Float[Tensor, "*b h w 3"]) -> NormalEquations:
        """J^T r and J^T J of each object's motions, for Gauss-Newton; J is ``image_jacobian``, with as many draws.

        Some scenes at a time where the memory for all would exceed ``schemes.MAX_BYTES``.

        Args:
            objects: [*b n] what stands where; absent ones get zeros.
            view: [*b] how it is looked at.
            residual_rgb: r, for example the image less the one to match.

        Raises:
            ValueError: a scheme other than ``central`` and ``forward``, or a residual of another shape than the image.
        """
        self._check_direct("normal_equations")
        if residual_rgb.shape != view.background_rgb.shape:
            raise ValueError(
                f"residual_rgb: expected {tuple(view.background_rgb.shape)} as the view, received {tuple(residual_rgb.shape)}; "
                "subtract the image to match from the one drawn"
            )
        batch, (slots, p) = objects.present.shape[:-1], (objects.present.shape[-1], len(self._basis))
        flat_objects, flat_view = _flatten(objects, view)
        residual = residual_rgb.detach().reshape(flat_view.background_rgb.shape)
        gradient = residual.new_zeros(len(residual), slots, p)
        hessian = residual.new_zeros(len(residual), slots, p, p)
        pixels = view.camera.width_px * view.camera.height_px
        samples = (1 + 2 * p) * 5 * self.samples_per_axis**2 if self.differences == "layers" else 0
        scene_bytes = slots * (samples + 3 * p) * pixels * residual.element_size()
        for chosen in chunks(len(residual), scene_bytes):
            equations = sum_equations(self._jacobian(*_select(flat_objects, flat_view, chosen)), residual[chosen])
            gradient[chosen], hessian[chosen] = equations.gradient, equations.hessian
        return NormalEquations(gradient.reshape(*batch, slots, p), hessian.reshape(*batch, slots, p, p))

    @torch.no_grad()
    def _jacobian(self, objects: Objects, view: View) -> Float[Tensor, "b n p h w 3"]:
        T = objects.T_world_object
        if objects.present.numel() == 0:
            return view.background_rgb.new_zeros(*objects.present.shape, len(self._basis), *view.background_rgb.shape[1:])
        if self.differences == "layers":
            draw, probes = self._layer_drawing(objects, view, None), self._probing(objects, view)(T)
            return layer_jacobian(draw, T, probes, view.background_rgb)
        return image_jacobian(self._whole(objects, view, draw_single), T, draw_single(self.renderer, objects, view))

    def _canvases(self, objects: Objects, view: View, first: int) -> tuple[Tensor, Layers]:
        """Images [*b c h w 3] of the first ``first``, ..., n layers with gradients, and those layers without.

        Opaque layers are merged by compiled passes.  Soft ones, and a background that learns, go through ``compositing``.
        """
        objects = _safe(objects)
        layers = self._draw_layers(objects, view, None)
        flat_objects, flat_view = _flatten(objects, view)
        stack = None
        if not view.background_rgb.requires_grad:
            stack = stacks.make_stack(compositing.flatten_batch(layers, objects.present.dim() - 1))
        if stack is None:
            moving = self._differenced_layers(objects, view, layers, None)
            if first == 0:
                return compositing.prefix_canvases(moving, view.background_rgb), layers
            return compositing.merge_depth(moving, view.background_rgb)[..., None, :, :, :], layers
        canvases: Any = DifferencedStack.apply(
            flat_objects.T_world_object,
            stack,
            flat_view.background_rgb,
            self._layer_drawing(flat_objects, flat_view, None),
            self._probing(flat_objects, flat_view),
            first,
        )
        canvases = canvases.to(view.background_rgb.dtype)
        return canvases.reshape(*objects.present.shape[:-1], *canvases.shape[1:]), layers

    @torch.no_grad()
    def _draw_layers(self, objects: Objects, view: View, samples_per_axis: int | None) -> Layers:
        return self.renderer.layers(objects, view, samples_per_axis)

    def _differenced_layers(self, objects: Objects, view: View, drawn: Layers, samples_per_axis: int | None) -> Layers:
        """The layers drawn, with gradients."""
        rgb, alpha, depth_m = DifferencedLayers.apply(  # pyright: ignore[reportGeneralTypeIssues]
            objects.T_world_object,
            drawn,
            self._layer_drawing(objects, view, samples_per_axis),
            self._probing(objects, view),
            self.scheme == "forward",
        )
        reach = math.ceil(self.step_px * drawn.samples_per_axis)
        return Layers(rgb, alpha, continue_depth(depth_m, reach), drawn.samples_per_axis)

    def _layer_drawing(self, objects: Objects, view: View, samples_per_axis: int | None) -> Callable[[Tensor], Layers]:
        """Layers as a function of the poses, which may have one leading dimension more than the objects."""

        def draw(T_world_object: Tensor) -> Layers:
            more = T_world_object.shape[: T_world_object.dim() - objects.T_world_object.dim()]
            class_ids, present = (x.expand((*more, *x.shape)) for x in (objects.class_ids, objects.present))
            repeated = map_tensors(lambda x: x.expand((*more, *x.shape)), view)
            return self.renderer.layers(Objects(class_ids, T_world_object, present), repeated, samples_per_axis)

        return draw

    def _probing(self, objects: Objects, view: View) -> MakeProbes:
        """The motions as a function of the poses."""

        def probes(T_world_object: Tensor) -> Probes:
            T = T_world_object.detach()
            radius_m = self._radii_m.to(T)[self._classes(objects)]
            basis = self._basis.to(T)
            steps = tangent_steps(T, radius_m, view, basis, self.step_px)
            return make_probes(self.scheme, self.pairs, self.seed, T, steps, basis)

        return probes

    def _differenced(
        self, objects: Objects, view: View, images: Tensor, draw: Callable[[Renderer, Objects, View], Tensor]
    ) -> Tensor:
        """Images [*b c h w 3] with gradients by differences of whole images."""
        flat_objects, flat_view = _flatten(objects, view)
        out = DifferencedImages.apply(
            flat_objects.T_world_object,
            images.reshape(math.prod(images.shape[:-4]), *images.shape[-4:]),
            self._whole(flat_objects, flat_view, draw),
        )
        return out.reshape(images.shape)  # pyright: ignore[reportOptionalMemberAccess]

    def _whole(self, objects: Objects, view: View, draw: Callable[[Renderer, Objects, View], Tensor]) -> WholeImages:
        assert self._corners_m is not None
        corners_m = self._corners_m.to(objects.T_world_object)[self._classes(objects)]
        pad_px = self.step_px + self.reach_px
        probes = self._probing(objects, view)
        return WholeImages(objects, view, lambda o, v: draw(self.renderer, o, v), probes, corners_m, pad_px)

    def _classes(self, objects: Objects) -> Tensor:
        """Class ids that the catalogue has; the wrapped renderer refuses others."""
        return objects.class_ids.clamp(0, len(self.catalogue) - 1).long()

    def _check_direct(self, what: str) -> None:
        if self.scheme not in DIRECT:
            raise ValueError(
                f"{what}: expected a renderer with scheme {' or '.join(DIRECT)}, received {self.scheme!r}, whose probes move all "
                "tangents at once; wrap the black box again with one of these"
            )


def _wants_gradient(objects: Objects) -> bool:
    return torch.is_grad_enabled() and objects.T_world_object.requires_grad


def _safe(objects: Objects) -> Objects:
    """Objects whose absent ones, whose poses mean nothing and may be no numbers, stand at the origin."""
    T = objects.T_world_object
    return dataclasses.replace(objects, T_world_object=torch.where(objects.present[..., None, None], T, torch.eye(4).to(T)))


def _flatten(objects: Objects, view: View) -> tuple[Objects, View]:
    """Objects and views with one batch dimension; absent objects at the origin."""
    dims = objects.present.dim() - 1
    safe = _safe(objects)
    if dims == 0:
        return map_tensors(lambda x: x[None], safe), map_tensors(lambda x: x[None], view)
    return map_tensors(lambda x: x.flatten(0, dims - 1), safe), map_tensors(lambda x: x.flatten(0, dims - 1), view)


def _select(objects: Objects, view: View, chosen: slice) -> tuple[Objects, View]:
    """Some of the scenes."""
    return map_tensors(lambda x: x[chosen], objects), map_tensors(lambda x: x[chosen], view)


def _check_step(step_px: float) -> None:
    if not 0 < step_px < math.inf:
        raise ValueError(f"FiniteDifferenceRenderer: step_px must be greater than 0, received {step_px}; 1 is a good start")


def _check_choice(argument: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(
            f"FiniteDifferenceRenderer: {argument} must be one of {', '.join(choices)}, received {value!r}; choose one of these"
        )
