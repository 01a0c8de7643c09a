"""Estimated poses drawn over their images: outlines of truth and estimate, and how their depths differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize, to_rgb
from matplotlib.figure import Figure

from inverse_graphics.bop.results import poses_m
from inverse_graphics.bop.types import Estimates, ImageCamera, ImageKey, Truths, select
from inverse_graphics.bop.vsd import DepthOf
from inverse_graphics.reporting.pose_rows import PoseSide
from inverse_graphics.reporting.sheet import outline
from inverse_graphics.reporting.style import INK, MUTED, PALETTE, WRONG, figure_style

DIFFERENCES = LinearSegmentedColormap.from_list("house differences", ["#0072B2", "#CFE3F2", "#FFFFFF", "#FBE3C4", "#E69F00"])
MISSED, EXTRA, EMPTY = "#7B8794", "#F0B8A4", "#F3F5F7"
"""Pixels of the truth alone, of the estimate alone, and of neither."""
PANEL_IN = 2.1
"""Width of a panel."""
PAIRS_A_ROW = 2
MARGIN = 0.35
"""What is shown around an object, as a share of its size."""
NEAR_MM = 100.0
"""An estimate of another object that is nearer than this to what was missed may be a wrong class."""
LEAST_CROP_PX = 24
"""Sides of a cut-out are at least that long."""


@dataclass(frozen=True)
class PoseImages:
    """Where overlays come from."""

    truths: Truths
    """All ground truth."""
    names: Mapping[int, str]
    """Name of each obj_id."""
    image_of: Callable[[ImageKey], UInt8[np.ndarray, "h w 3"]]
    """Colours of an image, sRGB."""
    camera_of: Callable[[ImageKey], ImageCamera]
    """Its camera."""
    depth_of: DepthOf
    """Draws models."""


@dataclass(frozen=True)
class Overlay:
    """An image with truths and estimates drawn over it."""

    title: str
    """Which image or object it is."""
    caption: str
    """How good it is."""
    rgb_srgb: UInt8[np.ndarray, "h w 3"]
    """The image."""
    depth_gt_m: Float[np.ndarray, "g h w"]
    """Depth of each true object alone, 0 where there is nothing."""
    depth_est_m: Float[np.ndarray, "e h w"]
    """Depth of each estimate alone, 0 where there is nothing."""
    labels: tuple[str, ...]
    """Of each estimate."""
    is_wrong: tuple[bool, ...]
    """Whether each estimate stands for nothing."""


def image_overlay(source: PoseImages, side: PoseSide, image: int) -> Overlay:
    """A whole image with its truths and, of each object, as many of the best scored estimates as there are truths (at least one).

    Args:
        source: where it comes from.
        side: the estimates.
        image: index into ``side.evaluation.images``.
    """
    key, estimates = side.evaluation.images[image], side.estimates
    truth_rows = _rows_of(source.truths, key)
    rows = _rows_of(estimates, key)
    rows = rows[np.argsort(-estimates.score[rows], kind="stable")]
    kept: list[int] = []
    for obj_id in np.unique(estimates.obj_id[rows]).tolist():
        count = max(1, int((source.truths.obj_id[truth_rows] == obj_id).sum()))
        kept += rows[estimates.obj_id[rows] == obj_id][:count].tolist()
    found = len(_matched_rows(side).intersection(kept))
    caption = f"{len(truth_rows)} true, {found} found" + (f", {len(kept) - found} wrong" if found < len(kept) else "")
    title = f"scene {key.scene_id}, image {key.im_id}"
    return _overlay(source, side, key, truth_rows, np.array(kept, np.int64), title, caption)


def target_overlay(source: PoseImages, side: PoseSide, target: int) -> Overlay:
    """One target, cut out of its image, with the estimate matched to it, else one that may have been meant for it.

    That is the estimate of the same object that is nearest to it by MSSD, else one of another object whose origin is near.

    Args:
        source: where it comes from.
        side: the estimates.
        target: row of ``side.evaluation.targets``.
    """
    targets = side.evaluation.targets
    key, gt_row, est_row = (
        side.evaluation.images[targets.image[target]],
        int(targets.gt_row[target]),
        int(targets.est_row[target]),
    )
    if est_row >= 0:
        rows, caption = np.array([est_row]), f"{targets.te_mm[target]:.1f} mm, {targets.re_deg[target]:.1f}°"
    else:
        rows, caption = _instead(source, side, key, gt_row)
    name = source.names[int(targets.obj_id[target])]
    title = f"{name} in {key.scene_id}/{key.im_id}, {100 * targets.visib_fract[target]:.0f} % visible"
    return _cut_out(_overlay(source, side, key, np.array([gt_row]), rows, title, caption))


def _instead(source: PoseImages, side: PoseSide, key: ImageKey, gt_row: int) -> tuple[Int[np.ndarray, "e"], str]:
    """For a truth that was missed the estimate to be shown, if there is one, and what to say of it."""
    judged, estimates = side.evaluation.estimates, side.estimates
    near = np.flatnonzero((judged.gt_row == gt_row) & ~judged.is_matched)
    if len(near):
        best = near[np.argmin(judged.mssd_mm[near])]
        return judged.est_row[[best]], f"off by {judged.te_mm[best]:.0f} mm, {judged.symmetric_re_deg[best]:.0f}°"
    matched = _matched_rows(side)
    others = np.array([row for row in _rows_of(estimates, key).tolist() if row not in matched], np.int64)
    offsets_mm = estimates.T_camera_object_mm[others, :3, 3] - source.truths.T_camera_object_mm[gt_row, :3, 3]
    distances_mm = np.linalg.norm(offsets_mm, axis=-1)
    if len(others) == 0 or distances_mm.min() > NEAR_MM:
        return np.zeros(0, np.int64), "missed"
    row = others[[np.argmin(distances_mm)]]
    return row, f"taken for {source.names[int(estimates.obj_id[row[0]])]}"


def _rows_of(table: Estimates | Truths, key: ImageKey) -> Int[np.ndarray, "n"]:
    """Rows of an image."""
    return np.flatnonzero((table.scene_id == key.scene_id) & (table.im_id == key.im_id))


def _matched_rows(side: PoseSide) -> set[int]:
    """Rows of the estimates that stand for a truth."""
    judged = side.evaluation.estimates
    return set(judged.est_row[judged.is_matched].tolist())


def _overlay(
    source: PoseImages,
    side: PoseSide,
    key: ImageKey,
    truth_rows: Int[np.ndarray, "g"],
    est_rows: Int[np.ndarray, "e"],
    title: str,
    caption: str,
) -> Overlay:
    """Draw some truths and estimates of an image."""
    camera = source.camera_of(key)
    estimates = select(side.estimates, est_rows)
    right = _matched_rows(side)
    return Overlay(
        title,
        caption,
        source.image_of(key),
        _depth(select(source.truths, truth_rows), camera, source.depth_of),
        _depth(estimates, camera, source.depth_of),
        tuple(f"{source.names[obj_id]} {score:.2f}" for obj_id, score in zip(estimates.obj_id, estimates.score, strict=True)),
        tuple(int(row) not in right for row in est_rows),
    )


def _depth(table: Estimates | Truths, camera: ImageCamera, depth_of: DepthOf) -> Float[np.ndarray, "n h w"]:
    """Depth in metres of each object alone, 0 where there is nothing."""
    if len(table) == 0:
        return np.zeros((0, camera.height_px, camera.width_px), np.float32)
    depth_m = depth_of(table.obj_id, poses_m(table), camera)
    return np.where(np.isfinite(depth_m), depth_m, 0.0).astype(np.float32)


def _cut_out(overlay: Overlay) -> Overlay:
    """The square around all that is drawn, with a margin, within the image."""
    mask = (overlay.depth_gt_m > 0).any(0) | (overlay.depth_est_m > 0).any(0)
    rows, columns = np.unique(np.nonzero(mask)[0]), np.unique(np.nonzero(mask)[1])
    height, width = overlay.rgb_srgb.shape[:2]
    if len(rows) == 0:
        return overlay
    side = (1 + 2 * MARGIN) * max(np.ptp(rows), np.ptp(columns), 1)
    side = int(min(max(np.ceil(side), LEAST_CROP_PX), height, width))
    top = int(np.clip((rows[0] + rows[-1] + 1 - side) // 2, 0, height - side))
    left = int(np.clip((columns[0] + columns[-1] + 1 - side) // 2, 0, width - side))
    part = (slice(top, top + side), slice(left, left + side))
    return Overlay(
        overlay.title,
        overlay.caption,
        overlay.rgb_srgb[part],
        overlay.depth_gt_m[:, *part],
        overlay.depth_est_m[:, *part],
        overlay.labels,
        overlay.is_wrong,
    )


def nearest_depth_m(depth_m: Float[np.ndarray, "n h w"]) -> Float[np.ndarray, "h w"]:
    """Depth of the nearest object, NaN where there is none."""
    nearest = np.where(depth_m > 0, depth_m, np.inf).min(0, initial=np.inf)
    return np.where(np.isfinite(nearest), nearest, np.nan)


def difference_mm(overlay: Overlay) -> Float[np.ndarray, "h w"]:
    """Depth of the estimates less that of the truths, millimetres, NaN where either has nothing."""
    return 1000.0 * (nearest_depth_m(overlay.depth_est_m) - nearest_depth_m(overlay.depth_gt_m))


def overlay_sheet(overlays: Sequence[Overlay]) -> Figure:
    """Pairs of panels: the image with outlines, and the difference of the depths.

    The truth is outlined in white, estimates in colour, those that stand for nothing dashed in vermilion.

    Raises:
        ValueError: there is no overlay.
    """
    if not overlays:
        raise ValueError("overlay_sheet: expected at least one overlay, received none; leave the sheet out")
    differences = [difference_mm(overlay) for overlay in overlays]
    known = np.concatenate([np.abs(one[~np.isnan(one)]) for one in differences])
    limit = _round_up(float(np.percentile(known, 95))) if len(known) else 1.0
    columns = min(PAIRS_A_ROW, len(overlays))
    rows = -(-len(overlays) // columns)
    aspect = max(overlay.rgb_srgb.shape[0] / overlay.rgb_srgb.shape[1] for overlay in overlays)
    with figure_style():
        figure = Figure(figsize=(0.3 + columns * (2 * PANEL_IN + 0.45), 0.75 + rows * (PANEL_IN * aspect + 0.4)))
        for place, (overlay, difference) in enumerate(zip(overlays, differences, strict=True)):
            left, right = _axes(figure, place, columns, aspect)
            _outlines(left, overlay)
            _difference(right, overlay, difference, limit)
        _legend(figure, limit)
    return figure


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10, 20, ..."""
    power = 10.0 ** np.floor(np.log10(max(value, 1.0)))
    return float(next(factor * power for factor in (1, 2, 5, 10) if factor * power >= value or factor == 10))


