"""Compiled passes that draw a stack once, and then replace one layer of it at a time: pose differences and alternatives."""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from inverse_graphics.compiled import inlined
from inverse_graphics.stack_kernels import (
    add_layer,
    canvases_without,
    fill_residual,
    pixels_touched,
    replaced_errors,
    squared_sum,
    weighted_change,
)
from renderers.raster.kernels import draw_shaded, make_scratch, scaled_camera


@inlined
def draw_stack(meshes, class_ids, T_camera_object, present, light, camera, scratch, q, code, colour, boxes):
    """Draw every layer of one scene.

    Fills q, code [n hs ws], colour [n hs ws 3] and boxes [n 4] (empty ones for absent objects).
    """
    for k in range(len(class_ids)):
        boxes[k, 0] = 0
        boxes[k, 1] = -1
        boxes[k, 2] = 0
        boxes[k, 3] = -1
        if present[k]:
            box = draw_shaded(meshes, class_ids[k], T_camera_object[k], light[k], camera, scratch, q[k], code[k], colour[k])
            for i in range(4):
                boxes[k, i] = box[i]


@inlined
def moved_change(meshes, k, class_id, T, light, camera, scratch, boxes, q, code, colour, background, samples, weights):
    """``weighted_change`` of slot k drawn with another pose; the last entries of q, code and colour are scratch."""
    n = len(boxes)
    box = draw_shaded(meshes, class_id, T, light, camera, scratch, q[n], code[n], colour[n])
    return weighted_change(k, box, q[n], colour[n], boxes, q, colour, background, samples, weights)


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def pose_difference_pass(
    meshes,
    class_ids,
    T_camera_object,
    present,
    light,
    T_moved,
    light_moved,
    camera,
    background,
    samples,
    workers,
    weights,
    difference,
):
    """Sum over prefixes and pixels of weights * (canvas with slot k moved forwards - canvas with slot k moved back).

    Args:
        meshes, class_ids, T_camera_object, present, light, camera, background, samples, workers: as in ``prefix_pass``.
        T_moved: [b n p 2 3 4] float32: slot k moved along tangent p, forwards and back.
        light_moved: [b n p 2 6] float32.
        weights: [b n + 1 h w 3] float32: gradient of a loss with respect to every prefix canvas.
        difference: [b n p] float32, filled.
    """
    batch, slots = class_ids.shape
    hs = background.shape[1] * samples
    ws = background.shape[2] * samples
    for worker in prange(workers):
        scratch = make_scratch(meshes, hs, ws)
        q = np.empty((slots + 1, hs, ws), np.float32)
        code = np.empty((slots + 1, hs, ws), np.int32)
        colour = np.empty((slots + 1, hs, ws, 3), np.float32)
        boxes = np.empty((slots, 4), np.int64)
        for b in range(worker, batch, workers):
            cam = scaled_camera(camera[b], samples)
            draw_stack(meshes, class_ids[b], T_camera_object[b], present[b], light[b], cam, scratch, q, code, colour, boxes)
            behind = background[b].reshape(background.shape[1], 3 * background.shape[2])
            for k in range(slots):
                for p in range(T_moved.shape[2]):
                    total = 0.0
                    for side in range(2 if present[b, k] else 0):
                        change = moved_change(
                            meshes,
                            k,
                            class_ids[b, k],
                            T_moved[b, k, p, side],
                            light_moved[b, k, p, side],
                            cam,
                            scratch,
                            boxes,
                            q,
                            code,
                            colour,
                            behind,
                            samples,
                            weights[b].reshape(slots + 1, background.shape[1], 3 * background.shape[2]),
                        )
                        total += change if side == 0 else -change
                    difference[b, k, p] = total / (samples * samples)


@inlined
def same_object(class_id, T, light, other_class_id, other_T, other_light):
    """Whether an alternative is the very object that it replaces."""
    if class_id != other_class_id:
        return False
    for i in range(3):
        for j in range(4):
            if T[i, j] != other_T[i, j]:
                return False
    for i in range(6):
        if light[i] != other_light[i]:
            return False
    return True


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def swap_error_pass(
    meshes,
    class_ids,
    T_camera_object,
    present,
    light,
    other_class_ids,
    T_other,
    other_present,
    light_other,
    camera,
    background,
    target,
    samples,
    workers,
    errors,
):
    """Squared error of every prefix canvas with one slot's object replaced by an alternative.

    Args:
        meshes, class_ids, T_camera_object, present, light, camera, background, samples, workers: as in ``prefix_pass``.
        other_class_ids, T_other, other_present, light_other: the alternatives, [b n a] and likewise; absent ones leave the slot
            empty.
        target: [b h w 3] float32.
        errors: [b n a n + 1] float32: sum over pixels and channels of (canvas - target)^2; entry m of slot k's alternatives is
            that of the prefix of m objects, and 0 for m <= k, where slot k is not drawn.
    """
    batch, slots = class_ids.shape
    height, width = background.shape[1:3]
    hs = height * samples
    ws = width * samples
    for worker in prange(workers):
        scratch = make_scratch(meshes, hs, ws)
        q = np.empty((slots + 1, hs, ws), np.float32)
        code = np.empty((slots + 1, hs, ws), np.int32)
        colour = np.empty((slots + 1, hs, ws, 3), np.float32)
        boxes = np.empty((slots, 4), np.int64)
        residual = np.empty((slots + 1, height, 3 * width), np.float32)
        grown = np.empty((height, 3 * width), np.float32)
        change = np.empty((slots + 1, 4))
        total = np.zeros(slots + 1)
        for b in range(worker, batch, workers):
            cam = scaled_camera(camera[b], samples)
            draw_stack(meshes, class_ids[b], T_camera_object[b], present[b], light[b], cam, scratch, q, code, colour, boxes)
            behind, wanted = background[b].reshape(height, 3 * width), target[b].reshape(height, 3 * width)
            span = pixels_touched(boxes, samples)
            # the canvas of the slots before k, minus the target, and its squared sum
            fill_residual(behind, wanted, span, grown)
            grown_total = squared_sum(behind, wanted)
            for k in range(slots):
                canvases_without(k, boxes, q, colour, behind, samples, span, grown, grown_total, residual, total)
                for a in range(other_class_ids.shape[2]):
                    other, T, other_light = other_class_ids[b, k, a], T_other[b, k, a], light_other[b, k, a]
                    box, layer = (0, -1, 0, -1), slots
                    if other_present[b, k, a] and present[b, k]:
                        if same_object(class_ids[b, k], T_camera_object[b, k], light[b, k], other, T, other_light):
                            box, layer = (boxes[k, 0], boxes[k, 1], boxes[k, 2], boxes[k, 3]), k
                    if other_present[b, k, a] and layer == slots:
                        box = draw_shaded(meshes, other, T, other_light, cam, scratch, q[slots], code[slots], colour[slots])
                    replaced_errors(
                        k,
                        box,
                        q[layer],
                        colour[layer],
                        boxes,
                        q,
                        colour,
                        behind,
                        wanted,
                        samples,
                        span,
                        residual,
                        total,
                        change,
                        errors[b, k, a],
                    )
                grown_total += add_layer(k, -1, boxes, q, colour, behind, samples, grown)
