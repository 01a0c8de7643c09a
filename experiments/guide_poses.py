"""Run a trained guide on the images of a BOP data set and write what it says as a results file.

    python experiments/guide_poses.py --run runs/scenes3d --dataset data/tabletop --out results/guide_tabletop-test.csv

The guide sees what it was trained on: images of its own size, objects that stand on the plane z = 0 of the data set's world.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import tyro
from generate_bop import RECIPE_FILE, Recipe
from jaxtyping import Float
from scenes3d import SCENE_FILE, Config
from torch import Tensor
from tqdm import tqdm

from assets import load_catalogue
from assets.colours import srgb_to_linear
from inverse_graphics.bop import (
    Estimates,
    ImageCamera,
    ImageKey,
    SceneFolder,
    Split,
    T_camera_model_mm,
    box_centre_m,
    estimates_of,
    find_models,
    open_split,
    read_camera,
    read_image,
    read_models_info,
    read_scene,
    read_targets_2024,
    write_results,
)
from inverse_graphics.checkpoints import load_guide
from inverse_graphics.config import load_dataclass
from inverse_graphics.evaluation import least_distance_m
from inverse_graphics.guides import RecurrentGuide
from inverse_graphics.guides.posterior import at_least_probabilities
from inverse_graphics.inference import infer
from inverse_graphics.runs import CONFIG_FILE, RunError, find_run, pick_device
from inverse_graphics.types import Camera, Catalogue
from scenes import load_scene_config

MM_PER_M = 1000.0
SIZE_TOLERANCE_MM = 1.0
"""By how much the boxes of a class and of its model may differ."""


@dataclass(frozen=True)
class Arguments:
    """Run a trained guide on the images of a BOP data set and write a results file."""

    run: Path
    """Directory of a run of scenes3d.py."""
    dataset: Path
    """Folder of the data set."""
    out: Path
    """Results file to write; METHOD_DATASET-SPLIT.csv."""
    split: str = "test"
    """Part of the data set."""
    classes: tuple[str, ...] = ()
    """NAME=ID for each class of the guide; not needed where generate_bop.py made the data set."""
    max_images: int | None = None
    """How many images, the first ones; all where absent."""
    min_presence: float | None = None
    """Write every object at least this probable, instead of as many as the most probable count."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the guide runs."""


@dataclass(frozen=True)
class GuideMethod:
    """A guide and what is needed to turn its answers into rows."""

    guide: RecurrentGuide
    """Trained, on ``device``."""
    catalogue: Catalogue
    """Its classes."""
    obj_ids: tuple[int, ...]
    """The data set's number of each class."""
    looks: int
    """Glimpses an object."""
    min_presence: float | None
    """Least presence probability of a row; None for the most probable count."""
    device: torch.device
    """Where it runs."""


@dataclass(frozen=True)
class Answer:
    """What the guide says of one image."""

    obj_ids: list[int]
    """Of each object."""
    score: list[float]
    """Probability that there are at least so many objects."""
    T_camera_object: Float[np.ndarray, "n 4 4"]
    """Poses of the data set's models, metres."""
    time_s: float
    """From the image in memory to the answer."""


def load_method(
    run: Path, dataset: Path, given: Mapping[str, int], min_presence: float | None, device: torch.device
) -> GuideMethod:
    """A run's guide, its classes matched to the data set's models.

    Args:
        run: directory of the run.
        dataset: folder of the data set.
        given: obj_id of each class; where it is empty the data set's ``generator.yaml`` says.
        min_presence: see ``GuideMethod``.
        device: where it runs.

    Raises:
        ValueError: no such run, or a class without model, or with one of another size.
    """
    if min_presence is not None and not 0 < min_presence <= 1:
        raise ValueError(f"--min-presence: expected a probability above 0, received {min_presence}; 0.05 writes nearly all")
    find_run(run)
    config = load_dataclass(Config, run / CONFIG_FILE)
    scene = load_scene_config(run / SCENE_FILE)
    catalogue = load_catalogue(scene.catalogue, scene.classes)
    obj_ids = _match_classes(catalogue, dataset, given or recipe_classes(dataset))
    guide = load_guide(run, device).eval()
    if guide.config.feedback:
        raise ValueError(
            f"--run: expected a guide without feedback, received {run}; such a guide draws what it finds, for which a data set "
            "would have to tell light and background: train one without --feedback"
        )
    return GuideMethod(guide, catalogue, obj_ids, config.looks, min_presence, device)


