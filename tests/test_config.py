"""Strict configs: what fits is built, everything else is one error that names file, key and remedy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inverse_graphics.config import ConfigError, FieldError, from_mapping, load_dataclass, save_yaml, to_mapping


@dataclass(frozen=True)
class Inner:
    rate: float = 0.5
    pair: tuple[float, int] = (0.5, 2)

    def __post_init__(self) -> None:
        if self.rate < 0:
            raise FieldError("rate", "a number >= 0", self.rate, "use a positive rate")
        if self.pair[1] == 13:
            raise ValueError("pair: not thirteen")


@dataclass(frozen=True)
class Outer:
    name: str
    size: int = 3
    flag: bool = False
    mode: Literal["fast", "slow", 2] = "fast"
    limit: float | None = None
    values: tuple[float, ...] = ()
    inner: Inner = Inner()
    parts: tuple[Inner, ...] = ()


@dataclass(frozen=True)
class Unsupported:
    either: int | str = 3


FULL = Outer("a", 7, True, 2, 0.25, (1.0, 2.5), Inner(2.0, (0.0, 4)), (Inner(), Inner(0.0)))


def test_round_trip_through_a_file(tmp_path: Path) -> None:
    path = tmp_path / "full.yaml"
    save_yaml(path, FULL)
    assert load_dataclass(Outer, path) == FULL
    assert [item.name for item in tmp_path.iterdir()] == ["full.yaml"]


@given(
    st.builds(
        Outer,
        name=st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"])),
        size=st.integers(-(2**40), 2**40),
        flag=st.booleans(),
        mode=st.sampled_from(["fast", "slow", 2]),
        limit=st.none() | st.floats(allow_nan=False, allow_infinity=False),
        values=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=4).map(tuple),
    )
)
def test_mapping_round_trip(value: Outer) -> None:
    assert from_mapping(Outer, to_mapping(value)) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_survive_the_file_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, number: float) -> None:
    path = tmp_path_factory.mktemp("config") / "x.yaml"
    save_yaml(path, Inner(abs(number)))
    assert load_dataclass(Inner, path).rate == abs(number)


def test_integers_become_floats_and_defaults_fill_in() -> None:
    outer = from_mapping(Outer, {"name": "x", "limit": 2, "values": [1, 2.5], "inner": {"rate": 3}})
    assert isinstance(outer.limit, float)
    assert outer.values == (1.0, 2.5)
    assert all(isinstance(value, float) for value in outer.values)
    assert outer.inner == Inner(3.0)


@pytest.mark.parametrize(
    ("text", "key", "parts"),
    [
        ("name: x\nsise: 4", "sise", ["unknown key 'sise'", "did you mean 'size'"]),
        ("size: 4", "name", ["expected a string", "received nothing", "add the key 'name'"]),
        ("name: x\nsize: 4.0", "size", ["an integer", "4.0 (float)"]),
        ("name: x\nsize: true", "size", ["an integer", "True (bool)"]),
        ("name: x\nflag: 1", "flag", ["true or false", "1 (int)"]),
        ("name: 3", "name", ["a string", "3 (int)", "quotes"]),
        ("name: x\nmode: fest", "mode", ["'fast', 'slow', 2", "did you mean 'fast'"]),
        ("name: x\nlimit: 1e-3", "limit", ["a finite number", "'1e-3' (str)", "1.0e-3"]),
        ("name: x\nlimit: .nan", "limit", ["a finite number", "nan (float)"]),
        ("name: x\nvalues: 3", "values", ["a list of values, each a number", "3 (int)"]),
        ("name: x\nvalues: [1, x]", "values[1]", ["a finite number", "'x' (str)"]),
        ("name: x\ninner: {pair: [1.0]}", "inner.pair", ["a list of 2 values", "1 values", "exactly 2"]),
        ("name: x\ninner: {pair: [1.0, 2.5]}", "inner.pair[1]", ["an integer", "2.5 (float)"]),
        ("name: x\ninner: 3", "inner", ["a mapping (Inner)", "3 (int)"]),
        ("name: x\ninner: {rate: -1}", "inner.rate", ["a number >= 0", "-1.0", "use a positive rate"]),
        ("name: x\ninner: {pair: [1, 13]}", "inner", ["values in range", "not thirteen"]),
        ("name: x\nparts: [{}, {rate: -1}]", "parts[1].rate", ["a number >= 0"]),
        ("name: x\nname: y", "", ["valid YAML", "repeated key 'name'"]),
        ("name: [x", "", ["valid YAML", "line"]),
        ("- name", "", ["a mapping of keys to values"]),
        ("name: !!python/object:os.system x", "", ["valid YAML", "python/object"]),
    ],
)
def test_errors_name_file_key_and_remedy(tmp_path: Path, text: str, key: str, parts: list[str]) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_dataclass(Outer, path)
    message = str(caught.value)
    assert caught.value.key == key
    assert message.startswith(f"{path}: {key}: " if key else f"{path}: ")
    for part in parts:
        assert part in message


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere.yaml: expected a readable file"):
        load_dataclass(Outer, tmp_path / "nowhere.yaml")


def test_unsupported_field_types_are_a_mistake_of_the_program() -> None:
    with pytest.raises(TypeError, match="either"):
        from_mapping(Unsupported, {"either": 3})


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "kept.yaml"
    save_yaml(path, FULL)
    before = path.read_bytes()
    value: dict[str, Any] = {"array": np.zeros(3)}
    with pytest.raises(ValueError, match="array: expected numbers"):
        save_yaml(path, value)
    assert path.read_bytes() == before
    assert [item.name for item in tmp_path.iterdir()] == ["kept.yaml"]
