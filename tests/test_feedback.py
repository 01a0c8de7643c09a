"""DAIR in 3-D: what a step is shown is what is left of the image, and nothing but that is remembered."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from guide_scenes import PRIOR, scenes_of_counts, table_renderer, tiny_guide

from inverse_graphics.checkpoints import save_state
from inverse_graphics.estimators import Weights, exact_loss
from inverse_graphics.guides import RecurrentGuide
from inverse_graphics.guides.feedback import FoundPainter
from inverse_graphics.inference import infer
from inverse_graphics.objectives import bound_terms, sleep_terms
from inverse_graphics.posterior_draws import draw_scenes
from inverse_graphics.scene_training import load_scene_state, scene_state
from inverse_graphics.types import Objects

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Spy(FoundPainter):
    """Remembers what it was asked to draw."""

    asked: list[Objects] = field(default_factory=list)

    def __call__(self, found: Objects) -> tuple[torch.Tensor, torch.Tensor]:
        self.asked.append(found)
        return super().__call__(found)


class Blind(FoundPainter):
    """Draws nothing, whatever is found."""

    def __call__(self, found: Objects) -> tuple[torch.Tensor, torch.Tensor]:
        return super().__call__(dataclasses.replace(found, present=torch.zeros_like(found.present)))


def test_what_is_found_is_drawn_as_the_renderer_draws_it() -> None:
    objects, view, image_rgb = scenes_of_counts([0, 1, 2])
    renderer = table_renderer()
    rgb, explained = FoundPainter(renderer, view)(objects)
    torch.testing.assert_close(rgb, image_rgb)
    assert (explained == (renderer.render(objects, view).object_ids >= 0)).float().mean() > 0.99
    assert not explained[0].any() and explained[2].any()
    twice, _ = FoundPainter(renderer, view).repeat(2)(Objects(*(x.repeat_interleave(2, 0) for x in vars(objects).values())))
    torch.testing.assert_close(twice, rgb.repeat_interleave(2, 0))


def test_once_all_is_found_nothing_is_left() -> None:
    """The encoder sees the image less the drawing: none of the image, in scenes that are drawn whole."""
    objects, view, image_rgb = scenes_of_counts([2, 2])
    guide = tiny_guide(feedback=True)
    assert guide.left is not None
    seen: list[torch.Tensor] = []
    guide.left.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    features = guide.encode(image_rgb, view.camera)
    painter = guide.painter(table_renderer(), view)
    whole = guide.with_left(features, painter, objects)
    guide.with_left(features, painter, dataclasses.replace(objects, present=torch.zeros_like(objects.present)))
    torch.testing.assert_close(seen[0], torch.zeros_like(image_rgb), rtol=0, atol=1e-6)
    torch.testing.assert_close(seen[1], image_rgb - view.background_rgb, rtol=0, atol=1e-6)
    assert whole.cells.shape == features.cells.shape and not torch.equal(whole.cells, features.cells)


def test_steps_remember_nothing() -> None:
    """With inhibition off and nothing drawn, every step is the first one; without feedback the LSTM knows better."""
    _, view, image_rgb = scenes_of_counts([2, 1])
    for feedback, are_alike in ((True, True), (False, False)):
        guide = tiny_guide(feedback=feedback, max_objects=3).eval()
        with torch.no_grad():
            guide.inhibition[0] = -100.0
        posterior = guide(image_rgb, view.camera, painter=Blind(table_renderer(), view))
        same = torch.allclose(posterior.presence_logits[:, 0], posterior.presence_logits[:, 2], atol=1e-5)
        assert same is are_alike
        assert torch.allclose(posterior.xy_m[:, 0], posterior.xy_m[:, 2], atol=1e-5) is are_alike


def test_each_step_is_shown_what_the_steps_before_it_found() -> None:
    _, view, image_rgb = scenes_of_counts([2, 0])
    spy = Spy(table_renderer(), view)
    guide = tiny_guide(feedback=True).eval()
    posterior = guide(image_rgb, view.camera, painter=spy)
    first, second = spy.asked
    assert not first.present.any() and second.present.tolist() == [[True, False]] * 2
    torch.testing.assert_close(second.T_world_object[:, 0, :2, 3], posterior.xy_m[:, 0])
    assert torch.equal(second.class_ids[:, 0], posterior.class_ids[:, 0])


def test_in_the_sleep_phase_the_truth_explained_so_far_is_drawn_nearly_where_it_is() -> None:
    truth, view, image_rgb = scenes_of_counts([0, 1, 2, 2])
    spy = Spy(table_renderer(), view)
    terms = sleep_terms(tiny_guide(feedback=True), image_rgb, view, truth, torch.Generator().manual_seed(0), spy)
    first, second = spy.asked
    assert first.present.sum(-1).tolist() == [0, 0, 0, 0] and second.present.sum(-1).tolist() == [0, 1, 1, 1]
    away = (second.T_world_object - truth.T_world_object)[..., :2, 3].norm(dim=-1)
    assert 1e-4 < float(away.mean()) < 0.01
    assert torch.isfinite(terms.presence).all() and float(terms.presence.detach().sum()) > 0


def test_both_objectives_train_the_feedback_and_resume_from_disk(tmp_path: Path) -> None:
    truth, view, image_rgb = scenes_of_counts([2, 1])
    state = scene_state(tiny_guide(feedback=True), 5, CPU)
    guide, renderer = state.model, table_renderer()
    painter = guide.painter(renderer, view)
    sleep = sleep_terms(guide, image_rgb, view, truth, state.generator, painter)
    bound = bound_terms(guide, renderer, image_rgb, view, PRIOR, 0.3, (), state.generator)
    for loss in (sleep.attention.sum(), exact_loss(bound, Weights()).sum()):
        guide.zero_grad()
        loss.backward()
        assert guide.left is not None
        assert all(parameter.grad is not None and parameter.grad.any() for parameter in guide.left.parameters())
    state.optimizer.step()
    save_state(tmp_path / "state.safetensors", state)
    loaded = load_scene_state(tmp_path / "state.safetensors", CPU).model
    expected = infer(guide, image_rgb, view.camera, painter=painter)
    torch.testing.assert_close(
        infer(loaded, image_rgb, view.camera, painter=painter).count_probabilities, expected.count_probabilities
    )


def test_draws_of_scenes_see_their_own_image() -> None:
    _, view, image_rgb = scenes_of_counts([2, 1])
    guide = tiny_guide(feedback=True).eval()
    painter = guide.painter(table_renderer(), view)
    drawn = draw_scenes(guide, image_rgb, view.camera, 3, torch.Generator().manual_seed(0), looks=1, painter=painter)
    assert drawn.class_ids.shape == (2, 3, 2)


def test_a_painter_is_asked_for_only_where_it_is_needed() -> None:
    _, view, image_rgb = scenes_of_counts([1])
    with pytest.raises(ValueError, match="painter: expected what draws the objects found so far"):
        infer(tiny_guide(feedback=True), image_rgb, view.camera)
    plain: RecurrentGuide = tiny_guide()
    assert plain.painter(table_renderer(), view) is None
    infer(plain, image_rgb, view.camera)
