"""Compile every kernel for GPUs that need not be there: ``python -m renderers.raster.warp.compile --arch 80 90``.

Warp brings NVIDIA's run-time compiler, so this also works on a machine without a GPU or CUDA.
"""

from __future__ import annotations

import importlib
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

from renderers.raster.warp.renderer import load_kernels

KERNEL_MODULES = ("cover_kernels", "shade_kernels", "stack_kernels", "gradient_kernels", "normal_kernels", "surface_kernels")
"""Modules of this package that define kernels; the others of such names have functions that these use."""


@dataclass(frozen=True)
class Settings:
    """What to compile for."""

    arch: tuple[int, ...] = (80, 90)
    """Compute capabilities times ten: 80 for A100, 90 for H100 and H200."""
    ptx: bool = False
    """Write PTX, which later GPUs can run as well, instead of machine code of just these."""
    folder: Path | None = None
    """Where to put the compiled modules; nowhere where None."""


@dataclass(frozen=True)
class Compiled:
    """One module for one architecture."""

    module: str
    """Name of the module."""
    arch: int
    """Compute capability times ten."""
    kernels: tuple[str, ...]
    """Names of its kernels."""
    content: bytes
    """PTX, or a cubin."""


def compile_modules(settings: Settings) -> list[Compiled]:
    """Compile all modules for all architectures.

    Raises:
        BackendMissingError: Warp is not installed.
        RuntimeError: a kernel does not compile.
    """
    load_kernels()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if settings.folder is None else settings.folder
        return [_compile(name, arch, settings.ptx, folder) for name in KERNEL_MODULES for arch in settings.arch]


def _compile(name: str, arch: int, ptx: bool, folder: Path) -> Compiled:
    import warp as wp

    module = importlib.import_module(f"renderers.raster.warp.{name}")
    paths = wp.compile_aot_module(module, arch=arch, module_dir=folder, use_ptx=ptx)
    kernels = tuple(sorted(key for key, value in vars(module).items() if isinstance(value, wp.Kernel)))
    return Compiled(name, arch, kernels, paths[0].read_bytes())


def main(settings: Settings) -> None:
    """Compile and say what came out."""
    for done in compile_modules(settings):
        size = f"{len(done.content) / 1024:.0f} KiB"
        print(f"sm_{done.arch} {done.module:16s} {size:>8s}: {', '.join(done.kernels)}")
    if settings.folder is not None:
        print(f"written to {settings.folder}")


if __name__ == "__main__":
    main(tyro.cli(Settings))
