"""Refinement of poses at test time: known objects are moved until the rendered image is the observed one.

Gauss-Newton (Levenberg-Marquardt) where the renderer gives the normal equations of its image, Adam through any renderer whose
images carry gradients.  Both start on blurred residuals, which reach farther, and end on sharp ones, which are accurate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from inverse_graphics.poses import motion_slopes, move
from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Catalogue, Objects, View, map_tensors

Method = Literal["gauss-newton", "adam"]
"""``gauss-newton``: Levenberg-Marquardt on ``PoseSolver.normal_equations``.  ``adam``: on the gradient of the image."""
Tangents = Literal["planar", "full"]
"""``planar``: along world x and y, about world z.  ``full``: all translations and rotations."""

BLUR_PX = (3.0, 2.0, 1.0, 0.0)
"""Default widths of the blur, one stage each."""
STEPS: dict[Method, int] = {"gauss-newton": 15, "adam": 40}
"""Default number of steps of each stage."""
ADAM_STEP, ADAM_LAST_STEP = 0.05, 0.002
"""First and last step of Adam, in object radii and radians."""
ADAM_DECAY = (0.8, 0.95)
"""Decay of Adam's mean gradient and mean square: shorter than usual, for runs of a few dozen steps."""
DAMPING, MIN_DAMPING, MAX_DAMPING = 1e-2, 1e-5, 1e3
"""Damping at the start of a stage, at least, and where a stage gives up, relative to the diagonal of J^T J."""
EASE, TIGHTEN = 0.2, 5.0
"""Factors on the damping after a step that was kept and one that was not."""
LONGEST_STEP = 0.5
"""Longest step of Gauss-Newton, in object radii and radians."""
LEAST_SENSITIVITY = 1e-2
"""Motions that change the image less than this share of what the object's strongest does are damped as if they changed it so."""
GAIN, GAIN_CHANGE = (0.1, 30.0), (0.3, 3.0)
"""Bounds on what the steps of a blurred stage are multiplied by, and on its change from one step to the next."""
TOLERANCE = 1e-3
"""A stage ends where a kept step lowers the error by less than this share."""


@runtime_checkable
class NormalEquations(Protocol):
    """J^T r and J^T J of an image with respect to the p tangents of each object, objects apart from each other."""

    @property
    def gradient(self) -> Float[Tensor, "*b n p"]:
        """J^T r."""
        ...

    @property
    def hessian(self) -> Float[Tensor, "*b n p p"]:
        """J^T J."""
        ...


@runtime_checkable
class PoseSolver(Renderer, Protocol):
    """A renderer that gives the normal equations of a least-squares fit of its image."""

    def normal_equations(self, objects: Objects, view: View, residual_rgb: Float[Tensor, "*b h w 3"]) -> NormalEquations:
        """Normal equations at the given poses.

        Args:
            objects: [*b n] objects.
            view: [*b] views.
            residual_rgb: image minus target, or what is to take its place in J^T r.

        Returns:
            Derivatives along world x, y, z in metres and about world x, y, z through the object's origin in radians (p = 6), or
            along x and y and about z alone (p = 3).
        """
        ...


@dataclass(frozen=True)
class Refined:
    """Poses after refinement, and what it took."""

    objects: Objects
    """[*b n] the objects, moved; absent ones stay."""
    errors: Float[Tensor, "*b"]
    """Sum over pixels and channels of (image - target)^2 with these poses."""
    start_errors: Float[Tensor, "*b"]
    """The same with the poses given; ``errors`` is never larger."""
    renders: Int[Tensor, "*b"]
    """Images drawn of each scene."""
    gradients: Int[Tensor, "*b"]
    """Gradients or normal equations taken of each scene; a finite-difference renderer draws two layers a tangent for one."""


