"""Visible surface discrepancy against loops over pixels, known scenes, and pictures of our renderer."""

from __future__ import annotations

import bop_twin as twin
import numpy as np
import pytest
import torch
from bop_pairs import CUBE_MM, about_z, camera, disturbed, make_estimates, make_model, make_truths, random_poses
from renderer_scenes import ball, box, catalogue_of

from inverse_graphics.bop import vsd
from inverse_graphics.bop.evaluation import evaluate
from inverse_graphics.bop.types import ImageCamera, ImageKey, Target
from inverse_graphics.bop.vsd import VSD_TAUS, DepthOf, VsdSource, renderer_depth, vsd_errors
from inverse_graphics.types import Layers, Objects, RenderOutput, View
from renderers import load_renderer

SMALL = ImageCamera(np.array([[20.0, 0.0, 5.3], [0.0, 22.0, 3.8], [0.0, 0.0, 1.0]]), 11, 8, 1.0)


def album(depth_mm: np.ndarray) -> DepthOf:
    """Draws image ``obj_id`` of some images."""
    return lambda obj_ids, T_camera_object, camera: (depth_mm[obj_ids] / 1000).astype(np.float32)


def errors_of(depth_mm: np.ndarray, test_mm: np.ndarray, pairs: list[tuple[int, int]], diameter_mm: float) -> np.ndarray:
    """VSD of pairs of images in an album."""
    est, gt = np.array(pairs, np.int64).reshape(-1, 2).T
    local = np.stack([np.arange(len(pairs)), np.arange(len(pairs))], -1)
    T, sizes = np.tile(np.eye(4), (len(pairs), 1, 1)), np.full(len(pairs), diameter_mm)
    return vsd_errors(est, T, gt, T, local, sizes, test_mm, SMALL, album(depth_mm))


def random_images(count: int, rng: np.random.Generator) -> np.ndarray:
    """Depth with holes, a little before and behind a plane; some images are empty."""
    shape = (count, SMALL.height_px, SMALL.width_px)
    depth_mm = np.where(rng.random(shape) < 0.6, 500 + rng.normal(size=shape) * 25, 0.0)
    depth_mm[rng.random(count) < 0.1] = 0
    depth_mm[:, 0], depth_mm[:, :, -1] = 0, 0
    return depth_mm.astype(np.float32).astype(np.float64)


def test_naive_twin_on_a_thousand_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawn some at a time."""
    monkeypatch.setattr(vsd, "DRAWN_PIXELS", 7 * SMALL.height_px * SMALL.width_px)
    rng = np.random.default_rng(0)
    for _ in range(10):
        depth_mm, test_mm = random_images(20, rng), random_images(1, rng)[0]
        pairs = [(int(a), int(b)) for a, b in rng.integers(0, 20, (100, 2))]
        errors = errors_of(depth_mm, test_mm, pairs, 100.0)
        for row, (est, gt) in zip(errors, pairs, strict=True):
            taus = rng.integers(0, 10, 2)
            images = (depth_mm[est], depth_mm[gt], test_mm)
            expected = [twin.vsd(*images, SMALL.K_px, vsd.VSD_DELTA_MM, float(VSD_TAUS[tau]), 100.0) for tau in taus.tolist()]
            np.testing.assert_allclose(row[taus], expected, atol=1e-12)
        assert (np.diff(errors, axis=-1) <= 0).all()


def test_known_pictures() -> None:
    """A plane 500 mm away, in four images: empty, left half, right half, left half 12 mm farther away."""
    depth_mm = np.zeros((4, SMALL.height_px, SMALL.width_px))
    depth_mm[1, :, :6], depth_mm[2, :, 5:], depth_mm[3, :, :6] = 500, 500, 512
    nothing = np.zeros((SMALL.height_px, SMALL.width_px))
    errors = errors_of(depth_mm, nothing, [(0, 0), (0, 1), (1, 1), (2, 1), (3, 1)], 100.0)
    # of eleven columns one is in both halves; 12 mm are 0.12 diameters, a little more along a slanted ray
    np.testing.assert_allclose(errors[:4], np.repeat([[1.0], [1.0], [0.0], [10 / 11]], 10, axis=1))
    np.testing.assert_array_equal(errors[4], [1.0, 1.0] + 8 * [0.0])


def test_what_stands_before_the_object_hides_it() -> None:
    """The estimate may be hidden where the truth is seen, but not the other way round."""
    depth_mm = np.zeros((2, SMALL.height_px, SMALL.width_px))
    depth_mm[0, 2:6, 2:6], depth_mm[1, 2:6, 2:6] = 500, 530
    for test_mm, estimate, truth, expected in [(505.0, 1, 0, 0.0), (505.0, 0, 1, 1.0), (400.0, 0, 1, 1.0), (900.0, 0, 1, 0.0)]:
        test = np.full((SMALL.height_px, SMALL.width_px), test_mm)
        errors = errors_of(depth_mm, test, [(estimate, truth)], 100.0)
        # 30 mm are 0.3 diameters along the axis and at most 0.32 at the border
        assert errors[0, 6] == expected, (test_mm, estimate, truth)


def drawing() -> tuple[DepthOf, ImageCamera]:
    """A box of the cube's size, drawn by raster as object 5."""
    renderer = load_renderer("raster", catalogue_of(ball(), box((0.1, 0.1, 0.1))), 2)
    return renderer_depth(renderer, {5: 1}), camera(64, 48)


