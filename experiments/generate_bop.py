"""Make a data set in BOP's format of generated scenes: images, depth, masks, poses, models, targets.

    python experiments/generate_bop.py --config scenes/tabletop.yaml --num-images 1000 --out data/tabletop
    python -m inverse_graphics.bop check data/tabletop

Scenes are folders of images, each written whole or not at all; an interrupted run goes on with --resume and gives the same bytes.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import tyro
from tqdm import tqdm

from assets import load_catalogue
from inverse_graphics.bop.datasets import open_split, read_image_keys, read_truths
from inverse_graphics.bop.modelfiles import write_models
from inverse_graphics.bop.targets import targets_2019_path, targets_2019_text, targets_2024_path, targets_2024_text, targets_of
from inverse_graphics.bop.writing import ImageRecord, remove_partial, write_camera, write_scene
from inverse_graphics.config import load_dataclass, save_yaml
from inverse_graphics.files import write_text
from inverse_graphics.protocols import Renderer
from inverse_graphics.runs import RunError, claim_run
from renderers import BackendMissingError, BackendOptions, RasterRenderer, load_renderer, without_differences
from renderers.painting.workers import WorkerError
from scenes import SceneConfig, ScenePrior, generate, load_scene_config
from scenes.bop_scenes import bop_records, nominal_camera

RECIPE_FILE = "generator.yaml"
BATCH_PIXELS = 2**17
"""About how many pixels are drawn at a time."""


@dataclass(frozen=True)
class Arguments:
    """Make a data set in BOP's format of the scenes of a config."""

    config: Path
    """Scene config, YAML."""
    num_images: int
    """How many images."""
    out: Path
    """Folder of the data set; must be new, or hold one that --resume continues."""
    renderer: str = "raster"
    """Backend that draws the colours; depth, masks and visibility are raster's."""
    image_size: tuple[int, int] | None = None
    """Width and height in pixels; the config's where absent.  With vertical_fov_deg the view stays the same."""
    seed: int = 0
    """Of the scenes."""
    images_per_scene: int = 100
    """Images in a scene's folder."""
    split: str = "test"
    """Name of the folder with the scenes, for example test or train_pbr."""
    depth_scale: float = 0.1
    """Millimetres a unit of the 16-bit depth images."""
    resume: bool = False
    """Go on with the data set in --out; all other options must be those it was begun with."""
    backend: BackendOptions = BackendOptions()
    """What the backend is told."""


@dataclass(frozen=True)
class Recipe:
    """All that decides the data set's bytes; saved as generator.yaml."""

    seed: int
    """Of the scenes."""
    num_images: int
    """Images in all."""
    images_per_scene: int
    """Images in a scene's folder."""
    split: str
    """Name of the folder with the scenes."""
    renderer: str
    """Backend that draws the colours."""
    depth_scale: float
    """Millimetres a unit of the depth images."""
    backend: BackendOptions
    """What the backend is told, less how many workers it has and how long they may take."""
    scene: SceneConfig
    """The scenes; the class at index i is BOP's object i + 1."""

    @property
    def num_scenes(self) -> int:
        """Number of scene folders."""
        return math.ceil(self.num_images / self.images_per_scene)

    def images_of(self, scene_id: int) -> range:
        """Numbers of a scene's images among all."""
        return range(scene_id * self.images_per_scene, min(self.num_images, (scene_id + 1) * self.images_per_scene))


def recipe_of(arguments: Arguments) -> Recipe:
    """What the command line asks for."""
    for name in ("num_images", "images_per_scene"):
        if getattr(arguments, name) < 1:
            value = getattr(arguments, name)
            raise ValueError(f"--{name.replace('_', '-')}: expected at least 1, received {value}; ask for some images")
    if not 0 < arguments.depth_scale <= 100:
        raise ValueError(f"--depth-scale: expected 0..100 mm, received {arguments.depth_scale}; 0.1 reaches 6.5 m")
    if not arguments.split or "/" in arguments.split or arguments.split.startswith((".", "models")):
        raise ValueError(f"--split: expected a name such as test or train_pbr, received {arguments.split!r}; change it")
    if arguments.backend.surroundings is not None:
        raise ValueError(
            "--backend.surroundings: expected none, received a file; raster, which draws the masks, does not know it"
        )
    scene = load_scene_config(arguments.config)
    if arguments.image_size is not None:
        scene = dataclasses.replace(scene, image_size_px=arguments.image_size)
    names = ("seed", "num_images", "images_per_scene", "split", "renderer", "depth_scale")
    same_bytes = dataclasses.replace(arguments.backend, workers=0, timeout_s=BackendOptions.timeout_s)
    return Recipe(**{name: getattr(arguments, name) for name in names}, backend=same_bytes, scene=scene)


