"""Glimpses against direct sampling, and what the recurrent guide must keep: its camera, its draws, its scenes apart."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from guide_scenes import FOLDS, SIZE_PX, TINY, scenes_of_counts, tiny_config, tiny_guide
from renderer_scenes import camera_view

from inverse_graphics.config import FieldError
from inverse_graphics.guides import GuideSizes, RecurrentGuide
from inverse_graphics.guides.glimpse import glimpses, project_table_points, table_points_of_pixels
from inverse_graphics.guides.posterior import wrap
from inverse_graphics.objectives import sleep_terms
from inverse_graphics.poses import look_at, project_points
from inverse_graphics.types import Camera, map_tensors

HEIGHT_M = 0.03


def table_camera(
    batch: int = 1, width_px: int = 40, height_px: int = 32, eye: tuple[float, float, float] = (0.1, -0.5, 0.6)
) -> Camera:
    T = look_at(torch.tensor(eye), torch.tensor([0.02, 0.03, 0.0]), torch.tensor([0.0, 0.0, 1.0]))
    return camera_view(width_px, height_px, 55.0, (batch,), T_camera_world=T).camera


def moved(camera: Camera, turn_rad: float, shift_m: tuple[float, float]) -> tuple[Camera, torch.Tensor, torch.Tensor]:
    """The camera after the world was turned about z and shifted, and that motion's 2 x 2 rotation and shift."""
    c, s = math.cos(turn_rad), math.sin(turn_rad)
    T_new_old = torch.eye(4)
    T_new_old[:2, :2] = torch.tensor([[c, -s], [s, c]])
    T_new_old[:2, 3] = torch.tensor(shift_m)
    T = camera.T_camera_world @ torch.linalg.inv(T_new_old)
    return dataclasses.replace(camera, T_camera_world=T), T_new_old[:2, :2], T_new_old[:2, 3]


def squashed(guide: RecurrentGuide, xy_m: torch.Tensor) -> torch.Tensor:
    """Positions limited softly to half as much again as the working area, as attention limits them."""
    limit_m = 1.5 * guide.config.half_width_m
    return limit_m * torch.tanh(xy_m / limit_m)


def ramp(camera: Camera) -> torch.Tensor:
    """[1 2 h w]: each pixel's own column and row at its centre, which bilinear sampling reproduces."""
    v, u = torch.meshgrid(torch.arange(camera.height_px) + 0.5, torch.arange(camera.width_px) + 0.5, indexing="ij")
    return torch.stack([u, v])[None]


def test_projection_is_that_of_a_pinhole_and_back_projection_its_inverse() -> None:
    camera = table_camera(3)
    xy_m = 0.2 * torch.rand(3, 7, 2) - 0.1
    uv_px, depth_m = project_table_points(camera, xy_m, HEIGHT_M)
    expected = project_points(camera, torch.cat([xy_m, torch.full((3, 7, 1), HEIGHT_M)], -1))
    torch.testing.assert_close(uv_px, expected[0], rtol=0, atol=1e-3)
    torch.testing.assert_close(depth_m, expected[1])
    torch.testing.assert_close(table_points_of_pixels(camera, uv_px, HEIGHT_M), xy_m, rtol=0, atol=1e-5)


def test_back_projection_moves_with_the_camera() -> None:
    camera = table_camera()
    uv_px = torch.rand(1, 9, 2) * 32
    other, R, t = moved(camera, 0.8, (0.3, -0.2))
    expected = table_points_of_pixels(camera, uv_px, HEIGHT_M) @ R.T + t
    torch.testing.assert_close(table_points_of_pixels(other, uv_px, HEIGHT_M), expected, rtol=0, atol=1e-5)


def test_rays_above_the_horizon_stay_finite_and_limited() -> None:
    T = look_at(torch.tensor([0.0, -0.5, 0.2]), torch.tensor([0.0, 0.0, 0.2]), torch.tensor([0.0, 0.0, 1.0]))
    camera = camera_view(32, 32, 30.0, (1,), T_camera_world=T).camera
    xy_m = table_points_of_pixels(camera, torch.tensor([[[16.0, 2.0], [16.0, 16.0], [16.0, 31.0]]]), HEIGHT_M, limit_m=3.0)
    torch.testing.assert_close(xy_m[0, :2], torch.tensor([[0.0, 2.5], [0.0, 2.5]]))
    assert -0.5 < float(xy_m[0, 2, 1]) < 0.5


