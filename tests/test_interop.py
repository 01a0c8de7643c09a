"""Poses and scenes for other programs: frames, quaternions, files that come back, GLB files read by another reader."""

from __future__ import annotations

import dataclasses
import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import roma
import torch
import trimesh
from guide_scenes import scenes_of_counts, table_catalogue, tiny_guide
from renderer_scenes import ball, box, catalogue_of, posed

from inverse_graphics.bop.types import Estimates
from inverse_graphics.inference import infer
from inverse_graphics.interop import (
    CAMERA_FRAME,
    PoseRows,
    in_frame,
    matrix_of_pose,
    position_of,
    quat_xyzw_of,
    read_poses_csv,
    read_poses_json,
    rows_of_estimates,
    rows_of_inference,
    rows_of_objects,
    scene_glb,
    write_glb,
    write_poses_csv,
    write_poses_json,
)
from inverse_graphics.posterior_draws import draw_scenes
from inverse_graphics.types import Camera, Mesh, Texture, map_tensors

READERS = {"json": (write_poses_json, read_poses_json), "csv": (write_poses_csv, read_poses_csv)}


def some_rows(count: int = 4) -> PoseRows:
    """Rows with every rotation that is hard to get right: none, half a turn, and random ones."""
    generator = torch.Generator().manual_seed(0)
    turns = torch.randn(count, 3, generator=generator, dtype=torch.float64)
    turns[0], turns[1] = 0.0, torch.tensor([torch.pi, 0.0, 0.0], dtype=torch.float64)
    T = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
    T[:, :3, :3], T[:, :3, 3] = roma.rotvec_to_rotmat(turns), torch.randn(count, 3, generator=generator, dtype=torch.float64)
    return PoseRows(
        frame_id=("world",) * count,
        stamp_ns=np.arange(count) * 1_700_000_000_123_456_789 // 3,
        scene_id=np.arange(count),
        image_id=np.arange(count)[::-1].copy(),
        slot=np.zeros(count, np.int64),
        class_name=("mug", 'a "quoted", name', "Tässchen", "box")[:count],
        score=np.linspace(1 / 3, 1, count),
        T_frame_object=T.numpy(),
    )


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("count", [0, 4])
def test_poses_come_back(tmp_path: Path, kind: str, count: int) -> None:
    rows, (write, read) = some_rows(4), READERS[kind]
    rows = rows if count else dataclasses.replace(rows, **{f.name: getattr(rows, f.name)[:0] for f in dataclasses.fields(rows)})
    write(tmp_path / f"poses.{kind}", rows)
    back = read(tmp_path / f"poses.{kind}")
    for field in dataclasses.fields(PoseRows):
        mine, theirs = getattr(rows, field.name), getattr(back, field.name)
        if field.name == "T_frame_object":
            np.testing.assert_array_equal(theirs[:, :3, 3], mine[:, :3, 3])
            np.testing.assert_allclose(theirs, mine, atol=1e-14)
        else:
            np.testing.assert_array_equal(theirs, mine)


def test_quaternions_are_those_of_another_library() -> None:
    T = some_rows().T_frame_object
    quat = quat_xyzw_of(T)
    np.testing.assert_allclose(roma.unitquat_to_rotmat(torch.from_numpy(quat)).numpy(), T[:, :3, :3], atol=1e-14)
    np.testing.assert_allclose(np.abs(quat[:2]), [[0, 0, 0, 1], [1, 0, 0, 0]], atol=1e-15)
    assert (quat[:, 3] >= 0).all()
    np.testing.assert_allclose(matrix_of_pose(position_of(T), -quat), T, atol=1e-14)


def test_the_json_has_the_fields_of_ros(tmp_path: Path) -> None:
    """``set_message_fields`` of ROS takes header and pose as they stand."""
    write_poses_json(tmp_path / "poses.json", some_rows())
    row = json.loads((tmp_path / "poses.json").read_text())["poses"][1]
    assert row["header"] == {"frame_id": "world", "stamp": {"sec": 566666666, "nanosec": 707818929}}
    assert list(row["pose"]["position"]) == ["x", "y", "z"]
    assert {axis: abs(value) for axis, value in row["pose"]["orientation"].items()} == pytest.approx(
        {"x": 1, "y": 0, "z": 0, "w": 0}, abs=1e-15
    )


