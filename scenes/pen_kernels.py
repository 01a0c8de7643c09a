"""Numba kernels for pen strokes: which stroke drew a pixel, how strokes look, and made-up characters.

Points are in pixels: pixel (0, 0) covers [0, 1) x [0, 1), x runs right and y down.  The kernels are serial and release the GIL.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from scenes.random_kernels import CONTENT, stream_key, uniform

ALPHABET, SHAPE, DRAWER, TREMOR = np.uint64(8), np.uint64(9), np.uint64(10), np.uint64(11)
"""Purposes: an alphabet's manner, a character's strokes, a drawer's hand, and what differs from drawing to drawing."""
MAX_STROKES, KNOTS, STEPS = 4, 4, 8
"""A stroke runs smoothly through its knots, with so many straight pieces between two of them."""
STROKE_TRIES = 24
"""Courses tried for a stroke that retraces others."""
CLOSE, CLOSE_SHARE = 0.12, 0.3
"""A stroke retraces others if more than this share of its points comes so close to them (of a canvas of side 1)."""
MARGIN_PX = 1.5
"""Between the ink and the border of the canvas."""
TAU = 2.0 * math.pi


@numba.njit(cache=True, nogil=True)
def pick_rows(seed, numbers, count, rows):
    """Write a uniform row 0..count - 1 for each number [b]."""
    for b in range(numbers.shape[0]):
        rows[b] = int(uniform(stream_key(seed, numbers[b], np.uint64(0), CONTENT), np.uint64(0)) * count)


@numba.njit(cache=True, nogil=True)
def squared_distance(x, y, ax, ay, bx, by):
    """Squared distance from a point to a segment, which may be a point."""
    dx, dy = bx - ax, by - ay
    length = dx * dx + dy * dy
    t = ((x - ax) * dx + (y - ay) * dy) / length if length > 0.0 else 0.0
    t = min(1.0, max(0.0, t))
    ex, ey = x - ax - t * dx, y - ay - t * dy
    return ex * ex + ey * ey


@numba.njit(cache=True, nogil=True)
def nearest_strokes(points, offsets, image, stroke_ids):
    """The stroke nearest to the centre of each pixel with ink, the earlier of two as near.

    Args:
        points: [p 2] of all strokes, in pixels.
        offsets: [s + 1] stroke i has the points offsets[i]..offsets[i + 1] - 1, at least one.
        image: [h w] ink where above 0.
        stroke_ids: [h w] written: 0..s - 1, -1 where there is no ink.
    """
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            stroke_ids[row, column] = -1
            if image[row, column] <= 0:
                continue
            best = np.inf
            for stroke in range(offsets.shape[0] - 1):
                first, last = offsets[stroke], offsets[stroke + 1] - 1
                for i in range(first, max(last, first + 1)):
                    j = min(i + 1, last)
                    d = squared_distance(column + 0.5, row + 0.5, points[i, 0], points[i, 1], points[j, 0], points[j, 1])
                    if d < best:
                        best = d
                        stroke_ids[row, column] = stroke


@numba.njit(cache=True, nogil=True)
def draw_strokes(points, offsets, half_width_px, nearest, image, stroke_ids):
    """Draw strokes of one width with soft edges, and say which stroke is nearest to each pixel with ink.

    Args:
        points, offsets: see ``nearest_strokes``.
        half_width_px: of the pen.
        nearest: [h w] scratch.
        image: [h w] uint8, written: 255 where the centre is more than half a pixel inside the ink, falling to 0 half a pixel out.
        stroke_ids: [h w] written: 0..s - 1, -1 where there is no ink.
    """
    height, width = image.shape
    nearest[:] = np.inf
    reach = half_width_px + 0.5
    for stroke in range(offsets.shape[0] - 1):
        first, last = offsets[stroke], offsets[stroke + 1] - 1
        for i in range(first, max(last, first + 1)):
            j = min(i + 1, last)
            ax, ay, bx, by = points[i, 0], points[i, 1], points[j, 0], points[j, 1]
            left, right = int(max(0.0, min(ax, bx) - reach)), int(min(width - 1.0, max(ax, bx) + reach))
            top, bottom = int(max(0.0, min(ay, by) - reach)), int(min(height - 1.0, max(ay, by) + reach))
            for row in range(top, bottom + 1):
                for column in range(left, right + 1):
                    d = squared_distance(column + 0.5, row + 0.5, ax, ay, bx, by)
                    if d < nearest[row, column]:
                        nearest[row, column] = d
                        stroke_ids[row, column] = stroke
    for row in range(height):
        for column in range(width):
            ink = min(1.0, max(0.0, reach - math.sqrt(nearest[row, column])))
            image[row, column] = int(255.0 * ink + 0.5)
            if image[row, column] == 0:
                stroke_ids[row, column] = -1


