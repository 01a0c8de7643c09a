# type: ignore  # device code: its types are checked by Warp's compiler
"""Warp functions for borders: where two neighbouring samples show different faces, what moves between them.

The twins of ``renderers/raster/border_kernels.py``, which says what a border is; they give the same numbers.

Named constants stand in ``wp.static``: Warp 1.19 miscompiles one that is named first in a branch and again after it.
"""

import warp as wp

from renderers.raster.warp.face_kernels import Meshes, Placed, class_of, cross_of, edge_of, place_corner, vec5d

wp.set_module_options({"enable_backward": False, "fuse_fp": False})

EDGE_OF_A, EDGE_OF_B, INTERSECTION, NONE = 0, 1, 2, 3
"""What moves at a border."""
MOST_FACES = 24
"""Faces that are followed from a sample to a border."""
CONTINUOUS = 1e-3
"""Where a surface goes on to the next face, 1 / z differs by less than this part."""
OVERLAP = 1e-3
"""Faces that share less than this part of the way from A to B do not pass through each other there."""
FAR = 1e30
"""Steps to the end of a face that does not end."""


@wp.struct
class Seen:
    """A face as it is seen: linear functions on the sample grid (along a row, down a column, at column 0 and row 0).

    e0, e1, e2 are barycentric coordinates over z, q is 1 / z; det is negative where the front is seen.
    """

    e0: wp.vec3d
    e1: wp.vec3d
    e2: wp.vec3d
    q: wp.vec3d
    det: wp.float64


@wp.struct
class Exit:
    """Where a face ends: steps until then, and over which edge."""

    place: wp.float64
    edge: wp.int32


@wp.struct
class End:
    """Where a surface ends on the way from one sample to another; ``met`` where the other's face was reached first."""

    code: wp.int32
    seen: Seen
    place: wp.float64
    edge: wp.int32
    met: wp.int32


@wp.struct
class Border:
    """What moves, the share of the way to it, and its unit normal (for an intersection over the length of q's gradient)."""

    what: wp.int32
    way: wp.float64
    normal_x: wp.float64
    normal_y: wp.float64


@wp.func
def grid_function(cross: wp.vec3d, kx: wp.float64, ky: wp.float64, inverse: wp.float64, camera: vec5d) -> wp.vec3d:
    """An edge function with its value at column 0 and row 0 instead of at the principal point."""
    e = edge_of(cross, kx, ky, inverse)
    return wp.vec3d(e[0], e[1], e[2] - e[0] * camera[2] - e[1] * camera[3])


@wp.func
def seen_face(meshes: Meshes, placed: Placed, layer: wp.int32, face: wp.int32, camera: vec5d) -> Seen:
    """A face of a layer as it is seen; ``camera`` in samples."""
    T = placed.T_camera_object[layer]
    first = meshes.vertex_start[class_of(meshes, placed, layer)]
    v0 = place_corner(T, meshes.vertices_m[first + meshes.faces[face, 0]], camera)
    v1 = place_corner(T, meshes.vertices_m[first + meshes.faces[face, 1]], camera)
    v2 = place_corner(T, meshes.vertices_m[first + meshes.faces[face, 2]], camera)
    cross = cross_of(v1.point, v2.point)
    det = v0.point[0] * cross[0] + v0.point[1] * cross[1] + v0.point[2] * cross[2]
    inverse = wp.float64(1.0) / det
    kx = inverse / camera[0]
    ky = inverse / camera[1]
    seen = Seen()
    seen.e0 = grid_function(cross, kx, ky, inverse, camera)
    seen.e1 = grid_function(cross_of(v2.point, v0.point), kx, ky, inverse, camera)
    seen.e2 = grid_function(cross_of(v0.point, v1.point), kx, ky, inverse, camera)
    seen.q = seen.e0 + seen.e1 + seen.e2
    seen.det = det
    return seen


@wp.func
def value_at(linear: wp.vec3d, x: wp.float64, y: wp.float64) -> wp.float64:
    """A linear function at a place of the sample grid."""
    return linear[0] * x + linear[1] * y + linear[2]


