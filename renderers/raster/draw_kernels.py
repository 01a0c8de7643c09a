"""Compiled drawing of one object into a sample buffer: which face each sample shows, where on it and how far away.

Coverage is homogeneous rasterisation (Olano and Greer, "Triangle scan conversion using 2D homogeneous coordinates", 1997): for a
face with corners v0, v1, v2 in the camera's frame, the functions e_i = A_i . (x, y, 1) with A_0 = (v1 x v2) / det and so on are
linear on the image plane, equal b_i / z for the perspective-correct barycentric coordinates b_i, and sum to 1 / z.  A sample is
covered where none is negative.  So nothing has to be clipped: a face that crosses the near plane only loses the samples in front
of it.

Most faces are about as large as the distance of two samples, so whether one is seen, holds a sample and covers it are tosses of a
coin, and a wrong guess of the processor takes longer than the arithmetic.  Small faces therefore go through lists without a
branch: an entry is always written, and the list's length grows by 0 or 1.  They hold, in turn, the faces turned to the camera,
those whose box holds samples, and the samples they cover; what the last one holds goes into the buffers at the end.

Coordinates of samples: column and row, with centres at 0.5, 1.5, ...  Setup is in float64, the loop over samples in float32.
Indices are unsigned here, because of signed ones the compiler asks each time whether they count from the end.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from inverse_graphics.compiled import inlined, ranked

TOLERANCE = np.float32(-1e-6)
"""Relative slack of the coverage test: neighbouring faces overlap by a millionth instead of leaving cracks."""
SMALL_FACE = 36
"""Samples in the box of a face that goes through the list of covered samples, at most; larger ones are drawn at once."""
PENDING = 2048
"""Covered samples in that list before it is written into the buffers."""
FAR_AWAY = 1e9
"""Places farther outside the image than this, in samples, are not told apart, so that they fit an integer."""


class DrawScratch(NamedTuple):
    """A worker's memory for drawing one object at a time."""

    corners: np.ndarray
    """[5 max_v] float64: x, y, z of a mesh's vertices in the camera's frame (metres), column and row where they are seen."""
    places: np.ndarray
    """[4 max_v] int32: first column whose centre is not before a vertex, last one not after it; likewise rows."""
    facing: np.ndarray
    """[max_f] float32: positive where a face's front is seen."""
    faces: np.ndarray
    """[max_f + 1] int32: faces that may be seen."""
    areas: np.ndarray
    """[max_f + 1 5] int32: a face whose box holds samples; its first row, last row, first column, last column."""
    where: np.ndarray
    """[PENDING + SMALL_FACE 2] int32: row and column of a covered sample."""
    codes: np.ndarray
    """[PENDING + SMALL_FACE] int32: what covers it, as in ``draw_object``."""
    weights: np.ndarray
    """[PENDING + SMALL_FACE 3] float32: 1 / z there, and barycentric coordinates of the corners 1 and 2, over z."""


@njit(cache=True, nogil=True, error_model="numpy")
def make_draw_scratch(meshes):
    """Scratch for the largest mesh of a catalogue."""
    vertices, faces = 1, 1
    for i in range(len(meshes.vertex_start) - 1):
        vertices = max(vertices, meshes.vertex_start[i + 1] - meshes.vertex_start[i])
        faces = max(faces, meshes.face_start[i + 1] - meshes.face_start[i])
    pending = PENDING + SMALL_FACE
    return DrawScratch(
        np.empty((5, vertices)),
        np.empty((4, vertices), np.int32),
        np.empty(faces, np.float32),
        np.empty(faces + 1, np.int32),
        np.empty((faces + 1, 5), np.int32),
        np.empty((pending, 2), np.int32),
        np.empty(pending, np.int32),
        np.empty((pending, 3), np.float32),
    )


@inlined
def clamp(value):
    """``value`` within FAR_AWAY of 0; FAR_AWAY where it is no number."""
    value = value if value < FAR_AWAY else FAR_AWAY
    return value if value > -FAR_AWAY else -FAR_AWAY


