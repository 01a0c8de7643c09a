"""PyTorch3D as a backend: every object drawn alone by batched calls of ``rasterize_meshes``.

The stages are place (object -> camera), project (camera -> PyTorch3D's NDC), rasterise, shade, blend.  Nothing outside this file
sees PyTorch3D's conventions: its NDC has +X left and +Y up, the shorter side of the image spans [-1, 1], and the third coordinate
stays the z-depth in metres.

``hard`` layers are what the reference image is made of and carry no gradient: PyTorch3D's hard gradient misses all silhouettes.
``soft`` layers blur silhouettes as SoftRas does (Liu et al., ICCV 2019, equations 1, 3 and 4) and carry gradients to
``T_world_object``, but to nothing else.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from inverse_graphics.compositing import render_layers
from inverse_graphics.types import Catalogue, Layers, Objects, RenderOutput, View
from renderers.errors import BackendMissingError
from renderers.shading import Fragments, Instances, PackedMeshes, check_textures, pack_meshes, select_instances, shade

INSTALL_COMMAND = "pip install easypytorch3d==0.7.9.post1 torch==2.12.1"
"""A build of PyTorch3D 0.7.9 for Linux; docs/renderers.md says how to use another."""

EDGE_TOLERANCE_NDC = 1e-6
"""Hard triangles reach this far over their edges, or pixel centres on an edge that two triangles share would stay empty."""

SOFT_CUTOFF = 1e-4
"""Coverage below which a soft triangle is not drawn."""

MIN_ABS_DEPTH_M = 1e-6
"""Depths nearer zero than this are moved to it before the division by depth; the near plane cuts them off afterwards."""

BYTES_PER_FRAGMENT = 28
"""Face index (8), depth (4), barycentric coordinates (12) and distance (4)."""


class PyTorch3DRenderer:
    """Reference renderer on PyTorch3D's rasteriser, on a CPU or a CUDA device (float32 inside)."""

    def __init__(
        self,
        catalogue: Catalogue,
        samples_per_axis: int = 2,
        mode: Literal["hard", "soft"] = "hard",
        sigma_px: float = 0.35,
        gamma_px: float = 5.0,
        faces_per_pixel: int = 10,
        max_fragment_bytes: int = 2**28,
    ) -> None:
        """Check the settings and that PyTorch3D can be imported.

        Args:
            catalogue: meshes that class ids refer to, at least one.
            samples_per_axis: antialiasing; an image is the mean of its square of samples a pixel.
            mode: "hard" for 0/1 coverage without gradients, "soft" for blurred coverage with gradients to T_world_object.
            sigma_px: width of the blur of silhouettes in pixels of the image (soft): coverage is sigmoid(-d |d| / sigma^2) at
                distance d outside of a triangle.
            gamma_px: depth over which a nearer face hides a farther one, as its length in the image in pixels (soft).
            faces_per_pixel: faces blended at a sample (soft).
            max_fragment_bytes: bound on the rasteriser's output for one call; larger batches are drawn in several.  Gradients
                need the fragments of all calls until the backward pass.

        Raises:
            BackendMissingError: PyTorch3D cannot be imported.
            ValueError: a setting is out of its range, or a texture cannot be looked up.
        """
        if mode not in ("hard", "soft"):
            raise ValueError(f"PyTorch3DRenderer: mode must be 'hard' or 'soft', received {mode!r}; choose one of them")
        if len(catalogue) == 0:
            raise ValueError("PyTorch3DRenderer: catalogue must hold at least one mesh, received none; load or build one")
        positive = {
            "samples_per_axis": samples_per_axis,
            "sigma_px": sigma_px,
            "gamma_px": gamma_px,
            "faces_per_pixel": faces_per_pixel,
            "max_fragment_bytes": max_fragment_bytes,
        }
        for argument, value in positive.items():
            if not value > 0:
                raise ValueError(f"PyTorch3DRenderer: {argument} must be greater than 0, received {value}; see the docstring")
        check_textures(catalogue)
        _require_pytorch3d()
        self.name = "pytorch3d" if mode == "hard" else "pytorch3d-soft"
        self.catalogue = catalogue
        self.is_differentiable = mode == "soft"
        self.samples_per_axis = samples_per_axis
        self.sigma_px = sigma_px
        self.gamma_px = gamma_px
        self.faces_per_pixel = faces_per_pixel if mode == "soft" else 1
        self.max_fragment_bytes = max_fragment_bytes
        self._meshes: dict[torch.device, PackedMeshes] = {}

    def layers(self, objects: Objects, view: View, samples_per_axis: int | None = None) -> Layers:
        """Draw each object alone; see ``Renderer.layers``.

        In soft mode ``rgb`` and ``alpha`` carry gradients to ``objects.T_world_object`` (not to camera or light) and ``depth_m``
        is the mean over the faces that are blended; in hard mode nothing carries gradients.  Depth never does.

        Raises:
            ValueError: shapes that do not fit together, or a class id outside the catalogue.
        """
        samples = self.samples_per_axis if samples_per_axis is None else samples_per_axis
        _check(objects, view, samples, len(self.catalogue))
        present = objects.present.reshape(-1).nonzero()[:, 0]
        height, width = view.camera.height_px * samples, view.camera.width_px * samples
        chunk = max(1, self.max_fragment_bytes // (BYTES_PER_FRAGMENT * height * width * self.faces_per_pixel))
        T = objects.T_world_object
        rgb = T.new_zeros(objects.present.numel(), height, width, 3)
        alpha = T.new_zeros(objects.present.numel(), height, width)
        depth_m = torch.full_like(alpha, torch.inf)
        with torch.set_grad_enabled(torch.is_grad_enabled() and self.is_differentiable):
            parts = [
                self._draw(select_instances(objects, view, index), view, samples) for index in present.split(chunk) if len(index)
            ]
            if parts:
                rgb = rgb.index_copy(0, present, torch.cat([part.rgb for part in parts]).to(T.dtype))
                alpha = alpha.index_copy(0, present, torch.cat([part.alpha for part in parts]).to(T.dtype))
                depth_m = depth_m.index_copy(0, present, torch.cat([part.depth_m for part in parts]).to(T.dtype))
        slots = objects.present.shape
        return Layers(
            rgb.reshape(*slots, height, width, 3),
            alpha.reshape(*slots, height, width),
            depth_m.reshape(*slots, height, width),
            samples,
        )

    def render(self, objects: Objects, view: View) -> RenderOutput:
        """Draw the scene: layers merged by depth over the background; see ``Renderer.render``."""
        return render_layers(self, objects, view)

    def _draw(self, instances: Instances, view: View, samples: int) -> Layers:
        """Layers [k hs ws] of one chunk, at least one instance."""
        device = instances.T_world_object.device
        if device not in self._meshes:
            self._meshes[device] = pack_meshes(self.catalogue, device)
        meshes = self._meshes[device]
        height, width = view.camera.height_px * samples, view.camera.width_px * samples
        px_per_ndc = min(view.camera.height_px, view.camera.width_px) / 2
        points_ndc = _project(meshes, instances, view.camera.width_px, view.camera.height_px)
        blur_ndc = EDGE_TOLERANCE_NDC
        if self.is_differentiable:
            blur_ndc = math.sqrt(math.log(1 / SOFT_CUTOFF - 1)) * self.sigma_px / px_per_ndc
        fragments = _rasterize(
            meshes, instances.class_ids, points_ndc, (height, width), blur_ndc, self.faces_per_pixel, view.camera.near_m
        )
        rgb = shade(meshes, instances, fragments)
        hit = fragments.face >= 0
        if not self.is_differentiable:
            depth_m = torch.where(hit, fragments.depth_m, torch.inf)[..., 0]
            return Layers(rgb[..., 0, :], hit[..., 0].to(rgb.dtype), depth_m, samples)
        coverage = torch.sigmoid(-fragments.squared_distance_ndc * (px_per_ndc / self.sigma_px) ** 2) * hit
        focal_px = instances.K_px[:, 0, 0].to(rgb.dtype)
        return _blend(rgb, coverage, fragments, hit, focal_px / self.gamma_px, samples)


def _require_pytorch3d() -> None:
    """Fail now rather than at the first image.

    Raises:
        BackendMissingError: PyTorch3D cannot be imported.
    """
    try:
        import pytorch3d.renderer.mesh.rasterize_meshes
        import pytorch3d.structures  # noqa: F401
    except ImportError as error:
        raise BackendMissingError("pytorch3d", "pytorch3d", INSTALL_COMMAND) from error


def _check(objects: Objects, view: View, samples: int, classes: int) -> None:
    """Raise ValueError where objects, view or samples cannot be drawn."""
    slots = tuple(objects.present.shape)
    if tuple(objects.class_ids.shape) != slots or tuple(objects.T_world_object.shape) != (*slots, 4, 4):
        raise ValueError(
            f"objects: expected class_ids {slots} and T_world_object {(*slots, 4, 4)} as present is {slots}, received "
            f"{tuple(objects.class_ids.shape)} and {tuple(objects.T_world_object.shape)}; give all the same batch dimensions"
        )
    views = tuple(view.camera.K_px.shape[:-2])
    if views != slots[:-1]:
        raise ValueError(
            f"view: expected the objects' batch dimensions {slots[:-1]}, received {views}; expand the view to one for each scene"
        )
    if samples < 1:
        raise ValueError(f"samples_per_axis: expected at least 1, received {samples}; use 1 for no antialiasing")
    ids = objects.class_ids
    if ids.numel() and (int(ids.min()) < 0 or int(ids.max()) >= classes):
        raise ValueError(
            f"class_ids: expected 0..{classes - 1}, the catalogue's classes, received {int(ids.min())}..{int(ids.max())}; give "
            "empty slots any class and mark them in objects.present"
        )


def _enumerate(ranges: Int[Tensor, "k 2"]) -> tuple[Int[Tensor, "m"], Int[Tensor, "m"]]:
    """Concatenate the integers of k ranges (first, count).

    Returns:
        Which range each element belongs to, and the element.
    """
    first, count = ranges.unbind(-1)
    owner = torch.repeat_interleave(torch.arange(len(ranges), device=ranges.device), count)
    within = torch.arange(len(owner), device=ranges.device) - (count.cumsum(0) - count)[owner]
    return owner, first[owner] + within


def _project(meshes: PackedMeshes, instances: Instances, width_px: int, height_px: int) -> Float[Tensor, "m 3"]:
    """Vertices of all instances, one after the other, in PyTorch3D's NDC with z-depth in metres (float32).

    A pixel position (u, v) becomes ((width / 2 - u), (height / 2 - v)) * 2 / min(width, height), whatever the number of samples.
    """
    owner, vertex = _enumerate(meshes.vertex_range[instances.class_ids])
    T_camera_object = instances.T_camera_world @ instances.T_world_object
    R, t = T_camera_object[:, :3, :3].float(), T_camera_object[:, :3, 3].float()
    points_camera = (R[owner] @ meshes.vertices_m[vertex][..., None])[..., 0] + t[owner]
    depth_m = points_camera[:, 2]
    sign = torch.where(depth_m < 0, -1.0, 1.0)
    depth_m = torch.where(depth_m.abs() < MIN_ABS_DEPTH_M, sign * MIN_ABS_DEPTH_M, depth_m)
    K = instances.K_px.float()[owner]
    u = (K[:, 0, 0] * points_camera[:, 0] + K[:, 0, 1] * points_camera[:, 1]) / depth_m + K[:, 0, 2]
    v = K[:, 1, 1] * points_camera[:, 1] / depth_m + K[:, 1, 2]
    ndc_per_px = 2 / min(width_px, height_px)
    return torch.stack([(width_px / 2 - u) * ndc_per_px, (height_px / 2 - v) * ndc_per_px, depth_m], -1)


def _rasterize(
    meshes: PackedMeshes,
    class_ids: Int[Tensor, "k"],
    points_ndc: Float[Tensor, "m 3"],
    size: tuple[int, int],
    blur_ndc: float,
    faces_per_pixel: int,
    near_m: float,
) -> Fragments:
    """One mesh an image; faces that cross the near plane are cut there."""
    from pytorch3d.renderer.mesh.rasterize_meshes import rasterize_meshes
    from pytorch3d.structures import Meshes

    ids: list[int] = class_ids.tolist()
    counts: list[int] = meshes.vertex_range[class_ids, 1].tolist()
    batch = Meshes(verts=list(points_ndc.split(counts)), faces=[meshes.faces[i] for i in ids])
    face, depth_m, barycentric, squared_distance = rasterize_meshes(
        batch,
        image_size=size,
        blur_radius=blur_ndc**2,
        faces_per_pixel=faces_per_pixel,
        # On CUDA a bin that overflows drops faces: the near plane at most doubles the faces, so this bound is never reached.
        max_faces_per_bin=2 * max(len(meshes.faces[i]) for i in set(ids)),
        perspective_correct=True,
        clip_barycentric_coords=True,
        z_clip_value=near_m,
    )
    _, catalogue_face = _enumerate(meshes.face_range[class_ids])
    face = torch.where(face >= 0, catalogue_face[face.clamp(min=0)], -1)
    return Fragments(face, depth_m, barycentric, squared_distance)


def _blend(
    rgb: Float[Tensor, "k hs ws f 3"],
    coverage: Float[Tensor, "k hs ws f"],
    fragments: Fragments,
    hit: Bool[Tensor, "k hs ws f"],
    px_per_relative_depth: Float[Tensor, "k"],
    samples: int,
) -> Layers:
    """Merge a sample's faces: coverage 1 - prod(1 - coverage), colour by softmax of nearness, weighted by coverage.

    Departs from SoftRas in that the background takes no part in the softmax: layers are premultiplied instead, and depth is
    measured relative to the nearest face at the sample, in pixels, so that one setting does for all distances and lenses.
    """
    alpha = 1 - (1 - coverage).prod(-1)
    depth_m = torch.where(hit, fragments.depth_m, torch.inf)
    covered = hit.any(-1)
    nearest_m = torch.where(covered[..., None], depth_m.detach().amin(-1, keepdim=True), 1.0)
    behind = torch.where(hit, (fragments.depth_m - nearest_m) / nearest_m, 0.0)
    weights = coverage * torch.exp(-behind * px_per_relative_depth[:, None, None, None])
    weights = weights / torch.where(covered, weights.sum(-1), 1.0)[..., None]
    mean_depth_m = (weights * torch.where(hit, fragments.depth_m, 0.0)).sum(-1).detach()
    return Layers(
        rgb=alpha[..., None] * (weights[..., None] * rgb).sum(-2),
        alpha=alpha,
        depth_m=torch.where(covered, mean_depth_m, torch.inf),
        samples_per_axis=samples,
    )
