"""Weights and training states on disk: round trips, and files that are damaged or something else."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from guide_scenes import scenes_of_counts, tiny_guide

from inverse_graphics.checkpoints import MODEL_FILE, STATE_FILE, load_guide, save_model, save_state
from inverse_graphics.files import load_tensors, save_tensors
from inverse_graphics.guides import RecurrentGuide
from inverse_graphics.objectives import sleep_terms
from inverse_graphics.scene_training import load_scene_state, scene_state
from inverse_graphics.training import TrainState

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def trained() -> TrainState[RecurrentGuide]:
    """A state whose optimiser and generator have moved."""
    truth, view, image_rgb = scenes_of_counts([2, 1])
    state = scene_state(tiny_guide(), 5, CPU)
    terms = sleep_terms(state.model, image_rgb, view, truth, state.generator)
    (terms.presence + terms.yaw + terms.category).sum().backward()
    state.optimizer.step()
    state.step = 7
    return state


def test_guide_comes_back_from_its_file_and_its_directory(tmp_path: Path) -> None:
    guide = tiny_guide(seed=8, max_objects=3)
    save_model(tmp_path / MODEL_FILE, guide)
    _, view, image_rgb = scenes_of_counts([2, 1])
    expected = guide.eval()(image_rgb, view.camera)
    for path in (tmp_path, tmp_path / MODEL_FILE, str(tmp_path)):
        loaded = load_guide(path)
        assert loaded.config == guide.config and not loaded.training
        posterior = loaded(image_rgb, view.camera)
        torch.testing.assert_close(posterior.xy_m, expected.xy_m)
        torch.testing.assert_close(posterior.presence_logits, expected.presence_logits)
        assert all(torch.equal(value, guide.state_dict()[name]) for name, value in loaded.state_dict().items())


def test_state_comes_back_with_moments_step_and_draws(tmp_path: Path, trained: TrainState[RecurrentGuide]) -> None:
    save_state(tmp_path / STATE_FILE, trained)
    loaded = load_scene_state(tmp_path / STATE_FILE, CPU)
    assert loaded.step == 7
    for name, value in trained.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value)
    for name, value in trained.baseline.state_dict().items():
        assert torch.equal(loaded.baseline.state_dict()[name], value)
    moments, expected = loaded.optimizer.state_dict(), trained.optimizer.state_dict()
    assert moments["state"].keys() == expected["state"].keys() and moments["state"]
    for index, values in expected["state"].items():
        for key, value in values.items():
            assert torch.equal(moments["state"][index][key], value)
    assert [group["ratio"] for group in loaded.optimizer.param_groups] == [1.0, 3.0]
    clone = torch.Generator().set_state(trained.generator.get_state())
    assert torch.equal(torch.rand(9, generator=loaded.generator), torch.rand(9, generator=clone))


@pytest.mark.parametrize("load", [load_guide, lambda path: load_scene_state(path, CPU)])
def test_missing_damaged_and_foreign_files_are_told_apart(tmp_path: Path, trained: TrainState[RecurrentGuide], load) -> None:
    with pytest.raises(FileNotFoundError, match="none.safetensors"):
        load(tmp_path / "none.safetensors")
    save_state(tmp_path / "cut.safetensors", trained)
    content = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"expected a whole safetensors file, received .*cut\.safetensors.*save it anew"):
        load(tmp_path / "cut.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(ValueError, match=r"text\.safetensors"):
        load(tmp_path / "text.safetensors")
    save_tensors(tmp_path / "other.safetensors", {"x": torch.zeros(2)})
    with pytest.raises(ValueError, match=r"received .*other\.safetensors"):
        load(tmp_path / "other.safetensors")


def test_a_state_is_not_a_guide_nor_the_other_way_round(tmp_path: Path, trained: TrainState[RecurrentGuide]) -> None:
    save_state(tmp_path / STATE_FILE, trained)
    with pytest.raises(ValueError, match="expected the weights of a RecurrentGuide"):
        load_guide(tmp_path / STATE_FILE)
    save_model(tmp_path / MODEL_FILE, trained.model)
    with pytest.raises(ValueError, match="expected a training state"):
        load_scene_state(tmp_path / MODEL_FILE, CPU)


def test_weights_that_do_not_fit_their_config_are_refused(tmp_path: Path) -> None:
    save_model(tmp_path / MODEL_FILE, tiny_guide())
    tensors, metadata = load_tensors(tmp_path / MODEL_FILE)
    save_tensors(tmp_path / MODEL_FILE, tensors, {"config": metadata["config"].replace('"hidden": 12', '"hidden": 16')})
    with pytest.raises(ValueError, match="rnn.weight_hh"):
        load_guide(tmp_path)
    save_tensors(tmp_path / MODEL_FILE, tensors, {"config": metadata["config"].replace('"hidden"', '"hiden"')})
    with pytest.raises(ValueError, match="hiden"):
        load_guide(tmp_path)