@inlined
def transform_vertices(meshes, class_id, T, camera, scratch):
    """Camera-frame positions of a mesh's vertices, and the samples next to them.

    Args:
        meshes: PackedMeshes.
        class_id: which mesh.
        T: [3 4] float32, T_camera_object.
        camera: [5] float64: fx, fy, cx, cy in samples, and the near plane in metres.
        scratch: corners and places are filled; places mean nothing for vertices that are not in front of the camera.

    Returns:
        Nearest and farthest z; first row, last row, first column and last column next to any vertex, as floats.
    """
    by_axis, corners, places = meshes.vertices_by_axis, scratch.corners, scratch.places
    start = np.uintp(meshes.vertex_start[class_id])
    count = meshes.vertex_start[class_id + 1] - meshes.vertex_start[class_id]
    # one output a loop: the compiler then sees that nothing overlaps, and does several vertices at once
    for axis in range(3):
        a, b = np.float64(T[axis, 0]), np.float64(T[axis, 1])
        c, d = np.float64(T[axis, 2]), np.float64(T[axis, 3])
        for j in range(count):
            i = start + np.uintp(j)
            corners[axis, j] = a * by_axis[0, i] + b * by_axis[1, i] + c * by_axis[2, i] + d
    near, far = extremes(corners[2], count)
    fx, fy, cx, cy = camera[0], camera[1], camera[2], camera[3]
    for j in range(count):
        corners[3, j] = fx * corners[0, j] / corners[2, j] + cx
    for j in range(count):
        corners[4, j] = fy * corners[1, j] / corners[2, j] + cy
    left, right = extremes(corners[3], count)
    top, bottom = extremes(corners[4], count)
    for axis in range(2):
        for j in range(count):
            places[2 * axis, j] = np.int32(np.ceil(clamp(corners[3 + axis, j]) - 0.5))
        for j in range(count):
            places[2 * axis + 1, j] = np.int32(np.floor(clamp(corners[3 + axis, j]) - 0.5))
    return near, far, (first_of(top), last_of(bottom), first_of(left), last_of(right))


@ranked
def extremes(values, count):
    """Least and greatest of the first ``count`` values."""
    least, greatest = np.inf, -np.inf
    for j in range(count):
        least = min(least, values[j])
        greatest = max(greatest, values[j])
    return least, greatest


@inlined
def first_of(low):
    """First sample whose centre is not before a place."""
    return np.ceil(clamp(low) - 0.5)


@inlined
def last_of(high):
    """Last sample whose centre is not after a place."""
    return np.floor(clamp(high) - 0.5)


@inlined
def object_box(near, far, around, near_m, height, width):
    """Samples that an object may cover: first row, last row, first column, last column; all if it crosses the near plane.

    near, far and around are from ``transform_vertices``.
    """
    if not far >= near_m:
        return 0, -1, 0, -1
    if near < near_m:
        return 0, height - 1, 0, width - 1
    r_first, r_last = np.int64(max(around[0], 0.0)), np.int64(min(around[1], height - 1.0))
    c_first, c_last = np.int64(max(around[2], 0.0)), np.int64(min(around[3], width - 1.0))
    if r_last < r_first or c_last < c_first:
        return 0, -1, 0, -1
    return r_first, r_last, c_first, c_last


