"""Checking the images of a scene: each is there, whole, of one size, and masks agree with what is said of visibility."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from inverse_graphics.bop.datasets import COLOUR_FOLDERS
from inverse_graphics.bop.findings import BopError, Findings
from inverse_graphics.bop.images import SUFFIXES, decode_image, mask_box_px
from inverse_graphics.bop.scenefiles import INFO_FILE, SceneColumns

COUNT_TOLERANCE = 0.01
"""Share of its pixels, and one more, by which a mask may differ from its counts."""
FRACTION_TOLERANCE = 1e-3
"""By how much ``visib_fract`` may differ from the quotient of the counts."""
DEPTH_FACTOR = 5.0
"""Depths that differ from the object's by more than this factor make the unit suspicious."""


@dataclass(frozen=True)
class Listing:
    """The image files of a scene's folder by folder and stem, for example ``files["rgb"]["000000"]``."""

    folder: Path
    """The scene's folder."""
    files: Mapping[str, Mapping[str, Path]]
    """Those folders that are there."""

    @property
    def colour(self) -> Mapping[str, Path]:
        """Colour or grey images."""
        return next((self.files[name] for name in COLOUR_FOLDERS if name in self.files), {})


def list_files(folder: Path, found: Findings) -> Listing:
    """List the image files; missing folders are findings."""
    files = {}
    for name in (*COLOUR_FOLDERS, "depth", "mask", "mask_visib"):
        if (folder / name).is_dir():
            paths = [path for path in sorted((folder / name).iterdir()) if path.suffix.lower() in SUFFIXES]
            files[name] = {path.stem: path for path in reversed(paths)}
        elif name not in COLOUR_FOLDERS:
            remedy = "add the folder" if name == "depth" else "masks are optional, but visibility cannot be checked without them"
            found.warning("missing", folder / name, "", "expected a folder, there is none", remedy)
    if not any(name in files for name in COLOUR_FOLDERS):
        found.error("missing", folder / "rgb", "", "expected a folder rgb or gray, there is neither", "add the images")
    return Listing(folder, files)


def check_names(listing: Listing, columns: SceneColumns, found: Findings) -> None:
    """Every image and mask that the JSON files name is there, and no other."""
    images = {f"{im_id:06d}" for im_id in columns.cameras.im_id.tolist()}
    for name in (*COLOUR_FOLDERS, "depth"):
        if name in listing.files:
            _compare(listing.folder / name, images, set(listing.files[name]), found)
    truths = columns.truths
    if truths is None:
        return
    masks = {f"{im_id:06d}_{gt_id:06d}" for im_id, gt_id in zip(truths.im_id.tolist(), truths.gt_id.tolist(), strict=True)}
    for name in ("mask", "mask_visib"):
        if name in listing.files:
            _compare(listing.folder / name, masks, set(listing.files[name]), found)


def check_image(
    listing: Listing, columns: SceneColumns, row: int, truth_rows: Int[np.ndarray, "n"], found: Findings
) -> tuple[int, int] | None:
    """Look at all pictures of an image.

    Args:
        listing: files of the scene.
        columns: what the JSON files say.
        row: of the image among the cameras.
        truth_rows: of its objects among the truths.
        found: findings are added to it.

    Returns:
        Width and height of the image; None where it cannot be read.
    """
    stem = f"{int(columns.cameras.im_id[row]):06d}"
    colour = _decode(listing.colour.get(stem), found)
    if colour is None:
        return None
    shape = colour.shape[:2]
    K = columns.cameras.K_px[row]
    if not (0 <= K[0, 2] <= shape[1] and 0 <= K[1, 2] <= shape[0]):
        problem = f"expected a principal point in the image of {shape[1]} x {shape[0]} px, received {K[0, 2]:g}, {K[1, 2]:g}"
        found.warning("camera", listing.folder, f'scene_camera.json "{int(stem)}".cam_K', problem, "is K of another image size?")
    depth_mm = _depth_mm(listing, stem, float(columns.cameras.depth_scale[row]), shape, found)
    for truth_row in truth_rows.tolist():
        _check_masks(listing, columns, stem, truth_row, shape, depth_mm, found)
    return shape[1], shape[0]


def _depth_mm(listing: Listing, stem: str, scale: float, shape: tuple[int, ...], found: Findings) -> np.ndarray | None:
    """Depth in millimetres, None where it is missing or wrong."""
    path = listing.files.get("depth", {}).get(stem)
    pixels = _decode(path, found)
    if path is None or pixels is None or not _has_size(pixels, shape, path, found):
        return None
    if pixels.ndim != 2 or pixels.dtype == np.uint8:
        problem = f"expected 16-bit grey, received {pixels.dtype} with {pixels.shape[2] if pixels.ndim > 2 else 1} channels"
        found.error("depth", path, "", problem, "write the depth as 16-bit PNG")
        return None
    return pixels * scale


