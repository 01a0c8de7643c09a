"""The rasteriser's own passes against the generic ones, whole-image differences, ray casting; threads, bad input, any pose."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from renderer_scenes import alternatives_of, ball, box, camera_view, catalogue_of, mesh_of, posed, quad, square, table_scene
from torch import Tensor

from inverse_graphics.compositing import prefix_images, swap_errors
from inverse_graphics.poses import move
from inverse_graphics.protocols import StackRenderer
from inverse_graphics.types import Catalogue, Layers, Mesh, Objects, RenderOutput, View, map_tensors
from renderers import RasterRenderer
from renderers.raster.meshes import pack_meshes
from renderers.tangents import Tangents

CATALOGUE = catalogue_of(box(), ball(0.05, 2), square(0.08))
Draw = Callable[[Objects, View], Tensor]


class LayersOnly:
    """A renderer without the fused passes, so that ``compositing`` merges its layers."""

    name, is_differentiable = "layers", False

    def __init__(self, renderer: RasterRenderer) -> None:
        self.renderer, self.catalogue, self.samples_per_axis = renderer, renderer.catalogue, renderer.samples_per_axis

    def layers(self, objects: Objects, view: View, samples_per_axis: int | None = None) -> Layers:
        return self.renderer.layers(objects, view, samples_per_axis)

    def render(self, objects: Objects, view: View) -> RenderOutput:
        return self.renderer.render(objects, view)


@pytest.mark.parametrize("samples", [1, 2, 3])
@pytest.mark.parametrize("batch", [(4,), (2, 2), ()])
def test_fused_passes_are_the_generic_ones(samples: int, batch: tuple[int, ...]) -> None:
    def in_batch(tensor: Tensor) -> Tensor:
        return tensor.reshape(*batch, *tensor.shape[1:]) if batch else tensor[1]

    objects, view = table_scene(4, 3, 24, 3)
    objects, view = map_tensors(in_batch, objects), map_tensors(in_batch, view)
    renderer = RasterRenderer(CATALOGUE, samples)
    generic = LayersOnly(renderer)
    assert isinstance(renderer, StackRenderer)
    assert not isinstance(generic, StackRenderer)
    images = prefix_images(renderer, objects, view)
    assert images.shape == (*batch, 4, 24, 24, 3)
    torch.testing.assert_close(images, prefix_images(generic, objects, view), rtol=0, atol=1e-6)
    torch.testing.assert_close(images[..., -1, :, :, :], renderer.render(objects, view).rgb, rtol=0, atol=2e-7)
    target_rgb, alternatives = torch.rand(*batch, 24, 24, 3), alternatives_of(objects)
    errors = swap_errors(renderer, objects, alternatives, view, target_rgb)
    torch.testing.assert_close(errors, swap_errors(generic, objects, alternatives, view, target_rgb), rtol=1e-4, atol=1e-3)


def moved(objects: Objects, scene: int, slot: int, motion: Tensor) -> Objects:
    T = objects.T_world_object.clone()
    T[scene, slot] = move(T[scene, slot], motion)
    return Objects(objects.class_ids, T, objects.present)


def whole_image_slopes(draw: Draw, objects: Objects, view: View, loss_weights: Tensor, steps: Tensor) -> Tensor:
    """[b n 6] central differences of sum(weights * images), one object moved and everything drawn again each time."""
    slopes = torch.zeros_like(steps)
    for scene, slot, i in torch.cartesian_prod(*[torch.arange(size) for size in steps.shape]).tolist():
        motion = torch.eye(6)[i] * steps[scene, slot, i]
        ahead = (loss_weights * draw(moved(objects, scene, slot, motion), view)).sum(dtype=torch.float64)
        behind = (loss_weights * draw(moved(objects, scene, slot, -motion), view)).sum(dtype=torch.float64)
        slopes[scene, slot, i] = (ahead - behind) / (2 * steps[scene, slot, i])
    return slopes


def image_steps(objects: Objects, view: View, catalogue: Catalogue, step_px: float) -> Tensor:
    """[b n 6] steps that move an object's image by ``step_px``: metres, then radians (docs/renderers.md)."""
    origin = objects.T_world_object[..., 3]
    depth_m = (view.camera.T_camera_world[..., None, 2, :] * origin).sum(-1)
    metres = step_px * depth_m / view.camera.K_px[..., None, 0, 0]
    radius_m = torch.tensor([float(abs(torch.tensor(m.vertices_m)).norm(dim=-1).max()) for m in catalogue.meshes])
    radians = metres / radius_m[objects.class_ids]
    return torch.stack([metres] * 3 + [radians] * 3, -1)


