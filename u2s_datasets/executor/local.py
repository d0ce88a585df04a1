"""Worker processes that survive a crash: a row that kills its process is withheld, the others are done again.

A process that the kernel killed for want of memory says nothing of its rows: they are done again by fewer processes,
in the end one row at a time, and if that is too much as well, the map ends with the limit that has to be raised.

Workers are spawned, not forked, because OpenVINO hangs in a forked child; each computes with one thread, so that
as many of them as there are cores keep every core busy with decoding, detecting and encoding.
"""

import contextlib
import ctypes
import logging
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import cv2

from u2s_datasets.errors import SetupError
from u2s_datasets.executor import memory
from u2s_datasets.parts import checkpoints

log = logging.getLogger(__name__)

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
    """One process per core that this process may use, as far as its limits leave memory for them; at least one.

    Args:
        on_gpu: one per GPU instead, and one without a GPU: each process loads whole models.
    """
    if on_gpu:
        return max(1, checkpoints.gpu_count())
    return max(1, min(len(os.sched_getaffinity(0)), memory.tightest().left // WORKER_BYTES))


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
        crashed: from the item that killed its process to its result. Only a death counts, and none for want of
            memory; a `MemoryError` that is raised is a failure that `work` has to answer for.
        number: processes; they become fewer when the kernel kills one for want of memory.
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
        self._oom_kills = 0

    def map(self, chunks: Iterable[tuple[Key, Sequence[Item]]]) -> Iterator[tuple[Key, list[Result]]]:
        """(key, results) in the order of the chunks; a few more chunks than there are workers are under way.

        Raises:
            SetupError: the workers cannot start or prepare, or one alone runs out of memory.
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
        while self._pool is None:
            self._oom_kills = memory.oom_kills()
            context = multiprocessing.get_context("spawn")
            arguments = (self.work, context.Value("i", 0))
            self._pool = ProcessPoolExecutor(self.number, context, initializer=_start, initargs=arguments)
            try:
                # Each call starts a process, all at once. One is waited for: a process that cannot start would look
                # like one that every row kills, and every row would be withheld.
                ready = [self._pool.submit(_check_started) for _ in range(self.number)]
                ready[0].result()
            except SetupError:
                self._pool.shutdown(wait=True, cancel_futures=True)
                self._pool = None
                raise
            except (BrokenProcessPool, RuntimeError) as error:
                if not self._died_for_want_of_memory():
                    raise SetupError(
                        "worker processes cannot start; in a script, call this below "
                        "`if __name__ == '__main__':`, or use num_proc=1"
                    ) from error
                self._continue_with_fewer()
        return self._pool

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
        results = None
        while results is None:
            chunk = waiting.popleft()
            lost = list(waiting)  # what else is under way goes down with the pool
            try:
                return chunk.key, chunk.results.result()
            except BrokenProcessPool:
                waiting.clear()
            if self._died_for_want_of_memory() and self.number > 1:
                self._continue_with_fewer()
                lost.insert(0, chunk)
            else:
                results = self._one_by_one(chunk.items)
            waiting.extend(_Submitted(other.key, other.items, self._submit(other.items)) for other in lost)
        return chunk.key, results

    def _one_by_one(self, items: Sequence[Item]) -> list[Result]:
        """Each item in a process without others beside it: the one that kills it is known, and has all the memory."""
        alone = self if self.number == 1 else Workers[Key, Item, Result](self.work, self.crashed, 1)
        try:
            return [alone._alone(item) for item in items]
        finally:
            alone.close()

    def _alone(self, item: Item) -> Result:
        try:
            return self._submit([item]).result()[0]
        except BrokenProcessPool as error:
            if self._died_for_want_of_memory():
                raise _out_of_memory() from error
            return self.crashed(item)

    def _continue_with_fewer(self) -> None:
        """Halve the number of processes. Raises `SetupError` if there is one only."""
        if self.number == 1:
            raise _out_of_memory()
        self.number //= 2
        log.warning("a worker ran out of memory (%s); going on with num_proc=%d", memory.tightest(), self.number)

    def _died_for_want_of_memory(self) -> bool:
        """End the pool, whose processes free their memory then, and tell what the first of them died of.

        No fault of a row's own ends in SIGKILL: the kernel sends it when memory runs out, or somebody by hand. With a
        limited address space an allocation fails instead, after which C++ aborts.
        """
        pool, self._pool = self._pool, None
        # There is no public way to the exit codes. Without any, a death counts as the row's own.
        processes = list((getattr(pool, "_processes", None) or {}).values())
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)
        codes = {process.exitcode for process in processes}
        if -signal.SIGKILL in codes:
            return memory.oom_kills() > self._oom_kills or memory.tightest().left < WORKER_BYTES
        return -signal.SIGABRT in codes and any(limit.size < WORKER_BYTES for limit in memory.address_space())


def _out_of_memory() -> SetupError:
    return SetupError(
        f"one worker alone runs out of memory ({memory.tightest()}); raise the limit, use num_proc=1 (--num-proc 1), "
        "which takes one process less, or leave the largest images out; finished shards stay, and the same call goes on"
    )


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
    memory.be_killed_first()
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
