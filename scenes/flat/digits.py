"""Single handwritten digits: MNIST from a folder, or the small set that comes with scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int, UInt8
from PIL import Image

from scenes.flat.idx import read_pair

Split = Literal["train", "test"]
DIGIT_PX = 28
"""Side of a digit's image."""
MNIST_PREFIXES: dict[Split, str] = {"train": "train", "test": "t10k"}
MNIST_FOLDERS = ("", "MNIST/raw", "mnist/raw", "raw", "MNIST", "mnist")
"""Where below the root the files may lie, looked through in this order."""

EMBEDDED_TRAIN = 1437
"""The embedded set's first 1,437 digits are for training, the other 360 (a fifth) for tests."""
BODY_PX = 20
"""MNIST's digits fill a square of 20 px, and their centre of mass is the image's middle."""
CONTRAST = (80.0, 185.0)
"""Grey levels that become 0 and 255 after upsampling, so that strokes are as sharp as MNIST's."""


@dataclass(frozen=True)
class Digits:
    """Images of single digits, white on black, all of one split."""

    images: UInt8[np.ndarray, "n 28 28"]
    """Grey levels, 0..255."""
    labels: Int[np.ndarray, "n"]
    """The digits shown, 0..9."""
    split: Split
    """Which digits these are; no digit is in both."""
    source: str
    """Where they come from, for reports."""

    def __post_init__(self) -> None:
        blank = np.flatnonzero(~self.images.any((1, 2)))
        if len(self.images) == 0 or len(blank) > 0:
            received = f"{len(blank)} blank ones, the first at {blank[0]}" if len(blank) else "no image"
            raise ValueError(
                f"images: expected digits that show something, received {received} ({self.source}); leave those out."
            )

    def __len__(self) -> int:
        return len(self.labels)


def load_digits(split: Split, data_root: str | Path | None = None) -> Digits:
    """Digits of a split: MNIST where a folder is given, otherwise the embedded set.

    Args:
        split: "train" or "test".
        data_root: folder with the standard MNIST files, see ``mnist_digits``.

    Raises:
        ValueError: the folder's files are missing, damaged, or no MNIST.
    """
    return embedded_digits(split) if data_root is None else mnist_digits(split, data_root)


def mnist_digits(split: Split, data_root: str | Path) -> Digits:
    """Digits of the standard MNIST files (or a subset in the same format).

    Files may be compressed or not and lie in the folder itself, in ``MNIST/raw`` below it or in ``raw``.

    Raises:
        ValueError: a file is missing or damaged, images are not 28 x 28, or a label is not a digit; the message names the file.
    """
    root, prefix = Path(data_root), MNIST_PREFIXES[split]
    images_path = _find(root, f"{prefix}-images", "idx3-ubyte")
    labels_path = _find(root, f"{prefix}-labels", "idx1-ubyte")
    images, labels = read_pair(images_path, labels_path)
    if images.shape[1:] != (DIGIT_PX, DIGIT_PX):
        raise ValueError(
            f"{images_path}: expected images of {DIGIT_PX} x {DIGIT_PX} px, received an array of {images.shape}; take MNIST's."
        )
    if labels.max() > 9:
        raise ValueError(f"{labels_path}: expected labels 0..9, received {labels.max()}; take MNIST's.")
    return Digits(images, labels.astype(np.int64), split, f"MNIST format, {len(labels)} {split} digits")


def embedded_digits(split: Split) -> Digits:
    """scikit-learn's 1,797 digits (UCI's "Optical Recognition of Handwritten Digits", the test part), made to look like MNIST's.

    They are 8 x 8 px, drawn by 13 people; who drew which is not recorded.  So the split is by index, and a test digit may be by
    the hand of a training digit: accuracy on them says less than on MNIST's test digits, whose writers are others.
    """
    # An import of seconds that MNIST's users do without.
    from sklearn.datasets import load_digits as load_small_digits

    small, labels = load_small_digits(return_X_y=True)
    rows = slice(0, EMBEDDED_TRAIN) if split == "train" else slice(EMBEDDED_TRAIN, None)
    images = np.stack([_enlarge(image) for image in small[rows].reshape(-1, 8, 8)])
    chosen = labels[rows].astype(np.int64)
    return Digits(images, chosen, split, f"scikit-learn digits enlarged from 8 x 8, {len(chosen)} for {split}")


def _enlarge(small: np.ndarray) -> UInt8[np.ndarray, "28 28"]:
    """An 8 x 8 image of 0..16 as 28 x 28: smooth, with sharp edges, its centre of mass in the middle."""
    grey = Image.fromarray(small.astype(np.float32) * (255 / 16), mode="F")
    body = np.asarray(grey.resize((BODY_PX, BODY_PX), Image.Resampling.BICUBIC))
    body = ((body - CONTRAST[0]) / (CONTRAST[1] - CONTRAST[0])).clip(0, 1)
    coordinates = np.arange(BODY_PX) + 0.5
    mass = max(float(body.sum()), 1e-9)
    corner = [DIGIT_PX / 2 - float((body.sum(1 - axis) * coordinates).sum()) / mass for axis in (0, 1)]
    top, left = (int(np.clip(round(value), 0, DIGIT_PX - BODY_PX)) for value in corner)
    image = np.zeros((DIGIT_PX, DIGIT_PX), np.uint8)
    image[top : top + BODY_PX, left : left + BODY_PX] = np.round(255 * body)
    return image


def _find(root: Path, stem: str, ending: str) -> Path:
    """The file of one of the usual names: with a dash or a point before the ending, compressed or not."""
    names = [f"{stem}{joint}{ending}{gz}" for joint in "-." for gz in ("", ".gz")]
    for folder in MNIST_FOLDERS:
        for name in names:
            if (root / folder / name).is_file():
                return root / folder / name
    raise ValueError(
        f"data_root: expected {names[0]} (or .gz) in {root} or {root / 'MNIST' / 'raw'}, found none; correct the folder, or "
        "fetch the files into it with --download."
    )
