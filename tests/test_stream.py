"""Batches made ahead: order, errors, the end of the thread."""

from __future__ import annotations

import threading

import pytest

from scenes import BatchStream


def test_batches_come_in_order_and_are_made_by_one_thread() -> None:
    before, makers = set(threading.enumerate()), set()

    def make(indices: range) -> list[int]:
        makers.add(threading.current_thread().name)
        return [index * index for index in indices]

    with BatchStream(make, batch_size=3, start_index=4, prefetch=3) as stream:
        assert [next(stream) for _ in range(3)] == [[16, 25, 36], [49, 64, 81], [100, 121, 144]]
    assert set(threading.enumerate()) == before
    assert len(makers) == 1 and threading.current_thread().name not in makers
    assert list(stream) == []
    stream.close()


def test_an_error_comes_with_its_batch_and_stays() -> None:
    def make(indices: range) -> int:
        if indices.start >= 4:
            raise ValueError(f"no item {indices.start}")
        return indices.start

    with BatchStream(make, batch_size=2) as stream:
        assert [next(stream), next(stream)] == [0, 2]
        for _ in range(2):
            with pytest.raises(ValueError, match="no item 4"):
                next(stream)


@pytest.mark.parametrize(("name", "sizes"), [("batch_size", (0, 0, 1)), ("start_index", (1, -1, 1)), ("prefetch", (1, 0, 0))])
def test_sizes_out_of_range_are_refused(name: str, sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected at least"):
        BatchStream(len, *sizes)
