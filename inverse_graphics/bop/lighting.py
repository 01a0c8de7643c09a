"""Light and background of an image whose objects are known, for renderers that shade as ``Light`` says.

A colour is albedo * (ambient + diffuse * max(0, n . direction)).  Pictures with ambient light alone and with light along each
axis show albedo and albedo times normal, whatever draws them, so that ambient and diffuse light follow from linear least squares
once it is known which pixels face the light.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Light, Objects, View

ROUNDS = 8
"""Rounds of reweighted least squares from each first guess."""
RIDGE = 1e-5
"""Pull of diffuse light towards none, in pixels a pixel: decides where nothing else does."""
NOISE = 0.03
"""Residual, in linear colours, above which a pixel's weight falls: it may show something else."""
FEWEST_PIXELS = 30
"""With fewer pixels of objects the light stays as it was."""
MOST_PIXELS = 4000
"""Of more pixels only so many, evenly spread, are fitted to."""
GUESSES = ((0.0, 0.0, -1.0), (0.6, -0.6, -0.6), (-0.6, -0.6, -0.6), (0.6, 0.6, -0.6), (-0.6, 0.6, -0.6))
"""First directions towards the light, camera frame: from the camera's side."""


@dataclass(frozen=True)
class FittedLight:
    """Light of an image."""

    direction_camera: Float[Tensor, "3"]
    """Unit vector towards the light, camera frame."""
    ambient: Float[Tensor, ""]
    """Ambient intensity, 0..1."""
    diffuse: Float[Tensor, ""]
    """Diffuse intensity, 0..1 - ambient."""
    spread: Float[Tensor, ""]
    """Median size of the residual in linear colours: how badly the light explains the objects' colours."""

    def light(self, count: int) -> Light:
        """The same for ``count`` scenes whose world is the camera's frame."""
        return Light(self.direction_camera.expand(count, 3), self.ambient.expand(count), self.diffuse.expand(count))


def first_light(like: Tensor) -> FittedLight:
    """Light from the camera, for want of better."""
    values = (torch.tensor(value).to(like) for value in ([0.0, 0.0, -1.0], 0.5, 0.5, 0.0))
    return FittedLight(*values)


def background_colour(
    rgb: Float[Tensor, "h w 3"], low_px: Float[Tensor, "k 2"], side_px: Float[Tensor, "k"]
) -> Float[Tensor, "3"]:
    """Median colour outside all windows; of the whole image where they leave less than a hundredth of it.

    Args:
        rgb: linear colours of the image.
        low_px: column and row of the windows' corners.
        side_px: their sides.
    """
    free = torch.ones(rgb.shape[:2], dtype=torch.bool)
    for (x, y), side in zip(low_px.tolist(), side_px.tolist(), strict=True):
        rows, columns = slice(max(0, int(y)), max(0, int(y + side))), slice(max(0, int(x)), max(0, int(x + side)))
        free[rows, columns] = False
    chosen = rgb[free] if float(free.float().mean()) > 0.01 else rgb.reshape(-1, 3)
    return chosen.median(0).values


@torch.no_grad()
def fit_light(
    renderer: Renderer, objects: Objects, view: View, rgb: Float[Tensor, "k h w 3"], inside: Bool[Tensor, "k h w"]
) -> FittedLight | None:
    """The light that explains the objects' colours best.

    Args:
        renderer: draws; its shading must be that of ``Light``.
        objects: [k n] what is seen.
        view: [k] cameras whose frames are the world; light and background do not matter.
        rgb: what was observed, linear.
        inside: where it was.

    Returns:
        The light; None where too few pixels show an object.
    """
    black = torch.zeros_like(view.background_rgb)

    def drawn(ambient: float, direction: Tensor) -> tuple[Tensor, Tensor]:
        ones = torch.ones(len(rgb)).to(rgb)
        light = Light(direction.expand(len(rgb), 3), ambient * ones, (1 - ambient) * ones)
        output = renderer.render(objects, dataclasses.replace(view, light=light, background_rgb=black))
        return output.rgb, output.object_ids >= 0

    axes = torch.eye(3).to(rgb)
    albedo, shown = drawn(1.0, axes[2])
    chosen = shown & inside
    if int(chosen.sum()) < FEWEST_PIXELS:
        return None
    place = chosen.nonzero()
    place = place[:: 1 + len(place) // MOST_PIXELS].unbind(-1)
    sides = [drawn(0.0, axis)[0][place] - drawn(0.0, -axis)[0][place] for axis in axes]
    return _fitted(albedo[place].reshape(-1), torch.stack(sides, -1).reshape(-1, 3), rgb[place].reshape(-1))


def _fitted(albedo: Float[Tensor, "m"], facing: Float[Tensor, "m 3"], seen: Float[Tensor, "m"]) -> FittedLight:
    """Ambient and diffuse light of m colours: reweighted least squares from each first guess, the one of least error."""
    fits = [_descended(albedo, facing, seen, torch.tensor(guess).to(seen)) for guess in GUESSES]
    ambient, towards, spread, _ = min(fits, key=lambda fit: float(fit[3]))
    ambient = ambient.clamp(0, 1)
    length = towards.norm()
    direction = towards / length if float(length) > 1e-6 else torch.tensor([0.0, 0.0, -1.0]).to(seen)
    return FittedLight(direction, ambient, torch.minimum(length, 1 - ambient), spread)


def _descended(albedo: Tensor, facing: Tensor, seen: Tensor, towards: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Ambient light, diffuse light times direction, the median residual, and the robust error, from one guess."""
    ambient = torch.tensor(0.5).to(seen)
    towards = 0.5 * towards
    ridge = torch.diag(torch.tensor([0.0, 1.0, 1.0, 1.0])).to(seen) * RIDGE * len(seen)
    ridge[0, 0] = 1e-6
    for _ in range(ROUNDS):
        rows = torch.cat([albedo[:, None], facing * (facing @ towards > 0)[:, None]], -1)
        residual = rows @ torch.cat([ambient[None], towards]) - seen
        weights = 1 / (1 + (residual / NOISE) ** 2)
        solution = torch.linalg.solve(rows.T @ (weights[:, None] * rows) + ridge, rows.T @ (weights * seen))
        ambient, towards = solution[0], solution[1:]
    residual = ambient * albedo + (facing @ towards).clamp(min=0) - seen
    return ambient, towards, residual.abs().median(), torch.log1p((residual / NOISE) ** 2).mean()
