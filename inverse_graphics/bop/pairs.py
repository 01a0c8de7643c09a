"""Which estimates meet which truths: those of one object in one image, group after group."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int

from inverse_graphics.bop.types import Estimates, ImageKey, Truths


@dataclass(frozen=True)
class Pairs:
    """e estimates and t truths in g groups of one image and one object; within a group each estimate meets each truth.

    Groups are ordered by image and then by object.
    """

    images: tuple[ImageKey, ...]
    """The images looked at, scene after scene, each scene and image where it was first named."""
    group_image: Int[np.ndarray, "g"]
    """Image of each group, an index into ``images``."""
    group_obj_id: Int[np.ndarray, "g"]
    """Object of each group."""
    est_row: Int[np.ndarray, "e"]
    """Rows of the estimates; within a group by descending score, equal scores as in the file."""
    est_group: Int[np.ndarray, "e"]
    """Group of each of them, ascending."""
    gt_row: Int[np.ndarray, "t"]
    """Rows of the truths; within a group in their own order."""
    gt_group: Int[np.ndarray, "t"]
    """Group of each of them, ascending."""

    @property
    def num_groups(self) -> int:
        """Number of groups."""
        return len(self.group_obj_id)

    @functools.cached_property
    def est_start(self) -> Int[np.ndarray, "g_plus_1"]:
        """First estimate of each group, and e."""
        return np.searchsorted(self.est_group, np.arange(self.num_groups + 1))

    @functools.cached_property
    def gt_start(self) -> Int[np.ndarray, "g_plus_1"]:
        """First truth of each group, and t."""
        return np.searchsorted(self.gt_group, np.arange(self.num_groups + 1))

    @functools.cached_property
    def pair_start(self) -> Int[np.ndarray, "g_plus_1"]:
        """First pair of each group, and their number: estimate i and truth j of a group are pair ``start + i * truths + j``."""
        return np.concatenate([np.zeros(1, np.int64), np.cumsum(np.diff(self.est_start) * np.diff(self.gt_start))])

    @functools.cached_property
    def pair_est(self) -> Int[np.ndarray, "p"]:
        """Estimate of each pair, an index into ``est_row``."""
        return np.repeat(np.arange(len(self.est_row)), np.diff(self.gt_start)[self.est_group])

    @functools.cached_property
    def pair_gt(self) -> Int[np.ndarray, "p"]:
        """Truth of each pair, an index into ``gt_row``."""
        first = self.pair_start[self.est_group[self.pair_est]]
        group = self.est_group[self.pair_est]
        return self.gt_start[group] + (np.arange(len(self.pair_est)) - first) % np.maximum(np.diff(self.gt_start), 1)[group]

    @property
    def est_image(self) -> Int[np.ndarray, "e"]:
        """Image of each estimate, an index into ``images``."""
        return self.group_image[self.est_group]

    @property
    def gt_image(self) -> Int[np.ndarray, "t"]:
        """Image of each truth, an index into ``images``."""
        return self.group_image[self.gt_group]

    def pair_index(self, est: Int[np.ndarray, "n"], gt: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
        """The pair of each estimate and truth of one group, given as indices into ``est_row`` and ``gt_row``."""
        group = self.est_group[est]
        counts = self.gt_start[group + 1] - self.gt_start[group]
        return self.pair_start[group] + (est - self.est_start[group]) * counts + gt - self.gt_start[group]

    def keep_estimates(self, chosen: Bool[np.ndarray, "e"]) -> Pairs:
        """The same without some estimates."""
        return dataclasses.replace(self, est_row=self.est_row[chosen], est_group=self.est_group[chosen])


def make_pairs(estimates: Estimates, truths: Truths, images: Iterable[ImageKey]) -> Pairs:
    """Group the estimates and truths of some images by image and object.

    An object that only one side names in an image has a group without pairs.
    """
    ordered = order_images(images)
    place = {image: index for index, image in enumerate(ordered)}
    est_image, gt_image = image_index(estimates, place), image_index(truths, place)
    est_rows, gt_rows = np.flatnonzero(est_image >= 0), np.flatnonzero(gt_image >= 0)
    keys = np.concatenate(
        [
            np.stack([est_image[est_rows], estimates.obj_id[est_rows]], -1),
            np.stack([gt_image[gt_rows], truths.obj_id[gt_rows]], -1),
        ]
    ).astype(np.int64)
    groups, index = np.unique(keys, axis=0, return_inverse=True)
    est_group, gt_group = np.split(index.reshape(-1), [len(est_rows)])
    # lexsort is stable: equal scores stay in the order of the file, as in bop_toolkit
    est_order = np.lexsort((-estimates.score[est_rows], est_group))
    gt_order = np.argsort(gt_group, kind="stable")
    return Pairs(
        images=ordered,
        group_image=groups[:, 0],
        group_obj_id=groups[:, 1],
        est_row=est_rows[est_order],
        est_group=est_group[est_order],
        gt_row=gt_rows[gt_order],
        gt_group=gt_group[gt_order],
    )


def order_images(images: Iterable[ImageKey]) -> tuple[ImageKey, ...]:
    """Each image once, scene after scene: the order that decides between equal scores of two images."""
    scenes: dict[int, dict[int, None]] = {}
    for scene_id, im_id in images:
        scenes.setdefault(scene_id, {})[im_id] = None
    return tuple(ImageKey(scene_id, im_id) for scene_id, im_ids in scenes.items() for im_id in im_ids)


def image_index(table: Estimates | Truths, place: dict[ImageKey, int]) -> Int[np.ndarray, "n"]:
    """Place of each row's image, -1 where it has none."""
    keys = zip(table.scene_id.tolist(), table.im_id.tolist(), strict=True)
    return np.array([place.get(ImageKey(*key), -1) for key in keys], np.int64)


def best_scored(pairs: Pairs, estimates: Estimates, limit: int) -> Bool[np.ndarray, "e"]:
    """Which estimates are among the ``limit`` best of their image, whatever their object; equal scores as in the file."""
    image = pairs.est_image
    order = np.lexsort((pairs.est_row, -estimates.score[pairs.est_row], image))
    chosen = np.zeros(len(order), bool)
    chosen[order] = _rank_in_runs(image[order]) < limit
    return chosen


def first_of_groups(groups: Int[np.ndarray, "n"], limits: Int[np.ndarray, "g"]) -> Bool[np.ndarray, "n"]:
    """Which rows are among the first ``limits[group]`` of their group; the groups ascend."""
    return _rank_in_runs(groups) < limits[groups]


def known_objects(models: Iterable[int], obj_ids: Sequence[int] | np.ndarray, what: str) -> None:
    """Raise ValueError unless every object has a model."""
    known = sorted(models)
    missing = sorted(set(np.asarray(obj_ids).tolist()) - set(known))
    if missing:
        raise ValueError(
            f"models: expected a model for each object of the {what}, received none for obj_id {missing[0]} (known: {known}); "
            "load all models of the data set, or drop these rows."
        )


def _rank_in_runs(values: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
    """Place of each element within its run of equal elements, from 0."""
    index = np.arange(len(values))
    starts = np.concatenate([np.ones(min(len(values), 1), bool), values[1:] != values[:-1]])
    return index - np.maximum.accumulate(np.where(starts, index, 0)) if len(values) else index
