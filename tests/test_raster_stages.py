"""The compiled stages of analytic gradients one by one, in float64: shading, borders, and the push on to poses and surfaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from gradient_scenes import hat
from renderer_scenes import ball, box, catalogue_of, mesh_of
from torch import Tensor

from inverse_graphics.types import Mesh, Texture
from renderers.raster import border_kernels as borders
from renderers.raster.border_kernels import COLUMNS, DET, E_0, EDGE_OF_A, EDGE_OF_B, INTERSECTION, MOST_FACES, NONE, Q, Scene
from renderers.raster.gradient_kernels import push, shading_pull
from renderers.raster.meshes import PackedMeshes, pack_meshes
from renderers.raster.shading_kernels import albedo_slopes, cosine_slopes, shade, texel_slopes

CAMERA = np.array([40.0, 36.0, 15.0, 11.0, 0.05])
"""fx, fy, cx, cy in samples, near plane in metres."""
Array = np.ndarray
Light = tuple[float, float, float, float, float, float]


def scene_of(
    meshes: PackedMeshes, class_id: int, T: Array, camera: Array, light: Light = (0.0, 0.0, 1.0, 0.3, 0.7, 0.0)
) -> Scene:
    """One object, no face seen yet."""
    seen, background = np.zeros((len(meshes.faces), COLUMNS)), np.zeros((4, 4, 3))
    return Scene(meshes, np.array([class_id]), T[None], np.array([light]), camera, background, 1, 0, seen)


def in_float64(meshes: PackedMeshes) -> PackedMeshes:
    return meshes._replace(**{k: v.astype(np.float64) for k, v in meshes._asdict().items() if v.dtype == np.float32})


def random_triangles(textured: bool) -> PackedMeshes:
    """Class 1: six triangles with a colour and a normal (not of unit length) of its own at each corner."""
    random = np.random.default_rng(5)
    mesh = Mesh(
        "triangles",
        random.uniform(-0.2, 0.2, (18, 3)),
        np.arange(18, dtype=np.int32).reshape(6, 3),
        random.uniform(0.2, 1, (6, 3, 3)),
        random.normal(0, 0.4, (6, 3, 3)) + [0.3, 0.6, 0.9],
        texture=Texture(random.uniform(-2, 3, (6, 3, 2)), random.uniform(0, 1, (4, 5, 3))) if textured else None,
    )
    return in_float64(pack_meshes(catalogue_of(box(), mesh)))


MESHES = {textured: random_triangles(textured) for textured in (False, True)}
FIRST = 12
"""First face of class 1."""


def make_light(near: bool, ambient: float = 0.3, diffuse: float = 0.7) -> Light:
    at = [0.5, 0.9, 1.1] if near else [0.36, 0.48, 0.8]
    return at[0], at[1], at[2], ambient, diffuse, float(near)


def central(function: Callable[[Array], Any], at: Array, step: float = 1e-6) -> Array:
    """[inputs outputs] central differences."""
    moves = np.eye(len(at)) * step
    return np.stack([(np.asarray(function(at + move)) - np.asarray(function(at - move))) / (2 * step) for move in moves])


def places() -> Array:
    return np.random.default_rng(2).dirichlet(np.ones(3), 6)


def assert_close(got: object, expected: object, atol: float = 1e-7) -> None:
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=1e-6, atol=atol)


@pytest.mark.parametrize("textured", [False, True])
def test_albedo_slopes_are_those_of_shading(textured: bool) -> None:
    meshes, only_ambient = MESHES[textured], make_light(False, 1.0, 0.0)
    for face, (b0, b1, b2) in enumerate(places(), FIRST):
        albedo, by_1, by_2, texture = albedo_slopes(meshes, 1, face, b0, b1, b2)
        assert_close(albedo, shade(meshes, 1, 2 * face, b1, b2, only_ambient))
        slopes = central(lambda b, face=face: shade(meshes, 1, 2 * face, b[0], b[1], only_ambient), np.array([b1, b2]))
        assert_close([by_1, by_2], slopes, 1e-6)
        white = meshes._replace(corner_rgb=np.ones_like(meshes.corner_rgb))
        assert_close(texture, shade(white, 1, 2 * face, b1, b2, only_ambient))


@pytest.mark.parametrize("behind", [0, 1])
@pytest.mark.parametrize("near", [False, True])
def test_cosine_slopes_are_those_of_shading(near: bool, behind: int) -> None:
    meshes = MESHES[False]._replace(corner_rgb=np.ones_like(MESHES[False].corner_rgb))
    light = np.array(make_light(near, 0.0, 1.0))
    light[:3] *= -1 if behind else 1
    for face, (b0, b1, b2) in enumerate(places(), FIRST):
        code = 2 * face + behind

        def level(b_1: float, b_2: float, light: Array, meshes: PackedMeshes = meshes, code: int = code) -> float:
            return shade(meshes, 1, code, b_1, b_2, tuple(light))[0]

        def with_normals(more: Array, b: tuple[float, float] = (b1, b2), face: int = face, code: int = code) -> float:
            normals = meshes.corner_normals.copy()
            normals[face] += more
            return level(*b, light, meshes._replace(corner_normals=normals), code)

        cosine, by_1, by_2, by_light, by_normal = cosine_slopes(meshes, 1, code, b0, b1, b2, tuple(light))
        assert 0.1 < cosine <= 1
        assert cosine == pytest.approx(level(b1, b2, light))
        assert_close([by_1, by_2], central(lambda b, level=level: level(b[0], b[1], light), np.array([b1, b2])))
        moved = central(lambda m, level=level, b=(b1, b2): level(*b, light + [*m, 0, 0, 0]), np.zeros(3))
        assert_close(by_light, moved)
        assert_close(by_normal, central(with_normals, np.zeros(3)))


def test_light_from_behind_has_no_slopes() -> None:
    for near in (False, True):
        light = tuple(make_light(near) * np.array([-1, -1, -1, 1, 1, 1]))
        found = cosine_slopes(MESHES[False], 1, 2 * FIRST, 0.2, 0.3, 0.5, light)
        assert found == (0.0, 0.0, 0.0, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))


def test_texel_slopes_are_those_of_the_bilinear_value() -> None:
    texels, random = MESHES[True].texels, np.random.default_rng(3)
    for _ in range(5):
        i, j, m, n = random.integers(0, len(texels), 4).tolist()
        along, down = random.random(2).tolist()

        def bilinear(at: Array, i: int = i, j: int = j, m: int = m, n: int = n) -> float:
            weights = np.outer([1 - at[1], at[1]], [1 - at[0], at[0]])
            return float((weights * texels[[[i, j], [m, n]], 1]).sum())

        value, by_column, by_row = texel_slopes(texels, i, j, m, n, along, down, 1)
        assert value == pytest.approx(bilinear(np.array([along, down])))
        assert_close([by_column, by_row], central(bilinear, np.array([along, down])))


def pose(rotvec: tuple[float, float, float], position: tuple[float, float, float]) -> Array:
    R = torch.linalg.matrix_exp(hat(torch.tensor(rotvec, dtype=torch.float64))).numpy()
    return np.concatenate([R, np.array(position)[:, None]], 1)


POSE = pose((0.4, -0.3, 0.2), (0.02, -0.03, 0.8))


def project(points_camera: Array) -> Array:
    """Samples of points in the camera's frame."""
    return points_camera[..., :2] / points_camera[..., 2:] * CAMERA[:2] + CAMERA[2:4]


