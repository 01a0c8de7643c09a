"""The built-in meshes: made from formulas when asked for, nothing is read from disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from assets import printed, solids, tableware
from assets.errors import CatalogueError
from assets.meshes import to_mesh
from assets.surfaces import Surface
from inverse_graphics.types import Catalogue, Mesh, Symmetry

PROCEDURAL: Mapping[str, Callable[[], tuple[Surface, Symmetry]]] = {
    "mug": tableware.mug,
    "bowl": tableware.bowl,
    "plate": tableware.plate,
    "bottle": tableware.bottle,
    "box": tableware.box,
    "can": tableware.can,
    "sphere": solids.sphere,
    "cone": solids.cone,
    "funnel": tableware.funnel,
    "pan": tableware.pan,
    "teapot": tableware.teapot,
    "wedge": tableware.wedge,
    "sponge": tableware.sponge,
    "red_cube": solids.red_cube,
    "blue_sphere": solids.blue_sphere,
    "textured_cylinder": solids.textured_cylinder,
    "book": printed.book,
}
"""What makes each built-in mesh."""


def procedural_mesh(name: str) -> Mesh:
    """Make one built-in mesh.

    Raises:
        CatalogueError: no built-in mesh has that name.
    """
    if name not in PROCEDURAL:
        raise CatalogueError(f"name: expected one of {', '.join(PROCEDURAL)}; got {name!r}; pick a built-in mesh")
    surface, symmetry = PROCEDURAL[name]()
    return to_mesh(name, surface, symmetry)


def procedural_catalogue(names: Sequence[str] | None = None) -> Catalogue:
    """Make built-in meshes.

    Args:
        names: which ones, in the order of their class ids; all of them where None.

    Raises:
        CatalogueError: a name is unknown or given twice, or there is none.
    """
    wanted = tuple(PROCEDURAL) if names is None else tuple(names)
    if not wanted or len(set(wanted)) < len(wanted):
        raise CatalogueError(f"names: expected at least one name, none twice; got {wanted}; list each mesh once")
    return Catalogue(tuple(procedural_mesh(name) for name in wanted))
