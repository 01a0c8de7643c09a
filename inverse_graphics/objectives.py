"""What training on 3-D scenes maximises: the bound (see ``bound``), and likelihood of simulated pairs (the sleep phase)."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from inverse_graphics.bound import BoundTerms, Choice, gaussian_constant
from inverse_graphics.compositing import prefix_images, swap_errors
from inverse_graphics.guides.feedback import FoundPainter
from inverse_graphics.guides.posterior import (
    LOG_TWO_PI,
    Posterior,
    at_least_probabilities,
    count_log_probabilities,
    gaussian_log_prob,
    normal_like,
    wrap,
    yaw_log_prob,
    yaw_of_phase,
)
from inverse_graphics.guides.recurrent import Features, RecurrentGuide
from inverse_graphics.poses import upright_pose
from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Objects, View


@dataclass(frozen=True)
class UprightPrior:
    """p(count, class, pose) as the bound needs it: classes, yaws and positions uniform, no two origins too near to each other.

    The working area has soft edges, Gaussian tails of ``EDGE_M``, so that an object that strays is drawn back instead of lost.
    Two origins nearer than ``apart_m`` are pushed apart in the same way, which keeps one object from being counted twice.  What
    that takes from the area, and that objects are not hidden, is left out, which only shifts the bound.
    """

    count_probabilities: tuple[float, ...]
    """p(n) for n = 0..N."""
    num_classes: int
    """Number of equally likely classes."""
    x_range_m: tuple[float, float]
    """Working area along world x."""
    y_range_m: tuple[float, float]
    """Working area along world y."""
    apart_m: float = 0.0
    """Least distance of two objects' origins along the table; 0 lets them coincide."""

    def position_log_prob(self, xy_m: Float[Tensor, "*b 2"]) -> Float[Tensor, "*b"]:
        """Log density of positions, per square metre."""
        low = xy_m.new_tensor([self.x_range_m[0], self.y_range_m[0]])
        high = xy_m.new_tensor([self.x_range_m[1], self.y_range_m[1]])
        outside = F.relu(low - xy_m) + F.relu(xy_m - high)
        sides = high - low + math.sqrt(2 * math.pi) * EDGE_M
        return (-0.5 * (outside / EDGE_M).square() - sides.log()).sum(-1)

    def apart_log_prob(self, xy_m: Float[Tensor, "b n 2"]) -> Float[Tensor, "b n"]:
        """What each slot's nearness to the slots before it takes from the log density; 0 where they keep ``apart_m``."""
        squared = (xy_m[:, :, None] - xy_m[:, None]).square().sum(-1)
        overlap = F.relu(self.apart_m - (squared + 1e-12).sqrt()) / OVERLAP_M
        return -0.5 * overlap.square().tril(-1).sum(-1)


EDGE_M = 0.005
"""Standard deviation of the prior's tails outside the working area."""
OVERLAP_M = 0.002
"""Standard deviation of the prior's tail within ``apart_m`` of another object."""
GUIDE_ERROR_M, GUIDE_ERROR_RAD = 0.002, 0.05
"""Standard deviations of the errors with which simulated truths are drawn for a guide with feedback."""


@dataclass(frozen=True)
class SleepTerms:
    """Negative log-likelihoods of simulated truths, one number a scene, summed over its objects."""

    presence: Float[Tensor, "b"]
    """Of the count, step by step."""
    attention: Float[Tensor, "b"]
    """Of the positions, before any glimpse."""
    position: Float[Tensor, "b"]
    """Of the positions, read from glimpses."""
    category: Float[Tensor, "b"]
    """Of the classes."""
    yaw: Float[Tensor, "b"]
    """Of the yaws, given the classes."""


