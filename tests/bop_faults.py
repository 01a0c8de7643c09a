"""What can be wrong with a data set: changes to its files, and what the checker says then."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from bop_samples import change_json
from PIL import Image

from inverse_graphics.bop import Truths, open_split, read_truths


def first_truth(truths: Truths) -> tuple[int, str, int]:
    """Scene, image key and index of the instance that shows most of itself."""
    row = int(truths.visib_fract.argmax())
    return int(truths.scene_id[row]), str(truths.im_id[row]), int(truths.gt_id[row])


def instance(dataset: Path, file: str, change: Callable[[Any], object]) -> None:
    """Change the entry of that instance in one of its scene's files."""
    scene_id, im_id, gt_id = first_truth(read_truths(open_split(dataset, "test")))
    change_json(dataset / "test" / f"{scene_id:06d}" / file, lambda content: change(content[im_id][gt_id]))


def mask_path(dataset: Path, folder: str) -> Path:
    scene_id, im_id, gt_id = first_truth(read_truths(open_split(dataset, "test")))
    return dataset / "test" / f"{scene_id:06d}" / folder / f"{int(im_id):06d}_{gt_id:06d}.png"


def put(key: str, value: Any) -> Callable[[Any], object]:
    return lambda entry: entry.update({key: value})


def scale(key: str, factor: float) -> Callable[[Any], object]:
    return lambda entry: entry.update({key: [factor * number for number in entry[key]]})


def in_scene(file: str, change: Callable[[Any], object]) -> Callable[[Path], object]:
    return lambda dataset: change_json(dataset / "test" / "000000" / file, change)


def in_truth(change: Callable[[Any], object]) -> Callable[[Path], object]:
    return lambda dataset: instance(dataset, "scene_gt.json", change)


def in_info(change: Callable[[Any], object]) -> Callable[[Path], object]:
    return lambda dataset: instance(dataset, "scene_gt_info.json", change)


def mirror(entry: dict[str, Any]) -> None:
    entry["cam_R_m2c"] = (np.diag([1, 1, -1]) @ np.reshape(entry["cam_R_m2c"], (3, 3))).ravel().tolist()


def duplicate(dataset: Path) -> None:
    scene_id, im_id, gt_id = first_truth(read_truths(open_split(dataset, "test")))
    folder = dataset / "test" / f"{scene_id:06d}"
    for name in ("scene_gt.json", "scene_gt_info.json"):
        change_json(folder / name, lambda content: content[im_id].append(content[im_id][gt_id]))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def resize(path: Path) -> None:
    with Image.open(path) as image:
        image.resize((image.width + 1, image.height), Image.Resampling.NEAREST).save(path)


def repeat_key(dataset: Path) -> None:
    path = dataset / "test" / "000000" / "scene_camera.json"
    path.write_text(path.read_text().replace('"1":', '"0":', 1))


def break_json(dataset: Path) -> None:
    path = dataset / "test" / "000000" / "scene_gt.json"
    path.write_text(path.read_text().rstrip().removesuffix("}"))


ERRORS: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "missing key": (in_truth(lambda entry: entry.pop("obj_id")), "key", "expected the key obj_id"),
    "missing key of the camera": (in_scene("scene_camera.json", lambda c: c["0"].pop("depth_scale")), "key", "add depth_scale"),
    "missing key of the info": (in_info(lambda entry: entry.pop("px_count_all")), "key", "add px_count_all"),
    "eight numbers": (in_truth(put("cam_R_m2c", [1.0] * 8)), "count", "expected 9 numbers, received 8 values"),
    "text for a number": (in_truth(put("cam_t_m2c", [0, 0, "far"])), "count", "expected 3 numbers"),
    "NaN": (in_truth(put("cam_t_m2c", [0.0, 0.0, math.nan])), "nan", "finite"),
    "NaN in K": (in_scene("scene_camera.json", lambda c: c["0"]["cam_K"].__setitem__(0, math.nan)), "nan", "finite"),
    "K transposed": (
        in_scene("scene_camera.json", put("0", {"cam_K": [9, 0, 0, 0, 9, 0, 4, 3, 1], "depth_scale": 1})),
        "camera",
        "fx",
    ),
    "no rotation": (in_truth(scale("cam_R_m2c", 1.2)), "rotation", "a rotation times 1.2"),
    "mirrored": (in_truth(mirror), "mirrored", "reflection"),
    "world mirrored": (
        in_scene("scene_camera.json", lambda c: c["0"].update(cam_R_w2c=[1, 0, 0, 0, 1, 0, 0, 0, -1])),
        "mirrored",
        '"0".cam_R_w2c',
    ),
    "twice": (duplicate, "duplicate", "received it twice in one pose"),
    "key twice": (repeat_key, "duplicate", 'scene_camera.json: "0"'),
    "unknown object": (in_truth(put("obj_id", 99)), "unknown", "expected one of 1, 2, 3, received 99"),
    "negative object": (in_truth(put("obj_id", -1)), "range", "expected at least 0"),
    "no JSON": (break_json, "json", "line "),
    "image without camera": (in_scene("scene_camera.json", lambda c: c.pop("1")), "key", "expected a camera"),
    "image without truths": (in_scene("scene_gt.json", lambda c: c.pop("1")), "key", "write [] for no objects"),
    "image without info": (in_scene("scene_gt_info.json", lambda c: c.pop("1")), "key", 'expected image "1"'),
    "info cut off": (
        in_scene("scene_gt_info.json", lambda c: [c.update({k: [*v, {}]}) for k, v in c.items()]),
        "count",
        "as in scene_gt",
    ),
    "no info": (
        lambda d: (d / "test" / "000000" / "scene_gt_info.json").unlink(),
        "missing",
        "scene_gt_info.json: expected a file",
    ),
    "no camera file": (
        lambda d: (d / "test" / "000000" / "scene_camera.json").unlink(),
        "missing",
        "scene_camera.json: expected a file",
    ),
    "visible beyond 1": (in_info(put("visib_fract", 1.5)), "range", "expected 0..1"),
    "truncated image": (
        lambda d: truncate(d / "test" / "000000" / "rgb" / "000001.png"),
        "image",
        "000001.png: expected a whole image",
    ),
    "truncated mask": (lambda d: truncate(mask_path(d, "mask_visib")), "image", "expected a whole image"),
    "missing image": (
        lambda d: (d / "test" / "000000" / "rgb" / "000001.png").unlink(),
        "missing",
        "000001.png: expected an image",
    ),
    "missing depth": (lambda d: (d / "test" / "000000" / "depth" / "000001.png").unlink(), "missing", "000001.png"),
    "missing mask": (lambda d: mask_path(d, "mask").unlink(), "missing", "expected an image, there is none"),
    "missing folder": (
        lambda d: (d / "test" / "000000" / "rgb").rename(d / "test" / "000000" / "colour"),
        "missing",
        "rgb or gray",
    ),
    "target twice": (
        lambda d: change_json(d / "test_targets_bop19.json", lambda c: c.append(c[0])),
        "duplicate",
        "expected each target once",
    ),
    "target without count": (
        lambda d: change_json(d / "test_targets_bop19.json", lambda c: c[0].pop("inst_count")),
        "key",
        "[0]",
    ),
    "missing model": (lambda d: (d / "models" / "obj_000002.ply").unlink(), "model", "obj_000002.ply: expected a model"),
    "no diameter": (
        lambda d: change_json(d / "models" / "models_info.json", lambda c: c["1"].pop("diameter")),
        "key",
        "add diameter",
    ),
}
"""Faults that readers refuse as well: how they come about, their rule, a part of what is said."""


