"""Ink thinned to lines one pixel wide, and the lines as edges between nodes: ends, and places where lines meet."""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

Pixel = tuple[int, int]
"""Row and column."""
SHORT_PX = 5.0
"""Edges up to this length are no lines of their own: thinning makes two forks of a crossing, and spurs of corners."""


@dataclass(frozen=True)
class Edge:
    """A line between two nodes, which may be the same."""

    first: Pixel
    """Node where it begins."""
    last: Pixel
    """Node where it ends."""
    points_px: Float[np.ndarray, "p 2"]
    """x and y along it."""

    @property
    def turned(self) -> Edge:
        """The same from its last node to its first."""
        return Edge(self.last, self.first, self.points_px[::-1])

    @cached_property
    def length_px(self) -> float:
        """Along its points."""
        return float(np.hypot(*np.diff(self.points_px, axis=0).T).sum())


def skeleton_edges(ink: Bool[np.ndarray, "h w"]) -> list[Edge]:
    """Edges of ink thinned; every piece of ink has one at least, a dot an edge of one point."""
    neighbours = _neighbours(thin(ink))
    nodes = {pixel for pixel, beside in neighbours.items() if len(beside) != 2}
    # a ring has no node: its first pixel is made one
    rest = set(neighbours) - {pixel for node in nodes for path in _paths(neighbours, nodes, node) for pixel in path}
    while rest:
        nodes.add(min(rest))
        rest -= {pixel for path in _paths(neighbours, nodes, min(rest)) for pixel in path}
    paths = {min(path, path[::-1]) for node in sorted(nodes) for path in _paths(neighbours, nodes, node)}
    edges = [Edge(path[0], path[-1], np.array(path)[:, ::-1] + 0.5) for path in sorted(paths)]
    return _without_short_ones(edges)


def thin(ink: Bool[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Lines one pixel wide (Zhang and Suen 1984); a piece of ink that would vanish keeps one pixel."""
    kept = np.pad(ink, 1)
    changed = True
    while changed:
        changed = False
        for first in (True, False):
            # clockwise from north
            steps = ((1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1), (0, 1), (1, 1))
            around = np.stack([np.roll(kept, step, (0, 1)) for step in steps])
            north, east, south, west = around[::2]
            count, runs = around.sum(0), (~around & np.roll(around, -1, 0)).sum(0)
            if first:
                is_side = ~(north & east & south) & ~(east & south & west)
            else:
                is_side = ~(north & east & west) & ~(north & south & west)
            gone = kept & (count >= 2) & (count <= 6) & (runs == 1) & is_side
            kept &= ~gone
            changed |= bool(gone.any())
    kept = kept[1:-1, 1:-1]
    pieces, number = np.zeros(ink.shape, np.int32), 0
    number = int(ndimage.label(ink, structure=np.ones((3, 3), np.int64), output=pieces))  # pyright: ignore[reportArgumentType]
    for piece in set(range(1, number + 1)) - set(pieces[kept].tolist()):
        places = np.argwhere(pieces == piece)
        kept[tuple(places[np.square(places - places.mean(0)).sum(1).argmin()])] = True
    return kept


def _neighbours(lines: Bool[np.ndarray, "h w"]) -> dict[Pixel, list[Pixel]]:
    """Pixels beside each pixel; across a corner only where there is no way along the sides."""
    pixels: list[Pixel] = [(int(row), int(column)) for row, column in np.argwhere(lines)]
    there = set(pixels)

    def beside(row: int, column: int) -> list[Pixel]:
        steps = [step for step in itertools.product((-1, 0, 1), repeat=2) if step != (0, 0)]
        return [
            (row + down, column + right)
            for down, right in steps
            if (row + down, column + right) in there
            and not (down and right and {(row + down, column), (row, column + right)} & there)
        ]

    return {pixel: beside(*pixel) for pixel in pixels}


def _paths(neighbours: dict[Pixel, list[Pixel]], nodes: set[Pixel], node: Pixel) -> list[tuple[Pixel, ...]]:
    """The ways from a node to the next ones."""
    if not neighbours[node]:
        return [(node,)]
    paths = []
    for pixel in neighbours[node]:
        path = [node, pixel]
        while path[-1] not in nodes:
            path.append(next(beside for beside in neighbours[path[-1]] if beside != path[-2]))
        paths.append(tuple(path))
    return paths


def _without_short_ones(edges: list[Edge]) -> list[Edge]:
    """Bridges are drawn together to one node, spurs left out, the shortest first; what hangs on nothing stays."""
    while True:
        ends = Counter(node for edge in edges for node in (edge.first, edge.last))
        short = [e for e in edges if e.length_px <= SHORT_PX and max(ends[e.first], ends[e.last]) > 2]
        if not short:
            return edges
        least = min(short, key=lambda edge: edge.length_px)
        gone, kept = sorted((least.first, least.last), key=lambda node: ends[node])
        edges = [_moved(edge, gone, kept) for edge in edges if edge is not least]


def _moved(edge: Edge, gone: Pixel, kept: Pixel) -> Edge:
    if gone not in (edge.first, edge.last):
        return edge
    first, last = (kept if node == gone else node for node in (edge.first, edge.last))
    return Edge(first, last, edge.points_px)
