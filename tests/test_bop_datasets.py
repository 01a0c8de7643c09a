"""Data sets that the generator writes: what stands in them, against a naive ray caster; resuming; reading."""

from __future__ import annotations

import dataclasses
import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from bop_samples import HEIGHT_PX, ROOT, WIDTH_PX, arguments, change_json, copy_of, files_of, generator, make
from PIL import Image
from ray_casting import cast

import inverse_graphics.bop.writing as writing
from assets import load_catalogue
from assets.bop_models import load_bop_models
from inverse_graphics.bop import (
    BopError,
    ImageCamera,
    ImageKey,
    ImageRecord,
    Target,
    Truths,
    check_dataset,
    open_split,
    poses_m,
    read_camera,
    read_depth_mm,
    read_image,
    read_image_keys,
    read_mask,
    read_scene,
    read_targets_2019,
    read_targets_2024,
    read_truths,
    select,
    split_names,
    targets_of,
    write_scene,
)
from inverse_graphics.colours import linear_to_srgb
from inverse_graphics.poses import invert_rigid
from inverse_graphics.types import Camera, Light, Objects, View
from renderers import RasterRenderer
from scenes import ScenePrior, generate, load_scene_config


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("bop"))


def rays_of(K_px: np.ndarray, width_px: int, height_px: int) -> np.ndarray:
    """Directions [3 pixels] through the pixels' centres, z = 1."""
    v, u = np.indices((height_px, width_px)) + 0.5
    return np.linalg.inv(K_px) @ np.stack([u.ravel(), v.ravel(), np.ones(u.size)])


def box_of(mask: np.ndarray) -> list[int]:
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() - columns.min(), rows.max() - rows.min()] if len(rows) else [-1] * 4


def test_the_layout_is_bops(dataset: Path) -> None:
    names = files_of(dataset)
    assert split_names(dataset) == ("test",)
    assert open_split(dataset, "test").scene_ids == (0, 1)
    wanted = {
        "camera.json",
        "test_targets_bop19.json",
        "test_targets_bop24.json",
        "models/models_info.json",
        "models/obj_000003.ply",
    }
    wanted |= {"models_eval/obj_000001.ply", "test/000000/rgb/000002.png", "test/000000/depth/000000.png"}
    wanted |= {f"test/000001/{name}" for name in ("scene_gt.json", "scene_camera.json", "scene_gt_info.json", "rgb/000001.png")}
    assert wanted <= set(names)
    assert "test/000001/rgb/000002.png" not in names
    with Image.open(dataset / "test" / "000000" / "depth" / "000000.png") as depth:
        assert depth.mode == "I;16"
    assert json.loads(names["camera.json"])["width"] == WIDTH_PX
    assert check_dataset(dataset) == []


