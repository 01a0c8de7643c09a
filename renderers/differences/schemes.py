"""Where a renderer is drawn for a finite difference, and how the changes of its pictures become slopes.

A probe is a pair of poses of all objects at once: ahead, and behind or still.  With directions d [p] in units of the steps, the
slope along tangent i is

    sum over probes of (change * d_i) / (width * steps_i),

where width is the distance between a pair's two sides, in steps, times the number of probes that share in the slope.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from inverse_graphics.poses import move

Scheme = Literal["central", "forward", "spsa", "smoothing"]
"""``central``: both sides of each tangent.  ``forward``: one side, against the picture that is there already.  ``spsa``: random
signs along all tangents at once.  ``smoothing``: normally distributed amounts, the gradient of a picture blurred over poses."""

SCHEMES: tuple[Scheme, ...] = get_args(Scheme)
"""All schemes."""

DIRECT: tuple[Scheme, ...] = ("central", "forward")
"""Schemes whose probe i moves along tangent i alone, so that a Jacobian can be read off."""

MAX_BYTES = 2**28
"""About what the pictures of one call may take; more probes are drawn in several calls, of at least one probe each."""


@dataclass(frozen=True)
class Probes:
    """The motions of one gradient."""

    directions: Float[Tensor, "m *b n p"]
    """Along each tangent, in steps."""
    steps: Float[Tensor, "*b n p"]
    """Metres and radians."""
    basis: Float[Tensor, "p 6"]
    """The tangents, see ``tangents.tangent_basis``."""
    both_sides: bool
    """Whether the other picture of a pair is drawn at the opposite pose, rather than at the pose itself."""
    width: float
    """Divisor of summed changes, in steps."""

    def __len__(self) -> int:
        return len(self.directions)

    @property
    def sides(self) -> int:
        """Pictures drawn a probe."""
        return 2 if self.both_sides else 1

    def moved(self, T_world_object: Float[Tensor, "*b n 4 4"], chosen: slice) -> Float[Tensor, "k *b n 4 4"]:
        """Poses of some of the probes: all ahead, then, where both sides are drawn, all behind."""
        offsets = self.directions[chosen] * self.steps
        if self.both_sides:
            offsets = torch.cat([offsets, -offsets])
        # not a matrix product: that may be rounded to fewer digits on a GPU
        motion = (offsets[..., None] * self.basis).sum(-2)
        return move(T_world_object.expand(len(offsets), *T_world_object.shape), motion)

    def slopes(self, changes: Float[Tensor, "m *b n"]) -> Float[Tensor, "*b n p"]:
        """Slopes along the tangents from the changes of a scalar, ahead minus behind."""
        return (changes[..., None] * self.directions).sum(0) / (self.width * self.steps)


def make_probes(
    scheme: Scheme,
    pairs: int,
    seed: int,
    T_world_object: Float[Tensor, "*b n 4 4"],
    steps: Float[Tensor, "*b n p"],
    basis: Float[Tensor, "p 6"],
) -> Probes:
    """Choose the motions.

    Args:
        scheme: how.
        pairs: number of random probes; of no account for ``central`` and ``forward``, which have one a tangent.
        seed: of the random directions, together with the poses, see ``pose_generator``.
        T_world_object: where the objects are.
        steps: length of a step along each tangent.
        basis: the tangents.
    """
    if scheme in DIRECT:
        eye = torch.eye(len(basis)).to(steps)
        directions = eye.reshape(len(basis), *[1] * (steps.dim() - 1), len(basis)).expand(len(basis), *steps.shape)
        both = scheme == "central"
        return Probes(directions, steps, basis, both, 2.0 if both else 1.0)
    generator, size = pose_generator(T_world_object, seed), (pairs, *steps.shape)
    if scheme == "spsa":
        directions = 2.0 * torch.randint(2, size, generator=generator) - 1.0
    else:
        directions = torch.randn(size, generator=generator, dtype=torch.float64)
    return Probes(directions.to(steps), steps, basis, True, 2.0 * pairs)


def pose_generator(T_world_object: Float[Tensor, "*b n 4 4"], seed: int) -> torch.Generator:
    """A generator on the CPU whose seed is a hash of ``seed`` and of the bits of the poses.

    No state is kept: a run that is repeated or resumed meets the same poses and hence draws the same directions, and poses that
    change by one bit draw others.
    """
    poses = T_world_object.detach().cpu().contiguous().numpy().tobytes()
    digest = hashlib.blake2b(poses, digest_size=8, key=seed.to_bytes(8, "little", signed=True)).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def chunks(count: int, bytes_each: int) -> Iterator[slice]:
    """Split ``count`` pieces of work so that each part stays below ``MAX_BYTES``, or is a single piece."""
    size = max(1, MAX_BYTES // max(1, bytes_each))
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
