"""Analytic gradients of whole images: against differences of finely sampled images, exactly where images are linear; bits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numba
import pytest
import torch
from gradient_scenes import (
    SIZE_PX,
    Case,
    Loss,
    Move,
    agreement,
    camera_steps,
    differences,
    make_cases,
    many,
    move_camera,
    move_light,
    move_objects,
    object_steps,
    slopes,
    smooth_weights,
)
from renderer_scenes import ball, box, camera_view, catalogue_of, posed, square, table_scene
from torch import Tensor

from inverse_graphics.compositing import box_filter
from inverse_graphics.types import Objects, View, map_tensors
from renderers import RasterRenderer
from renderers.raster import images
from renderers.raster.images import Surfaces

CASES = make_cases()
FINE = 12
"""Samples a pixel along each axis of the images whose differences are taken."""
CATALOGUE = catalogue_of(box(), ball(0.05, 2), square(0.08))


def image_loss(renderer: RasterRenderer) -> Loss:
    weights = smooth_weights((SIZE_PX, SIZE_PX, 3))
    return lambda objects, view: (weights * renderer.render(objects, view).rgb).sum((-3, -2, -1), dtype=torch.float64)


def mask_loss(renderer: RasterRenderer) -> Loss:
    def loss(objects: Objects, view: View) -> Tensor:
        weights = smooth_weights((objects.class_ids.shape[-1], SIZE_PX, SIZE_PX, 1))[..., 0]
        return (weights * renderer.masks(objects, view)).sum((-3, -2, -1), dtype=torch.float64)

    return loss


def depth_loss(renderer: RasterRenderer, finer: int = 1) -> Loss:
    """Of a depth image drawn on a finer grid and averaged over the pixels of the case's own."""
    weights = smooth_weights((SIZE_PX, SIZE_PX, 1))

    def loss(objects: Objects, view: View) -> Tensor:
        K_px = view.camera.K_px * torch.tensor([finer, finer, 1.0])[:, None]
        size_px = SIZE_PX * finer
        camera = dataclasses.replace(view.camera, K_px=K_px, width_px=size_px, height_px=size_px)
        behind = torch.zeros(()).expand(*K_px.shape[:-2], size_px, size_px, 3)
        depth_m = renderer.render(objects, View(camera, view.light, behind)).depth_m
        return (weights * box_filter(depth_m[..., None], finer)).sum((-3, -2, -1), dtype=torch.float64)

    return loss


def assert_slopes_agree(rough: Loss, fine: Loss, case: Case, move: Move, steps: Tensor, cosine: float, length: float) -> None:
    """The gradient is that of the finely sampled image, whose differences no longer depend on their step."""
    expected = differences(fine, case, move, 0.4 * steps) / 0.4
    converged = agreement(differences(fine, case, move, 0.2 * steps) / 0.2, expected)
    assert converged[0] > 0.999
    assert converged[1] == pytest.approx(1, abs=0.04)
    got = agreement(slopes(rough, case, move, steps), expected)
    assert got[0] > cosine
    assert got[1] == pytest.approx(1, abs=length)


@pytest.mark.parametrize("moved", ["objects", "camera"])
@pytest.mark.parametrize("name", CASES)
def test_image_gradients_are_those_of_a_finely_sampled_image(name: str, moved: str) -> None:
    case = CASES[name]
    rough, fine = (image_loss(RasterRenderer(case.catalogue, samples)) for samples in (4, FINE))
    move, steps = (move_objects, object_steps(case)) if moved == "objects" else (move_camera, camera_steps())
    assert_slopes_agree(rough, fine, case, move, steps, cosine=0.99, length=0.05)


@pytest.mark.parametrize("name", ["silhouettes", "occlusion", "tube", "intersection"])
def test_mask_gradients_are_those_of_finely_sampled_masks(name: str) -> None:
    case = CASES[name]
    rough, fine = (mask_loss(RasterRenderer(case.catalogue, samples)) for samples in (4, FINE))
    assert_slopes_agree(rough, fine, case, move_objects, object_steps(case), cosine=0.995, length=0.05)


@pytest.mark.parametrize("moved", ["objects", "camera"])
@pytest.mark.parametrize("name", ["silhouettes", "occlusion", "self-occlusion", "intersection", "texture"])
def test_depth_gradients_are_those_of_depth_averaged_over_pixels(name: str, moved: str) -> None:
    case = CASES[name]
    rough, fine = depth_loss(RasterRenderer(case.catalogue, 1)), depth_loss(RasterRenderer(case.catalogue, 1), FINE)
    move, steps = (move_objects, object_steps(case)) if moved == "objects" else (move_camera, camera_steps())
    assert_slopes_agree(rough, fine, case, move, steps, cosine=0.99, length=0.1)


