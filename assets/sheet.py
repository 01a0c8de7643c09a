"""A contact sheet and a table of a catalogue, for people to look at."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from assets.shading import unit
from assets.textures import sample
from inverse_graphics.colours import linear_to_srgb
from inverse_graphics.types import Catalogue, Mesh, Symmetry, Texture

LOOK_DOWN_RAD = np.deg2rad(50.0)
LOOK_ROUND_RAD = np.deg2rad(-60.0)
_LIGHT = np.asarray([-0.35, -0.45, 0.82])
_PAPER = 0.92


def table(catalogue: Catalogue) -> str:
    """One line a mesh: name, triangles, size in centimetres, whether it is closed, symmetry."""
    lines = [f"{'name':<20} {'triangles':>9} {'size in cm':>20} {'watertight':>10}  symmetry"]
    for mesh in catalogue.meshes:
        size = " x ".join(f"{100 * length:.1f}" for length in np.ptp(mesh.vertices_m, axis=0))
        closed = "yes" if mesh.watertight else "no"
        lines.append(f"{mesh.name:<20} {len(mesh.faces):>9} {size:>20} {closed:>10}  {describe(mesh.symmetry)}")
    return "\n".join(lines)


def describe(symmetry: Symmetry) -> str:
    """A few words for a symmetry."""
    axes = [f"any turn about {np.round(axis, 3).tolist()}" for axis in symmetry.continuous_axes]
    discrete = [f"{len(symmetry.discrete)} discrete"] if len(symmetry.discrete) else []
    return ", ".join(axes + discrete) or "none"


def save_sheet(catalogue: Catalogue, path: Path, size_px: int = 160) -> None:
    """Draw every mesh, all to one scale, seen from 50 degrees above.

    Args:
        catalogue: the meshes.
        path: image to write (PNG, PDF, SVG).
        size_px: side of a mesh's picture.
    """
    columns = min(len(catalogue), 6)
    rows = -(-len(catalogue) // columns)
    widest_m = max(float(np.linalg.norm(np.ptp(mesh.vertices_m, axis=0))) for mesh in catalogue.meshes)
    figure = Figure(figsize=(1.7 * columns, 1.9 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes:
        axis.set_axis_off()
    for axis, mesh in zip(axes, catalogue.meshes, strict=False):
        axis.imshow(linear_to_srgb(picture(mesh, size_px, 1.05 * widest_m)), vmin=0, vmax=1)
        axis.set_title(mesh.name, fontsize=8)
    with matplotlib.rc_context({"savefig.dpi": 150}):
        figure.savefig(path)


def picture(mesh: Mesh, size_px: int, width_m: float, samples: int = 3) -> Float[np.ndarray, "h w 3"]:
    """An orthographic picture of one mesh by a plain depth buffer: slow, and independent of the renderers.

    Args:
        mesh: what to draw.
        size_px: side of the square picture.
        width_m: length that the side spans; the mesh's box is centred.
        samples: antialiasing, samples a pixel along each axis.

    Returns:
        Linear colours on light paper.
    """
    n = size_px * samples
    c, s = np.cos(LOOK_ROUND_RAD), np.sin(LOOK_ROUND_RAD)
    right = np.asarray([-s, c, 0.0])
    towards = np.asarray([np.cos(LOOK_DOWN_RAD) * c, np.cos(LOOK_DOWN_RAD) * s, np.sin(LOOK_DOWN_RAD)])
    view = np.stack([right, np.cross(right, towards), -towards])
    middle = (mesh.vertices_m.max(0) + mesh.vertices_m.min(0)) / 2
    points = (mesh.vertices_m - middle) @ view.T * (n / width_m) + [n / 2, n / 2, 0]
    normals = mesh.corner_normals * np.where((mesh.corner_normals @ towards).sum(1) < 0, -1, 1)[:, None, None]
    colours = mesh.corner_rgb * (0.35 + 0.65 * np.maximum(0, normals @ unit(_LIGHT)))[..., None]
    image, depth = np.full((n, n, 3), _PAPER), np.full((n, n), np.inf)
    for face, (triangle, rgb) in enumerate(zip(points[mesh.faces], colours, strict=True)):
        texture = None if mesh.texture is None else Texture(mesh.texture.corner_uv[face : face + 1], mesh.texture.rgb)
        _draw(triangle, rgb, texture, image, depth)
    return image.reshape(size_px, samples, size_px, samples, 3).mean((1, 3))


def _draw(
    triangle: Float[np.ndarray, "3 3"],
    rgb: Float[np.ndarray, "3 3"],
    texture: Texture | None,
    image: Float[np.ndarray, "n n 3"],
    depth: Float[np.ndarray, "n n"],
) -> None:
    """Draw one triangle of (column, row, depth) corners, with its share of a texture, into the image where it is nearest."""
    low = np.clip(np.floor(triangle[:, :2].min(0)).astype(int), 0, len(image))
    high = np.clip(np.ceil(triangle[:, :2].max(0)).astype(int), 0, len(image))
    (ax, ay), (bx, by), (cx, cy) = triangle[:, :2]
    area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
    if area == 0 or (high <= low).any():
        return
    x, y = np.meshgrid(np.arange(low[0], high[0]) + 0.5, np.arange(low[1], high[1]) + 0.5)
    wb = ((x - ax) * (cy - ay) - (cx - ax) * (y - ay)) / area
    wc = ((bx - ax) * (y - ay) - (x - ax) * (by - ay)) / area
    weights = np.stack([1 - wb - wc, wb, wc], -1)
    window = np.s_[low[1] : high[1], low[0] : high[0]]
    z = weights @ triangle[:, 2]
    seen = (weights >= 0).all(-1) & (z < depth[window])
    depth[window][seen] = z[seen]
    image[window][seen] = weights[seen] @ rgb
    if texture is not None:
        image[window][seen] *= sample(texture.rgb, weights[seen] @ texture.corner_uv[0])
