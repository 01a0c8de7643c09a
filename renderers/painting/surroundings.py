"""Pictures of a painter's fixed surroundings (a robot, a table), drawn once a camera and kept."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from renderers.painting.shots import Picture, Shot

MAX_CACHE_BYTES = 2**27
"""Bound on what is kept between calls; the least recently used pictures go first."""


class SurroundingsCache:
    """Draws surroundings and keeps the pictures by camera and light; threads may share it."""

    def __init__(self, draw: Callable[[list[Shot]], list[Picture]], max_bytes: int = MAX_CACHE_BYTES) -> None:
        """Remember how to draw.

        Args:
            draw: draws checked pictures of shots.
            max_bytes: how much may be kept between calls.
        """
        self._draw = draw
        self._max_bytes = max_bytes
        self._kept: OrderedDict[bytes, Picture] = OrderedDict()
        self._lock = threading.Lock()

    def pictures(self, shots: list[Shot]) -> list[Picture]:
        """Pictures of shots without objects, in order; each distinct camera is drawn once."""
        with self._lock:
            return self._pictures(shots)

    def _pictures(self, shots: list[Shot]) -> list[Picture]:
        keys = [_key(shot) for shot in shots]
        missing = {key: shot for key, shot in zip(keys, shots, strict=True) if key not in self._kept}
        drawn = dict(zip(missing, self._draw(list(missing.values())), strict=True)) if missing else {}
        found = {key: drawn[key] if key in drawn else self._kept[key] for key in keys}
        for key, picture in found.items():
            self._kept[key] = picture
            self._kept.move_to_end(key)
        total = sum(_bytes(picture) for picture in self._kept.values())
        while total > self._max_bytes:
            total -= _bytes(self._kept.popitem(last=False)[1])
        return [found[key] for key in keys]


def _bytes(picture: Picture) -> int:
    return picture.rgb.nbytes + picture.depth_m.nbytes


def _key(shot: Shot) -> bytes:
    """All that a picture without objects depends on."""
    arrays = [shot.T_camera_world, shot.K_px, shot.direction_world]
    if shot.position_world is not None:
        arrays.append(shot.position_world)
    numbers = (shot.width_px, shot.height_px, shot.near_m, shot.ambient, shot.diffuse)
    return b"".join(array.tobytes() for array in arrays) + repr(numbers).encode()