@pytest.mark.parametrize("name", ["silhouettes", "texture", "near light"])
def test_light_gradients_are_those_of_the_same_samples(name: str) -> None:
    """Light moves no border, so differences need no finer image."""
    case = CASES[name]
    loss, steps = image_loss(RasterRenderer(case.catalogue, 2)), torch.tensor([2e-3] * 3 + [1e-2] * 2)
    expected = differences(loss, case, move_light, steps)
    assert bool((expected.abs() > 1e-4).all())
    torch.testing.assert_close(slopes(loss, case, move_light, steps), expected, rtol=2e-3, atol=3e-4)


@pytest.mark.parametrize("name", ["occlusion", "texture", "near light"])
def test_gradients_by_colours_background_and_normals(name: str) -> None:
    """Images are linear in colours and background; normals move no border."""
    case, generator = CASES[name], torch.Generator().manual_seed(0)
    renderer, weights = RasterRenderer(case.catalogue, 2), smooth_weights((SIZE_PX, SIZE_PX, 3))

    def image_sum(surfaces: Surfaces, background_rgb: Tensor) -> Tensor:
        view = dataclasses.replace(case.view, background_rgb=background_rgb)
        return (weights * renderer.render(case.objects, view, surfaces).rgb).sum(dtype=torch.float64)

    start = map_tensors(lambda x: x.requires_grad_(), renderer.surfaces())
    background_rgb = case.view.background_rgb.clone().requires_grad_()
    by_rgb, by_normals, by_background = torch.autograd.grad(
        image_sum(start, background_rgb), (start.corner_rgb, start.corner_normals, background_rgb)
    )
    start, background_rgb = map_tensors(torch.Tensor.detach, start), background_rgb.detach()

    def assert_is(slope: Tensor, change: Callable[[float], Tensor], step: float, rel: float) -> None:
        expected = (change(step) - change(-step)) / (2 * step)
        assert abs(float(expected)) > 0.05
        assert float(slope) == pytest.approx(float(expected), rel=rel)

    rgb, normals, behind = (torch.randn(x.shape, generator=generator) for x in (by_rgb, by_normals, by_background))

    def changed(t: float, rgb: Tensor | float = 0.0, normals: Tensor | float = 0.0) -> Tensor:
        surfaces = dataclasses.replace(
            start, corner_rgb=start.corner_rgb + t * rgb, corner_normals=start.corner_normals + t * normals
        )
        return image_sum(surfaces, background_rgb)

    assert_is((by_rgb * rgb).sum(), lambda t: changed(t, rgb=rgb), 0.5, 1e-4)
    assert_is((by_background * behind).sum(), lambda t: image_sum(start, background_rgb + t * behind), 0.5, 1e-4)
    assert_is((by_normals * normals).sum(), lambda t: changed(t, normals=normals), 1e-3, 1e-2)


@pytest.mark.parametrize("name", ["self-occlusion", "texture", "near light"])
def test_gradients_by_vertices(name: str) -> None:
    case = CASES[name]

    def loss_of(samples: int) -> Callable[[Tensor], Tensor]:
        renderer, weights = RasterRenderer(case.catalogue, samples), smooth_weights((SIZE_PX, SIZE_PX, 3))

        def loss(vertices_m: Tensor) -> Tensor:
            surfaces = dataclasses.replace(renderer.surfaces(), vertices_m=vertices_m)
            return (weights * renderer.render(case.objects, case.view, surfaces).rgb).sum(dtype=torch.float64)

        return loss

    vertices_m, fine = RasterRenderer(case.catalogue, 1).surfaces().vertices_m, loss_of(FINE)
    leaf = vertices_m.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss_of(4)(leaf), leaf)
    heaviest = gradient.abs().amax(-1).argsort(descending=True)[:4]
    moves = torch.zeros(12, *vertices_m.shape)
    moves[torch.arange(12), heaviest.repeat_interleave(3), torch.arange(3).repeat(4)] = 0.002
    expected = torch.stack([(fine(vertices_m + move) - fine(vertices_m - move)) / 0.004 for move in moves])
    cosine, length = agreement(gradient[heaviest].flatten().double(), expected)
    assert cosine > 0.99
    assert length == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", ["occlusion", "texture"])
