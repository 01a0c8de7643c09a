"""Batches made ahead of their use, in one background thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class BatchStream(Generic[T]):
    """An endless iterator over batches of consecutively numbered items, made ahead in one background thread.

    Use it as a context manager (or call ``close``): leaving stops the thread and waits for it.  Batch k holds the items
    start_index + k * batch_size onwards, whatever the prefetch.  An error of the thread is raised by the ``next()`` that would
    have returned the batch, and by every later one.
    """

    def __init__(self, make: Callable[[range], T], batch_size: int, start_index: int = 0, prefetch: int = 2) -> None:
        """Start the thread.

        Args:
            make: the batch of the items with these numbers; called by the background thread.
            batch_size: items a batch, at least 1.
            start_index: number of the first item.
            prefetch: batches made ahead, at least 1.
        """
        for name, value, low in (("batch_size", batch_size, 1), ("start_index", start_index, 0), ("prefetch", prefetch, 1)):
            if value < low:
                raise ValueError(f"{name}: expected at least {low}, received {value}; pass a larger number.")
        self._make, self._batch_size, self._next_index = make, batch_size, start_index
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="batch-stream")
        self._ahead: deque[Future[T]] = deque()
        self._closed = False
        for _ in range(prefetch):
            self._order()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self._closed:
            raise StopIteration
        batch = self._ahead[0].result()
        self._ahead.popleft()
        self._order()
        return batch

    def close(self) -> None:
        """Stop the thread and wait for it; may be called more than once."""
        self._closed = True
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._ahead.clear()

    def __enter__(self) -> BatchStream[T]:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def _order(self) -> None:
        """Have the thread make the next batch."""
        indices = range(self._next_index, self._next_index + self._batch_size)
        self._next_index += self._batch_size
        self._ahead.append(self._pool.submit(self._make, indices))
