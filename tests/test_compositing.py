"""Merging of layers against loops that go sample by sample."""

from __future__ import annotations

import pytest
import torch
from renderer_scenes import alternatives_of, ball, box, catalogue_of, posed, table_scene

from inverse_graphics import compositing
from inverse_graphics.compositing import (
    box_filter,
    first_layers,
    merge_depth,
    prefix_canvases,
    render_layers,
    replace_layer,
    swap_errors,
    upsample,
    winners,
)
from inverse_graphics.types import Camera, Layers, Light, Objects, RenderOutput, View, map_tensors
from renderers import RasterRenderer


def random_layers(
    slots: int, samples: int, soft: bool, batch: tuple[int, ...] = (2,), dtype: torch.dtype = torch.float32
) -> Layers:
    generator = torch.Generator().manual_seed(slots)
    shape = (*batch, slots, 4 * samples, 3 * samples)
    alpha = torch.rand(shape, generator=generator, dtype=dtype)
    alpha = torch.where(alpha < 0.4, 0.0, alpha if soft else 1.0).to(dtype)
    depth_m = torch.where(alpha > 0, torch.rand(shape, generator=generator, dtype=dtype) + 0.5, torch.inf)
    rgb = torch.rand(*shape, 3, generator=generator, dtype=dtype) * alpha[..., None]
    return Layers(rgb, alpha, depth_m, samples)


