"""The images that mesh files name: each is there and can be read, or somebody is told.

trimesh reads on without an image that it cannot open; then surfaces would be grey and nobody knew why.
"""

from __future__ import annotations

import base64
import io
import json
import struct
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from PIL import Image
from trimesh.resolvers import Resolver

from assets.errors import MeshColourWarning, MeshFileError

UNREADABLE = (OSError, ValueError, SyntaxError, struct.error, Image.DecompressionBombError)
"""What Pillow raises on files that are no images, or damaged ones."""


class FilesBeside(Resolver):
    r"""Finds the files that a mesh names, for trimesh, whose own resolver stays in the mesh's folder and takes names as written.

    Exporters write ``../textures/a.png``, ``a%20b.png`` (glTF), ``textures\a.png``, and options before an image's name (OBJ).
    """

    def __init__(self, folder: Path) -> None:
        """Start relative names at a folder."""
        self.folder = folder

    def get(self, key: str) -> bytes:
        """Content of a file.

        Raises:
            FileNotFoundError: there is none of that name.
        """
        path = self.find(key)
        if path is None:
            raise FileNotFoundError(f"{key}: expected a file at or below {self.folder}, there is none; put it there")
        return path.read_bytes()

    def find(self, name: str) -> Path | None:
        """The file that a name means, None where there is none."""
        spellings = (name, name.replace("\\", "/"), unquote(name), name.replace("\\", "/").split()[-1] if name.split() else name)
        return next((self.folder / spelling for spelling in spellings if (self.folder / spelling).is_file()), None)

    def keys(self) -> Iterable[str]:
        """Names of the files in the folder."""
        return [path.name for path in self.folder.iterdir() if path.is_file()]

    def namespaced(self, namespace: str) -> FilesBeside:
        """The same for a folder within."""
        return FilesBeside(self.folder / namespace)

    def write(self, name: str, data: bytes) -> None:
        """Refuse to write: meshes are only read."""
        raise PermissionError(f"{name}: expected to read {self.folder} only, received a file to write; write it yourself")


def check_images(path: Path) -> None:
    """Warn of images and material libraries that a mesh file names and that are not there.

    Args:
        path: a file that trimesh could read.

    Raises:
        MeshFileError: an image is there, but cannot be read; names both files.
    """
    readers = {".obj": _images_of_obj, ".glb": _images_of_gltf, ".gltf": _images_of_gltf}
    if path.suffix.lower() not in readers:
        return
    missing = []
    for name, content in readers[path.suffix.lower()](path):
        if content is None:
            missing.append(name)
        else:
            _check_readable(name, content, path)
    if missing:
        warnings.warn(
            f"{path}: names {', '.join(sorted(set(missing)))}, which is not there: those surfaces keep their plain colour or "
            "become grey; put the file beside the mesh",
            MeshColourWarning,
            stacklevel=3,
        )


def _check_readable(name: str, content: bytes, path: Path) -> None:
    """Refuse what is no image.

    Raises:
        MeshFileError: Pillow cannot decode it.
    """
    remedy = "save the image anew as PNG or JPEG"
    if not content:
        raise MeshFileError(f"{path}: expected an image in {name}, it is empty; {remedy}")
    try:
        with Image.open(io.BytesIO(content)) as image:
            image.load()
    except UNREADABLE as error:
        raise MeshFileError(f"{path}: expected an image in {name}, reading failed with '{error}'; {remedy}") from error


def _images_of_obj(path: Path) -> Iterator[tuple[str, bytes | None]]:
    """Names and contents of the images of an OBJ's materials, and names of libraries that are not there."""
    files = FilesBeside(path.parent)
    for name in _values(path, "mtllib"):
        library = files.find(name)
        if library is None:
            yield name, None
            continue
        for value in _values(library, "map_Kd"):
            image = files.find(value)
            yield value.split()[-1], None if image is None else image.read_bytes()


def _values(path: Path, keyword: str) -> list[str]:
    """What follows a keyword on each of a text file's lines that start with it."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [line.strip()[len(keyword) :].strip() for line in lines if line.strip().startswith(keyword + " ")]


def _images_of_gltf(path: Path) -> Iterator[tuple[str, bytes | None]]:
    """Names and contents of the images that the materials of a glTF file show as colours."""
    data = path.read_bytes()
    header, binary = data, b""
    if path.suffix.lower() == ".glb":
        (length,) = struct.unpack_from("<I", data, 12)
        header, binary = data[20 : 20 + length], data[28 + length :]
    tree = json.loads(header)
    slots = [material.get("pbrMetallicRoughness", {}).get("baseColorTexture") for material in tree.get("materials", [])]
    for number in sorted({slot["index"] for slot in slots if slot is not None}):
        texture = tree["textures"][number]
        others = [extension["source"] for extension in texture.get("extensions", {}).values() if "source" in extension]
        source = (others + [texture["source"]] if "source" in texture else others)[0]
        image = tree["images"][source]
        file = image.get("uri", "data:")
        name = f"image {source}" if file.startswith("data:") else file
        yield name, _content(image, tree, binary, FilesBeside(path.parent))


def _content(item: dict[str, Any], tree: dict[str, Any], binary: bytes, files: FilesBeside) -> bytes | None:
    """Bytes of a glTF image or buffer: part of a buffer, a data URI, a file beside it (None if it is not there)."""
    if "bufferView" in item:
        view = tree["bufferViews"][item["bufferView"]]
        buffer = _content(tree["buffers"][view["buffer"]], tree, binary, files)
        start = view.get("byteOffset", 0)
        return None if buffer is None else buffer[start : start + view["byteLength"]]
    if "uri" not in item:
        return binary
    if item["uri"].startswith("data:"):
        return base64.b64decode(item["uri"].partition(",")[2])
    file = files.find(item["uri"])
    return None if file is None else file.read_bytes()