def corners_of(meshes: PackedMeshes, class_id: int, face: int) -> Array:
    return meshes.vertices_m[meshes.vertex_start[class_id] + meshes.faces[face]]


def test_seen_faces_are_those_of_projected_points() -> None:
    meshes, random = MESHES[False], np.random.default_rng(4)
    for face in range(FIRST, FIRST + 6):
        scene = scene_of(meshes, 1, POSE, CAMERA)
        seen, row = scene.seen, borders.look(scene, 0, face)
        assert row == face - FIRST
        corners = corners_of(meshes, 1, face) @ POSE[:, :3].T + POSE[:, 3]
        for b in random.uniform(-0.5, 1.5, (4, 3)):
            b[0] = 1 - b[1] - b[2]
            point = b @ corners
            x, y = project(point)
            assert_close([borders.value(seen, row, E_0 + 3 * i, x, y) for i in range(3)], b / point[2])
            assert borders.value(seen, row, Q, x, y) == pytest.approx(1 / point[2])
            assert_close(borders.barycentric(seen, row, x, y), [*np.clip(b[1:], -1, 2), 1 / point[2]])
        normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
        assert (seen[row, DET] < 0) == (normal @ corners[0] < 0)


def test_faces_are_seen_once_and_forgotten() -> None:
    scene = scene_of(MESHES[False], 1, POSE, CAMERA)
    row = borders.look(scene, 0, FIRST + 2)
    scene.seen[row, Q] = 7.0
    assert borders.look(scene, 0, FIRST + 2) == row
    assert scene.seen[row, Q] == 7.0
    borders.forget(scene.meshes, scene.class_ids, scene.seen)
    borders.look(scene, 0, FIRST + 2)
    assert scene.seen[row, Q] != 7.0


