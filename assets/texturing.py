"""Textures become corner colours: faces are divided until the texture is nearly linear over each of them.

The other way is to keep the image (``assets.textures``).  Corner colours need no look-up at every sample, so layers are drawn
faster.  Over every face the texture is sampled on a lattice and a linear colour is fitted by least squares; faces where the fit
is poor are divided, down to edges of a stated length.  Detail smaller than that becomes its mean colour, which is what a small
image shows of it.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

from assets.surfaces import Surface

TOLERANCE = 0.03
"""A face is divided where the fitted linear colour misses the texture by more than this (root mean square)."""
MAX_SAMPLES_PER_EDGE = 32
MIN_SAMPLES_PER_EDGE = 4
_CHUNK_SAMPLES = 1 << 20
_CHILDREN = {
    0: [[0, 1, 2]],
    1: [[0, 3, 2], [3, 1, 2]],
    2: [[3, 1, 4], [0, 3, 4], [0, 4, 2]],
    3: [[0, 3, 5], [3, 1, 4], [5, 4, 2], [3, 4, 5]],
}
"""Children of a face by its number of divided edges; 3, 4, 5 are the middles of the edges that start at corners 0, 1, 2."""

Vertices = Float[np.ndarray, "v 3"]
Faces = Int[np.ndarray, "f 3"]


def bake(
    vertices_m: Vertices,
    faces: Faces,
    corner_rgb: Float[np.ndarray, "f 3 3"],
    corner_uv: Float[np.ndarray, "f 3 2"],
    texture_ids: Int[np.ndarray, "f"],
    textures: list[Float[np.ndarray, "_ _ 3"]],
    detail_m: float,
) -> Surface:
    """Turn textures into corner colours.

    Args:
        vertices_m: positions; neighbouring faces share vertices (else dividing one of them leaves cracks).
        faces: vertex indices.
        corner_rgb: linear colours, which the textures are multiplied by.
        corner_uv: texture coordinates.
        texture_ids: index into ``textures``, -1 for faces without.
        textures: linear images.
        detail_m: edges shorter than this are not divided further.
    """
    attributes = np.concatenate([corner_uv, corner_rgb], -1)
    while True:
        fitted, error = _fit(attributes, texture_ids, textures)
        marked = _edges_to_divide(vertices_m, faces, error > TOLERANCE, detail_m)
        if not marked.any():
            return Surface(vertices_m, faces, fitted)
        vertices_m, faces, attributes, parents = divide(vertices_m, faces, attributes, marked)
        texture_ids = texture_ids[parents]


def divide(
    vertices: Vertices, faces: Faces, attributes: Float[np.ndarray, "f 3 k"], marked: Bool[np.ndarray, "f 3"]
) -> tuple[Float[np.ndarray, "w 3"], Int[np.ndarray, "g 3"], Float[np.ndarray, "g 3 k"], Int[np.ndarray, "g"]]:
    """Divide marked edges in the middle, and the faces beside them into two, three or four.

    Args:
        vertices: positions.
        faces: vertex indices.
        attributes: numbers at the corners, interpolated linearly.
        marked: whether the edge that starts at each corner is divided; the same in both faces beside an edge.

    Returns:
        vertices, faces, attributes and the index of the face that each new face came from.
    """
    edges = np.sort(np.stack([faces, np.roll(faces, -1, 1)], -1), -1)[marked]
    unique, inverse = np.unique(edges, axis=0, return_inverse=True)
    middles = np.zeros(faces.shape, dtype=np.int64)
    middles[marked] = len(vertices) + inverse.reshape(-1)
    ids = np.concatenate([faces, middles], 1)
    values = np.concatenate([attributes, (attributes + np.roll(attributes, -1, 1)) / 2], 1)
    count = marked.sum(1)
    first = np.where(count == 2, (np.argmin(marked, 1) + 1) % 3, np.argmax(marked, 1))
    turn = (first[:, None] + np.arange(3)) % 3
    order = np.concatenate([turn, turn + 3], 1)
    ids, values = np.take_along_axis(ids, order, 1), np.take_along_axis(values, order[..., None], 1)
    new_faces, new_values, parents = [], [], []
    for number, children in _CHILDREN.items():
        chosen = np.flatnonzero(count == number)
        new_faces.append(ids[chosen][:, children].reshape(-1, 3))
        new_values.append(values[chosen][:, children].reshape(-1, 3, values.shape[-1]))
        parents.append(np.repeat(chosen, len(children)))
    all_vertices = np.concatenate([vertices, vertices[unique].mean(1)])
    return all_vertices, np.concatenate(new_faces), np.concatenate(new_values), np.concatenate(parents)


def _edges_to_divide(vertices_m: Vertices, faces: Faces, poor: Bool[np.ndarray, "f"], detail_m: float) -> Bool[np.ndarray, "f 3"]:
    """Mark the longer edges of poorly fitted faces, in both faces beside them."""
    length_m = edge_lengths(vertices_m, faces)
    longest_m = length_m.max(1, keepdims=True)
    wanted = poor[:, None] & (length_m > detail_m) & (length_m > 0.6 * longest_m)
    edges = np.sort(np.stack([faces, np.roll(faces, -1, 1)], -1), -1).reshape(-1, 2)
    keys = edges[:, 0] * len(vertices_m) + edges[:, 1]
    return np.isin(keys, keys[wanted.reshape(-1)]).reshape(-1, 3)


def edge_lengths(vertices: Vertices, faces: Faces) -> Float[np.ndarray, "f 3"]:
    """Length of the edge that starts at each corner."""
    corners = vertices[faces]
    return np.linalg.norm(np.roll(corners, -1, 1) - corners, axis=-1)


def _fit(
    attributes: Float[np.ndarray, "f 3 5"], texture_ids: Int[np.ndarray, "f"], textures: list[Float[np.ndarray, "_ _ 3"]]
) -> tuple[Float[np.ndarray, "f 3 3"], Float[np.ndarray, "f"]]:
    """Corner colours that fit the texture of each face best, and the root mean square of what they miss."""
    corner_rgb, error = attributes[..., 2:].copy(), np.zeros(len(attributes))
    for texture_id, texture in enumerate(textures):
        textured = np.flatnonzero(texture_ids == texture_id)
        samples = _samples_per_edge(attributes[textured, :, :2], texture.shape[:2])
        for n in np.unique(samples).tolist():
            lattice = _lattice(n)
            solve = np.linalg.pinv(lattice)
            group = textured[samples == n]
            for chosen in np.array_split(group, 1 + len(group) * len(lattice) // _CHUNK_SAMPLES):
                rgb = _look_up(texture, lattice @ attributes[chosen, :, :2]) * (lattice @ attributes[chosen, :, 2:])
                fitted = solve @ rgb
                error[chosen] = np.sqrt(np.square(lattice @ fitted - rgb).mean((1, 2)))
                corner_rgb[chosen] = np.clip(fitted, 0.0, 1.0)
    return corner_rgb, error


def _samples_per_edge(corner_uv: Float[np.ndarray, "f 3 2"], shape: tuple[int, int]) -> Int[np.ndarray, "f"]:
    """About one sample a texel along the longest edge, within limits, as powers of two."""
    edge_texels = (np.roll(corner_uv, -1, 1) - corner_uv) * np.asarray(shape[::-1])
    wanted = np.clip(np.linalg.norm(edge_texels, axis=-1).max(1), MIN_SAMPLES_PER_EDGE, MAX_SAMPLES_PER_EDGE)
    return (2.0 ** np.ceil(np.log2(wanted))).astype(np.int64)


def _lattice(n: int) -> Float[np.ndarray, "n2 3"]:
    """Barycentric centres of the n^2 small triangles that n equal parts of each edge make."""
    up = [(i + 1 / 3, j + 1 / 3) for i in range(n) for j in range(n - i)]
    down = [(i + 2 / 3, j + 2 / 3) for i in range(n) for j in range(n - i - 1)]
    ab = np.asarray(up + down) / n
    return np.concatenate([ab, 1 - ab.sum(1, keepdims=True)], 1)


def _look_up(texture: Float[np.ndarray, "h w 3"], uv: Float[np.ndarray, "*b 2"]) -> Float[np.ndarray, "*b 3"]:
    """The texels at texture coordinates; the image repeats beyond 0..1."""
    height, width = texture.shape[:2]
    column = np.floor(uv[..., 0] * width).astype(np.int64) % width
    row = np.floor((1 - uv[..., 1]) * height).astype(np.int64) % height
    return texture[row, column]
