"""Poses as rows that other programs understand: frame, time, image, class, score and a 4x4 matrix in metres."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from inverse_graphics.bop.results import poses_m
from inverse_graphics.bop.types import Estimates, Truths
from inverse_graphics.guides.posterior import at_least_probabilities
from inverse_graphics.inference import Inference
from inverse_graphics.interop.quaternions import check_rigid
from inverse_graphics.types import Objects

WORLD_FRAME = "world"
"""Our world: z up, right-handed, the table is z = 0 (REP-103)."""
CAMERA_FRAME = "camera_optical_frame"
"""Our cameras: +X right, +Y down, +Z forward, which is what REP-103 calls an optical frame."""


@dataclass(frozen=True)
class PoseRows:
    """Poses of objects, a row an object."""

    frame_id: tuple[str, ...]
    """Name of the frame that each pose is given in."""
    stamp_ns: Int[np.ndarray, "n"]
    """When the image was taken, nanoseconds since the clock's zero, at least 0; 0 where unknown."""
    scene_id: Int[np.ndarray, "n"]
    """Number of the scene; 0 where there is one only."""
    image_id: Int[np.ndarray, "n"]
    """Number of the image in it."""
    slot: Int[np.ndarray, "n"]
    """Number of the object in the image."""
    class_name: tuple[str, ...]
    """Which mesh it is."""
    score: Float[np.ndarray, "n"]
    """Confidence, higher is better; 1 for truth."""
    T_frame_object: Float[np.ndarray, "n 4 4"]
    """Object to frame, rigid, metres, float64."""

    def __post_init__(self) -> None:
        """Refuse columns of different lengths, and values that mean nothing."""
        lengths = {field.name: len(getattr(self, field.name)) for field in dataclasses.fields(self)}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"PoseRows: expected columns of one length, received {lengths}; give every row every value.")
        check_rigid(self.T_frame_object, "PoseRows.T_frame_object")
        if not np.isfinite(self.score).all() or (self.stamp_ns < 0).any():
            raise ValueError("PoseRows: expected finite scores and stamps of at least 0 ns, received others; correct them.")
        if not all(self.frame_id) or not all(self.class_name):
            raise ValueError("PoseRows: expected names of frames and classes, received an empty one; name them.")

    def __len__(self) -> int:
        return len(self.class_name)


def rows_of_objects(
    objects: Objects,
    names: tuple[str, ...],
    score: Float[torch.Tensor, "b n"] | None = None,
    stamp_ns: Sequence[int] | None = None,
    image_ids: Sequence[int] | None = None,
) -> PoseRows:
    """The present objects of some images, in the world's frame.

    Args:
        objects: [b n] objects, one row an image.
        names: names of the classes.
        score: of each slot; 1 where None.
        stamp_ns: [b] when each image was taken; 0 where None.
        image_ids: [b] numbers of the images; 0..b-1 where None.
    """
    batch = len(objects.present)
    stamps, ids = list(stamp_ns or [0] * batch), list(range(batch) if image_ids is None else image_ids)
    if objects.present.dim() != 2 or len(stamps) != batch or len(ids) != batch:
        raise ValueError(
            f"objects, stamp_ns, image_ids: expected [b n] objects and b values each, received {tuple(objects.present.shape)}, "
            f"{len(stamps)} and {len(ids)}; give one value an image."
        )
    image, slot = (index.cpu().numpy() for index in objects.present.nonzero(as_tuple=True))
    values = torch.ones(objects.present.shape) if score is None else score
    return PoseRows(
        frame_id=(WORLD_FRAME,) * len(image),
        stamp_ns=np.asarray(stamps, np.int64)[image],
        scene_id=np.zeros(len(image), np.int64),
        image_id=np.asarray(ids, np.int64)[image],
        slot=slot,
        class_name=tuple(names[index] for index in objects.class_ids.cpu().numpy()[image, slot].tolist()),
        score=values.detach().cpu().double().numpy()[image, slot],
        T_frame_object=objects.T_world_object.detach().cpu().double().numpy()[image, slot],
    )


def rows_of_inference(
    inference: Inference,
    names: tuple[str, ...],
    stamp_ns: Sequence[int] | None = None,
    image_ids: Sequence[int] | None = None,
) -> PoseRows:
    """What was inferred of some images, in the world's frame, with ``inference_scores``; see ``rows_of_objects``."""
    return rows_of_objects(inference.objects, names, inference_scores(inference), stamp_ns, image_ids)


def inference_scores(inference: Inference) -> Float[torch.Tensor, "b n"]:
    """Probability that there are so many objects, times that of the slot's class: 0..1."""
    class_probability = inference.class_probabilities.gather(-1, inference.objects.class_ids[..., None])[..., 0]
    return at_least_probabilities(inference.count_probabilities) * class_probability


def rows_of_estimates(table: Estimates | Truths, names: Mapping[int, str], frame_id: str = CAMERA_FRAME) -> PoseRows:
    """Poses of a BOP results file or of BOP's truth, in the camera's frame; the object's frame is the BOP model's.

    Args:
        table: the rows.
        names: names of the models by their number.
        frame_id: what to call the camera's frame.

    Raises:
        ValueError: a model without a name.
    """
    unknown = sorted(set(table.obj_id.tolist()) - set(names))
    if unknown:
        known = ", ".join(map(str, names))
        raise ValueError(f"names: expected one of every obj_id, received none of {unknown[0]} (there are {known}); add it.")
    return PoseRows(
        frame_id=(frame_id,) * len(table),
        stamp_ns=np.zeros(len(table), np.int64),
        scene_id=table.scene_id,
        image_id=table.im_id,
        slot=_place_in_image(table),
        class_name=tuple(names[obj_id] for obj_id in table.obj_id.tolist()),
        score=table.score if isinstance(table, Estimates) else np.ones(len(table)),
        T_frame_object=poses_m(table),
    )


def in_frame(rows: PoseRows, T_new_old: Float[np.ndarray, "4 4"] | Float[np.ndarray, "n 4 4"], frame_id: str) -> PoseRows:
    """The same poses in another frame, for example in the camera's with ``T_camera_world``.

    Args:
        rows: poses in the old frame.
        T_new_old: rigid, metres; one for all rows, or one each.
        frame_id: name of the new frame.
    """
    T = np.broadcast_to(np.asarray(T_new_old, np.float64), (len(rows), 4, 4))
    check_rigid(T, "T_new_old")
    return dataclasses.replace(rows, frame_id=(frame_id,) * len(rows), T_frame_object=T @ rows.T_frame_object)


def join_rows(parts: Sequence[PoseRows]) -> PoseRows:
    """The rows of several tables, one after the other."""
    return PoseRows(
        frame_id=tuple(name for part in parts for name in part.frame_id),
        stamp_ns=np.concatenate([part.stamp_ns for part in parts]),
        scene_id=np.concatenate([part.scene_id for part in parts]),
        image_id=np.concatenate([part.image_id for part in parts]),
        slot=np.concatenate([part.slot for part in parts]),
        class_name=tuple(name for part in parts for name in part.class_name),
        score=np.concatenate([part.score for part in parts]),
        T_frame_object=np.concatenate([part.T_frame_object for part in parts]),
    )


def _place_in_image(table: Estimates | Truths) -> Int[np.ndarray, "n"]:
    """How many earlier rows are of the same image."""
    seen: dict[tuple[int, int], int] = {}
    places = []
    for key in zip(table.scene_id.tolist(), table.im_id.tolist(), strict=True):
        places.append(seen.get(key, 0))
        seen[key] = places[-1] + 1
    return np.asarray(places, np.int64)
