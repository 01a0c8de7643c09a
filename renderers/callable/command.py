"""``CommandPainter``: an external program as a painter, in any language.

The program is run once for a list of shots, with a folder as its last argument.  The folder holds ``request.json``; the program
writes its pictures beside it.  docs/extending.md describes the files.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from inverse_graphics.types import Catalogue
from renderers.callable.mesh_export import write_glb
from renderers.callable.raw_pictures import finish, raw_picture
from renderers.callable.silhouettes import RawPicture, SilhouetteCheck
from renderers.painting.checks import PainterError
from renderers.painting.shots import Picture, Shot
from renderers.raster import RasterRenderer

MAX_ERROR_CHARACTERS = 2000
"""How much of the end of a program's stderr is shown."""


class CommandPainter:
    """Paints with an external program, which is run once for every list of shots."""

    def __init__(
        self, command: str | Sequence[str], catalogue: Catalogue, timeout_s: float = 60.0, name: str = "command"
    ) -> None:
        """Write the meshes; the program is not run yet.

        Args:
            command: the program and its arguments, as a list or as one would type it; the folder of the request is added.
            catalogue: the meshes that class ids refer to.
            timeout_s: how long one run may take; then the program and all that it started are killed.
            name: what users call it.

        Raises:
            ValueError: no command, or a timeout that is not positive.
        """
        words = shlex.split(command) if isinstance(command, str) else list(command)
        if not words:
            raise ValueError("CommandPainter: command: expected a program and its arguments, received nothing; name a program")
        if not timeout_s > 0:
            raise ValueError(f"CommandPainter: timeout_s: expected more than 0, received {timeout_s}; 60 is a good start")
        self.name = name
        self.catalogue = catalogue
        self._command = words
        self._timeout_s = timeout_s
        self._raster = RasterRenderer(catalogue, 1)
        self._check = SilhouetteCheck(name, catalogue)
        self._folder = Path(tempfile.mkdtemp(prefix="inverse-graphics-meshes-"))
        self._finalizer = weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        self._mesh_files = [self._folder / f"mesh_{i:04d}.glb" for i in range(len(catalogue))]
        for mesh, path in zip(catalogue.meshes, self._mesh_files, strict=True):
            write_glb(mesh, path)

    def draw(self, shots: list[Shot]) -> list[Picture]:
        """Draw pictures, one a shot, by one run of the program; see ``Painter.draw``.

        Raises:
            PainterError: the program cannot be started, fails, takes too long, or writes what cannot be used; or it draws a
                class elsewhere than the rasteriser does.
        """
        self._check.check(shots, self._run)
        return [finish(raw, shot, self._raster) for raw, shot in zip(self._run(shots), shots, strict=True)]

    def _run(self, shots: list[Shot]) -> list[RawPicture]:
        """One run of the program."""
        with tempfile.TemporaryDirectory(prefix="inverse-graphics-request-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            (folder / "request.json").write_text(json.dumps(self._request(shots)))
            errors = self._execute(folder)
            return [self._read(folder, i, shot, len(shots), errors) for i, shot in enumerate(shots)]

    def _request(self, shots: list[Shot]) -> dict[str, Any]:
        """What request.json says."""
        meshes = [
            {"name": mesh.name, "file": str(path)} for mesh, path in zip(self.catalogue.meshes, self._mesh_files, strict=True)
        ]
        return {"version": 1, "meshes": meshes, "shots": [_shot_entry(shot) for shot in shots]}

    def _execute(self, folder: Path) -> str:
        """Run the program in a session of its own; returns the end of its stderr."""
        log = folder / "stderr.txt"
        with log.open("wb") as stderr:
            try:
                process = subprocess.Popen(
                    [*self._command, str(folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=stderr,
                    start_new_session=True,
                )
            except OSError as error:
                raise PainterError(
                    f"painter {self.name!r}: command: expected a program that can be started, received {self._command[0]!r}: "
                    f"{error}; check its name and that it may be executed"
                ) from error
            try:
                code = process.wait(self._timeout_s)
            except subprocess.TimeoutExpired:
                _kill_all(process)
                raise PainterError(
                    f"painter {self.name!r}: command: expected pictures within {self._timeout_s:g} s, received none; "
                    f"raise timeout_s, or see what the program waits for{_quoted(log)}"
                ) from None
            finally:
                if process.poll() is None:
                    _kill_all(process)
        if code != 0:
            raise PainterError(
                f"painter {self.name!r}: command: expected exit code 0, received {code} from {shlex.join(self._command)}; "
                f"mend the program{_quoted(log)}"
            )
        return _quoted(log)

    def _read(self, folder: Path, number: int, shot: Shot, count: int, errors: str) -> RawPicture:
        """Read the picture with this number."""
        where = f"painter {self.name!r}, picture {number} of {count}"
        files = [path for path in (folder / f"rgb_{number:04d}.npy", folder / f"rgb_{number:04d}.png") if path.is_file()]
        if not files:
            written = ", ".join(sorted(path.name for path in folder.iterdir() if path.name not in ("request.json", "stderr.txt")))
            raise PainterError(
                f"{where}: expected a file rgb_{number:04d}.npy or rgb_{number:04d}.png, received {written or 'no files'}; "
                f"have the program write one a shot into its last argument{errors}"
            )
        depth_file = folder / f"depth_{number:04d}.npy"
        depth_m = _load(where, depth_file) if depth_file.is_file() else None
        return raw_picture(where, _load(where, files[0]), depth_m, shot)


def _shot_entry(shot: Shot) -> dict[str, Any]:
    """A shot as request.json lists it."""
    return {
        "width_px": shot.width_px,
        "height_px": shot.height_px,
        "near_m": shot.near_m,
        "K_px": shot.K_px.tolist(),
        "T_camera_world": shot.T_camera_world.tolist(),
        "objects": [
            {"mesh": int(class_id), "T_world_object": T.tolist()}
            for class_id, T in zip(shot.class_ids, shot.T_world_object, strict=True)
        ],
        "light": {
            "direction_world": shot.direction_world.tolist(),
            "position_world": None if shot.position_world is None else shot.position_world.tolist(),
            "ambient": shot.ambient,
            "diffuse": shot.diffuse,
        },
    }


def _load(where: str, path: Path) -> np.ndarray:
    """An array of a file; PainterError where it is damaged."""
    try:
        if path.suffix == ".npy":
            return np.load(path, allow_pickle=False)
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (ValueError, OSError, EOFError, UnidentifiedImageError) as error:
        raise PainterError(f"{where}: expected a readable {path.name}, received a file with '{error}'; write it whole") from error


def _kill_all(process: subprocess.Popen[bytes]) -> None:
    """End a program and all that it started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _quoted(log: Path) -> str:
    """The end of a program's stderr, introduced."""
    text = log.read_text(errors="replace").strip()
    if not text:
        return " (it wrote nothing to stderr)"
    return f"; the end of its stderr:\n{text[-MAX_ERROR_CHARACTERS:]}"
