"""Atomic writes, JSON and tensors."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from inverse_graphics.files import load_tensors, read_json, save_tensors, write_bytes, write_json, write_text


@dataclass(frozen=True)
class Config:
    path: Path
    sizes: tuple[int, ...]


def test_text_and_bytes_replace_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    write_text(path, "Größe ✓\n")
    write_text(path, "second")
    assert path.read_text(encoding="utf-8") == "second"
    write_bytes(str(path), b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert os.listdir(path.parent) == ["a.txt"]


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_json(path, {"old": 1})

    def fail(source: str, target: str) -> None:
        raise OSError("disk is gone")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk is gone"):
        write_json(path, {"new": 2})
    assert read_json(path) == {"old": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_links_keep_pointing(tmp_path: Path) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    write_text(tmp_path / "atomic", "x")
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_json_of_what_runs_hold(tmp_path: Path) -> None:
    value = {
        "config": Config(Path("a/b"), (64, 48)),
        "array": np.eye(2, dtype=np.float32),
        "scalar": np.float32(0.5),
        "flag": np.bool_(True),
        "tensor": torch.arange(3, requires_grad=False),
        "none": None,
        "nested": [{"x": 1.5}],
    }
    write_json(tmp_path / "v.json", value)
    assert json.loads((tmp_path / "v.json").read_text()) == {
        "config": {"path": "a/b", "sizes": [64, 48]},
        "array": [[1.0, 0.0], [0.0, 1.0]],
        "scalar": 0.5,
        "flag": True,
        "tensor": [0, 1, 2],
        "none": None,
        "nested": [{"x": 1.5}],
    }


def test_json_refuses_what_it_cannot_hold_and_says_where(tmp_path: Path) -> None:
    path = tmp_path / "v.json"
    with pytest.raises(ValueError, match=r"received nan at value\['a'\]\[1\]"):
        write_json(path, {"a": np.array([1.0, np.nan])})
    with pytest.raises(ValueError, match=r"at value\['f'\], received function"):
        write_json(path, {"f": test_links_keep_pointing})
    with pytest.raises(ValueError, match="string keys in value, received 3"):
        write_json(path, {3: "x"})
    assert not path.exists()


def test_reading_what_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text('{"a": ')
    with pytest.raises(ValueError, match=r"bad\.json.*line 1 column 7"):
        read_json(tmp_path / "bad.json")
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "absent.json")


def test_tensors_come_back_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    base = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), requires_grad=True)
    tensors = {"a": base, "shared": base[1:], "turned": base.T, "ids": torch.arange(3), "half": base.half(), "one": base[0, 0]}
    save_tensors(path, tensors, {"config": "{}"})
    loaded, metadata = load_tensors(path)
    assert metadata == {"config": "{}"}
    assert set(loaded) == set(tensors)
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)
        assert torch.equal(load_file(path)[name], tensor)
    save_tensors(path, {})
    assert load_tensors(path) == ({}, {})


def test_tensor_errors_name_the_file_or_the_entry(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    with pytest.raises(FileNotFoundError, match=r"found none at .*weights"):
        load_tensors(path)
    save_tensors(path, {"a": torch.zeros(100)})
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ValueError, match="whole safetensors file"):
        load_tensors(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="copy or save it anew"):
        load_tensors(path)
