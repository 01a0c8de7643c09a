"""Every fault of a data set is found where it is, with its remedy, and readers refuse the errors among them."""

from __future__ import annotations

import contextlib
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from bop_faults import DISAGREEMENTS, ERRORS, truncate
from bop_samples import copy_of, make

from inverse_graphics.bop import (
    BopError,
    Finding,
    check_dataset,
    check_results,
    estimates_of,
    open_split,
    poses_m,
    read_depth_mm,
    read_image,
    read_mask,
    read_models,
    read_scene,
    read_targets_2019,
    read_targets_2024,
    read_truths,
    select,
    write_results,
)
from inverse_graphics.bop.__main__ import main


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("bop"))


@pytest.fixture
def damaged(dataset: Path, tmp_path: Path) -> Path:
    return copy_of(dataset, tmp_path)


def read_all(dataset: Path) -> None:
    """Read everything that readers can read."""
    split = open_split(dataset, "test")
    read_targets_2019(split)
    read_targets_2024(split)
    truths = read_truths(split)
    read_models(dataset / "models", truths.obj_id.tolist())
    for scene_id in split.scene_ids:
        scene = read_scene(split, scene_id)
        for im_id in scene.im_ids:
            read_image(scene, im_id)
            read_depth_mm(scene, im_id)
        own = select(truths, truths.scene_id == scene_id)
        for im_id, gt_id in zip(own.im_id.tolist(), own.gt_id.tolist(), strict=True):
            read_mask(scene, im_id, gt_id)
            read_mask(scene, im_id, gt_id, visible=False)


@pytest.mark.parametrize("fault", ERRORS)
def test_errors_are_found_and_refused(damaged: Path, fault: str) -> None:
    change, rule, text = ERRORS[fault]
    change(damaged)
    findings = check_dataset(damaged)
    chosen = [finding for finding in findings if finding.severity == "error" and finding.rule == rule and text in str(finding)]
    assert chosen, "\n".join(map(str, findings))
    assert all(finding.remedy and Path(finding.file).is_relative_to(damaged) for finding in findings)
    assert sum(finding.severity == "error" for finding in findings) <= 4
    with pytest.raises(BopError) as raised:
        read_all(damaged)
    assert str(damaged) in str(raised.value)
    assert "; " in str(raised.value)


@pytest.mark.parametrize("fault", DISAGREEMENTS)
def test_disagreements_are_found(damaged: Path, fault: str) -> None:
    change, severity, rule, text = DISAGREEMENTS[fault]
    change(damaged)
    findings = check_dataset(damaged)
    chosen = [f for f in findings if f.severity == severity and f.rule == rule and text in str(f)]
    assert chosen, "\n".join(map(str, findings))
    assert all(finding.remedy for finding in findings)


def test_pictures_are_left_alone_where_that_is_asked_for(damaged: Path) -> None:
    truncate(damaged / "test" / "000000" / "rgb" / "000001.png")
    assert len(check_dataset(damaged)) == 1
    assert check_dataset(damaged, images=False) == []


def test_what_is_no_data_set(tmp_path: Path) -> None:
    assert [f.rule for f in check_dataset(tmp_path / "absent")] == ["missing"]
    texts = [str(finding) for finding in check_dataset(tmp_path)]
    assert any("expected at least one scene" in text for text in texts)


def test_exit_codes_and_what_is_printed(damaged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(damaged)]) == 0
    assert capsys.readouterr().out == "0 errors, 0 warnings\n"
    (damaged / "camera.json").unlink()
    assert main(["check", str(damaged)]) == 1
    for path in (damaged / "test").glob("*/rgb/*.png"):
        truncate(path)
    for number in range(12):
        (damaged / "test" / "000000" / "rgb" / f"{90 + number:06d}.png").write_bytes(b"")
    assert main(["check", str(damaged)]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "5 errors, 13 warnings"
    assert "warning [unknown] ... and 2 more" in lines
    assert main(["check", str(tmp_path / "none_x-test.csv")]) == 2


def test_results_against_their_data_set(dataset: Path, tmp_path: Path) -> None:
    truths = read_truths(open_split(dataset, "test"))
    path = tmp_path / "mine_tiny-test.csv"
    ids = (truths.scene_id, truths.im_id, truths.obj_id)
    write_results(path, estimates_of(*ids, np.ones(len(truths)), poses_m(truths)))
    assert check_results(path, dataset) == []
    text = path.read_text()
    path.write_text(text + f"\n0,0,99{text.splitlines()[1][5:]}\n7,0,1{text.splitlines()[1][5:]}")
    rows = len(text.splitlines())
    found = [(f.rule, f.where) for f in check_results(path, dataset)]
    assert found == [("unknown", f"line {rows + 1}"), ("unknown", f"line {rows + 2}")]
    near = poses_m(truths)
    near[:, :3, 3] *= 0.02
    write_results(path, estimates_of(*ids, np.ones(len(truths)), near))
    assert [(f.severity, f.rule) for f in check_results(path, dataset)] == [("warning", "unit")]
    assert [f.rule for f in check_results(path, tmp_path)] == ["dataset"]


def test_damaged_pngs_never_break_the_checker(damaged: Path) -> None:
    """Bytes changed anywhere in an image: nothing, or a finding about that file."""
    path = damaged / "test" / "000000" / "rgb" / "000000.png"
    content = path.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(12):
        bad = bytearray(content)
        for place in generator.integers(0, len(bad), 3):
            bad[place] = int(generator.integers(256))
        path.write_bytes(bytes(bad))
        findings: list[Finding] = check_dataset(damaged)
        assert all(finding.file in (str(path), str(path.parent.parent)) for finding in findings)
        with contextlib.suppress(BopError):
            read_image(read_scene(open_split(damaged, "test"), 0), 0)


def test_images_without_end(damaged: Path) -> None:
    """A header that promises a picture larger than any camera's is refused before memory is taken for it."""
    path = damaged / "test" / "000000" / "rgb" / "000000.png"
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)))
    with pytest.raises(BopError, match="000000.png: expected a whole image"):
        read_image(read_scene(open_split(damaged, "test"), 0), 0)
