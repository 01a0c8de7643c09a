"""Scene prior, generator and stream, against Qhull, closed forms and an analytic sphere renderer."""

from __future__ import annotations

import dataclasses
import math
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from scipy import stats
from scipy.spatial import ConvexHull, KDTree
from torch import Tensor

from inverse_graphics.compositing import render_layers
from inverse_graphics.poses import invert_rigid, project_points, transform_points, upright_pose
from inverse_graphics.types import Catalogue, Layers, Mesh, Objects, RenderOutput, View, map_tensors
from scenes import (
    BackgroundConfig,
    CameraConfig,
    LightConfig,
    SceneConfig,
    ScenePrior,
    generate,
    scene_stream,
    table_latents,
)
from scenes.__main__ import Arguments, main
from scenes.footprints import convex_footprint
from scenes.random_kernels import uniform
from scenes.sheet import contact_sheet

ROOT = Path(__file__).parent.parent
RADIUS_M = 0.05


def mesh_of(name: str, solid: trimesh.Trimesh, base: bool = True) -> Mesh:
    """A grey flat-shaded mesh, standing on z = 0 if wanted."""
    vertices = np.asarray(solid.vertices) - (0, 0, solid.bounds[0, 2] if base else 0)
    faces = np.asarray(solid.faces)
    normals = np.repeat(np.asarray(solid.face_normals)[:, None], 3, 1)
    grey = np.full((len(faces), 3, 3), 0.5, dtype=np.float32)
    return Mesh(name, vertices.astype(np.float32), faces.astype(np.int32), grey, normals.astype(np.float32), watertight=True)


CATALOGUE = Catalogue(
    (
        mesh_of("unused", trimesh.creation.box((0.5, 0.5, 0.5))),
        mesh_of("brick", trimesh.creation.box((0.16, 0.04, 0.06))),
        mesh_of("ball", trimesh.creation.icosphere(2, RADIUS_M)),
        mesh_of("tube", trimesh.creation.cylinder(0.03, 0.12, sections=12)),
    )
)
CONFIG = SceneConfig(classes=("tube", "ball", "brick"))


def with_objects(**changes: object) -> SceneConfig:
    """The test config with other settings of its objects."""
    return dataclasses.replace(CONFIG, objects=dataclasses.replace(CONFIG.objects, **changes))


class BallRenderer:
    """Draws every object as a sphere of one radius around its origin by casting a ray through each sample."""

    name = "balls"
    is_differentiable = False
    samples_per_axis = 1

    def __init__(self, catalogue: Catalogue = CATALOGUE, fail_after: int | None = None) -> None:
        self.catalogue, self.calls, self.fail_after = catalogue, 0, fail_after

    def layers(self, objects: Objects, view: View, samples_per_axis: int | None = None) -> Layers:
        s = samples_per_axis or self.samples_per_axis
        camera = view.camera
        rows, columns = torch.meshgrid(
            (torch.arange(camera.height_px * s) + 0.5) / s, (torch.arange(camera.width_px * s) + 0.5) / s, indexing="ij"
        )
        pixels = torch.stack([columns, rows, torch.ones_like(rows)], -1)
        rays = torch.nn.functional.normalize(pixels @ torch.linalg.inv(camera.K_px)[..., None, :, :].mT, dim=-1)[
            ..., None, :, :, :
        ]
        centres = transform_points(camera.T_camera_world, objects.T_world_object[..., :3, 3])[..., None, None, :]
        along = (rays * centres).sum(-1)
        inside = RADIUS_M**2 - (centres * centres).sum(-1) + along**2
        hit = (inside > 0) & objects.present[..., None, None]
        depth_m = torch.where(hit, (along - inside.clamp(min=0).sqrt()) * rays[..., 2], torch.inf)
        alpha = hit.float()
        return Layers(0.7 * alpha[..., None].expand(*alpha.shape, 3), alpha, depth_m, s)

    def render(self, objects: Objects, view: View) -> RenderOutput:
        self.calls += 1
        if self.fail_after is not None and self.calls > self.fail_after:
            raise ValueError("the renderer broke")
        return render_layers(self, objects, view)


def same(a: object, b: object) -> bool:
    """Whether two dataclasses hold equal tensors."""
    tensors: list[list[Tensor]] = [[], []]
    for value, found in zip((a, b), tensors, strict=True):
        map_tensors(lambda tensor, found=found: found.append(tensor) or tensor, value)
    return len(tensors[0]) == len(tensors[1]) and all(torch.equal(x, y) for x, y in zip(*tensors, strict=True))


