"""``RasterRenderer``: our batched rasteriser for the CPU."""

from __future__ import annotations

import copy
import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from inverse_graphics.compiled import drop_stale_kernels
from inverse_graphics.types import Catalogue, Layers, Objects, RenderOutput, View
from renderers.raster.meshes import PackedMeshes, pack_meshes
from renderers.raster.scene_kernels import layers_pass, prefix_pass, visibility_pass
from renderers.raster.stack_kernels import pose_difference_pass, swap_error_pass
from renderers.tangents import Tangents, matrix_gradient, move, tangent_basis, tangent_steps

_KERNEL_LOCK = threading.Lock()
"""Not every threading layer of numba may be entered from two threads at once."""


@dataclass(frozen=True)
class _Inputs:
    """A flat batch, as the kernels want it."""

    class_ids: np.ndarray
    T_camera_object: np.ndarray
    present: np.ndarray
    shading: np.ndarray


class RasterRenderer:
    """Rasterises layers on the CPU with compiled kernels; any batch, object counts and meshes mixed, no padding cost.

    ``render(...).rgb`` and ``prefix_images`` carry gradients to ``objects.T_world_object`` by central differences of the
    one layer that moves, in steps of ``step_px`` pixels of motion; depth, ids and ``layers`` carry none.  Everything runs
    on the CPU; inputs on another device are copied there and results back.  Two runs give identical bits, whatever the
    number of threads.
    """

    name = "raster"
    is_differentiable = True

    def __init__(
        self, catalogue: Catalogue, samples_per_axis: int = 2, tangents: Tangents = "planar", step_px: float = 1.0
    ) -> None:
        """Pack the meshes.

        Args:
            catalogue: the meshes; class ids index it.
            samples_per_axis: antialiasing, 1 (none) or more samples a pixel along each axis.
            tangents: the rigid motions along which gradients are taken; along others they are 0.
            step_px: half the width of a central difference, in pixels of motion.

        Raises:
            ValueError: a setting out of range, or meshes that cannot be drawn.
        """
        if samples_per_axis < 1:
            raise ValueError(f"samples_per_axis: expected at least 1, got {samples_per_axis}; use 1 for no antialiasing")
        if not step_px > 0:
            raise ValueError(f"step_px: expected a positive number of pixels, got {step_px}; 1 is a good start")
        self.catalogue = catalogue
        self.samples_per_axis = samples_per_axis
        self.step_px = step_px
        drop_stale_kernels(Path(__file__).parent)
        self._basis = tangent_basis(tangents)
        self._meshes: PackedMeshes = pack_meshes(catalogue)

    def with_step(self, step_px: float) -> RasterRenderer:
        """The same renderer with another finite-difference step; shares the meshes."""
        other = copy.copy(self)
        other.step_px = step_px
        return other

    def layers(self, objects: Objects, view: View, samples_per_axis: int | None = None) -> Layers:
        """Draw each object alone; see ``protocols.Renderer``.  Carries no gradient.

        Raises:
            ValueError: samples_per_axis below 1, or what ``_check`` refuses.
        """
        samples = self.samples_per_axis if samples_per_axis is None else samples_per_axis
        if samples < 1:
            raise ValueError(f"samples_per_axis: expected at least 1, got {samples}; use 1 for no antialiasing")
        batch, slots = _check(objects, view, self.catalogue)
        inputs, camera = _inputs(objects, view), _camera(view)
        size = (len(camera), slots, view.camera.height_px * samples, view.camera.width_px * samples)
        rgb = np.zeros((*size, 3), np.float32)
        alpha = np.zeros(size, np.float32)
        depth_m = np.full(size, np.inf, np.float32)
        with _KERNEL_LOCK:
            layers_pass(self._meshes, *_fields(inputs), camera, samples, _workers(), rgb, alpha, depth_m)
        out = [_tensor(x, batch, objects.T_world_object) for x in (rgb, alpha, depth_m)]
        return Layers(out[0], out[1], out[2], samples)

    def render(self, objects: Objects, view: View) -> RenderOutput:
        """Draw the scene; see ``protocols.Renderer``.  ``rgb`` carries gradients."""
        batch, slots = _check(objects, view, self.catalogue)
        canvases: Any = _PrefixImages.apply(objects.T_world_object, objects, view, self, slots)
        inputs, camera = _inputs(objects, view), _camera(view)
        size = (len(camera), view.camera.height_px, view.camera.width_px)
        depth_m = np.zeros(size, np.float32)
        object_ids = np.full(size, -1, np.int64)
        visible = np.zeros((len(camera), slots), np.float32)
        i = inputs
        with _KERNEL_LOCK:
            visibility_pass(
                self._meshes, i.class_ids, i.T_camera_object, i.present, camera, _workers(), depth_m, object_ids, visible
            )
        out = [_tensor(x, batch, objects.T_world_object) for x in (depth_m, object_ids, visible)]
        return RenderOutput(canvases[..., 0, :, :, :], out[0], out[1], out[2])

    def prefix_images(self, objects: Objects, view: View) -> Float[Tensor, "*b n_plus_1 h w 3"]:
        """Images C_0..C_n of the first 0, 1, ..., n objects; gradients to their poses cost one pass for all of them."""
        _check(objects, view, self.catalogue)
        images: Any = _PrefixImages.apply(objects.T_world_object, objects, view, self, 0)
        return images

    def swap_errors(
        self, objects: Objects, alternatives: Objects, view: View, target_rgb: Float[Tensor, "*b h w 3"]
    ) -> Float[Tensor, "*b n a n_plus_1"]:
        """Squared error of each prefix image with one slot's object replaced; see ``compositing.swap_errors``.  No gradient."""
        batch, slots = _check(objects, view, self.catalogue)
        _check_swap((*batch, slots), alternatives, view, target_rgb, self.catalogue)
        inputs, camera = _inputs(objects, view), _camera(view)
        a = alternatives.class_ids.shape[-1]
        flat = _flatten_slots(alternatives, len(batch))
        other = _inputs(flat, view)
        shape = (len(camera), slots, a)
        errors = np.zeros((*shape, slots + 1), np.float32)
        with _KERNEL_LOCK:
            swap_error_pass(
                self._meshes,
                *_fields(inputs),
                other.class_ids.reshape(shape),
                other.T_camera_object.reshape(*shape, 3, 4),
                other.present.reshape(shape),
                other.shading.reshape(*shape, 5),
                camera,
                _numpy(view.background_rgb, len(batch)),
                _numpy(target_rgb, len(batch)),
                self.samples_per_axis,
                _workers(),
                errors,
            )
        return _tensor(errors, batch, objects.T_world_object)


