"""MuJoCo's OpenGL renderer as a painter: no physics, only its scene of posed meshes (``mjvScene``), filled anew every time.

Nothing outside this file sees MuJoCo's conventions: cameras look along ``forward`` with ``up`` upwards and a frustum at the near
plane, rows of pixels run from the bottom, geometries are placed by float32 positions and row-major rotations in the world.

What it draws differs from docs/conventions.md in this: colours have 8 bits; light is computed at corners and interpolated, for
which meshes are divided (``mujoco_meshes``).  MuJoCo's colours are taken as linear, also those of the surroundings.
"""

from __future__ import annotations

import atexit
import importlib
import os
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from inverse_graphics.types import Catalogue
from renderers.errors import BackendMissingError
from renderers.mujoco.meshes import make_surface
from renderers.mujoco.models import compile_model, element_name, load_surroundings
from renderers.painting.shots import Picture, Shot
from renderers.shading import check_textures

GL = Literal["egl", "osmesa"]

INSTALL_COMMAND = 'pip install "mujoco>=4,<5"'

SYSTEM_PACKAGES: dict[GL, str] = {"egl": "libegl1 libgl1 libgl1-mesa-dri", "osmesa": "libosmesa6 libgl1"}
"""Debian packages that hold what each way to OpenGL without a screen needs."""

MAX_BUFFER_SIDE_PX = 1024
"""Pictures of one size are drawn side by side in a buffer up to this wide and high, and read together; larger ones alone."""

MAX_PICTURE_SIDE_PX = 8192
"""Largest picture that is drawn."""

MIN_NEAR_M = 1e-6
"""MuJoCo refuses a near plane at zero."""

_painters: weakref.WeakSet[MujocoPainter] = weakref.WeakSet()


class GraphicsLibraryError(RuntimeError):
    """OpenGL without a screen cannot be set up: a system library is missing or refuses."""


