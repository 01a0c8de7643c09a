"""Things that stand on a table: each function gives a coloured surface and its symmetry.

Metres; z is up, the base lies on z = 0, and the z axis is the axis of the body.  Handles point along +x.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from assets.colours import from_hex
from assets.surfaces import Surface, cell_box, join, lathe, stitch, tube
from assets.symmetries import NO_SYMMETRY, half_turn_z, round_z
from inverse_graphics.types import Symmetry

Made = tuple[Surface, Symmetry]


def mug() -> Made:
    """A blue mug, white inside, with a yellow handle: 9.5 cm high."""
    blue, white, yellow = from_hex("#1f4fa8"), from_hex("#f2efe6"), from_hex("#f0b41c")
    profile = [(0.0, 0.0), (0.034, 0.0), (0.040, 0.006), (0.040, 0.095), (0.036, 0.095), (0.036, 0.008), (0.0, 0.005)]
    body = lathe(profile, [blue, blue, blue, white, white, white])
    turn = np.linspace(0.0, np.pi, 10)
    bow = np.stack([0.0378 + 0.034 * np.sin(turn), 0 * turn, 0.049 + 0.030 * np.cos(turn)], -1)
    return join([body, tube(bow, np.asarray([[0.0055, 0.0065]]), yellow[None])]), NO_SYMMETRY


def bowl() -> Made:
    """A bowl, sea green outside and cream inside: 15 cm across."""
    green, cream = from_hex("#127a6a"), from_hex("#f4e3bd")
    outside = [(0.0, 0.0), (0.036, 0.0), (0.055, 0.014), (0.068, 0.034), (0.075, 0.060)]
    inside = [(0.071, 0.060), (0.064, 0.036), (0.051, 0.018), (0.034, 0.007), (0.0, 0.005)]
    return lathe(outside + inside, [green] * 5 + [cream] * 4), round_z()


def plate() -> Made:
    """A white plate with a broad red rim: 19 cm across."""
    white, red = from_hex("#f4f4f0"), from_hex("#b3202c")
    profile = [(0.0, 0.0), (0.055, 0.0), (0.093, 0.015), (0.095, 0.018), (0.074, 0.0115), (0.057, 0.0045), (0.0, 0.004)]
    return lathe(profile, [white, white, red, red, white, white], segments=32), round_z()


def bottle() -> Made:
    """A dark green bottle with a cream label and a red cap: 22.5 cm high."""
    glass, label, cap = from_hex("#1c5a2c"), from_hex("#efe6c8"), from_hex("#c8202a")
    profile = [(0.0, 0.0), (0.031, 0.0), (0.033, 0.004), (0.033, 0.045), (0.033, 0.105), (0.033, 0.130)]
    profile += [(0.027, 0.152), (0.016, 0.172), (0.013, 0.203), (0.016, 0.203), (0.016, 0.225), (0.0, 0.225)]
    return lathe(profile, [glass] * 3 + [label] + [glass] * 4 + [cap] * 3), round_z()


def box() -> Made:
    """A cereal box of six colours with a white panel on one broad side: 10 x 6 x 14 cm."""
    sides = {(0, 1): "#e8c020", (0, -1): "#2a50b8", (1, 1): "#d83c1c", (1, -1): "#28983c", (2, 1): "#e88ab0", (2, -1): "#6a3a8a"}
    x, y, z = np.linspace(-0.05, 0.05, 5), np.linspace(-0.03, 0.03, 4), np.linspace(0.0, 0.14, 6)

    def colour(axis: int, sign: int, i: int, j: int) -> Float[np.ndarray, "3"]:
        panel = (axis, sign) == (1, -1) and 1 <= i <= 3 and 1 <= j <= 2
        return from_hex("#f6f4ee" if panel else sides[axis, sign])

    return cell_box((x.tolist(), y.tolist(), z.tolist()), colour), NO_SYMMETRY


def can() -> Made:
    """A red drinks can with a white band and a bare lid: 11.5 cm high."""
    red, white, metal = from_hex("#c4141e"), from_hex("#f4f4f4"), from_hex("#b4b8bc")
    profile = [(0.0, 0.0), (0.026, 0.0), (0.033, 0.008), (0.033, 0.030), (0.033, 0.048), (0.033, 0.102)]
    profile += [(0.028, 0.115), (0.026, 0.115), (0.025, 0.111), (0.0, 0.111)]
    return lathe(profile, [metal, metal, red, white, red, metal, metal, metal, metal]), round_z()


def funnel() -> Made:
    """A lime funnel that stands on its wide mouth, spout up and open at both ends: 13 cm high."""
    lime, pale, dark = from_hex("#7cc41c"), from_hex("#b8e070"), from_hex("#3c7010")
    outside = [(0.060, 0.0), (0.060, 0.008), (0.012, 0.070), (0.008, 0.130)]
    inside = [(0.0062, 0.130), (0.010, 0.069), (0.057, 0.008), (0.057, 0.0), (0.060, 0.0)]
    return lathe(outside + inside, [dark, lime, pale, dark, lime, lime, lime, dark]), round_z()


def pan() -> Made:
    """A black skillet, grey inside, with a long wooden handle: 19.5 cm over all."""
    black, grey, wood, red = from_hex("#2a2a2e"), from_hex("#8e9298"), from_hex("#b06a28"), from_hex("#d42a1e")
    outside = [(0.0, 0.0), (0.046, 0.0), (0.055, 0.012), (0.055, 0.032)]
    inside = [(0.0515, 0.032), (0.0515, 0.013), (0.045, 0.004), (0.0, 0.004)]
    body = lathe(outside + inside, [black, black, black, black, grey, grey, grey], segments=28)
    x = np.asarray([0.0535, 0.070, 0.076, 0.095, 0.118, 0.131, 0.140])
    centres = np.stack([x, 0 * x, 0.022 + 0.10 * (x - 0.0535)], -1)
    half = np.asarray([0.0045, 0.0045, 0.006, 0.007, 0.007, 0.007, 0.005])
    colours = np.stack([black, black, wood, wood, wood, wood, red, red])
    return join([body, tube(centres, np.stack([half, 1.6 * half], -1), colours)]), NO_SYMMETRY


def teapot() -> Made:
    """A mustard teapot, spout along -x with a white tip, dark handle along +x, white lid: 19 cm over all."""
    mustard, dark, white = from_hex("#d89410"), from_hex("#4a2410"), from_hex("#f2ece0")
    profile = [(0.0, 0.0), (0.036, 0.0), (0.052, 0.018), (0.057, 0.042), (0.050, 0.068), (0.036, 0.084)]
    profile += [(0.034, 0.088), (0.012, 0.096), (0.007, 0.100), (0.011, 0.108), (0.007, 0.115), (0.0, 0.116)]
    body = lathe(profile, [mustard] * 5 + [white] * 3 + [dark] * 3, segments=20)
    turn = np.linspace(0.0, np.pi, 8)
    handle = np.stack([0.040 + 0.049 * np.sin(turn), 0 * turn, 0.050 + 0.025 * np.cos(turn)], -1)
    spout = np.asarray([[-0.040, 0, 0.030], [-0.062, 0, 0.038], [-0.076, 0, 0.056], [-0.084, 0, 0.078], [-0.094, 0, 0.090]])
    width = np.asarray([[0.016], [0.014], [0.011], [0.0085], [0.007]])
    parts = [body, tube(handle, np.asarray([[0.005, 0.006]]), dark[None], sides=6)]
    colours = np.stack([mustard] * 4 + [white] * 2)
    return join([*parts, tube(spout, np.repeat(width, 2, 1), colours)]), NO_SYMMETRY


def wedge() -> Made:
    """A wedge of cheese with a red rind round its broad end and beneath: 10 cm long, the tip along -x."""
    cheese, top, rind = from_hex("#f0c440"), from_hex("#f8de84"), from_hex("#c02818")
    sector = np.deg2rad(np.linspace(-27, 27, 10))
    arc = 0.100 * np.stack([np.cos(sector), np.sin(sector)], -1)
    steps = np.linspace(0.0, 1, 6)[:, None]
    outline = np.concatenate([steps[:-1] * arc[0], arc, (1 - steps[1:-1]) * arc[-1]])
    outline -= [2 / 3 * 0.100 * np.sin(sector[-1]) / sector[-1], 0.0]
    levels = np.asarray([0.0, 0.018, 0.036, 0.048])
    rings = [np.concatenate([outline, np.full((len(outline), 1), z)], 1) for z in levels]
    rings = [np.asarray([[0.0, 0.0, levels[0]]]), *rings, np.asarray([[0.0, 0.0, levels[-1]]])]
    broad = (np.arange(len(outline)) >= 5) & (np.arange(len(outline)) < 14)
    wall = np.where(broad[:, None], rind, cheese)
    colours = [np.broadcast_to(rind, wall.shape), wall, wall, wall, np.broadcast_to(top, wall.shape)]
    return stitch(rings, np.stack(colours)), NO_SYMMETRY


def sponge() -> Made:
    """A yellow sponge with a green scouring top, the same after half a turn: 11 x 7 x 4 cm."""
    yellow, green = from_hex("#f2d21e"), from_hex("#1e7a34")
    x, y, z = np.linspace(-0.055, 0.055, 7), np.linspace(-0.035, 0.035, 5), [0.0, 0.014, 0.028, 0.040]

    def colour(axis: int, sign: int, i: int, j: int) -> Float[np.ndarray, "3"]:
        row = {0: j, 1: i, 2: 2 if sign > 0 else 0}[axis]
        return green if row == 2 else yellow

    return cell_box((x.tolist(), y.tolist(), z), colour), half_turn_z()
