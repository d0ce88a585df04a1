"""Worker processes that outlive a crash: a row that kills its process is withheld, the others are done again.

Workers are spawned, not forked, because OpenVINO hangs in a forked child; each computes with one thread, so that
as many of them as there are cores keep every core busy with decoding, detecting and encoding.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Generic, TypeVar

import cv2

from u2s_datasets.errors import SetupError

Key = TypeVar("Key")
Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 4  # chunks per worker under way: a slow one must not keep the others waiting

_work: Callable[[Any], Any] | None = None


WORKER_BYTES = 2 * 2**30
"""What one worker of the profile `cpu` may come to need: reading text in a large photo takes 1.7 GiB."""


def default_number() -> int:
    """One process per core that this process may use, but no more than the free memory holds; at least one."""
    return max(1, min(len(os.sched_getaffinity(0)), _available_bytes() // WORKER_BYTES))


def _available_bytes() -> int:
    """Memory that can be had without swapping; where the system does not say, all there is."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


class Workers(Generic[Key, Item, Result]):
    """An ordered parallel map over chunks of items.

    Args:
        work: picklable callable from a chunk to one result per item; it should not raise.
        dead: from the item that killed its process to its result.
        number: processes; 1 works in this process.
    """

    def __init__(
        self, work: Callable[[Sequence[Item]], list[Result]], dead: Callable[[Item], Result], number: int
    ) -> None:
        self.work, self.dead, self.number = work, dead, number
        self._pool: ProcessPoolExecutor | None = None

    def map(self, chunks: Iterable[tuple[Key, Sequence[Item]]]) -> Iterator[tuple[Key, list[Result]]]:
        """(key, results) in the order of the chunks; a few more chunks than there are workers are under way."""
        if self.number == 1:
            yield from ((key, self.work(items)) for key, items in chunks)
            return
        waiting: deque[tuple[Key, Sequence[Item], Future[list[Result]]]] = deque()
        try:
            for key, items in chunks:
                waiting.append((key, items, self._submit(items)))
                if len(waiting) > _AHEAD * self.number:
                    yield self._next(waiting)
            while waiting:
                yield self._next(waiting)
        finally:
            self.close()

    def close(self) -> None:
        """End the processes without waiting for chunks that nobody will read."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None

    def _next(self, waiting: deque[tuple[Key, Sequence[Item], Future[list[Result]]]]) -> tuple[Key, list[Result]]:
        key, items, future = waiting.popleft()
        try:
            return key, future.result()
        except BrokenProcessPool:
            self.close()
            results = [self._alone(item) for item in items]
            lost = [(k, its) for k, its, _ in waiting]  # what else was under way went down with the pool
            waiting.clear()
            waiting.extend((k, its, self._submit(its)) for k, its in lost)
            return key, results

    def _alone(self, item: Item) -> Result:
        """One item in the pool by itself, so that the one that kills its process is known."""
        try:
            return self._submit([item]).result()[0]
        except BrokenProcessPool:
            self.close()
            return self.dead(item)

    def _start_pool(self) -> ProcessPoolExecutor:
        """A pool whose first process is up: one that cannot start would look like one that every row kills."""
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(self.number, context, initializer=_start, initargs=(self.work,))
        try:
            pool.submit(_is_up).result()
        except (BrokenProcessPool, RuntimeError) as error:
            pool.shutdown(wait=False, cancel_futures=True)
            raise SetupError(
                "worker processes cannot start; in a script, call this below `if __name__ == '__main__':`, "
                "or use num_proc=1"
            ) from error
        return pool

    def _submit(self, items: Sequence[Item]) -> Future[list[Result]]:
        if self._pool is None:
            self._pool = self._start_pool()
        try:
            return self._pool.submit(_call, items)
        except BrokenProcessPool as error:
            broken: Future[list[Result]] = Future()
            broken.set_exception(error)
            return broken


def _start(work: Callable[[Any], Any]) -> None:
    global _work
    _work = work
    cv2.setNumThreads(1)  # as many processes as cores: more threads would wait for each other
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _call(items: Any) -> Any:
    if _work is None:
        raise RuntimeError("a worker was asked to work before it was started")
    return _work(items)


def _is_up() -> bool:
    return _work is not None


def _end_with_parent() -> None:
    """Without its parent, killed perhaps, a worker would wait for ever on a queue."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        with contextlib.suppress(OSError):
            parent.join()
        os._exit(1)
