"""Does a black box draw objects where they are?  Its first pictures are compared with our rasteriser's silhouettes.

Where they differ, the usual mistakes with frames and units are tried, and the one that explains the picture best is named.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from inverse_graphics.types import Camera, Catalogue, Light, Mesh, Objects, View
from renderers.painting.checks import PainterError
from renderers.painting.shots import Shot
from renderers.raster import RasterRenderer

MIN_IOU = 0.5
"""Overlap with the rasteriser's silhouette below which a picture is refused."""
MIN_SAMPLES = 30
"""A silhouette of fewer samples proves nothing: the class is checked at a later picture."""
MIN_CHANGE = 1e-3
"""Colours that differ more than this from a picture of nothing show an object."""
MAX_DEPTH_RATIO = 1.1
"""By how much depths may differ from the rasteriser's."""

Mask = Bool[np.ndarray, "h w"]


@dataclass(frozen=True)
class RawPicture:
    """What a function or a program made of a shot."""

    rgb: Float[np.ndarray, "h w 3"]
    """Linear colour in 0..1."""
    depth_m: Float[np.ndarray, "h w"] | None
    """z-depth, 0 where nothing was drawn; None where it gives none."""


@dataclass(frozen=True)
class _Mistake:
    """A wrong way to draw a shot of one object, by what comes out of it."""

    text: str
    """What is wrong, and what to do."""
    move: Callable[[Shot], Float[np.ndarray, "4 4"]] = lambda shot: shot.T_camera_object[0]
    """The T_camera_object that is drawn in effect."""
    turn: Callable[[Mask], Mask] = lambda mask: mask
    """What is done to the image."""
    scale: float = 1.0
    """By what the mesh is larger than it should be."""


def raster_depth(meshes: tuple[Mesh, ...], shot: Shot, T_camera_object: Float[np.ndarray, "k 4 4"]) -> Float[np.ndarray, "h w"]:
    """z-depth by our rasteriser of one mesh an object, 0 where there is none (float32)."""
    return draw_depth(RasterRenderer(Catalogue(meshes), 1), np.arange(len(meshes)), shot, T_camera_object)


def draw_depth(
    raster: RasterRenderer, class_ids: np.ndarray, shot: Shot, T_camera_object: Float[np.ndarray, "k 4 4"]
) -> Float[np.ndarray, "h w"]:
    """z-depth of objects posed in the camera's frame, 0 where there is none (float32)."""
    count = len(class_ids)
    camera = Camera(
        torch.from_numpy(shot.K_px.copy()), torch.eye(4, dtype=torch.float64), shot.width_px, shot.height_px, shot.near_m
    )
    light = Light(torch.tensor([0.0, 0.0, -1.0]), torch.tensor(1.0), torch.tensor(0.0))
    view = View(camera, light, torch.zeros(()).expand(shot.height_px, shot.width_px, 3))
    T = torch.from_numpy(np.ascontiguousarray(T_camera_object, np.float64))
    objects = Objects(torch.from_numpy(np.ascontiguousarray(class_ids, np.int64)), T, torch.ones(count, dtype=torch.bool))
    return raster.render(objects, view).depth_m.numpy().astype(np.float32)


