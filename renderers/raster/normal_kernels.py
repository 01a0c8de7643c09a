"""Compiled forward pass: the image's derivative by each object's motions, summed at once into normal equations.

The same two kinds of samples as in ``gradient_kernels`` carry it; here every motion's change of every pixel is kept, for one
object at a time, because J^T J needs the products of whole pixels.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from inverse_graphics.compiled import inlined
from renderers.raster.border_kernels import (
    E_1,
    E_2,
    EDGE_OF_A,
    EDGE_OF_B,
    INTERSECTION,
    NONE,
    Q,
    Scene,
    barycentric,
    forget,
    in_camera,
    locate_border,
    look,
    make_seen,
)
from renderers.raster.draw_kernels import make_draw_scratch
from renderers.raster.gradient_kernels import colour_step, joined
from renderers.raster.image_kernels import draw_slots, find_winners, make_buffers
from renderers.raster.kernels import scaled_camera
from renderers.raster.shading_kernels import albedo_slopes, cosine_slopes, light_at, place_on


@inlined
def point_motion(motion, p, X, Y, Z, camera, x, y, q):
    """Motion of a material point over the screen (samples) and along the camera's axis (metres).

    Args:
        motion: [p 3 4] float64, derivatives of T_camera_object.
        p: which of them.
        X, Y, Z: the point in the object's frame.
        camera: [5] in samples.
        x, y, q: where it is seen, and 1 / z.
    """
    along, down, away = in_camera(motion, p, X, Y, Z)
    return q * (camera[0] * along - (x - camera[2]) * away), q * (camera[1] * down - (y - camera[3]) * away), away


@inlined
def add_sample(scene, k, code, x, y, motion, light_motion, jacobian):
    """Add what a sample that goes on showing a face of object k changes.

    Args:
        scene: border_kernels.Scene.
        k, code: slot and code.
        x, y: place of the sample.
        motion: [p 3 4] derivatives of T_camera_object.
        light_motion: [p 3] derivatives of the light's direction or position in the object's frame.
        jacobian: [p h w 3] float32, added to.
    """
    meshes, seen, samples, class_id, face = scene.meshes, scene.seen, scene.samples, scene.class_ids[k], code >> 1
    light = light_at(scene.light, k)
    row = look(scene, k, face)
    b1, b2, q = barycentric(seen, row, x, y)
    b0 = 1.0 - b1 - b2
    albedo, by_1, by_2, _ = albedo_slopes(meshes, class_id, face, b0, b1, b2)
    cosine, cosine_1, cosine_2, by_light, _ = cosine_slopes(meshes, class_id, code, b0, b1, b2, light)
    level, diffuse = light[3] + light[4] * cosine, light[4]
    x_1, x_2 = (seen[row, E_1] - b1 * seen[row, Q]) / q, (seen[row, E_2] - b2 * seen[row, Q]) / q
    y_1, y_2 = (seen[row, E_1 + 1] - b1 * seen[row, Q + 1]) / q, (seen[row, E_2 + 1] - b2 * seen[row, Q + 1]) / q
    X, Y, Z = place_on(meshes, class_id, face, b0, b1, b2)
    pixel_row, column = np.int64(y) // samples, np.int64(x) // samples
    scale = 1.0 / (samples * samples)
    for p in range(len(motion)):
        along, down, _ = point_motion(motion, p, X, Y, Z, scene.camera, x, y, q)
        change_1, change_2 = -(x_1 * along + y_1 * down), -(x_2 * along + y_2 * down)
        brighter = cosine_1 * change_1 + cosine_2 * change_2
        for i in range(3):
            brighter += by_light[i] * light_motion[p, i]
        for i in range(3):
            change = level * (by_1[i] * change_1 + by_2[i] * change_2) + diffuse * brighter * albedo[i]
            jacobian[p, pixel_row, column, i] += scale * change


@inlined
def add_border(scene, k, a, code_a, b, code_b, x, y, dx, dy, motion, jacobian):
    """Add what the border between two neighbouring samples changes by the motion of object k.

    Args:
        scene, k, motion, jacobian: as in ``add_sample``.
        a, code_a, b, code_b, x, y, dx, dy: as in ``border_kernels.locate_border``.
    """
    what, way, nx, ny, code_a, row_a, code_b, row_b = locate_border(scene, a, code_a, b, code_b, x, y, dx, dy)
    if what == NONE or (what == EDGE_OF_A and a != k) or (what == EDGE_OF_B and b != k):
        return
    seen, samples = scene.seen, scene.samples
    u, v = x + way * dx, y + way * dy
    pixel_row = min(np.int64(v) // samples, scene.background.shape[0] - 1)
    column = min(np.int64(u) // samples, scene.background.shape[1] - 1)
    red, green, blue = colour_step(scene, a, code_a, row_a, b, code_b, row_b, u, v, pixel_row, column)
    across = (nx * dx + ny * dy) / (samples * samples)
    for side in range(2):
        slot, code, row = (a, code_a, row_a) if side == 0 else (b, code_b, row_b)
        if slot != k or (what == EDGE_OF_A and side == 1) or (what == EDGE_OF_B and side == 0):
            continue
        b1, b2, q = barycentric(seen, row, u, v)
        X, Y, Z = place_on(scene.meshes, scene.class_ids[k], code >> 1, 1.0 - b1 - b2, b1, b2)
        for p in range(len(motion)):
            along, down, away = point_motion(motion, p, X, Y, Z, scene.camera, u, v, q)
            area = across * (nx * along + ny * down)
            if what == INTERSECTION:
                area = across * (q * q * away + seen[row, Q] * along + seen[row, Q + 1] * down)
                if side == 1:
                    area = -area
            jacobian[p, pixel_row, column, 0] += area * red
            jacobian[p, pixel_row, column, 1] += area * green
            jacobian[p, pixel_row, column, 2] += area * blue


@njit(cache=True, nogil=True, error_model="numpy")
def add_object(scene, k, box, codes, winner, motion, light_motion, jacobian):
    """Add all that object k's motion changes; arguments as in ``add_sample`` and ``normal_pass``."""
    height, width = winner.shape
    for r in range(max(box[0] - 1, 0), box[1] + 1):
        for c in range(max(box[2] - 1, 0), box[3] + 1):
            a = np.int64(winner[r, c])
            code_a = codes[a, r, c] if a >= 0 else np.int32(-1)
            if a == k:
                add_sample(scene, k, code_a, c + 0.5, r + 0.5, motion, light_motion, jacobian)
            for way in range(2):
                dx, dy = 1 - way, way
                if c + dx >= width or r + dy >= height:
                    continue
                b = np.int64(winner[r + dy, c + dx])
                if a != k and b != k:
                    continue
                code_b = codes[b, r + dy, c + dx] if b >= 0 else np.int32(-1)
                if a != b or not joined(scene, k, code_a, code_b):
                    add_border(scene, k, a, code_a, b, code_b, c + 0.5, r + 0.5, dx, dy, motion, jacobian)


