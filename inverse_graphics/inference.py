"""What a trained guide says of images: the most probable scene, and how sure it is."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_graphics.guides.posterior import Posterior, count_log_probabilities
from inverse_graphics.guides.recurrent import RecurrentGuide
from inverse_graphics.poses import upright_pose
from inverse_graphics.types import Camera, Objects, stack_tensors


@dataclass(frozen=True)
class Inference:
    """The most probable scene of each image."""

    objects: Objects
    """[b n] what stands where."""
    count_probabilities: Float[Tensor, "b n_plus_1"]
    """q(n) for n = 0..N."""
    class_probabilities: Float[Tensor, "b n k"]
    """q(class) of each slot."""
    position_std_m: Float[Tensor, "b n 2"]
    """Standard deviation of each slot's position, world x and y."""


def most_probable(posterior: Posterior) -> Inference:
    """The most probable count, and for each of that many slots the class, position and yaw that the posterior holds."""
    count_probabilities = count_log_probabilities(posterior.presence_logits).exp()
    slots = torch.arange(posterior.class_ids.shape[-1], device=posterior.class_ids.device)
    present = slots < count_probabilities.argmax(-1)[:, None]
    yaw_rad = posterior.yaw_rad.gather(-1, posterior.class_ids[..., None])[..., 0]
    return Inference(
        Objects(posterior.class_ids, upright_pose(posterior.xy_m, yaw_rad), present),
        count_probabilities,
        posterior.reading.class_logits.softmax(-1),
        posterior.reading.offset_std_m,
    )


def infer(guide: RecurrentGuide, image_rgb: Float[Tensor, "b h w 3"], camera: Camera, looks: int = 3) -> Inference:
    """Infer the most probable scene of each image.

    Args:
        guide: a trained guide.
        image_rgb: linear colours, 0..1.
        camera: [b] cameras.
        looks: glimpses a step; more refine the position.
    """
    with torch.no_grad():
        return most_probable(guide(image_rgb, camera, looks=looks))


def infer_batches(guide: RecurrentGuide, batches: Iterable[tuple[Float[Tensor, "_ h w 3"], Camera]], looks: int = 3) -> Inference:
    """``infer`` over batches, joined."""
    return stack_tensors([infer(guide, image_rgb, camera, looks) for image_rgb, camera in batches])
