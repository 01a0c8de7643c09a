"""Questions about pairs of digits: the task's rule against plain enumeration, latents in order, variation, fitting."""

from __future__ import annotations

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from sprite_samples import blots, tiny_sprites
from torch import Tensor, nn

from inverse_graphics.config import FieldError
from inverse_graphics.downstream.fitting import FitConfig, answer_all, fit, fit_best
from inverse_graphics.downstream.latents import pair_latents
from inverse_graphics.downstream.readers import LatentReader, PixelReader
from inverse_graphics.downstream.tasks import TASKS, Task, answer_log_probabilities, answers, in_order, left_first, num_answers
from inverse_graphics.downstream.variation import Variation, varied


def enumerated(task: Task, p: Tensor, q: Tensor) -> list[float]:
    """Probability of each answer, pair by pair."""
    found = [0.0] * num_answers(task)
    for i in range(10):
        for j in range(10):
            found[i + j if task == "sum" else int(i < j)] += float(p[i] * q[j])
    return found


@pytest.mark.parametrize("task", TASKS)
def test_answers_of_two_distributions_are_those_of_all_pairs(task: Task) -> None:
    logits = torch.randn(3, 2, 10, dtype=torch.float64)
    left, right = logits.log_softmax(-1).unbind(1)
    told = answer_log_probabilities(task, left, right).exp()
    expected = torch.tensor([enumerated(task, p.exp(), q.exp()) for p, q in zip(left, right, strict=True)], dtype=torch.float64)
    torch.testing.assert_close(told, expected)
    torch.testing.assert_close(told.sum(-1), torch.ones(3, dtype=torch.float64))


def test_an_answer_that_is_nearly_impossible_keeps_its_gradient() -> None:
    logits = torch.zeros(1, 2, 10)
    logits[..., 0] = 300.0
    logits.requires_grad_()
    left, right = logits.log_softmax(-1).unbind(1)
    told = answer_log_probabilities("sum", left, right)[0, 18]
    (gradient,) = torch.autograd.grad(told, logits)
    assert float(told.detach()) == pytest.approx(-600.0)
    torch.testing.assert_close(gradient[0, :, 9], torch.ones(2))


def test_ascending_is_strict_and_left_is_by_x_then_by_y() -> None:
    left, right = torch.tensor([3, 3, 4]), torch.tensor([4, 3, 3])
    assert answers("ascending", left, right).tolist() == [1, 0, 0]
    assert answers("sum", left, right).tolist() == [7, 6, 7]
    x, y = torch.tensor([[0.1, 0.2], [0.2, 0.1], [0.3, 0.3], [0.3, 0.3]]), torch.tensor([[5.0, 0], [0, 5], [1, 2], [2, 1]])
    first = left_first(x, y)
    assert first.tolist() == [True, False, True, False]
    assert in_order(first, torch.tensor([[1, 2]] * 4)).tolist() == [[1, 2], [2, 1], [1, 2], [2, 1]]


def centre(layer: Tensor) -> tuple[float, float]:
    """x and y of a picture's centre of mass in pixels, pixel by pixel."""
    mass = sum(float(v) for row in layer for v in row)
    x = sum(float(v) * (u + 0.5) for row in layer for u, v in enumerate(row)) / mass
    return x, sum(float(v) * (t + 0.5) for t, row in enumerate(layer) for v in row) / mass


def test_latents_are_the_models_own_with_the_left_sprite_first() -> None:
    model = tiny_sprites("dair").eval()
    images = blots([2] * 12)
    latents = pair_latents(model, images)
    with torch.no_grad():
        posterior = model(images)
    turned = 0
    for row in range(len(images)):
        places = [centre(posterior.layers[row, step]) for step in (0, 1)]
        order = [0, 1] if places[0] <= places[1] else [1, 0]
        turned += order == [1, 0]
        torch.testing.assert_close(latents.what.mean[row], posterior.what.mean[row, order])
        torch.testing.assert_close(latents.what.std[row], posterior.what.std[row, order])
        torch.testing.assert_close(10 * (latents.centres[row] + 1), torch.tensor([places[i] for i in order]), atol=1e-3, rtol=0)
    assert 0 < turned < len(images)
    rows = torch.tensor([4, 1])
    torch.testing.assert_close(latents.draw(rows, None), latents.what.mean[rows])
    drawn = latents.draw(rows.repeat(4000), torch.Generator().manual_seed(0)).unflatten(0, (4000, 2))
    torch.testing.assert_close(drawn.std(0), latents.what.std[rows], rtol=0.05, atol=0)
    assert len(latents.first(5).centres) == 5
    with pytest.raises(ValueError, match="expected at least 2 steps, received max_objects=1"):
        pair_latents(tiny_sprites(max_objects=1), images)


