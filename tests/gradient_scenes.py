"""Scenes whose images change in every way, and central differences of finely sampled images to check gradients against."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import trimesh
from renderer_scenes import ball, box, camera_view, catalogue_of, mesh_of, posed, quad
from torch import Tensor

from inverse_graphics.types import Catalogue, Light, Mesh, Objects, Texture, View, map_tensors
from renderers import RasterRenderer
from renderers.raster.warp import WarpRasterRenderer

SIZE_PX = 56
FOCAL_PX = 90.0
DEPTH_M = 0.5


@dataclass(frozen=True)
class Case:
    """One scene without batch dimensions."""

    catalogue: Catalogue
    objects: Objects
    view: View


Move = Callable[[Case, Tensor], tuple[Objects, View]]
"""Moves a case by each row of [m k] and returns m scenes."""
Loss = Callable[[Objects, View], Tensor]
"""Losses [m] of m scenes."""


def view_of(light: Light | None = None) -> View:
    """A camera that looks along +z with a little turn, and a background that differs from pixel to pixel."""
    T = torch.eye(4)
    T[:3, :3] = torch.linalg.matrix_exp(hat(torch.tensor([0.03, -0.02, 0.05])))
    view = camera_view(SIZE_PX, SIZE_PX, FOCAL_PX, light=(0.4, -0.5, -0.8), T_camera_world=T)
    background = 0.15 + 0.1 * smooth_weights((SIZE_PX, SIZE_PX, 3))
    return dataclasses.replace(view, background_rgb=background, light=light or view.light)


def near(position_m: list[float]) -> Light:
    """A near light; its direction is not used."""
    return Light(torch.tensor([1.0, 0.0, 0.0]), torch.tensor(0.3), torch.tensor(0.7), torch.tensor(position_m))


def painted(mesh: Mesh, seed: int = 0) -> Mesh:
    """Another colour for every pair of faces."""
    rgb = np.random.default_rng(seed).uniform(0.2, 0.9, (len(mesh.faces) // 2 + 1, 3)).repeat(2, 0)[: len(mesh.faces)]
    return dataclasses.replace(mesh, corner_rgb=np.repeat(rgb[:, None], 3, 1).astype(np.float32))


def two_boxes() -> Mesh:
    """One mesh of a small box before a large one: it hides itself."""
    back, front = trimesh.creation.box((0.16, 0.12, 0.06)), trimesh.creation.box((0.05, 0.06, 0.04))
    vertices = np.concatenate([back.vertices, front.vertices + (0.02, 0.01, -0.12)])
    mesh = mesh_of("boxes", vertices, np.concatenate([back.faces, front.faces + len(back.vertices)]), (0.7, 0.6, 0.3))
    mesh.corner_rgb[12:] = (0.2, 0.4, 0.9)
    return mesh


def tube() -> Mesh:
    """A thick tube, smooth outside and inside: its rim and its inner wall are seen from the front."""
    shape = trimesh.creation.annulus(0.05, 0.07, 0.16, sections=24)
    mesh = mesh_of("tube", shape.vertices, shape.faces, (0.8, 0.5, 0.3))
    normals = mesh.corner_normals.copy()
    points = mesh.vertices_m[mesh.faces]
    wall = np.abs(normals[..., 2]) < 0.5
    radial = points * (1, 1, 0) / np.linalg.norm(points[..., :2], axis=-1)[..., None]
    outwards = np.sign((radial * normals).sum(-1, keepdims=True))
    normals[wall] = (radial * outwards)[wall]
    return dataclasses.replace(mesh, corner_normals=normals.astype(np.float32))


def poster(folded: float = 0.0) -> Mesh:
    """An open, textured square, bent along its diagonal."""
    mesh = quad([[-0.1, -0.1, 0], [-0.1, 0.1, folded], [0.1, 0.1, 0], [0.1, -0.1, folded]], (0.9, 0.8, 0.7), "poster")
    rgb = np.random.default_rng(1).uniform(0.1, 1, (5, 4, 3)).astype(np.float32)
    uv = (mesh.vertices_m[mesh.faces][..., :2] * 5 + 0.4).astype(np.float32)
    return dataclasses.replace(mesh, texture=Texture(uv, rgb))


def sliver_square(width_m: float, with_sliver: bool) -> Mesh:
    """A square of two colours; between the halves lies a face that is ``width_m`` wide, of one half's colour."""
    vertices = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0], [0, 0, 0]], np.float32) * np.float32(0.1)
    vertices[4, 0] = width_m
    faces = np.array([[0, 2, 1], [0, 4, 2], [0, 3, 4], [4, 3, 2]], np.int32)
    rgb = np.full((4, 3, 3), 0.7, np.float32)
    rgb[:2] = 0.2
    keep = [0, 1, 2, 3] if with_sliver else [0, 2, 3]
    normals = np.tile(np.array([0, 0, -1], np.float32), (len(keep), 3, 1))
    return Mesh("square", vertices, faces[keep], rgb[keep], normals)


