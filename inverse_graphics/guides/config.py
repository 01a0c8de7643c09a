"""What a guide is built for and how large it is."""

from __future__ import annotations

from dataclasses import dataclass

from inverse_graphics.config import FieldError


@dataclass(frozen=True)
class GuideSizes:
    """Sizes of the guide that are free to choose."""

    glimpse_px: int = 24
    """Side of a glimpse in samples, a multiple of 4."""
    window_m: float = 0.24
    """Side of a glimpse at the object's distance."""
    height_m: float = 0.05
    """Height above the table of the point that glimpses are centred on."""
    yaw_bins: int = 16
    """Bins of the yaw mixture."""
    channels: int = 48
    """Channels of the image grid."""
    features: int = 192
    """Length of the image's and the glimpse's vectors."""
    hidden: int = 192
    """Units of the LSTM."""

    def __post_init__(self) -> None:
        for name in ("glimpse_px", "yaw_bins", "channels", "features", "hidden"):
            if getattr(self, name) < 1:
                raise FieldError(name, "at least 1", getattr(self, name), "raise it")
        if self.glimpse_px % 4:
            raise FieldError("glimpse_px", "a multiple of 4", self.glimpse_px, "use for example 24")
        if not self.window_m > 0:
            raise FieldError("window_m", "a positive length", self.window_m, "use about twice the largest object's size")


@dataclass(frozen=True)
class GuideConfig:
    """What a guide is built for; saved with its weights."""

    max_objects: int
    """Steps N: the most objects it can find."""
    folds: tuple[int, ...]
    """For each class how often its look repeats in a full turn about the vertical; 0 where yaw cannot be seen."""
    height_px: int
    """Image height, a multiple of 8."""
    width_px: int
    """Image width, a multiple of 8."""
    half_width_m: float = 0.3
    """Half the side of the working area: the scale of positions."""
    sizes: GuideSizes = GuideSizes()
    """The rest."""
    feedback: bool = False
    """DAIR: each step sees what is left of the image once the objects found so far are drawn, in place of an LSTM's memory."""
