"""What every backend must draw, checked against closed forms."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
import torch
from backends import BOUNDS, WITHOUT_TEXTURES, Bounds, build
from renderer_scenes import ball, box, camera_view, catalogue_of, mesh_of, posed, quad, square, table_scene
from torch import Tensor

from inverse_graphics.compositing import box_filter
from inverse_graphics.protocols import Renderer
from inverse_graphics.types import Catalogue, Mesh, Objects, RenderOutput, Texture, View, map_tensors

Make = Callable[..., Renderer]


@pytest.fixture(params=BOUNDS)
def backend(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make(backend: str) -> Make:
    return lambda catalogue, samples_per_axis=1: build(backend, catalogue, samples_per_axis)


@pytest.fixture
def bounds(backend: str) -> Bounds:
    return BOUNDS[backend]


def assert_within(found: Tensor, expected: Tensor, atol: float) -> None:
    torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def refuses(backend: str, catalogue: Catalogue) -> bool:
    """Whether the backend has no textures; then it says so."""
    if backend in WITHOUT_TEXTURES:
        with pytest.raises(ValueError, match="expected no texture"):
            build(backend, catalogue)
    return backend in WITHOUT_TEXTURES


def pixel_rays(view: View) -> torch.Tensor:
    """[h w 3] directions through the pixels' centres with z = 1, camera frame, of an unbatched view."""
    K_px, width, height = view.camera.K_px, view.camera.width_px, view.camera.height_px
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.stack([(u - K_px[0, 2]) / K_px[0, 0], (v - K_px[1, 2]) / K_px[1, 1], torch.ones_like(u)], -1)


def textured(mesh: Mesh, vertex_uv: np.ndarray, rgb: np.ndarray) -> Mesh:
    return dataclasses.replace(mesh, texture=Texture(vertex_uv[mesh.faces].astype(np.float32), rgb.astype(np.float32)))


def near_light(view: View, position_m: list[float]) -> View:
    """The view with a near light instead of the far one, whose direction now points elsewhere."""
    position = torch.tensor(position_m).expand(view.light.direction_world.shape)
    light = dataclasses.replace(view.light, direction_world=-view.light.direction_world, position_world=position)
    return dataclasses.replace(view, light=light)


def hats(at_texels: np.ndarray, count: int) -> np.ndarray:
    """[at count] weights of linear interpolation between texel centres at half numbers, the texels repeated without end."""
    copies = np.arange(-9 * count, 10 * count)
    weights = np.maximum(0, 1 - np.abs(at_texels[:, None] - copies - 0.5))
    return weights.reshape(len(at_texels), 19, count).sum(1)


def covered(image: RenderOutput) -> torch.Tensor:
    return image.object_ids >= 0


@pytest.mark.parametrize(("width", "height"), [(32, 32), (40, 24), (24, 40)])
def test_square_covers_exactly_its_pixels(make: Make, width: int, height: int) -> None:
    view, depth_m = camera_view(width, height, 50.0), 2.0
    u0, u1, v0, v1 = 6, 17, 3, 10
    x0, x1 = ((u - width / 2) * depth_m / 50 for u in (u0, u1))
    y0, y1 = ((v - height / 2) * depth_m / 50 for v in (v0, v1))
    corners = [[x0, y0, 0.0], [x0, y1, 0.0], [x1, y1, 0.0], [x1, y0, 0.0]]
    image = make(catalogue_of(quad(corners))).render(posed([0], [[0.0, 0.0, depth_m]]), view)
    expected = torch.zeros(height, width, dtype=torch.bool)
    expected[v0:v1, u0:u1] = True
    assert torch.equal(covered(image), expected)
    assert_within(image.depth_m, depth_m * expected, 1e-5)
    assert torch.equal(image.rgb[~expected], view.background_rgb[~expected])