def open_dataset(out: Path, recipe: Recipe, resume: bool) -> None:
    """Make a new folder, or check that the one to go on with was begun with the same recipe.

    Raises:
        RunError: it holds something else.
    """
    path = out / RECIPE_FILE
    if resume and path.is_file():
        begun = load_dataclass(Recipe, path)
        if begun != recipe:
            fields = [
                field.name for field in dataclasses.fields(Recipe) if getattr(begun, field.name) != getattr(recipe, field.name)
            ]
            raise RunError(f"--out: expected the options of {path}, received another {', '.join(fields)}; choose another folder")
        return
    if resume and out.exists() and any(out.iterdir()):
        raise RunError(f"--resume: expected {path}, there is none beside what the folder holds; choose another folder")
    claim_run(out)
    save_yaml(path, recipe)


def images(recipe: Recipe, prior: ScenePrior, renderer: Renderer, geometry: Renderer, scene_id: int) -> Iterator[ImageRecord]:
    """The images of a scene's folder, drawn a batch at a time."""
    indices = recipe.images_of(scene_id)
    width_px, height_px = recipe.scene.image_size_px
    step = max(1, BATCH_PIXELS // (width_px * height_px))
    for start in range(0, len(indices), step):
        other = None if renderer is geometry else geometry
        batch = generate(prior, renderer, recipe.seed, indices[start : start + step], other)
        yield from bop_records(batch, geometry, recipe.depth_scale)


def write_dataset(recipe: Recipe, out: Path, options: BackendOptions) -> None:
    """Write what is missing: models, camera, scenes, and at the end the targets."""
    catalogue = load_catalogue(recipe.scene.catalogue, recipe.scene.classes)
    prior = ScenePrior(recipe.scene, catalogue)
    geometry = RasterRenderer(catalogue, recipe.scene.samples_per_axis)
    renderer: Renderer = geometry
    if recipe.renderer != "raster":
        gradient = "none" if recipe.renderer == "pytorch3d" else None
        loaded = load_renderer(recipe.renderer, catalogue, recipe.scene.samples_per_axis, gradient, options=options)
        renderer = without_differences(loaded)
    meshes = {class_id + 1: mesh for class_id, mesh in enumerate(catalogue.meshes)}
    write_models(out / "models", meshes)
    write_models(out / "models_eval", meshes, coloured=False)
    write_camera(out, nominal_camera(prior.view, recipe.depth_scale))
    remove_partial(out / recipe.split)
    scenes = range(recipe.num_scenes)
    missing = [scene_id for scene_id in scenes if not (out / recipe.split / f"{scene_id:06d}").is_dir()]
    done = recipe.num_images - sum(len(recipe.images_of(scene_id)) for scene_id in missing)
    interval_s = 0.5 if sys.stderr.isatty() else 15.0
    with tqdm(total=recipe.num_images, initial=done, unit="image", file=sys.stderr, mininterval=interval_s) as bar:
        for scene_id in missing:
            drawn = images(recipe, prior, renderer, geometry, scene_id)
            write_scene(out / recipe.split, scene_id, counted(drawn, bar))
    split = open_split(out, recipe.split)
    write_text(targets_2019_path(out, recipe.split), targets_2019_text(targets_of(read_truths(split))))
    write_text(targets_2024_path(out, recipe.split), targets_2024_text(read_image_keys(split)))


def counted(records: Iterator[ImageRecord], bar: tqdm) -> Iterator[ImageRecord]:
    """The records, each moving the bar."""
    for record in records:
        yield record
        bar.update(1)


def main(arguments: Arguments) -> None:
    """Make the data set, or go on with it."""
    recipe = recipe_of(arguments)
    open_dataset(arguments.out, recipe, arguments.resume)
    try:
        write_dataset(recipe, arguments.out, arguments.backend)
    except KeyboardInterrupt:
        raise RunError(f"stopped; go on with the same options and --resume --out {arguments.out}") from None
    print(f"{arguments.out}: {recipe.num_images} images in {recipe.num_scenes} scenes")


if __name__ == "__main__":
    try:
        main(tyro.cli(Arguments))
    except (ValueError, OSError, BackendMissingError, WorkerError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
