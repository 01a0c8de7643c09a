"""Compiled geometry of borders: where two neighbouring samples show different faces, what moves between them.

The border between samples A and B (next to each other along a row or down a column) is the place where the picture changes from
A's face to B's.  It is one of

- an edge: one face ends there, and the other lies behind it, or nothing does.  The border moves as that edge does;
- an intersection: both faces go on, and pass through each other.  The border moves with both planes.

What is drawn changes by the step of colour over the border times the border's motion along its normal (EdgeGrad: Pidhorskyi et
al., "Rasterized edge gradients", ECCV 2024).  Here the border's place and normal come from the faces' edge functions, and each
crossing along direction d counts n_d^2: a border with normal n is crossed in proportion to |n_x| along rows and |n_y| down
columns, so both together give its length, and no motion along the border enters.

The face that a sample shows need not reach the border: small faces may lie between.  So the surface is followed from each sample
towards the other, from face to face over edges with no step, until it ends, turns away or has a crease.

A face as it is seen is a tuple of four linear functions on the sample grid, each (along a row, down a column, at column 0 and
row 0): e_0, e_1, e_2 (barycentric coordinates over z) and q = 1 / z; and a number that is negative where its front is seen.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from renderers.raster.shading_kernels import corner

EDGE_OF_A, EDGE_OF_B, INTERSECTION, NONE = 0, 1, 2, 3
"""What moves at a border."""
MOST_FACES = 24
"""Faces that are followed from a sample to a border."""
CONTINUOUS = 1e-3
"""Where a surface goes on to the next face, 1 / z differs by less than this part."""
OVERLAP = 1e-3
"""Faces that share less than this part of the way from A to B do not pass through each other there."""


@njit(cache=True, nogil=True, error_model="numpy")
def seen_face(meshes, class_id, face, T, camera):
    """A face's linear functions on the sample grid.

    Args:
        meshes: PackedMeshes.
        class_id: which mesh.
        face: which face.
        T: [3 4] T_camera_object.
        camera: [5] float64: fx, fy, cx, cy in samples, and the near plane in metres.
    """
    X0, Y0, Z0 = corner(meshes, class_id, face, 0)
    X1, Y1, Z1 = corner(meshes, class_id, face, 1)
    X2, Y2, Z2 = corner(meshes, class_id, face, 2)
    x0, y0, z0 = in_camera(T, X0, Y0, Z0)
    x1, y1, z1 = in_camera(T, X1, Y1, Z1)
    x2, y2, z2 = in_camera(T, X2, Y2, Z2)
    ax, ay, az = y1 * z2 - z1 * y2, z1 * x2 - x1 * z2, x1 * y2 - y1 * x2
    bx, by, bz = y2 * z0 - z2 * y0, z2 * x0 - x2 * z0, x2 * y0 - y2 * x0
    dx, dy, dz = y0 * z1 - z0 * y1, z0 * x1 - x0 * z1, x0 * y1 - y0 * x1
    det = x0 * ax + y0 * ay + z0 * az
    inverse = 1.0 / det
    kx, ky = inverse / camera[0], inverse / camera[1]
    a = (ax * kx, ay * ky, az * inverse - ax * kx * camera[2] - ay * ky * camera[3])
    b = (bx * kx, by * ky, bz * inverse - bx * kx * camera[2] - by * ky * camera[3])
    d = (dx * kx, dy * ky, dz * inverse - dx * kx * camera[2] - dy * ky * camera[3])
    return a, b, d, (a[0] + b[0] + d[0], a[1] + b[1] + d[1], a[2] + b[2] + d[2]), det


@njit(cache=True, nogil=True, error_model="numpy")
def in_camera(T, x, y, z):
    """A point of the object in the camera's frame, in float64."""
    X, Y, Z = np.float64(x), np.float64(y), np.float64(z)
    return (
        T[0, 0] * X + T[0, 1] * Y + T[0, 2] * Z + T[0, 3],
        T[1, 0] * X + T[1, 1] * Y + T[1, 2] * Z + T[1, 3],
        T[2, 0] * X + T[2, 1] * Y + T[2, 2] * Z + T[2, 3],
    )


@njit(cache=True, nogil=True, error_model="numpy")
def value(linear, x, y):
    """A linear function at a place of the sample grid."""
    return linear[0] * x + linear[1] * y + linear[2]


@njit(cache=True, nogil=True, error_model="numpy")
def leaves(seen, x, y, dx, dy):
    """Where a face ends on the way from (x, y) along (dx, dy).

    Returns:
        Steps until then (inf if never), and which edge is crossed.
    """
    a, b, d, _, _ = seen
    t, edge = np.inf, 0
    slope = a[0] * dx + a[1] * dy
    if slope < 0.0:
        t = value(a, x, y) / -slope
    slope = b[0] * dx + b[1] * dy
    if slope < 0.0:
        other = value(b, x, y) / -slope
        if other < t:
            t, edge = other, 1
    slope = d[0] * dx + d[1] * dy
    if slope < 0.0:
        other = value(d, x, y) / -slope
        if other < t:
            t, edge = other, 2
    return t, edge


