# type: ignore  # device code: its types are checked by Warp's compiler
"""Warp functions from borders to forces on what is seen: the twins of ``renderers/raster/gradient_kernels.py``.

A force is a gradient with respect to the motion of the material point that is seen, in the camera's frame.
"""

import warp as wp

from renderers.raster.warp.border_kernels import (
    EDGE_OF_A,
    EDGE_OF_B,
    INTERSECTION,
    NONE,
    Border,
    End,
    Seen,
    find_border,
    follow,
    place_on_face,
)
from renderers.raster.warp.face_kernels import Layout, Meshes, Placed, class_of, mat34, scaled_camera, vec5d
from renderers.raster.warp.shade_gradient_kernels import point_of
from renderers.raster.warp.shade_kernels import shade

wp.set_module_options({"enable_backward": False, "fuse_fp": False})


@wp.struct
class Push:
    """A force on a point of a face: camera frame, object frame, barycentric coordinates."""

    force: wp.vec3
    point: wp.vec3
    share: wp.vec3
    face: wp.int32


@wp.struct
class Step:
    """Two neighbouring samples, A and B, and what they show: layer (-1: the background) and code."""

    row: wp.int32
    column: wp.int32
    down: wp.int32
    right: wp.int32
    layer_a: wp.int32
    code_a: wp.int32
    layer_b: wp.int32
    code_b: wp.int32


@wp.struct
class Pair:
    """A resolved border: what moves, in which pixel, the steps over it, and the forces for a gradient of 1 by A's area."""

    what: wp.int32
    row: wp.int32
    column: wp.int32
    colour: wp.vec3
    depth: wp.float32
    on_a: Push
    on_b: Push


@wp.func
def share_of(place: wp.vec3d) -> wp.vec3:
    """Barycentric coordinates of what ``place_on_face`` gives."""
    return wp.vec3(wp.float32(wp.float64(1.0) - place[0] - place[1]), wp.float32(place[0]), wp.float32(place[1]))


@wp.func
def push_of(
    meshes: Meshes,
    placed: Placed,
    layer: wp.int32,
    code: wp.int32,
    camera: vec5d,
    seen: Seen,
    x: wp.float64,
    y: wp.float64,
    pull_x: wp.float64,
    pull_y: wp.float64,
    pull_z: wp.float64,
) -> Push:
    """A force on the point that is seen at (x, y).

    Args:
        meshes, placed, layer, camera: as in ``border_kernels.seen_face``.
        code: 2 * face, plus 1 where it is seen from behind.
        seen: the face.
        x, y: where the point is seen, in samples.
        pull_x, pull_y: gradient by its motion over the screen, per sample.
        pull_z: gradient by its motion along the camera's axis at a fixed place of the screen, per metre.
    """
    place = place_on_face(seen, x, y)
    q = place[2]
    push = Push()
    push.force = wp.vec3(
        wp.float32(pull_x * camera[0] * q),
        wp.float32(pull_y * camera[1] * q),
        wp.float32(pull_z - q * (pull_x * (x - camera[2]) + pull_y * (y - camera[3]))),
    )
    push.face = code >> 1
    push.share = share_of(place)
    push.point = point_of(meshes, class_of(meshes, placed, layer), push.face, push.share)
    return push


@wp.func
def joined(meshes: Meshes, placed: Placed, step: Step) -> wp.int32:
    """Whether two samples of a layer show the same face, or neighbours with no step between them."""
    if step.layer_a != step.layer_b:
        return 0
    if step.code_a == step.code_b:
        return 1
    if (step.code_a + step.code_b) % 2 != 0:
        return 0
    other = (step.code_b >> 1) - meshes.face_start[class_of(meshes, placed, step.layer_a)]
    face = step.code_a >> 1
    for i in range(3):
        if meshes.smooth_across[face, i] == other:
            return 1
    return 0