def tangent_slopes(gradient: Tensor, T_world_object: Tensor) -> Tensor:
    """[b n 6] products of a matrix gradient with the derivatives along translations and rotations."""
    turns = []
    for i in range(3):
        hat = torch.linalg.cross(torch.eye(3)[i].expand(3, 3), torch.eye(3)).T
        turns.append((gradient[..., :3, :3] * (hat @ T_world_object[..., :3, :3])).sum((-2, -1)))
    return torch.cat([gradient[..., :3, 3], torch.stack(turns, -1)], -1)


def gradient_of(draw: Draw, objects: Objects, view: View, weights: Tensor) -> Tensor:
    T = objects.T_world_object.detach().clone().requires_grad_()
    (weights * draw(Objects(objects.class_ids, T, objects.present), view)).sum().backward()
    assert T.grad is not None
    return T.grad


def smooth_weights(shape: tuple[int, ...]) -> Tensor:
    """Low-frequency weights of pixels, other ones for every image and channel, so that no gradient cancels."""
    *images, height, width, _ = shape
    v, u = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    phase = torch.rand(*images, 1, 1, 3, generator=torch.Generator().manual_seed(3)) * 6.28
    return torch.sin(5 * u[..., None] + 4 * v[..., None] + phase)


def overlapping_scene() -> tuple[Objects, View]:
    """Two scenes of three objects that hide one another in part, one slot empty."""
    objects, view = table_scene(2, 3, 40, 2, seed=4)
    T = objects.T_world_object.clone()
    T[:, :, :2, 3] = torch.tensor([[0.0, 0.0], [0.03, 0.05], [-0.04, 0.03]])
    present = torch.ones_like(objects.present)
    present[1, 1] = False
    return Objects(objects.class_ids, T, present), view


@pytest.mark.parametrize("tangents", ["planar", "full"])
@pytest.mark.parametrize("what", ["render", "prefix_images"])
def test_gradients_are_differences_of_whole_images(what: str, tangents: Tangents) -> None:
    objects, view = overlapping_scene()
    renderer = RasterRenderer(CATALOGUE, 2, "finite-difference", tangents, step_px=1.5)

    def draw(objects: Objects, view: View) -> Tensor:
        return renderer.render(objects, view).rgb if what == "render" else renderer.prefix_images(objects, view)

    ids = renderer.render(objects, view)
    assert float(ids.visible_fraction[objects.present].min()) < 0.7
    weights = smooth_weights(tuple(draw(objects, view).shape))
    slopes = tangent_slopes(gradient_of(draw, objects, view, weights), objects.T_world_object)
    expected = whole_image_slopes(draw, objects, view, weights, image_steps(objects, view, CATALOGUE, 1.5))
    used = [0, 1, 5] if tangents == "planar" else list(range(6))
    torch.testing.assert_close(slopes[..., used], expected[..., used], rtol=2e-3, atol=2e-2)
    assert not slopes[..., [i for i in range(6) if i not in used]].any()
    assert not slopes[~objects.present].any()


