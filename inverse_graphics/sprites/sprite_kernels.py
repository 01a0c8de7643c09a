"""Compiled passes of the 2-D case: bilinear sampling along a straight grid, and squared errors of sums of layers.

A grid is (first row, first column, row step, column step): sample (r, c) lies at row first + r * step and likewise for columns,
in pixels of the image, whose pixel (0, 0) has its centre at (0, 0).  Outside the image is zero, between pixels it is bilinear.
Passes run on one core: they take microseconds an image, and may be entered from several threads.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from inverse_graphics.compiled import inlined, summed

PAD = 2
"""Zeros before and after a row of pixels; two, as a sample that lies just inside may be rounded outside."""


@inlined
def samples_inside(first, step, count, size):
    """The first sample within a pixel of an image of ``size`` pixels, and the one after the last; ``step`` is positive."""
    low, high = np.ceil((np.float64(-1.0) - first) / step), np.floor((np.float64(size) - first) / step) + 1.0
    # comparisons that send what is no number through all samples, which then are none either
    low, high = low if low > 0.0 else 0.0, high if high < count else np.float64(count)
    return np.int64(low if low < count else count), np.int64(high if high > 0.0 else 0.0)


@inlined
def spread_taps(first, step, left, right, index, share):
    """For samples left..right of a row: the padded pixel before each, and the share of the one after it."""
    for c in range(left, right):
        at = first + c * step
        before = np.floor(at)
        index[c] = np.uint64(before + PAD) if before == before else np.uint64(0)
        share[c] = at - before


@inlined
def blend_rows(image, at, row, slope):
    """The row of pixels at a height between two, into ``row`` [w], padded with zeros, and what it changes by a pixel."""
    height, width = image.shape
    before = np.floor(at)
    f = image.dtype.type(at - before)
    i = np.int64(before) if before == before else np.int64(0)
    has_upper, has_lower = 0 <= i < height, -1 <= i < height - 1
    upper, lower = image[i if has_upper else 0], image[i + 1 if has_lower else 0]
    a, b = image.dtype.type(1.0 if has_upper else 0.0), image.dtype.type(1.0 if has_lower else 0.0)
    for p in range(width):
        row[p + PAD] = (1 - f) * a * upper[p] + f * b * lower[p]
        slope[p + PAD] = b * lower[p] - a * upper[p]
    return i, f, has_upper, has_lower


@njit(cache=True, nogil=True, error_model="numpy")
def sample_pass(images, grids, out):
    """Fill ``out`` [b c p q] with samples of ``images`` [b c h w] along ``grids`` [b 4]."""
    batch, channels, height, width = images.shape
    rows, columns = out.shape[2:]
    index, share = np.empty(columns, np.uint64), np.empty(columns, images.dtype)
    row, slope = np.zeros(width + 2 * PAD, images.dtype), np.zeros(width + 2 * PAD, images.dtype)
    out[:] = 0.0
    for b in range(batch):
        top, bottom = samples_inside(grids[b, 0], grids[b, 2], rows, height)
        left, right = samples_inside(grids[b, 1], grids[b, 3], columns, width)
        spread_taps(grids[b, 1], grids[b, 3], left, right, index, share)
        for k in range(channels):
            for r in range(top, bottom):
                blend_rows(images[b, k], grids[b, 0] + r * grids[b, 2], row, slope)
                for c in range(left, right):
                    j, g = index[c], share[c]
                    out[b, k, r, c] = (1 - g) * row[j] + g * row[j + np.uint64(1)]


@njit(cache=True, nogil=True, error_model="numpy")
def sample_gradient_pass(images, grids, weights, image_gradient, grid_gradient):
    """Gradient of sum(weights * samples): ``grid_gradient`` [b 4] is filled, ``image_gradient`` [b c h w] if it has a size."""
    batch, channels, height, width = images.shape
    rows, columns = weights.shape[2:]
    index, share = np.empty(columns, np.uint64), np.empty(columns, images.dtype)
    row, slope, sums = (
        np.zeros(width + 2 * PAD, images.dtype),
        np.zeros(width + 2 * PAD, images.dtype),
        np.zeros(width + 2 * PAD, images.dtype),
    )
    image_gradient[:] = 0.0
    for b in range(batch):
        top, bottom = samples_inside(grids[b, 0], grids[b, 2], rows, height)
        left, right = samples_inside(grids[b, 1], grids[b, 3], columns, width)
        spread_taps(grids[b, 1], grids[b, 3], left, right, index, share)
        by_row = by_column = by_row_step = by_column_step = grids.dtype.type(0.0)
        for k in range(channels):
            for r in range(top, bottom):
                i, f, has_upper, has_lower = blend_rows(images[b, k], grids[b, 0] + r * grids[b, 2], row, slope)
                of_row = grids.dtype.type(0.0)
                for c in range(left, right):
                    j, g, weight = index[c], share[c], weights[b, k, r, c]
                    after = j + np.uint64(1)
                    of_row += weight * ((1 - g) * slope[j] + g * slope[after])
                    of_column = weight * (row[after] - row[j])
                    by_column += of_column
                    by_column_step += c * of_column
                by_row += of_row
                by_row_step += r * of_row
                if image_gradient.size > 0:
                    gather_weights(weights[b, k, r], left, right, index, share, sums)
                    add_rows(image_gradient[b, k], i, f, has_upper, has_lower, sums)
        grid_gradient[b, 0], grid_gradient[b, 1] = by_row, by_column
        grid_gradient[b, 2], grid_gradient[b, 3] = by_row_step, by_column_step


@inlined
def gather_weights(weights, left, right, index, share, sums):
    """What the padded pixels of a blended row get of the weights of its samples."""
    for p in range(len(sums)):
        sums[p] = 0.0
    for c in range(left, right):
        j, part = index[c], share[c] * weights[c]
        sums[j] += weights[c] - part
        sums[j + np.uint64(1)] += part


@inlined
def add_rows(gradient, i, f, has_upper, has_lower, sums):
    """Share a blended row's weights between the two rows that it is made of."""
    for p in range(gradient.shape[1]):
        if has_upper:
            gradient[i, p] += (1 - f) * sums[p + PAD]
        if has_lower:
            gradient[i + 1, p] += f * sums[p + PAD]