@wp.func
def steps_to_zero(linear: wp.vec3d, x: wp.float64, y: wp.float64, dx: wp.float64, dy: wp.float64) -> wp.float64:
    """Steps along (dx, dy) until a linear function falls to zero."""
    slope = linear[0] * dx + linear[1] * dy
    if slope < wp.float64(0.0):
        return value_at(linear, x, y) / -slope
    return wp.float64(wp.static(FAR))


@wp.func
def leaves(seen: Seen, x: wp.float64, y: wp.float64, dx: wp.float64, dy: wp.float64) -> Exit:
    """Where a face ends on the way from (x, y) along (dx, dy)."""
    out = Exit()
    t0 = steps_to_zero(seen.e0, x, y, dx, dy)
    t1 = steps_to_zero(seen.e1, x, y, dx, dy)
    t2 = steps_to_zero(seen.e2, x, y, dx, dy)
    out.place = t0
    out.edge = 0
    if t1 < out.place:
        out.place = t1
        out.edge = 1
    if t2 < out.place:
        out.place = t2
        out.edge = 2
    return out


@wp.func
def goes_on(end: End, following: Seen, x: wp.float64, y: wp.float64, dx: wp.float64, dy: wp.float64) -> wp.int32:
    """1 where the surface goes on from ``end`` to the next face without a turn, else 0."""
    if (following.det > wp.float64(0.0)) != (end.seen.det > wp.float64(0.0)):
        return 0
    # a face without area, seen edge-on: its functions are noise, or no numbers
    q = value_at(end.seen.q, x + end.place * dx, y + end.place * dy)
    step = wp.abs(value_at(following.q, x + end.place * dx, y + end.place * dy) - q)
    if step < wp.float64(wp.static(CONTINUOUS)) * q:
        return 1
    return 0


@wp.func
def follow(
    meshes: Meshes,
    placed: Placed,
    layer: wp.int32,
    code: wp.int32,
    camera: vec5d,
    x: wp.float64,
    y: wp.float64,
    dx: wp.float64,
    dy: wp.float64,
    other_code: wp.int32,
) -> End:
    """Follow a surface from the sample at (x, y) towards its neighbour at (x + dx, y + dy).

    Args:
        meshes, placed, layer, camera: as in ``seen_face``.
        code: 2 * face, plus 1 where it is seen from behind: what the sample shows.
        x, y, dx, dy: the way.
        other_code: what the neighbour shows of the same layer, else -1.
    """
    start = meshes.face_start[class_of(meshes, placed, layer)]
    back = code % 2
    end = End()
    end.met = 0
    end.code = code
    end.seen = seen_face(meshes, placed, layer, code >> 1, camera)
    out = leaves(end.seen, x, y, dx, dy)
    end.place = out.place
    end.edge = out.edge
    more = wp.int32(wp.static(MOST_FACES))
    while more > 0:
        more -= 1
        beyond = wp.int32(-1)
        if end.place < wp.float64(1.0):
            beyond = meshes.smooth_across[end.code >> 1, end.edge]
        if beyond < 0:
            more = 0
        else:
            beyond_code = 2 * (beyond + start) + back
            following = seen_face(meshes, placed, layer, beyond + start, camera)
            if beyond_code == other_code:
                end.met = 1
                more = 0
            elif goes_on(end, following, x, y, dx, dy) == 0:
                more = 0
            else:
                end.code = beyond_code
                end.seen = following
                exit = leaves(following, x, y, dx, dy)
                end.place = exit.place
                end.edge = exit.edge
    return end


@wp.func
def edge_border(what: wp.int32, way: wp.float64, seen: Seen, edge: wp.int32) -> Border:
    """A border that moves as an edge of a face does."""
    x = seen.e0[0]
    y = seen.e0[1]
    if edge == 1:
        x = seen.e1[0]
        y = seen.e1[1]
    if edge == 2:
        x = seen.e2[0]
        y = seen.e2[1]
    border = Border()
    border.what = what
    border.way = wp.min(wp.max(way, wp.float64(0.0)), wp.float64(1.0))
    border.normal_x = wp.float64(0.0)
    border.normal_y = wp.float64(0.0)
    length = wp.sqrt(x * x + y * y)
    if length > wp.float64(0.0):
        border.normal_x = x / length
        border.normal_y = y / length
    return border