def test_objects_become_rows_and_change_frames() -> None:
    objects, view, _ = scenes_of_counts([1, 0, 2])
    rows = rows_of_objects(objects, ("box", "ball", "wedge"), stamp_ns=[5, 6, 7], image_ids=[10, 11, 12])
    assert rows.image_id.tolist() == [10, 12, 12]
    assert rows.slot.tolist() == [0, 0, 1]
    assert rows.stamp_ns.tolist() == [5, 7, 7]
    np.testing.assert_array_equal(rows.T_frame_object[2], objects.T_world_object[2, 1].double())
    T_camera_world = view.camera.T_camera_world[0].double().numpy()
    seen = in_frame(rows, T_camera_world, CAMERA_FRAME)
    assert set(seen.frame_id) == {CAMERA_FRAME}
    # an object's origin is seen where the pinhole camera projects it
    uvw = view.camera.K_px[0].double().numpy() @ seen.T_frame_object[0, :3, 3]
    by_hand = T_camera_world[:3, :3] @ rows.T_frame_object[0, :3, 3] + T_camera_world[:3, 3]
    np.testing.assert_allclose(uvw[:2] / uvw[2], (by_hand[:2] / by_hand[2]) * 1.6 * 32 + 16, atol=1e-5)
    back = in_frame(seen, np.linalg.inv(T_camera_world), "world")
    np.testing.assert_allclose(back.T_frame_object, rows.T_frame_object, atol=1e-6)


def test_scores_of_an_inference_are_its_probabilities() -> None:
    objects, view, image_rgb = scenes_of_counts([2, 2])
    inference = infer(tiny_guide(), image_rgb, view.camera)
    everything = dataclasses.replace(inference.objects, present=torch.ones_like(objects.present))
    rows = rows_of_inference(dataclasses.replace(inference, objects=everything), table_catalogue().names)
    q = inference.count_probabilities
    at_least = torch.stack([q[:, 1] + q[:, 2], q[:, 2]], -1).double().numpy()
    np.testing.assert_allclose(rows.score.reshape(2, 2), at_least * inference.class_probabilities.amax(-1).numpy(), rtol=1e-5)


def test_estimates_of_bop_are_in_metres() -> None:
    T = np.tile(np.eye(4), (3, 1, 1))
    T[:, 2, 3] = [500.0, 600.0, 700.0]
    ids = np.asarray([1, 1, 2])
    estimates = Estimates(ids, np.asarray([0, 0, 3]), np.asarray([5, 6, 5]), np.asarray([0.1, 0.2, 0.3]), T, np.full(3, -1.0))
    rows = rows_of_estimates(estimates, {5: "mug", 6: "pan"})
    assert rows.class_name == ("mug", "pan", "mug")
    assert rows.slot.tolist() == [0, 1, 0]
    np.testing.assert_allclose(rows.T_frame_object[:, 2, 3], [0.5, 0.6, 0.7])
    with pytest.raises(ValueError, match="names: expected one of every obj_id, received none of 6"):
        rows_of_estimates(estimates, {5: "mug"})


BAD_JSON = {
    "[]": "a list under the key 'poses'",
    '{"poses": [{}]}': r"poses\[0\]\.header\.frame_id: expected str, received None",
    '{"poses": [': r"expected JSON in .*poses\.json",
}


@pytest.mark.parametrize("text", BAD_JSON)
def test_bad_json_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "poses.json").write_text(text)
    with pytest.raises(ValueError, match=BAD_JSON[text]):
        read_poses_json(tmp_path / "poses.json")


def test_bad_csv_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "poses.csv"
    write_poses_csv(path, some_rows())
    good = path.read_text()
    changes = {
        (",mug,", ",mug,high,"): "line 2",
        ("frame_id,", "frame,"): "expected the columns frame_id",
        (",1.0\n", ",2.0\n"): "length 1, received 2",
        (",1.0\n", ",inf\n"): "finite",
        (",mug,", ",,"): "names of frames and classes",
        ("world,0,0,0", "world,0,0,x"): r"line 2, scene_id: expected int, received 'x'",
    }
    for (old, new), message in changes.items():
        assert old in good
        path.write_text(good.replace(old, new, 1))
        with pytest.raises(ValueError, match=message):
            read_poses_csv(path)


def test_matrices_that_are_not_rigid_are_refused() -> None:
    T = some_rows().T_frame_object
    for wrong in (T * 1.1, T @ np.diag([-1.0, 1, 1, 1]), np.where(T == T[0, 0, 0], np.nan, T), T.swapaxes(-1, -2)):
        with pytest.raises(ValueError, match="expected rigid 4x4 matrices"):
            quat_xyzw_of(wrong)


def glb_tree(content: bytes) -> dict[str, Any]:
    """The JSON part of a GLB file."""
    (length,) = struct.unpack_from("<I", content, 12)
    return json.loads(content[20 : 20 + length])


