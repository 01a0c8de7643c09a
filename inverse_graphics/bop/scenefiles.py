"""The three JSON files of a scene's folder as columns: cameras, ground truth, and how much of it is visible."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from inverse_graphics.bop.findings import Findings
from inverse_graphics.bop.jsonfiles import read_numbered, take_id, take_number, take_numbers
from inverse_graphics.bop.posechecks import check_distances, check_poses
from inverse_graphics.bop.types import Truths, select

CAMERA_FILE, TRUTH_FILE, INFO_FILE = "scene_camera.json", "scene_gt.json", "scene_gt_info.json"


@dataclass(frozen=True)
class Cameras:
    """The cameras of a scene's images."""

    im_id: Int[np.ndarray, "m"]
    """Number of the image, ascending."""
    K_px: Float[np.ndarray, "m 3 3"]
    """Intrinsic matrices in pixels."""
    depth_scale: Float[np.ndarray, "m"]
    """Millimetres a unit of the depth image."""
    T_camera_world_mm: Float[np.ndarray, "m 4 4"]
    """World to camera, translation in millimetres."""
    has_world: Bool[np.ndarray, "m"]
    """Which images say where the world is; elsewhere the pose is the identity and means nothing."""


@dataclass(frozen=True)
class Visibility:
    """What ``scene_gt_info.json`` says of each row of the truths."""

    bbox_obj_px: Int[np.ndarray, "n 4"]
    """Box x, y, width, height of the whole silhouette, width = last column - first; -1 where nothing is visible."""
    bbox_visib_px: Int[np.ndarray, "n 4"]
    """Box of its visible part."""
    px_count_all: Int[np.ndarray, "n"]
    """Pixels of the silhouette, also beyond the image's border."""
    px_count_valid: Int[np.ndarray, "n"]
    """Pixels of the silhouette in the image where there is a depth."""
    px_count_visib: Int[np.ndarray, "n"]
    """Pixels of its visible part."""


@dataclass(frozen=True)
class SceneColumns:
    """The JSON files of a scene."""

    cameras: Cameras
    """Of every image."""
    truths: Truths | None
    """What is in the images; None where the data set keeps it secret, as the test sets of the challenge do."""
    visibility: Visibility | None
    """Row by row as the truths."""


def read_columns(folder: Path, scene_id: int, found: Findings) -> SceneColumns:
    """Read a scene's JSON files.

    Args:
        folder: of the scene.
        scene_id: its number.
        found: findings are added to it; rows with an error are left out.
    """
    entries = read_numbered(folder / CAMERA_FILE, found)
    cameras = _cameras(folder / CAMERA_FILE, entries or {}, found)
    if not (folder / TRUTH_FILE).is_file():
        if (folder / INFO_FILE).is_file():
            found.error("missing", folder / TRUTH_FILE, "", "expected a file beside scene_gt_info.json, there is none", "add it")
        return SceneColumns(cameras, None, None)
    listed = read_numbered(folder / TRUTH_FILE, found)
    truths, counts = _truths(folder / TRUTH_FILE, listed or {}, scene_id, found)
    if entries is not None and listed is not None:
        _check_images(folder / TRUTH_FILE, _whole(list(listed)), _whole(list(entries)), found)
    info = read_numbered(folder / INFO_FILE, found)
    if info is None:
        return SceneColumns(cameras, truths, None)
    return SceneColumns(cameras, *_with_info(folder / INFO_FILE, info, truths, counts, found))


def _cameras(path: Path, entries: dict[int, Any], found: Findings) -> Cameras:
    ids, K, scales, poses, has_world = [], [], [], [], []
    for im_id, entry in entries.items():
        where = f'"{im_id}"'
        intrinsics = take_numbers(entry, "cam_K", 9, path, where, found)
        scale = take_number(entry, "depth_scale", path, where, found, 0.0)
        known = isinstance(entry, dict) and ("cam_R_w2c" in entry or "cam_t_w2c" in entry)
        pose = _pose(entry, "cam_R_w2c", "cam_t_w2c", path, where, found) if known else np.eye(4)
        if intrinsics is None or scale is None or pose is None:
            continue
        if not _is_camera(intrinsics):
            problem = f"expected [fx, 0, cx, 0, fy, cy, 0, 0, 1] with fx, fy > 0, received {intrinsics}"
            found.error("camera", path, f"{where}.cam_K", problem, "write K row by row, in pixels")
            continue
        ids.append(im_id)
        K.append(np.reshape(intrinsics, (3, 3)))
        scales.append(scale)
        poses.append(pose)
        has_world.append(known)
    T = np.asarray(poses, np.float64).reshape(-1, 4, 4)
    check_poses(T, [f'"{im_id}".cam_R_w2c' for im_id in ids], path, found)
    K_array = np.asarray(K, np.float64).reshape(-1, 3, 3)
    return Cameras(_whole(ids), K_array, np.asarray(scales, np.float64), T, np.asarray(has_world, np.bool_))


