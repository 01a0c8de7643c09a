"""From objects and views to what the kernels take: flat batches of numpy arrays, poses in the camera's frame."""

from __future__ import annotations

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from inverse_graphics.types import Catalogue, Objects, View

MAX_SLOTS = 127
"""The kernels keep the number of the slot that is seen in a byte."""


def flatten(tensor: Tensor, batch_dims: int) -> Tensor:
    """The batch dimensions as one."""
    return tensor.reshape(math.prod(tensor.shape[:batch_dims]), *tensor.shape[batch_dims:])


def to_numpy(tensor: Tensor) -> np.ndarray:
    """On the CPU, contiguous, float32 (ids: int64, masks: bool)."""
    dtype = tensor.dtype if tensor.dtype in (torch.int64, torch.bool) else torch.float32
    return tensor.detach().to("cpu", dtype).contiguous().numpy()


def finite(tensor: Tensor) -> np.ndarray:
    """Which entries are finite.  For small tensors numpy takes a tenth of torch's time, and every call asks for it."""
    if tensor.dtype not in (torch.float32, torch.float64):
        tensor = tensor.double()
    return np.isfinite(tensor.detach().cpu().numpy())


def from_numpy(array: np.ndarray, batch: tuple[int, ...], like: Tensor) -> Tensor:
    """With its batch dimensions back, on the device of ``like``, and of its type if of floats."""
    out = torch.from_numpy(array).reshape(*batch, *array.shape[1:])
    return out.to(like.device, like.dtype if out.is_floating_point() else out.dtype)


def camera_rows(view: View) -> np.ndarray:
    """[b 5] float64: fx, fy, cx, cy, near plane."""
    K = view.camera.K_px.detach().reshape(-1, 9).to("cpu", torch.float64).numpy()
    rows = np.full((len(K), 5), view.camera.near_m, np.float64)
    rows[:, :4] = K[:, [0, 4, 2, 5]]
    return rows


def camera_poses(objects: Objects, view: View) -> Float[Tensor, "b n 3 4"]:
    """T_camera_object without its last row."""
    T_camera_object = view.camera.T_camera_world[..., None, :, :] @ objects.T_world_object
    return flatten(T_camera_object[..., :3, :], objects.class_ids.dim() - 1)


def object_lights(objects: Objects, view: View) -> Float[Tensor, "b n 5"]:
    """Direction or position of the light in each object's frame, ambient, diffuse."""
    T, light = objects.T_world_object, view.light
    if light.position_world is None:
        at = light.direction_world[..., None, :]
    else:
        at = light.position_world[..., None, :] - T[..., :3, 3]
    in_object = (T[..., :3, :3] * at[..., :, None]).sum(-2)
    levels = torch.stack([light.ambient, light.diffuse], -1)[..., None, :].expand(*in_object.shape[:-1], 2)
    return flatten(torch.cat([in_object, levels], -1), objects.class_ids.dim() - 1)


def light_rows(light: Tensor, view: View) -> np.ndarray:
    """[b n 6] float32 as ``shading_kernels`` wants it, from ``object_lights``."""
    near = torch.full_like(light[..., :1], float(view.light.position_world is not None))
    return to_numpy(torch.cat([light, near], -1))


def check_scene(objects: Objects, view: View, catalogue: Catalogue) -> tuple[tuple[int, ...], int]:
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
    if not (finite(view.camera.K_px).all() and finite(view.camera.T_camera_world).all()):
        raise ValueError("camera: expected finite K_px and T_camera_world, got NaN or infinity; check what produced them")
    if tuple(view.background_rgb.shape) != (*batch, height, width, 3):
        raise ValueError(
            f"background_rgb: expected {(*batch, height, width, 3)}, got {tuple(view.background_rgb.shape)}; "
            "give one colour a pixel of the camera's image (an expanded view will do)"
        )
    check_objects("", objects, catalogue)
    if objects.class_ids.shape[-1] > MAX_SLOTS:
        raise ValueError(
            f"objects: expected at most {MAX_SLOTS} slots a scene, got {objects.class_ids.shape[-1]}; "
            "drop those that hold nothing"
        )
    return batch, objects.class_ids.shape[-1]


def check_objects(prefix: str, objects: Objects, catalogue: Catalogue) -> None:
    """Raise ValueError where class ids or the poses of present objects cannot be drawn."""
    ids = to_numpy(objects.class_ids)
    low, high = (ids.min(), ids.max()) if ids.size else (0, 0)
    if low < 0 or high >= len(catalogue):
        raise ValueError(
            f"{prefix}class_ids: expected 0..{len(catalogue) - 1}, the catalogue's classes, got {low}..{high}; "
            "give empty slots any class and mark them in objects.present"
        )
    poses = finite(objects.T_world_object)
    if not poses.all() and not (poses.all((-2, -1)) | ~to_numpy(objects.present)).all():
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
    if target_rgb.shape != view.background_rgb.shape:
        raise ValueError(
            f"target_rgb: expected {tuple(view.background_rgb.shape)}, got {tuple(target_rgb.shape)}; "
            "compare with images of the same camera"
        )
    check_objects("alternatives.", alternatives, catalogue)
