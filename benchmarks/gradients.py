"""Pose gradients of an image loss against the truth, and poses recovered by following them.

    python benchmarks/gradients.py --json gradients.json --figure recovery.png

Scenes of one to five table-top objects afloat, many hidden or one inside another; the target is the same scene disturbed.
The loss is the sum of (image - target)^2, its gradient that by all rigid motions of all objects of a scene, by metres and, for
turns, by metres at the object's radius.  The reference are central differences of the image drawn with 16 x 16 samples a pixel.
Candidates, each with the residual of its own image and (``_given_residual``) with that of the reference's, which judges the
derivative of the image alone:

- ``analytic``: ``RasterRenderer``'s own, with 2 x 2 samples; ``analytic_samples_1``, ``analytic_samples_4`` with others;
- ``central_difference``: those of ``RasterRenderer``'s layers, 1 pixel of motion to either side;
- ``pytorch3d_soft``: SoftRas' blurred faces, of the first ``pytorch3d_scenes`` scenes only, being slow on a CPU.

``benchmarks/recovery.py`` says how poses are recovered.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
import tyro
from jaxtyping import Bool, Float
from torch import Tensor
from tqdm import tqdm

# python put benchmarks/ first, where its files would be taken for packages of the same names
sys.path[0] = str(Path(__file__).resolve().parent.parent)

from assets import load_catalogue
from benchmarks.perturbed import disturb, float_scenes, meetings
from benchmarks.recovery import RecoverySettings, reach_figure, recover
from inverse_graphics.poses import motion_slopes, move
from inverse_graphics.protocols import Renderer
from inverse_graphics.reporting.style import figure_bytes
from inverse_graphics.types import Catalogue, Objects, Scene, View, map_tensors
from renderers import RasterRenderer
from renderers.pytorch3d import PyTorch3DRenderer
from renderers.tangents import tangent_steps

REFERENCE_VARIANTS = 32
"""Moved copies of a scene that are drawn at once for the reference."""


@dataclass(frozen=True)
class Settings:
    """What is compared, and where the figures go."""

    json: Path | None = None
    """Where to write the figures."""
    figure: Path | None = None
    """Where to draw shares of poses recovered against the distance of the start (PNG); not measured where None."""
    scenes: int = 200
    """Scenes whose gradients are compared; 0 leaves that part out."""
    size: int = 64
    """Width and height of the images in pixels."""
    least_objects: int = 1
    """Fewest objects a scene."""
    most_objects: int = 5
    """Most objects a scene."""
    shift: float = 0.1
    """How far the target's objects stand from the scene's, as a share of their size."""
    turn_deg: float = 20.0
    """How far they are turned."""
    reference_samples: int = 16
    """Samples a pixel along each axis of the reference."""
    reference_step_px: float = 0.1
    """Motion to either side of the reference's central differences.

    At half of it the samples show: single scenes fall to a cosine of 0.94 with this one (median 0.999); at twice it the curvature
    does (0.996 at worst, 0.9997 in the median), which ``reference_double_step`` reports.
    """
    samples: int = 2
    """Samples a pixel along each axis of the candidates."""
    batch: int = 20
    """Scenes that a candidate differentiates at once."""
    pytorch3d_scenes: int = 40
    """Scenes that PyTorch3D differentiates; 0 leaves it out."""
    pytorch3d_batch: int = 4
    """Scenes that it differentiates at once: it keeps ten faces a sample and object for its gradient."""
    recovery: RecoverySettings = field(default_factory=RecoverySettings)
    """How poses are recovered."""
    seed: int = 0
    """Seed of the scenes."""


@dataclass(frozen=True)
class Task:
    """Scenes, what their images are compared with, and the units of their gradients."""

    scene: Scene
    """[b n] scenes."""
    target_rgb: Float[Tensor, "b h w 3"]
    """Images of the disturbed scenes, finely sampled."""
    residual_rgb: Float[Tensor, "b h w 3"]
    """The scenes' own images, finely sampled, minus the targets."""
    radius_m: Float[Tensor, "b n"]
    """Largest distance of a vertex from the object's origin."""


def main(settings: Settings) -> None:
    """Measure, print tables, write the figures."""
    figures: dict[str, float] = {}
    if settings.scenes:
        figures |= compare_gradients(settings)
    if settings.recovery.starts:
        figures |= recover(settings.recovery)
    if settings.figure is not None:
        figure, shares = reach_figure(settings.recovery)
        settings.figure.write_bytes(figure_bytes(figure, "png"))
        figures |= shares
    if settings.json is not None:
        setup = {key: value for key, value in asdict(settings).items() if key not in ("json", "figure", "recovery", "size")}
        setup |= {f"recovery_{key}": value for key, value in asdict(settings.recovery).items()}
        versions = {"torch_version": torch.__version__, "torch_threads": torch.get_num_threads()}
        settings.json.write_text(json.dumps({**figures, **setup, "size_px": settings.size, **versions}, indent=2) + "\n")


