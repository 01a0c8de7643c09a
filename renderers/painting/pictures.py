"""``PictureRenderer`` and ``WholePictureRenderer``: renderers made of a painter, a black box that draws one picture at a time.

Neither carries gradients; wrap them in finite differences.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_graphics.compositing import add_geometry, box_filter, render_layers, upsample
from inverse_graphics.types import Catalogue, Layers, Objects, RenderOutput, View
from renderers.painting.checks import PainterError as PainterError
from renderers.painting.checks import check_pictures
from renderers.painting.packing import SceneArrays, bounding_corners, frame_of, pack, projected_boxes, scene_arrays
from renderers.painting.shots import Painter, Picture, Shot
from renderers.painting.surroundings import SurroundingsCache
from renderers.raster.checks import check_alternatives, check_camera, check_objects, check_samples, check_shapes

MAX_PICTURE_BYTES = 2**28
"""Bound on the pictures that a painter is asked for at once."""

BYTES_PER_SAMPLE = 16
"""Colour and depth, float32."""

CONTACT_TOLERANCE = 1e-3
"""Share of its depth by which an object may lie behind the surroundings and still be seen: depth buffers are not exact."""


class PictureRenderer:
    """A renderer whose layers are cut out of a painter's pictures.

    Objects of a scene whose projected boxes do not touch share a picture, which is no larger than holds them (so its principal
    point may lie anywhere, also outside of it), and all pictures of a call are asked for at once.  A
    painter whose objects light or shade each other at a distance draws true layers only with ``packed=False``.

    Threads may share a renderer: its painter draws for one after the other.

    A painter may have an attribute ``has_surroundings``: True says that it draws fixed surroundings where a shot asks for them.
    Layers are then empty where the surroundings are nearer; ``with_surroundings`` puts their picture behind the objects.
    """

    is_differentiable = False
    draws_whole_images = False
    """Whether images show more than their layers do, so that finite differences must be those of images."""

    def __init__(
        self,
        painter: Painter,
        catalogue: Catalogue,
        samples_per_axis: int = 2,
        name: str | None = None,
        packed: bool = True,
    ) -> None:
        """Remember the painter.

        Args:
            painter: draws the pictures.
            catalogue: meshes that class ids refer to, the same that the painter draws.
            samples_per_axis: antialiasing; pictures are this many times as wide and high as images.
            name: what users call the renderer; the painter's name where None.
            packed: whether objects share pictures; False draws each in a picture of its own.

        Raises:
            ValueError: samples_per_axis below 1, or a catalogue without meshes or with one that has no vertices.
        """
        check_samples(samples_per_axis)
        if not all(len(mesh.vertices_m) for mesh in catalogue.meshes) or len(catalogue) == 0:
            raise ValueError(
                f"catalogue: expected at least one mesh, each with vertices, got {len(catalogue)} meshes with "
                f"{[len(mesh.vertices_m) for mesh in catalogue.meshes]} vertices; load or build the meshes"
            )
        self.name = painter.name if name is None else name
        self.catalogue = catalogue
        self.samples_per_axis = samples_per_axis
        self.painter = painter
        self.packed = packed
        self.has_surroundings: bool = getattr(painter, "has_surroundings", False)
        self._corners_m = bounding_corners(catalogue)
        self._lock = threading.Lock()
        self._surroundings = SurroundingsCache(lambda shots: list(self._draw(shots)))

    def layers(self, objects: Objects, view: View, samples_per_axis: int | None = None) -> Layers:
        """Draw each object alone; see ``protocols.Renderer``.  Float32, carries no gradient.

        Raises:
            ValueError: shapes that do not fit together, class ids out of range, or poses or cameras that are not finite.
            PainterError: the painter gave back what cannot be used.
        """
        samples = self.samples_per_axis if samples_per_axis is None else samples_per_axis
        check_samples(samples)
        batch = self._check(objects, view)
        scenes = scene_arrays(objects, view, samples)
        size = (*scenes.present.shape, scenes.height_px, scenes.width_px)
        rgb, alpha = np.zeros((*size, 3), np.float32), np.zeros(size, np.float32)
        depth_m = np.full(size, np.inf, np.float32)
        boxes = projected_boxes(scenes, self._corners_m)
        shared = [(scene, slots) for scene, own in enumerate(boxes) for slots in self._groups(own)]
        limits_m = self._surroundings_depth(scenes)
        frames = [frame_of(boxes[scene, slots], scenes.width_px, scenes.height_px) for scene, slots in shared]
        # those of one size after each other
        order = sorted(range(len(frames)), key=lambda i: (frames[i][3] - frames[i][1], frames[i][2] - frames[i][0]))
        shots = [scenes.shot_of_slots(*shared[i], frames[i]) for i in order]
        for i, picture in zip(order, self._draw(shots), strict=True):
            (scene, slots), frame = shared[i], frames[i]
            for slot in slots:
                box = boxes[scene, slot]
                place = (scene, slot, slice(box[1], box[3]), slice(box[0], box[2]))
                limit_m = limits_m[scene]
                limit_m = None if limit_m is None else limit_m[place[2:]]
                _cut(picture, limit_m, box - [*frame[:2], *frame[:2]], (rgb[place], alpha[place], depth_m[place]))
        slots = (*batch, objects.present.shape[-1])
        out = [torch.from_numpy(x).reshape(*slots, *x.shape[2:]).to(objects.T_world_object.device) for x in (rgb, alpha, depth_m)]
        return Layers(out[0], out[1], out[2], samples)

    def render(self, objects: Objects, view: View) -> RenderOutput:
        """Draw the scene: layers merged by depth over the background; see ``Renderer.render``."""
        return render_layers(self, objects, view)

    def with_surroundings(self, view: View) -> View:
        """The view with the painter's surroundings, if it has any, in front of its background.

        Returns:
            The view with ``background_rgb`` [*b h w 3] the box-filtered picture of the surroundings, and the view's own
            background where there are none.
        """
        if not self.has_surroundings:
            return view
        batch = view.background_rgb.shape[:-3]
        none = Objects(
            torch.zeros(*batch, 0, dtype=torch.int64), torch.zeros(*batch, 0, 4, 4), torch.zeros(*batch, 0, dtype=torch.bool)
        )
        check_shapes(none, view)
        check_camera(view)
        scenes = scene_arrays(none, view, self.samples_per_axis)
        backgrounds = _flat(view.background_rgb, 3)
        images = [
            _over(picture, background, self.samples_per_axis)
            for picture, background in zip(self._draw_surroundings(scenes), backgrounds, strict=True)
        ]
        background_rgb = torch.stack(images).reshape(view.background_rgb.shape) if images else backgrounds
        return dataclasses.replace(view, background_rgb=background_rgb.to(view.background_rgb))

    def _check(self, objects: Objects, view: View) -> tuple[int, ...]:
        """Batch shape of what can be drawn; ValueError otherwise."""
        batch = check_shapes(objects, view)
        check_camera(view)
        check_objects("", objects, self.catalogue)
        return batch

    def _groups(self, boxes: Int[np.ndarray, "n 4"]) -> list[list[int]]:
        """Slots of each picture of a scene."""
        if self.packed:
            return pack(boxes)
        return [[slot] for slot in np.flatnonzero(boxes[:, 2] > boxes[:, 0]).tolist()]

    def _draw(self, shots: list[Shot]) -> Iterator[Picture]:
        """Checked pictures in order, as many at once as memory allows; the painter is never asked by two threads at once."""
        if not shots:
            return
        at_once = max(1, MAX_PICTURE_BYTES // (BYTES_PER_SAMPLE * shots[0].width_px * shots[0].height_px))
        for first in range(0, len(shots), at_once):
            part = shots[first : first + at_once]
            with self._lock:
                pictures = self.painter.draw(part)
            yield from check_pictures(self.painter.name, pictures, part)

    def _draw_surroundings(self, scenes: SceneArrays) -> list[Picture]:
        """The surroundings alone as each scene's camera sees them."""
        nothing, nowhere = np.zeros(0, np.int64), np.zeros((0, 4, 4))
        return self._surroundings.pictures([scenes.shot(i, nothing, nowhere, True) for i in range(len(scenes.present))])

    def _surroundings_depth(self, scenes: SceneArrays) -> list[np.ndarray | None]:
        """Depth [hs ws] behind which each scene's objects are hidden, +inf where there is nothing; None for no surroundings."""
        if not self.has_surroundings:
            return [None] * len(scenes.present)
        depths_m = [picture.depth_m for picture in self._draw_surroundings(scenes)]
        return [np.where(depth_m > 0, depth_m * (1 + CONTACT_TOLERANCE), np.inf) for depth_m in depths_m]