@wp.func
def surface_end(
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
    """``border_kernels.follow``; for the background (layer -1) an end that means nothing."""
    if layer < 0:
        none = End()
        none.met = 0
        none.code = -1
        return none
    return follow(meshes, placed, layer, code, camera, x, y, dx, dy, other_code)


@wp.func
def resolve_step(
    meshes: Meshes, placed: Placed, layout: Layout, background: wp.array3d(dtype=wp.vec3), scene: wp.int32, step: Step
) -> Pair:
    """The border between two neighbouring samples.

    Args:
        meshes, placed, layout: the batch.
        background: [scenes h w]; not looked at where it is empty (then ``colour`` is left out).
        scene: which scene.
        step: the samples; at least one shows a layer, and they are not ``joined``.
    """
    pair = Pair()
    pair.what = wp.static(NONE)
    camera = scaled_camera(placed.camera[scene], layout.samples)
    x = wp.float64(step.column) + wp.float64(0.5)
    y = wp.float64(step.row) + wp.float64(0.5)
    dx = wp.float64(step.right)
    dy = wp.float64(step.down)
    other_a = wp.int32(-1)
    other_b = wp.int32(-1)
    if step.layer_a == step.layer_b:
        other_a = step.code_b
        other_b = step.code_a
    a = surface_end(meshes, placed, step.layer_a, step.code_a, camera, x, y, dx, dy, other_a)
    if a.met == 1:
        return pair
    b = surface_end(meshes, placed, step.layer_b, step.code_b, camera, x + dx, y + dy, -dx, -dy, other_b)
    if b.met == 1:
        return pair
    b.place = wp.float64(1.0) - b.place
    has_a = wp.int32(0)
    has_b = wp.int32(0)
    if step.layer_a >= 0:
        has_a = 1
    if step.layer_b >= 0:
        has_b = 1
    border = find_border(has_a, a, has_b, b, x, y, dx, dy)
    if border.what == wp.static(NONE):
        return pair
    u = x + border.way * dx
    v = y + border.way * dy
    pair = steps_over(meshes, placed, layout, background, scene, step, a, b, u, v)
    return with_pushes(pair, meshes, placed, step, camera, border, a, b, u, v)


@wp.func
def steps_over(
    meshes: Meshes,
    placed: Placed,
    layout: Layout,
    background: wp.array3d(dtype=wp.vec3),
    scene: wp.int32,
    step: Step,
    a: End,
    b: End,
    u: wp.float64,
    v: wp.float64,
) -> Pair:
    """The pixel of a border at (u, v), in samples, and the steps of depth and colour over it from B to A."""
    s = layout.samples
    pair = Pair()
    pair.row = wp.min(wp.max(wp.int32(wp.floor(v)) // s, 0), layout.rows // s - 1)
    pair.column = wp.min(wp.max(wp.int32(wp.floor(u)) // s, 0), layout.columns // s - 1)
    pair.depth = 0.0
    if step.layer_a >= 0:
        pair.depth += wp.float32(wp.float64(1.0) / place_on_face(a.seen, u, v)[2])
    if step.layer_b >= 0:
        pair.depth -= wp.float32(wp.float64(1.0) / place_on_face(b.seen, u, v)[2])
    if background.shape[0] > 0:
        behind = background[scene, pair.row, pair.column]
        colour_a = colour_at(meshes, placed, step.layer_a, a, u, v, behind)
        pair.colour = colour_a - colour_at(meshes, placed, step.layer_b, b, u, v, behind)
    return pair


@wp.func
def with_pushes(
    pair: Pair,
    meshes: Meshes,
    placed: Placed,
    step: Step,
    camera: vec5d,
    border: Border,
    a: End,
    b: End,
    u: wp.float64,
    v: wp.float64,
) -> Pair:
    """Add what moves at a border at (u, v), in samples, and the forces on it."""
    pair.what = border.what
    across = border.normal_x * wp.float64(step.right) + border.normal_y * wp.float64(step.down)
    along = across * border.normal_x
    down = across * border.normal_y
    zero = wp.float64(0.0)
    if border.what == wp.static(EDGE_OF_A):
        pair.on_a = push_of(meshes, placed, step.layer_a, a.code, camera, a.seen, u, v, along, down, zero)
    if border.what == wp.static(EDGE_OF_B):
        pair.on_b = push_of(meshes, placed, step.layer_b, b.code, camera, b.seen, u, v, along, down, zero)
    if border.what == wp.static(INTERSECTION):
        pair.on_a = push_of_plane(meshes, placed, step.layer_a, a, camera, u, v, across)
        pair.on_b = push_of_plane(meshes, placed, step.layer_b, b, camera, u, v, -across)
    return pair


@wp.func
def push_of_plane(
    meshes: Meshes, placed: Placed, layer: wp.int32, end: End, camera: vec5d, u: wp.float64, v: wp.float64, across: wp.float64
) -> Push:
    """Force on a face at an intersection.

    q of its plane at a fixed place changes by -q^2 per metre of depth and by -(its slope) per sample of motion.
    """
    q = place_on_face(end.seen, u, v)[2]
    along = across * end.seen.q[0]
    down = across * end.seen.q[1]
    return push_of(meshes, placed, layer, end.code, camera, end.seen, u, v, along, down, across * q * q)


@wp.func
def colour_at(
    meshes: Meshes, placed: Placed, layer: wp.int32, end: End, u: wp.float64, v: wp.float64, behind: wp.vec3
) -> wp.vec3:
    """Colour of a face at a place, also a little beyond its border; the background's where there is no face."""
    if layer < 0:
        return behind
    return shade(meshes, placed, layer, end.code, share_of(place_on_face(end.seen, u, v)))


@wp.func
def moment_of(push: Push) -> mat34:
    """Gradient with respect to T_camera_object of a force on a point of the object."""
    out = mat34()
    for i in range(3):
        for j in range(3):
            out[i, j] = push.force[i] * push.point[j]
        out[i, 3] = push.force[i]
    return out
