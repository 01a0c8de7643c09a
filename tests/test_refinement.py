"""Refinement of poses on an image that is smooth in them, so that least squares, autograd and scipy say what is right."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from renderer_scenes import box, camera_view, catalogue_of, posed
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation
from torch import Tensor

from inverse_graphics.poses import motion_slopes, move, project_points, rotation_angle_rad, transform_points
from inverse_graphics.refinement import Method, PoseSolver, Refined, Tangents, blur, refine_poses
from inverse_graphics.types import Catalogue, Layers, Mesh, Objects, RenderOutput, View, map_tensors
from renderers import FiniteDifferenceRenderer, RasterRenderer
from renderers.differences import CountingRenderer

SIZE_PX = 24


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for each other cost more than they save on images this small."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@dataclass(frozen=True)
class Equations:
    gradient: Tensor
    hessian: Tensor


class BlobRenderer:
    """Every vertex is a round blob of its own colour: an image with derivatives of all orders, and nothing hidden."""

    name = "blobs"
    is_differentiable = True
    samples_per_axis = 1

    def __init__(self, catalogue: Catalogue, tangents: Tangents = "full", radius_px: float = 1.5) -> None:
        self.catalogue = catalogue
        self.radius_px = radius_px
        self.basis = torch.eye(6, dtype=torch.float64)[[0, 1, 5] if tangents == "planar" else slice(None)]

    def layers(self, objects: Objects, view: View, samples_per_axis: int | None = None) -> Layers:
        raise AssertionError("refinement draws images, not layers")

    def render(self, objects: Objects, view: View) -> RenderOutput:
        none = torch.zeros(objects.present.shape[:-1], dtype=torch.float64)
        rgb = self.image(objects, view, objects.T_world_object)
        empty = none[..., None, None].expand(rgb.shape[:-1])
        return RenderOutput(rgb, empty, empty.long(), torch.ones_like(objects.present, dtype=torch.float64))

    def image(self, objects: Objects, view: View, T_world_object: Tensor) -> Tensor:
        vertices = torch.stack([torch.as_tensor(mesh.vertices_m) for mesh in self.catalogue.meshes])[objects.class_ids].double()
        T = torch.where(objects.present[..., None, None], T_world_object, torch.eye(4, dtype=torch.float64))
        points = transform_points(T, vertices).flatten(-3, -2)
        uv_px = project_points(view.camera, points)[0]
        colours = torch.stack([torch.as_tensor(mesh.corner_rgb[:, 0]) for mesh in self.catalogue.meshes])[objects.class_ids]
        colours = (colours * objects.present[..., None, None]).flatten(-3, -2).double()
        centres = torch.arange(SIZE_PX, dtype=torch.float64) + 0.5
        across, down = (torch.exp(-0.5 * ((centres - x[..., None]) / self.radius_px) ** 2) for x in uv_px.unbind(-1))
        return view.background_rgb + torch.einsum("...pv,...pu,...pc->...vuc", down, across, colours)

    def jacobian(self, objects: Objects, view: View) -> Tensor:
        """[*b n p h w 3] by central differences, in float64 good to nine digits."""
        T, step = objects.T_world_object, 1e-5
        slots, tangents = T.shape[-3], len(self.basis)
        # [n p 1.. n 6] motions: of one slot along one tangent
        motion = step * torch.einsum("ij,pd->ipjd", torch.eye(slots, dtype=torch.float64), self.basis)
        motion = motion.reshape(slots, tangents, *[1] * (T.dim() - 3), slots, 6).expand(slots, tangents, *T.shape[:-2], 6)
        ahead, behind = (self.image(objects, view, moved(T, sign * motion)) for sign in (1, -1))
        return ((ahead - behind) / (2 * step)).movedim((0, 1), (T.dim() - 3, T.dim() - 2))

    def normal_equations(self, objects: Objects, view: View, residual_rgb: Tensor) -> Equations:
        J = self.jacobian(objects, view)
        gradient = torch.einsum("...nphwc,...hwc->...np", J, residual_rgb)
        return Equations(gradient, torch.einsum("...nphwc,...nqhwc->...npq", J, J))


def moved(T: Tensor, motion: Tensor) -> Tensor:
    """Translated along the world's axes and turned about the origin, by the matrix exponential."""
    x, y, z = motion[..., 3:].unbind(-1)
    zero = torch.zeros_like(x)
    hat = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], -1).unflatten(-1, (3, 3))
    upper = torch.cat([torch.linalg.matrix_exp(hat) @ T[..., :3, :3], (T[..., :3, 3] + motion[..., :3])[..., None]], -1)
    return torch.cat([upper, T[..., 3:, :].expand(*upper.shape[:-2], 1, 4)], -2)


