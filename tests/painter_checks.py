"""For painters that draw with other people's renderers: shots, and how far their pictures are from our rasteriser's."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from renderer_scenes import ball, box, camera_view, catalogue_of, mesh_of, posed, quad, square

from assets import load_catalogue
from inverse_graphics.types import Catalogue, Mesh, Objects, Texture, View, map_tensors
from renderers.painting.pictures import PictureRenderer
from renderers.painting.shots import Painter, Picture, Shot
from renderers.raster import RasterRenderer

TABLETOP = "assets/tabletop.yaml"


@dataclass(frozen=True)
class Distance:
    """How far a painter's layers are from raster's, one sample a pixel."""

    iou: float
    """Least intersection over union of the objects' silhouettes."""
    depth_m: float
    """Depth error that 99 % of the shared pixels stay below."""
    rgb: float
    """Largest error of a channel that 99 % of the shared pixels stay below."""
    pixels: int
    """Shared pixels."""


def distance(painter: Painter, catalogue: Catalogue, objects: Objects, view: View) -> Distance:
    """Draw with both."""
    expected = RasterRenderer(catalogue, 1).layers(objects, view)
    found = PictureRenderer(painter, catalogue, 1).layers(objects, view)
    a, b = expected.alpha > 0, found.alpha > 0
    union, both = (a | b).sum((-2, -1)), a & b
    iou = torch.where(union > 0, both.sum((-2, -1)) / union.clamp(min=1), 1.0)
    depth_m = (expected.depth_m - found.depth_m)[both].abs()
    rgb = (expected.rgb - found.rgb)[both].abs().amax(-1)
    return Distance(float(iou.min()), float(depth_m.quantile(0.99)), float(rgb.quantile(0.99)), int(both.sum()))


def assert_close(found: Distance, rgb: float, pixels: int = 200) -> None:
    """Silhouettes 0.97 in intersection over union, depth within 2 mm and colours within ``rgb`` on 99 % of the pixels."""
    assert found.pixels > pixels
    assert found.iou >= 0.97
    assert found.depth_m < 2e-3
    assert found.rgb < rgb


def shot_of(objects: Objects, view: View) -> Shot:
    """The shot of one scene, one sample a pixel."""
    present, camera, light = objects.present, view.camera, view.light
    return Shot(
        class_ids=objects.class_ids[present].numpy(),
        T_world_object=objects.T_world_object[present].double().numpy(),
        T_camera_world=camera.T_camera_world.double().numpy(),
        K_px=camera.K_px.double().numpy(),
        width_px=camera.width_px,
        height_px=camera.height_px,
        near_m=camera.near_m,
        direction_world=light.direction_world.double().numpy(),
        position_world=None if light.position_world is None else light.position_world.double().numpy(),
        ambient=float(light.ambient),
        diffuse=float(light.diffuse),
    )


def scene_of(objects: Objects, view: View, scene: int) -> tuple[Objects, View]:
    return map_tensors(lambda x: x[scene], objects), map_tensors(lambda x: x[scene], view)


def near_light(view: View, position_m: tuple[float, float, float]) -> View:
    position = torch.tensor(position_m).expand(view.light.direction_world.shape)
    return dataclasses.replace(view, light=dataclasses.replace(view.light, position_world=position))


def tabletop() -> Catalogue:
    return load_catalogue(TABLETOP)


def odd_pinhole(width_px: int = 133, height_px: int = 97) -> View:
    """fx and fy differ, the principal point is far from the middle."""
    view = camera_view(width_px, height_px, 1.0, light=(0.4, -0.6, -0.9))
    K_px = torch.tensor([[150.0, 0, 0.3 * width_px], [0, 117.0, 0.65 * height_px], [0, 0, 1]])
    return dataclasses.replace(view, camera=dataclasses.replace(view.camera, K_px=K_px))


def textured_globe() -> Mesh:
    """A closed mesh with a smooth texture that repeats, over corner colours that differ from face to face and within them."""
    globe = ball(0.06, 3, (1.0, 1.0, 1.0))
    row, column = np.indices((16, 24)) * 2 * np.pi / [[[16]], [[24]]]
    rgb = 0.6 + 0.4 * np.stack([np.sin(row), np.cos(column), np.sin(row + column)], -1)
    uv = (globe.vertices_m[:, :2] * 12)[globe.faces]
    corner_rgb = 0.5 + 0.5 * np.sin(20 * globe.vertices_m[globe.faces])
    return dataclasses.replace(
        globe, corner_rgb=corner_rgb.astype(np.float32), texture=Texture(uv.astype(np.float32), rgb.astype(np.float32))
    )


def objects_of_every_kind() -> tuple[Catalogue, Objects]:
    """A box twice, a globe, and open squares seen from the front and from behind, one of them with faces without area."""
    broken = mesh_of("broken", square(0.05).vertices_m, np.array([[0, 1, 2], [0, 2, 3], [1, 1, 2], [3, 3, 3]]), (0.9, 0.5, 0.4))
    catalogue = catalogue_of(box(), textured_globe(), square(0.05), broken)
    positions = [[-0.15, -0.05, 0.6], [0.1, 0.1, 0.7], [0.0, -0.06, 0.5], [0.16, -0.05, 0.6], [-0.1, 0.1, 0.55], [0.02, 0.1, 0.5]]
    turns = [[0.5, 0.4, 0.1], [1.0, -0.4, 0.6], [0.3, 0.2, 0.0], [0.4, 0.2, 0.0], [0.3, 2.8, 0.0], [0.1, 0.5, 0.3]]
    return catalogue, posed([0, 0, 1, 2, 2, 3], positions, turns)


def floor_through_the_near_plane() -> tuple[Catalogue, Objects, View]:
    """It begins behind the camera and is cut 0.9 m before it."""
    corners = [[-9.0, 0.5, -1.0], [9.0, 0.5, -1.0], [9.0, 0.5, 3.0], [-9.0, 0.5, 3.0]]
    return catalogue_of(quad(corners)), posed([0], [[0.0, 0.0, 0.0]]), camera_view(32, 32, 20.0, near_m=0.9)


def same(a: list[Picture], b: list[Picture]) -> bool:
    return all(np.array_equal(p.rgb, q.rgb) and np.array_equal(p.depth_m, q.depth_m) for p, q in zip(a, b, strict=True))
