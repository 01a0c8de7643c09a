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

A face as it is seen is a row of ``Scene.seen``: four linear functions on the sample grid, three numbers each (along a row, down a
column, at column 0 and row 0), at E_0, E_1, E_2 (barycentric coordinates over z) and Q (1 / z); at DET a number that is negative
where its front is seen.  If the face has one colour all over, PLAIN is 1, its colour is at COLOUR, the cosine of the light at
COSINE and what that changes by with the light at BY_LIGHT.  At KEPT there is 1 once the row is filled: when a face is first asked
for.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import njit

from inverse_graphics.compiled import inlined
from renderers.raster.meshes import PackedMeshes
from renderers.raster.shading_kernels import corner, cosine_slopes, light_at

EDGE_OF_A, EDGE_OF_B, INTERSECTION, NONE = 0, 1, 2, 3
"""What moves at a border."""
E_0, E_1, E_2, Q, DET, KEPT, PLAIN, COSINE, COLOUR, BY_LIGHT, COLUMNS = 0, 3, 6, 9, 12, 13, 14, 15, 16, 19, 22
"""Columns of a face as it is seen, and their number."""
MOST_FACES = 24
"""Faces that are followed from a sample to a border."""
CONTINUOUS = 1e-3
"""Where a surface goes on to the next face, 1 / z differs by less than this part."""
OVERLAP = 1e-3
"""Faces that share less than this part of the way from A to B do not pass through each other there."""


class Scene(NamedTuple):
    """A band of rows of one scene, as the compiled gradients want it."""

    meshes: PackedMeshes
    class_ids: np.ndarray
    """[n] int64."""
    T: np.ndarray
    """[n 3 4] float32, T_camera_object."""
    light: np.ndarray
    """[n 6] float32, see ``shading_kernels``."""
    camera: np.ndarray
    """[5] float64: fx, fy, cx, cy in samples of the band, and the near plane in metres."""
    background: np.ndarray
    """[h w 3] float32, of the whole image."""
    samples: int
    """Samples a pixel along each axis."""
    top: int
    """The band's first row of pixels."""
    seen: np.ndarray
    """[n * f 22] float64, f the most faces of a mesh: row k * f + i is face i of slot k's mesh as it is seen."""


@njit(cache=True, nogil=True, error_model="numpy")
def make_seen(meshes, slots):
    """A worker's ``Scene.seen`` with nothing in it."""
    count = 1
    for i in range(len(meshes.face_start) - 1):
        count = max(count, meshes.face_start[i + 1] - meshes.face_start[i])
    return np.zeros((slots * count, COLUMNS))


@njit(cache=True, nogil=True, error_model="numpy")
def forget(meshes, class_ids, seen):
    """Empty ``Scene.seen`` for another scene, or another band."""
    count = len(seen) // max(len(class_ids), 1)
    for k in range(len(class_ids)):
        for i in range(meshes.face_start[class_ids[k] + 1] - meshes.face_start[class_ids[k]]):
            seen[k * count + i, KEPT] = 0.0


@inlined
def in_camera(T, k, x, y, z):
    """A point of object k in the camera's frame, in float64; T is [n 3 4]."""
    X, Y, Z = np.float64(x), np.float64(y), np.float64(z)
    return (
        T[k, 0, 0] * X + T[k, 0, 1] * Y + T[k, 0, 2] * Z + T[k, 0, 3],
        T[k, 1, 0] * X + T[k, 1, 1] * Y + T[k, 1, 2] * Z + T[k, 1, 3],
        T[k, 2, 0] * X + T[k, 2, 1] * Y + T[k, 2, 2] * Z + T[k, 2, 3],
    )


@inlined
def put_linear(seen, row, column, x, y, z, inverse, camera):
    """Write (x, y, z) / det . ray through a sample as a linear function of the sample's place."""
    along, down = x * (inverse / camera[0]), y * (inverse / camera[1])
    seen[row, column] = along
    seen[row, column + 1] = down
    seen[row, column + 2] = z * inverse - along * camera[2] - down * camera[3]


@inlined
def colour_face(scene, k, face, row):
    """Fill the columns of a face that has one colour."""
    meshes, light, seen = scene.meshes, light_at(scene.light, k), scene.seen
    code = 2 * face + (1 if seen[row, DET] > 0.0 else 0)
    cosine, _, _, by_light, _ = cosine_slopes(meshes, scene.class_ids[k], code, 1.0, 0.0, 0.0, light)
    level = light[3] + light[4] * cosine
    seen[row, PLAIN] = 1.0
    seen[row, COSINE] = cosine
    for i in range(3):
        seen[row, COLOUR + i] = level * meshes.corner_rgb[face, 0, i]
        seen[row, BY_LIGHT + i] = by_light[i]


