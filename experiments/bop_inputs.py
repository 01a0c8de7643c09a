"""What the evaluation of poses reads of a data set: models, ground truth, targets, and images on demand."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from guide_poses import recipe_classes

from assets.bop_models import load_bop_models
from inverse_graphics.bop import (
    BopError,
    Estimates,
    ImageCamera,
    ImageKey,
    Model,
    SceneFolder,
    Split,
    Target,
    Truths,
    VsdSource,
    find_models,
    open_split,
    read_camera,
    read_depth_mm,
    read_image,
    read_image_keys,
    read_models,
    read_scene,
    read_targets_2019,
    read_targets_2024,
    read_truths,
    renderer_depth,
    select,
    targets_of,
)
from inverse_graphics.bop.datasets import image_path
from inverse_graphics.bop.findings import Findings
from inverse_graphics.bop.jsonfiles import read_entries
from inverse_graphics.bop.pairs import order_images
from inverse_graphics.bop.results import parse_results
from inverse_graphics.bop.targets import parse_targets_2019, parse_targets_2024
from inverse_graphics.bop.vsd import DepthOf
from renderers import BackendOptions, load_renderer

CACHED_SCENES = 64
"""Scenes whose JSON files are kept."""


@dataclass(frozen=True)
class BopInputs:
    """A part of a data set, ready to be judged on."""

    split: Split
    """The part."""
    images: tuple[ImageKey, ...]
    """Images to look at, for either task."""
    detection_images: tuple[ImageKey, ...]
    """Those of them that the 2024 task lists."""
    known_images: frozenset[ImageKey]
    """All images of the part."""
    targets: tuple[Target, ...]
    """What localisation asks for in those images."""
    truths: Truths
    """Ground truth of those images."""
    models: Mapping[int, Model]
    """Of ``models_eval``."""
    names: Mapping[int, str]
    """Name of each model."""
    scene_of: Callable[[int], SceneFolder]
    """Scene of a number."""
    depth_of: DepthOf
    """Draws models."""

    def camera_of(self, key: ImageKey) -> ImageCamera:
        """Camera of an image."""
        return read_camera(self.scene_of(key.scene_id), key.im_id)

    def image_of(self, key: ImageKey) -> np.ndarray:
        """Colours of an image, [h w 3] uint8, sRGB."""
        return read_image(self.scene_of(key.scene_id), key.im_id)

    def depth_mm_of(self, key: ImageKey) -> np.ndarray:
        """Measured depth of an image, [h w]."""
        return read_depth_mm(self.scene_of(key.scene_id), key.im_id)


def load_inputs(
    dataset: Path,
    split_name: str,
    targets_file: Path | None,
    max_images: int | None,
    given_names: Mapping[int, str],
    renderer: str,
    options: BackendOptions,
) -> BopInputs:
    """Read what does not depend on the results.

    Args:
        dataset: folder of the data set.
        split_name: its part.
        targets_file: targets or images to use instead of the data set's.
        max_images: how many of the images; all where None.
        given_names: names of objects; else those of ``generator.yaml``, else "object ID".
        renderer, options: what draws the models, as in ``load_renderer``.

    Raises:
        ValueError: a file that cannot be used, or a name for an object that is not there.
    """
    split = open_split(dataset, split_name)
    truths = read_truths(split)
    known = frozenset(read_image_keys(split))
    listed, targets = _tasks(split, truths, targets_file)
    images = order_images([*listed, *(ImageKey(target.scene_id, target.im_id) for target in targets)])
    strangers = [key for key in images if key not in known]
    if strangers:
        key, where = strangers[0], targets_file or "targets"
        raise BopError(f"{where}: expected images of {split.folder}, received scene {key.scene_id}, image {key.im_id}; remove it")
    images = images[:max_images]
    chosen = frozenset(images)
    rows = [ImageKey(*key) in chosen for key in zip(truths.scene_id.tolist(), truths.im_id.tolist(), strict=True)]
    folder = find_models(dataset)
    catalogue = load_bop_models(folder)
    # models are drawn one by one, and only their depth is looked at
    drawer = load_renderer(renderer, catalogue.catalogue, 1, "none", options=options)
    class_ids = {obj_id: index for index, obj_id in enumerate(catalogue.obj_ids)}
    return BopInputs(
        split=split,
        images=images,
        detection_images=tuple(key for key in listed if key in chosen),
        known_images=known,
        targets=tuple(target for target in targets if ImageKey(target.scene_id, target.im_id) in chosen),
        truths=select(truths, np.array(rows, bool)),
        models=read_models(folder),
        names=_names(catalogue.obj_ids, given_names, dataset),
        scene_of=functools.lru_cache(CACHED_SCENES)(functools.partial(read_scene, split)),
        depth_of=renderer_depth(drawer, class_ids, "cuda" if renderer == "raster-cuda" else "cpu"),
    )


def _tasks(split: Split, truths: Truths, file: Path | None) -> tuple[tuple[ImageKey, ...], tuple[Target, ...]]:
    """Images of the 2024 task and targets of the 2019 task; of a list of images the targets are made from the ground truth."""
    if file is None:
        return read_targets_2024(split), read_targets_2019(split)
    found = Findings()
    entries = read_entries(file, found)
    found.refuse()
    has_objects = isinstance(entries, list) and bool(entries) and isinstance(entries[0], dict) and "obj_id" in entries[0]
    if has_objects:
        targets = parse_targets_2019(file, found)
        found.refuse()
        return tuple(dict.fromkeys(ImageKey(target.scene_id, target.im_id) for target in targets)), targets
    images = parse_targets_2024(file, found)
    found.refuse()
    if not images:
        raise BopError(f"{file}: expected at least one target or image, received none; leave --targets out for all")
    listed = set(images)
    return images, tuple(target for target in targets_of(truths) if ImageKey(target.scene_id, target.im_id) in listed)


def _names(obj_ids: tuple[int, ...], given: Mapping[int, str], dataset: Path) -> dict[int, str]:
    """Name of each object."""
    unknown = [obj_id for obj_id in given if obj_id not in obj_ids]
    if unknown:
        known = ", ".join(map(str, obj_ids))
        raise ValueError(f"--classes: expected some of {known}, received {unknown[0]}; name objects of the data set")
    recipe = {obj_id: name for name, obj_id in recipe_classes(dataset).items()}
    return {obj_id: given.get(obj_id, recipe.get(obj_id, f"object {obj_id}")) for obj_id in obj_ids}


def read_estimates(path: Path, inputs: BopInputs) -> tuple[Estimates, list[str]]:
    """Read a results file; returns what is doubtful in it besides.

    Raises:
        BopError: an error in it, or objects and images that are not the data set's.
    """
    found = Findings()
    estimates, lines = parse_results(path, found)
    found.refuse()
    for row, obj_id in enumerate(estimates.obj_id.tolist()):
        if obj_id not in inputs.models:
            known = ", ".join(map(str, inputs.models))
            raise BopError(f"{path}: line {lines[row]}: expected an object of {known}, received {obj_id}; name a model")
    keys = zip(estimates.scene_id.tolist(), estimates.im_id.tolist(), strict=True)
    for row, key in enumerate(keys):
        if ImageKey(*key) not in inputs.known_images:
            raise BopError(
                f"{path}: line {lines[row]}: expected an image of {inputs.split.folder}, received scene {key[0]}, image "
                f"{key[1]}; name the part that the file is of with --split"
            )
    return estimates, [str(finding) for finding in found.list]


def vsd_source(inputs: BopInputs, delta_mm: float) -> VsdSource:
    """What VSD needs.

    Raises:
        BopError: an image has no depth.
    """
    for key in inputs.images:
        path = image_path(inputs.scene_of(key.scene_id).folder / "depth", key.im_id)
        if not path.is_file():
            raise BopError(f"{path}: expected a depth image for VSD, there is none; add it, or leave VSD out with --no-vsd")
    return VsdSource(inputs.depth_mm_of, inputs.depth_of, delta_mm)