def test_random_numbers_are_splitmix64() -> None:
    first_outputs = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]  # of the published generator, seed 0
    for draw, bits in enumerate(first_outputs):
        assert uniform(np.uint64(0), np.uint64(draw)) == (bits >> 11) * 2.0**-53


def test_a_scene_is_the_same_in_every_batch() -> None:
    prior = ScenePrior(CONFIG, CATALOGUE)
    together = prior.sample(5, range(40), 3)
    alone = prior.sample(5, [17], [3])
    order = torch.tensor([30, 2, 17])
    assert same(map_tensors(lambda tensor: tensor[17:18], together), alone)
    assert same(map_tensors(lambda tensor: tensor[order], together), prior.sample(5, order, 3))
    assert same(together, ScenePrior(CONFIG, CATALOGUE).sample(5, range(40), 3))
    assert not torch.equal(prior.sample(6, [17], 3).objects.T_world_object, alone.objects.T_world_object)


def test_attempts_change_poses_only() -> None:
    prior = ScenePrior(CONFIG, CATALOGUE)
    first, second = prior.sample(0, range(50), 0), prior.sample(0, range(50), 1)
    assert same(first.view, second.view)
    assert torch.equal(first.objects.class_ids, second.objects.class_ids)
    assert torch.equal(first.objects.present, second.objects.present)
    moved = (first.objects.T_world_object != second.objects.T_world_object).flatten(2).any(-1)
    assert torch.equal(moved, first.objects.present)


def test_absent_slots_follow_and_hold_nothing() -> None:
    objects = ScenePrior(CONFIG, CATALOGUE).sample(0, range(500)).objects
    slots = torch.arange(3)
    assert torch.equal(objects.present, slots < objects.count[:, None])
    assert bool((objects.class_ids[~objects.present] == 0).all())
    assert torch.equal(objects.T_world_object[~objects.present], torch.eye(4).expand(int((~objects.present).sum()), 4, 4))
    assert set(objects.class_ids[objects.present].tolist()) == {1, 2, 3}


def test_an_empty_batch_is_a_batch() -> None:
    scene = ScenePrior(CONFIG, CATALOGUE).sample(0, [])
    assert scene.objects.T_world_object.shape == (0, 3, 4, 4)
    assert scene.view.background_rgb.shape == (0, 64, 64, 3)


def test_counts_and_classes_have_their_probabilities() -> None:
    prior = ScenePrior(with_objects(count_probabilities=(0.1, 0.2, 0.3, 0.4)), CATALOGUE)
    objects = prior.sample(1, range(20_000)).objects
    counts = objects.count.bincount(minlength=4).numpy()
    assert stats.chisquare(counts, 20_000 * np.array([0.1, 0.2, 0.3, 0.4])).pvalue > 1e-3
    classes = objects.class_ids[objects.present].bincount(minlength=4)[1:].numpy()
    assert stats.chisquare(classes).pvalue > 1e-3


def test_single_objects_are_uniform_in_position_and_yaw() -> None:
    config = dataclasses.replace(with_objects(min_count=1, max_count=1, yaw_range_deg=(-30.0, 90.0)), classes=("brick",))
    latents = table_latents(ScenePrior(config, CATALOGUE).sample(0, range(5000)).objects)
    room = 0.3 - math.hypot(0.08, 0.02)
    for values, low, high in (
        (latents.xy_m[:, 0, 0], -room, room),
        (latents.xy_m[:, 0, 1], -room, room),
        (latents.yaw_rad[:, 0], -math.pi / 6, math.pi / 2),
    ):
        assert stats.kstest(values.numpy(), "uniform", (low, high - low)).pvalue > 1e-3


