"""Meshes as MuJoCo's OpenGL draws them: corners one by one, finely divided, their colours in an image.

MuJoCo lights vertices and interpolates the result, and has no colours at vertices.  So faces are divided until it hardly shows,
colours become a small image with a cell for each face, and faces of open meshes get a second side, since back faces are culled.
All is exact but for 8 bits a colour and the interpolation of light.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8

from inverse_graphics.types import Mesh, Texture

MAX_CHORD = 0.4
"""A face is divided until the unit normals at its corners differ by no more than this."""

MAX_RELATIVE_EDGE = 1 / 8
"""Under a near light it is divided until its edges are no longer than this, relative to the mesh's box."""

MAX_DIVIDED_FACES = (12_000, 30_000)
"""No mesh is divided into more faces than this: under a light far away, and under a near one."""

MAX_IMAGE_PX = 4096
"""Widest image into which colours are baked."""

COLOUR_STEP = 1 / 512
"""Half a step of 8 bits."""


@dataclass(frozen=True)
class Corners:
    """Triangles as three corners each, one after the other."""

    positions_m: Float[np.ndarray, "c 3"]
    """Object frame, float32."""
    normals: Float[np.ndarray, "c 3"]
    """Unit normals, object frame, float32."""
    uv: Float[np.ndarray, "c 2"]
    """OpenGL's texture coordinates, float32: (0, 0) is where the first row of the image starts."""


@dataclass(frozen=True)
class Surface:
    """What MuJoCo needs to draw a mesh."""

    far: Corners
    """Divided for lights that are far away."""
    near: Corners
    """Divided for lights that are near (the same object where no more is needed)."""
    tint: Float[np.ndarray, "3"]
    """Linear colour that multiplies the image."""
    image: UInt8[np.ndarray, "h w 3"] | None
    """Linear colours in 8 bits; None for white."""


def make_surface(mesh: Mesh) -> Surface:
    """Prepare a mesh; it may be open, and have faces without area."""
    uv, tint, image = _colours(mesh)
    positions_m = mesh.vertices_m.astype(np.float64)[mesh.faces]
    normals = mesh.corner_normals.astype(np.float64)
    if not mesh.watertight:
        positions_m = np.concatenate([positions_m, positions_m[:, ::-1]])
        normals = np.concatenate([normals, -normals[:, ::-1]])
        uv = np.concatenate([uv, uv[:, ::-1]])
    curved, long = _divisions(positions_m, normals)
    far = _divide(positions_m, normals, uv, curved)
    return Surface(far, far if long == curved else _divide(positions_m, normals, uv, long), tint, image)