def test_images_are_the_generators(dataset: Path) -> None:
    """Image i of the data set is scene i of the seed, in sRGB; poses are those of the scene, about the box's middle."""
    config = load_scene_config(dataset.parent / "scene.yaml")
    catalogue = load_catalogue(config.catalogue, config.classes)
    batch = generate(ScenePrior(config, catalogue), RasterRenderer(catalogue, config.samples_per_axis), 3, range(5))
    split = open_split(dataset, "test")
    truths = read_truths(split)
    for index, key in enumerate(read_image_keys(split)):
        assert key == ImageKey(index // 3, index % 3)
        scene = read_scene(split, key.scene_id)
        expected = np.round(255 * linear_to_srgb(batch.image.rgb[index].numpy()))
        assert np.array_equal(read_image(scene, key.im_id), expected)
        np.testing.assert_allclose(read_depth_mm(scene, key.im_id), 1000 * batch.image.depth_m[index].numpy(), atol=0.051)
        camera = read_camera(scene, key.im_id)
        assert (camera.width_px, camera.height_px) == (WIDTH_PX, HEIGHT_PX)
        own = select(truths, (truths.scene_id == key.scene_id) & (truths.im_id == key.im_id))
        present = batch.scene.objects.present[index]
        assert own.obj_id.tolist() == (batch.scene.objects.class_ids[index][present] + 1).tolist()
        T_world_object = batch.scene.objects.T_world_object[index][present].double().numpy()
        for obj_id, T, T_mm in zip(own.obj_id, T_world_object, own.T_camera_object_mm, strict=True):
            vertices_m = catalogue.meshes[obj_id - 1].vertices_m.astype(np.float64)
            middle_m = (vertices_m.min(0) + vertices_m.max(0)) / 2
            T_camera_object = batch.scene.view.camera.T_camera_world[index].double().numpy() @ T
            np.testing.assert_allclose(T_mm[:3, 3] / 1000, T_camera_object[:3, :3] @ middle_m + T_camera_object[:3, 3], atol=1e-6)


def test_visibility_agrees_with_naive_rays(dataset: Path) -> None:
    """Masks, counts on the large canvas, boxes and depth, from the files alone."""
    split = open_split(dataset, "test")
    models = load_bop_models(dataset / "models")
    cut = 0
    for scene_id in split.scene_ids:
        scene = read_scene(split, scene_id)
        truths, said = scene.columns.truths, scene.columns.visibility
        assert truths is not None
        assert said is not None
        for im_id in scene.im_ids:
            camera = read_camera(scene, im_id)
            wide_K = camera.K_px + [[0, 0, WIDTH_PX], [0, 0, HEIGHT_PX], [0, 0, 0]]
            rays = rays_of(wide_K, 3 * WIDTH_PX, 3 * HEIGHT_PX)
            rows = np.flatnonzero(truths.im_id == im_id)
            depths = []
            for row in rows:
                mesh = models.catalogue.meshes[models.class_id(int(truths.obj_id[row]))]
                _, _, depth_m = cast([mesh], poses_m(truths)[row : row + 1], rays, 0.01)
                depths.append(depth_m.reshape(3 * HEIGHT_PX, 3 * WIDTH_PX))
            inner = np.array([d[HEIGHT_PX : 2 * HEIGHT_PX, WIDTH_PX : 2 * WIDTH_PX] for d in depths]).reshape(
                -1, HEIGHT_PX, WIDTH_PX
            )
            nearest = inner.argmin(0) if len(rows) else None
            for k, row in enumerate(rows):
                whole = np.isfinite(inner[k])
                seen = whole & (nearest == k)
                gt_id = int(truths.gt_id[row])
                # a ray that grazes an edge may fall to either side in float32
                assert np.sum(read_mask(scene, im_id, gt_id, visible=False) != whole) <= 2
                assert np.sum(read_mask(scene, im_id, gt_id) != seen) <= 2
                all_pixels = int(np.isfinite(depths[k]).sum())
                cut += all_pixels > whole.sum() + 2
                assert abs(said.px_count_all[row] - all_pixels) <= 3
                assert said.px_count_visib[row] == read_mask(scene, im_id, gt_id).sum()
                assert said.px_count_valid[row] == read_mask(scene, im_id, gt_id, visible=False).sum()
                assert truths.visib_fract[row] == said.px_count_visib[row] / said.px_count_all[row]
                expected = np.add(box_of(np.isfinite(depths[k])), [-WIDTH_PX, -HEIGHT_PX, 0, 0])
                assert np.abs(said.bbox_obj_px[row] - expected).max() <= 1
                assert np.abs(said.bbox_visib_px[row] - box_of(seen)).max() <= 1
    assert cut >= 2


def test_any_renderer_draws_a_data_set(dataset: Path) -> None:
    """Models, poses, K and world pose of the files give the depth of the files."""
    split = open_split(dataset, "test")
    models = load_bop_models(dataset / "models")
    renderer = RasterRenderer(models.catalogue, 1)
    scene = read_scene(split, 0)
    for im_id in scene.im_ids:
        camera = read_camera(scene, im_id)
        assert scene.columns.truths is not None
        assert camera.T_camera_world_mm is not None
        truths = select(scene.columns.truths, scene.columns.truths.im_id == im_id)
        T_camera_world = torch.from_numpy(camera.T_camera_world_mm.copy())
        T_camera_world[:3, 3] /= 1000
        T_world_object = invert_rigid(T_camera_world) @ torch.from_numpy(poses_m(truths))
        class_ids = torch.tensor([models.class_id(int(obj_id)) for obj_id in truths.obj_id], dtype=torch.int64)
        objects = Objects(class_ids, T_world_object.float(), torch.ones(len(class_ids), dtype=torch.bool))
        view = View(
            Camera(torch.from_numpy(camera.K_px).float(), T_camera_world.float(), camera.width_px, camera.height_px),
            Light(torch.tensor([0.0, 0.0, 1.0]), torch.tensor(0.5), torch.tensor(0.5)),
            torch.zeros(camera.height_px, camera.width_px, 3),
        )
        depth_mm = 1000 * renderer.render(objects, view).depth_m.numpy()
        difference = np.abs(depth_mm - read_depth_mm(scene, im_id))
        assert np.sum(difference > 0.2) <= 4
        assert (depth_mm > 0).any() == (len(truths) > 0)


def test_an_interrupted_run_goes_on_with_the_same_bytes(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written, encode = 0, writing.encode_png

    def stop(pixels: np.ndarray) -> bytes:
        nonlocal written
        written += 1
        if written == 25:
            raise KeyboardInterrupt
        return encode(pixels)

    monkeypatch.setattr(writing, "encode_png", stop)
    with pytest.raises(ValueError, match="--resume --out"):
        make(tmp_path)
    monkeypatch.undo()
    out = tmp_path / "tiny"
    assert [path.name for path in (out / "test").iterdir()] == ["000000"]
    assert not (out / "test_targets_bop19.json").exists()
    (out / "test" / f".000001.left{writing.PARTIAL}").mkdir()
    kept = (out / "test" / "000000").stat().st_mtime_ns
    make(tmp_path, resume=True)
    assert (out / "test" / "000000").stat().st_mtime_ns == kept
    first, again = files_of(dataset), files_of(out)
    assert {name: content for name, content in again.items() if content != first.get(name)} == {}
    assert set(first) == set(again)


def test_other_options_are_refused_in_a_folder_that_was_begun(dataset: Path) -> None:
    with pytest.raises(ValueError, match="expected a new or empty directory"):
        make(dataset.parent)
    with pytest.raises(ValueError, match="received another seed; choose another folder"):
        make(dataset.parent, resume=True, seed=4)
    with pytest.raises(ValueError, match="received another scene"):
        make(dataset.parent, resume=True, image_size=(64, 48))
    before = files_of(dataset)
    make(dataset.parent, resume=True)
    assert files_of(dataset) == before


def test_options_of_the_generator(tmp_path: Path) -> None:
    out = make(tmp_path, num_images=1, image_size=(24, 16), split="train_pbr", depth_scale=1.0)
    scene = read_scene(open_split(out, "train_pbr"), 0)
    assert read_image(scene, 0).shape == (16, 24, 3)
    assert read_camera(scene, 0).depth_scale == 1.0
    assert (out / "train_targets_bop24.json").is_file()
    assert check_dataset(out) == []
    for option, value in (("num_images", 0), ("split", "models"), ("depth_scale", 0.0)):
        with pytest.raises(ValueError, match=option.replace("_", "-")):
            generator().recipe_of(arguments(tmp_path, out, **{option: value}))


def test_another_renderer_draws_the_colours(dataset: Path, tmp_path: Path) -> None:
    """All but the colours is raster's, and the colours are about the same."""
    out = make(tmp_path, renderer="open3d")
    first, other = files_of(dataset), files_of(out)
    differing = {name for name in first if first[name] != other[name]}
    assert {Path(name).parent.name for name in differing - {"generator.yaml"}} <= {"rgb"}
    for scene_id, im_id in read_image_keys(open_split(out, "test")):
        images = [read_image(read_scene(open_split(folder, "test"), scene_id), im_id).astype(float) for folder in (dataset, out)]
        assert np.abs(images[0] - images[1]).mean() < 1
    assert check_dataset(out) == []


def test_the_generator_from_its_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "scene.yaml").write_text("classes: [unheard-of]\n")
    words = [
        "--config",
        str(tmp_path / "scene.yaml"),
        "--num-images",
        "1",
        "--out",
        str(tmp_path / "x"),
        "--image-size",
        "8",
        "6",
    ]
    monkeypatch.setattr(sys, "argv", ["generate_bop.py", *words])
    with pytest.raises(SystemExit) as exit:
        runpy.run_path(str(ROOT / "experiments" / "generate_bop.py"), run_name="__main__")
    assert exit.value.code == 2
    assert "error: names: expected some of mug, bowl" in capsys.readouterr().err


def test_targets_come_from_the_truths_where_there_is_no_file(dataset: Path, tmp_path: Path) -> None:
    split = open_split(dataset, "test")
    listed, keys = read_targets_2019(split), read_targets_2024(split)
    assert json.loads((dataset / "test_targets_bop24.json").read_text()) == [dict(key._asdict()) for key in keys]
    other = copy_of(dataset, tmp_path)
    for name in ("test_targets_bop19.json", "test_targets_bop24.json"):
        (other / name).unlink()
    assert read_targets_2019(open_split(other, "test")) == listed
    assert read_targets_2024(open_split(other, "test")) == keys


def test_images_come_from_the_targets_where_they_have_no_list(dataset: Path, tmp_path: Path) -> None:
    """Data sets from before 2024 name the images that methods look at beside the counts."""
    other = copy_of(dataset, tmp_path)
    (other / "test_targets_bop24.json").unlink()
    path = other / "test_targets_bop19.json"
    last = json.loads(path.read_text())[-1]
    path.write_text(json.dumps([last]))
    assert read_targets_2024(open_split(other, "test")) == (ImageKey(last["scene_id"], last["im_id"]),)
    assert len(read_image_keys(open_split(other, "test"))) > 1


def test_targets_count_what_shows_a_tenth_of_itself() -> None:
    ids = np.array([[1, 0, 5], [1, 0, 5], [1, 0, 5], [1, 0, 6], [1, 2, 5], [2, 0, 6]])
    visible = np.array([0.1, 0.09, 0.8, 0.05, 1.0, 0.5])
    truths = Truths(ids[:, 0], ids[:, 1], ids[:, 2], np.arange(6), np.tile(np.eye(4), (6, 1, 1)), visible)
    assert targets_of(truths) == (Target(1, 0, 5, 2), Target(1, 2, 5, 1), Target(2, 0, 6, 1))


def test_grey_jpeg_and_typed_splits_are_read(dataset: Path, tmp_path: Path) -> None:
    other = copy_of(dataset, tmp_path)
    (other / "test").rename(other / "val_primesense")
    folder = other / "val_primesense" / "000000"
    (folder / "rgb").rename(folder / "gray")
    for path in sorted((folder / "gray").iterdir()):
        Image.open(path).convert("L").save(path)
    path = other / "val_primesense" / "000001" / "rgb" / "000000.png"
    Image.open(path).save(path.with_suffix(".jpg"), quality=95)
    colours = np.asarray(Image.open(path)).astype(float)
    path.unlink()
    split = open_split(other, "val_primesense")
    grey = read_image(read_scene(split, 0), 0)
    assert grey.shape == (HEIGHT_PX, WIDTH_PX, 3)
    assert (grey[..., 0] == grey[..., 2]).all()
    assert np.abs(read_image(read_scene(split, 1), 0) - colours).mean() < 10
    assert [finding for finding in check_dataset(other) if finding.severity == "error"] == []
    with pytest.raises(BopError, match="expected one of val_primesense, received 'test'"):
        open_split(other, "test")


def test_a_part_without_public_truth_has_images_and_cameras(dataset: Path, tmp_path: Path) -> None:
    other = copy_of(dataset, tmp_path)
    for name in ("scene_gt.json", "scene_gt_info.json"):
        (other / "test" / "000000" / name).unlink()
    split = open_split(other, "test")
    scene = read_scene(split, 0)
    assert scene.columns.truths is None
    assert read_image(scene, 1).shape == (HEIGHT_PX, WIDTH_PX, 3)
    with pytest.raises(BopError, match="whose ground truth is public"):
        read_truths(split)


def test_a_scene_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    camera = ImageCamera(np.array([[50.0, 0, 4], [0, 50, 3], [0, 0, 1]]), 8, 6, 0.1)
    masks = np.zeros((1, 6, 8), np.bool_)
    masks[0, 1:3, 2:7] = True
    record = ImageRecord(
        rgb_srgb=np.full((6, 8, 3), 7, np.uint8),
        depth_mm=np.where(masks[0], 1234.56, 0.0),
        camera=camera,
        obj_id=np.array([4]),
        T_camera_object_mm=np.eye(4)[None] + [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1234], [0, 0, 0, 0]],
        mask=masks,
        mask_visib=masks,
        px_count_all=np.array([20]),
        bbox_obj_px=np.array([[-3, 1, 9, 1]]),
    )
    far = dataclasses.replace(record, depth_mm=record.depth_mm + 7000)
    with pytest.raises(BopError, match=r"expected 0\.\.6553\.5 mm .* use a larger depth_scale"):
        write_scene(tmp_path, 12, iter([record, far]))
    assert list(tmp_path.iterdir()) == []
    assert write_scene(tmp_path, 12, iter([record])) == 1
    folder = tmp_path / "000012"
    assert json.loads((folder / "scene_gt_info.json").read_text())["0"] == [
        {
            "bbox_obj": [-3, 1, 9, 1],
            "bbox_visib": [2, 1, 4, 1],
            "px_count_all": 20,
            "px_count_valid": 10,
            "px_count_visib": 10,
            "visib_fract": 0.5,
        }
    ]
    assert json.loads((folder / "scene_camera.json").read_text()) == {
        "0": {"cam_K": [50, 0, 4, 0, 50, 3, 0, 0, 1], "depth_scale": 0.1}
    }
    with Image.open(folder / "depth" / "000000.png") as depth:
        assert np.asarray(depth)[1, 2] == 12346
    with pytest.raises(BopError, match="expected no such folder"):
        write_scene(tmp_path, 12, iter([record]))


def test_readers_name_file_and_key(dataset: Path, tmp_path: Path) -> None:
    other = copy_of(dataset, tmp_path)
    path = other / "test" / "000000" / "scene_camera.json"
    change_json(path, lambda content: content["1"].pop("cam_K"))
    with pytest.raises(BopError, match=r'scene_camera\.json: "1": expected the key cam_K, received depth_scale.*; add cam_K'):
        read_scene(open_split(other, "test"), 0)
    scene = read_scene(open_split(dataset, "test"), 1)
    with pytest.raises(BopError, match=r"000007_000000\.png: expected an image, there is none"):
        read_mask(scene, 7, 0)
    with pytest.raises(BopError, match="expected image 7, there is none"):
        read_camera(scene, 7)
