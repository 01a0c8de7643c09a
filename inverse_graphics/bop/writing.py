"""Writing BOP data sets: one scene's folder at a time, which appears whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from inverse_graphics.bop.findings import BopError
from inverse_graphics.bop.images import encode_png, mask_box_px
from inverse_graphics.bop.jsonfiles import numbered_text
from inverse_graphics.bop.scenefiles import CAMERA_FILE, INFO_FILE, TRUTH_FILE
from inverse_graphics.bop.types import ImageCamera
from inverse_graphics.files import write_text

PARTIAL = ".partial"
"""Ending of a scene's folder that is being written; what is left of one is of an interrupted run."""
LARGEST_DEPTH = 65535
"""Largest number in a depth image."""


@dataclass(frozen=True)
class ImageRecord:
    """An image with all that BOP writes of it."""

    rgb_srgb: UInt8[np.ndarray, "h w 3"]
    """Colours."""
    depth_mm: Float[np.ndarray, "h w"]
    """z-depth, 0 where there is none."""
    camera: ImageCamera
    """Where it is taken from."""
    obj_id: Int[np.ndarray, "n"]
    """Models in the image."""
    T_camera_object_mm: Float[np.ndarray, "n 4 4"]
    """Their poses, of BOP's model frames."""
    mask: Bool[np.ndarray, "n h w"]
    """Their silhouettes as if alone."""
    mask_visib: Bool[np.ndarray, "n h w"]
    """What is seen of them."""
    px_count_all: Int[np.ndarray, "n"]
    """Pixels of the silhouettes, also beyond the image's border."""
    bbox_obj_px: Int[np.ndarray, "n 4"]
    """Boxes x, y, width, height of those, width = last column - first."""


def write_scene(split_folder: str | Path, scene_id: int, records: Iterable[ImageRecord]) -> int:
    """Write a scene's folder, images numbered from 0; it is renamed into place when it is whole.

    Args:
        split_folder: folder of the split; made if it is not there.
        scene_id: number of the scene, whose folder must not exist.
        records: its images, in order; taken one at a time.

    Returns:
        How many images were written.

    Raises:
        BopError: the folder exists, or a depth does not fit 16 bits.
    """
    target = Path(split_folder) / f"{scene_id:06d}"
    if target.exists():
        raise BopError(f"{target}: expected no such folder, there is one; choose another scene_id, or remove it")
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}{PARTIAL}")
    cameras: dict[int, Any] = {}
    truths: dict[int, Any] = {}
    infos: dict[int, Any] = {}
    try:
        for name in ("rgb", "depth", "mask", "mask_visib"):
            (partial / name).mkdir(parents=True)
        for im_id, record in enumerate(records):
            _write_images(partial, im_id, record)
            cameras[im_id], truths[im_id], infos[im_id] = camera_entry(record.camera), truth_entries(record), info_entries(record)
        for name, entries in ((CAMERA_FILE, cameras), (TRUTH_FILE, truths), (INFO_FILE, infos)):
            write_text(partial / name, numbered_text(entries))
        os.rename(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return len(cameras)


def remove_partial(split_folder: str | Path) -> int:
    """Remove what interrupted runs left in a split's folder; returns how many scenes that were."""
    folders = [path for path in Path(split_folder).glob(f".*{PARTIAL}") if path.is_dir()]
    for folder in folders:
        shutil.rmtree(folder)
    return len(folders)


def write_camera(dataset: str | Path, camera: ImageCamera) -> None:
    """Write ``camera.json``, the nominal camera of a data set."""
    K = camera.K_px
    entry = {"cx": K[0, 2], "cy": K[1, 2], "depth_scale": camera.depth_scale, "fx": K[0, 0], "fy": K[1, 1]}
    entry = {name: float(value) for name, value in entry.items()} | {"height": camera.height_px, "width": camera.width_px}
    write_text(Path(dataset) / "camera.json", json.dumps(entry, indent=2) + "\n")


def camera_entry(camera: ImageCamera) -> dict[str, Any]:
    """An image's entry in ``scene_camera.json``."""
    entry: dict[str, Any] = {"cam_K": camera.K_px.reshape(-1).tolist(), "depth_scale": camera.depth_scale}
    if camera.T_camera_world_mm is not None:
        entry["cam_R_w2c"] = camera.T_camera_world_mm[:3, :3].reshape(-1).tolist()
        entry["cam_t_w2c"] = camera.T_camera_world_mm[:3, 3].tolist()
    return entry


def truth_entries(record: ImageRecord) -> list[dict[str, Any]]:
    """An image's entries in ``scene_gt.json``."""
    return [
        {"cam_R_m2c": T[:3, :3].reshape(-1).tolist(), "cam_t_m2c": T[:3, 3].tolist(), "obj_id": int(obj_id)}
        for obj_id, T in zip(record.obj_id, record.T_camera_object_mm, strict=True)
    ]


def info_entries(record: ImageRecord) -> list[dict[str, Any]]:
    """An image's entries in ``scene_gt_info.json``."""
    valid = depth_units(record.depth_mm, record.camera.depth_scale) > 0
    entries = []
    for n, (mask, seen) in enumerate(zip(record.mask, record.mask_visib, strict=True)):
        count_all, count_seen = int(record.px_count_all[n]), int(seen.sum())
        entries.append(
            {
                "bbox_obj": record.bbox_obj_px[n].tolist() if count_seen else [-1] * 4,
                "bbox_visib": list(mask_box_px(seen)),
                "px_count_all": count_all,
                "px_count_valid": int((mask & valid).sum()),
                "px_count_visib": count_seen,
                "visib_fract": count_seen / count_all if count_all else 0.0,
            }
        )
    return entries


def depth_units(depth_mm: Float[np.ndarray, "h w"], depth_scale: float) -> np.ndarray:
    """Depth as 16-bit numbers.

    Raises:
        BopError: a depth is negative, not finite, or does not fit.
    """
    units = np.round(depth_mm / depth_scale)
    if not ((units >= 0) & (units <= LARGEST_DEPTH)).all():
        raise BopError(
            f"depth_mm: expected 0..{LARGEST_DEPTH * depth_scale:g} mm for a depth_scale of {depth_scale:g}, received "
            f"{np.nanmin(depth_mm):g}..{np.nanmax(depth_mm):g}; use a larger depth_scale"
        )
    return units.astype(np.uint16)


def _write_images(folder: Path, im_id: int, record: ImageRecord) -> None:
    """Colour, depth and masks of an image."""
    (folder / "rgb" / f"{im_id:06d}.png").write_bytes(encode_png(record.rgb_srgb))
    (folder / "depth" / f"{im_id:06d}.png").write_bytes(encode_png(depth_units(record.depth_mm, record.camera.depth_scale)))
    for gt_id, (mask, seen) in enumerate(zip(record.mask, record.mask_visib, strict=True)):
        for name, pixels in (("mask", mask), ("mask_visib", seen)):
            path = folder / name / f"{im_id:06d}_{gt_id:06d}.png"
            path.write_bytes(encode_png(pixels.astype(np.uint8) * np.uint8(255)))
