"""``FunctionPainter``: a user's Python function as a painter.

The first picture of every class is compared with our rasteriser's, so that mistakes with frames and units show at once.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from inverse_graphics.types import Catalogue
from renderers.callable.command import CommandPainter as CommandPainter
from renderers.callable.raw_pictures import finish, raw_picture
from renderers.callable.silhouettes import RawPicture, SilhouetteCheck
from renderers.painting.checks import PainterError
from renderers.painting.shots import Picture, Shot
from renderers.raster import RasterRenderer


class FunctionPainter:
    """Paints with a Python function ``(meshes, poses, camera) -> rgb`` or ``-> (rgb, depth_m)``.

    The function gets, for k objects,

    - meshes: a list of k ``Mesh``es, one an object;
    - poses: T_world_object [k 4 4], float64;
    - camera: the ``Shot``, with K_px, T_camera_world, width_px, height_px, near_m and the light's fields;

    and returns an image [h w 3], linear floats in 0..1 or sRGB as uint8, and z-depth [h w] in metres (0, infinity or NaN where
    there is nothing).  Where it returns no depth, coverage and depth are those of our rasteriser for the same meshes and poses.
    """

    def __init__(self, function: Callable[..., Any] | str, catalogue: Catalogue, name: str = "function") -> None:
        """Find the function.

        Args:
            function: the function, or where to find it: "path/to/file.py:name" or "package.module:name".  Only the latter can be
                sent to workers, as in ``functools.partial(FunctionPainter, "mine.py:draw", catalogue)``.
            catalogue: the meshes that class ids refer to.
            name: what users call it.

        Raises:
            ValueError: there is no such function, or its file cannot be run.
        """
        self.name = name
        self.catalogue = catalogue
        self._function = load_function(function) if isinstance(function, str) else function
        self._raster = RasterRenderer(catalogue, 1)
        self._check = SilhouetteCheck(name, catalogue)

    def draw(self, shots: list[Shot]) -> list[Picture]:
        """Draw pictures, one a shot; see ``Painter.draw``.

        Raises:
            PainterError: the function raised an exception (the error's cause), returned what cannot be used, or draws a class
                elsewhere than the rasteriser does.
        """
        self._check.check(shots, self._raw)
        return [finish(raw, shot, self._raster) for raw, shot in zip(self._raw(shots), shots, strict=True)]

    def _raw(self, shots: list[Shot]) -> list[RawPicture]:
        return [self._call(shot, f"painter {self.name!r}, picture {i} of {len(shots)}") for i, shot in enumerate(shots)]

    def _call(self, shot: Shot, where: str) -> RawPicture:
        """One call of the function."""
        try:
            answer = self._function([self.catalogue.meshes[i] for i in shot.class_ids], shot.T_world_object, shot)
        except Exception as error:  # whatever a user's function raises
            classes = ", ".join(self.catalogue.meshes[i].name for i in shot.class_ids)
            raise PainterError(
                f"{where}: expected an image of {classes or 'nothing'} ({shot.width_px} x {shot.height_px} px), the function "
                f"raised {_told(error)}; mend the function"
            ) from error
        if not isinstance(answer, tuple):
            return raw_picture(where, np.asarray(answer), None, shot)
        if len(answer) != 2:
            raise PainterError(
                f"{where}: expected rgb or (rgb, depth_m), received a tuple of {len(answer)}; "
                "return an image [h w 3], or two arrays"
            )
        rgb, depth_m = answer
        return raw_picture(where, np.asarray(rgb), None if depth_m is None else np.asarray(depth_m), shot)


def load_function(where: str) -> Callable[..., Any]:
    """Find a function.

    Args:
        where: "path/to/file.py:name" or "package.module:name".

    Raises:
        ValueError: the text has another form, there is no such file or module, the file raises an exception, or it has no such
            function.
    """
    source, separator, name = where.rpartition(":")
    if not (separator and source and name):
        raise ValueError(
            f"function: expected 'path/to/file.py:name' or 'package.module:name', received {where!r}; write the name"
        )
    module = _load_file(Path(source)) if source.endswith(".py") else _load_module(source)
    function = getattr(module, name, None)
    if not callable(function):
        known = ", ".join(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise ValueError(f"function: expected a function {name!r} in {source}, received none; it has {known or 'no functions'}")
    return function


def _load_file(path: Path) -> Any:
    """Run a file as a module of its own name, anew."""
    if not path.is_file():
        raise ValueError(f"function: expected a Python file, received {path}, which does not exist here; check the path")
    name = f"renderer_of_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a user's file raises
        raise ValueError(f"function: expected a Python file that can be run, {path} raised {_told(error)}; mend it") from error
    return module


def _told(error: Exception) -> str:
    """An exception in one line: its type, its text, and where it came from."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text} (line {place.lineno} of {place.filename})"


def _load_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"function: expected a module that can be imported, received {name!r}: {error}; "
            "install it, or give the path of a file"
        ) from error
