"""The 2-D model: a guide that looks, reads and draws, N times, and the decoder whose sprites are the layers of an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inverse_graphics.compositing import add_prefixes
from inverse_graphics.config import FieldError
from inverse_graphics.sprites.latents import Gaussian
from inverse_graphics.sprites.steps import Before, Differencing, Place, Remembering, Variant
from inverse_graphics.sprites.windows import read_windows, write_windows


@dataclass(frozen=True)
class SpriteSizes:
    """Sizes and priors of a sprite model; the defaults are the paper's where it gives them."""

    window_px: int = 28
    """Side of windows and sprites in samples."""
    what: int = 50
    """Numbers that say what a sprite looks like."""
    hidden: int = 256
    """Size of the LSTM (air)."""
    channels: int = 16
    """Channels of the search (dair)."""
    sprite_hidden: int = 200
    """Hidden units of the sprites' encoder and decoder."""
    sprite_bias: float = -2.0
    """What the decoder's logits begin with: dark sprites, so that no object is chased out of the image at first."""
    object_px: float = 50 / 3
    """Side of the windows in pixels of the image: the prior's zoom is the canvas's side over this ..."""
    object_spread: float = 1 / 15
    """... give or take this share of it (one standard deviation)."""
    shift: float = 0.3
    """How far from the attended place a step of dair may look, in shares of half the canvas."""
    presence_limit: float = 6.0
    """Presence logits are squashed softly to this size, so that no count loses its gradient."""

    def __post_init__(self) -> None:
        for name in ("window_px", "what", "hidden", "channels", "sprite_hidden"):
            if getattr(self, name) < 1:
                raise FieldError(name, "at least 1", getattr(self, name), "raise it")
        for name in ("object_px", "object_spread", "shift", "presence_limit"):
            if not getattr(self, name) > 0:
                raise FieldError(name, "a positive number", getattr(self, name), "raise it")


@dataclass(frozen=True)
class SpriteConfig:
    """What a sprite model is built from."""

    variant: Variant = "air"
    """air: an LSTM that sees the image once; dair: every step sees what is left."""
    canvas_px: int = 50
    """Side of the images."""
    max_objects: int = 3
    """Steps N; a trained model may be told to take more."""
    sizes: SpriteSizes = SpriteSizes()
    """Sizes and priors."""

    def __post_init__(self) -> None:
        if self.canvas_px < 8:
            raise FieldError("canvas_px", "at least 8", self.canvas_px, "use larger images")
        if self.max_objects < 1:
            raise FieldError("max_objects", "at least 1", self.max_objects, "raise it")
        if self.sizes.object_px > self.canvas_px:
            raise FieldError("sizes.object_px", f"at most canvas_px, {self.canvas_px}", self.sizes.object_px, "lower it")

    @property
    def where_mean(self) -> tuple[float, float, float]:
        """Means of the windows' prior (zoom, x, y)."""
        return self.canvas_px / self.sizes.object_px, 0.0, 0.0

    @property
    def where_std(self) -> tuple[float, float, float]:
        """Standard deviations of it."""
        return self.sizes.object_spread * self.where_mean[0], 1.0, 1.0


@dataclass(frozen=True)
class SpritePosterior:
    """q(count, where, what | image), step by step, with the draws (or means) that the steps were conditioned on."""

    presence_logits: Float[Tensor, "b n"]
    """Logit that there is an object i + 1, given that there are i."""
    where: Gaussian
    """[b n 3] windows."""
    what: Gaussian
    """[b n z] appearances."""
    drawn_where: Float[Tensor, "b n 3"]
    """Windows drawn by reparameterisation (or their means)."""
    drawn_what: Float[Tensor, "b n z"]
    """Appearances drawn by reparameterisation (or their means)."""
    layers: Float[Tensor, "b n h w"]
    """Each step's sprite alone on an empty canvas."""

    def canvases(self) -> Float[Tensor, "b n_plus_1 h w"]:
        """Images of the first 0, 1, ..., n steps."""
        return add_prefixes(self.layers)


