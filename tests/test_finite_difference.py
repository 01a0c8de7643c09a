"""Pose gradients by finite differences against differences of the whole pipeline, one object at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from renderer_scenes import ball, box, camera_view, catalogue_of, posed, square, table_scene
from torch import Tensor

from inverse_graphics.poses import upright_pose
from inverse_graphics.types import Catalogue, Objects, View
from renderers import FiniteDifferenceRenderer, RasterRenderer
from renderers.tangents import Tangents

Loss = Callable[[Tensor], Tensor]


def catalogue() -> Catalogue:
    return catalogue_of(box((0.12, 0.05, 0.08)), ball(subdivisions=2))


def smooth_loss(view: View, quadratic: float) -> Loss:
    """A smooth weighting of the image, plus a squared error against a smooth target."""
    height, width = view.camera.height_px, view.camera.width_px
    v, u = torch.meshgrid(torch.linspace(0, 3, height), torch.linspace(0, 3, width), indexing="ij")
    weights = torch.stack([(u + v).sin(), (u - 2 * v).cos(), (2 * u).sin()], -1)

    def loss(rgb: Tensor) -> Tensor:
        return (weights * rgb).sum((-3, -2, -1)) + quadratic * (rgb - 0.5 - 0.5 * weights).square().sum((-3, -2, -1))

    return loss


def pipeline_slopes(objects: Objects, view: View, loss: Loss, step_m: float, step_rad: float, samples: int) -> Tensor:
    """[b n 6] central differences of the loss of whole, finely sampled images, moving one object at a time."""
    renderer = RasterRenderer(catalogue(), samples)
    slopes = torch.zeros(*objects.present.shape, 6)
    for slot in range(objects.present.shape[-1]):
        for i in range(6):
            losses: list[Tensor] = []
            for sign in (1, -1):
                T = objects.T_world_object.clone()
                if i < 3:
                    T[:, slot, i, 3] += sign * step_m
                else:
                    a, b = ((1, 2), (2, 0), (0, 1))[i - 3]
                    turn = torch.eye(3)
                    angle = torch.tensor(sign * step_rad)
                    turn[a, a] = turn[b, b] = angle.cos()
                    turn[a, b], turn[b, a] = -angle.sin(), angle.sin()
                    T[:, slot, :3, :3] = turn @ T[:, slot, :3, :3]
                losses.append(loss(renderer.render(Objects(objects.class_ids, T, objects.present), view).rgb))
            slopes[:, slot, i] = (losses[0] - losses[1]) / (2 * (step_m if i < 3 else step_rad))
    return slopes


def tangent_slopes(gradient: Tensor, T_world_object: Tensor) -> Tensor:
    """[*b n 6] directional derivatives along world translations and rotations from a gradient of the matrix."""
    columns = []
    for i in range(3):
        hat = torch.zeros(3, 3)
        a, b = ((1, 2), (2, 0), (0, 1))[i]
        hat[a, b], hat[b, a] = -1.0, 1.0
        columns.append((gradient[..., :3, :3] * (hat @ T_world_object[..., :3, :3])).sum((-2, -1)))
    return torch.cat([gradient[..., :3, 3], torch.stack(columns, -1)], -1)


def gradient_of(renderer: FiniteDifferenceRenderer, objects: Objects, view: View, loss: Loss) -> Tensor:
    T = objects.T_world_object.clone().requires_grad_()
    loss(renderer.render(Objects(objects.class_ids, T, objects.present), view).rgb).sum().backward()
    assert T.grad is not None
    return T.grad


def cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0))


@pytest.mark.parametrize("quadratic", [0.0, 1.0])
@pytest.mark.parametrize("tangents", ["planar", "full"])
def test_gradients_are_those_of_the_whole_pipeline(tangents: Tangents, quadratic: float) -> None:
    objects, view = table_scene(3, 3, 48, classes=2, seed=1)
    loss = smooth_loss(view, quadratic)
    renderer = FiniteDifferenceRenderer(RasterRenderer(catalogue(), 4), tangents, step_px=1.0)
    slopes = tangent_slopes(gradient_of(renderer, objects, view, loss), objects.T_world_object)
    expected = pipeline_slopes(objects, view, loss, step_m=0.005, step_rad=0.08, samples=6)
    used = [0, 1, 5] if tangents == "planar" else list(range(6))
    assert not slopes[..., [i for i in range(6) if i not in used]].any()
    assert not slopes[~objects.present].any()
    translations, rotations = [i for i in used if i < 3], [i for i in used if i >= 3]
    assert cosine(slopes[..., translations], expected[..., translations]) >= 0.99
    assert cosine(slopes[..., rotations], expected[..., rotations]) >= 0.99
    size = slopes[..., translations].norm() / expected[..., translations].norm()
    assert 0.9 < size < 1.1


def test_an_object_that_slides_over_another_counts_both_of_its_edges() -> None:
    view = camera_view(32, 32, 32.0)
    objects = posed([0, 1], [[0.01, 0.0, 1.0], [0.0, 0.0, 2.0]])
    squares = catalogue_of(square(0.25), square(0.9, "wall"))
    squares.meshes[1].corner_rgb[:] = 0.2
    u = torch.arange(32) + 0.5
    weights = u[:, None] ** 2
    renderer = FiniteDifferenceRenderer(RasterRenderer(squares, 4), "planar")
    gradient = gradient_of(renderer, objects, view, lambda rgb: (weights * rgb).sum())
    left, right, rows = 16 + 32 * (0.01 - 0.25), 16 + 32 * (0.01 + 0.25), 16
    step = float((torch.tensor([0.5, 0.6, 0.7]) - 0.2).sum())
    expected = 32 * rows * step * (right**2 - left**2)
    assert float(gradient[0, 0, 3]) == pytest.approx(expected, rel=0.02)
    far_edges = 16 * 28.8 * 0.3 * ((16 + 14.4) ** 2 - (16 - 14.4) ** 2)
    assert float(gradient[1, 0, 3]) == pytest.approx(far_edges, rel=0.02)


def test_gradients_flow_on_to_planar_poses() -> None:
    objects, view = table_scene(2, 2, 32, classes=2, seed=2)
    objects = Objects(objects.class_ids, objects.T_world_object, torch.ones_like(objects.present))
    xy_m = objects.T_world_object[..., :2, 3].clone().requires_grad_()
    T = objects.T_world_object
    yaw_rad = torch.atan2(T[..., 1, 0], T[..., 0, 0]).requires_grad_()
    loss = smooth_loss(view, 1.0)
    renderer = FiniteDifferenceRenderer(RasterRenderer(catalogue(), 4))
    image = renderer.render(Objects(objects.class_ids, upright_pose(xy_m, yaw_rad), objects.present), view)
    loss(image.rgb).sum().backward()
    slopes = tangent_slopes(gradient_of(renderer, objects, view, loss), objects.T_world_object)
    assert xy_m.grad is not None
    assert yaw_rad.grad is not None
    torch.testing.assert_close(xy_m.grad, slopes[..., :2], rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(yaw_rad.grad, slopes[..., 5], rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("wants_gradient", [False, True])
def test_the_image_is_that_of_the_wrapped_renderer(wants_gradient: bool) -> None:
    objects, view = table_scene(2, 3, 24, classes=2)
    inner = RasterRenderer(catalogue(), 2)
    T = objects.T_world_object.clone().requires_grad_(wants_gradient)
    image = FiniteDifferenceRenderer(inner).render(Objects(objects.class_ids, T, objects.present), view)
    expected = inner.render(objects, view)
    assert image.rgb.requires_grad == wants_gradient
    torch.testing.assert_close(image.rgb.detach(), expected.rgb, rtol=0, atol=1e-5)
    for field in ("depth_m", "object_ids", "visible_fraction"):
        torch.testing.assert_close(getattr(image, field), getattr(expected, field))


def test_scenes_without_slots_have_empty_gradients() -> None:
    view = camera_view(16, 16, 20.0, (2,))
    T = torch.zeros(2, 0, 4, 4, requires_grad=True)
    objects = Objects(torch.zeros(2, 0, dtype=torch.int64), T, torch.zeros(2, 0, dtype=torch.bool))
    layers = FiniteDifferenceRenderer(RasterRenderer(catalogue(), 1)).layers(objects, view)
    layers.rgb.sum().backward()
    assert layers.alpha.shape == (2, 0, 16, 16)
    assert T.grad is not None
    assert T.grad.shape == (2, 0, 4, 4)


def test_steps_can_be_annealed() -> None:
    renderer = FiniteDifferenceRenderer(RasterRenderer(catalogue(), 2), "full", step_px=4.0)
    smaller = renderer.with_step(1.0)
    assert (renderer.step_px, smaller.step_px, smaller.tangents) == (4.0, 1.0, "full")
    assert smaller.renderer is renderer.renderer
    assert smaller.is_differentiable


def test_a_step_of_zero_is_refused() -> None:
    inner = RasterRenderer(catalogue(), 1)
    with pytest.raises(ValueError, match="step_px"):
        FiniteDifferenceRenderer(inner, step_px=0.0)


def test_soft_pytorch3d_points_the_same_way() -> None:
    pytest.importorskip("pytorch3d")
    from renderers.pytorch3d import PyTorch3DRenderer

    objects, view = table_scene(2, 2, 32, classes=2, seed=1)
    loss = smooth_loss(view, 0.0)
    by_differences = gradient_of(FiniteDifferenceRenderer(RasterRenderer(catalogue(), 4), "full"), objects, view, loss)
    T = objects.T_world_object.clone().requires_grad_()
    soft = PyTorch3DRenderer(catalogue(), 1, mode="soft")
    loss(soft.render(Objects(objects.class_ids, T, objects.present), view).rgb).sum().backward()
    assert T.grad is not None
    for slot in objects.present.nonzero().tolist():
        scene, k = slot
        assert cosine(T.grad[scene, k, :3, 3], by_differences[scene, k, :3, 3]) > 0.8
