"""BOP's errors and scores against numbers of bop_toolkit; data from integers and closed forms, none of its files needed.

The numbers were computed with bop_toolkit's functions (the commits stand in docs/bop.md) on the data below.
"""

from __future__ import annotations

import numpy as np
import pytest
from bop_pairs import NO_SYMMETRY, about_z, make_estimates, make_model, make_truths
from numpy.typing import ArrayLike
from scipy.spatial.transform import Rotation

from inverse_graphics.bop.errors import PoseJudge
from inverse_graphics.bop.evaluation import evaluate
from inverse_graphics.bop.rows import PoseEvaluation
from inverse_graphics.bop.types import Estimates, ImageCamera, ImageKey, Model, Target, Truths
from inverse_graphics.bop.vsd import VsdSource, vsd_errors
from inverse_graphics.symmetry import symmetry_transforms
from inverse_graphics.types import Symmetry

POINTS_MM = np.array(
    [
        *([31, -7, 12], [-28, 15, 9], [4, 33, -21], [-11, -30, -17], [22, 18, 25]),
        *([-19, 6, -34], [8, -24, 30], [-35, -9, 3], [16, 27, -8], [0, 1, 40]),
    ],
    np.float64,
)
HALF_TURN_OFFSET_MM = (3.0, -2.0, 0.0)
AXIS_OFFSET_MM = (-4.0, 5.0, 0.0)
BALL_MM = 30.0
CAMERA = ImageCamera(np.array([[120.0, 0.0, 31.5], [0.0, 118.0, 24.25], [0.0, 0.0, 1.0]]), 64, 48, 1.0)

POSES = np.array(
    [
        # truth: position in mm, rotation vector in degrees; estimate: what is added to the position, turned before the rotation
        [20, -10, 400, 30, 40, -50, 0, 0, 0, 0, 0, 0],
        [-35, 15, 520, -70, 10, 25, 4, -3, 8, 2, -1, 3],
        [5, 30, 610, 120, -60, 15, -12, 9, 30, 20, 35, -15],
        [0, 0, 450, 0, 0, 0, 6, 8, 0, 0, 0, 180],
        [40, 20, 700, 10, 95, -40, 30, -25, 60, 100, 90, 80],
    ],
    np.float64,
)
TRUTHS = [
    # scene, image, object, visible percent, position in mm, rotation vector in degrees
    (1, 0, 1, 90, (-40, -20, 500), (10, 20, 30)),
    (1, 0, 1, 60, (40, -20, 520), (-40, 15, 5)),
    (1, 0, 2, 100, (0, 30, 480), (0, 60, 90)),
    (1, 3, 2, 5, (-50, 10, 560), (80, 0, 10)),
    (1, 3, 2, 75, (20, 25, 500), (5, -30, 100)),
    (1, 3, 3, 75, (50, -25, 540), (70, 20, 0)),
    (2, 1, 1, 40, (-20, 0, 430), (0, 0, 150)),
    (2, 1, 3, 40, (30, 20, 470), (20, -80, 45)),
    (2, 1, 3, 40, (35, -30, 450), (-15, 25, 35)),
]
ESTIMATES = [
    # score in percent, truth that it is made of, image where another, object; shift in mm, turn in degrees
    (90, 0, None, 1, (2, 1, -4), (1, 2, 0)),
    (90, 1, None, 1, (-5, 4, 12), (6, -3, 9)),
    (95, 1, None, 1, (9, 9, 40), (10, 25, -5)),
    (70, 2, None, 2, (1, -1, 3), (0, 0, 4)),
    (65, 3, None, 2, (3, 2, 5), (2, 2, 2)),
    (80, 4, None, 2, (7, -6, 20), (-8, 12, 10)),
    (80, 5, None, 3, (0, 2, -6), (3, 1, -2)),
    (40, 5, None, 1, (0, 0, 0), (0, 0, 0)),
    (30, 6, None, 1, (14, 3, 9), (0, 15, 0)),
    (85, 7, None, 3, (4, -2, 6), (5, 0, 5)),
    (60, 7, None, 3, (-3, 1, 2), (1, 1, -1)),
    (20, 8, None, 3, (20, 20, 60), (40, 40, 0)),
    (99, 0, (1, 3), 2, (0, 0, 0), (0, 0, 0)),
    (55, 2, None, 2, (25, 5, 0), (30, 0, 0)),
]
TARGETS = [Target(1, 0, 1, 2), Target(1, 0, 2, 1), Target(1, 3, 2, 1), Target(1, 3, 3, 1), Target(2, 1, 1, 2), Target(2, 1, 3, 2)]
IMAGES = [ImageKey(1, 0), ImageKey(1, 3), ImageKey(2, 1)]


