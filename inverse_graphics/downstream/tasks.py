"""What is asked of two digits, and what two distributions over digits say about the answer.

- ``sum``: the sum, 0..18.
- ``ascending``: whether they are strictly ascending, read from left to right (1) or not (0, equal digits included).

Left is the digit whose frame's centre has the smaller x; where both have the same, the upper one counts as left.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Task = Literal["sum", "ascending"]
TASKS: tuple[Task, ...] = get_args(Task)
DIGITS = 10
NUM_NAMES: dict[Task, int] = {"sum": DIGITS, "ascending": 2 * DIGITS}
"""How many names a reader may give to a digit, learned from answers alone.

Sums fix them: they are the digits.  An order is kept by any ranks in the right order; with no more of them than digits there is
one way to give them, which is seldom found: two digits share a rank, and no free one is beside it.  Twice as many leave room."""


def num_answers(task: Task) -> int:
    """How many answers there are."""
    return 2 * DIGITS - 1 if task == "sum" else 2


def answers(task: Task, left: Int[Tensor, "*b"], right: Int[Tensor, "*b"]) -> Int[Tensor, "*b"]:
    """The right answer for two digits."""
    return left + right if task == "sum" else (left < right).long()


def answer_log_probabilities(
    task: Task, log_left: Float[Tensor, "*b d"], log_right: Float[Tensor, "*b d"]
) -> Float[Tensor, "*b answers"]:
    """Log probability of every answer where the names are independent: P(a) = sum over all (i, j) with that answer of p(i) p(j).

    Summed in logarithms, so that an answer that is nearly impossible keeps its gradient.

    Args:
        task: what is asked.
        log_left, log_right: log probabilities of the digits' names, see ``NUM_NAMES``.
    """
    names = torch.arange(log_left.shape[-1], device=log_left.device)
    answer = answers(task, *torch.meshgrid(names, names, indexing="ij")).flatten()
    pairs = (log_left[..., :, None] + log_right[..., None, :]).flatten(-2)
    return torch.stack([pairs[..., answer == a].logsumexp(-1) for a in range(int(answer.max()) + 1)], -1)


def left_first(x: Float[Tensor, "b 2"], y: Float[Tensor, "b 2"]) -> Bool[Tensor, "b"]:
    """Whether the first of two places is the left one (the upper one where neither is)."""
    return (x[:, 0] < x[:, 1]) | ((x[:, 0] == x[:, 1]) & (y[:, 0] <= y[:, 1]))


def in_order(first: Bool[Tensor, "b"], pair: Tensor) -> Tensor:
    """[b 2 ...] pairs, turned round where ``first`` is false."""
    return torch.where(first.reshape(-1, *[1] * (pair.dim() - 1)), pair, pair.flip(1))