def recipe_classes(dataset: Path) -> dict[str, int]:
    """Number of each class of a data set that generate_bop.py made; nothing of any other."""
    path = dataset / RECIPE_FILE
    if not path.is_file():
        return {}
    return {name: index + 1 for index, name in enumerate(load_dataclass(Recipe, path).scene.classes)}


def parse_classes(words: Sequence[str]) -> dict[int, str]:
    """Class of each obj_id from NAME=ID[,ID...]."""
    names: dict[int, str] = {}
    for word in words:
        name, _, numbers = word.partition("=")
        parts = numbers.split(",")
        if not name or not all(part.isascii() and part.isdigit() for part in parts):
            raise ValueError(f"--classes: expected NAME=ID or NAME=ID,ID, received {word!r}; for example mug=2")
        for part in parts:
            if int(part) in names:
                raise ValueError(f"--classes: expected each ID once, received {part} twice; correct it")
            names[int(part)] = name
    return names


def ids_by_class(names: Mapping[int, str]) -> dict[str, int]:
    """The obj_id of each class, for a guide, whose classes are one mesh each."""
    ids = {name: obj_id for obj_id, name in names.items()}
    if len(ids) < len(names):
        raise ValueError("--classes: expected one ID for each class of a guide, received several; a class is one mesh")
    return ids


def guide_estimates(method: GuideMethod, split: Split, images: Sequence[ImageKey]) -> Estimates:
    """Run a guide on images, one at a time, as its time is measured.

    Raises:
        ValueError: an image has another size than the guide's, or no world pose.
    """
    scenes: dict[int, SceneFolder] = {}
    rows: list[tuple[ImageKey, Answer]] = []
    interval_s = 0.5 if sys.stderr.isatty() else 15.0
    for index, key in enumerate(tqdm(images, unit="image", file=sys.stderr, mininterval=interval_s)):
        if key.scene_id not in scenes:
            scenes = {key.scene_id: read_scene(split, key.scene_id)}
        scene = scenes[key.scene_id]
        camera = read_camera(scene, key.im_id)
        _check_camera(method.guide, camera, f"{scene.folder}, image {key.im_id}")
        pixels = read_image(scene, key.im_id)
        if index == 0:  # the first call of a process takes longer
            answer_of(method, pixels, camera)
        rows.append((key, answer_of(method, pixels, camera)))
    counts = [len(answer.obj_ids) for _, answer in rows]
    return estimates_of(
        np.repeat([key.scene_id for key, _ in rows], counts),
        np.repeat([key.im_id for key, _ in rows], counts),
        [obj_id for _, answer in rows for obj_id in answer.obj_ids],
        [score for _, answer in rows for score in answer.score],
        np.concatenate([np.zeros((0, 4, 4)), *(answer.T_camera_object for _, answer in rows)]),
        np.repeat([answer.time_s for _, answer in rows], counts),
    )


