"""Generated scenes as BOP writes them: poses of centred models in millimetres, masks, and counts beyond the image's border."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from inverse_graphics.bop.images import mask_box_px
from inverse_graphics.bop.modelfiles import T_camera_model_mm, box_centre_m
from inverse_graphics.bop.models import MM_PER_M
from inverse_graphics.bop.types import ImageCamera
from inverse_graphics.bop.writing import ImageRecord
from inverse_graphics.colours import linear_to_srgb
from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Camera, Catalogue, Objects, View, map_tensors
from scenes.generator import Batch

T = TypeVar("T")
CANVAS = 3
"""``px_count_all`` is counted on a canvas so many times as large as the image, which is its middle."""
CANVAS_BYTES = 2**28
"""About what the layers of the images on the large canvas may take at a time."""


@dataclass(frozen=True)
class Silhouettes:
    """Each object's pixels as if alone, on the large canvas."""

    count: Int[np.ndarray, "b n"]
    """How many."""
    bbox_px: Int[np.ndarray, "b n 4"]
    """Their box in the image's pixels, which may lie outside it; width = last column - first, -1 where there is none."""


def bop_records(batch: Batch, geometry: Renderer, depth_scale: float = 0.1) -> Iterator[ImageRecord]:
    """Images of a batch of scenes with what BOP writes of them; objects in the order of their slots.

    Args:
        batch: [b] scenes and images; depth and ids of ``geometry``.
        geometry: draws silhouettes: the renderer that drew the batch's depth, or one of the same meshes.
        depth_scale: millimetres a unit of the depth image.
    """
    objects, view = batch.scene.objects, batch.scene.view
    with torch.no_grad():
        masks = geometry.layers(objects, view, samples_per_axis=1).alpha.cpu().numpy() >= 0.5
    silhouettes = _silhouettes(objects, view, geometry, masks)
    T_camera_world = view.camera.T_camera_world.double().numpy()
    centres_m = np.stack([box_centre_m(mesh) for mesh in geometry.catalogue.meshes])
    class_ids, present = objects.class_ids.numpy(), objects.present.numpy()
    T_camera_object = T_camera_world[:, None] @ objects.T_world_object.double().numpy()
    T_model_mm = T_camera_model_mm(T_camera_object, centres_m[class_ids])
    ids, depth_m = batch.image.object_ids.cpu().numpy(), batch.image.depth_m.cpu().double().numpy()
    for index, slots in enumerate(present):
        camera = _image_camera(view.camera, index, T_camera_world[index], depth_scale)
        kept = np.flatnonzero(slots)
        yield ImageRecord(
            rgb_srgb=np.round(255 * linear_to_srgb(batch.image.rgb[index].cpu().numpy())).astype(np.uint8),
            depth_mm=depth_m[index] * MM_PER_M,
            camera=camera,
            obj_id=class_ids[index, kept] + 1,
            T_camera_object_mm=T_model_mm[index, kept],
            mask=masks[index, kept],
            mask_visib=ids[index] == kept[:, None, None],
            px_count_all=silhouettes.count[index, kept],
            bbox_obj_px=silhouettes.bbox_px[index, kept],
        )


def nominal_camera(view: View, depth_scale: float) -> ImageCamera:
    """The camera of a view without batch dimensions, for ``camera.json``."""
    camera = view.camera
    return ImageCamera(camera.K_px.double().numpy(), camera.width_px, camera.height_px, depth_scale)


