"""PyTorch3D as its users call it: one batch of meshes, a scene each, through its own rasteriser and shaders.

What does not change while poses are sought (faces, colours, cameras, lights) is set up once, before any clock runs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from inverse_graphics.types import Catalogue, Objects, View
from renderers.errors import BackendMissingError
from renderers.pytorch3d import INSTALL_COMMAND

if TYPE_CHECKING:
    from pytorch3d.renderer.cameras import PerspectiveCameras
    from pytorch3d.structures import Meshes

Mode = Literal["hard", "soft"]
"""``hard``: the nearest face a pixel, gradients inside of faces only.  ``soft``: blurred silhouettes of the ten nearest faces."""

SIGMA = 1e-4
"""SoftRas' blur of silhouettes, in squared NDC units: PyTorch3D's tutorials' value, about a pixel at 64 px."""


@dataclass(frozen=True)
class PyTorch3DScenes:
    """A batch of joined scenes."""

    template: Meshes
    """Faces and colours of every scene."""
    points_m: Float[Tensor, "bn v 3"]
    """Vertices of every object in its own frame."""
    objects: int
    """Objects a scene."""
    triangles: int
    """Triangles an object."""
    rasterizer: torch.nn.Module
    """PyTorch3D's rasteriser with its cameras."""
    shader: torch.nn.Module
    """PyTorch3D's Phong shader with its lights."""


@dataclass(frozen=True)
class Drawn:
    """Images of a batch."""

    rgb: Float[Tensor, "b h w 3"]
    """Colours; carry gradients to the poses."""
    depth_m: Float[Tensor, "b h w"]
    """z-depth of the nearest face, 0 where there is none."""
    object_ids: Int[Tensor, "b h w"]
    """Slot of the nearest face, -1 where there is none."""


def prepare(catalogue: Catalogue, objects: Objects, view: View, mode: Mode) -> PyTorch3DScenes:
    """Set up scenes of one uniform background colour; every object present, every mesh of one size and colour.

    Raises:
        BackendMissingError: PyTorch3D cannot be imported.
        ValueError: an absent object, or meshes of different sizes.
    """
    try:
        from pytorch3d.renderer.mesh.rasterizer import MeshRasterizer, RasterizationSettings
        from pytorch3d.renderer.mesh.textures import TexturesVertex
        from pytorch3d.structures import Meshes
    except ImportError as error:
        raise BackendMissingError("pytorch3d", "pytorch3d", INSTALL_COMMAND) from error
    check_alike(catalogue, objects)
    batch, slots = objects.class_ids.shape
    device = objects.T_world_object.device
    vertices, triangles = len(catalogue.meshes[0].vertices_m), len(catalogue.meshes[0].faces)
    ids = objects.class_ids.flatten()
    points_m = torch.from_numpy(np.stack([mesh.vertices_m for mesh in catalogue.meshes])).to(device)[ids]
    faces = torch.from_numpy(np.stack([mesh.faces for mesh in catalogue.meshes])).to(device, torch.int64)[ids]
    shift = torch.arange(slots, device=device) * vertices
    joined = (faces.reshape(batch, slots, triangles, 3) + shift[:, None, None]).flatten(1, 2)
    colours = torch.from_numpy(np.stack([mesh.corner_rgb[0, 0] for mesh in catalogue.meshes])).to(device)[ids]
    textures = TexturesVertex(colours.reshape(batch, slots, 1, 3).expand(batch, slots, vertices, 3).flatten(1, 2))
    template = Meshes(points_m.reshape(batch, -1, 3), joined, textures)
    soft = mode == "soft"
    settings = RasterizationSettings(
        image_size=(view.camera.height_px, view.camera.width_px),
        blur_radius=math.log(1 / SIGMA - 1) * SIGMA if soft else 0.0,
        faces_per_pixel=10 if soft else 1,
    )
    cameras = _cameras(view)
    rasterizer = MeshRasterizer(cameras, settings)
    return PyTorch3DScenes(template, points_m, slots, triangles, rasterizer, _shader(view, cameras, soft))


def draw(scenes: PyTorch3DScenes, T_world_object: Float[Tensor, "b n 4 4"]) -> Drawn:
    """Pose, rasterise and shade; ``rgb`` carries PyTorch3D's own gradients to the poses."""
    T = T_world_object.flatten(0, 1)
    posed = scenes.points_m @ T[:, :3, :3].transpose(1, 2) + T[:, None, :3, 3]
    meshes = scenes.template.update_padded(posed.reshape(len(T_world_object), -1, 3))
    fragments = scenes.rasterizer(meshes)
    rgb = scenes.shader(fragments, meshes, znear=0.1, zfar=10.0)[..., :3]
    face, depth_m = fragments.pix_to_face[..., 0], fragments.zbuf[..., 0]
    slot = (face // scenes.triangles) % scenes.objects
    return Drawn(rgb, torch.where(face >= 0, depth_m, 0), torch.where(face >= 0, slot, -1))


def draw_forward(scenes: PyTorch3DScenes, T_world_object: Tensor) -> None:
    """Images only."""
    with torch.no_grad():
        draw(scenes, T_world_object)


def draw_gradient(scenes: PyTorch3DScenes, T_world_object: Tensor, target_rgb: Float[Tensor, "b h w 3"]) -> Tensor:
    """Images, and the gradient of their squared error to the poses, which it returns."""
    T = T_world_object.detach().clone().requires_grad_()
    loss = (draw(scenes, T).rgb - target_rgb).square().sum()
    return torch.autograd.grad(loss, T)[0]


def check_alike(catalogue: Catalogue, objects: Objects) -> None:
    """Raise ValueError where an object is absent or meshes differ in their numbers of vertices or triangles."""
    if not bool(objects.present.all()):
        raise ValueError("objects.present: expected all, received absent ones; fill every slot")
    sizes = {(len(mesh.vertices_m), len(mesh.faces)) for mesh in catalogue.meshes}
    if len(sizes) != 1:
        raise ValueError(
            f"catalogue: expected meshes of one size, received {sorted(sizes)} vertices and triangles; subdivide them"
        )


def _cameras(view: View) -> PerspectiveCameras:
    from pytorch3d.utils import cameras_from_opencv_projection

    camera = view.camera
    T = camera.T_camera_world
    size = torch.tensor([[camera.height_px, camera.width_px]], device=T.device).expand(len(T), 2)
    return cameras_from_opencv_projection(T[:, :3, :3].contiguous(), T[:, :3, 3].contiguous(), camera.K_px.contiguous(), size)


def _shader(view: View, cameras: PerspectiveCameras, soft: bool) -> torch.nn.Module:
    """Lambert shading by interpolated normals: Phong's with its highlight off."""
    from pytorch3d.renderer.blending import BlendParams
    from pytorch3d.renderer.lighting import DirectionalLights
    from pytorch3d.renderer.mesh.shader import HardPhongShader, SoftPhongShader

    light, device = view.light, view.light.direction_world.device
    none = torch.zeros_like(light.direction_world)
    lights = DirectionalLights(
        ambient_color=light.ambient[:, None].expand_as(none),
        diffuse_color=light.diffuse[:, None].expand_as(none),
        specular_color=none,
        direction=light.direction_world,
        device=device,
    )
    background: Any = tuple(view.background_rgb[0, 0, 0].tolist())
    blend = BlendParams(sigma=SIGMA, gamma=1e-4, background_color=background)
    shader = SoftPhongShader if soft else HardPhongShader
    return shader(device=device, cameras=cameras, lights=lights, blend_params=blend)