class SilhouetteCheck:
    """Compares the first picture of every class with the rasteriser's, once."""

    def __init__(self, name: str, catalogue: Catalogue) -> None:
        """Start with no class checked.

        Args:
            name: name of the painter, for messages.
            catalogue: the meshes that it draws.
        """
        self._name = name
        self._catalogue = catalogue
        self._unchecked = set(range(len(catalogue)))

    def check(self, shots: list[Shot], draw: Callable[[list[Shot]], list[RawPicture]]) -> None:
        """Draw one object of every class that is new alone, as the shots show it, and compare.

        Args:
            shots: what is going to be drawn.
            draw: draws shots by the function or program; called twice where it gives no depth.

        Raises:
            PainterError: a silhouette overlaps too little, or depths are wrong: says which mistake explains it.
        """
        alone: list[Shot] = []
        depths_m: list[Float[np.ndarray, "h w"]] = []
        for shot in self._candidates(shots):
            class_id = int(shot.class_ids[0])
            if class_id in self._unchecked:
                depth_m = raster_depth((self._catalogue.meshes[class_id],), shot, shot.T_camera_object)
                if (depth_m > 0).sum() >= MIN_SAMPLES:
                    self._unchecked.discard(class_id)
                    alone.append(shot)
                    depths_m.append(depth_m)
        if not alone:
            return
        pictures = draw(alone)
        masks = [None if picture.depth_m is None else picture.depth_m > 0 for picture in pictures]
        if any(mask is None for mask in masks):
            empty = draw([_shot_of(shot, slice(0, 0)) for shot in alone])
            changes = [np.abs(a.rgb - b.rgb).max(-1) > MIN_CHANGE for a, b in zip(pictures, empty, strict=True)]
            masks = [change if mask is None else mask for mask, change in zip(masks, changes, strict=True)]
        for shot, depth_m, picture, mask in zip(alone, depths_m, pictures, masks, strict=True):
            assert mask is not None
            self._compare(shot, depth_m, picture, mask)

    def _candidates(self, shots: list[Shot]) -> Iterator[Shot]:
        """Each object of a class that is not checked yet, alone."""
        for shot in shots:
            for slot, class_id in enumerate(shot.class_ids.tolist()):
                if class_id in self._unchecked:
                    yield _shot_of(shot, slice(slot, slot + 1))

    def _compare(self, shot: Shot, depth_m: Float[np.ndarray, "h w"], picture: RawPicture, mask: Mask) -> None:
        """Raise PainterError where a picture of one object is not what the rasteriser's depth says."""
        mesh = self._catalogue.meshes[int(shot.class_ids[0])]
        where = f"painter {self._name!r}, class {mesh.name!r}"
        iou = overlap(mask, depth_m > 0)
        if iou < MIN_IOU:
            raise PainterError(
                f"{where}: expected the object where the rasteriser draws it, received a silhouette that overlaps by {iou:.2f} "
                f"(intersection over union); {explain(mesh, shot, mask)}"
            )
        if picture.depth_m is not None:
            _compare_depth(where, shot, depth_m, picture.depth_m)


def explain(mesh: Mesh, shot: Shot, mask: Mask) -> str:
    """Which mistake with frames or units explains a silhouette of one object best, in words."""
    found: list[tuple[float, str]] = []
    invisible: list[str] = []
    for mistake in MISTAKES:
        larger = dataclasses.replace(mesh, vertices_m=(mesh.vertices_m * mistake.scale).astype(np.float32))
        expected = mistake.turn(raster_depth((larger,), shot, mistake.move(shot)[None]) > 0)
        if expected.shape != mask.shape:
            continue
        if not expected.any():
            invisible.append(mistake.text)
        found.append((overlap(mask, expected), mistake.text))
    if not mask.any():
        causes = "; or ".join(invisible) or "check the light, the near plane and that the mesh is loaded"
        return f"nothing was drawn at all, as it would be in these cases: {causes}"
    if mask.all():
        return "every sample counts as covered: give depth 0, infinity or NaN where nothing is drawn"
    iou, text = max(found, key=lambda pair: pair[0])
    if iou < MIN_IOU:
        return f"no usual mistake explains it (the best by {iou:.2f}: {text}); see docs/conventions.md for frames and pixels"
    return f"this explains it by {iou:.2f}: {text}"


def overlap(a: Mask, b: Mask) -> float:
    """Intersection over union; 0 where both are empty."""
    return float((a & b).sum() / max((a | b).sum(), 1))


def _compare_depth(where: str, shot: Shot, expected_m: Float[np.ndarray, "h w"], depth_m: Float[np.ndarray, "h w"]) -> None:
    """Raise PainterError where depths differ from the rasteriser's by more than silhouettes do."""
    shared = (expected_m > 0) & (depth_m > 0)
    ratio = float(np.median(depth_m[shared] / expected_m[shared]))
    if 1 / MAX_DEPTH_RATIO < ratio < MAX_DEPTH_RATIO:
        return
    v, u = np.nonzero(shared)
    rays = np.linalg.inv(shot.K_px) @ np.stack([u + 0.5, v + 0.5, np.ones(len(u))])
    along = float(np.median(depth_m[shared] / expected_m[shared] / np.linalg.norm(rays, axis=0)))
    reason = "give the distance along the camera's z axis in metres, not the depth buffer's own values"
    if 900 < ratio < 1100:
        reason = "the depth is in millimetres: divide it by 1000"
    elif abs(along - 1) < 0.02:
        reason = "the depth is the distance along the ray: multiply it by the z of the ray's unit vector"
    raise PainterError(
        f"{where}: expected z-depth in metres, received {ratio:.4g} times the rasteriser's in the median; {reason}"
    )


