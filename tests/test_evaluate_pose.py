"""The evaluation of results files from its command line: known scores, what it leaves behind, comparisons, faults."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bop_samples import ROOT, copy_of
from pose_files import IMAGES, make_dataset, shifted, truths_of, without_objects, write
from script_runs import check_self_contained, results_of, run_script

from inverse_graphics.bop import __main__ as checker
from inverse_graphics.bop import find_models, read_models
from inverse_graphics.bop.types import select

SCORES = "ar ar_vsd ar_mssd ar_mspd map_2024 map_mssd map_mspd add_recall add_auc adds_auc recall_5deg_5cm".split()
OBJECT_SCORES = "ar_vsd ar_mssd ar_mspd ap_mssd ap_mspd add_recall add_auc adds_auc".split()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("evaluate_pose"))


QUICK = "--no-report"


def evaluate(monkeypatch: pytest.MonkeyPatch, dataset: Path, out: Path, *options: object) -> int:
    return run_script(monkeypatch, "evaluate_pose", "--dataset", dataset, "--out", out, *options)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def targets_in(dataset: Path) -> list[dict[str, Any]]:
    return json.loads((dataset / "test_targets_bop19.json").read_text())


def test_the_truth_scores_one_everywhere(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    truths, out = truths_of(dataset), tmp_path / "out"
    file = write(tmp_path, "exact", shifted(truths))
    assert evaluate(monkeypatch, dataset, out, "--results", file) == 0
    results = results_of(out)
    assert {name: results[name] for name in SCORES} == dict.fromkeys(SCORES, 1.0)
    assert results["re_median_deg"] == pytest.approx(0, abs=1e-6) and results["te_median_mm"] == 0
    num_targets = sum(target["inst_count"] for target in targets_in(dataset))
    assert num_targets >= 5
    expected = {"results": "exact", "dataset": "tiny", "split": "test", "num_images": IMAGES, "num_targets": num_targets}
    expected |= {"num_estimates": len(truths), "num_estimates_absent": 0, "time_s_mean": 0.25, "vsd_renderer": "raster"}
    assert {name: results[name] for name in expected} == expected
    assert [row["name"] for row in results["per_object"]] == ["box", "can", "mug"]
    for row in (*results["per_object"], *results["per_class"]):
        assert {name: row[name] for name in OBJECT_SCORES} == dict.fromkeys(OBJECT_SCORES, 1.0)
    assert sum(row["num_targets"] for row in results["per_object"]) == num_targets
    assert [len(rows_of(out / f"per_{name}.csv")) for name in ("object", "target", "estimate")] == [3, num_targets, len(truths)]
    assert all(float(row["vsd_mean"]) == 0 for row in rows_of(out / "per_estimate.csv") if float(row["visib_fract"]) >= 0.1)
    page = check_self_contained(out / "report.html")
    assert all(text in page for text in ("AR (BOP 2019)", "Recall over thresholds", "Visibility", "Distance", "Per object"))
    assert "Worst targets" not in page
    assert "AR (BOP 2019)           100.0 %" in re.sub(" +(?=100.0 %)", " " * 11, capsys.readouterr().out)


def test_a_known_shift_has_its_known_errors(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """20 mm sideways: ADD and te are 20 mm; MSSD is so too where there are no symmetries, and with it the recall."""
    truths, out = truths_of(dataset), tmp_path / "out"
    file = write(tmp_path, "aside", shifted(truths, (20.0, 0.0, 0.0)))
    assert evaluate(monkeypatch, dataset, out, "--results", file, QUICK) == 0
    assert not (out / "report.html").exists()
    for row in rows_of(out / "per_estimate.csv"):
        assert float(row["add_mm"]) == pytest.approx(20) and float(row["te_mm"]) == pytest.approx(20)
    models, thresholds = read_models(find_models(dataset)), np.arange(0.05, 0.51, 0.05)
    plain = [row for row in rows_of(out / "per_target.csv") if len(models[int(row["obj_id"])].symmetries) == 1]
    assert plain
    for row in plain:
        share = float((20 / models[int(row["obj_id"])].diameter_mm < thresholds).mean())
        assert float(row["recall_mssd"]) == pytest.approx(share)
    results, targets = results_of(out), rows_of(out / "per_target.csv")
    assert results["te_median_mm"] == pytest.approx(20)
    for name in ("mssd", "mspd", "vsd"):
        mean = np.mean([float(row[f"recall_{name}"]) for row in targets])
        assert results[f"ar_{name}"] == pytest.approx(mean) and 0 < mean < 1
    assert results["ar"] == pytest.approx(np.mean([results[f"ar_{name}"] for name in ("mssd", "mspd", "vsd")]))


def test_two_files_are_compared(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truths, out = truths_of(dataset), tmp_path / "out"
    files = [write(tmp_path, "exact", shifted(truths)), write(tmp_path, "behind", shifted(truths, (0.0, 0.0, 30.0)))]
    assert evaluate(monkeypatch, dataset, out, "--results", *files, "--samples", 50) == 0
    results = results_of(out)
    first, second = results["first"], results["second"]
    assert (first["results"], second["results"], results["confidence"]) == ("exact", "behind", 0.95)
    assert set(results["differences"]) == set(SCORES) - {"recall_5deg_5cm"}
    for name, difference in results["differences"].items():
        assert difference["value"] == pytest.approx(second[name] - first[name])
        assert difference["low"] <= difference["value"] <= difference["high"] <= 0
    assert first["ar"] == 1 and results["differences"]["ar_mssd"]["high"] < 0
    assert {row["results"] for row in rows_of(out / "per_target.csv")} == {"exact", "behind"}
    page = check_self_contained(out / "report.html")
    assert all(text in page for text in ("Differences", "95 % interval", "Most worsened by behind", "Worst targets: behind"))


def test_objects_of_one_class_are_judged_together(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, "some", without_objects(shifted(truths_of(dataset), (9.0, 0.0, 0.0)), 3))
    options = ("--results", file, "--classes", "solid=1,2", "cup=3", "--no-vsd", QUICK)
    assert evaluate(monkeypatch, dataset, tmp_path / "out", *options) == 0
    results = results_of(tmp_path / "out")
    assert results["ar"] is None and results["ar_vsd"] is None and results["vsd_renderer"] is None
    solid, cup = results["per_class"]
    assert (solid["class"], solid["obj_ids"], cup["class"]) == ("solid", [1, 2], "cup")
    box, can, mug = results["per_object"]
    counts = np.array([box["num_targets"], can["num_targets"]])
    assert solid["ar_mssd"] == pytest.approx(counts @ [box["ar_mssd"], can["ar_mssd"]] / counts.sum())
    assert solid["ap_mspd"] == pytest.approx((box["ap_mspd"] + can["ap_mspd"]) / 2)
    assert (cup["num_targets"], cup["ar_mssd"], cup["re_median_deg"]) == (mug["num_targets"], 0.0, None)


def test_each_task_has_its_own_images(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missed in images that only one task lists does not count in the other."""
    other, truths = copy_of(dataset, tmp_path), truths_of(dataset)
    here = (truths.scene_id == truths.scene_id[0]) & (truths.im_id == truths.im_id[0])
    listed = [{"scene_id": int(truths.scene_id[0]), "im_id": int(truths.im_id[0])}]
    (other / "test_targets_bop24.json").write_text(json.dumps(listed))
    file = write(tmp_path, "one", shifted(select(truths, here)))
    assert evaluate(monkeypatch, other, tmp_path / "out", "--results", file, "--no-vsd", QUICK) == 0
    results = results_of(tmp_path / "out")
    asked = sum(target["inst_count"] for target in targets_in(dataset))
    found = int((here & (truths.visib_fract >= 0.1)).sum())
    assert results["map_2024"] == 1.0 and results["num_images"] == IMAGES
    assert results["ar_mssd"] == pytest.approx(found / asked) and found < asked