def test_free_rotations_are_uniform() -> None:
    config = with_objects(min_count=1, max_count=1, placement="free", z_range_m=(0.0, 0.4))
    objects = ScenePrior(config, CATALOGUE).sample(0, range(5000)).objects
    R = objects.T_world_object[:, 0, :3, :3].double()
    assert torch.allclose(R @ R.mT, torch.eye(3, dtype=torch.float64).expand_as(R), atol=1e-6)
    assert torch.allclose(torch.linalg.det(R), torch.ones(5000, dtype=torch.float64), atol=1e-6)
    for entry in R.flatten(1).T:  # every entry of a uniform rotation is uniform in -1..1 (Archimedes)
        assert stats.kstest(entry.numpy(), "uniform", (-1, 2)).pvalue > 1e-3
    angle = torch.arccos(((R.diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1)).numpy()
    assert stats.kstest(angle, lambda t: (t - np.sin(t)) / np.pi).pvalue > 1e-3


def test_upright_objects_keep_their_distance_and_stay_inside() -> None:
    clearance_m = 0.015
    config = with_objects(clearance_m=clearance_m, min_count=3, x_range_m=(-0.2, 0.2), y_range_m=(-0.2, 0.2))
    objects = ScenePrior(config, CATALOGUE).sample(0, range(150)).objects
    smallest = math.inf
    for ids, poses in zip(objects.class_ids.tolist(), objects.T_world_object.double().numpy(), strict=True):
        placed = [CATALOGUE.meshes[i].vertices_m @ T[:3, :3].T + T[:3, 3] for i, T in zip(ids, poses, strict=True)]
        assert max(np.abs(points[:, :2]).max() for points in placed) <= 0.2 + 1e-6
        for a in range(3):
            for b in range(a):
                # The origin lies outside the hull of all differences by a half-space: the gap of two convex sets (Minkowski).
                differences = (placed[a][:, None, :2] - placed[b][None, :, :2]).reshape(-1, 2)
                smallest = min(smallest, ConvexHull(differences).equations[:, 2].max())
    assert clearance_m - 1e-6 <= smallest < clearance_m + 0.002


def test_free_objects_keep_their_distance() -> None:
    config = with_objects(placement="free", min_count=3, z_range_m=(0.0, 0.2), keep_inside=False, clearance_m=0.02)
    objects = ScenePrior(config, CATALOGUE).sample(0, range(100)).objects
    for ids, poses in zip(objects.class_ids.tolist(), objects.T_world_object.double().numpy(), strict=True):
        placed = [CATALOGUE.meshes[i].vertices_m @ T[:3, :3].T + T[:3, 3] for i, T in zip(ids, poses, strict=True)]
        for a in range(3):
            for b in range(a):
                assert KDTree(placed[a]).query(placed[b])[0].min() >= 0.02 - 1e-6


def test_log_prob_is_the_closed_form() -> None:
    prior = ScenePrior(with_objects(count_probabilities=(0.1, 0.2, 0.3, 0.4), keep_inside=False), CATALOGUE)
    objects = prior.sample(0, range(64)).objects
    terms = prior.log_prob(objects)
    each = -math.log(3) - math.log(0.36) - math.log(2 * math.pi)
    expected = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()[objects.count] + each * objects.count
    assert torch.allclose(terms.total, expected, atol=1e-5)
    assert terms.class_id.shape == terms.position.shape == terms.rotation.shape == (64, 3)
    inside = ScenePrior(CONFIG, CATALOGUE)
    ball = Objects(torch.tensor([2]), upright_pose(torch.zeros(1, 2), torch.zeros(1)), torch.tensor([True]))
    assert float(inside.log_prob(ball).position) == pytest.approx(-2 * math.log(0.6 - 2 * RADIUS_M), abs=1e-4)


def test_log_prob_is_minus_infinity_outside() -> None:
    prior = ScenePrior(with_objects(yaw_range_deg=(0.0, 90.0)), CATALOGUE)
    xy_m = torch.tensor([[0.0, 0.0], [0.28, 0.0], [0.0, 0.0], [0.0, 0.0]])
    pose = upright_pose(xy_m, torch.tensor([0.1, 0.1, -0.1, 0.1]))
    terms = prior.log_prob(Objects(torch.tensor([2, 2, 2, 0]), pose, torch.ones(4, dtype=torch.bool)))
    assert torch.isfinite(terms.position[:3]).tolist() == [True, False, True]
    assert torch.isfinite(terms.rotation).tolist() == [True, True, False, True]
    assert torch.isfinite(terms.class_id).tolist() == [True, True, True, False]
    assert float(terms.count) == -math.inf


def test_latents_rebuild_the_poses() -> None:
    objects = ScenePrior(CONFIG, CATALOGUE).sample(0, range(50)).objects
    latents = table_latents(objects)
    assert torch.allclose(upright_pose(latents.xy_m, latents.yaw_rad), objects.T_world_object, atol=1e-6)
    assert torch.equal(latents.count, objects.present.sum(-1))


def test_the_view_is_what_the_config_says() -> None:
    camera = CameraConfig(focal_px=90.0, eye_jitter_m=(0.1, 0.1, 0.1), target_jitter_m=(0.0, 0.0, 0.0))
    light = LightConfig(azimuth_range_deg=(0.0, 90.0), elevation_range_deg=(30.0, 60.0), ambient=0.2, diffuse=0.6)
    config = dataclasses.replace(CONFIG, camera=camera, light=light, image_size_px=(80, 40))
    view = ScenePrior(config, CATALOGUE).sample(0, range(300)).view
    centre, depth_m = project_points(view.camera, torch.tensor(camera.target_world_m).expand(300, 1, 3))
    assert torch.allclose(centre, torch.tensor([40.0, 20.0]).expand_as(centre), atol=1e-3)
    eye = invert_rigid(view.camera.T_camera_world)[:, :3, 3]
    moved = eye - torch.tensor(camera.eye_world_m)
    assert 0.095 < float(moved.abs().max()) <= 0.1 + 1e-6
    assert torch.allclose(torch.linalg.norm(eye - torch.tensor(camera.target_world_m), dim=-1), depth_m[:, 0], atol=1e-5)
    direction = view.light.direction_world
    assert torch.allclose(torch.linalg.norm(direction, dim=-1), torch.ones(300), atol=1e-6)
    elevation = torch.rad2deg(torch.asin(direction[:, 2]))
    assert 30 - 1e-3 <= float(elevation.min()) < 32
    assert 58 < float(elevation.max()) <= 60 + 1e-3
    assert bool((direction[:, :2] >= -1e-6).all())
    assert torch.equal(view.light.ambient, torch.full((300,), 0.2))
    assert view.background_rgb.shape == (300, 40, 80, 3)


def test_field_of_view_and_focal_length_agree() -> None:
    assert CameraConfig(vertical_fov_deg=90.0).focal_length_px(64) == pytest.approx(32.0)
    assert CameraConfig(focal_px=77.0).focal_length_px(64) == 77.0


def test_the_chequered_table_lies_in_perspective() -> None:
    background = BackgroundConfig(kind="checker", rgb=(0.9, 0.9, 0.9), second_rgb=(0.1, 0.1, 0.1), square_m=0.1, jitter=0.0)
    camera = CameraConfig(eye_world_m=(0.0, -1.0, 0.3), target_world_m=(0.0, 0.0, 0.25), vertical_fov_deg=60.0)
    config = dataclasses.replace(CONFIG, background=background, camera=camera, image_size_px=(200, 200))
    view = ScenePrior(config, CATALOGUE).sample(0, [0]).view
    x, y = torch.meshgrid(torch.arange(-4, 4) * 0.1 + 0.05, torch.arange(-5, 0) * 0.1 + 0.05, indexing="ij")
    points = torch.stack([x.flatten(), y.flatten(), torch.zeros(x.numel())], -1)
    uv_px, _ = project_points(view.camera, points[None])
    seen = ((uv_px > 3) & (uv_px < 197)).all(-1)[0]
    column, row = uv_px[0, seen].long().unbind(-1)
    odd = torch.floor(points[seen, :2] / 0.1 + 1e-3).sum(-1).long() % 2 == 1
    assert int(seen.sum()) > 20
    assert torch.allclose(view.background_rgb[0, row, column, 0], torch.where(odd, 0.1, 0.9), atol=1e-6)
    assert torch.equal(view.background_rgb[0, :40], torch.full((40, 200, 3), 0.9))  # above the horizon


def test_generated_scenes_show_every_object_and_do_not_depend_on_the_batch() -> None:
    config = with_objects(min_visible_fraction=0.9, clearance_m=0.0, x_range_m=(-0.2, 0.2), y_range_m=(-0.2, 0.2))
    prior, renderer = ScenePrior(config, CATALOGUE), BallRenderer()
    batch = generate(prior, renderer, 0, range(60))
    present = batch.scene.objects.present
    assert renderer.calls > 1
    assert bool((batch.image.visible_fraction[present] >= 0.9).all())
    first = prior.sample(0, range(60))
    assert torch.equal(batch.scene.objects.class_ids, first.objects.class_ids)
    redrawn = (batch.scene.objects.T_world_object != first.objects.T_world_object).flatten(1).any(1).nonzero()[:, 0]
    assert 0 < len(redrawn) < 40
    rows = torch.cat([redrawn[:5], torch.tensor([0, 1])])
    assert same(map_tensors(lambda tensor: tensor[rows], batch), generate(prior, renderer, 0, rows))
    assert same(batch.image, renderer.render(batch.scene.objects, batch.scene.view))


def test_scenes_that_can_never_be_seen_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scenes.generator.MAX_ATTEMPTS", 5)
    camera = CameraConfig(eye_world_m=(5.0, -1.0, 1.0), target_world_m=(9.0, 0.0, 0.0), vertical_fov_deg=30.0)
    config = dataclasses.replace(with_objects(min_count=1), camera=camera, image_size_px=(8, 8))
    with pytest.raises(ValueError, match=r"objects.min_visible_fraction: expected .* 2 of 2 scenes .* field of view"):
        generate(ScenePrior(config, CATALOGUE), BallRenderer(), 0, [0, 1])


def test_a_renderer_of_another_catalogue_is_refused() -> None:
    with pytest.raises(ValueError, match="renderer: expected the prior's catalogue"):
        generate(ScenePrior(CONFIG, CATALOGUE), BallRenderer(Catalogue(CATALOGUE.meshes[1:])), 0, [0])


def test_objects_that_do_not_fit_are_an_error() -> None:
    crowded = with_objects(min_count=3, x_range_m=(-0.09, 0.09), y_range_m=(-0.09, 0.09))
    with pytest.raises(ValueError, match=r"objects: expected room .* widen objects.x_range_m"):
        ScenePrior(crowded, CATALOGUE).sample(0, range(4))
    narrow = with_objects(x_range_m=(-0.06, 0.06))
    with pytest.raises(ValueError, match=r"'brick' that reaches 0.082 m .*keep_inside"):
        ScenePrior(narrow, CATALOGUE)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="classes: expected names of the catalogue .* received spoon"):
        ScenePrior(dataclasses.replace(CONFIG, classes=("ball", "spoon")), CATALOGUE)
    prior = ScenePrior(CONFIG, CATALOGUE)
    with pytest.raises(ValueError, match="indices: expected a list of integers >= 0"):
        prior.sample(0, [-1])
    with pytest.raises(ValueError, match="attempts: expected"):
        prior.sample(0, [1], -1)
    with pytest.raises(ValueError, match="seed: expected"):
        prior.sample(-1, [1])
    with pytest.raises(ValueError, match="batch_size: expected at least 1"):
        scene_stream(prior, BallRenderer(), 0, 0)
    flat = dataclasses.replace(
        CATALOGUE.meshes[1], vertices_m=CATALOGUE.meshes[1].vertices_m * np.array([1, 0, 1], dtype=np.float32)
    )
    with pytest.raises(ValueError, match="mesh 'brick': expected a footprint with an area"):
        convex_footprint(flat)


