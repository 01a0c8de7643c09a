"""Compiled merging of opaque layers, against the depth test written out in ``compositing.merge_depth``."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from inverse_graphics.compositing import first_layers, merge_depth, replace_layer
from inverse_graphics.stacks import Stack, make_stack, prefix_canvases, replacement_changes, replacement_errors
from inverse_graphics.types import Layers, map_tensors

SCENES, SLOTS, OTHERS, HEIGHT, WIDTH = 3, 4, 5, 6, 7


def random_layers(shape: tuple[int, ...], samples: int, seed: int) -> Layers:
    """Rectangles with holes; some layers are empty."""
    generator = torch.Generator().manual_seed(seed)
    size = (*shape, HEIGHT * samples, WIDTH * samples)
    alpha = (torch.rand(size, generator=generator) < 0.6).float()
    alpha[..., : 2 * samples, :] = 0
    alpha[..., -samples:] = 0
    alpha[torch.rand(shape, generator=generator) < 0.2] = 0
    depth_m = torch.where(alpha > 0, 0.5 + torch.rand(size, generator=generator), torch.inf)
    return Layers(torch.rand(*size, 3, generator=generator) * alpha[..., None], alpha, depth_m, samples)


def stack_of(layers: Layers) -> Stack:
    stack = make_stack(layers)
    assert stack is not None
    return stack


def images() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(9)
    shape = (SCENES, HEIGHT, WIDTH, 3)
    return torch.rand(shape, generator=generator), torch.rand(shape, generator=generator)


def slot_of(layers: Layers, slot: int) -> Layers:
    return map_tensors(lambda x: x[:, slot : slot + 1], layers)


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("first", [0, SLOTS])
def test_prefixes(samples: int, first: int) -> None:
    layers, (background, _) = random_layers((SCENES, SLOTS), samples, 0), images()
    canvases = prefix_canvases(stack_of(layers), background, first)
    assert canvases.shape == (SCENES, SLOTS + 1 - first, HEIGHT, WIDTH, 3)
    for count in range(first, SLOTS + 1):
        torch.testing.assert_close(canvases[:, count - first], merge_depth(first_layers(layers, count), background))


@pytest.mark.parametrize("samples", [1, 3])
@pytest.mark.parametrize("slot", range(SLOTS))
def test_errors_of_replacements(samples: int, slot: int) -> None:
    layers, others = random_layers((SCENES, SLOTS), samples, 1), random_layers((SCENES, OTHERS), samples, 2)
    background, target = images()
    errors = replacement_errors(slot, stack_of(layers), stack_of(others), background, target)
    assert not errors[..., : slot + 1].any()
    for a in range(OTHERS):
        swapped = replace_layer(layers, slot, others, a)
        for count in range(slot + 1, SLOTS + 1):
            expected = (merge_depth(first_layers(swapped, count), background) - target).square().sum((-3, -2, -1))
            torch.testing.assert_close(errors[:, a, count], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("samples", [1, 3])
def test_changes_by_replacements(samples: int) -> None:
    """The difference of two of them is what a weighted sum of the prefix images changes by from one layer to another."""
    layers, background = random_layers((SCENES, SLOTS), samples, 3), images()[0]
    ahead, behind = (random_layers((SCENES, SLOTS), samples, seed) for seed in (4, 5))
    rgb, alpha, depth_m = (torch.stack(pair) for pair in zip(parts(ahead), parts(behind), strict=True))
    both = Layers(rgb, alpha, depth_m, samples)
    weights = torch.randn(SCENES, SLOTS + 1, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(6))
    changes = replacement_changes(stack_of(layers), stack_of(both), background, weights)

    def weighted(stack: Layers) -> Tensor:
        canvases = [merge_depth(first_layers(stack, count), background) for count in range(SLOTS + 1)]
        return (torch.stack(canvases, 1) * weights).sum((-4, -3, -2, -1))

    for slot in range(SLOTS):
        expected = weighted(replace_layer(layers, slot, slot_of(ahead, slot), 0)) - weighted(
            replace_layer(layers, slot, slot_of(behind, slot), 0)
        )
        torch.testing.assert_close((changes[0] - changes[1])[:, slot].float(), expected, rtol=1e-4, atol=1e-4)


def parts(layers: Layers) -> tuple[Tensor, Tensor, Tensor]:
    return layers.rgb, layers.alpha, layers.depth_m


def test_soft_layers_make_no_stack() -> None:
    layers = random_layers((SCENES, SLOTS), 1, 7)
    layers.alpha[1, 2, 3, 3] = 0.5
    assert make_stack(layers) is None


def test_nothing_to_merge() -> None:
    background, target = images()
    empty = random_layers((SCENES, 0), 2, 8)
    torch.testing.assert_close(prefix_canvases(stack_of(empty), background, 0)[:, 0], background)
    none = stack_of(random_layers((0, SLOTS), 2, 8))
    assert prefix_canvases(none, background[:0], 0).shape == (0, SLOTS + 1, HEIGHT, WIDTH, 3)
    others = stack_of(random_layers((SCENES, 0), 2, 8))
    assert replacement_errors(0, stack_of(random_layers((SCENES, 2), 2, 8)), others, background, target).shape == (SCENES, 0, 3)
