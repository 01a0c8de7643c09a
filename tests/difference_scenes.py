"""Renderers whose pictures are smooth functions of the poses, so that autograd gives the exact gradient."""

from __future__ import annotations

from collections.abc import Callable

import torch
from renderer_scenes import box, camera_view, catalogue_of
from torch import Tensor

from inverse_graphics.compositing import first_layers, merge_depth, render_layers
from inverse_graphics.poses import motion_slopes, project_points, transform_points
from inverse_graphics.types import Catalogue, Layers, Objects, RenderOutput, View, map_tensors

PLANAR = [0, 1, 5]
LOBES_M = torch.tensor([[-0.03, 0.0, 0.0], [0.03, 0.0, 0.0]], dtype=torch.float64)
RADIUS_M = 0.03
COLOURS = torch.tensor([[0.9, 0.3, 0.1], [0.2, 0.5, 0.8]], dtype=torch.float64)
SHADOW_M = torch.tensor([0.01, 0.05, 0.0], dtype=torch.float64)


def smooth_catalogue() -> Catalogue:
    """A box around both lobes."""
    return catalogue_of(box((0.12, 0.06, 0.06)))


def bumps(points_world: Tensor, view: View, samples: int) -> Tensor:
    """[*b p hs ws] bumps of ``RADIUS_M`` around points [*b p 3]: 1 in the middle, two derivatives, 0 beyond the radius."""
    uv_px, depth_m = project_points(view.camera, points_world)
    radius_px = view.camera.K_px[..., 0, 0, None] * RADIUS_M / depth_m
    rows, columns = ((torch.arange(n * samples).double() + 0.5) / samples for n in (view.camera.height_px, view.camera.width_px))
    across, down = columns - uv_px[..., 0, None], rows - uv_px[..., 1, None]
    squared = across[..., None, :] ** 2 + down[..., :, None] ** 2
    return (1 - squared / radius_px[..., None, None] ** 2).clamp(min=0) ** 3


class SmoothRenderer:
    """Every object is two soft lobes; layers carry exact gradients."""

    name, is_differentiable = "smooth", True

    def __init__(self, samples_per_axis: int = 1) -> None:
        self.catalogue, self.samples_per_axis = smooth_catalogue(), samples_per_axis
        self.calls: list[tuple[Objects, View]] = []

    def layers(self, objects: Objects, view: View, samples_per_axis: int | None = None) -> Layers:
        self.calls.append((objects, view))
        samples = samples_per_axis or self.samples_per_axis
        T = objects.T_world_object
        points = transform_points(T, LOBES_M.expand(*T.shape[:-2], 2, 3))
        lobes = 0.45 * bumps(points.flatten(-3, -2), view, samples).unflatten(-3, (-1, 2))
        lobes = torch.where(objects.present[..., None, None, None], lobes, 0.0)
        alpha = lobes.sum(-3)
        rgb = (lobes[..., None] * COLOURS[:, None, None]).sum(-4)
        origin = transform_points(view.camera.T_camera_world, T[..., :3, 3])
        depth_m = torch.where(alpha > 0, origin[..., 2, None, None].detach(), torch.inf)
        return Layers(rgb, alpha, depth_m.detach(), samples)

    def render(self, objects: Objects, view: View) -> RenderOutput:
        return render_layers(self, objects, view)


class ShadowRenderer:
    """Whole images: every object darkens all that is seen beside it, so that no merge of layers is the image."""

    name, is_differentiable, draws_whole_images = "shadows", False, True

    def __init__(self, samples_per_axis: int = 1) -> None:
        self.inner = SmoothRenderer(samples_per_axis)
        self.catalogue, self.samples_per_axis = self.inner.catalogue, samples_per_axis

    def layers(self, objects: Objects, view: View, samples_per_axis: int | None = None) -> Layers:
        return self.inner.layers(objects, view, samples_per_axis)

    def render(self, objects: Objects, view: View) -> RenderOutput:
        with torch.no_grad():
            output = self.inner.render(objects, view)
        return RenderOutput(
            self.prefix_images(objects, view)[..., -1, :, :, :], output.depth_m, output.object_ids, output.visible_fraction
        )

    def prefix_images(self, objects: Objects, view: View) -> Tensor:
        layers = self.inner.layers(objects, view)
        shades = 0.5 * bumps(objects.T_world_object[..., :3, 3] + SHADOW_M, view, 1)
        shades = torch.where(objects.present[..., None, None], shades, 0.0)[..., None]
        canvases: list[Tensor] = []
        for count in range(objects.present.shape[-1] + 1):
            merged = merge_depth(first_layers(layers, count), view.background_rgb)
            canvases.append(merged * (1 - shades[..., :count, :, :, :]).prod(-4))
        return torch.stack(canvases, -4)

    def swap_errors(self, objects: Objects, alternatives: Objects, view: View, target_rgb: Tensor) -> Tensor:
        return torch.ones(*alternatives.class_ids.shape, objects.present.shape[-1] + 1, dtype=target_rgb.dtype)


def smooth_scenes(
    positions_px: list[list[float]], batch: tuple[int, ...] = (), size_px: int = 48, seed: int = 0
) -> tuple[Objects, View]:
    """Objects around these pixels, about 0.5 m before the camera and no two at the same distance; float64.

    An object is about 14 by 7 pixels large, its shadow reaches 9.6 pixels below its origin.
    """
    view: View = map_tensors(lambda x: x.double(), camera_view(size_px, size_px, 60.0, batch))
    view = map_tensors(lambda x: x.clone(), view)
    generator, n = torch.Generator().manual_seed(seed), len(positions_px)
    view.background_rgb.uniform_(0.2, 0.8, generator=generator)
    depth_m = 0.5 + 0.005 * torch.arange(n).double().expand(*batch, n)
    jitter_px = torch.rand(*batch, n, 2, generator=generator, dtype=torch.float64) - 0.5
    xy = (torch.tensor(positions_px).double().reshape(n, 2) + jitter_px - size_px / 2) * depth_m[..., None] / 60.0
    yaw = (torch.rand(*batch, n, generator=generator, dtype=torch.float64) - 0.5) * 0.8
    T = torch.eye(4, dtype=torch.float64).repeat(*batch, n, 1, 1)
    T[..., :2, 3], T[..., 2, 3] = xy, depth_m
    T[..., 0, 0], T[..., 0, 1], T[..., 1, 0], T[..., 1, 1] = yaw.cos(), -yaw.sin(), yaw.sin(), yaw.cos()
    return Objects(torch.zeros(*batch, n, dtype=torch.int64), T, torch.ones(*batch, n, dtype=torch.bool)), view


def at(objects: Objects, T_world_object: Tensor) -> Objects:
    return Objects(objects.class_ids, T_world_object, objects.present)


def loss_of(images: Tensor) -> Tensor:
    """A smooth function of all pixels, every image and channel weighted otherwise."""
    weights = torch.linspace(0, 40, images.numel(), dtype=images.dtype).reshape(images.shape).sin()
    return (weights * images).sum() + (images - 0.4).square().sum()


def slopes_of(image: Callable[[Objects, View], Tensor], objects: Objects, view: View, full: bool = False) -> Tensor:
    """[*b n p] slopes of ``loss_of(image(objects, view))`` along the tangents, by the gradient that the images carry."""
    T = objects.T_world_object.clone().requires_grad_()
    loss_of(image(at(objects, T), view)).backward()
    assert T.grad is not None
    slopes = motion_slopes(objects.T_world_object, T.grad)
    return slopes if full else slopes[..., PLANAR]
