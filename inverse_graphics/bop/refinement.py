"""Estimated poses of an image moved until their pictures are the image: of its colours, its depth or both.

Every estimate gets a window (``windows``), in which it is moved by Levenberg-Marquardt while the others stand still; after each
stage all of them take their new places.  Colours need the light, which is fitted (``lighting``), and the background, a colour.
Depth first pulls surfaces together (``depth_alignment``), from farther away than colours reach.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import roma
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_graphics.bop.lighting import background_colour, first_light, fit_light
from inverse_graphics.bop.window_fit import Stage, WindowFit
from inverse_graphics.bop.windows import cut_windows, frame_windows
from inverse_graphics.refinement import PoseSolver
from inverse_graphics.types import Catalogue

Use = Literal["rgb", "depth", "rgbd"]
"""What of an image is compared."""
FAR_COLOURS = (Stage(0.5, None, 3.0), Stage(0.3, None, 2.0), Stage(0.2, None, 1.0))
"""From afar by colours, coarse to fine."""
FAR_DEPTH = (Stage(None, 0.3), Stage(None, 0.1))
"""From afar by depth."""
NEAR: dict[Use, tuple[Stage, ...]] = {
    "rgb": (Stage(0.2, None, 1.0), Stage(0.15, None)),
    "depth": (Stage(None, 0.1), Stage(None, 0.04)),
    "rgbd": (Stage(0.2, 0.06, 1.0), Stage(0.15, 0.04)),
}
"""Ends each attempt; the last stage's loss decides between attempts, and between start and end."""
ATTEMPTS: dict[Use, tuple[tuple[Stage, ...], ...]] = {
    "rgb": (FAR_COLOURS[:2], (Stage(0.5, None, 6.0), *FAR_COLOURS[:2])),
    "depth": (FAR_DEPTH[:1], (Stage(None, 1.0), *FAR_DEPTH[:1])),
    "rgbd": (FAR_DEPTH, (FAR_COLOURS[0], Stage(0.3, 0.2, 2.0))),
}
"""What each attempt begins with; later ones are for estimates that the earlier ones left unexplained."""
TURNS_DEG = (-45.0, -30.0, -15.0, 15.0, 30.0, 45.0)
"""Then the best poses are turned by these angles about each axis of the model, and the turn of least loss is followed."""
TURNED_ATTEMPTS = 1
"""How often."""
EXPLAINED: dict[Use, float] = {"rgb": 0.04, "depth": 0.01, "rgbd": 0.05}
"""Loss in shares of the pixels that show the object, up to which no further attempt is made."""
STEPS = 12
"""Default number of steps of each stage."""
WINDOW_PX = 96
"""Default size of a window."""
DUPLICATE = 0.3
"""Of two estimates whose middles are nearer than this share of the smaller diameter, others see only the better scored one."""
DAMPING, MIN_DAMPING, MAX_DAMPING = 1e-2, 1e-5, 1e3
"""Damping at the start of a stage, at least, and where a stage gives up, relative to the diagonal of J^T J."""
EASE, TIGHTEN = 0.2, 5.0
"""Factors on the damping after a step that was kept and one that was not."""
LONGEST_STEP = 0.3
"""Longest step in radii and radians."""
LEAST_SENSITIVITY = 1e-2
"""Motions that change the picture less than this share of what the strongest does are damped as if they changed it so."""
GAIN, GAIN_CHANGE = (0.1, 30.0), (0.3, 3.0)
"""Bounds on what steps of blurred colours are multiplied by, and on its change from one step to the next."""
TOLERANCE, LAST_TOLERANCE = 2e-2, 1e-3
"""A stage, and the last one, ends where a kept step lowers the loss by less than this share."""


@dataclass(frozen=True)
class Observation:
    """What is known of an image."""

    rgb: Float[Tensor, "h w 3"]
    """Linear colours, float32."""
    depth_m: Float[Tensor, "h w"] | None
    """z-depth, float32, 0 where it is unknown; None without depth image."""
    K_px: Float[Tensor, "3 3"]
    """Intrinsic matrix, float32."""