@inlined
def see_face(scene, k, face, row):
    """Fill the row of a face of slot k."""
    meshes, T, camera, seen = scene.meshes, scene.T, scene.camera, scene.seen
    class_id = scene.class_ids[k]
    X0, Y0, Z0 = corner(meshes, class_id, face, 0)
    X1, Y1, Z1 = corner(meshes, class_id, face, 1)
    X2, Y2, Z2 = corner(meshes, class_id, face, 2)
    x0, y0, z0 = in_camera(T, k, X0, Y0, Z0)
    x1, y1, z1 = in_camera(T, k, X1, Y1, Z1)
    x2, y2, z2 = in_camera(T, k, X2, Y2, Z2)
    ax, ay, az = y1 * z2 - z1 * y2, z1 * x2 - x1 * z2, x1 * y2 - y1 * x2
    det = x0 * ax + y0 * ay + z0 * az
    inverse = 1.0 / det
    put_linear(seen, row, E_0, ax, ay, az, inverse, camera)
    put_linear(seen, row, E_1, y2 * z0 - z2 * y0, z2 * x0 - x2 * z0, x2 * y0 - y2 * x0, inverse, camera)
    put_linear(seen, row, E_2, y0 * z1 - z0 * y1, z0 * x1 - x0 * z1, x0 * y1 - y0 * x1, inverse, camera)
    for i in range(3):
        seen[row, Q + i] = seen[row, E_0 + i] + seen[row, E_1 + i] + seen[row, E_2 + i]
    seen[row, DET] = det
    seen[row, KEPT] = 1.0
    seen[row, PLAIN] = 0.0
    if meshes.is_plain[face] and scene.light[k, 5] == 0:
        colour_face(scene, k, face, row)


