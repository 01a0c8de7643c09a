"""Any renderer, used through finite differences: how fast, how true, and how far it leads.

    python benchmarks/black_box.py --json black_box.json --backends open3d mujoco

Backends that are not installed are named in the figures with the reason.  All sides of a comparison run in one process in turn;
slow ones get fewer scenes, and the figures say how many.

- ``speed``: images and objects a second (three objects of the table-top catalogue, 64 px, one sample a pixel; ``n_workers`` are
  worker processes), and gradients a second: one is that of a scene's squared error by all planar poses, by central differences.
  ``raster_analytic`` is raster's own gradient, ``raster`` the same renderer as a black box.
- ``schemes``: cosine of each scheme's gradient with central differences of raster's image drawn with 16 x 16 samples a pixel,
  the renders it took (that of the image itself among them), and seconds.  Names without a backend are raster's as a black box,
  names without a step those of the first.  Other backends shade a little differently than the reference.
- ``recovery``: upright objects moved from 10 % of their size and 20 degrees off until the image fits; recovered are those within
  1 mm and 1 degree.  The target is the same backend's, drawn with more samples.  Rates are recovered objects by seconds;
  ``mujoco_recovered_share`` and ``mujoco_recovered_per_second`` are those of Gauss-Newton by central differences.
- ``structure``: renders, pictures and seconds a gradient of one, two, four and eight objects that do not touch on screen:
  ``layers``, each object alone, and ``images``, whole pictures in which all of them move at once.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

if __name__ == "__main__":
    # python put benchmarks/ first, where its files would be taken for packages of the same names
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import tyro

from assets import load_catalogue
from benchmarks.black_box_recovery import measure_recovery
from benchmarks.black_box_schemes import measure_schemes
from benchmarks.black_box_sides import Figures, Settings, find_backends, key_of
from benchmarks.black_box_speed import measure_speed
from benchmarks.black_box_structure import measure_structure
from benchmarks.timing import use_clock, use_cores

PACKAGES = ("torch", "numba", "open3d", "mujoco", "mitsuba", "pybullet")
"""Packages whose versions are reported."""


def main(settings: Settings) -> None:
    """Measure, print tables, write the figures.

    Raises:
        ValueError: an unknown backend, or sizes that make no sense.
    """
    settings = settings.resized()
    cores = use_cores(settings.cores)
    use_clock(settings.clock)
    catalogue = load_catalogue("tabletop")
    backends, missing = find_backends(settings.backends, catalogue)
    figures: Figures = {"missing_backends": ", ".join(missing)}
    for name, why in missing.items():
        figures[f"{key_of(name)}_missing"] = why
        print(f"missing: {why}")
    if "speed" in settings.parts:
        figures |= measure_speed(settings, backends, catalogue)
    if "schemes" in settings.parts:
        figures |= measure_schemes(settings, backends, catalogue)
    if "recovery" in settings.parts:
        figures |= measure_recovery(settings, backends)
    if "structure" in settings.parts:
        figures |= measure_structure(settings, backends)
    if settings.json is not None:
        settings.json.write_text(json.dumps({**figures, **describe(settings, cores)}, indent=2) + "\n")


def describe(settings: Settings, cores: int) -> dict[str, object]:
    """Settings and versions."""
    setup: dict[str, object] = {key: value for key, value in asdict(settings).items() if key not in ("json", "size", "cores")}
    setup |= {"size_px": settings.size, "cores": cores}
    for package in PACKAGES:
        try:
            setup[f"{package}_version"] = version(package)
        except PackageNotFoundError:
            setup[f"{package}_version"] = "none"
    return setup


if __name__ == "__main__":
    main(tyro.cli(Settings))
