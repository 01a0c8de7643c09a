"""Parts of characters: which stroke draws which pixel, and how well that agrees with the strokes of the pen.

Scores are over pixels with ink, image by image: the adjusted Rand index (Hubert and Arabie 1985) of two ways of dividing the ink:
1 where they are the same, 0 on average where they have nothing to do with each other.  Where the pen drew one stroke alone it is
1 or 0: every further part counts as wrong altogether.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer
from scipy import ndimage
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score
from torch import Tensor

from inverse_graphics.guides.posterior import count_log_probabilities
from inverse_graphics.sprites.stroke_model import StrokeModel
from inverse_graphics.sprites.stroke_refinement import StrokeRefinement, Strokes, refine_strokes
from inverse_graphics.sprites.strokes import ink_of

Way = Literal["parts", "guide", "k_means", "components", "one_part"]
WAYS: tuple[Way, ...] = ("parts", "guide", "k_means", "components", "one_part")
"""Ways of dividing the ink: the strokes, the guide's strokes before refinement, and the baselines."""
NO_PART = -1


@dataclass(frozen=True)
class PartTruth:
    """Drawings and the strokes of the pen."""

    images: Float[Tensor, "b h w"]
    """Ink, 0..1."""
    stroke_ids: Integer[Tensor, "b h w"]
    """The pen stroke of each pixel with ink, -1 elsewhere."""


@dataclass(frozen=True)
class PartInference:
    """Strokes of drawings."""

    guide: Strokes
    """As the guide has them, at the means."""
    strokes: Strokes
    """After refinement."""

    @property
    def reconstructions(self) -> Float[Tensor, "b h w"]:
        """Ink of the strokes that are there."""
        return reconstruct(self.strokes)


def infer_strokes(model: StrokeModel, images: Float[Tensor, "b h w"], refinement: StrokeRefinement) -> PartInference:
    """The guide's strokes, as many as are most probable, and what refinement makes of all N."""
    with torch.no_grad():
        posterior = model(images)
    count = count_log_probabilities(posterior.presence_logits).argmax(-1)
    present = torch.arange(posterior.layers.shape[1], device=images.device) < count[:, None]
    guide = Strokes(posterior.drawn_where, posterior.drawn_what, present, posterior.layers)
    if not refinement.rounds:
        return PartInference(guide, guide)
    return PartInference(guide, refine_strokes(model, images, guide, refinement))


def reconstruct(strokes: Strokes) -> Float[Tensor, "b h w"]:
    """Ink of the strokes that are there."""
    return ink_of((strokes.densities * strokes.present[..., None, None]).sum(1))


def part_maps(strokes: Strokes, ink: Bool[Tensor, "b h w"]) -> Int[Tensor, "b h w"]:
    """Number of the stroke that draws each pixel with ink most, of those that are there; -1 elsewhere.

    Where an image has no stroke all of its ink is part 0.
    """
    drawn = strokes.densities.masked_fill(~strokes.present[..., None, None], -1.0)
    return drawn.argmax(1).masked_fill(~ink, NO_PART)


def k_means_map(ink: Bool[np.ndarray, "h w"], parts: int) -> Int[np.ndarray, "h w"]:
    """Ink divided by position into as many parts, from seeds that are always the same."""
    places = np.argwhere(ink)
    # scikit-learn's stubs know n_init="auto" alone
    means = KMeans(min(parts, len(places)), n_init=3, random_state=0)  # pyright: ignore[reportArgumentType]
    return _mapped(ink, means.fit_predict(places) if parts > 1 else 0)


def component_map(ink: Bool[np.ndarray, "h w"]) -> Int[np.ndarray, "h w"]:
    """Pieces of ink that hang together, corners included."""
    labels = np.zeros(ink.shape, np.int32)
    ndimage.label(ink, structure=np.ones((3, 3), np.int64), output=labels)
    return labels.astype(np.int64) - 1


def agreement(map_est: Integer[np.ndarray, "h w"], map_gt: Integer[np.ndarray, "h w"]) -> float:
    """Adjusted Rand index of two divisions of the pixels that the true one divides."""
    ink = map_gt >= 0
    return float(adjusted_rand_score(map_gt[ink], map_est[ink]))