def test_edges_through_pixel_centres_leave_no_holes(make: Make) -> None:
    view = camera_view(32, 32, 32.0)
    image = make(catalogue_of(square(0.25))).render(posed([0], [[0.0, 0.0, 1.0]]), view)
    assert covered(image)[9:23, 9:23].all()


def test_one_triangle(make: Make) -> None:
    view = camera_view(48, 32, 40.0)
    px = torch.tensor([[5.2, 4.1], [20.3, 29.4], [41.7, 9.8]], dtype=torch.float64)
    corners = torch.cat([(px - torch.tensor([24.0, 16.0])) / 40, torch.ones(3, 1)], -1).numpy()
    triangle = mesh_of("triangle", corners, torch.tensor([[0, 1, 2]]).numpy(), (1.0, 1.0, 1.0))
    image = make(catalogue_of(triangle)).render(posed([0], [[0.0, 0.0, 0.0]]), view)
    centres = (pixel_rays(view)[..., :2].double() * 40) + torch.tensor([24.0, 16.0])
    edges = px.roll(-1, 0) - px
    to_centre = centres[..., None, :] - px
    side = (edges[:, 0] * to_centre[..., 1] - edges[:, 1] * to_centre[..., 0]) / edges.norm(dim=-1)
    inside, outside = (side < -1e-3).all(-1), (side > 1e-3).any(-1)
    assert inside.sum() > 300
    assert covered(image)[inside].all()
    assert not covered(image)[outside].any()


def test_depth_of_a_tilted_plane(make: Make) -> None:
    view = camera_view(64, 48, 60.0)
    objects = posed([0], [[0.05, -0.02, 1.5]], [[0.7, 0.4, 0.2]])
    image = make(catalogue_of(square(0.3))).render(objects, view)
    normal = objects.T_world_object[0, :3, 2]
    expected = (normal @ objects.T_world_object[0, :3, 3]) / (pixel_rays(view) @ normal)
    hit = covered(image)
    assert hit.sum() > 200
    assert_within(image.depth_m[hit], expected[hit], 1e-4)


def test_sphere_silhouette_depth_and_smooth_shading(make: Make, bounds: Bounds) -> None:
    view = camera_view(64, 64, 80.0, light=(0.5, -0.4, -0.7))
    centre, radius_m = torch.tensor([0.12, -0.08, 0.6]), 0.1
    image = make(catalogue_of(ball(radius_m))).render(posed([0], [centre.tolist()]), view)
    rays = pixel_rays(view)
    unit = rays / rays.norm(dim=-1, keepdim=True)
    miss_m = torch.linalg.cross(unit, centre.expand_as(unit)).norm(dim=-1)
    assert covered(image)[miss_m < 0.985 * radius_m].all()
    assert not covered(image)[miss_m > radius_m].any()
    sure = miss_m < 0.95 * radius_m
    along = unit @ centre - (radius_m**2 - miss_m**2).clamp(min=0).sqrt()
    point = unit * along[..., None]
    assert_within(image.depth_m[sure], point[..., 2][sure], 2e-3)
    cosine = ((point - centre) / radius_m @ view.light.direction_world).clamp(min=0)
    expected = torch.tensor([0.3, 0.5, 0.9]) * (0.3 + 0.7 * cosine)[..., None]
    assert_within(image.rgb[sure], expected[sure], bounds.smooth)


@pytest.mark.parametrize("turn_rad", [0.0, 0.5, 3.14159])
def test_flat_shading_in_closed_form_from_both_sides(make: Make, bounds: Bounds, turn_rad: float) -> None:
    view = camera_view(32, 32, 40.0, light=(0.2, -0.5, -0.8))
    objects = posed([0], [[0.0, 0.0, 1.0]], [[0.0, turn_rad, 0.0]])
    image = make(catalogue_of(square(0.2))).render(objects, view)
    normal = -objects.T_world_object[0, :3, 2]
    normal = normal if normal[2] < 0 else -normal
    intensity = 0.3 + 0.7 * float((normal @ view.light.direction_world).clamp(min=0))
    expected = torch.tensor([0.5, 0.6, 0.7]) * intensity
    hit = covered(image)
    assert_within(image.rgb[hit], expected.expand(int(hit.sum()), 3), bounds.flat)


