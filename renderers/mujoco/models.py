"""A catalogue's meshes, and a user's surroundings, as one MuJoCo model that is compiled once."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from renderers.mujoco.meshes import Corners, Surface

MAX_MATERIALS = 998
"""How many materials MuJoCo's OpenGL context holds."""

MIN_CORNERS = 12
"""With fewer triangles than four the compiler might find no volume."""


def element_name(class_id: int, near: bool | None = None) -> str:
    """Name of what belongs to a class in the model, unlike any of the surroundings'."""
    return f"inverse_graphics/{class_id}" + ("" if near is None else "/near" if near else "/far")


def compile_model(mj: ModuleType, spec: Any, surfaces: list[Surface]) -> Any:
    """Model of the surroundings and the surfaces, named by ``element_name``.

    MuJoCo's compiler turns meshes into their axes of inertia and refuses those whose inertia it cannot tell.  It is given other
    triangles, as many as there are, in whose place the surfaces' are put afterwards.

    Raises:
        ValueError: more colour images than MuJoCo holds.
    """
    spec.compiler.discardvisual = False
    meshes: dict[str, Corners] = {}
    for k, surface in enumerate(surfaces):
        meshes[element_name(k, near=False)] = surface.far
        if surface.near is not surface.far:
            meshes[element_name(k, near=True)] = surface.near
        if surface.image is not None:
            _add_material(mj, spec, element_name(k), surface)
    for name, corners in meshes.items():
        _add_placeholder(mj, spec, name, max(MIN_CORNERS, len(corners.positions_m)))
    if len(spec.materials) > MAX_MATERIALS or len(spec.textures) > MAX_MATERIALS:
        raise ValueError(
            f"MujocoPainter: expected at most {MAX_MATERIALS} meshes with more than one colour, surroundings included, received "
            f"{max(len(spec.materials), len(spec.textures))}; use a smaller catalogue"
        )
    model = spec.compile()
    for name, corners in meshes.items():
        mesh_id = model.mesh(name).id
        _put(model.mesh_vert, int(model.mesh_vertadr[mesh_id]), corners.positions_m)
        _put(model.mesh_normal, int(model.mesh_normaladr[mesh_id]), corners.normals)
        _put(model.mesh_texcoord, int(model.mesh_texcoordadr[mesh_id]), corners.uv)
    model.vis.quality.offsamples, model.vis.quality.shadowsize = 0, 0
    model.vis.global_.offwidth = model.vis.global_.offheight = 256
    return model


def _put(pool: np.ndarray, first: int, values: np.ndarray) -> None:
    """Write a mesh's rows into the model's; what is left of the least number becomes triangles without area."""
    pool[first : first + max(MIN_CORNERS, len(values))] = 0
    pool[first : first + len(values)] = values


def _add_placeholder(mj: ModuleType, spec: Any, name: str, corners: int) -> None:
    """A mesh of that many corners whose triangles and inertia the compiler accepts: a fan that turns about an axis."""
    mesh = spec.add_mesh(name=name, inertia=mj.mjtMeshInertia.mjMESH_INERTIA_SHELL)
    face, angle = np.arange(corners // 3), np.linspace(0, 2 * np.pi, corners // 3, endpoint=False)
    side = np.stack([np.cos(angle), np.sin(angle), np.cos(3 * angle)], -1)
    positions = np.stack([side, side + [0.0, 0.0, 1.0], side + np.stack([-np.sin(angle), np.cos(angle), face * 0.0], -1)], 1)
    index = np.arange(corners, dtype=np.int32)
    mesh.uservert, mesh.userface = positions.ravel().astype(np.float32), index
    mesh.usernormal, mesh.userfacenormal = np.tile(np.asarray([0, 0, 1], np.float32), corners), index
    mesh.usertexcoord, mesh.userfacetexcoord = np.zeros(2 * corners, np.float32), index


def _add_material(mj: ModuleType, spec: Any, name: str, surface: Surface) -> None:
    """A material that shows a surface's image, as linear colours."""
    assert surface.image is not None
    height, width, channels = surface.image.shape
    texture = spec.add_texture(name=name, type=mj.mjtTexture.mjTEXTURE_2D, width=width, height=height, nchannel=channels)
    texture.colorspace = mj.mjtColorSpace.mjCOLORSPACE_LINEAR
    texture.data = surface.image.tobytes()
    material = spec.add_material(name=name)
    # Said, because the surroundings may set other defaults.
    material.texrepeat, material.texuniform = np.ones(2), False
    material.textures[mj.mjtTextureRole.mjTEXROLE_RGB] = name


def load_surroundings(mj: ModuleType, surroundings: str | Path | None) -> Any:
    """Read and check an MJCF file; an empty model where there is none.

    Raises:
        ValueError: there is no such file, or MuJoCo cannot load it.
    """
    if surroundings is None:
        return mj.MjSpec()
    path = Path(surroundings)
    if not path.is_file():
        raise ValueError(f"surroundings: expected an MJCF file, received {str(path)!r}, which is no file; check the path")
    try:
        spec = mj.MjSpec.from_file(str(path))
        spec.compile()
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"surroundings: expected an MJCF file that MuJoCo can load, received {str(path)!r}: {reason}; correct it until "
            "MuJoCo's own viewer opens it"
        ) from error
    return spec