def test_a_stream_gives_consecutive_batches_and_stops() -> None:
    prior, renderer = ScenePrior(CONFIG, CATALOGUE), BallRenderer()
    before = set(threading.enumerate())
    with scene_stream(prior, renderer, batch_size=3, seed=2, start_index=10, prefetch=3) as stream:
        batches = [next(stream) for _ in range(5)]
    assert set(threading.enumerate()) == before
    assert list(stream) == []
    for k, batch in enumerate(batches):
        assert same(batch, generate(prior, renderer, 2, range(10 + 3 * k, 13 + 3 * k)))
    stream.close()


def test_a_stream_hands_errors_to_its_consumer() -> None:
    config = with_objects(min_count=1, max_count=1)
    before = set(threading.enumerate())
    with scene_stream(ScenePrior(config, CATALOGUE), BallRenderer(fail_after=2), 2, 0) as stream:
        next(stream)
        next(stream)
        for _ in range(2):
            with pytest.raises(ValueError, match="the renderer broke"):
                next(stream)
    assert set(threading.enumerate()) == before


def test_contact_sheet_shows_the_images() -> None:
    batch = generate(ScenePrior(CONFIG, CATALOGUE), BallRenderer(), 0, range(5))
    sheet = contact_sheet(batch, CATALOGUE.names, columns=3)
    assert sheet.size == (3 * 260 + 4, 2 * 260 + 4)
    linear = batch.image.rgb[4, 63, 63].double().numpy()
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(np.asarray(sheet)[2 * 260 - 1, 2 * 260 - 1] - 255 * srgb).max() <= 0.51


def test_the_command_writes_a_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(Arguments(ROOT / "scenes" / "tabletop.yaml", tmp_path / "sheet.png", count=2))
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    assert "2 scenes" in capsys.readouterr().out