def _truths(path: Path, entries: dict[int, Any], scene_id: int, found: Findings) -> tuple[Truths, dict[int, int]]:
    """The truths, their visibility NaN, and how many entries each image has in the file."""
    rows, poses, places = [], [], []
    counts: dict[int, int] = {}
    for im_id, objects in entries.items():
        if not isinstance(objects, list):
            found.error("key", path, f'"{im_id}"', f"expected a list, received {type(objects).__name__}", "write [] for none")
            continue
        counts[im_id] = len(objects)
        for gt_id, entry in enumerate(objects):
            where = f'"{im_id}"[{gt_id}]'
            obj_id = take_id(entry, "obj_id", path, where, found)
            pose = _pose(entry, "cam_R_m2c", "cam_t_m2c", path, where, found)
            if obj_id is not None and pose is not None:
                rows.append((im_id, obj_id, gt_id))
                poses.append(pose)
                places.append(where)
    T = np.asarray(poses, np.float64).reshape(-1, 4, 4)
    good = check_poses(T, [f"{place}.cam_R_m2c" for place in places], path, found)
    check_distances(T[good, :3, 3], "cam_t_m2c", path, found)
    ids = _whole(rows).reshape(-1, 3)
    _check_repeated(ids, T, places, path, found)
    unknown = np.full(len(ids), np.nan)
    truths = Truths(np.full(len(ids), scene_id), ids[:, 0], ids[:, 1], ids[:, 2], T, unknown)
    return select(truths, good), counts


def _with_info(
    path: Path, info: dict[int, Any], truths: Truths, counts: dict[int, int], found: Findings
) -> tuple[Truths, Visibility]:
    """The truths with their visibility; rows without it are left out."""
    for im_id, count in counts.items():
        listed = info.get(im_id)
        if listed is None:
            found.error("key", path, "", f'expected image "{im_id}" of scene_gt.json, received none', "write its entries")
        elif listed is not None and (not isinstance(listed, list) or len(listed) != count):
            received = len(listed) if isinstance(listed, list) else type(listed).__name__
            found.error(
                "count", path, f'"{im_id}"', f"expected {count} entries as in scene_gt.json, received {received}", "align them"
            )
    kept, rows, fractions = [], [], []
    for row, (im_id, gt_id) in enumerate(zip(truths.im_id.tolist(), truths.gt_id.tolist(), strict=True)):
        listed = info.get(im_id)
        if not isinstance(listed, list) or gt_id >= len(listed):
            continue
        numbers = _info_row(listed[gt_id], path, f'"{im_id}"[{gt_id}]', found)
        if numbers is not None:
            kept.append(row)
            rows.append(numbers[:-1])
            fractions.append(numbers[-1])
    chosen, whole = select(truths, _whole(kept)), np.asarray(rows, np.float64).reshape(-1, 11).astype(np.int64)
    visibility = Visibility(whole[:, :4], whole[:, 4:8], whole[:, 8], whole[:, 9], whole[:, 10])
    return dataclasses.replace(chosen, visib_fract=np.asarray(fractions, np.float64)), visibility


def _info_row(entry: Any, path: Path, where: str, found: Findings) -> list[float] | None:
    """Two boxes, three counts and the visible fraction; None where one of them is not good."""
    numbers: list[float | None] = []
    for key in ("bbox_obj", "bbox_visib"):
        numbers += take_numbers(entry, key, 4, path, where, found) or [None]
    numbers += [take_id(entry, key, path, where, found) for key in ("px_count_all", "px_count_valid", "px_count_visib")]
    numbers.append(take_number(entry, "visib_fract", path, where, found, 0.0))
    known = [float(number) for number in numbers if number is not None]
    if len(known) < 12:
        return None
    if known[-1] > 1:
        found.error("range", path, f"{where}.visib_fract", f"expected 0..1, received {known[-1]:g}", "divide by px_count_all")
        return None
    return known


def _pose(entry: Any, rotation: str, translation: str, path: Path, where: str, found: Findings) -> np.ndarray | None:
    """A 4x4 matrix of two keys, None where one is not good."""
    R, t = take_numbers(entry, rotation, 9, path, where, found), take_numbers(entry, translation, 3, path, where, found)
    if R is None or t is None:
        return None
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = np.reshape(R, (3, 3)), t
    return T


def _is_camera(K: list[float]) -> bool:
    return K[0] > 0 and K[4] > 0 and K[3] == 0 and K[6:] == [0.0, 0.0, 1.0]


def _whole(values: list[Any]) -> Int[np.ndarray, "..."]:
    return np.asarray(values, np.int64)


def _check_images(path: Path, images: Int[np.ndarray, "k"], with_camera: Int[np.ndarray, "m"], found: Findings) -> None:
    """Every image with truths has a camera, and the other way round."""
    for im_id in np.setdiff1d(images, with_camera):
        found.error("key", path, f'"{im_id}"', "expected a camera in scene_camera.json, there is none", "add its entry there")
    for im_id in np.setdiff1d(with_camera, images):
        found.error("key", path, "", f'expected image "{im_id}" of scene_camera.json, received none', "write [] for no objects")


def _check_repeated(
    ids: Int[np.ndarray, "n 3"], T: Float[np.ndarray, "n 4 4"], places: list[str], path: Path, found: Findings
) -> None:
    """Find the same object in the same pose twice in an image."""
    for row in repeated_rows(np.concatenate([ids[:, :2].astype(np.float64), T.reshape(-1, 16)], 1)):
        found.error("duplicate", path, places[row], "expected each instance once, received it twice in one pose", "remove one")


def repeated_rows(rows: Float[np.ndarray, "n k"]) -> Int[np.ndarray, "m"]:
    """Indices of rows that stand further up already."""
    _, first = np.unique(rows, axis=0, return_index=True)
    return np.setdiff1d(np.arange(len(rows)), first)