@inlined
def look(scene, k, face):
    """The row of a face of slot k, filled if it was not yet."""
    row = k * (len(scene.seen) // len(scene.class_ids)) + face - scene.meshes.face_start[scene.class_ids[k]]
    if scene.seen[row, KEPT] == 0.0:
        see_face(scene, k, face, row)
    return row


@inlined
def value(seen, row, column, x, y):
    """A linear function at a place of the sample grid."""
    return seen[row, column] * x + seen[row, column + 1] * y + seen[row, column + 2]


@inlined
def leaves(seen, row, x, y, dx, dy):
    """Where a face ends on the way from (x, y) along (dx, dy).

    Returns:
        Steps until then (inf if never), and which edge is crossed.
    """
    t, edge = np.inf, 0
    for i in range(3):
        slope = seen[row, 3 * i] * dx + seen[row, 3 * i + 1] * dy
        if slope < 0.0:
            other = value(seen, row, 3 * i, x, y) / -slope
            if other < t:
                t, edge = other, i
    return t, edge


@inlined
def follow(scene, k, code, x, y, dx, dy, other_code):
    """Follow the surface of slot k from the sample at (x, y) towards its neighbour at (x + dx, y + dy).

    Args:
        scene: Scene.
        k: slot.
        code: 2 * face, plus 1 where it is seen from behind: what the sample shows.
        x, y: place of the sample.
        dx, dy: way to its neighbour.
        other_code: what the neighbour shows of the same object, else -1.

    Returns:
        The code of the last face, its row, the steps until it ends, over which edge, and whether the neighbour's face was
        reached: then there is no border.
    """
    seen, across = scene.seen, scene.meshes.smooth_across
    start = np.int64(scene.meshes.face_start[scene.class_ids[k]])
    face = np.int64(code >> 1)
    row, t, edge, next_face = -1, 0.0, 0, face
    for step in range(MOST_FACES + 1):
        next_row = look(scene, k, next_face)
        if step > 0:
            if (seen[next_row, DET] > 0.0) != (seen[row, DET] > 0.0):
                break
            # a face without area, seen edge-on: its functions are noise, or no numbers
            q = value(seen, row, Q, x + t * dx, y + t * dy)
            if not abs(value(seen, next_row, Q, x + t * dx, y + t * dy) - q) < CONTINUOUS * q:
                break
        face, row = next_face, next_row
        t, edge = leaves(seen, row, x, y, dx, dy)
        if t >= 1.0:
            break
        beyond = np.int64(across[face, edge])
        if beyond < 0:
            break
        next_face = start + beyond
        if 2 * next_face + (code & 1) == other_code:
            return code, row, t, edge, True
    return np.int32(2 * face + (code & 1)), row, t, edge, False


@inlined
def edge_normal(seen, row, edge):
    """Unit normal of an edge on the sample grid (either sign)."""
    x, y = seen[row, 3 * edge], seen[row, 3 * edge + 1]
    length = np.sqrt(x * x + y * y)
    if length == 0.0:
        return 0.0, 0.0
    return x / length, y / length


@inlined
def find_border(seen, row_a, t_a, edge_a, row_b, t_b, edge_b, x, y, dx, dy):
    """The border between sample A at (x, y) and sample B at (x + dx, y + dy).

    Args:
        seen: ``Scene.seen``.
        row_a: row of the last face on the way from A (``follow``), -1 where A shows the background.
        t_a: where it ends, in steps from A.
        edge_a: over which edge.
        row_b, t_b, edge_b: likewise from B, t_b in steps from A too.
        x, y: place of A.
        dx, dy: (1, 0) or (0, 1).

    Returns:
        What moves, the way to it from A (0..1), and the border's unit normal; for an intersection the normal is divided by the
        length of the gradient of q_a - q_b.
    """
    of_a, way = True, 0.0
    if row_a < 0 or row_b < 0:
        # an edge farther than the other sample is none: the face is cut by the near plane
        of_a, way = row_b < 0, t_a if row_b < 0 else t_b
        if (of_a and t_a > 1.0 + OVERLAP) or (not of_a and t_b < -OVERLAP):
            return NONE, 0.5, 0.0, 0.0
    else:
        first, last = max(t_b, 0.0), min(t_a, 1.0)
        ahead_first = value(seen, row_a, Q, x + first * dx, y + first * dy) - value(
            seen, row_b, Q, x + first * dx, y + first * dy
        )
        ahead_last = value(seen, row_a, Q, x + last * dx, y + last * dy) - value(seen, row_b, Q, x + last * dx, y + last * dy)
        if last - first > OVERLAP and ahead_first > 0.0 and ahead_last < 0.0:
            gx, gy = seen[row_a, Q] - seen[row_b, Q], seen[row_a, Q + 1] - seen[row_b, Q + 1]
            squared = gx * gx + gy * gy
            return INTERSECTION, first + (last - first) * ahead_first / (ahead_first - ahead_last), gx / squared, gy / squared
        if t_a > 1.0 and t_b < 0.0:
            return NONE, 0.5, 0.0, 0.0
        a_in_front = ahead_first + ahead_last > 0.0
        if t_b > t_a:
            # neither covers the middle: the nearer one is what moves against the other
            of_a, way = a_in_front, 0.5 * (min(max(t_a, 0.0), 1.0) + min(max(t_b, 0.0), 1.0))
        else:
            of_a = (a_in_front and t_a <= 1.0) or t_b < 0.0
            way = t_a if of_a else t_b
    nx, ny = edge_normal(seen, row_a if of_a else row_b, edge_a if of_a else edge_b)
    return EDGE_OF_A if of_a else EDGE_OF_B, min(max(way, 0.0), 1.0), nx, ny


@inlined
def locate_border(scene, a, code_a, b, code_b, x, y, dx, dy):
    """Find the border between two neighbouring samples.

    Args:
        scene: Scene.
        a, code_a: slot (-1: background) and code at sample A; likewise at B.
        x, y: place of A.
        dx, dy: way from A to B.

    Returns:
        What moves (``NONE``: there is no border), the way to it, its normal (``find_border``); and code and row of the last face
        on A's side, and on B's (-1: background).
    """
    end_a = end_b = np.int32(-1)
    row_a = row_b = -1
    t_a = t_b = 0.0
    edge_a = edge_b = 0
    for side in range(2):
        k, code, other = (a, code_a, code_b) if side == 0 else (b, code_b, code_a)
        if k < 0:
            continue
        if a != b:
            other = np.int32(-1)
        sign = 1 - 2 * side
        end, row, t, edge, met = follow(scene, k, code, x + side * dx, y + side * dy, sign * dx, sign * dy, other)
        if met:
            return NONE, 0.5, 0.0, 0.0, end_a, row_a, end_b, row_b
        if side == 0:
            end_a, row_a, t_a, edge_a = end, row, t, edge
        else:
            end_b, row_b, t_b, edge_b = end, row, 1.0 - t, edge
    what, way, nx, ny = find_border(scene.seen, row_a, t_a, edge_a, row_b, t_b, edge_b, x, y, dx, dy)
    return what, way, nx, ny, end_a, row_a, end_b, row_b


@inlined
def barycentric(seen, row, x, y):
    """Place on a face's plane that is seen at (x, y), kept within a triangle's width of the face: b1, b2, and q."""
    q = value(seen, row, Q, x, y)
    z = 1.0 / q
    b1 = min(max(value(seen, row, E_1, x, y) * z, -1.0), 2.0)
    b2 = min(max(value(seen, row, E_2, x, y) * z, -1.0), 2.0)
    return b1, b2, q
