"""What can be wrong with a catalogue or a mesh file."""

from __future__ import annotations


class CatalogueError(ValueError):
    """A catalogue file, a name or an entry cannot be used; the message names the file and the key."""


class MeshFileError(ValueError):
    """A mesh file cannot be used; the message names the file and what is wrong with it."""


class MeshSizeWarning(UserWarning):
    """A mesh is so large or so small that its unit is probably wrong."""


class MeshColourWarning(UserWarning):
    """A mesh names a material or texture file that is not there, so that its colours are not those it was made with."""