def test_vertices_that_move_together_are_an_object_that_moves(name: str) -> None:
    case = CASES[name]
    renderer, T = RasterRenderer(case.catalogue, 2), case.objects.T_world_object.clone().requires_grad_()
    surfaces = map_tensors(lambda x: x.requires_grad_(), renderer.surfaces())
    image = renderer.render(dataclasses.replace(case.objects, T_world_object=T), case.view, surfaces)
    (smooth_weights((SIZE_PX, SIZE_PX, 3)) * image.rgb).sum().backward()
    assert T.grad is not None
    assert surfaces.vertices_m.grad is not None
    sizes = [len(mesh.vertices_m) for mesh in case.catalogue.meshes]
    summed = torch.stack([part.sum(0) for part in surfaces.vertices_m.grad.split(sizes)])
    expected = (T.detach()[:, :3, :3].mT @ T.grad[:, :3, 3:])[..., 0]
    torch.testing.assert_close(summed, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_a_square_over_a_wall_in_closed_form() -> None:
    """Its edges lie between samples: colour, mask and depth at its sides, whose motion counts whole."""
    view = camera_view(32, 32, 32.0)
    squares = catalogue_of(square(0.25), square(3.0, "wall"))
    squares.meshes[1].corner_rgb[:] = 0.2
    objects = posed([0, 1], [[0.01, 0.0, 1.0], [0.0, 0.0, 2.0]])
    weights = (torch.arange(32) + 0.5)[None, :] ** 2
    left, right, rows = 16 + 32 * (0.01 - 0.25), 16 + 32 * (0.01 + 0.25), 16
    jump = float((torch.tensor([0.5, 0.6, 0.7]) - 0.2).sum())
    sides = 32 * rows * ((int(right) + 0.5) ** 2 - (int(left) + 0.5) ** 2)
    for samples in (1, 2, 4):
        renderer, T = RasterRenderer(squares, samples), objects.T_world_object.clone().requires_grad_()
        moved = dataclasses.replace(objects, T_world_object=T)
        image, masks = renderer.render(moved, view), renderer.masks(moved, view)
        losses = ((weights[..., None] * image.rgb).sum(), (weights * masks[0]).sum(), (weights * image.depth_m).sum())
        of_wall = float((weights * (image.object_ids == 1)).sum())
        for loss, step, receding in zip(losses, (jump, 1.0, -1.0), (0.0, 0.0, of_wall), strict=True):
            (gradient,) = torch.autograd.grad(loss, T, retain_graph=True)
            assert float(gradient[0, 0, 3]) == pytest.approx(sides * step, rel=1e-4)
            assert float(gradient[1, 0, 3]) == pytest.approx(0, abs=1e-2)
            assert float(gradient[1, 2, 3]) == pytest.approx(receding, rel=1e-4, abs=1e-2)


def test_prefix_gradients_are_the_sum_of_those_of_cut_scenes() -> None:
    objects, view = table_scene(3, 3, 24, 3, seed=4)
    objects = dataclasses.replace(objects, present=torch.tensor([[True] * 3, [True, False, True], [True] * 3]))
    renderer, weights = RasterRenderer(CATALOGUE, 2), smooth_weights((3, 4, 24, 24, 3))

    def leaves() -> tuple[list[Tensor], Objects, View]:
        T, camera = objects.T_world_object.clone().requires_grad_(), view.camera.T_camera_world.clone().requires_grad_()
        light, behind = view.light.direction_world.clone().requires_grad_(), view.background_rgb.clone().requires_grad_()
        seen = View(
            dataclasses.replace(view.camera, T_camera_world=camera),
            dataclasses.replace(view.light, direction_world=light),
            behind,
        )
        return [T, camera, light, behind], dataclasses.replace(objects, T_world_object=T), seen

    inputs, theirs, seen = leaves()
    gradients = torch.autograd.grad((weights * renderer.prefix_images(theirs, seen)).sum(), inputs)
    inputs, theirs, seen = leaves()
    total = torch.zeros(())
    for count in range(4):
        cut = dataclasses.replace(theirs, present=theirs.present & (torch.arange(3) < count))
        total = total + (weights[:, count] * renderer.render(cut, seen).rgb).sum()
    for got, expected in zip(gradients, torch.autograd.grad(total, inputs), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))