@dataclass(frozen=True)
class PartEvaluation:
    """Strokes of s drawings against the pen's."""

    agreement: Mapping[str, Float[np.ndarray, "s"]]
    """Adjusted Rand index of every way of ``WAYS``."""
    count_est: Int[np.ndarray, "s"]
    """Strokes inferred."""
    count_gt: Int[np.ndarray, "s"]
    """Strokes of the pen that can be seen."""
    squared_error: Float[np.ndarray, "s"]
    """Mean squared error of the reconstruction, a pixel."""

    def summary(self) -> dict[str, Any]:
        """Means with 95 % intervals, ready for JSON; ``lead`` is the strokes' agreement less that of each baseline."""
        lead = {way: self.agreement["parts"] - self.agreement[way] for way in WAYS if way not in ("parts", "guide")}
        counts = sorted(set(self.count_gt.tolist()))
        return {
            "agreement": {way: mean_interval(self.agreement[way]) for way in WAYS},
            "lead": {way: mean_interval(values) for way, values in lead.items()},
            "agreement_by_count": {str(n): float(self.agreement["parts"][self.count_gt == n].mean()) for n in counts},
            "count_accuracy": mean_interval(self.count_est == self.count_gt),
            "mean_count_est": float(self.count_est.mean()),
            "mean_count_gt": float(self.count_gt.mean()),
            "squared_error": mean_interval(self.squared_error),
            "num_images": len(self.count_gt),
        }


def mean_interval(values: np.ndarray) -> dict[str, float | None]:
    """Mean and 95 % interval of it, normal: drawings are taken as independent; no interval of a single one."""
    values = np.asarray(values, np.float64)
    mean = float(values.mean())
    if len(values) == 1:
        return {"mean": mean, "low": None, "high": None}
    half = 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return {"mean": mean, "low": mean - half, "high": mean + half}


def judge_parts(infer: Callable[[Float[Tensor, "b h w"]], PartInference], truths: Iterable[PartTruth]) -> PartEvaluation:
    """Infer strokes of batches of drawings and compare them with the pen's.

    Args:
        infer: for example ``infer_strokes`` with a model and a refinement.
        truths: batches.

    Raises:
        ValueError: no drawings, or one without ink.
    """
    batches = [_judge_batch(infer, truth) for truth in truths]
    if not batches:
        raise ValueError("judge_parts: expected at least one batch, received none; raise the number of drawings")
    rows = [row for batch in batches for row in batch[0]]
    return PartEvaluation(
        agreement={way: np.array([row[way] for row in rows]) for way in WAYS},
        count_est=np.concatenate([batch[1] for batch in batches]),
        count_gt=np.concatenate([batch[2] for batch in batches]),
        squared_error=np.concatenate([batch[3] for batch in batches]),
    )


def _judge_batch(
    infer: Callable[[Tensor], PartInference], truth: PartTruth
) -> tuple[list[dict[Way, float]], np.ndarray, np.ndarray, np.ndarray]:
    inference = infer(truth.images)
    ink = truth.stroke_ids >= 0
    if not bool(ink.flatten(1).any(1).all()):
        raise ValueError("judge_parts: expected ink in every drawing, received one without; leave it out")
    maps, guides = (part_maps(strokes, ink).cpu().numpy() for strokes in (inference.strokes, inference.guide))
    true, inks = truth.stroke_ids.cpu().numpy().astype(np.int64), ink.cpu().numpy()
    rows: list[dict[Way, float]] = []
    for map_est, map_guide, map_gt, there in zip(maps, guides, true, inks, strict=True):
        parts = len(np.unique(map_est[there]))
        divided: dict[Way, np.ndarray] = {
            "parts": map_est,
            "guide": map_guide,
            "k_means": k_means_map(there, parts),
            "components": component_map(there),
            "one_part": _mapped(there, 0),
        }
        rows.append({way: agreement(divided[way], map_gt) for way in WAYS})
    error = (inference.reconstructions - truth.images).square().mean((-2, -1)).cpu().numpy()
    count_gt = np.array([len(np.unique(map_gt[map_gt >= 0])) for map_gt in true])
    return rows, inference.strokes.present.sum(1).cpu().numpy(), count_gt, error


def _mapped(ink: Bool[np.ndarray, "h w"], labels: Int[np.ndarray, "p"] | int) -> Int[np.ndarray, "h w"]:
    divided = np.full(ink.shape, NO_PART, np.int64)
    divided[ink] = labels
    return divided
