"""What inputs are refused.  Shapes are always looked at; numbers only on the CPU, where that costs no wait for the device."""

from __future__ import annotations

import torch
from torch import Tensor

from inverse_graphics.types import Catalogue, Objects, View
from renderers.raster.checks import check_alternatives, check_camera, check_objects, check_shapes


def check_scene(objects: Objects, view: View, catalogue: Catalogue) -> tuple[int, ...]:
    """Batch shape of objects and view.

    Raises:
        ValueError: shapes or devices that do not fit; on the CPU also class ids out of range, poses of present objects or a
            camera that are not finite.
    """
    batch = check_shapes(objects, view)
    device = objects.T_world_object.device
    for tensor in (objects.class_ids, objects.present, view.camera.K_px, view.camera.T_camera_world, view.background_rgb):
        if tensor.device != device:
            raise ValueError(
                f"objects and view: expected one device, got {device} and {tensor.device}; "
                "move them with inverse_graphics.types.map_tensors"
            )
    if device.type == "cpu":
        check_camera(view)
        check_objects("", objects, catalogue)
    return batch


def check_swap(slots: tuple[int, ...], alternatives: Objects, view: View, target_rgb: Tensor, catalogue: Catalogue) -> None:
    """Raise ValueError where alternatives or target do not fit a stack of shape ``slots``."""
    check_alternatives(slots, alternatives, view, target_rgb)
    if alternatives.class_ids.device.type == "cpu":
        check_objects("alternatives.", alternatives, catalogue)


def check_surfaces(given: tuple[Tensor, Tensor, Tensor], own: tuple[Tensor, Tensor, Tensor]) -> None:
    """Raise ValueError for positions, colours and normals that do not fit the catalogue's."""
    for name, got, want in zip(("vertices_m", "corner_rgb", "corner_normals"), given, own, strict=True):
        if got.shape != want.shape or got.device != want.device:
            raise ValueError(
                f"surfaces.{name}: expected {tuple(want.shape)} on {want.device}, got {tuple(got.shape)} on {got.device}; "
                "start from renderer.surfaces(device)"
            )
        if got.device.type == "cpu" and not bool(torch.isfinite(got).all()):
            raise ValueError(f"surfaces.{name}: expected finite numbers, got NaN or infinity; check what produced them")
