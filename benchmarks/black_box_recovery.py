"""Poses recovered through black boxes, by scheme and optimiser: a part of ``benchmarks/black_box.py``.

Starts, limits and judgement are those of ``benchmarks/recovery.py``, of upright objects that move on the table; targets are drawn
by the backend that is fitted to them, with other samples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from tqdm import tqdm

from assets import procedural_catalogue
from benchmarks.black_box_sides import Figures, Settings, Variant, disturb_upright, key_of, scene_seconds, table_scenes, variants
from benchmarks.recovery import CLASSES, LEAST_VISIBLE, LIMIT_DEG, LIMIT_M, Trial, pose_errors
from benchmarks.timing import clock
from inverse_graphics.protocols import Renderer
from inverse_graphics.refinement import BLUR_PX, Method, PoseSolver, Refined, refine_poses
from inverse_graphics.types import Catalogue
from renderers import load_renderer

DISTANCE_M = 0.6
"""From the camera to the middle of the table."""
PATIENCE = 3.0
"""A run is left out where a single scene would take so many times what it may."""
HEADLINE = ("gauss_newton", "central")
"""Optimiser and scheme whose share and rate stand for a backend."""


@dataclass(frozen=True)
class Run:
    """One optimiser with one gradient."""

    backend: str
    """What draws."""
    method: Method
    """What moves the objects."""
    variant: Variant | None
    """How gradients are taken; None for raster's own."""

    @property
    def key(self) -> str:
        """What it is called in the figures."""
        return f"{key_of(self.backend)}_{self.method.replace('-', '_')}_{self.variant.key if self.variant else 'analytic'}"


def measure_recovery(settings: Settings, backends: tuple[str, ...]) -> Figures:
    """Shares, renders and seconds of every backend, optimiser and scheme; prints a row each."""
    catalogue = procedural_catalogue(CLASSES)
    figures: Figures = {}
    header = f"{'recovered by':<40} {'objects':>8} {'share':>6} {'per s':>7} {'median mm':>10} {'degrees':>8}"
    print(f"{header} {'renders':>8} {'s':>7}")
    for backend in ("raster", *backends):
        plain = load_renderer(backend, catalogue, settings.recovery_samples, "none")
        trial = upright_trial(settings, backend, catalogue)
        draw_s = min(clock(partial(plain.layers, trial.first(1).start, trial.first(1).truth.view)) for _ in range(3))
        for run in tqdm(runs(settings, backend), desc=backend, disable=None, leave=False):
            figures |= recover(run, plain, trial, draw_s, catalogue, settings)
        method, scheme = HEADLINE
        for what in ("share", "per_second"):
            value = figures.get(f"{key_of(backend)}_{method}_{scheme}_recovered_{what}")
            if value is not None:
                figures[f"{key_of(backend)}_recovered_{what}"] = value
    return figures


def runs(settings: Settings, backend: str) -> list[Run]:
    """Gauss-Newton by central and forward differences, Adam by all schemes; raster's own gradients beside."""
    direct = [Run(backend, "gauss-newton", Variant("central")), Run(backend, "gauss-newton", Variant("forward"))]
    every = direct + [Run(backend, "adam", variant) for variant in variants(settings.pairs)]
    own = [Run(backend, "gauss-newton", None), Run(backend, "adam", None)] if backend == "raster" else []
    return own + every


def upright_trial(settings: Settings, backend: str, catalogue: Catalogue) -> Trial:
    """Scenes of one or more upright objects, disturbed, and the backend's images of what they were."""
    generator = torch.Generator().manual_seed(settings.seed)
    counts = (1, settings.start_objects)
    truth = table_scenes(catalogue, settings.starts, counts, settings.size, settings.seed, DISTANCE_M)
    start = disturb_upright(truth.objects, catalogue, settings.shift, settings.turn_deg, generator)
    target = load_renderer(backend, catalogue, settings.target_samples, "none").render(truth.objects, truth.view)
    judged = truth.objects.present & (target.visible_fraction >= LEAST_VISIBLE)
    return Trial(truth, start, target.rgb.detach(), judged)