class WholePictureRenderer(PictureRenderer):
    """A renderer whose images are pictures of whole scenes, with shadows and interreflections between objects.

    ``layers`` are those of ``PictureRenderer``; depth, ids and visible fractions come from them.  An image of n objects costs a
    picture, the prefixes n, and the a alternatives of every slot up to a n (n + 1) / 2.  Surroundings are part of the pictures.
    """

    draws_whole_images = True

    def render(self, objects: Objects, view: View) -> RenderOutput:
        """Draw the scene in one picture; depth, ids and visible fractions from the layers at the pixels' centres."""
        return add_geometry(self, objects, view, self.images(objects, view))

    def images(self, objects: Objects, view: View) -> Float[Tensor, "*b h w 3"]:
        """Whole scenes, see ``protocols.ImageRenderer``."""
        return self._prefixes(objects, view, objects.present.shape[-1])[..., 0, :, :, :]

    def prefix_images(self, objects: Objects, view: View) -> Float[Tensor, "*b n_plus_1 h w 3"]:
        """Pictures of the first 0, 1, ..., n objects; see ``compositing.prefix_images``.  No gradient."""
        return self._prefixes(objects, view, 0)

    def swap_errors(
        self, objects: Objects, alternatives: Objects, view: View, target_rgb: Float[Tensor, "*b h w 3"]
    ) -> Float[Tensor, "*b n a n_plus_1"]:
        """Squared error of each prefix picture with one slot's object replaced; see ``compositing.swap_errors``.  No gradient."""
        batch = self._check(objects, view)
        check_alternatives((*batch, objects.present.shape[-1]), alternatives, view, target_rgb)
        check_objects("alternatives.", alternatives, self.catalogue)
        scenes = scene_arrays(objects, view, self.samples_per_axis)
        ids, T, present = _alternative_arrays(alternatives, scenes.present.shape)
        wanted = _Distinct(scenes, self.has_surroundings)
        index = np.full((*present.shape, scenes.present.shape[1] + 1), -1)
        for scene, k, a in np.ndindex(*present.shape):
            swapped = scenes.class_ids[scene].copy(), scenes.T_world_object[scene].copy(), scenes.present[scene].copy()
            swapped[0][k], swapped[1][k], swapped[2][k] = ids[scene, k, a], T[scene, k, a], present[scene, k, a]
            for m in range(k + 1, index.shape[-1]):
                index[scene, k, a, m] = wanted.add(scene, *(x[:m] for x in swapped))
        targets = _flat(target_rgb, 3)
        images = self._images(wanted, view)
        errors = [(image - targets[scene]).square().sum() for scene, image in zip(wanted.scenes, images, strict=True)]
        table = torch.stack([*errors, torch.zeros(())])
        return table[torch.from_numpy(index)].reshape(*batch, *index.shape[1:]).to(objects.T_world_object.device)

    def _prefixes(self, objects: Objects, view: View, first: int) -> Float[Tensor, "*b m h w 3"]:
        """Pictures of the first ``first``, ..., n objects."""
        batch = self._check(objects, view)
        scenes = scene_arrays(objects, view, self.samples_per_axis)
        wanted = _Distinct(scenes, self.has_surroundings)
        counts = range(first, scenes.present.shape[1] + 1)
        arrays = (scenes.class_ids, scenes.T_world_object, scenes.present)
        index = [[wanted.add(scene, *(x[scene, :m] for x in arrays)) for m in counts] for scene in range(len(scenes.present))]
        height, width = view.camera.height_px, view.camera.width_px
        images = [torch.zeros(0, height, width, 3), *(image[None] for image in self._images(wanted, view))]
        chosen = torch.cat(images)[torch.tensor(index, dtype=torch.int64).reshape(-1)]
        return chosen.reshape(*batch, len(counts), height, width, 3).to(objects.T_world_object.device)

    def _images(self, wanted: _Distinct, view: View) -> Iterator[Float[Tensor, "h w 3"]]:
        """The pictures over the views' backgrounds; what shows nothing is not drawn."""
        backgrounds = _flat(view.background_rgb, 3)
        pictures = self._draw([shot for shot in wanted.shots if len(shot.class_ids) or shot.surroundings])
        for scene, shot in zip(wanted.scenes, wanted.shots, strict=True):
            if len(shot.class_ids) or shot.surroundings:
                yield _over(next(pictures), backgrounds[scene], self.samples_per_axis)
            else:
                yield backgrounds[scene]


