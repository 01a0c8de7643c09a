"""Fetching MNIST and Omniglot: each file checked, written whole, and fetched once."""

from __future__ import annotations

import hashlib
import http.client
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inverse_graphics.files import write_bytes

TIMEOUT_S = 60.0
"""A server that sends nothing for so long is given up."""


@dataclass(frozen=True)
class RemoteFile:
    """A file that others publish."""

    name: str
    """Under which it is kept."""
    sha256: str
    """Of its bytes, hexadecimal."""
    urls: tuple[str, ...]
    """Where it is, tried in this order."""


MNIST_MIRRORS = ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/")
"""The original server asks for a password; these hold the same bytes."""
OMNIGLOT_URL = "https://raw.githubusercontent.com/brendenlake/omniglot/master/python/"


def _files(sums: dict[str, str], mirrors: tuple[str, ...]) -> tuple[RemoteFile, ...]:
    return tuple(RemoteFile(name, sha256, tuple(mirror + name for mirror in mirrors)) for name, sha256 in sums.items())


MNIST_FILES = _files(
    {
        "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    },
    MNIST_MIRRORS,
)
"""60,000 training and 10,000 test digits (LeCun, Cortes and Burges)."""
OMNIGLOT_FILES = _files(
    {
        "images_background.zip": "ad41ab679c8b5d90b271ef46be6987cc81211774a695c29dcc5367b2b26ee640",
        "strokes_background.zip": "c1e445d158fd74b6adf81f1387ebe051f5a23923bdb0c16f539d6e707ce056d4",
        "images_evaluation.zip": "1f61a8f3366785b057fc117d9228e78a16e3d976c8953b2a10fcc74cf0609cee",
        "strokes_evaluation.zip": "17185a39049e62d6e6a26070fa5c58e5ce7dbaff826a9f78595bdd7881d2070b",
    },
    (OMNIGLOT_URL,),
)
"""1,623 characters of 50 alphabets by 20 drawers each, with the pen's strokes (Lake, Salakhutdinov and Tenenbaum 2015)."""


def fetch(files: Sequence[RemoteFile], folder: str | Path) -> list[Path]:
    """Have files in a folder; those that are there and whole are left alone, so that a broken-off download goes on.

    Args:
        files: what to have.
        folder: where; made if there is none.

    Returns:
        Their paths, in the order of ``files``.

    Raises:
        ConnectionError: no address of a file answers; the message names the file, the reasons and the remedy.
        ValueError: what came has another checksum; nothing of it is kept.
    """
    return [_fetch_one(file, Path(folder) / file.name) for file in files]


def _fetch_one(file: RemoteFile, target: Path) -> Path:
    if target.is_file() and hashlib.sha256(target.read_bytes()).hexdigest() == file.sha256:
        return target
    content = _first_answer(file, target)
    found = hashlib.sha256(content).hexdigest()
    if found != file.sha256:
        raise ValueError(
            f"{file.name}: expected sha256 {file.sha256}, received {len(content)} bytes with {found}; try again later, or "
            f"put the published file at {target}."
        )
    write_bytes(target, content)
    return target


def _first_answer(file: RemoteFile, target: Path) -> bytes:
    """The content from the first address that gives one."""
    reasons = []
    for url in file.urls:
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT_S) as answer:
                return answer.read()
        except urllib.error.URLError as error:
            reasons.append(f"{url} ({error.reason})")
        except (OSError, http.client.HTTPException) as error:
            reasons.append(f"{url} ({error})")
    raise ConnectionError(
        f"{file.name}: expected an answer, received none from {', '.join(reasons)}; check the network, or fetch the file "
        f"elsewhere and put it at {target}."
    )
