"""Batches of scenes with their images, on demand or from a background thread."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from inverse_graphics.compositing import draw_rgb
from inverse_graphics.protocols import Renderer
from inverse_graphics.types import RenderOutput, Scene, View, map_tensors, stack_tensors
from scenes.prior import ScenePrior
from scenes.stream import BatchStream

MAX_ATTEMPTS = 200
"""Placements of one scene that may show too little of an object before the config is refused."""


@dataclass(frozen=True)
class Batch:
    """Scenes and what they look like."""

    scene: Scene
    """[b] scenes."""
    image: RenderOutput
    """[b] images of them."""


def generate(
    prior: ScenePrior, renderer: Renderer, seed: int, indices: Sequence[int] | Tensor, geometry: Renderer | None = None
) -> Batch:
    """Draw and render scenes in which every object shows at least the config's ``min_visible_fraction``.

    A scene that does not is drawn again as the next attempt of the same index: same count, classes and view, other poses.  A
    scene depends on the seed, its index and the renderer that says what is visible, not on the rest of the batch.

    A renderer with fixed surroundings (``with_surroundings``) puts them into the views' background.

    Args:
        prior: what to draw.
        renderer: what to draw it with; its catalogue must be the prior's.
        seed: 0..2^63 - 1.
        indices: [b] numbers of the scenes.
        geometry: draws depth, ids and visibility instead of ``renderer``: a faster one of the same meshes.  Then ``renderer``
            draws every accepted scene's colours once, and nothing else.  Not for a renderer with surroundings, which hide things.

    Raises:
        ValueError: the catalogues differ, objects do not fit on the table, or a scene needs more than MAX_ATTEMPTS attempts.
    """
    if renderer.catalogue.names != prior.catalogue.names:
        raise ValueError(
            f"renderer: expected the prior's catalogue ({', '.join(prior.catalogue.names)}), received one of "
            f"({', '.join(renderer.catalogue.names)}); build both from the same catalogue."
        )
    wanted = torch.as_tensor(indices, dtype=torch.int64)
    waiting = torch.arange(len(wanted))
    parts: list[Batch] = []
    rows: list[Tensor] = []
    for attempt in range(MAX_ATTEMPTS):
        scene = prior.sample(seed, wanted[waiting], attempt)
        scene = dataclasses.replace(scene, view=_surrounded(renderer, scene.view))
        batch = Batch(scene, (geometry or renderer).render(scene.objects, scene.view))
        good = enough_visible(batch, prior.config.objects.min_visible_fraction)
        parts.append(batch if bool(good.all()) else select(batch, good.nonzero()[:, 0]))
        rows.append(waiting[good])
        waiting = waiting[~good]
        if len(waiting) == 0:
            batch = _in_order(parts, torch.cat(rows))
            return batch if geometry is None else _coloured(batch, renderer)
    least = prior.config.objects.min_visible_fraction
    raise ValueError(
        f"objects.min_visible_fraction: expected scenes that show {least} of every object, received {len(waiting)} of "
        f"{len(wanted)} scenes that do not in {MAX_ATTEMPTS} attempts (scene {int(wanted[waiting[0]])}); lower it or "
        "objects.max_count, or widen the area or the camera's field of view."
    )


def enough_visible(batch: Batch, min_visible_fraction: float) -> Bool[Tensor, "b"]:
    """Which scenes show every present object: at least one pixel of it, and at least this share of its pixels."""
    fraction = batch.image.visible_fraction.cpu()
    shown = (fraction > 0) & (fraction >= min_visible_fraction)
    return (shown | ~batch.scene.objects.present).all(-1)


def select(batch: Batch, rows: Tensor) -> Batch:
    """Scenes of a batch by their row."""
    return map_tensors(lambda tensor: tensor[rows.to(tensor.device)], batch)


def _surrounded(renderer: Renderer, view: View) -> View:
    """The view with the renderer's surroundings, if it has any."""
    surround: Callable[[View], View] | None = getattr(renderer, "with_surroundings", None)
    return view if surround is None else surround(view)


def _coloured(batch: Batch, renderer: Renderer) -> Batch:
    """The batch with another renderer's colours."""
    rgb = draw_rgb(renderer, batch.scene.objects, batch.scene.view)
    return Batch(batch.scene, dataclasses.replace(batch.image, rgb=rgb))


def _in_order(parts: list[Batch], rows: Tensor) -> Batch:
    """Put accepted scenes back where they were asked for."""
    return parts[0] if len(parts) == 1 else select(stack_tensors(parts), rows.argsort())


def scene_stream(
    prior: ScenePrior,
    renderer: Renderer,
    batch_size: int,
    seed: int,
    start_index: int = 0,
    prefetch: int = 2,
    geometry: Renderer | None = None,
) -> BatchStream[Batch]:
    """Batches of consecutive scenes, made ahead in a background thread.

    Args:
        prior: what to draw.
        renderer: what to draw it with; used by the background thread.
        batch_size: scenes a batch, at least 1.
        seed: 0..2^63 - 1.
        start_index: number of the first scene.
        prefetch: batches made ahead, at least 1.
        geometry: see ``generate``.
    """
    return BatchStream(lambda indices: generate(prior, renderer, seed, indices, geometry), batch_size, start_index, prefetch)