def compare_gradients(settings: Settings) -> dict[str, float]:
    """Figures of every candidate against the reference."""
    catalogue = load_catalogue("tabletop")
    task = build_task(settings, catalogue)
    near = reference_gradients(task, catalogue, settings, settings.reference_step_px)
    far = reference_gradients(task, catalogue, settings, 2 * settings.reference_step_px)
    counts = (near.norm(dim=(1, 2)) > 0).sum()
    groups = group_scenes(task.scene, catalogue)
    figures: dict[str, float] = {"scenes_without_gradient": settings.scenes - int(counts)}
    figures |= {f"scenes_{name}": int(mask.sum()) for name, mask in groups.items()}
    header = f"{'gradient':<40} {'scenes':>6} {'cosine median':>14} {'5th percentile':>15} {'length error':>13}"
    print(header)
    # how far the reference agrees with itself at twice the step: no candidate can be told to be better than that
    figures |= judge("reference_double_step", far, near, groups)
    for name, (renderer, scenes, batch) in candidates(settings, catalogue).items():
        own, given = candidate_gradients(renderer, map_tensors(lambda x, k=scenes: x[:k], task), batch, name)
        figures |= judge(name, own, near, groups)
        figures |= judge(f"{name}_given_residual", given, near, {})
    return figures


def candidates(settings: Settings, catalogue: Catalogue) -> dict[str, tuple[Renderer, int, int]]:
    """Renderers by name, how many scenes each gets, and how many of them at once."""
    scenes = settings.scenes
    raster = {"analytic": settings.samples, "analytic_samples_1": 1, "analytic_samples_4": 4}
    found: dict[str, tuple[Renderer, int, int]] = {
        name: (RasterRenderer(catalogue, samples, gradient="analytic", tangents="full"), scenes, settings.batch)
        for name, samples in raster.items()
    }
    stepped = RasterRenderer(catalogue, settings.samples, gradient="finite-difference", tangents="full", step_px=1.0)
    found["central_difference"] = (stepped, scenes, settings.batch)
    if settings.pytorch3d_scenes:
        soft = PyTorch3DRenderer(catalogue, settings.samples, mode="soft")
        found["pytorch3d_soft"] = (soft, min(scenes, settings.pytorch3d_scenes), settings.pytorch3d_batch)
    return found


def build_task(settings: Settings, catalogue: Catalogue) -> Task:
    """Draw scenes and their targets."""
    generator = torch.Generator().manual_seed(settings.seed)
    slots = (settings.least_objects, settings.most_objects)
    scene = float_scenes(catalogue, settings.scenes, slots, settings.size, generator)
    moved = disturb(scene.objects, catalogue, settings.shift, settings.turn_deg, generator)
    fine = RasterRenderer(catalogue, settings.reference_samples)
    target = fine.render(moved, scene.view).rgb
    radii_m = torch.tensor([float(np.linalg.norm(mesh.vertices_m, axis=-1).max()) for mesh in catalogue.meshes])
    residual = fine.render(scene.objects, scene.view).rgb - target
    return Task(scene, target, residual, radii_m[scene.objects.class_ids])


def reference_gradients(task: Task, catalogue: Catalogue, settings: Settings, step_px: float) -> Float[Tensor, "b n 6"]:
    """Central differences of the loss of finely sampled images."""
    fine = RasterRenderer(catalogue, settings.reference_samples)
    rows: list[Tensor] = []
    for i in tqdm(range(len(task.target_rgb)), desc=f"reference, {step_px:g} px", disable=None):
        one = map_tensors(lambda x, i=i: x[i], task)
        objects = one.scene.objects
        steps = tangent_steps(objects.T_world_object, one.radius_m, one.scene.view, torch.eye(6), step_px)
        variants = moved_variants(objects, steps)
        losses = torch.cat([squared_errors(fine, part, one) for part in split(variants, REFERENCE_VARIANTS)])
        count = int(objects.count)
        difference = losses[0::2] - losses[1::2]
        gradient = torch.zeros_like(steps)
        gradient[:count] = (difference.unflatten(0, (count, 6)) / (2 * steps[:count, :1]).double()).to(steps)
        rows.append(gradient)
    return torch.stack(rows)