class _PrefixImages(torch.autograd.Function):
    """Prefix canvases forward; central differences of one layer at a time backward."""

    @staticmethod
    def forward(ctx: Any, T_world_object: Tensor, objects: Objects, view: View, renderer: RasterRenderer, first: int) -> Tensor:
        batch = tuple(T_world_object.shape[:-3])
        inputs, camera = _inputs(objects, view), _camera(view)
        slots = T_world_object.shape[-3]
        canvases = np.empty((len(camera), slots + 1 - first, view.camera.height_px, view.camera.width_px, 3), np.float32)
        background = _numpy(view.background_rgb, len(batch))
        samples = renderer.samples_per_axis
        with _KERNEL_LOCK:
            prefix_pass(renderer._meshes, *_fields(inputs), camera, background, samples, first, _workers(), canvases)
        ctx.scene = (objects, view, renderer, first)
        return _tensor(canvases, batch, T_world_object)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        objects, view, renderer, first = ctx.scene
        T = objects.T_world_object.detach()
        batch, slots = tuple(T.shape[:-3]), T.shape[-3]
        weights = torch.nn.functional.pad(grads[0], (0, 0, 0, 0, 0, 0, first, 0)) if first else grads[0]
        radius_m = torch.from_numpy(renderer._meshes.radius_m).to(T)[objects.class_ids]
        basis = renderer._basis.to(T)
        steps = tangent_steps(T, radius_m, view, basis, renderer.step_px)
        motion = (steps[..., None] * basis)[..., None, :] * T.new_tensor([1.0, -1.0])[:, None]
        T_moved = move(T[..., None, None, :, :].expand(*motion.shape[:-1], 4, 4), motion)
        inputs, camera = _inputs(objects, view), _camera(view)
        per_slot = len(basis) * 2
        spread = Objects(
            objects.class_ids.repeat_interleave(per_slot, -1),
            T_moved.reshape(*batch, slots * per_slot, 4, 4),
            objects.present.repeat_interleave(per_slot, -1),
        )
        moved = _inputs(spread, view)
        shape = (len(camera), slots, len(basis), 2)
        difference = np.zeros(shape[:3], np.float32)
        with _KERNEL_LOCK:
            pose_difference_pass(
                renderer._meshes,
                *_fields(inputs),
                moved.T_camera_object.reshape(*shape, 3, 4),
                moved.shading.reshape(*shape, 5),
                camera,
                _numpy(view.background_rgb, len(batch)),
                renderer.samples_per_axis,
                _workers(),
                _numpy(weights, len(batch)),
                difference,
            )
        slope = _tensor(difference, batch, T) / (2 * steps)
        return matrix_gradient(T, renderer._basis, slope), None, None, None, None


def _workers() -> int:
    return numba.get_num_threads()


def _fields(inputs: _Inputs) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return inputs.class_ids, inputs.T_camera_object, inputs.present, inputs.shading


def _numpy(tensor: Tensor, batch_dims: int) -> np.ndarray:
    """Flatten the batch dimensions into one, on the CPU, contiguous, float32 (ids: int64, masks: bool)."""
    shape = tensor.shape
    flat = tensor.detach().reshape(math.prod(shape[:batch_dims]), *shape[batch_dims:])
    dtype = flat.dtype if flat.dtype in (torch.int64, torch.bool) else torch.float32
    return flat.to("cpu", dtype).contiguous().numpy()