def test_glimpse_samples_the_image_around_the_projected_point() -> None:
    camera, xy_m, window_m, size = table_camera(), torch.tensor([[0.03, 0.02]]), 0.1, 6
    crop = glimpses(ramp(camera), camera, torch.tensor([0]), xy_m, HEIGHT_M, window_m, size)
    uv_px, depth_m = project_table_points(camera, xy_m[None], HEIGHT_M)
    side_px = window_m * 55.0 / float(depth_m)
    for row in range(size):
        for column in range(size):
            u = float(uv_px[0, 0, 0]) + ((column + 0.5) / size - 0.5) * side_px
            v = float(uv_px[0, 0, 1]) + ((row + 0.5) / size - 0.5) * side_px
            assert crop[0, :, row, column].tolist() == pytest.approx([u, v], abs=1e-3)


def test_glimpse_of_one_pixel_shows_its_value() -> None:
    camera = table_camera()
    image = torch.rand(1, 3, 32, 40)
    centre = torch.tensor([[[21.5, 12.5]]])
    xy_m = table_points_of_pixels(camera, centre, HEIGHT_M)[0]
    crop = glimpses(image, camera, torch.tensor([0]), xy_m, HEIGHT_M, 0.01, 1)
    torch.testing.assert_close(crop[0, :, 0, 0], image[0, :, 12, 21], rtol=0, atol=1e-3)


def test_glimpse_is_zero_outside_the_image_and_larger_in_pixels_when_near() -> None:
    camera = table_camera()
    far_away = glimpses(torch.ones(1, 3, 32, 40), camera, torch.tensor([0]), torch.tensor([[3.0, 3.0]]), HEIGHT_M, 0.1, 4)
    assert not far_away.any()
    places = torch.tensor([[0.0, -0.1], [0.0, 0.2]])
    crops = glimpses(ramp(camera), camera, torch.tensor([0, 0]), places, HEIGHT_M, 0.05, 4)
    widths = crops[:, 0, 0, -1] - crops[:, 0, 0, 0]
    depth_m = project_table_points(camera, places[None], HEIGHT_M)[1][0]
    assert float(widths[0] / widths[1]) == pytest.approx(float(depth_m[1] / depth_m[0]), rel=1e-3)


def test_glimpse_picks_its_scene_and_moves_with_the_camera() -> None:
    camera = table_camera(2)
    images, xy_m = torch.rand(2, 3, 32, 40), torch.tensor([[0.0, 0.05], [0.04, -0.02], [-0.05, 0.1]])
    scene = torch.tensor([1, 0, 1])
    crops = glimpses(images, camera, scene, xy_m, HEIGHT_M, 0.1, 8)
    for i, s in enumerate(scene.tolist()):
        alone = glimpses(images[s : s + 1], table_camera(), torch.tensor([0]), xy_m[i : i + 1], HEIGHT_M, 0.1, 8)
        torch.testing.assert_close(crops[i], alone[0])
    other, R, t = moved(camera, -1.1, (0.2, 0.4))
    torch.testing.assert_close(glimpses(images, other, scene, xy_m @ R.T + t, HEIGHT_M, 0.1, 8), crops, rtol=0, atol=1e-4)


def test_guide_finds_the_same_place_when_world_and_camera_turn_together() -> None:
    _, view, image_rgb = scenes_of_counts([1, 2])
    guide = tiny_guide(max_objects=1)
    turned, R, _ = moved(view.camera, math.pi / 2, (0.0, 0.0))
    before, after = guide(image_rgb, view.camera, looks=1), guide(image_rgb, turned, looks=1)
    torch.testing.assert_close(after.attended_xy_m, before.attended_xy_m @ R.T, rtol=0, atol=1e-5)
    # the same glimpse: what is read in it is the same
    torch.testing.assert_close(after.reading.class_logits, before.reading.class_logits, rtol=0, atol=1e-4)
    torch.testing.assert_close(after.presence_logits, before.presence_logits, rtol=0, atol=1e-5)
    # and turned to the world: position by the matrix, yaw by the angle, modulo the class's symmetry
    torch.testing.assert_close(after.xy_m, before.xy_m @ R.T, rtol=0, atol=1e-5)
    torch.testing.assert_close(after.reading.offset_std_m, before.reading.offset_std_m.flip(-1), rtol=1e-4, atol=1e-6)
    turn = wrap(after.yaw_rad - before.yaw_rad - math.pi / 2) * guide.folds
    torch.testing.assert_close(wrap(turn), torch.zeros_like(turn), rtol=0, atol=1e-3)


