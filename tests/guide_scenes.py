"""A tiny guide, three small classes and a few table scenes for the tests of the inference core."""

from __future__ import annotations

import dataclasses

import torch
import trimesh
from renderer_scenes import ball, box, catalogue_of, mesh_of, table_scene

from inverse_graphics.guides import GuideConfig, GuideSizes, Reading, RecurrentGuide
from inverse_graphics.objectives import UprightPrior
from inverse_graphics.types import Catalogue, Mesh, Objects, View
from renderers import RasterRenderer

FOLDS = (2, 0, 1)
"""Yaw folds of box, ball and wedge."""
SIZE_PX = 32
TINY = GuideSizes(glimpse_px=8, window_m=0.2, height_m=0.03, yaw_bins=8, channels=8, features=12, hidden=12)
PRIOR = UprightPrior((0.2, 0.3, 0.5), len(FOLDS), (-0.2, 0.2), (-0.15, 0.25))


def wedge() -> Mesh:
    """A block that is narrower at one end, so that it looks the same after a full turn only."""
    shape = trimesh.creation.box((0.1, 0.07, 0.05))
    vertices = shape.vertices.copy()
    vertices[:, 1] *= (vertices[:, 0] < 0) * 0.8 + 0.2
    return mesh_of("wedge", vertices, shape.faces, (0.2, 0.8, 0.3))


def table_catalogue() -> Catalogue:
    return catalogue_of(box(), ball(), wedge())


def table_renderer(samples_per_axis: int = 1) -> RasterRenderer:
    return RasterRenderer(table_catalogue(), samples_per_axis)


def tiny_config(max_objects: int = 2, height_px: int = SIZE_PX, width_px: int = SIZE_PX, feedback: bool = False) -> GuideConfig:
    return GuideConfig(max_objects, FOLDS, height_px, width_px, half_width_m=0.25, sizes=TINY, feedback=feedback)


def tiny_guide(seed: int = 0, max_objects: int = 2, feedback: bool = False) -> RecurrentGuide:
    """An untrained guide."""
    torch.manual_seed(seed)
    return RecurrentGuide(tiny_config(max_objects, feedback=feedback))


def scenes_of_counts(counts: list[int], slots: int = 2, seed: int = 0) -> tuple[Objects, View, torch.Tensor]:
    """Scenes with the given numbers of objects, present ones first: truth, views and images."""
    objects, view = table_scene(len(counts), slots, SIZE_PX, len(FOLDS), seed)
    present = torch.arange(slots) < torch.tensor(counts)[:, None]
    objects = dataclasses.replace(objects, present=present)
    return objects, view, table_renderer().render(objects, view).rgb


def random_reading(shape: tuple[int, ...], classes: int = 3, bins: int = 8, seed: int = 0) -> Reading:
    """Readings with yaw components as wide as a guide's, float64."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int) -> torch.Tensor:
        return torch.randn(*shape, *size, generator=generator, dtype=torch.float64)

    spacing = 2 * torch.pi / bins
    return Reading(
        class_logits=normal(classes),
        offset_mean_m=0.03 * normal(2),
        offset_std_m=0.01 + 0.01 * normal(2).sigmoid(),
        yaw_logits=normal(classes, bins),
        yaw_phase_rad=torch.arange(bins, dtype=torch.float64) * spacing + spacing * normal(classes, bins).tanh(),
        yaw_std_rad=0.05 + 0.5 * spacing * normal(classes, bins).sigmoid(),
    )
