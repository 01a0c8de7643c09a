"""The most probable scene of a posterior, and judging a guide that knows the truth, or nothing."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from guide_scenes import random_reading, scenes_of_counts, table_catalogue, table_renderer, tiny_config, tiny_guide

from inverse_graphics.evaluation import Judged, judge
from inverse_graphics.guides import Posterior, RecurrentGuide
from inverse_graphics.guides.feedback import FoundPainter
from inverse_graphics.inference import MIN_COUNT_PROBABILITY, collides, infer, most_probable, recount
from inverse_graphics.types import Camera, Objects, RenderOutput, Scene, map_tensors, stack_tensors

CPU = torch.device("cpu")


def posterior_of(objects: Objects, presence_logits: torch.Tensor) -> Posterior:
    """A posterior that is sure of the objects' classes and poses."""
    T, classes = objects.T_world_object, 3
    xy = T[..., :2, 3]
    yaw = torch.atan2(T[..., 1, 0], T[..., 0, 0])
    reading = map_tensors(lambda x: x.float(), random_reading(tuple(xy.shape[:2])))
    logits = 20.0 * torch.nn.functional.one_hot(objects.class_ids, classes).float()
    reading = dataclasses.replace(reading, class_logits=logits, offset_mean_m=torch.zeros_like(xy))
    by_class = yaw[..., None].expand(*yaw.shape, classes).contiguous()
    bins = torch.zeros(by_class.shape, dtype=torch.int64)
    return Posterior(presence_logits, xy, torch.ones_like(xy), xy, reading, objects.class_ids, xy, bins, by_class)


class Oracle(RecurrentGuide):
    """Says what it was told, batch after batch."""

    def __init__(self, answers: list[Posterior]) -> None:
        super().__init__(tiny_config())
        self.answers = list(answers)

    def forward(
        self,
        image_rgb: torch.Tensor,
        camera: Camera,
        generator: torch.Generator | None = None,
        draw: bool = False,
        looks: int = 2,
        explore: float = 0.0,
        apart_m: float = 0.0,
        painter: FoundPainter | None = None,
    ) -> Posterior:
        return self.answers.pop(0)


def test_most_probable_scene_follows_the_count() -> None:
    objects, _, _ = scenes_of_counts([2, 2, 2, 2])
    logits = torch.tensor([[-3.0, 3.0], [3.0, -3.0], [3.0, 3.0], [0.3, 1.0]])
    inference = most_probable(posterior_of(objects, logits))
    assert inference.objects.present.tolist() == [[False, False], [True, False], [True, True], [False, False]]
    p = 1 / (1 + math.exp(-0.3)), 1 / (1 + math.exp(-1.0))
    expected = [1 - p[0], p[0] * (1 - p[1]), p[0] * p[1]]
    assert inference.count_probabilities[3].tolist() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(inference.objects.class_ids, objects.class_ids)
    torch.testing.assert_close(inference.objects.T_world_object, objects.T_world_object)
    assert (inference.class_probabilities.argmax(-1) == objects.class_ids).all()
    torch.testing.assert_close(inference.class_probabilities.sum(-1), torch.ones(4, 2))


