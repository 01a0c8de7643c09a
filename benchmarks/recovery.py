"""Poses recovered from disturbed starts by following the gradients of the image: how many, with how many images, how fast.

One or two objects without symmetry a scene, colours and shapes known.  The target is drawn with other samples than the
renderers that are fitted to it.  An object counts as recovered where it ends within ``LIMIT_M`` and ``LIMIT_DEG`` of the truth;
objects of which less than ``LEAST_VISIBLE`` is seen are drawn and fitted, but not judged.  Images are counted as
``renders_mean``: one for each image of a scene and one for each gradient, two a tangent for one by differences.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from matplotlib.figure import Figure
from torch import Tensor

from assets import procedural_catalogue
from benchmarks.perturbed import box_middles, disturb, float_scenes, sizes
from inverse_graphics.poses import invert_rigid
from inverse_graphics.protocols import Renderer
from inverse_graphics.refinement import BLUR_PX, Method, Refined, refine_poses
from inverse_graphics.reporting.style import PALETTE, figure_style, new_figure
from inverse_graphics.symmetry import rotation_error_rad
from inverse_graphics.types import Catalogue, Objects, Scene, map_tensors
from renderers import RasterRenderer
from renderers.pytorch3d import PyTorch3DRenderer

CLASSES = ("box", "mug", "teapot", "textured_cylinder", "wedge", "pan")
"""Built-in meshes that look different from every side."""
LIMIT_M, LIMIT_DEG = 0.001, 1.0
"""How near the truth a recovered pose is."""
LEAST_VISIBLE = 0.5
"""Share of an object's pixels that must be seen for it to be judged."""
DRAWS_PER_DIFFERENCE = 12
"""Images that a finite-difference gradient along six tangents costs."""


@dataclass(frozen=True)
class RecoverySettings:
    """What is recovered, and from where."""

    starts: int = 100
    """Scenes of disturbed objects; 0 leaves this part out."""
    size: int = 64
    """Width and height of the images in pixels."""
    objects: int = 2
    """Most objects a scene."""
    shift: float = 0.1
    """How far off the objects start, as a share of their size."""
    turn_deg: float = 20.0
    """How far they are turned at the start."""
    samples: int = 4
    """Samples a pixel along each axis of what is fitted; PyTorch3D's are ``pytorch3d_samples``."""
    target_samples: int = 8
    """Samples a pixel along each axis of the targets."""
    gauss_newton_steps: int = 15
    """Most steps of Gauss-Newton at each width of the blur."""
    adam_steps: int = 40
    """Steps of Adam at each width of the blur."""
    blur_px: tuple[float, ...] = BLUR_PX
    """Widths of the blur, coarse to sharp."""
    central_difference_starts: int = 40
    """Of the starts, how many are given to Adam by differences, which draws two layers a tangent and step."""
    pytorch3d_starts: int = 8
    """Of the starts, how many are given to PyTorch3D, which is slow on a CPU."""
    pytorch3d_samples: int = 1
    """PyTorch3D blurs its silhouettes, which does for antialiasing."""
    reach_starts: int = 30
    """Starts at each distance of the curve."""
    reach_shifts: tuple[float, ...] = (0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 1.0, 1.25, 1.5)
    """Distances of the curve, as shares of the object's size."""
    reach_blur_px: tuple[float, ...] = (8.0, 4.0, 2.0, 1.0, 0.0)
    """Widths of the blur that starts wide, for the curve."""
    reach_adam: bool = False
    """Whether the curve shows Adam too, which takes some ten times as long."""
    seed: int = 0
    """Seed of the scenes."""


@dataclass(frozen=True)
class Trial:
    """Objects that stand wrong, and the image to move them to."""

    truth: Scene
    """[b n] what the targets show."""
    start: Objects
    """[b n] where the search starts."""
    target_rgb: Float[Tensor, "b h w 3"]
    """The targets."""
    judged: Bool[Tensor, "b n"]
    """Objects that count."""

    def first(self, scenes: int) -> Trial:
        """The first scenes of it."""
        return map_tensors(lambda x: x[:scenes], self)


