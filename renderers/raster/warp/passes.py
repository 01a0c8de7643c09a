"""Launches of the kernels: torch tensors in and out, no copies, on torch's current stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import warp as wp
from jaxtyping import Float, Int
from torch import Tensor

from renderers.raster.warp.batch import Batch
from renderers.raster.warp.cover_kernels import classify_layers, draw_faces, draw_large_faces
from renderers.raster.warp.face_kernels import Layout, Meshes, Placed, mat34, vec5d
from renderers.raster.warp.packing import DeviceMeshes
from renderers.raster.warp.shade_kernels import shade_layers, unpack_layers
from renderers.raster.warp.stack_kernels import find_visible, merge_prefixes, residuals_without, share_samples, swap_changes

VERTICES_A_LANE = 64
"""Vertices that one thread of ``classify_layers`` looks at."""

THREADS_A_BLOCK = 128
"""The gradient kernels need nearly all the registers that a thread may have: two such blocks fit on a multiprocessor."""


@dataclass(frozen=True)
class Drawn:
    """Layers after the depth test."""

    meshes: Any
    """Kernel argument ``Meshes``."""
    placed: Any
    """Kernel argument ``Placed``."""
    layout: Any
    """Kernel argument ``Layout``."""
    states: Int[Tensor, "l"]
    """0, DRAWN or CROSSES of each layer, int32."""
    keys: Int[Tensor, "l hs ws"]
    """Nearest face of each sample, see ``face_kernels.key_of``; int64."""


def start() -> None:
    """Initialise Warp without its banner; warnings are shown, reports of modules that were compiled are not."""
    before = wp.config.log_level
    wp.config.log_level = wp.LOG_ERROR
    wp.init()
    wp.config.log_level = max(before, wp.LOG_WARNING)


def check_device(device: torch.device) -> None:
    """Raise ValueError unless kernels can run there."""
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device: expected cpu or cuda, got {device}; move the inputs with inverse_graphics.types.map_tensors")
    if device.type == "cuda" and not wp.is_cuda_available():
        raise ValueError(
            f"device: expected a GPU that Warp can use, got {device}, for which it finds no driver; update the GPU's driver, "
            "or use the renderer 'raster' on the CPU"
        )


def lanes_for(device: torch.device, on_cuda: int) -> int:
    """Threads that share a piece of work: one on the CPU, where Warp runs them in turn."""
    return on_cuda if device.type == "cuda" else 1


def launch(kernel: Any, dim: Sequence[int], device: torch.device, inputs: Sequence[Any]) -> None:
    """Run a kernel on torch's current stream of a device; tensors among its inputs become arrays of the types that it declares.

    The stream is given to the launch.  Warp's own current stream belongs to the process: threads would change it for each other.
    """
    if 0 in dim:
        return
    declared = [arg.type for arg in kernel.adj.args]
    arguments = [
        wp.from_torch(value, dtype=kind.dtype, requires_grad=False) if isinstance(value, Tensor) else value
        for value, kind in zip(inputs, declared, strict=True)
    ]
    wp.launch(
        kernel,
        dim=tuple(dim),
        inputs=arguments,
        device="cpu",  # where there is no stream
        stream=wp.stream_from_torch(device) if device.type == "cuda" else None,
        record_tape=False,
        block_dim=THREADS_A_BLOCK,
    )


def mesh_argument(meshes: DeviceMeshes) -> Any:
    """The kernels' view of the meshes."""
    out = Meshes()
    vec3, vec2 = wp.vec3, wp.vec2
    out.vertices_m = wp.from_torch(meshes.vertices_m, dtype=vec3, requires_grad=False)
    out.faces = wp.from_torch(meshes.faces)
    out.corner_rgb = wp.from_torch(meshes.corner_rgb, dtype=vec3, requires_grad=False)
    out.corner_normals = wp.from_torch(meshes.corner_normals, dtype=vec3, requires_grad=False)
    out.corner_uv = wp.from_torch(meshes.corner_uv, dtype=vec2)
    out.texels = wp.from_torch(meshes.texels, dtype=vec3)
    out.texture_start = wp.from_torch(meshes.texture_start)
    out.texture_width = wp.from_torch(meshes.texture_width)
    out.texture_height = wp.from_torch(meshes.texture_height)
    out.vertex_start = wp.from_torch(meshes.vertex_start)
    out.face_start = wp.from_torch(meshes.face_start)
    out.cull_back = wp.from_torch(meshes.cull_back)
    out.smooth_across = wp.from_torch(meshes.smooth_across)
    return out


def placed_argument(batch: Batch) -> Any:
    """The kernels' view of the layers; the tensors live as long as it does."""
    out = Placed()
    out.class_ids = wp.from_torch(batch.class_ids.flatten())
    out.T_camera_object = wp.from_torch(batch.T_camera_object.flatten(0, 1), dtype=mat34)
    out.present = wp.from_torch(batch.present.flatten())
    out.light = wp.from_torch(batch.light.flatten(0, 1), dtype=wp.vec3)
    out.levels = wp.from_torch(batch.levels.flatten(0, 1), dtype=wp.vec2)
    out.camera = wp.from_torch(batch.camera, dtype=vec5d)
    out.near_light = int(batch.near_light)
    return out