@dataclass(frozen=True)
class RefinedPoses:
    """The estimates of an image after refinement."""

    T_camera_object: Float[np.ndarray, "n 4 4"]
    """Poses in metres, float64; those that could not be improved are bit for bit what they were."""
    is_moved: Bool[np.ndarray, "n"]
    """Which have another pose."""
    losses: Float[np.ndarray, "n"]
    """Loss of each window in pixels with these poses, NaN where nothing could be drawn."""
    start_losses: Float[np.ndarray, "n"]
    """The same with the own object at its start, the others where they ended; ``losses`` is never larger."""


def refine_image(
    renderer: PoseSolver,
    observation: Observation,
    class_ids: Int[np.ndarray, "n"],
    scores: Float[np.ndarray, "n"],
    T_camera_object: Float[np.ndarray, "n 4 4"],
    use: Use,
    steps: int = STEPS,
    window_px: int = WINDOW_PX,
) -> RefinedPoses:
    """Refine all estimates of an image.

    Args:
        renderer: draws the models, whose origins are the middles of their boxes; its tangents must be ``full``.
        observation: the image.
        class_ids: class of each estimate.
        scores: higher is better; decides which of two estimates of one place the others see.
        T_camera_object: poses in metres.
        use: what is compared.
        steps: at most this many a stage.
        window_px: width and height of the pictures drawn.

    Raises:
        ValueError: depth asked for where there is none, or a number out of range.
    """
    check_settings(use, steps, window_px)
    if use != "rgb" and observation.depth_m is None:
        raise ValueError(f"use: expected 'rgb' for an image without depth, received {use!r}; leave depth out")
    T_start = torch.from_numpy(np.asarray(T_camera_object, np.float64).copy())
    radius_m = _radii(renderer.catalogue)[torch.from_numpy(class_ids)]
    drawable = np.flatnonzero(_in_view(T_start, radius_m, observation).numpy())
    losses = np.full((2, len(class_ids)), np.nan)
    T_end = np.asarray(T_camera_object, np.float64).copy()
    moved = np.zeros(len(class_ids), np.bool_)
    if len(drawable):
        rows = torch.from_numpy(drawable)
        fit = _windows(renderer, observation, torch.from_numpy(class_ids)[rows], scores[drawable], T_start[rows], window_px)
        T, losses[0, drawable], losses[1, drawable] = _descend(fit, T_start[rows], use, steps)
        better = losses[0, drawable] < losses[1, drawable]
        moved[drawable] = better
        T_end[drawable[better]] = _orthonormal(T.numpy()[better])
    return RefinedPoses(T_end, moved, losses.min(0), losses[1])


@torch.no_grad()
def _descend(fit: WindowFit, T_start: Tensor, use: Use, steps: int) -> tuple[Tensor, np.ndarray, np.ndarray]:
    """Poses after all attempts, their losses and those of the start."""
    everything, last = torch.arange(len(T_start)), NEAR[use][-1]
    T, losses = T_start, torch.full((len(T_start),), torch.inf).double()
    unexplained = torch.ones(len(T_start), dtype=torch.bool)
    for number in range(len(ATTEMPTS[use]) + TURNED_ATTEMPTS):
        is_turned = number >= len(ATTEMPTS[use])
        T_new = _turned(fit, T, unexplained, last) if is_turned else torch.where(unexplained[:, None, None], T_start, T)
        for stage in (() if is_turned else ATTEMPTS[use][number]) + NEAR[use]:
            fit = _lit(fit.with_others(T_new), T_new, stage)
            tolerance = LAST_TOLERANCE if stage is last else TOLERANCE
            T_new = _descend_stage(fit, T_new, unexplained, stage, steps, tolerance)
        fit = fit.with_others(T_new)
        old, new = fit.draw(everything, T, last), fit.draw(everything, T_new, last)
        better = new.losses < old.losses if number else torch.ones_like(unexplained)
        T = torch.where(better[:, None, None], T_new, T)
        losses = torch.where(better, new.losses, old.losses)
        unexplained = losses > EXPLAINED[use] * new.own.sum((1, 2)).clamp(min=1)
        if not bool(unexplained.any()):
            break
    fit = _lit(fit.with_others(T), T, last)
    ends = [fit.draw(everything, poses, last).losses.numpy() for poses in (T, T_start)]
    return T, ends[0], ends[1]