@wp.func
def no_border() -> Border:
    """Nothing that moves."""
    border = Border()
    border.what = wp.static(NONE)
    return border


@wp.func
def border_of_two(a: End, b: End, x: wp.float64, y: wp.float64, dx: wp.float64, dy: wp.float64) -> Border:
    """``find_border`` where both samples show a face; both places in steps from A."""
    qa = a.seen.q
    qb = b.seen.q
    first = wp.max(b.place, wp.float64(0.0))
    last = wp.min(a.place, wp.float64(1.0))
    ahead_first = value_at(qa, x + first * dx, y + first * dy) - value_at(qb, x + first * dx, y + first * dy)
    ahead_last = value_at(qa, x + last * dx, y + last * dy) - value_at(qb, x + last * dx, y + last * dy)
    if last - first > wp.float64(wp.static(OVERLAP)) and ahead_first > wp.float64(0.0) and ahead_last < wp.float64(0.0):
        gx = qa[0] - qb[0]
        gy = qa[1] - qb[1]
        border = Border()
        border.what = wp.static(INTERSECTION)
        border.way = first + (last - first) * ahead_first / (ahead_first - ahead_last)
        border.normal_x = gx / (gx * gx + gy * gy)
        border.normal_y = gy / (gx * gx + gy * gy)
        return border
    if a.place > wp.float64(1.0) and b.place < wp.float64(0.0):
        return no_border()
    a_in_front = ahead_first + ahead_last > wp.float64(0.0)
    if b.place > a.place:
        # neither covers the middle: the nearer one is what moves against the other
        a_end = wp.min(wp.max(a.place, wp.float64(0.0)), wp.float64(1.0))
        b_end = wp.min(wp.max(b.place, wp.float64(0.0)), wp.float64(1.0))
        middle = wp.float64(0.5) * (a_end + b_end)
        if a_in_front:
            return edge_border(wp.static(EDGE_OF_A), middle, a.seen, a.edge)
        return edge_border(wp.static(EDGE_OF_B), middle, b.seen, b.edge)
    if (a_in_front and a.place <= wp.float64(1.0)) or b.place < wp.float64(0.0):
        return edge_border(wp.static(EDGE_OF_A), a.place, a.seen, a.edge)
    return edge_border(wp.static(EDGE_OF_B), b.place, b.seen, b.edge)


@wp.func
def find_border(
    has_a: wp.int32, a: End, has_b: wp.int32, b: End, x: wp.float64, y: wp.float64, dx: wp.float64, dy: wp.float64
) -> Border:
    """The border between sample A at (x, y) and sample B at (x + dx, y + dy).

    Args:
        has_a: whether A shows a face.
        a: the end of what A shows, on the way to B.
        has_b, b: likewise from B; ``place`` in steps from A too.
        x, y: place of A.
        dx, dy: (1, 0) or (0, 1).
    """
    # an edge farther than the other sample is none: the face is cut by the near plane
    if has_b == 0:
        if a.place > wp.float64(wp.static(1.0 + OVERLAP)):
            return no_border()
        return edge_border(wp.static(EDGE_OF_A), a.place, a.seen, a.edge)
    if has_a == 0:
        if b.place < wp.float64(wp.static(-OVERLAP)):
            return no_border()
        return edge_border(wp.static(EDGE_OF_B), b.place, b.seen, b.edge)
    return border_of_two(a, b, x, y, dx, dy)


@wp.func
def place_on_face(seen: Seen, x: wp.float64, y: wp.float64) -> wp.vec3d:
    """Place on a face's plane that is seen at (x, y), kept within a triangle's width of the face: b1, b2, and q."""
    q = value_at(seen.q, x, y)
    b1 = wp.min(wp.max(value_at(seen.e1, x, y) / q, wp.float64(-1.0)), wp.float64(2.0))
    b2 = wp.min(wp.max(value_at(seen.e2, x, y) / q, wp.float64(-1.0)), wp.float64(2.0))
    return wp.vec3d(b1, b2, q)
