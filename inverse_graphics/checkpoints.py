"""Runs on disk: weights and the whole training state as safetensors, written atomically; nothing is pickled.

A run directory holds ``config.yaml`` (what was asked for, resolved), ``model.safetensors`` (weights; sizes in its metadata),
``state.safetensors`` (what training needs to go on), ``history.json``, ``results.json`` and ``report.html``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from inverse_graphics.config import from_mapping, to_mapping
from inverse_graphics.files import load_tensors, save_tensors
from inverse_graphics.guides import GuideConfig, RecurrentGuide
from inverse_graphics.training import TrainState

MODEL_FILE = "model.safetensors"
STATE_FILE = "state.safetensors"
M = TypeVar("M", bound=nn.Module)
C = TypeVar("C")


def save_model(path: str | Path, model: nn.Module) -> None:
    """Write a model's weights and its ``config``."""
    save_tensors(path, model.state_dict(), {"config": json.dumps(to_mapping(model.config))})


def load_model(path: str | Path, config_type: type[C], build: Callable[[C], M]) -> M:
    """Read a model from its file or from a run directory.

    Args:
        path: the file or directory.
        config_type: the dataclass of its ``config``.
        build: makes the model of it, its weights anything.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is damaged, or not such a model's.
    """
    file = Path(path) / MODEL_FILE if Path(path).is_dir() else Path(path)
    tensors, metadata = load_tensors(file)
    if "config" not in metadata:
        raise ValueError(f"load_model: expected a model's weights, received {file} without a config; pass a run directory")
    model = build(from_mapping(config_type, json.loads(metadata["config"]), file))
    _fill(model, tensors, file)
    return model.eval()


def load_guide(path: str | Path, device: torch.device | str = "cpu") -> RecurrentGuide:
    """Read a guide from its file or from a run directory; see ``load_model``."""
    guide = load_model(path, GuideConfig, RecurrentGuide)
    return guide.to(torch.device(device), memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  not in the stubs


def save_state(path: str | Path, state: TrainState[Any]) -> None:
    """Write everything that a run needs to go on bit for bit."""
    tensors: dict[str, Tensor] = {f"model.{name}": value for name, value in state.model.state_dict().items()}
    tensors |= {f"baseline.{name}": value for name, value in state.baseline.state_dict().items()}
    for index, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    tensors["generator"] = state.generator.get_state()
    save_tensors(path, tensors, {"step": str(state.step), "config": json.dumps(to_mapping(state.model.config))})


def load_state(path: str | Path, config_type: type[C], new: Callable[[C], TrainState[M]]) -> TrainState[M]:
    """Read what ``save_state`` wrote.

    Args:
        path: the file.
        config_type: the dataclass of the model's ``config``.
        new: makes a state at step 0 of it, its weights anything.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is damaged, or not the training state of such a model.
    """
    tensors, metadata = load_tensors(path)
    if not {"step", "config"} <= metadata.keys() or "generator" not in tensors:
        raise ValueError(f"load_state: expected a training state, received {path}; resume from a run's own directory")
    state = new(from_mapping(config_type, json.loads(metadata["config"]), path))
    _fill(state.model, _with_prefix(tensors, "model."), path)
    _fill(state.baseline, _with_prefix(tensors, "baseline."), path)
    _fill_moments(state.optimizer, _with_prefix(tensors, "adam."))
    state.generator.set_state(tensors["generator"])
    state.step = int(metadata["step"])
    return state


def _fill(module: nn.Module, tensors: dict[str, Tensor], source: str | Path) -> None:
    """Put weights into a module; ValueError where they are not its own."""
    try:
        module.load_state_dict(tensors)
    except RuntimeError as error:
        raise ValueError(
            f"{source}: expected the weights of a {type(module).__name__}, received others ({error}); "
            "pass the file that training wrote"
        ) from error


def _fill_moments(optimizer: torch.optim.Adam, tensors: dict[str, Tensor]) -> None:
    """Put Adam's moments back, each laid out in memory as its parameter is, which fused Adam takes for granted."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        index, key = name.split(".", 1)
        like = parameters[int(index)]
        laid_out = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
        moments.setdefault(int(index), {})[key] = laid_out
    adam = optimizer.state_dict()
    adam["state"] = moments
    optimizer.load_state_dict(adam)


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
