"""The stroke model: a guide that looks, proposes a stroke, looks again and corrects it, and draws it, N times."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inverse_graphics.sprites.latents import Gaussian
from inverse_graphics.sprites.model import SpritePosterior
from inverse_graphics.sprites.steps import Before, Differencing, Place, Remembering
from inverse_graphics.sprites.strokes import StrokeConfig, StrokeDecoder, ink_of
from inverse_graphics.sprites.windows import read_windows

SEEN = 3
"""Pictures in a glimpse: what is left, what the steps before drew, what this step has proposed."""


class GlimpseReader(nn.Module):
    """Says from a glimpse, and from what was proposed, which stroke to draw."""

    def __init__(self, window_px: int, channels: int, hidden: int, what: int) -> None:
        """Build the layers; they begin by proposing nothing new."""
        super().__init__()
        side = (window_px + 3) // 4
        self.seen = nn.Sequential(
            nn.Conv2d(SEEN, channels, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.told = nn.Sequential(
            nn.Linear(channels * side * side + what, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()
        )
        self.out = nn.Linear(hidden, 2 * what)
        with torch.no_grad():
            self.out.weight.mul_(0.5)
            self.out.bias[what:].fill_(-2.0)

    def forward(self, crop: Float[Tensor, "b c p p"], proposed: Float[Tensor, "b z"]) -> Float[Tensor, "b two_z"]:
        """Change of the proposal, and the spread before a softplus."""
        return self.out(self.told(torch.cat([self.seen(crop), proposed], 1)))


class StrokeModel(nn.Module):
    """Attend, read, draw, subtract, N times; layers are densities of ink."""

    def __init__(self, config: StrokeConfig) -> None:
        """Build the networks."""
        super().__init__()
        self.config = config
        canvas, sizes = config.canvas_px, config.sizes
        self.steps: nn.Module
        if config.variant == "air":
            self.steps = Remembering(canvas * canvas, 3 + sizes.what, sizes.hidden, config.where_mean)
        else:
            self.steps = Differencing(canvas, canvas, sizes.channels, config.where_mean, sizes.shift)
        self.readers = nn.ModuleList(
            GlimpseReader(sizes.window_px, sizes.channels, sizes.hidden, sizes.what) for _ in range(sizes.looks)
        )
        self.decoder = StrokeDecoder(config)

    def forward(
        self, image: Float[Tensor, "b h w"], generator: torch.Generator | None = None, draw: bool = False, blur_px: float = 0.0
    ) -> SpritePosterior:
        """Run all N steps, as if each had a stroke.

        Args:
            image: ink, 0..1.
            generator: source of the draws; only used if ``draw``.
            draw: draw windows and strokes instead of taking their means.
            blur_px: widens the pen, see ``StrokeDecoder``.

        Raises:
            ValueError: images of another size than the config's.
        """
        size = self.config.canvas_px
        if image.dim() != 3 or image.shape[1:] != (size, size):
            raise ValueError(
                f"StrokeModel: expected images [b {size} {size}], received {tuple(image.shape)}; resize them, or build the model "
                f"with canvas_px={image.shape[-1]}"
            )
        state: Any = self.steps.start(image)  # type: ignore[operator]
        density = torch.zeros_like(image)
        found = image.new_zeros(len(image), 3 + self.config.sizes.what)
        steps: list[tuple[Place, Gaussian, Tensor, Tensor, Tensor]] = []
        for _ in range(self.config.max_objects):
            canvas = ink_of(density)
            place, state = self.steps(state, Before(image, canvas, found))
            where = place.where.draw(generator) if draw else place.where.mean
            what = self.read(image, canvas, where, blur_px)
            drawn = what.draw(generator) if draw else what.mean
            layer = self.decoder(drawn, where, blur_px)
            steps.append((place, what, where, drawn, layer))
            density = density + layer.detach()
            found = torch.cat([where, drawn], 1)
        places, whats, wheres, drawns, layers = zip(*steps, strict=True)
        limit = self.config.sizes.presence_limit
        presence = torch.stack([place.presence_logit for place in places], 1)
        return SpritePosterior(
            presence_logits=limit * torch.tanh(presence / limit),
            where=_stack([place.where for place in places]),
            what=_stack(whats),
            drawn_where=torch.stack(wheres, 1),
            drawn_what=torch.stack(drawns, 1),
            layers=torch.stack(layers, 1),
        )

    def read(
        self, image: Float[Tensor, "b h w"], canvas: Float[Tensor, "b h w"], where: Float[Tensor, "b 3"], blur_px: float
    ) -> Gaussian:
        """The stroke in windows; air looks at the image alone, dair at what is left of it too."""
        left = image if self.config.variant == "air" else image - canvas
        before = torch.zeros_like(canvas) if self.config.variant == "air" else canvas
        size_px = self.config.sizes.window_px
        seen = read_windows(torch.stack([left, before], 1), where, size_px)
        mean, raw = image.new_zeros(2, len(image), self.config.sizes.what).unbind(0)
        own = seen.new_zeros(len(seen), 1, size_px, size_px)
        for look, reader in enumerate(self.readers):
            if look:
                own = read_windows(ink_of(self.decoder(mean, where, blur_px))[:, None], where, size_px)
            change, raw = reader(torch.cat([seen, own], 1), mean).chunk(2, -1)
            mean = mean + change
        return Gaussian.of(torch.cat([mean, raw], -1))


def _stack(steps: Any) -> Gaussian:
    return Gaussian(torch.stack([x.mean for x in steps], 1), torch.stack([x.std for x in steps], 1))
