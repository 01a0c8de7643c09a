"""Files of poses: JSON whose rows have the fields of ROS's ``geometry_msgs/PoseStamped``, and CSV.

    {"poses": [{"header": {"frame_id": "world", "stamp": {"sec": 0, "nanosec": 0}},
                "pose": {"position": {"x": 0.1, "y": 0.0, "z": 0.0}, "orientation": {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}},
                "class_name": "mug", "score": 0.98, "scene_id": 0, "image_id": 0, "slot": 0}]}

Positions are in metres.  Numbers are written in full, so that they come back as they were; rotations to 1e-15.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from inverse_graphics.files import read_json, write_json, write_text
from inverse_graphics.interop.pose_rows import PoseRows
from inverse_graphics.interop.quaternions import matrix_of_pose, position_of, quat_xyzw_of

NS_PER_S = 10**9
COLUMNS = (
    "frame_id",
    "stamp_sec",
    "stamp_nanosec",
    "scene_id",
    "image_id",
    "slot",
    "class_name",
    "score",
    *("x_m", "y_m", "z_m"),
    *("qx", "qy", "qz", "qw"),
)
"""Columns of the CSV file, in their order."""
N = TypeVar("N", int, float, str)


def write_poses_json(path: str | Path, rows: PoseRows) -> None:
    """Write poses as JSON, atomically."""
    write_json(path, {"poses": [_to_message(row) for row in _records(rows)]})


def read_poses_json(path: str | Path) -> PoseRows:
    """Read what ``write_poses_json`` wrote.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no JSON, a key is missing or has another type; names file, row and key.
    """
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("poses"), list):
        raise ValueError(f"{path}: expected a list under the key 'poses', received none; pass a file of write_poses_json.")
    records = [_from_message(message, f"{path}: poses[{row}]") for row, message in enumerate(content["poses"])]
    return _rows(records, path)


def write_poses_csv(path: str | Path, rows: PoseRows) -> None:
    """Write poses as CSV, atomically: a header of ``COLUMNS`` and a line an object."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_records(rows))
    write_text(path, text.getvalue())


def read_poses_csv(path: str | Path) -> PoseRows:
    """Read what ``write_poses_csv`` wrote.

    Raises:
        FileNotFoundError: there is none.
        ValueError: another header, or a line with a value missing or of another type; names file, line and column.
    """
    reader = csv.DictReader(io.StringIO(Path(path).read_text(encoding="utf-8"), newline=""))
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise ValueError(f"{path}: expected the columns {','.join(COLUMNS)}, received {reader.fieldnames}; write them so.")
    return _rows([_from_line(line, f"{path}: line {reader.line_num}") for line in reader], path)


def _records(rows: PoseRows) -> list[dict[str, Any]]:
    """Plain values of each row by column."""
    quaternions, positions = quat_xyzw_of(rows.T_frame_object).tolist(), position_of(rows.T_frame_object).tolist()
    columns = (rows.stamp_ns, rows.scene_id, rows.image_id, rows.slot, rows.score)
    records = []
    for row, (stamp_ns, scene_id, image_id, slot, score) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
        sec, nanosec = divmod(stamp_ns, NS_PER_S)
        values = (rows.frame_id[row], sec, nanosec, scene_id, image_id, slot, rows.class_name[row], float(score))
        records.append(dict(zip(COLUMNS, (*values, *positions[row], *quaternions[row]), strict=True)))
    return records


def _rows(records: list[dict[str, Any]], path: str | Path) -> PoseRows:
    """The inverse of ``_records``."""

    def column(name: str) -> list[Any]:
        return [record[name] for record in records]

    stamps = [record["stamp_sec"] * NS_PER_S + record["stamp_nanosec"] for record in records]
    position_m = np.asarray([[record[name] for name in COLUMNS[8:11]] for record in records], np.float64).reshape(-1, 3)
    quat_xyzw = np.asarray([[record[name] for name in COLUMNS[11:]] for record in records], np.float64).reshape(-1, 4)
    try:
        return PoseRows(
            frame_id=tuple(column("frame_id")),
            stamp_ns=np.asarray(stamps, np.int64),
            scene_id=np.asarray(column("scene_id"), np.int64),
            image_id=np.asarray(column("image_id"), np.int64),
            slot=np.asarray(column("slot"), np.int64),
            class_name=tuple(column("class_name")),
            score=np.asarray(column("score"), np.float64),
            T_frame_object=matrix_of_pose(position_m, quat_xyzw),
        )
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _to_message(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record as the fields of a PoseStamped, and what else there is."""
    return {
        "header": {
            "frame_id": record["frame_id"],
            "stamp": {"sec": record["stamp_sec"], "nanosec": record["stamp_nanosec"]},
        },
        "pose": {
            "position": {axis: record[f"{axis}_m"] for axis in "xyz"},
            "orientation": {axis: record[f"q{axis}"] for axis in "xyzw"},
        },
    } | {name: record[name] for name in ("class_name", "score", "scene_id", "image_id", "slot")}


def _from_message(message: Any, where: str) -> dict[str, Any]:
    """A record of a message; ValueError where it is none."""
    record: dict[str, Any] = {
        "frame_id": _at(message, ("header", "frame_id"), str, where),
        "stamp_sec": _at(message, ("header", "stamp", "sec"), int, where),
        "stamp_nanosec": _at(message, ("header", "stamp", "nanosec"), int, where),
        "class_name": _at(message, ("class_name",), str, where),
        "score": _at(message, ("score",), float, where),
    }
    record |= {name: _at(message, (name,), int, where) for name in ("scene_id", "image_id", "slot")}
    record |= {f"{axis}_m": _at(message, ("pose", "position", axis), float, where) for axis in "xyz"}
    return record | {f"q{axis}": _at(message, ("pose", "orientation", axis), float, where) for axis in "xyzw"}


def _at(message: Any, keys: tuple[str, ...], kind: type[N], where: str) -> N:
    """The value under nested keys; a whole number counts as a float, true and false as neither."""
    value = message
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
        raise ValueError(f"{where}.{'.'.join(keys)}: expected {kind.__name__}, received {value!r}; write it so.")
    return kind(value)


def _from_line(line: Mapping[str, str | None], where: str) -> dict[str, Any]:
    """A record of a CSV line; ValueError where a value is missing or of another type."""
    record: dict[str, Any] = {}
    for name in COLUMNS:
        kind = str if name in ("frame_id", "class_name") else int if name in COLUMNS[1:6] else float
        text = line[name]
        try:
            if text is None or None in line:
                raise ValueError(f"expected {len(COLUMNS)} values")
            record[name] = kind(text)
        except ValueError as error:
            raise ValueError(f"{where}, {name}: expected {kind.__name__}, received {text!r} ({error}); correct it.") from error
    return record