def refine_poses(
    renderer: Renderer,
    objects: Objects,
    view: View,
    target_rgb: Float[Tensor, "*b h w 3"],
    method: Method = "gauss-newton",
    tangents: Tangents = "full",
    blur_px: Sequence[float] = BLUR_PX,
    steps: int | None = None,
) -> Refined:
    """Move the objects present until the image is as near to the target as it gets, in the sense of least squares.

    Classes and number of objects stay.  All scenes of a batch are refined side by side and independently of each other.

    Args:
        renderer: draws the images.
        objects: [*b n] where to start.
        view: [*b] camera, light and background of the target; they must be known.
        target_rgb: observed images, linear colours.
        method: "gauss-newton" needs a ``PoseSolver``, "adam" any differentiable renderer.
        tangents: motions allowed; those of the renderer.
        blur_px: standard deviations, in pixels, of the Gaussian that blurs the residual, one stage each; 0 is no blur.
        steps: at most this many steps a stage; ``STEPS`` where None.

    Returns:
        Poses without gradient.

    Raises:
        ValueError: an unknown method or tangents, a renderer that cannot do it, target, blur or steps out of range.
    """
    _check(renderer, view, target_rgb, method, tangents, blur_px, steps)
    batch = objects.class_ids.shape[:-1]
    flat: tuple[Objects, View, Tensor] = _flatten(objects, view, target_rgb, len(batch))
    count = STEPS[method] if steps is None else steps
    with torch.no_grad():
        fit = _Fit(renderer, *flat, tangents)
        start = fit.objects.T_world_object
        residual = fit.residual(fit.everything, start)
        search = _gauss_newton if method == "gauss-newton" else _adam
        T, errors = search(fit, residual, blur_px, count)
        return fit.refined(T, errors, _squared(residual), batch)


