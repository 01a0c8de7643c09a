"""IDX files, sources of digits, downloads."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flat_files import blocks, idx_bytes, write_mnist
from PIL import Image
from sklearn.datasets import load_digits as load_small_digits

from scenes.flat import MNIST_FILES, OMNIGLOT_FILES, Digits, RemoteFile, embedded_digits, fetch, load_digits
from scenes.flat.idx import read_images, read_labels, read_pair

IMAGES = np.random.default_rng(0).integers(0, 256, (3, 4, 5), dtype=np.uint8)


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_idx_files_are_read_whatever_their_name(tmp_path: Path, compress: Callable[[bytes], bytes]) -> None:
    (tmp_path / "images").write_bytes(compress(idx_bytes(IMAGES)))
    (tmp_path / "labels").write_bytes(compress(idx_bytes(np.array([7, 0, 2]))))
    images, labels = read_pair(tmp_path / "images", tmp_path / "labels")
    np.testing.assert_array_equal(images, IMAGES)
    assert labels.tolist() == [7, 0, 2]
    assert read_images(tmp_path / "images").flags.writeable


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "expected an IDX file, found none"),
        (b"", "received a file of 0 bytes"),
        (b"\x00\x00", "received a file of 2 bytes"),
        (idx_bytes(np.zeros(3)), r"images \(magic 0x803\), received magic 0x801"),
        (b"\x00\x00\x0d\x03" + bytes(12), "received magic 0xd03"),
        (idx_bytes(IMAGES)[:10], "expected a header of 16 bytes, received 10"),
        (idx_bytes(IMAGES)[:-1], "expected 76 bytes for 3 x 4 x 5 values, received 75"),
        (idx_bytes(IMAGES) + b"!", "expected 76 bytes for 3 x 4 x 5 values, received 77"),
        (b"\x00\x00\x08\x03" + b"\xff" * 12, "expected 79228162458924105385300197391 bytes"),
        (gzip.compress(idx_bytes(IMAGES), mtime=0)[:-9], "expected a whole gzip file"),
        (gzip.compress(idx_bytes(IMAGES), mtime=0)[:20] + b"\x00" * 40, "expected a whole gzip file"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "train-images-idx3-ubyte"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        read_images(path)
    assert str(caught.value).startswith(f"{path}: ") and "--download" in str(caught.value)


def test_labels_must_fit_the_images(tmp_path: Path) -> None:
    (tmp_path / "images").write_bytes(idx_bytes(IMAGES))
    (tmp_path / "labels").write_bytes(idx_bytes(np.zeros(2)))
    with pytest.raises(ValueError, match="labels: expected 3 labels, one for each image of images, received 2"):
        read_pair(tmp_path / "images", tmp_path / "labels")
    with pytest.raises(ValueError, match=r"labels \(magic 0x801\), received magic 0x803"):
        read_labels(tmp_path / "images")


@pytest.mark.parametrize("folder", [".", "MNIST/raw", "raw"])
@pytest.mark.parametrize(("compressed", "joint"), [(False, "-"), (True, "-"), (False, ".")])
def test_standard_files_are_found(tmp_path: Path, folder: str, compressed: bool, joint: str) -> None:
    write_mnist(tmp_path / folder, compressed=compressed, joint=joint)
    train, test = load_digits("train", tmp_path), load_digits("test", tmp_path)
    np.testing.assert_array_equal(train.images, blocks(12)[0])
    assert train.labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert (len(test), test.labels.tolist()) == (5, [3, 4, 5, 6, 7])
    assert (train.split, test.split, test.source) == ("train", "test", "MNIST format, 5 test digits")


def test_folders_without_usable_digits_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="data_root: expected train-images-idx3-ubyte .* --download"):
        load_digits("train", tmp_path)
    write_mnist(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.full(12, 10)))
    with pytest.raises(ValueError, match=r"labels-idx1-ubyte: expected labels 0\.\.9, received 10"):
        load_digits("train", tmp_path)
    (tmp_path / "train-images-idx3-ubyte").write_bytes(idx_bytes(np.ones((12, 20, 28))))
    with pytest.raises(ValueError, match=r"expected images of 28 x 28 px, received an array of \(12, 20, 28\)"):
        load_digits("train", tmp_path)
    images, labels = blocks(3)
    images[1] = 0
    with pytest.raises(ValueError, match="images: expected digits that show something, received 1 blank ones, the first at 1"):
        Digits(images, labels, "train", "blocks")


def test_embedded_digits_look_like_the_small_ones_and_like_mnist() -> None:
    small, labels = load_small_digits(return_X_y=True)
    parts = [embedded_digits("train"), embedded_digits("test")]
    assert [len(part) for part in parts] == [1437, 360]
    np.testing.assert_array_equal(np.concatenate([part.labels for part in parts]), labels)
    images = np.concatenate([part.images for part in parts])
    rows, columns = np.mgrid[:28, :28] + 0.5
    mass = images.sum((1, 2), dtype=float)
    assert np.abs((images * rows).sum((1, 2)) / mass - 14).max() < 1
    assert np.abs((images * columns).sum((1, 2)) / mass - 14).max() < 1
    assert 25 < images.mean() < 50  # MNIST's mean is 33
    for image, original in zip(images[:40], small[:40], strict=True):
        # a window of 20 px, shrunk to 8 px again, is the original, only sharper
        windows = [image[top : top + 20, left : left + 20] for top in range(9) for left in range(9)]
        shrunk = [np.asarray(Image.fromarray(window).resize((8, 8), Image.Resampling.BOX)) for window in windows]
        assert max(np.corrcoef(window.ravel(), original)[0, 1] for window in shrunk) > 0.93


def test_no_test_digit_is_for_training() -> None:
    train, test = ({image.tobytes() for image in embedded_digits(split).images} for split in ("train", "test"))
    assert len(train) == 1437 and len(test) == 360
    assert not train & test


def remote(folder: Path, name: str, content: bytes) -> RemoteFile:
    """A file that is published in a folder, after a mirror that has it not."""
    (folder / name).write_bytes(content)
    return RemoteFile(name, hashlib.sha256(content).hexdigest(), tuple(f"{folder.as_uri()}/{sub}{name}" for sub in ("no/", "")))


def test_files_are_fetched_once_and_whole(tmp_path: Path) -> None:
    server, target = tmp_path / "server", tmp_path / "data" / "mnist"
    server.mkdir()
    files = [remote(server, "a.gz", b"first"), remote(server, "b.gz", b"second")]
    assert fetch(files[:1], target) == [target / "a.gz"]
    (server / "a.gz").unlink()  # what is there and whole is not asked for again
    assert [path.read_bytes() for path in fetch(files, target)] == [b"first", b"second"]
    (target / "b.gz").write_bytes(b"sec")
    assert fetch(files[1:], target)[0].read_bytes() == b"second"
    assert sorted(path.name for path in target.iterdir()) == ["a.gz", "b.gz"]


def test_what_cannot_be_fetched_leaves_nothing(tmp_path: Path) -> None:
    file = remote(tmp_path, "a.gz", b"first")
    (tmp_path / "a.gz").write_bytes(b"other")
    with pytest.raises(
        ValueError, match=f"a.gz: expected sha256 {file.sha256}, received 5 bytes with .* put the published file at"
    ):
        fetch([file], tmp_path / "data")
    (tmp_path / "a.gz").unlink()
    with pytest.raises(ConnectionError, match="a.gz: expected an answer, received none from file:.*check the network"):
        fetch([file], tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_published_files_have_whole_checksums_and_secure_addresses() -> None:
    files = [*MNIST_FILES, *OMNIGLOT_FILES]
    assert len({file.sha256 for file in files}) == len(files) == 8
    assert all(len(bytes.fromhex(file.sha256)) == 32 for file in files)
    assert all(url.startswith("https://") and url.endswith("/" + file.name) for file in files for url in file.urls)