def sleep_terms(
    guide: RecurrentGuide,
    image_rgb: Float[Tensor, "b h w 3"],
    view: View,
    truth: Objects,
    generator: torch.Generator | None,
    painter: FoundPainter | None = None,
) -> SleepTerms:
    """Score simulated truths under the guide, steps conditioned on the truth.

    Step t explains the remaining object that its attention finds most likely, so the order is the guide's own.  Glimpses are
    taken around the true positions with errors like those that the guide makes: mostly small, some of several centimetres.

    Args:
        guide: what is trained.
        image_rgb: rendered scenes.
        view: their views.
        truth: [b n] upright objects, present ones first.
        generator: source of the glimpses' errors.
        painter: draws what earlier steps explained, with errors like the guide's; a guide with feedback needs it.
    """
    features = guide.encode(image_rgb, view.camera)
    state, told = guide.start(features)
    count = truth.present.sum(-1)
    xy, yaw = truth.T_world_object[..., :2, 3], torch.atan2(truth.T_world_object[..., 1, 0], truth.T_world_object[..., 0, 0])
    seen_truth = truth if painter is None else _misplaced(truth, xy, yaw, generator)
    remaining = truth.present.clone()
    scenes = torch.arange(len(count), device=xy.device)
    presence, attention_loss = xy.new_zeros(len(count)), xy.new_zeros(len(count))
    explained: list[Tensor] = []
    chosen: list[Tensor] = []
    for step in range(guide.config.max_objects):
        left = guide.with_left(features, painter, _explained(seen_truth, chosen)) if guide.config.feedback else features
        attention, seen = guide.attend(left, state, told, explained)
        is_present = step < count
        reached = (step <= count).to(xy.dtype)
        presence = presence + reached * F.binary_cross_entropy_with_logits(
            attention.presence_logit, is_present.to(xy.dtype), reduction="none"
        )
        near = gaussian_log_prob(xy, attention.xy_m[:, None], attention.std_m[:, None])
        pick = near.detach().masked_fill(~remaining, -torch.inf).argmax(-1)
        remaining[scenes, pick] = False
        attention_loss = attention_loss - is_present * near[scenes, pick]
        at = torch.where(is_present[:, None], xy[scenes, pick], attention.xy_m.detach())
        one_hot = F.one_hot(truth.class_ids[scenes, pick], len(guide.config.folds)).to(xy.dtype)
        explained.append(at)
        state, told = attention.state, guide.tell(seen, at, one_hot)
        chosen.append(pick)
    held = torch.stack(chosen, 1)
    slot = torch.arange(held.shape[1], device=xy.device) < count[:, None]
    scene = scenes[:, None].expand_as(held)[slot]
    rows = (scene, held[slot])
    position, category, turn = _read_truth(guide, features, scene, truth.class_ids[rows], xy[rows], yaw[rows], generator)

    def per_scene(values: Tensor) -> Tensor:
        return values.new_zeros(len(count)).index_add(0, scene, values)

    return SleepTerms(presence, attention_loss, per_scene(position), per_scene(category), per_scene(turn))


def _explained(truth: Objects, chosen: list[Int[Tensor, "b"]]) -> Objects:
    """The truth with only those objects present that are chosen already."""
    held = torch.zeros_like(truth.present)
    if chosen:
        held = held.scatter(-1, torch.stack(chosen, 1), True)
    return dataclasses.replace(truth, present=truth.present & held)


def _misplaced(
    truth: Objects, xy_m: Float[Tensor, "b n 2"], yaw_rad: Float[Tensor, "b n"], generator: torch.Generator | None
) -> Objects:
    """Upright objects shifted and turned by errors like those that a guide makes."""
    T = upright_pose(
        xy_m + GUIDE_ERROR_M * normal_like(xy_m, generator), yaw_rad + GUIDE_ERROR_RAD * normal_like(yaw_rad, generator)
    )
    return dataclasses.replace(truth, T_world_object=T)


