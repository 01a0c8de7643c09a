"""Random models, poses and small data sets for the tests of BOP's metrics."""

from __future__ import annotations

import math

import numpy as np
from scipy.spatial.transform import Rotation

from inverse_graphics.bop.types import Estimates, ImageCamera, ImageKey, Model, Target, Truths
from inverse_graphics.symmetry import symmetry_transforms
from inverse_graphics.types import Symmetry

K_PX = np.array([[600.0, 0.0, 320.0], [0.0, 600.0, 240.0], [0.0, 0.0, 1.0]])
CUBE_MM = np.array([[x, y, z] for x in (-50.0, 50.0) for y in (-50.0, 50.0) for z in (-50.0, 50.0)])
NO_SYMMETRY = np.eye(4)[None]


def about_z(count: int, offset_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> np.ndarray:
    """``count`` rotations about a vertical axis through a point, the identity first."""
    T = np.tile(np.eye(4), (count, 1, 1))
    T[:, :3, :3] = Rotation.from_rotvec(np.outer(2 * np.pi / count * np.arange(count), [0.0, 0.0, 1.0])).as_matrix()
    T[:, :3, 3] = np.asarray(offset_mm) - T[:, :3, :3] @ np.asarray(offset_mm)
    return T


def continuous() -> np.ndarray:
    """A continuous axis z, sampled."""
    return symmetry_transforms(Symmetry(continuous_axes=np.array([[0.0, 0.0, 1.0]]), continuous_offsets_m=np.zeros((1, 3))))


def make_model(points_mm: np.ndarray, symmetries: np.ndarray = NO_SYMMETRY, obj_id: int = 1) -> Model:
    points = np.asarray(points_mm, np.float64)
    diameter_mm = max((float(np.linalg.norm(points - point, axis=-1).max()) for point in points), default=0.0)
    faces, normals = np.array([[0, 1 % len(points), 2 % len(points)]]), np.zeros_like(points)
    return Model(obj_id, points, faces, normals, diameter_mm, symmetries)


def random_poses(count: int, rng: np.random.Generator, depth_mm: float = 900.0) -> np.ndarray:
    T = np.tile(np.eye(4), (count, 1, 1))
    T[:, :3, :3] = Rotation.from_quat(rng.normal(size=(count, 4))).as_matrix()
    T[:, :3, 3] = rng.uniform(-150, 150, (count, 3)) + [0, 0, depth_mm]
    return T


def disturbed(T: np.ndarray, rng: np.random.Generator, angle_rad: float = 0.2, shift_mm: float = 20.0) -> np.ndarray:
    """Poses turned and shifted by about that much."""
    out = T.copy()
    out[:, :3, :3] = Rotation.from_rotvec(rng.normal(size=(len(T), 3)) * angle_rad / math.sqrt(3)).as_matrix() @ T[:, :3, :3]
    out[:, :3, 3] += rng.normal(size=(len(T), 3)) * shift_mm / math.sqrt(3)
    return out


def camera(width_px: int = 640, height_px: int = 480) -> ImageCamera:
    K = K_PX * np.array([[width_px / 640], [height_px / 480], [1.0]])
    return ImageCamera(K, width_px, height_px, 1.0)


def make_truths(rows: list[tuple[int, int, int, int]], T: np.ndarray, visib_fract: np.ndarray) -> Truths:
    """Rows of scene, image, object and gt_id."""
    columns = np.array(rows, np.int64).reshape(-1, 4).T
    return Truths(columns[0], columns[1], columns[2], columns[3], T, np.asarray(visib_fract, np.float64))


def make_estimates(rows: list[tuple[int, int, int]], T: np.ndarray, score: np.ndarray) -> Estimates:
    """Rows of scene, image and object."""
    columns = np.array(rows, np.int64).reshape(-1, 3).T
    return Estimates(columns[0], columns[1], columns[2], np.asarray(score, np.float64), T, np.full(len(T), -1.0))


def estimates_of(truths: Truths) -> Estimates:
    """The truth handed in."""
    rows = list(zip(truths.scene_id.tolist(), truths.im_id.tolist(), truths.obj_id.tolist(), strict=True))
    return make_estimates(rows, truths.T_camera_object_mm.copy(), np.ones(len(rows)))


def random_models(rng: np.random.Generator) -> dict[int, Model]:
    return {
        1: make_model(rng.uniform(-60, 60, (12, 3)), obj_id=1),
        4: make_model(CUBE_MM, about_z(4), obj_id=4),
        7: make_model(rng.uniform(-40, 40, (9, 3)), about_z(9), obj_id=7),
    }


def random_set(rng: np.random.Generator, images: int) -> tuple[dict[int, Model], Truths, Estimates, list[Target], list[ImageKey]]:
    """A data set with hidden truths, equal scores, missed and invented objects, and images that one task leaves out."""
    models = random_models(rng)
    keys = [ImageKey(int(rng.integers(1, 4)), im_id) for im_id in range(images)]
    order = sorted(range(images), key=lambda index: keys[index])
    truth_rows: list[tuple[int, int, int, int]] = []
    for index in order:
        objects = rng.choice([1, 4, 7], int(rng.integers(0, 6)), p=[0.5, 0.3, 0.2])
        truth_rows += [(keys[index].scene_id, keys[index].im_id, int(obj_id), gt_id) for gt_id, obj_id in enumerate(objects)]
    T_gt = random_poses(len(truth_rows), rng)
    visib = rng.choice([0.0, 0.05, 0.1, 0.3, 0.3, 0.9, 1.0], len(truth_rows))
    truths = make_truths(truth_rows, T_gt, visib)
    chosen = np.flatnonzero(rng.random(len(truth_rows)) < 0.8)
    chosen = np.concatenate([chosen, chosen[rng.random(len(chosen)) < 0.4]]).astype(np.int64)
    rows = [truth_rows[index][:3] for index in chosen.tolist()]
    T_est = disturbed(T_gt[chosen], rng)
    # some of another object, which the image may or may not hold
    invented = [(*keys[int(rng.integers(images))], int(rng.choice([1, 4, 7]))) for _ in range(images // 3)]
    T_est = np.concatenate([T_est, random_poses(len(invented), rng)])
    shuffle = rng.permutation(len(rows) + len(invented))
    all_rows = [(rows + invented)[index] for index in shuffle.tolist()]
    estimates = make_estimates(all_rows, T_est[shuffle], rng.choice([0.2, 0.5, 0.7, 0.9], len(all_rows)))
    counted: dict[tuple[int, int, int], int] = {}
    for row, share in zip(truth_rows, visib, strict=True):
        if share >= 0.1 and rng.random() < 0.9:
            counted[row[:3]] = counted.get(row[:3], 0) + 1
    targets = [Target(*key, count + int(rng.random() < 0.1)) for key, count in counted.items()]
    return models, truths, estimates, targets, [key for key in keys if rng.random() < 0.9]
