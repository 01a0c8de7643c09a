"""Numba kernels behind ``views``: the random numbers of a view, and the chequered table in perspective."""

from __future__ import annotations

import math

import numba
import numpy as np

from scenes.random_kernels import VIEW, stream_key, uniform


@numba.njit(cache=True, nogil=True)
def view_draws(seed, indices, draws):
    """Fill draws [b, NUM_DRAWS] with each scene's numbers in [0, 1)."""
    for b in range(indices.shape[0]):
        key = stream_key(seed, indices[b], np.uint64(0), VIEW)
        for k in range(draws.shape[1]):
            draws[b, k] = uniform(key, np.uint64(k))


@numba.njit(cache=True, nogil=True)
def checker_weights(T_world_camera, focal_px, square_m, samples, weights):
    """Share of each pixel that shows an odd square of the table z = 0, and share that shows the table at all.

    Args:
        T_world_camera: [b 4 4].
        focal_px: focal length; the principal point is the image's centre.
        square_m: side of a square.
        samples: samples along each axis of a pixel.
        weights: [b h w 2] written: odd share, table share.
    """
    batch, height, width, _ = weights.shape
    for b in range(batch):
        pose = T_world_camera[b]
        for row in range(height):
            for column in range(width):
                odd, table = 0, 0
                for sub in range(samples * samples):
                    x = (column + (sub % samples + 0.5) / samples - 0.5 * width) / focal_px
                    y = (row + (sub // samples + 0.5) / samples - 0.5 * height) / focal_px
                    dz = pose[2, 0] * x + pose[2, 1] * y + pose[2, 2]
                    if dz * pose[2, 3] >= 0.0:
                        continue
                    t = -pose[2, 3] / dz
                    u = pose[0, 3] + t * (pose[0, 0] * x + pose[0, 1] * y + pose[0, 2])
                    v = pose[1, 3] + t * (pose[1, 0] * x + pose[1, 1] * y + pose[1, 2])
                    table += 1
                    odd += (int(math.floor(u / square_m)) + int(math.floor(v / square_m))) & 1
                weights[b, row, column, 0] = odd / (samples * samples)
                weights[b, row, column, 1] = table / (samples * samples)
