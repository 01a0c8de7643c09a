"""What a scene may hold and how it is seen: the dataclasses behind ``scenes/*.yaml``.

World frame: z up, metres, the table is the plane z = 0.  Angles are in degrees here because people write these files; every
tensor made from them is in radians.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from inverse_graphics.config import FieldError, load_dataclass

Range = tuple[float, float]
Vector = tuple[float, float, float]


def _check_range(name: str, value: Range, low: float = -math.inf, high: float = math.inf) -> None:
    """Raise unless low <= value[0] <= value[1] <= high."""
    if not low <= value[0] <= value[1] <= high:
        raise FieldError(
            name, f"[low, high] with {low} <= low <= high <= {high}", value, "put the smaller number first, in range"
        )


def _check_between(name: str, value: float | int, low: float | int, high: float | int = math.inf) -> None:
    """Raise unless low <= value <= high."""
    if not low <= value <= high:
        raise FieldError(name, f"a number in {low}..{high}", value, "change it to lie in that range")


@dataclass(frozen=True)
class ObjectsConfig:
    """How many objects, and where they may be."""

    min_count: int = 0
    """Fewest objects in a scene."""
    max_count: int = 3
    """Most objects in a scene: the number of slots."""
    count_probabilities: tuple[float, ...] | None = None
    """Probability of min_count, min_count + 1, ..., max_count objects; uniform where null."""
    placement: Literal["upright", "free"] = "upright"
    """``upright``: standing on the table, x, y, yaw vary; ``free``: x, y, z and any rotation."""
    x_range_m: Range = (-0.3, 0.3)
    """Working area along world x."""
    y_range_m: Range = (-0.3, 0.3)
    """Working area along world y."""
    z_range_m: Range = (0.0, 0.0)
    """Working volume along world z; (0, 0) for upright objects."""
    keep_inside: bool = True
    """Whether whole objects stay in the area, at any rotation: origins keep the mesh's reach (its largest distance from the z
    axis, or from the origin where free) from the borders.  Otherwise only the origins lie in the area."""
    yaw_range_deg: Range = (-180.0, 180.0)
    """Rotation about world z of upright objects; ignored for free ones, whose rotation is uniform over SO(3)."""
    clearance_m: float = 0.01
    """Least gap between the convex footprints (upright) or bounding spheres (free) of two objects."""
    min_visible_fraction: float = 0.3
    """Scenes with an object that shows less than this share of its pixels, or has no pixel, are redrawn."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        _check_between("min_count", self.min_count, 0)
        _check_between("max_count", self.max_count, max(1, self.min_count))
        _check_range("x_range_m", self.x_range_m)
        _check_range("y_range_m", self.y_range_m)
        _check_range("z_range_m", self.z_range_m)
        if self.placement == "upright" and self.z_range_m != (0.0, 0.0):
            raise FieldError("z_range_m", "[0, 0] for upright objects, which stand on the table", self.z_range_m, "remove it")
        _check_range("yaw_range_deg", self.yaw_range_deg, -360.0, 360.0)
        if self.yaw_range_deg[1] - self.yaw_range_deg[0] > 360.0:
            raise FieldError("yaw_range_deg", "a range of at most 360 degrees", self.yaw_range_deg, "use [-180, 180] for any yaw")
        _check_between("clearance_m", self.clearance_m, 0.0)
        _check_between("min_visible_fraction", self.min_visible_fraction, 0.0, 1.0)
        if self.count_probabilities is not None:
            self._check_probabilities(self.count_probabilities)

    def _check_probabilities(self, probabilities: tuple[float, ...]) -> None:
        counts = self.max_count - self.min_count + 1
        if len(probabilities) != counts or min(probabilities) < 0 or abs(sum(probabilities) - 1) > 1e-6:
            raise FieldError(
                "count_probabilities",
                f"{counts} numbers >= 0 that sum to 1, for {self.min_count}..{self.max_count} objects",
                probabilities,
                "give one probability a count, or null for equal ones",
            )

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Probability of each count 0..max_count (0 below min_count)."""
        counts = self.max_count - self.min_count + 1
        return (0.0,) * self.min_count + (self.count_probabilities or (1.0 / counts,) * counts)


@dataclass(frozen=True)
class CameraConfig:
    """A pinhole camera that looks from an eye at a target; square pixels, principal point at the image's centre."""

    eye_world_m: Vector = (0.0, -0.739, 0.946)
    """Camera centre: by default 1.2 m from the middle of the table, 52 degrees above it."""
    target_world_m: Vector = (0.0, 0.05, 0.0)
    """Point in the middle of the image."""
    up_world: Vector = (0.0, 0.0, 1.0)
    """Direction that is upwards in the image; must not be parallel to the line of sight."""
    vertical_fov_deg: float | None = None
    """Full vertical field of view; give this or focal_px."""
    focal_px: float | None = None
    """Focal length in pixels; give this or vertical_fov_deg."""
    eye_jitter_m: Vector = (0.0, 0.0, 0.0)
    """Half-widths of the uniform jitter of the eye, along each world axis."""
    target_jitter_m: Vector = (0.0, 0.0, 0.0)
    """Half-widths of the uniform jitter of the target."""

    def __post_init__(self) -> None:
        """Check that the camera exists."""
        if (self.vertical_fov_deg is None) == (self.focal_px is None):
            raise FieldError("vertical_fov_deg", "either this or focal_px", self.vertical_fov_deg, "give exactly one of the two")
        if self.vertical_fov_deg is not None:
            _check_between("vertical_fov_deg", self.vertical_fov_deg, 1.0, 170.0)
        if self.focal_px is not None:
            _check_between("focal_px", self.focal_px, 1e-3)
        for name in ("eye_jitter_m", "target_jitter_m"):
            if min(getattr(self, name)) < 0:
                raise FieldError(name, "half-widths >= 0", getattr(self, name), "use positive numbers, or 0 for no jitter")
        if self.eye_world_m == self.target_world_m:
            raise FieldError("eye_world_m", "a point other than the target", self.eye_world_m, "move the eye away")

    def focal_length_px(self, height_px: int) -> float:
        """Focal length in pixels for an image of this height."""
        if self.focal_px is not None:
            return self.focal_px
        assert self.vertical_fov_deg is not None
        return 0.5 * height_px / math.tan(math.radians(self.vertical_fov_deg) / 2)


