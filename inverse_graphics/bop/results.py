"""Results files: one CSV row an estimated pose, and 4x4 matrices in metres to and from their columns.

The name of a file says what it holds: ``METHOD_DATASET-SPLIT[-TYPE][_ID].csv``.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from inverse_graphics.bop.findings import Findings
from inverse_graphics.bop.posechecks import check_distances, check_poses
from inverse_graphics.bop.scenefiles import repeated_rows
from inverse_graphics.bop.types import Estimates, Truths
from inverse_graphics.files import write_text

HEADER = "scene_id,im_id,obj_id,score,R,t,time"
NAME_PATTERN = re.compile(r"[^_]+_[^_-]+-[^_-]+(-[^_]+)?(_[^_]+)?\.csv")
"""Names of results files."""
COUNTS = (1, 1, 1, 1, 9, 3, 1)
"""Numbers in each field of a row."""
MM_PER_M = 1000.0
TIME_TOLERANCE_S = 1e-3
"""Times of an image's rows that differ by more are an error."""
UNKNOWN_TIME_S = -1.0


def results_name(method: str, dataset: str, split: str, split_type: str = "", number: str = "") -> str:
    """The name of a results file.

    Raises:
        ValueError: the parts make no such name, for example because the method's name has an underscore.
    """
    name = f"{method}_{dataset}-{split}" + (f"-{split_type}" if split_type else "") + (f"_{number}" if number else "") + ".csv"
    if "_" in method or not NAME_PATTERN.fullmatch(name):
        raise ValueError(
            f"method, dataset, split: expected METHOD_DATASET-SPLIT[-TYPE][_ID].csv, received {name!r}; "
            "leave underscores out of the parts, and dashes out of all but the method"
        )
    return name


def read_results(path: str | Path) -> Estimates:
    """Read a results file.

    Raises:
        BopError: it is missing or has an error; names line and remedy.
    """
    found = Findings()
    estimates, _ = parse_results(Path(path), found)
    found.refuse()
    return estimates


def write_results(path: str | Path, estimates: Estimates) -> None:
    """Write a results file, atomically; numbers come back bit for bit.

    Args:
        path: the file; see ``results_name``.
        estimates: finite, rotations proper.

    Raises:
        BopError: a value that the format has no place for.
    """
    found = Findings()
    places = [f"row {row}" for row in range(len(estimates))]
    check_poses(estimates.T_camera_object_mm, places, Path(path), found)
    _check_rows(estimates, places, Path(path), found)
    found.refuse()
    write_text(path, results_text(estimates))


def results_text(estimates: Estimates) -> str:
    """The text of a results file; no newline at its end."""
    ids = np.stack([estimates.scene_id, estimates.im_id, estimates.obj_id], -1).tolist()
    R = estimates.T_camera_object_mm[:, :3, :3].reshape(-1, 9).tolist()
    t = estimates.T_camera_object_mm[:, :3, 3].tolist()
    lines = [
        f"{','.join(map(str, id_row))},{_text([score])},{_text(R_row)},{_text(t_row)},{_text([time_s])}"
        for id_row, score, R_row, t_row, time_s in zip(
            ids, estimates.score.tolist(), R, t, estimates.time_s.tolist(), strict=True
        )
    ]
    return "\n".join([HEADER, *lines])


def estimates_of(
    scene_id: ArrayLike,
    im_id: ArrayLike,
    obj_id: ArrayLike,
    score: ArrayLike,
    T_camera_object: ArrayLike,
    time_s: ArrayLike | None = None,
) -> Estimates:
    """Estimates of poses in metres.

    Args:
        scene_id, im_id, obj_id: [n] whole numbers.
        score: [n] confidences.
        T_camera_object: [n 4 4] rigid, in metres, OpenCV's camera; of the model's frame, whose origin is its box's middle.
        time_s: [n] seconds an image; unknown where None.
    """
    T_mm = np.asarray(T_camera_object, np.float64).reshape(-1, 4, 4).copy()
    T_mm[:, :3, 3] *= MM_PER_M
    ids = [np.asarray(column, np.int64).reshape(-1) for column in (scene_id, im_id, obj_id)]
    times = np.full(len(T_mm), UNKNOWN_TIME_S) if time_s is None else np.asarray(time_s, np.float64)
    return Estimates(ids[0], ids[1], ids[2], np.asarray(score, np.float64).reshape(-1), T_mm, times)


def poses_m(table: Estimates | Truths) -> Float[np.ndarray, "n 4 4"]:
    """``T_camera_object`` in metres."""
    T = table.T_camera_object_mm.copy()
    T[:, :3, 3] /= MM_PER_M
    return T


def parse_results(path: Path, found: Findings) -> tuple[Estimates, Int[np.ndarray, "n"]]:
    """The rows of a results file, and the line of each; rows with an error are left out.

    Args:
        path: the file.
        found: findings are added to it.
    """
    lines = _lines(path, found)
    if lines and lines[0] != HEADER:
        swapped = sorted(lines[0].split(",")) == sorted(HEADER.split(","))
        received = f"{lines[0][:80]!r}"
        remedy = "put the columns into this order" if swapped else "write this header as the first line"
        found.error("header", path, "line 1", f"expected {HEADER!r}, received {received}", remedy)
    has_header = bool(lines) and not _starts_with_number(lines[0])
    rows: list[list[str]] = []
    numbers: list[int] = []
    for number, line in enumerate(lines[1:] if has_header else lines, 2 if has_header else 1):
        fields = _fields(line, path, number, found)
        if fields is not None:
            rows.append(fields)
            numbers.append(number)
    values, kept = _numbers(rows, numbers, path, found)
    line_of = np.asarray(numbers, np.int64)[kept]
    estimates = _estimates(values)
    places = [f"line {number}" for number in line_of.tolist()]
    good = check_poses(estimates.T_camera_object_mm, places, path, found)
    good &= _check_rows(estimates, places, path, found)
    check_distances(estimates.T_camera_object_mm[good, :3, 3], "t", path, found)
    return _estimates(values[good]), line_of[good]


