"""Errors that every backend shares."""

from __future__ import annotations


class BackendMissingError(ImportError):
    """A backend's package is not installed.

    Raised when a renderer is constructed, never when ``renderers`` is imported, and never answered by another backend.
    """

    def __init__(self, renderer: str, package: str, install_command: str) -> None:
        """Name what is missing and how to get it.

        Args:
            renderer: name of the renderer that was asked for.
            package: name of the module that cannot be imported.
            install_command: what to type to install it.
        """
        super().__init__(
            f"renderer {renderer!r}: expected the package {package!r}, which cannot be imported here; "
            f"install it with `{install_command}`, or choose another renderer",
            name=package,
        )
        self.renderer = renderer
        self.install_command = install_command