def blobs(name: str, seed: int) -> Mesh:
    """Six coloured points whose arrangement has no symmetry, off the object's origin."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(-0.05, 0.05, (6, 3)) + [0.0, 0.0, 0.06]
    colours = np.repeat(rng.uniform(0.2, 0.8, (6, 1, 3)), 3, 1)
    faces, normals = np.zeros((6, 3), np.int32), np.zeros((6, 3, 3), np.float32)
    return Mesh(name, points.astype(np.float32), faces, colours.astype(np.float32), normals)


def scenes(batch: tuple[int, ...], seed: int = 0) -> tuple[Objects, View]:
    """Two objects side by side in front of the camera, in any orientation; float64."""
    view = map_tensors(lambda x: x.double(), camera_view(SIZE_PX, SIZE_PX, 1.4 * SIZE_PX, batch))
    count = math.prod(batch) * 2
    T = torch.eye(4, dtype=torch.float64).repeat(*batch, 2, 1, 1)
    T[..., :3, :3] = torch.tensor(Rotation.random(count, np.random.default_rng(seed)).as_matrix()).reshape(*batch, 2, 3, 3)
    T[..., 0, :3, 3] = torch.tensor([-0.06, 0.0, 0.5], dtype=torch.float64)
    T[..., 1, :3, 3] = torch.tensor([0.06, 0.02, 0.55], dtype=torch.float64)
    class_ids = torch.tensor([0, 1]).expand(*batch, 2)
    return Objects(class_ids, T, torch.ones(*batch, 2, dtype=torch.bool)), view


def away(objects: Objects, metres: float, radians: float, seed: int = 1, planar: bool = False) -> Objects:
    generator = torch.Generator().manual_seed(seed)
    motion = torch.randn(*objects.class_ids.shape, 2, 3, generator=generator, dtype=torch.float64)
    if planar:
        motion[..., 0, 2] = motion[..., 1, :2] = 0
    motion = motion / motion.norm(dim=-1, keepdim=True) * torch.tensor([[metres], [radians]])
    return replace(objects, T_world_object=moved(objects.T_world_object, motion.flatten(-2)))


def distances(refined: Objects, truth: Objects) -> tuple[float, float]:
    """Largest distance in metres, largest angle in radians."""
    a, b = refined.T_world_object, truth.T_world_object
    return float((a - b)[..., :3, 3].norm(dim=-1).max()), float(rotation_angle_rad(a[..., :3, :3], b[..., :3, :3]).max())


CATALOGUE = Catalogue((blobs("first", 3), blobs("second", 4)))


@pytest.mark.parametrize("batch", [(), (2, 2)])
def test_gauss_newton_finds_the_poses(batch: tuple[int, ...]) -> None:
    renderer = BlobRenderer(CATALOGUE)
    assert isinstance(renderer, PoseSolver)
    truth, view = scenes(batch)
    target = renderer.render(truth, view).rgb
    refined = refine_poses(renderer, away(truth, 0.01, 0.3), view, target, steps=20)
    metres, radians = distances(refined.objects, truth)
    assert metres < 1e-5 and radians < 1e-4
    assert refined.errors.shape == refined.renders.shape == batch
    assert (refined.errors < 1e-6 * refined.start_errors).all()
    start_errors = (renderer.render(away(truth, 0.01, 0.3), view).rgb - target).square().sum((-3, -2, -1))
    assert torch.allclose(refined.start_errors, start_errors)


def test_adam_finds_the_poses() -> None:
    renderer = BlobRenderer(CATALOGUE)
    truth, view = scenes((2,))
    target = renderer.render(truth, view).rgb
    refined = refine_poses(renderer, away(truth, 0.01, 0.3), view, target, "adam", steps=60)
    metres, radians = distances(refined.objects, truth)
    assert metres < 1e-3 and radians < 0.02
    # each step draws once, with one gradient; then the start and the end
    assert refined.renders.tolist() == [4 * 60 + 2] * 2
    assert refined.gradients.tolist() == [4 * 60] * 2


def test_one_step_of_gauss_newton_solves_the_linear_least_squares() -> None:
    renderer = BlobRenderer(CATALOGUE)
    truth, view = scenes(())
    truth = replace(truth, present=torch.tensor([True, False]))
    start = away(truth, 1e-4, 1e-3)
    target = renderer.render(truth, view).rgb
    refined = refine_poses(renderer, start, view, target, blur_px=(0.0,), steps=1)
    J = renderer.jacobian(start, view)[0].flatten(1).T
    residual = (renderer.render(start, view).rgb - target).flatten()
    motion = -torch.linalg.lstsq(J, residual[:, None], driver="gelsd").solution[:, 0]
    expected = moved(start.T_world_object[0], motion)
    # the damping takes off less than a tenth of the way
    left = (refined.objects.T_world_object[0] - expected).abs().max()
    assert left < 0.1 * (start.T_world_object[0] - expected).abs().max()


@pytest.mark.parametrize("method", ["gauss-newton", "adam"])
def test_scenes_of_a_batch_do_not_touch_each_other(method: Method) -> None:
    renderer = BlobRenderer(CATALOGUE)
    truth, view = scenes((3,))
    target, start = renderer.render(truth, view).rgb, away(truth, 0.01, 0.3)
    together = refine_poses(renderer, start, view, target, method, steps=4)

    def refine_one(i: int) -> Refined:
        objects, looked_at = map_tensors(lambda x: x[i], start), map_tensors(lambda x: x[i], view)
        return refine_poses(renderer, objects, looked_at, target[i], method, steps=4)

    for i in range(3):
        alone = refine_one(i)
        assert torch.allclose(alone.objects.T_world_object, together.objects.T_world_object[i], atol=1e-9)
        assert alone.renders == together.renders[i] and alone.gradients == together.gradients[i]


@pytest.mark.parametrize("method", ["gauss-newton", "adam"])
def test_planar_refinement_stays_in_the_plane(method: Method) -> None:
    renderer = BlobRenderer(CATALOGUE, tangents="planar")
    truth, view = scenes((2,))
    start = away(truth, 0.01, 0.2, planar=True)
    refined = refine_poses(renderer, start, view, renderer.render(truth, view).rgb, method, "planar", steps=60)
    assert (refined.errors < 1e-3 * refined.start_errors).all()
    T, T_start = refined.objects.T_world_object, start.T_world_object
    assert torch.allclose(T[..., 2, :], T_start[..., 2, :], atol=1e-12)
    metres, radians = distances(refined.objects, truth)
    assert metres < 1e-3 and radians < 0.02


@pytest.mark.parametrize("method", ["gauss-newton", "adam"])
def test_absent_objects_stay_and_errors_never_grow(method: Method) -> None:
    renderer = BlobRenderer(CATALOGUE)
    truth, view = scenes((2,))
    start = replace(away(truth, 0.03, 1.5), present=torch.tensor([[True, False], [False, False]]))
    start.T_world_object[1, 1] = torch.nan
    target = torch.rand(2, SIZE_PX, SIZE_PX, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    refined = refine_poses(renderer, start, view, target, method, steps=3)
    assert (refined.errors <= refined.start_errors).all()
    kept, given = refined.objects.T_world_object, start.T_world_object
    absent = ~start.present
    assert torch.equal(kept[absent].nan_to_num(7), given[absent].nan_to_num(7))
    assert not torch.equal(kept[0, 0], given[0, 0])


def test_blur_reaches_where_the_sharp_image_has_no_gradient() -> None:
    renderer = BlobRenderer(CATALOGUE, radius_px=0.7)
    truth, view = scenes(())
    truth = replace(truth, present=torch.tensor([True, False]))
    start = away(truth, 0.0, 0.1)
    start.T_world_object[0, 0, 3] += 0.12
    target = renderer.render(truth, view).rgb
    sharp = refine_poses(renderer, start, view, target, blur_px=(0.0,) * 4, steps=20)
    blurred = refine_poses(renderer, start, view, target, blur_px=(6.0, 3.0, 1.0, 0.0), steps=20)
    assert sharp.errors > 0.1 * sharp.start_errors
    assert distances(blurred.objects, truth)[0] < 1e-4


@pytest.mark.parametrize("sigma_px", [0.0, 0.7, 3.0])
def test_blur_against_scipy(sigma_px: float) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.rand(2, 2, 11, 17, 3, generator=generator, dtype=torch.float64)
    # scipy cuts at int(truncate * sigma + 0.5)
    truncate = math.ceil(3 * sigma_px) / sigma_px if sigma_px else 3.0
    expected = gaussian_filter(a.numpy(), (0, sigma_px, sigma_px, 0), mode="constant", truncate=truncate)
    assert np.allclose(blur(a, sigma_px), expected)
    assert torch.isclose((blur(a, sigma_px) * b).sum(), (a * blur(b, sigma_px)).sum())


def test_move_against_scipy_and_its_slopes_against_differences() -> None:
    truth, _ = scenes((2,))
    T = truth.T_world_object
    generator = torch.Generator().manual_seed(2)
    motion = torch.randn(2, 2, 6, generator=generator, dtype=torch.float64)
    assert torch.allclose(move(T, motion), moved(T, motion))
    weights = torch.randn(2, 2, 4, 4, generator=generator, dtype=torch.float64)
    slopes = motion_slopes(T, weights)
    for i, direction in enumerate(1e-6 * torch.eye(6, dtype=torch.float64)):
        ahead, behind = (weights * move(T, direction.expand(2, 2, 6) * sign) for sign in (1, -1))
        assert torch.allclose((ahead - behind).sum((-2, -1)) / 2e-6, slopes[..., i], atol=1e-8)


def test_adam_through_a_rasteriser() -> None:
    """Differences of a real image: a box of a few pixels comes nearer to where it was."""
    catalogue = catalogue_of(box())
    view = camera_view(24, 24, 40.0)
    truth = posed([0], [[0.0, 0.0, 0.5]], [[0.5, 0.6, 0.2]])
    target = RasterRenderer(catalogue, 4).render(truth, view).rgb
    start = posed([0], [[0.015, -0.01, 0.5]], [[0.5, 0.6, 0.4]])
    renderer = FiniteDifferenceRenderer(RasterRenderer(catalogue, 2), tangents="full")
    refined = refine_poses(renderer, start, view, target, "adam", blur_px=(2.0, 0.0), steps=10)
    assert refined.errors < 0.2 * refined.start_errors
    assert distances(refined.objects, truth)[0] < 0.4 * distances(start, truth)[0]


def test_what_cannot_be_refined_is_refused() -> None:
    renderer = BlobRenderer(CATALOGUE)
    truth, view = scenes((2,))
    target = renderer.render(truth, view).rgb
    plain = CountingRenderer(RasterRenderer(catalogue_of(box())))
    with pytest.raises(ValueError, match=r"normal_equations for gauss-newton, got 'raster'; .* in a FiniteDifferenceRenderer"):
        refine_poses(plain, truth, view, target)
    with pytest.raises(ValueError, match=r"target_rgb: expected \(2, 24, 24, 3\) as the view, got \(2, 24, 12, 3\)"):
        refine_poses(renderer, truth, view, target[:, :, :12])
    with pytest.raises(ValueError, match=r"blur_px: expected at least one width of 0 or more pixels, got \(\)"):
        refine_poses(renderer, truth, view, target, blur_px=())
    with pytest.raises(ValueError, match="blur_px"):
        refine_poses(renderer, truth, view, target, blur_px=(-1.0,))
    with pytest.raises(ValueError, match="steps: expected at least 1, got 0"):
        refine_poses(renderer, truth, view, target, steps=0)
    with pytest.raises(ValueError, match="build the renderer with the same tangents"):
        refine_poses(renderer, away(truth, 0.01, 0.1), view, target, tangents="planar")
    still = BlobRenderer(CATALOGUE)
    still.is_differentiable = False
    with pytest.raises(ValueError, match="wrap it in a FiniteDifferenceRenderer"):
        refine_poses(still, truth, view, target, "adam")
