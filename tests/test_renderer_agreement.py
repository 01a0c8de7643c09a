"""Every backend against ``raster``: tables of simple shapes, textures and near lights, and every mesh of the catalogue."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
import torch
from backends import BOUNDS, WITHOUT_TEXTURES, build
from renderer_scenes import ball, box, catalogue_of, table_scene
from torch import Tensor

from assets import load_catalogue
from inverse_graphics.types import Catalogue, Objects, RenderOutput, Texture, View
from renderers.painting.pictures import PictureRenderer
from renderers.painting.shots import Painter, Picture, Shot

OTHERS = [name for name in BOUNDS if name != "raster"]


class Remembering:
    """A painter whose pictures are drawn once and given twice: for layers and for images."""

    def __init__(self, painter: Painter) -> None:
        self.name = painter.name
        self.painter = painter
        self.pictures: dict[bytes, Picture] = {}

    def draw(self, shots: list[Shot]) -> list[Picture]:
        keys = [pickle.dumps(shot) for shot in shots]
        new = {key: shot for key, shot in zip(keys, shots, strict=True) if key not in self.pictures}
        self.pictures |= zip(new, self.painter.draw(list(new.values())), strict=True)
        return [self.pictures[key] for key in keys]


def covered(image: RenderOutput) -> Tensor:
    return image.object_ids >= 0


def assert_alike(name: str, catalogue: Catalogue, objects: Objects, view: View, iou: float, depth_m: float, rgb: float) -> None:
    """Silhouettes of each object alone; then depth, ids and colours of the images on 99 % of the pixels that both cover."""
    a, b = build("raster", catalogue), build(name, catalogue)
    if isinstance(b, PictureRenderer):
        b.painter = Remembering(b.painter)
    alone_a, alone_b = a.layers(objects, view).alpha > 0, b.layers(objects, view).alpha > 0
    overlap = (alone_a & alone_b).sum((-2, -1)) / (alone_a | alone_b).sum((-2, -1)).clamp(min=1)
    assert overlap[objects.present].min() >= iou
    assert not alone_b[~objects.present].any()
    image_a, image_b = a.render(objects, view), b.render(objects, view)
    shared = covered(image_a) & covered(image_b)
    assert shared.sum() > 1000
    assert (image_a.depth_m - image_b.depth_m).abs()[shared].quantile(0.99) < depth_m
    assert (image_a.object_ids == image_b.object_ids)[shared].float().mean() >= 0.99
    assert (image_a.rgb - image_b.rgb).abs().amax(-1)[shared].quantile(0.99) < rgb
    torch.testing.assert_close(image_a.visible_fraction, image_b.visible_fraction, rtol=0, atol=0.03)


@pytest.mark.parametrize("name", OTHERS)
def test_tables_of_boxes_and_balls(name: str) -> None:
    objects, view = table_scene(3, 4, 128, classes=2, seed=3)
    assert_alike(name, catalogue_of(box(), ball(subdivisions=2)), objects, view, 0.98, 1e-3, BOUNDS[name].agree)


@pytest.mark.parametrize("name", OTHERS)
def test_textures_and_near_lights(name: str) -> None:
    """A rippled texture on a ball, beside a plain box, each scene with its own light."""
    objects, view = table_scene(3, 4, 64, classes=2, seed=3)
    positions = torch.tensor([[0.3, -0.2, 0.3], [-0.3, 0.1, 0.4], [0.0, -0.3, 0.2]])
    view = dataclasses.replace(view, light=dataclasses.replace(view.light, position_world=positions))
    row, column = np.indices((16, 24)) * 2 * np.pi / [[[16]], [[24]]]
    rgb = 0.6 + 0.4 * np.stack([np.sin(row), np.cos(column), np.sin(row + column)], -1)
    globe = ball(subdivisions=2)
    if name not in WITHOUT_TEXTURES:
        uv = (globe.vertices_m[:, :2] * 12)[globe.faces]
        globe = dataclasses.replace(globe, texture=Texture(uv.astype(np.float32), rgb.astype(np.float32)))
    assert_alike(name, catalogue_of(globe, box()), objects, view, 0.96, 2e-3, BOUNDS[name].agree_lit)


@pytest.mark.parametrize("name", OTHERS)
def test_the_catalogue(name: str) -> None:
    """Every mesh that the experiments use, three to a table."""
    catalogue = load_catalogue("tabletop")
    objects, view = table_scene(5, 3, 128, classes=1, seed=8)
    class_ids = torch.arange(15).reshape(5, 3) % len(catalogue)
    objects = Objects(class_ids, objects.T_world_object, torch.ones_like(objects.present))
    assert_alike(name, catalogue, objects, view, 0.97, 2e-3, BOUNDS[name].agree)