class _Fit:
    """One flat batch of scenes, what is known of its objects, and the count of what was drawn."""

    def __init__(self, renderer: Renderer, objects: Objects, view: View, target_rgb: Tensor, tangents: Tangents) -> None:
        self.renderer, self.objects, self.view, self.target_rgb = renderer, objects, view, target_rgb
        self.basis = torch.eye(6)[[0, 1, 5] if tangents == "planar" else slice(None)].to(objects.T_world_object)
        centre_m, radius_m = _extents(renderer.catalogue)
        self.centre_m = centre_m.to(self.basis)[objects.class_ids]
        self.radius_m = radius_m.to(self.basis)[objects.class_ids]
        self.everything = torch.arange(len(target_rgb), device=target_rgb.device)
        self.renders = torch.zeros_like(self.everything)
        self.gradients = torch.zeros_like(self.everything)

    def scenes(self, index: Tensor, T_world_object: Tensor) -> tuple[Objects, View]:
        """Some of the scenes with other poses."""
        objects, view = map_tensors(lambda x: x[index], self.objects), map_tensors(lambda x: x[index], self.view)
        return replace(objects, T_world_object=T_world_object), view

    def residual(self, index: Tensor, T_world_object: Tensor) -> Tensor:
        """[k h w 3] image minus target of some scenes."""
        self.renders[index] += 1
        return self.renderer.render(*self.scenes(index, T_world_object)).rgb - self.target_rgb[index]

    def normal_equations(self, index: Tensor, T_world_object: Tensor, residual: Tensor) -> tuple[Tensor, Tensor]:
        """Gradient [k n p] and Hessian [k n p p] of some scenes, with respect to motions in radii about the centres."""
        assert isinstance(self.renderer, PoseSolver)
        self.gradients[index] += 1
        equations = self.renderer.normal_equations(*self.scenes(index, T_world_object), residual)
        if equations.gradient.shape[-1] != len(self.basis):
            raise ValueError(
                f"tangents: expected those of the renderer, {equations.gradient.shape[-1]} an object, got {len(self.basis)}; "
                "build the renderer with the same tangents"
            )
        M = self.motions(index, T_world_object)
        gradient = (M.transpose(-1, -2) @ equations.gradient[..., None])[..., 0]
        return gradient, M.transpose(-1, -2) @ equations.hessian @ M

    def gradient(self, T_world_object: Tensor, blur_px: float) -> tuple[Tensor, Tensor]:
        """Gradient [b n p] of half the blurred squared error, by motions in radii about the centres, and the residual."""
        self.gradients += 1
        T = T_world_object.detach().requires_grad_()
        with torch.enable_grad():
            residual = self.residual(self.everything, T)
            (slope,) = torch.autograd.grad(0.5 * _squared(blur(residual, blur_px)).sum(), T)
        slopes = motion_slopes(T_world_object, slope) @ self.basis.T
        M = self.motions(self.everything, T_world_object)
        return (M.transpose(-1, -2) @ slopes[..., None])[..., 0], residual.detach()

    def motions(self, index: Tensor, T_world_object: Tensor) -> Tensor:
        """[k n p p] motions about the origins in metres and radians, of motions about the centres in radii and radians."""
        radius_m = self.radius_m[index][..., None, None]
        to_origin = -(T_world_object[..., :3, :3] @ self.centre_m[index][..., None])[..., 0]
        M = torch.eye(6).to(T_world_object).repeat(*to_origin.shape[:-1], 1, 1)
        M[..., :3, 3:] = -_hat(to_origin)
        M[..., :3, :3] *= radius_m
        return self.basis @ M @ self.basis.T

    def move(self, index: Tensor, T_world_object: Tensor, motion: Tensor) -> Tensor:
        """Poses after motions [k n p] in radii and radians about the centres; absent objects stay."""
        about_origin = (self.motions(index, T_world_object) @ motion[..., None])[..., 0] @ self.basis
        present = self.objects.present[index][..., None, None]
        return torch.where(present, move(T_world_object, about_origin), T_world_object)

    def refined(self, T: Tensor, errors: Tensor, start_errors: Tensor, batch: torch.Size) -> Refined:
        """The better of start and end, in the batch's own shape."""
        better = errors < start_errors
        T = torch.where(better[:, None, None, None], T, self.objects.T_world_object)
        refined = Refined(
            replace(self.objects, T_world_object=T),
            torch.where(better, errors, start_errors),
            start_errors,
            self.renders,
            self.gradients,
        )
        return map_tensors(lambda x: x.unflatten(0, batch) if batch else x[0], refined)


def _gauss_newton(fit: _Fit, residual: Tensor, blur_px: Sequence[float], steps: int) -> tuple[Tensor, Tensor]:
    """Levenberg-Marquardt, a stage for each width: poses and sharp errors."""
    T = fit.objects.T_world_object.clone()
    residual = residual.clone()
    for width in blur_px:
        _gauss_newton_stage(fit, T, residual, width, steps)
    return T, _squared(residual)


def _gauss_newton_stage(fit: _Fit, T: Tensor, residual: Tensor, blur_px: float, steps: int) -> None:
    """Move ``T`` and ``residual`` in place; a scene is drawn no more once its error has stopped falling."""
    errors = _squared(blur(residual, blur_px))
    damping = torch.full_like(errors, DAMPING)
    gain = torch.ones_like(errors)
    active, stale = errors > 0, torch.ones_like(errors, dtype=torch.bool)
    tangents = len(fit.basis)
    gradient = T.new_zeros(*T.shape[:2], tangents)
    hessian = T.new_zeros(*T.shape[:2], tangents, tangents)
    for _ in range(steps):
        new = (active & stale).nonzero()[:, 0]
        if len(new):
            weights = blur(blur(residual[new], blur_px), blur_px)
            gradient[new], hessian[new] = fit.normal_equations(new, T[new], weights)
        index = active.nonzero()[:, 0]
        if len(index) == 0:
            return
        motion = _damped_step(gradient[index], hessian[index], damping[index], gain[index])
        T_new = fit.move(index, T[index], motion)
        residual_new = fit.residual(index, T_new)
        errors_new = _squared(blur(residual_new, blur_px))
        if blur_px > 0:
            gain[index] = _next_gain(gain[index], blur(residual[index], blur_px), blur(residual_new, blur_px))
        kept = errors_new < errors[index]
        settled = kept & (errors_new > (1 - TOLERANCE) * errors[index])
        damping[index] *= torch.where(kept, EASE, TIGHTEN)
        active[index] = ~settled & (damping[index] <= MAX_DAMPING)
        damping.clamp_(min=MIN_DAMPING)
        stale[index] = kept
        moved = index[kept]
        T[moved], residual[moved], errors[moved] = T_new[kept], residual_new[kept], errors_new[kept]