def test_corner_colours_are_interpolated_in_perspective(make: Make, bounds: Bounds) -> None:
    mesh = square(0.3)
    mesh.corner_rgb[:] = 0.5 + mesh.vertices_m[mesh.faces]
    view = camera_view(48, 48, 60.0, light=(0.0, 0.0, -1.0))
    objects = posed([0], [[0.0, 0.0, 1.0]], [[0.0, 0.9, 0.0]])
    image = make(catalogue_of(mesh)).render(objects, view)
    T, hit = objects.T_world_object[0], covered(image)
    points_object = (pixel_rays(view) * image.depth_m[..., None] - T[:3, 3]) @ T[:3, :3]
    intensity = 0.3 + 0.7 * float(T[2, 2])
    assert_within(image.rgb[hit], ((0.5 + points_object) * intensity)[hit], bounds.corners)


@pytest.mark.parametrize(
    ("rows", "columns", "low", "tiles"),
    [(8, 24, 0, 1), (2, 2, 0, 1), (5, 7, 0, 1), (1, 3, -1, 1), (4, 3, -1, 3), (3, 5, 0.3, 1.7)],
)
def test_texture_on_a_square_facing_the_camera(
    make: Make, bounds: Bounds, backend: str, rows: int, columns: int, low: float, tiles: float
) -> None:
    """Coordinates run from low to low + tiles; the square covers pixels 4..27, its upper left corner is the first vertex."""
    rgb = np.random.default_rng(0).uniform(0.1, 1, (rows, columns, 3))
    uv = low + tiles * np.asarray([[0, 1], [0, 0], [1, 0], [1, 1]])
    catalogue = catalogue_of(textured(square(0.375), uv, rgb))
    if refuses(backend, catalogue):
        return
    image = make(catalogue).render(posed([0], [[0.0, 0.0, 1.0]]), camera_view(32, 32, 32.0))
    share = (np.arange(24) + 0.5) / 24
    across = hats((low + tiles * share) * columns, columns)
    down = hats((1 - low - tiles * (1 - share)) * rows, rows)
    expected = torch.from_numpy(np.einsum("yr,xc,rck->yxk", down, across, rgb) * [0.5, 0.6, 0.7]).float()
    assert_within(image.rgb[4:28, 4:28], expected, bounds.edges)


def test_checker_of_which_each_texel_is_three_pixels(make: Make, bounds: Bounds, backend: str) -> None:
    """The middle pixel of each cell has its texel's colour; the lower left cell is red."""
    rgb = np.repeat((np.indices((8, 8)).sum(0) % 2)[..., None], 3, -1).astype(np.float64)
    rgb[-1, 0] = [1, 0, 0]
    catalogue = catalogue_of(textured(square(0.375), np.asarray([[0, 1], [0, 0], [1, 0], [1, 1]]), rgb))
    if refuses(backend, catalogue):
        return
    image = make(catalogue).render(posed([0], [[0.0, 0.0, 1.0]]), camera_view(32, 32, 32.0))
    expected = torch.from_numpy(rgb * [0.5, 0.6, 0.7]).float()
    assert_within(image.rgb[5:28:3, 5:28:3], expected, bounds.edges)


