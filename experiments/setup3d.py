"""What the 3-D experiments share: scenes, catalogue and renderers of a config, and the streams of examples made with them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from assets import load_catalogue
from inverse_graphics.evaluation import least_distance_m
from inverse_graphics.guides import GuideConfig, GuideSizes
from inverse_graphics.objectives import UprightPrior
from inverse_graphics.protocols import Renderer
from inverse_graphics.scene_training import Example
from inverse_graphics.symmetry import yaw_folds
from inverse_graphics.types import Catalogue, RenderOutput, Scene, map_tensors
from renderers import BackendOptions, DifferenceOptions, Gradient, RasterRenderer, load_renderer, without_differences
from scenes import Batch, BatchStream, SceneConfig, ScenePrior, generate, scene_stream


@dataclass(frozen=True)
class Setup:
    """What a config builds."""

    scene: SceneConfig
    catalogue: Catalogue
    prior: ScenePrior
    images: Renderer
    """Draws the images."""
    geometry: Renderer | None
    """Says what is visible in them, where it is not ``images`` itself."""
    renderer: Renderer
    """Draws the layers of the bound, with gradients."""
    device: torch.device
    """Where the guide runs."""


def build_setup(
    scene: SceneConfig,
    device: torch.device,
    renderer: str,
    gradient: Gradient | None,
    differences: DifferenceOptions,
    options: BackendOptions,
) -> Setup:
    """Catalogue, prior and renderers of a scene config.

    Args:
        scene: the scenes.
        device: where the guide runs.
        renderer, gradient, differences, options: as in ``load_renderer``.

    Raises:
        ValueError: the guide cannot infer such scenes, or what ``load_renderer`` refuses.
        BackendMissingError: the renderer's package is not installed.
    """
    catalogue = load_catalogue(scene.catalogue, scene.classes)
    if scene.objects.placement != "upright":
        raise ValueError(
            "scene: objects.placement: expected 'upright', got 'free'; the guide infers x, y and yaw of standing objects only"
        )
    if renderer == "raster-cuda" and device.type != "cuda":
        raise ValueError(f"--renderer raster-cuda: expected --device cuda, got {device}; change one of them")
    bound = load_renderer(renderer, catalogue, scene.samples_per_axis, gradient, differences, options)
    if renderer == "raster-cuda":
        # scenes are made ahead of training and judged on the CPU, where raster draws the same
        images: Renderer = RasterRenderer(catalogue, scene.samples_per_axis)
    elif renderer == "pytorch3d":
        images = load_renderer(renderer, catalogue, scene.samples_per_axis, "none")
    else:
        images = without_differences(bound)
    # a slow renderer is asked for colours only; fixed surroundings hide objects, which raster does not know of
    slow = not isinstance(images, RasterRenderer) and options.surroundings is None
    geometry = RasterRenderer(catalogue, scene.samples_per_axis) if slow else None
    return Setup(scene, catalogue, ScenePrior(scene, catalogue), images, geometry, bound, device)


def guide_config(scene: SceneConfig, catalogue: Catalogue, sizes: GuideSizes, feedback: bool) -> GuideConfig:
    """What the guide must know of the scenes."""
    (x0, x1), (y0, y1) = scene.objects.x_range_m, scene.objects.y_range_m
    return GuideConfig(
        max_objects=scene.objects.max_count,
        folds=tuple(yaw_folds(mesh.symmetry) for mesh in catalogue.meshes),
        height_px=scene.image_size_px[1],
        width_px=scene.image_size_px[0],
        half_width_m=max(abs(x0), abs(x1), abs(y0), abs(y1)),
        sizes=sizes,
        feedback=feedback,
    )


def bound_prior(scene: SceneConfig, catalogue: Catalogue) -> UprightPrior:
    """The bound's prior that fits a scene config."""
    objects = scene.objects
    apart_m = least_distance_m(catalogue)
    return UprightPrior(tuple(objects.probabilities), len(scene.classes), objects.x_range_m, objects.y_range_m, apart_m)


def examples(stream: BatchStream[Batch], device: torch.device) -> Iterator[Example]:
    """Batches of a stream, on the guide's device."""
    for batch in stream:
        example = Example(batch.image.rgb, batch.scene.view, batch.scene.objects)
        yield map_tensors(lambda tensor: tensor.to(device, non_blocking=True), example)


def training_scenes(setup: Setup, batch_size: int, seed: int, start: int) -> BatchStream[Batch]:
    """Batches of training scenes, made ahead; no seed's are held-out scenes of any."""
    return scene_stream(setup.prior, setup.images, batch_size, 2 * seed + 1, start, geometry=setup.geometry)


def held_out(setup: Setup, count: int, seed: int, chunk: int = 128) -> Iterator[tuple[Scene, RenderOutput]]:
    """Scenes that no training seed makes."""
    for start in range(0, count, chunk):
        indices = range(start, min(start + chunk, count))
        batch = generate(setup.prior, setup.images, 2 * seed, indices, setup.geometry)
        yield batch.scene, batch.image
