"""Scenes drawn by black boxes: a faster renderer says what is visible, and surroundings are part of the view."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from painters import FloorPainter, RayPainter
from renderer_scenes import ball, box, catalogue_of

from renderers import RasterRenderer
from renderers.painting.pictures import PictureRenderer
from scenes import SceneConfig, ScenePrior, generate, scene_stream

CATALOGUE = catalogue_of(box(), ball(subdivisions=1))
CONFIG = SceneConfig(classes=("box", "ball"), image_size_px=(24, 24))
PRIOR = ScenePrior(
    dataclasses.replace(CONFIG, objects=dataclasses.replace(CONFIG.objects, min_count=2, max_count=2, min_visible_fraction=0.9)),
    CATALOGUE,
)


def test_another_renderer_says_what_is_visible_and_the_slow_one_draws_what_was_accepted() -> None:
    painter = RayPainter(CATALOGUE)
    slow, raster = PictureRenderer(painter, CATALOGUE, 2), RasterRenderer(CATALOGUE, 2)
    batch, expected = generate(PRIOR, slow, 3, range(8), raster), generate(PRIOR, raster, 3, range(8))
    assert torch.equal(batch.scene.objects.T_world_object, expected.scene.objects.T_world_object)
    for name in ("depth_m", "object_ids", "visible_fraction"):
        assert torch.equal(getattr(batch.image, name), getattr(expected.image, name))
    torch.testing.assert_close(batch.image.rgb, slow.render(batch.scene.objects, batch.scene.view).rgb)
    assert not torch.equal(batch.image.rgb, expected.image.rgb)
    first_call = painter.calls[0]
    assert sum(len(shot.class_ids) for shot in first_call) == int(batch.scene.objects.count.sum())


def test_a_stream_with_geometry_gives_the_same_batches() -> None:
    slow, raster = PictureRenderer(RayPainter(CATALOGUE), CATALOGUE, 1), RasterRenderer(CATALOGUE, 1)
    with scene_stream(PRIOR, slow, 3, 3, geometry=raster) as stream:
        batches = [next(stream) for _ in range(2)]
    together = generate(PRIOR, slow, 3, range(6), raster)
    assert torch.equal(torch.cat([batch.image.rgb for batch in batches]), together.image.rgb)


@pytest.mark.parametrize("floor_m", [-0.02, 1e-4])
def test_surroundings_are_put_into_the_view(floor_m: float) -> None:
    """A floor under the objects is seen around them and hides nothing; images are the same when drawn again from the view."""
    renderer = PictureRenderer(FloorPainter(CATALOGUE, floor_m), CATALOGUE, 2)
    batch = generate(PRIOR, renderer, 3, range(4))
    bare = generate(PRIOR, RasterRenderer(CATALOGUE, 2), 3, range(4))
    background = batch.scene.view.background_rgb
    torch.testing.assert_close(background, torch.full_like(background, 0.4))
    assert (bare.scene.view.background_rgb - 0.4).abs().max() > 0.05
    torch.testing.assert_close(batch.image.rgb, renderer.render(batch.scene.objects, batch.scene.view).rgb)
    empty = batch.image.object_ids < 0
    inside = empty & (batch.image.rgb - 0.4).abs().amax(-1).lt(1e-6)
    assert inside.sum() > 0.5 * empty.sum()