def test_yaw_is_that_of_the_class_inferred() -> None:
    objects, _, _ = scenes_of_counts([2])
    posterior = posterior_of(objects, torch.full((1, 2), 5.0))
    yaws = torch.tensor([[[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]])
    posterior = dataclasses.replace(posterior, yaw_rad=yaws, class_ids=torch.tensor([[2, 0]]))
    R = most_probable(posterior).objects.T_world_object[0, :, :2, :2]
    torch.testing.assert_close(torch.atan2(R[:, 1, 0], R[:, 0, 0]), torch.tensor([0.3, 0.4]))


def test_inference_in_batches_equals_inference_at_once() -> None:
    _, view, image_rgb = scenes_of_counts([0, 1, 2, 2, 1])
    guide = tiny_guide().eval()
    whole = infer(guide, image_rgb, view.camera, looks=3)
    parts = [(image_rgb[i:j], map_tensors(lambda x, i=i, j=j: x[i:j], view.camera)) for i, j in ((0, 2), (2, 5))]
    joined = stack_tensors([infer(guide, *part, looks=3) for part in parts])
    torch.testing.assert_close(joined.objects.T_world_object, whole.objects.T_world_object, rtol=0, atol=1e-4)
    assert torch.equal(joined.objects.class_ids, whole.objects.class_ids)
    torch.testing.assert_close(joined.count_probabilities, whole.count_probabilities)
    assert not whole.position_std_m.requires_grad and not whole.objects.T_world_object.requires_grad


def judged(presence: float, swap_classes: bool = False) -> Judged:
    """Judge an oracle on two batches; its presence logits are +-presence by the truth, or -9 where presence is 0."""
    renderer = table_renderer()
    batches: list[tuple[Scene, RenderOutput]] = []
    answers: list[Posterior] = []
    for seed, counts in ((1, [2, 1, 0]), (2, [1, 2])):
        truth, view, _ = scenes_of_counts(counts, seed=seed)
        batches.append((Scene(truth, view), renderer.render(truth, view)))
        said = dataclasses.replace(truth, class_ids=(truth.class_ids + 1) % 3) if swap_classes else truth
        sign = 2.0 * truth.present.float() - 1.0
        answers.append(posterior_of(said, presence * sign if presence else torch.full(sign.shape, -9.0)))
    return judge(Oracle(answers), batches, renderer, table_catalogue(), 1.2, looks=2, device=CPU)


def test_a_guide_that_knows_the_truth_is_judged_perfect() -> None:
    result = judged(9.0)
    for name in ("count_accuracy", "class_accuracy", "matched_share", "scene_accuracy"):
        assert result.summary[name] == 1.0, name
    assert result.summary["position_error_p95_m"] < 1e-6 and result.summary["rotation_error_p90_deg"] < 0.1
    assert result.summary["num_eval_scenes"] == 5 and len(result.evaluation.count_gt) == 5
    torch.testing.assert_close(result.rerendered.rgb, result.images.rgb, rtol=0, atol=1e-3)
    assert torch.equal(result.inference.objects.present, result.scenes.objects.present)


def test_a_guide_that_sees_nothing_is_judged_by_the_empty_scenes() -> None:
    result = judged(0.0)
    assert result.summary["count_accuracy"] == pytest.approx(1 / 5) and result.summary["matched_share"] == 0.0
    assert any(warning.startswith("The count has collapsed to 0") for warning in result.warnings)
    torch.testing.assert_close(result.rerendered.rgb, result.scenes.view.background_rgb)


def test_a_guide_with_the_wrong_classes_keeps_its_positions() -> None:
    result = judged(9.0, swap_classes=True)
    assert result.summary["class_accuracy"] == 0.0 and result.summary["matched_share"] == 1.0
    assert result.summary["position_error_p95_m"] < 1e-6 and result.summary["rotation_error_median_deg"] is None


def test_the_count_is_judged_again_by_rendering() -> None:
    """The guide believes in two objects everywhere; the images hold 0, 1 and 2."""
    counts = [0, 1, 2]
    objects, view, image_rgb = scenes_of_counts(counts)
    inference = most_probable(posterior_of(objects, torch.full((3, 2), 2.0)))
    assert inference.objects.present.sum(-1).tolist() == [2, 2, 2]
    again = recount(inference, table_renderer(), view, image_rgb, 0.1)
    assert again.objects.present.sum(-1).tolist() == counts
    assert torch.equal(again.objects.T_world_object, inference.objects.T_world_object)
    prior = inference.count_probabilities.clamp(min=MIN_COUNT_PROBABILITY)
    for scene in range(3):
        scores = []
        for count in range(3):
            first = map_tensors(lambda x, scene=scene: x[scene : scene + 1], objects)
            first = dataclasses.replace(first, present=torch.arange(2)[None] < count)
            one_view = map_tensors(lambda x, scene=scene: x[scene : scene + 1], view)
            error = (table_renderer().render(first, one_view).rgb[0] - image_rgb[scene]).square().sum()
            scores.append(float(prior[scene, count].log() - error / 0.02))
        expected = torch.tensor(scores).softmax(-1)
        torch.testing.assert_close(again.count_probabilities[scene], expected, rtol=1e-3, atol=1e-5)


def test_a_blurred_eye_leaves_the_count_to_the_guide() -> None:
    objects, view, image_rgb = scenes_of_counts([0, 1])
    inference = most_probable(posterior_of(objects, torch.full((2, 2), 2.0)))
    again = recount(inference, table_renderer(), view, image_rgb, 1e4)
    torch.testing.assert_close(again.count_probabilities, inference.count_probabilities, rtol=1e-3, atol=1e-5)


def test_two_objects_in_one_place_are_not_counted_twice() -> None:
    """The second slot repeats the first: the image cannot tell, the table can."""
    objects, view, _ = scenes_of_counts([2, 2])
    T = objects.T_world_object.clone()
    T[0, 1] = T[0, 0]
    objects = dataclasses.replace(objects, T_world_object=T, class_ids=objects.class_ids[:, :1].expand(2, 2).contiguous())
    assert collides(objects, 0.02).tolist() == [[False, True], [False, False]]
    image_rgb = table_renderer().render(objects, view).rgb
    inference = most_probable(posterior_of(objects, torch.full((2, 2), 2.0)))
    again = recount(inference, table_renderer(), view, image_rgb, 0.1, apart_m=0.02)
    assert again.objects.present.sum(-1).tolist() == [1, 2]
    assert recount(inference, table_renderer(), view, image_rgb, 0.1).objects.present.sum(-1).tolist() == [2, 2]
