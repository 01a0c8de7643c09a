"""What the viewer shows of an image, worked out without it: posed meshes, the image's plane, the frustum, a table of poses."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from posed_scenes import PosedScene

from inverse_graphics.interop.glb import frustum_corners_m
from inverse_graphics.interop.quaternions import quat_xyzw_of
from inverse_graphics.types import Camera, Objects, map_tensors

Group = Literal["truth", "estimates", "samples"]
"""Kinds of objects, each with a colour of its own."""
GROUPS: tuple[Group, ...] = ("truth", "estimates", "samples")
UNKNOWN_DISTANCE_M = 1.0
"""How far away the scene is taken to be where nothing stands in it."""
EDGES = ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1))
"""Of a frustum: from the centre to the image's corners, then round these."""


@dataclass(frozen=True)
class Placement:
    """A frame in the world, as viewers want it."""

    position_m: Float[np.ndarray, "3"]
    """Its origin."""
    quat_wxyz: Float[np.ndarray, "4"]
    """Its rotation."""


@dataclass(frozen=True)
class MeshNode:
    """One posed mesh."""

    name: str
    """Path in the tree of nodes, ``/group/class_slot``."""
    class_id: int
    """Which mesh."""
    placement: Placement
    """Its object frame."""


@dataclass(frozen=True)
class ImagePlane:
    """Where the image hangs so that the camera sees every pixel in its place."""

    placement: Placement
    """The middle of the image; x right, y down."""
    width_m: float
    """Along x."""
    height_m: float
    """Along y."""


def mesh_nodes(group: Group, objects: Objects, names: tuple[str, ...]) -> tuple[MeshNode, ...]:
    """The present objects of a scene.

    Args:
        group: what they are.
        objects: [n] of one scene.
        names: of the classes.

    Raises:
        ValueError: a pose is not rigid.
    """
    slots = np.flatnonzero(objects.present.cpu().numpy()).tolist()
    T_world_object = objects.T_world_object.detach().cpu().double().numpy()
    class_ids = objects.class_ids.tolist()
    return tuple(
        MeshNode(f"/{group}/{names[class_ids[slot]]}_{slot}", class_ids[slot], placement(T_world_object[slot])) for slot in slots
    )


def placement(T_world_frame: Float[np.ndarray, "4 4"]) -> Placement:
    """A 4x4 matrix as position and quaternion."""
    return Placement(T_world_frame[:3, 3].copy(), np.roll(quat_xyzw_of(T_world_frame[None])[0], 1))


def drawn_objects(scene: PosedScene, sample: int | None) -> Objects | None:
    """One scene of the posterior's samples, or the objects of all of them where ``sample`` is None; None without a guide."""
    if scene.samples is None:
        return None
    if sample is None:
        return map_tensors(lambda tensor: tensor.flatten(0, 1), scene.samples)
    return map_tensors(lambda tensor: tensor[sample], scene.samples)


def T_world_camera_of(camera: Camera) -> Float[np.ndarray, "4 4"]:
    """Camera to world, float64."""
    return np.linalg.inv(camera.T_camera_world.detach().cpu().double().numpy())


def scene_distance_m(scene: PosedScene) -> float:
    """Median depth of the objects' origins, of those that are in front of the camera."""
    shown = [objects for objects in (scene.truth, scene.estimates) if objects is not None]
    T_camera_world = scene.camera.T_camera_world.detach().cpu().double().numpy()
    points = [objects.T_world_object[objects.present][:, :3, 3].detach().cpu().double().numpy() for objects in shown]
    depths_m = np.concatenate([np.zeros(0)] + [xyz @ T_camera_world[2, :3] + T_camera_world[2, 3] for xyz in points])
    depths_m = depths_m[depths_m > scene.camera.near_m]
    return float(np.median(depths_m)) if len(depths_m) else UNKNOWN_DISTANCE_M


def image_plane(camera: Camera, depth_m: float) -> ImagePlane:
    """The image at a depth, wherever the principal point is; intrinsics without skew."""
    corners_m = frustum_corners_m(camera, depth_m)[1:]
    T_world_plane = T_world_camera_of(camera)
    T_world_plane[:3, 3] += T_world_plane[:3, :3] @ corners_m.mean(0)
    width_m, height_m = (corners_m[2] - corners_m[0])[:2].tolist()
    return ImagePlane(placement(T_world_plane), width_m, height_m)


def frustum_edges_m(camera: Camera, depth_m: float) -> Float[np.ndarray, "8 2 3"]:
    """The frustum's edges in the world."""
    corners_m = frustum_corners_m(camera, depth_m)
    T_world_camera = T_world_camera_of(camera)
    return (corners_m @ T_world_camera[:3, :3].T + T_world_camera[:3, 3])[np.asarray(EDGES)]


def field_of_view_rad(camera: Camera, aspect: float) -> float:
    """Vertical angle at which a window (width / height) that looks along the camera's axis holds the whole image."""
    K_px = camera.K_px.detach().cpu().double().numpy()
    across = max(K_px[0, 2], camera.width_px - K_px[0, 2]) / K_px[0, 0]
    down = max(K_px[1, 2], camera.height_px - K_px[1, 2]) / K_px[1, 1]
    return 2 * math.atan(max(down, across / aspect))


def overview(scene: PosedScene) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Eye, target and up direction from which both the camera and what it looks at are seen."""
    T_world_camera, distance_m = T_world_camera_of(scene.camera), scene_distance_m(scene)
    right, down, forward, centre = T_world_camera[:3].T
    target = centre + distance_m * forward
    up = np.asarray([0.0, 0.0, 1.0]) if scene.world_known else -down
    return centre - 0.5 * distance_m * forward + 0.8 * distance_m * right, target, up


def table_text(scene: PosedScene, names: tuple[str, ...]) -> str:
    """Truth and estimates in Markdown: classes, positions, scores."""
    lines = ["| | class | x, y, z (cm) | score |", "|---|---|---|---|"]
    for group, objects in (("truth", scene.truth), ("estimate", scene.estimates)):
        for slot in [] if objects is None else np.flatnonzero(objects.present.cpu().numpy()).tolist():
            assert objects is not None
            x, y, z = (100 * objects.T_world_object[slot, :3, 3]).tolist()
            score = f"{float(scene.score[slot]):.3f}" if group == "estimate" else ""
            lines.append(f"| {group} | {names[int(objects.class_ids[slot])]} | {x:.1f}, {y:.1f}, {z:.1f} | {score} |")
    return "\n".join([f"scene {scene.scene_id}, image {scene.image_id}", "", *lines])