def test_variation_moves_within_its_limits_and_none_changes_nothing() -> None:
    picture = torch.zeros(200, 21, 21)
    picture[:, 10, 10] = 1.0
    generator = torch.Generator().manual_seed(0)
    torch.testing.assert_close(varied(picture, Variation(), generator), picture)
    moved = varied(picture, Variation(shift_px=3.0), generator)
    at = torch.arange(21.0) - 10
    x, y = (moved.sum(1) * at).sum(-1), (moved.sum(2) * at).sum(-1)
    for offset in (x, y):
        assert float(offset.abs().max()) <= 3.001 and float(offset.min()) < -2.5 and float(offset.max()) > 2.5
    bar = torch.zeros(100, 21, 21)
    bar[:, 10, 4:17] = 1.0
    turned = varied(bar, Variation(turn_deg=30.0), generator)
    tilt = torch.atan2((turned * at[:, None] * at).sum((1, 2)), (turned * at**2).sum((1, 2))) * (180 / torch.pi)
    assert 25 < float(tilt.max()) < 31 and -31 < float(tilt.min()) < -25
    upright = bar.transpose(1, 2)
    slanted = varied(upright, Variation(slant=0.3), generator)
    tops = slanted[:, 5].mul(at).sum(-1) / slanted[:, 5].sum(-1)
    assert 1.2 < float(tops.max()) < 1.51 and -1.51 < float(tops.min()) < -1.2  # 5 px up, at most 0.3 of that aside
    torch.testing.assert_close(slanted.sum(2)[:, 5:16], upright.sum(2)[:, 5:16])
    with pytest.raises(FieldError, match="stretch"):
        Variation(stretch=1.0)


def noisy_pairs(count: int) -> tuple[Tensor, Tensor]:
    """Digits [count 2], and a sprite of each: its digit's pattern, with noise."""
    generator = torch.Generator().manual_seed(1)
    digits = torch.randint(10, (count, 2), generator=generator)
    patterns = torch.rand(10, 8, 8, generator=generator)
    return digits, patterns[digits] + 0.1 * torch.randn(count, 2, 8, 8, generator=generator)


def test_digits_are_learned_from_sums_alone_and_the_best_weights_stay() -> None:
    """Sprites say the digit; the reader is told sums only, and names the digits in the end."""
    digits, sprites = noisy_pairs(600)
    config = FitConfig(least_steps=120, most_steps=120, learning_rate=1e-2, hidden=32, dropout=0.1)

    def answer(reader: nn.Module, rows: Tensor, _: torch.Generator | None) -> Tensor:
        return answer_log_probabilities("sum", *reader(sprites[rows]).unbind(1))

    def trained() -> tuple[LatentReader, float]:
        torch.manual_seed(0)
        reader = LatentReader("sum", 8, config.hidden, config.dropout)
        return reader, fit(reader, answer, digits[:400].sum(1), config, seed=0).held_out_loss

    reader, loss = trained()
    held = torch.arange(0, 400, 10)
    told = answer_all(reader, answer, held)
    assert float(F.nll_loss(told, digits[held].sum(1))) == pytest.approx(loss)
    named = reader(sprites[400:]).argmax(-1)
    assert float((named == digits[400:]).float().mean()) > 0.95
    again, loss_again = trained()
    assert loss_again == loss
    torch.testing.assert_close(again.state_dict(), reader.state_dict(), rtol=0, atol=0)


def test_an_order_is_learned_by_ranks_of_which_there_are_more_than_digits() -> None:
    """Told which of two is larger and nothing else; the reader may name digits by any ranks in the right order."""
    digits, sprites = noisy_pairs(900)
    config = FitConfig(least_steps=200, most_steps=200, learning_rate=1e-2, hidden=32, dropout=0.1)
    right = answers("ascending", digits[:, 0], digits[:, 1])

    def answer(reader: nn.Module, rows: Tensor, _: torch.Generator | None) -> Tensor:
        return answer_log_probabilities("ascending", *reader(sprites[rows]).unbind(1))

    torch.manual_seed(0)
    reader = LatentReader("ascending", 8, config.hidden, config.dropout)
    fit(reader, answer, right[:600], config, seed=0)
    told = answer_all(reader, answer, torch.arange(600, 900)).argmax(-1)
    assert float((told == right[600:]).float().mean()) > 0.97
    ranks = reader(sprites).argmax(-1)
    means = torch.stack([ranks[digits == digit].float().mean() for digit in range(10)])
    assert bool((means.diff() >= 0).all()) and len(ranks.unique()) >= 8


