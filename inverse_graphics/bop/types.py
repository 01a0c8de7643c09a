"""What passes between the readers of BOP data and the metrics: frozen dataclasses of float64 and int64 numpy columns.

Inside this package lengths are in millimetres, as in BOP's files, and names say so.  Cameras are OpenCV's: +X right, +Y down, +Z
forward.  A pose maps x_camera = R x_model + t; the model's origin is the middle of its bounding box.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int

Table = TypeVar("Table", "Estimates", "Truths")


class ImageKey(NamedTuple):
    """An image of a data set: what tasks without known counts (2024) are given."""

    scene_id: int
    """Number of the scene's folder."""
    im_id: int
    """Number of the image in it."""


@dataclass(frozen=True)
class Target:
    """Instances of one object in one image that a method is asked for (2019: the count is given)."""

    scene_id: int
    """Number of the scene's folder."""
    im_id: int
    """Number of the image in it."""
    obj_id: int
    """Number of the model."""
    inst_count: int
    """How many instances, at least 1."""


@dataclass(frozen=True)
class Estimates:
    """The rows of a results file, in its order."""

    scene_id: Int[np.ndarray, "n"]
    """Number of the scene's folder."""
    im_id: Int[np.ndarray, "n"]
    """Number of the image in it."""
    obj_id: Int[np.ndarray, "n"]
    """Number of the model."""
    score: Float[np.ndarray, "n"]
    """Confidence, higher is better, of any range."""
    T_camera_object_mm: Float[np.ndarray, "n 4 4"]
    """Model to camera, rigid, translation in millimetres."""
    time_s: Float[np.ndarray, "n"]
    """Time that the image took, in seconds, the same in all its rows; -1 where unknown."""

    def __post_init__(self) -> None:
        """Refuse columns of different lengths."""
        _check_columns(self)

    def __len__(self) -> int:
        return len(self.obj_id)


@dataclass(frozen=True)
class Truths:
    """The instances that are in the images, ordered by scene, image and place in the image's list."""

    scene_id: Int[np.ndarray, "n"]
    """Number of the scene's folder."""
    im_id: Int[np.ndarray, "n"]
    """Number of the image in it."""
    obj_id: Int[np.ndarray, "n"]
    """Number of the model."""
    gt_id: Int[np.ndarray, "n"]
    """Index in the image's list of ``scene_gt.json``, which also names the masks."""
    T_camera_object_mm: Float[np.ndarray, "n 4 4"]
    """Model to camera, rigid, translation in millimetres."""
    visib_fract: Float[np.ndarray, "n"]
    """Visible share of the object's pixels, 0..1; pixels beyond the image's border count as hidden."""

    def __post_init__(self) -> None:
        """Refuse columns of different lengths."""
        _check_columns(self)

    def __len__(self) -> int:
        return len(self.obj_id)


@dataclass(frozen=True)
class Model:
    """A model of a data set, of ``models`` or ``models_eval``."""

    obj_id: int
    """Its number."""
    points_mm: Float[np.ndarray, "v 3"]
    """Vertices in the model's frame, in millimetres."""
    faces: Int[np.ndarray, "f 3"]
    """Vertex indices, counter-clockwise seen from outside."""
    normals: Float[np.ndarray, "v 3"]
    """Unit normals of the vertices."""
    diameter_mm: float
    """Largest distance of two vertices, as ``models_info.json`` says."""
    symmetries: Float[np.ndarray, "s 4 4"]
    """All sampled symmetry transforms {C after D}, model to model, translations in millimetres, the identity first."""


@dataclass(frozen=True)
class ImageCamera:
    """The camera of one image."""

    K_px: Float[np.ndarray, "3 3"]
    """Intrinsic matrix in pixels."""
    width_px: int
    """Image width."""
    height_px: int
    """Image height."""
    depth_scale: float
    """Millimetres a unit of the depth image."""
    T_camera_world_mm: Float[np.ndarray, "4 4"] | None = None
    """World to camera, translation in millimetres; None where the data set does not say."""


def select(table: Table, rows: Int[np.ndarray, "m"] | Bool[np.ndarray, "n"] | slice) -> Table:
    """Rows of estimates or truths, by index, mask or slice."""
    return type(table)(**{field.name: getattr(table, field.name)[rows] for field in dataclasses.fields(table)})


def _check_columns(table: Any) -> None:
    """Raise ValueError unless all columns have one length and poses are 4x4."""
    shapes = {field.name: np.shape(getattr(table, field.name)) for field in dataclasses.fields(table)}
    lengths = {shape[:1] for shape in shapes.values()}
    if len(lengths) != 1 or shapes["T_camera_object_mm"][1:] != (4, 4):
        raise ValueError(
            f"{type(table).__name__}: expected columns of one length n and poses [n 4 4], received {shapes}; "
            "give every row a value in every column."
        )