def recover(settings: RecoverySettings) -> dict[str, float]:
    """Shares, images and seconds of every gradient and optimiser; prints them."""
    catalogue = procedural_catalogue(CLASSES)
    trial = disturbed_trial(settings, catalogue)
    raster = RasterRenderer(catalogue, settings.samples, gradient="analytic", tangents="full")
    stepped = RasterRenderer(catalogue, settings.samples, gradient="finite-difference", tangents="full", step_px=1.0)
    soft = PyTorch3DRenderer(catalogue, settings.pytorch3d_samples, mode="soft")
    runs: list[tuple[str, Renderer, Method, int]] = [
        ("analytic_gauss_newton", raster, "gauss-newton", settings.starts),
        ("analytic_adam", raster, "adam", settings.starts),
        ("central_difference_adam", stepped, "adam", settings.central_difference_starts),
        ("pytorch3d_soft_adam", soft, "adam", settings.pytorch3d_starts),
    ]
    print(f"{'recovered by':<28} {'objects':>8} {'share':>7} {'median mm':>10} {'degrees':>8} {'renders':>8} {'s/object':>9}")
    figures: dict[str, float] = {}
    for name, renderer, method, scenes in runs:
        if min(scenes, settings.starts):
            figures |= race(name, renderer, method, trial.first(scenes), catalogue, settings)
    return figures


def race(
    name: str, renderer: Renderer, method: Method, trial: Trial, catalogue: Catalogue, settings: RecoverySettings
) -> dict[str, float]:
    """Figures of one run; a first scene is refined before the clock starts, so that nothing is compiled while it runs."""
    refine(renderer, method, trial.first(1), settings, settings.blur_px[-1:])
    start = time.perf_counter()
    refined = refine(renderer, method, trial, settings, settings.blur_px)
    seconds = time.perf_counter() - start
    position_m, rotation_deg = pose_errors(refined.objects, trial.truth.objects, catalogue)
    judged = trial.judged.numpy()
    recovered = ((position_m < LIMIT_M) & (rotation_deg < LIMIT_DEG))[judged]
    draws = DRAWS_PER_DIFFERENCE if name.startswith("central_difference") else 1
    values = {
        "objects": float(judged.sum()),
        "share": float(recovered.mean()),
        "position_error_median_mm": float(1000 * np.median(position_m[judged])),
        "rotation_error_median_deg": float(np.median(rotation_deg[judged])),
        "renders_mean": float((refined.renders + draws * refined.gradients).double().mean()),
        "seconds_per_object": seconds / int(trial.start.present.sum()),
    }
    count, share, position, rotation, renders, each = values.values()
    print(f"{name:<28} {count:>8.0f} {share:>7.2f} {position:>10.2f} {rotation:>8.2f} {renders:>8.1f} {each:>9.3f}")
    return {f"recovery_{name}_{key}": value for key, value in values.items()}


def refine(renderer: Renderer, method: Method, trial: Trial, settings: RecoverySettings, blur_px: Sequence[float]) -> Refined:
    """Refine a trial with the settings' number of steps."""
    steps = settings.gauss_newton_steps if method == "gauss-newton" else settings.adam_steps
    return refine_poses(renderer, trial.start, trial.truth.view, trial.target_rgb, method, "full", blur_px, steps)


def pose_errors(est: Objects, gt: Objects, catalogue: Catalogue) -> tuple[Float[np.ndarray, "b n"], Float[np.ndarray, "b n"]]:
    """Distances of the origins in metres and angles modulo the symmetries in degrees."""
    T_est, T_gt = est.T_world_object.double().numpy(), gt.T_world_object.double().numpy()
    angles = np.zeros(T_est.shape[:2])
    for k, mesh in enumerate(catalogue.meshes):
        chosen = (gt.class_ids == k).numpy()
        angles[chosen] = rotation_error_rad(T_est[chosen][:, :3, :3], T_gt[chosen][:, :3, :3], mesh.symmetry)
    return np.linalg.norm(T_est[..., :3, 3] - T_gt[..., :3, 3], axis=-1), np.rad2deg(angles)


def disturbed_trial(settings: RecoverySettings, catalogue: Catalogue) -> Trial:
    """Scenes of one or more objects, disturbed."""
    generator = torch.Generator().manual_seed(settings.seed)
    truth = float_scenes(catalogue, settings.starts, (1, settings.objects), settings.size, generator)
    start = disturb(truth.objects, catalogue, settings.shift, settings.turn_deg, generator)
    return _trial(truth, start, settings, catalogue)


def distant_trial(settings: RecoverySettings, catalogue: Catalogue, shift: float) -> Trial:
    """One object a scene that starts ``shift`` of its size away across the line of sight, turned as ever."""
    generator = torch.Generator().manual_seed(settings.seed)
    scene = float_scenes(catalogue, settings.reach_starts, (1, 1), settings.size, generator)
    turned = disturb(scene.objects, catalogue, 0.0, settings.turn_deg, generator)
    T_world_camera = invert_rigid(scene.view.camera.T_camera_world)
    angle = 2 * torch.pi * torch.rand(settings.reach_starts, generator=generator)
    across_camera = torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)], -1)
    across = (T_world_camera[:, :3, :3] @ across_camera[..., None])[..., 0]
    half_m = 0.5 * shift * sizes(catalogue)[scene.objects.class_ids] * across
    truth, start = (_centred(objects, catalogue, sign * half_m) for objects, sign in ((scene.objects, 1), (turned, -1)))
    return _trial(replace(scene, objects=truth), start, settings, catalogue)