@njit(cache=True, nogil=True, error_model="numpy", parallel=True)
def normal_pass(
    meshes,
    class_ids,
    T_camera_object,
    present,
    light,
    camera,
    background,
    samples,
    workers,
    motion,
    light_motion,
    residual,
    gradient,
    hessian,
):
    """J^T r and J^T J of every object's motions.

    Args:
        meshes, class_ids, T_camera_object, present, light, camera, background, samples, workers: as in
            ``image_kernels.render_pass``.
        motion: [b n p 3 4] float64, derivatives of T_camera_object.
        light_motion: [b n p 3] float64, derivatives of the light in the objects' frames.
        residual: [b h w 3] float32, r.
        gradient: [b n p] float64, filled with J^T r.
        hessian: [b n p p] float64, filled with J^T J.
    """
    batch, slots, motions = motion.shape[:3]
    height, width = background.shape[1:3]
    for worker in prange(workers):
        scratch = make_draw_scratch(meshes)
        size = (slots, height * samples, width * samples)
        q, w1, w2, code, front_q, boxes = make_buffers(size)
        winner = np.empty(size[1:], np.int8)
        seen = make_seen(meshes, slots)
        jacobian = np.empty((motions, height, width, 3), np.float32)
        for b in range(worker, batch, workers):
            cam = scaled_camera(camera[b], samples)
            draw_slots(meshes, class_ids[b], T_camera_object[b], present[b], cam, scratch, q, w1, w2, code, boxes)
            find_winners(boxes, q, code, front_q, winner)
            forget(meshes, class_ids[b], seen)
            scene = Scene(meshes, class_ids[b], T_camera_object[b], light[b], cam, background[b], samples, 0, seen)
            for k in range(slots):
                gradient[b, k] = 0.0
                hessian[b, k] = 0.0
                if boxes[k, 1] < boxes[k, 0]:
                    continue
                top, bottom = max(boxes[k, 0] - 1, 0) // samples, min((boxes[k, 1] + 1) // samples, height - 1)
                left, right = max(boxes[k, 2] - 1, 0) // samples, min((boxes[k, 3] + 1) // samples, width - 1)
                jacobian[:, top : bottom + 1, left : right + 1] = 0.0
                add_object(scene, k, boxes[k], code, winner, motion[b, k], light_motion[b, k], jacobian)
                for row in range(top, bottom + 1):
                    for column in range(left, right + 1):
                        for i in range(3):
                            r = residual[b, row, column, i]
                            for p in range(motions):
                                one = np.float64(jacobian[p, row, column, i])
                                gradient[b, k, p] += one * r
                                for o in range(p + 1):
                                    hessian[b, k, p, o] += one * jacobian[o, row, column, i]
                for p in range(motions):
                    for o in range(p):
                        hessian[b, k, o, p] = hessian[b, k, p, o]
