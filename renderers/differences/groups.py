"""Which objects of a scene may move in one picture: those whose places in the image do not touch.

A pixel's change then belongs to the object in whose place it lies.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_graphics.poses import transform_points
from inverse_graphics.types import Camera, Catalogue


def box_corners(catalogue: Catalogue) -> Float[Tensor, "classes 8 3"]:
    """Corners of each mesh's bounding box in its own frame, metres."""
    ends = [np.stack([mesh.vertices_m.min(0), mesh.vertices_m.max(0)]) for mesh in catalogue.meshes]
    which = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(8, 3)
    return torch.from_numpy(np.stack([end[which, np.arange(3)] for end in ends]).astype(np.float32))


def image_boxes(
    corners_m: Float[Tensor, "b n 8 3"], T_world_object: Float[Tensor, "k b n 4 4"], camera: Camera, pad_px: float
) -> Int[Tensor, "b n 4"]:
    """Pixels that objects reach in any of k poses, padded: first column, first row, one past the last column, past the last row.

    The whole image for objects with a corner nearer than ``near_m``; first and past are the same for objects out of sight.
    """
    T_camera_object = camera.T_camera_world[:, None].to(T_world_object) @ T_world_object
    points = transform_points(T_camera_object, corners_m.to(T_world_object))
    depth_m = points[..., 2]
    in_front = (depth_m > camera.near_m).all(-1).all(0)
    rays = points / torch.where(depth_m > camera.near_m, depth_m, 1.0)[..., None]
    uv_px = (rays @ camera.K_px[:, None].to(rays).transpose(-1, -2))[..., :2].movedim(0, 2).flatten(2, 3)
    first, past = (uv_px.amin(-2) - pad_px).floor(), (uv_px.amax(-2) + pad_px).ceil()
    size = first.new_tensor([camera.width_px, camera.height_px])
    first, past = (torch.minimum(x.clamp(min=0), size) for x in (first, past))
    first = torch.where(in_front[..., None], first, 0.0)
    past = torch.where(in_front[..., None], past, size)
    return torch.cat([first, past], -1).long()


def touching(boxes: Int[Tensor, "b n 4"]) -> Bool[Tensor, "b n n"]:
    """Which boxes share a pixel with which."""
    first = torch.maximum(boxes[:, :, None, :2], boxes[:, None, :, :2])
    past = torch.minimum(boxes[:, :, None, 2:], boxes[:, None, :, 2:])
    return (first < past).all(-1)


def group_apart(touch: Bool[Tensor, "b n n"], present: Bool[Tensor, "b n"]) -> Int[Tensor, "b n"]:
    """Number the objects so that those that touch have different numbers: greedily, few numbers from 0 on; -1 for absent ones."""
    scenes, slots = present.shape
    groups = torch.full((scenes, slots), -1, dtype=torch.int64, device=present.device)
    numbers = torch.arange(max(slots, 1), device=present.device)
    for slot in range(slots):
        taken = touch[:, slot, :, None] & (groups[:, :, None] == numbers)
        free = (~taken.any(1)).int().argmax(-1)
        groups[:, slot] = torch.where(present[:, slot], free, -1)
    return groups


def inside(boxes: Int[Tensor, "q 4"], height_px: int, width_px: int) -> Bool[Tensor, "q h w"]:
    """Pixels of each box."""
    column, row = (torch.arange(size, device=boxes.device) for size in (width_px, height_px))
    across = (column >= boxes[:, 0, None]) & (column < boxes[:, 2, None])
    down = (row >= boxes[:, 1, None]) & (row < boxes[:, 3, None])
    return down[:, :, None] & across[:, None, :]
