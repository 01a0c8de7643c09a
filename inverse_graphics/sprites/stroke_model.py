"""The stroke model: a guide that looks, proposes a stroke, looks again and corrects it, and draws it, N times."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inverse_graphics.sprites.explaining import Explainer, SpritePosterior
from inverse_graphics.sprites.latents import Gaussian
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


class StrokeModel(Explainer[StrokeConfig]):
    """Attend, read, draw, subtract, N times; layers are densities of ink."""

    def __init__(self, config: StrokeConfig) -> None:
        """Build the networks."""
        super().__init__(config, is_fine=True)
        sizes = config.sizes
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
        return self.explain(
            image,
            self.config.max_objects,
            generator,
            draw,
            read=lambda canvas, where: self.read(image, canvas, where, blur_px),
            decode=lambda what, where: self.decoder(what, where, blur_px),
            shown=ink_of,
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
