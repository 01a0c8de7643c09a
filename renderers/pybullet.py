"""PyBullet's TinyRenderer as a painter: a software rasteriser with one sample a pixel, textures and one light, for CPUs.

What it does otherwise than ``types`` says, and what is made of it here:

- Its camera is OpenGL's, and it samples where pixels touch: half a pixel to the left and half a pixel below their centres.  The
  projection takes both back.
- It knows no colours of corners: they are baked into a texture, of which it takes the nearest texel (see ``baking``).
- It never draws faces from behind: open meshes get every face twice, once turned round.
- Colours have 8 bits, rounded down.
- All its lights are far away: with a near light every object is drawn alone, lit from the direction in which its middle sees the
  light.  That is an approximation, and the better the smaller an object is against its distance from the light.

Nothing outside this file sees PyBullet's conventions.
"""

from __future__ import annotations

import tempfile
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image
from scipy.spatial.transform import Rotation

from inverse_graphics.types import Catalogue, Mesh
from renderers.errors import BackendMissingError
from renderers.painting.baking import bake_colours
from renderers.painting.shots import Picture, Shot
from renderers.shading import check_textures

INSTALL_COMMAND = 'pip install "pybullet>=3.2.7,<4"'
"""What users type to get PyBullet."""

FACES_PER_SHAPE = 40_000
"""Larger meshes are made of several shapes: PyBullet takes 131,072 vertices for one, and no vertex is shared here."""

