"""Compiled building blocks: draw one object into a sample buffer, and shade what it covers.

Coverage is homogeneous rasterisation (Olano and Greer, "Triangle scan conversion using 2D homogeneous coordinates", 1997): for a
face with corners v0, v1, v2 in the camera's frame, the functions e_i = A_i . (x, y, 1) with A_0 = (v1 x v2) / det and so on are
linear on the image plane, equal b_i / z for the perspective-correct barycentric coordinates b_i, and sum to 1 / z.  A sample is
covered where none is negative.  So nothing has to be clipped: a face that crosses the near plane only loses the samples in front
of it.

Coordinates of samples: column and row, with centres at 0.5, 1.5, ...  Setup is in float64, the loop over samples in float32.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from inverse_graphics.compiled import inlined
from renderers.raster.shading_kernels import shade

TOLERANCE = np.float32(-1e-6)
"""Relative slack of the coverage test: neighbouring faces overlap by a millionth instead of leaving cracks."""


@inlined
def transform_vertices(vertices_m, start, stop, T, camera, corners):
    """Camera-frame positions and sample coordinates of a mesh's vertices.

    Args:
        vertices_m: [v 3] float32.
        start: first vertex.
        stop: one past the last.
        T: [3 4] float32, T_camera_object.
        camera: [5] float64: fx, fy, cx, cy in samples, and the near plane in metres.
        corners: [5 max_v] float64, filled with x, y, z (metres), column and row (samples).

    Returns:
        (nearest z, farthest z, first column, last column, first row, last row); not finite if a vertex is not.
    """
    near = np.inf
    far = -np.inf
    left = np.inf
    right = -np.inf
    top = np.inf
    bottom = -np.inf
    for i in range(start, stop):
        X = np.float64(vertices_m[i, 0])
        Y = np.float64(vertices_m[i, 1])
        Z = np.float64(vertices_m[i, 2])
        x = T[0, 0] * X + T[0, 1] * Y + T[0, 2] * Z + T[0, 3]
        y = T[1, 0] * X + T[1, 1] * Y + T[1, 2] * Z + T[1, 3]
        z = T[2, 0] * X + T[2, 1] * Y + T[2, 2] * Z + T[2, 3]
        inverse = 1.0 / z
        column = camera[0] * x * inverse + camera[2]
        row = camera[1] * y * inverse + camera[3]
        j = i - start
        corners[0, j] = x
        corners[1, j] = y
        corners[2, j] = z
        corners[3, j] = column
        corners[4, j] = row
        near = min(near, z)
        far = max(far, z)
        left = min(left, column)
        right = max(right, column)
        top = min(top, row)
        bottom = max(bottom, row)
    return near, far, left, right, top, bottom


@inlined
def first_sample(low):
    """First sample whose centre is at or after ``low``, at least 0; far outside the image any number past its end."""
    return np.int64(np.ceil(min(max(low, 0.0), 1e9) - 0.5))


@inlined
def last_sample(high, last):
    """Last sample whose centre is at or before ``high``, at most ``last``; may be -1."""
    return np.int64(np.floor(min(max(high, -0.5), last + 1.0) - 0.5))


@inlined
def object_box(left, right, top, bottom, near, far, near_m, height, width):
    """Samples that an object may cover: first row, last row, first column, last column.

    Those are all samples if it crosses the near plane.  Arguments: extremes of its vertices, from ``transform_vertices``.
    """
    if not far >= near_m:
        return 0, -1, 0, -1
    if near < near_m:
        return 0, height - 1, 0, width - 1
    r_first, r_last = first_sample(top), last_sample(bottom, height - 1)
    c_first, c_last = first_sample(left), last_sample(right, width - 1)
    if r_last < r_first or c_last < c_first:
        return 0, -1, 0, -1
    return r_first, r_last, c_first, c_last


@inlined
def face_box(corners, i, j, k, box, near_m, inverse_near, crosses, cull):
    """Samples that a face may cover, and the slack of its coverage test.

    Args:
        corners: from ``transform_vertices``.
        i, j, k: the face's vertices.
        box: from ``object_box``.
        near_m, inverse_near: the near plane, and its inverse in float32.
        crosses: the object crosses it.
        cull: faces turned away are left out.

    Returns:
        (first row, last row, first column, last column, slack); an empty box if nothing of the face is to be drawn.
    """
    z0 = corners[2, i]
    z1 = corners[2, j]
    z2 = corners[2, k]
    slack = TOLERANCE * inverse_near
    if not crosses or (z0 >= near_m and z1 >= near_m and z2 >= near_m):
        col0 = corners[3, i]
        col1 = corners[3, j]
        col2 = corners[3, k]
        row0 = corners[4, i]
        row1 = corners[4, j]
        row2 = corners[4, k]
        if cull and (col1 - col0) * (row2 - row0) - (col2 - col0) * (row1 - row0) >= 0.0:
            return 0, -1, 0, -1, slack
        c0 = first_sample(min(col0, col1, col2))
        c1 = last_sample(max(col0, col1, col2), box[3])
        r0 = first_sample(min(row0, row1, row2))
        r1 = last_sample(max(row0, row1, row2), box[1])
        return r0, r1, c0, c1, TOLERANCE / np.float32(min(z0, z1, z2))
    if z0 < near_m and z1 < near_m and z2 < near_m:
        return 0, -1, 0, -1, slack
    return box[0], box[1], box[2], box[3], slack


@inlined
def face_edges(corners, i, j, k, inverse_fx, inverse_fy):
    """A face's edge functions e_0, e_1, e_2 on the image plane.

    Args:
        corners: from ``transform_vertices``.
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
def fill_face(area, edges, cx, cy, inverse_near, face_code, inverse_depth, weight_1, weight_2, code):
    """Draw the part of a face that is in front of what is drawn already.

    Args:
        area: from ``face_box``.
        edges: three functions of ``face_edges``.
        cx, cy: the principal point, in samples.
        inverse_near: 1 / z at the near plane, float32.
        face_code: what to write into ``code``.
        inverse_depth, weight_1, weight_2, code: as in ``draw_object``.
    """
    r0, r1, c0, c1, slack = area
    a, b, d = edges
    x = c0 + 0.5 - cx
    y = r0 + 0.5 - cy
    # e_i at the first sample, and its steps along a row and down a column
    e0 = np.float32(a[0] * x + a[1] * y + a[2])
    e1 = np.float32(b[0] * x + b[1] * y + b[2])
    e2 = np.float32(d[0] * x + d[1] * y + d[2])
    e0x = np.float32(a[0])
    e1x = np.float32(b[0])
    e2x = np.float32(d[0])
    e0y = np.float32(a[1])
    e1y = np.float32(b[1])
    e2y = np.float32(d[1])
    for r in range(r0, r1 + 1):
        down = np.float32(r - r0)
        s0 = e0 + e0y * down
        s1 = e1 + e1y * down
        s2 = e2 + e2y * down
        for c in range(c0, c1 + 1):
            along = np.float32(c - c0)
            w0 = s0 + e0x * along
            w1 = s1 + e1x * along
            w2 = s2 + e2x * along
            if w0 >= slack and w1 >= slack and w2 >= slack:
                q = w0 + w1 + w2
                if q > inverse_depth[r, c] and q <= inverse_near:
                    inverse_depth[r, c] = q
                    weight_1[r, c] = w1
                    weight_2[r, c] = w2
                    code[r, c] = face_code