def _centred(objects: Objects, catalogue: Catalogue, middle_m: Float[Tensor, "b 3"]) -> Objects:
    """The same, the middle of the one object of each scene put at a point."""
    T = objects.T_world_object.clone()
    middles = box_middles(catalogue)[objects.class_ids][..., None]
    T[..., :3, 3] = middle_m[:, None] - (T[..., :3, :3] @ middles)[..., 0]
    return replace(objects, T_world_object=T)


def _trial(truth: Scene, start: Objects, settings: RecoverySettings, catalogue: Catalogue) -> Trial:
    target = RasterRenderer(catalogue, settings.target_samples).render(truth.objects, truth.view)
    judged = truth.objects.present & (target.visible_fraction >= LEAST_VISIBLE)
    return Trial(truth, start, target.rgb, judged)


def reach_figure(settings: RecoverySettings) -> tuple[Figure, dict[str, float]]:
    """Shares recovered against the distance of the start, with wide, with narrow and without blur: a chart, and its numbers."""
    catalogue = procedural_catalogue(CLASSES)
    raster = RasterRenderer(catalogue, settings.samples, gradient="analytic", tangents="full")
    methods: tuple[Method, ...] = ("gauss-newton", "adam") if settings.reach_adam else ("gauss-newton",)
    shares: dict[str, float] = {}
    overlaps: list[float] = []
    for shift in settings.reach_shifts:
        trial = distant_trial(settings, catalogue, shift)
        overlaps.append(overlap(raster, trial))
        for method in methods:
            for kind, (blur_px, _, _) in _blurs(settings).items():
                refined = refine(raster, method, trial, settings, blur_px)
                position_m, rotation_deg = pose_errors(refined.objects, trial.truth.objects, catalogue)
                recovered = (position_m < LIMIT_M) & (rotation_deg < LIMIT_DEG)
                shares[f"reach_{method.replace('-', '_')}_{kind}_{shift:g}_share"] = float(recovered.mean())
    figure = _chart(settings, methods, shares, overlaps)
    return figure, shares | {f"reach_overlap_{s:g}_share": o for s, o in zip(settings.reach_shifts, overlaps, strict=True)}


def overlap(renderer: Renderer, trial: Trial) -> float:
    """Share of the starts whose silhouette meets the target's."""
    start = renderer.layers(trial.start, trial.truth.view, 1).alpha > 0
    truth = renderer.layers(trial.truth.objects, trial.truth.view, 1).alpha > 0
    return float((start & truth).flatten(1).any(-1).double().mean())


def _chart(settings: RecoverySettings, methods: Sequence[Method], shares: dict[str, float], overlaps: Sequence[float]) -> Figure:
    """One line for each optimiser, broken where it has no blur, over the share of starts that overlap with the target."""
    shifts = settings.reach_shifts
    with figure_style():
        figure = new_figure(6.2, 3.8)
        axes = figure.subplots()
        axes.fill_between(shifts, 0, [100 * share for share in overlaps], color="#E3E8ED", label="starts that overlap the target")
        for method, colour in zip(methods, PALETTE, strict=False):
            for kind, (_, style, words) in _blurs(settings).items():
                values = [100 * shares[f"reach_{method.replace('-', '_')}_{kind}_{shift:g}_share"] for shift in shifts]
                label = f"{_title(method)}, {words}"
                axes.plot(shifts, values, style, marker="o", markersize=3.5, clip_on=False, color=colour, label=label)
        axes.set(
            xlabel="distance of the start from the target, in sizes of the object",
            ylabel="recovered to 1 mm and 1 degree (%)",
            ylim=(0, 102),
            xlim=(min(shifts), max(shifts)),
            title=f"Poses recovered from afar, turned by {settings.turn_deg:g} degrees",
        )
        axes.grid(axis="y")
        axes.legend(loc="upper right")
    return figure


def _blurs(settings: RecoverySettings) -> dict[str, tuple[tuple[float, ...], str, str]]:
    """Widths, line style and words of each kind of blur."""
    wide, narrow = settings.reach_blur_px, settings.blur_px
    return {
        "wide": (wide, "-", f"blur from {wide[0]:g} px"),
        "blur": (narrow, "--", f"blur from {narrow[0]:g} px"),
        "sharp": ((0.0,) * len(narrow), ":", "no blur"),
    }


def _title(method: Method) -> str:
    return {"gauss-newton": "Gauss-Newton", "adam": "Adam"}[method]
