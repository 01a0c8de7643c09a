"""The recurrent guide: attend to one object a step, glimpse, say what and where it is, and stop by itself.

Follows Attend-Infer-Repeat (Eslami et al. 2016) with these departures: where to look is an expectation over a grid of image
features (attention) carried to the table by the camera, so that the guide keeps its meaning when the camera moves; what is
explained already is attended less (inhibition of return); class, yaw and the exact position are read from the glimpse,
repeatedly.  With feedback (DAIR) there is no memory: a step is shown what is left of the image instead.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from inverse_graphics.guides.config import GuideConfig
from inverse_graphics.guides.feedback import FoundPainter, LeftEncoder
from inverse_graphics.guides.glimpse import glimpses, table_points_of_pixels
from inverse_graphics.guides.networks import CELL_PX, GlimpseEncoder, ImageEncoder
from inverse_graphics.guides.posterior import (
    Posterior,
    Reading,
    draw_categorical,
    draw_yaw,
    normal_like,
    yaw_modes,
)
from inverse_graphics.poses import upright_pose
from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Camera, Objects, View, map_tensors, stack_tensors, where_tensors


@dataclass(frozen=True)
class Features:
    """An encoded image."""

    image: Float[Tensor, "b 3 h w"]
    """The image, centred, for glimpses."""
    camera: Camera
    """[b] its camera."""
    cells: Float[Tensor, "b g c"]
    """Local features, one row a cell of the grid."""
    keys: Float[Tensor, "b g q"]
    """What the steps' queries are compared with."""
    cell_uv_px: Float[Tensor, "g 2"]
    """Centres of the cells."""
    cell_xy_m: Float[Tensor, "b g 2"]
    """Their points on the table."""
    whole: Float[Tensor, "b f"]
    """One vector for the image."""


@dataclass(frozen=True)
class Attention:
    """One step's look at the whole image."""

    presence_logit: Float[Tensor, "b"]
    """Whether there is another object."""
    xy_m: Float[Tensor, "b 2"]
    """Where it seems to be."""
    std_m: Float[Tensor, "b 2"]
    """How sure that is."""
    state: tuple[Tensor, Tensor]
    """LSTM state."""


AGAIN = 4
"""How often a step that finds an object again looks elsewhere."""
NOWHERE_M = 1e3
"""A coordinate so far away that inhibiting it changes nothing."""
FOCUS_CELLS = 2.5
"""Radius of the window round the peak of a focused attention, in cells."""


