"""What only the Open3D backend does, and that it draws what ``raster`` draws, on the catalogue's own meshes too."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys

import numpy as np
import pytest
import torch
from renderer_scenes import ball, box, camera_view, catalogue_of, mesh_of, posed, quad, square, table_scene
from torch import Tensor

from assets import load_catalogue
from inverse_graphics.types import Catalogue, Layers, Mesh, Objects, Texture, View, map_tensors
from renderers import FiniteDifferenceRenderer, RasterRenderer
from renderers.errors import BackendMissingError
from renderers.open3d import Open3DRenderer
from scenes import ScenePrior, load_scene_config

pytestmark = pytest.mark.skipif(importlib.util.find_spec("open3d") is None, reason="Open3D is not installed")


def tabletop(scenes: int, size_px: int) -> tuple[Catalogue, Objects, View]:
    """Scenes of the table-top config with any of the catalogue's classes."""
    catalogue = load_catalogue("tabletop")
    config = load_scene_config("scenes/tabletop.yaml")
    count = dataclasses.replace(config.objects, min_count=3, count_probabilities=None)
    config = dataclasses.replace(config, classes=catalogue.names, image_size_px=(size_px, size_px), objects=count)
    scene = ScenePrior(config, catalogue).sample(5, torch.arange(scenes), 0)
    return catalogue, scene.objects, scene.view


def painted_ball() -> Mesh:
    globe = ball(subdivisions=2)
    row, column = np.indices((16, 24)) * 2 * np.pi / [[[16]], [[24]]]
    rgb = 0.6 + 0.4 * np.stack([np.sin(row), np.cos(column), np.sin(row + column)], -1)
    uv = (globe.vertices_m[:, :2] * 12)[globe.faces]
    return dataclasses.replace(globe, texture=Texture(uv.astype(np.float32), rgb.astype(np.float32)))


def with_near_lights(view: View) -> View:
    positions = torch.tensor([[0.3, -0.2, 0.3], [-0.3, 0.1, 0.4], [0.0, -0.3, 0.2]])
    return dataclasses.replace(view, light=dataclasses.replace(view.light, position_world=positions))


def assert_alike(a: Layers, b: Layers, least_shared: int) -> None:
    inside_a, inside_b = a.alpha > 0, b.alpha > 0
    shared = inside_a & inside_b
    seen = inside_a.sum((-2, -1)) >= 20
    iou = shared.sum((-2, -1)) / (inside_a | inside_b).sum((-2, -1)).clamp(min=1)
    assert (iou[seen] >= 0.97).all()
    assert shared.sum() > least_shared
    assert ((a.depth_m - b.depth_m)[shared].abs() < 0.002).float().mean() >= 0.99
    assert ((a.rgb - b.rgb)[shared].abs().amax(-1) < 0.02).float().mean() >= 0.99


@pytest.mark.parametrize("samples", [1, 2])
@pytest.mark.parametrize("near", [False, True])
def test_agrees_with_raster_on_random_tables(samples: int, near: bool) -> None:
    objects, view = table_scene(3, 4, 128, classes=3, seed=3)
    view = with_near_lights(view) if near else view
    catalogue = catalogue_of(box(), ball(subdivisions=2), painted_ball())
    assert set(objects.class_ids[objects.present].tolist()) == {0, 1, 2}
    ours, theirs = (make(catalogue, samples).layers(objects, view) for make in (RasterRenderer, Open3DRenderer))
    assert_alike(ours, theirs, 2000)


def test_agrees_with_raster_on_the_catalogue() -> None:
    catalogue, objects, view = tabletop(12, 128)
    assert len(objects.class_ids[objects.present].unique()) >= 10
    ours, theirs = (make(catalogue, 1).layers(objects, view) for make in (RasterRenderer, Open3DRenderer))
    assert_alike(ours, theirs, 10000)


@pytest.mark.parametrize("near_m", [0.45, 0.6])
def test_near_plane_through_open_and_through_closed_meshes(near_m: float) -> None:
    """Of an open mesh the same remains as of raster's; of a closed one the inside is seen, whose faces raster leaves out."""
    leaning = quad([[-0.3, 0.1, 0.3], [0.3, 0.1, 0.3], [0.3, -0.1, 0.9], [-0.3, -0.1, 0.9]])
    tub = mesh_of("tub", ball(0.2).vertices_m, ball(0.2).faces, (0.3, 0.5, 0.9), smooth=True)
    catalogue = catalogue_of(leaning, dataclasses.replace(tub, watertight=False), tub)
    objects, view = posed([0, 1, 2], [[0, 0, 0], [0, 0, 0.5], [0, 0, 0.5]]), camera_view(48, 40, 40.0, near_m=near_m)
    ours, theirs = (make(catalogue, 2).layers(objects, view) for make in (RasterRenderer, Open3DRenderer))
    open_ours, open_theirs = (Layers(x.rgb[:2], x.alpha[:2], x.depth_m[:2], 2) for x in (ours, theirs))
    assert_alike(open_ours, open_theirs, 1000)
    assert theirs.depth_m.min() >= near_m
    assert torch.equal(theirs.rgb[1], theirs.rgb[2])
    assert theirs.depth_m[2, 40, 48] == pytest.approx(0.7, abs=2e-3)


def test_absent_objects_are_empty_and_their_poses_are_not_looked_at() -> None:
    objects, view = table_scene(2, 3, 24, classes=2)
    present = torch.tensor([[True, False, True], [False, False, False]])
    T = torch.where(present[..., None, None], objects.T_world_object, torch.nan)
    layers = Open3DRenderer(catalogue_of(box(), ball())).layers(Objects(objects.class_ids, T, present), view)
    assert torch.equal(layers.alpha.flatten(2).any(-1), present)
    assert torch.equal(torch.isinf(layers.depth_m), layers.alpha == 0)
    assert layers.rgb.isfinite().all()