def _turned(fit: WindowFit, T: Tensor, chosen: Bool[Tensor, "k"], stage: Stage) -> Tensor:
    """Of the turns of the chosen objects about their models' axes those of least loss."""
    index = chosen.nonzero()[:, 0]
    best_T, best = T.clone(), torch.full((len(index),), torch.inf).double()
    for axis in torch.eye(3).double():
        for angle_deg in TURNS_DEG:
            turned = T[index].clone()
            turned[:, :3, :3] = turned[:, :3, :3] @ roma.rotvec_to_rotmat(math.radians(angle_deg) * axis)
            losses = fit.draw(index, turned, stage).losses
            lower = losses < best
            best_T[index[lower]], best[lower] = turned[lower], losses[lower]
    return best_T


def check_settings(use: str, steps: int, window_px: int) -> None:
    """Raise ValueError where ``refine_image`` would refuse its settings."""
    if use not in get_args(Use):
        raise ValueError(f"use: expected one of {', '.join(get_args(Use))}, received {use!r}; name one of these")
    if steps < 1 or not 16 <= window_px <= 1024:
        raise ValueError(
            f"steps, window_px: expected at least 1 and 16..1024, received {steps} and {window_px}; "
            f"{STEPS} and {WINDOW_PX} are the defaults"
        )


def _lit(fit: WindowFit, T: Tensor, stage: Stage) -> WindowFit:
    """The same under the light that fits the poses, where colours count."""
    if stage.rgb_width is None:
        return fit
    objects, view = fit.scene(torch.arange(len(T)), T)
    light = fit_light(fit.renderer, objects, view, fit.windows.rgb, fit.windows.inside)
    return fit if light is None else dataclasses.replace(fit, light=light)


def _descend_stage(fit: WindowFit, T: Tensor, chosen: Bool[Tensor, "k"], stage: Stage, steps: int, tolerance: float) -> Tensor:
    """Levenberg-Marquardt of the chosen windows; a window is drawn no more once its loss has stopped falling."""
    T = T.clone()
    everything = torch.arange(len(T))
    drawn = fit.draw(everything, T, stage)
    losses = drawn.losses.clone()
    damping, gain = torch.full_like(losses, DAMPING), torch.ones_like(losses)
    active, stale = chosen.clone(), torch.ones_like(chosen)
    gradient, hessian = torch.zeros(len(T), 6).double(), torch.zeros(len(T), 6, 6).double()
    for _ in range(steps):
        new = (active & stale).nonzero()[:, 0]
        if len(new):
            gradient[new], hessian[new] = fit.normal_equations(new, T[new], drawn.of(new), stage)
        index = active.nonzero()[:, 0]
        if len(index) == 0:
            break
        motion = _damped_step(gradient[index], hessian[index], damping[index], gain[index])
        T_new = fit.move(index, T[index], motion)
        drawn_new = fit.draw(index, T_new, stage)
        if stage.blur_px > 0 and stage.depth_width is None:
            gain[index] = _next_gain(gain[index], drawn.residual[index], drawn_new.residual)
        kept = drawn_new.losses < losses[index]
        settled = kept & (drawn_new.losses > (1 - tolerance) * losses[index])
        damping[index] *= torch.where(kept, EASE, TIGHTEN).double()
        active[index] = ~settled & (damping[index] <= MAX_DAMPING)
        damping.clamp_(min=MIN_DAMPING)
        stale[index] = kept
        moved = index[kept]
        T[moved], losses[moved] = T_new[kept], drawn_new.losses[kept]
        drawn.put(moved, drawn_new.of(kept))
    return T


