"""The objects of an image, each in a window of its own, and how well their poses explain it: losses and normal equations.

A window's scene holds its own object in slot 0 and the other estimates that it may show behind it.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_graphics.bop.depth_alignment import depth_losses, pixel_rays, point_to_plane
from inverse_graphics.bop.lighting import FittedLight
from inverse_graphics.bop.windows import Windows
from inverse_graphics.poses import move
from inverse_graphics.refinement import PoseSolver, blur
from inverse_graphics.types import Camera, Objects, View, map_tensors

RGB_SHARE = 1 / 3
"""Weight of a channel's loss, so that a pixel's colours cost at most 1, as its depth does."""


@dataclass(frozen=True)
class Stage:
    """What is minimised for some steps."""

    rgb_width: float | None
    """Residual in linear colours at which a channel's loss is one half; None leaves colours out."""
    depth_width: float | None
    """Difference of depth, in radii of the object, at which a pixel's loss is one half; None leaves depth out."""
    blur_px: float = 0.0
    """Standard deviation of the Gaussian that blurs the colours' residual, in the window's pixels."""


@dataclass(frozen=True)
class Drawn:
    """Windows drawn at some poses."""

    residual: Float[Tensor, "k c c 3"]
    """Robust, blurred residual of the colours, 0 where there is no image; its squared sum is their loss."""
    slope: Float[Tensor, "k c c 3"]
    """Derivative of the robust residual by the plain one."""
    depth_m: Float[Tensor, "k c c"]
    """z-depth of the pictures."""
    own: Bool[Tensor, "k c c"]
    """Pixels that show the own object."""
    losses: Float[Tensor, "k"]
    """Loss of each window in pixels, float64."""

    def of(self, chosen: Int[Tensor, "m"] | Bool[Tensor, "k"]) -> Drawn:
        """Some of the windows."""
        return map_tensors(lambda x: x[chosen], self)

    def put(self, index: Int[Tensor, "m"], drawn: Drawn) -> None:
        """Replace some of the windows in place."""
        for field in dataclasses.fields(self):
            getattr(self, field.name)[index] = getattr(drawn, field.name)


@dataclass(frozen=True)
class WindowFit:
    """k windows of one image and what is known of them; poses are ``T_camera_object`` in metres."""

    renderer: PoseSolver
    """Draws; its tangents are ``full``."""
    windows: Windows
    """What was observed."""
    class_ids: Int[Tensor, "k n"]
    """Classes in each window, the own object first."""
    rows: Int[Tensor, "k n"]
    """Which window's own object each slot holds."""
    present: Bool[Tensor, "k n"]
    """Slots that hold an object."""
    T_others: Float[Tensor, "k 4 4"]
    """Poses of all own objects, as the other windows show them."""
    radius_m: Float[Tensor, "k"]
    """Radii of the own objects."""
    light: FittedLight
    """Light of the image."""
    background_rgb: Float[Tensor, "3"]
    """Linear colour where no object is seen."""

    @functools.cached_property
    def rays(self) -> Float[Tensor, "k c c 3"]:
        """Rays through the pixels, z = 1."""
        return pixel_rays(self.windows.K_px, self.windows.rgb.shape[1])

    def with_others(self, T: Float[Tensor, "k 4 4"]) -> WindowFit:
        """The same with all objects where they are now."""
        return dataclasses.replace(self, T_others=T)

    def scene(self, index: Int[Tensor, "m"], T: Float[Tensor, "m 4 4"]) -> tuple[Objects, View]:
        """Some windows with their own objects at T."""
        poses = self.T_others[self.rows[index]]
        poses = torch.cat([T[:, None], poses[:, 1:]], 1).float()
        size_px = self.windows.rgb.shape[1]
        camera = Camera(self.windows.K_px[index], torch.eye(4).expand(len(index), 4, 4), size_px, size_px)
        background = self.background_rgb.expand(len(index), size_px, size_px, 3)
        view = View(camera, self.light.light(len(index)), background)
        return Objects(self.class_ids[index], poses, self.present[index]), view

    def draw(self, index: Int[Tensor, "m"], T: Float[Tensor, "m 4 4"], stage: Stage) -> Drawn:
        """Draw some windows and compare."""
        output = self.renderer.render(*self.scene(index, T))
        residual = torch.where(self.windows.inside[index][..., None], output.rgb - self.windows.rgb[index], 0.0)
        losses = torch.zeros(len(index), dtype=torch.float64)
        slope = torch.zeros_like(residual)
        if stage.rgb_width is None:
            residual = torch.zeros_like(residual)
        else:
            bound = 1 + (residual / stage.rgb_width) ** 2
            slope = (RGB_SHARE**0.5 / stage.rgb_width) * bound**-1.5
            residual = blur((RGB_SHARE**0.5 / stage.rgb_width) * residual / bound.sqrt(), stage.blur_px)
            losses += residual.double().square().sum((1, 2, 3))
        if stage.depth_width is not None:
            width_m = stage.depth_width * self.radius_m[index]
            losses += depth_losses(output.depth_m, self.windows.depth_m[index], width_m).double().sum((1, 2))
        return Drawn(residual, slope, output.depth_m, output.object_ids == 0, losses)

    def normal_equations(
        self, index: Int[Tensor, "m"], T: Float[Tensor, "m 4 4"], drawn: Drawn, stage: Stage
    ) -> tuple[Float[Tensor, "m 6"], Float[Tensor, "m 6 6"]]:
        """Half the gradient of the losses and about half their Hessian, by motions in radii and radians, float64."""
        gradient, hessian = torch.zeros(len(index), 6).double(), torch.zeros(len(index), 6, 6).double()
        if stage.rgb_width is not None:
            # blurring is its own transpose
            equations = self.renderer.normal_equations(*self.scene(index, T), drawn.slope * blur(drawn.residual, stage.blur_px))
            gradient += equations.gradient[:, 0]
            hessian += equations.hessian[:, 0] * RGB_SHARE / stage.rgb_width**2
        if stage.depth_width is not None:
            measured_m, width_m = self.windows.depth_m[index], stage.depth_width * self.radius_m[index]
            parts = point_to_plane(drawn.depth_m, drawn.own, measured_m, self.rays[index], T[:, :3, 3].float(), width_m)
            gradient += parts[0]
            hessian += parts[1]
        unit = torch.ones(len(index), 6).double()
        unit[:, :3] = self.radius_m[index, None]
        return gradient * unit, hessian * unit[:, :, None] * unit[:, None, :]

    def move(self, index: Int[Tensor, "m"], T: Float[Tensor, "m 4 4"], motion: Float[Tensor, "m 6"]) -> Float[Tensor, "m 4 4"]:
        """Poses after motions in radii and radians about the origins."""
        return move(T, torch.cat([motion[:, :3] * self.radius_m[index, None], motion[:, 3:]], -1))
