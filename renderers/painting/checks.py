"""What a black box gives back is checked here, picture by picture, before anything is made of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from renderers.painting.shots import Picture, Shot

RGB_TOLERANCE = 1e-3
"""How far beyond 0..1 colours may lie; they are clipped."""


class PainterError(ValueError):
    """A painter gave back what cannot be used, or failed: names painter, argument, what was expected and received, a remedy."""


def check_pictures(name: str, pictures: object, shots: list[Shot]) -> list[Picture]:
    """Return the pictures if there is one usable picture a shot.

    Args:
        name: name of the painter, for messages.
        pictures: what ``Painter.draw`` returned.
        shots: what it was asked for.

    Raises:
        PainterError: no list of as many ``Picture``s as shots, or one of another size, type or range than documented.
    """
    if not isinstance(pictures, list) or len(pictures) != len(shots):
        received = f"{len(pictures)}" if isinstance(pictures, list) else type(pictures).__name__
        raise PainterError(
            f"painter {name!r}: draw: expected a list of {len(shots)} pictures, one a shot, received {received}; "
            "return a list in the order of the shots"
        )
    for number, (picture, shot) in enumerate(zip(pictures, shots, strict=True)):
        where = f"painter {name!r}, picture {number} of {len(shots)}"
        if not isinstance(picture, Picture):
            raise PainterError(
                f"{where}: expected a renderers.shots.Picture, received {type(picture).__name__}; return Picture(rgb, depth_m)"
            )
        check_depth(where, picture.depth_m, shot)
        check_rgb(where, picture.rgb, shot, picture.depth_m > 0)
    return pictures


def check_rgb(where: str, rgb: Any, shot: Shot, drawn: np.ndarray) -> None:
    """Raise PainterError unless ``rgb`` is an image of the shot with linear colours in 0..1 where something is drawn [h w]."""
    _check_array(f"{where}: rgb", rgb, (shot.height_px, shot.width_px, 3))
    if not np.isfinite(rgb).all():
        raise PainterError(
            f"{where}: rgb: expected finite colours, received NaN or infinity in {int((~np.isfinite(rgb)).any(-1).sum())} "
            "pixels; check the light and the meshes' normals"
        )
    if rgb.min() >= -RGB_TOLERANCE and rgb.max() <= 1 + RGB_TOLERANCE:
        return
    seen = rgb[drawn]
    if seen.size and (seen.min() < -RGB_TOLERANCE or seen.max() > 1 + RGB_TOLERANCE):
        raise PainterError(
            f"{where}: rgb: expected linear colours in 0..1, received {seen.min():.4g}..{seen.max():.4g}; if they are 8-bit "
            "colours in 0..255, divide by 255 and turn sRGB into linear light; if they are brighter than 1, clip them"
        )


def check_depth(where: str, depth_m: Any, shot: Shot) -> None:
    """Raise PainterError unless ``depth_m`` is an image of the shot with finite z-depths, 0 where nothing is drawn."""
    _check_array(f"{where}: depth_m", depth_m, (shot.height_px, shot.width_px))
    if not np.isfinite(depth_m).all():
        raise PainterError(
            f"{where}: depth_m: expected finite z-depths, received NaN or infinity in {int((~np.isfinite(depth_m)).sum())} "
            "pixels; use 0 where nothing is drawn"
        )
    if depth_m.min() < 0:
        raise PainterError(
            f"{where}: depth_m: expected z-depths of at least 0, received {depth_m.min():.4g}; OpenGL's camera looks along -z: "
            "turn the sign round, and use 0 where nothing is drawn"
        )


def _check_array(what: str, array: Any, shape: tuple[int, ...]) -> None:
    """Raise PainterError unless ``array`` holds floats in this shape."""
    if not isinstance(array, np.ndarray):
        raise PainterError(f"{what}: expected a numpy array {shape}, received {type(array).__name__}; convert it with np.asarray")
    if array.shape != shape:
        raise PainterError(
            f"{what}: expected shape {shape}, rows first, received {array.shape}; draw shot.height_px x shot.width_px pixels"
        )
    if not np.issubdtype(array.dtype, np.floating):
        raise PainterError(
            f"{what}: expected floats (float32), received {array.dtype}; convert it, 8-bit colours to linear light in 0..1"
        )
