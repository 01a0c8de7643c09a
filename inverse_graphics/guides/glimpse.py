"""The spatial transformer at a table position: where it lands in the image, and the crop there.

Attention in 3-D is a square of fixed size in metres, upright in the image, around the projection of a point above the table; its
size in pixels follows the distance.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_graphics.types import Camera


def project_table_points(
    camera: Camera, xy_m: Float[Tensor, "b p 2"], height_m: float
) -> tuple[Float[Tensor, "b p 2"], Float[Tensor, "b p"]]:
    """Pixel coordinates and z-depth of points at ``height_m`` above the table.

    Args:
        camera: [b] cameras.
        xy_m: world x and y.
        height_m: world z of all of them.
    """
    world = torch.cat([xy_m, torch.full_like(xy_m[..., :1], height_m), torch.ones_like(xy_m[..., :1])], -1)
    points = world @ camera.T_camera_world[:, :3, :].transpose(-1, -2)
    depth_m = points[..., 2].clamp(min=camera.near_m)
    uv = points @ camera.K_px.transpose(-1, -2)
    return uv[..., :2] / depth_m[..., None], depth_m


def table_points_of_pixels(
    camera: Camera, uv_px: Float[Tensor, "b p 2"], height_m: float, limit_m: float = 10.0
) -> Float[Tensor, "b p 2"]:
    """World x and y where the rays through pixels meet the plane ``height_m`` above the table.

    Rays that miss the plane, or meet it far away, give points at ``limit_m`` from the camera along the ray.
    """
    R, t = camera.T_camera_world[:, :3, :3], camera.T_camera_world[:, :3, 3]
    rays = torch.cat([uv_px, torch.ones_like(uv_px[..., :1])], -1) @ torch.linalg.inv(camera.K_px).transpose(-1, -2)
    rays = rays @ R
    eye = -(t[:, None, :] @ R)
    down = (-rays[..., 2]).clamp(min=1e-6)
    distance = ((eye[..., 2] - height_m) / down).clamp(min=0.0, max=limit_m)
    return eye[..., :2] + distance[..., None] * rays[..., :2]


def glimpses(
    images: Float[Tensor, "b c h w"],
    camera: Camera,
    scene: Tensor,
    xy_m: Float[Tensor, "g 2"],
    height_m: float,
    window_m: float,
    size_px: int,
) -> Float[Tensor, "g c p p"]:
    """Crops of size_px x size_px around projected table positions, bilinear, zero outside the image.

    Args:
        images: one image a scene.
        camera: [b] cameras.
        scene: [g] index of the scene that each glimpse looks at.
        xy_m: table position that each glimpse looks at; carries no gradient.
        height_m: height above the table of the point in the middle of the crop.
        window_m: side of the crop at that point's distance.
        size_px: side of the crop in samples.
    """
    height, width = images.shape[-2:]
    with torch.no_grad():
        one = Camera(camera.K_px[scene], camera.T_camera_world[scene], camera.width_px, camera.height_px, camera.near_m)
        uv, depth_m = project_table_points(one, xy_m[:, None], height_m)
        half_px = 0.5 * window_m * one.K_px[:, 0, 0, None] / depth_m
        steps = (torch.arange(size_px, device=images.device, dtype=images.dtype) + 0.5) * (2.0 / size_px) - 1.0
        u = (uv[:, :, 0] + half_px * steps) * (2.0 / width) - 1.0
        v = (uv[:, :, 1] + half_px * steps) * (2.0 / height) - 1.0
        grid = torch.stack(
            [u[:, None, :].expand(-1, size_px, -1), v[:, :, None].expand(-1, -1, size_px)],
            -1,
        )
    return torch.nn.functional.grid_sample(images[scene], grid, mode="bilinear", padding_mode="zeros", align_corners=False)
