"""A renderer that counts what is asked of the one it wraps."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor

from inverse_graphics import compositing
from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Catalogue, Layers, Objects, RenderOutput, View


class CountingRenderer:
    """Hands all drawing on and counts it, for tests and benchmarks; it offers no gradients by itself.

    ``scenes_drawn`` counts scenes: one for each of a batch in ``layers`` and ``render``.  ``objects_drawn`` counts the objects
    present in them.  Prefixes and alternatives count as the renderer works: where its class sets ``draws_whole_images``, each of
    their images is a scene with its objects; elsewhere images are merged from layers, each object and alternative drawn once.
    """

    name: str
    catalogue: Catalogue
    is_differentiable: bool
    samples_per_axis: int

    def __init__(self, renderer: Renderer) -> None:
        """Wrap a renderer; the counts start at zero."""
        self.name = renderer.name
        self.catalogue = renderer.catalogue
        self.is_differentiable = renderer.is_differentiable
        self.samples_per_axis = renderer.samples_per_axis
        self.renderer = renderer
        self.draws_whole_images = bool(getattr(renderer, "draws_whole_images", False))
        self.reset()

    def reset(self) -> None:
        """Start again from zero."""
        self.calls, self.scenes_drawn, self.objects_drawn = 0, 0, 0

    def layers(self, objects: Objects, view: View, samples_per_axis: int | None = None) -> Layers:
        """See ``Renderer.layers``."""
        self._count(_scenes(objects), int(objects.count.sum()))
        return self.renderer.layers(objects, view, samples_per_axis)

    def render(self, objects: Objects, view: View) -> RenderOutput:
        """See ``Renderer.render``."""
        self._count(_scenes(objects), int(objects.count.sum()))
        return self.renderer.render(objects, view)

    def images(self, objects: Objects, view: View) -> Float[Tensor, "*b h w 3"]:
        """See ``protocols.ImageRenderer``."""
        self._count(_scenes(objects), int(objects.count.sum()))
        return compositing.draw_rgb(self.renderer, objects, view)

    def prefix_images(self, objects: Objects, view: View) -> Float[Tensor, "*b n_plus_1 h w 3"]:
        """See ``compositing.prefix_images``."""
        if self.draws_whole_images:
            slots = objects.present.shape[-1]
            self._count(slots * _scenes(objects), int(objects.present.cumsum(-1).sum()))
        else:
            self._count(_scenes(objects), int(objects.count.sum()))
        return compositing.prefix_images(self.renderer, objects, view)

    def swap_errors(
        self, objects: Objects, alternatives: Objects, view: View, target_rgb: Float[Tensor, "*b h w 3"]
    ) -> Float[Tensor, "*b n a n_plus_1"]:
        """See ``compositing.swap_errors``."""
        slots, count = alternatives.class_ids.shape[-2:]
        if self.draws_whole_images:
            # an alternative in slot k stands in the prefixes k + 1 to n, with all of their other objects
            shown, others = alternatives.present.sum(-1), objects.present.cumsum(-1)
            drawn = sum(
                int((shown[..., k] + count * (others[..., m] - objects.present[..., k].int())).sum())
                for k in range(slots)
                for m in range(k, slots)
            )
            self._count(_scenes(objects) * count * slots * (slots + 1) // 2, drawn)
        else:
            self._count(_scenes(objects) * (1 + slots), int(objects.count.sum() + alternatives.present.sum()))
        return compositing.swap_errors(self.renderer, objects, alternatives, view, target_rgb)

    def _count(self, scenes: int, objects: int) -> None:
        self.calls += 1
        self.scenes_drawn += scenes
        self.objects_drawn += objects


def _scenes(objects: Objects) -> int:
    return math.prod(objects.present.shape[:-1])
