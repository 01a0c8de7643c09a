"""Bodies and geoms of MJCF files; MuJoCo compiles the file, so defaults, includes, scales and assets are as it means them."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float
from scipy.spatial.transform import Rotation

from assets.errors import CatalogueError, MeshColourWarning, MeshFileError
from assets.meshfiles import TexturedSurface
from assets.robot_shapes import Parts, ball, box, capsule, cylinder, moved, painted

INSTALL_COMMAND = 'pip install "mujoco>=4,<5"'
SHOWN_GROUPS = (0, 1, 2)
"""Groups that MuJoCo's own viewer shows unless told otherwise; collision shapes are in 3 by custom."""
DEFAULT_RGBA = (0.5, 0.5, 0.5, 1.0)
"""Colour of a geom that names none."""


def mjcf_parts(path: Path) -> Parts:
    """Bodies, each with its own visible geoms (not its children's), and geoms with a name.

    Planes, height fields and what is wholly transparent are left out.

    Raises:
        CatalogueError: mujoco is not installed.
        MeshFileError: the file cannot be compiled.
    """
    mj = _import_mujoco()
    try:
        spec = mj.MjSpec.from_file(str(path))
        spec.compiler.discardvisual = False
        model = spec.compile()
    except ValueError as error:
        raise MeshFileError(f"{path}: expected an MJCF file, MuJoCo refuses it with '{error}'; correct it there") from error
    shown = [geom for geom in range(model.ngeom) if _is_shown(mj, model, geom)]
    parts: Parts = {}
    for body in range(model.nbody):
        geoms = [geom for geom in shown if model.geom_bodyid[geom] == body]
        if geoms:
            parts[model.body(body).name or f"body_{body}"] = functools.partial(_surfaces, mj, model, geoms, path)
    for geom in shown:
        name = model.geom(geom).name
        if name and name not in parts:
            parts[name] = functools.partial(_surfaces, mj, model, [geom], path)
    return parts


def _import_mujoco() -> ModuleType:
    try:
        import mujoco
    except ImportError as error:
        message = f"mjcf: expected the package 'mujoco', which cannot be imported here; install it with `{INSTALL_COMMAND}`"
        raise CatalogueError(message) from error
    return mujoco


def _is_shown(mj: ModuleType, model: Any, geom: int) -> bool:
    """Whether a geom has a surface of finite size that can be seen."""
    endless = (mj.mjtGeom.mjGEOM_PLANE, mj.mjtGeom.mjGEOM_HFIELD)
    finite = int(model.geom_group[geom]) in SHOWN_GROUPS and mj.mjtGeom(int(model.geom_type[geom])) not in endless
    return bool(finite and _rgba(model, geom)[3] > 0)


def _rgba(model: Any, geom: int) -> Float[np.ndarray, "4"]:
    """A geom's own colour, or that of its material where it has none, as MuJoCo's viewer takes it."""
    own, material = np.asarray(model.geom_rgba[geom], np.float64), int(model.geom_matid[geom])
    if material < 0 or not np.allclose(own, DEFAULT_RGBA):
        return own
    return np.asarray(model.mat_rgba[material], np.float64)


def _surfaces(mj: ModuleType, model: Any, geoms: list[int], path: Path) -> list[TexturedSurface]:
    """Geoms in the frame of their body."""
    pieces = []
    for geom in geoms:
        material = int(model.geom_matid[geom])
        if material >= 0 and (np.asarray(model.mat_texid[material]) >= 0).any():
            name = model.material(material).name
            message = f"{path}: the texture of material {name!r} is left out; give the mesh by path to keep it"
            warnings.warn(message, MeshColourWarning, stacklevel=2)
        T_body_geom = np.eye(4)
        T_body_geom[:3, :3] = Rotation.from_quat(np.roll(model.geom_quat[geom], -1)).as_matrix()
        T_body_geom[:3, 3] = model.geom_pos[geom]
        shape = _shape(mj, model, geom, path)
        pieces.append(moved(painted(shape, _rgba(model, geom)[:3].clip(0, 1)), T_body_geom))
    return pieces


def _shape(mj: ModuleType, model: Any, geom: int, path: Path) -> trimesh.Trimesh:
    """The triangles of a geom in its own frame; MuJoCo's sizes are half lengths."""
    kind = mj.mjtGeom(int(model.geom_type[geom]))
    a, b, c = (float(value) for value in model.geom_size[geom])
    if kind == mj.mjtGeom.mjGEOM_BOX:
        return box((2 * a, 2 * b, 2 * c))
    if kind == mj.mjtGeom.mjGEOM_SPHERE:
        return ball((a, a, a))
    if kind == mj.mjtGeom.mjGEOM_ELLIPSOID:
        return ball((a, b, c))
    if kind == mj.mjtGeom.mjGEOM_CYLINDER:
        return cylinder(a, 2 * b)
    if kind == mj.mjtGeom.mjGEOM_CAPSULE:
        return capsule(a, 2 * b)
    if kind != mj.mjtGeom.mjGEOM_MESH:
        name = model.geom(geom).name
        raise MeshFileError(f"{path}: expected a mesh or a primitive as geom {name!r}, got {kind.name}; export it as a mesh")
    mesh = int(model.geom_dataid[geom])
    vertices = slice(int(model.mesh_vertadr[mesh]), int(model.mesh_vertadr[mesh] + model.mesh_vertnum[mesh]))
    faces = slice(int(model.mesh_faceadr[mesh]), int(model.mesh_faceadr[mesh] + model.mesh_facenum[mesh]))
    return trimesh.Trimesh(model.mesh_vert[vertices].astype(np.float64), model.mesh_face[faces], process=False)
