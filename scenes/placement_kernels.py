"""Numba kernels that draw count, classes and poses of whole batches of scenes, without interpenetration.

Count and classes are keyed by (seed, index) alone and poses by (seed, index, attempt): rejecting a placement never changes how
often a count or a class appears.  An object that does not fit is drawn again, then the whole placement is.  The kernels are
serial and release the GIL, so a background thread may run them beside anything else.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from scenes.random_kernels import CONTENT, PLACEMENT, stream_key, uniform

OBJECT_TRIES = 64
"""Poses tried for one object before the scene is laid out afresh."""
SCENE_TRIES = 256
"""Layouts tried before a scene is given up."""
TAU = 2.0 * math.pi


@numba.njit(cache=True, nogil=True)
def draw_content(seed, index, cumulative, class_ids_out, present_out, num_classes):
    """Count by the inverse of its cumulative distribution, then a class for each object; returns the count.

    Args:
        seed: uint64.
        index: uint64, number of the scene.
        cumulative: [n + 1] P(count <= i).
        class_ids_out: [n] written: 0..num_classes - 1, 0 for absent slots.
        present_out: [n] written.
        num_classes: how many classes there are.
    """
    key = stream_key(seed, index, np.uint64(0), CONTENT)
    u = uniform(key, np.uint64(0))
    count = 0
    while count < cumulative.shape[0] - 1 and u >= cumulative[count]:
        count += 1
    for slot in range(present_out.shape[0]):
        present_out[slot] = slot < count
        drawn = int(uniform(key, np.uint64(slot + 1)) * num_classes)
        class_ids_out[slot] = drawn if slot < count else 0
    return count


@numba.njit(cache=True, nogil=True)
def gap_along(axis_x, axis_y, corners_a, corners_b):
    """Signed gap between two point sets projected on a unit axis: positive where a line across the axis separates them."""
    low_a, high_a, low_b, high_b = np.inf, -np.inf, np.inf, -np.inf
    for i in range(corners_a.shape[0]):
        s = corners_a[i, 0] * axis_x + corners_a[i, 1] * axis_y
        low_a, high_a = min(low_a, s), max(high_a, s)
    for i in range(corners_b.shape[0]):
        s = corners_b[i, 0] * axis_x + corners_b[i, 1] * axis_y
        low_b, high_b = min(low_b, s), max(high_b, s)
    return max(low_b - high_a, low_a - high_b)


@numba.njit(cache=True, nogil=True)
def apart_along_edges(corners_a, corners_b, clearance_m):
    """Whether the normal of an edge of polygon a separates it from b by more than the clearance."""
    corners = corners_a.shape[0]
    for i in range(corners):
        j = i + 1 if i + 1 < corners else 0
        edge_x, edge_y = corners_a[j, 0] - corners_a[i, 0], corners_a[j, 1] - corners_a[i, 1]
        length = math.sqrt(edge_x * edge_x + edge_y * edge_y)
        if length > 0.0 and gap_along(edge_y / length, -edge_x / length, corners_a, corners_b) > clearance_m:
            return True
    return False


@numba.njit(cache=True, nogil=True)
def polygons_apart(corners_a, corners_b, clearance_m):
    """Separating-axis test of convex polygons (corners in order, [p 2] each).

    The gap along an edge's normal never exceeds the true distance, so True guarantees the clearance; where two corners face each
    other a gap slightly larger than the clearance may be asked for.
    """
    return apart_along_edges(corners_a, corners_b, clearance_m) or apart_along_edges(corners_b, corners_a, clearance_m)


@numba.njit(cache=True, nogil=True)
def turn_corners(corners, count, pose, out):
    """Corners of a footprint in the world, given an upright pose [4 4]."""
    for i in range(count):
        out[i, 0] = pose[0, 0] * corners[i, 0] + pose[0, 1] * corners[i, 1] + pose[0, 3]
        out[i, 1] = pose[1, 0] * corners[i, 0] + pose[1, 1] * corners[i, 1] + pose[1, 3]


@numba.njit(cache=True, nogil=True)
def draw_position(key, draw, ranges, pose):
    """Uniform x, y, z from the draws draw..draw + 2 into a pose's translation."""
    for axis in range(3):
        u = uniform(key, draw + np.uint64(axis))
        pose[axis, 3] = ranges[axis, 0] + u * (ranges[axis, 1] - ranges[axis, 0])


@numba.njit(cache=True, nogil=True)
def draw_upright(key, draw, ranges, pose):
    """Pose with uniform x, y and yaw; uses 4 draws (ranges: [4 2] x, y, z in metres, yaw in radians)."""
    draw_position(key, draw, ranges, pose)
    yaw = ranges[3, 0] + uniform(key, draw + np.uint64(3)) * (ranges[3, 1] - ranges[3, 0])
    cosine, sine = math.cos(yaw), math.sin(yaw)
    pose[0, 0], pose[0, 1], pose[1, 0], pose[1, 1] = cosine, -sine, sine, cosine