def test_the_renderer_draws_depth_in_the_camera_frame() -> None:
    """The front of a box seen head on: its place and depth are known."""
    depth_of, view = drawing()
    T = np.eye(4)[None].copy()
    T[0, :3, 3] = [0.02, -0.01, 0.8]
    depth_m = depth_of(np.array([5]), T, view)[0]
    seen = np.isfinite(depth_m) & (depth_m > 0)
    rows, columns = np.nonzero(seen)
    # the front, at 0.75 m, spans 60 px / 0.75 * (-0.03..0.07) + 32 by 60 px / 0.75 * (-0.06..0.04) + 24
    np.testing.assert_allclose(depth_m[seen], 0.75, atol=1e-6)
    assert (columns.min(), columns.max()) == (30, 37) and (rows.min(), rows.max()) == (19, 26)


def test_soft_borders_are_cut_at_one_half() -> None:
    """As of layers that carry gradients: depth goes on where they cover less."""

    class Soft:
        name, catalogue, is_differentiable, samples_per_axis = "soft", catalogue_of(ball()), True, 1

        def render(self, objects: Objects, view: View) -> RenderOutput:
            raise NotImplementedError

        def layers(self, objects: Objects, view: View, samples_per_axis: int | None = None) -> Layers:
            alpha = torch.tensor([0.0, 0.49, 0.5, 1.0]).expand(len(objects.class_ids), 1, 4)
            return Layers(torch.zeros(*alpha.shape, 3), alpha, torch.tensor([torch.inf, 0.7, 0.8, 0.9]).expand_as(alpha), 1)

    depth_of = renderer_depth(Soft(), {1: 0})
    depth_m = depth_of(np.array([1, 1]), np.tile(np.eye(4), (2, 1, 1)), camera(4, 1))
    np.testing.assert_allclose(depth_m[:, 0], 2 * [[np.inf, np.inf, 0.8, 0.9]])


def test_evaluation_through_the_renderer() -> None:
    """The truth handed in is without error; poses that are off have one, and the scores are those of the errors."""
    depth_of, view = drawing()
    rng = np.random.default_rng(2)
    T_gt = random_poses(4, rng, 700.0)
    T_gt[:, :2, 3] /= 3
    truths = make_truths([(1, 0, 5, 0), (1, 0, 5, 1), (1, 3, 5, 0), (2, 0, 5, 0)], T_gt, np.ones(4))
    targets = [Target(1, 0, 5, 2), Target(1, 3, 5, 1), Target(2, 0, 5, 1)]
    images = [ImageKey(1, 0), ImageKey(1, 3), ImageKey(2, 0)]
    depths_mm = {}
    for image in images:
        rows = np.flatnonzero((truths.scene_id == image.scene_id) & (truths.im_id == image.im_id))
        T_m = T_gt[rows].copy()
        T_m[:, :3, 3] /= 1000
        depth_m = depth_of(np.full(len(rows), 5), T_m, view)
        nearest = np.where((depth_m > 0) & np.isfinite(depth_m), depth_m, np.inf).min(0)
        depths_mm[image] = np.where(np.isfinite(nearest), 1000 * nearest, 0).astype(np.float64)
    models = {5: make_model(CUBE_MM, about_z(4), 5)}
    source = VsdSource(depths_mm.__getitem__, depth_of)
    names = [(1, 0, 5), (1, 0, 5), (1, 3, 5), (2, 0, 5)]
    perfect = evaluate(make_estimates(names, T_gt, np.ones(4)), truths, models, lambda image: view, targets, images, source)
    assert perfect.ar_vsd == perfect.ar_mssd == perfect.ar_mspd == perfect.ar == 1.0
    np.testing.assert_allclose(perfect.estimates.vsd, 0, atol=1e-12)
    T_est = disturbed(T_gt, rng, 0.1, 12.0)
    off = evaluate(make_estimates(names, T_est, np.ones(4)), truths, models, lambda image: view, targets, images, source)
    assert off.ar_vsd is not None and off.ar is not None and off.curves.vsd is not None
    assert 0 < off.ar_vsd < 1 and off.ar == pytest.approx((off.ar_vsd + off.ar_mssd + off.ar_mspd) / 3)
    assert off.ar_vsd == pytest.approx(off.curves.vsd.mean())
    # single instances: found where VSD is below the threshold
    alone = np.flatnonzero(off.targets.image > 0)
    for target in alone.tolist():
        row = off.estimates.est_row.tolist().index(int(off.targets.gt_row[target]))
        below = off.estimates.vsd[row][:, None] < np.arange(0.05, 0.51, 0.05)
        assert off.targets.recall_vsd[target] == pytest.approx(below.mean())


def test_bad_input_is_refused() -> None:
    depth_mm = np.zeros((1, SMALL.height_px, SMALL.width_px))
    with pytest.raises(ValueError, match=r"test_mm: expected a depth image \[h w\] \(8, 11\)"):
        errors_of(depth_mm, np.zeros((3, 3)), [(0, 0)], 100.0)
    with pytest.raises(ValueError, match=r"depth_of: expected depth_m \[n h w\] \(1, 8, 11\), received \(1, 2, 2\)"):
        errors_of(np.zeros((1, 2, 2)), depth_mm[0], [(0, 0)], 100.0)
    depth_of, view = drawing()
    with pytest.raises(ValueError, match="class_ids: expected a class for each object drawn, received none for obj_id 6"):
        depth_of(np.array([5, 6]), np.tile(np.eye(4), (2, 1, 1)), view)


def test_nothing_is_drawn_without_pairs() -> None:
    def refuse(obj_ids: np.ndarray, T_camera_object: np.ndarray, camera: ImageCamera) -> np.ndarray:
        raise AssertionError("drawn")

    none, T, ids = np.zeros((0, 2), np.int64), np.tile(np.eye(4), (2, 1, 1)), np.array([1, 1])
    test_mm = np.zeros((SMALL.height_px, SMALL.width_px))
    assert vsd_errors(ids, T, ids, T, none, np.zeros(0), test_mm, SMALL, refuse).shape == (0, 10)