def _next_gain(gain: Tensor, before: Tensor, after: Tensor) -> Tensor:
    """[k] factors on the next steps, from the blurred residuals before and after the last.

    The gradient of a blurred error is exact, but J^T J is the sharp image's, which makes steps too short.  How far along the last
    step a residual that changes linearly would have been least says by how much.
    """
    change = after - before
    best = -(change * before).flatten(1).sum(-1) / _squared(change).clamp(min=torch.finfo(change.dtype).tiny)
    return (gain * best.clamp(*GAIN_CHANGE)).clamp(*GAIN)


def _damped_step(gradient: Tensor, hessian: Tensor, damping: Tensor, gain: Tensor) -> Tensor:
    """[k n p] Levenberg-Marquardt steps times gain, damped relative to each object's own diagonal, at most ``LONGEST_STEP``."""
    scale = hessian.diagonal(dim1=-2, dim2=-1).clamp(min=0).sqrt()
    scale = torch.maximum(scale, LEAST_SENSITIVITY * scale.amax(-1, keepdim=True))
    scale = torch.where(scale > 0, scale, 1.0).double()
    unit = hessian.double() / (scale[..., None] * scale[..., None, :])
    eye = torch.eye(unit.shape[-1], dtype=unit.dtype, device=unit.device)
    unit = unit + damping[:, None, None, None] * eye
    motion = -torch.linalg.solve(unit, gradient.double() / scale) / scale
    motion = motion * gain[:, None, None]
    longest = motion.abs().amax(-1, keepdim=True).clamp(min=LONGEST_STEP)
    return (motion * (LONGEST_STEP / longest)).to(gradient.dtype)


