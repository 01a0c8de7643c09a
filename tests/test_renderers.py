"""Backends by name: what is built, which gradients each has, and what is refused."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest
import torch
from renderer_scenes import box, camera_view, catalogue_of, posed

from inverse_graphics.protocols import Renderer, StackRenderer
from inverse_graphics.types import map_tensors
from renderers import GRADIENTS, BackendMissingError, FiniteDifferenceRenderer, Gradient, RasterRenderer, load_renderer

ROOT = Path(__file__).parent.parent
CATALOGUE = catalogue_of(box())


PACKAGES = {"pytorch3d": "pytorch3d", "raster-cuda": "warp"}
"""What optional backends import."""


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


@pytest.mark.parametrize("name", GRADIENTS)
@pytest.mark.parametrize("gradient", [None, "none", "analytic", "finite-difference"])
def test_every_backend_has_the_gradients_it_offers(name: str, gradient: Gradient | None) -> None:
    needs_backend(name)
    if gradient not in (None, "none", *GRADIENTS[name]):
        with pytest.raises(ValueError, match="gradient"):
            load_renderer(name, CATALOGUE, gradient=gradient)
        return
    renderer = load_renderer(name, CATALOGUE, 3, gradient)
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
    raster = load_renderer("raster", CATALOGUE, tangents="full", step_px=2.5)
    assert isinstance(raster, RasterRenderer)
    assert isinstance(raster, StackRenderer)
    assert (raster.name, raster.step_px, raster.samples_per_axis) == ("raster", 2.5, 2)
    needs_backend("pytorch3d")
    from renderers.pytorch3d import PyTorch3DRenderer

    soft, hard = load_renderer("pytorch3d", CATALOGUE), load_renderer("pytorch3d", CATALOGUE, gradient="none")
    assert isinstance(soft, PyTorch3DRenderer)
    assert isinstance(hard, PyTorch3DRenderer)
    assert (soft.is_differentiable, hard.is_differentiable) == (True, False)
    stepped = load_renderer("pytorch3d", CATALOGUE, gradient="finite-difference", tangents="full", step_px=2.5)
    assert isinstance(stepped, FiniteDifferenceRenderer)
    assert (stepped.tangents, stepped.step_px, stepped.renderer.is_differentiable) == ("full", 2.5, False)


def test_unknown_names_and_gradients_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError) as unknown:
        load_renderer("opengl", CATALOGUE)
    assert str(unknown.value) == "renderer: expected one of raster, raster-cuda, pytorch3d; got 'opengl'; name one of these"
    with pytest.raises(ValueError) as gradient:
        monkeypatch.setitem(GRADIENTS, "raster", ("finite-difference",))
        load_renderer("raster", CATALOGUE, gradient="analytic")
    expected = "gradient: expected one of finite-difference, none, as renderer 'raster' offers; got 'analytic'; "
    assert str(gradient.value) == expected + "name one of these or another renderer"


@pytest.mark.usefixtures("without_backends")
@pytest.mark.parametrize("gradient", [None, "none", "analytic", "finite-difference"])
def test_a_missing_package_is_named_with_its_remedy(gradient: Gradient | None) -> None:
    with pytest.raises(BackendMissingError) as caught:
        load_renderer("pytorch3d", CATALOGUE, gradient=gradient)
    assert str(caught.value) == (
        "renderer 'pytorch3d': expected the package 'pytorch3d', which cannot be imported here; install it with "
        "`pip install easypytorch3d==0.7.9.post1 torch==2.12.1`, or choose another renderer"
    )
    assert (caught.value.renderer, caught.value.name) == ("pytorch3d", "pytorch3d")
    assert isinstance(caught.value, ImportError)


@pytest.mark.usefixtures("without_backends")
def test_a_missing_package_is_named_where_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(BackendMissingError) as caught:
        load_renderer("raster-cuda", CATALOGUE)
    assert str(caught.value) == (
        "renderer 'raster-cuda': expected the package 'warp', which cannot be imported here; install it with "
        '`pip install "warp-lang>=1.19,<2"`, or choose another renderer'
    )


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
    code = "import sys, renderers; sys.exit(bool({'pytorch3d', 'warp'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
