"""The boundaries: what the core asks of a renderer, a prior, a guide and an estimator."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from inverse_graphics.types import Catalogue, Layers, Objects, RenderOutput, View


@runtime_checkable
class Renderer(Protocol):
    """Draws objects.  A backend only has to draw layers; ``compositing.render_layers`` makes the image from them."""

    name: str
    """What users call it on the command line."""
    catalogue: Catalogue
    """The meshes that class ids refer to."""
    is_differentiable: bool
    """Whether images carry gradients to ``objects.T_world_object``: those of ``render`` and ``compositing.prefix_images``."""
    samples_per_axis: int
    """Antialiasing: an image is the box-filtered mean of samples_per_axis^2 samples a pixel."""

    def layers(self, objects: Objects, view: View, samples_per_axis: int | None = None) -> Layers:
        """Draw each object alone; any leading batch dimensions, shared by objects and view.

        Args:
            objects: [*b n] objects; absent ones give empty layers.
            view: [*b] cameras, lights and backgrounds.
            samples_per_axis: samples a pixel along each axis; the renderer's own where None.
        """
        ...

    def render(self, objects: Objects, view: View) -> RenderOutput:
        """Draw the scene: layers merged by depth over the background."""
        ...


@runtime_checkable
class StackRenderer(Renderer, Protocol):
    """A renderer that draws a stack once and merges it many times by itself; others do so through ``compositing``."""

    def prefix_images(self, objects: Objects, view: View) -> Float[Tensor, "*b n_plus_1 h w 3"]:
        """See ``compositing.prefix_images``."""
        ...

    def swap_errors(
        self, objects: Objects, alternatives: Objects, view: View, target_rgb: Float[Tensor, "*b h w 3"]
    ) -> Float[Tensor, "*b n a n_plus_1"]:
        """See ``compositing.swap_errors``."""
        ...


@runtime_checkable
class ImageRenderer(Renderer, Protocol):
    """A renderer that draws colours alone, without the depth, ids and visibility that ``render`` gives besides."""

    def images(self, objects: Objects, view: View) -> Float[Tensor, "*b h w 3"]:
        """``render(objects, view).rgb``."""
        ...
