"""Pictures of functions and programs, which know less of our conventions: 8-bit colours, infinite depths, no depth at all."""

from __future__ import annotations

import numpy as np

from assets.colours import srgb_to_linear
from renderers.callable.silhouettes import RawPicture, draw_depth
from renderers.painting.checks import check_depth, check_rgb
from renderers.painting.shots import Picture, Shot
from renderers.raster import RasterRenderer

LINEAR_OF_SRGB = srgb_to_linear(np.arange(256) / 255).astype(np.float32)
"""Linear light of 8-bit sRGB."""


def raw_picture(where: str, rgb: np.ndarray, depth_m: np.ndarray | None, shot: Shot) -> RawPicture:
    """Convert and check what came from outside.

    Args:
        where: painter and picture, for messages.
        rgb: [h w 3] linear floats in 0..1, or sRGB as uint8.
        depth_m: [h w] z-depth; 0, infinity or NaN where there is nothing; None where there is no depth.
        shot: what was asked for.

    Raises:
        PainterError: another shape, type or range.
    """
    if depth_m is not None:
        if np.issubdtype(depth_m.dtype, np.floating):
            depth_m = np.where(np.isfinite(depth_m), depth_m, 0).astype(np.float32)
        check_depth(where, depth_m, shot)
    if rgb.dtype == np.uint8:
        rgb = LINEAR_OF_SRGB[rgb]
    check_rgb(where, rgb, shot, np.ones((shot.height_px, shot.width_px), bool) if depth_m is None else depth_m > 0)
    return RawPicture(rgb.astype(np.float32), depth_m)


def finish(raw: RawPicture, shot: Shot, raster: RasterRenderer) -> Picture:
    """The picture, with the rasteriser's depth where there is none of its own."""
    if raw.depth_m is not None:
        return Picture(raw.rgb, raw.depth_m)
    return Picture(raw.rgb, draw_depth(raster, shot.class_ids, shot, shot.T_camera_object))
