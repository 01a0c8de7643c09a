"""Renderer backends, chosen by name.  Axis and unit conversions of a backend happen in its own file and nowhere else."""

from __future__ import annotations

from typing import Literal

import torch

from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Catalogue
from renderers.errors import BackendMissingError as BackendMissingError
from renderers.finite_difference import FiniteDifferenceRenderer as FiniteDifferenceRenderer
from renderers.raster import RasterRenderer as RasterRenderer
from renderers.tangents import Tangents

Gradient = Literal["analytic", "finite-difference", "none"]
"""How pose gradients are taken; ``none``: images only, as sharp as the backend draws them."""

GRADIENTS: dict[str, tuple[Gradient, ...]] = {
    "raster": ("analytic", "finite-difference"),
    "raster-cuda": ("analytic",),
    "pytorch3d": ("analytic", "finite-difference"),
}
"""Backends and the pose gradients each offers, its default first."""


def load_renderer(
    name: str,
    catalogue: Catalogue,
    samples_per_axis: int = 2,
    gradient: Gradient | None = None,
    tangents: Tangents = "planar",
    step_px: float = 1.0,
) -> Renderer:
    """Build a backend.

    Args:
        name: a key of ``GRADIENTS``.
        catalogue: the meshes that class ids refer to.
        samples_per_axis: antialiasing, samples a pixel along each axis.
        gradient: how pose gradients are taken, ``none`` for images only; the backend's default where None.
        tangents: rigid motions along which finite differences are taken and normal equations stand.
        step_px: half the width of a central difference, in pixels of motion.

    Raises:
        ValueError: unknown backend, a gradient that it does not offer, or no GPU for one that needs it.
        BackendMissingError: the backend's package is not installed.
    """
    if name not in GRADIENTS:
        raise ValueError(f"renderer: expected one of {', '.join(GRADIENTS)}; got {name!r}; name one of these")
    if gradient not in (None, "none", *GRADIENTS[name]):
        raise ValueError(
            f"gradient: expected one of {', '.join(GRADIENTS[name])}, none, as renderer {name!r} offers; got {gradient!r}; "
            "name one of these or another renderer"
        )
    chosen = gradient or GRADIENTS[name][0]
    if name == "raster":
        how = "analytic" if chosen == "none" else chosen
        return RasterRenderer(catalogue, samples_per_axis, how, tangents, step_px)
    if name == "raster-cuda":
        if not torch.cuda.is_available():
            raise ValueError(
                "renderer 'raster-cuda': expected a CUDA GPU that torch can use, found none; "
                "use renderer 'raster', which draws the same on the CPU"
            )
        from renderers.raster.warp import WarpRasterRenderer

        return WarpRasterRenderer(catalogue, samples_per_axis, tangents)
    from renderers.pytorch3d import PyTorch3DRenderer

    if chosen == "analytic":
        return PyTorch3DRenderer(catalogue, samples_per_axis, mode="soft")
    hard = PyTorch3DRenderer(catalogue, samples_per_axis, mode="hard")
    return hard if chosen == "none" else FiniteDifferenceRenderer(hard, tangents, step_px)