def all_gradients(objects: Objects, view: View, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Of image, depth, masks and prefixes, by everything, surfaces first."""
    renderer = RasterRenderer(CATALOGUE, 2)
    moving = map_tensors(lambda x: x.to(dtype).clone().requires_grad_() if x.is_floating_point() else x, objects)
    seen = map_tensors(lambda x: x.to(dtype).clone().requires_grad_(), view)
    surfaces = map_tensors(lambda x: x.to(dtype).requires_grad_(), renderer.surfaces())
    image, masks = renderer.render(moving, seen, surfaces), renderer.masks(moving, seen, surfaces)
    assert image.rgb.dtype == image.depth_m.dtype == masks.dtype == dtype
    outputs = (image.rgb, image.depth_m, masks, renderer.prefix_images(moving, seen))
    light = seen.light
    inputs = [surfaces.vertices_m, surfaces.corner_rgb, surfaces.corner_normals, moving.T_world_object, seen.background_rgb]
    inputs += [seen.camera.T_camera_world, light.ambient, light.diffuse, light.direction_world]
    weights = [torch.rand(x.shape, generator=torch.Generator().manual_seed(7)).to(dtype) for x in outputs]
    return list(torch.autograd.grad(sum((w * x).sum() for w, x in zip(weights, outputs, strict=True)), inputs))  # type: ignore[arg-type]


def test_gradients_have_the_same_bits_whatever_the_threads() -> None:
    objects, view = table_scene(5, 3, 24, 3, seed=2)
    threads = numba.get_num_threads()
    try:
        runs: list[list[Tensor]] = []
        for count in (1, min(2, threads), min(2, threads)):
            numba.set_num_threads(count)
            runs.append(all_gradients(objects, view))
    finally:
        numba.set_num_threads(threads)
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))


@pytest.mark.parametrize("name", ["occlusion", "tube"])
def test_bands_make_no_difference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    loss, found = image_loss(RasterRenderer(case.catalogue, 2)), []
    for samples in (10_000, 40, 2):
        monkeypatch.setattr(images, "BAND_SAMPLES", samples)
        found.append(slopes(loss, case, move_objects, object_steps(case)))
    for other in found[1:]:
        torch.testing.assert_close(other, found[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [(), (2, 3)])
def test_gradients_have_the_shape_and_type_of_the_inputs(batch: tuple[int, ...], dtype: torch.dtype) -> None:
    flat_objects, flat_view = table_scene(6, 2, 16, 3)

    def in_batch(tensor: Tensor) -> Tensor:
        return tensor.reshape(*batch, *tensor.shape[1:]) if batch else tensor[1]

    objects, view = map_tensors(in_batch, flat_objects), map_tensors(in_batch, flat_view)
    gradients = all_gradients(objects, view, dtype)
    assert all(x.dtype == dtype and bool(torch.isfinite(x).all()) for x in gradients)
    assert gradients[3].shape == (*batch, 2, 4, 4)
    assert gradients[5].shape == (*batch, 4, 4)
    assert bool((gradients[3].flatten(-2).abs().amax(-1) > 0).logical_or(~objects.present).all())


def test_scenes_of_a_batch_do_not_mix() -> None:
    case = CASES["occlusion"]
    loss, steps = image_loss(RasterRenderer(case.catalogue, 2)), object_steps(case)
    objects, view = many(case, 3)
    T = objects.T_world_object.clone().requires_grad_()
    losses = loss(dataclasses.replace(objects, T_world_object=T), view)
    (gradient,) = torch.autograd.grad(losses[1], T)
    assert not gradient[0].any()
    assert not gradient[2].any()
    alone = slopes(loss, case, move_objects, steps)
    translations = (gradient[1, :, :3, 3] * steps.reshape(2, 6)[:, :3]).double()
    torch.testing.assert_close(translations, alone.reshape(2, 6)[:, :3], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["intersection", "texture", "near light"])
def test_normal_equations_are_products_of_the_image_derivative(name: str) -> None:
    """The derivative of every number of a small image comes from the reverse pass, one scene for each of them."""
    case, size_px = CASES[name], 10
    renderer = RasterRenderer(case.catalogue, 3, tangents="full")
    K_px = case.view.camera.K_px * torch.tensor([size_px / SIZE_PX, size_px / SIZE_PX, 1.0])[:, None]
    camera = dataclasses.replace(case.view.camera, K_px=K_px, width_px=size_px, height_px=size_px)
    view = View(camera, case.view.light, torch.full((size_px, size_px, 3), 0.2))
    slots, count = len(case.objects.class_ids), size_px * size_px * 3
    amounts = torch.zeros(count, 6 * slots, requires_grad=True)
    image = renderer.render(*move_objects(dataclasses.replace(case, view=view), amounts)).rgb
    J = torch.autograd.grad((image.reshape(count, count) * torch.eye(count)).sum(), amounts)[0].double()
    residual_rgb = torch.rand(size_px, size_px, 3) - 0.5
    equations = renderer.normal_equations(case.objects, view, residual_rgb)
    for k in range(slots):
        own = J[:, 6 * k : 6 * k + 6]
        for got, expected in (
            (equations.gradient[k], own.T @ residual_rgb.flatten().double()),
            (equations.hessian[k], own.T @ own),
        ):
            torch.testing.assert_close(got.double(), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
