"""The rasteriser's twin for GPUs, on Warp's CPU device: it draws what the CPU rasteriser draws, and compiles for CUDA.

What any renderer must draw is in test_renderer_contract.py, which this one passes too.  Where there is a GPU, the tests with a
device run there as well.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
import torch
from gradient_scenes import all_gradients, broken_mesh, make_cases, poster, sliver_square
from renderer_scenes import alternatives_of, ball, box, camera_view, catalogue_of, posed, square, table_scene
from torch import Tensor

from inverse_graphics.protocols import StackRenderer
from inverse_graphics.types import Catalogue, Objects, View, map_tensors
from renderers import BackendMissingError, RasterRenderer
from renderers.raster.meshes import pack_meshes
from renderers.raster.meshes import with_surfaces as with_surfaces_on_the_cpu
from renderers.raster.warp import WarpRasterRenderer
from renderers.raster.warp.compile import KERNEL_MODULES, Settings, compile_modules
from renderers.raster.warp.packing import pack_for_device, with_surfaces
from renderers.tangents import Tangents

if importlib.util.find_spec("warp") is None:
    pytest.skip("warp is not installed", allow_module_level=True)

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
CATALOGUE = catalogue_of(box(), ball(0.05, 2), square(0.08))
CASES = make_cases()
Renderers = tuple[WarpRasterRenderer, RasterRenderer]


def both(catalogue: Catalogue, samples: int = 2, tangents: Tangents = "planar") -> Renderers:
    return WarpRasterRenderer(catalogue, samples, tangents), RasterRenderer(catalogue, samples, tangents=tangents)


def crowded() -> tuple[Catalogue, Objects, View]:
    """Two scenes of objects that hide and pierce one another, one open and textured, one with broken faces; one slot is empty."""
    positions_m = [[0.0, 0.0, 0.5], [0.03, 0.03, 0.49], [-0.04, 0.02, 0.52], [0.02, -0.05, 0.47]]
    objects = map_tensors(lambda x: x.repeat(2, *[1] * x.dim()), posed([0, 1, 2, 3], positions_m, [[0.5, -0.6, 0.2]] * 4))
    objects.class_ids[1] = torch.tensor([2, 2, 1, 0])
    objects.present[1, 3] = False
    view = camera_view(32, 28, 56.0, (2,), light=(0.3, 0.2, -0.9))
    background = torch.rand(2, 28, 32, 3, generator=torch.Generator().manual_seed(5))
    catalogue = catalogue_of(box(), ball(0.05, 2), poster(0.03), broken_mesh())
    return catalogue, objects, dataclasses.replace(view, background_rgb=background)


def assert_close(got: Tensor, expected: Tensor, name: str = "") -> None:
    """To 2e-5 of the largest entry."""
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-5 * float(expected.abs().amax()) + 1e-6, msg=name or None)


def assert_same_gradients(renderers: Renderers, objects: Objects, view: View) -> None:
    found: list[dict[str, Tensor]] = []
    for renderer in renderers:
        torch.manual_seed(0)  # of the images' weights
        found.append(all_gradients(renderer, objects, view))
    ours, theirs = found
    assert bool(theirs["objects"].any())
    for name, expected in theirs.items():
        if name in ("objects", "camera"):  # the last row of a pose means nothing
            assert_close(ours[name][..., :3, :], expected[..., :3, :], name)
        else:
            assert_close(ours[name], expected, name)


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_draws_what_the_cpu_draws(samples: int) -> None:
    objects, view = table_scene(4, 3, 24, 3)
    ours, theirs = both(CATALOGUE, samples)
    image, expected = ours.render(objects, view), theirs.render(objects, view)
    layers, expected_layers = ours.layers(objects, view), theirs.layers(objects, view)
    others, target_rgb = alternatives_of(objects), torch.rand_like(image.rgb)
    for got, want in (
        (image.depth_m, expected.depth_m),
        (image.object_ids, expected.object_ids),
        (image.visible_fraction, expected.visible_fraction),
        (layers.alpha, expected_layers.alpha),
        (layers.depth_m, expected_layers.depth_m),
    ):
        assert torch.equal(got, want)
    for got, want in (
        (image.rgb, expected.rgb),
        (layers.rgb, expected_layers.rgb),
        (ours.masks(objects, view), theirs.masks(objects, view)),
        (ours.prefix_images(objects, view), theirs.prefix_images(objects, view)),
    ):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-6)
    errors = (renderer.swap_errors(objects, others, view, target_rgb) for renderer in (ours, theirs))
    torch.testing.assert_close(*errors, rtol=1e-5, atol=1e-3)


def test_large_faces_and_the_near_plane() -> None:
    """A ball that the near plane cuts, before a wall whose two faces fill the image and are drawn through the list."""
    view = camera_view(48, 40, 50.0, near_m=0.34)
    objects = posed([0, 1], [[0.03, -0.02, 0.5], [0.0, 0.0, 0.9]])
    image, expected = (renderer.render(objects, view) for renderer in both(catalogue_of(ball(0.2, 3), square(2.0))))
    assert int((expected.object_ids == 0).sum()) > 100
    assert int((expected.object_ids == 1).sum()) > 100
    assert torch.equal(image.depth_m, expected.depth_m)
    torch.testing.assert_close(image.rgb, expected.rgb, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("samples", [1, 2])
def test_gradients_are_those_of_the_cpu(name: str, samples: int) -> None:
    case = CASES[name]
    assert_same_gradients(both(case.catalogue, samples), case.objects, case.view)


def test_gradients_of_a_crowd_are_those_of_the_cpu() -> None:
    catalogue, objects, view = crowded()
    assert_same_gradients(both(catalogue), objects, view)


@pytest.mark.parametrize("width_m", [0.0, 1e-6])
def test_faces_without_area_are_passed_over_as_on_the_cpu(width_m: float) -> None:
    generator, count = torch.Generator().manual_seed(0), 60
    turns, places = torch.randn(count, 3, generator=generator) * 0.6, torch.randn(count, 3, generator=generator) * 0.05
    turns[:30, :2], places[:, 2] = 0, 0.5
    objects = map_tensors(lambda x: x[:, None], posed([0] * count, places.tolist(), turns.tolist()))
    assert_same_gradients(both(catalogue_of(sliver_square(width_m, True))), objects, camera_view(24, 24, 40.0, (count,)))


@pytest.mark.parametrize(("name", "tangents"), [("intersection", "planar"), ("texture", "full"), ("near light", "full")])
def test_normal_equations_are_those_of_the_cpu(name: str, tangents: Tangents) -> None:
    case = CASES[name]
    residual_rgb = torch.rand(case.view.background_rgb.shape) - 0.5
    ours, theirs = (r.normal_equations(case.objects, case.view, residual_rgb) for r in both(case.catalogue, 2, tangents))
    assert_close(ours.gradient, theirs.gradient)
    assert_close(ours.hessian, theirs.hessian)


def pictures_of(renderer: RasterRenderer | WarpRasterRenderer, objects: Objects, view: View) -> list[Tensor]:
    """All that a renderer gives, with the gradient of the prefixes, on the inputs' device."""
    leaf = objects.T_world_object.detach().clone().requires_grad_()
    objects = dataclasses.replace(objects, T_world_object=leaf)
    image, prefixes = renderer.render(objects, view), renderer.prefix_images(objects, view)
    (prefixes * view.background_rgb[:, None].flip(2)).sum().backward()
    equations = renderer.normal_equations(objects, view, image.rgb - view.background_rgb)
    errors = renderer.swap_errors(objects, alternatives_of(objects), view, view.background_rgb)
    gradient = torch.as_tensor(leaf.grad)[..., :3, :]
    pictures = [image.rgb, image.depth_m, image.object_ids, image.visible_fraction, prefixes, renderer.masks(objects, view)]
    return [x.detach() for x in (*pictures, gradient, equations.gradient, equations.hessian, errors)]


