"""The loop that all 2-D models share: look, read, draw, N times; what is read and how it is drawn is the model's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inverse_graphics.compositing import add_prefixes
from inverse_graphics.sprites.latents import Gaussian
from inverse_graphics.sprites.steps import Before, Differencing, Place, Remembering, Variant

GREY_SLACK = 1e-3
"""Rounding that grey values beyond 0..1 are forgiven."""


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


@runtime_checkable
class ExplainerSizes(Protocol):
    """What the loop asks of a model's sizes."""

    @property
    def what(self) -> int:
        """Numbers that say what an object looks like."""
        ...

    @property
    def hidden(self) -> int:
        """Size of the LSTM (air)."""
        ...

    @property
    def channels(self) -> int:
        """Channels of the search (dair)."""
        ...

    @property
    def shift(self) -> float:
        """How far from the attended place a window may lie."""
        ...

    @property
    def presence_limit(self) -> float:
        """Size to which presence logits are squashed."""
        ...


@runtime_checkable
class ExplainerConfig(Protocol):
    """What the loop asks of a model's config."""

    @property
    def variant(self) -> Variant:
        """Air or dair."""
        ...

    @property
    def canvas_px(self) -> int:
        """Side of the images."""
        ...

    @property
    def sizes(self) -> ExplainerSizes:
        """Sizes and priors."""
        ...

    @property
    def where_mean(self) -> tuple[float, float, float]:
        """Means of the windows' prior."""
        ...


C = TypeVar("C", bound=ExplainerConfig)


class Explainer(nn.Module, Generic[C]):
    """A model whose steps explain an image, one object each."""

    def __init__(self, config: C, is_fine: bool = False, grown: float = 1.0) -> None:
        """Build the recurrence of the config's variant; ``is_fine`` and ``grown``: see ``Differencing``."""
        super().__init__()
        self.config = config
        canvas, sizes = config.canvas_px, config.sizes
        self.steps: nn.Module
        if config.variant == "air":
            self.steps = Remembering(canvas * canvas, 3 + sizes.what, sizes.hidden, config.where_mean)
        else:
            self.steps = Differencing(canvas, canvas, sizes.channels, config.where_mean, sizes.shift, is_fine, grown)

    def explain(
        self,
        image: Float[Tensor, "b h w"],
        count: int,
        generator: torch.Generator | None,
        draw: bool,
        read: Callable[[Tensor, Tensor], Gaussian],
        decode: Callable[[Tensor, Tensor], Tensor],
        shown: Callable[[Tensor], Tensor] = lambda total: total,
        move: Float[Tensor, "b 2"] | None = None,
    ) -> SpritePosterior:
        """Run so many steps, as if each had an object.

        Args:
            image: what to explain.
            count: number of steps.
            generator: source of the draws; only used if ``draw``.
            draw: draw latents instead of taking their means.
            read: q(what) from the canvas so far and a window [b 3].
            decode: layer [b h w] of a what [b z] in a window.
            shown: what a sum of layers looks like; the canvas that steps see.
            move: how far from its place the first step looks instead, see ``looking``.

        Raises:
            ValueError: images of another size than the config's.
        """
        size = self.config.canvas_px
        if image.dim() != 3 or image.shape[1:] != (size, size):
            raise ValueError(
                f"{type(self).__name__}: expected images [b {size} {size}], received {tuple(image.shape)}; resize them, or build "
                f"the model with canvas_px={image.shape[-1]}"
            )
        state: Any = self.steps.start(image)  # type: ignore[operator]
        total = torch.zeros_like(image)
        found = image.new_zeros(len(image), 3 + self.config.sizes.what)
        steps: list[tuple[Place, Gaussian, Tensor, Tensor, Tensor]] = []
        for step in range(count):
            canvas = shown(total)
            place, state = self.steps(state, Before(image, canvas, found, None if step else move))
            where = place.where.draw(generator) if draw else place.where.mean
            what = read(canvas, where)
            drawn = what.draw(generator) if draw else what.mean
            layer = decode(drawn, where)
            steps.append((place, what, where, drawn, layer))
            total = total + layer.detach()
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


def check_grey(images: Float[Tensor, "b h w"]) -> None:
    """ValueError unless all values are grey values in 0..1."""
    outside = ~((images >= -GREY_SLACK) & (images <= 1 + GREY_SLACK))  # NaN is neither
    if outside.any():
        first = int(outside.flatten(1).any(1).nonzero()[0])
        value = float(images[first][outside[first]][0])
        raise ValueError(
            f"images: expected finite grey values in 0..1, received {value:g} in image {first}; divide bytes by 255, or mend the "
            "file"
        )


def _stack(steps: Any) -> Gaussian:
    return Gaussian(torch.stack([x.mean for x in steps], 1), torch.stack([x.std for x in steps], 1))