class RecurrentGuide(nn.Module):
    """q(count, class, pose | image) for upright objects on a table."""

    folds: Tensor
    """[k] the config's folds, on the guide's device."""

    def __init__(self, config: GuideConfig) -> None:
        """Build the networks for a config."""
        super().__init__()
        self.config = config
        sizes = config.sizes
        classes, bins, query = len(config.folds), sizes.yaw_bins, 32
        whole = 0 if config.feedback else sizes.features
        self.encoder = ImageEncoder(config.height_px, config.width_px, sizes.channels, whole)
        self.key = nn.Linear(sizes.channels, query + 2)
        self.told = sizes.channels + 2 + classes
        self.rnn = None if config.feedback else nn.LSTMCell(whole + self.told, sizes.hidden)
        self.left = LeftEncoder(sizes.channels) if config.feedback else None
        self.intent = nn.Parameter(0.1 * torch.randn(sizes.hidden)) if config.feedback else None
        self.query = nn.Linear(sizes.hidden, query)
        self.shift = nn.Linear(sizes.channels, 2)
        self.step = nn.Sequential(
            nn.Linear(sizes.hidden + sizes.channels + 2, 96),
            nn.ReLU(),
            nn.Linear(96, 3),
        )
        self.inhibition = nn.Parameter(torch.tensor([20.0, -2.4]))
        self.glimpse = GlimpseEncoder(sizes.glimpse_px, sizes.features)
        self.class_head = nn.Linear(sizes.features, classes)
        self.offset_head = nn.Linear(sizes.features, 4)
        self.yaw_head = nn.Linear(sizes.features, classes * bins * 3)
        self.register_buffer("folds", torch.tensor(config.folds, dtype=torch.int64), persistent=False)
        with torch.no_grad():
            last = self.step[2]
            assert isinstance(last, nn.Linear)
            last.bias.copy_(torch.tensor([1.5, 0.0, 0.0]))
            self.offset_head.weight.mul_(0.1)
            self.yaw_head.weight.mul_(0.3)

    def encode(self, image_rgb: Float[Tensor, "b h w 3"], camera: Camera) -> Features:
        """Run the image network.

        Args:
            image_rgb: linear colours, 0..1.
            camera: [b] cameras.

        Raises:
            ValueError: an image of another size than the guide was made for.
        """
        c = self.config
        if tuple(image_rgb.shape[1:]) != (c.height_px, c.width_px, 3):
            raise ValueError(
                f"image_rgb: expected [b {c.height_px} {c.width_px} 3], got {list(image_rgb.shape)}; "
                "resize the image and its intrinsics, or train a guide for this size"
            )
        image = (image_rgb.permute(0, 3, 1, 2) * 2 - 1).contiguous(memory_format=torch.channels_last)
        grid, whole = self.encoder(image)
        cells = grid.permute(0, 2, 3, 1).flatten(1, 2)
        rows, columns = grid.shape[-2:]
        v = (torch.arange(rows, device=image.device, dtype=image.dtype) + 0.5) * CELL_PX
        u = (torch.arange(columns, device=image.device, dtype=image.dtype) + 0.5) * CELL_PX
        uv = torch.stack([u[None, :].expand(rows, -1), v[:, None].expand(-1, columns)], -1).reshape(-1, 2)
        with torch.no_grad():
            xy = table_points_of_pixels(camera, uv.expand(len(image), -1, -1), c.sizes.height_m)
        return Features(image, camera, cells, self.key(cells), uv, xy, whole)

    def start(self, features: Features) -> tuple[tuple[Tensor, Tensor], Tensor]:
        """Initial LSTM state and what the first step is told of its predecessor."""
        batch = len(features.whole)
        zeros = features.whole.new_zeros(batch, self.config.sizes.hidden)
        hidden = zeros if self.intent is None else self.intent.expand_as(zeros)
        return (hidden, zeros), features.whole.new_zeros(batch, self.told)

    def painter(self, renderer: Renderer, view: View) -> FoundPainter | None:
        """What draws the objects found so far, for a guide with feedback; nothing for others."""
        return FoundPainter(renderer, view) if self.config.feedback else None

    def with_left(self, features: Features, painter: FoundPainter | None, found: Objects) -> Features:
        """The features as the next step sees them: changed by what is left, where the guide has feedback.

        Args:
            features: the encoded image.
            painter: draws what has been found; None only for a guide without feedback.
            found: [b n] what that is.

        Raises:
            ValueError: no painter for a guide with feedback.
        """
        if self.left is None:
            return features
        if painter is None:
            raise ValueError(
                "painter: expected what draws the objects found so far, for this guide has feedback, received None; pass "
                "guide.painter(renderer, view) with the light and background of the images, or use a guide without feedback"
            )
        drawn, explained = painter(found)
        image_rgb = (features.image.permute(0, 2, 3, 1) + 1) / 2
        cells = features.cells + self.left(image_rgb - drawn, explained)
        return dataclasses.replace(features, cells=cells, keys=self.key(cells))

    def attend(
        self,
        features: Features,
        state: tuple[Tensor, Tensor],
        told: Tensor,
        explained_xy_m: list[Tensor],
        focus: bool = False,
    ) -> tuple[Attention, Float[Tensor, "b c"]]:
        """One step's look at the whole image.

        Args:
            features: the encoded image.
            state: LSTM state.
            told: what the previous step found (from ``tell``).
            explained_xy_m: [b 2] positions of the objects found so far.
            focus: take the position from the cells around the most attended one instead of from all: attention that wavers
                between two objects then looks at one of them, not between.

        Returns:
            The attention, and the grid features it rests on.
        """
        if self.rnn is not None:
            state = self.rnn(torch.cat([features.whole, told], -1), state)
        query = self.query(state[0])
        width = query.shape[-1]
        logits = (features.keys[..., :width] * query[:, None]).sum(-1) / width**0.5 + features.keys[..., width] * 4.0
        if explained_xy_m:
            logits = logits - self._inhibit(features.cell_xy_m, torch.stack(explained_xy_m, 1))
        weights = logits.softmax(-1)
        seen = (weights[:, None] @ features.cells)[:, 0]
        near = self._focus(logits, features.cell_uv_px, FOCUS_CELLS * CELL_PX) if focus else weights
        uv = near @ features.cell_uv_px + 2 * CELL_PX * torch.tanh(self.shift(seen))
        xy = table_points_of_pixels(features.camera, uv[:, None], self.config.sizes.height_m)[:, 0]
        spread = (weights * features.keys[..., width + 1]).sum(-1, keepdim=True)
        evidence = torch.logsumexp(logits, -1, keepdim=True) / 8
        out = self.step(torch.cat([state[0], seen, evidence, spread], -1))
        std = self.config.half_width_m * (F.softplus(out[:, 1:] - 2) + 0.005)
        limit = 1.5 * self.config.half_width_m
        return Attention(out[:, 0], limit * torch.tanh(xy / limit), std, state), seen

    def _focus(self, logits: Float[Tensor, "b g"], cell_uv_px: Float[Tensor, "g 2"], radius_px: float) -> Float[Tensor, "b g"]:
        """Attention times a Gaussian window round its peak."""
        distance = (cell_uv_px - cell_uv_px[logits.argmax(-1)][:, None]).square().sum(-1)
        return (logits - 0.5 * distance / radius_px**2).softmax(-1)

    def _inhibit(self, cell_xy_m: Float[Tensor, "b g 2"], explained_xy_m: Float[Tensor, "b t 2"]) -> Float[Tensor, "b g"]:
        """How much less each cell is attended because an object near it is explained."""
        strength, log_radius = self.inhibition.unbind()
        distance = (cell_xy_m[:, :, None] - explained_xy_m[:, None]).square().sum(-1)
        return (F.softplus(strength) * torch.exp(-0.5 * distance / torch.exp(2 * log_radius))).sum(-1)

    def tell(self, seen: Tensor, xy_m: Float[Tensor, "b 2"], class_probabilities: Float[Tensor, "b k"]) -> Tensor:
        """What the next step is told of this one; carries no gradient through the found object."""
        return torch.cat([seen, xy_m.detach() / self.config.half_width_m, class_probabilities.detach()], -1)

    def read(self, features: Features, scene: Int[Tensor, " g"], xy_m: Float[Tensor, "g 2"]) -> Reading:
        """Glimpse at table positions and say what is there.

        The network sees a crop that is upright in the image, so it speaks of offset and yaw relative to the camera's heading;
        they are turned to the world's axes here (standard deviations too, their correlation left out).

        Args:
            features: encoded images.
            scene: index of each glimpse's scene.
            xy_m: where each looks; carries no gradient.
        """
        c, half_width_m = self.config.sizes, self.config.half_width_m
        crop = glimpses(features.image, features.camera, scene, xy_m, c.height_m, c.window_m, c.glimpse_px)
        code = self.glimpse(crop)
        offset = self.offset_head(code)
        yaw = self.yaw_head(code).unflatten(-1, (len(self.config.folds), c.yaw_bins, 3))
        centre = torch.arange(c.yaw_bins, device=code.device, dtype=code.dtype) * (2 * torch.pi / c.yaw_bins)
        phase = centre + (2 * torch.pi / c.yaw_bins) * torch.tanh(yaw[..., 1])
        std_m = half_width_m * (1e-3 + 0.5 * torch.sigmoid(offset[:, 2:] - 3))
        right = features.camera.T_camera_world[scene, 0, :2]
        heading = torch.atan2(right[:, 1], right[:, 0])
        turn = torch.stack([heading.cos(), -heading.sin(), heading.sin(), heading.cos()], -1).unflatten(-1, (2, 2))
        return Reading(
            class_logits=self.class_head(code),
            offset_mean_m=(turn @ (0.5 * c.window_m * torch.tanh(offset[:, :2, None])))[..., 0],
            offset_std_m=(turn.square() @ std_m.square()[..., None])[..., 0].sqrt(),
            yaw_logits=yaw[..., 0],
            yaw_phase_rad=phase + heading[:, None, None] * self.folds[:, None],
            yaw_std_rad=0.02 + (2 * torch.pi / c.yaw_bins) * torch.sigmoid(yaw[..., 2] - 1.0),
        )

    def forward(
        self,
        image_rgb: Float[Tensor, "b h w 3"],
        camera: Camera,
        generator: torch.Generator | None = None,
        draw: bool = False,
        looks: int = 2,
        explore: float = 0.0,
        apart_m: float = 0.0,
        painter: FoundPainter | None = None,
    ) -> Posterior:
        """Infer all N steps, as if each had an object.

        Args:
            image_rgb: linear colours, 0..1.
            camera: [b] cameras.
            generator: source of the draws; only used if ``draw``.
            draw: draw class and pose (by reparameterisation) instead of taking the modes.
            looks: glimpses a step; each is taken where the one before says that the object is.
            explore: share of the draws of class and yaw bin that are uniform.
            apart_m: a step that finds an object nearer than this to one found before has found it again; the place it looked at
                is inhibited too, and it looks elsewhere, up to ``AGAIN`` times.  0 takes what it finds.
            painter: draws what has been found; a guide with feedback needs it (see ``painter``).

        Raises:
            ValueError: images of another size than the guide's; no painter for a guide with feedback.
        """
        image = self.encode(image_rgb, camera)
        state, told = self.start(image)
        explained: list[Tensor] = []
        steps: list[Posterior] = []
        for _ in range(self.config.max_objects):
            features = self.with_left(image, painter, self._found(image, steps)) if self.config.feedback else image
            found = self._find(features, state, told, explained, generator, draw, looks, explore)
            found_xy = [step.xy_m for step in steps]
            for _ in range(AGAIN if apart_m > 0 and steps else 0):
                again = (torch.stack(found_xy, 1) - found[0].xy_m[:, None]).norm(dim=-1).amin(-1) < apart_m
                if not bool(again.any()):
                    break
                explained.append(torch.where(again[:, None], found[0].attended_xy_m, NOWHERE_M))
                other = self._find(features, state, told, explained, generator, draw, looks, explore)
                found = where_tensors(again, other, found)
            step, attention, seen = found
            steps.append(step)
            explained.append(step.xy_m.detach())
            state, told = attention.state, self.tell(seen, step.xy_m, step.reading.class_logits.softmax(-1))
        return _stack(steps)

    def _found(self, features: Features, steps: list[Posterior]) -> Objects:
        """What some steps found, in the first of N slots."""
        batch, slots = len(features.image), self.config.max_objects
        image, count = features.image, len(steps)
        class_ids = torch.zeros(batch, slots, dtype=torch.int64, device=image.device)
        T = torch.eye(4, dtype=image.dtype, device=image.device).repeat(batch, slots, 1, 1)
        for slot, step in enumerate(steps):
            class_ids[:, slot] = step.class_ids
            yaw_rad = step.yaw_rad.gather(-1, step.class_ids[:, None])[:, 0]
            T[:, slot] = upright_pose(step.xy_m, yaw_rad).detach()
        return Objects(class_ids, T, torch.arange(slots, device=image.device).expand(batch, -1) < count)

    def _find(
        self,
        features: Features,
        state: tuple[Tensor, Tensor],
        told: Tensor,
        explained: list[Tensor],
        generator: torch.Generator | None,
        draw: bool,
        looks: int,
        explore: float,
    ) -> tuple[Posterior, Attention, Tensor]:
        """One step: attend, glimpse, read."""
        scene = torch.arange(len(features.image), device=features.image.device)
        attention, seen = self.attend(features, state, told, explained, focus=not draw)
        at = attention.xy_m
        reading = self.read(features, scene, at)
        for _ in range(looks - 1):
            at = at + reading.offset_mean_m
            reading = self.read(features, scene, at)
        xy = at + reading.offset_mean_m
        if draw:
            xy = xy + reading.offset_std_m * normal_like(xy, generator)
            class_ids = draw_categorical(reading.class_logits, generator, explore)
            bins, yaw = draw_yaw(reading, self.folds, generator, explore)
        else:
            class_ids = reading.class_logits.argmax(-1)
            bins, yaw = yaw_modes(reading, self.folds)
        step = Posterior(attention.presence_logit, attention.xy_m, attention.std_m, at, reading, class_ids, xy, bins, yaw)
        return step, attention, seen


def _stack(steps: list[Posterior]) -> Posterior:
    """Join the steps along a new axis 1."""
    return stack_tensors([map_tensors(lambda x: x[:, None], step) for step in steps], 1)