@inlined
def draw_object(
    vertices_m, faces, vertex_start, face_start, cull_back, class_id, T, camera, corners, inverse_depth, weight_1, weight_2, code
):
    """Draw one object alone: clears the buffers within the object's box, then fills what it covers.

    A pose that overflowed float32 on its way into the camera's frame draws nothing.

    Args:
        vertices_m, faces, vertex_start, face_start, cull_back: from PackedMeshes.
        class_id: which mesh.
        T: [3 4] float32, T_camera_object.
        camera: [5] float64: fx, fy, cx, cy in samples, and the near plane in metres.
        corners: [5 max_v] float64 scratch.
        inverse_depth: [hs ws] float32, filled: 1 / z, 0 where empty.
        weight_1, weight_2: [hs ws] float32, filled where covered: barycentric coordinates of the corners 1 and 2, over z.
        code: [hs ws] int32, filled: 2 * face, plus 1 where the face is seen from behind; -1 where empty.

    Returns:
        The box (first row, last row, first column, last column), ends included; outside it the buffers are left as they were.
    """
    height, width = inverse_depth.shape
    near_m = camera[4]
    for i in range(3):
        for j in range(4):
            if not np.isfinite(T[i, j]):
                return 0, -1, 0, -1
    near, far, left, right, top, bottom = transform_vertices(
        vertices_m, vertex_start[class_id], vertex_start[class_id + 1], T, camera, corners
    )
    box = object_box(left, right, top, bottom, near, far, near_m, height, width)
    for r in range(box[0], box[1] + 1):
        for c in range(box[2], box[3] + 1):
            inverse_depth[r, c] = 0.0
            code[r, c] = -1
    if box[1] < box[0]:
        return box
    cx, cy, inverse_fx, inverse_fy = camera[2], camera[3], 1.0 / camera[0], 1.0 / camera[1]
    inverse_near = np.float32(1.0 / near_m)
    crosses = near < near_m
    cull = cull_back[class_id] and not crosses
    for face in range(face_start[class_id], face_start[class_id + 1]):
        i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
        area = face_box(corners, i, j, k, box, near_m, inverse_near, crosses, cull)
        if area[1] < area[0] or area[3] < area[2]:
            continue
        det, a, b, d = face_edges(corners, i, j, k, inverse_fx, inverse_fy)
        if det == 0.0 or not np.isfinite(det):
            continue
        face_code = 2 * face + (1 if det > 0.0 else 0)
        fill_face(area, (a, b, d), cx, cy, inverse_near, face_code, inverse_depth, weight_1, weight_2, code)
    return box