def test_texture_in_perspective(make: Make, bounds: Bounds, backend: str) -> None:
    """Texels on a straight line of colours, so that what lies between them is on that line."""
    row, column = np.indices((16, 16))
    rgb = np.stack([0.1 + 0.05 * column, 0.9 - 0.04 * row, np.full((16, 16), 0.5)], -1)
    mesh = textured(square(0.3), np.asarray([[0, 1], [0, 0], [1, 0], [1, 1]]), rgb)
    mesh.corner_rgb[:] = 1.0
    view = camera_view(48, 48, 60.0, light=(0.0, 0.0, -1.0))
    objects = posed([0], [[0.0, 0.0, 1.0]], [[0.4, 0.9, 0.0]])
    if refuses(backend, catalogue_of(mesh)):
        return
    image = make(catalogue_of(mesh)).render(objects, view)
    T = objects.T_world_object[0]
    points_object = (pixel_rays(view) * image.depth_m[..., None] - T[:3, 3]) @ T[:3, :3]
    texel_x, texel_y = ((points_object[..., axis] + 0.3) / 0.6 * 16 - 0.5 for axis in (0, 1))
    expected = torch.stack([0.1 + 0.05 * texel_x, 0.9 - 0.04 * texel_y, torch.full_like(texel_x, 0.5)], -1)
    between = covered(image) & (texel_x > 0) & (texel_x < 15) & (texel_y > 0) & (texel_y < 15)
    assert between.sum() > 200
    assert_within(image.rgb[between], (expected * (0.3 + 0.7 * T[2, 2]))[between], bounds.texture)


def test_meshes_with_and_without_textures_in_one_scene(make: Make, bounds: Bounds, backend: str) -> None:
    uv = np.asarray([[0, 1], [0, 0], [1, 0], [1, 1]])
    red, green = (np.full(shape, colour) for shape, colour in [((2, 3, 3), [0.8, 0.1, 0.1]), ((5, 1, 3), [0.1, 0.9, 0.2])])
    plain = square(0.125)
    catalogue = catalogue_of(plain, textured(plain, uv, red), plain, textured(plain, uv, green))
    if refuses(backend, catalogue):
        return
    positions = [[x, 0.0, 1.0] for x in (0.375, -0.375, 0.125, -0.125)]
    image = make(catalogue).render(posed([0, 1, 2, 3], positions), camera_view(32, 16, 32.0))
    for columns, texel in [(slice(1, 7), red), (slice(9, 15), green), (slice(17, 31), np.ones((1, 1, 3)))]:
        seen = image.rgb[5:11, columns]
        expected = torch.tensor(texel[0, 0] * [0.5, 0.6, 0.7], dtype=torch.float32).expand_as(seen)
        assert_within(seen, expected, bounds.flat)


@pytest.mark.parametrize("position_m", [[0.1, -0.2, 0.7], [-0.3, 0.1, 1.6], [0.0, 0.0, 0.0]])
@pytest.mark.parametrize("turn_rad", [0.5, 2.9])
def test_near_light_on_a_plane_in_closed_form(make: Make, bounds: Bounds, position_m: list[float], turn_rad: float) -> None:
    """In front of the plane and behind it, on the mesh's front and back."""
    view = near_light(camera_view(32, 32, 40.0), position_m)
    objects = posed([0], [[0.02, 0.0, 1.0]], [[0.2, turn_rad, 0.0]])
    image = make(catalogue_of(square(0.2))).render(objects, view)
    normal, rays = objects.T_world_object[0, :3, 2], pixel_rays(view)
    points = rays * ((normal @ objects.T_world_object[0, :3, 3]) / (rays @ normal))[..., None]
    to_camera = torch.where((rays @ normal > 0)[..., None], -normal, normal)
    to_light = torch.tensor(position_m) - points
    cosine = (to_camera * to_light).sum(-1) / to_light.norm(dim=-1)
    expected = torch.tensor([0.5, 0.6, 0.7]) * (0.3 + 0.7 * cosine.clamp(min=0))[..., None]
    hit = covered(image)
    assert hit.sum() > 50
    assert_within(image.rgb[hit], expected[hit], bounds.near_plane)


