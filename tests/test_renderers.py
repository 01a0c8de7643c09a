"""Backends by name: what is built, which gradients each has, and what is refused."""

from __future__ import annotations

import dataclasses
import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import own_function
import pytest
import torch
from renderer_scenes import ball, box, camera_view, catalogue_of, posed, table_scene

from inverse_graphics.protocols import Renderer, StackRenderer
from inverse_graphics.types import RenderOutput, map_tensors
from renderers import (
    GRADIENTS,
    BackendMissingError,
    BackendOptions,
    DifferenceOptions,
    FiniteDifferenceRenderer,
    Gradient,
    RasterRenderer,
    load_renderer,
)
from renderers.painting.pictures import PictureRenderer, WholePictureRenderer
from renderers.painting.workers import WorkerPool

ROOT = Path(__file__).parent.parent
CATALOGUE = catalogue_of(box())


PACKAGES = {
    "raster-cuda": "warp",
    "pytorch3d": "pytorch3d",
    "open3d": "open3d",
    "open3d-offscreen": "open3d",
    "mujoco": "mujoco",
    "mitsuba": "mitsuba",
    "mitsuba-path": "mitsuba",
    "pybullet": "pybullet",
}
"""What optional backends import."""

COMMANDS = {
    "warp": '"warp-lang>=1.19,<2"',
    "pytorch3d": "easypytorch3d==0.7.9.post1 torch==2.12.1",
    "open3d": '"open3d>=0.19"',
    "mujoco": '"mujoco>=4,<5"',
    "mitsuba": '"mitsuba>=3.9,<4"',
    "pybullet": '"pybullet>=3.2.7,<4"',
}
"""What is said to install them."""

FUNCTION = BackendOptions(function=f"{own_function.__file__}:draw")


