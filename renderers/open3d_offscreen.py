"""``Open3DOffscreenPainter``: Open3D's offscreen renderer (Google's Filament) as a black box that draws whole pictures.

It needs a graphics driver, which may be Mesa's on the CPU; without one Filament may end the process, so a process of its own is
tried first.  Meshes are drawn without Filament's lights, whose units are a camera's: light and colour as ``types.Light`` defines
them are computed at the corners of faces and interpolated (Gouraud), exact for plain faces under a distant light.  Colours have
8 bits, linear.
"""

from __future__ import annotations

import atexit
import functools
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

from inverse_graphics.types import Catalogue, Mesh
from renderers.errors import BackendMissingError
from renderers.open3d import require_open3d
from renderers.painting.shots import Picture, Shot

NAME = "open3d-offscreen"
DRIVER_COMMAND = "apt-get install libvulkan1 mesa-vulkan-drivers"
"""Mesa's Vulkan driver for the CPU (Open3D 0.20); a GPU's own driver does as well."""
LEAST_SIDE_PX = 256
"""Smaller pictures are cropped: up to this size they take the same time."""
MIN_NEAR_M = 1e-4
"""Filament's near plane must be in front of the camera."""
MIN_DISTANCE = 1e-12
"""Lengths below this are taken for it when vectors are made unit vectors."""
PROBE = """
import open3d
renderer = open3d.visualization.rendering.OffscreenRenderer(8, 8)
renderer.render_to_image()
"""
PROBE_SECONDS = 60.0


@dataclass(frozen=True)
class _Canvas:
    """The one offscreen renderer of a process: Filament aborts the process where one of two goes while the other is in use."""

    renderer: Any
    """An ``open3d.visualization.rendering.OffscreenRenderer``."""
    width_px: int
    """Width of what it draws."""
    height_px: int
    """Height of what it draws."""


_CANVASES: list[_Canvas] = []
"""The process's canvas, once it is made."""
_LOCK = threading.Lock()
"""One picture at a time."""


class Open3DOffscreenPainter:
    """Draws a catalogue's meshes, seen from both sides, with Filament; no surroundings, no textures.

    All painters of a process share one canvas, which grows to hold the largest picture.  A process that uses Open3D's
    ``OffscreenRenderer`` otherwise had better leave painters to another.
    """

    name = NAME

    def __init__(self, catalogue: Catalogue) -> None:
        """Prepare the meshes and try the driver.

        Raises:
            BackendMissingError: Open3D, a library that it loads, or a graphics driver is missing.
            ValueError: a mesh has a texture: Filament's look-up is not that of ``types.Texture``.
        """
        for mesh in catalogue.meshes:
            if mesh.texture is not None:
                raise ValueError(
                    f"mesh {mesh.name!r}: expected no texture, which {NAME} cannot look up exactly, received one of "
                    f"{mesh.texture.rgb.shape[:2]} texels; choose another renderer or colour the corners of its faces"
                )
        require_open3d(NAME)
        _require_driver()
        self._meshes = catalogue.meshes

    def draw(self, shots: list[Shot]) -> list[Picture]:
        """Draw pictures, one a shot; see ``shots.Painter``."""
        return [self._draw(shot) for shot in shots]

    def _draw(self, shot: Shot) -> Picture:
        height, width = shot.height_px, shot.width_px
        if len(shot.class_ids) == 0:
            return Picture(np.zeros((height, width, 3), np.float32), np.zeros((height, width), np.float32))
        with _LOCK:
            canvas = _canvas(width, height)
            try:
                far_m = max(self._add(canvas.renderer.scene, shot, k) for k in range(len(shot.class_ids)))
                _aim(canvas, shot, far_m)
                rgb = np.asarray(canvas.renderer.render_to_image())[:height, :width, :3] / np.float32(255)
                depth_m = np.array(canvas.renderer.render_to_depth_image(z_in_view_space=True))[:height, :width]
            finally:
                canvas.renderer.scene.clear_geometry()
        return Picture(rgb, np.where(np.isfinite(depth_m), depth_m, np.float32(0)))

    def _add(self, scene: Any, shot: Shot, k: int) -> float:
        """Put object k where it stands in the camera's frame, which is Filament's world; its largest distance in metres."""
        from open3d import geometry, utility, visualization

        mesh = self._meshes[shot.class_ids[k]]
        if len(mesh.faces) == 0:
            return 0.0
        T = shot.T_camera_object[k]
        corners_m = mesh.vertices_m[mesh.faces].astype(np.float64) @ T[:3, :3].T + T[:3, 3]
        surface = geometry.TriangleMesh(
            utility.Vector3dVector(corners_m.reshape(-1, 3)),
            utility.Vector3iVector(np.arange(3 * len(mesh.faces), dtype=np.int32).reshape(-1, 3)),
        )
        surface.vertex_colors = utility.Vector3dVector(lit_corners(mesh, corners_m, T[:3, :3], shot).reshape(-1, 3))
        # without coordinates of textures Open3D leaves whatever lies in memory in their place, and the shader looks a white
        # texture up there: with Mesa's anisotropic filter a picture then takes from 0.05 s to many seconds; with normals of
        # faces, which have no effect here, corners at one place stay apart
        surface.triangle_uvs = utility.Vector2dVector(np.zeros((3 * len(mesh.faces), 2)))
        surface.triangle_normals = utility.Vector3dVector(np.tile([0.0, 0.0, 1.0], (len(mesh.faces), 1)))
        material = visualization.rendering.MaterialRecord()
        material.shader = "defaultUnlit"
        scene.add_geometry(f"object {k}", surface, material)
        return float(np.abs(corners_m).sum(-1).max())