def layout_argument(layers_per_scene: int, height_px: int, width_px: int, samples: int) -> Any:
    """The kernels' view of the sizes."""
    out = Layout()
    out.layers_per_scene = layers_per_scene
    out.rows = height_px * samples
    out.columns = width_px * samples
    out.samples = samples
    return out


def draw(meshes: DeviceMeshes, batch: Batch, height_px: int, width_px: int, samples: int) -> Drawn:
    """Draw every layer of a batch by itself."""
    scenes, slots = batch.class_ids.shape
    layers, device = scenes * slots, batch.class_ids.device
    mesh, placed = mesh_argument(meshes), placed_argument(batch)
    layout = layout_argument(slots, height_px, width_px, samples)
    states = torch.zeros(layers, dtype=torch.int32, device=device)
    keys = torch.zeros(layers, height_px * samples, width_px * samples, dtype=torch.int64, device=device)
    large = torch.empty(layers * meshes.most_faces, 2, dtype=torch.int32, device=device)
    large_count = torch.zeros(1, dtype=torch.int32, device=device)
    lanes = lanes_for(device, -(-meshes.most_vertices // VERTICES_A_LANE))
    groups, group_lanes = lanes_for(device, 512), lanes_for(device, 256)
    launch(classify_layers, (layers, lanes), device, [mesh, placed, layout, lanes, states])
    launch(draw_faces, (layers, meshes.most_faces), device, [mesh, placed, layout, states, keys, large_count, large])
    if layers:
        rest = [large_count, large, groups, group_lanes, keys]
        launch(draw_large_faces, (groups, group_lanes), device, [mesh, placed, layout, states, *rest])
    return Drawn(mesh, placed, layout, states, keys)


def shade(drawn: Drawn) -> Float[Tensor, "l hs ws 3"]:
    """Colours of covered samples; the others are whatever the memory held."""
    rgb = torch.empty(*drawn.keys.shape, 3, dtype=torch.float32, device=drawn.keys.device)
    shade_into(drawn, rgb)
    return rgb


def shade_into(drawn: Drawn, rgb: Float[Tensor, "l hs ws 3"]) -> None:
    """Write the colours of covered samples and leave the others as they are."""
    launch(shade_layers, drawn.keys.shape, rgb.device, [drawn.meshes, drawn.placed, drawn.layout, drawn.states, drawn.keys, rgb])


def unpack(drawn: Drawn, alpha: Float[Tensor, "l hs ws"], depth_m: Float[Tensor, "l hs ws"]) -> None:
    """Write coverage and depth of every sample."""
    launch(unpack_layers, drawn.keys.shape, alpha.device, [drawn.keys, alpha, depth_m])


def merge(drawn: Drawn, rgb: Tensor, background: Tensor, first_prefix: int, canvases: Float[Tensor, "b m h w 3"]) -> None:
    """Write the images of the prefixes from ``first_prefix`` on."""
    dim = (canvases.shape[0], *canvases.shape[2:4])
    launch(merge_prefixes, dim, rgb.device, [drawn.layout, drawn.keys, rgb, background, first_prefix, canvases])


def visible(drawn: Drawn, depth_m: Float[Tensor, "b h w"], object_ids: Int[Tensor, "b h w"]) -> None:
    """Write depth and ids of a stack that was drawn with one sample a pixel."""
    launch(find_visible, depth_m.shape, depth_m.device, [drawn.layout, drawn.keys, depth_m, object_ids])


def shares(drawn: Drawn, masks: Float[Tensor, "b n h w"]) -> None:
    """Add each object's share of each pixel's samples."""
    launch(share_samples, (masks.shape[0], *masks.shape[2:]), masks.device, [drawn.layout, drawn.keys, masks])


def swap(
    drawn: Drawn, rgb: Tensor, others: Drawn, other_rgb: Tensor, background: Tensor, target: Tensor, alternatives: int
) -> Float[Tensor, "layers_a n_plus_1"]:
    """Squared errors of the prefixes with each slot replaced by each of its alternatives, [b * n * a, n + 1]."""
    layers, device = drawn.keys.shape[0], rgb.device
    prefixes = drawn.layout.layers_per_scene + 1
    height, width = background.shape[1:3]
    residual = torch.empty(layers, prefixes, height, width, 3, dtype=torch.float32, device=device)
    lanes = lanes_for(device, 256)
    change = torch.zeros(layers * alternatives, prefixes, lanes, dtype=torch.float32, device=device)
    launch(residuals_without, (layers, height, width), device, [drawn.layout, drawn.keys, rgb, background, target, residual])
    stack = [drawn.layout, drawn.keys, rgb, others.keys, other_rgb, background, residual]
    launch(swap_changes, (layers * alternatives, lanes), device, [*stack, alternatives, lanes, change])
    total = residual.square().sum((-3, -2, -1))
    return total.repeat_interleave(alternatives, 0) + change.sum(-1)