def _adam(fit: _Fit, residual: Tensor, blur_px: Sequence[float], steps: int) -> tuple[Tensor, Tensor]:
    """Adam with shrinking steps through all stages: the poses of least sharp error on the way, and that error."""
    T = fit.objects.T_world_object
    best_T, best = T.clone(), _squared(residual)
    mean = square = T.new_zeros(*T.shape[:2], len(fit.basis))
    total = len(blur_px) * steps
    for step in range(total):
        gradient, residual = fit.gradient(T, blur_px[step // steps])
        best_T, best = _better(best_T, best, T, _squared(residual))
        mean = ADAM_DECAY[0] * mean + (1 - ADAM_DECAY[0]) * gradient
        square = ADAM_DECAY[1] * square + (1 - ADAM_DECAY[1]) * gradient.square()
        unbiased = mean / (1 - ADAM_DECAY[0] ** (step + 1))
        spread = (square / (1 - ADAM_DECAY[1] ** (step + 1))).sqrt()
        length = ADAM_STEP * (ADAM_LAST_STEP / ADAM_STEP) ** (step / max(total - 1, 1))
        T = fit.move(fit.everything, T, -length * unbiased / (spread + torch.finfo(spread.dtype).tiny))
    return _better(best_T, best, T, _squared(fit.residual(fit.everything, T)))


def _better(best_T: Tensor, best: Tensor, T: Tensor, errors: Tensor) -> tuple[Tensor, Tensor]:
    """Of two poses of each scene the one of less error."""
    lower = errors < best
    return torch.where(lower[:, None, None, None], T, best_T), torch.where(lower, errors, best)


def blur(image: Float[Tensor, "b h w c"], sigma_px: float) -> Float[Tensor, "b h w c"]:
    """Convolve with a Gaussian cut at three standard deviations, zero beyond the image; its own transpose.  0 changes nothing."""
    if sigma_px == 0:
        return image
    reach = math.ceil(3 * sigma_px)
    offsets = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
    weights = torch.exp(-0.5 * (offsets / sigma_px) ** 2)
    weights = weights / weights.sum()
    planes = image.movedim(-1, 1).flatten(0, 1)[:, None]
    planes = F.conv2d(planes, weights[None, None, :, None], padding=(reach, 0))
    planes = F.conv2d(planes, weights[None, None, None, :], padding=(0, reach))
    return planes[:, 0].unflatten(0, (len(image), image.shape[-1])).movedim(1, -1)


def _squared(image: Float[Tensor, "b h w c"]) -> Float[Tensor, "b"]:
    return image.square().sum((-3, -2, -1))


def _extents(catalogue: Catalogue) -> tuple[Float[Tensor, "k 3"], Float[Tensor, "k"]]:
    """Centre of each mesh's box, and the largest distance of a vertex from it."""
    vertices = [torch.as_tensor(mesh.vertices_m) for mesh in catalogue.meshes]
    centre_m = torch.stack([(v.amin(0) + v.amax(0)) / 2 for v in vertices])
    radius_m = torch.stack([(v - c).norm(dim=-1).max() for v, c in zip(vertices, centre_m, strict=True)])
    return centre_m, radius_m.clamp(min=1e-6)


def _hat(v: Float[Tensor, "*b 3"]) -> Float[Tensor, "*b 3 3"]:
    """Matrix of w -> v x w."""
    return torch.linalg.cross(v[..., None], torch.eye(3).to(v).expand(*v.shape, 3), dim=-2)


def _flatten(objects: Objects, view: View, target_rgb: Tensor, batch_dims: int) -> tuple[Objects, View, Tensor]:
    """One batch dimension in place of any number."""

    def flat(x: Tensor) -> Tensor:
        return x.detach().flatten(0, batch_dims - 1) if batch_dims else x.detach()[None]

    return map_tensors(flat, objects), map_tensors(flat, view), flat(target_rgb)


def _check(
    renderer: Renderer,
    view: View,
    target_rgb: Tensor,
    method: str,
    tangents: str,
    blur_px: Sequence[float],
    steps: int | None,
) -> None:
    """Raise ValueError where ``refine_poses`` cannot start."""
    if method not in STEPS:
        raise ValueError(f"method: expected one of {', '.join(STEPS)}; got {method!r}; name one of these")
    if tangents not in ("planar", "full"):
        raise ValueError(f"tangents: expected 'planar' or 'full', got {tangents!r}; name one of these")
    if method == "gauss-newton" and not isinstance(renderer, PoseSolver):
        raise ValueError(
            f"renderer: expected one with normal_equations for gauss-newton, got {renderer.name!r}; use method='adam', or "
            "wrap it in a FiniteDifferenceRenderer"
        )
    if method == "adam" and not renderer.is_differentiable:
        raise ValueError(
            f"renderer: expected one whose images carry gradients, got {renderer.name!r}; wrap it in a FiniteDifferenceRenderer"
        )
    if target_rgb.shape != view.background_rgb.shape:
        raise ValueError(
            f"target_rgb: expected {tuple(view.background_rgb.shape)} as the view, got {tuple(target_rgb.shape)}; "
            "give one image of the camera's size for each scene"
        )
    if len(blur_px) == 0 or not all(0 <= width < math.inf for width in blur_px):
        raise ValueError(f"blur_px: expected at least one width of 0 or more pixels, got {tuple(blur_px)}; (0,) is no blur")
    if steps is not None and steps < 1:
        raise ValueError(f"steps: expected at least 1, got {steps}; leave it out for the default")
