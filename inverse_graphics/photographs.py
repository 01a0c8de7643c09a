"""Images of one's own camera made as large as a guide's: cropped, averaged over areas, the camera's matrix changed with them."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from inverse_graphics.interop.quaternions import check_rigid
from inverse_graphics.types import Camera


def calibrated_camera(K_px: ArrayLike, T_world_camera: ArrayLike, width_px: int, height_px: int) -> Camera:
    """A calibrated camera as this project has it.

    Args:
        K_px: [3 3] of an undistorted image; pixel (0, 0) covers [0, 1) x [0, 1), so add 0.5 to OpenCV's cx and cy.
        T_world_camera: [4 4] camera (+X right, +Y down, +Z forward) to world (z up, table at z = 0), metres.
        width_px: of the image that was calibrated.
        height_px: of that image.

    Returns:
        [] camera, float32.

    Raises:
        ValueError: a matrix of another kind (skewed, not rigid, not of this shape), or a camera that is not above the table.
    """
    K, T = np.asarray(K_px, np.float64), np.asarray(T_world_camera, np.float64)
    pinhole = K.shape == (3, 3) and np.array_equal(K, [[K[0, 0], 0, K[0, 2]], [0, K[1, 1], K[1, 2]], [0, 0, 1]])
    if not pinhole or not np.isfinite(K).all() or min(K[0, 0], K[1, 1]) <= 0:
        raise ValueError(
            f"K_px: expected [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] with positive fx and fy, received {K.tolist()}; "
            "undistort the image, and give the matrix of the undistorted one."
        )
    if T.shape != (4, 4):
        raise ValueError(
            f"T_world_camera: expected a 4x4 matrix, received shape {list(T.shape)}; put R and t into [R t; 0 0 0 1]."
        )
    check_rigid(T[None], "T_world_camera")
    if T[2, 3] <= 0:
        raise ValueError(
            f"T_world_camera: expected a camera above the table z = 0, received z = {T[2, 3]:.4g} m; "
            "solvePnP gives T_camera_world: invert it."
        )
    T_camera_world = torch.from_numpy(np.linalg.inv(T).astype(np.float32))
    return Camera(torch.from_numpy(K.astype(np.float32)), T_camera_world, width_px, height_px)


def fit_image(
    image_rgb: Float[Tensor, "h w 3"], camera: Camera, width_px: int, height_px: int
) -> tuple[Float[Tensor, "height_px width_px 3"], Camera]:
    """The middle of an image, as large as wanted in the wanted shape, made smaller by averaging; the camera to go with it.

    A pixel of the result is the mean over its area, which is how images are antialiased here.

    Args:
        image_rgb: linear colours.
        camera: [] of this image.
        width_px: wanted width, at most the image's.
        height_px: wanted height, at most the image's.

    Returns:
        The image, and its camera: the pose is the same.

    Raises:
        ValueError: the camera is of another image, or the image is smaller than wanted.
    """
    height, width = image_rgb.shape[:2]
    if (camera.width_px, camera.height_px) != (width, height):
        raise ValueError(
            f"camera: expected that of the image, {width} x {height} px, received {camera.width_px} x {camera.height_px} px; "
            "scale K_px with the image."
        )
    scale = min(width / width_px, height / height_px)
    if scale < 1:
        raise ValueError(
            f"image_rgb: expected at least {width_px} x {height_px} px, received {width} x {height}; take larger images, "
            "or train a guide for smaller ones."
        )
    left, top = (width - scale * width_px) / 2, (height - scale * height_px) / 2
    across, down = (_areas(size, to, start, scale) for size, to, start in ((width, width_px, left), (height, height_px, top)))
    across, down = across.to(image_rgb), down.to(image_rgb)
    fitted = torch.einsum("vh,hwc,uw->vuc", down, image_rgb, across)
    T_new_old = camera.K_px.new_tensor([[1 / scale, 0, -left / scale], [0, 1 / scale, -top / scale], [0, 0, 1]])
    return fitted, dataclasses.replace(camera, K_px=T_new_old @ camera.K_px, width_px=width_px, height_px=height_px)


def _areas(size: int, to: int, start: float, scale: float) -> Float[Tensor, "to size"]:
    """Share of each old pixel in each new one, along an axis; rows add up to 1."""
    new = start + scale * torch.arange(to + 1, dtype=torch.float64)
    old = torch.arange(size + 1, dtype=torch.float64)
    overlap = torch.minimum(new[1:, None], old[1:]) - torch.maximum(new[:-1, None], old[:-1])
    return overlap.clamp(min=0) / scale