@njit(cache=True, nogil=True, error_model="numpy")
def follow(meshes, class_id, code, T, camera, x, y, dx, dy, other_code):
    """Follow a surface from the sample at (x, y) towards its neighbour at (x + dx, y + dy).

    Args:
        meshes, class_id, T, camera: as in ``seen_face``.
        code: 2 * face, plus 1 where it is seen from behind: what the sample shows.
        other_code: what the neighbour shows of the same object, else -1.

    Returns:
        The code of the last face, that face as it is seen, the steps until it ends, over which edge, and whether the neighbour's
        face was reached: then there is no border.
    """
    face = code >> 1
    start = meshes.face_start[class_id]
    seen = seen_face(meshes, class_id, face, T, camera)
    t, edge = leaves(seen, x, y, dx, dy)
    for _ in range(MOST_FACES):
        if t >= 1.0:
            break
        beyond = np.int64(meshes.smooth_across[face, edge])
        if beyond < 0:
            break
        beyond += start
        if 2 * beyond + (code & 1) == other_code:
            return code, seen, t, edge, True
        following = seen_face(meshes, class_id, beyond, T, camera)
        if (following[4] > 0.0) != (seen[4] > 0.0):
            break
        # a face without area, seen edge-on: its functions are noise, or no numbers
        q = value(seen[3], x + t * dx, y + t * dy)
        if not abs(value(following[3], x + t * dx, y + t * dy) - q) < CONTINUOUS * q:
            break
        face, seen = beyond, following
        t, edge = leaves(seen, x, y, dx, dy)
    return np.int32(2 * face + (code & 1)), seen, t, edge, False


@njit(cache=True, nogil=True, error_model="numpy")
def edge_normal(seen, edge):
    """Unit normal of an edge on the sample grid (either sign)."""
    a, b, d, _, _ = seen
    x, y = a[0], a[1]
    if edge == 1:
        x, y = b[0], b[1]
    elif edge == 2:
        x, y = d[0], d[1]
    length = np.sqrt(x * x + y * y)
    if length == 0.0:
        return 0.0, 0.0
    return x / length, y / length


@njit(cache=True, nogil=True, error_model="numpy")
def find_border(has_a, seen_a, t_a, edge_a, has_b, seen_b, t_b, edge_b, x, y, dx, dy):
    """The border between sample A at (x, y) and sample B at (x + dx, y + dy).

    Args:
        has_a: whether A shows a face.
        seen_a: the last face on the way from A (``follow``).
        t_a: where it ends, in steps from A.
        edge_a: over which edge.
        has_b, seen_b, t_b, edge_b: likewise from B, t_b in steps from A too.
        x, y: place of A.
        dx, dy: (1, 0) or (0, 1).

    Returns:
        What moves, the way to it from A (0..1), and the border's unit normal; for an intersection the normal is divided by the
        length of the gradient of q_a - q_b.
    """
    # an edge farther than the other sample is none: the face is cut by the near plane
    if not has_b:
        if t_a > 1.0 + OVERLAP:
            return NONE, 0.5, 0.0, 0.0
        nx, ny = edge_normal(seen_a, edge_a)
        return EDGE_OF_A, min(t_a, 1.0), nx, ny
    if not has_a:
        if t_b < -OVERLAP:
            return NONE, 0.5, 0.0, 0.0
        nx, ny = edge_normal(seen_b, edge_b)
        return EDGE_OF_B, max(t_b, 0.0), nx, ny
    qa, qb = seen_a[3], seen_b[3]
    first, last = max(t_b, 0.0), min(t_a, 1.0)
    ahead_first = value(qa, x + first * dx, y + first * dy) - value(qb, x + first * dx, y + first * dy)
    ahead_last = value(qa, x + last * dx, y + last * dy) - value(qb, x + last * dx, y + last * dy)
    if last - first > OVERLAP and ahead_first > 0.0 and ahead_last < 0.0:
        gx, gy = qa[0] - qb[0], qa[1] - qb[1]
        squared = gx * gx + gy * gy
        t = first + (last - first) * ahead_first / (ahead_first - ahead_last)
        return INTERSECTION, t, gx / squared, gy / squared
    if t_a > 1.0 and t_b < 0.0:
        return NONE, 0.5, 0.0, 0.0
    a_in_front = ahead_first + ahead_last > 0.0
    if t_b > t_a:
        # neither covers the middle: the nearer one is what moves against the other
        middle = 0.5 * (min(max(t_a, 0.0), 1.0) + min(max(t_b, 0.0), 1.0))
        if a_in_front:
            nx, ny = edge_normal(seen_a, edge_a)
            return EDGE_OF_A, middle, nx, ny
        nx, ny = edge_normal(seen_b, edge_b)
        return EDGE_OF_B, middle, nx, ny
    if (a_in_front and t_a <= 1.0) or t_b < 0.0:
        nx, ny = edge_normal(seen_a, edge_a)
        return EDGE_OF_A, min(max(t_a, 0.0), 1.0), nx, ny
    nx, ny = edge_normal(seen_b, edge_b)
    return EDGE_OF_B, min(max(t_b, 0.0), 1.0), nx, ny


@njit(cache=True, nogil=True, error_model="numpy")
def barycentric(seen, x, y):
    """Place on a face's plane that is seen at (x, y), kept within a triangle's width of the face: b1, b2, and q."""
    q = value(seen[3], x, y)
    b1 = min(max(value(seen[1], x, y) / q, -1.0), 2.0)
    b2 = min(max(value(seen[2], x, y) / q, -1.0), 2.0)
    return b1, b2, q