def _lines(path: Path, found: Findings) -> list[str]:
    """Lines of a text file without their ends."""
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        found.error("missing", path, "", "expected a file, there is none", "check the path")
        return []
    except (UnicodeDecodeError, OSError) as error:
        found.error("text", path, "", f"expected UTF-8 text, received '{error}'", "write the file anew")
        return []
    if lines == [""]:
        found.error("header", path, "line 1", f"expected {HEADER!r}, received an empty file", "write the header and the rows")
        return []
    return [line.removesuffix("\r") for line in (lines[:-1] if lines[-1] == "" else lines)]


def _fields(line: str, path: Path, number: int, found: Findings) -> list[str] | None:
    """The seven fields of a line; None, and a finding, where their counts are wrong."""
    where = f"line {number}"
    if not line.strip():
        found.error("blank", path, where, "expected a row, received a blank line", "remove the line")
        return None
    fields = line.split(",")
    if len(fields) != len(COUNTS):
        remedy = "separate the numbers of R and t by spaces, the fields by commas"
        found.error("count", path, where, f"expected {len(COUNTS)} fields, received {len(fields)}", remedy)
        return None
    for name, field, count in zip(HEADER.split(","), fields, COUNTS, strict=True):
        received = len(field.split())
        if received != count:
            remedy = "write numbers separated by spaces, R row by row"
            found.error("count", path, f"{where}, {name}", f"expected {count} numbers, received {received}", remedy)
            return None
    return fields


def _numbers(
    rows: list[list[str]], numbers: list[int], path: Path, found: Findings
) -> tuple[Float[np.ndarray, "n 17"], Int[np.ndarray, "n"]]:
    """All numbers of the rows at once, and which rows they are of; row by row only where one is none."""
    words = [" ".join(row).split() for row in rows]
    try:
        return np.asarray(words, np.float64).reshape(-1, sum(COUNTS)), np.arange(len(rows))
    except ValueError:
        kept = []
        for index, row in enumerate(words):
            wrong = next((word for word in row if not _is_number(word)), None)
            if wrong is None:
                kept.append(index)
            else:
                found.error("number", path, f"line {numbers[index]}", f"expected numbers, received {wrong!r}", "correct the row")
        return np.asarray([words[index] for index in kept], np.float64).reshape(-1, sum(COUNTS)), np.asarray(kept, np.int64)


def _check_rows(estimates: Estimates, places: list[str], path: Path, found: Findings) -> np.ndarray:
    """Find NaN, ids that are none, rows that come twice, times that differ; returns which rows are good."""
    finite = np.isfinite(estimates.score) & np.isfinite(estimates.time_s)
    for row in np.flatnonzero(~finite):
        found.error("nan", path, places[row], "expected finite score and time, received NaN or infinity", "write -1 for no time")
    ids = np.stack([estimates.scene_id, estimates.im_id, estimates.obj_id], -1)
    counted = (ids >= 0).all(-1)
    for row in np.flatnonzero(~counted):
        found.error(
            "number", path, places[row], f"expected whole ids of at least 0, received {ids[row].tolist()}", "correct them"
        )
    poses = estimates.T_camera_object_mm.reshape(-1, 16)
    repeated = np.zeros(len(ids), np.bool_)
    repeated[repeated_rows(np.concatenate([ids.astype(np.float64), poses], 1))] = True
    for row in np.flatnonzero(repeated):
        found.error("duplicate", path, places[row], "expected each pose of an object once, received it twice", "remove the row")
    _, image = np.unique(ids[:, :2], axis=0, return_inverse=True)
    first = np.full(len(ids), len(ids))
    np.minimum.at(first, image.reshape(-1), np.arange(len(ids)))
    reference = estimates.time_s[first[image.reshape(-1)]] if len(ids) else estimates.time_s
    differs = finite & np.isfinite(reference) & (np.abs(estimates.time_s - reference) > TIME_TOLERANCE_S)
    for row in np.flatnonzero(differs):
        problem = f"expected one time an image, received {estimates.time_s[row]:g} s after {reference[row]:g} s"
        found.error("time", path, places[row], problem, "write the whole image's time into all its rows, or -1")
    return finite & counted & ~repeated & ~differs


def _estimates(values: Float[np.ndarray, "n 17"]) -> Estimates:
    """Columns of rows of numbers; ids that are no whole numbers become -1."""
    ids = np.where((values[:, :3] == np.floor(values[:, :3])) & (np.abs(values[:, :3]) < 2**53), values[:, :3], -1.0)
    T = np.tile(np.eye(4), (len(values), 1, 1))
    T[:, :3, :3], T[:, :3, 3] = values[:, 4:13].reshape(-1, 3, 3), values[:, 13:16]
    scene_id, im_id, obj_id = ids.astype(np.int64).T
    return Estimates(scene_id, im_id, obj_id, values[:, 3].copy(), T, values[:, 16].copy())


def _text(numbers: list[float]) -> str:
    """Numbers separated by spaces, each as short as it may be to come back the same."""
    return " ".join(repr(number).removesuffix(".0") for number in numbers)


def _starts_with_number(line: str) -> bool:
    return _is_number(line.partition(",")[0])


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
