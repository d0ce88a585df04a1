"""Worker processes that survive a crash: a row that kills its process is withheld, the others are done again.

Workers are spawned, not forked, because OpenVINO hangs in a forked child; each computes with one thread, so that
as many of them as there are cores keep every core busy with decoding, detecting and encoding.
"""

import contextlib
import ctypes
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import cv2

from u2s_datasets.errors import SetupError
from u2s_datasets.parts import checkpoints

Key = TypeVar("Key")
Item = TypeVar("Item")
Result = TypeVar("Result")

_AHEAD = 4  # chunks under way per worker: a slow one must not keep the others waiting

_CHUNK_ITEMS = 4
_CHUNK_BYTES = 4_000_000
_MORE_ON_GPU = 8  # times as much in a chunk, so that a model's batches are full

WORKER_BYTES = 2 * 2**30
"""What one worker of the profile `cpu` may come to need: reading text in a large photo takes 1.7 GiB."""

_work: Callable[[Any], Any] | SetupError | None = None
"""In a spawned worker: what it does with every chunk, or why it cannot. An executor's functions find nothing else that
outlasts a chunk, and work that came with each chunk would load its models each time."""


def default_number(on_gpu: bool = False) -> int:
    """One process per core that this process may use, but no more than the free memory holds; at least one.

    Args:
        on_gpu: one per GPU instead, and one without a GPU: each process loads whole models.
    """
    if on_gpu:
        return max(1, checkpoints.gpu_count())
    return max(1, min(len(os.sched_getaffinity(0)), _available_bytes() // WORKER_BYTES))


def _available_bytes() -> int:
    """Memory that can be had without swapping; if the system does not tell, all of it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class _Submitted(Generic[Key, Item, Result]):
    """A chunk that is under way."""

    key: Key
    items: Sequence[Item]
    results: Future[list[Result]]


class Workers(Generic[Key, Item, Result]):
    """An ordered parallel map over chunks of items.

    Args:
        work: picklable callable from a chunk to one result per item; it should not raise. Its method `prepare()`,
            if it has one, is called in every process before its first chunk, and in one before any chunk: what that
            raises ends the map.
        crashed: from the item that killed its process to its result. Only a death counts: a `MemoryError` that is
            raised is a failure that `work` has to answer for.
        number: processes.
        here: work in this process instead, where an item that crashes the interpreter ends everything.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], list[Result]],
        crashed: Callable[[Item], Result],
        number: int,
        here: bool = False,
    ) -> None:
        self.work, self.crashed, self.number, self.here = work, crashed, number, here
        self._pool: ProcessPoolExecutor | None = None

    def map(self, chunks: Iterable[tuple[Key, Sequence[Item]]]) -> Iterator[tuple[Key, list[Result]]]:
        """(key, results) in the order of the chunks; a few more chunks than there are workers are under way.

        Raises:
            SetupError: the workers cannot start or prepare.
        """
        if self.here:
            for number, (key, items) in enumerate(chunks):
                if number == 0:
                    _prepare(self.work)
                yield key, self.work(items)
            return
        try:
            yield from self.stream(chunks)
        finally:
            self.close()

    def stream(self, chunks: Iterable[tuple[Key, Sequence[Item]]]) -> Iterator[tuple[Key, list[Result]]]:
        """As `map`, in processes that stay up for the next call; `close` ends them."""
        waiting: deque[_Submitted[Key, Item, Result]] = deque()
        for key, items in chunks:
            waiting.append(_Submitted(key, items, self._submit(items)))
            if len(waiting) > _AHEAD * self.number:
                yield self._next(waiting)
        while waiting:
            yield self._next(waiting)

    def start(self) -> ProcessPoolExecutor:
        """The processes, started, with one of them ready. Raises `SetupError` if that fails."""
        if self._pool is not None:
            return self._pool
        context = multiprocessing.get_context("spawn")
        arguments = (self.work, context.Value("i", 0))
        pool = ProcessPoolExecutor(self.number, context, initializer=_start, initargs=arguments)
        try:
            # Each call starts a process, all at once. One is waited for: a process that cannot start would look like
            # one that every row kills, and every row would be withheld.
            ready = [pool.submit(_check_started) for _ in range(self.number)]
            ready[0].result()
        except SetupError:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
        except (BrokenProcessPool, RuntimeError) as error:
            pool.shutdown(wait=False, cancel_futures=True)
            raise SetupError(
                "worker processes cannot start; in a script, call this below `if __name__ == '__main__':`, "
                "or use num_proc=1"
            ) from error
        self._pool = pool
        return pool

    def close(self) -> None:
        """End the processes without waiting for chunks that nobody will read."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _submit(self, items: Sequence[Item]) -> Future[list[Result]]:
        try:
            return self.start().submit(_call, items)
        except BrokenProcessPool as error:  # of another chunk, whose turn comes first
            broken: Future[list[Result]] = Future()
            broken.set_exception(error)
            return broken

    def _next(self, waiting: deque[_Submitted[Key, Item, Result]]) -> tuple[Key, list[Result]]:
        chunk = waiting.popleft()
        try:
            return chunk.key, chunk.results.result()
        except BrokenProcessPool:
            self.close()
        results = [self._alone(item) for item in chunk.items]
        lost = list(waiting)  # what else was under way went down with the pool
        waiting.clear()
        waiting.extend(_Submitted(other.key, other.items, self._submit(other.items)) for other in lost)
        return chunk.key, results

    def _alone(self, item: Item) -> Result:
        """One item in the pool by itself, so that the one that kills its process is known."""
        try:
            return self._submit([item]).result()[0]
        except BrokenProcessPool:
            self.close()
            return self.crashed(item)


def chunks_of(
    items: Iterable[Item], size_of: Callable[[Item], int], on_gpu: bool = False, most: int | None = None
) -> Iterator[list[Item]]:
    """The items in chunks that are few and small enough for a worker's memory: how they are cut changes no result.

    Args:
        items: in order.
        size_of: an item's encoded size in bytes.
        on_gpu: make larger chunks, for models that work in batches.
        most: items in a chunk, in place of the usual number.
    """
    more = _MORE_ON_GPU if on_gpu else 1
    most = most or _CHUNK_ITEMS * more
    chunk: list[Item] = []
    size = 0
    for item in items:
        chunk.append(item)
        size += size_of(item)
        if len(chunk) == most or size > _CHUNK_BYTES * more:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _start(work: Callable[[Any], Any], started: Any) -> None:
    """Make a spawned process a worker."""
    global _work
    with started.get_lock():  # the workers number themselves: by its number each takes its GPU
        checkpoints.use_rank(started.value)
        started.value += 1
    cv2.setNumThreads(1)  # as many processes as cores: more threads would wait for each other
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        _prepare(work)
        _work = work
    except SetupError as error:  # an initializer that raises breaks the pool, and its message would be lost
        _work = error
    except Exception as error:  # noqa: BLE001  a driver may raise anything, and `_check_started` raises it again
        _work = SetupError(f"a worker cannot start: {type(error).__name__}: {error}")


def _prepare(work: Any) -> None:
    if hasattr(work, "prepare"):
        work.prepare()


def _check_started() -> None:
    """Raise what went wrong at this worker's start."""
    if isinstance(_work, SetupError):
        raise _work


def _call(items: Any) -> Any:
    _check_started()
    if not callable(_work):
        raise RuntimeError("a worker was asked to work before it was started")
    results = _work(items)
    give_back_memory()
    return results


def give_back_memory() -> None:
    """Return freed memory to the system: glibc keeps what large images took, and a long run would grow by it."""
    with contextlib.suppress(OSError, AttributeError):  # another C library has no such call
        ctypes.CDLL(None).malloc_trim(0)


def _end_with_parent() -> None:
    """End this worker with its parent, which may be killed: it would wait for a queue forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        with contextlib.suppress(OSError):
            parent.join()
        os._exit(1)