@inlined
def list_facing(meshes, class_id, T, cull, scratch):
    """List the faces whose front is seen, or all of them; returns how many.

    The front is seen where the camera is in front of the face's plane.  In the object's frame the camera stands at -A^-1 t, A and
    t being the parts of T; all is multiplied by det A, so that a mirrored object is judged as it is seen.
    """
    faces, facing, planes = scratch.faces, scratch.facing, meshes.planes
    first = np.uintp(meshes.face_start[class_id])
    count = meshes.face_start[class_id + 1] - meshes.face_start[class_id]
    if not cull:
        for i in range(count):
            faces[i] = np.int32(first + np.uintp(i))
        return np.uintp(count)
    ux, uy, uz = cross_rows(T, 1, 2)
    vx, vy, vz = cross_rows(T, 2, 0)
    wx, wy, wz = cross_rows(T, 0, 1)
    tx, ty, tz = np.float64(T[0, 3]), np.float64(T[1, 3]), np.float64(T[2, 3])
    x, y, z = (
        np.float32(-(tx * ux + ty * vx + tz * wx)),
        np.float32(-(tx * uy + ty * vy + tz * wy)),
        np.float32(-(tx * uz + ty * vz + tz * wz)),
    )
    det = np.float32(T[0, 0] * ux + T[0, 1] * uy + T[0, 2] * uz)
    for i in range(count):
        face = first + np.uintp(i)
        facing[i] = planes[0, face] * x + planes[1, face] * y + planes[2, face] * z + planes[3, face] * det
    listed = np.uintp(0)
    for i in range(count):
        faces[listed] = np.int32(first + np.uintp(i))
        listed += np.uintp(facing[i] > np.float32(0.0))
    return listed


@inlined
def cross_rows(T, i, j):
    """Cross product of two rows of T's left part, in float64."""
    ax, ay, az = np.float64(T[i, 0]), np.float64(T[i, 1]), np.float64(T[i, 2])
    bx, by, bz = np.float64(T[j, 0]), np.float64(T[j, 1]), np.float64(T[j, 2])
    return ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx


@inlined
def list_areas(meshes, listed, box, near_m, crosses, scratch):
    """List the samples that each listed face may cover, where there are any; returns how many faces have some.

    A face that crosses the near plane may cover the whole of the object's box.
    """
    corners, places, areas = scratch.corners, scratch.places, scratch.areas
    r_first, r_last = np.int32(box[0]), np.int32(box[1])
    c_first, c_last = np.int32(box[2]), np.int32(box[3])
    kept = np.uintp(0)
    for s in range(listed):
        face = np.uintp(scratch.faces[s])
        i, j, k = np.uintp(meshes.faces[face, 0]), np.uintp(meshes.faces[face, 1]), np.uintp(meshes.faces[face, 2])
        c0 = max(min(places[0, i], places[0, j], places[0, k]), c_first)
        c1 = min(max(places[1, i], places[1, j], places[1, k]), c_last)
        r0 = max(min(places[2, i], places[2, j], places[2, k]), r_first)
        r1 = min(max(places[3, i], places[3, j], places[3, k]), r_last)
        in_front = True
        if crosses:
            nearest = min(corners[2, i], corners[2, j], corners[2, k])
            in_front = max(corners[2, i], corners[2, j], corners[2, k]) >= near_m
            if nearest < near_m:
                r0, r1, c0, c1 = r_first, r_last, c_first, c_last
        areas[kept, 0] = np.int32(face)
        areas[kept, 1] = r0
        areas[kept, 2] = r1
        areas[kept, 3] = c0
        areas[kept, 4] = c1
        kept += np.uintp(in_front & (r1 >= r0) & (c1 >= c0))
    return kept


@inlined
def face_edges(corners, i, j, k, inverse_fx, inverse_fy):
    """A face's edge functions e_0, e_1, e_2 on the image plane.

    Args:
        corners: from ``Scratch``.
        i, j, k: the face's vertices.
        inverse_fx, inverse_fy: 1 / fx and 1 / fy, in samples.

    Returns:
        det (0 if the face is seen edge-on, positive if from behind), and for each function its steps along a row and down a
        column and its value at the principal point.
    """
    x0, y0, z0 = corners[0, i], corners[1, i], corners[2, i]
    x1, y1, z1 = corners[0, j], corners[1, j], corners[2, j]
    x2, y2, z2 = corners[0, k], corners[1, k], corners[2, k]
    ax = y1 * z2 - z1 * y2
    ay = z1 * x2 - x1 * z2
    az = x1 * y2 - y1 * x2
    det = x0 * ax + y0 * ay + z0 * az
    inverse = 1.0 / det
    kx = inverse * inverse_fx
    ky = inverse * inverse_fy
    return (
        det,
        (ax * kx, ay * ky, az * inverse),
        ((y2 * z0 - z2 * y0) * kx, (z2 * x0 - x2 * z0) * ky, (x2 * y0 - y2 * x0) * inverse),
        ((y0 * z1 - z0 * y1) * kx, (z0 * x1 - x0 * z1) * ky, (x0 * y1 - y0 * x1) * inverse),
    )


