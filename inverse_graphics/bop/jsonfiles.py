"""BOP's JSON files: read with the place of every fault, written one entry a line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from inverse_graphics.bop.findings import Findings


class _RepeatedKeyError(ValueError):
    """A key stands twice in one JSON object."""


def read_entries(path: Path, found: Findings) -> Any:
    """The content of a JSON file, None where it cannot be read; a key that stands twice is an error.

    Args:
        path: the file.
        found: findings are added to it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_unrepeated)
    except FileNotFoundError:
        found.error("missing", path, "", "expected a file, there is none", "check the path, or write the file")
    except _RepeatedKeyError as error:
        found.error("duplicate", path, f'"{error}"', "expected each key once, received it twice", "merge or remove the entries")
    except json.JSONDecodeError as error:
        found.error("json", path, f"line {error.lineno}", f"expected JSON, received '{error.msg}'", "write the file anew")
    except (UnicodeDecodeError, OSError) as error:
        found.error("json", path, "", f"expected UTF-8 text, received '{error}'", "write the file anew")
    return None


def read_numbered(path: Path, found: Findings) -> dict[int, Any] | None:
    """An object whose keys are numbers of images or objects, in their order; None where it cannot be read."""
    content = read_entries(path, found)
    if content is None:
        return None
    if not isinstance(content, dict):
        found.error("key", path, "", f"expected an object, received {type(content).__name__}", 'write {"0": ...}')
        return None
    numbered: dict[int, Any] = {}
    for key, value in content.items():
        if not key.isascii() or not key.isdigit():
            found.error("key", path, f'"{key}"', "expected a number of digits as key, received another text", "correct the key")
        elif int(key) in numbered:
            found.error("duplicate", path, f'"{key}"', f"expected {int(key)} once, received it twice", "remove one of them")
        else:
            numbered[int(key)] = value
    return dict(sorted(numbered.items()))


def take_numbers(entry: Any, key: str, count: int, path: Path, where: str, found: Findings) -> list[float] | None:
    """A key's list of so many finite numbers; None, and a finding, where it is something else.

    Args:
        entry: an object of the file.
        key: its key.
        count: how many numbers.
        path: the file.
        where: place of the entry in it.
        found: findings are added to it.
    """
    value = _take(entry, key, path, where, found)
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != count or not all(_is_number(x) for x in value):
        received = f"{len(value)} values" if isinstance(value, list) and len(value) != count else _shown(value)
        found.error("count", path, f"{where}.{key}", f"expected {count} numbers, received {received}", "write them in one list")
        return None
    if not all(math.isfinite(x) for x in value):
        found.error("nan", path, f"{where}.{key}", "expected finite numbers, received NaN or infinity", "correct the entry")
        return None
    return [float(x) for x in value]


def take_number(entry: Any, key: str, path: Path, where: str, found: Findings, least: float = -math.inf) -> float | None:
    """A key's finite number of at least ``least``; None, and a finding, where it is something else."""
    value = _take(entry, key, path, where, found)
    if value is None:
        return None
    if not _is_number(value):
        found.error("count", path, f"{where}.{key}", f"expected a number, received {_shown(value)}", "correct the entry")
        return None
    if not math.isfinite(value):
        found.error("nan", path, f"{where}.{key}", "expected a finite number, received NaN or infinity", "correct the entry")
        return None
    if value < least:
        found.error("range", path, f"{where}.{key}", f"expected at least {least:g}, received {value:g}", "correct the entry")
        return None
    return float(value)


def take_id(entry: Any, key: str, path: Path, where: str, found: Findings, least: int = 0) -> int | None:
    """A key's whole number of at least ``least``; None, and a finding, where it is something else."""
    value = take_number(entry, key, path, where, found, float(least))
    if value is not None and value != int(value):
        found.error("count", path, f"{where}.{key}", f"expected a whole number, received {value:g}", "correct the entry")
        return None
    return None if value is None else int(value)


def numbered_text(entries: Mapping[int, Any]) -> str:
    """JSON of an object with numbers as keys, one a line."""
    lines = [f"  {json.dumps(str(key))}: {json.dumps(value, allow_nan=False)}" for key, value in sorted(entries.items())]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def list_text(entries: Iterable[Any]) -> str:
    """JSON of a list, one entry a line."""
    return "[\n" + ",\n".join(f"  {json.dumps(entry, allow_nan=False)}" for entry in entries) + "\n]\n"


def _take(entry: Any, key: str, path: Path, where: str, found: Findings) -> Any:
    """The value of a key that must be there; None, and a finding, where it is not."""
    if not isinstance(entry, dict):
        found.error("key", path, where, f"expected an object with {key}, received {_shown(entry)}", "write the entry anew")
        return None
    if entry.get(key) is None:
        found.error("key", path, where, f"expected the key {key}, received {', '.join(entry) or 'none'}", f"add {key}")
        return None
    return entry[key]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of its pairs."""
    entries = dict(pairs)
    if len(entries) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _RepeatedKeyError(next(key for key in keys if keys.count(key) > 1))
    return entries
