"""What the guide believes: distributions over count, class and pose of upright objects, their densities, samples and modes.

Count: a chain of presences, q(n) = prod_{i<=n} p_i (1 - p_{n+1}) (Eslami et al. 2016, eq. 3).  Class: categorical.  Position:
Gaussian.  Yaw, one head a class: a mixture over bins round the circle with a local wrapped Gaussian each, in the angle's phase
``folds * yaw``, so that an object with an m-fold symmetry about its axis has m = ``folds`` and one mode; 0 folds means that yaw
cannot be seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

LOG_TWO_PI = math.log(2 * math.pi)


@dataclass(frozen=True)
class Reading:
    """What one glimpse says about the object in it."""

    class_logits: Float[Tensor, "*g k"]
    """Unnormalised log probabilities of the classes."""
    offset_mean_m: Float[Tensor, "*g 2"]
    """Where the object is from where the glimpse looked, on the table."""
    offset_std_m: Float[Tensor, "*g 2"]
    """Standard deviations of that."""
    yaw_logits: Float[Tensor, "*g k y"]
    """Unnormalised log probabilities of the yaw bins, for each class."""
    yaw_phase_rad: Float[Tensor, "*g k y"]
    """Centre of each bin's local Gaussian, in the phase folds * yaw."""
    yaw_std_rad: Float[Tensor, "*g k y"]
    """Its standard deviation, in phase."""


@dataclass(frozen=True)
class Posterior:
    """q(count, class, pose | image), step by step, with the draws (or modes) that the steps were conditioned on."""

    presence_logits: Float[Tensor, "*b n"]
    """Logit that there is an object i + 1, given that there are i."""
    attended_xy_m: Float[Tensor, "*b n 2"]
    """Where each step looked first."""
    attended_std_m: Float[Tensor, "*b n 2"]
    """How sure the whole image was of that, before any glimpse."""
    glimpse_xy_m: Float[Tensor, "*b n 2"]
    """Where the last glimpse was taken."""
    reading: Reading
    """[b n] what was read there; the position's mean is glimpse_xy_m + reading.offset_mean_m."""
    class_ids: Int[Tensor, "*b n"]
    """Class drawn (or most probable)."""
    xy_m: Float[Tensor, "*b n 2"]
    """Position drawn by reparameterisation (or the mean)."""
    yaw_bins: Int[Tensor, "*b n k"]
    """Yaw bin drawn for each class (or most probable)."""
    yaw_rad: Float[Tensor, "*b n k"]
    """Yaw drawn by reparameterisation for each class (or the mode)."""


def count_log_probabilities(presence_logits: Float[Tensor, "*b n"]) -> Float[Tensor, "*b n_plus_1"]:
    """Log probabilities q(count) for 0..n from the presences' logits."""
    present = F.logsigmoid(presence_logits)
    absent = F.logsigmoid(-presence_logits)
    zero = torch.zeros_like(present[..., :1])
    return torch.cat([zero, present.cumsum(-1)], -1) + torch.cat([absent, zero], -1)


def at_least_probabilities(count_probabilities: Float[Tensor, "*b n_plus_1"]) -> Float[Tensor, "*b n"]:
    """q(count >= i) for i = 1..n."""
    return count_probabilities.flip(-1).cumsum(-1).flip(-1)[..., 1:]


def wrap(angle_rad: Float[Tensor, "*b"]) -> Float[Tensor, "*b"]:
    """The same angle in [-pi, pi)."""
    return torch.remainder(angle_rad + math.pi, 2 * math.pi) - math.pi


def gaussian_log_prob(
    x: Float[Tensor, "*#b d"], mean: Float[Tensor, "*#b d"], std: Float[Tensor, "*#b d"]
) -> Float[Tensor, "*c"]:
    """Log density of independent Gaussians, summed over the last axis; the batch dimensions broadcast."""
    return (-0.5 * ((x - mean) / std).square() - std.log() - 0.5 * LOG_TWO_PI).sum(-1)


def yaw_log_prob(
    reading: Reading, class_ids: Int[Tensor, "*g"], yaw_rad: Float[Tensor, "*g"], folds: Int[Tensor, " k"]
) -> Float[Tensor, "*g"]:
    """Log density of the phase folds * yaw under the class's mixture; 0 for classes whose yaw cannot be seen."""
    pick = class_ids[..., None, None].expand(*class_ids.shape, 1, reading.yaw_logits.shape[-1])
    logits, centre, std = (
        x.gather(-2, pick)[..., 0, :] for x in (reading.yaw_logits, reading.yaw_phase_rad, reading.yaw_std_rad)
    )
    fold = folds[class_ids]
    distance = wrap(yaw_rad[..., None] * fold[..., None] - centre)
    local = -0.5 * (distance / std).square() - std.log() - 0.5 * LOG_TWO_PI
    return torch.where(fold > 0, torch.logsumexp(F.log_softmax(logits, -1) + local, -1), torch.zeros_like(yaw_rad))


def yaw_modes(reading: Reading, folds: Int[Tensor, " k"]) -> tuple[Int[Tensor, "*g k"], Float[Tensor, "*g k"]]:
    """For each class the bin whose peak is highest, and its yaw (0 where yaw cannot be seen)."""
    bins = (F.log_softmax(reading.yaw_logits, -1) - reading.yaw_std_rad.log()).argmax(-1)
    phase = reading.yaw_phase_rad.gather(-1, bins[..., None])[..., 0]
    return bins, yaw_of_phase(phase, folds)


def yaw_of_phase(phase_rad: Float[Tensor, "*g k"], folds: Int[Tensor, "*#g k"]) -> Float[Tensor, "*g k"]:
    """Yaw, the phase divided by folds; 0 where folds is 0."""
    return torch.where(folds > 0, wrap(phase_rad) / folds.clamp(min=1), torch.zeros_like(phase_rad))


def draw_yaw(
    reading: Reading, folds: Int[Tensor, " k"], generator: torch.Generator | None, explore: float = 0.0
) -> tuple[Int[Tensor, "*g k"], Float[Tensor, "*g k"]]:
    """Draw a bin for each class (the share ``explore`` of them uniformly), and a yaw within it by reparameterisation."""
    bins = draw_categorical(reading.yaw_logits, generator, explore)
    phase = reading.yaw_phase_rad.gather(-1, bins[..., None])[..., 0]
    std = reading.yaw_std_rad.gather(-1, bins[..., None])[..., 0]
    return bins, yaw_of_phase(phase + std * normal_like(phase, generator), folds)


def draw_categorical(logits: Float[Tensor, "*g k"], generator: torch.Generator | None, explore: float = 0.0) -> Int[Tensor, "*g"]:
    """Draw one index a row, from the softmax mixed with the share ``explore`` of a uniform distribution."""
    flat = logits.detach().softmax(-1).reshape(-1, logits.shape[-1])
    flat = (1 - explore) * flat + explore / flat.shape[-1]
    return torch.multinomial(flat, 1, generator=generator).reshape(logits.shape[:-1])


def normal_like(x: Float[Tensor, "*b"], generator: torch.Generator | None) -> Float[Tensor, "*b"]:
    """Standard normal draws in the shape, type and place of x."""
    return torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