@pytest.mark.parametrize(("samples", "for_turns"), [(2, 0.95), (4, 0.99)])
@pytest.mark.parametrize("what", ["render", "prefix_images"])
def test_gradients_point_where_those_of_a_finely_sampled_image_do(what: str, samples: int, for_turns: float) -> None:
    objects, view = overlapping_scene()

    def draw_with(samples: int) -> Draw:
        renderer = RasterRenderer(CATALOGUE, samples, "finite-difference", "full")
        if what == "render":
            return lambda objects, view: renderer.render(objects, view).rgb
        return renderer.prefix_images

    weights = smooth_weights(tuple(draw_with(2)(objects, view).shape))
    slopes = tangent_slopes(gradient_of(draw_with(samples), objects, view, weights), objects.T_world_object)
    expected = whole_image_slopes(draw_with(8), objects, view, weights, image_steps(objects, view, CATALOGUE, 0.4))
    for part, least in ((slice(0, 3), 0.99), (slice(3, 6), for_turns)):
        cosine = torch.nn.functional.cosine_similarity(slopes[..., part].flatten(), expected[..., part].flatten(), dim=0)
        assert float(cosine) > least


def everything(renderer: RasterRenderer, objects: Objects, view: View) -> list[Tensor]:
    image, layers = renderer.render(objects, view), renderer.layers(objects, view)
    gradient = gradient_of(renderer.prefix_images, objects, view, smooth_weights((5, 4, 24, 24, 3)))
    errors = renderer.swap_errors(objects, alternatives_of(objects), view, image.rgb.flip(0))
    return [
        image.rgb,
        image.depth_m,
        image.object_ids,
        image.visible_fraction,
        layers.rgb,
        layers.depth_m,
        gradient,
        errors,
        renderer.prefix_images(objects, view),
    ]


def test_the_same_bits_whatever_the_threads() -> None:
    objects, view = table_scene(5, 3, 24, 3, seed=2)
    renderer = RasterRenderer(CATALOGUE, 2)
    threads = numba.get_num_threads()
    try:
        runs: list[list[Tensor]] = []
        for count in (1, min(2, threads), min(2, threads)):
            numba.set_num_threads(count)
            runs.append(everything(renderer, objects, view))
    finally:
        numba.set_num_threads(threads)
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))


def test_sphere_through_the_near_plane_is_the_ray_cast_one() -> None:
    """Seen from outside through a near plane that cuts its front off, so that its inside shows."""
    centre, radius_m, near_m = torch.tensor([0.03, -0.02, 0.5], dtype=torch.float64), 0.2, 0.34
    view = camera_view(48, 40, 50.0, near_m=near_m)
    image = RasterRenderer(catalogue_of(ball(radius_m, 4)), 1).render(posed([0], [centre.tolist()]), view)
    v, u = torch.meshgrid(torch.arange(40) + 0.5, torch.arange(48) + 0.5, indexing="ij")
    rays = torch.stack([(u - 24) / 50, (v - 20) / 50, torch.ones_like(u)], -1).double()
    a, b, c = (rays**2).sum(-1), rays @ centre, float(centre @ centre) - radius_m**2
    root = (b**2 - a * c).clamp(min=0).sqrt()
    nearest_m, farthest_m = (b - root) / a, (b + root) / a
    depth_m = torch.where(nearest_m >= near_m, nearest_m, farthest_m)
    depth_m = torch.where((b**2 < a * c) | (depth_m < near_m), 0.0, depth_m)
    margin_m = 2e-3
    sure = ((nearest_m - near_m).abs() > margin_m) & ((farthest_m - near_m).abs() > margin_m) & (root > 0.03)
    inside = sure & (nearest_m < near_m) & (depth_m > 0)
    assert int(inside.sum()) > 150
    assert int((sure & (nearest_m > near_m)).sum()) > 50
    torch.testing.assert_close(image.depth_m[sure].double(), depth_m[sure], rtol=0, atol=1.5e-3)
    missed = b**2 < a * c
    assert not image.depth_m[missed].any()


