"""From scenes to shots: arrays of a batch of scenes, where objects lie in the picture, which of them share one.

Objects whose projected boxes do not touch are drawn in one picture and cut apart again, so that the number of pictures does not
grow with the number of objects.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_graphics.types import Catalogue, Objects, View
from renderers.painting.shots import Shot

FRAME_PX = 32
"""Sides of pictures are multiples of this."""

PADDING = 2
"""Samples by which a box is larger than the projection of the object, for painters that round."""

MIN_DEPTH_M = 1e-9
"""Points nearer than this are not projected."""


@dataclass(frozen=True)
class SceneArrays:
    """A batch of b scenes of n slots as numpy arrays, with cameras for pictures of all their samples."""

    class_ids: Int[np.ndarray, "b n"]
    """Index into the catalogue, int64."""
    T_world_object: Float[np.ndarray, "b n 4 4"]
    """Object to world, float64; identity where nothing is present."""
    present: Bool[np.ndarray, "b n"]
    """Which slots hold an object."""
    K_px: Float[np.ndarray, "b 3 3"]
    """Intrinsics in pixels of the picture, float64."""
    T_camera_world: Float[np.ndarray, "b 4 4"]
    """World to camera, float64."""
    direction_world: Float[np.ndarray, "b 3"]
    """Towards a light that is far away."""
    position_world: Float[np.ndarray, "b 3"] | None
    """Where a near light stands; None for lights that are far away."""
    ambient: Float[np.ndarray, "b"]
    """Ambient intensity."""
    diffuse: Float[np.ndarray, "b"]
    """Diffuse intensity."""
    width_px: int
    """Width of a picture: the image's times the samples along an axis."""
    height_px: int
    """Height of a picture."""
    near_m: float
    """Near plane."""

    def shot(
        self,
        scene: int,
        class_ids: Int[np.ndarray, "k"],
        T_world_object: Float[np.ndarray, "k 4 4"],
        surroundings: bool = False,
    ) -> Shot:
        """The picture of some objects as this scene's camera and light show them."""
        return Shot(
            class_ids=class_ids,
            T_world_object=T_world_object,
            T_camera_world=self.T_camera_world[scene],
            K_px=self.K_px[scene],
            width_px=self.width_px,
            height_px=self.height_px,
            near_m=self.near_m,
            direction_world=self.direction_world[scene],
            position_world=None if self.position_world is None else self.position_world[scene],
            ambient=float(self.ambient[scene]),
            diffuse=float(self.diffuse[scene]),
            surroundings=surroundings,
        )

    def shot_of_slots(self, scene: int, slots: list[int], frame: tuple[int, int, int, int] | None = None) -> Shot:
        """The picture of what stands in some slots of a scene, or of the part (x0, y0, x1, y1) of it."""
        shot = self.shot(scene, self.class_ids[scene, slots], self.T_world_object[scene, slots])
        if frame is None:
            return shot
        x0, y0, x1, y1 = frame
        K_px = shot.K_px.copy()
        K_px[:2, 2] -= x0, y0
        return dataclasses.replace(shot, K_px=K_px, width_px=x1 - x0, height_px=y1 - y0)


def scene_arrays(objects: Objects, view: View, samples_per_axis: int) -> SceneArrays:
    """Flatten checked objects [*b n] and views [*b] to one batch dimension."""
    batch, slots = tuple(objects.present.shape[:-1]), objects.present.shape[-1]
    scenes = int(np.prod(batch))
    camera, light = view.camera, view.light
    present = _array(objects.present, (), (scenes, slots), bool)
    T = _array(objects.T_world_object, (), (scenes, slots, 4, 4))
    position = light.position_world
    return SceneArrays(
        class_ids=_array(objects.class_ids, (), (scenes, slots), np.int64),
        T_world_object=np.where(present[..., None, None], T, np.eye(4)),
        present=present,
        K_px=_array(camera.K_px, (*batch, 3, 3), (scenes, 3, 3)) * [[samples_per_axis], [samples_per_axis], [1.0]],
        T_camera_world=_array(camera.T_camera_world, (*batch, 4, 4), (scenes, 4, 4)),
        direction_world=_array(light.direction_world, (*batch, 3), (scenes, 3)),
        position_world=None if position is None else _array(position, (*batch, 3), (scenes, 3)),
        ambient=_array(light.ambient, batch, (scenes,)),
        diffuse=_array(light.diffuse, batch, (scenes,)),
        width_px=camera.width_px * samples_per_axis,
        height_px=camera.height_px * samples_per_axis,
        near_m=float(camera.near_m),
    )


