"""Renderers by name: which there are, what they are told, and what pose gradients they offer."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch

from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Catalogue
from renderers.differences import FiniteDifferenceRenderer, Scheme
from renderers.painting.pictures import PictureRenderer, WholePictureRenderer
from renderers.painting.shots import Painter
from renderers.painting.workers import WorkerPool
from renderers.raster import RasterRenderer
from renderers.tangents import Tangents

Gradient = Literal["analytic", "finite-difference", "none"]
"""How pose gradients are taken; ``none``: images only, as sharp as the backend draws them."""

GRADIENTS: dict[str, tuple[Gradient, ...]] = {
    "raster": ("analytic", "finite-difference"),
    "raster-cuda": ("analytic",),
    "pytorch3d": ("analytic", "finite-difference"),
    "open3d": ("finite-difference",),
    "open3d-offscreen": ("finite-difference",),
    "mujoco": ("finite-difference",),
    "mitsuba": ("finite-difference",),
    "mitsuba-path": ("finite-difference",),
    "pybullet": ("finite-difference",),
    "callable": ("finite-difference",),
}
"""Backends and the pose gradients each offers, its default first."""

PAINTERS = ("open3d-offscreen", "mujoco", "mitsuba", "mitsuba-path", "pybullet", "callable")
"""Backends that draw one picture at a time, and may do so in worker processes."""


@dataclass(frozen=True)
class BackendOptions:
    """What a backend is told besides the catalogue; each option belongs to the backends that its text names."""

    function: str | None = None
    """callable: the Python function that draws, as FILE.py:NAME or MODULE:NAME."""
    command: str | None = None
    """callable: the program that draws, with its arguments."""
    variant: str | None = None
    """mitsuba, mitsuba-path: scalar_rgb (the default), llvm_ad_rgb, which is faster and needs LLVM, or cuda_ad_rgb on a GPU."""
    surroundings: str | None = None
    """mujoco: an MJCF file, a robot or a table for example, that stands around the objects."""
    workers: int = 0
    """Backends that draw one picture at a time: processes that draw; 0 draws in this process, where nothing can time out."""
    timeout_s: float = 60.0
    """Seconds that a worker may take for its part of a call, or a command for a call, before it is replaced or refused."""


@dataclass(frozen=True)
class DifferenceOptions:
    """How finite differences are taken, see ``FiniteDifferenceRenderer``."""

    tangents: Tangents = "planar"
    """Rigid motions along which they are taken; also those of ``normal_equations``."""
    step_px: float = 1.0
    """Length of a step in pixels of motion; a training may anneal it."""
    scheme: Scheme = "central"
    """Where the renderer is drawn."""
    pairs: int = 1
    """Pairs of draws of ``spsa`` and ``smoothing``."""
    seed: int = 0
    """Of their random directions."""
    reach_px: float = 8.0
    """mitsuba-path: how far around its box an object may change the image, by its shadow for example."""


def load_renderer(
    name: str,
    catalogue: Catalogue,
    samples_per_axis: int = 2,
    gradient: Gradient | None = None,
    differences: DifferenceOptions = DifferenceOptions(),
    options: BackendOptions = BackendOptions(),
) -> Renderer:
    """Build a backend.

    Args:
        name: a key of ``GRADIENTS``.
        catalogue: the meshes that class ids refer to.
        samples_per_axis: antialiasing, samples a pixel along each axis.
        gradient: how pose gradients are taken, ``none`` for images only; the backend's default where None.
        differences: how, if by finite differences; ``raster`` takes central ones faster by itself.
        options: what the backend is told.

    Raises:
        ValueError: unknown backend, a gradient that it does not offer, an option that is not its own or that it lacks, or no GPU
            for one that needs it.
        BackendMissingError: the backend's package is not installed.
    """
    if name not in GRADIENTS:
        raise ValueError(f"renderer: expected one of {', '.join(GRADIENTS)}; got {name!r}; name one of these")
    if gradient not in (None, "none", *GRADIENTS[name]):
        raise ValueError(
            f"gradient: expected one of {', '.join(GRADIENTS[name])}, none, as renderer {name!r} offers; got {gradient!r}; "
            "name one of these or another renderer"
        )
    _check_options(name, options)
    chosen = gradient or GRADIENTS[name][0]
    if name == "raster" and (chosen != "finite-difference" or differences.scheme == "central"):
        how = "analytic" if chosen == "none" else chosen
        return RasterRenderer(catalogue, samples_per_axis, how, differences.tangents, differences.step_px)
    plain = _load_plain(name, catalogue, samples_per_axis, chosen, differences.tangents, options)
    return with_differences(plain, differences) if chosen == "finite-difference" else plain


def with_differences(renderer: Renderer, differences: DifferenceOptions) -> FiniteDifferenceRenderer:
    """Finite differences around a renderer."""
    return FiniteDifferenceRenderer(
        renderer,
        differences.tangents,
        differences.step_px,
        differences.scheme,
        differences.pairs,
        differences.seed,
        reach_px=differences.reach_px,
    )


def without_differences(renderer: Renderer) -> Renderer:
    """What finite differences are taken of, or the renderer itself where it takes none."""
    return renderer.renderer if isinstance(renderer, FiniteDifferenceRenderer) else renderer


def _load_plain(
    name: str, catalogue: Catalogue, samples_per_axis: int, gradient: Gradient, tangents: Tangents, options: BackendOptions
) -> Renderer:
    """A backend without finite differences."""
    if name == "raster":
        return RasterRenderer(catalogue, samples_per_axis)
    if name == "raster-cuda":
        if not torch.cuda.is_available():
            raise ValueError(
                "renderer 'raster-cuda': expected a CUDA GPU that torch can use, found none; "
                "use renderer 'raster', which draws the same on the CPU"
            )
        from renderers.raster.warp import WarpRasterRenderer

        return WarpRasterRenderer(catalogue, samples_per_axis, tangents)
    if name == "pytorch3d":
        from renderers.pytorch3d import PyTorch3DRenderer

        return PyTorch3DRenderer(catalogue, samples_per_axis, mode="soft" if gradient == "analytic" else "hard")
    if name == "open3d":
        from renderers.open3d import Open3DRenderer

        return Open3DRenderer(catalogue, samples_per_axis)
    make = painter_factory(name, catalogue, options)
    painter: Painter = WorkerPool(make, options.workers, options.timeout_s) if options.workers else make()
    whole = name == "mitsuba-path"
    return (WholePictureRenderer if whole else PictureRenderer)(painter, catalogue, samples_per_axis, name=name)


def painter_factory(name: str, catalogue: Catalogue, options: BackendOptions) -> Callable[[], Painter]:
    """What makes one of ``PAINTERS``; it can be sent to a worker process."""
    if name == "mujoco":
        from renderers.mujoco.painter import MujocoPainter

        return functools.partial(MujocoPainter, catalogue, options.surroundings)
    if name in ("mitsuba", "mitsuba-path"):
        from renderers.mitsuba.painter import MitsubaPainter

        return functools.partial(
            MitsubaPainter, catalogue, "lambert" if name == "mitsuba" else "path", options.variant or "scalar_rgb"
        )
    if name == "pybullet":
        from renderers.pybullet import PyBulletPainter

        return functools.partial(PyBulletPainter, catalogue)
    if name == "open3d-offscreen":
        from renderers.open3d_offscreen import Open3DOffscreenPainter

        return functools.partial(Open3DOffscreenPainter, catalogue)
    from renderers.callable.function import CommandPainter, FunctionPainter

    if options.function is not None:
        return functools.partial(FunctionPainter, options.function, catalogue)
    return functools.partial(CommandPainter, shlex.split(options.command or ""), catalogue, options.timeout_s)


def _check_options(name: str, options: BackendOptions) -> None:
    """Raise ValueError for options that the backend lacks, or has no use for."""
    if name == "callable" and (options.function is None) == (options.command is None):
        raise ValueError(
            "renderer 'callable': expected either a function or a command that draws, got "
            f"{'none' if options.function is None else 'both'}; give --function FILE.py:NAME or --command 'PROGRAM ARGUMENTS'"
        )
    owners = {
        "function": ("callable",),
        "command": ("callable",),
        "variant": ("mitsuba", "mitsuba-path"),
        "surroundings": ("mujoco",),
        "workers": PAINTERS,
    }
    for option, backends in owners.items():
        if getattr(options, option) and name not in backends:
            raise ValueError(
                f"{option}: expected renderer {' or '.join(backends)}, got {name!r} with {getattr(options, option)!r}; "
                "leave the option out, or name another renderer"
            )
    if options.workers < 0 or not options.timeout_s > 0:
        raise ValueError(
            f"workers, timeout_s: expected at least 0 and more than 0 seconds, got {options.workers} and {options.timeout_s}; "
            "change them"
        )
