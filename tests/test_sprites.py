"""The 2-D model and its bound against naive computations; training repeats and resumes bit for bit."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from sprite_samples import blots, tiny_config, tiny_sprites
from torch.distributions import Bernoulli, Normal

from inverse_graphics.bound import BoundTerms
from inverse_graphics.checkpoints import MODEL_FILE, save_model, save_state
from inverse_graphics.compositing import add_prefixes
from inverse_graphics.config import FieldError
from inverse_graphics.estimators import Estimator
from inverse_graphics.sprites.evaluation import FlatTruth, infer_sprites, judge_sprites
from inverse_graphics.sprites.latents import Gaussian
from inverse_graphics.sprites.model import SpriteConfig, SpriteModel, SpriteSizes, on_canvas
from inverse_graphics.sprites.objective import DARKEST, ImageModel, Likelihood, count_log_prior, sprite_terms
from inverse_graphics.sprites.steps import Variant
from inverse_graphics.sprites.training import SpriteLoss, SpriteTraining, load_sprite_state, load_sprites, sprite_state
from inverse_graphics.sprites.windows import write_windows
from inverse_graphics.training import TrainState, train

CPU = torch.device("cpu")
LOG_P = count_log_prior(3, 0.1)
VARIANTS: tuple[Variant, ...] = ("air", "dair")


def test_gaussians_agree_with_torch() -> None:
    values = torch.randn(5, 6, dtype=torch.float64)
    mine, mean, std = Gaussian.of(values), torch.randn(3, dtype=torch.float64), torch.rand(3, dtype=torch.float64) + 0.1
    theirs = Normal(mine.mean, mine.std)
    expected = torch.distributions.kl_divergence(theirs, Normal(mean, std)).sum(-1)
    torch.testing.assert_close(mine.kl(mean, std), expected)
    x = mine.draw(torch.Generator().manual_seed(0))
    torch.testing.assert_close(mine.log_prob(x), theirs.log_prob(x).sum(-1))


def test_prior_of_the_count_is_geometric() -> None:
    torch.testing.assert_close(count_log_prior(2, 0.5).exp(), torch.tensor([4 / 7, 2 / 7, 1 / 7]))


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_layers_are_sprites_in_their_windows_and_add_up(variant: Variant) -> None:
    model = tiny_sprites(variant)
    posterior = model(blots([1, 2]), torch.Generator().manual_seed(0), draw=True)
    for step in range(3):
        sprites = model.decoder.sprites(posterior.drawn_what[:, step])
        layer = write_windows(sprites[:, None], posterior.drawn_where[:, step], 20, 20)[:, 0]
        torch.testing.assert_close(posterior.layers[:, step], layer)
    canvases = posterior.canvases()
    assert not canvases[:, 0].any()
    torch.testing.assert_close(canvases[:, 3], posterior.layers.sum(1))
    torch.testing.assert_close(add_prefixes(posterior.layers), canvases)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_bound_is_the_sum_over_counts(variant: Variant, likelihood: Likelihood) -> None:
    model, images = tiny_sprites(variant), blots([0, 1, 3])
    image_model = ImageModel(likelihood, sigma=0.4)
    terms = sprite_terms(model, images, image_model, LOG_P, torch.Generator().manual_seed(2))
    with torch.no_grad():
        posterior = model(images, torch.Generator().manual_seed(2), draw=True)
    mean, std = torch.tensor(model.config.where_mean), torch.tensor(model.config.where_std)
    for b, image in enumerate(images):
        p = torch.sigmoid(posterior.presence_logits[b]).tolist()
        q = [1 - p[0], p[0] * (1 - p[1]), p[0] * p[1] * (1 - p[2]), p[0] * p[1] * p[2]]
        bound, kl = 0.0, 0.0
        for n in range(4):
            canvas = posterior.layers[b, :n].sum(0)
            if likelihood == "gaussian":
                log_p = float(Normal(canvas, 0.4).log_prob(image).sum())
            else:
                log_p = float(
                    -torch.nn.functional.binary_cross_entropy(canvas.clamp(DARKEST, 1 - DARKEST), image, reduction="sum")
                )
            bound += q[n] * (log_p - kl + float(LOG_P[n]) - math.log(q[n]))
            if n < 3:
                where = Normal(posterior.where.mean[b, n], posterior.where.std[b, n])
                what = Normal(posterior.what.mean[b, n], posterior.what.std[b, n])
                kl += float(torch.distributions.kl_divergence(where, Normal(mean, std)).sum())
                kl += float(torch.distributions.kl_divergence(what, Normal(0.0, 1.0)).sum())
                ratio = (
                    where.log_prob(posterior.drawn_where[b, n]).sum()
                    - Normal(mean, std).log_prob(posterior.drawn_where[b, n]).sum()
                )
                ratio = ratio + what.log_prob(posterior.drawn_what[b, n]).sum()
                ratio = ratio - Normal(0.0, 1.0).log_prob(posterior.drawn_what[b, n]).sum()
                torch.testing.assert_close(terms.log_ratio[b, n].detach(), ratio, rtol=1e-4, atol=1e-3)
        assert float(terms.bound[b].detach()) == pytest.approx(bound, rel=1e-4)
    assert terms.choices == () and not terms.drawn_log_q.any()


def test_bernoulli_likelihood_is_that_of_ink() -> None:
    image, canvas = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]), torch.tensor([[[0.2, 0.7], [1.0, 0.0]]])
    got = ImageModel("bernoulli").log_likelihood(image, canvas[:, None])
    expected = Bernoulli(canvas.clamp(DARKEST, 1 - DARKEST)).log_prob(image).sum()
    assert float(got) == pytest.approx(float(expected))


@torch.no_grad()
def test_a_search_does_the_same_on_a_larger_canvas() -> None:
    """An image put into a black one four times its size: the same windows in pixels, the same sprites, the same doubts."""
    model, images = tiny_sprites("dair").eval(), blots([1, 2, 3])
    left_px, top_px = 12, 8  # whole cells of the search, so that it sees the same
    large = torch.zeros(3, 40, 40)
    large[:, top_px : top_px + 20, left_px : left_px + 20] = images
    wide = on_canvas(model, 40)
    small, found = model(images), wide(large)
    zoom, x, y = small.drawn_where.unbind(-1)
    expected = torch.stack([2 * zoom, (10 * (x + 1) + left_px) / 20 - 1, (10 * (y + 1) + top_px) / 20 - 1], -1)
    torch.testing.assert_close(found.drawn_where, expected, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found.where.std, small.where.std * torch.tensor([2.0, 0.5, 0.5]), atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(found.drawn_what, small.drawn_what, atol=2e-3, rtol=1e-3)
    torch.testing.assert_close(found.presence_logits, small.presence_logits, atol=5e-3, rtol=1e-3)
    assert on_canvas(wide, 20).config.canvas_px == 20 and on_canvas(model, 20) is model
    back = on_canvas(wide, 20)(images)
    torch.testing.assert_close(back.drawn_where, small.drawn_where)
    with pytest.raises(FieldError, match="train air on that canvas, or use dair"):
        on_canvas(tiny_sprites("air"), 40)


def test_dair_sees_only_what_is_left_and_remembers_nothing() -> None:
    """A first step that draws nothing leaves all that was there: the second step is the first one again."""
    model = tiny_sprites("dair")
    with torch.no_grad():
        model.decoder.get_parameter("layers.2.bias").fill_(-100.0)  # black sprites
    posterior = model(blots([2, 1]))
    torch.testing.assert_close(posterior.presence_logits[:, 0], posterior.presence_logits[:, 1])
    torch.testing.assert_close(posterior.drawn_where[:, 0], posterior.drawn_where[:, 2])
    other = tiny_sprites("air")(blots([2, 1]))
    assert not torch.equal(other.presence_logits[:, 0], other.presence_logits[:, 1])


def still(model: SpriteModel) -> SpriteModel:
    """A model whose search has learned nothing: keys that are alike, windows where it attends."""
    with torch.no_grad():
        for name in ("key", "heads.0.2", "heads.1.2"):
            for parameter in model.steps.get_submodule(name).parameters():
                parameter.zero_()
    return model


def blot_at(x: float, y: float, width: float = 1.5) -> torch.Tensor:
    """A blurred dot on 20 x 20 pixels."""
    v, u = torch.meshgrid(torch.arange(20) + 0.5, torch.arange(20) + 0.5, indexing="ij")
    return torch.exp(-0.5 * ((u - x) ** 2 + (v - y) ** 2) / width**2)


def attended_px(model: SpriteModel, image: torch.Tensor) -> torch.Tensor:
    """Where the first step looks."""
    return (model(image[None]).where.mean[0, 0, 1:].detach() + 1) * 10


def test_search_looks_at_a_lone_blot() -> None:
    model = still(tiny_sprites("dair"))
    for x, y in ((4.5, 12.5), (16.5, 8.5), (8.5, 4.5)):
        torch.testing.assert_close(attended_px(model, blot_at(x, y)), torch.tensor([x, y]), atol=0.5, rtol=0)


def test_search_looks_at_one_of_two_and_not_between_them() -> None:
    model = still(tiny_sprites("dair"))
    pair = blot_at(4.5, 4.5) + blot_at(16.5, 16.5)
    near = torch.tensor([[4.5, 4.5], [16.5, 16.5]])
    assert (attended_px(model, pair) - near).abs().amax(-1).min() < 0.5
    brighter = 0.5 * blot_at(4.5, 4.5) + blot_at(16.5, 16.5)
    torch.testing.assert_close(attended_px(model, brighter), near[1], atol=0.5, rtol=0)


def test_what_is_learned_can_overrule_the_search() -> None:
    """Keys far below zero where there is ink send it to where there is nothing but a little less grey."""
    model = still(tiny_sprites("dair"))
    with torch.no_grad():
        for layer in model.steps.get_submodule("cells").modules():
            if isinstance(layer, torch.nn.Conv2d):
                layer.weight.zero_()
                assert layer.bias is not None
                layer.bias.zero_()
                layer.weight[0, 0, layer.kernel_size[0] // 2, layer.kernel_size[1] // 2] = 1.0
    image = 0.9 * blot_at(4.5, 4.5) + 0.6 * blot_at(16.5, 16.5)
    torch.testing.assert_close(attended_px(model, image), torch.tensor([4.5, 4.5]), atol=0.5, rtol=0)
    with torch.no_grad():
        full = float(model.steps.get_submodule("pool")(blot_at(4.5, 4.5)[None, None]).max())
        model.steps.get_parameter("key.weight")[0, 0] = -20.0 / full
        model.steps.get_parameter("key.bias").fill_(15.0)  # ink of 0.6 is well above, of 0.9 below
    torch.testing.assert_close(attended_px(model, image), torch.tensor([16.5, 16.5]), atol=2.5, rtol=0)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
def test_prefixes_without_canvases_are_those_with(likelihood: Likelihood) -> None:
    image, layers = torch.rand(2, 6, 5), (torch.rand(2, 3, 6, 5) / 3).requires_grad_()
    model, weights = ImageModel(likelihood, sigma=0.7), torch.rand(2, 4)
    found, expected = model.prefix_log_likelihood(image, layers), model.log_likelihood(image, add_prefixes(layers))
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)
    mine, theirs = (torch.autograd.grad((x * weights).sum(), layers)[0] for x in (found, expected))
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def steps_of(images: torch.Tensor, steps: int, seed: int = 5, estimator: Estimator = "exact", start: TrainState | None = None):
    config = SpriteTraining(steps=steps, batch_size=len(images), warmup_steps=1, cold_steps=2, particles=2)
    state = start or sprite_state(tiny_config("dair"), seed, CPU)
    log: list[dict[str, float]] = []
    train(state, iter([images] * steps), SpriteLoss(config, estimator), config, lambda _, scalars: log.append(scalars))
    return state, [{name: value for name, value in row.items() if name != "waiting s"} for row in log]


@pytest.mark.parametrize("estimator", ["exact", "nvil", "vimco"])
def test_a_seed_repeats_a_run_and_a_resumed_one_goes_on_bit_for_bit(tmp_path: Path, estimator: Estimator) -> None:
    images = blots([0, 1, 2, 1])
    whole, log = steps_of(images, 4, estimator=estimator)
    again, same = steps_of(images, 4, estimator=estimator)
    assert log == same
    assert all(math.isfinite(value) for row in log for value in row.values())
    config = SpriteTraining(steps=4, batch_size=4, warmup_steps=1, cold_steps=2, particles=2)
    state = sprite_state(tiny_config("dair"), 5, CPU)

    class Stop(Exception):
        pass

    def stop(state: TrainState[SpriteModel], _: dict[str, float]) -> None:
        if state.step == 2:
            raise Stop

    with pytest.raises(Stop):
        train(state, iter([images] * 4), SpriteLoss(config, estimator), config, stop)
    save_state(tmp_path / "state.safetensors", state)
    resumed, _ = steps_of(images, 4, estimator=estimator, start=load_sprite_state(tmp_path / "state.safetensors", CPU))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]) and torch.equal(value, again.model.state_dict()[name])


def test_loss_falls_on_images_seen_again_and_again() -> None:
    config = SpriteTraining(steps=60, batch_size=8, learning_rate=3e-3, warmup_steps=1, cold_steps=20)
    state, log = sprite_state(tiny_config("dair"), 0, CPU), []
    train(
        state, iter([blots([0, 1, 2, 1] * 2)] * 60), SpriteLoss(config, "exact"), config, lambda _, row: log.append(row["bound"])
    )
    assert np.mean(log[-5:]) > np.mean(log[:5]) + 15.0


def test_models_come_back_from_disk(tmp_path: Path) -> None:
    model = tiny_sprites("dair", seed=3)
    save_model(tmp_path / MODEL_FILE, model)
    loaded = load_sprites(tmp_path)
    assert loaded.config == model.config and not loaded.training
    images = blots([1, 2])
    torch.testing.assert_close(infer_sprites(loaded, images).where, infer_sprites(model, images).where)


def test_judging_matches_windows_to_truths_and_counts() -> None:
    model = tiny_sprites("air", max_objects=2)
    images = blots([1, 2, 0])
    inference = infer_sprites(model, images)
    truth_where = inference.where[..., 1:].clone()
    truth_where[1, 1] = torch.tensor([5.0, 5.0])  # far off: not found
    present = torch.tensor([[True, False], [True, True], [False, False]])
    truth = FlatTruth(images, torch.tensor([1, 2, 0]), truth_where, present)
    evaluation = judge_sprites(model, [truth], CPU)
    assert evaluation.count_est.tolist() == inference.counts.tolist()
    shown = inference.present[present].tolist()
    found = [bool(np.isfinite(error)) for error in evaluation.centre_error_px]
    assert found == [shown[0], shown[1], False]
    assert all(error == pytest.approx(0.0, abs=1e-4) for error in evaluation.centre_error_px if np.isfinite(error))
    summary = evaluation.summary()
    assert summary["num_eval_images"] == 3 and sum(map(sum, summary["count_confusion"])) == 3
    expected = (inference.reconstructions - images).square().mean().item()
    assert summary["squared_error"] == pytest.approx(expected, rel=1e-5)


def test_more_counts_than_steps_are_judged_wrong_not_refused() -> None:
    truth = FlatTruth(blots([4]), torch.tensor([4]), torch.zeros(1, 4, 2), torch.ones(1, 4, dtype=torch.bool))
    evaluation = judge_sprites(tiny_sprites("dair"), [truth], CPU)
    assert evaluation.summary()["count_accuracy"] == 0.0
    assert evaluation.log_probability[0] == pytest.approx(math.log(1e-30))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SpriteConfig(canvas_px=4), "canvas_px: expected at least 8"),
        (lambda: SpriteConfig(max_objects=0), "max_objects: expected at least 1"),
        (lambda: SpriteConfig(canvas_px=12), "sizes.object_px: expected at most canvas_px, 12"),
        (lambda: SpriteSizes(what=0), "what: expected at least 1"),
        (lambda: SpriteSizes(shift=0.0), "shift: expected a positive number"),
        (lambda: SpriteTraining(count_ratio=0.0), "count_ratio: expected a ratio"),
        (lambda: SpriteTraining(particles=1), "particles: expected at least 2"),
        (lambda: SpriteTraining(cold_steps=-1), "cold_steps: expected at least 0"),
    ],
)
def test_settings_out_of_range_are_refused(build, message: str) -> None:
    with pytest.raises(FieldError, match=message):
        build()


def test_images_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected images \[b 20 20\], received \(2, 24, 24\)"):
        tiny_sprites()(blots([1, 1], size_px=24))


def test_terms_are_of_every_example(tmp_path: Path) -> None:
    terms = sprite_terms(tiny_sprites(), blots([1, 2]), ImageModel(), LOG_P, None)
    assert isinstance(terms, BoundTerms)
    assert {
        f.name: tuple(getattr(terms, f.name).shape) for f in dataclasses.fields(terms) if f.name in ("kl", "log_likelihood")
    } == {
        "kl": (2, 3),
        "log_likelihood": (2, 4),
    }