def inside_image(objects: Objects, camera: Camera, catalogue: Catalogue) -> Bool[np.ndarray, "b n"]:
    """Which objects lie whole in the image and beyond the near plane, by the corners of their boxes (some others may as well)."""
    T_camera_object = camera.T_camera_world[:, None].double() @ objects.T_world_object.double()
    corners_m = torch.from_numpy(np.stack([_box_corners_m(mesh.vertices_m) for mesh in catalogue.meshes]))
    points = corners_m[objects.class_ids] @ T_camera_object[..., :3, :3].transpose(-1, -2) + T_camera_object[..., None, :3, 3]
    in_front = points[..., 2] > camera.near_m
    pixels = points @ camera.K_px.double()[:, None].transpose(-1, -2)
    uv_px = pixels[..., :2] / torch.where(in_front, points[..., 2], 1.0)[..., None]
    limits = torch.tensor([camera.width_px, camera.height_px], dtype=torch.float64)
    return (in_front & (uv_px >= 0).all(-1) & (uv_px <= limits).all(-1)).all(-1).numpy()


def _silhouettes(objects: Objects, view: View, geometry: Renderer, masks: Bool[np.ndarray, "b n h w"]) -> Silhouettes:
    """Counts and boxes: of the image itself where an object lies in it, of the large canvas where it may not."""
    count = masks.sum((-2, -1))
    bbox_px = np.asarray([[mask_box_px(mask) for mask in row] for row in masks], np.int64).reshape(*count.shape, 4)
    cut = objects.present.numpy() & ~inside_image(objects, view.camera, geometry.catalogue)
    rows = np.flatnonzero(cut.any(1))
    width_px, height_px = view.camera.width_px, view.camera.height_px
    step = max(1, CANVAS_BYTES // max(1, 20 * CANVAS**2 * width_px * height_px * cut.shape[1]))
    for start in range(0, len(rows), step):
        chosen = torch.from_numpy(rows[start : start + step])
        camera = _wide(view.camera, chosen)
        wide_objects = _select(objects, chosen)
        wide_objects = dataclasses.replace(wide_objects, present=torch.from_numpy(cut)[chosen])
        light = _select(view.light, chosen)
        background = torch.zeros(1, 1, 1, 3).expand(len(chosen), camera.height_px, camera.width_px, 3)
        with torch.no_grad():
            alpha = geometry.layers(wide_objects, View(camera, light, background), samples_per_axis=1).alpha
        wide = alpha.cpu().numpy() >= 0.5
        for place, row in enumerate(chosen.tolist()):
            for slot in np.flatnonzero(cut[row]):
                x, y, w, h = mask_box_px(wide[place, slot])
                count[row, slot] = wide[place, slot].sum()
                bbox_px[row, slot] = (x - width_px, y - height_px, w, h) if w >= 0 else (-1, -1, -1, -1)
    return Silhouettes(count, bbox_px)


def _select(value: T, rows: torch.Tensor) -> T:
    """Some along the first dimension of every tensor of a dataclass."""
    return map_tensors(lambda tensor: tensor[rows], value)


def _wide(camera: Camera, rows: torch.Tensor) -> Camera:
    """Some of the cameras on the large canvas, the image in its middle."""
    side = CANVAS // 2
    shift = torch.zeros(3, 3, dtype=camera.K_px.dtype)
    shift[0, 2], shift[1, 2] = side * camera.width_px, side * camera.height_px
    size = {"width_px": CANVAS * camera.width_px, "height_px": CANVAS * camera.height_px}
    return dataclasses.replace(camera, K_px=camera.K_px[rows] + shift, T_camera_world=camera.T_camera_world[rows], **size)


def _box_corners_m(vertices_m: Float[np.ndarray, "v 3"]) -> Float[np.ndarray, "8 3"]:
    low, high = vertices_m.min(0).astype(np.float64), vertices_m.max(0).astype(np.float64)
    return np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), -1).reshape(8, 3)


def _image_camera(camera: Camera, index: int, T_camera_world: Float[np.ndarray, "4 4"], depth_scale: float) -> ImageCamera:
    T_mm = T_camera_world.copy()
    T_mm[:3, 3] *= MM_PER_M
    return ImageCamera(camera.K_px[index].double().numpy(), camera.width_px, camera.height_px, depth_scale, T_mm)
