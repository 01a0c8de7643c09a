"""Every fault of a data set is found where it is, with its remedy, and readers refuse the errors among them."""

from __future__ import annotations

import contextlib
import math
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bop_samples import change_json, copy_of, make
from PIL import Image

from inverse_graphics.bop import (
    BopError,
    Finding,
    Truths,
    check_dataset,
    check_results,
    estimates_of,
    open_split,
    poses_m,
    read_depth_mm,
    read_image,
    read_mask,
    read_models,
    read_scene,
    read_targets_2019,
    read_targets_2024,
    read_truths,
    select,
    write_results,
)
from inverse_graphics.bop.__main__ import main


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("bop"))


@pytest.fixture
def damaged(dataset: Path, tmp_path: Path) -> Path:
    return copy_of(dataset, tmp_path)


def read_all(dataset: Path) -> None:
    """Read everything that readers can read."""
    split = open_split(dataset, "test")
    read_targets_2019(split), read_targets_2024(split)
    truths = read_truths(split)
    read_models(dataset / "models", truths.obj_id.tolist())
    for scene_id in split.scene_ids:
        scene = read_scene(split, scene_id)
        for im_id in scene.im_ids:
            read_image(scene, im_id), read_depth_mm(scene, im_id)
        own = select(truths, truths.scene_id == scene_id)
        for im_id, gt_id in zip(own.im_id.tolist(), own.gt_id.tolist(), strict=True):
            read_mask(scene, im_id, gt_id), read_mask(scene, im_id, gt_id, visible=False)


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


@pytest.mark.parametrize("fault", ERRORS)
def test_errors_are_found_and_refused(damaged: Path, fault: str) -> None:
    change, rule, text = ERRORS[fault]
    change(damaged)
    findings = check_dataset(damaged)
    chosen = [finding for finding in findings if finding.severity == "error" and finding.rule == rule and text in str(finding)]
    assert chosen, "\n".join(map(str, findings))
    assert all(finding.remedy and Path(finding.file).is_relative_to(damaged) for finding in findings)
    assert sum(finding.severity == "error" for finding in findings) <= 4
    with pytest.raises(BopError) as raised:
        read_all(damaged)
    assert str(damaged) in str(raised.value)
    assert "; " in str(raised.value)


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


@pytest.mark.parametrize("fault", DISAGREEMENTS)
def test_disagreements_are_found(damaged: Path, fault: str) -> None:
    change, severity, rule, text = DISAGREEMENTS[fault]
    change(damaged)
    findings = check_dataset(damaged)
    chosen = [f for f in findings if f.severity == severity and f.rule == rule and text in str(f)]
    assert chosen, "\n".join(map(str, findings))
    assert all(finding.remedy for finding in findings)


def test_pictures_are_left_alone_where_that_is_asked_for(damaged: Path) -> None:
    truncate(damaged / "test" / "000000" / "rgb" / "000001.png")
    assert len(check_dataset(damaged)) == 1
    assert check_dataset(damaged, images=False) == []


def test_what_is_no_data_set(tmp_path: Path) -> None:
    assert [f.rule for f in check_dataset(tmp_path / "absent")] == ["missing"]
    texts = [str(finding) for finding in check_dataset(tmp_path)]
    assert any("expected at least one scene" in text for text in texts)


def test_exit_codes_and_what_is_printed(damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(damaged)]) == 0
    assert capsys.readouterr().out == "0 errors, 0 warnings\n"
    (damaged / "camera.json").unlink()
    assert main(["check", str(damaged)]) == 1
    for path in (damaged / "test").glob("*/rgb/*.png"):
        truncate(path)
    for number in range(12):
        (damaged / "test" / "000000" / "rgb" / f"{90 + number:06d}.png").write_bytes(b"")
    assert main(["check", str(damaged)]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "5 errors, 13 warnings"
    assert "warning [unknown] ... and 2 more" in lines
    assert main(["check", str(tmp_path / "none_x-test.csv")]) == 2


def test_results_against_their_data_set(dataset: Path, tmp_path: Path) -> None:
    truths = read_truths(open_split(dataset, "test"))
    path = tmp_path / "mine_tiny-test.csv"
    ids = (truths.scene_id, truths.im_id, truths.obj_id)
    write_results(path, estimates_of(*ids, np.ones(len(truths)), poses_m(truths)))
    assert check_results(path, dataset) == []
    text = path.read_text()
    path.write_text(text + f"\n0,0,99{text.splitlines()[1][5:]}\n7,0,1{text.splitlines()[1][5:]}")
    rows = len(text.splitlines())
    found = [(f.rule, f.where) for f in check_results(path, dataset)]
    assert found == [("unknown", f"line {rows + 1}"), ("unknown", f"line {rows + 2}")]
    near = poses_m(truths)
    near[:, :3, 3] *= 0.02
    write_results(path, estimates_of(*ids, np.ones(len(truths)), near))
    assert [(f.severity, f.rule) for f in check_results(path, dataset)] == [("warning", "unit")]
    assert [f.rule for f in check_results(path, tmp_path)] == ["dataset"]


def test_damaged_pngs_never_break_the_checker(damaged: Path) -> None:
    """Bytes changed anywhere in an image: nothing, or a finding about that file."""
    path = damaged / "test" / "000000" / "rgb" / "000000.png"
    content = path.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(12):
        bad = bytearray(content)
        for place in generator.integers(0, len(bad), 3):
            bad[place] = int(generator.integers(256))
        path.write_bytes(bytes(bad))
        findings: list[Finding] = check_dataset(damaged)
        assert all(finding.file in (str(path), str(path.parent.parent)) for finding in findings)
        with contextlib.suppress(BopError):
            read_image(read_scene(open_split(damaged, "test"), 0), 0)


def test_images_without_end(damaged: Path) -> None:
    """A header that promises a picture larger than any camera's is refused before memory is taken for it."""
    path = damaged / "test" / "000000" / "rgb" / "000000.png"
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)))
    with pytest.raises(BopError, match="000000.png: expected a whole image"):
        read_image(read_scene(open_split(damaged, "test"), 0), 0)
