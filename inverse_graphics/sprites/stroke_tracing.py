"""Strokes read off the ink itself, as starts for refinement: lines of thinned ink, joined where one curve can follow both.

Lines that meet are joined two by two, those first whose joint curve costs least beside their own: its prior, and how far it runs
from the ink.  On the way to the last join there is one way of drawing the image with each number of strokes; which of them is
best, the decoder says, when all have been refined.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_graphics.sprites.skeletons import Edge, skeleton_edges
from inverse_graphics.sprites.stroke_merging import fit_curves
from inverse_graphics.sprites.strokes import StrokeDecoder

INK = 0.3
"""Pixels with more ink than this are thinned."""
MOST_LINES = 24
"""Of more lines the longest are taken; there is a trial for every pair."""
APART_PX, MOST_NATS = 0.7, 8.0
"""Standard deviation of the ink's middle from a curve, a pixel of its length, and the most that a pixel costs."""


@dataclass(frozen=True)
class TracedStrokes:
    """Ways of drawing images, some for each."""

    rows: Int[Tensor, "g"]
    """Which image each way draws."""
    where: Float[Tensor, "g n 3"]
    """Windows."""
    what: Float[Tensor, "g n z"]
    """Curves and pens."""
    present: Bool[Tensor, "g n"]
    """Which of the strokes are there."""


def trace_strokes(decoder: StrokeDecoder, images: Float[Tensor, "b h w"]) -> TracedStrokes:
    """Ways of drawing images with different numbers of strokes, up to the config's steps; images without ink have none."""
    slots, sizes = decoder.config.max_objects, decoder.config.sizes
    amplitudes = decoder.log_amplitudes.detach().cpu().double().exp().numpy()
    cost = curve_cost(amplitudes * 0.5 * sizes.stroke_px)
    found = [
        (row, way)
        for row, ink in enumerate((images > INK).cpu().numpy())
        for way in ways_of_drawing(skeleton_edges(ink), cost, slots)
    ]
    points_px = np.zeros((len(found), slots, sizes.dots, 2))
    present = np.zeros((len(found), slots), bool)
    for number, (_, way) in enumerate(found):
        present[number, : len(way)] = True
        points_px[number, : len(way)] = [evenly(edge.points_px, sizes.dots) for edge in way]
    points = torch.from_numpy(points_px).to(images).flatten(0, 1) * (2 / images.shape[-1]) - 1
    zoom = points.new_full((len(points), 1), decoder.config.where_mean[0])
    centres, weights = fit_curves(decoder, points, zoom)
    what = torch.cat([weights, torch.zeros_like(zoom)], 1)
    return TracedStrokes(
        torch.tensor([row for row, _ in found], dtype=torch.int64, device=images.device),
        torch.cat([zoom, centres], 1).unflatten(0, (-1, slots)),
        what.unflatten(0, (-1, slots)),
        torch.from_numpy(present).to(images.device),
    )


def ways_of_drawing(edges: list[Edge], cost: Callable[[Edge], float], most: int) -> list[list[Edge]]:
    """Lines joined more and more, from at most ``most`` on; where they cannot be joined to so few, the longest."""
    edges = sorted(edges, key=lambda edge: -edge.length_px)[:MOST_LINES]
    lines = dict(enumerate(edges))
    costs = {number: cost(edge) for number, edge in lines.items()}
    joins = {pair: _joints(*(lines[number] for number in pair)) for pair in itertools.combinations(lines, 2)}
    priced = {pair: [(cost(joint) - sum(costs[i] for i in pair), joint) for joint in joints] for pair, joints in joins.items()}
    ways = [edges]
    while any(priced.values()):
        pair, _, joint = min(((p, *join) for p, found in priced.items() for join in found), key=lambda join: join[1])
        priced = {other: found for other, found in priced.items() if not set(pair) & set(other)}
        lines = {number: edge for number, edge in lines.items() if number not in pair}
        new = len(costs)
        costs[new] = cost(joint)
        for number, edge in lines.items():
            priced[number, new] = [(cost(one) - costs[number] - costs[new], one) for one in _joints(edge, joint)]
        lines[new] = joint
        ways.append(list(lines.values()))
    few = [way for way in ways if 0 < len(way) <= most]
    return few or [sorted(way, key=lambda edge: -edge.length_px)[:most] for way in ways[-1:] if way]


def _joints(a: Edge, b: Edge) -> list[Edge]:
    """The ways of joining two lines where they share a node."""
    return [
        Edge(first.first, last.last, np.concatenate([first.points_px, last.points_px]))
        for first, last in itertools.product((a, a.turned), (b, b.turned))
        if first.last == last.first
    ]


def curve_cost(amplitudes_px: Float[np.ndarray, "k"]) -> Callable[[Edge], float]:
    """What a line costs as one curve, in nats: see ``APART_PX``; amplitudes are those of the decoder's polynomials."""
    degree = len(amplitudes_px) - 1

    def cost(edge: Edge) -> float:
        points = evenly(edge.points_px, max(2, round(edge.length_px) + 1))
        basis = np.polynomial.legendre.legvander(np.linspace(-1, 1, len(points)), degree) * amplitudes_px / APART_PX
        aim = (points - points.mean(0)) / APART_PX
        weights = np.linalg.solve(basis.T @ basis + np.eye(degree + 1), basis.T @ aim)
        apart = 0.5 * np.square(basis @ weights - aim).sum(-1)
        return float(np.minimum(apart, MOST_NATS).sum() + 0.5 * np.square(weights).sum())

    return cost


def evenly(points: Float[np.ndarray, "p 2"], count: int) -> Float[np.ndarray, "count 2"]:
    """So many points along a line, evenly by length."""
    lengths = np.concatenate([[0.0], np.hypot(*np.diff(points, axis=0).T).cumsum()])
    at = np.linspace(0, lengths[-1], count)
    return np.stack([np.interp(at, lengths, axis) for axis in points.T], -1)
