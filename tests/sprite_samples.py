"""Tiny sprite models and images for the tests of the 2-D case."""

from __future__ import annotations

import torch
from torch import Tensor

from inverse_graphics.sprites.model import SpriteConfig, SpriteModel, SpriteSizes
from inverse_graphics.sprites.steps import Variant

TINY = SpriteSizes(window_px=8, what=4, hidden=12, channels=8, sprite_hidden=10, object_px=8.0)


def tiny_config(variant: Variant = "air", max_objects: int = 3) -> SpriteConfig:
    return SpriteConfig(variant, 20, max_objects, TINY)


def tiny_sprites(variant: Variant = "air", seed: int = 0, max_objects: int = 3) -> SpriteModel:
    """An untrained model whose heads depend on what they see."""
    torch.manual_seed(seed)
    model = SpriteModel(tiny_config(variant, max_objects))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("steps.heads.") and name.endswith(".2.weight"):
                parameter.mul_(30.0)
    return model


def blots(counts: list[int], size_px: int = 20, seed: int = 0) -> Tensor:
    """Images with so many round blots."""
    generator = torch.Generator().manual_seed(seed)
    v, u = torch.meshgrid(torch.arange(size_px) + 0.5, torch.arange(size_px) + 0.5, indexing="ij")
    images = []
    for count in counts:
        image = torch.zeros(size_px, size_px)
        for _ in range(count):
            x, y = (4 + (size_px - 8) * torch.rand(2, generator=generator)).tolist()
            image = image + torch.exp(-0.5 * ((u - x) ** 2 + (v - y) ** 2) / 2.0**2)
        images.append(image.clamp(max=1.0))
    return torch.stack(images)
