"""Plain solids, among them the three of Eslami et al. (2016), section 4.3: a red cube, a blue sphere, a textured cylinder.

Metres; z is up, the base lies on z = 0, the z axis passes through the centre.
"""

from __future__ import annotations

import numpy as np
import trimesh

from assets import symmetries
from assets.colours import from_hex
from assets.surfaces import Surface, cell_box, lathe
from inverse_graphics.types import Symmetry

Made = tuple[Surface, Symmetry]


def sphere() -> Made:
    """An orange ball of 8 cm."""
    return _ball(0.040, "#f07818")


def blue_sphere() -> Made:
    """A blue ball of 9 cm."""
    return _ball(0.045, "#1e3cd0")


def cone() -> Made:
    """A magenta cone with a white band on a dark foot: 12 cm high."""
    magenta, white, dark = from_hex("#c81c8c"), from_hex("#f4f4f4"), from_hex("#46104a")
    profile = [
        (0.0, 0.0),
        (0.048, 0.0),
        (0.048, 0.008),
        (0.042, 0.008),
        (0.029, 0.046),
        (0.0193, 0.074),
        (0.0035, 0.118),
        (0.0, 0.120),
    ]
    return lathe(profile, [dark, dark, dark, magenta, white, magenta, magenta]), symmetries.round_z()


def red_cube() -> Made:
    """A red cube of 8 cm."""
    red, half, side = from_hex("#d01818"), 0.040, 0.080
    edges = (np.linspace(-half, half, 6).tolist(), np.linspace(-half, half, 6).tolist(), np.linspace(0.0, side, 6).tolist())
    return cell_box(edges, lambda *_: red), symmetries.cube(side)


def textured_cylinder() -> Made:
    """A cylinder of 8 x 10 cm whose side and lid show its yaw: four unequal colours, shifted between its two halves."""
    names = ["#e8e0c8"] * 8 + ["#d87818"] * 7 + ["#28803c"] * 5 + ["#5a2a9a"] * 4
    low = np.stack([from_hex(name) for name in names])
    high = np.roll(low, 3, axis=0)
    grey = from_hex("#707070")
    profile = [(0.0, 0.0), (0.040, 0.0), (0.040, 0.025), (0.040, 0.050), (0.040, 0.075), (0.040, 0.100), (0.0, 0.100)]
    return lathe(profile, [grey, low, low, high, high, high]), symmetries.NO_SYMMETRY


def _ball(radius_m: float, colour: str) -> Made:
    """A ball of one colour that stands on the origin."""
    ball = trimesh.creation.icosphere(subdivisions=2, radius=radius_m)
    vertices = np.asarray(ball.vertices) + [0.0, 0.0, radius_m]
    vertices[:, 2] -= vertices[:, 2].min()
    rgb = np.broadcast_to(from_hex(colour), (len(ball.faces), 3, 3))
    return Surface(vertices, np.asarray(ball.faces), rgb), symmetries.ball(radius_m)