class WithoutBackends(MetaPathFinder):
    """Lets every import of an optional backend fail, as where none is installed."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if fullname.split(".")[0] in PACKAGES.values():
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


@pytest.fixture
def without_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] in PACKAGES.values()]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [WithoutBackends(), *sys.meta_path])


def needs_backend(name: str) -> None:
    if name in PACKAGES and importlib.util.find_spec(PACKAGES[name]) is None:
        pytest.skip(f"{PACKAGES[name]} is not installed")
    if name == "raster-cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    if name == "open3d-offscreen":
        try:
            load_renderer(name, CATALOGUE)
        except BackendMissingError as error:
            pytest.skip(str(error))


@pytest.mark.parametrize("name", GRADIENTS)
@pytest.mark.parametrize("gradient", [None, "none", "analytic", "finite-difference"])
def test_every_backend_has_the_gradients_it_offers(name: str, gradient: Gradient | None) -> None:
    needs_backend(name)
    options = FUNCTION if name == "callable" else BackendOptions()
    if gradient not in (None, "none", *GRADIENTS[name]):
        with pytest.raises(ValueError, match="gradient"):
            load_renderer(name, CATALOGUE, gradient=gradient, options=options)
        return
    renderer = load_renderer(name, CATALOGUE, 3, gradient, options=options)
    assert isinstance(renderer, Renderer)
    assert renderer.catalogue is CATALOGUE
    assert renderer.samples_per_axis == 3
    if gradient != "none":
        assert renderer.is_differentiable
    device = "cuda" if name == "raster-cuda" else "cpu"
    objects = map_tensors(lambda x: x.to(device), posed([0], [[0.0, 0.0, 0.5]]))
    image = renderer.render(objects, map_tensors(lambda x: x.to(device), camera_view(8, 8, 10.0)))
    assert image.rgb.shape == (8, 8, 3)
    assert int((image.object_ids == 0).sum()) > 0


def test_what_the_names_stand_for() -> None:
    full = DifferenceOptions("full", 2.5)
    raster = load_renderer("raster", CATALOGUE, differences=full)
    assert isinstance(raster, RasterRenderer)
    assert isinstance(raster, StackRenderer)
    assert (raster.name, raster.step_px, raster.samples_per_axis) == ("raster", 2.5, 2)
    needs_backend("pytorch3d")
    from renderers.pytorch3d import PyTorch3DRenderer

    soft, hard = load_renderer("pytorch3d", CATALOGUE), load_renderer("pytorch3d", CATALOGUE, gradient="none")
    assert isinstance(soft, PyTorch3DRenderer)
    assert isinstance(hard, PyTorch3DRenderer)
    assert (soft.is_differentiable, hard.is_differentiable) == (True, False)
    stepped = load_renderer("pytorch3d", CATALOGUE, gradient="finite-difference", differences=full)
    assert isinstance(stepped, FiniteDifferenceRenderer)
    assert (stepped.tangents, stepped.step_px, stepped.renderer.is_differentiable) == ("full", 2.5, False)


def test_raster_takes_central_differences_by_itself_and_others_through_the_wrapper() -> None:
    central = load_renderer("raster", CATALOGUE, gradient="finite-difference")
    assert isinstance(central, RasterRenderer)
    options = DifferenceOptions("full", 0.5, "spsa", 3, 7)
    renderer = load_renderer("raster", CATALOGUE, gradient="finite-difference", differences=options)
    assert isinstance(renderer, FiniteDifferenceRenderer)
    assert isinstance(renderer.renderer, RasterRenderer)
    found = renderer.tangents, renderer.step_px, renderer.scheme, renderer.pairs, renderer.seed
    assert found == ("full", 0.5, "spsa", 3, 7)


def test_the_path_tracer_draws_whole_scenes() -> None:
    needs_backend("mitsuba")
    path, lambert = (load_renderer(name, CATALOGUE, gradient="none") for name in ("mitsuba-path", "mitsuba"))
    assert isinstance(path, WholePictureRenderer)
    assert isinstance(lambert, PictureRenderer)
    assert not isinstance(lambert, WholePictureRenderer)
    assert (path.name, lambert.name) == ("mitsuba-path", "mitsuba")


@pytest.mark.parametrize("name", ["callable", "mujoco", "mitsuba", "pybullet"])
def test_two_workers_draw_what_one_process_draws(name: str) -> None:
    needs_backend(name)
    catalogue = catalogue_of(box(), ball(subdivisions=1))
    objects, view = table_scene(3, 3, 24, classes=2, seed=4)
    function = FUNCTION.function if name == "callable" else None
    alone, pooled = (
        load_renderer(name, catalogue, 2, "none", options=BackendOptions(function=function, workers=workers))
        for workers in (0, 2)
    )
    assert isinstance(pooled, PictureRenderer)
    assert isinstance(pooled.painter, WorkerPool)
    with pooled.painter as pool:
        assert len(pool.process_ids) == 2
        found, expected = pooled.render(objects, view), alone.render(objects, view)
    assert pooled.name == alone.name == name
    assert (expected.object_ids >= 0).any()
    for field in dataclasses.fields(RenderOutput):
        torch.testing.assert_close(getattr(found, field.name), getattr(expected, field.name), rtol=0, atol=1e-5)


def test_unknown_names_and_gradients_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError) as unknown:
        load_renderer("opengl", CATALOGUE)
    assert str(unknown.value) == f"renderer: expected one of {', '.join(GRADIENTS)}; got 'opengl'; name one of these"
    with pytest.raises(ValueError) as gradient:
        monkeypatch.setitem(GRADIENTS, "raster", ("finite-difference",))
        load_renderer("raster", CATALOGUE, gradient="analytic")
    expected = "gradient: expected one of finite-difference, none, as renderer 'raster' offers; got 'analytic'; "
    assert str(gradient.value) == expected + "name one of these or another renderer"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "raster",
            BackendOptions(function="mine.py:draw"),
            "function: expected renderer callable, got 'raster' with 'mine.py:draw'",
        ),
        ("mitsuba", BackendOptions(command="draw"), "command: expected renderer callable, got 'mitsuba' with 'draw'"),
        ("pybullet", BackendOptions(surroundings="arm.xml"), "surroundings: expected renderer mujoco, got 'pybullet'"),
        ("raster", BackendOptions(variant="scalar_rgb"), "variant: expected renderer mitsuba or mitsuba-path, got 'raster'"),
        ("open3d", BackendOptions(workers=2), "workers: expected renderer open3d-offscreen or mujoco or .*, got 'open3d' with 2"),
        ("callable", BackendOptions(), "either a function or a command that draws, got none; give --function"),
        ("callable", BackendOptions(function="mine.py:draw", command="draw"), "a function or a command that draws, got both"),
        ("callable", BackendOptions(function="nowhere.py:draw"), "expected a Python file, received nowhere.py"),
        ("mujoco", BackendOptions(workers=-1), "expected at least 0 and more than 0 seconds, got -1 and 60.0"),
        ("mujoco", BackendOptions(timeout_s=0.0), "expected at least 0 and more than 0 seconds, got 0 and 0.0"),
        ("mitsuba", BackendOptions(variant="scalar_spectral"), "variant must be one of .*scalar_rgb.*received 'scalar_spectral'"),
    ],
)
def test_options_that_do_not_belong_or_lack_are_refused(name: str, options: BackendOptions, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_renderer(name, CATALOGUE, options=options)


@pytest.mark.usefixtures("without_backends")
@pytest.mark.parametrize("gradient", [None, "none"])
@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package_is_named_with_its_remedy(
    name: str, gradient: Gradient | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(BackendMissingError) as caught:
        load_renderer(name, CATALOGUE, gradient=gradient)
    package, asked = PACKAGES[name], name.removesuffix("-path")
    assert str(caught.value) == (
        f"renderer {asked!r}: expected the package {package!r}, which cannot be imported here; install it with "
        f"`pip install {COMMANDS[package]}`, or choose another renderer"
    )
    assert (caught.value.renderer, caught.value.name) == (asked, package)
    assert isinstance(caught.value, ImportError)


def test_raster_cuda_needs_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError) as caught:
        load_renderer("raster-cuda", CATALOGUE)
    assert str(caught.value) == (
        "renderer 'raster-cuda': expected a CUDA GPU that torch can use, found none; "
        "use renderer 'raster', which draws the same on the CPU"
    )


@pytest.mark.usefixtures("without_backends")
def test_the_other_backend_works_without_it() -> None:
    assert load_renderer("raster", CATALOGUE).name == "raster"


def test_importing_the_package_loads_no_backend() -> None:
    packages = sorted(set(PACKAGES.values()))
    code = f"import sys, renderers; sys.exit(bool(set({packages!r}) & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
