"""``RasterRenderer``: our batched, differentiable rasteriser for the CPU."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from inverse_graphics.compiled import KERNEL_LOCK, drop_stale_kernels, workers
from inverse_graphics.types import Catalogue, Layers, Objects, RenderOutput, View
from renderers.raster.checks import check_alternatives, check_image, check_objects, check_samples, check_scene
from renderers.raster.differences import DifferencedPrefixImages
from renderers.raster.frames import camera_frame, scene_arrays
from renderers.raster.images import PrefixImages, RenderedImages, Surfaces, VisibleMasks, make_call
from renderers.raster.inputs import camera_rows, flatten, from_numpy, to_numpy
from renderers.raster.meshes import PackedMeshes, pack_meshes
from renderers.raster.normal_equations import NormalEquations, normal_equations
from renderers.raster.scene_kernels import layers_pass
from renderers.raster.stack_kernels import swap_error_pass
from renderers.tangents import Tangents, tangent_basis


class RasterRenderer:
    """Rasterises on the CPU with compiled kernels; any batch, object counts and meshes mixed, no padding cost.

    With ``gradient="analytic"`` images, depth and masks carry gradients to object poses, camera poses, lights, background and,
    where given, surfaces: of shading inside faces and of all visible borders (silhouettes, occlusions, creases, intersections).
    They are those of the exact image, box-filtered by pixels, as far as the samples tell them.

    With ``"finite-difference"`` ``render(...).rgb`` and ``prefix_images`` carry gradients to ``objects.T_world_object`` by
    central differences of the one layer that moves, in steps of ``step_px`` pixels of motion: a large step reaches far.

    Inputs on another device are copied to the CPU and results back.  Two runs give identical bits, whatever the number of
    threads.
    """

    name = "raster"
    is_differentiable = True

    def __init__(
        self,
        catalogue: Catalogue,
        samples_per_axis: int = 2,
        gradient: Literal["analytic", "finite-difference"] = "analytic",
        tangents: Tangents = "planar",
        step_px: float = 1.0,
    ) -> None:
        """Pack the meshes.

        Args:
            catalogue: the meshes; class ids index it.
            samples_per_axis: antialiasing, 1 (none) or more samples a pixel along each axis.
            gradient: how gradients are taken.
            tangents: the rigid motions along which finite differences and ``normal_equations`` are taken.
            step_px: half the width of a central difference, in pixels of motion.

        Raises:
            ValueError: a setting out of range, or meshes that cannot be drawn.
        """
        check_samples(samples_per_axis)
        if not step_px > 0:
            raise ValueError(f"step_px: expected a positive number of pixels, got {step_px}; 1 is a good start")
        if gradient not in ("analytic", "finite-difference"):
            raise ValueError(f"gradient: expected 'analytic' or 'finite-difference', got {gradient!r}; name one of these")
        self.catalogue = catalogue
        self.samples_per_axis = samples_per_axis
        self.gradient = gradient
        self.step_px = step_px
        drop_stale_kernels(Path(__file__).parent)
        self._basis = tangent_basis(tangents)
        self._meshes: PackedMeshes = pack_meshes(catalogue)

    def with_step(self, step_px: float) -> RasterRenderer:
        """The same renderer with another finite-difference step; shares the meshes."""
        other = copy.copy(self)
        other.step_px = step_px
        return other

    def surfaces(self) -> Surfaces:
        """Positions, colours and normals of the catalogue's meshes end to end, to be changed and given to ``render``."""
        meshes = self._meshes
        arrays = (meshes.vertices_m, meshes.corner_rgb, meshes.corner_normals)
        return Surfaces(*(torch.from_numpy(array.copy()) for array in arrays))

    def layers(self, objects: Objects, view: View, samples_per_axis: int | None = None) -> Layers:
        """Draw each object alone; see ``protocols.Renderer``.  Carries no gradient.

        Raises:
            ValueError: samples_per_axis below 1, or what ``check_scene`` refuses.
        """
        samples = self.samples_per_axis if samples_per_axis is None else samples_per_axis
        check_samples(samples)
        batch, slots = check_scene(objects, view, self.catalogue)
        fields, camera = scene_arrays(objects, view), camera_rows(view)
        size = (len(camera), slots, view.camera.height_px * samples, view.camera.width_px * samples)
        rgb = np.zeros((*size, 3), np.float32)
        alpha = np.zeros(size, np.float32)
        depth_m = np.full(size, np.inf, np.float32)
        with KERNEL_LOCK:
            layers_pass(self._meshes, *fields, camera, samples, workers(), rgb, alpha, depth_m)
        out = [from_numpy(x, batch, objects.T_world_object) for x in (rgb, alpha, depth_m)]
        return Layers(out[0], out[1], out[2], samples)

    def render(self, objects: Objects, view: View, surfaces: Surfaces | None = None) -> RenderOutput:
        """Draw the scene; see ``protocols.Renderer``.  ``rgb`` and ``depth_m`` carry gradients (by differences: ``rgb``).

        Args:
            objects: [*b n] what stands where.
            view: [*b] how it is looked at.
            surfaces: other positions, colours and normals than the catalogue's.

        Raises:
            ValueError: what ``check_scene`` refuses, or surfaces of other shapes than the catalogue's.
        """
        batch, slots = check_scene(objects, view, self.catalogue)
        if self.gradient == "analytic":
            rgb, depth_m, ids, visible = self._differentiable(RenderedImages, objects, view, surfaces)
            return RenderOutput(*(x.reshape(*batch, *x.shape[1:]) for x in (rgb, depth_m, ids, visible)))
        with torch.no_grad():
            _, depth_m, ids, visible = self._differentiable(RenderedImages, objects, view, surfaces)
        canvases = self._differenced(objects, view, slots)
        shaped = [x.reshape(*batch, *x.shape[1:]) for x in (depth_m, ids, visible)]
        return RenderOutput(canvases[..., 0, :, :, :], *shaped)

    def masks(self, objects: Objects, view: View, surfaces: Surfaces | None = None) -> Float[Tensor, "*b n h w"]:
        """Share of every pixel's samples in which each object is seen; carries analytic gradients."""
        batch, _ = check_scene(objects, view, self.catalogue)
        masks = self._differentiable(VisibleMasks, objects, view, surfaces)
        return masks.reshape(*batch, *masks.shape[1:])

    def prefix_images(self, objects: Objects, view: View) -> Float[Tensor, "*b n_plus_1 h w 3"]:
        """Images C_0..C_n of the first 0, 1, ..., n objects; gradients cost one pass for all of them."""
        batch, _ = check_scene(objects, view, self.catalogue)
        if self.gradient == "finite-difference":
            return self._differenced(objects, view, 0)
        canvases = self._differentiable(PrefixImages, objects, view, None)
        return canvases.reshape(*batch, *canvases.shape[1:])

    def swap_errors(
        self, objects: Objects, alternatives: Objects, view: View, target_rgb: Float[Tensor, "*b h w 3"]
    ) -> Float[Tensor, "*b n a n_plus_1"]:
        """Squared error of each prefix image with one slot's object replaced; see ``compositing.swap_errors``.  No gradient."""
        batch, slots = check_scene(objects, view, self.catalogue)
        check_alternatives((*batch, slots), alternatives, view, target_rgb)
        check_objects("alternatives.", alternatives, self.catalogue)
        a = alternatives.class_ids.shape[-1]
        flat = _flatten_slots(alternatives, len(batch))
        class_ids, T_other, present, light_other = scene_arrays(flat, view)
        shape = (len(class_ids), slots, a)
        errors = np.zeros((*shape, slots + 1), np.float32)
        with KERNEL_LOCK:
            swap_error_pass(
                self._meshes,
                *scene_arrays(objects, view),
                class_ids.reshape(shape),
                T_other.reshape(*shape, 3, 4),
                present.reshape(shape),
                light_other.reshape(*shape, 6),
                camera_rows(view),
                to_numpy(flatten(view.background_rgb, len(batch))),
                to_numpy(flatten(target_rgb, len(batch))),
                self.samples_per_axis,
                workers(),
                errors,
            )
        return from_numpy(errors, batch, objects.T_world_object)

    def normal_equations(self, objects: Objects, view: View, residual_rgb: Float[Tensor, "*b h w 3"]) -> NormalEquations:
        """J^T r and J^T J of each object's motions, for Gauss-Newton; J is the analytic derivative of ``render(...).rgb``.

        Args:
            objects: [*b n] what stands where; absent ones get zeros.
            view: [*b] how it is looked at.
            residual_rgb: r, for example the image less the one to match.

        Raises:
            ValueError: what ``check_scene`` refuses, or a residual of another shape than the image.
        """
        check_scene(objects, view, self.catalogue)
        check_image("residual_rgb", residual_rgb, view, "subtract")
        return normal_equations(self._meshes, objects, view, self.samples_per_axis, self._basis, residual_rgb)

    def _differentiable(self, function: Any, objects: Objects, view: View, surfaces: Surfaces | None) -> Any:
        """Apply one of the functions of ``images``; the batch dimensions of what comes back are one."""
        if surfaces is not None:
            self._check_surfaces(surfaces)
        # the poses of absent objects mean nothing, and may be no numbers
        T = torch.where(objects.present[..., None, None], objects.T_world_object, torch.eye(4).to(objects.T_world_object))
        objects = Objects(objects.class_ids, T, objects.present)
        call = make_call(self._meshes, objects, view, self.samples_per_axis, surfaces)
        background = flatten(view.background_rgb, objects.class_ids.dim() - 1)
        parts = () if surfaces is None else (surfaces.vertices_m, surfaces.corner_rgb, surfaces.corner_normals)
        return function.apply(call, *camera_frame(objects, view), background, *parts)

    def _differenced(self, objects: Objects, view: View, first: int) -> Tensor:
        canvases: Any = DifferencedPrefixImages.apply(
            objects.T_world_object, objects, view, self._meshes, self.samples_per_axis, first, self._basis, self.step_px
        )
        return canvases

    def _check_surfaces(self, surfaces: Surfaces) -> None:
        """Raise ValueError for surfaces that do not fit the catalogue."""
        for name, own in (("vertices_m", "vertices_m"), ("corner_rgb", "corner_rgb"), ("corner_normals", "corner_normals")):
            got, want = getattr(surfaces, name), getattr(self._meshes, own)
            if tuple(got.shape) != want.shape:
                raise ValueError(
                    f"surfaces.{name}: expected {want.shape}, got {tuple(got.shape)}; start from renderer.surfaces()"
                )
            if not bool(torch.isfinite(got).all()):
                raise ValueError(f"surfaces.{name}: expected finite numbers, got NaN or infinity; check what produced them")


def _flatten_slots(objects: Objects, batch_dims: int) -> Objects:
    """Objects [*b n a] as [*b n * a]."""
    return Objects(
        objects.class_ids.flatten(batch_dims),
        objects.T_world_object.flatten(batch_dims, batch_dims + 1),
        objects.present.flatten(batch_dims),
    )