def pose(position_mm: ArrayLike, turn_deg: ArrayLike) -> np.ndarray:
    T = np.eye(4)
    T[:3, :3] = Rotation.from_rotvec(np.asarray(turn_deg, np.float64), degrees=True).as_matrix()
    T[:3, 3] = position_mm
    return T


def disturbed(T: np.ndarray, shift_mm: ArrayLike, turn_deg: ArrayLike) -> np.ndarray:
    out = T.copy()
    out[:3, :3] = pose((0, 0, 0), turn_deg)[:3, :3] @ T[:3, :3]
    out[:3, 3] += shift_mm
    return out


def models() -> dict[int, Model]:
    """The same points without symmetry, with a half turn and with a continuous axis, both beside the origin."""
    axis = Symmetry(continuous_axes=np.array([[0.0, 0.0, 1.0]]), continuous_offsets_m=np.array([AXIS_OFFSET_MM]))
    symmetries = {1: NO_SYMMETRY, 2: about_z(2, HALF_TURN_OFFSET_MM), 3: symmetry_transforms(axis)}
    return {obj_id: make_model(POINTS_MM, matrices, obj_id) for obj_id, matrices in symmetries.items()}


def pairs() -> tuple[np.ndarray, np.ndarray]:
    T_gt = np.stack([pose(row[:3], row[3:6]) for row in POSES])
    return np.stack([disturbed(T, row[6:9], row[9:]) for T, row in zip(T_gt, POSES, strict=True)]), T_gt


def balls_m(obj_ids: np.ndarray, T_m: np.ndarray, camera: ImageCamera) -> np.ndarray:
    """z-depth of a ball around each origin, cut off so that its turn shows: [n h w] float32, 0 where there is nothing."""
    K = camera.K_px
    x = (np.arange(camera.width_px) + 0.5 - K[0, 2]) / K[0, 0]
    y = (np.arange(camera.height_px) + 0.5 - K[1, 2]) / K[1, 1]
    u, v = np.meshgrid(x, y)
    rays = np.stack([u, v, np.ones_like(u)], -1)
    images = []
    for T in T_m:
        along, square = rays @ T[:3, 3], (rays**2).sum(-1)
        root = along**2 - square * (T[:3, 3] @ T[:3, 3] - (BALL_MM / 1000) ** 2)
        depth = (along - np.sqrt(np.maximum(root, 0))) / square
        local = (rays * depth[..., None] - T[:3, 3]) @ T[:3, :3]
        images.append(np.where((root > 0) & (local[..., 0] < 0.6 * BALL_MM / 1000), depth, 0))
    return np.array(images, np.float32).reshape(len(T_m), camera.height_px, camera.width_px)


def measured_mm(image: ImageKey) -> np.ndarray:
    """What a depth camera sees: the balls before a wall, with nothing measured in a corner."""
    chosen = [(row[2], pose(row[4], row[5])) for row in TRUTHS if row[:2] == image]
    T_m = np.stack([T for _, T in chosen])
    T_m[:, :3, 3] /= 1000
    drawn = 1000.0 * balls_m(np.array([obj_id for obj_id, _ in chosen]), T_m, CAMERA).astype(np.float64)
    depth = np.minimum(np.where(drawn > 0, drawn, np.inf).min(0), 530.0)
    depth[:14, 24 : 40 + image.im_id] = 0
    return np.round(depth)


def data() -> tuple[Estimates, Truths]:
    T_gt = np.stack([pose(row[4], row[5]) for row in TRUTHS])
    places = [(*row[:3], place_in_image(index)) for index, row in enumerate(TRUTHS)]
    truths = make_truths(places, T_gt, np.array([row[3] / 100 for row in TRUTHS]))
    T_est = np.stack([disturbed(T_gt[row[1]], row[4], row[5]) for row in ESTIMATES])
    rows = [(*(row[2] or TRUTHS[row[1]][:2]), row[3]) for row in ESTIMATES]
    return make_estimates(rows, T_est, np.array([row[0] / 100 for row in ESTIMATES])), truths


def place_in_image(index: int) -> int:
    return sum(row[:2] == TRUTHS[index][:2] for row in TRUTHS[:index])