def strip(count: int, kink_at: int = -1, red_from: int = -1, tilt: float = 0.0) -> PackedMeshes:
    """``count`` quads side by side along x, each 1 mm wide and 20 mm high, 0.5 m from a camera that looks along z.

    From quad ``kink_at`` on it is bent by ``tilt`` (m down z a metre along x), from ``red_from`` on it has another colour.
    """
    x = np.arange(count + 1) * 0.001
    z = 0.5 + np.maximum(np.arange(count + 1) - kink_at, 0) * 0.001 * tilt * (kink_at >= 0)
    vertices = np.stack([np.stack([x, np.full_like(x, y), z], -1) for y in (-0.01, 0.01)])
    i = np.arange(count)
    low, high, up = i, i + 1, count + 1
    faces = np.stack([np.stack([low, low + up, high + up], -1), np.stack([low, high + up, high], -1)], 1).reshape(-1, 3)
    mesh = mesh_of("strip", vertices.reshape(-1, 3), faces, (0.5, 0.5, 0.5))
    if red_from >= 0:
        mesh.corner_rgb[2 * red_from :] = (0.9, 0.1, 0.1)
    return in_float64(pack_meshes(catalogue_of(mesh)))


STILL = pose((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
WIDE = np.array([100.0, 100.0, 0.0, 0.0, 0.05])
"""One sample is 5 mm of the strips."""


def follow(meshes: PackedMeshes, face: int, x: float, dx: float, other: int = -1, T: Array = STILL) -> tuple:
    scene = scene_of(meshes, 0, T, WIDE)
    code, row, t, edge, met = borders.follow(scene, 0, np.int32(2 * face), x, 0.05, dx, 0.0, np.int32(other))
    return code >> 1, (scene.seen, row), t, edge, met


def test_a_surface_is_followed_over_small_faces_to_its_end() -> None:
    """From quad 1 (x = 1.6 mm) to the ends of four quads, at 4 mm and 0."""
    face, seen, t, edge, met = follow(strip(4), 3, 0.32, 1.0)
    assert (face // 2, met) == (3, False)
    assert t == pytest.approx(0.48)
    assert_close(np.abs(borders.edge_normal(seen[0], seen[1], edge)), [1, 0])
    assert follow(strip(4), 3, 0.32, -1.0)[2] == pytest.approx(0.32)
    assert follow(strip(9), 3, 0.32, 1.0)[2] >= 1


def test_a_surface_that_reaches_the_neighbour_has_no_border() -> None:
    """The neighbour lies 5 mm further on, on face 13; faces before it are met, too, others and back faces are not."""
    assert [other for other in range(4, 18) if follow(strip(9), 3, 0.32, 1.0, 2 * other)[4]] == [*range(4, 14)]
    assert not follow(strip(9), 3, 0.32, 1.0, 2 * 13 + 1)[4]


@pytest.mark.parametrize("bent", [{"kink_at": 3, "tilt": 1.0}, {"red_from": 3}, {"kink_at": 3, "tilt": -1e6}])
def test_a_surface_is_followed_to_creases_steps_of_colour_and_turns(bent: dict[str, float]) -> None:
    face, _, t, _, met = follow(strip(6, **bent), 3, 0.32, 1.0)  # type: ignore[arg-type]
    assert (face // 2, met) == (2, False)
    assert t == pytest.approx(0.28)


def test_a_smooth_surface_is_followed_to_its_silhouette() -> None:
    """A ball of 5 cm, 0.5 m away: seen under asin(0.1), so its outline is at 10.05 samples; inwards from 9.6."""
    meshes = in_float64(pack_meshes(catalogue_of(ball(0.05, 4))))
    T = pose((0.2, 0.1, 0.0), (0.0, 0.0, 0.5))
    corners = meshes.vertices_m[meshes.faces] @ T[:, :3].T + T[:, 3]
    ray = np.array([9.6 / 100, 0.05 / 100, 1.0])
    b = np.linalg.solve(corners.transpose(0, 2, 1), np.broadcast_to(ray, (len(corners), 3))[..., None])[..., 0]
    front = np.linalg.det(corners) < 0
    (face,) = np.flatnonzero((b >= 0).all(1) & front).tolist()
    _, _, t, _, met = follow(meshes, face, 9.6, 1.0, T=T)
    assert not met
    assert 9.6 + t == pytest.approx(100 * np.tan(np.arcsin(0.1)), abs=0.03)


def test_no_more_than_so_many_faces_are_followed() -> None:
    """Each step is over one face; on a strip of 0.05 mm quads that is far short of its end."""
    fine = strip(200)
    fine = fine._replace(vertices_m=fine.vertices_m * [0.05, 1, 1])
    face, *_ = follow(fine, 3, 0.015, 1.0)
    assert face == 3 + MOST_FACES


def lone(corners_px: list[list[float]], depths_m: list[float]) -> Array:
    """A triangle as it is seen, a row of ``Scene.seen``, from its corners' places (samples) and depths."""
    px, z = np.array(corners_px), np.array(depths_m)
    points = np.concatenate([(px - CAMERA[2:4]) / CAMERA[:2] * z[:, None], z[:, None]], 1)
    mesh = Mesh("m", points, np.array([[0, 1, 2]], np.int32), np.ones((1, 3, 3)), np.ones((1, 3, 3)))
    packed = pack_meshes(catalogue_of(mesh))._replace(vertices_m=points, corner_rgb=np.ones((1, 3, 3)))
    scene = scene_of(in_float64(packed), 0, STILL, CAMERA)
    return scene.seen[borders.look(scene, 0, 0)]


X, Y = 10.5, 8.5
LEFT = [[0.0, 0.0], [10.7, 0.0], [10.9, 20.0]]
"""A triangle that ends between the samples (10.5, 8.5) and (11.5, 8.5), at 10.785."""
RIGHT = [[11.2, 0.0], [30.0, 9.0], [11.0, 20.0]]
"""Another, that begins between them, at 11.115."""
WALL = [[-40.0, -40.0], [80.0, -40.0], [10.0, 90.0]]


def border(a: Array | None, b: Array | None, dx: int = 1, dy: int = 0, x: float = X, y: float = Y) -> tuple:
    """``find_border`` between two lone faces; the way to it in samples."""
    seen = np.stack([np.zeros(COLUMNS) if face is None else face for face in (a, b)])
    t_a, edge_a = borders.leaves(seen, 0, x, y, dx, dy)
    t_b, edge_b = borders.leaves(seen, 1, x + dx, y + dy, -dx, -dy)
    rows = (-1 if a is None else 0, -1 if b is None else 1)
    return borders.find_border(seen, rows[0], t_a, edge_a, rows[1], 1 - t_b, edge_b, x, y, dx, dy)


def assert_border(found: tuple, what: int, way: float, side: list[list[float]] | None = None) -> None:
    """``side``: the ends of the edge that is meant."""
    assert found[0] == what
    assert found[1] == pytest.approx(way, abs=1e-9)
    if side is not None:
        along = np.array(side[1]) - np.array(side[0])
        assert np.hypot(*found[2:]) == pytest.approx(1)
        assert np.dot(found[2:], along) == pytest.approx(0, abs=1e-9)


def test_silhouettes() -> None:
    left, right = lone(LEFT, [0.5, 0.6, 0.8]), lone(RIGHT, [0.5, 0.6, 0.8])
    assert_border(border(left, None), EDGE_OF_A, 0.285, LEFT[1:])
    assert_border(border(None, right), EDGE_OF_B, 0.615, [RIGHT[0], RIGHT[2]])
    flipped = [[v, u] for u, v in LEFT]
    assert_border(border(lone(flipped, [0.5] * 3), None, 0, 1, Y, X), EDGE_OF_A, 0.285, flipped[1:])


def test_occlusion_moves_with_the_nearer_face() -> None:
    near, far = lone(LEFT, [0.5, 0.6, 0.7]), lone(WALL, [2.0, 3.0, 2.5])
    assert_border(border(near, far), EDGE_OF_A, 0.285, LEFT[1:])
    assert_border(border(far, lone(RIGHT, [0.5] * 3)), EDGE_OF_B, 0.615, [RIGHT[0], RIGHT[2]])


def test_gaps_move_with_the_nearer_face() -> None:
    """What lies between the two shows in no sample; half-way between the two ends."""
    near, far = [0.5, 0.5, 0.6], [0.9, 0.8, 0.9]
    assert_border(border(lone(LEFT, near), lone(RIGHT, far)), EDGE_OF_A, 0.45, LEFT[1:])
    assert_border(border(lone(LEFT, far), lone(RIGHT, near)), EDGE_OF_B, 0.45, [RIGHT[0], RIGHT[2]])


@pytest.mark.parametrize("depths", [([0.5, 0.7, 0.6], [0.7, 0.9, 0.6]), ([0.8] * 3, [0.8] * 3)])
def test_faces_that_share_an_edge_part_there(depths: tuple[list[float], list[float]]) -> None:
    """A crease of a box; coplanar faces of two colours."""
    other = [LEFT[1], [30.0, 9.0], LEFT[2]]
    found = border(lone(LEFT, depths[0]), lone(other, depths[1]))
    assert_border(found, found[0], 0.285, LEFT[1:])
    assert found[0] in (EDGE_OF_A, EDGE_OF_B)


def test_planes_that_pass_through_each_other() -> None:
    """The border is where their depths are equal; its normal is that of the difference of 1 / z."""
    rising, falling = lone(WALL, [1.0, 0.4, 0.7]), lone(WALL, [0.3, 1.5, 0.6])
    x = np.linspace(-30, 50, 8001)
    both = np.stack([rising, falling])
    difference = np.array([borders.value(both, 0, Q, u, Y) - borders.value(both, 1, Q, u, Y) for u in x])
    (crossing,) = np.flatnonzero(np.diff(np.sign(difference)))
    at = x[crossing] - difference[crossing] * 0.01 / (difference[crossing + 1] - difference[crossing])
    what, way, nx, ny = border(falling, rising, x=at - 0.4)
    assert (what, way) == (INTERSECTION, pytest.approx(0.4, abs=1e-6))
    gradient = falling[Q : Q + 2] - rising[Q : Q + 2]
    assert_close([nx, ny], gradient / (gradient @ gradient))


def test_what_the_near_plane_cuts_has_no_border() -> None:
    wall, other = lone(WALL, [2.0, 3.0, 2.5]), lone(WALL, [0.5, 0.5, 0.5])
    for a, b in ((wall, None), (None, wall), (wall, other), (other, wall)):
        assert border(a, b)[0] == NONE


def torch_point(vertices: Tensor, T: Tensor, b: Tensor) -> Tensor:
    """A material point as it is seen: column and row (samples), z (metres)."""
    camera = torch.from_numpy(CAMERA)
    point = T[:, :3] @ (b @ vertices) + T[:, 3]
    return torch.cat([point[:2] / point[2] * camera[:2] + camera[2:4], point[2:]])


def test_pushes_are_gradients_through_a_projection() -> None:
    meshes, pull = MESHES[False], np.array([0.7, -0.4, 1.3])
    for face, b in enumerate(places(), FIRST):
        vertices = torch.from_numpy(corners_of(meshes, 1, face)).requires_grad_()
        T = torch.from_numpy(POSE).requires_grad_()
        seen_at = torch_point(vertices, T, torch.from_numpy(b))
        by_T, by_vertices = torch.autograd.grad(seen_at @ torch.from_numpy(pull), (T, vertices))
        x, y, _ = seen_at.tolist()
        T_grad, vertices_grad = np.zeros((1, 3, 4)), np.zeros_like(meshes.vertices_m)
        scene = scene_of(meshes, 1, POSE, CAMERA)
        place = borders.barycentric(scene.seen, borders.look(scene, 0, face), x, y)
        push(scene, 0, 2 * face, place, x, y, pull[0], pull[1], pull[2], T_grad, True, vertices_grad)
        assert_close(T_grad[0], by_T)
        own = meshes.vertex_start[1] + meshes.faces[face]
        assert_close(vertices_grad[own], by_vertices)
        vertices_grad[own] = 0
        assert not vertices_grad.any()


def torch_texture(class_rgb: Tensor, uv: Tensor) -> Tensor:
    """Bilinear lookup by its definition: every texel weighs with the product of two hats round its centre, repeated."""
    height, width, _ = class_rgb.shape
    shifts = torch.arange(-6, 7, dtype=torch.float64)[:, None]
    weights = []
    for at, size in (((1 - uv[1]) * height, height), (uv[0] * width, width)):
        centres = torch.arange(size) + 0.5 + size * shifts
        weights.append((1 - (at - centres).abs()).clamp(min=0).sum(0))
    return torch.einsum("h,w,hwc->c", *weights, class_rgb)


def torch_colour(parts: dict[str, Tensor], meshes: PackedMeshes, face: int, at: tuple[float, float], near: bool) -> Tensor:
    """Colour of what is seen of a face through a fixed place of the screen."""
    camera = torch.from_numpy(CAMERA)
    ray = torch.cat([(torch.tensor(at, dtype=torch.float64) - camera[2:4]) / camera[:2], torch.ones(1, dtype=torch.float64)])
    weights = torch.linalg.solve((parts["vertices"] @ parts["T"][:, :3].T + parts["T"][:, 3]).T, ray)
    b = weights / weights.sum()
    light = parts["light"]
    to_light = light[:3] - b @ parts["vertices"] if near else light[:3]
    to_light = torch.nn.functional.normalize(to_light, dim=0) if near else to_light
    level = light[3] + light[4] * (torch.nn.functional.normalize(b @ parts["normals"], dim=0) @ to_light).clamp(min=0)
    albedo = b @ parts["rgb"]
    if meshes.textures[1, 1]:
        start, height, width = meshes.textures[1].tolist()
        image = torch.from_numpy(meshes.texels[start : start + height * width]).reshape(height, width, 3)
        albedo = albedo * torch_texture(image, b @ torch.from_numpy(meshes.corner_uv[face]))
    return albedo * level


@pytest.mark.parametrize("near", [False, True])
@pytest.mark.parametrize("textured", [False, True])
def test_what_a_sample_hands_on_is_the_gradient_of_its_colour(textured: bool, near: bool) -> None:
    """By pose, light, vertices, colours and normals, against a ray through a plane and torch's derivatives."""
    meshes, g = MESHES[textured], (0.6, -0.9, 0.4)
    for face, b in enumerate(places(), FIRST):
        parts = {
            "T": POSE,
            "light": np.array(make_light(near)[:5]),
            "vertices": corners_of(meshes, 1, face),
            "rgb": meshes.corner_rgb[face],
            "normals": meshes.corner_normals[face],
        }
        leaves = {name: torch.from_numpy(part.copy()).requires_grad_() for name, part in parts.items()}
        x, y, _ = torch_point(leaves["vertices"].detach(), leaves["T"].detach(), torch.from_numpy(b)).tolist()
        colour = torch_colour(leaves, meshes, face, (x, y), near)
        assert_close(colour.detach(), shade(meshes, 1, 2 * face, b[1], b[2], make_light(near)))
        expected = torch.autograd.grad(colour @ torch.tensor(g, dtype=torch.float64), list(leaves.values()))
        T_grad, light_grad = np.zeros((1, 3, 4)), np.zeros((1, 5))
        surface = tuple(np.zeros_like(part) for part in (meshes.vertices_m, meshes.corner_rgb, meshes.corner_normals))
        scene = scene_of(meshes, 1, POSE, CAMERA, make_light(near))
        row = borders.look(scene, 0, face)
        place = borders.barycentric(scene.seen, row, x, y)
        pull = shading_pull(scene, 0, 2 * face, row, place, g, light_grad, True, surface)
        push(scene, 0, 2 * face, place, x, y, *pull, 0.0, T_grad, True, surface[0])
        vertices = surface[0][meshes.vertex_start[1] + meshes.faces[face]]
        found = (T_grad[0], light_grad[0], vertices, surface[1][face], surface[2][face])
        for got, wanted in zip(found, expected, strict=True):
            assert_close(got, wanted)