def test_open_meshes_show_their_back_faces() -> None:
    """A tube without lids, looked into: its far wall is seen from inside, lit with the normal turned round."""
    wall = [[-0.1, 0.1, 0.0], [0.1, 0.1, 0.0], [0.1, 0.1, 0.3], [-0.1, 0.1, 0.3]]
    outwards, inwards = quad(wall), quad(wall[::-1])
    view = camera_view(32, 32, 40.0, light=(0.0, -0.8, -0.6))
    images = [RasterRenderer(catalogue_of(mesh), 1).render(posed([0], [[0.0, 0.0, 0.6]]), view) for mesh in (outwards, inwards)]
    assert int((images[0].object_ids == 0).sum()) > 10
    torch.testing.assert_close(images[0].rgb, images[1].rgb, rtol=0, atol=1e-5)
    lit = torch.tensor([0.5, 0.6, 0.7]) * (0.3 + 0.7 * 0.8)
    hit = images[0].object_ids == 0
    torch.testing.assert_close(images[0].rgb[hit], lit.expand(int(hit.sum()), 3), rtol=0, atol=1e-4)


def test_absent_objects_may_have_any_pose() -> None:
    objects, view = table_scene(3, 3, 16, 3)
    T = torch.where(objects.present[..., None, None], objects.T_world_object, torch.nan)
    with_nan = Objects(objects.class_ids, T.clone().requires_grad_(), objects.present)
    renderer = RasterRenderer(CATALOGUE, 2)
    assert torch.equal(renderer.render(with_nan, view).rgb.detach(), renderer.render(objects, view).rgb)
    gradient = gradient_of(renderer.prefix_images, with_nan, view, torch.ones(3, 4, 16, 16, 3))
    assert bool(torch.isfinite(gradient[objects.present]).all())
    errors = renderer.swap_errors(with_nan, alternatives_of(objects), view, view.background_rgb)
    assert bool(torch.isfinite(errors).all())


@pytest.mark.parametrize(("scenes", "slots"), [(0, 3), (2, 0), (0, 0)])
def test_nothing_to_draw(scenes: int, slots: int) -> None:
    view = camera_view(8, 6, 10.0, (scenes,))
    T = torch.eye(4).repeat(scenes, slots, 1, 1).requires_grad_()
    objects = Objects(torch.zeros(scenes, slots, dtype=torch.int64), T, torch.ones(scenes, slots, dtype=torch.bool))
    renderer = RasterRenderer(CATALOGUE, 2)
    image, prefixes = renderer.render(objects, view), renderer.prefix_images(objects, view)
    assert prefixes.shape == (scenes, slots + 1, 6, 8, 3)
    assert torch.equal(image.rgb, view.background_rgb)
    assert renderer.layers(objects, view).alpha.shape == (scenes, slots, 12, 16)
    assert renderer.swap_errors(objects, alternatives_of(objects), view, image.rgb.detach()).shape == (
        scenes,
        slots,
        5,
        slots + 1,
    )
    prefixes.sum().backward()
    assert T.grad is not None
    assert T.grad.shape == (scenes, slots, 4, 4)


def bad_pose(objects: Objects, view: View) -> tuple[Objects, View]:
    T = objects.T_world_object.clone()
    T[0, 0, 1, 3] = torch.nan
    return dataclasses.replace(objects, T_world_object=T, present=torch.ones_like(objects.present)), view


def bad_class(objects: Objects, view: View) -> tuple[Objects, View]:
    return dataclasses.replace(objects, class_ids=objects.class_ids + 3), view


def bad_background(objects: Objects, view: View) -> tuple[Objects, View]:
    return objects, dataclasses.replace(view, background_rgb=torch.zeros(2, 8, 9, 3))


def bad_size(objects: Objects, view: View) -> tuple[Objects, View]:
    camera = dataclasses.replace(view.camera, width_px=0)
    return objects, dataclasses.replace(view, camera=camera, background_rgb=torch.zeros(2, 8, 0, 3))


def bad_camera(objects: Objects, view: View) -> tuple[Objects, View]:
    return objects, dataclasses.replace(view, camera=dataclasses.replace(view.camera, K_px=view.camera.K_px / 0))


