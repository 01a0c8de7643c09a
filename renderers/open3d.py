"""``Open3DRenderer``: Open3D's ray caster (Embree) as a black box that draws layers.

Every mesh is a scene of its own in its own frame, built once; to move an object its rays are carried into that frame, all objects
of one class in one call.  A rigid motion keeps lengths, and rays have z = 1 in the camera's frame: what the caster calls the
distance of a hit is z-depth.  Rays are cast within the boxes of objects in the image only.  Hits are shaded as ``raster`` shades
its own, so that the two differ at silhouettes alone.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, UInt

from inverse_graphics.compiled import KERNEL_LOCK, drop_stale_kernels, workers
from inverse_graphics.compositing import render_layers
from inverse_graphics.types import Catalogue, Layers, Mesh, Objects, RenderOutput, View
from renderers import raster
from renderers.errors import BackendMissingError
from renderers.raster.checks import check_camera, check_objects, check_samples, check_shapes
from renderers.raster.frames import scene_arrays
from renderers.raster.inputs import camera_rows, from_numpy
from renderers.raster.meshes import PackedMeshes, pack_meshes
from renderers.raster.ray_kernels import box_pass, hit_pass, ray_pass

if TYPE_CHECKING:
    from open3d import t

INSTALL_COMMAND = 'pip install "open3d>=0.19"'
LIBRARIES_COMMAND = "apt-get install libegl1 libgl1 libidn2-0 libudev1 libusb-1.0-0 libx11-6"
"""The system's libraries that Open3D's wheels load, though casting rays needs none of them."""


class Open3DRenderer:
    """Layers by casting one ray a sample, on the CPU; 0/1 coverage, without gradients.

    The nearest face counts, whichever side of it is seen: where the near plane cuts a closed mesh open, its inside is seen.
    Inputs on another device are copied to the CPU and results back.  Two runs give identical bits, whatever the number of
    threads, which is numba's (``numba.set_num_threads``).
    """

    name = "open3d"
    is_differentiable = False

    def __init__(self, catalogue: Catalogue, samples_per_axis: int = 2, max_rays: int = 2**20) -> None:
        """Build a ray caster's tree for each mesh.

        Args:
            catalogue: the meshes; class ids index it.
            samples_per_axis: antialiasing, 1 (none) or more samples a pixel along each axis.
            max_rays: rays cast at a time, about; a ray takes some 80 bytes.  Larger batches are drawn in several parts.

        Raises:
            BackendMissingError: Open3D, or a library of the system that it loads, is missing.
            ValueError: a setting out of range, or meshes that cannot be drawn.
        """
        check_samples(samples_per_axis)
        if max_rays < 1:
            raise ValueError(f"max_rays: expected at least 1, got {max_rays}; a million takes 80 MB")
        require_open3d("open3d")
        drop_stale_kernels(Path(raster.__file__).parent)
        self.catalogue = catalogue
        self.samples_per_axis = samples_per_axis
        self.max_rays = max_rays
        self._meshes: PackedMeshes = pack_meshes(catalogue)
        self._casters = [_ray_caster(mesh) for mesh in catalogue.meshes]

    def layers(self, objects: Objects, view: View, samples_per_axis: int | None = None) -> Layers:
        """Draw each object alone; see ``protocols.Renderer``.  Carries no gradient.

        Raises:
            ValueError: samples_per_axis below 1, shapes that do not fit, class ids out of range, or a camera or a pose of a
                present object that is not finite.
        """
        samples = self.samples_per_axis if samples_per_axis is None else samples_per_axis
        check_samples(samples)
        batch = check_shapes(objects, view)
        check_camera(view)
        check_objects("", objects, self.catalogue)
        class_ids, T_camera_object, present, light = scene_arrays(objects, view)
        camera = camera_rows(view)
        height, width = view.camera.height_px * samples, view.camera.width_px * samples
        size = (*class_ids.shape, height, width)
        out = np.zeros((*size, 3), np.float32), np.zeros(size, np.float32), np.full(size, np.inf, np.float32)
        boxes, start_m = np.empty((*class_ids.shape, 4), np.int64), np.empty(class_ids.shape, np.float64)
        with KERNEL_LOCK:
            fields = (self._meshes, class_ids, T_camera_object, present, camera, samples)
            box_pass(*fields, height, width, workers(), boxes, start_m)
        for items in _parts(boxes, class_ids, self.max_rays):
            counts = (items[:, 3] - items[:, 2] + 1) * (items[:, 5] - items[:, 4] + 1)
            first_ray, rays = np.cumsum(counts) - counts, np.empty((int(counts.sum()), 6), np.float32)
            with KERNEL_LOCK:
                ray_pass(items, first_ray, T_camera_object, camera, start_m, samples, workers(), rays)
            hits = self._cast(class_ids[items[:, 0], items[:, 1]], first_ray, rays)
            with KERNEL_LOCK:
                fields = (self._meshes, class_ids, items, first_ray, start_m, light, rays)
                hit_pass(*fields, *hits, workers(), *out)
        rgb, alpha, depth_m = (from_numpy(x, batch, objects.T_world_object) for x in out)
        return Layers(rgb, alpha, depth_m, samples)

    def render(self, objects: Objects, view: View) -> RenderOutput:
        """Draw the scene: layers merged by depth over the background; see ``protocols.Renderer``."""
        return render_layers(self, objects, view)

    def _cast(
        self, class_ids: Int[np.ndarray, "m"], first_ray: Int[np.ndarray, "m"], rays: Float[np.ndarray, "r 6"]
    ) -> tuple[Float[np.ndarray, "r"], UInt[np.ndarray, "r"], Float[np.ndarray, "r 2"]]:
        """First hits: length (inf where there is none), face, and barycentric coordinates of corners 1 and 2.

        Args:
            class_ids: class of each item, in ascending order.
            first_ray: where each item's rays begin.
            rays: in the objects' frames.
        """
        from open3d.core import Tensor as Open3DTensor

        length_m = np.full(len(rays), np.inf, np.float32)
        face, uv = np.zeros(len(rays), np.uint32), np.zeros((len(rays), 2), np.float32)
        classes, first_item = np.unique(class_ids, return_index=True)
        ends = np.append(first_ray[first_item[1:]], len(rays))
        for class_id, start, end in zip(classes, first_ray[first_item], ends, strict=True):
            caster = self._casters[class_id]
            if caster is None:
                continue
            with KERNEL_LOCK:  # the first cast finishes the tree, which two threads must not do at once
                hits = caster.cast_rays(Open3DTensor.from_numpy(rays[start:end]), nthreads=workers())
            length_m[start:end] = hits["t_hit"].numpy()
            face[start:end] = hits["primitive_ids"].numpy()
            uv[start:end] = hits["primitive_uvs"].numpy()
        return length_m, face, uv


def require_open3d(renderer: str) -> None:
    """Import Open3D now, so that it fails now where it fails.

    Args:
        renderer: which of the backends asks for it.

    Raises:
        BackendMissingError: Open3D, or a library of the system that it loads, is missing.
    """
    with warnings.catch_warnings():
        # numba looks for TBB when it starts its threads, finds Open3D's own, and says that it is too old and OpenMP used instead
        warnings.filterwarnings("ignore", "The TBB threading layer requires TBB")
        workers()
    try:
        import open3d  # noqa: F401
    except ModuleNotFoundError as error:
        raise BackendMissingError(renderer, "open3d", INSTALL_COMMAND) from error
    except (ImportError, OSError) as error:
        library = str(error).partition(":")[0]
        raise BackendMissingError(renderer, library, LIBRARIES_COMMAND) from error


def _ray_caster(mesh: Mesh) -> t.geometry.RaycastingScene | None:
    """A tree of a mesh's faces in its own frame; None where it has none."""
    from open3d import t
    from open3d.core import Tensor as Open3DTensor

    if len(mesh.faces) == 0:
        return None
    caster = t.geometry.RaycastingScene()
    caster.add_triangles(
        Open3DTensor.from_numpy(np.ascontiguousarray(mesh.vertices_m, np.float32)),
        Open3DTensor.from_numpy(np.ascontiguousarray(mesh.faces, np.uint32)),
    )
    return caster