def bounding_corners(catalogue: Catalogue) -> Float[np.ndarray, "c 8 3"]:
    """The eight corners of the box around each mesh, object frame, metres."""
    lowest = np.array([mesh.vertices_m.min(0) for mesh in catalogue.meshes], np.float64).reshape(-1, 1, 3)
    highest = np.array([mesh.vertices_m.max(0) for mesh in catalogue.meshes], np.float64).reshape(-1, 1, 3)
    which = np.array([[(corner >> axis) & 1 for axis in range(3)] for corner in range(8)])
    return np.where(which, highest, lowest)


def projected_boxes(scenes: SceneArrays, corners_m: Float[np.ndarray, "c 8 3"]) -> Int[np.ndarray, "b n 4"]:
    """Samples that each object may cover: [x0, x1) and [y0, y1) as (x0, y0, x1, y1), padded and within the picture.

    The whole picture where a corner of the object's box is nearer than the near plane; nothing (x0 = x1) where all are, where
    the box lies outside of the picture, and where no object is present.
    """
    T_camera_object = scenes.T_camera_world[:, None] @ scenes.T_world_object
    points = corners_m[scenes.class_ids] @ np.swapaxes(T_camera_object[..., :3, :3], -1, -2) + T_camera_object[..., None, :3, 3]
    near = points[..., 2] < max(scenes.near_m, MIN_DEPTH_M)
    pixels = points / np.where(near, 1.0, points[..., 2])[..., None] @ np.swapaxes(scenes.K_px, -1, -2)[:, None]
    size = np.array([scenes.width_px, scenes.height_px])
    first = np.clip(np.floor(pixels[..., :2].min(-2)) - PADDING, 0, size)
    last = np.clip(np.ceil(pixels[..., :2].max(-2)) + PADDING, 0, size)
    crossing = near.any(-1, keepdims=True)
    first, last = np.where(crossing, 0, first), np.where(crossing, size, last)
    empty = ~scenes.present | near.all(-1) | np.any(first >= last, axis=-1)
    return np.where(empty[..., None], 0, np.concatenate([first, last], -1)).astype(np.int64)


def pack(boxes: Int[np.ndarray, "n 4"]) -> list[list[int]]:
    """Groups of objects whose boxes do not touch: first fit, the largest box first, which gives few groups.

    Args:
        boxes: (x0, y0, x1, y1) of each object of a scene; empty ones are left out.

    Returns:
        Slots of each group in ascending order; the same for the same boxes.
    """
    x0, y0, x1, y1 = boxes.T
    area = (x1 - x0) * (y1 - y0)
    apart = (x1[:, None] <= x0) | (x1 <= x0[:, None]) | (y1[:, None] <= y0) | (y1 <= y0[:, None])
    groups: list[list[int]] = []
    for slot in np.argsort(-area, kind="stable").tolist():
        if area[slot] == 0:
            break
        for group in groups:
            if apart[slot, group].all():
                group.append(slot)
                break
        else:
            groups.append([slot])
    return [sorted(group) for group in groups]


def frame_of(boxes: Int[np.ndarray, "k 4"], width_px: int, height_px: int) -> tuple[int, int, int, int]:
    """The part (x0, y0, x1, y1) of a picture that holds some boxes.

    Its sides are multiples of ``FRAME_PX``, or the picture's: painters that draw pictures of one size together meet few sizes.
    """
    ends = []
    for axis, size in ((0, width_px), (1, height_px)):
        first, last = int(boxes[:, axis].min()), int(boxes[:, axis + 2].max())
        side = min(size, -(-(last - first) // FRAME_PX) * FRAME_PX)
        first = min(first, size - side)
        ends.append((first, first + side))
    (x0, x1), (y0, y1) = ends
    return x0, y0, x1, y1


def _array(tensor: Tensor, expanded: tuple[int, ...], shape: tuple[int, ...], dtype: type = np.float64) -> np.ndarray:
    """A tensor, expanded to ``expanded`` where that is not empty, as an array of a shape and type."""
    full = tensor.expand(expanded) if expanded else tensor
    return full.detach().cpu().numpy().astype(dtype).reshape(shape)