def _axes(figure: Figure, place: int, columns: int, aspect: float) -> tuple[Axes, Axes]:
    """The two panels of a pair."""
    width_in, height_in = figure.get_size_inches()
    row, column = divmod(place, columns)
    x_in = 0.15 + column * (2 * PANEL_IN + 0.45)
    y_in = height_in - 0.3 - row * (PANEL_IN * aspect + 0.4) - PANEL_IN * aspect
    size = (PANEL_IN / width_in, PANEL_IN * aspect / height_in)
    left = figure.add_axes((x_in / width_in, y_in / height_in, *size))
    right = figure.add_axes(((x_in + PANEL_IN + 0.12) / width_in, y_in / height_in, *size))
    return left, right


def _outlines(axes: Axes, overlay: Overlay) -> None:
    """The image, with outlines of truths and estimates and the estimates' labels."""
    _show(axes, overlay.rgb_srgb)
    dark = [patheffects.withStroke(linewidth=2.4, foreground=INK, alpha=0.55), patheffects.Normal()]
    for depth_m in overlay.depth_gt_m:
        _contour(axes, depth_m > 0, "white", "solid", dark)
    light = [patheffects.withStroke(linewidth=2.4, foreground="white", alpha=0.7), patheffects.Normal()]
    colors = {label.rsplit(" ", 1)[0]: PALETTE[index % 5] for index, label in enumerate(sorted(overlay.labels))}
    height, width = overlay.rgb_srgb.shape[:2]
    for depth_m, label, wrong in zip(overlay.depth_est_m, overlay.labels, overlay.is_wrong, strict=True):
        color = WRONG if wrong else colors[label.rsplit(" ", 1)[0]]
        _contour(axes, depth_m > 0, color, (0, (2.2, 1.2)) if wrong else "solid", light)
        rows, columns = np.nonzero(depth_m > 0)
        if len(rows):
            box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.85, "edgecolor": color, "linewidth": 0.7}
            x = float(np.clip(columns.mean() + 0.5, 0.17 * width, 0.83 * width))
            y = float(np.clip(rows.min() - 0.045 * height, 0.05 * height, 0.95 * height))
            axes.text(x, y, label, ha="center", va="center", size=5.5, color=WRONG if wrong else INK, bbox=box)
    axes.set_title(overlay.title, size=7.5, weight="normal", color=MUTED, pad=3)


