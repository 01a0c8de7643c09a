"""What a gradient costs as objects are added that are apart on screen: a part of ``benchmarks/black_box.py``."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from benchmarks import tasks
from benchmarks.black_box_sides import Figures, Settings, Variant, key_of
from benchmarks.timing import Job, race
from inverse_graphics.poses import look_at, upright_pose
from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Camera, Catalogue, Light, Objects, View
from renderers import BackendOptions, load_renderer
from renderers.loading import PAINTERS, painter_factory
from renderers.painting import Painter, PictureRenderer, WholePictureRenderer

COLUMNS, ROWS = 4, 2
"""Places for objects."""
CELL_M = 0.4
"""Distance between places: a quarter of what the image shows, so that neighbours do not touch when they move."""
FOCAL_PER_SIZE = 1.5
"""Focal length as a multiple of the image's width."""


class CountingPainter:
    """Hands shots on to another painter and counts the pictures."""

    def __init__(self, painter: Painter) -> None:
        """Wrap a painter; the count starts at zero."""
        self.name = painter.name
        self.painter = painter
        self.pictures = 0

    def draw(self, shots: list[Any]) -> list[Any]:
        """See ``Painter.draw``."""
        self.pictures += len(shots)
        return self.painter.draw(shots)


@dataclass(frozen=True)
class Side:
    """One backend, differenced by layers or by whole images."""

    renderer: Renderer
    """What draws."""
    painter: CountingPainter | None
    """Counts its pictures; None for backends that draw no pictures."""


def measure_structure(settings: Settings, backends: tuple[str, ...]) -> Figures:
    """Renders, pictures and seconds a gradient for growing numbers of objects; prints a row for each side and number."""
    catalogue = tasks.build_catalogue(320)
    variant, step_px = Variant("central"), settings.steps_px[0]
    figures: Figures = {}
    print(f"{'gradient of separate objects':<32} {'objects':>8} {'renders':>8} {'pictures':>9} {'ms':>10} {'ms/object':>10}")
    sides = open_sides(backends, catalogue)
    for count in settings.structure_objects:
        task = separate_task(settings, catalogue, count)
        jobs: dict[str, Job] = {
            name: partial(tasks.draw_gradient, variant.around(side.renderer, step_px)[0], task) for name, side in sides.items()
        }
        times = race(jobs, settings.repeats)
        for name, side in sides.items():
            figures |= count_draws(name, side, task, variant, step_px)
            seconds = times[name].median_s / settings.structure_scenes
            figures[f"{name}_seconds_{of(count)}"] = seconds
            renders, pictures = figures[f"{name}_renders_{of(count)}"], figures.get(f"{name}_pictures_{of(count)}", "")
            row = f"{name:<32} {count:>8} {renders:>8g} {pictures:>9}"
            print(f"{row} {1e3 * seconds:>10.2f} {1e3 * seconds / count:>10.2f}")
        for mode in ("layers", "images"):
            drawn = [float(figures[f"{name}_renders_{of(count)}"]) for name in sides if name.endswith(mode)]
            figures |= {f"{mode}_renders_{of(count)}": max(drawn)} if drawn else {}
    return figures


def open_sides(backends: tuple[str, ...], catalogue: Catalogue) -> dict[str, Side]:
    """Every backend by layers that can be, and the first that draws one picture at a time also by whole images."""
    sides = {"raster_layers": Side(load_renderer("raster", catalogue, 1), None)}
    for name in backends:
        plain = load_renderer(name, catalogue, 1, "none")
        if not getattr(plain, "draws_whole_images", False):
            counter = CountingPainter(plain.painter) if isinstance(plain, PictureRenderer) else None
            layered = plain if counter is None else PictureRenderer(counter, catalogue, 1)
            sides[f"{key_of(name)}_layers"] = Side(layered, counter)
    for name in [name for name in backends if name in PAINTERS][:1]:
        counter = CountingPainter(painter_factory(name, catalogue, BackendOptions())())
        sides[f"{key_of(name)}_images"] = Side(WholePictureRenderer(counter, catalogue, 1), counter)
    return sides


def count_draws(name: str, side: Side, task: tasks.Task, variant: Variant, step_px: float) -> Figures:
    """Renders and pictures of one scene's gradient."""
    renderer, counter = variant.around(side.renderer, step_px)
    before = side.painter.pictures if side.painter else 0
    tasks.draw_gradient(renderer, task)
    scenes, count = task.objects.class_ids.shape
    figures: Figures = {
        f"{name}_renders_{of(count)}": counter.scenes_drawn / scenes,
        f"{name}_object_renders_{of(count)}": counter.objects_drawn / scenes,
    }
    if side.painter:
        figures[f"{name}_pictures_{of(count)}"] = (side.painter.pictures - before) / scenes
    return figures


def of(count: int) -> str:
    """The end of a figure's name."""
    return f"{count}_object" if count == 1 else f"{count}_objects"


def separate_task(settings: Settings, catalogue: Catalogue, count: int) -> tasks.Task:
    """Upright objects in the first ``count`` places of a grid, seen from above; the target shows them 1 cm to the side.

    Raises:
        ValueError: more objects than places.
    """
    if not 1 <= count <= COLUMNS * ROWS:
        raise ValueError(
            f"structure_objects: expected 1 to {COLUMNS * ROWS}, which the image has places for, received {count}; ask for fewer"
        )
    scenes, size_px = settings.structure_scenes, settings.structure_size
    generator = torch.Generator().manual_seed(settings.seed)
    places = COLUMNS * ROWS
    class_ids = torch.randint(len(catalogue), (scenes, places), generator=generator)
    yaw_rad = 2 * math.pi * torch.rand(scenes, places, generator=generator)
    place = torch.arange(places)
    column, row = place % COLUMNS - (COLUMNS - 1) / 2, place // COLUMNS - (ROWS - 1) / 2
    T = upright_pose(CELL_M * torch.stack([column, row], -1).expand(scenes, places, 2), yaw_rad)
    objects = Objects(class_ids[:, :count], T[:, :count], torch.ones(scenes, count, dtype=torch.bool))
    return tasks.build_task(load_renderer("raster", catalogue, 1), objects, view_from_above(scenes, size_px))


def view_from_above(scenes: int, size_px: int) -> View:
    """Cameras high enough to see ``COLUMNS`` places across."""
    eye = torch.tensor([0.0, 0.0, FOCAL_PER_SIZE * COLUMNS * CELL_M])
    T_camera_world = look_at(eye, torch.zeros(3), torch.tensor([0.0, 1.0, 0.0]))
    focal_px, centre_px = FOCAL_PER_SIZE * size_px, size_px / 2
    K_px = torch.tensor([[focal_px, 0.0, centre_px], [0.0, focal_px, centre_px], [0.0, 0.0, 1.0]])
    camera = Camera(K_px.expand(scenes, 3, 3), T_camera_world.expand(scenes, 4, 4), size_px, size_px)
    direction = torch.nn.functional.normalize(torch.tensor([0.3, -0.5, 0.8]), dim=0)
    light = Light(direction.expand(scenes, 3), torch.full((scenes,), 0.4), torch.full((scenes,), 0.6))
    return View(camera, light, torch.tensor(0.2).expand(scenes, size_px, size_px, 3))