def _next_gain(gain: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """[m] factors on the next steps, from blurred residuals before and after the last; see ``refinement._next_gain``."""
    change = after - before
    squared = change.double().square().sum((1, 2, 3))
    best = -(change * before).double().sum((1, 2, 3)) / squared.clamp(min=torch.finfo(torch.float64).tiny)
    return (gain * best.clamp(*GAIN_CHANGE)).clamp(*GAIN)


def _damped_step(gradient: Tensor, hessian: Tensor, damping: Tensor, gain: Tensor) -> Tensor:
    """[m 6] Levenberg-Marquardt steps times gain, damped relative to the diagonal, at most ``LONGEST_STEP``."""
    scale = hessian.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
    scale = torch.maximum(scale, LEAST_SENSITIVITY * scale.amax(-1, keepdim=True))
    scale = torch.where(scale > 0, scale, 1.0)
    unit = hessian / (scale[..., None] * scale[..., None, :]) + damping[:, None, None] * torch.eye(6).double()
    motion = -gain[:, None] * torch.linalg.solve(unit, gradient / scale) / scale
    longest = motion.abs().amax(-1, keepdim=True).clamp(min=LONGEST_STEP)
    return motion * (LONGEST_STEP / longest)


def _windows(
    renderer: PoseSolver, observation: Observation, class_ids: Tensor, scores: np.ndarray, T: Tensor, size_px: int
) -> WindowFit:
    """Windows around the estimates, and what else may be seen in them."""
    radius_m = _radii(renderer.catalogue)[class_ids]
    middle_m = T[:, :3, 3].float()
    low_px, scale = frame_windows(observation.K_px, middle_m, radius_m, size_px)
    depth_m = torch.zeros(observation.rgb.shape[:2]) if observation.depth_m is None else observation.depth_m
    windows = cut_windows(observation.rgb, depth_m, observation.K_px, low_px, scale, radius_m, size_px)
    side_px = size_px * scale
    seen = _others(middle_m, radius_m, scores, low_px, side_px, observation.K_px)
    order = torch.argsort((~seen).to(torch.int8), dim=1, stable=True)
    slots = int(seen.sum(1).max()) + 1
    own = torch.arange(len(T))[:, None]
    rows = torch.cat([own, order], 1)[:, :slots]
    present = torch.cat([torch.ones_like(own, dtype=torch.bool), seen.gather(1, order)], 1)[:, :slots]
    return WindowFit(
        renderer=renderer,
        windows=windows,
        class_ids=class_ids[rows],
        rows=rows,
        present=present,
        T_others=T,
        radius_m=radius_m,
        light=first_light(observation.rgb),
        background_rgb=background_colour(observation.rgb, low_px, side_px),
    )


def _others(
    middle_m: Tensor, radius_m: Tensor, scores: np.ndarray, low_px: Tensor, side_px: Tensor, K_px: Tensor
) -> Bool[Tensor, "k k"]:
    """Which other estimates each window may show: those that reach into it, without second ones of one place."""
    distance_m = torch.cdist(middle_m, middle_m)
    same = distance_m < 2 * DUPLICATE * torch.minimum(radius_m[:, None], radius_m)
    rank = torch.from_numpy(np.argsort(np.argsort(-scores, kind="stable")))
    kept = torch.zeros(len(middle_m), dtype=torch.bool)
    for row in torch.argsort(rank).tolist():
        kept[row] = not bool((same[row] & kept).any())
    uv_px = (middle_m @ K_px.T)[:, :2] / middle_m[:, 2:]
    reach_px = torch.maximum(K_px[0, 0], K_px[1, 1]) * radius_m / middle_m[:, 2]
    beyond = torch.maximum(low_px[:, None] - uv_px, uv_px - low_px[:, None] - side_px[:, None, None]).amax(-1)
    return kept & ~same & (beyond < reach_px)


def _radii(catalogue: Catalogue) -> Float[Tensor, "c"]:
    """Largest distance of a vertex from each model's origin, float32."""
    return torch.tensor([float(np.linalg.norm(mesh.vertices_m, axis=-1).max()) for mesh in catalogue.meshes])


def _in_view(T: Tensor, radius_m: Tensor, observation: Observation) -> Bool[Tensor, "n"]:
    """Objects that lie in front of the camera, and whose middles lie in the image."""
    middle_m = T[:, :3, 3].float()
    in_front = middle_m[:, 2] > 1.2 * radius_m
    uv_px = (middle_m @ observation.K_px.T)[:, :2] / torch.where(in_front, middle_m[:, 2], 1.0)[:, None]
    height_px, width_px = observation.rgb.shape[:2]
    return in_front & (uv_px >= 0).all(-1) & (uv_px < torch.tensor([width_px, height_px])).all(-1)


def _orthonormal(T: Float[np.ndarray, "m 4 4"]) -> Float[np.ndarray, "m 4 4"]:
    """The nearest rigid transforms: many small motions leave rotations a little off."""
    T = T.copy()
    u, _, vt = np.linalg.svd(T[:, :3, :3])
    T[:, :3, :3] = u @ vt
    return T
