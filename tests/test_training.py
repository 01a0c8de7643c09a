"""The training loop: schedules, what each objective trains and logs, and runs that repeat and resume bit for bit."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from guide_scenes import PRIOR, scenes_of_counts, table_renderer, tiny_guide

from inverse_graphics.checkpoints import save_state
from inverse_graphics.config import FieldError
from inverse_graphics.estimators import Estimator, Weights
from inverse_graphics.guides import RecurrentGuide
from inverse_graphics.protocols import Renderer
from inverse_graphics.scene_training import (
    BoundSchedule,
    Example,
    Objective,
    SceneLoss,
    TrainingConfig,
    anneal,
    load_scene_state,
    scene_state,
    with_step,
)
from inverse_graphics.training import TrainState, learning_rate_at, train

CONFIG = TrainingConfig(steps=4, batch_size=3, learning_rate=1e-3, warmup_steps=1, bound_from=0.5)
SLEEP_NAMES = {"sleep presence", "sleep attention", "sleep position", "sleep category", "sleep yaw"}
BOUND_NAMES = {
    "bound",
    "bound log likelihood",
    "bound KL count",
    "bound KL latents",
    "bound expected count",
    "bound sigma",
    "bound cold share",
}
ALWAYS_NAMES = {"loss", "gradient norm", "learning rate", "waiting s"}


class Stop(Exception):
    """Ends a run from its callback."""


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    """One batch a step of CONFIG."""
    batches = []
    for seed in range(CONFIG.steps):
        truth, view, image_rgb = scenes_of_counts([seed % 3, 1, 2], seed=seed)
        batches.append(Example(image_rgb, view, truth))
    return batches


def run(
    state: TrainState[RecurrentGuide],
    examples: Iterator[Example],
    objective: Objective,
    estimator: Estimator = "exact",
    config: TrainingConfig = CONFIG,
    stop_after: int | None = None,
) -> list[dict[str, float]]:
    """Train; what was logged, step by step."""
    log: list[dict[str, float]] = []

    def on_step(state: TrainState[RecurrentGuide], scalars: dict[str, float]) -> None:
        log.append(scalars)
        if state.step == stop_after:
            raise Stop

    try:
        train(state, examples, SceneLoss(table_renderer(), PRIOR, config, objective, estimator), config, on_step)
    except Stop:
        pass
    return log


def weights_of(state: TrainState[RecurrentGuide]) -> dict[str, torch.Tensor]:
    named = {f"guide.{k}": v for k, v in state.model.state_dict().items()}
    named |= {f"baseline.{k}": v for k, v in state.baseline.state_dict().items()}
    return {name: value.clone() for name, value in named.items()}


def fresh(seed: int = 3) -> TrainState[RecurrentGuide]:
    return scene_state(tiny_guide(), seed, torch.device("cpu"))


def timeless(log: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in scalars.items() if k != "waiting s"} for scalars in log]


def test_learning_rate_warms_up_stays_and_falls_to_zero() -> None:
    config = TrainingConfig(steps=1000, learning_rate=2e-3, warmup_steps=100, constant_share=0.4)
    rates = [learning_rate_at(config, step) for step in range(1, 1001)]
    assert rates[0] == pytest.approx(2e-5) and rates[49] == pytest.approx(1e-3)
    assert rates[99:401] == pytest.approx([2e-3] * 302)
    assert all(a > b for a, b in zip(rates[401:], rates[402:], strict=False))
    assert rates[700] == pytest.approx(1e-3) and 0 < rates[-1] < 1e-7
    assert all(rate > 0 for rate in (learning_rate_at(dataclasses.replace(config, constant_share=1.0), s) for s in (1, 1000)))


def test_annealing_starts_cold_and_ends_at_the_targets_left() -> None:
    schedule = BoundSchedule(
        sigma_start=0.8,
        sigma_end=0.2,
        anneal_share=0.5,
        cold_share=0.25,
        target_share_end=0.3,
        explore=0.6,
        coarse=2.0,
        scale=0.1,
    )
    start, end = anneal(schedule, 0.0), anneal(schedule, 1.0)
    assert (start.sigma, start.explore, start.step_px) == pytest.approx((0.8, 0.6, 3.0))
    assert start.weights == Weights(1.0, 1.0, 2.0, 0.1, schedule.temperature)
    assert (end.sigma, end.explore, end.step_px) == pytest.approx((0.2, 0.0, 1.0))
    assert end.weights == Weights(0.0, 0.3, 0.0, 0.1, schedule.temperature)
    halfway = anneal(schedule, 0.25)
    assert halfway.sigma == pytest.approx(0.4) and halfway.step_px == pytest.approx(math.sqrt(3))
    assert halfway.weights.cold_share == 0.0 and halfway.weights.coarse == pytest.approx(1.0)
    assert anneal(schedule, 0.125).weights.target_share == pytest.approx(0.5)
    assert anneal(dataclasses.replace(schedule, target_share_end=0.0), 1.0).weights.target_share == 0.0


def test_finite_difference_step_goes_to_renderers_that_take_one() -> None:
    renderer = table_renderer()
    other = with_step(renderer, 2.5)
    assert getattr(other, "step_px") == 2.5 and renderer.step_px == 1.0  # noqa: B009

    class Plain:
        name, catalogue, is_differentiable, samples_per_axis = "plain", renderer.catalogue, True, 1
        layers, render = renderer.layers, renderer.render

    plain = Plain()
    assert isinstance(plain, Renderer) and with_step(plain, 2.5) is plain


@pytest.mark.parametrize(
    ("objective", "estimator"),
    [
        ("sleep", "exact"),
        ("bound", "exact"),
        ("bound", "nvil"),
        ("bound", "vimco"),
        ("sleep+bound", "exact"),
        ("sleep+bound", "nvil"),
    ],
)
def test_steps_change_the_weights_and_log_every_term(examples: list[Example], objective: Objective, estimator: Estimator) -> None:
    state = fresh()
    before = weights_of(state)
    log = run(state, iter(examples), objective, estimator)
    assert state.step == CONFIG.steps == len(log)
    for step, scalars in enumerate(log):
        expected = set(ALWAYS_NAMES)
        expected |= SLEEP_NAMES if objective != "bound" else set()
        expected |= BOUND_NAMES if objective == "bound" or (objective == "sleep+bound" and step >= 2) else set()
        assert set(scalars) == expected
        assert all(math.isfinite(value) for value in scalars.values())
    changed = {name for name, value in weights_of(state).items() if not torch.equal(value, before[name])}
    for part in ("guide.class_head", "guide.offset_head", "guide.yaw_head", "guide.step", "guide.encoder", "guide.glimpse"):
        assert any(name.startswith(part) for name in changed), part
    assert any(name.startswith("baseline") for name in changed) == (estimator == "nvil" and objective != "sleep")


def test_loss_falls_on_a_batch_seen_again_and_again(examples: list[Example]) -> None:
    config = dataclasses.replace(CONFIG, steps=12, learning_rate=1e-2)
    log = run(fresh(), iter([examples[2]] * 12), "sleep", config=config)
    assert log[-1]["loss"] < log[0]["loss"] - 1.0


@pytest.mark.parametrize("estimator", ["exact", "nvil", "vimco"])
def test_a_seed_repeats_a_run_bit_for_bit(examples: list[Example], estimator: Estimator) -> None:
    states = [fresh(), fresh(), fresh(seed=4)]
    logs = [timeless(run(state, iter(examples), "bound", estimator, stop_after=2)) for state in states]
    assert logs[0] == logs[1] != logs[2]
    first, second, other = (weights_of(state) for state in states)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize("estimator", ["exact", "nvil"])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(
    examples: list[Example], tmp_path: Path, estimator: Estimator
) -> None:
    whole = fresh()
    log = timeless(run(whole, iter(examples), "sleep+bound", estimator))
    broken = fresh()
    start = timeless(run(broken, iter(examples), "sleep+bound", estimator, stop_after=3))
    save_state(tmp_path / "state.safetensors", broken)
    resumed = load_scene_state(tmp_path / "state.safetensors", torch.device("cpu"))
    assert resumed.step == 3
    rest = timeless(run(resumed, iter(examples[3:]), "sleep+bound", estimator))
    assert start + rest == log
    expected = weights_of(whole)
    assert all(torch.equal(value, expected[name]) for name, value in weights_of(resumed).items())
    assert torch.equal(resumed.generator.get_state(), whole.generator.get_state())


def test_a_loss_that_is_not_finite_raises_and_changes_nothing(examples: list[Example]) -> None:
    state = fresh()
    run(state, iter(examples), "sleep", stop_after=2)
    before, moments = weights_of(state), state.optimizer.state_dict()["state"][0]["exp_avg"].clone()
    image_rgb = examples[0].image_rgb.clone()
    image_rgb[0, 0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match="the loss is nan at step 3.*lower the learning rate"):
        run(state, iter([dataclasses.replace(examples[0], image_rgb=image_rgb)]), "sleep")
    assert state.step == 2
    assert all(torch.equal(value, before[name]) for name, value in weights_of(state).items())
    assert torch.equal(state.optimizer.state_dict()["state"][0]["exp_avg"], moments)


def test_a_gradient_that_is_not_finite_raises_and_changes_nothing(examples: list[Example]) -> None:
    state = fresh()
    before = weights_of(state)
    handle = state.model.class_head.weight.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(FloatingPointError, match="the gradient is (nan|inf) at step 1.*lower the learning rate"):
        run(state, iter(examples), "sleep", stop_after=1)
    handle.remove()
    assert state.step == 0
    assert all(torch.equal(value, before[name]) for name, value in weights_of(state).items())


@pytest.mark.parametrize(
    ("cls", "field", "value"),
    [
        (TrainingConfig, "steps", 0),
        (TrainingConfig, "learning_rate", -1e-3),
        (TrainingConfig, "learning_rate", math.nan),
        (TrainingConfig, "bound_from", 1.5),
        (TrainingConfig, "constant_share", -0.1),
        (TrainingConfig, "particles", 1),
        (BoundSchedule, "sigma_end", 0.0),
        (BoundSchedule, "anneal_share", 0.0),
        (BoundSchedule, "blur_px", (4, 6)),
    ],
)
def test_settings_out_of_range_are_refused(cls: type[TrainingConfig] | type[BoundSchedule], field: str, value: object) -> None:
    with pytest.raises(FieldError, match=f"{field}: expected .* received"):
        cls(**{field: value})  # type: ignore[arg-type]