VIEW_OPENGL_OPENCV = (1.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
"""OpenCV's camera frame (+Y down, +Z forward) to OpenGL's (+Y up, +Z back), column by column: diag(1, -1, -1, 1)."""

MARGIN = 1e-3
"""The depth buffer's range reaches this share of the depth beyond the objects, so that none is cut at its far end."""


class PyBulletPainter:
    """Draws with TinyRenderer in a physics client of its own; a process may hold several painters.

    Instances of a class stay in the client from shot to shot, and those that a shot does not need are hidden, not removed.
    """

    name = "pybullet"

    def __init__(self, catalogue: Catalogue) -> None:
        """Load the meshes.

        Args:
            catalogue: meshes that class ids refer to.

        Raises:
            BackendMissingError: PyBullet cannot be imported.
            ValueError: a texture cannot be looked up.
        """
        check_textures(catalogue)
        self._bullet = _import_pybullet()
        self._client: int = self._bullet.connect(self._bullet.DIRECT)
        self._disconnect = weakref.finalize(self, self._bullet.disconnect, self._client)
        self._shapes: list[list[int]] = []
        self._textures: list[int] = []
        with tempfile.TemporaryDirectory() as folder:
            for mesh in catalogue.meshes:
                self._load(mesh, Path(folder) / f"{len(self._shapes)}.png")
        corners = [np.stack([mesh.vertices_m.min(0), mesh.vertices_m.max(0)]).astype(np.float64) for mesh in catalogue.meshes]
        self._middles_m = np.stack([corner.mean(0) for corner in corners]) if corners else np.zeros((0, 3))
        self._radii_m = np.array([np.linalg.norm(corner[1] - corner[0]) / 2 for corner in corners])
        self._pools: list[list[tuple[int, ...]]] = [[] for _ in catalogue.meshes]
        self._shown: set[tuple[int, ...]] = set()
        self._lock = threading.Lock()

    def close(self) -> None:
        """Free the client; the painter cannot draw afterwards."""
        self._disconnect()

    def draw(self, shots: list[Shot]) -> list[Picture]:
        """Draw pictures, one a shot; see ``Painter.draw``."""
        with self._lock:
            return [self._draw_one(shot) for shot in shots]

    def _load(self, mesh: Mesh, file: Path) -> None:
        """Hand a mesh and its baked colours to the client."""
        atlas = bake_colours(mesh)
        Image.fromarray(np.round(atlas.rgb * 255).astype(np.uint8)).save(file)
        self._textures.append(self._bullet.loadTexture(str(file), physicsClientId=self._client))
        corners_m, normals, uv = mesh.vertices_m[mesh.faces], mesh.corner_normals, atlas.corner_uv
        if not mesh.watertight:
            corners_m, uv = np.concatenate([corners_m, corners_m[:, ::-1]]), np.concatenate([uv, uv[:, ::-1]])
            normals = np.concatenate([normals, -normals[:, ::-1]])
        self._shapes.append(
            [
                self._bullet.createVisualShape(
                    self._bullet.GEOM_MESH,
                    vertices=corners_m[part].reshape(-1, 3).tolist(),
                    normals=normals[part].reshape(-1, 3).tolist(),
                    uvs=uv[part].reshape(-1, 2).tolist(),
                    indices=list(range(3 * len(corners_m[part]))),
                    rgbaColor=(1, 1, 1, 1),
                    physicsClientId=self._client,
                )
                for part in (slice(i, i + FACES_PER_SHAPE) for i in range(0, len(corners_m), FACES_PER_SHAPE))
            ]
        )

    def _draw_one(self, shot: Shot) -> Picture:
        """All objects at once under a far light, one after the other under a near one."""
        R_camera_world = shot.T_camera_world[:3, :3]
        if shot.position_world is None:
            return self._draw_lit(shot, np.arange(len(shot.class_ids)), R_camera_world @ shot.direction_world)
        rgb = np.zeros((shot.height_px, shot.width_px, 3), np.float32)
        depth_m = np.zeros((shot.height_px, shot.width_px), np.float32)
        for k, class_id in enumerate(shot.class_ids):
            T = shot.T_world_object[k]
            to_light = shot.position_world - (T[:3, :3] @ self._middles_m[class_id] + T[:3, 3])
            distance_m = np.linalg.norm(to_light)
            direction_world = to_light / distance_m if distance_m > 0 else shot.direction_world
            alone = self._draw_lit(shot, np.array([k]), R_camera_world @ direction_world)
            nearer = (alone.depth_m > 0) & ((depth_m == 0) | (alone.depth_m < depth_m))
            rgb[nearer], depth_m[nearer] = alone.rgb[nearer], alone.depth_m[nearer]
        return Picture(rgb, depth_m)

    def _draw_lit(self, shot: Shot, chosen: np.ndarray, direction_camera: Float[np.ndarray, "3"]) -> Picture:
        """Some of a shot's objects under a far light."""
        bullet, size = self._bullet, (shot.height_px, shot.width_px)
        class_ids, T_camera_object = shot.class_ids[chosen], shot.T_camera_object[chosen]
        middles_m = (T_camera_object[:, :3, :3] @ self._middles_m[class_ids][..., None])[..., 0] + T_camera_object[:, :3, 3]
        farthest_m = (middles_m[:, 2] + self._radii_m[class_ids]).max(initial=0) * (1 + MARGIN)
        if farthest_m <= shot.near_m:
            return Picture(np.zeros((*size, 3), np.float32), np.zeros(size, np.float32))
        near_m = max(shot.near_m, (middles_m[:, 2] - self._radii_m[class_ids]).min() * (1 - MARGIN))
        self._place(class_ids, T_camera_object)
        _, _, rgba, buffer, ids = bullet.getCameraImage(
            shot.width_px,
            shot.height_px,
            VIEW_OPENGL_OPENCV,
            _projection(shot, near_m, farthest_m).T.ravel().tolist(),
            lightDirection=direction_camera.tolist(),
            lightColor=(1, 1, 1),
            lightAmbientCoeff=shot.ambient,
            lightDiffuseCoeff=shot.diffuse,
            lightSpecularCoeff=0,
            shadow=0,
            renderer=bullet.ER_TINY_RENDERER,
            physicsClientId=self._client,
        )
        hit = np.asarray(ids).reshape(size) >= 0
        buffer = np.asarray(buffer, np.float64).reshape(size)
        depth_m = near_m * farthest_m / (farthest_m - (farthest_m - near_m) * buffer)
        rgb = np.asarray(rgba, np.float32).reshape(*size, 4)[..., :3] / 255
        return Picture(np.where(hit[..., None], rgb, 0), np.where(hit, depth_m, 0).astype(np.float32))

    def _place(self, class_ids: np.ndarray, T_camera_object: Float[np.ndarray, "k 4 4"]) -> None:
        """Show exactly these objects; the client's frame is the camera's."""
        used = [0] * len(self._pools)
        needed: set[tuple[int, ...]] = set()
        quats_xyzw = Rotation.from_matrix(T_camera_object[:, :3, :3]).as_quat() if len(class_ids) else np.zeros((0, 4))
        for class_id, T, quat_xyzw in zip(class_ids.tolist(), T_camera_object, quats_xyzw, strict=True):
            pool = self._pools[class_id]
            if used[class_id] == len(pool):
                pool.append(self._instance(class_id))
                self._shown.add(pool[-1])
            bodies = pool[used[class_id]]
            used[class_id] += 1
            needed.add(bodies)
            for body in bodies:
                self._bullet.resetBasePositionAndOrientation(
                    body, T[:3, 3].tolist(), quat_xyzw.tolist(), physicsClientId=self._client
                )
        for bodies in self._shown ^ needed:
            for body in bodies:
                rgba = (1, 1, 1, 1 if bodies in needed else 0)
                self._bullet.changeVisualShape(body, -1, rgbaColor=rgba, physicsClientId=self._client)
        self._shown = needed

    def _instance(self, class_id: int) -> tuple[int, ...]:
        """Another instance of a class: one body a shape."""
        bodies = [self._bullet.createMultiBody(0, -1, shape, physicsClientId=self._client) for shape in self._shapes[class_id]]
        for body in bodies:
            self._bullet.changeVisualShape(
                body, -1, textureUniqueId=self._textures[class_id], rgbaColor=(1, 1, 1, 1), physicsClientId=self._client
            )
        return tuple(bodies)


def _import_pybullet() -> Any:
    """Fail now rather than at the first picture.

    Raises:
        BackendMissingError: PyBullet cannot be imported.
    """
    try:
        import pybullet
    except ImportError as error:
        raise BackendMissingError("pybullet", "pybullet", INSTALL_COMMAND) from error
    return pybullet


def _projection(shot: Shot, near_m: float, far_m: float) -> Float[np.ndarray, "4 4"]:
    """OpenGL's camera frame to clip space, so that the points where TinyRenderer samples lie at the pixels' centres."""
    K = shot.K_px
    cx, cy = K[0, 2] - 0.5, K[1, 2] + 0.5
    width, height = shot.width_px, shot.height_px
    return np.array(
        [
            [2 * K[0, 0] / width, -2 * K[0, 1] / width, 1 - 2 * cx / width, 0],
            [0, 2 * K[1, 1] / height, 2 * cy / height - 1, 0],
            [0, 0, -(far_m + near_m) / (far_m - near_m), -2 * far_m * near_m / (far_m - near_m)],
            [0, 0, -1, 0],
        ]
    )
