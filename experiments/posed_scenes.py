"""Images with what stands in them, and what was inferred: of a run's held-out scenes, or of a data set in BOP's format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from scenes3d import SCENE_FILE, Config, build
from setup3d import held_out

from assets.bop_models import BopCatalogue, load_bop_models
from inverse_graphics.bop import ImageCamera, find_models, open_split, poses_m, read_camera, read_image, read_results, read_scene
from inverse_graphics.bop.models import MM_PER_M
from inverse_graphics.bop.types import Estimates, Truths
from inverse_graphics.checkpoints import load_guide
from inverse_graphics.colours import linear_to_srgb
from inverse_graphics.config import load_dataclass
from inverse_graphics.evaluation import least_distance_m
from inverse_graphics.inference import infer, recount
from inverse_graphics.interop import inference_scores
from inverse_graphics.posterior_draws import draw_scenes
from inverse_graphics.runs import CONFIG_FILE, find_run, pick_device
from inverse_graphics.types import Camera, Catalogue, Objects, map_tensors
from scenes import load_scene_config


@dataclass(frozen=True)
class PosedScene:
    """One image."""

    scene_id: int
    """Number of the scene's folder in a data set; 0 in a run."""
    image_id: int
    """Number of the image in it."""
    image_srgb: UInt8[np.ndarray, "h w 3"]
    """What was seen."""
    camera: Camera
    """[] from where; where the data set does not say, the world is the camera's frame."""
    world_known: bool
    """Whether the world is the table's and not the camera's frame."""
    truth: Objects | None
    """[n] what stands there; None where it is secret."""
    estimates: Objects | None
    """[m] what was inferred; None where nothing was."""
    score: Float[torch.Tensor, "m"]
    """Confidence of the estimates; empty where there are none."""
    samples: Objects | None
    """[s n] scenes drawn from the posterior; None without a guide."""


@dataclass(frozen=True)
class PosedScenes:
    """Images, and the meshes that are in them."""

    catalogue: Catalogue
    """What class ids mean."""
    scenes: tuple[PosedScene, ...]
    """One an image."""


def scenes_of_run(run: Path, num_scenes: int, seed: int, draws: int, device: str = "auto") -> PosedScenes:
    """Held-out scenes of a run, with what its guide says of them.

    Args:
        run: directory of a run of ``scenes3d.py``.
        num_scenes: how many scenes, at least 1.
        seed: of the scenes and the draws.
        draws: scenes drawn from the posterior of each image; 0 for none.
        device: where the guide runs.

    Raises:
        ValueError: no run, or no scenes asked for.
    """
    _check_count(num_scenes)
    config = load_dataclass(Config, find_run(run) / CONFIG_FILE)
    setup = build(config, load_scene_config(run / SCENE_FILE), pick_device(device))
    guide, apart_m = load_guide(run, setup.device), least_distance_m(setup.catalogue)
    generator = torch.Generator(setup.device).manual_seed(seed)
    found: list[PosedScene] = []
    for scene, image in held_out(setup, num_scenes, seed):
        rgb, camera = image.rgb.to(setup.device), map_tensors(lambda tensor: tensor.to(setup.device), scene.view.camera)
        painter = guide.painter(setup.images, scene.view)
        inference = map_tensors(lambda tensor: tensor.cpu(), infer(guide, rgb, camera, config.looks, apart_m, painter))
        if config.recount_sigma is not None:
            inference = recount(inference, setup.images, scene.view, image.rgb, config.recount_sigma, apart_m)
        drawn = draw_scenes(guide, rgb, camera, draws, generator, config.looks, apart_m, painter) if draws else None
        for row in range(len(rgb)):
            found.append(
                PosedScene(
                    scene_id=0,
                    image_id=len(found),
                    image_srgb=_to_bytes(image.rgb[row]),
                    camera=map_tensors(lambda tensor, row=row: tensor[row], scene.view.camera),
                    world_known=True,
                    truth=map_tensors(lambda tensor, row=row: tensor[row], scene.objects),
                    estimates=map_tensors(lambda tensor, row=row: tensor[row], inference.objects),
                    score=inference_scores(inference)[row],
                    samples=None if drawn is None else map_tensors(lambda tensor, row=row: tensor[row].cpu(), drawn),
                )
            )
    return PosedScenes(setup.catalogue, tuple(found))


def scenes_of_dataset(dataset: Path, split_name: str, results: Path | None, num_scenes: int) -> PosedScenes:
    """The first images of a part of a data set, with the poses of a results file.

    Args:
        dataset: folder of a data set in BOP's format.
        split_name: name of the part's folder.
        results: CSV of estimated poses; none where None.
        num_scenes: how many images, at least 1; fewer where there are no more.

    Raises:
        ValueError: a file is missing or has an error, or a pose is of a model that the data set has not got.
    """
    _check_count(num_scenes)
    split = open_split(dataset, split_name)
    models = load_bop_models(find_models(dataset, evaluation=False))
    estimates = None if results is None else read_results(results)
    found: list[PosedScene] = []
    for scene_id in split.scene_ids:
        scene = read_scene(split, scene_id)
        for im_id in scene.im_ids[: num_scenes - len(found)]:
            camera, truths = read_camera(scene, im_id), scene.columns.truths
            T_camera_world = _T_camera_world(camera)
            posed = None if estimates is None else _of_image(estimates, scene_id, im_id)
            found.append(
                PosedScene(
                    scene_id=scene_id,
                    image_id=im_id,
                    image_srgb=read_image(scene, im_id),
                    camera=Camera(torch.tensor(camera.K_px), torch.tensor(T_camera_world), camera.width_px, camera.height_px),
                    world_known=camera.T_camera_world_mm is not None,
                    truth=None
                    if truths is None
                    else _objects(truths, _of_image(truths, scene_id, im_id), models, T_camera_world),
                    estimates=None if estimates is None else _objects(estimates, posed, models, T_camera_world),
                    score=torch.zeros(0) if estimates is None else torch.tensor(estimates.score[posed]),
                    samples=None,
                )
            )
    return PosedScenes(models.catalogue, tuple(found))


def _check_count(num_scenes: int) -> None:
    if num_scenes < 1:
        raise ValueError(f"num_scenes: expected at least 1 image, received {num_scenes}; ask for some")


def _to_bytes(rgb: Float[torch.Tensor, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Linear colours as 8-bit sRGB."""
    return np.round(255 * linear_to_srgb(rgb.detach().cpu().numpy())).astype(np.uint8)


def _of_image(table: Estimates | Truths, scene_id: int, im_id: int) -> Int[np.ndarray, "m"]:
    """Which rows are of an image."""
    return np.flatnonzero((table.scene_id == scene_id) & (table.im_id == im_id))


def _T_camera_world(camera: ImageCamera) -> Float[np.ndarray, "4 4"]:
    """World to camera in metres; the identity where the data set does not say."""
    if camera.T_camera_world_mm is None:
        return np.eye(4)
    T = camera.T_camera_world_mm.copy()
    T[:3, 3] /= MM_PER_M
    return T


def _objects(
    table: Estimates | Truths, rows: Int[np.ndarray, "m"] | None, models: BopCatalogue, T_camera_world: Float[np.ndarray, "4 4"]
) -> Objects:
    """Rows of a table as objects in the world."""
    class_ids = [models.class_id(obj_id) for obj_id in table.obj_id[rows].tolist()]
    T_world_object = np.linalg.inv(T_camera_world) @ poses_m(table)[rows]
    present = torch.ones(len(class_ids), dtype=torch.bool)
    return Objects(torch.tensor(class_ids, dtype=torch.int64), torch.tensor(T_world_object), present)