def _read_truth(
    guide: RecurrentGuide,
    features: Features,
    scene: Tensor,
    class_ids: Int[Tensor, " g"],
    xy_m: Float[Tensor, "g 2"],
    yaw_rad: Float[Tensor, " g"],
    generator: torch.Generator | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Negative log-likelihoods of position, class and yaw of objects under glimpses taken near them."""
    spread = 0.1 * guide.config.half_width_m * torch.rand(xy_m[:, :1].shape, generator=generator, device=xy_m.device).square()
    at = xy_m + spread * normal_like(xy_m, generator)
    reading = guide.read(features, scene, at)
    position = -gaussian_log_prob(xy_m - at, reading.offset_mean_m, reading.offset_std_m)
    category = F.cross_entropy(reading.class_logits, class_ids, reduction="none")
    return position, category, -yaw_log_prob(reading, class_ids, yaw_rad, guide.folds)


def bound_terms(
    guide: RecurrentGuide,
    renderer: Renderer,
    image_rgb: Float[Tensor, "b h w 3"],
    view: View,
    prior: UprightPrior,
    sigma: float,
    blur_px: tuple[int, ...],
    generator: torch.Generator | None,
    explore: float = 0.0,
    presence_limit: float = 6.0,
    enumerated: bool = True,
    spare_below: float = 0.0,
) -> BoundTerms:
    """Run the guide with draws, render its stack of layers, and collect the terms of the bound.

    Args:
        guide: what is trained.
        renderer: draws the layers, with gradients to the poses.
        image_rgb: observed images.
        view: their views.
        prior: p(count, class, pose).
        sigma: standard deviation of the image noise.
        blur_px: widths of the boxes over which the residual is averaged for ``BoundTerms.coarse``.
        generator: source of the draws.
        explore: share of the draws of class and yaw bin that are uniform instead of from the guide.
        presence_limit: presence logits are squashed softly to this size, so that no count loses its gradient.
        enumerated: draw every class and yaw bin of every slot too; without, the terms hold no choices.
        spare_below: alternatives of slots less probable than this are not drawn, and their choices learn nothing.
    """
    painter = guide.painter(renderer, view)
    posterior = guide(image_rgb, view.camera, generator, draw=True, looks=1, explore=explore, painter=painter)
    objects = drawn_objects(posterior)
    residual = prefix_images(renderer, objects, view) - image_rgb[:, None]
    precision = -0.5 / sigma**2
    logits = presence_limit * torch.tanh(posterior.presence_logits / presence_limit)
    count_log_q = count_log_probabilities(logits)
    class_log_q = F.log_softmax(posterior.reading.class_logits, -1)
    yaw_log_q = F.log_softmax(_of_class(posterior.reading.yaw_logits, posterior.class_ids), -1)
    choices: tuple[Choice, ...] = ()
    if enumerated:
        spared = at_least_probabilities(count_log_q.detach().exp()) < spare_below
        alternatives = _alternatives(posterior, guide.folds, spared, generator)
        swapped = precision * swap_errors(renderer, objects, alternatives, view, image_rgb)
        by_class, by_bin = swapped.split([class_log_q.shape[-1], yaw_log_q.shape[-1]], 2)
        turns = (guide.folds > 0)[posterior.class_ids] & ~spared
        choices = (_choice(class_log_q, by_class, ~spared), _choice(yaw_log_q, by_bin, turns))
    drawn_class = class_log_q.gather(-1, posterior.class_ids[..., None])[..., 0]
    drawn_bin = yaw_log_q.gather(-1, posterior.yaw_bins.gather(-1, posterior.class_ids[..., None]))[..., 0]
    drawn_bin = (guide.folds > 0)[posterior.class_ids] * drawn_bin
    return BoundTerms(
        count_log_q=count_log_q,
        count_log_p=torch.tensor(prior.count_probabilities, device=image_rgb.device).clamp(min=1e-12).log(),
        log_likelihood=precision * residual.square().sum((-3, -2, -1)),
        coarse=precision * coarse_errors(residual, blur_px),
        choices=choices,
        drawn_log_q=drawn_class + drawn_bin,
        kl=slot_kl(posterior, class_log_q, guide.folds, prior),
        log_ratio=log_ratio(posterior, drawn_class, drawn_bin, guide.folds, prior),
        constant=gaussian_constant(image_rgb[0].numel(), sigma),
    )


def _choice(log_q: Float[Tensor, "b n k"], log_likelihood: Float[Tensor, "b n k m"], counts: Tensor) -> Choice:
    """A choice that learns nothing in the slots where it does not count."""
    counts = counts[..., None]
    return Choice(torch.where(counts, log_q, log_q.detach()), log_likelihood * counts[..., None])


def drawn_objects(posterior: Posterior) -> Objects:
    """All N slots with the class and pose drawn for them, as if each were present."""
    yaw = posterior.yaw_rad.gather(-1, posterior.class_ids[..., None])[..., 0]
    present = torch.ones_like(posterior.class_ids, dtype=torch.bool)
    return Objects(posterior.class_ids, upright_pose(posterior.xy_m, yaw), present)


def coarse_errors(residual: Float[Tensor, "b m h w 3"], blur_px: tuple[int, ...]) -> Float[Tensor, "b m"]:
    """Sum over widths w of (w / 2)^2 * sum of squares of the residual's means over half-overlapping w x w boxes.

    For a residual that is smooth at the scale w this is its plain squared error.  Widths are multiples of 4.
    """
    total = residual.new_zeros(residual.shape[:2])
    if not blur_px:
        return total
    # halves first: every box is made of them
    halves = F.avg_pool2d(residual.flatten(0, 1).permute(0, 3, 1, 2), 2)
    for width in blur_px:
        half = width // 2
        means = F.avg_pool2d(halves, half, stride=max(1, half // 2), padding=half // 2, count_include_pad=True)
        total = total + (2 * max(1, half // 2)) ** 2 * means.square().sum((1, 2, 3)).unflatten(0, residual.shape[:2])
    return total


def _of_class(values: Float[Tensor, "b n k y"], class_ids: Int[Tensor, "b n"]) -> Float[Tensor, "b n y"]:
    return values.gather(-2, class_ids[..., None, None].expand(*class_ids.shape, 1, values.shape[-1]))[..., 0, :]


def _alternatives(posterior: Posterior, folds: Tensor, spared: Tensor, generator: torch.Generator | None) -> Objects:
    """What may stand in a slot instead: every class with the yaw drawn for it, then a draw from each yaw bin of its class.

    Those of slots that are ``spared`` are absent.
    """
    with torch.no_grad():
        classes, bins = posterior.reading.yaw_logits.shape[-2:]
        phase = _of_class(posterior.reading.yaw_phase_rad, posterior.class_ids)
        phase = phase + _of_class(posterior.reading.yaw_std_rad, posterior.class_ids) * normal_like(phase, generator)
        fold = folds[posterior.class_ids][..., None].expand_as(phase)
        yaw = torch.cat([posterior.yaw_rad, yaw_of_phase(phase, fold)], -1)
        every = torch.arange(classes, device=yaw.device).expand(*posterior.class_ids.shape, classes)
        class_ids = torch.cat([every, posterior.class_ids[..., None].expand(-1, -1, bins)], -1)
        xy = posterior.xy_m[:, :, None].expand(*class_ids.shape, 2)
        worth_drawing = torch.cat([torch.ones_like(every, dtype=torch.bool), fold > 0], -1) & ~spared[..., None]
        return Objects(class_ids, upright_pose(xy, yaw), worth_drawing)


def slot_kl(posterior: Posterior, class_log_q: Tensor, folds: Tensor, prior: UprightPrior) -> Float[Tensor, "b n"]:
    """KL of class, position and yaw.

    Yaw by the joint of bin and place in it: an upper bound of the mixture's own while the components are narrow against the bins'
    spacing; where they are wider and overlap it falls below, even below 0.
    """
    reading = posterior.reading
    kl_class = (class_log_q.exp() * (class_log_q + math.log(prior.num_classes))).sum(-1)
    entropy_xy = (reading.offset_std_m.log() + 0.5 * (LOG_TWO_PI + 1)).sum(-1)
    kl_xy = -entropy_xy - prior.position_log_prob(posterior.xy_m) - prior.apart_log_prob(posterior.xy_m)
    bins = reading.yaw_logits.shape[-1]
    log_q = F.log_softmax(reading.yaw_logits, -1)
    within = math.log(4 * math.pi / bins) - reading.yaw_std_rad.log() - 0.5 * (LOG_TWO_PI + 1)
    kl_yaw = (log_q.exp() * (log_q + math.log(bins) + within)).sum(-1)
    seen = (folds > 0).to(kl_yaw.dtype)
    return kl_class + kl_xy + (class_log_q.exp() * seen * kl_yaw).sum(-1)


def log_ratio(
    posterior: Posterior, drawn_class: Tensor, drawn_bin: Tensor, folds: Tensor, prior: UprightPrior
) -> Float[Tensor, "b n"]:
    """Log q - log p of the class, position and yaw drawn, yaw by the joint of bin and place in it as in ``slot_kl``."""
    reading, ids = posterior.reading, posterior.class_ids
    at_bin = posterior.yaw_bins.gather(-1, ids[..., None])
    centre, std = (_of_class(x, ids).gather(-1, at_bin)[..., 0] for x in (reading.yaw_phase_rad, reading.yaw_std_rad))
    fold = folds[ids]
    away = wrap(posterior.yaw_rad.gather(-1, ids[..., None])[..., 0] * fold - centre)
    turn = drawn_bin - 0.5 * (away / std).square() - std.log() + math.log(2) + 0.5 * LOG_TWO_PI
    place = gaussian_log_prob(posterior.xy_m, posterior.glimpse_xy_m + reading.offset_mean_m, reading.offset_std_m)
    prior_place = prior.position_log_prob(posterior.xy_m) + prior.apart_log_prob(posterior.xy_m)
    return drawn_class + math.log(prior.num_classes) + place - prior_place + (fold > 0) * turn