def _parts(boxes: Int[np.ndarray, "b n 4"], class_ids: Int[np.ndarray, "b n"], max_rays: int) -> list[Int[np.ndarray, "m 6"]]:
    """What to draw at a time: (scene, slot, first row, last row, first column, last column), ordered by class.

    A box of more than ``max_rays`` samples is cut into bands of rows.  A part has ``max_rays`` rays and at most a band more.
    """
    rows, columns = boxes[..., 1] - boxes[..., 0] + 1, boxes[..., 3] - boxes[..., 2] + 1
    seen = np.argwhere((rows > 0) & (columns > 0))
    if len(seen) == 0:
        return []
    scene, slot = seen[np.argsort(class_ids[tuple(seen.T)], kind="stable")].T
    band_rows = np.maximum(1, max_rays // columns[scene, slot])
    bands = -(-rows[scene, slot] // band_rows)
    owner = np.repeat(np.arange(len(scene)), bands)
    band = np.arange(len(owner)) - (np.cumsum(bands) - bands)[owner]
    scene, slot, band_rows = scene[owner], slot[owner], band_rows[owner]
    box = boxes[scene, slot]
    top = box[:, 0] + band * band_rows
    bottom = np.minimum(box[:, 1], top + band_rows - 1)
    items = np.stack([scene, slot, top, bottom, box[:, 2], box[:, 3]], -1)
    rays = np.cumsum((bottom - top + 1) * columns[scene, slot])
    part = (rays - 1) // max_rays
    return np.split(items, np.flatnonzero(part[1:] != part[:-1]) + 1)