def _shot_of(shot: Shot, slots: slice) -> Shot:
    """The shot with some of its objects."""
    return dataclasses.replace(shot, class_ids=shot.class_ids[slots], T_world_object=shot.T_world_object[slots])


def _turned(T: Float[np.ndarray, "4 4"]) -> Float[np.ndarray, "4 4"]:
    """The rotation inverted, the translation kept."""
    turned = T.copy()
    turned[:3, :3] = T[:3, :3].T
    return turned


def _flip(x: float, y: float, z: float) -> Float[np.ndarray, "4 4"]:
    return np.diag([x, y, z, 1.0])


def _about_x(sign: float) -> Float[np.ndarray, "4 4"]:
    """A quarter turn about x."""
    return np.array([[1, 0, 0, 0], [0, 0, -sign, 0], [0, sign, 0, 0], [0, 0, 0, 1.0]])


MISTAKES = (
    _Mistake(
        "the camera is taken for OpenGL's (y up, z backward): flip y and z, diag(1, -1, -1, 1) @ T_camera_world",
        lambda shot: _flip(1.0, -1.0, -1.0) @ shot.T_camera_object[0],
    ),
    _Mistake(
        "the camera's axes are flipped on the world's side: write diag(1, -1, -1, 1) @ T_camera_world, not the other way round",
        lambda shot: shot.T_camera_world @ _flip(1.0, -1.0, -1.0) @ shot.T_world_object[0],
    ),
    _Mistake(
        "the camera's pose is inverted: T_camera_world takes world to camera, its inverse is where the camera stands",
        lambda shot: np.linalg.inv(shot.T_camera_world) @ shot.T_world_object[0],
    ),
    _Mistake(
        "poses are taken for object-to-camera ones: they are T_world_object, multiply them by T_camera_world from the left",
        lambda shot: shot.T_world_object[0],
    ),
    _Mistake(
        "the camera is applied twice: poses are T_world_object, do not multiply them by T_camera_world before",
        lambda shot: shot.T_camera_world @ shot.T_camera_object[0],
    ),
    _Mistake(
        "the object's pose is inverted: T_world_object takes the object's points to the world",
        lambda shot: shot.T_camera_world @ np.linalg.inv(shot.T_world_object[0]),
    ),
    _Mistake(
        "the object's rotation is transposed: points are columns, R @ point (column-major libraries want the transpose)",
        lambda shot: shot.T_camera_world @ _turned(shot.T_world_object[0]),
    ),
    _Mistake("the image is upside down: row 0 is the top, reverse the rows", turn=lambda mask: mask[::-1]),
    _Mistake("the image is mirrored: column 0 is the left, reverse the columns", turn=lambda mask: mask[:, ::-1]),
    _Mistake("the image is turned by 180 degrees: reverse rows and columns", turn=lambda mask: mask[::-1, ::-1]),
    _Mistake("rows and columns are exchanged: images are [height, width]", turn=lambda mask: mask.T),
    _Mistake(
        "the mesh is turned by +90 degrees about x: it has its z axis up, do not convert it from y up",
        lambda shot: shot.T_camera_object[0] @ _about_x(1.0),
    ),
    _Mistake(
        "the mesh is turned by -90 degrees about x: it has its z axis up, do not convert it to y up",
        lambda shot: shot.T_camera_object[0] @ _about_x(-1.0),
    ),
    _Mistake("the mesh is taken for millimetres: vertices and poses are in metres", scale=0.001),
    _Mistake("the mesh is scaled to millimetres: vertices and poses are in metres", scale=1000.0),
)
