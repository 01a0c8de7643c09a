"""Strict YAML to nested frozen dataclasses, and back.

A config file is checked against the dataclass that reads it: an unknown key, a missing key, a wrong type or a value that a
dataclass's ``__post_init__`` refuses all raise one ``ConfigError`` naming the file, the dotted key, what was expected, what
was received and how to mend it.  Supported field types: ``int``, ``float`` (an integer is accepted), ``bool``, ``str``,
``Literal``, ``X | None``, ``tuple[X, ...]``, fixed tuples such as ``tuple[float, float]``, and dataclasses of these.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml

from inverse_graphics.files import write_text

T = TypeVar("T")


class FieldError(ValueError):
    """A dataclass field with a value out of range; raise it in ``__post_init__`` so that config errors can name the key."""

    def __init__(self, name: str, expected: str, received: object, remedy: str) -> None:
        """Keep the four parts.

        Args:
            name: the field (may be dotted or indexed, for example ``range_m[1]``).
            expected: what would have been right.
            received: the refused value.
            remedy: what to do about it.
        """
        super().__init__(f"{name}: expected {expected}, received {_show(received)}; {remedy}")
        self.name, self.expected, self.received, self.remedy = name, expected, received, remedy


class ConfigError(ValueError):
    """A config file that cannot be used: where, what was expected, what was received, and the remedy."""

    def __init__(self, source: str | Path, key: str, expected: str, received: str, remedy: str) -> None:
        """Keep the parts.

        Args:
            source: the file (or other origin) of the mapping.
            key: dotted key; empty for the whole file.
            expected: what would have been right.
            received: what was found, as text.
            remedy: what to do about it.
        """
        where = f"{source}: {key}" if key else f"{source}"
        super().__init__(f"{where}: expected {expected}, received {received}; {remedy}")
        self.source, self.key = str(source), key
        self.expected, self.received, self.remedy = expected, received, remedy


def load_dataclass(cls: type[T], path: str | Path) -> T:
    """Read a YAML file into a (nested, frozen) dataclass.

    Args:
        cls: the dataclass.
        path: YAML file holding one mapping.

    Raises:
        ConfigError: the file is missing, is not YAML, repeats a key, or does not fit the dataclass.
    """
    return from_mapping(cls, load_yaml(path), path)


def load_yaml(path: str | Path) -> dict[str, Any]:
    """Read a YAML file that holds one mapping; no python objects are built, and repeated keys are refused.

    Raises:
        ConfigError: the file is missing, is not YAML, repeats a key, or is not a mapping.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(path, "", "a readable file", error.strerror or type(error).__name__, "check the path") from error
    except UnicodeDecodeError as error:
        raise ConfigError(path, "", "UTF-8 text", str(error), "save the file as UTF-8") from error
    try:
        mapping = yaml.load(text, Loader=_StrictLoader)
    except yaml.YAMLError as error:
        raise ConfigError(path, "", "valid YAML", " ".join(str(error).split()), "mend the syntax there") from error
    if not isinstance(mapping, dict):
        raise ConfigError(path, "", "a mapping of keys to values", _show(mapping), "write `key: value` lines")
    return mapping


def from_mapping(cls: type[T], mapping: Mapping[str, Any], source: str | Path = "<mapping>") -> T:
    """Build a (nested, frozen) dataclass from plain values, as they come from YAML.

    Args:
        cls: the dataclass.
        mapping: keys are field names; lists become tuples, mappings nested dataclasses.
        source: what errors call the mapping's origin, usually its file.

    Raises:
        ConfigError: unknown key, missing key, wrong type, or a value the dataclass refuses.
        TypeError: a field of the dataclass has a type outside the supported ones.
    """
    return _build(cls, mapping, source, "")


def to_mapping(obj: Any) -> dict[str, Any]:
    """Plain values (dicts, lists, numbers, strings, None) of a dataclass: the inverse of ``from_mapping``."""
    if not dataclasses.is_dataclass(obj) or isinstance(obj, type):
        raise ValueError(f"obj: expected a dataclass instance, received {_show(obj)}; pass the config object itself")
    return {field.name: _plain(getattr(obj, field.name), field.name) for field in dataclasses.fields(obj)}


def save_yaml(path: str | Path, obj: Any) -> None:
    """Write a dataclass (or a mapping of plain values) as YAML; the file appears whole or not at all.

    Args:
        path: the file; missing folders are made, an existing file is replaced.
        obj: a dataclass instance or a mapping.
    """
    mapping = dict(obj) if isinstance(obj, Mapping) else to_mapping(obj)
    write_text(path, yaml.safe_dump(_plain(mapping, ""), sort_keys=False, allow_unicode=True, width=120))


