"""The 2-D model: a guide that looks, reads and draws, N times, and the decoder whose sprites are the layers of an image."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inverse_graphics.config import FieldError
from inverse_graphics.sprites.explaining import Explainer, SpritePosterior
from inverse_graphics.sprites.latents import Gaussian
from inverse_graphics.sprites.steps import Variant
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
    trained_px: int | None = None
    """Side of the canvas that the weights were trained on, where that is another one, see ``on_canvas``."""

    def __post_init__(self) -> None:
        if min(self.canvas_px, self.trained_px or self.canvas_px) < 8:
            raise FieldError("canvas_px", "at least 8, as trained_px", self.canvas_px, "use larger images")
        if self.variant == "air" and self.trained_px not in (None, self.canvas_px):
            remedy = "its LSTM sees the whole image: train air on that canvas, or use dair"
            raise FieldError("canvas_px", f"{self.trained_px}, the canvas that air was trained on", self.canvas_px, remedy)
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


class SpriteModel(Explainer[SpriteConfig]):
    """Attend, read, draw, subtract, N times."""

    def __init__(self, config: SpriteConfig) -> None:
        """Build the networks."""
        super().__init__(config, grown=config.canvas_px / (config.trained_px or config.canvas_px))
        sizes = config.sizes
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
        move: Float[Tensor, "b 2"] | None = None,
    ) -> SpritePosterior:
        """Run all N steps, as if each had an object.

        Args:
            image: grey values, 0 the background.
            generator: source of the draws; only used if ``draw``.
            draw: draw windows and appearances instead of taking their means.
            max_objects: N; the config's where None.
            move: how far from its place the first step looks instead, see ``looking``.

        Raises:
            ValueError: images of another size than the config's.
        """
        is_dair = self.config.variant == "dair"
        return self.explain(
            image,
            max_objects or self.config.max_objects,
            generator,
            draw,
            read=lambda canvas, where: self.read(image - canvas if is_dair else image, where),
            decode=self.decoder,
            move=move,
        )

    def read(self, image: Float[Tensor, "b h w"], where: Float[Tensor, "b 3"]) -> Gaussian:
        """What is seen in windows."""
        crop = read_windows(image[:, None], where, self.config.sizes.window_px)
        return Gaussian.of(self.encoder(crop.flatten(1)))


def on_canvas(model: SpriteModel, canvas_px: int) -> SpriteModel:
    """A trained model for images of another size, with objects as large in pixels as those it was trained on.

    Every step of dair searches the image for one object and forgets it, so that nothing it has learned depends on the canvas.

    Args:
        model: dair; shares its weights, and the device, with what is returned.
        canvas_px: side of the images.

    Raises:
        FieldError: air, on another canvas than its own, or a canvas too small for an object.
    """
    if canvas_px == model.config.canvas_px:
        return model
    trained_px = model.config.trained_px or model.config.canvas_px
    other = SpriteModel(dataclasses.replace(model.config, canvas_px=canvas_px, trained_px=trained_px))
    other.load_state_dict(model.state_dict(), assign=True)
    return other.train(model.training).to(next(model.parameters()).device)