DISAGREEMENTS: dict[str, tuple[Callable[[Path], object], str, str, str]] = {
    "wrong image size": (
        lambda d: resize(d / "test" / "000000" / "depth" / "000000.png"),
        "error",
        "size",
        "expected 40 x 30 px",
    ),
    "mask of another size": (lambda d: resize(mask_path(d, "mask")), "error", "size", "received 41 x 30"),
    "visible pixels": (
        in_info(lambda e: e.update(px_count_visib=e["px_count_visib"] // 2)),
        "error",
        "visibility",
        "px_count_visib",
    ),
    "visible share": (in_info(put("visib_fract", 0.011)), "error", "visibility", "received 0.011"),
    "all pixels": (in_info(put("px_count_all", 3)), "error", "visibility", "px_count_all"),
    "box": (in_info(scale("bbox_visib", 2)), "warning", "visibility", "bbox_visib"),
    "masks swapped": (
        lambda d: Image.new("L", (40, 30), 255).save(mask_path(d, "mask_visib")),
        "error",
        "visibility",
        "were mask and mask_visib swapped",
    ),
    "8-bit depth": (
        lambda d: Image.new("L", (40, 30), 9).save(d / "test" / "000000" / "depth" / "000000.png"),
        "error",
        "depth",
        "uint8",
    ),
    "depth in metres": (
        in_scene("scene_camera.json", lambda c: [entry.update(depth_scale=1e-4) for entry in c.values()]),
        "warning",
        "unit",
        "metres for millimetres",
    ),
    "poses in metres": (
        in_scene("scene_gt.json", lambda c: [scale("cam_t_m2c", 1e-3)(e) for v in c.values() for e in v]),
        "warning",
        "unit",
        "as if metres",
    ),
    "one pose in metres": (in_truth(scale("cam_t_m2c", 1e-3)), "warning", "unit", "multiply by 1000"),
    "poses in micrometres": (
        in_scene("scene_gt.json", lambda c: [scale("cam_t_m2c", 1e3)(e) for v in c.values() for e in v]),
        "warning",
        "unit",
        "divide the translations by 1000",
    ),
    "OpenGL axes": (
        in_scene("scene_gt.json", lambda c: [scale("cam_t_m2c", -1)(e) for v in c.values() for e in v]),
        "warning",
        "axes",
        "OpenGL",
    ),
    "camera.json of another size": (lambda d: change_json(d / "camera.json", put("width", 99)), "warning", "size", "(99, 30) px"),
    "K of another image": (
        in_scene("scene_camera.json", lambda c: c["0"]["cam_K"].__setitem__(2, 320)),
        "warning",
        "camera",
        "320",
    ),
    "no depth folder": (lambda d: (d / "test" / "000000" / "depth").rename(d / "old"), "warning", "missing", "depth"),
    "no masks": (lambda d: (d / "test" / "000000" / "mask").rename(d / "old"), "warning", "missing", "masks are optional"),
    "a mask too many": (
        lambda d: mask_path(d, "mask").with_name("000000_000009.png").write_bytes(mask_path(d, "mask").read_bytes()),
        "warning",
        "unknown",
        "000000_000009",
    ),
    "no camera.json": (lambda d: (d / "camera.json").unlink(), "warning", "missing", "camera.json"),
    "no models": (
        lambda d: [(d / name).rename(d / f"x{name}") for name in ("models", "models_eval")],
        "error",
        "missing",
        "models",
    ),
    "target of no image": (
        lambda d: change_json(d / "test_targets_bop24.json", lambda c: c[0].update(im_id=77)),
        "error",
        "unknown",
        "image 77",
    ),
    "too many instances": (
        lambda d: change_json(d / "test_targets_bop19.json", lambda c: c[0].update(inst_count=9)),
        "error",
        "targets",
        "received 9",
    ),
}
"""Files that say different things, and probable mistakes: readers read them, the checker tells."""
