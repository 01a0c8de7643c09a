"""The symmetries that table-top objects have, in BOP's terms."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from inverse_graphics.types import Symmetry

NO_SYMMETRY = Symmetry()
"""Every rotation is visible."""


def round_z() -> Symmetry:
    """Any rotation about the object's z axis."""
    return Symmetry(continuous_axes=np.asarray([[0.0, 0.0, 1.0]]), continuous_offsets_m=np.zeros((1, 3)))


def ball(radius_m: float) -> Symmetry:
    """Any rotation about the centre of a ball that stands on the origin."""
    return Symmetry(continuous_axes=np.eye(3), continuous_offsets_m=np.tile([0.0, 0.0, radius_m], (3, 1)))


def half_turn_z() -> Symmetry:
    """Half a turn about the object's z axis."""
    return Symmetry(discrete=np.diag([-1.0, -1.0, 1.0, 1.0])[None])


def cube(side_m: float) -> Symmetry:
    """The 23 rotations of a cube, that stands on the origin, other than the identity."""
    rotations = Rotation.create_group("O").as_matrix().round()
    rotations = rotations[~(rotations == np.eye(3)).all((1, 2))]
    centre = np.asarray([0.0, 0.0, side_m / 2])
    transforms = np.tile(np.eye(4), (len(rotations), 1, 1))
    transforms[:, :3, :3] = rotations
    transforms[:, :3, 3] = centre - rotations @ centre
    return Symmetry(discrete=transforms)