@inlined
def at_sample(edge, x, y):
    """An edge function at a sample, relative to the principal point, and its steps along a row and down a column, in float32."""
    return np.float32(edge[0] * x + edge[1] * y + edge[2]), np.float32(edge[0]), np.float32(edge[1])


@inlined
def list_covered(area, edges, inverse_near, face_code, scratch, pending):
    """Append the samples that a small face covers to the list of ``pending`` ones; returns how many there are then.

    Args:
        area: first row, last row, first column, last column, and the slack of the coverage test.
        edges: three of ``at_sample`` at the area's first sample.
        inverse_near: 1 / z at the near plane, float32.
        face_code: what covers them.
    """
    where, codes, weights = scratch.where, scratch.codes, scratch.weights
    r0, r1, c0, c1, slack = area
    (e0, e0x, e0y), (e1, e1x, e1y), (e2, e2x, e2y) = edges
    for i in range(r1 - r0 + 1):
        down = np.float32(i)
        s0, s1, s2 = e0 + e0y * down, e1 + e1y * down, e2 + e2y * down
        for j in range(c1 - c0 + 1):
            along = np.float32(j)
            w0, w1, w2 = s0 + e0x * along, s1 + e1x * along, s2 + e2x * along
            q = w0 + w1 + w2
            where[pending, 0] = r0 + np.int32(i)
            where[pending, 1] = c0 + np.int32(j)
            codes[pending] = face_code
            weights[pending, 0] = q
            weights[pending, 1] = w1
            weights[pending, 2] = w2
            pending += np.uintp((w0 >= slack) & (w1 >= slack) & (w2 >= slack) & (q <= inverse_near))
    return pending


@inlined
def draw_pending(scratch, pending, inverse_depth, weight_1, weight_2, code):
    """Write the listed samples into the buffers, where they are in front."""
    for i in range(pending):
        r, c, q = np.uintp(scratch.where[i, 0]), np.uintp(scratch.where[i, 1]), scratch.weights[i, 0]
        if q > inverse_depth[r, c]:
            inverse_depth[r, c] = q
            weight_1[r, c] = scratch.weights[i, 1]
            weight_2[r, c] = scratch.weights[i, 2]
            code[r, c] = scratch.codes[i]


@inlined
def draw_face(area, edges, inverse_near, face_code, inverse_depth, weight_1, weight_2, code):
    """Draw a large face at once; arguments as in ``list_covered`` and ``draw_object``."""
    r0, r1, c0, c1, slack = area
    (e0, e0x, e0y), (e1, e1x, e1y), (e2, e2x, e2y) = edges
    for i in range(r1 - r0 + 1):
        down = np.float32(i)
        r = np.uintp(r0) + np.uintp(i)
        s0, s1, s2 = e0 + e0y * down, e1 + e1y * down, e2 + e2y * down
        for j in range(c1 - c0 + 1):
            along = np.float32(j)
            c = np.uintp(c0) + np.uintp(j)
            w0, w1, w2 = s0 + e0x * along, s1 + e1x * along, s2 + e2x * along
            if w0 >= slack and w1 >= slack and w2 >= slack:
                q = w0 + w1 + w2
                if q > inverse_depth[r, c] and q <= inverse_near:
                    inverse_depth[r, c] = q
                    weight_1[r, c] = w1
                    weight_2[r, c] = w2
                    code[r, c] = face_code


