"""Results files: the golden text, numbers bit for bit, and every fault with its line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from inverse_graphics.bop import Estimates, check_results, estimates_of, poses_m, read_results, results_name, write_results
from inverse_graphics.bop.findings import BopError, exit_code, listing

GOLDEN = """\
scene_id,im_id,obj_id,score,R,t,time
1,0,5,0.5,1 0 0 0 1 0 0 0 1,10.5 -20 800,0.25
1,0,7,1,0 -1 0 1 0 0 0 0 1,0 0 1000,0.25
2,3,5,-1e-07,1 0 0 0 -1 0 0 0 -1,-1.5 2 3000,-1"""
ROW = "1,0,5,0.5,1 0 0 0 1 0 0 0 1,10 20 800,0.5"
NAME = "mine_tiny-test.csv"


def golden() -> Estimates:
    T = np.tile(np.eye(4), (3, 1, 1))
    T[0, :3, 3] = [0.0105, -0.02, 0.8]
    T[1, :3, :3], T[1, :3, 3] = [[0, -1, 0], [1, 0, 0], [0, 0, 1]], [0, 0, 1]
    T[2, :3, :3], T[2, :3, 3] = np.diag([1, -1, -1]), [-0.0015, 0.002, 3]
    return estimates_of([1, 1, 2], [0, 0, 3], [5, 7, 5], [0.5, 1.0, -1e-7], T, [0.25, 0.25, -1.0])


def write(folder: Path, *rows: str, header: str = "scene_id,im_id,obj_id,score,R,t,time") -> Path:
    path = folder / NAME
    path.write_text("\n".join([header, *rows]))
    return path


def test_the_golden_text_is_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / results_name("mine", "tiny", "test")
    write_results(path, golden())
    assert path.read_text() == GOLDEN
    back = read_results(path)
    assert back.obj_id.tolist() == [5, 7, 5]
    assert back.time_s.tolist() == [0.25, 0.25, -1.0]
    np.testing.assert_allclose(back.T_camera_object_mm[0], [[1, 0, 0, 10.5], [0, 1, 0, -20], [0, 0, 1, 800], [0, 0, 0, 1]])
    np.testing.assert_allclose(poses_m(back)[2, :3, 3], [-0.0015, 0.002, 3])
    assert check_results(path) == []


def test_numbers_come_back_bit_for_bit(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    T = np.tile(np.eye(4), (200, 1, 1))
    T[:, :3, :3] = Rotation.from_rotvec(generator.normal(size=(200, 3))).as_matrix()
    T[:, :3, 3] = generator.normal(size=(200, 3)) + [0, 0, 4]
    ids = generator.integers(1, 30, (3, 200))
    estimates = estimates_of(ids[0], ids[1], ids[2], generator.normal(size=200), T)
    write_results(tmp_path / NAME, estimates)
    back = read_results(tmp_path / NAME)
    for name in ("scene_id", "im_id", "obj_id", "score", "T_camera_object_mm", "time_s"):
        assert np.array_equal(getattr(back, name), getattr(estimates, name))


def test_no_rows_and_lines_of_windows(tmp_path: Path) -> None:
    assert len(read_results(write(tmp_path))) == 0
    path = tmp_path / NAME
    path.write_bytes(GOLDEN.replace("\n", "\r\n").encode() + b"\r\n")
    assert len(read_results(path)) == 3


FAULTS = {
    "blank line": ([ROW, "", ROW.replace("1,0,5", "1,1,5")], "blank", "line 3", "blank line"),
    "eight numbers in R": (
        [ROW.replace("1 0 0 0 1 0 0 0 1", "1 0 0 0 1 0 0 0")],
        "count",
        "line 2, R",
        "expected 9 numbers, received 8",
    ),
    "two numbers in t": ([ROW.replace("10 20 800", "10 20")], "count", "line 2, t", "expected 3 numbers, received 2"),
    "commas in R": ([ROW.replace("1 0 0 0 1 0 0 0 1", "1,0,0,0,1,0,0,0,1")], "count", "line 2", "expected 7 fields, received 15"),
    "no number": ([ROW, ROW.replace("0.5,1 0", "high,1 0")], "number", "line 3", "received 'high'"),
    "NaN in t": ([ROW.replace("800", "nan")], "nan", "line 2", "finite"),
    "infinite score": ([ROW.replace("5,0.5", "5,inf")], "nan", "line 2", "finite score"),
    "no rotation": ([ROW.replace("1 0 0 0 1 0 0 0 1", "1 1 0 0 1 0 0 0 1")], "rotation", "line 2", r"R R\^T - I up to 1"),
    "scaled": ([ROW.replace("1 0 0 0 1 0 0 0 1", "2 0 0 0 2 0 0 0 2")], "rotation", "line 2", "a rotation times 2"),
    "mirrored": ([ROW.replace("1 0 0 0 1 0 0 0 1", "1 0 0 0 1 0 0 0 -1")], "mirrored", "line 2", "reflection"),
    "half an object": ([ROW.replace("1,0,5", "1,0,5.5")], "number", "line 2", "whole ids"),
    "twice": ([ROW, ROW], "duplicate", "line 3", "received it twice"),
    "times": ([ROW, ROW.replace("800,0.5", "900,0.6")], "time", "line 3", "received 0.6 s after 0.5 s"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found_with_their_line(tmp_path: Path, fault: str) -> None:
    rows, rule, where, text = FAULTS[fault]
    path = write(tmp_path, *rows)
    with pytest.raises(BopError, match=text) as raised:
        read_results(path)
    assert f"{path}: {where}" in str(raised.value)
    findings = check_results(path)
    assert [(finding.severity, finding.rule) for finding in findings] == [("error", rule)]
    assert findings[0].where.startswith(where)
    assert findings[0].remedy
    assert exit_code(findings) == 2
    assert "1 errors, 0 warnings" in listing(findings)


@pytest.mark.parametrize(
    ("header", "rows", "text"),
    [
        ("im_id,scene_id,obj_id,score,R,t,time", [ROW], "put the columns into this order"),
        (ROW, [ROW.replace("1,0,5", "1,1,5")], "write this header"),
    ],
)
def test_the_header_must_be_bops(tmp_path: Path, header: str, rows: list[str], text: str) -> None:
    path = write(tmp_path, *rows, header=header)
    with pytest.raises(BopError, match=f"line 1: expected 'scene_id.*{text}"):
        read_results(path)


def test_missing_and_empty_files(tmp_path: Path) -> None:
    with pytest.raises(BopError, match="expected a file, there is none"):
        read_results(tmp_path / NAME)
    (tmp_path / NAME).write_text("")
    with pytest.raises(BopError, match="empty file"):
        read_results(tmp_path / NAME)


@pytest.mark.parametrize(
    ("t", "rule", "text"),
    [
        ("0.01 0.02 0.8", "unit", "0.8003 mm from the camera, as if metres"),
        ("0 0 800000", "unit", "800 m from the camera"),
        ("0 0 -800", "axes", "OpenGL"),
    ],
)
def test_units_and_axes_are_suspected(tmp_path: Path, t: str, rule: str, text: str) -> None:
    """Such files are valid: they are read, and the checker warns."""
    path = write(tmp_path, ROW.replace("10 20 800", t))
    assert len(read_results(path)) == 1
    findings = check_results(path)
    assert [(finding.severity, finding.rule) for finding in findings] == [("warning", rule)]
    assert text in str(findings[0])
    assert exit_code(findings) == 1


def test_names_of_results_files(tmp_path: Path) -> None:
    assert results_name("my-method", "ycbv", "test", number="2") == "my-method_ycbv-test_2.csv"
    assert results_name("m", "tless", "test", "primesense") == "m_tless-test-primesense.csv"
    with pytest.raises(ValueError, match="underscores"):
        results_name("my_method", "ycbv", "test")
    path = tmp_path / "results.csv"
    path.write_text(GOLDEN)
    assert [finding.rule for finding in check_results(path)] == ["name"]


def test_writing_refuses_what_the_format_cannot_hold(tmp_path: Path) -> None:
    estimates = golden()
    estimates.T_camera_object_mm[1, :3, :3] *= 1.1
    with pytest.raises(BopError, match="row 1: expected a rotation"):
        write_results(tmp_path / NAME, estimates)
    assert list(tmp_path.iterdir()) == []
    uneven = object.__new__(Estimates)
    for field in dataclasses.fields(Estimates):
        object.__setattr__(uneven, field.name, getattr(estimates, field.name)[: 2 if field.name == "score" else 3])
    with pytest.raises(ValueError, match="columns of one length"):
        Estimates.__post_init__(uneven)