@dataclass(frozen=True)
class LightConfig:
    """One directional light and an ambient term."""

    azimuth_range_deg: Range = (-150.0, -100.0)
    """Direction towards the light, counter-clockwise from world +x seen from above, uniform."""
    elevation_range_deg: Range = (45.0, 65.0)
    """Angle of that direction above the table, uniform."""
    ambient: float = 0.35
    """Ambient intensity."""
    diffuse: float = 0.65
    """Intensity of the directional light."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        _check_range("azimuth_range_deg", self.azimuth_range_deg, -360.0, 360.0)
        _check_range("elevation_range_deg", self.elevation_range_deg, -90.0, 90.0)
        _check_between("ambient", self.ambient, 0.0, 1.0)
        _check_between("diffuse", self.diffuse, 0.0, 1.0)
        if self.ambient + self.diffuse > 1.0 + 1e-9:
            raise FieldError("diffuse", "ambient + diffuse <= 1", self.diffuse, "lower one of them, so that no colour is clipped")


@dataclass(frozen=True)
class BackgroundConfig:
    """What is seen where there is no object."""

    kind: Literal["plain", "checker"] = "plain"
    """``plain``: one colour; ``checker``: a chequered table (z = 0) in perspective, the plain colour above the horizon."""
    rgb: Vector = (0.40, 0.55, 0.68)
    """Linear colour."""
    second_rgb: Vector = (0.33, 0.47, 0.59)
    """Linear colour of the other squares."""
    square_m: float = 0.1
    """Side of a square; the world's origin is a corner."""
    jitter: float = 0.02
    """Half-width of the uniform jitter added to each channel (the same for both colours); clamped to 0..1."""

    def __post_init__(self) -> None:
        """Check the colours."""
        for name in ("rgb", "second_rgb"):
            value = getattr(self, name)
            if not all(0.0 <= channel <= 1.0 for channel in value):
                raise FieldError(name, "three linear channels in 0..1", value, "divide 8-bit colours by 255 and linearise them")
        _check_between("jitter", self.jitter, 0.0, 1.0)
        _check_between("square_m", self.square_m, 1e-3)


@dataclass(frozen=True)
class SceneConfig:
    """A family of scenes: which meshes, how many, where, and how they are looked at."""

    catalogue: str = "tabletop"
    """Name of a catalogue of ``assets``, or path of a catalogue's YAML file (relative to this config's folder)."""
    classes: tuple[str, ...] = ("mug", "bowl", "bottle", "box", "can", "pan")
    """Meshes of the catalogue that may appear, all equally likely."""
    image_size_px: tuple[int, int] = (64, 64)
    """Width and height."""
    samples_per_axis: int = 2
    """Antialiasing: this squared is the number of samples a pixel."""
    objects: ObjectsConfig = ObjectsConfig()
    """How many objects, and where."""
    camera: CameraConfig = CameraConfig(vertical_fov_deg=36.8)
    """Where the image is taken from."""
    light: LightConfig = LightConfig()
    """How it is lit."""
    background: BackgroundConfig = BackgroundConfig()
    """What is behind the objects."""

    def __post_init__(self) -> None:
        """Check the sizes and the names."""
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise FieldError("classes", "at least one class name, each once", self.classes, "list the meshes' names")
        if min(self.image_size_px) < 1:
            raise FieldError("image_size_px", "[width, height], each at least 1", self.image_size_px, "use for example [64, 64]")
        _check_between("samples_per_axis", self.samples_per_axis, 1, 64)


def load_scene_config(path: str | Path) -> SceneConfig:
    """Read a scene config; a catalogue given as a path is taken relative to the config's folder.

    The path comes back absolute: saved with a run, elsewhere, the config still means the same file.

    Raises:
        ConfigError: naming the file, the dotted key, what was expected, what was received and the remedy.
    """
    config = load_dataclass(SceneConfig, path)
    if not config.catalogue.endswith((".yaml", ".yml")):
        return config
    return dataclasses.replace(config, catalogue=str(Path(path).parent.absolute() / config.catalogue))