MESSAGES: dict[Callable[[Objects, View], tuple[Objects, View]], str] = {
    bad_pose: "T_world_object: expected finite poses of present objects, got NaN or infinity; check what produced them",
    bad_class: "class_ids: expected 0..2, the catalogue's classes, got 3..5; give empty slots any class and mark them in "
    "objects.present",
    bad_background: "background_rgb: expected (2, 8, 8, 3), got (2, 8, 9, 3); give one colour a pixel of the camera's image (an "
    "expanded view will do)",
    bad_size: "camera: expected an image of at least 1 x 1 px, got 0 x 8; set width_px and height_px",
    bad_camera: "camera: expected finite K_px and T_camera_world, got NaN or infinity; check what produced them",
}


@pytest.mark.parametrize("spoil", MESSAGES, ids=lambda spoil: spoil.__name__)
@pytest.mark.parametrize("method", ["render", "layers", "prefix_images", "swap_errors"])
def test_bad_input_is_refused(spoil: Callable[[Objects, View], tuple[Objects, View]], method: str) -> None:
    objects, view = table_scene(2, 3, 8, 3)
    objects = dataclasses.replace(objects, class_ids=torch.tensor([[0, 1, 2]] * 2))
    alternatives, target_rgb = alternatives_of(objects), view.background_rgb
    objects, view = spoil(objects, view)
    more: tuple[Any, ...] = (alternatives, view, target_rgb) if method == "swap_errors" else (view,)
    with pytest.raises(ValueError) as caught:
        getattr(RasterRenderer(CATALOGUE), method)(objects, *more)
    assert str(caught.value) == MESSAGES[spoil]


def test_bad_batches_and_alternatives_are_refused() -> None:
    objects, view = table_scene(2, 3, 8, 3)
    renderer, target_rgb = RasterRenderer(CATALOGUE), view.background_rgb
    alternatives = alternatives_of(objects)
    with pytest.raises(ValueError, match=r"view: expected the objects' batch dimensions \(2,\), got \(\); expand the view"):
        renderer.render(objects, map_tensors(lambda x: x[0], view))
    with pytest.raises(ValueError, match=r"alternatives: expected \(2, 3\) .*, got \(2, 2, 5\); give every slot"):
        renderer.swap_errors(objects, map_tensors(lambda x: x[:, :2], alternatives), view, target_rgb)
    with pytest.raises(ValueError, match=r"target_rgb: expected \(2, 8, 8, 3\), got \(2, 7, 8, 3\); compare with images"):
        renderer.swap_errors(objects, alternatives, view, target_rgb[:, :7])
    worse = dataclasses.replace(alternatives, class_ids=alternatives.class_ids - 1)
    with pytest.raises(ValueError, match=r"alternatives\.class_ids: expected 0\.\.2, .*, got -1\.\."):
        renderer.swap_errors(objects, worse, view, target_rgb)


def test_bad_settings_and_meshes_are_refused() -> None:
    with pytest.raises(ValueError, match="samples_per_axis: expected at least 1, got 0; use 1 for no antialiasing"):
        RasterRenderer(CATALOGUE, 0)
    with pytest.raises(ValueError, match="samples_per_axis: expected at least 1, got 0; use 1 for no antialiasing"):
        RasterRenderer(CATALOGUE).layers(*table_scene(1, 1, 8, 3), samples_per_axis=0)
    with pytest.raises(ValueError, match="step_px: expected a positive number of pixels, got nan; 1 is a good start"):
        RasterRenderer(CATALOGUE, step_px=float("nan"))
    with pytest.raises(ValueError, match="catalogue: expected at least one mesh, got none"):
        pack_meshes(catalogue_of())
    with pytest.raises(ValueError, match=r"mesh 'm': face indices must lie in 0\.\.2, got 0\.\.3"):
        pack_meshes(catalogue_of(dataclasses.replace(triangle(), faces=torch.tensor([[0, 1, 3]]).int().numpy())))
    with pytest.raises(ValueError, match="mesh 'm': vertices must be finite"):
        pack_meshes(catalogue_of(dataclasses.replace(triangle(), vertices_m=triangle().vertices_m + float("inf"))))


