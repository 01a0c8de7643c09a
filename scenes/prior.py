"""The scene prior: count, classes and poses of objects that do not touch, and how they are looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt64
from torch import Tensor

from inverse_graphics.types import Catalogue, Objects, Scene, View
from scenes.config import SceneConfig
from scenes.footprints import footprints
from scenes.numbering import check_seed, counters, refresh_kernels
from scenes.placement_kernels import OBJECT_TRIES, SCENE_TRIES, place_scenes
from scenes.views import nominal_view, sample_views


@dataclass(frozen=True)
class TableLatents:
    """Upright objects by the numbers that vary."""

    class_ids: Int[Tensor, "*b n"]
    """Index into the catalogue, 0 in absent slots."""
    xy_m: Float[Tensor, "*b n 2"]
    """Position of the object's origin on the table, 0 in absent slots."""
    yaw_rad: Float[Tensor, "*b n"]
    """Rotation about world z, in (-pi, pi], 0 in absent slots."""
    count: Int[Tensor, "*b"]
    """Number of objects; they fill the first slots."""


@dataclass(frozen=True)
class LogPrior:
    """Terms of the log density of scenes, before the rejection of those that collide or hide; -inf outside the support."""

    count: Float[Tensor, "*b"]
    """log P(count)."""
    class_id: Float[Tensor, "*b n"]
    """log P(class) of each object, 0 in absent slots."""
    position: Float[Tensor, "*b n"]
    """Log density of an object's position given its class, per m^2 or m^3 (ranges of no width left out), 0 in absent slots."""
    rotation: Float[Tensor, "*b n"]
    """Log density of the yaw per radian (upright), or of the rotation, 0 for the uniform measure on SO(3) (free)."""

    @property
    def total(self) -> Float[Tensor, "*b"]:
        """Sum of the terms."""
        return self.count + (self.class_id + self.position + self.rotation).sum(-1)


def table_latents(objects: Objects) -> TableLatents:
    """The position and yaw of upright objects."""
    T_world_object = objects.T_world_object
    yaw_rad = torch.atan2(T_world_object[..., 1, 0], T_world_object[..., 0, 0])
    return TableLatents(objects.class_ids, T_world_object[..., :2, 3], yaw_rad, objects.count)


