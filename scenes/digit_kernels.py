"""Numba kernels that put digits on canvases; they stand beside the kernels they call, which one stamp watches.

Which digits an image shows is keyed by (seed, index) alone, where they stand by another stream: rejecting a placement never
changes how often a count or a digit appears.  The kernels are serial and release the GIL.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from scenes.random_kernels import CONTENT, GOLDEN, PLACEMENT, mix, stream_key, uniform

NOISE = np.uint64(4)
"""Purpose of the numbers behind the noise."""
OBJECT_TRIES = 32
"""Places tried for one digit before all are placed afresh (strict rule)."""
OVERSHOOT = 1.0 + 0.5 / 255.0
"""A sum above it is more than white, whatever the rounding of the weights."""
TAU = 2.0 * math.pi
_S16, _LOW = np.uint64(16), np.uint64(0xFFFF)


@numba.njit(cache=True, nogil=True)
def fill_weights(source_px, side_px, starts, lengths, weights):
    """Weights that resize ``source_px`` samples to ``side_px``: a triangle as wide as the wider of the two kinds of samples.

    Args:
        source_px, side_px: samples before and after.
        starts, lengths: [s] written: the samples each new one is a mean of.
        weights: [s t] written: their weights, which sum to 1; all are positive.
    """
    ratio = source_px / side_px
    reach = max(ratio, 1.0)
    for j in range(side_px):
        centre = (j + 0.5) * ratio
        first = max(0, int(math.floor(centre - reach)))
        start, length, total = 0, 0, 0.0
        for i in range(first, min(source_px, int(math.ceil(centre + reach)))):
            weight = 1.0 - abs(i + 0.5 - centre) / reach
            if weight > 1e-6:
                start = i if length == 0 else start
                weights[j, length] = weight
                length += 1
                total += weight
        starts[j], lengths[j] = start, length
        for k in range(length):
            weights[j, k] /= total


@numba.njit(cache=True, nogil=True)
def ink_extent(digit, extent):
    """Write first column, first row, column after the last and row after the last that hold ink."""
    size = digit.shape[0]
    extent[0], extent[1], extent[2], extent[3] = size, size, 0, 0
    for row in range(size):
        for column in range(size):
            if digit[row, column] > 0:
                extent[0], extent[1] = min(extent[0], column), min(extent[1], row)
                extent[2], extent[3] = max(extent[2], column + 1), max(extent[3], row + 1)


@numba.njit(cache=True, nogil=True)
def resized_range(first, after, side_px, starts, lengths):
    """First and after-last of the resized samples that samples first..after - 1 contribute to."""
    low, high = side_px, 0
    for j in range(side_px):
        if starts[j] < after and starts[j] + lengths[j] > first:
            low, high = min(low, j), j + 1
    return low, high


@numba.njit(cache=True, nogil=True)
def add_digit(digit, extent, table, left_px, top_px, box, rows, canvas):
    """Add a resized digit to a canvas; returns the greatest sum it leads to.

    Args:
        digit: [28 28] uint8.
        extent: [4] of its ink, see ``ink_extent``.
        table: starts [s], lengths [s] and weights [s t] of its side.
        left_px, top_px: the frame's corner on the canvas.
        box: [4] ink on the canvas: left, top, right, bottom, inside it.
        rows: [28 s] scratch.
        canvas: [h w] float32, added to.
    """
    starts, lengths, weights = table
    for row in range(extent[1], extent[3]):
        for x in range(box[0], box[2]):
            j = x - left_px
            value = 0.0
            for k in range(lengths[j]):
                value += weights[j, k] * digit[row, starts[j] + k]
            rows[row, j] = value
    brightest = 0.0
    for y in range(box[1], box[3]):
        i = y - top_px
        first, after = max(starts[i], extent[1]), min(starts[i] + lengths[i], extent[3])
        for x in range(box[0], box[2]):
            value = 0.0
            for row in range(first, after):
                value += weights[i, row - starts[i]] * rows[row, x - left_px]
            canvas[y, x] += np.float32(value / 255.0)
            brightest = max(brightest, canvas[y, x])
    return brightest


@numba.njit(cache=True, nogil=True)
def draw_side(key, draw, sides_px, inverse_normal):
    """Side of a digit's frame in pixels; uses 2 draws.

    Uniform over the whole numbers low..high, or the whole part of 1 / z with z normal, its mean halfway between 1 / high and
    1 / low and both three standard deviations away, cut off there.
    """
    low, high = sides_px
    u = uniform(key, draw)
    if not inverse_normal:
        return low + int(u * (high - low + 1))
    normal = math.sqrt(-2.0 * math.log(1.0 - u)) * math.cos(TAU * uniform(key, draw + np.uint64(1)))
    middle, half = 0.5 * (1.0 / low + 1.0 / high), 0.5 * (1.0 / low - 1.0 / high)
    side = int(1.0 / (middle + half * min(1.0, max(-1.0, normal / 3.0))) + 1e-9)
    return min(high, max(low, side))


@numba.njit(cache=True, nogil=True)
def propose(key, draw, extent, canvas_px, sides_px, law, tables, frame, box):
    """Draw a digit's side and place, uniform over what fits; uses 4 draws; returns whether anything fits.

    Args:
        key, draw: the stream and its next number.
        extent: [4] of the digit's ink.
        canvas_px: side of the canvas.
        sides_px: smallest and largest side.
        law: (inverse_normal, strict): how sides are drawn; whether the ink, and not the whole frame, must lie on the canvas.
        tables: starts, lengths and weights of every side.
        frame: [3] written: left, top, side.
        box: [4] written: ink on the canvas: left, top, right, bottom.
    """
    starts, lengths, _ = tables
    inverse_normal, strict = law
    side = draw_side(key, draw, sides_px, inverse_normal)
    row = side - sides_px[0]
    frame[2] = side
    for axis in range(2):
        low, high = resized_range(extent[axis], extent[axis + 2], side, starts[row], lengths[row])
        first, last = (-low, canvas_px - high) if strict else (0, canvas_px - side)
        if last < first:
            return False
        corner = first + int(uniform(key, draw + np.uint64(2 + axis)) * (last - first + 1))
        frame[axis], box[axis], box[axis + 2] = corner, corner + low, corner + high
    return True


@numba.njit(cache=True, nogil=True)
def overlaps_earlier(slot, boxes):
    """Whether a box shares a pixel with one of those before it."""
    for other in range(slot):
        if (
            boxes[slot, 0] < boxes[other, 2]
            and boxes[other, 0] < boxes[slot, 2]
            and boxes[slot, 1] < boxes[other, 3]
            and boxes[other, 1] < boxes[slot, 3]
        ):
            return True
    return False


@numba.njit(cache=True, nogil=True)
def place_and_draw(key, count, picked, digits, extents, sides_px, law, max_tries, tables, frames, boxes, rows, canvas):
    """One image: places for its digits, then their sum; returns whether the rule could be kept."""
    starts, lengths, weights = tables
    strict = law[1]
    canvas_px = canvas.shape[0]
    draw = np.uint64(0)
    for _ in range(max_tries):
        slot, tries = 0, 0
        while slot < count and tries < OBJECT_TRIES:
            fits = propose(key, draw, extents[slot], canvas_px, sides_px, law, tables, frames[slot], boxes[slot])
            draw += np.uint64(4)
            fits = fits and not (strict and overlaps_earlier(slot, boxes))
            slot, tries = (slot + 1, 0) if fits else (slot, tries + 1)
        if slot < count:
            continue
        canvas[:] = 0.0
        brightest = 0.0
        for slot in range(count):
            row = frames[slot, 2] - sides_px[0]
            table = (starts[row], lengths[row], weights[row])
            left_px, top_px = frames[slot, 0], frames[slot, 1]
            sum_ = add_digit(digits[picked[slot]], extents[slot], table, left_px, top_px, boxes[slot], rows, canvas)
            brightest = max(brightest, sum_)
        if brightest <= OVERSHOOT:
            return True
    return False


@numba.njit(cache=True, nogil=True)
def finish(key, noise, canvas):
    """Add noise and clip to 0..1; four pixels take one random number.

    Args:
        key: the stream.
        noise: [65536] equally likely values; empty for none.
        canvas: [h w] float32, changed.
    """
    values = canvas.reshape(-1)
    bits = np.uint64(0)
    for i in range(values.shape[0]):
        value = values[i]
        if noise.shape[0] > 0:
            bits = mix(key + np.uint64(i // 4 + 1) * GOLDEN) if i % 4 == 0 else bits >> _S16
            value += noise[bits & _LOW]
        values[i] = min(np.float32(1.0), max(np.float32(0.0), value))


@numba.njit(cache=True, nogil=True)
def compose_images(seed, indices, digits, counts, sides_px, law, noise, max_tries, tables, picked, frames, boxes, images, failed):
    """Draw a batch of images.

    Args:
        seed: uint64.
        indices: [b] uint64 numbers of the images.
        digits: [d 28 28] uint8.
        counts: [c] numbers of digits, equally likely.
        sides_px: smallest and largest side of a frame.
        law: (inverse_normal, strict), see ``propose``.
        noise: [65536] equally likely values of the noise; empty for none.
        max_tries: layouts tried before an image is given up.
        tables: starts [s S], lengths [s S] and weights [s S t] of the sides low..high.
        picked: [b n] written: which digits, -1 in absent slots.
        frames: [b n 3] zeros, written where present: left, top and side in pixels.
        boxes: [b n 4] zeros, written where present: ink's left, top, right and bottom in pixels.
        images: [b h w] zeros, float32, written: 0..1.
        failed: [b] written: images whose digits found no place.
    """
    slots = picked.shape[1]
    extents = np.zeros((slots, 4), np.int64)
    rows = np.zeros((digits.shape[1], sides_px[1]))
    for b in range(indices.shape[0]):
        key = stream_key(seed, indices[b], np.uint64(0), CONTENT)
        count = counts[int(uniform(key, np.uint64(0)) * counts.shape[0])]
        for slot in range(slots):
            picked[b, slot] = int(uniform(key, np.uint64(slot + 1)) * digits.shape[0]) if slot < count else -1
            if slot < count:
                ink_extent(digits[picked[b, slot]], extents[slot])
        key = stream_key(seed, indices[b], np.uint64(0), PLACEMENT)
        failed[b] = not place_and_draw(
            key, count, picked[b], digits, extents, sides_px, law, max_tries, tables, frames[b], boxes[b], rows, images[b]
        )
        finish(stream_key(seed, indices[b], np.uint64(0), NOISE), noise, images[b])