def moved_variants(objects: Objects, steps: Float[Tensor, "n 6"]) -> Objects:
    """[12 count] copies of a scene of ``count`` objects: each in turn moved ahead and behind along each of its six motions."""
    count = int(objects.count)
    T = objects.T_world_object[:count].repeat(count, 6, 2, 1, 1, 1)
    for slot in range(count):
        motion = torch.diag(steps[slot])[:, None] * torch.tensor([1.0, -1.0])[:, None]
        T[slot, :, :, slot] = move(T[slot, :, :, slot], motion)
    T = T.flatten(0, 2)
    return Objects(objects.class_ids[:count].expand(len(T), count), T, objects.present[:count].expand(len(T), count))


def split(objects: Objects, size: int) -> list[Objects]:
    """A batch in parts."""
    starts = range(0, len(objects.class_ids), size)
    return [map_tensors(lambda x, i=i: x[i : i + size], objects) for i in starts]


def squared_errors(renderer: Renderer, objects: Objects, one: Task) -> Float[Tensor, "k"]:
    """Losses of variants of one scene, summed in float64: their differences are small."""
    view: View = map_tensors(lambda x: x.expand(len(objects.class_ids), *x.shape), one.scene.view)
    return (renderer.render(objects, view).rgb.double() - one.target_rgb).square().sum((-3, -2, -1))


def candidate_gradients(renderer: Renderer, task: Task, batch: int, name: str) -> tuple[Tensor, Tensor]:
    """[b n 6] gradients of the loss: with the renderer's own residual, and with the reference's."""
    own: list[Tensor] = []
    given: list[Tensor] = []
    for start in tqdm(range(0, len(task.target_rgb), batch), desc=name, disable=None):
        some = map_tensors(lambda x, i=start: x[i : i + batch], task)
        T = some.scene.objects.T_world_object.clone().requires_grad_()
        rgb = renderer.render(replace(some.scene.objects, T_world_object=T), some.scene.view).rgb
        (own_T,) = torch.autograd.grad((rgb - some.target_rgb).square().sum(), T, retain_graph=True)
        (given_T,) = torch.autograd.grad((2 * some.residual_rgb * rgb).sum(), T)
        own.append(in_metres(own_T, some))
        given.append(in_metres(given_T, some))
    return torch.cat(own), torch.cat(given)


def in_metres(gradient: Float[Tensor, "b n 4 4"], task: Task) -> Float[Tensor, "b n 6"]:
    """Slopes along the motions, turns by metres of motion at the object's radius; 0 for absent objects."""
    slopes = motion_slopes(task.scene.objects.T_world_object, gradient)
    slopes[..., 3:] /= task.radius_m[..., None]
    return slopes * task.scene.objects.present[..., None]


def group_scenes(scene: Scene, catalogue: Catalogue) -> dict[str, Bool[Tensor, "b"]]:
    """Scenes where surfaces cross in sight, others where something hides something, and the rest."""
    hidden, crossed = meetings(RasterRenderer(catalogue), scene)
    return {"intersecting": crossed, "occluded": hidden & ~crossed, "apart": ~hidden & ~crossed}


def judge(name: str, gradient: Tensor, reference: Tensor, groups: Mapping[str, Tensor]) -> dict[str, float]:
    """Figures of one candidate: over all scenes whose reference is not 0, and over those of each group; prints them."""
    reference = reference[: len(gradient)].flatten(1).double()
    gradient = gradient.flatten(1).double()
    valid = reference.norm(dim=-1) > 0
    cosine = torch.nn.functional.cosine_similarity(gradient, reference, dim=-1).numpy()
    length_error = ((gradient.norm(dim=-1) - reference.norm(dim=-1)).abs() / reference.norm(dim=-1)).numpy()
    figures: dict[str, float] = {}
    everything = {"": valid} | {f"_{key}": mask[: len(gradient)] & valid for key, mask in groups.items()}
    for key, mask in everything.items():
        chosen = mask.numpy()
        if not chosen.any():
            continue
        values = {
            "cosine_median": float(np.median(cosine[chosen])),
            "cosine_p05": float(np.percentile(cosine[chosen], 5)),
            "length_error_median": float(np.median(length_error[chosen])),
        }
        figures |= {f"{name}_{kind}{key}": value for kind, value in values.items()}
        median, low, error = values.values()
        print(f"{name + key:<40} {chosen.sum():>6} {median:>14.4f} {low:>15.4f} {error:>13.4f}")
    return figures


if __name__ == "__main__":
    main(tyro.cli(Settings))
