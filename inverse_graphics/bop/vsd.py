"""Visible surface discrepancy: how the visible part of a model in the estimated pose differs from that in the true pose.

VSD(tau) = (pixels of V_gt and V_est whose distances differ by at least tau diameters, plus the union of V_gt and V_est less their
intersection) / their union; 1 where the union is empty.  Points that bear on agreement with bop_toolkit:

- Images of distances from the camera to the point are compared, not depths; pixel (r, c) stands for the position (c, r).
- The model is drawn with the intrinsic matrix as it stands, pixel (0, 0) covering [0, 1) x [0, 1), as its renderers do.
- V is where the model is present and its distance exceeds the measured one by delta at most (float32), or nothing was measured
  (visibility mode "bop19"); V_est also holds what V_gt holds where the estimate is present.
- A pixel is wrong from exactly tau on; the tolerances are those of ``numpy.arange``, with its rounding.
- delta is 15 mm; ITODD has 5 mm.

Hodan et al., BOP: Benchmark for 6D Object Pose Estimation, ECCV 2018, equation 2.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from inverse_graphics.bop.compiling import prepare
from inverse_graphics.bop.types import ImageCamera, ImageKey
from inverse_graphics.bop.vsd_kernels import boxes_pass, cut_soft_pass, vsd_pass
from inverse_graphics.compiled import KERNEL_LOCK, workers
from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Camera, Light, Objects, View, map_tensors

VSD_TAUS = np.arange(0.05, 0.51, 0.05)
"""Tolerances of distances in diameters."""
VSD_DELTA_MM = 15.0
"""Tolerance of visibility."""
DRAWN_PIXELS = 4_000_000
"""Pixels that are drawn at once: with colours that a renderer makes besides, about 100 MB."""

DepthOf = Callable[[Int[np.ndarray, "n"], Float[np.ndarray, "n 4 4"], ImageCamera], Float[np.ndarray, "n h w"]]
"""(obj_ids, T_camera_object, camera) -> depth_m: z-depth of each model alone, float32, 0 or infinite where there is nothing.

Translations are in metres, as everywhere outside BOP's files."""


@dataclass(frozen=True)
class VsdSource:
    """What VSD needs besides the poses."""

    depth_mm_of: Callable[[ImageKey], Float[np.ndarray, "h w"]]
    """The depth image of an image, 0 where nothing was measured; of the test images, one at a time."""
    depth_of: DepthOf
    """Draws models, see ``renderer_depth``."""
    delta_mm: float = VSD_DELTA_MM
    """Tolerance of visibility."""


def renderer_depth(renderer: Renderer, class_ids: Mapping[int, int], device: str = "cpu") -> DepthOf:
    """Draw with one of our renderers; where a layer covers less than half of a pixel there is nothing.

    Args:
        renderer: its catalogue holds the data set's models in metres.
        class_ids: index into the catalogue for each obj_id.
        device: where the renderer draws, for torch.

    Raises:
        ValueError: when it draws, for an object without class.
    """

    def depth_of(
        obj_ids: Int[np.ndarray, "n"], T_camera_object: Float[np.ndarray, "n 4 4"], camera: ImageCamera
    ) -> Float[np.ndarray, "n h w"]:
        unknown = sorted(set(obj_ids.tolist()) - set(class_ids))
        if unknown:
            raise ValueError(
                f"class_ids: expected a class for each object drawn, received none for obj_id {unknown[0]}; "
                "load the catalogue of all models of the data set."
            )
        T = torch.from_numpy(np.ascontiguousarray(T_camera_object, np.float32))
        chosen = torch.tensor([class_ids[obj_id] for obj_id in obj_ids.tolist()], dtype=torch.int64)
        objects = Objects(chosen, T, torch.ones(len(T), dtype=torch.bool))
        K = torch.from_numpy(camera.K_px.astype(np.float32))
        light = Light(torch.tensor([0.0, 0.0, -1.0]), torch.tensor(1.0), torch.tensor(0.0))
        background = torch.zeros(3).expand(camera.height_px, camera.width_px, 3)
        view = View(Camera(K, torch.eye(4), camera.width_px, camera.height_px), light, background)
        to_device = functools.partial(torch.Tensor.to, device=device)
        with torch.no_grad():
            layers = renderer.layers(map_tensors(to_device, objects), map_tensors(to_device, view), samples_per_axis=1)
        alpha, depth_m = (tensor.to("cpu", torch.float32).contiguous().numpy() for tensor in (layers.alpha, layers.depth_m))
        prepare()
        with KERNEL_LOCK:
            # layers that carry gradients continue a little past the border
            cut_soft_pass(alpha, depth_m, workers())
        return depth_m

    return depth_of