def broken_mesh() -> Mesh:
    """A box with a face of one repeated vertex, faces of two, a face in a line, and a loose vertex."""
    mesh = box((0.2, 0.16, 0.18))
    vertices = np.concatenate([mesh.vertices_m, mesh.vertices_m[:2].mean(0, keepdims=True), [[9.0, 0.0, 0.0]]]).astype(np.float32)
    more = np.array([[0, 0, 0], [1, 1, 2], [2, 1, 1], [3, 4, 3], [0, 8, 1], [1, 8, 0]], np.int32)
    look = [np.concatenate([x, x[:6]]) for x in (mesh.corner_rgb, mesh.corner_normals)]
    look[1][12] = 0
    return Mesh("broken", vertices, np.concatenate([mesh.faces, more]), look[0], look[1])


def make_cases() -> dict[str, Case]:
    """Every kind of border and of shading."""
    large, small = painted(box((0.13, 0.1, 0.11)), 2), painted(box((0.07, 0.16, 0.06)), 3)
    fold, globe = poster(0.05), ball(0.06, 3)
    lamp = near([0.12, -0.1, 0.25])
    turn, z = [[0.3, -0.5, 0.2], [-0.4, 0.5, 0.3]], DEPTH_M
    return {
        "silhouettes": Case(catalogue_of(box(), globe), posed([0, 1], [[-0.07, 0.02, z], [0.06, -0.03, z]], turn), view_of()),
        "creases": Case(catalogue_of(large), posed([0], [[0.01, 0.0, z]], [[0.6, -0.5, 0.3]]), view_of()),
        "occlusion": Case(
            catalogue_of(large, globe), posed([0, 1], [[0.02, 0.01, z + 0.1], [-0.03, -0.02, z - 0.1]], turn), view_of()
        ),
        "self-occlusion": Case(catalogue_of(two_boxes()), posed([0], [[0.0, -0.01, z]], [[0.25, 0.3, -0.2]]), view_of()),
        "tube": Case(catalogue_of(tube()), posed([0], [[0.01, 0.0, z]], [[0.5, 0.4, 0.1]]), view_of()),
        "intersection": Case(catalogue_of(large, small), posed([0, 1], [[0.0, 0.0, z], [0.02, 0.01, z - 0.03]], turn), view_of()),
        "texture": Case(catalogue_of(fold, globe), posed([0, 1], [[0.0, 0.0, z], [0.05, 0.05, z - 0.1]], turn), view_of()),
        "near light": Case(
            catalogue_of(fold, globe),
            posed([0, 1], [[-0.03, 0.0, z], [0.06, 0.0, z]], [[0.4, 3.5, 0], [0.0, 0.0, 0.0]]),
            view_of(lamp),
        ),
    }


def hat(w: Tensor) -> Tensor:
    """[*b 3 3] of the rotation vectors [*b 3]."""
    return torch.linalg.cross(torch.eye(3).to(w).expand(*w.shape, 3), w[..., None, :].expand(*w.shape, 3), dim=-1)


def step_motion(motion: Tensor) -> tuple[Tensor, Tensor]:
    """Rotation and translation of six numbers: translation, rotation vector."""
    return torch.linalg.matrix_exp(hat(motion[..., 3:])), motion[..., :3]


def many(case: Case, count: int) -> tuple[Objects, View]:
    """The case ``count`` times over."""

    def repeated(x: Tensor) -> Tensor:
        return x.expand(count, *x.shape)

    return map_tensors(repeated, case.objects), map_tensors(repeated, case.view)


def move_objects(case: Case, amounts: Tensor) -> tuple[Objects, View]:
    """Six numbers an object: along the world's axes, and about them through its origin."""
    objects, view = many(case, len(amounts))
    turn, shift = step_motion(amounts.unflatten(1, (-1, 6)))
    T = objects.T_world_object.to(amounts)
    moved = torch.cat([turn @ T[..., :3, :3], (T[..., :3, 3] + shift)[..., None]], -1)
    return dataclasses.replace(objects, T_world_object=torch.cat([moved, T[..., 3:, :]], -2)), view