@numba.njit(cache=True, nogil=True)
def draw_free(key, draw, ranges, pose):
    """Pose with uniform x, y, z and a rotation uniform over SO(3); uses 6 draws.

    R = (2 v v^T - I) Rz(angle) with v the half-way vector from +z to a uniform direction (Arvo, "Fast random rotation matrices",
    Graphics Gems III, 1992).
    """
    draw_position(key, draw, ranges, pose)
    turn, around = TAU * uniform(key, draw + np.uint64(3)), TAU * uniform(key, draw + np.uint64(4))
    u = uniform(key, draw + np.uint64(5))
    cosine, sine = math.cos(turn), math.sin(turn)
    v = (math.cos(around) * math.sqrt(u), math.sin(around) * math.sqrt(u), math.sqrt(1.0 - u))
    for i in range(3):
        x = 2.0 * v[i] * v[0] - (1.0 if i == 0 else 0.0)
        y = 2.0 * v[i] * v[1] - (1.0 if i == 1 else 0.0)
        pose[i, 0], pose[i, 1] = x * cosine + y * sine, y * cosine - x * sine
        pose[i, 2] = 2.0 * v[i] * v[2] - (1.0 if i == 2 else 0.0)


@numba.njit(cache=True, nogil=True)
def fits_upright(slot, class_ids, poses, corners, counts, radii, clearance_m, placed):
    """Whether an object keeps clear of those before it; ``placed`` [n p 2] holds their corners in the world."""
    here = class_ids[slot]
    turn_corners(corners[here], counts[here], poses[slot], placed[slot])
    for other in range(slot):
        there = class_ids[other]
        dx, dy = poses[slot, 0, 3] - poses[other, 0, 3], poses[slot, 1, 3] - poses[other, 1, 3]
        if math.sqrt(dx * dx + dy * dy) > radii[here] + radii[there] + clearance_m:
            continue
        if not polygons_apart(placed[slot, : counts[here]], placed[other, : counts[there]], clearance_m):
            return False
    return True


@numba.njit(cache=True, nogil=True)
def fits_free(slot, class_ids, poses, centres, radii, clearance_m):
    """Whether an object's bounding sphere keeps clear of those of the objects before it."""
    here = class_ids[slot]
    for other in range(slot):
        there = class_ids[other]
        squared = 0.0
        for i in range(3):
            difference = poses[slot, i, 3] - poses[other, i, 3]
            for j in range(3):
                difference += poses[slot, i, j] * centres[here, j] - poses[other, i, j] * centres[there, j]
            squared += difference * difference
        if math.sqrt(squared) < radii[here] + radii[there] + clearance_m:
            return False
    return True


@numba.njit(cache=True, nogil=True)
def place_scene(key, free, class_ids, count, poses, ranges, clearance_m, shapes, placed):
    """Draw poses [n 4 4] (identities on entry) of the first ``count`` slots; returns whether they could be placed."""
    corners, counts, radii, centres, sphere_radii = shapes
    draw = np.uint64(0)
    for _ in range(SCENE_TRIES):
        slot, tries = 0, 0
        while slot < count and tries < OBJECT_TRIES:
            if free:
                draw_free(key, draw, ranges[class_ids[slot]], poses[slot])
                fits = fits_free(slot, class_ids, poses, centres, sphere_radii, clearance_m)
            else:
                draw_upright(key, draw, ranges[class_ids[slot]], poses[slot])
                fits = fits_upright(slot, class_ids, poses, corners, counts, radii, clearance_m, placed)
            draw += np.uint64(6)
            slot, tries = (slot + 1, 0) if fits else (slot, tries + 1)
        if slot == count:
            return True
    return False


@numba.njit(cache=True, nogil=True)
def place_scenes(seed, indices, attempts, free, cumulative, ranges, clearance_m, shapes, class_ids, present, poses, failed):
    """Draw a batch of scenes.

    Args:
        seed: uint64.
        indices: [b] uint64 numbers of the scenes.
        attempts: [b] uint64, which placement of each scene.
        free: free or upright placement.
        cumulative: [n + 1] P(count <= i).
        ranges: [k 4 2] of each class's x, y, z in metres and yaw in radians.
        clearance_m: least gap.
        shapes: corners [k p 2], corner counts [k], radii [k], sphere centres [k 3], sphere radii [k].
        class_ids: [b n] written, 0..k - 1.
        present: [b n] written.
        poses: [b n 4 4] identities, written where present.
        failed: [b] written: scenes that could not be laid out.
    """
    num_classes = shapes[1].shape[0]
    placed = np.zeros((present.shape[1], shapes[0].shape[1], 2))
    for b in range(indices.shape[0]):
        count = draw_content(seed, indices[b], cumulative, class_ids[b], present[b], num_classes)
        key = stream_key(seed, indices[b], attempts[b], PLACEMENT)
        failed[b] = not place_scene(key, free, class_ids[b], count, poses[b], ranges, clearance_m, shapes, placed)
