"""Image Jacobians and normal equations by differences, and Gauss-Newton through black boxes with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from difference_scenes import PLANAR, ShadowRenderer, SmoothRenderer, at, smooth_scenes
from renderer_scenes import ball, box, catalogue_of, table_scene
from torch import Tensor
from torch.autograd.functional import jvp

from inverse_graphics.poses import move, rotation_angle_rad
from inverse_graphics.refinement import PoseSolver, refine_poses
from inverse_graphics.types import Catalogue, Objects, View, map_tensors
from renderers import FiniteDifferenceRenderer, RasterRenderer
from renderers.differences import CountingRenderer, Scheme, schemes
from renderers.tangents import Tangents

POSITIONS_PX = [[10.0, 12.0], [16.0, 16.0], [22.0, 21.0]]
SIZE_PX = 32


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other cost more than they save on images this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def exact_jacobian(image: Callable[[Objects, View], Tensor], objects: Objects, view: View) -> Tensor:
    """[b n 6 h w 3] by autograd, one number of one slot at a time, all scenes at once."""
    T = objects.T_world_object

    def moved(motion: Tensor) -> Tensor:
        # to first order, which is all that a derivative at no motion needs
        R = T[..., :3, :3] + torch.linalg.cross(motion[..., 3:, None].expand_as(T[..., :3, :3]), T[..., :3, :3], dim=-2)
        upper = torch.cat([R, (T[..., :3, 3] + motion[..., :3])[..., None]], -1)
        return image(at(objects, torch.cat([upper, T[..., 3:, :]], -2)), view)

    still = torch.zeros(*objects.present.shape, 6, dtype=torch.float64)
    columns: list[Tensor] = []
    for slot in range(objects.present.shape[1]):
        for number in range(6):
            direction = torch.zeros_like(still)
            direction[:, slot, number] = 1
            _, change = jvp(moved, still, direction)
            assert isinstance(change, Tensor)
            columns.append(change)
    return torch.stack(columns, 1).unflatten(1, (-1, 6))


def smooth_image(objects: Objects, view: View) -> Tensor:
    return SmoothRenderer().render(objects, view).rgb


def shadow_image(objects: Objects, view: View) -> Tensor:
    return ShadowRenderer().prefix_images(objects, view)[:, -1]


@pytest.mark.parametrize("tangents", ["planar", "full"])
@pytest.mark.parametrize(("scheme", "step_px", "tolerance"), [("central", 0.05, 5e-3), ("forward", 0.002, 5e-3)])
@pytest.mark.parametrize("whole", [False, True])
def test_jacobians_and_normal_equations_are_those_of_autograd(
    tangents: Tangents, scheme: Scheme, step_px: float, tolerance: float, whole: bool
) -> None:
    """Objects that hide each other, one absent."""
    objects, view = smooth_scenes(POSITIONS_PX, (2,), SIZE_PX)
    objects.present[1, 1] = False
    J = exact_jacobian(shadow_image if whole else smooth_image, objects, view)
    J = J if tangents == "full" else J[:, :, PLANAR]
    renderer = FiniteDifferenceRenderer(ShadowRenderer() if whole else SmoothRenderer(), tangents, step_px, scheme)
    assert isinstance(renderer, PoseSolver)
    jacobian = renderer.image_jacobian(objects, view)
    assert jacobian.shape == J.shape
    assert not jacobian[1, 1].any()
    per_tangent = J.square().sum((0, 1, 3, 4, 5)).sqrt()
    assert bool(((jacobian - J).square().sum((0, 1, 3, 4, 5)).sqrt() <= tolerance * per_tangent).all())
    residual = torch.rand(view.background_rgb.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64) - 0.3
    equations = renderer.normal_equations(objects, view, residual)
    scale = per_tangent
    gradient = torch.einsum("bnphwc,bhwc->bnp", J, residual)
    hessian = torch.einsum("bnphwc,bnqhwc->bnpq", J, J)
    torch.testing.assert_close(equations.gradient / scale, gradient / scale, rtol=0.01, atol=0.05)
    cross = scale[:, None] * scale
    torch.testing.assert_close(equations.hessian / cross, hessian / cross, rtol=0.01, atol=0.003)


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(("scheme", "per_gradient"), [("central", 6), ("forward", 3)])
def test_what_is_drawn_for_normal_equations(scheme: Scheme, per_gradient: int, whole: bool) -> None:
    objects, view = smooth_scenes([[12.0, 20.0], [52.0, 20.0], [12.0, 56.0]], (2,), 72)
    counter = CountingRenderer(ShadowRenderer() if whole else SmoothRenderer())
    FiniteDifferenceRenderer(counter, scheme=scheme).normal_equations(objects, view, view.background_rgb)
    assert (counter.calls, counter.scenes_drawn) == (2, 2 * (1 + per_gradient))


@pytest.mark.parametrize("whole", [False, True])
def test_drawing_in_parts_changes_nothing(whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    objects, view = smooth_scenes(POSITIONS_PX, (2, 1), SIZE_PX)
    renderer = FiniteDifferenceRenderer(ShadowRenderer() if whole else SmoothRenderer(2), "full")
    J, equations = renderer.image_jacobian(objects, view), renderer.normal_equations(objects, view, view.background_rgb)
    monkeypatch.setattr(schemes, "MAX_BYTES", 1)
    monkeypatch.setattr("renderers.differences.jacobian.MAX_POINTS", 1000)
    parts = renderer.normal_equations(objects, view, view.background_rgb)
    torch.testing.assert_close(renderer.image_jacobian(objects, view), J, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(parts.gradient, equations.gradient, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(parts.hessian, equations.hessian, rtol=1e-9, atol=1e-9)
    alone = [map_tensors(lambda x: x[1, 0], y) for y in (objects, view)]
    torch.testing.assert_close(renderer.image_jacobian(*alone), J[1, 0], rtol=1e-9, atol=1e-9)  # type: ignore[arg-type]


def tabletop() -> Catalogue:
    return catalogue_of(box((0.12, 0.05, 0.08)), ball(subdivisions=2))


def test_rasters_normal_equations_are_found_without_looking_inside() -> None:
    """J^T r of an image at its edges by steps of a pixel, against the analytic one; boxes turn, balls only move."""
    objects, view = table_scene(3, 3, 48, classes=1, seed=1)
    raster = RasterRenderer(tabletop(), 4, tangents="planar")
    black_box = FiniteDifferenceRenderer(raster, "planar", 0.5)
    v, u = torch.meshgrid(torch.linspace(0, 6, 48), torch.linspace(0, 6, 48), indexing="ij")
    residual = torch.stack([u.sin(), (u + v).cos(), v.sin()], -1).expand(3, 48, 48, 3)
    a, b = (renderer.normal_equations(objects, view, residual) for renderer in (black_box, raster))
    present = objects.present
    for part in (slice(0, 2), slice(2, 3)):
        x, y = (e.gradient[..., part][present].flatten() for e in (a, b))
        assert float(torch.nn.functional.cosine_similarity(x, y, dim=0)) > 0.98
        assert 0.9 < float(x.norm() / y.norm()) < 1.1
    x, y = (e.hessian[present].flatten() for e in (a, b))
    assert float(torch.nn.functional.cosine_similarity(x, y, dim=0)) > 0.97
    assert not a.gradient[~present].any() and not a.hessian[~present].any()


@pytest.mark.parametrize("scheme", ["central", "forward"])
def test_gauss_newton_finds_poses_through_a_black_box(scheme: Scheme) -> None:
    objects, view = table_scene(8, 2, 40, classes=1, seed=4)
    raster = RasterRenderer(tabletop(), 3)
    target = RasterRenderer(tabletop(), 3).render(objects, view).rgb
    generator = torch.Generator().manual_seed(0)
    motion = torch.zeros(8, 2, 6)
    motion[..., [0, 1, 5]] = (torch.rand(8, 2, 3, generator=generator) - 0.5) * torch.tensor([0.016, 0.016, 0.3])
    start = at(objects, move(objects.T_world_object, motion))
    hidden = CountingRenderer(raster)
    assert not isinstance(hidden, PoseSolver)
    renderer = FiniteDifferenceRenderer(hidden, "planar", 0.5, scheme)
    refined = refine_poses(renderer, start, view, target, tangents="planar", blur_px=(1.0, 0.0), steps=8)
    seen = objects.present & (raster.render(objects, view).visible_fraction > 0.7)
    away_m = (refined.objects.T_world_object - objects.T_world_object)[..., :3, 3].norm(dim=-1)[seen]
    R_est, R_gt = (x.T_world_object[..., :3, :3][seen] for x in (refined.objects, objects))
    assert int(seen.sum()) >= 8
    assert float(away_m.max()) < 0.0015
    assert float(rotation_angle_rad(R_est, R_gt).max()) < 0.03
    assert bool((refined.errors < 0.05 * refined.start_errors)[objects.present.any(-1)].all())


def test_gauss_newton_through_images_with_shadows() -> None:
    objects, view = smooth_scenes([[20.0, 20.0], [28.0, 26.0]], (2,), 48)
    target = shadow_image(objects, view)
    motion = torch.zeros(2, 2, 6, dtype=torch.float64)
    motion[..., PLANAR] = torch.tensor([[0.01, -0.008, 0.1], [-0.006, 0.01, -0.15]]).double()
    start = at(objects, move(objects.T_world_object, motion))
    renderer = FiniteDifferenceRenderer(ShadowRenderer(), step_px=0.2)
    refined = refine_poses(renderer, start, view, target, tangents="planar", blur_px=(0.0,), steps=12)
    assert bool((refined.errors < 1e-3 * refined.start_errors).all())
    assert float((refined.objects.T_world_object - objects.T_world_object)[..., :3, 3].norm(dim=-1).max()) < 2e-4


def test_absent_objects_with_poses_that_are_no_numbers_get_zeros() -> None:
    objects, view = smooth_scenes(POSITIONS_PX, (2,), SIZE_PX)
    objects.present[0, 0] = False
    objects.T_world_object[0, 0] = torch.nan
    for inner in (SmoothRenderer(), ShadowRenderer()):
        equations = FiniteDifferenceRenderer(inner).normal_equations(objects, view, view.background_rgb)
        for x in (equations.gradient, equations.hessian):
            assert bool(torch.isfinite(x).all())
            assert not x[0, 0].any()
            assert bool((x[objects.present].flatten(1).abs().sum(-1) > 0).all())


@pytest.mark.parametrize("scheme", ["spsa", "smoothing"])
def test_random_schemes_have_no_jacobian(scheme: Scheme) -> None:
    objects, view = smooth_scenes(POSITIONS_PX, (), SIZE_PX)
    renderer = FiniteDifferenceRenderer(SmoothRenderer(), scheme=scheme)
    with pytest.raises(
        ValueError, match=f"normal_equations: expected a renderer with scheme central or forward, received '{scheme}'"
    ):
        renderer.normal_equations(objects, view, view.background_rgb)
    with pytest.raises(ValueError, match="image_jacobian: expected a renderer with scheme central or forward"):
        renderer.image_jacobian(objects, view)


def test_a_residual_of_another_shape_is_refused() -> None:
    objects, view = smooth_scenes(POSITIONS_PX, (), SIZE_PX)
    with pytest.raises(ValueError, match=r"residual_rgb: expected \(32, 32, 3\) as the view, received \(16, 32, 3\)"):
        FiniteDifferenceRenderer(SmoothRenderer()).normal_equations(objects, view, view.background_rgb[:16])