class MujocoPainter:
    """Draws a catalogue's meshes, and a robot or table around them, with MuJoCo's classic OpenGL renderer.

    It belongs to the process that made it (make it anew after a fork); threads may share it, and draw in turns.
    """

    name: str
    has_surroundings: bool

    def __init__(self, catalogue: Catalogue, surroundings: str | Path | None = None, gl: GL | None = None) -> None:
        """Upload the meshes.

        Args:
            catalogue: meshes that class ids refer to, open ones and ones with faces without area among them.
            surroundings: an MJCF file that is drawn behind and between the objects of shots that ask for it, in its first
                keyframe (else as it stands).  Its world frame is the world's.  It is lit by the shot's light, not by its own;
                reflections, shadows and sky are left out; surfaces that are not opaque leave no depth.
            gl: how to reach OpenGL without a screen; the environment's MUJOCO_GL where None, else EGL.

        Raises:
            BackendMissingError: MuJoCo cannot be imported.
            GraphicsLibraryError: the system library behind ``gl`` is missing or finds no driver.
            ValueError: the surroundings cannot be read, a texture cannot be looked up, or there are too many of them.
        """
        check_textures(catalogue)
        gl = _choose_gl(gl)
        self.name = "mujoco"
        self.has_surroundings = surroundings is not None
        self._mj = _require_mujoco()
        spec = load_surroundings(self._mj, surroundings)
        self._surfaces = [make_surface(mesh) for mesh in catalogue.meshes]
        radii_m = [float(np.linalg.norm(mesh.vertices_m, axis=-1).max(initial=0)) for mesh in catalogue.meshes]
        self._radii_m = np.asarray(radii_m)
        self._model = compile_model(self._mj, spec, self._surfaces)
        self._mesh_ids = [
            [self._model.mesh(element_name(k, near)).id for near in (False, surface.near is not surface.far)]
            for k, surface in enumerate(self._surfaces)
        ]
        self._material_ids = [
            -1 if surface.image is None else self._model.material(element_name(k)).id for k, surface in enumerate(self._surfaces)
        ]
        self._tints = [np.append(surface.tint, 1.0).astype(np.float32) for surface in self._surfaces]
        self._scenes: dict[bool, tuple[Any, int]] = {}
        self._lock = threading.Lock()
        self._gl: Any
        self._context: Any
        self._gl, self._context = _make_context(self._mj, self._model, gl)
        atexit.unregister(_close_all)
        atexit.register(_close_all)  # anew, to be called before the exit handler of the context made above
        _painters.add(self)
        with self._gl.as_current():
            self._filter_plainly()

    def draw(self, shots: list[Shot]) -> list[Picture]:
        """Draw pictures, one a shot; those of one size that follow each other are drawn side by side.

        Raises:
            ValueError: a picture is too large, or the painter was closed.
        """
        pictures: list[Picture] = []
        if self._context is None:
            raise ValueError("MujocoPainter: expected an open painter, received one that was closed; make another")
        with self._lock, self._gl.as_current():
            for together in _of_one_size(shots):
                pictures += self._draw_together(together)
        return pictures

    def close(self) -> None:
        """Give back what the GPU holds; the painter cannot draw any more.  Called by itself at the end."""
        with self._lock:
            if self._context is not None:
                with self._gl.as_current():
                    self._context.free()
                self._gl.free()
            self._context = None

    def __del__(self) -> None:
        if getattr(self, "_context", None) is not None:
            self.close()

    def _filter_plainly(self) -> None:
        """No mip maps on the objects' images: they would mix the cells of a baked image."""
        from OpenGL import GL

        for surface, material in zip(self._surfaces, self._material_ids, strict=True):
            if surface.image is None:
                continue
            texture = self._model.mat_texid[material, self._mj.mjtTextureRole.mjTEXROLE_RGB]
            GL.glBindTexture(GL.GL_TEXTURE_2D, int(self._context.texture[texture]))
            GL.glTexParameteri(GL.GL_TEXTURE_2D, GL.GL_TEXTURE_MIN_FILTER, GL.GL_LINEAR)

    def _draw_together(self, shots: list[Shot]) -> list[Picture]:
        """Draw shots of one size, at most as many as fit into the buffer."""
        mj, width, height = self._mj, shots[0].width_px, shots[0].height_px
        columns = min(len(shots), max(1, MAX_BUFFER_SIDE_PX // width))
        rows = -(-len(shots) // columns)
        mj.mjr_setBuffer(mj.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        if self._context.offWidth < columns * width or self._context.offHeight < rows * height:
            size = max(self._context.offWidth, columns * width), max(self._context.offHeight, rows * height)
            mj.mjr_resizeOffscreen(*size, self._context)
        ranges_m = []
        for k, shot in enumerate(shots):
            row, column = divmod(k, columns)
            scene, range_m = self._fill_scene(shot)
            mj.mjr_render(mj.MjrRect(column * width, row * height, width, height), scene, self._context)
            ranges_m.append(range_m)
        rgb = np.empty((rows * height, columns * width, 3), np.uint8)
        nearness = np.empty((rows * height, columns * width), np.float32)
        mj.mjr_readPixels(rgb, nearness, mj.MjrRect(0, 0, columns * width, rows * height), self._context)
        pictures = []
        for k, (near_m, far_m) in enumerate(ranges_m):
            row, column = divmod(k, columns)
            tile = slice(row * height, (row + 1) * height), slice(column * width, (column + 1) * width)
            colour = np.multiply(rgb[tile][::-1], np.float32(1 / 255), dtype=np.float32)
            pictures.append(Picture(colour, _depth_m(nearness[tile][::-1], near_m, far_m)))
        return pictures

    def _fill_scene(self, shot: Shot) -> tuple[Any, tuple[float, float]]:
        """Place objects, camera and light of a shot; returns the scene and the depths of its near and far plane."""
        mj, count = self._mj, len(shot.class_ids)
        scene, first = self._scene_for(count, shot.surroundings and self.has_surroundings)
        geoms, near_light = scene.geoms, shot.position_world is not None
        for k, class_id in enumerate(shot.class_ids.tolist()):
            geom, T = geoms[first + k], shot.T_world_object[k]
            geom.pos, geom.mat = T[:3, 3], T[:3, :3]
            geom.dataid = 2 * self._mesh_ids[class_id][near_light]  # odd numbers are convex hulls
            geom.matid, geom.rgba = self._material_ids[class_id], self._tints[class_id]
        scene.ngeom = first + count
        light = scene.lights[0]
        light.ambient, light.diffuse = np.full(3, shot.ambient), np.full(3, shot.diffuse)
        if near_light:
            light.type, light.pos = mj.mjtLightType.mjLIGHT_SPOT, shot.position_world
        else:
            light.type, light.dir = mj.mjtLightType.mjLIGHT_DIRECTIONAL, -shot.direction_world
        near_m = max(shot.near_m, MIN_NEAR_M)
        far_m = max(self._far_m(shot, first > 0), 2 * near_m)
        for camera in scene.camera:
            _set_camera(camera, shot, near_m, far_m)
        return scene, (near_m, far_m)

    def _far_m(self, shot: Shot, with_surroundings: bool) -> float:
        """A depth beyond everything that is drawn."""
        depth_m = shot.T_camera_object[:, 2, 3] + self._radii_m[shot.class_ids]
        far_m = 1.1 * float(depth_m.max(initial=0.0))
        if not with_surroundings:
            return far_m
        stat = self._model.stat
        # A plane without end is drawn 2.1 times as wide as MuJoCo's far plane.
        reach_m = 2.1 * self._model.vis.map.zfar * stat.extent
        return max(far_m, float(np.linalg.norm(shot.T_camera_world[:3] @ np.append(stat.center, 1.0))) + reach_m)

    def _scene_for(self, count: int, with_surroundings: bool) -> tuple[Any, int]:
        """A scene with room for objects, which holds the surroundings or nothing so far, and the place of the first object."""
        scene, first = self._scenes.get(with_surroundings, (None, 0))
        if scene is None or scene.maxgeom < first + count:
            scene, first = self._make_scene(2 * count + 16, with_surroundings)
            self._scenes[with_surroundings] = scene, first
        return scene, first

    def _make_scene(self, room: int, with_surroundings: bool) -> tuple[Any, int]:
        """A scene with one light, no effects, and ``room`` for objects behind the surroundings' geometries."""
        mj, model, first = self._mj, self._model, 0
        scene = mj.MjvScene(model, maxgeom=room + 2 * (model.ngeom + model.ntendon + model.nflex + model.nskin))
        if with_surroundings:
            data = mj.MjData(model)
            if model.nkey:
                mj.mj_resetDataKeyframe(model, data, 0)
            mj.mj_forward(model, data)
            drawn = mj.mjtCatBit.mjCAT_STATIC | mj.mjtCatBit.mjCAT_DYNAMIC
            mj.mjv_updateScene(model, data, mj.MjvOption(), None, mj.MjvCamera(), drawn, scene)
            first = scene.ngeom
        flags = mj.mjtRndFlag
        for flag in (flags.mjRND_SHADOW, flags.mjRND_REFLECTION, flags.mjRND_SKYBOX, flags.mjRND_FOG, flags.mjRND_HAZE):
            scene.flags[flag] = 0
        scene.flags[flags.mjRND_CULL_FACE] = 1
        for geom in scene.geoms[:first]:
            geom.reflectance = 0.0
        for geom in scene.geoms[first:]:
            mj.mjv_initGeom(geom, mj.mjtGeom.mjGEOM_MESH, np.ones(3), np.zeros(3), np.eye(3).ravel(), np.ones(4, np.float32))
            geom.texcoord, geom.emission, geom.specular, geom.reflectance = 1, 0.0, 0.0, 0.0
        scene.nlight = 1
        light = scene.lights[0]
        light.attenuation, light.cutoff, light.exponent = np.asarray([1.0, 0.0, 0.0]), 180.0, 0.0
        light.specular, light.headlight, light.castshadow = np.zeros(3), 0, 0
        return scene, first


def _of_one_size(shots: list[Shot]) -> Iterator[list[Shot]]:
    """Cut a list where the pictures' size changes and where the buffer is full."""
    start = 0
    while start < len(shots):
        width, height = shots[start].width_px, shots[start].height_px
        if not 0 < max(width, height) <= MAX_PICTURE_SIDE_PX:
            raise ValueError(
                f"MujocoPainter: expected pictures of up to {MAX_PICTURE_SIDE_PX} pixels a side, received {width} x {height}; "
                "draw a smaller image, or fewer samples a pixel"
            )
        room = max(1, MAX_BUFFER_SIDE_PX // width) * max(1, MAX_BUFFER_SIDE_PX // height)
        end = start
        while end < min(len(shots), start + room) and (shots[end].width_px, shots[end].height_px) == (width, height):
            end += 1
        yield shots[start:end]
        start = end


def _set_camera(camera: Any, shot: Shot, near_m: float, far_m: float) -> None:
    """OpenCV's camera as MuJoCo's; MuJoCo takes the mean of two cameras, so both are set."""
    R, t = shot.T_camera_world[:3, :3], shot.T_camera_world[:3, 3]
    (fx, _, cx), (_, fy, cy) = shot.K_px[0], shot.K_px[1]
    camera.pos, camera.forward, camera.up = -R.T @ t, R[2], -R[1]
    camera.frustum_center = near_m * (shot.width_px / 2 - cx) / fx
    camera.frustum_width = near_m * shot.width_px / 2 / fx  # half the width, whatever its name says
    camera.frustum_top = near_m * cy / fy
    camera.frustum_bottom = near_m * (cy - shot.height_px) / fy
    camera.frustum_near, camera.frustum_far = near_m, far_m


def _depth_m(nearness: Float[np.ndarray, "h w"], near_m: float, far_m: float) -> Float[np.ndarray, "h w"]:
    """z-depth from MuJoCo's depth buffer, which runs from 1 at the near plane to 0 at the far one; 0 where nothing was drawn."""
    offset = near_m / (far_m - near_m)
    depth_m = np.float32(far_m * offset) / (nearness + np.float32(offset))
    return np.where(nearness > 0, depth_m, np.float32(0))


def _choose_gl(gl: GL | None) -> GL:
    """How to reach OpenGL; MuJoCo's library and its Python package read the same choice from the environment."""
    asked = os.environ.get("MUJOCO_GL", "").lower().strip()
    chosen = gl or asked or "egl"
    if chosen not in ("egl", "osmesa") or asked not in ("", chosen):
        raise ValueError(
            f"gl: expected 'egl' or 'osmesa', one for the whole process and the same as in the environment's MUJOCO_GL, received "
            f"gl={gl!r} and MUJOCO_GL={asked!r}; set MUJOCO_GL to the one you want before the first painter is made, or unset it"
        )
    return chosen  # pyright: ignore[reportReturnType]


def _require_mujoco() -> ModuleType:
    """Import MuJoCo with its older OpenGL renderer.

    Raises:
        BackendMissingError: it cannot be imported.
    """
    try:
        import mujoco
    except ImportError as error:
        raise BackendMissingError("mujoco", "mujoco", INSTALL_COMMAND) from error
    return mujoco


def _make_context(mj: ModuleType, model: Any, gl: GL) -> tuple[Any, Any]:
    """An OpenGL context without a screen, and the model's meshes and images in it.

    Raises:
        GraphicsLibraryError: the library is missing or refuses.
    """
    os.environ.setdefault("MUJOCO_GL", gl)  # read by MuJoCo's library when it looks up OpenGL's functions
    try:
        context = importlib.import_module(f"mujoco.{gl}").GLContext(256, 256)
        with context.as_current():
            resources = mj.MjrContext(model, mj.mjtFontScale.mjFONTSCALE_50)
            resources.readDepthMap = mj.mjtDepthMap.mjDEPTH_ZEROFAR
    # AttributeError is what PyOpenGL's missing libraries end in, FatalError MuJoCo's own.
    except (ImportError, AttributeError, OSError, RuntimeError, mj.FatalError) as error:
        raise GraphicsLibraryError(
            f"renderer 'mujoco': expected OpenGL without a screen through {gl!r}, received: {error}; install its libraries with "
            f"`apt-get install {SYSTEM_PACKAGES[gl]}` (or a GPU's driver), or choose gl='egl' or 'osmesa'"
        ) from error
    return context, resources


def _close_all() -> None:
    """Free contexts while OpenGL is still there."""
    for painter in list(_painters):
        painter.close()