def _divisions(positions_m: Float[np.ndarray, "f 3 3"], normals: Float[np.ndarray, "f 3 3"]) -> tuple[int, int]:
    """Into how many parts the edges are divided, under lights that are far away and near."""
    if len(positions_m) == 0:
        return 1, 1
    chords, edges_m = (np.linalg.norm(x - np.roll(x, 1, axis=1), axis=-1).max(-1) for x in (normals, positions_m))
    box_m = float(np.linalg.norm(np.ptp(positions_m, axis=(0, 1))))
    # The few widest faces, as at the tip of a cone, do not decide for all.
    curved = math.ceil(np.percentile(chords, 95) / MAX_CHORD)
    long = math.ceil(np.percentile(edges_m, 95) / max(box_m * MAX_RELATIVE_EDGE, 1e-12))
    most_curved, most_long = (max(1, math.isqrt(most // len(positions_m))) for most in MAX_DIVIDED_FACES)
    curved = min(max(curved, 1), most_curved)
    return curved, max(curved, min(long, most_long))


def _divide(
    positions_m: Float[np.ndarray, "f 3 3"], normals: Float[np.ndarray, "f 3 3"], uv: Float[np.ndarray, "f 3 2"], parts: int
) -> Corners:
    """Divide every edge into equal parts, all faces alike, so that no cracks open."""
    upper = [[(i, j), (i + 1, j), (i, j + 1)] for i in range(parts) for j in range(parts - i)]
    lower = [[(i + 1, j), (i + 1, j + 1), (i, j + 1)] for i in range(parts) for j in range(parts - i - 1)]
    second, third = np.moveaxis(np.asarray(upper + lower, np.float64), -1, 0) / parts
    weights = np.stack([1 - second - third, second, third], -1)

    def spread(at_corners: np.ndarray) -> np.ndarray:
        return np.einsum("tcb,fbk->ftck", weights, at_corners).reshape(-1, at_corners.shape[-1])

    directions = spread(normals)
    lengths = np.linalg.norm(directions, axis=-1, keepdims=True)
    unit = np.where(lengths > 1e-9, directions / np.maximum(lengths, 1e-9), [0.0, 0.0, 1.0])
    return Corners(*(x.astype(np.float32) for x in (spread(positions_m), unit, spread(uv))))


def _colours(mesh: Mesh) -> tuple[Float[np.ndarray, "f 3 2"], Float[np.ndarray, "3"], UInt8[np.ndarray, "h w 3"] | None]:
    """Texture coordinates, a colour that multiplies the image, and the image."""
    faces, rgb = len(mesh.faces), mesh.corner_rgb.astype(np.float64)
    if faces == 0 or np.ptp(rgb, axis=(0, 1)).max() < 1e-6:
        tint = rgb[0, 0] if faces else np.ones(3)
        if mesh.texture is None:
            return np.zeros((faces, 3, 2)), tint, None
        return mesh.texture.corner_uv * [1.0, -1.0] + [0.0, 1.0], tint, _to_8_bits(mesh.texture.rgb)
    columns = math.ceil(math.sqrt(faces))
    cell_px = _cell_px(rgb, mesh.texture, MAX_IMAGE_PX // columns)
    corner = np.arange(cell_px) / max(cell_px - 1, 1) if cell_px > 1 else np.full(1, 1 / 3)
    third, second = (x.ravel() for x in np.meshgrid(corner, corner, indexing="ij"))
    weights = np.stack([1 - second - third, second, third], -1)
    texels = np.clip(weights @ rgb, 0, 1)
    if mesh.texture is not None:
        texels = texels * _look_up(mesh.texture.rgb, weights @ mesh.texture.corner_uv.astype(np.float64))
    rows = math.ceil(faces / columns)
    cells = np.zeros((rows * columns, cell_px, cell_px, 3))
    cells[:faces] = texels.reshape(faces, cell_px, cell_px, 3)
    image = cells.reshape(rows, columns, cell_px, cell_px, 3).swapaxes(1, 2).reshape(rows * cell_px, columns * cell_px, 3)
    row, column = np.divmod(np.arange(faces), columns)
    first_px = np.stack([column, row], -1)[:, None] * cell_px + 0.5
    ends_px = first_px + (cell_px - 1) * np.asarray([[0, 0], [1, 0], [0, 1]])
    return ends_px / [columns * cell_px, rows * cell_px], np.ones(3), _to_8_bits(image)


def _cell_px(rgb: Float[np.ndarray, "f 3 3"], texture: Texture | None, most: int) -> int:
    """Width of a face's square cell in the image, whose texel centres at three corners are the face's corners.

    Colours that are linear over a face are bilinear over its cell, whose fourth corner continues them.  Where it would leave 0..1
    and is clipped, more texels keep the error near the diagonal below 0.04.
    """
    if texture is not None:
        size = np.asarray([texture.rgb.shape[1], texture.rgb.shape[0]])
        across_px = np.ptp(texture.corner_uv, axis=1) * size
        return max(2, min(most, 2 * math.ceil(float(across_px.max()))))
    if np.ptp(rgb, axis=1).max() < COLOUR_STEP:
        return 1
    fourth = rgb[:, 1] + rgb[:, 2] - rgb[:, 0]
    return min(most, 2 if fourth.min() > -COLOUR_STEP and fourth.max() < 1 + COLOUR_STEP else 8)


def _look_up(image: Float[np.ndarray, "h w 3"], uv: Float[np.ndarray, "f t 2"]) -> Float[np.ndarray, "f t 3"]:
    """Bilinear look-up as ``Texture`` defines it."""
    height, width = image.shape[:2]
    x, y = uv[..., 0] * width - 0.5, (1 - uv[..., 1]) * height - 0.5
    column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
    right, down = (x - column)[..., None], (y - row)[..., None]
    upper, lower = (
        (1 - right) * image[(row + k) % height, column % width] + right * image[(row + k) % height, (column + 1) % width]
        for k in (0, 1)
    )
    return (1 - down) * upper + down * lower


def _to_8_bits(rgb: Float[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """Linear colours, rounded."""
    return np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8)
