"""Backends that draw one picture at a time: what they are asked for (``Shot``) and what they give back (``Picture``).

A black box implements ``Painter`` and nothing else.  ``PictureRenderer`` makes a ``Renderer`` of it.  Nothing here is a
tensor, so that a painter may live in a process of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int


@dataclass(frozen=True)
class Shot:
    """One picture to draw: posed objects, a pinhole camera in OpenCV's frame, a light, and nothing else."""

    class_ids: Int[np.ndarray, "k"]
    """Index into the catalogue, int64."""
    T_world_object: Float[np.ndarray, "k 4 4"]
    """Object to world, rigid, float64."""
    T_camera_world: Float[np.ndarray, "4 4"]
    """World to camera (+X right, +Y down, +Z forward), float64."""
    K_px: Float[np.ndarray, "3 3"]
    """Intrinsics in pixels of this picture, float64; pixel (0, 0) covers [0, 1) x [0, 1)."""
    width_px: int
    """Width of the picture."""
    height_px: int
    """Height of the picture."""
    near_m: float
    """What is nearer than this (z-depth) is not drawn."""
    direction_world: Float[np.ndarray, "3"]
    """Unit vector from the scene towards a light that is far away."""
    position_world: Float[np.ndarray, "3"] | None
    """Where a near light stands; None for a light that is far away."""
    ambient: float
    """Ambient intensity: colour = albedo * (ambient + diffuse * max(0, n . direction)), see ``types.Light``."""
    diffuse: float
    """Diffuse intensity."""
    surroundings: bool = False
    """Whether the painter's fixed surroundings (a robot, a table), if it has any, are drawn too."""

    @property
    def T_camera_object(self) -> Float[np.ndarray, "k 4 4"]:
        """Object to camera."""
        return self.T_camera_world @ self.T_world_object


@dataclass(frozen=True)
class Picture:
    """What a painter drew."""

    rgb: Float[np.ndarray, "h w 3"]
    """Linear colour, float32 in 0..1; any finite value where nothing was drawn."""
    depth_m: Float[np.ndarray, "h w"]
    """z-depth, float32; 0 where nothing was drawn."""


@runtime_checkable
class Painter(Protocol):
    """A black box that draws pictures of a catalogue's meshes.

    A painter is made where it is used (in this process or in a worker's), by a function that takes no arguments and can be
    pickled, for example ``functools.partial(MujocoPainter, catalogue)``.
    """

    @property
    def name(self) -> str:
        """What users call it on the command line."""
        ...

    def draw(self, shots: list[Shot]) -> list[Picture]:
        """Draw pictures, one a shot."""
        ...
