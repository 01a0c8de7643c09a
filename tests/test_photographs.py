"""Images made smaller, against means of blocks and against a renderer that draws them small."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from renderer_scenes import ball, box, catalogue_of, table_scene

from inverse_graphics.photographs import calibrated_camera, fit_image
from inverse_graphics.types import map_tensors
from renderers import RasterRenderer

T_WORLD_CAMERA = np.asarray([[1.0, 0, 0, 0.1], [0, -1, 0, 0.2], [0, 0, -1, 1.5], [0, 0, 0, 1]])
K_PX = [[500.0, 0, 320.5], [0, 510.0, 241.5], [0, 0, 1]]


def test_a_calibrated_camera_sees_a_point_where_the_calibration_says() -> None:
    """10 cm right of the camera's foot, and 20 cm towards the image's top, 1.5 m below it."""
    camera = calibrated_camera(K_PX, T_WORLD_CAMERA, 640, 480)
    x, y, z = (camera.T_camera_world @ torch.tensor([0.2, 0.4, 0.0, 1.0]))[:3].tolist()
    assert (x, y, z) == pytest.approx((0.1, -0.2, 1.5), abs=1e-6)
    u, v, w = (camera.K_px @ torch.tensor([x, y, z])).tolist()
    assert (u / w, v / w) == pytest.approx((500 * 0.1 / 1.5 + 320.5, 241.5 - 510 * 0.2 / 1.5), rel=1e-6)


def test_blocks_are_averaged_and_the_middle_is_kept() -> None:
    """8 x 4 px to 2 x 2: the outer two columns on each side go."""
    image = torch.rand(4, 8, 3, dtype=torch.float64)
    camera = calibrated_camera([[10.0, 0, 4.5], [0, 10, 2], [0, 0, 1]], T_WORLD_CAMERA, 8, 4)
    fitted, smaller = fit_image(image, camera, 2, 2)
    torch.testing.assert_close(fitted, image[:, 2:6].unflatten(0, (2, 2)).unflatten(2, (2, 2)).mean((1, 3)))
    np.testing.assert_allclose(smaller.K_px, [[5, 0, 1.25], [0, 5, 1], [0, 0, 1]], atol=1e-6)
    assert (smaller.width_px, smaller.height_px) == (2, 2)
    torch.testing.assert_close(smaller.T_camera_world, camera.T_camera_world)


def test_a_pixel_on_the_border_of_two_is_shared() -> None:
    """7 px to 2: the fourth counts by half in both."""
    ramp = torch.arange(7, dtype=torch.float64)[None, :, None].expand(7, 7, 3)
    camera = calibrated_camera([[7.0, 0, 3.5], [0, 7, 3.5], [0, 0, 1]], T_WORLD_CAMERA, 7, 7)
    fitted, _ = fit_image(ramp.contiguous(), camera, 2, 2)
    torch.testing.assert_close(fitted[0, :, 0], torch.tensor([(0 + 1 + 2 + 1.5) / 3.5, (1.5 + 4 + 5 + 6) / 3.5]).double())


def test_it_is_what_a_renderer_draws_with_the_smaller_camera() -> None:
    """A picture of 144 x 96 px cropped and made smaller, beside one drawn at 32 x 32 with 3 x 3 samples a pixel."""
    catalogue = catalogue_of(ball(), box())
    objects, view = table_scene(1, 2, 96, 2)
    wide = dataclasses.replace(
        view.camera, K_px=view.camera.K_px + torch.tensor([[0, 0, 24.0], [0, 0, 0], [0, 0, 0]]), width_px=144
    )
    background = torch.full((1, 96, 144, 3), 0.3)
    large = RasterRenderer(catalogue, 1).render(objects, dataclasses.replace(view, camera=wide, background_rgb=background))
    fitted, camera = fit_image(large.rgb[0], map_tensors(lambda tensor: tensor[0], wide), 32, 32)
    small_view = dataclasses.replace(
        view, camera=map_tensors(lambda tensor: tensor[None], camera), background_rgb=background[:, :32, :32]
    )
    small = RasterRenderer(catalogue, 3).render(objects, small_view)
    torch.testing.assert_close(fitted, small.rgb[0], rtol=0, atol=1e-4)
    assert float((fitted - 0.3).abs().max()) > 0.1


def test_what_cannot_be_used_is_refused() -> None:
    camera = calibrated_camera(K_PX, T_WORLD_CAMERA, 640, 480)
    with pytest.raises(ValueError, match=r"K_px: expected \[\[fx, 0, cx\]"):
        calibrated_camera([[500.0, 1, 320], [0, 510, 240], [0, 0, 1]], T_WORLD_CAMERA, 640, 480)
    with pytest.raises(ValueError, match=r"K_px: expected \[\[fx, 0, cx\]"):
        calibrated_camera([500.0, 510.0], T_WORLD_CAMERA, 640, 480)
    with pytest.raises(ValueError, match="T_world_camera: expected a 4x4 matrix"):
        calibrated_camera(K_PX, T_WORLD_CAMERA[:3], 640, 480)
    with pytest.raises(ValueError, match="T_world_camera: expected rigid 4x4 matrices"):
        calibrated_camera(K_PX, 1000 * T_WORLD_CAMERA, 640, 480)
    with pytest.raises(ValueError, match="above the table z = 0.*invert it"):
        calibrated_camera(K_PX, np.diag([1.0, -1, -1, 1]) @ T_WORLD_CAMERA, 640, 480)
    with pytest.raises(ValueError, match="camera: expected that of the image, 320 x 240 px, received 640 x 480"):
        fit_image(torch.zeros(240, 320, 3), camera, 64, 64)
    with pytest.raises(ValueError, match="image_rgb: expected at least 64 x 64 px, received 640 x 48"):
        fit_image(torch.zeros(48, 640, 3), dataclasses.replace(camera, height_px=48), 64, 64)
