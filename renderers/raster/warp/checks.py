"""What inputs are refused.  Shapes are always looked at; numbers only on the CPU, where that costs no wait for the device."""

from __future__ import annotations

import torch
from torch import Tensor

from inverse_graphics.types import Catalogue, Objects, View


def check_scene(objects: Objects, view: View, catalogue: Catalogue) -> tuple[int, ...]:
    """Batch shape of objects and view.

    Raises:
        ValueError: shapes or devices that do not fit; on the CPU also class ids out of range, poses of present objects or a
            camera that are not finite.
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
    if tuple(view.background_rgb.shape) != (*batch, height, width, 3):
        raise ValueError(
            f"background_rgb: expected {(*batch, height, width, 3)}, got {tuple(view.background_rgb.shape)}; "
            "give one colour a pixel of the camera's image (an expanded view will do)"
        )
    device = objects.T_world_object.device
    for tensor in (objects.class_ids, objects.present, view.camera.K_px, view.camera.T_camera_world, view.background_rgb):
        if tensor.device != device:
            raise ValueError(
                f"objects and view: expected one device, got {device} and {tensor.device}; "
                "move them with inverse_graphics.types.map_tensors"
            )
    if device.type == "cpu" and not bool(
        torch.isfinite(view.camera.K_px).all() and torch.isfinite(view.camera.T_camera_world).all()
    ):
        raise ValueError("camera: expected finite K_px and T_camera_world, got NaN or infinity; check what produced them")
    check_objects("", objects, catalogue)
    return batch


def check_objects(prefix: str, objects: Objects, catalogue: Catalogue) -> None:
    """On the CPU, raise ValueError where class ids or the poses of present objects cannot be drawn."""
    ids = objects.class_ids
    if ids.device.type != "cpu":
        return
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


def check_swap(slots: tuple[int, ...], alternatives: Objects, view: View, target_rgb: Tensor, catalogue: Catalogue) -> None:
    """Raise ValueError where alternatives or target do not fit a stack of shape ``slots``."""
    if tuple(alternatives.class_ids.shape[:-1]) != slots:
        raise ValueError(
            f"alternatives: expected {slots} and a dimension of alternatives, got {tuple(alternatives.class_ids.shape)}; "
            "give every slot as many"
        )
    check_image("target_rgb", target_rgb, view)
    check_objects("alternatives.", alternatives, catalogue)


def check_image(name: str, image: Tensor, view: View) -> None:
    """Raise ValueError for an image of another size than the view's."""
    if image.shape != view.background_rgb.shape:
        raise ValueError(
            f"{name}: expected {tuple(view.background_rgb.shape)}, got {tuple(image.shape)}; use images of the same camera"
        )


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


def check_samples(samples_per_axis: int) -> None:
    """Raise ValueError unless there is a sample a pixel."""
    if samples_per_axis < 1:
        raise ValueError(f"samples_per_axis: expected at least 1, got {samples_per_axis}; use 1 for no antialiasing")
