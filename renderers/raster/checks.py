"""What inputs are refused, by ``raster`` and by its twin on the GPU."""

from __future__ import annotations

from torch import Tensor

from inverse_graphics.types import Catalogue, Objects, View
from renderers.raster.inputs import finite, to_numpy

MAX_SLOTS = 127
"""The kernels keep the number of the slot that is seen in a byte."""


def check_samples(samples_per_axis: int) -> None:
    """Raise ValueError unless there is a sample a pixel."""
    if samples_per_axis < 1:
        raise ValueError(f"samples_per_axis: expected at least 1, got {samples_per_axis}; use 1 for no antialiasing")


def check_scene(objects: Objects, view: View, catalogue: Catalogue) -> tuple[tuple[int, ...], int]:
    """Batch shape and number of slots.

    Raises:
        ValueError: shapes that do not fit, class ids out of range, or a pose of a present object that is not finite.
    """
    batch = check_shapes(objects, view)
    check_camera(view)
    check_objects("", objects, catalogue)
    if objects.class_ids.shape[-1] > MAX_SLOTS:
        raise ValueError(
            f"objects: expected at most {MAX_SLOTS} slots a scene, got {objects.class_ids.shape[-1]}; "
            "drop those that hold nothing"
        )
    return batch, objects.class_ids.shape[-1]


def check_shapes(objects: Objects, view: View) -> tuple[int, ...]:
    """Batch shape of objects and view; raise ValueError where they do not fit together."""
    batch = tuple(objects.class_ids.shape[:-1])
    height, width = view.camera.height_px, view.camera.width_px
    if tuple(view.camera.K_px.shape[:-2]) != batch:
        raise ValueError(
            f"view: expected the objects' batch dimensions {batch}, got {tuple(view.camera.K_px.shape[:-2])}; "
            "expand the view to one for each scene"
        )
    if height < 1 or width < 1:
        raise ValueError(f"camera: expected an image of at least 1 x 1 px, got {width} x {height}; set width_px and height_px")
    if tuple(view.background_rgb.shape) != (*batch, height, width, 3):
        raise ValueError(
            f"background_rgb: expected {(*batch, height, width, 3)}, got {tuple(view.background_rgb.shape)}; "
            "give one colour a pixel of the camera's image (an expanded view will do)"
        )
    return batch


def check_camera(view: View) -> None:
    """Raise ValueError for a camera that is not finite."""
    if not (finite(view.camera.K_px).all() and finite(view.camera.T_camera_world).all()):
        raise ValueError("camera: expected finite K_px and T_camera_world, got NaN or infinity; check what produced them")


def check_objects(prefix: str, objects: Objects, catalogue: Catalogue) -> None:
    """Raise ValueError where class ids or the poses of present objects cannot be drawn."""
    ids = to_numpy(objects.class_ids)
    low, high = (ids.min(), ids.max()) if ids.size else (0, 0)
    if low < 0 or high >= len(catalogue):
        raise ValueError(
            f"{prefix}class_ids: expected 0..{len(catalogue) - 1}, the catalogue's classes, got {low}..{high}; "
            "give empty slots any class and mark them in objects.present"
        )
    poses = finite(objects.T_world_object)
    if not poses.all() and not (poses.all((-2, -1)) | ~to_numpy(objects.present)).all():
        raise ValueError(
            f"{prefix}T_world_object: expected finite poses of present objects, got NaN or infinity; check what produced them"
        )


def check_alternatives(slots: tuple[int, ...], alternatives: Objects, view: View, target_rgb: Tensor) -> None:
    """Raise ValueError where the shapes of alternatives or target do not fit a stack of shape ``slots``."""
    if tuple(alternatives.class_ids.shape[:-1]) != slots:
        raise ValueError(
            f"alternatives: expected {slots} and a dimension of alternatives, got {tuple(alternatives.class_ids.shape)}; "
            "give every slot as many"
        )
    check_image("target_rgb", target_rgb, view, "compare with")


def check_image(name: str, image: Tensor, view: View, what_for: str) -> None:
    """Raise ValueError for an image of another size than the view's; ``what_for`` says what is done with images of that size."""
    if image.shape != view.background_rgb.shape:
        raise ValueError(
            f"{name}: expected {tuple(view.background_rgb.shape)}, got {tuple(image.shape)}; {what_for} images of the same camera"
        )