def test_no_scenes_and_meshes_without_faces() -> None:
    nothing = np.zeros((0, 3, 3), np.float32)
    empty = Mesh("empty", np.zeros((2, 3), np.float32), np.zeros((0, 3), np.int32), nothing, nothing)
    renderer = Open3DRenderer(catalogue_of(empty, square(0.3)))
    layers = renderer.layers(posed([0, 1], [[0, 0, 1], [0, 0, 1]]), camera_view(16, 12, 10.0))
    assert [bool(x.any()) for x in layers.alpha] == [False, True]
    none = Objects(torch.zeros(0, 2, dtype=torch.int64), torch.zeros(0, 2, 4, 4), torch.zeros(0, 2, dtype=torch.bool))
    assert renderer.layers(none, camera_view(16, 12, 10.0, (0,))).rgb.shape == (0, 2, 24, 32, 3)


def test_batch_dimensions_dtype_calls_and_repetition_change_nothing() -> None:
    objects, view = table_scene(4, 3, 24, classes=2)
    catalogue = catalogue_of(box(), ball(subdivisions=1))
    whole = Open3DRenderer(catalogue).layers(objects, view)

    def shaped(x: Tensor) -> Tensor:
        return x.reshape(2, 2, *x.shape[1:])

    for max_rays in (2**20, 100, 1):
        renderer = Open3DRenderer(catalogue, max_rays=max_rays)
        again = renderer.layers(map_tensors(shaped, objects), map_tensors(shaped, view))
        assert again.rgb.shape == (2, 2, 3, 48, 48, 3)
        for a, b in ((whole.rgb, again.rgb), (whole.alpha, again.alpha), (whole.depth_m, again.depth_m)):
            assert torch.equal(shaped(a), b)
    double = map_tensors(lambda x: x.double() if x.is_floating_point() else x, objects)
    exact = Open3DRenderer(catalogue).layers(double, map_tensors(lambda x: x.double(), view))
    assert exact.rgb.dtype == exact.alpha.dtype == exact.depth_m.dtype == torch.float64


@pytest.mark.parametrize("size_px", [17, 64])
def test_closed_meshes_have_no_holes(size_px: int) -> None:
    """Rays through edges and corners: a cube seen along its diagonal, a ball whose faces are as small as samples."""
    diagonal = [0.0, 0.0, 0.0]
    catalogue = catalogue_of(box((0.5, 0.5, 0.5)), ball(0.35, 5))
    objects = posed([0, 0, 1], [[0, 0, 1.0]] * 3, [diagonal, [0.615479708, 0.785398163, 0.0], diagonal])
    layers = Open3DRenderer(catalogue, 1).layers(objects, camera_view(size_px, size_px, float(size_px)))
    for alpha in layers.alpha > 0:
        for row in alpha[alpha.any(-1)]:
            inside = row.nonzero()[:, 0]
            assert len(inside) == inside[-1] - inside[0] + 1


def test_finite_differences_round_it_point_the_way_of_rasters() -> None:
    objects, view = table_scene(3, 3, 48, classes=2, seed=1)
    catalogue = catalogue_of(box(), ball(subdivisions=2))
    target = RasterRenderer(catalogue).render(objects, view).rgb
    shifted = objects.T_world_object.clone()
    shifted[..., :2, 3] += torch.tensor([0.012, -0.008])
    gradients: list[Tensor] = []
    for make in (RasterRenderer, Open3DRenderer):
        T = shifted.clone().requires_grad_()
        renderer = FiniteDifferenceRenderer(make(catalogue, 2), "full")
        (renderer.render(Objects(objects.class_ids, T, objects.present), view).rgb - target).square().sum().backward()
        assert T.grad is not None
        gradients.append(T.grad[objects.present][:, :3].flatten(1))
    assert (torch.cosine_similarity(gradients[0], gradients[1]) > 0.95).all()


def test_what_cannot_be_drawn_is_refused() -> None:
    renderer, view = Open3DRenderer(catalogue_of(box())), camera_view(8, 8, 10.0)
    with pytest.raises(ValueError, match="T_world_object: expected finite poses"):
        renderer.layers(posed([0], [[0.0, float("nan"), 1.0]]), view)
    with pytest.raises(ValueError, match=r"view: expected the objects' batch dimensions \(\)"):
        renderer.layers(posed([0], [[0.0, 0.0, 1.0]]), camera_view(8, 8, 10.0, (2,)))
    with pytest.raises(ValueError, match="samples_per_axis: expected at least 1, got 0"):
        renderer.layers(posed([0], [[0.0, 0.0, 1.0]]), view, 0)
    with pytest.raises(ValueError, match="max_rays: expected at least 1, got 0"):
        Open3DRenderer(catalogue_of(box()), max_rays=0)
    with pytest.raises(ValueError, match="catalogue: expected at least one mesh"):
        Open3DRenderer(Catalogue(()))


def test_a_missing_package_or_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(BackendMissingError, match='pip install "open3d>=0.19"'):
        Open3DRenderer(catalogue_of(box()))

    class WithoutX11:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "open3d":
                raise ImportError("libX11.so.6: cannot open shared object file: No such file or directory")

    monkeypatch.delitem(sys.modules, "open3d")
    monkeypatch.setattr(sys, "meta_path", [WithoutX11, *sys.meta_path])
    with pytest.raises(BackendMissingError, match=r"'libX11.so.6'.*apt-get install .*libx11-6"):
        Open3DRenderer(catalogue_of(box()))
