# type: ignore  # device code: its types are checked by Warp's compiler
"""Warp functions for seams: two neighbouring samples of a stack, and the gradient of a loss by the images that show them."""

import warp as wp

from renderers.raster.warp.face_kernels import Layout, code_of
from renderers.raster.warp.push_kernels import Pair, Step
from renderers.raster.warp.stack_kernels import front_slot

wp.set_module_options({"enable_backward": False, "fuse_fp": False})


@wp.struct
class Loss:
    """A stack of drawn layers and the gradient of a loss with respect to images of it; images without one are empty arrays.

    ``rgb`` is by the images of the first first_prefix, first_prefix + 1, ... objects; ``depth`` and ``masks`` are by the image
    of all, depth with one sample a pixel.
    """

    keys: wp.array3d(dtype=wp.int64)
    background: wp.array3d(dtype=wp.vec3)
    rgb: wp.array4d(dtype=wp.vec3)
    depth: wp.array3d(dtype=wp.float32)
    masks: wp.array4d(dtype=wp.float32)
    first_prefix: wp.int32


@wp.struct
class Seam:
    """Two neighbouring samples, and the gradient by the images that show this pair, in A's pixel and in B's."""

    step: Step
    rgb_a: wp.vec3
    rgb_b: wp.vec3
    is_last: wp.int32


@wp.func
def rgb_weight(loss: Loss, layout: Layout, scene: wp.int32, count: wp.int32, row: wp.int32, column: wp.int32) -> wp.vec3:
    """Gradient with respect to a sample of the image of ``count`` objects; 0 where there is no such image."""
    s = layout.samples
    if loss.rgb.shape[0] == 0 or count < loss.first_prefix:
        return wp.vec3(0.0, 0.0, 0.0)
    return loss.rgb[scene, count - loss.first_prefix, row // s, column // s] / wp.float32(s * s)


@wp.func
def seam_of(
    loss: Loss,
    row: wp.int32,
    column: wp.int32,
    down: wp.int32,
    right: wp.int32,
    layer_a: wp.int32,
    layer_b: wp.int32,
    rgb_a: wp.vec3,
    rgb_b: wp.vec3,
    is_last: wp.int32,
) -> Seam:
    """Collect what belongs to a pair of samples."""
    seam = Seam()
    seam.step.row = row
    seam.step.column = column
    seam.step.down = down
    seam.step.right = right
    seam.step.layer_a = layer_a
    seam.step.layer_b = layer_b
    seam.step.code_a = -1
    seam.step.code_b = -1
    if layer_a >= 0:
        seam.step.code_a = code_of(loss.keys[layer_a, row, column])
    if layer_b >= 0:
        seam.step.code_b = code_of(loss.keys[layer_b, row + down, column + right])
    seam.rgb_a = rgb_a
    seam.rgb_b = rgb_b
    seam.is_last = is_last
    return seam


@wp.func
def seam_gradient(loss: Loss, layout: Layout, scene: wp.int32, seam: Seam, pair: Pair) -> wp.float32:
    """Gradient by the area, in samples, that a border's motion gives to A's side."""
    s = layout.samples
    share = 1.0 / wp.float32(s * s)
    weight = seam.rgb_a
    if pair.row != seam.step.row // s or pair.column != seam.step.column // s:
        weight = seam.rgb_b
    total = wp.dot(weight, pair.colour)
    if seam.is_last == 1:
        if loss.depth.shape[0] > 0:
            total += loss.depth[scene, pair.row, pair.column] * pair.depth * share
        if loss.masks.shape[0] > 0:
            n = layout.layers_per_scene
            if seam.step.layer_a >= 0:
                total += loss.masks[scene, seam.step.layer_a % n, pair.row, pair.column] * share
            if seam.step.layer_b >= 0:
                total -= loss.masks[scene, seam.step.layer_b % n, pair.row, pair.column] * share
    return total


@wp.func
def has_weight(loss: Loss, layout: Layout, scene: wp.int32, seam: Seam) -> wp.int32:
    """Whether a pair of samples may carry any gradient."""
    if wp.dot(seam.rgb_a, seam.rgb_a) + wp.dot(seam.rgb_b, seam.rgb_b) > 0.0:
        return 1
    if seam.is_last == 1 and (loss.depth.shape[0] > 0 or loss.masks.shape[0] > 0):
        return 1
    return 0


@wp.func
def full_seam(
    loss: Loss, layout: Layout, scene: wp.int32, row: wp.int32, column: wp.int32, down: wp.int32, right: wp.int32
) -> Seam:
    """A seam of the image of all objects."""
    n = layout.layers_per_scene
    base = scene * n
    slot_a = front_slot(loss.keys, base, n, -1, row, column)
    slot_b = front_slot(loss.keys, base, n, -1, row + down, column + right)
    layer_a = wp.int32(-1)
    layer_b = wp.int32(-1)
    if slot_a >= 0:
        layer_a = base + slot_a
    if slot_b >= 0:
        layer_b = base + slot_b
    rgb_a = rgb_weight(loss, layout, scene, n, row, column)
    rgb_b = rgb_weight(loss, layout, scene, n, row + down, column + right)
    return seam_of(loss, row, column, down, right, layer_a, layer_b, rgb_a, rgb_b, 1)