def test_near_light_on_a_sphere_in_closed_form(make: Make, bounds: Bounds) -> None:
    view = near_light(camera_view(48, 48, 60.0), [0.3, -0.1, 0.35])
    centre, radius_m = torch.tensor([0.06, -0.04, 0.6]), 0.15
    objects = posed([0], [centre.tolist()], [[0.4, 1.0, -0.3]])
    image = make(catalogue_of(ball(radius_m))).render(objects, view)
    unit = torch.nn.functional.normalize(pixel_rays(view), dim=-1)
    miss_m = torch.linalg.cross(unit, centre.expand_as(unit)).norm(dim=-1)
    sure = miss_m < 0.95 * radius_m
    points = unit * (unit @ centre - (radius_m**2 - miss_m**2).clamp(min=0).sqrt())[..., None]
    to_light = torch.tensor([0.3, -0.1, 0.35]) - points
    cosine = ((points - centre) / radius_m * torch.nn.functional.normalize(to_light, dim=-1)).sum(-1).clamp(min=0)
    assert 0.2 < (cosine[sure] > 0).float().mean() < 0.9
    expected = torch.tensor([0.3, 0.5, 0.9]) * (0.3 + 0.7 * cosine)[..., None]
    assert_within(image.rgb[sure], expected[sure], bounds.near_sphere)


def test_each_scene_has_its_own_near_light_and_a_distant_one_is_directional(make: Make, bounds: Bounds) -> None:
    objects, view = table_scene(2, 3, 32, classes=2, seed=1)
    directions = torch.nn.functional.normalize(torch.tensor([[0.3, -0.4, 0.9], [-0.9, 0.2, 0.4]]), dim=-1)
    far = dataclasses.replace(view.light, direction_world=directions)
    near = dataclasses.replace(view.light, direction_world=-directions, position_world=1e4 * directions)
    renderer = make(catalogue_of(box(), ball(subdivisions=1)), 2)
    a, b = (renderer.render(objects, dataclasses.replace(view, light=light)) for light in (far, near))
    assert covered(a).sum() > 100
    assert_within(a.rgb, b.rgb, bounds.near_far)


@pytest.mark.parametrize("slots", [0, 2])
@pytest.mark.parametrize("batch", [(), (3,)])
def test_empty_scenes_show_the_background(make: Make, slots: int, batch: tuple[int, ...]) -> None:
    view = camera_view(16, 12, 20.0, batch)
    objects = Objects(
        torch.zeros(*batch, slots, dtype=torch.int64),
        torch.eye(4).expand(*batch, slots, 4, 4),
        torch.zeros(*batch, slots, dtype=torch.bool),
    )
    renderer = make(catalogue_of(box()), 2)
    image, layers = renderer.render(objects, view), renderer.layers(objects, view)
    torch.testing.assert_close(image.rgb, view.background_rgb)
    assert layers.rgb.shape == (*batch, slots, 24, 32, 3)
    assert not layers.alpha.any()
    assert not image.depth_m.any()
    assert (image.object_ids == -1).all()
    assert image.visible_fraction.shape == (*batch, slots)
    assert not image.visible_fraction.any()


@pytest.mark.parametrize("position_m", [[0.0, 0.0, -1.0], [5.0, 0.0, 1.0], [0.0, -5.0, 1.0]])
def test_what_is_behind_the_camera_or_outside_the_image_is_not_seen(make: Make, position_m: list[float]) -> None:
    view = camera_view(24, 24, 20.0)
    image = make(catalogue_of(box(), ball())).render(posed([0, 1], [position_m, position_m]), view)
    torch.testing.assert_close(image.rgb, view.background_rgb)
    assert (image.object_ids == -1).all()


