"""Reading and writing files so that a crash never leaves half of one: text, JSON, bytes and tensors."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.torch
from torch import Tensor


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file atomically: readers see the old content or the new, never a part.

    The content goes to a hidden neighbour first, is flushed to the disk and then renamed over the target.  Missing parent folders
    are created; a symbolic link keeps pointing to the same file.
    """
    target = Path(path).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{uuid.uuid4().hex}.partial")
    try:
        with open(partial, "xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as indented JSON, atomically.

    Args:
        path: the file.
        value: None, bools, numbers, strings, paths, tensors, numpy arrays and scalars, dataclasses, and lists, tuples and
            mappings with string keys of these.

    Raises:
        ValueError: if something in it has no JSON form, NaN and infinity included; the message says where.
    """
    write_text(path, json.dumps(to_jsonable(value), indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is not JSON; the message names file, line and column.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"read_json: expected JSON in {path}, received what fails with '{error}'; write the file anew."
        ) from error


def to_jsonable(value: Any, where: str = "value") -> Any:
    """The value in JSON's own types; ValueError with the place (``where``, then fields, keys and indices) where impossible."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_jsonable(getattr(value, field.name), f"{where}.{field.name}") for field in dataclasses.fields(value)
        }
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        wrong = [key for key in value if not isinstance(key, str)]
        if wrong:
            raise ValueError(f"to_jsonable: expected string keys in {where}, received {wrong[0]!r}; convert the keys with str().")
        return {key: to_jsonable(item, f"{where}[{key!r}]") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_jsonable(item, f"{where}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(
            f"to_jsonable: expected finite numbers, received {value} at {where}; write None where a value is missing."
        )
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise ValueError(
        f"to_jsonable: expected a value with a JSON form at {where}, received {type(value).__name__}; convert it first."
    )


def save_tensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write named tensors as safetensors, atomically.

    Args:
        path: the file.
        tensors: written from the CPU, contiguous; tensors that share memory are written each in full.
        metadata: strings to keep beside them.

    Raises:
        ValueError: if something is not a tensor, or metadata is not made of strings.
    """
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise ValueError(
                f"save_tensors: expected a tensor as {name!r}, received {type(tensor).__name__}; wrap it in a tensor."
            )
    for key, text in (metadata or {}).items():
        if not isinstance(key, str) or not isinstance(text, str):
            raise ValueError(f"save_tensors: expected strings in metadata, received {key!r}: {text!r}; encode the value as JSON.")
    copies = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    write_bytes(path, safetensors.torch.save(copies, dict(metadata) if metadata else None))


def load_tensors(path: str | Path, device: str = "cpu") -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata of a safetensors file.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if the file is damaged or something else.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"load_tensors: expected a safetensors file, found none at {path}; check the path.")
    try:
        with safetensors.safe_open(str(path), framework="pt", device=device) as stream:
            return {name: stream.get_tensor(name) for name in stream.keys()}, dict(stream.metadata() or {})
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"load_tensors: expected a whole safetensors file, received {path} that fails with '{error}'; copy or save it anew."
        ) from error
