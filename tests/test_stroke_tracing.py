"""Thinned ink and strokes traced along it: numbers of lines, where they run, and what is joined."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from jaxtyping import Bool, Float

from inverse_graphics.sprites.parts import component_map
from inverse_graphics.sprites.skeletons import Edge, skeleton_edges, thin
from inverse_graphics.sprites.stroke_tracing import curve_cost, evenly, trace_strokes, ways_of_drawing
from inverse_graphics.sprites.strokes import StrokeConfig, StrokeDecoder, StrokeSizes

AMPLITUDES_PX = np.array([3.0, 12.0, 6.0, 4.0, 2.5, 2.0])


def drawn(*lines: tuple[float, float, float, float], wide_px: float = 2.0, side: int = 40) -> Bool[np.ndarray, "h w"]:
    """Ink of straight lines from (x, y) to (x, y)."""
    v, u = np.mgrid[:side, :side] + 0.5
    ink = np.zeros((side, side), bool)
    for x0, y0, x1, y1 in lines:
        length = (x1 - x0) ** 2 + (y1 - y0) ** 2
        t = np.clip(((u - x0) * (x1 - x0) + (v - y0) * (y1 - y0)) / max(length, 1e-9), 0, 1)
        ink |= np.hypot(u - x0 - t * (x1 - x0), v - y0 - t * (y1 - y0)) <= wide_px / 2
    return ink


def ring(side: int = 40, radius_px: float = 12.0) -> Bool[np.ndarray, "h w"]:
    v, u = np.mgrid[:side, :side] + 0.5
    return np.abs(np.hypot(u - side / 2, v - side / 2) - radius_px) <= 1.2


def ends_of(edge: Edge) -> Float[np.ndarray, "2 2"]:
    return edge.points_px[[0, -1]]


def test_thin_lines_keep_their_pieces_and_lie_in_the_ink() -> None:
    ink = drawn((5, 5, 35, 9), (5, 30, 30, 20), (20, 12, 20, 36), wide_px=3.5)
    ink[1:3, 36:38] = ink[38, 38] = True
    lines = thin(ink)
    assert not (lines & ~ink).any()
    assert component_map(lines).max() == component_map(ink).max()
    square = lines[1:, 1:] & lines[:-1, 1:] & lines[1:, :-1] & lines[:-1, :-1]
    assert not square.any(), "a square of four is not thin"


@pytest.mark.parametrize(
    ("ink", "edges"),
    [
        (drawn((5, 20, 35, 20)), 1),
        (drawn((5, 5, 5, 35), (5, 35, 30, 35)), 1),
        (drawn((5, 10, 35, 10), (20, 10, 20, 35)), 3),
        (drawn((5, 5, 35, 35), (35, 5, 5, 35)), 4),
        (drawn((5, 12, 35, 28), (35, 12, 5, 28)), 4),
        (ring(), 1),
        (ring() | drawn((8, 20, 32, 20)), 3),
        (drawn((10, 10, 10, 10)) | drawn((20, 5, 20, 30)), 2),
    ],
    ids=["line", "corner", "T", "X", "flat X", "ring", "theta", "dot and line"],
)
def test_edges_run_between_ends_and_forks(ink: Bool[np.ndarray, "h w"], edges: int) -> None:
    found = skeleton_edges(ink)
    assert len(found) == edges
    points = np.concatenate([edge.points_px for edge in found])
    places = np.argwhere(ink)[:, ::-1] + 0.5
    assert np.hypot(*(places[:, None] - points).T).min(0).max() < 4, "all ink is near a line"


def test_a_crossing_is_drawn_with_two_lines_straight_on() -> None:
    edges = skeleton_edges(drawn((5, 10, 35, 30), (35, 10, 5, 30)))
    ways = ways_of_drawing(edges, curve_cost(AMPLITUDES_PX), 4)
    assert [len(way) for way in ways] == [4, 3, 2]
    for edge in ways[-1]:
        (x0, y0), (x1, y1) = ends_of(edge)
        assert abs(x1 - x0) > 25 and abs(y1 - y0) > 15


def test_lines_that_cannot_be_joined_stay_apart_and_the_longest_are_kept() -> None:
    edges = skeleton_edges(drawn((5, 5, 35, 5), (5, 15, 30, 15), (5, 25, 20, 25)))
    cost = curve_cost(AMPLITUDES_PX)
    assert [len(way) for way in ways_of_drawing(edges, cost, 4)] == [3]
    (kept,) = ways_of_drawing(edges, cost, 2)
    assert sorted(edge.points_px[0, 1] for edge in kept) == pytest.approx([5, 15], abs=1.1)


def test_a_line_costs_little_and_a_comb_much() -> None:
    cost = curve_cost(AMPLITUDES_PX)
    t = np.linspace(0, 1, 40)
    line = Edge((0, 0), (1, 1), np.stack([5 + 30 * t, 10 + 0 * t], -1))
    comb = Edge((0, 0), (1, 1), np.stack([5 + 30 * t, 10 + 10 * np.sign(np.sin(60 * t))], -1))
    assert cost(line) < 3 and cost(comb) > 100
    assert cost(line.turned) == pytest.approx(cost(line))


def test_points_lie_evenly() -> None:
    points = evenly(np.array([[0.0, 0.0], [1.0, 0.0], [1.0, 3.0]]), 5)
    np.testing.assert_allclose(points, [[0, 0], [1, 0], [1, 1], [1, 2], [1, 3]])
    np.testing.assert_allclose(evenly(np.array([[2.0, 1.0]]), 3), [[2, 1]] * 3)


def test_traced_strokes_follow_the_ink_of_each_image() -> None:
    decoder = StrokeDecoder(StrokeConfig("dair", 40, 3, StrokeSizes(degree=6, dots=40, stroke_px=28.0)))
    inks = [drawn((5, 10, 35, 30), (35, 10, 5, 30)), np.zeros((40, 40), bool), drawn((8, 5, 12, 35))]
    traced = trace_strokes(decoder, torch.from_numpy(np.stack(inks)).float())
    assert traced.rows.tolist() == [0, 0, 2], "three and two strokes, none, one"
    assert traced.present.sum(1).tolist() == [3, 2, 1]
    for way, row in enumerate(traced.rows.tolist()):
        held = traced.present[way]
        courses = decoder.courses(traced.what[way, held], traced.where[way, held])
        courses_px = (courses.detach().flatten(0, 1).numpy() + 1) * 20
        apart = np.hypot(*(courses_px[:, None] - (np.argwhere(inks[row])[:, ::-1] + 0.5)).T)
        assert apart.min(0).max() < 1.5 and apart.min(1).max() < 3.0