def test_floor_through_the_near_plane(make: Make) -> None:
    view = camera_view(32, 32, 20.0, near_m=0.9)
    floor = quad([[-9.0, 0.5, -1.0], [9.0, 0.5, -1.0], [9.0, 0.5, 3.0], [-9.0, 0.5, 3.0]])
    image = make(catalogue_of(floor)).render(posed([0], [[0.0, 0.0, 0.0]]), view)
    depth_m = (0.5 * 20 / (torch.arange(32) + 0.5 - 16))[:, None].expand(32, 32)
    expected = (depth_m >= 0.9) & (depth_m <= 3.0)
    assert torch.equal(covered(image), expected)
    torch.testing.assert_close(image.depth_m[expected], depth_m[expected], rtol=1e-4, atol=0)


def test_occlusion_by_depth_and_not_by_slot(make: Make) -> None:
    view = camera_view(32, 32, 32.0)
    catalogue = catalogue_of(square(0.25), square(0.5, "wall"))
    image = make(catalogue).render(posed([1, 0], [[0.0, 0.0, 2.0], [0.0625, 0.0, 1.0]]), view)
    expected = torch.full((32, 32), -1)
    expected[8:24, 8:24] = 0
    expected[8:24, 10:26] = 1
    assert torch.equal(image.object_ids, expected)
    torch.testing.assert_close(image.visible_fraction, torch.tensor([2 / 16, 1.0]))


@pytest.mark.parametrize("batch", [(), (4,), (2, 2)])
def test_leading_dimensions_and_scenes_are_independent(make: Make, bounds: Bounds, batch: tuple[int, ...]) -> None:
    objects, view = table_scene(4, 3, 24, classes=2)
    renderer = make(catalogue_of(box(), ball(subdivisions=1)), 2)
    alone = [renderer.render(map_tensors(lambda x, i=i: x[i], objects), map_tensors(lambda x, i=i: x[i], view)) for i in range(4)]
    if not batch:
        assert alone[0].rgb.shape == (24, 24, 3)
        return
    shaped = renderer.render(
        map_tensors(lambda x: x.reshape(*batch, *x.shape[1:]), objects),
        map_tensors(lambda x: x.reshape(*batch, *x.shape[1:]), view),
    )
    assert objects.present.sum(-1).unique().numel() > 1
    for field in ("rgb", "depth_m", "object_ids", "visible_fraction"):
        together = getattr(shaped, field)
        expected = torch.stack([getattr(image, field) for image in alone]).reshape(together.shape)
        assert_within(together, expected, bounds.company if field == "rgb" else 1e-5)


def test_antialiasing_is_a_box_filter_of_a_larger_image(make: Make, bounds: Bounds) -> None:
    objects, view = table_scene(2, 3, 24, classes=2)
    catalogue = catalogue_of(box(), ball(subdivisions=1))
    image = make(catalogue, 3).render(objects, view)
    _, large_view = table_scene(2, 3, 72, classes=2)
    large = make(catalogue, 1).render(objects, large_view)
    assert_within(image.rgb, box_filter(large.rgb, 3), bounds.company)
    assert_within(image.depth_m, large.depth_m[:, 1::3, 1::3], 1e-5)


def test_layers_are_premultiplied_and_empty_at_infinity(make: Make) -> None:
    objects, view = table_scene(2, 3, 24, classes=2)
    renderer = make(catalogue_of(box(), ball(subdivisions=1)), 1)
    layers = renderer.layers(objects, view, 2)
    assert layers.samples_per_axis == 2
    assert layers.rgb.shape == (2, 3, 48, 48, 3)
    empty = layers.alpha == 0
    assert not layers.rgb[empty].any()
    assert torch.equal(torch.isinf(layers.depth_m), empty)
    assert not layers.alpha[~objects.present].any()
    assert (layers.alpha[objects.present].sum((-2, -1)) > 0).all()
    assert layers.rgb.max() <= 1


def test_a_class_outside_the_catalogue_is_refused(make: Make) -> None:
    renderer = make(catalogue_of(box()))
    with pytest.raises(ValueError, match="class_ids"):
        renderer.layers(posed([1], [[0.0, 0.0, 1.0]]), camera_view(8, 8, 10.0))