def triangle() -> Any:
    return mesh_of("m", torch.eye(3).numpy(), torch.tensor([[0, 1, 2]]).numpy(), (1.0, 1.0, 1.0))


numbers = st.one_of(st.floats(-1.5, 1.5, width=32), st.sampled_from([0.0, 1e-6, 30.0, -30.0, 1e6, -1e9, 1e17, -1e30, 3e38]))
poses = st.tuples(st.integers(0, 2), st.lists(st.floats(-4, 4, width=32), min_size=3, max_size=3), numbers, numbers, numbers)


@settings(max_examples=60)
@given(st.lists(poses, min_size=0, max_size=3), st.sampled_from([1e-3, 0.01, 0.4]), st.integers(1, 2))
@example([(0, [0.0, 0.0, 0.0], 1e22, 0.0, 1.0)], 0.01, 2)
@example([(2, [0.0, 0.0, 0.0], 0.0, 0.0, 0.0), (1, [1.0, 0.0, 0.0], 3e38, 3e38, 3e38)], 0.01, 1)
def test_any_pose_is_drawn_without_surprise(slots: list[Any], near_m: float, samples: int) -> None:
    """In view, on the camera, behind it, far away, and so far that numbers overflow."""
    view = camera_view(12, 10, 9.0, near_m=near_m)
    T = (
        posed([0] * len(slots), [[0.0] * 3] * len(slots), [slot[1] for slot in slots]).T_world_object
        if slots
        else torch.eye(4)[:0, None]
    )
    T = T.reshape(len(slots), 4, 4)
    T[:, :3, 3] = torch.tensor([slot[2:] for slot in slots], dtype=torch.float64).to(torch.float32).reshape(-1, 3)
    objects = Objects(
        torch.tensor([slot[0] for slot in slots], dtype=torch.int64), T.requires_grad_(), torch.ones(len(slots)) > 0
    )
    renderer = RasterRenderer(CATALOGUE, samples, "finite-difference", "full")
    image, prefixes = renderer.render(objects, view), renderer.prefix_images(objects, view)
    for rgb in (image.rgb, prefixes):
        assert bool(((rgb >= -1e-6) & (rgb <= 1 + 1e-6)).all())
    seen = image.object_ids >= 0
    assert bool((image.object_ids < len(slots)).all())
    assert bool((image.depth_m[seen] >= near_m * (1 - 1e-4)).all())
    assert bool(torch.isfinite(image.depth_m).all())
    assert not image.depth_m[~seen].any()
    assert bool(((image.visible_fraction >= 0) & (image.visible_fraction <= 1)).all())
    prefixes.square().sum().backward()
    assert T.grad is not None
    assert not bool(torch.isnan(T.grad).any())
    assert bool(torch.isfinite(swap_errors(renderer, objects, alternatives_of(objects), view, image.rgb.detach())).all())


def test_a_face_of_one_colour_beside_a_smooth_one_keeps_its_colour() -> None:
    """The colour of a face of one colour is kept from sample to sample, whatever other faces are shown between."""
    stripes = box((0.1, 0.1, 0.1))
    smooth = ball(0.04, 2)
    both = Mesh(
        name="both",
        vertices_m=np.concatenate([stripes.vertices_m, smooth.vertices_m + np.asarray([0, 0, -0.03], np.float32)]),
        faces=np.concatenate([stripes.faces, smooth.faces + len(stripes.vertices_m)]),
        corner_rgb=np.concatenate([stripes.corner_rgb, smooth.corner_rgb]),
        corner_normals=np.concatenate([stripes.corner_normals, smooth.corner_normals]),
    )
    renderer = RasterRenderer(catalogue_of(both), 1)
    objects, view = posed([0], [[0.0, 0.0, 0.4]], [[0.3, 0.2, 0.1]]), camera_view(64, 64, 100.0)
    layers, image = renderer.layers(objects, view), renderer.render(objects, view)
    seen = image.object_ids >= 0
    torch.testing.assert_close(layers.rgb[0][seen], image.rgb[seen], rtol=0, atol=1e-6)