def _difference(axes: Axes, overlay: Overlay, difference: Float[np.ndarray, "h w"], limit: float) -> None:
    """Depth differences in colour; grey and pale red where only one of the two is."""
    colours = DIFFERENCES(Normalize(-limit, limit, clip=True)(np.nan_to_num(difference)))[..., :3]
    has_gt, has_est = ((depth_m > 0).any(0) for depth_m in (overlay.depth_gt_m, overlay.depth_est_m))
    for mask, color in ((has_gt & ~has_est, MISSED), (has_est & ~has_gt, EXTRA), (~has_gt & ~has_est, EMPTY)):
        colours[mask] = to_rgb(color)
    _show(axes, np.round(255 * colours).astype(np.uint8))
    axes.set_title(overlay.caption, size=7.5, weight="normal", color=MUTED, pad=3)


def _show(axes: Axes, rgb: UInt8[np.ndarray, "h w 3"]) -> None:
    height, width = rgb.shape[:2]
    axes.imshow(rgb, extent=(0, width, height, 0), interpolation="nearest")
    axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
    axes.spines[:].set_visible(False)


def _contour(axes: Axes, mask: Bool[np.ndarray, "h w"], color: str, style: object, halo: list) -> None:
    lines = LineCollection(outline(mask), colors=color, linewidths=1.1, linestyles=[style], capstyle="butt")
    lines.set_path_effects(halo)
    axes.add_collection(lines)


def _legend(figure: Figure, limit: float) -> None:
    """The scale of the differences, below all panels, and what the other colours mean."""
    width_in, height_in = figure.get_size_inches()
    axes = figure.add_axes((0.15 / width_in, 0.32 / height_in, min(2.1, 0.4 * width_in) / width_in, 0.11 / height_in))
    bar = figure.colorbar(ScalarMappable(Normalize(-limit, limit), DIFFERENCES), cax=axes, orientation="horizontal")
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.set_ticks([-limit, 0, limit], labels=[f"{-limit:.3g}", "0", f"{limit:+.3g} mm"])
    axes.tick_params(labelsize=6.5, length=0)
    x = (min(2.1, 0.4 * width_in) + 0.45) / width_in
    for index, (color, text) in enumerate(((MISSED, "truth alone"), (EXTRA, "estimate alone"))):
        place = x + index * 1.1 / width_in
        figure.text(place, 0.375 / height_in, "■", color=color, size=9, va="center")
        figure.text(place + 0.14 / width_in, 0.375 / height_in, text, color=MUTED, size=7, va="center")