class SpriteDecoder(nn.Module):
    """What an appearance looks like, and the layer it makes: the renderer of the 2-D case."""

    def __init__(self, config: SpriteConfig) -> None:
        """Build the layers."""
        super().__init__()
        sizes = config.sizes
        self.size_px, self.canvas_px, self.bias = sizes.window_px, config.canvas_px, sizes.sprite_bias
        self.layers = nn.Sequential(
            nn.Linear(sizes.what, sizes.sprite_hidden), nn.ReLU(), nn.Linear(sizes.sprite_hidden, sizes.window_px**2)
        )

    def sprites(self, what: Float[Tensor, "b z"]) -> Float[Tensor, "b p p"]:
        """Pictures of appearances, 0..1."""
        return torch.sigmoid(self.layers(what) + self.bias).unflatten(-1, (self.size_px, self.size_px))

    def forward(self, what: Float[Tensor, "b z"], where: Float[Tensor, "b 3"]) -> Float[Tensor, "b h w"]:
        """Layers: each sprite in its window of an empty canvas."""
        return write_windows(self.sprites(what)[:, None], where, self.canvas_px, self.canvas_px)[:, 0]


class SpriteModel(nn.Module):
    """Attend, read, draw, subtract, N times."""

    def __init__(self, config: SpriteConfig) -> None:
        """Build the networks."""
        super().__init__()
        self.config = config
        canvas, sizes = config.canvas_px, config.sizes
        self.steps: nn.Module
        if config.variant == "air":
            self.steps = Remembering(canvas * canvas, 3 + sizes.what, sizes.hidden, config.where_mean)
        else:
            self.steps = Differencing(canvas, canvas, sizes.channels, config.where_mean, sizes.shift)
        self.encoder = nn.Sequential(
            nn.Linear(sizes.window_px**2, sizes.sprite_hidden), nn.ReLU(), nn.Linear(sizes.sprite_hidden, 2 * sizes.what)
        )
        self.decoder = SpriteDecoder(config)

    def forward(
        self,
        image: Float[Tensor, "b h w"],
        generator: torch.Generator | None = None,
        draw: bool = False,
        max_objects: int | None = None,
    ) -> SpritePosterior:
        """Run all N steps, as if each had an object.

        Args:
            image: grey values, 0 the background.
            generator: source of the draws; only used if ``draw``.
            draw: draw windows and appearances instead of taking their means.
            max_objects: N; the config's where None.

        Raises:
            ValueError: images of another size than the config's.
        """
        size = self.config.canvas_px
        if image.dim() != 3 or image.shape[1:] != (size, size):
            raise ValueError(
                f"SpriteModel: expected images [b {size} {size}], received {tuple(image.shape)}; resize them, or build the model "
                f"with canvas_px={image.shape[-1]}"
            )
        state: Any = self.steps.start(image)  # type: ignore[operator]
        canvas = torch.zeros_like(image)
        found = image.new_zeros(len(image), 3 + self.config.sizes.what)
        steps: list[tuple[Place, Gaussian, Tensor, Tensor, Tensor]] = []
        for _ in range(max_objects or self.config.max_objects):
            place, state = self.steps(state, Before(image, canvas, found))
            where = place.where.draw(generator) if draw else place.where.mean
            what = self.read(image if self.config.variant == "air" else image - canvas, where)
            drawn = what.draw(generator) if draw else what.mean
            layer = self.decoder(drawn, where)
            steps.append((place, what, where, drawn, layer))
            canvas = canvas + layer.detach()
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

    def read(self, image: Float[Tensor, "b h w"], where: Float[Tensor, "b 3"]) -> Gaussian:
        """What is seen in windows."""
        crop = read_windows(image[:, None], where, self.config.sizes.window_px)
        return Gaussian.of(self.encoder(crop.flatten(1)))


def _stack(steps: Any) -> Gaussian:
    return Gaussian(torch.stack([x.mean for x in steps], 1), torch.stack([x.std for x in steps], 1))