@summed
def sum_of_squares(values):
    """Sum of the squares of [p]."""
    total = values.dtype.type(0.0)
    for x in values:
        total += x * x
    return total


@njit(cache=True, nogil=True)
def prefix_error_pass(image, layers, residual, errors):
    """Fill ``errors`` [b n+1] with the squared errors of the sums of the first 0, 1, ..., n ``layers`` [b n p].

    What is left of ``image`` [b p] by all layers stays in ``residual`` [b p].
    """
    batch, slots, pixels = layers.shape
    for b in range(batch):
        left = residual[b]
        for p in range(pixels):
            left[p] = image[b, p]
        errors[b, 0] = sum_of_squares(left)
        for n in range(slots):
            layer = layers[b, n]
            for p in range(pixels):
                left[p] -= layer[p]
            errors[b, n + 1] = sum_of_squares(left)


@njit(cache=True, nogil=True)
def prefix_error_gradient_pass(layers, residual, weights, gradient):
    """Fill ``gradient`` [b n p] with that of sum(weights * errors) to the layers; ``residual`` is what all layers leave."""
    batch, slots, pixels = layers.shape
    for b in range(batch):
        left = residual[b].copy()
        for n in range(slots - 1, -1, -1):
            layer, out, weight = layers[b, n], gradient[b, n], -2 * weights[b, n + 1]
            for p in range(pixels):
                out[p] = weight * left[p]
                left[p] += layer[p]
            if n < slots - 1:
                later = gradient[b, n + 1]
                for p in range(pixels):
                    out[p] += later[p]
