"""Each failure signature fires on what it is made for, and none on a healthy run."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from inverse_graphics.diagnosis import Observation, diagnose, observe
from inverse_graphics.inference import Inference
from inverse_graphics.types import Objects, RenderOutput

NAMES = ("box", "ball", "wedge")
HEALTHY = Observation(
    mean_count=1.6, max_count=3, prior_mean_count=1.5, unused_share=0.01, doubled_share=0.0, class_shares=(0.4, 0.3, 0.3)
)


def test_a_healthy_run_gives_no_warning() -> None:
    assert diagnose(HEALTHY, NAMES) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mean_count": 0.02, "class_shares": (0.5, 0.2, 0.3)}, "The count has collapsed to 0: 0.02 objects"),
        ({"mean_count": 2.99}, "All steps are always used: 2.99 objects a scene of at most 3, the prior says 1.50"),
        ({"unused_share": 0.3}, "30.0% of the inferred objects draw nothing"),
        ({"doubled_share": 0.05}, "In 5.0% of the scenes two inferred objects stand within 2 cm"),
        ({"class_shares": (0.6, 0.0, 0.4)}, "Never inferred: ball."),
    ],
)
def test_each_signature_fires_alone(change: dict[str, object], said: str) -> None:
    warnings = diagnose(dataclasses.replace(HEALTHY, **change), NAMES)  # type: ignore[arg-type]
    assert len(warnings) == 1 and warnings[0].startswith(said)


def test_what_is_right_is_not_called_wrong() -> None:
    always_full = dataclasses.replace(HEALTHY, mean_count=3.0, prior_mean_count=3.0)
    assert diagnose(always_full, NAMES) == []
    no_objects_expected = dataclasses.replace(HEALTHY, mean_count=0.0, prior_mean_count=0.0, class_shares=(0.0, 0.0, 0.0))
    assert diagnose(no_objects_expected, NAMES) == []


def inferred(present: list[list[bool]], x_m: list[list[float]], ids: list[list[int]]) -> Inference:
    shape = torch.tensor(ids).shape
    T = torch.eye(4).repeat(*shape, 1, 1)
    T[..., 0, 3] = torch.tensor(x_m)
    return Inference(
        objects=Objects(torch.tensor(ids), T, torch.tensor(present)),
        count_probabilities=torch.zeros(shape[0], shape[1] + 1),
        class_probabilities=torch.zeros(*shape, 3),
        position_std_m=torch.zeros(*shape, 2),
    )


def drawn(visible_fraction: list[list[float]]) -> RenderOutput:
    scenes = len(visible_fraction)
    empty = torch.zeros(scenes, 1, 1)
    return RenderOutput(torch.zeros(scenes, 1, 1, 3), empty, empty.long(), torch.tensor(visible_fraction))


def test_observe_counts_present_objects_only() -> None:
    inference = inferred(
        present=[[True, True, False], [True, True, True], [True, False, False], [False, False, False]],
        x_m=[[0.0, 0.5, 0.0], [0.0, 0.1, 0.11], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]],
        ids=[[0, 0, 2], [0, 1, 0], [1, 2, 2], [2, 2, 2]],
    )
    visible = drawn([[1.0, 0.0, 0.0], [0.5, 1.0, 0.2], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    seen = observe(inference, visible, 1.5)
    assert seen.mean_count == 1.5 and seen.max_count == 3 and seen.prior_mean_count == 1.5
    assert seen.unused_share == pytest.approx(1 / 6)
    assert seen.doubled_share == pytest.approx(1 / 4)
    assert seen.class_shares == pytest.approx((4 / 6, 2 / 6, 0.0))


def test_observe_of_empty_scenes_is_finite() -> None:
    seen = observe(inferred([[False, False]], [[0.0, 0.0]], [[0, 0]]), drawn([[0.0, 0.0]]), 1.0)
    assert seen.mean_count == 0.0 and seen.unused_share == 0.0 and seen.doubled_share == 0.0
    assert [warning[:9] for warning in diagnose(seen, NAMES)] == ["The count"]
