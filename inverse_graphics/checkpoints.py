"""Runs on disk: weights and the whole training state as safetensors, written atomically; nothing is pickled.

A run directory holds ``config.yaml`` and ``scene.yaml`` (what was asked for, resolved), ``guide.safetensors`` (weights; sizes
in its metadata), ``state.safetensors`` (what training needs to go on), ``history.json``, ``results.json`` and ``report.html``.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor, nn

from inverse_graphics.config import from_mapping, to_mapping
from inverse_graphics.files import load_tensors, save_tensors
from inverse_graphics.guides.recurrent import GuideConfig, RecurrentGuide
from inverse_graphics.training import TrainState, new_state

GUIDE_FILE = "guide.safetensors"
STATE_FILE = "state.safetensors"


def save_guide(path: str | Path, guide: RecurrentGuide) -> None:
    """Write a guide's weights and sizes."""
    save_tensors(path, guide.state_dict(), {"config": json.dumps(to_mapping(guide.config))})


def load_guide(path: str | Path, device: torch.device | str = "cpu") -> RecurrentGuide:
    """Read a guide from its file or from a run directory.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is damaged, or not a guide's.
    """
    file = Path(path) / GUIDE_FILE if Path(path).is_dir() else Path(path)
    tensors, metadata = load_tensors(file)
    if "config" not in metadata:
        raise ValueError(f"load_guide: expected a guide's weights, received {file} without a config; pass a run directory")
    config = from_mapping(GuideConfig, json.loads(metadata["config"]), file)
    guide = RecurrentGuide(config)
    _fill(guide, tensors, file)
    guide = guide.to(torch.device(device), memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  not in the stubs
    return guide.eval()


def save_state(path: str | Path, state: TrainState) -> None:
    """Write everything that a run needs to go on bit for bit."""
    tensors: dict[str, Tensor] = {f"guide.{name}": value for name, value in state.guide.state_dict().items()}
    tensors |= {f"baseline.{name}": value for name, value in state.baseline.state_dict().items()}
    for index, moments in state.optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    tensors["generator"] = state.generator.get_state()
    save_tensors(path, tensors, {"step": str(state.step), "config": json.dumps(to_mapping(state.guide.config))})


def load_state(path: str | Path, device: torch.device) -> TrainState:
    """Read what ``save_state`` wrote.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is damaged, or not a training state.
    """
    tensors, metadata = load_tensors(path)
    if not {"step", "config"} <= metadata.keys() or "generator" not in tensors:
        raise ValueError(f"load_state: expected a training state, received {path}; resume from a run's own directory")
    guide = RecurrentGuide(from_mapping(GuideConfig, json.loads(metadata["config"]), path))
    state = new_state(guide, 0, device)
    _fill(guide, _with_prefix(tensors, "guide."), path)
    _fill(state.baseline, _with_prefix(tensors, "baseline."), path)
    adam = state.optimizer.state_dict()
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in _with_prefix(tensors, "adam.").items():
        index, key = name.split(".", 1)
        moments.setdefault(int(index), {})[key] = value
    adam["state"] = moments
    state.optimizer.load_state_dict(adam)
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


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
