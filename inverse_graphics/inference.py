"""What a trained guide says of images: the most probable scene, and how sure it is."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from inverse_graphics.compositing import prefix_images
from inverse_graphics.guides.feedback import FoundPainter
from inverse_graphics.guides.posterior import Posterior, count_log_probabilities
from inverse_graphics.guides.recurrent import RecurrentGuide
from inverse_graphics.poses import upright_pose
from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Camera, Objects, View


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
    present = _first_slots(count_probabilities)
    yaw_rad = posterior.yaw_rad.gather(-1, posterior.class_ids[..., None])[..., 0]
    return Inference(
        Objects(posterior.class_ids, upright_pose(posterior.xy_m, yaw_rad), present),
        count_probabilities,
        posterior.reading.class_logits.softmax(-1),
        posterior.reading.offset_std_m,
    )


def _first_slots(count_probabilities: Float[Tensor, "b n_plus_1"]) -> Bool[Tensor, "b n"]:
    """As many of the first slots as is the most probable count."""
    slots = torch.arange(count_probabilities.shape[-1] - 1, device=count_probabilities.device)
    return slots < count_probabilities.argmax(-1)[:, None]


def infer(
    guide: RecurrentGuide,
    image_rgb: Float[Tensor, "b h w 3"],
    camera: Camera,
    looks: int = 3,
    apart_m: float = 0.0,
    painter: FoundPainter | None = None,
) -> Inference:
    """Infer the most probable scene of each image.

    Args:
        guide: a trained guide.
        image_rgb: linear colours, 0..1.
        camera: [b] cameras.
        looks: glimpses a step; more refine the position.
        apart_m: origins of objects are at least this far apart; a step that finds an object again looks elsewhere.
        painter: draws what has been found; a guide with feedback needs it (``guide.painter(renderer, view)``).
    """
    with torch.no_grad():
        return most_probable(guide(image_rgb, camera, looks=looks, apart_m=apart_m, painter=painter))


def recount(
    inference: Inference,
    renderer: Renderer,
    view: View,
    image_rgb: Float[Tensor, "b h w 3"],
    sigma: float,
    apart_m: float = 0.0,
) -> Inference:
    """Judge the count again by rendering: q(n) times the likelihood of the image of the first n objects, normalised.

    The guide has found all N objects as if each were there, so every count has its image; the objects keep class and pose.
    Counts whose objects stand inside each other are ruled out: a second object in the place of a first hardly changes the image.

    Args:
        inference: what the guide said, on the CPU.
        renderer: draws the prefixes.
        view: [b] camera, light and background of the images; they must be known.
        image_rgb: observed images.
        sigma: standard deviation of the image noise, in linear colour.
        apart_m: origins of objects are at least this far apart.
    """
    everything = dataclasses.replace(inference.objects, present=torch.ones_like(inference.objects.present))
    with torch.no_grad():
        errors = (prefix_images(renderer, everything, view) - image_rgb[:, None]).square().sum((-3, -2, -1))
    logits = inference.count_probabilities.clamp(min=MIN_COUNT_PROBABILITY).log() - errors / (2 * sigma**2)
    logits = logits - IMPOSSIBLE * torch.nn.functional.pad(collides(everything, apart_m).cumsum(-1) > 0, (1, 0)).to(logits.dtype)
    probabilities = logits.softmax(-1)
    present = _first_slots(probabilities)
    return dataclasses.replace(
        inference, objects=dataclasses.replace(inference.objects, present=present), count_probabilities=probabilities
    )


def collides(objects: Objects, apart_m: float) -> Bool[Tensor, "b n"]:
    """Which slots' origins are nearer than ``apart_m`` to that of an earlier slot, along the table."""
    xy = objects.T_world_object[..., :2, 3]
    earlier = torch.ones(xy.shape[-2], xy.shape[-2], dtype=torch.bool, device=xy.device).tril(-1)
    return ((torch.cdist(xy, xy) < apart_m) & earlier).any(-1)


IMPOSSIBLE = 1e6
"""Nats taken off a count that cannot be."""
MIN_COUNT_PROBABILITY = 1e-3
"""The guide's doubt of a count that ``recount`` respects at most."""