class _StrictLoader(yaml.SafeLoader):
    """A SafeLoader that refuses repeated keys, which YAML libraries otherwise resolve in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.value != "<<":
                if key_node.value in seen:
                    raise yaml.constructor.ConstructorError(None, None, f"repeated key {key_node.value!r}", key_node.start_mark)
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def _build(cls: type[T], value: Any, source: str | Path, key: str) -> T:
    """One dataclass; ``key`` is its own dotted key."""
    if not isinstance(value, Mapping):
        raise ConfigError(source, key, f"a mapping ({cls.__name__})", _describe(value), "write `key: value` lines below it")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    for name in value:
        if name not in fields:
            raise _unknown_key(source, _join(key, str(name)), str(name), list(fields))
    for name, field in fields.items():
        if name not in value and field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(source, _join(key, name), _type_name(hints[name]), "nothing", f"add the key {name!r}")
    arguments = {str(name): _convert(hints[name], item, source, _join(key, name)) for name, item in value.items()}
    try:
        return cls(**arguments)
    except ConfigError:
        raise
    except FieldError as error:
        where = _join(key, error.name)
        raise ConfigError(source, where, error.expected, _show(error.received), error.remedy) from error
    except ValueError as error:
        raise ConfigError(source, key, "values in range", str(error), f"see {cls.__name__}") from error


def _unknown_key(source: str | Path, key: str, name: str, known: list[str]) -> ConfigError:
    """The error for a key that the dataclass has not got, with the closest one it has."""
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    remedy = f"did you mean {close[0]!r}?" if close else "remove it"
    return ConfigError(source, key, "one of " + ", ".join(known), f"the unknown key {name!r}", remedy)


def _convert(hint: Any, value: Any, source: str | Path, key: str) -> Any:
    """A plain value as the annotated type."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return _convert_optional(hint, value, source, key)
    if origin is typing.Literal:
        return _convert_literal(hint, value, source, key)
    if origin is tuple:
        return _convert_tuple(hint, value, source, key)
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return _build(hint, value, source, key)
    if hint in _SCALARS:
        return _SCALARS[hint](value, source, key)
    raise TypeError(f"{key}: config fields cannot have the type {hint!r}")


def _convert_optional(hint: Any, value: Any, source: str | Path, key: str) -> Any:
    inner = [option for option in typing.get_args(hint) if option is not types.NoneType]
    if len(inner) != 1:
        raise TypeError(f"{key}: config fields cannot have the union type {hint!r}; only `X | None`")
    return None if value is None else _convert(inner[0], value, source, key)


def _convert_literal(hint: Any, value: Any, source: str | Path, key: str) -> Any:
    options = typing.get_args(hint)
    for option in options:
        if type(option) is type(value) and option == value:
            return option
    close = difflib.get_close_matches(str(value), [str(option) for option in options], n=1, cutoff=0.5)
    remedy = f"did you mean {close[0]!r}?" if close else "choose one of those"
    raise ConfigError(source, key, _type_name(hint), _describe(value), remedy)


def _convert_tuple(hint: Any, value: Any, source: str | Path, key: str) -> tuple[Any, ...]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise ConfigError(source, key, _type_name(hint), _describe(value), "write a list in brackets, [a, b]")
    inner = typing.get_args(hint)
    if len(inner) == 2 and inner[1] is Ellipsis:
        inner = (inner[0],) * len(value)
    if len(inner) != len(value):
        raise ConfigError(source, key, _type_name(hint), f"{len(value)} values", f"write exactly {len(inner)} values")
    pairs = zip(inner, value, strict=True)
    return tuple(_convert(kind, item, source, f"{key}[{index}]") for index, (kind, item) in enumerate(pairs))


def _as_int(value: Any, source: str | Path, key: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(source, key, "an integer", _describe(value), "write a whole number without a decimal point")
    return value


def _as_float(value: Any, source: str | Path, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        looks_numeric = isinstance(value, str) and value.strip().lower().replace(".", "").lstrip("+-")[:1].isdigit()
        remedy = "YAML wants a point and a signed exponent, as in 1.0e-3" if looks_numeric else "write a number, as in 0.5"
        raise ConfigError(source, key, "a finite number", _describe(value), remedy)
    return float(value)


def _as_bool(value: Any, source: str | Path, key: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(source, key, "true or false", _describe(value), "write true or false without quotes")
    return value


def _as_str(value: Any, source: str | Path, key: str) -> str:
    if not isinstance(value, str):
        raise ConfigError(source, key, "a string", _describe(value), "put it in quotes")
    return value


_SCALARS: dict[Any, Callable[[Any, str | Path, str], Any]] = {int: _as_int, float: _as_float, bool: _as_bool, str: _as_str}


def _plain(value: Any, key: str) -> Any:
    """YAML's types only; anything else is refused rather than written as text."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name), _join(key, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): _plain(item, _join(key, str(name))) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{key}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, float):
        return float(value)
    if value is None or isinstance(value, bool | int | str):
        return value
    raise ValueError(f"{key}: expected numbers, strings, tuples, mappings, dataclasses, received {_describe(value)}; convert it")


def _join(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _describe(value: Any) -> str:
    return f"{_show(value)} ({type(value).__name__})"


def _show(value: Any, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _type_name(hint: Any) -> str:
    """What an error message calls a type."""
    names = {int: "an integer", float: "a number", bool: "true or false", str: "a string", types.NoneType: "null"}
    if hint in names:
        return names[hint]
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type_name(option) for option in inner)
    if origin is typing.Literal:
        return "one of " + ", ".join(repr(option) for option in inner)
    if origin is tuple and len(inner) == 2 and inner[1] is Ellipsis:
        return f"a list of values, each {_type_name(inner[0])}"
    if origin is tuple:
        return f"a list of {len(inner)} values, each {_type_name(inner[0])}"
    return f"a mapping ({getattr(hint, '__name__', hint)})"
