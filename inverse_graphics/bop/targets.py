"""What a method is asked for: the target lists of the 2019 and 2024 tasks, read or made from the ground truth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from inverse_graphics.bop.datasets import Split, read_image_keys, read_truths
from inverse_graphics.bop.findings import Findings
from inverse_graphics.bop.jsonfiles import list_text, read_entries, take_id
from inverse_graphics.bop.types import ImageKey, Target, Truths

LEAST_VISIBLE = 0.1
"""Instances that show less of themselves are not asked for."""


def targets_2019_path(dataset: Path, split: str) -> Path:
    """Where the targets with counts stand; splits other than ``test`` have lists of their own."""
    return dataset / f"{split.partition('_')[0]}_targets_bop19.json"


def targets_2024_path(dataset: Path, split: str) -> Path:
    """Where the list of images stands."""
    return dataset / f"{split.partition('_')[0]}_targets_bop24.json"


def read_targets_2019(split: Split) -> tuple[Target, ...]:
    """The targets with counts: of the data set's file, or made from the ground truth where there is none.

    Raises:
        BopError: the file, or the ground truth, has an error.
    """
    path = targets_2019_path(split.dataset, split.name)
    if not path.is_file():
        return targets_of(read_truths(split))
    found = Findings()
    targets = parse_targets_2019(path, found)
    found.refuse()
    return targets


def read_targets_2024(split: Split) -> tuple[ImageKey, ...]:
    """The images to look at: of the data set's file, else those of its targets with counts, else all there are.

    Raises:
        BopError: the file, or a scene, has an error.
    """
    path = targets_2024_path(split.dataset, split.name)
    if path.is_file():
        found = Findings()
        keys = parse_targets_2024(path, found)
        found.refuse()
        return keys
    # older data sets list a part of their images there, and methods estimate poses in no others
    if targets_2019_path(split.dataset, split.name).is_file():
        return tuple(dict.fromkeys(ImageKey(target.scene_id, target.im_id) for target in read_targets_2019(split)))
    return read_image_keys(split)


def targets_of(truths: Truths) -> tuple[Target, ...]:
    """Counts of the instances that show at least 10 % of themselves, by scene, image and object."""
    chosen = truths.visib_fract >= LEAST_VISIBLE
    columns = (truths.scene_id, truths.im_id, truths.obj_id)
    counts = Counter(zip(*(column[chosen].tolist() for column in columns), strict=True))
    return tuple(Target(scene_id, im_id, obj_id, count) for (scene_id, im_id, obj_id), count in sorted(counts.items()))


def parse_targets_2019(path: Path, found: Findings) -> tuple[Target, ...]:
    """The targets of a file; those with an error are left out."""
    rows = _rows(path, ("scene_id", "im_id", "obj_id", "inst_count"), 3, found)
    return tuple(Target(scene_id, im_id, obj_id, count) for scene_id, im_id, obj_id, count in rows)


def parse_targets_2024(path: Path, found: Findings) -> tuple[ImageKey, ...]:
    """The images of a file; those with an error are left out."""
    return tuple(ImageKey(scene_id, im_id) for scene_id, im_id in _rows(path, ("scene_id", "im_id"), 2, found))


def targets_2019_text(targets: Iterable[Target]) -> str:
    """The file of targets with counts."""
    return list_text(
        {"im_id": item.im_id, "inst_count": item.inst_count, "obj_id": item.obj_id, "scene_id": item.scene_id} for item in targets
    )


def targets_2024_text(keys: Iterable[ImageKey]) -> str:
    """The file of images to look at."""
    return list_text({"im_id": key.im_id, "scene_id": key.scene_id} for key in keys)


def _rows(path: Path, names: tuple[str, ...], key_length: int, found: Findings) -> list[tuple[int, ...]]:
    """Whole numbers of a list of objects; the first ``key_length`` names must not come twice."""
    content = read_entries(path, found)
    if content is not None and not isinstance(content, list):
        found.error("key", path, "", f"expected a list, received {type(content).__name__}", "write [{...}, ...]")
    entries: list[Any] = content if isinstance(content, list) else []
    rows: dict[tuple[int, ...], tuple[int, ...]] = {}
    for index, entry in enumerate(entries):
        where = f"[{index}]"
        values = [take_id(entry, name, path, where, found, 1 if name == "inst_count" else 0) for name in names]
        numbers = tuple(value for value in values if value is not None)
        if len(numbers) < len(names):
            continue
        if numbers[:key_length] in rows:
            found.error("duplicate", path, where, "expected each target once, received it twice", "merge the two")
            continue
        rows[numbers[:key_length]] = numbers
    return list(rows.values())