def recover(run: Run, plain: Renderer, trial: Trial, draw_s: float, catalogue: Catalogue, settings: Settings) -> Figures:
    """Figures of one run, of as many starts as its time allows; ``draw_s`` are the seconds of a draw of a scene's layers."""
    variant = run.variant or Variant("central")
    renderer, counter = variant.around(plain, settings.steps_px[0])
    fitted = renderer if run.variant else load_renderer(run.backend, catalogue, settings.recovery_samples)
    steps = settings.gauss_newton_steps if run.method == "gauss-newton" else settings.adam_steps
    evaluations = steps * len(BLUR_PX)
    # no less than its draws cost; a run that cannot end in time is not even tried
    scene_s = draw_s * (variant.draws + 1) if run.variant else 0.0
    if scene_s * evaluations <= PATIENCE * settings.budget_s:
        limit_s = settings.budget_s / evaluations
        scene_s = scene_seconds(lambda k: evaluate(fitted, run, trial.first(k)), len(trial.judged), limit_s)
    scenes = max(1, int(settings.budget_s / (scene_s * evaluations)))
    chosen = trial.first(scenes if scene_s * evaluations <= PATIENCE * settings.budget_s else 0)
    if not chosen.judged.any():
        with tqdm.external_write_mode():
            print(f"{run.key:<40} left out: a scene would take {scene_s * evaluations:.0f} s")
        return {f"{run.key}_objects": 0, f"{run.key}_seconds_expected": scene_s * evaluations}
    counter.reset()
    ended: list[Refined] = []
    seconds = clock(lambda: ended.append(refine(fitted, run, chosen, steps)))
    drawn = counter.scenes_drawn if run.variant else int((ended[0].renders + ended[0].gradients).sum())
    return judge(run.key, ended[0], chosen, catalogue, seconds, drawn / len(chosen.judged))


def evaluate(renderer: Renderer, run: Run, trial: Trial) -> None:
    """What a step costs: an image and a gradient, or normal equations."""
    objects, view = trial.start, trial.truth.view
    if run.method == "gauss-newton":
        assert isinstance(renderer, PoseSolver)
        renderer.normal_equations(objects, view, renderer.render(objects, view).rgb - trial.target_rgb)
        return
    T = objects.T_world_object.clone().requires_grad_()
    image = renderer.render(replace(objects, T_world_object=T), view).rgb
    torch.autograd.grad((image - trial.target_rgb).square().sum(), T)


def refine(renderer: Renderer, run: Run, trial: Trial, steps: int) -> Refined:
    """Refine a trial on the table."""
    return refine_poses(renderer, trial.start, trial.truth.view, trial.target_rgb, run.method, "planar", BLUR_PX, steps)


def judge(key: str, refined: Refined, trial: Trial, catalogue: Catalogue, seconds: float, renders: float) -> Figures:
    """Figures of a run that has ended; prints them."""
    position_m, rotation_deg = pose_errors(refined.objects, trial.truth.objects, catalogue)
    judged = trial.judged.numpy()
    recovered = ((position_m < LIMIT_M) & (rotation_deg < LIMIT_DEG))[judged]
    values: Figures = {
        "objects": int(judged.sum()),
        "recovered_share": float(recovered.mean()),
        "recovered_per_second": float(recovered.sum()) / seconds,
        "position_error_median_mm": float(1000 * np.median(position_m[judged])),
        "rotation_error_median_deg": float(np.median(rotation_deg[judged])),
        "renders": renders,
        "seconds": seconds,
    }
    count, share, rate, position, rotation, drawn, spent = values.values()
    with tqdm.external_write_mode():
        print(f"{key:<40} {count:>8} {share:>6.2f} {rate:>7.2f} {position:>10.2f} {rotation:>8.2f} {drawn:>8.1f} {spent:>7.2f}")
    return {f"{key}_{name}": value for name, value in values.items()}