def over_loop(layers: Layers, background_rgb: torch.Tensor) -> torch.Tensor:
    """Front to back with the remaining transmittance, one sample at a time, of unbatched layers."""
    s = layers.samples_per_axis
    slots, hs, ws = layers.alpha.shape
    image = torch.zeros_like(background_rgb)
    for y in range(hs):
        for x in range(ws):
            light, colour = 1.0, torch.zeros(3, dtype=image.dtype)
            for k in sorted(range(slots), key=lambda k: float(layers.depth_m[k, y, x])):
                colour = colour + light * layers.rgb[k, y, x]
                light = light * (1 - float(layers.alpha[k, y, x]))
            image[y // s, x // s] += (colour + light * background_rgb[y // s, x // s]) / s**2
    return image


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("slots", [0, 1, 3])
def test_merge_depth_is_over_from_front_to_back(soft: bool, samples: int, slots: int) -> None:
    layers = random_layers(slots, samples, soft)
    background_rgb = torch.rand(2, 4, 3, 3)
    expected = [
        over_loop(Layers(layers.rgb[i], layers.alpha[i], layers.depth_m[i], samples), background_rgb[i]) for i in range(2)
    ]
    torch.testing.assert_close(merge_depth(layers, background_rgb), torch.stack(expected))


def test_the_order_of_slots_does_not_matter() -> None:
    layers, background_rgb = random_layers(3, 2, soft=True), torch.rand(2, 4, 3, 3)
    turned = Layers(layers.rgb.flip(1), layers.alpha.flip(1), layers.depth_m.flip(1), 2)
    torch.testing.assert_close(merge_depth(turned, background_rgb), merge_depth(layers, background_rgb))


def test_merge_depth_has_right_gradients() -> None:
    layers = random_layers(2, 2, soft=True, batch=(), dtype=torch.float64)
    background_rgb = torch.rand(4, 3, 3, dtype=torch.float64, requires_grad=True)
    rgb, alpha = layers.rgb.requires_grad_(), layers.alpha.requires_grad_()

    def merge(rgb: torch.Tensor, alpha: torch.Tensor, background_rgb: torch.Tensor) -> torch.Tensor:
        return merge_depth(Layers(rgb, alpha, layers.depth_m, 2), background_rgb)

    assert torch.autograd.gradcheck(merge, (rgb, alpha, background_rgb))


def test_upsample_then_box_filter_is_the_identity() -> None:
    image = torch.rand(2, 4, 3, 5)
    torch.testing.assert_close(box_filter(upsample(image, 3), 3), image)
    assert float(box_filter(torch.arange(4.0).reshape(2, 2, 1), 2)) == 1.5


@pytest.mark.parametrize("batch", [(), (2,), (1, 2)])
def test_prefixes_start_at_the_background_and_end_at_the_whole(batch: tuple[int, ...]) -> None:
    layers, background_rgb = random_layers(3, 2, soft=False, batch=batch), torch.rand(*batch, 4, 3, 3)
    canvases = prefix_canvases(layers, background_rgb)
    assert canvases.shape == (*batch, 4, 4, 3, 3)
    torch.testing.assert_close(canvases[..., 0, :, :, :], background_rgb)
    torch.testing.assert_close(canvases[..., 3, :, :, :], merge_depth(layers, background_rgb))
    hidden = Layers(layers.rgb.clone(), layers.alpha.clone(), layers.depth_m, 2)
    hidden.rgb[..., 2, :, :, :] = 0
    hidden.alpha[..., 2, :, :] = 0
    torch.testing.assert_close(canvases[..., 2, :, :, :], merge_depth(hidden, background_rgb))


def test_winners_are_the_nearest_covered() -> None:
    inf = torch.inf
    depth_m = torch.tensor([2.0, 1.0, 3.0, inf]).reshape(1, 1, 4).repeat(2, 1, 1)
    depth_m[1] = torch.tensor([1.0, 2.0, inf, inf])
    alpha = torch.isfinite(depth_m).float()
    alpha[1, 0, 0] = 0.4
    nearest_m, slot = winners(Layers(torch.zeros(2, 1, 4, 3), alpha, depth_m, 1))
    assert slot.tolist() == [[0, 0, 0, -1]]
    assert nearest_m.tolist() == [[2.0, 1.0, 3.0, 0.0]]


class StoredLayers:
    """Draws what it was given, whatever it is asked."""

    name, catalogue, is_differentiable, samples_per_axis = "stored", catalogue_of(box()), False, 2

    def __init__(self, fine: Layers, coarse: Layers) -> None:
        self.fine, self.coarse = fine, coarse

    def layers(self, objects: Objects, view: View, samples_per_axis: int | None = None) -> Layers:
        layers = first_layers(self.coarse if samples_per_axis == 1 else self.fine, objects.class_ids.shape[-1])
        return map_tensors(lambda x: x.expand(*objects.class_ids.shape[:-1], *x.shape[-x.dim() :]), layers)

    def render(self, objects: Objects, view: View) -> RenderOutput:
        return render_layers(self, objects, view)


def stored_view() -> View:
    camera = Camera(torch.eye(3), torch.eye(4), 3, 4)
    return View(camera, Light(torch.tensor([0.0, 0.0, 1.0]), torch.tensor(0.3), torch.tensor(0.7)), torch.rand(4, 3, 3))


def test_images_take_colour_from_all_samples_and_the_rest_from_the_centres() -> None:
    fine, coarse = random_layers(3, 2, soft=False, batch=()), random_layers(3, 1, soft=False, batch=())
    view, objects = stored_view(), posed([0, 0, 0], [[0.0, 0.0, 1.0]] * 3)
    image = render_layers(StoredLayers(fine, coarse), objects, view)
    torch.testing.assert_close(image.rgb, merge_depth(fine, view.background_rgb))
    for k in range(3):
        others = coarse.depth_m[[i for i in range(3) if i != k]].amin(0)
        seen = (coarse.alpha[k] > 0) & (coarse.depth_m[k] < others)
        assert torch.equal(image.object_ids == k, seen)
        torch.testing.assert_close(image.visible_fraction[k], seen.sum() / coarse.alpha[k].sum())
    nearest_m = coarse.depth_m.amin(0)
    torch.testing.assert_close(image.depth_m, torch.where(torch.isinf(nearest_m), 0.0, nearest_m))


def test_swap_errors_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few scenes at a time memory allows."""
    objects, view = table_scene(5, 2, 12, 2)
    renderer = AnyRenderer(RasterRenderer(catalogue_of(ball(), box()), 2))
    arguments = (objects, alternatives_of(objects, 2), view, torch.rand(5, 12, 12, 3))
    together = swap_errors(renderer, *arguments)
    monkeypatch.setattr(compositing, "SWAP_BYTES", 1)
    assert torch.equal(swap_errors(renderer, *arguments), together)
    assert together.any(dim=(1, 2, 3)).all()


class AnyRenderer:
    """A renderer that only draws layers."""

    is_differentiable, samples_per_axis = False, 2

    def __init__(self, renderer: RasterRenderer) -> None:
        self.name, self.catalogue, self.layers = "any", renderer.catalogue, renderer.layers

    def render(self, objects: Objects, view: View) -> RenderOutput:
        return render_layers(self, objects, view)


def test_swap_errors_are_those_of_stacks_with_a_layer_replaced() -> None:
    fine = random_layers(2, 2, soft=False, batch=())
    view, objects = stored_view(), posed([0, 0], [[0.0, 0.0, 1.0]] * 2)
    target_rgb = torch.rand(4, 3, 3)
    alternatives = Objects(
        objects.class_ids[:, None].expand(2, 2),
        objects.T_world_object[:, None].expand(2, 2, 4, 4),
        objects.present[:, None].expand(2, 2),
    )
    errors = swap_errors(StoredLayers(fine, fine), objects, alternatives, view, target_rgb)
    assert errors.shape == (2, 2, 3)
    for slot in range(2):
        for other in range(2):
            rgb, alpha, depth_m = fine.rgb.clone(), fine.alpha.clone(), fine.depth_m.clone()
            rgb[slot], alpha[slot], depth_m[slot] = fine.rgb[other], fine.alpha[other], fine.depth_m[other]
            swapped = Layers(rgb, alpha, depth_m, 2)
            torch.testing.assert_close(replace_layer(fine, slot, fine, other).rgb, rgb)
            assert not errors[slot, other, : slot + 1].any()
            for count in range(slot + 1, 3):
                image = merge_depth(first_layers(swapped, count), view.background_rgb)
                torch.testing.assert_close(errors[slot, other, count], (image - target_rgb).square().sum())