@inlined
def covered(boxes):
    """Samples that any layer may cover: first row, last row, first column, last column."""
    top, bottom, left, right = np.int64(2**31), np.int64(-1), np.int64(2**31), np.int64(-1)
    for k in range(len(boxes)):
        if boxes[k, 1] >= boxes[k, 0]:
            top, bottom = min(top, boxes[k, 0]), max(bottom, boxes[k, 1])
            left, right = min(left, boxes[k, 2]), max(right, boxes[k, 3])
    return top, bottom, left, right


@inlined
def add_scaled(a, scale, b, out):
    """Fill ``out`` with a + scale * b, each [n]."""
    for i in range(len(out)):
        out[i] = a[i] + scale * b[i]


@inlined
def draw_shaded(meshes, class_id, T, light, camera, scratch, inverse_depth, code, rgb):
    """Draw one object alone and shade what it covers.

    Args:
        meshes: PackedMeshes.
        class_id, T, camera, inverse_depth, code: as in ``draw_object``.
        light: [6] float32, see ``shading_kernels``.
        scratch: from ``make_scratch``.
        rgb: [hs ws 3] float32, filled where covered.

    Returns:
        The box, as ``draw_object``.
    """
    corners, w1, w2 = scratch
    box = draw_object(
        meshes.vertices_m,
        meshes.faces,
        meshes.vertex_start,
        meshes.face_start,
        meshes.cull_back,
        class_id,
        T,
        camera,
        corners,
        inverse_depth,
        w1,
        w2,
        code,
    )
    lit = (light[0], light[1], light[2], light[3], light[4], light[5])
    plain = light[5] == 0
    last = np.int32(-1)
    red, green, blue = np.float32(0.0), np.float32(0.0), np.float32(0.0)
    for r in range(box[0], box[1] + 1):
        for c in range(box[2], box[3] + 1):
            seen = code[r, c]
            if seen < 0:
                continue
            if seen != last:
                z = np.float32(1.0) / inverse_depth[r, c]
                # samples within the tolerance of an edge lie a little outside the face
                b1 = min(max(w1[r, c] * z, np.float32(0.0)), np.float32(1.0))
                b2 = min(max(w2[r, c] * z, np.float32(0.0)), np.float32(1.0) - b1)
                red, green, blue = shade(meshes, class_id, seen, b1, b2, lit)
                if plain and meshes.is_plain[seen >> 1]:
                    last = seen
            rgb[r, c, 0] = red
            rgb[r, c, 1] = green
            rgb[r, c, 2] = blue
    return box


@njit(cache=True, nogil=True, error_model="numpy")
def make_corners(meshes):
    """A worker's scratch for ``draw_object``: vertices of the largest mesh."""
    count = 1
    for i in range(len(meshes.vertex_start) - 1):
        count = max(count, meshes.vertex_start[i + 1] - meshes.vertex_start[i])
    return np.empty((5, count))


@njit(cache=True, nogil=True, error_model="numpy")
def make_scratch(meshes, height, width):
    """A worker's scratch for ``draw_shaded``: vertices of the largest mesh, two weights a sample."""
    return make_corners(meshes), np.empty((height, width), np.float32), np.empty((height, width), np.float32)


@njit(cache=True, nogil=True, error_model="numpy")
def scaled_camera(camera, samples):
    """Intrinsics for a grid of samples x samples samples a pixel; the near plane stays."""
    out = camera.copy()
    for i in range(4):
        out[i] *= samples
    return out
