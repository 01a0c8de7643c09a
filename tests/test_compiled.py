"""Cached kernels go when any kernel source changes, and stay otherwise."""

from __future__ import annotations

from pathlib import Path

from inverse_graphics.compiled import STAMP, drop_stale_kernels


def make_folder(folder: Path) -> Path:
    cache = folder / "__pycache__"
    cache.mkdir()
    (folder / "a_kernels.py").write_text("x = 1\n")
    (folder / "b_kernels.py").write_text("y = 1\n")
    for name in ("a_kernels.f.nbi", "a_kernels.f.1.nbc", "other.pyc"):
        (cache / name).write_bytes(b"compiled")
    return cache


def test_unknown_cache_is_dropped_once_and_then_kept(tmp_path: Path) -> None:
    cache = make_folder(tmp_path)
    drop_stale_kernels(tmp_path)
    assert sorted(p.name for p in cache.iterdir()) == [STAMP, "other.pyc"]
    (cache / "a_kernels.f.nbi").write_bytes(b"compiled again")
    drop_stale_kernels(tmp_path)
    assert (cache / "a_kernels.f.nbi").is_file()


def test_a_change_of_another_kernel_file_drops_the_cache(tmp_path: Path) -> None:
    cache = make_folder(tmp_path)
    drop_stale_kernels(tmp_path)
    (cache / "a_kernels.f.nbi").write_bytes(b"compiled")
    (tmp_path / "b_kernels.py").write_text("y = 2\n")
    drop_stale_kernels(tmp_path)
    assert not (cache / "a_kernels.f.nbi").exists()


def test_a_folder_without_a_cache_is_left_alone(tmp_path: Path) -> None:
    drop_stale_kernels(tmp_path)
    assert list(tmp_path.iterdir()) == []