@numba.njit(cache=True, nogil=True)
def smooth_course(knots, points):
    """Points [(k - 1) m + 1 2] of Catmull and Rom's curve through knots [k 2], the ends' tangents towards their neighbours."""
    count = knots.shape[0]
    for i in range(count - 1):
        for axis in range(2):
            p1, p2 = knots[i, axis], knots[i + 1, axis]
            p0 = knots[i - 1, axis] if i > 0 else 2.0 * p1 - p2
            p3 = knots[i + 2, axis] if i + 2 < count else 2.0 * p2 - p1
            for k in range(STEPS + 1):
                t = k / STEPS
                straight = 2.0 * p1 + (p2 - p0) * t
                bend = (2.0 * p0 - 5.0 * p1 + 4.0 * p2 - p3) * t * t + (3.0 * p1 - p0 - 3.0 * p2 + p3) * t * t * t
                points[i * STEPS + k, axis] = 0.5 * (straight + bend)


@numba.njit(cache=True, nogil=True)
def retraced_share(course, earlier, count):
    """Share of a course's points that come close to the courses of the first ``count`` strokes."""
    close = 0
    for p in range(course.shape[0]):
        best = np.inf
        for stroke in range(count):
            for i in range(earlier.shape[1] - 1):
                a, b = earlier[stroke, i], earlier[stroke, i + 1]
                best = min(best, squared_distance(course[p, 0], course[p, 1], a[0], a[1], b[0], b[1]))
        if best < CLOSE * CLOSE:
            close += 1
    return close / course.shape[0]


@numba.njit(cache=True, nogil=True)
def draw_knots(key, draw, stroke, curl, courses, knots):
    """Knots of one stroke on a canvas of side 1; uses 9 draws; returns whether they lie on it.

    A first stroke, or one in three later ones, starts anywhere; the others start on an earlier stroke and leave it sideways.
    Steps have one length and turn by one angle, one way or first one way and then the other: lines, arcs, hooks and bends.
    """
    heading = TAU * uniform(key, draw)
    x, y = 0.1 + 0.8 * uniform(key, draw + np.uint64(1)), 0.1 + 0.8 * uniform(key, draw + np.uint64(2))
    if stroke > 0 and uniform(key, draw + np.uint64(3)) < 0.67:
        course = courses[int(uniform(key, draw + np.uint64(4)) * stroke)]
        # the start, the middle or the end of it
        i = int(uniform(key, draw + np.uint64(5)) * 3.0) * (course.shape[0] - 2) // 2
        x, y = course[i, 0], course[i, 1]
        along = math.atan2(course[i + 1, 1] - course[i, 1], course[i + 1, 0] - course[i, 0])
        side = 1.0 if heading > math.pi else -1.0
        heading = along + side * (0.25 + 0.1 * (uniform(key, draw) - 0.5)) * TAU
    step = 0.16 + 0.16 * uniform(key, draw + np.uint64(6))
    bend = 2.0 * uniform(key, draw + np.uint64(7)) - 1.0
    turn = 0.0 if abs(bend) > curl else 1.8 * bend / curl
    back = uniform(key, draw + np.uint64(8)) < 0.4
    inside = True
    for k in range(knots.shape[0]):
        knots[k, 0], knots[k, 1] = x, y
        inside = inside and 0.0 <= x <= 1.0 and 0.0 <= y <= 1.0
        x, y = x + step * math.cos(heading), y + step * math.sin(heading)
        heading += -turn if back and k > 0 else turn
    return inside


@numba.njit(cache=True, nogil=True)
def draw_shape(seed, alphabet, character, max_strokes, knots, courses):
    """Strokes of a character: knots [s k 2] and courses [s m 2] on a canvas of side 1; returns how many.

    The manner of an alphabet is how round its strokes are.
    """
    curl = 0.35 + 0.6 * uniform(stream_key(seed, alphabet, np.uint64(0), ALPHABET), np.uint64(0))
    key = stream_key(seed, alphabet, character, SHAPE)
    count = 1 + int(uniform(key, np.uint64(0)) * max_strokes)
    draw = np.uint64(1)
    for stroke in range(count):
        for _ in range(STROKE_TRIES):
            inside = draw_knots(key, draw, stroke, curl, courses, knots[stroke])
            smooth_course(knots[stroke], courses[stroke])
            draw += np.uint64(9)
            if inside and (stroke == 0 or retraced_share(courses[stroke], courses, stroke) <= CLOSE_SHARE):
                break
    return count