@contextlib.contextmanager
def no_waiting(device: str) -> Iterator[None]:
    """On CUDA, calls that wait for the device are errors."""
    with contextlib.ExitStack() as stack:
        if device == "cuda":
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")  # the debug mode calls itself a prototype
            torch.cuda.set_sync_debug_mode("error")
            stack.callback(torch.cuda.set_sync_debug_mode, "default")
        yield


@pytest.mark.parametrize("device", DEVICES)
def test_every_device_gives_the_same_bits_twice_and_is_not_waited_for(device: str) -> None:
    catalogue, objects, view = crowded()
    renderer, on_the_cpu = both(catalogue)
    there = map_tensors(lambda x: x.to(device), objects), map_tensors(lambda x: x.to(device), view)
    first = pictures_of(renderer, *there)
    with no_waiting(device):
        second = pictures_of(renderer, *there)
    for got, again, expected in zip(first, second, pictures_of(on_the_cpu, objects, view), strict=True):
        assert torch.equal(got, again)
        assert_close(got.cpu(), expected)


@pytest.mark.parametrize("device", DEVICES)
def test_parts_of_the_batch_and_threads_make_no_difference(device: str) -> None:
    catalogue, objects, view = crowded()
    objects, view = map_tensors(lambda x: x.to(device), objects), map_tensors(lambda x: x.to(device), view)
    whole, parts = WarpRasterRenderer(catalogue), WarpRasterRenderer(catalogue, max_buffer_bytes=1)
    expected = pictures_of(whole, objects, view)
    for got, want in zip(pictures_of(parts, objects, view), expected, strict=True):
        assert_close(got, want)
    with ThreadPoolExecutor(2) as pool:
        for pictures in pool.map(lambda renderer: pictures_of(renderer, objects, view), [whole] * 4):
            assert all(torch.equal(a, b) for a, b in zip(pictures, expected, strict=True))