def answer_of(method: GuideMethod, rgb_srgb: np.ndarray, camera: ImageCamera) -> Answer:
    """What the guide says of one image [h w 3], with the time it took."""
    assert camera.T_camera_world_mm is not None
    T_camera_world = camera.T_camera_world_mm.copy()
    T_camera_world[:3, 3] /= MM_PER_M
    start = time.perf_counter()
    rgb = torch.from_numpy(srgb_to_linear(rgb_srgb / 255.0).astype(np.float32))[None].to(method.device)
    K_px, T = (torch.from_numpy(matrix.astype(np.float32))[None].to(method.device) for matrix in (camera.K_px, T_camera_world))
    view = Camera(K_px, T, camera.width_px, camera.height_px)
    inference = infer(method.guide, rgb, view, method.looks, least_distance_m(method.catalogue))
    presence = at_least_probabilities(inference.count_probabilities)[0].cpu()
    kept = _kept(inference.objects.present[0].cpu(), presence, method.min_presence)
    class_ids = inference.objects.class_ids[0].cpu()[kept].tolist()
    T_world_object = inference.objects.T_world_object[0].double().cpu()[kept].numpy()
    time_s = time.perf_counter() - start
    centres_m = np.array([box_centre_m(method.catalogue.meshes[class_id]) for class_id in class_ids]).reshape(-1, 3)
    T_model = T_camera_model_mm(T_camera_world @ T_world_object, centres_m)
    T_model[:, :3, 3] /= MM_PER_M
    return Answer([method.obj_ids[class_id] for class_id in class_ids], presence[kept].tolist(), T_model, time_s)


def _kept(present: Tensor, presence: Tensor, min_presence: float | None) -> Tensor:
    """Slots that become rows."""
    return (present if min_presence is None else presence >= min_presence).nonzero()[:, 0]


def _check_camera(guide: RecurrentGuide, camera: ImageCamera, where: str) -> None:
    """Raise ValueError unless the guide can look at such an image."""
    size, needed = (camera.width_px, camera.height_px), (guide.config.width_px, guide.config.height_px)
    if size != needed:
        raise ValueError(
            f"{where}: expected the {needed[0]} x {needed[1]} px that the guide was trained on, received {size[0]} x {size[1]}; "
            f"make the data set with --image-size {needed[0]} {needed[1]}, or train a guide for its size"
        )
    if camera.T_camera_world_mm is None:
        raise ValueError(
            f"{where}: expected cam_R_w2c and cam_t_w2c in scene_camera.json, received none; "
            "add the camera's pose above the table z = 0"
        )


def _match_classes(catalogue: Catalogue, dataset: Path, ids: Mapping[str, int]) -> tuple[int, ...]:
    """The obj_id of each class; ValueError where there is none, or its model has another size."""
    folder = find_models(dataset)
    infos = read_models_info(folder)
    unknown = [name for name in ids if name not in catalogue.names]
    missing = [name for name in catalogue.names if ids.get(name) not in infos]
    if missing:
        raise ValueError(
            f"--classes: expected a model of {folder} for each class of the guide ({', '.join(catalogue.names)}), received none "
            f"for {missing[0]}{f' and the unknown {unknown[0]}' if unknown else ''}; give {missing[0]}=ID"
        )
    for name, mesh in zip(catalogue.names, catalogue.meshes, strict=True):
        size_mm, said_mm = MM_PER_M * np.ptp(mesh.vertices_m.astype(np.float64), axis=0), infos[ids[name]].size_mm
        if np.abs(size_mm - said_mm).max() > SIZE_TOLERANCE_MM:
            raise ValueError(
                f"--classes: expected a model of {_size(size_mm)} for {name}, received object {ids[name]} of {_size(said_mm)}; "
                "match the classes anew, or use the meshes that the guide was trained on"
            )
    return tuple(ids[name] for name in catalogue.names)


def _size(size_mm: np.ndarray) -> str:
    return " x ".join(f"{side:.0f}" for side in size_mm) + " mm"


def main(arguments: Arguments) -> None:
    """Run the guide and write its file."""
    if arguments.out.exists():
        raise RunError(f"--out: expected a file that does not exist, received {arguments.out}; choose another")
    ids = ids_by_class(parse_classes(arguments.classes))
    device = pick_device(arguments.device)
    method = load_method(arguments.run, arguments.dataset, ids, arguments.min_presence, device)
    split = open_split(arguments.dataset, arguments.split)
    images = read_targets_2024(split)[: arguments.max_images]
    estimates = guide_estimates(method, split, images)
    write_results(arguments.out, estimates)
    print(f"{arguments.out}: {len(estimates)} objects in {len(images)} images")


if __name__ == "__main__":
    try:
        main(tyro.cli(Arguments))
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