def test_averaged_weights_are_judged_and_kept() -> None:
    """Each step keeps a share of the average, little of it at first: nothing is left of the weights it began with."""
    reader = nn.Linear(1, 2, bias=False)
    trained: list[Tensor] = []
    judged: list[Tensor] = []

    def answer(net: nn.Module, rows: Tensor, generator: torch.Generator | None) -> Tensor:
        assert isinstance(net, nn.Linear)
        (judged if generator is None else trained).append(net.weight.detach().clone())
        return F.log_softmax(net.weight[:, 0].expand(len(rows), 2), -1)

    config = FitConfig(least_steps=30, most_steps=30, learning_rate=0.1, weight_decay=0.0)
    done = fit(reader, answer, torch.zeros(20, dtype=torch.int64), config, seed=0)
    average, expected = torch.zeros(2, 1), []
    for step, weight in enumerate(trained[1:], 1):  # what a step leaves is what the next one sees
        kept = step / (step + 9)
        average = kept * average + (1 - kept) * weight
        start = torch.tensor([s / (s + 9) for s in range(1, step + 1)]).prod() * trained[0]
        expected.append(average + start)
    torch.testing.assert_close(torch.stack(judged[:9]), torch.stack(expected[2::3]))  # looked at ten times
    assert done.best_step == 30
    torch.testing.assert_close(reader.weight.detach(), judged[-1])


def test_held_out_labels_are_never_trained_on_and_steps_follow_the_labels() -> None:
    seen: list[Tensor] = []
    reader = PixelReader("ascending", 12, 4, 0.0)
    images = torch.rand(40, 12, 12)

    def answer(net: nn.Module, rows: Tensor, generator: torch.Generator | None) -> Tensor:
        if generator is not None:
            seen.append(rows)
        return net(images[rows])

    done = fit(reader, answer, torch.zeros(40, dtype=torch.int64), FitConfig(least_steps=20, most_steps=90, epochs=16.0), seed=3)
    assert done.steps == 20 and 0 < done.best_step <= 20
    assert set(torch.cat(seen).tolist()) == {row for row in range(40) if row % 10 != 0}
    config = FitConfig(epochs=4.0, batch_size=8, least_steps=10, most_steps=100)
    assert [config.steps(labels) for labels in (10, 40, 1000)] == [10, 20, 100]
    with pytest.raises(ValueError, match="expected at least 10"):
        fit(reader, answer, torch.zeros(9, dtype=torch.int64), config, seed=0)


def test_few_labels_are_fitted_from_several_starts_and_the_held_out_ones_choose() -> None:
    """Readers that say one answer whatever they see, another from each start."""
    targets = torch.tensor([1] * 40)
    built: list[nn.Linear] = []

    def build() -> nn.Module:
        built.append(nn.Linear(1, 2))
        return built[-1]

    def answer(net: nn.Module, rows: Tensor, _: torch.Generator | None) -> Tensor:
        assert isinstance(net, nn.Linear)
        return F.log_softmax(net.bias.expand(len(rows), 2), -1)

    config = FitConfig(least_steps=2, most_steps=100, epochs=1.0, starts=4, learning_rate=1e-9)
    state = torch.get_rng_state()
    reader, done = fit_best(build, answer, targets, config, seed=5)
    assert torch.equal(torch.get_rng_state(), state)
    losses = [float(F.nll_loss(answer(net, torch.arange(40), None), targets).detach()) for net in built]
    assert len(set(losses)) == 4 and losses.index(min(losses)) > 0
    assert reader is built[losses.index(min(losses))] and done.held_out_loss == pytest.approx(min(losses), abs=1e-5)
    built.clear()
    fit_best(build, answer, targets, dataclasses.replace(config, epochs=10.0, batch_size=8), seed=5)
    assert len(built) == 1  # labels enough for more than the least steps