def move_camera(case: Case, amounts: Tensor) -> tuple[Objects, View]:
    """Six numbers: along the camera's axes, and about them."""
    objects, view = many(case, len(amounts))
    turn, shift = step_motion(amounts)
    T = view.camera.T_camera_world.to(amounts)
    moved = torch.cat([turn @ T[..., :3, :], T[..., 3:, :]], -2)
    moved = moved + torch.nn.functional.pad(shift[..., None], (3, 0, 0, 1))
    return objects, dataclasses.replace(view, camera=dataclasses.replace(view.camera, T_camera_world=moved))


def move_light(case: Case, amounts: Tensor) -> tuple[Objects, View]:
    """Five numbers: direction or position, ambient, diffuse."""
    objects, view = many(case, len(amounts))
    light = view.light
    changes = {"ambient": light.ambient + amounts[:, 3], "diffuse": light.diffuse + amounts[:, 4]}
    if light.position_world is None:
        changes["direction_world"] = light.direction_world + amounts[:, :3]
    else:
        changes["position_world"] = light.position_world + amounts[:, :3]
    return objects, dataclasses.replace(view, light=dataclasses.replace(light, **changes))


def object_steps(case: Case) -> Tensor:
    """Amounts of ``move_objects`` that move the image by about a pixel."""
    metres = DEPTH_M / FOCAL_PX
    radii = [float(np.linalg.norm(case.catalogue.meshes[i].vertices_m, axis=1).max()) for i in case.objects.class_ids.tolist()]
    return torch.tensor([x for radius in radii for x in [metres] * 3 + [metres / radius] * 3])


def camera_steps() -> Tensor:
    """Amounts of ``move_camera`` that move the image by about a pixel."""
    return torch.tensor([DEPTH_M / FOCAL_PX] * 3 + [1 / FOCAL_PX] * 2 + [4 / SIZE_PX])


def smooth_weights(shape: tuple[int, ...]) -> Tensor:
    """Low-frequency weights -1..1 of pixels [*images h w c], other ones for every image and channel."""
    *images, height, width, channels = shape
    v, u = torch.meshgrid(torch.arange(height) / height, torch.arange(width) / width, indexing="ij")
    phase = torch.rand(*images, 1, 1, channels, generator=torch.Generator().manual_seed(3)) * 6.28
    return torch.sin(5 * u[..., None] + 4 * v[..., None] + phase)


def slopes(loss: Loss, case: Case, move: Move, steps: Tensor) -> Tensor:
    """[k] analytic gradient, times the steps."""
    amounts = torch.zeros(1, len(steps), requires_grad=True)
    loss(*move(case, amounts)).sum().backward()
    assert amounts.grad is not None
    return (amounts.grad[0] * steps).double()


def differences(loss: Loss, case: Case, move: Move, steps: Tensor) -> Tensor:
    """[k] central differences of the loss over twice the steps, times the steps."""
    with torch.no_grad():
        losses = loss(*move(case, torch.cat([torch.diag(steps), torch.diag(-steps)])))
    ahead, behind = losses.double().chunk(2)
    return (ahead - behind) / 2


def agreement(a: Tensor, b: Tensor) -> tuple[float, float]:
    """Cosine of the angle between two vectors, and a's length over b's."""
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0)), float(a.norm() / b.norm())


def all_gradients(renderer: RasterRenderer | WarpRasterRenderer, objects: Objects, view: View) -> dict[str, Tensor]:
    """Of image, depth, masks and prefixes by everything."""
    leaf: Callable[[Tensor], Tensor] = lambda x: x.clone().requires_grad_() if x.is_floating_point() else x  # noqa: E731
    objects, view, surfaces = map_tensors(leaf, objects), map_tensors(leaf, view), map_tensors(leaf, renderer.surfaces())
    image, prefixes = renderer.render(objects, view, surfaces), renderer.prefix_images(objects, view)
    outputs = [image.rgb, image.depth_m, renderer.masks(objects, view, surfaces), prefixes]
    for output in outputs:
        assert bool(torch.isfinite(output).all())
    light = view.light
    inputs = {
        "objects": objects.T_world_object,
        "camera": view.camera.T_camera_world,
        "background": view.background_rgb,
        "ambient": light.ambient,
        "light": light.direction_world if light.position_world is None else light.position_world,
        "vertices": surfaces.vertices_m,
        "rgb": surfaces.corner_rgb,
        "normals": surfaces.corner_normals,
    }
    total = torch.stack([(output * torch.rand(output.shape)).sum() for output in outputs]).sum()
    gradients = torch.autograd.grad(total, list(inputs.values()), materialize_grads=True, allow_unused=True)
    return dict(zip(inputs, gradients, strict=True))
