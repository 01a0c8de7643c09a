"""Data sets in BOP's scene-wise folders: what they hold, and their images on demand.

``open_split`` lists the scenes, ``read_scene`` reads one scene's JSON files, ``read_truths`` all ground truth; images, depth and
masks are read when they are asked for.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8

from inverse_graphics.bop.findings import BopError, Findings
from inverse_graphics.bop.images import SUFFIXES, decode_image, image_size_px
from inverse_graphics.bop.scenefiles import CAMERA_FILE, SceneColumns, read_columns
from inverse_graphics.bop.types import ImageCamera, ImageKey, Truths

COLOUR_FOLDERS = ("rgb", "gray")


@dataclass(frozen=True)
class Split:
    """The scenes of one part of a data set."""

    dataset: Path
    """Folder of the data set."""
    name: str
    """Name of the part's folder: the split and, after ``_``, its type; for example ``test`` or ``train_pbr``."""
    scene_ids: tuple[int, ...]
    """Numbers of its scenes, ascending."""

    @property
    def folder(self) -> Path:
        """Folder of the part."""
        return self.dataset / self.name

    def scene_folder(self, scene_id: int) -> Path:
        """Folder of a scene."""
        return self.folder / f"{scene_id:06d}"


@dataclass(frozen=True)
class SceneFolder:
    """One scene: its files, and what its JSON files say."""

    scene_id: int
    """Number of the scene."""
    folder: Path
    """Where it is."""
    columns: SceneColumns
    """Cameras, ground truth and its visibility."""

    @property
    def im_ids(self) -> tuple[int, ...]:
        """Numbers of the images, ascending."""
        return tuple(self.columns.cameras.im_id.tolist())


def split_names(dataset: str | Path) -> tuple[str, ...]:
    """Folders of a data set that hold scenes.

    Raises:
        BopError: there is no such folder.
    """
    folder = Path(dataset)
    if not folder.is_dir():
        raise BopError(f"{folder}: expected the folder of a data set, there is none; check the path")
    return tuple(sorted(path.name for path in folder.iterdir() if path.is_dir() and list(path.glob(f"*/{CAMERA_FILE}"))))


def open_split(dataset: str | Path, name: str) -> Split:
    """List the scenes of a part of a data set.

    Args:
        dataset: folder of the data set.
        name: of the part's folder, for example ``test`` or ``train_pbr``.

    Raises:
        BopError: there is no such folder, or it holds no scene.
    """
    names = split_names(dataset)
    if name not in names:
        known = ", ".join(names) or "no folder with scenes"
        raise BopError(f"{Path(dataset) / name}: expected one of {known}, received {name!r}; name a part of the data set")
    return Split(Path(dataset), name, scene_ids_in(Path(dataset) / name))


def scene_ids_in(folder: Path) -> tuple[int, ...]:
    """Numbers of the scenes in a folder, ascending: of all folders in it whose names are numbers."""
    names = (path.name for path in folder.iterdir() if path.is_dir())
    return tuple(sorted(int(name) for name in names if name.isascii() and name.isdigit()))


def read_scene(split: Split, scene_id: int) -> SceneFolder:
    """Read the JSON files of a scene.

    Raises:
        BopError: one is missing or has an error; names file, key and remedy.
    """
    found = Findings()
    folder = split.scene_folder(scene_id)
    columns = read_columns(folder, scene_id, found)
    found.refuse()
    return SceneFolder(scene_id, folder, columns)


def read_truths(split: Split) -> Truths:
    """The ground truth of all scenes.

    Raises:
        BopError: a file is missing or has an error, or the part has no ground truth.
    """
    tables = []
    for scene_id in split.scene_ids:
        truths = read_scene(split, scene_id).columns.truths
        if truths is None:
            folder = split.scene_folder(scene_id)
            raise BopError(f"{folder}: expected scene_gt.json, there is none; take a part whose ground truth is public")
        tables.append(truths)
    names = [field.name for field in dataclasses.fields(Truths)]
    return Truths(**{name: np.concatenate([getattr(table, name) for table in tables]) for name in names})


def read_image_keys(split: Split) -> tuple[ImageKey, ...]:
    """All images of the scenes."""
    scenes = (read_scene(split, scene_id) for scene_id in split.scene_ids)
    return tuple(ImageKey(scene.scene_id, im_id) for scene in scenes for im_id in scene.im_ids)


def read_camera(scene: SceneFolder, im_id: int) -> ImageCamera:
    """The camera of an image; its size comes from the image's header.

    Raises:
        BopError: there is no such image.
    """
    row = _row(scene, im_id)
    cameras = scene.columns.cameras
    width_px, height_px = image_size_px(colour_path(scene.folder, im_id))
    T_camera_world_mm = cameras.T_camera_world_mm[row] if cameras.has_world[row] else None
    return ImageCamera(cameras.K_px[row], width_px, height_px, float(cameras.depth_scale[row]), T_camera_world_mm)


def read_image(scene: SceneFolder, im_id: int) -> UInt8[np.ndarray, "h w 3"]:
    """The colours of an image in sRGB; a grey one has three equal channels.

    Raises:
        BopError: it is missing, damaged, or has more than 8 bits a channel.
    """
    path = colour_path(scene.folder, im_id)
    pixels = decode_image(path)
    if pixels.dtype != np.uint8:
        raise BopError(f"{path}: expected 8 bits a channel, received {pixels.dtype}; convert the image")
    return np.ascontiguousarray(np.broadcast_to(pixels[..., None], (*pixels.shape, 3))) if pixels.ndim == 2 else pixels


def read_depth_mm(scene: SceneFolder, im_id: int) -> Float[np.ndarray, "h w"]:
    """z-depth of an image in millimetres, 0 where there is none.

    Raises:
        BopError: it is missing, damaged, or has several channels.
    """
    path = image_path(scene.folder / "depth", im_id)
    pixels = decode_image(path)
    if pixels.ndim != 2:
        raise BopError(f"{path}: expected one channel, received {pixels.shape[-1]}; write 16-bit grey")
    return pixels * float(scene.columns.cameras.depth_scale[_row(scene, im_id)])


def read_mask(scene: SceneFolder, im_id: int, gt_id: int, visible: bool = True) -> Bool[np.ndarray, "h w"]:
    """The visible part of an object's silhouette, or all of it.

    Raises:
        BopError: it is missing or damaged.
    """
    path = scene.folder / ("mask_visib" if visible else "mask") / f"{im_id:06d}_{gt_id:06d}.png"
    pixels = decode_image(path)
    return (pixels if pixels.ndim == 2 else pixels.max(-1)) > 0


def colour_path(folder: Path, im_id: int) -> Path:
    """The colour or grey image of a scene's folder; the path of an ``rgb`` PNG where there is none."""
    paths = [image_path(folder / name, im_id) for name in COLOUR_FOLDERS]
    return next((path for path in paths if path.is_file()), paths[0])


def image_path(folder: Path, im_id: int, suffixes: Sequence[str] = SUFFIXES) -> Path:
    """The image of a number in a folder, whatever its ending; the path of a PNG where there is none."""
    paths = [folder / f"{im_id:06d}{suffix}" for suffix in suffixes]
    return next((path for path in paths if path.is_file()), paths[0])


def _row(scene: SceneFolder, im_id: int) -> int:
    rows = np.flatnonzero(scene.columns.cameras.im_id == im_id)
    if len(rows) == 0:
        raise BopError(f"{scene.folder / CAMERA_FILE}: expected image {im_id}, there is none; ask for one of its keys")
    return int(rows[0])