class _Distinct:
    """Shots of whole scenes, equal ones once."""

    def __init__(self, scenes: SceneArrays, surroundings: bool) -> None:
        self.shots: list[Shot] = []
        self.scenes: list[int] = []
        self._arrays = scenes
        self._surroundings = surroundings
        self._places: dict[tuple[int, bytes, bytes], int] = {}

    def add(
        self,
        scene: int,
        class_ids: Int[np.ndarray, "n"],
        T_world_object: Float[np.ndarray, "n 4 4"],
        present: np.ndarray,
    ) -> int:
        """Ask for the picture of the objects present; returns its number."""
        ids, T = class_ids[present], T_world_object[present]
        key = (scene, ids.tobytes(), T.tobytes())
        if key not in self._places:
            self._places[key] = len(self.shots)
            self.shots.append(self._arrays.shot(scene, ids, T, self._surroundings))
            self.scenes.append(scene)
        return self._places[key]


def _cut(
    picture: Picture,
    limit_m: np.ndarray | None,
    box: Int[np.ndarray, "4"],
    out: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    """Copy what a picture shows in a box (x0, y0, x1, y1), nearer than a limit, into a layer's rgb, alpha and depth there."""
    rgb, alpha, depth_m = out
    place = slice(box[1], box[3]), slice(box[0], box[2])
    seen_m = picture.depth_m[place]
    hit = seen_m > 0
    if limit_m is not None:
        hit &= seen_m <= limit_m
    rgb[hit] = np.clip(picture.rgb[place][hit], 0, 1)
    alpha[hit] = 1
    depth_m[hit] = seen_m[hit]


def _over(picture: Picture, background_rgb: Float[Tensor, "h w 3"], samples: int) -> Float[Tensor, "h w 3"]:
    """A picture over a background, box-filtered."""
    rgb = torch.from_numpy(np.clip(picture.rgb, 0, 1).astype(np.float32))
    drawn = torch.from_numpy(picture.depth_m > 0)[..., None]
    return box_filter(torch.where(drawn, rgb, upsample(background_rgb, samples)), samples)


def _flat(tensor: Tensor, dims: int) -> Float[Tensor, "..."]:
    """One batch dimension before the last ``dims``, float32 on the CPU."""
    return tensor.detach().cpu().float().reshape(-1, *tensor.shape[tensor.dim() - dims :])


def _alternative_arrays(alternatives: Objects, slots: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Class ids [b n a], poses [b n a 4 4] and presence [b n a] of alternatives for b x n slots."""
    count = alternatives.class_ids.shape[-1]
    present = alternatives.present.cpu().numpy().reshape(*slots, count)
    T = alternatives.T_world_object.detach().cpu().numpy().astype(np.float64).reshape(*slots, count, 4, 4)
    class_ids = alternatives.class_ids.cpu().numpy().astype(np.int64).reshape(*slots, count)
    return class_ids, np.where(present[..., None, None], T, np.eye(4)), present
