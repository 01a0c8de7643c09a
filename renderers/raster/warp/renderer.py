"""``WarpRasterRenderer``: the batched rasteriser on the device of its inputs."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_graphics.types import Catalogue, Layers, Objects, RenderOutput, View
from renderers.errors import BackendMissingError
from renderers.raster.checks import check_image, check_samples
from renderers.raster.images import Surfaces
from renderers.raster.normal_equations import NormalEquations
from renderers.raster.warp.batch import Batch, detached, flat, make_batch, merge_slots
from renderers.raster.warp.checks import check_scene, check_surfaces, check_swap
from renderers.raster.warp.packing import DeviceMeshes, pack_for_device, with_surfaces
from renderers.tangents import Tangents, tangent_basis

INSTALL_COMMAND = 'pip install "warp-lang>=1.19,<2"'
"""Wheels for Linux, Windows and macOS; they bring their own compilers."""


def load_kernels() -> ModuleType:
    """``renderers.raster.warp.images``, with Warp started.

    Raises:
        BackendMissingError: Warp is not installed.
    """
    try:
        importlib.import_module("warp")
    except ModuleNotFoundError as error:
        raise BackendMissingError("raster-cuda", "warp", INSTALL_COMMAND) from error
    importlib.import_module("renderers.raster.warp.passes").start()
    return importlib.import_module("renderers.raster.warp.images")


class WarpRasterRenderer:
    """Rasterises where the inputs are: on a CUDA device, or on the CPU in turn (slowly; meant for tests).

    The same images and analytic gradients as ``RasterRenderer``.  On CUDA nothing waits for the device: everything runs on
    torch's current stream, and shapes are checked but not numbers (class ids are moved into the catalogue's range, poses that
    are not finite draw nothing).  Two runs on one device give identical bits.
    """

    name = "raster-cuda"
    is_differentiable = True

    def __init__(
        self,
        catalogue: Catalogue,
        samples_per_axis: int = 2,
        tangents: Tangents = "planar",
        max_buffer_bytes: int = 1 << 30,
    ) -> None:
        """Pack the meshes.

        Args:
            catalogue: the meshes; class ids index it.
            samples_per_axis: antialiasing, 1 (none) or more samples a pixel along each axis.
            tangents: the rigid motions along which ``normal_equations`` are taken.
            max_buffer_bytes: scenes are drawn in parts whose buffers are about this large, at most 2^31.

        Raises:
            ValueError: a setting out of range, or meshes that cannot be drawn.
            BackendMissingError: Warp is not installed.
        """
        check_samples(samples_per_axis)
        if not 1 <= max_buffer_bytes <= 1 << 31:
            raise ValueError(f"max_buffer_bytes: expected 1 to 2^31, got {max_buffer_bytes}; 2^30 is a good start")
        self._basis = {torch.device("cpu"): tangent_basis(tangents).double()}
        self._images: Any = load_kernels()
        self.catalogue = catalogue
        self.samples_per_axis = samples_per_axis
        self.max_buffer_bytes = max_buffer_bytes
        self._meshes: dict[torch.device, DeviceMeshes] = {}
        self._meshes_on(torch.device("cpu"))

    def surfaces(self, device: torch.device | str = "cpu") -> Surfaces:
        """Positions, colours and normals of the catalogue's meshes end to end, to be changed and given to ``render``."""
        meshes = self._meshes_on(torch.device(device))
        return Surfaces(meshes.vertices_m.clone(), meshes.corner_rgb.clone(), meshes.corner_normals.clone())

    def layers(self, objects: Objects, view: View, samples_per_axis: int | None = None) -> Layers:
        """Draw each object alone; see ``protocols.Renderer``.  Carries no gradient.

        Raises:
            ValueError: samples_per_axis below 1, or what ``check_scene`` refuses.
        """
        samples = self.samples_per_axis if samples_per_axis is None else samples_per_axis
        check_samples(samples)
        batch, like = check_scene(objects, view, self.catalogue), objects.T_world_object
        call = self._call(detached(make_batch(objects, view)), view, None, samples=samples)
        rgb, alpha, depth_m = self._images.pipeline.draw_layers(call.meshes, call.batch, call.grid)
        return Layers(_shaped(rgb, batch, like), _shaped(alpha, batch, like), _shaped(depth_m, batch, like), samples)

    def render(self, objects: Objects, view: View, surfaces: Surfaces | None = None) -> RenderOutput:
        """Draw the scene; see ``protocols.Renderer``.  ``rgb`` and ``depth_m`` carry gradients.

        Args:
            objects: [*b n] what stands where.
            view: [*b] how it is looked at.
            surfaces: other positions, colours and normals than the catalogue's, on the same device.

        Raises:
            ValueError: what ``check_scene`` refuses, or surfaces of other shapes than the catalogue's.
        """
        batch, like = check_scene(objects, view, self.catalogue), objects.T_world_object
        out = self._differentiable(self._images.RenderedImages, objects, view, surfaces)
        return RenderOutput(*(_shaped(x, batch, like) for x in out))

    def masks(self, objects: Objects, view: View, surfaces: Surfaces | None = None) -> Float[Tensor, "*b n h w"]:
        """Share of each pixel's samples in which each object is seen; carries gradients."""
        batch = check_scene(objects, view, self.catalogue)
        return _shaped(self._differentiable(self._images.VisibleMasks, objects, view, surfaces), batch, objects.T_world_object)

    def prefix_images(self, objects: Objects, view: View) -> Float[Tensor, "*b n_plus_1 h w 3"]:
        """Images C_0..C_n of the first 0, 1, ..., n objects; gradients cost one pass for all of them."""
        batch = check_scene(objects, view, self.catalogue)
        return _shaped(self._differentiable(self._images.PrefixImages, objects, view, None), batch, objects.T_world_object)

    def swap_errors(
        self, objects: Objects, alternatives: Objects, view: View, target_rgb: Float[Tensor, "*b h w 3"]
    ) -> Float[Tensor, "*b n a n_plus_1"]:
        """Squared error of each prefix image with one slot's object replaced; see ``compositing.swap_errors``.  No gradient."""
        batch, like = check_scene(objects, view, self.catalogue), objects.T_world_object
        slots, count = objects.class_ids.shape[-1], alternatives.class_ids.shape[-1]
        check_swap((*batch, slots), alternatives, view, target_rgb, self.catalogue)
        call = self._call(detached(make_batch(objects, view)), view, None)
        errors = self._images.pipeline.swap_errors(
            call.meshes,
            call.batch,
            detached(make_batch(merge_slots(alternatives, len(batch)), view)),
            flat(view.background_rgb.detach(), len(batch), torch.float32),
            flat(target_rgb.detach(), len(batch), torch.float32),
            call.grid,
        )
        return _shaped(errors.reshape(errors.shape[0], slots, count, slots + 1), batch, like)

    def normal_equations(self, objects: Objects, view: View, residual_rgb: Float[Tensor, "*b h w 3"]) -> NormalEquations:
        """J^T r and J^T J of each object's motions, for Gauss-Newton; J is the analytic derivative of ``render(...).rgb``.

        Args:
            objects: [*b n] what stands where; absent ones get zeros.
            view: [*b] how it is looked at.
            residual_rgb: r, for example the image less the one to match.

        Raises:
            ValueError: what ``check_scene`` refuses, or a residual of another shape than the image.
        """
        batch, like = check_scene(objects, view, self.catalogue), objects.T_world_object
        check_image("residual_rgb", residual_rgb, view, "subtract")
        call = self._call(detached(make_batch(objects, view)), view, None)
        images = [flat(image.detach(), len(batch), torch.float32) for image in (view.background_rgb, residual_rgb)]
        gradient, hessian = self._images.gradients.sum_normals(call.meshes, call.batch, images[0], images[1], call.grid)
        R = torch.where(
            objects.present[..., None, None], like.detach()[..., :3, :3], torch.eye(3, dtype=like.dtype, device=like.device)
        ).double()
        basis = self._basis_on(R.device)
        # world motions as motions of the object in its own frame; in float64, which TF32 leaves alone
        own = torch.cat([basis[:, :3] @ R, basis[:, 3:] @ R], -1)
        gradient, hessian = gradient.reshape(*R.shape[:-2], 6), hessian.reshape(*R.shape[:-2], 6, 6)
        return NormalEquations(
            (own @ gradient[..., None])[..., 0].to(like.dtype), (own @ hessian @ own.transpose(-1, -2)).to(like.dtype)
        )

    def _differentiable(self, function: Any, objects: Objects, view: View, surfaces: Surfaces | None) -> Any:
        """Apply one of the functions of ``images``; the batch dimensions of what comes back are one."""
        batch = make_batch(objects, view)
        call = self._call(detached(batch), view, surfaces)
        background = flat(view.background_rgb, objects.class_ids.dim() - 1, torch.float32)
        own = () if surfaces is None else (surfaces.vertices_m, surfaces.corner_rgb, surfaces.corner_normals)
        return function.apply(call, batch.T_camera_object, batch.light, batch.levels, background, *own)

    def _call(self, batch: Batch, view: View, surfaces: Surfaces | None, samples: int | None = None) -> Any:
        """What an image needs beside the tensors that carry gradients."""
        meshes = self._meshes_on(batch.light.device)
        if surfaces is not None:
            own = (surfaces.vertices_m, surfaces.corner_rgb, surfaces.corner_normals)
            check_surfaces(own, (meshes.vertices_m, meshes.corner_rgb, meshes.corner_normals))
            meshes = with_surfaces(meshes, *(x.detach().to(torch.float32).contiguous() for x in own))
        chosen = self.samples_per_axis if samples is None else samples
        size = (view.camera.height_px, view.camera.width_px)
        grid = self._images.pipeline.Grid(*size, chosen, self.max_buffer_bytes)
        return self._images.Call(meshes, batch, grid)

    def _meshes_on(self, device: torch.device) -> DeviceMeshes:
        if device not in self._meshes:
            self._images.pipeline.passes.check_device(device)
            self._meshes[device] = pack_for_device(self.catalogue, device)
        return self._meshes[device]

    def _basis_on(self, device: torch.device) -> Float[Tensor, "p 6"]:
        if device not in self._basis:
            self._basis[device] = self._basis[torch.device("cpu")].to(device)
        return self._basis[device]


def _shaped(tensor: Tensor, batch: tuple[int, ...], like: Tensor) -> Tensor:
    """Restore the batch dimensions; numbers as ``like``, ids as they are."""
    out = tensor.reshape(*batch, *tensor.shape[1:])
    return out.to(like.dtype) if out.is_floating_point() else out