def lit_corners(
    mesh: Mesh, corners_m: Float[np.ndarray, "f 3 3"], R_camera_object: Float[np.ndarray, "3 3"], shot: Shot
) -> Float[np.ndarray, "f 3 3"]:
    """Linear colour at each corner of each face; normals of faces seen from behind are turned round.

    Args:
        mesh: what is lit; its texture is not looked at.
        corners_m: its corners in the camera's frame.
        R_camera_object: rotation of its normals.
        shot: camera and light.
    """
    R, t = shot.T_camera_world[:3, :3], shot.T_camera_world[:3, 3]
    if shot.position_world is None:
        to_light = np.broadcast_to(R @ shot.direction_world, corners_m.shape)
    else:
        to_light = R @ shot.position_world + t - corners_m
    normals = mesh.corner_normals @ R_camera_object.T
    across = np.cross(corners_m[:, 1] - corners_m[:, 0], corners_m[:, 2] - corners_m[:, 0])
    facing = np.where((across * corners_m[:, 0]).sum(-1) > 0, -1.0, 1.0)[:, None]
    lengths = np.linalg.norm(normals, axis=-1) * np.linalg.norm(to_light, axis=-1)
    cosine = facing * (normals * to_light).sum(-1) / np.maximum(lengths, MIN_DISTANCE)
    return mesh.corner_rgb * (shot.ambient + shot.diffuse * np.maximum(cosine, 0))[..., None]


def _aim(canvas: _Canvas, shot: Shot, far_m: float) -> None:
    """The shot's camera; what the canvas shows beyond the picture's right and lower border is cropped."""
    near_m = max(shot.near_m, MIN_NEAR_M)
    far_m = max(1.01 * far_m, 2 * near_m)
    canvas.renderer.scene.camera.set_projection(shot.K_px, near_m, far_m, canvas.width_px, canvas.height_px)


def _canvas(width_px: int, height_px: int) -> _Canvas:
    """The process's canvas, at least of this size."""
    from open3d import camera, utility, visualization

    if _CANVASES and _CANVASES[0].width_px >= width_px and _CANVASES[0].height_px >= height_px:
        return _CANVASES[0]
    width_px = max([LEAST_SIDE_PX, width_px, *(canvas.width_px for canvas in _CANVASES)])
    height_px = max([LEAST_SIDE_PX, height_px, *(canvas.height_px for canvas in _CANVASES)])
    _CANVASES.clear()  # before the next one is made
    with utility.VerbosityContextManager(utility.VerbosityLevel.Error):
        renderer = visualization.rendering.OffscreenRenderer(width_px, height_px)
    renderer.scene.set_background([0.0, 0.0, 0.0, 1.0])
    view = renderer.scene.view
    view.set_post_processing(False)
    view.set_antialiasing(False)
    view.set_sample_count(1)
    renderer.setup_camera(camera.PinholeCameraIntrinsic(width_px, height_px, 1.0, 1.0, 0.0, 0.0), np.eye(4))
    _CANVASES.append(_Canvas(renderer, width_px, height_px))
    atexit.unregister(_CANVASES.clear)
    atexit.register(_CANVASES.clear)  # the process would abort if Open3D went before its renderer
    return _CANVASES[0]


@functools.cache
def _require_driver() -> None:
    """Draw an empty picture in another process, since Filament may end the one it is in.

    Raises:
        BackendMissingError: it cannot draw there.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROBE], capture_output=True, text=True, errors="replace", timeout=PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise BackendMissingError(NAME, "Vulkan driver (it did not answer)", DRIVER_COMMAND) from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()[-1]
        raise BackendMissingError(NAME, f"Vulkan driver (Open3D says: {said})", DRIVER_COMMAND)
