"""What passes between the stages: frozen dataclasses of tensors, one for each noun.

Every tensor may carry any leading batch dimensions, written ``*b``.  Lengths are in metres, angles in radians, colours are
linear RGB in 0..1.  Transforms are named ``T_<to>_<from>``.  See docs/conventions.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class Symmetry:
    """The rigid motions that leave an object looking the same, in BOP's terms."""

    discrete: Float[np.ndarray, "s 4 4"] = dataclasses.field(default_factory=lambda: np.zeros((0, 4, 4)))
    """Transforms of the object frame other than the identity (metres)."""
    continuous_axes: Float[np.ndarray, "c 3"] = dataclasses.field(default_factory=lambda: np.zeros((0, 3)))
    """Unit axes about which any rotation is a symmetry (object frame)."""
    continuous_offsets_m: Float[np.ndarray, "c 3"] = dataclasses.field(default_factory=lambda: np.zeros((0, 3)))
    """A point on each of those axes (object frame)."""


@dataclass(frozen=True)
class Texture:
    """An image on a mesh; it multiplies the corner colours.

    Sampled bilinearly, texel centres at half numbers, repeated beyond 0..1.
    """

    corner_uv: Float[np.ndarray, "f 3 2"]
    """Texture coordinates at each corner of each face, (0, 0) at the lower left of the image, float32."""
    rgb: Float[np.ndarray, "h w 3"]
    """Linear colours, top row first, float32."""


@dataclass(frozen=True)
class Mesh:
    """A triangle mesh in its object frame: z up, base on z = 0 for table-top objects, counter-clockwise seen from outside."""

    name: str
    """Name of the class, unique in a catalogue."""
    vertices_m: Float[np.ndarray, "v 3"]
    """Vertex positions, float32."""
    faces: Int[np.ndarray, "f 3"]
    """Vertex indices, int32."""
    corner_rgb: Float[np.ndarray, "f 3 3"]
    """Linear colour at each corner of each face (face and vertex colours are special cases), float32."""
    corner_normals: Float[np.ndarray, "f 3 3"]
    """Unit shading normal at each corner of each face (flat and smooth shading are special cases), float32."""
    symmetry: Symmetry = Symmetry()
    """Symmetries of shape and colour together."""
    watertight: bool = False
    """Whether the surface is closed, so that back faces are never seen and may be culled."""
    texture: Texture | None = None
    """An image that multiplies the corner colours; None where they say it all."""


@dataclass(frozen=True)
class Catalogue:
    """The known meshes; a class id is an index into ``meshes``."""

    meshes: tuple[Mesh, ...]
    """One mesh a class."""

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in the order of their ids."""
        return tuple(mesh.name for mesh in self.meshes)

    def __len__(self) -> int:
        return len(self.meshes)


@dataclass(frozen=True)
class Camera:
    """Pinhole cameras in OpenCV's frame: +X right, +Y down, +Z forward; pixel (0, 0) covers [0, 1) x [0, 1)."""

    K_px: Float[Tensor, "*b 3 3"]
    """Intrinsic matrix [[fx, 0, cx], [0, fy, cy], [0, 0, 1]] in pixels."""
    T_camera_world: Float[Tensor, "*b 4 4"]
    """World to camera."""
    width_px: int
    """Image width."""
    height_px: int
    """Image height."""
    near_m: float = 0.01
    """What is nearer than this (z-depth) is clipped."""


@dataclass(frozen=True)
class Light:
    """One light and an ambient term: colour = albedo * (ambient + diffuse * max(0, n . direction)).

    The light is far away, or at ``position_world``: then the direction is that from the surface point to it, and its intensity
    does not fall off.  The normal n of a face that is seen from behind is turned round, so open meshes are lit on both sides.
    """

    direction_world: Float[Tensor, "*b 3"]
    """Unit vector from the scene towards the light."""
    ambient: Float[Tensor, "*b"]
    """Ambient intensity, at least 0; ambient + diffuse at most 1, so that no colour is clipped."""
    diffuse: Float[Tensor, "*b"]
    """Diffuse intensity, at least 0."""
    position_world: Float[Tensor, "*b 3"] | None = None
    """Where a near light stands, in metres; None for a light that is far away.  ``direction_world`` is not used with it."""