def test_parts_of_the_targets(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truths, targets = truths_of(dataset), targets_in(dataset)
    file = write(tmp_path, "exact", shifted(truths))
    assert evaluate(monkeypatch, dataset, tmp_path / "few", "--results", file, "--max-images", 2, "--no-vsd", QUICK) == 0
    results = results_of(tmp_path / "few")
    in_two = [target for target in targets if target["scene_id"] == 0 and target["im_id"] < 2]
    assert (results["num_images"], results["num_targets"]) == (2, sum(target["inst_count"] for target in in_two))
    one, image = tmp_path / "one.json", tmp_path / "image.json"
    one.write_text(json.dumps(targets[-1:]))
    image.write_text(json.dumps([{"scene_id": targets[-1]["scene_id"], "im_id": targets[-1]["im_id"]}]))
    for name, path in (("one", one), ("image", image)):
        assert evaluate(monkeypatch, dataset, tmp_path / name, "--results", file, "--targets", path, "--no-vsd", QUICK) == 0
        same = [
            target
            for target in targets
            if (target["scene_id"], target["im_id"]) == (targets[-1]["scene_id"], targets[-1]["im_id"])
        ]
        chosen = targets[-1:] if name == "one" else same
        results = results_of(tmp_path / name)
        assert (results["num_images"], results["num_targets"]) == (1, sum(target["inst_count"] for target in chosen))
        assert results["ar_mssd"] == 1


def test_a_method_that_finds_nothing(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, "blind", select(shifted(truths_of(dataset)), slice(0, 0)))
    assert evaluate(monkeypatch, dataset, tmp_path / "out", "--results", file) == 0
    results = results_of(tmp_path / "out")
    assert [results[name] for name in SCORES] == [0.0] * len(SCORES)
    assert (results["re_median_deg"], results["time_s_mean"], results["num_estimates"]) == (None, None, 0)
    check_self_contained(tmp_path / "out" / "report.html")


def test_doubtful_files_are_pointed_out(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Metres for millimetres, and an object that is not in its image."""
    truths = truths_of(dataset)
    estimates = shifted(truths)
    estimates.T_camera_object_mm[:, :3, 3] /= 1000
    file = write(tmp_path, "metres", estimates)
    assert evaluate(monkeypatch, dataset, tmp_path / "out", "--results", file, "--no-vsd") == 0
    assert re.search(r"warning: .*metres_tiny-test.csv.*metres", capsys.readouterr().err)
    assert "metres_tiny-test.csv: t" in (tmp_path / "out" / "report.html").read_text()
    row = np.flatnonzero((truths.scene_id == truths.scene_id[0]) & (truths.im_id == truths.im_id[0]))
    absent = next(obj_id for obj_id in (1, 2, 3) if obj_id not in truths.obj_id[row])
    estimates = shifted(truths)
    estimates.obj_id[0] = absent
    file = write(tmp_path, "mistaken", estimates)
    scores = []
    for out, options in ((tmp_path / "as-bop", ()), (tmp_path / "strict", ("--count-absent",))):
        assert evaluate(monkeypatch, dataset, out, "--results", file, "--no-vsd", QUICK, *options) == 0
        scores.append(results_of(out)["map_2024"])
        assert results_of(out)["num_estimates_absent"] == 1
        assert ("not judged by mAP" in capsys.readouterr().err) == (not options)
    assert scores[1] < scores[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--results, --run: expected one or two"),
        (("--results", "exact", "exact", "exact"), "expected one or two results files, or a run, received 3"),
        (("--results", "nowhere.csv"), "nowhere.csv: expected a file, there is none"),
        (("--results", "exact", "--split", "val"), "expected one of test, received 'val'"),
        (("--results", "exact", "--dataset", "nowhere"), "nowhere: expected the folder of a data set"),
        (("--results", "unknown"), "line 2: expected an object of 1, 2, 3, received 9"),
        (("--results", "elsewhere"), "line 2: expected an image of"),
        (("--results", "skewed"), "skewed_tiny-test.csv: line 2"),
        (("--results", "exact", "--max-images", "0"), "--max-images: expected at least 1"),
        (("--results", "exact", "--delta-mm", "0"), "--delta-mm: expected more than 0 mm"),
        (("--results", "exact", "--samples", "0"), "--samples, --seed: expected at least 1"),
        (("--results", "exact", "--classes", "mug"), "--classes: expected NAME=ID"),
        (("--results", "exact", "--classes", "mug=7"), "--classes: expected some of 1, 2, 3, received 7"),
        (("--results", "exact", "--min-presence", "0.5"), "--min-presence: expected --run"),
        (("--results", "exact", "--targets", "empty.json"), "expected at least one target or image, received none"),
        (("--results", "exact", "--targets", "strange.json"), "expected images of"),
        (("--results", "exact", "--renderer", "nothing"), "renderer: expected one of raster"),
        (("--results", "exact", "--out", "full"), "--out: expected a new or empty directory"),
        (("--run", "full"), "expected a run directory that holds config.yaml"),
    ],
)
def test_faults_are_one_line(
    options: tuple[str, ...],
    message: str,
    dataset: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    truths = truths_of(dataset)
    files = {name: write(tmp_path, name, shifted(truths)) for name in ("exact", "unknown", "elsewhere", "skewed")}
    for name, change in (("unknown", (2, "9")), ("elsewhere", (1, "77")), ("skewed", (4, "1 2 3 4 5 6 7 8 9"))):
        lines = [line.split(",") for line in files[name].read_text().split("\n")]
        lines[1][change[0]] = change[1]
        files[name].write_text("\n".join(map(",".join, lines)))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "empty.json").write_text("[]")
    (tmp_path / "strange.json").write_text('[{"scene_id": 0, "im_id": 99}]')
    chosen = [str(files.get(option, option)) for option in options]
    assert evaluate(monkeypatch, dataset, tmp_path / "out", *chosen) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ") and "\n" not in error
    assert message in error
    assert not list((tmp_path / "out").glob("*"))


def test_depth_is_needed_for_vsd_alone(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bare = copy_of(dataset, tmp_path)
    for path in bare.glob("test/*/depth/*"):
        path.unlink()
    file = write(tmp_path, "exact", shifted(truths_of(bare)))
    assert evaluate(monkeypatch, bare, tmp_path / "out", "--results", file) == 2
    assert "leave VSD out with --no-vsd" in capsys.readouterr().err
    assert evaluate(monkeypatch, bare, tmp_path / "out", "--results", file, "--no-vsd", QUICK) == 0
    assert results_of(tmp_path / "out")["map_2024"] == 1


def test_the_page_of_commands_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command and example of docs/evaluate_method.md, in its order."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scenes").symlink_to(ROOT / "scenes")
    text = (ROOT / "docs" / "evaluate_method.md").read_text()
    blocks = re.findall(r"```(bash|python)\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 6
    for language, block in blocks:
        if language == "python":
            exec(compile(block, "evaluate_method.md", "exec"), {})
            continue
        for line in block.strip().split("\n"):
            words = line.split()
            if words[1] == "-m":
                assert checker.main(words[3:]) == 0
            else:
                assert run_script(monkeypatch, Path(words[1]).stem, *words[2:]) == 0, capsys.readouterr().err
    far = results_of(tmp_path / "runs" / "far")
    assert far["te_median_mm"] == pytest.approx(5) and far["add_recall"] == 1
    both = results_of(tmp_path / "runs" / "far-exact")
    assert both["second"]["ar"] == 1 and both["differences"]["ar_vsd"]["value"] > 0
    guide = tmp_path / "runs" / "guide" / "guide_tabletop-test.csv"
    assert guide.read_text().split(",", 1)[0] == (tmp_path / "results" / guide.name).read_text().split(",", 1)[0] == "scene_id"
    assert results_of(tmp_path / "runs" / "far-guide")["second"]["results"] == "guide"