def textured(mesh: Mesh) -> Mesh:
    rgb = np.linspace(0, 1, 4 * 8 * 3, dtype=np.float32).reshape(4, 8, 3)
    uv = np.random.default_rng(0).random((len(mesh.faces), 3, 2)).astype(np.float32)
    return dataclasses.replace(mesh, name="printed", texture=Texture(uv, rgb))


def test_a_scene_as_glb(tmp_path: Path) -> None:
    """Node names, poses, sizes and colours, read by trimesh; y is up there."""
    catalogue = catalogue_of(box(), ball(subdivisions=1), textured(box()))
    objects = posed([0, 2, 0], [[0.1, 0.2, 0.0], [0, 0, 0.3], [0.4, 0, 0]], [[0.0, 0.0, 0.5], [0.3, 0.0, 0.0], [0.0, 0.0, 0.0]])
    camera = Camera(torch.tensor([[60.0, 0, 30], [0, 60, 20], [0, 0, 1]]), torch.eye(4), 60, 40)
    write_glb(tmp_path / "scene.glb", catalogue, objects, camera)
    content = (tmp_path / "scene.glb").read_bytes()
    tree = glb_tree(content)
    assert {node["name"] for node in tree["nodes"]} == {"world", "box_0", "printed_1", "box_2", "camera"}
    assert len(tree["meshes"]) == 3  # the box is stored once
    scene = trimesh.load_scene(io.BytesIO(content), file_type="glb", process=False)
    up = np.asarray([[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
    for slot, node in enumerate(("box_0", "printed_1", "box_2")):
        T, name = scene.graph[node]
        np.testing.assert_allclose(T, up @ objects.T_world_object[slot].double().numpy(), atol=1e-6)
        assert name == node[:-2]
    plain: Any = scene.geometry["box"]
    np.testing.assert_allclose(plain.extents, [0.1, 0.06, 0.08], atol=1e-7)
    assert plain.is_winding_consistent
    np.testing.assert_array_equal(plain.visual.vertex_attributes["color"][:, :3], np.tile([204, 102, 51], (24, 1)))
    printed: Any = scene.geometry["printed"]
    assert printed.visual.material.baseColorTexture.size == (8, 4)
    corners = printed.visual.uv[printed.faces].reshape(-1, 2)
    wanted = catalogue.meshes[2].texture.corner_uv.reshape(-1, 2)  # pyright: ignore[reportOptionalMemberAccess]
    np.testing.assert_allclose(np.sort(corners, 0), np.sort(wanted, 0), atol=1e-6)
    frustum = np.unique(np.asarray(scene.geometry["camera"].vertices).round(6), axis=0)
    assert {(0.0, 0.0, 0.0), (-0.075, -0.05, 0.15), (0.075, 0.05, 0.15)} <= set(map(tuple, frustum.tolist()))


def test_absent_objects_and_the_camera_may_be_missing() -> None:
    objects = posed([0, 0], [[0, 0, 0], [0, 0, 1]])
    objects = dataclasses.replace(objects, present=torch.tensor([False, True]))
    names = {node["name"] for node in glb_tree(scene_glb(catalogue_of(box()), objects))["nodes"]}
    assert names == {"world", "box_1"}
    with pytest.raises(ValueError, match="expected those of one scene"):
        scene_glb(catalogue_of(box()), map_tensors(lambda tensor: tensor[None], objects))


def test_draws_of_scenes_follow_the_count_and_repeat() -> None:
    """Of 200 draws as many have each count as the guide says; a sure guide's draws are its modes."""
    guide = tiny_guide()
    _, view, image_rgb = scenes_of_counts([1, 2])
    q = infer(guide, image_rgb, view.camera, looks=1).count_probabilities
    drawn = draw_scenes(guide, image_rgb, view.camera, 200, torch.Generator().manual_seed(0), looks=1)
    assert drawn.present.shape == (2, 200, 2)
    share = torch.stack([(drawn.count == count).float().mean(-1) for count in range(3)], -1)
    # the second step's presence depends on what the first one drew, hence no exact closed form for it
    torch.testing.assert_close(share[:, 0], q[:, 0], atol=0.1, rtol=0)
    again = draw_scenes(guide, image_rgb, view.camera, 200, torch.Generator().manual_seed(0), looks=1)
    assert torch.equal(drawn.T_world_object, again.T_world_object)
    spread_m = drawn.T_world_object[:, :, 0, :2, 3].std(1)
    assert (spread_m > 1e-4).all()
    with pytest.raises(ValueError, match="draws: expected at least 1"):
        draw_scenes(guide, image_rgb, view.camera, 0, torch.Generator())