def evaluation() -> PoseEvaluation:
    estimates, truths = data()
    return evaluate(estimates, truths, models(), lambda image: CAMERA, TARGETS, IMAGES, VsdSource(measured_mm, balls_m))


ERRORS = {
    "add_mm": [0.0, 9.682391962, 40.589602533, 54.74455431, 89.810323008],
    "adi_mm": [0.0, 9.682391962, 26.607092247, 17.741332349, 46.061909264],
    "proj_px": [0.0, 1.297254829, 3.905017409, 14.487047911, 8.738381029],
    "re_deg": [0.0, 3.741657387, 43.011626335, 180.0, 156.524758425],
    "te_mm": [0.0, 9.433981132, 33.541019662, 10.0, 71.589105316],
}
SYMMETRIC_ERRORS = {
    ("mssd_mm", 1): [0.0, 10.106409255, 55.825120357, 80.324342512, 139.949650293],
    ("mspd_px", 1): [0.0, 1.708657862, 8.456625617, 21.241093001, 17.628541544],
    ("mssd_mm", 2): [0.0, 10.106409255, 55.825120357, 12.0, 139.949650293],
    ("mspd_px", 2): [0.0, 1.708657862, 8.456625617, 3.403846154, 17.628541544],
    ("mssd_mm", 3): [0.0, 10.106409255, 52.817635264, 14.429721522, 121.694221992],
    ("mspd_px", 3): [0.0, 1.672456413, 7.517847878, 4.075495416, 17.362493602],
}


@pytest.mark.parametrize("obj_id", [1, 2, 3])
def test_errors_of_pairs(obj_id: int) -> None:
    T_est, T_gt = pairs()
    errors = PoseJudge(models()[obj_id]).errors(T_est, T_gt, np.tile(CAMERA.K_px, (len(T_gt), 1, 1)))
    expected = ERRORS | {name: values for (name, other), values in SYMMETRIC_ERRORS.items() if other == obj_id}
    for name, values in expected.items():
        # an arc cosine next to 1 is off by 1e-6 degrees
        np.testing.assert_allclose(getattr(errors, name), values, rtol=0, atol=5e-6 if name == "re_deg" else 1e-8, err_msg=name)


VSD_MEAN = {
    0: 0.127272727,
    1: 0.438345865,
    2: 0.97768595,
    3: 0.090909091,
    4: 0.141666667,
    5: 0.642696629,
    6: 0.214912281,
    8: 0.567716535,
    9: 0.252173913,
    10: 0.153072626,
    11: 1.0,
    13: 0.758653846,
}
"""Mean over the tolerances, for rows of ESTIMATES against the truth that each is made of."""
VSD_SECOND = [0.939849624, 0.819548872, 0.563909774, 0.383458647, 0.308270677, 0.285714286] + 4 * [0.270676692]
"""Of row 1, at each tolerance."""


def test_vsd_of_the_same_depth_images() -> None:
    estimates, truths = data()
    for row, expected in VSD_MEAN.items():
        gt, one = ESTIMATES[row][1], np.zeros((1, 2), np.int64)
        errors = vsd_errors(
            estimates.obj_id[[row]],
            estimates.T_camera_object_mm[[row]],
            truths.obj_id[[gt]],
            truths.T_camera_object_mm[[gt]],
            one,
            np.array([models()[1].diameter_mm]),
            measured_mm(ImageKey(*TRUTHS[gt][:2])),
            CAMERA,
            balls_m,
        )
        assert errors.mean() == pytest.approx(expected, abs=1e-8), row
        if row == 1:
            np.testing.assert_allclose(errors[0], VSD_SECOND, rtol=0, atol=1e-8)


def test_scores() -> None:
    """Equal scores, equal visibilities, a hidden truth, a count beyond what is there, estimates of what is not there."""
    result = evaluation()
    expected = {"ar": 0.4495833333, "ar_vsd": 0.39875, "ar_mssd": 0.4875, "ar_mspd": 0.4625}
    expected |= {"map_2024": 0.3994499450, "map_mssd": 0.4181518152, "map_mspd": 0.3807480748}
    assert {name: getattr(result, name) for name in expected} == pytest.approx(expected, abs=1e-9)
    assert result.objects.obj_id.tolist() == [1, 2, 3]
    np.testing.assert_allclose(result.objects.ap_mssd, [0.4115511551, 0.3009900990, 0.5419141914], rtol=0, atol=1e-9)
    np.testing.assert_allclose(result.objects.ap_mspd, [0.3052805281, 0.2841584158, 0.5528052805], rtol=0, atol=1e-9)