@dataclass(frozen=True)
class View:
    """All that an image shows but the objects: camera, light and background."""

    camera: Camera
    """Where the image is taken from."""
    light: Light
    """How it is lit."""
    background_rgb: Float[Tensor, "*b h w 3"]
    """What is seen where there is no object (may be an expanded view of one colour)."""


@dataclass(frozen=True)
class Objects:
    """Up to n posed instances of catalogue meshes a scene."""

    class_ids: Int[Tensor, "*b n"]
    """Index into the catalogue; also valid (any class) where nothing is present."""
    T_world_object: Float[Tensor, "*b n 4 4"]
    """Object to world, rigid."""
    present: Bool[Tensor, "*b n"]
    """Which slots hold an object."""

    @property
    def count(self) -> Int[Tensor, "*b"]:
        """Number of objects present."""
        return self.present.sum(-1)


@dataclass(frozen=True)
class Scene:
    """Objects and how they are looked at."""

    objects: Objects
    """What stands where."""
    view: View
    """Camera, light, background."""


@dataclass(frozen=True)
class Layers:
    """Each object drawn alone, on a grid of ``samples_per_axis`` x ``samples_per_axis`` samples a pixel."""

    rgb: Float[Tensor, "*b n hs ws 3"]
    """Shaded colour times alpha (premultiplied)."""
    alpha: Float[Tensor, "*b n hs ws"]
    """Coverage: 0 or 1 from hard renderers, between from soft ones; 0 for absent objects."""
    depth_m: Float[Tensor, "*b n hs ws"]
    """z-depth, +inf where alpha is 0 (layers that carry gradients may continue it a little past the border).  No gradient."""
    samples_per_axis: int
    """hs = h * samples_per_axis, ws = w * samples_per_axis."""


@dataclass(frozen=True)
class RenderOutput:
    """An image of a scene."""

    rgb: Float[Tensor, "*b h w 3"]
    """Linear colour, antialiased by a box filter over the samples of a pixel."""
    depth_m: Float[Tensor, "*b h w"]
    """z-depth at the pixel's centre, 0 where there is no object (as in BOP and depth cameras)."""
    object_ids: Int[Tensor, "*b h w"]
    """Slot whose object is seen at the pixel's centre, -1 where there is none."""
    visible_fraction: Float[Tensor, "*b n"]
    """Share of an object's pixels in the image that nothing else hides; 0 for objects without pixels."""


def map_tensors(function: Callable[[Tensor], Tensor], value: T) -> T:
    """Apply a function to every tensor of a (nested) dataclass; other fields stay as they are.

    Args:
        function: maps one tensor to another, for example ``lambda x: x[:8]`` or ``lambda x: x.to(device)``.
        value: a tensor, a dataclass of tensors and dataclasses, or anything else (returned unchanged).
    """
    if isinstance(value, Tensor):
        return function(value)  # type: ignore[return-value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changes: dict[str, Any] = {f.name: map_tensors(function, getattr(value, f.name)) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **changes)
    return value


def stack_tensors(values: list[T], dim: int = 0) -> T:
    """Concatenate dataclasses of tensors along a batch dimension; the other fields are those of the first."""
    first = values[0]
    if isinstance(first, Tensor):
        return torch.cat(values, dim)  # type: ignore[arg-type, return-value]
    if dataclasses.is_dataclass(first) and not isinstance(first, type):
        changes = {f.name: stack_tensors([getattr(v, f.name) for v in values], dim) for f in dataclasses.fields(first)}
        return dataclasses.replace(first, **changes)
    return first


def where_tensors(mask: Bool[Tensor, "b"], chosen: T, other: T) -> T:
    """Take ``chosen`` where a mask over the first dimension holds, else ``other``; of dataclasses and tuples of tensors."""
    if isinstance(chosen, Tensor):
        assert isinstance(other, Tensor)
        return torch.where(mask.reshape(-1, *[1] * (chosen.dim() - 1)), chosen, other)  # type: ignore[return-value]
    if isinstance(chosen, tuple):
        assert isinstance(other, tuple)
        return tuple(where_tensors(mask, a, b) for a, b in zip(chosen, other, strict=True))  # type: ignore[return-value]
    if dataclasses.is_dataclass(chosen) and not isinstance(chosen, type):
        names = [f.name for f in dataclasses.fields(chosen)]
        changes = {name: where_tensors(mask, getattr(chosen, name), getattr(other, name)) for name in names}
        return dataclasses.replace(chosen, **changes)
    return chosen