def _check_masks(
    listing: Listing,
    columns: SceneColumns,
    stem: str,
    row: int,
    shape: tuple[int, ...],
    depth_mm: np.ndarray | None,
    found: Findings,
) -> None:
    """Compare the two masks of an object with each other, with its counts, and with the depth."""
    assert columns.truths is not None
    name = f"{stem}_{int(columns.truths.gt_id[row]):06d}"
    whole, seen = (_mask(listing.files.get(folder, {}).get(name), shape, found) for folder in ("mask", "mask_visib"))
    where = f'"{int(stem)}"[{int(columns.truths.gt_id[row])}]'
    info = listing.folder / INFO_FILE
    if whole is not None and seen is not None and (seen & ~whole).any():
        path = listing.files["mask_visib"][name]
        problem = f"expected pixels of the whole mask only, received {int((seen & ~whole).sum())} others"
        found.error("visibility", path, "", problem, "were mask and mask_visib swapped?")
    if columns.visibility is None:
        return
    said_all = int(columns.visibility.px_count_all[row])
    said_seen = int(columns.visibility.px_count_visib[row])
    if whole is not None and int(whole.sum()) > said_all * (1 + COUNT_TOLERANCE) + 1:
        problem = f"expected at least the mask's {int(whole.sum())} pixels, received {said_all}"
        found.error("visibility", info, f"{where}.px_count_all", problem, "count the pixels again")
    if seen is None:
        return
    count = int(seen.sum())
    if abs(count - said_seen) > COUNT_TOLERANCE * count + 1:
        problem = f"expected the mask's {count} pixels, received {said_seen}"
        found.error("visibility", info, f"{where}.px_count_visib", problem, "count the pixels again")
    elif count and np.abs(np.subtract(mask_box_px(seen), columns.visibility.bbox_visib_px[row])).max() > 1:
        problem = f"expected the mask's box {mask_box_px(seen)}, received {columns.visibility.bbox_visib_px[row].tolist()}"
        found.warning("visibility", info, f"{where}.bbox_visib", problem, "x, y, last column - first, last row - first")
    if depth_mm is not None:
        _check_depth(depth_mm[seen], columns, row, where, listing.folder, found)


def _check_depth(depth_mm: np.ndarray, columns: SceneColumns, row: int, where: str, folder: Path, found: Findings) -> None:
    """Compare the depth of an object's pixels with its pose."""
    assert columns.truths is not None
    known = depth_mm[depth_mm > 0]
    expected_mm = float(columns.truths.T_camera_object_mm[row, 2, 3])
    if len(known) == 0 or expected_mm <= 0:
        return
    ratio = float(np.median(known)) / expected_mm
    if not 1 / DEPTH_FACTOR < ratio < DEPTH_FACTOR:
        problem = f"expected depths near the object's {expected_mm:.4g} mm, received {float(np.median(known)):.4g} mm"
        unit = " (metres for millimetres?)" if ratio < 1 / 300 or ratio > 300 else ""
        found.warning("unit", folder / "depth", f"scene_gt.json {where}", problem + unit, "correct depth_scale or cam_t_m2c")


def check_fractions(columns: SceneColumns, folder: Path, found: Findings) -> None:
    """Compare the counts of a scene with each other."""
    truths, said = columns.truths, columns.visibility
    if truths is None or said is None:
        return
    quotient = said.px_count_visib / np.maximum(said.px_count_all, 1)
    wrong = (np.abs(quotient - truths.visib_fract) > FRACTION_TOLERANCE) | (said.px_count_visib > said.px_count_all)
    for row in np.flatnonzero(wrong):
        where = f'"{truths.im_id[row]}"[{truths.gt_id[row]}].visib_fract'
        counts = f"{said.px_count_visib[row]} / {said.px_count_all[row]}"
        problem = f"expected px_count_visib / px_count_all = {counts}, at most 1, received {truths.visib_fract[row]:.4g}"
        found.error("visibility", folder / INFO_FILE, where, problem, "divide the counts again")


def _mask(path: Path | None, shape: tuple[int, ...], found: Findings) -> Bool[np.ndarray, "h w"] | None:
    pixels = _decode(path, found)
    if path is None or pixels is None or not _has_size(pixels, shape, path, found):
        return None
    return (pixels if pixels.ndim == 2 else pixels.max(-1)) > 0


def _decode(path: Path | None, found: Findings) -> np.ndarray | None:
    """The pixels of an image; None where there is none, or none that can be read, which is a finding."""
    if path is None:
        return None
    try:
        return decode_image(path)
    except BopError as error:
        found.add(error, "image", path)
        return None


def _has_size(pixels: np.ndarray, shape: tuple[int, ...], path: Path, found: Findings) -> bool:
    if pixels.shape[:2] == tuple(shape):
        return True
    problem = f"expected {shape[1]} x {shape[0]} px as the colour image, received {pixels.shape[1]} x {pixels.shape[0]}"
    found.error("size", path, "", problem, "write it at the image's size")
    return False


def _compare(folder: Path, expected: set[str], there: set[str], found: Findings) -> None:
    """Findings for images that are missing, and for others that nothing names."""
    for stem in sorted(expected - there):
        found.error("missing", folder / f"{stem}.png", "", "expected an image, there is none", "add it, or its entry is too many")
    for stem in sorted(there - expected):
        found.warning("unknown", folder / stem, "", "expected an entry in the JSON files, there is none", "remove the image")