def test_creases_of_other_surfaces_are_found_as_on_the_cpu() -> None:
    catalogue, _, _ = crowded()
    packed, meshes = pack_meshes(catalogue), pack_for_device(catalogue, torch.device("cpu"))
    rgb = np.array(packed.corner_rgb)
    rgb[:20] += np.random.default_rng(0).random((20, 1, 3)).astype(np.float32)
    expected = with_surfaces_on_the_cpu(packed, packed.vertices_m, rgb, packed.corner_normals).smooth_across
    found = with_surfaces(meshes, meshes.vertices_m, torch.from_numpy(rgb), meshes.corner_normals).smooth_across
    assert (expected != packed.smooth_across).any()
    assert np.array_equal(found.numpy(), expected)


@pytest.mark.parametrize(("scenes", "slots"), [(0, 3), (2, 0)])
def test_nothing_to_draw(scenes: int, slots: int) -> None:
    objects, view = table_scene(max(scenes, 1), max(slots, 1), 8, 3)
    objects = map_tensors(lambda x: x[:scenes, :slots], objects)
    view = map_tensors(lambda x: x[:scenes], view)
    renderer = WarpRasterRenderer(CATALOGUE)
    gradients = all_gradients(renderer, objects, view)
    assert gradients["objects"].shape == (scenes, slots, 4, 4)
    assert torch.equal(renderer.render(objects, view).rgb, view.background_rgb)
    assert renderer.normal_equations(objects, view, view.background_rgb).hessian.shape == (scenes, slots, 3, 3)
    errors = renderer.swap_errors(objects, alternatives_of(objects), view, view.background_rgb)
    assert errors.shape == (scenes, slots, 5, slots + 1)


def test_bad_input_is_refused() -> None:
    objects, view = table_scene(2, 3, 8, 3)
    renderer = WarpRasterRenderer(CATALOGUE, 1)
    assert isinstance(renderer, StackRenderer)
    with pytest.raises(ValueError, match=r"class_ids: expected 0\.\.2"):
        renderer.render(dataclasses.replace(objects, class_ids=objects.class_ids + 3), view)
    with pytest.raises(ValueError, match="background_rgb: expected"):
        renderer.render(objects, dataclasses.replace(view, background_rgb=torch.zeros(2, 8, 9, 3)))
    with pytest.raises(ValueError, match="residual_rgb: expected"):
        renderer.normal_equations(objects, view, torch.zeros(2, 8, 9, 3))
    surfaces = renderer.surfaces()
    with pytest.raises(ValueError, match=r"surfaces.corner_rgb: expected \(\d+, 3, 3\) on cpu"):
        renderer.render(objects, view, dataclasses.replace(surfaces, corner_rgb=surfaces.corner_rgb[1:]))
    with pytest.raises(ValueError, match="max_buffer_bytes"):
        WarpRasterRenderer(CATALOGUE, 1, max_buffer_bytes=0)
    with pytest.raises(ValueError, match="device: expected cpu or cuda, got meta"):
        renderer.surfaces("meta")


def test_every_kernel_compiles_for_cuda() -> None:
    compiled = compile_modules(Settings(arch=(80,), ptx=True))
    assert [module.module for module in compiled] == list(KERNEL_MODULES)
    for module in compiled:
        assert module.kernels
        for kernel in module.kernels:
            assert f".entry {kernel}_".encode() in module.content


class WithoutWarp:
    """Makes Warp look as if it were not installed."""

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Refuse Warp, leave the others to the next finder."""
        if fullname.split(".")[0] == "warp":
            raise ModuleNotFoundError(f"No module named {fullname!r}", name=fullname)
        return None


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "warp"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [WithoutWarp(), *sys.meta_path])
    with pytest.raises(BackendMissingError, match='install it with `pip install "warp-lang>=1.19,<2"`'):
        WarpRasterRenderer(CATALOGUE)