class ScenePrior:
    """Draws scenes of a config; scene i of a seed is the same in every batch and every call.

    Attributes:
        config: the family of scenes.
        catalogue: meshes that class ids refer to; may hold more than the config's classes.
        class_ids: [k] catalogue ids of the config's classes.
        max_count: number of slots.
        view: the view without jitter, no batch dimensions.
    """

    def __init__(self, config: SceneConfig, catalogue: Catalogue) -> None:
        """Look the classes up and measure their footprints.

        Raises:
            ValueError: a class is not in the catalogue, or is larger than the area.
        """
        unknown = [name for name in config.classes if name not in catalogue.names]
        if unknown:
            raise ValueError(
                f"classes: expected names of the catalogue ({', '.join(catalogue.names)}), received {', '.join(unknown)}; "
                "correct the config's classes or load a catalogue that has them."
            )
        refresh_kernels()
        self.config, self.catalogue = config, catalogue
        self.max_count = config.objects.max_count
        self.class_ids = torch.tensor([catalogue.names.index(name) for name in config.classes])
        self.view: View = nominal_view(config)
        self._free = config.objects.placement == "free"
        shapes = footprints(tuple(catalogue.meshes[i] for i in self.class_ids), upright=not self._free)
        self._shapes = (
            shapes.corners_m,
            shapes.corner_counts,
            shapes.radii_m,
            shapes.sphere_centres_m,
            shapes.sphere_radii_m,
        )
        self._ranges = self._class_ranges(shapes.reaches_m)

    def sample(self, seed: int, indices: Sequence[int] | Tensor, attempts: Sequence[int] | Tensor | int = 0) -> Scene:
        """Draw scenes.

        Args:
            seed: 0..2^63 - 1; different seeds give unrelated scenes.
            indices: [b] numbers of the scenes, at least 0, in any order.
            attempts: which placement of each scene (count, classes and view stay): one number or [b].

        Returns:
            [b] scenes on the CPU, float32; present objects fill the first slots in the order they were placed; absent slots have
            class 0 and the identity.

        Raises:
            ValueError: an index, attempt or seed is negative; or the objects of a scene do not fit on the table.
        """
        index_array = counters(indices, items="scenes")
        attempt_array = counters([attempts] if isinstance(attempts, int) else attempts, "attempts", "scenes")
        attempt_array = np.broadcast_to(attempt_array, index_array.shape).copy()
        check_seed(seed)
        objects = self._place(seed, index_array, attempt_array)
        return Scene(objects, sample_views(self.config, seed, index_array))

    def log_prob(self, objects: Objects) -> LogPrior:
        """Log density of scenes, term by term, for any batch dimensions.

        Args:
            objects: [*b n] objects, present ones in any slots; upright ones must stand on the table.

        Returns:
            Terms in the dtype of the poses.  They carry no gradient: every density is uniform.  Collisions and hidden objects are
            not looked at, so that this is the density of what ``sample`` proposes.
        """
        T_world_object = objects.T_world_object.detach()
        return LogPrior(
            self._log_count(objects.count, T_world_object.dtype),
            self._log_class(objects),
            self._log_position(T_world_object[..., :3, 3], objects),
            self._log_rotation(T_world_object[..., :3, :3], objects.present),
        )

    def _class_ranges(self, reaches_m: Float[np.ndarray, "k"]) -> Float[np.ndarray, "k 4 2"]:
        """Ranges of x, y, z in metres and of yaw in radians of each class."""
        objects = self.config.objects
        yaw = (math.radians(objects.yaw_range_deg[0]), math.radians(objects.yaw_range_deg[1]))
        ranges = np.array([[objects.x_range_m, objects.y_range_m, objects.z_range_m, yaw]] * len(reaches_m))
        if objects.keep_inside:
            axes = 3 if self._free else 2
            ranges[:, :axes, 0] += reaches_m[:, None]
            ranges[:, :axes, 1] -= reaches_m[:, None]
        tight = (ranges[:, :3, 0] > ranges[:, :3, 1]).any(1)
        if tight.any():
            worst = int(np.argmax(tight))
            raise ValueError(
                f"objects: expected an area that holds every class whole, received {self.config.classes[worst]!r} that reaches "
                f"{reaches_m[worst]:.3f} m in x {objects.x_range_m}, y {objects.y_range_m}, z {objects.z_range_m} m; widen the "
                "ranges, or set objects.keep_inside to false."
            )
        return ranges

    def _place(self, seed: int, indices: UInt64[np.ndarray, "b"], attempts: UInt64[np.ndarray, "b"]) -> Objects:
        cumulative = np.cumsum(self.config.objects.probabilities)
        batch, slots = len(indices), self.max_count
        class_ids = np.zeros((batch, slots), dtype=np.int64)
        present, failed = np.zeros((batch, slots), dtype=np.bool_), np.zeros(batch, dtype=np.bool_)
        poses = np.broadcast_to(np.eye(4), (batch, slots, 4, 4)).copy()
        place_scenes(
            np.uint64(seed),
            indices,
            attempts,
            self._free,
            cumulative / cumulative[-1],
            self._ranges,
            self.config.objects.clearance_m,
            self._shapes,
            class_ids,
            present,
            poses,
            failed,
        )
        self._check_placed(indices, class_ids, present, failed)
        present_tensor = torch.from_numpy(present)
        catalogue_ids = torch.where(present_tensor, self.class_ids[torch.from_numpy(class_ids)], 0)
        return Objects(catalogue_ids, torch.from_numpy(poses.astype(np.float32)), present_tensor)

    def _check_placed(
        self,
        indices: UInt64[np.ndarray, "b"],
        class_ids: Int[np.ndarray, "b n"],
        present: Bool[np.ndarray, "b n"],
        failed: Bool[np.ndarray, "b"],
    ) -> None:
        if not failed.any():
            return
        first = int(np.flatnonzero(failed)[0])
        names = ", ".join(self.config.classes[i] for i in class_ids[first][present[first]])
        raise ValueError(
            f"objects: expected room for every object, received {int(failed.sum())} of {len(indices)} scenes that could not be "
            f"laid out in {SCENE_TRIES} layouts of {OBJECT_TRIES} tries an object (scene {int(indices[first])}: {names}); widen "
            "objects.x_range_m and y_range_m, or lower objects.max_count or objects.clearance_m."
        )

    def _log_count(self, count: Int[Tensor, "*b"], dtype: torch.dtype) -> Float[Tensor, "*b"]:
        table = torch.tensor(self.config.objects.probabilities, dtype=dtype, device=count.device).log()
        beyond = count > self.max_count
        return torch.where(beyond, -torch.inf, table[count.clamp(max=self.max_count)])

    def _log_class(self, objects: Objects) -> Float[Tensor, "*b n"]:
        known = torch.isin(objects.class_ids, self.class_ids.to(objects.class_ids.device))
        value = objects.T_world_object.new_tensor(-math.log(len(self.class_ids)))
        return torch.where(objects.present, torch.where(known, value, -torch.inf), 0.0)

    def _log_position(self, xyz_m: Float[Tensor, "*b n 3"], objects: Objects) -> Float[Tensor, "*b n"]:
        own = objects.class_ids[..., None] == self.class_ids.to(xyz_m.device)
        ranges = xyz_m.new_tensor(self._ranges[:, :3])[own.to(torch.uint8).argmax(-1)]
        width = ranges[..., 1] - ranges[..., 0]
        inside = ((xyz_m >= ranges[..., 0] - 1e-6) & (xyz_m <= ranges[..., 1] + 1e-6)).all(-1)
        value = -torch.where(width > 0, width, torch.ones_like(width)).log().sum(-1)
        return torch.where(objects.present, torch.where(inside, value, -torch.inf), 0.0)

    def _log_rotation(self, R: Float[Tensor, "*b n 3 3"], present: Bool[Tensor, "*b n"]) -> Float[Tensor, "*b n"]:
        if self._free:
            return torch.zeros_like(R[..., 0, 0])
        low, high = self._ranges[0, 3]
        upright = R[..., 2, 2] > 1 - 1e-5
        turned = torch.remainder(torch.atan2(R[..., 1, 0], R[..., 0, 0]) - low + 1e-5, 2 * math.pi)
        inside = upright & (turned <= high - low + 2e-5)
        value = R.new_tensor(-math.log(high - low) if high > low else 0.0)
        return torch.where(present, torch.where(inside, value, -torch.inf), 0.0)