@inlined
def draw_areas(meshes, count, camera, scratch, inverse_depth, weight_1, weight_2, code):
    """Draw the faces that ``list_areas`` listed, in their order."""
    corners, areas = scratch.corners, scratch.areas
    cx, cy, inverse_fx, inverse_fy = camera[2], camera[3], 1.0 / camera[0], 1.0 / camera[1]
    near_m, inverse_near = camera[4], np.float32(1.0 / camera[4])
    pending = np.uintp(0)
    for s in range(count):
        face = np.uintp(areas[s, 0])
        i, j, k = np.uintp(meshes.faces[face, 0]), np.uintp(meshes.faces[face, 1]), np.uintp(meshes.faces[face, 2])
        det, a, b, d = face_edges(corners, i, j, k, inverse_fx, inverse_fy)
        if det == 0.0 or not np.isfinite(det):
            continue
        r0, r1, c0, c1 = areas[s, 1], areas[s, 2], areas[s, 3], areas[s, 4]
        slack = TOLERANCE / np.float32(max(min(corners[2, i], corners[2, j], corners[2, k]), near_m))
        area = (r0, r1, c0, c1, slack)
        x, y = c0 + 0.5 - cx, r0 + 0.5 - cy
        edges = at_sample(a, x, y), at_sample(b, x, y), at_sample(d, x, y)
        face_code = 2 * areas[s, 0] + np.int32(det > 0.0)
        if np.int64(r1 - r0 + 1) * np.int64(c1 - c0 + 1) <= SMALL_FACE:
            pending = list_covered(area, edges, inverse_near, face_code, scratch, pending)
            if pending < PENDING:
                continue
            draw_pending(scratch, pending, inverse_depth, weight_1, weight_2, code)
        else:
            # what comes first in the mesh is drawn first: of faces at the same depth it is seen
            draw_pending(scratch, pending, inverse_depth, weight_1, weight_2, code)
            draw_face(area, edges, inverse_near, face_code, inverse_depth, weight_1, weight_2, code)
        pending = np.uintp(0)
    draw_pending(scratch, pending, inverse_depth, weight_1, weight_2, code)


@inlined
def draw_object(meshes, class_id, T, camera, scratch, inverse_depth, weight_1, weight_2, code):
    """Draw one object alone: clears the buffers within the object's box, then fills what it covers.

    A pose that overflowed float32 on its way into the camera's frame draws nothing.

    Args:
        meshes: PackedMeshes.
        class_id: which mesh.
        T: [3 4] float32, T_camera_object.
        camera: [5] float64: fx, fy, cx, cy in samples, and the near plane in metres.
        scratch: Scratch.
        inverse_depth: [hs ws] float32, filled: 1 / z, 0 where empty.
        weight_1, weight_2: [hs ws] float32, filled where covered: barycentric coordinates of the corners 1 and 2, over z.
        code: [hs ws] int32, filled: 2 * face, plus 1 where the face is seen from behind; -1 where empty.

    Returns:
        The box (first row, last row, first column, last column), ends included; outside it the buffers are left as they were.
    """
    height, width = inverse_depth.shape
    for i in range(3):
        for j in range(4):
            if not np.isfinite(T[i, j]):
                return 0, -1, 0, -1
    near, far, around = transform_vertices(meshes, class_id, T, camera, scratch)
    box = object_box(near, far, around, camera[4], height, width)
    for i in range(box[1] - box[0] + 1):
        r = np.uintp(box[0]) + np.uintp(i)
        for j in range(box[3] - box[2] + 1):
            c = np.uintp(box[2]) + np.uintp(j)
            inverse_depth[r, c] = 0.0
            code[r, c] = -1
    if box[1] < box[0]:
        return box
    crosses = near < camera[4]
    listed = list_facing(meshes, class_id, T, meshes.cull_back[class_id] and not crosses, scratch)
    listed = list_areas(meshes, listed, box, camera[4], crosses, scratch)
    draw_areas(meshes, listed, camera, scratch, inverse_depth, weight_1, weight_2, code)
    return box
