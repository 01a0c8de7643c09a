"""Mitsuba 3 as a painter: its ray caster with our light, or its path tracer with shadows and interreflections.

``lambert`` finds what each object shows at every pixel's centre by ray casting in the object's own frame, so that nothing is
built anew from shot to shot, and shades it with ``shading.shade``: colours are exactly those of ``types.Light``.

``path`` traces paths from the pixels' centres through the whole scene.  Surfaces are diffuse on both sides, the ambient term is
a uniform sky of that radiance, the light a directional or point emitter: unshadowed and without interreflection the mean colour
is that of ``types.Light``, for a near light at the distance of the world's origin, as it falls off with the square of distance.
What is brighter than 1 is clipped.  Random numbers are the same for every picture, pixel by pixel.

Both cast rays of our own, so no camera of Mitsuba's is used.

Mitsuba's variant is a global setting of the process.  It is set while a painter is made or draws and then set back, unless there
was none before.  Painters wait for each other; whoever uses Mitsuba in another thread meanwhile sees the painter's variant.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int

from inverse_graphics.types import Catalogue, Mesh
from renderers.mitsuba.scenes import (
    bare_mesh,
    coloured_mesh,
    import_mitsuba,
    is_scalar,
    lights,
    make_scene,
    use_variant,
    vertex_coloured,
)
from renderers.painting.shots import Picture, Shot
from renderers.shading import Fragments, Instances, check_textures, pack_meshes, shade

Lighting = Literal["lambert", "path"]

MAX_RAYS = 2**22
"""Rays cast at once; more are cast in several goes."""

MAX_SHADED = 2**20
"""Hits shaded at once, if all objects had as many as the one that has most."""

RUSSIAN_ROULETTE_DEPTH = 1000
"""Paths end at ``max_depth`` and never by chance, so that a small motion changes a picture little."""


class MitsubaPainter:
    """Draws with Mitsuba 3.  Use ``path`` with renderers of whole scenes: an object drawn alone is in nobody's shadow."""

    name = "mitsuba"

    def __init__(
        self,
        catalogue: Catalogue,
        lighting: Lighting = "lambert",
        variant: str = "scalar_rgb",
        samples: int = 32,
        max_depth: int = 4,
    ) -> None:
        """Load the meshes.

        Args:
            catalogue: meshes that class ids refer to.
            lighting: "lambert" for the light of ``types.Light``, "path" for path tracing.
            variant: Mitsuba's name of how it computes, an RGB one: "scalar_rgb" needs nothing else and runs on one core,
                "llvm_ad_rgb" needs LLVM and is faster, several times so with lambert, "cuda_ad_rgb" needs a GPU (never tried).
            samples: paths a pixel (path).
            max_depth: edges of a path from the camera on (path): 2 for direct light only, 4 for up to two interreflections.

        Raises:
            BackendMissingError: Mitsuba cannot be imported.
            OSError: what the variant needs cannot be loaded.
            ValueError: a setting is out of its range, or a texture cannot be looked up.
        """
        if lighting not in ("lambert", "path"):
            raise ValueError(f"MitsubaPainter: lighting must be 'lambert' or 'path', received {lighting!r}; choose one of them")
        if samples < 1 or max_depth < 2:
            raise ValueError(
                f"MitsubaPainter: samples must be at least 1 and max_depth at least 2, received {samples} and {max_depth}; "
                "32 and 4 are good starts"
            )
        check_textures(catalogue)
        self._mi = import_mitsuba(variant)
        self._variant = variant
        self._lighting: Lighting = lighting
        self._samples = samples
        with use_variant(self._mi, variant):
            if lighting == "path":
                material = vertex_coloured(self._mi)
                self._meshes = [coloured_mesh(self._mi, mesh, material) for mesh in catalogue.meshes]
                self._integrator = self._mi.load_dict(
                    {"type": "path", "max_depth": max_depth, "rr_depth": RUSSIAN_ROULETTE_DEPTH}
                )
                self._sampler = self._mi.load_dict({"type": "independent"})
            else:
                self._scenes = [make_scene(self._mi, {"mesh": bare_mesh(self._mi, mesh)}) for mesh in catalogue.meshes]
        self._corners_m = [_box_corners(mesh) for mesh in catalogue.meshes]
        self._packed = pack_meshes(catalogue, torch.device("cpu")) if len(catalogue) else None

    def draw(self, shots: list[Shot]) -> list[Picture]:
        """Draw pictures, one a shot; see ``Painter.draw``.

        Raises:
            ValueError: a near light at the world's origin (path).
        """
        with use_variant(self._mi, self._variant):
            if self._lighting == "path":
                return [self._trace(shot) for shot in shots]
            return self._cast_and_shade(shots)

    def _cast_and_shade(self, shots: list[Shot]) -> list[Picture]:
        """Objects of one class at a time, of all shots together; then the nearest of each pixel, shaded."""
        rays = [_object_rays(shot, k, self._corners_m[i]) for shot in shots for k, i in enumerate(shot.class_ids.tolist())]
        class_ids = np.concatenate([shot.class_ids for shot in shots]) if shots else np.zeros(0, np.int64)
        hits = [_Hits(0)] * len(rays)
        for class_id in np.unique(class_ids):
            members = np.flatnonzero(class_ids == class_id)
            origins, directions = (np.concatenate([rays[i][part] for i in members]) for part in (1, 2))
            found = _cast(self._mi, self._scenes[class_id], origins, directions)
            ends = np.cumsum([len(rays[i][0]) for i in members])
            for i, part in zip(members, np.split(np.arange(len(origins)), ends[:-1]), strict=True):
                hits[i] = found.take(part)
        seen, first = [], 0
        for shot in shots:
            last = first + len(shot.class_ids)
            seen.append(_nearest(shot, [ray[0] for ray in rays[first:last]], hits[first:last]))
            first = last
        return [picture for part in _batches(shots, seen) for picture in self._pictures(shots[part], seen[part])]

    def _pictures(self, shots: list[Shot], seen: list[_Seen]) -> list[Picture]:
        """What is seen, as pictures; shots with lights of one kind."""
        firsts = np.cumsum([0, *(len(shot.class_ids) for shot in shots)])
        owner = np.concatenate([first + part.owner for first, part in zip(firsts[:-1], seen, strict=True)])
        colours = self._shade(shots, owner, [part.hits for part in seen])
        ends = np.cumsum([len(part.pixel) for part in seen])
        pictures = []
        for shot, part, rgb_seen in zip(shots, seen, np.split(colours, ends[:-1]), strict=True):
            size = (shot.height_px, shot.width_px)
            rgb, depth_m = np.zeros((size[0] * size[1], 3), np.float32), np.zeros(size[0] * size[1], np.float32)
            # Rays start on the near plane and advance by one metre of depth for each unit of distance.
            rgb[part.pixel], depth_m[part.pixel] = rgb_seen, shot.near_m + part.hits.distance
            pictures.append(Picture(rgb.reshape(*size, 3), depth_m.reshape(size)))
        return pictures

    def _shade(self, shots: list[Shot], owner: Int[np.ndarray, "m"], hits: list[_Hits]) -> Float[np.ndarray, "m 3"]:
        """Colours by ``shading.shade``, each object's hits one row of an image of its own."""
        if self._packed is None or len(owner) == 0:
            return np.zeros((len(owner), 3), np.float32)
        instances = _instances(shots)
        objects = len(instances.class_ids)
        counts = np.bincount(owner, minlength=objects)
        order = np.argsort(owner, kind="stable")
        column = np.empty_like(owner)
        column[order] = np.arange(len(owner)) - np.repeat(counts.cumsum() - counts, counts)
        first_face = self._packed.face_range[instances.class_ids, 0].numpy()
        face = np.full((objects, 1, int(counts.max()), 1), -1)
        face[owner, 0, column, 0] = first_face[owner] + np.concatenate([hit.face for hit in hits])
        uv = np.concatenate([hit.uv for hit in hits])
        barycentric = np.zeros((*face.shape, 3), np.float32)
        barycentric[owner, 0, column, 0] = np.concatenate([1 - uv.sum(-1, keepdims=True), uv], -1)
        unused = torch.zeros(face.shape)  # shading needs neither depth nor distances to borders
        rgb = shade(self._packed, instances, Fragments(torch.from_numpy(face), unused, torch.from_numpy(barycentric), unused))
        return rgb.numpy()[owner, 0, column, 0]

    def _trace(self, shot: Shot) -> Picture:
        """One picture by path tracing, the scene in the camera's frame."""
        size = (shot.height_px, shot.width_px)
        rgb, depth_m = np.zeros((*size, 3), np.float32), np.zeros(size, np.float32)
        if len(shot.class_ids) == 0:
            return Picture(rgb, depth_m)
        mi, used = self._mi, np.unique(shot.class_ids)
        parts: dict[str, Any] = {f"class{i}": {"type": "shapegroup", "mesh": self._meshes[i]} for i in used}
        for k, (i, T) in enumerate(zip(shot.class_ids, shot.T_camera_object, strict=True)):
            to_world = mi.ScalarTransform4f(T.tolist())
            parts[f"object{k}"] = {"type": "instance", "group": {"type": "ref", "id": f"class{i}"}, "to_world": to_world}
        scene = make_scene(mi, {**parts, **lights(mi, shot)})
        through = _directions(shot, 0, 0, *size[::-1])
        lengths = np.linalg.norm(through, axis=-1, keepdims=True)
        origins, directions = through * np.float32(shot.near_m), through / lengths
        distance = _cast(mi, scene, origins, directions).distance.reshape(size)
        hit = np.isfinite(distance)
        depth_m[hit] = shot.near_m + (distance / lengths.reshape(size))[hit]
        rgb[hit] = np.clip(self._radiance(scene, origins, directions, hit.reshape(-1)).reshape(*size, 3)[hit], 0, 1)
        return Picture(rgb, depth_m)

    def _radiance(
        self, scene: Any, origins: Float[np.ndarray, "m 3"], directions: Float[np.ndarray, "m 3"], hit: np.ndarray
    ) -> Float[np.ndarray, "m 3"]:
        """Mean radiance over the paths along each ray; rays that hit nothing keep their random numbers to themselves."""
        mi, total = self._mi, np.zeros(origins.shape)
        if is_scalar(self._variant):
            for i in np.flatnonzero(hit).tolist():
                ray = mi.RayDifferential3f(origins[i].tolist(), directions[i].tolist())
                for sample in range(self._samples):
                    self._sampler.seed(i + sample * len(origins))
                    total[i] += np.array(self._integrator.sample(scene, self._sampler, ray)[0])
            return total / self._samples
        at_once = max(1, min(self._samples, MAX_RAYS // len(origins)))
        for first in range(0, self._samples, at_once):
            count = min(at_once, self._samples - first)
            self._sampler.seed(first, count * len(origins))
            o, d = (np.ascontiguousarray(np.tile(x, (count, 1)).T) for x in (origins, directions))
            ray = mi.RayDifferential3f(mi.Point3f(o), mi.Vector3f(d))
            active = mi.Bool(np.tile(hit, count))
            radiance = np.asarray(self._integrator.sample(scene, self._sampler, ray, active=active)[0])
            total += radiance.T.reshape(count, len(origins), 3).sum(0)
        return total / self._samples


class _Hits:
    """Where rays meet a scene first."""

    def __init__(self, count: int) -> None:
        self.distance = np.full(count, np.inf, np.float32)
        """[m] along the ray, +inf where there is nothing."""
        self.face = np.zeros(count, np.int64)
        """[m] index into the mesh's faces."""
        self.uv = np.zeros((count, 2), np.float32)
        """[m 2] weights of the face's second and third corner."""

    def take(self, index: np.ndarray) -> _Hits:
        """Some of the hits."""
        chosen = _Hits(0)
        chosen.distance, chosen.face, chosen.uv = self.distance[index], self.face[index], self.uv[index]
        return chosen

    def put(self, index: np.ndarray, hits: _Hits) -> None:
        """Overwrite some of the hits."""
        self.distance[index], self.face[index], self.uv[index] = hits.distance, hits.face, hits.uv


@dataclass(frozen=True)
class _Seen:
    """What a picture shows."""

    pixel: Int[np.ndarray, "m"]
    """Index into the picture's pixels, row by row."""
    owner: Int[np.ndarray, "m"]
    """Which of the shot's objects is seen there."""
    hits: _Hits
    """Where it is met."""


def _nearest(shot: Shot, pixels: list[Int[np.ndarray, "_"]], hits: list[_Hits]) -> _Seen:
    """The nearest object at each pixel where there is one."""
    size = shot.height_px * shot.width_px
    nearest, owner = _Hits(size), np.zeros(size, np.int64)
    for k, (pixel, hit) in enumerate(zip(pixels, hits, strict=True)):
        closer = hit.distance < nearest.distance[pixel]
        nearest.put(pixel[closer], hit.take(closer))
        owner[pixel[closer]] = k
    shown = np.flatnonzero(np.isfinite(nearest.distance))
    return _Seen(shown, owner[shown], nearest.take(shown))


def _batches(shots: list[Shot], seen: list[_Seen]) -> Iterator[slice]:
    """Consecutive shots to shade together: lights of one kind, and not too many hits for all objects to have as many."""
    first, objects, most = 0, 0, 0
    for i, (shot, part) in enumerate(zip(shots, seen, strict=True)):
        objects, most = objects + len(shot.class_ids), max(most, len(part.pixel))
        other_light = (shot.position_world is None) != (shots[first].position_world is None)
        if i > first and (other_light or objects * most > MAX_SHADED):
            yield slice(first, i)
            first, objects, most = i, len(shot.class_ids), len(part.pixel)
    if shots:
        yield slice(first, len(shots))


def _box_corners(mesh: Mesh) -> Float[np.ndarray, "8 3"]:
    """Corners of a mesh's bounding box, object frame."""
    low, high = mesh.vertices_m.min(0).astype(np.float64), mesh.vertices_m.max(0).astype(np.float64)
    return np.where(np.indices((2, 2, 2)).reshape(3, 8).T == 1, high, low)


def _directions(shot: Shot, x0: int, y0: int, x1: int, y1: int) -> Float[np.ndarray, "m 3"]:
    """Through the centres of some pixels, row by row, with z = 1, camera frame."""
    v, u = np.mgrid[y0:y1, x0:x1].reshape(2, -1) + 0.5
    y = (v - shot.K_px[1, 2]) / shot.K_px[1, 1]
    x = (u - shot.K_px[0, 2] - shot.K_px[0, 1] * y) / shot.K_px[0, 0]
    return np.stack([x, y, np.ones_like(x)], -1).astype(np.float32)


def _object_rays(
    shot: Shot, k: int, corners_m: Float[np.ndarray, "8 3"]
) -> tuple[Int[np.ndarray, "m"], Float[np.ndarray, "m 3"], Float[np.ndarray, "m 3"]]:
    """Rays through the pixels that an object's bounding box covers: pixels, and origins and directions in the object's frame."""
    T = shot.T_camera_object[k]
    R, t = T[:3, :3], T[:3, 3]
    points = corners_m @ R.T + t
    width, height = shot.width_px, shot.height_px
    x0, y0, x1, y1 = 0, 0, width, height
    if points[:, 2].max() <= shot.near_m:
        x1 = x0
    elif points[:, 2].min() > shot.near_m:
        seen = points @ shot.K_px.T
        low, high = (seen[:, :2] / seen[:, 2:]).min(0), (seen[:, :2] / seen[:, 2:]).max(0)
        x0, y0 = np.clip(np.floor(low), 0, [width, height]).astype(int).tolist()
        x1, y1 = np.clip(np.ceil(high), [x0, y0], [width, height]).astype(int).tolist()
    v, u = np.mgrid[y0:y1, x0:x1].reshape(2, -1)
    directions = _directions(shot, x0, y0, x1, y1).astype(np.float64)
    origins = (directions * shot.near_m - t) @ R
    return v * width + u, origins.astype(np.float32), (directions @ R).astype(np.float32)


def _cast(mi: Any, scene: Any, origins: Float[np.ndarray, "m 3"], directions: Float[np.ndarray, "m 3"]) -> _Hits:
    """The first face along each ray; distances are in units of the directions' lengths."""
    hits = _Hits(len(origins))
    if is_scalar(mi.variant()):
        intersect, ray = scene.ray_intersect_preliminary, mi.Ray3f
        # Flat lists of numbers, and no hit kept: an object for each ray would keep Python's garbage collector busy.
        for i, (ox, oy, oz, dx, dy, dz) in enumerate(zip(*origins.T.tolist(), *directions.T.tolist(), strict=True)):
            found = intersect(ray((ox, oy, oz), (dx, dy, dz)))
            if found.is_valid():
                hits.distance[i], hits.face[i] = found.t, found.prim_index
                hits.uv[i] = found.prim_uv
        return hits
    import drjit

    for first in range(0, len(origins), MAX_RAYS):
        part = slice(first, first + MAX_RAYS)
        o, d = (np.ascontiguousarray(x[part].T) for x in (origins, directions))
        found = scene.ray_intersect_preliminary(mi.Ray3f(mi.Point3f(o), mi.Vector3f(d)), coherent=True)
        drjit.eval(found.t, found.prim_index, found.prim_uv)
        hits.distance[part], hits.face[part] = np.asarray(found.t), np.asarray(found.prim_index)
        hits.uv[part] = np.asarray(found.prim_uv).T
    return hits


def _instances(shots: list[Shot]) -> Instances:
    """The shots' objects as ``shading.shade`` takes them."""

    def each(values: list[np.ndarray]) -> torch.Tensor:
        return torch.from_numpy(np.concatenate([np.stack([x] * n) for x, n in zip(values, counts, strict=True) if n]))

    counts = [len(shot.class_ids) for shot in shots]
    positions = [shot.position_world for shot in shots if shot.position_world is not None]
    return Instances(
        class_ids=torch.from_numpy(np.concatenate([shot.class_ids for shot in shots])),
        T_world_object=torch.from_numpy(np.concatenate([shot.T_world_object for shot in shots])),
        K_px=each([shot.K_px for shot in shots]),
        T_camera_world=each([shot.T_camera_world for shot in shots]),
        direction_world=each([shot.direction_world for shot in shots]),
        ambient=each([np.asarray(shot.ambient) for shot in shots]),
        diffuse=each([np.asarray(shot.diffuse) for shot in shots]),
        position_world=each(positions) if positions else None,
    )