def vsd_errors(
    obj_ids_est: Int[np.ndarray, "e"],
    T_est_mm: Float[np.ndarray, "e 4 4"],
    obj_ids_gt: Int[np.ndarray, "g"],
    T_gt_mm: Float[np.ndarray, "g 4 4"],
    pairs: Int[np.ndarray, "p 2"],
    diameter_mm: Float[np.ndarray, "p"],
    test_mm: Float[np.ndarray, "h w"],
    camera: ImageCamera,
    depth_of: DepthOf,
    delta_mm: float = VSD_DELTA_MM,
    taus: Float[np.ndarray, "t"] = VSD_TAUS,
) -> Float[np.ndarray, "p t"]:
    """VSD of pairs of one image, for every tolerance.

    Every pose is drawn once, however many pairs it is in, the estimates some at a time.

    Args:
        obj_ids_est, T_est_mm: estimates.
        obj_ids_gt, T_gt_mm: truths.
        pairs: an estimate and a truth of the same object.
        diameter_mm: of each pair's model.
        test_mm: measured depth, 0 where nothing was measured.
        camera: of the image.
        depth_of: draws models.
        delta_mm: tolerance of visibility.
        taus: ascending tolerances of distances in diameters.

    Raises:
        ValueError: images of other sizes than the camera's, or a skewed camera.
    """
    K, size = np.ascontiguousarray(camera.K_px, np.float64), (camera.height_px, camera.width_px)
    if test_mm.shape != size or K[0, 1] != 0:
        raise ValueError(
            f"test_mm: expected a depth image [h w] {size} and a camera without skew, received {test_mm.shape} and "
            f"skew {K[0, 1]}; "
            "pass the depth image of this camera."
        )
    prepare()
    chunk = max(1, DRAWN_PIXELS // (size[0] * size[1]))
    errors = np.empty((len(pairs), len(taus)))
    test = np.ascontiguousarray(test_mm, np.float64)
    if len(pairs) == 0:
        return errors
    truths = [_drawn(obj_ids_gt[i : i + chunk], T_gt_mm[i : i + chunk], camera, depth_of) for i in range(0, len(T_gt_mm), chunk)]
    depth_gt, boxes_gt = (np.concatenate(parts) for parts in zip(*truths, strict=True))
    for first in range(0, len(T_est_mm), chunk):
        inside = np.flatnonzero((pairs[:, 0] >= first) & (pairs[:, 0] < first + chunk))
        depth_est, boxes_est = _drawn(obj_ids_est[first : first + chunk], T_est_mm[first : first + chunk], camera, depth_of)
        some = np.empty((len(inside), len(taus)))
        drawn = (depth_est, depth_gt, boxes_est, boxes_gt, test, K)
        chosen = (pairs[inside] - np.array([first, 0]), np.ascontiguousarray(diameter_mm[inside], np.float64))
        with KERNEL_LOCK:
            vsd_pass(*drawn, *chosen, delta_mm, taus, 1000.0, workers(), some)
        errors[inside] = some
    return errors


def _drawn(
    obj_ids: np.ndarray, T_mm: np.ndarray, camera: ImageCamera, depth_of: DepthOf
) -> tuple[Float[np.ndarray, "n h w"], Int[np.ndarray, "n 4"]]:
    """Depth images in metres and the boxes of what they hold."""
    T_m = T_mm.copy()
    T_m[:, :3, 3] /= 1000.0
    depth_m = np.ascontiguousarray(depth_of(obj_ids, T_m, camera), np.float32)
    expected = (len(T_mm), camera.height_px, camera.width_px)
    if depth_m.shape != expected:
        raise ValueError(
            f"depth_of: expected depth_m [n h w] {expected}, received {depth_m.shape}; draw each model alone, one sample a pixel."
        )
    boxes = np.empty((len(depth_m), 4), np.int64)
    with KERNEL_LOCK:
        boxes_pass(depth_m, workers(), boxes)
    return depth_m, boxes