def _tensor(array: np.ndarray, batch: tuple[int, ...], like: Tensor) -> Tensor:
    out = torch.from_numpy(array).reshape(*batch, *array.shape[1:])
    return out.to(like.device, like.dtype if out.is_floating_point() else out.dtype)


def _flatten_slots(objects: Objects, batch_dims: int) -> Objects:
    """Objects [*b n a] as [*b n * a]."""
    return Objects(
        objects.class_ids.flatten(batch_dims),
        objects.T_world_object.flatten(batch_dims, batch_dims + 1),
        objects.present.flatten(batch_dims),
    )


def _camera(view: View) -> np.ndarray:
    """[b 5] float64: fx, fy, cx, cy, near plane."""
    K = view.camera.K_px.detach().reshape(-1, 3, 3).to("cpu", torch.float64)
    near = torch.full_like(K[:, 0, 0], view.camera.near_m)
    return torch.stack([K[:, 0, 0], K[:, 1, 1], K[:, 0, 2], K[:, 1, 2], near], -1).numpy()


def _inputs(objects: Objects, view: View) -> _Inputs:
    """Camera-frame poses and, in each object's own frame, the direction of the light."""
    dims = objects.class_ids.dim() - 1
    T_world_object = objects.T_world_object.detach()
    T_camera_object = view.camera.T_camera_world[..., None, :, :] @ T_world_object
    light_object = (T_world_object[..., :3, :3] * view.light.direction_world[..., None, :, None]).sum(-2)
    levels = torch.stack([view.light.ambient, view.light.diffuse], -1)[..., None, :].expand(*light_object.shape[:-1], 2)
    return _Inputs(
        _numpy(objects.class_ids, dims),
        _numpy(T_camera_object[..., :3, :], dims),
        _numpy(objects.present, dims),
        _numpy(torch.cat([light_object, levels], -1), dims),
    )


def _check(objects: Objects, view: View, catalogue: Catalogue) -> tuple[tuple[int, ...], int]:
    """Batch shape and number of slots.

    Raises:
        ValueError: shapes that do not fit, class ids out of range, or a pose of a present object that is not finite.
    """
    batch = tuple(objects.class_ids.shape[:-1])
    height, width = view.camera.height_px, view.camera.width_px
    if tuple(view.camera.K_px.shape[:-2]) != batch:
        raise ValueError(
            f"view: expected the objects' batch dimensions {batch}, got {tuple(view.camera.K_px.shape[:-2])}; "
            "expand the view to one for each scene"
        )
    if height < 1 or width < 1:
        raise ValueError(f"camera: expected an image of at least 1 x 1 px, got {width} x {height}; set width_px and height_px")
    if not bool(torch.isfinite(view.camera.K_px).all() and torch.isfinite(view.camera.T_camera_world).all()):
        raise ValueError("camera: expected finite K_px and T_camera_world, got NaN or infinity; check what produced them")
    if tuple(view.background_rgb.shape) != (*batch, height, width, 3):
        raise ValueError(
            f"background_rgb: expected {(*batch, height, width, 3)}, got {tuple(view.background_rgb.shape)}; "
            "give one colour a pixel of the camera's image (an expanded view will do)"
        )
    _check_objects("", objects, catalogue)
    return batch, objects.class_ids.shape[-1]


def _check_objects(prefix: str, objects: Objects, catalogue: Catalogue) -> None:
    """Raise ValueError where class ids or the poses of present objects cannot be drawn."""
    ids = objects.class_ids
    low, high = (int(ids.min()), int(ids.max())) if ids.numel() else (0, 0)
    if low < 0 or high >= len(catalogue):
        raise ValueError(
            f"{prefix}class_ids: expected 0..{len(catalogue) - 1}, the catalogue's classes, got {low}..{high}; "
            "give empty slots any class and mark them in objects.present"
        )
    finite = torch.isfinite(objects.T_world_object).flatten(-2).all(-1)
    if not bool((finite | ~objects.present).all()):
        raise ValueError(
            f"{prefix}T_world_object: expected finite poses of present objects, got NaN or infinity; check what produced them"
        )


def _check_swap(slots: tuple[int, ...], alternatives: Objects, view: View, target_rgb: Tensor, catalogue: Catalogue) -> None:
    """Raise ValueError where alternatives or target do not fit a stack of shape ``slots``."""
    if tuple(alternatives.class_ids.shape[:-1]) != slots:
        raise ValueError(
            f"alternatives: expected {slots} and a dimension of alternatives, got {tuple(alternatives.class_ids.shape)}; "
            "give every slot as many"
        )
    if target_rgb.shape != view.background_rgb.shape:
        raise ValueError(
            f"target_rgb: expected {tuple(view.background_rgb.shape)}, got {tuple(target_rgb.shape)}; "
            "compare with images of the same camera"
        )
    _check_objects("alternatives.", alternatives, catalogue)