def test_cells_lie_at_the_centres_of_their_patches_and_project_back() -> None:
    _, view, image_rgb = scenes_of_counts([1])
    features = tiny_guide().encode(image_rgb, view.camera)
    expected = torch.tensor([[4.0 * c + 2, 4.0 * r + 2] for r in range(SIZE_PX // 4) for c in range(SIZE_PX // 4)])
    torch.testing.assert_close(features.cell_uv_px, expected)
    uv_px, _ = project_table_points(view.camera, features.cell_xy_m, TINY.height_m)
    torch.testing.assert_close(uv_px[0], expected, rtol=0, atol=1e-2)


def test_attention_shifts_by_at_most_two_cells_in_images_of_any_shape() -> None:
    guide, camera = RecurrentGuide(tiny_config(height_px=24, width_px=40)), table_camera(1, 40, 24)
    with torch.no_grad():
        guide.key.weight.zero_()  # all cells alike: attention rests on the image's centre
        guide.key.bias.zero_()
        guide.shift.weight.zero_()
        guide.shift.bias.copy_(torch.tensor([50.0, -50.0]))
        features = guide.encode(torch.rand(1, 24, 40, 3), camera)
        xy_m = guide.attend(features, *guide.start(features), [])[0].xy_m
    place = table_points_of_pixels(camera, torch.tensor([[[20.0 + 8, 12.0 - 8]]]), TINY.height_m)[:, 0]
    torch.testing.assert_close(xy_m, squashed(guide, place), rtol=0, atol=1e-5)


def test_focused_attention_looks_at_one_of_two_places() -> None:
    _, view, image_rgb = scenes_of_counts([1])
    guide = tiny_guide()
    with torch.no_grad():
        guide.query.weight.zero_()
        guide.query.bias.zero_()
        guide.shift.weight.zero_()
        guide.shift.bias.zero_()
        features = guide.encode(image_rgb, view.camera)
        keys = torch.zeros_like(features.keys)
        first, second = 2 * 8 + 1, 5 * 8 + 6  # cells by row and column
        keys[0, first, -2], keys[0, second, -2] = 4.0, 3.99
        features = dataclasses.replace(features, keys=keys)
        wide, narrow = (guide.attend(features, *guide.start(features), [], focus=f)[0].xy_m for f in (False, True))
    uv_px = features.cell_uv_px
    share = math.exp(4 * 4.0) / (math.exp(4 * 4.0) + math.exp(4 * 3.99))
    between = table_points_of_pixels(view.camera, (share * uv_px[first] + (1 - share) * uv_px[second])[None, None], TINY.height_m)
    torch.testing.assert_close(wide, squashed(guide, between[:, 0]), rtol=0, atol=1e-3)
    before, after = (float((xy - squashed(guide, features.cell_xy_m[:, first])).norm()) for xy in (wide, narrow))
    assert after < 0.15 * before


def test_explained_objects_repel_attention() -> None:
    _, view, image_rgb = scenes_of_counts([2, 2])
    guide = tiny_guide()
    with torch.no_grad():
        guide.key.weight.zero_()  # all cells alike, so that only the inhibition tells them apart
        guide.shift.weight.zero_()
        features = guide.encode(image_rgb, view.camera)
        place = torch.tensor([[0.06, 0.0], [0.06, 0.0]])
        free, _ = guide.attend(features, *guide.start(features), [])
        repelled, _ = guide.attend(features, *guide.start(features), [place])
    assert ((repelled.xy_m - place).norm(dim=-1) > (free.xy_m - place).norm(dim=-1) + 1e-3).all()


def test_posterior_is_put_together_from_its_readings() -> None:
    _, view, image_rgb = scenes_of_counts([1, 2, 0])
    guide = tiny_guide()
    once, twice = guide(image_rgb, view.camera, looks=1), guide(image_rgb, view.camera, looks=2)
    assert once.presence_logits.shape == (3, 2) and once.yaw_rad.shape == (3, 2, len(FOLDS))
    assert torch.equal(once.glimpse_xy_m, once.attended_xy_m)
    torch.testing.assert_close(once.xy_m, once.glimpse_xy_m + once.reading.offset_mean_m)
    torch.testing.assert_close(twice.glimpse_xy_m[:, 0], once.xy_m[:, 0])
    assert torch.equal(once.class_ids, once.reading.class_logits.argmax(-1))
    assert (once.yaw_rad[..., 1] == 0).all()


def test_images_of_a_batch_do_not_influence_each_other() -> None:
    _, view, image_rgb = scenes_of_counts([1, 2, 0])
    guide = tiny_guide().eval()
    together = guide(image_rgb, view.camera)
    alone = guide(image_rgb[1:2], map_tensors(lambda x: x[1:2], view.camera))
    torch.testing.assert_close(together.xy_m[1:2], alone.xy_m, rtol=0, atol=1e-5)
    torch.testing.assert_close(together.presence_logits[1:2], alone.presence_logits, rtol=0, atol=1e-5)


def test_draws_come_from_the_generator_and_modes_need_none() -> None:
    _, view, image_rgb = scenes_of_counts([1, 2])
    guide = tiny_guide()

    def draw(seed: int) -> torch.Tensor:
        return guide(image_rgb, view.camera, torch.Generator().manual_seed(seed), draw=True).xy_m

    assert torch.equal(draw(1), draw(1)) and not torch.equal(draw(1), draw(2))
    generator = torch.Generator().manual_seed(1)
    state = generator.get_state()
    modes = [guide(image_rgb, view.camera, generator) for _ in range(2)]
    assert torch.equal(modes[0].xy_m, modes[1].xy_m) and torch.equal(generator.get_state(), state)


def test_drawn_positions_scatter_around_their_means() -> None:
    _, view, image_rgb = scenes_of_counts([1])
    draws = 400
    posterior = tiny_guide(max_objects=1)(
        image_rgb.expand(draws, -1, -1, -1),
        map_tensors(lambda x: x.expand(draws, *x.shape[1:]), view.camera),
        torch.Generator().manual_seed(0),
        draw=True,
        looks=1,
    )
    mean = posterior.glimpse_xy_m + posterior.reading.offset_mean_m
    z = ((posterior.xy_m - mean) / posterior.reading.offset_std_m)[:, 0]
    assert (z.mean(0).abs() < 4 / math.sqrt(draws)).all()
    assert (z.std(0) - 1).abs().max() < 4 / math.sqrt(2 * draws)


def test_every_parameter_learns_from_simulated_pairs() -> None:
    objects, view, image_rgb = scenes_of_counts([2, 2, 1, 2])
    guide = tiny_guide()
    terms = sleep_terms(guide, image_rgb, view, objects, torch.Generator().manual_seed(0))
    torch.stack([getattr(terms, f.name).sum() for f in dataclasses.fields(terms)]).sum().backward()
    for name, parameter in guide.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
        assert torch.isfinite(parameter.grad).all(), name


def test_images_need_not_be_square() -> None:
    guide = RecurrentGuide(tiny_config(height_px=24, width_px=40))
    posterior = guide(torch.rand(2, 24, 40, 3), table_camera(2, 40, 24))
    assert torch.isfinite(posterior.xy_m).all()
    with pytest.raises(ValueError, match=r"image_rgb: expected \[b 24 40 3\], got \[2, 40, 24, 3\]"):
        guide(torch.rand(2, 40, 24, 3), table_camera(2, 40, 24))
    with pytest.raises(ValueError, match="multiples of 8"):
        RecurrentGuide(tiny_config(height_px=20))


@pytest.mark.parametrize("bad", [{"glimpse_px": 10}, {"yaw_bins": 0}, {"window_m": 0.0}, {"hidden": -1}])
def test_sizes_out_of_range_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(FieldError, match=next(iter(bad))):
        GuideSizes(**bad)


class Repeater(RecurrentGuide):
    """Finds what it is told to find, attempt by attempt."""

    def __init__(self, places_m: list[list[tuple[float, float]]]) -> None:
        super().__init__(tiny_config())
        self.places_m = list(places_m)
        self.inhibited: list[int] = []

    def _find(self, features, state, told, explained, generator, draw, looks, explore):  # type: ignore[no-untyped-def]
        step, attention, seen = super()._find(features, state, told, explained, generator, draw, looks, explore)
        self.inhibited.append(len(explained))
        return dataclasses.replace(step, xy_m=torch.tensor(self.places_m.pop(0))), attention, seen


def test_a_step_that_finds_an_object_again_looks_elsewhere() -> None:
    """Two scenes: the first finds its first object again, twice, the second never does."""
    _, view, image_rgb = scenes_of_counts([2, 2])
    places = [[(0.0, 0.0), (0.1, 0.1)], [(0.01, 0.0), (0.0, 0.1)], [(0.0, -0.02), (9.0, 9.0)], [(0.1, 0.0), (9.0, 9.0)]]
    guide = Repeater(places).eval()
    with torch.no_grad():
        posterior = guide(image_rgb, view.camera, apart_m=0.03)
    torch.testing.assert_close(posterior.xy_m, torch.tensor([[[0.0, 0.0], [0.1, 0.0]], [[0.1, 0.1], [0.0, 0.1]]]))
    assert guide.inhibited == [0, 1, 2, 3]
    with torch.no_grad():
        assert torch.equal(Repeater(places).eval()(image_rgb, view.camera).xy_m[0, 1], torch.tensor([0.01, 0.0]))
