"""Failure signatures of attend-infer-repeat, found automatically and said in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from inverse_graphics.inference import Inference
from inverse_graphics.types import RenderOutput

CLOSE_M = 0.02
"""Two inferred objects nearer than this stand for one."""


@dataclass(frozen=True)
class Observation:
    """What can be seen of a run without knowing the truth."""

    mean_count: float
    """Mean inferred count."""
    max_count: int
    """Most objects the guide can find."""
    prior_mean_count: float
    """Mean count under the prior."""
    unused_share: float
    """Share of inferred objects that draw no pixel."""
    doubled_share: float
    """Share of scenes with two inferred objects at one place."""
    class_shares: tuple[float, ...]
    """How often each class is inferred, of all inferred objects."""


def observe(inference: Inference, rerendered: RenderOutput, prior_mean_count: float) -> Observation:
    """Gather what the signatures need from inferred scenes and their images."""
    objects = inference.objects
    present = objects.present
    total = max(int(present.sum()), 1)
    slots = present.shape[-1]
    xy = objects.T_world_object[..., :2, 3]
    distance = torch.cdist(xy, xy)
    pair = present[..., :, None] & present[..., None, :] & torch.ones(slots, slots, dtype=torch.bool, device=xy.device).triu(1)
    counts = torch.bincount(objects.class_ids[present], minlength=inference.class_probabilities.shape[-1])
    return Observation(
        mean_count=float(present.sum(-1).float().mean()),
        max_count=slots,
        prior_mean_count=prior_mean_count,
        unused_share=float((present & (rerendered.visible_fraction <= 0)).sum()) / total,
        doubled_share=float((pair & (distance < CLOSE_M)).any(-1).any(-1).float().mean()),
        class_shares=tuple((counts / total).tolist()),
    )


def diagnose(seen: Observation, class_names: Sequence[str]) -> list[str]:
    """Say in words what looks wrong, with the usual cause; an empty list if nothing does."""
    found: list[str] = []
    if seen.prior_mean_count > 0 and seen.mean_count < 0.1 * seen.prior_mean_count:
        found.append(
            f"The count has collapsed to 0: {seen.mean_count:.2f} objects are inferred a scene, the prior says "
            f"{seen.prior_mean_count:.2f}. A randomly placed object costs more likelihood than none; raise sigma_start or the "
            "share of training with uniform weights, or start with the sleep phase."
        )
    if seen.prior_mean_count < 0.9 * seen.max_count and seen.mean_count > 0.95 * seen.max_count:
        found.append(
            f"All steps are always used: {seen.mean_count:.2f} objects a scene of at most {seen.max_count}, the prior says "
            f"{seen.prior_mean_count:.2f}. Presence is saturated or the likelihood too flat; lower presence's first logit or "
            "anneal sigma further."
        )
    if seen.unused_share > 0.02:
        found.append(
            f"{seen.unused_share:.1%} of the inferred objects draw nothing: they are outside the image or wholly hidden. "
            "Positions have drifted; check the working area against the camera's view."
        )
    if seen.doubled_share > 0.02:
        found.append(
            f"In {seen.doubled_share:.1%} of the scenes two inferred objects stand within {CLOSE_M * 100:.0f} cm of each other: "
            "one object is explained twice."
        )
    missing = [name for name, share in zip(class_names, seen.class_shares, strict=True) if share == 0]
    if missing and seen.mean_count > 0 and len(missing) < len(class_names):
        found.append(f"Never inferred: {', '.join(missing)}. The classes' probabilities may have collapsed early.")
    return found
