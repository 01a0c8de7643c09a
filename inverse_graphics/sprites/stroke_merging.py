"""Two strokes as one: the curve that runs through both, end to end, by least squares."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_graphics.sprites.strokes import StrokeDecoder

RIDGE = 1e-5
"""Weight of the prior (standard Gaussian weights) against squared distances, in units of half a window."""


def pairs_of(count: int, device: torch.device) -> Int[Tensor, "p 2"]:
    """All pairs i < j of slots."""
    return torch.combinations(torch.arange(count, device=device), 2)


def merge_strokes(
    decoder: StrokeDecoder, where: Float[Tensor, "b 2 3"], what: Float[Tensor, "b 2 z"]
) -> tuple[Float[Tensor, "b 3"], Float[Tensor, "b z"]]:
    """One stroke for two, joined where their ends are nearest.

    Args:
        decoder: whose curves they are.
        where: windows of both.
        what: curves and pens of both.

    Returns:
        A window about the middle of both, as wide as the first one's, and the curve and the mean pen in it.
    """
    courses = decoder.courses(what.flatten(0, 1), where.flatten(0, 1)).unflatten(0, (-1, 2))
    points = _end_to_end(courses[:, 0], courses[:, 1])
    centre, weights = fit_curves(decoder, points, where[:, 0, :1])
    pen = what[..., -1].mean(1, keepdim=True)
    return torch.cat([where[:, 0, :1], centre], 1), torch.cat([weights, pen], 1)


def fit_curves(
    decoder: StrokeDecoder, points: Float[Tensor, "b d 2"], zoom: Float[Tensor, "b 1"]
) -> tuple[Float[Tensor, "b 2"], Float[Tensor, "b two_k"]]:
    """Middles of rows of points, and the curves about them: the polynomials' weights (x of all, then y of all).

    Args:
        decoder: whose polynomials and amplitudes they are.
        points: along each curve, in -1..1 of the canvas.
        zoom: of the windows.
    """
    centre = points.mean(1)
    basis = legendre_at(_along(points), len(decoder.log_amplitudes)) * decoder.log_amplitudes.detach().exp()
    normal = basis.transpose(1, 2) @ basis / points.shape[1] + RIDGE * torch.eye(basis.shape[-1]).to(basis)
    aim = basis.transpose(1, 2) @ ((points - centre[:, None]) * zoom.clamp(min=0.5)[..., None]) / points.shape[1]
    return centre, torch.linalg.solve(normal, aim).transpose(1, 2).flatten(1)


def legendre_at(t: Float[Tensor, "*b d"], count: int) -> Float[Tensor, "*b d k"]:
    """The first ``count`` of Legendre's polynomials by Bonnet's recursion."""
    values = [torch.ones_like(t), t]
    for k in range(1, count - 1):
        values.append(((2 * k + 1) * t * values[k] - k * values[k - 1]) / (k + 1))
    return torch.stack(values[:count], -1)


def _end_to_end(first: Float[Tensor, "b d 2"], second: Float[Tensor, "b d 2"]) -> Float[Tensor, "b d_twice 2"]:
    """Points of both, each turned so that the joint is as short as can be."""
    ways = torch.stack(
        [torch.cat([a, b], 1) for a in (first, first.flip(1)) for b in (second, second.flip(1))],
        1,
    )
    count = first.shape[1]
    joint = (ways[:, :, count] - ways[:, :, count - 1]).square().sum(-1)
    return ways[torch.arange(len(ways), device=ways.device), joint.argmin(1)]


def _along(points: Float[Tensor, "b d 2"]) -> Float[Tensor, "b d"]:
    """Length from the first point, -1..1."""
    lengths = (points[:, 1:] - points[:, :-1]).square().sum(-1).clamp(min=1e-12).sqrt().cumsum(1)
    lengths = torch.nn.functional.pad(lengths, (1, 0))
    return 2 * lengths / lengths[:, -1:] - 1
