"""Whole scenes drawn from a guide's posterior, to see what it is unsure of."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_graphics.guides.feedback import FoundPainter
from inverse_graphics.guides.posterior import count_log_probabilities, draw_categorical
from inverse_graphics.guides.recurrent import RecurrentGuide
from inverse_graphics.poses import upright_pose
from inverse_graphics.types import Camera, Objects, map_tensors


def draw_scenes(
    guide: RecurrentGuide,
    image_rgb: Float[Tensor, "b h w 3"],
    camera: Camera,
    draws: int,
    generator: torch.Generator,
    looks: int = 3,
    apart_m: float = 0.0,
    painter: FoundPainter | None = None,
) -> Objects:
    """Draw scenes from q(count, class, pose | image).  No gradient.

    Args:
        guide: a trained guide.
        image_rgb: linear colours, 0..1.
        camera: [b] cameras.
        draws: scenes an image, at least 1.
        generator: source of the draws, on the guide's device.
        looks, apart_m, painter: as in ``inference.infer``.

    Returns:
        [b draws n] objects.
    """
    if draws < 1:
        raise ValueError(f"draws: expected at least 1, received {draws}; ask for some scenes.")
    again = image_rgb.repeat_interleave(draws, 0)
    cameras = map_tensors(lambda tensor: tensor.repeat_interleave(draws, 0), camera)
    with torch.no_grad():
        painter = None if painter is None else painter.repeat(draws)
        posterior = guide(again, cameras, generator=generator, draw=True, looks=looks, apart_m=apart_m, painter=painter)
        count = draw_categorical(count_log_probabilities(posterior.presence_logits), generator)
    slots = torch.arange(posterior.class_ids.shape[-1], device=count.device)
    yaw_rad = posterior.yaw_rad.gather(-1, posterior.class_ids[..., None])[..., 0]
    objects = Objects(posterior.class_ids, upright_pose(posterior.xy_m, yaw_rad), slots < count[:, None])
    return map_tensors(lambda tensor: tensor.unflatten(0, (len(image_rgb), draws)), objects)
