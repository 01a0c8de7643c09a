"""Analytic gradients where geometry goes wrong: any pose, faces without area, the near plane, empty scenes; bad input."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from gradient_scenes import all_gradients, broken_mesh, near, poster, sliver_square, smooth_weights
from hypothesis import example, given, settings
from hypothesis import strategies as st
from renderer_scenes import ball, box, camera_view, catalogue_of, posed, quad, square
from torch import Tensor

from inverse_graphics.types import Objects, map_tensors
from renderers import RasterRenderer
from renderers.raster import Surfaces

CATALOGUE = catalogue_of(box(), ball(0.05, 2), square(0.08), broken_mesh(), poster(0.03), sliver_square(0.0, True))


def assert_finite(gradients: dict[str, Tensor]) -> None:
    assert [name for name, gradient in gradients.items() if not bool(torch.isfinite(gradient).all())] == []


numbers = st.one_of(st.floats(-0.5, 0.5, width=32), st.sampled_from([0.0, 1e-6, 30.0, -30.0, 1e6, -1e9]))
angles = st.lists(st.one_of(st.floats(-4, 4, width=32), st.sampled_from([0.0, np.pi / 2, np.pi])), min_size=3, max_size=3)
poses = st.tuples(st.integers(0, len(CATALOGUE) - 1), angles, numbers, numbers, numbers)


@settings(max_examples=80)
@given(st.lists(poses, min_size=1, max_size=3), st.sampled_from([1e-3, 0.01, 0.4]), st.integers(1, 2), st.booleans())
@example([(0, [0.0, 0.0, 0.0], 0.0, 0.0, 0.0), (3, [0.0, 0.0, 0.0], 0.0, 0.0, 0.4)], 0.01, 2, True)
@example([(2, [np.pi / 2, 0.0, 0.0], 0.0, 0.0, 0.5), (5, [0.0, 0.0, 0.3], 0.003, 0.001, 0.5)], 0.01, 2, False)
@example([(1, [1.0, 0.0, 0.0], 0.0, 0.0, 0.4), (1, [1.0, 0.0, 0.0], 0.0, 0.0, 0.4)], 0.4, 1, True)
def test_gradients_of_any_pose_are_finite(slots: list[Any], near_m: float, samples: int, near_light: bool) -> None:
    """In view, on the camera, cut by the near plane, edge-on, behind, far away, on top of each other, inside each other."""
    view = camera_view(12, 10, 9.0, near_m=near_m)
    if near_light:
        view = dataclasses.replace(view, light=near([0.0, 0.1, 0.3]))
    positions = [[float(x) for x in slot[2:]] for slot in slots]
    objects = posed([slot[0] for slot in slots], positions, [[float(x) for x in slot[1]] for slot in slots])
    assert_finite(all_gradients(RasterRenderer(CATALOGUE, samples), objects, view))


@pytest.mark.parametrize("number", [1e17, -1e30, 3e38])
def test_gradients_of_poses_that_overflow_are_none(number: float) -> None:
    objects = posed([0, 1], [[0.0, 0.0, 0.5], [number, 0.0, number]])
    renderer, view = RasterRenderer(CATALOGUE, 2), camera_view(12, 10, 9.0)
    T = objects.T_world_object.clone().requires_grad_()
    renderer.render(dataclasses.replace(objects, T_world_object=T), view).rgb.sum().backward()
    assert T.grad is not None
    assert bool(torch.isfinite(T.grad).all())
    assert not T.grad[1].any()
    assert bool(T.grad[0].any())


@pytest.mark.parametrize("width_m", [0.0, 1e-6, 1e-4])
def test_faces_without_area_change_no_gradient(width_m: float) -> None:
    """As they come from T-junctions: a surface goes on over them."""
    generator, count = torch.Generator().manual_seed(0), 100
    turns, places = torch.randn(count, 3, generator=generator) * 0.6, torch.randn(count, 3, generator=generator) * 0.05
    turns[:30, :2], places[:, 2] = 0, 0.5
    objects = map_tensors(lambda x: x[:, None], posed([0] * count, places.tolist(), turns.tolist()))
    view, weights = camera_view(24, 24, 40.0, (count,)), smooth_weights((24, 24, 3))
    gradients = []
    for with_sliver in (True, False):
        renderer, T = RasterRenderer(catalogue_of(sliver_square(width_m, with_sliver)), 2), objects.T_world_object.clone()
        image = renderer.render(dataclasses.replace(objects, T_world_object=T.requires_grad_()), view)
        gradients.append(torch.autograd.grad((weights * image.rgb).sum(), T)[0])
    error = (gradients[0] - gradients[1]).flatten(1).norm(dim=1) / gradients[1].flatten(1).norm(dim=1)
    assert float(error.max()) < 0.03


def test_broken_faces_change_no_gradient() -> None:
    mesh = broken_mesh()
    sound = dataclasses.replace(
        mesh, faces=mesh.faces[:12], corner_rgb=mesh.corner_rgb[:12], corner_normals=mesh.corner_normals[:12]
    )
    objects, view = posed([0], [[0.02, 0.01, 0.5]], [[0.4, 0.3, 0.2]]), camera_view(32, 32, 50.0)
    found = []
    for one in (mesh, sound):
        T = objects.T_world_object.clone().requires_grad_()
        image = RasterRenderer(catalogue_of(one), 2).render(dataclasses.replace(objects, T_world_object=T), view)
        found.append(torch.autograd.grad((smooth_weights((32, 32, 3)) * image.rgb).sum(), T)[0])
    torch.testing.assert_close(found[0], found[1], rtol=0.02, atol=0.02 * float(found[1].abs().max()))


@pytest.mark.parametrize("near_light", [False, True])
def test_absent_objects_with_any_pose_change_no_gradient(near_light: bool) -> None:
    view = camera_view(16, 16, 20.0)
    view = dataclasses.replace(view, light=near([0.1, 0.2, 0.2])) if near_light else view
    objects = posed([0, 4, 1], [[0.0, 0.0, 0.5], [0.0, 0.0, 0.4], [0.05, 0.0, 0.4]])
    objects = dataclasses.replace(objects, present=torch.tensor([True, False, True]))
    T = objects.T_world_object.clone()
    T[1] = torch.nan
    renderer, found = RasterRenderer(CATALOGUE, 2), []
    for poses in (objects.T_world_object, T):
        torch.manual_seed(0)
        found.append(all_gradients(renderer, dataclasses.replace(objects, T_world_object=poses), view))
    assert not found[1]["objects"][1].any()
    for name, gradient in found[1].items():
        assert torch.equal(gradient, found[0][name])


@pytest.mark.parametrize(("scenes", "slots"), [(0, 3), (2, 0), (0, 0)])
def test_gradients_of_nothing(scenes: int, slots: int) -> None:
    objects = Objects(
        torch.zeros(scenes, slots, dtype=torch.int64),
        torch.eye(4).repeat(scenes, slots, 1, 1),
        torch.ones(scenes, slots, dtype=torch.bool),
    )
    view, renderer = camera_view(8, 6, 10.0, (scenes,)), RasterRenderer(CATALOGUE, 2)
    gradients = all_gradients(renderer, objects, view)
    assert gradients["objects"].shape == (scenes, slots, 4, 4)
    assert not any(bool(gradient.any()) for name, gradient in gradients.items() if name != "background")
    behind = view.background_rgb.clone().requires_grad_()
    weights = torch.rand(behind.shape)
    (weights * renderer.render(objects, dataclasses.replace(view, background_rgb=behind)).rgb).sum().backward()
    assert behind.grad is not None
    torch.testing.assert_close(behind.grad, weights)


def test_what_the_near_plane_cuts_moves_by_its_other_borders() -> None:
    """A floor that runs from under the camera to 1 m away: only its far end is a border; its near end is no step."""
    floor = quad([[-5, 0.2, -1], [-5, 0.2, 1], [5, 0.2, 1], [5, 0.2, -1]])
    view, weights = camera_view(24, 24, 20.0, near_m=0.05), smooth_weights((24, 24, 3))
    objects, renderer = posed([0], [[0.0, 0.0, 0.013]]), RasterRenderer(catalogue_of(floor), 4)
    T = objects.T_world_object.clone().requires_grad_()
    image = renderer.render(dataclasses.replace(objects, T_world_object=T), view)
    (gradient,) = torch.autograd.grad((weights * image.rgb).sum(), T)
    row = 12 + 20 * 0.2 / 1.013
    colour = image.rgb[20, 12].detach() - 0.1
    expected = (weights[int(row)].sum(0) * colour).sum() * 20 * 0.2 / 1.013**2
    assert float(gradient[0, 2, 3]) == pytest.approx(float(expected), rel=1e-3)


def spoilt(surfaces: Surfaces, **changes: Tensor) -> Surfaces:
    return dataclasses.replace(surfaces, **changes)


@pytest.mark.parametrize("method", ["render", "masks"])
def test_bad_surfaces_are_refused(method: str) -> None:
    renderer = RasterRenderer(catalogue_of(box()))
    objects, view, own = posed([0], [[0.0, 0.0, 0.5]]), camera_view(8, 8, 10.0), renderer.surfaces()
    draw = getattr(renderer, method)
    with pytest.raises(ValueError, match=r"surfaces\.vertices_m: expected \(8, 3\), got \(9, 3\); start from"):
        draw(objects, view, spoilt(own, vertices_m=torch.zeros(9, 3)))
    with pytest.raises(ValueError, match=r"surfaces\.corner_rgb: expected \(12, 3, 3\), got \(12, 3\); start from"):
        draw(objects, view, spoilt(own, corner_rgb=torch.zeros(12, 3)))
    with pytest.raises(ValueError, match=r"surfaces\.corner_normals: expected finite numbers, got NaN or infinity; check"):
        draw(objects, view, spoilt(own, corner_normals=own.corner_normals / 0))


@pytest.mark.parametrize("method", ["render", "masks", "prefix_images"])
def test_bad_scenes_are_refused(method: str) -> None:
    draw, view = getattr(RasterRenderer(CATALOGUE), method), camera_view(8, 8, 10.0)
    objects = posed([0, 1], [[0.0, 0.0, 0.5]] * 2)
    many = posed([0] * 128, [[0.0, 0.0, 0.5]] * 128)
    with pytest.raises(ValueError, match="objects: expected at most 127 slots a scene, got 128; drop those"):
        draw(many, view)
    with pytest.raises(ValueError, match=r"class_ids: expected 0\.\.5, .*, got 0\.\.6; give empty slots"):
        draw(dataclasses.replace(objects, class_ids=torch.tensor([0, 6])), view)
    with pytest.raises(ValueError, match="T_world_object: expected finite poses of present objects, got NaN"):
        draw(dataclasses.replace(objects, T_world_object=objects.T_world_object * torch.nan), view)
    none = dataclasses.replace(view.camera, height_px=0)
    with pytest.raises(ValueError, match="camera: expected an image of at least 1 x 1 px, got 8 x 0; set width_px"):
        draw(objects, dataclasses.replace(view, camera=none, background_rgb=torch.zeros(0, 8, 3)))


def test_127_slots_are_drawn() -> None:
    objects = posed([0] * 127, [[0.0, 0.0, 0.5 + 0.01 * (k % 7)] for k in range(127)])
    gradients = all_gradients(RasterRenderer(CATALOGUE, 1), objects, camera_view(6, 6, 10.0))
    assert_finite(gradients)


def test_faces_out_of_range_are_refused() -> None:
    mesh = box()
    with pytest.raises(ValueError, match=r"mesh 'box': face indices must lie in 0\.\.7, got -1\.\.7; repair the file"):
        RasterRenderer(catalogue_of(dataclasses.replace(mesh, faces=np.where(mesh.faces == 0, -1, mesh.faces))))
    with pytest.raises(ValueError, match=r"mesh 'poster': texture: expected an image and finite corner_uv \(2, 3, 2\)"):
        texture = dataclasses.replace(poster().texture, corner_uv=np.zeros((1, 3, 2), np.float32))  # type: ignore[type-var]
        RasterRenderer(catalogue_of(dataclasses.replace(poster(), texture=texture)))