@numba.njit(cache=True, nogil=True)
def handwriting(seed, drawer, number, count, knots):
    """Bend knots [s k 2] to a drawer's slant, turn and proportions, with the tremor of one drawing."""
    hand = stream_key(seed, drawer, np.uint64(0), DRAWER)
    slant = 0.6 * (uniform(hand, np.uint64(0)) - 0.5)
    turn = 0.3 * (uniform(hand, np.uint64(1)) - 0.5)
    wide = math.exp(0.4 * (uniform(hand, np.uint64(2)) - 0.5))
    unsteady = 0.015 + 0.035 * uniform(hand, np.uint64(3))
    tremor = stream_key(seed, number, np.uint64(0), TREMOR)
    draw = np.uint64(2)
    for stroke in range(count):
        for k in range(knots.shape[1]):
            x = knots[stroke, k, 0] + unsteady * (2.0 * uniform(tremor, draw) - 1.0)
            y = knots[stroke, k, 1] + unsteady * (2.0 * uniform(tremor, draw + np.uint64(1)) - 1.0)
            draw += np.uint64(2)
            x = wide * (x - slant * y)
            knots[stroke, k, 0] = math.cos(turn) * x - math.sin(turn) * y
            knots[stroke, k, 1] = math.sin(turn) * x + math.cos(turn) * y


@numba.njit(cache=True, nogil=True)
def fit_on_canvas(seed, drawer, number, points, canvas_px, half_width_px):
    """Scale points [p 2] to the size a drawer writes in, in pixels, and put them where their ink lies on the canvas."""
    hand = stream_key(seed, drawer, np.uint64(0), DRAWER)
    tremor = stream_key(seed, number, np.uint64(0), TREMOR)
    size = 0.7 + 0.25 * uniform(hand, np.uint64(4))
    room = canvas_px - 2.0 * (half_width_px + MARGIN_PX)
    low, high = np.empty(2), np.empty(2)
    for axis in range(2):
        low[axis], high[axis] = points[:, axis].min(), points[:, axis].max()
    scale = size * room / max(high[0] - low[0], high[1] - low[1], 0.3)
    for axis in range(2):
        slack = room - scale * (high[axis] - low[axis])
        # about the middle: half of the way to either border
        start = half_width_px + MARGIN_PX + slack * (0.25 + 0.5 * uniform(tremor, np.uint64(axis)))
        for p in range(points.shape[0]):
            points[p, axis] = start + scale * (points[p, axis] - low[axis])


@numba.njit(cache=True, nogil=True)
def pen_characters(seed, numbers, characters, drawers, max_strokes, widths_px, points, counts, images, stroke_ids):
    """Make characters up.

    Args:
        seed: uint64.
        numbers: [b] uint64: (alphabet * characters + character) * drawers + drawer.
        characters: uint64, characters an alphabet.
        drawers: uint64.
        max_strokes: strokes a character, at most MAX_STROKES.
        widths_px: thinnest and thickest pen; each drawer has one.
        points: [b s m 2] written where there is a stroke: its course in pixels.
        counts: [b] written: strokes of each character.
        images: [b h w] uint8, written.
        stroke_ids: [b h w] int8, written.
    """
    canvas_px = images.shape[1]
    length = (KNOTS - 1) * STEPS + 1
    knots, courses = np.zeros((MAX_STROKES, KNOTS, 2)), np.zeros((MAX_STROKES, length, 2))
    nearest = np.zeros((canvas_px, canvas_px))
    for b in range(numbers.shape[0]):
        drawer = numbers[b] % drawers
        character, alphabet = (numbers[b] // drawers) % characters, numbers[b] // (drawers * characters)
        pen = uniform(stream_key(seed, drawer, np.uint64(0), DRAWER), np.uint64(5))
        half_width_px = 0.5 * (widths_px[0] + pen * (widths_px[1] - widths_px[0]))
        count = draw_shape(seed, alphabet, character, max_strokes, knots, courses)
        handwriting(seed, drawer, numbers[b], count, knots)
        for stroke in range(count):
            smooth_course(knots[stroke], points[b, stroke])
        flat = points[b, :count].reshape(-1, 2)
        fit_on_canvas(seed, drawer, numbers[b], flat, canvas_px, half_width_px)
        counts[b] = count
        draw_strokes(flat, np.arange(count + 1) * length, half_width_px, nearest, images[b], stroke_ids[b])
