"""The same run on a cluster, driven by Ray Data: the only file that imports ray.

Small read tasks turn ranges of a source into blocks of encoded bytes, each pool of actors maps blocks to blocks, and
the process that called writes shards as they come, exactly as on one machine: same rows, same files, same manifest, so
that a run that was begun here may be finished on one machine and the other way round.
"""

import contextlib
import functools
import gc
import logging
import math
import os
import pickle
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from u2s_datasets.columns import STATUS, STATUSES
from u2s_datasets.errors import SetupError, U2SError, missing_extra
from u2s_datasets.executor import ray_blocks
from u2s_datasets.executor.ordering import LONGEST, ReorderBuffer, RowAnswer, RowRange, StageRates
from u2s_datasets.executor.pipeline import Pipeline
from u2s_datasets.executor.pools import Pool, SizedPool, size_pools
from u2s_datasets.sources.base import Source

# Ray reads these when it is imported.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # or Ray reports this machine to its makers
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what Ray recovers from does not belong on a run's console
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # or Ray hides the GPUs from stages that reserve none

try:
    import ray
    from ray.data import ActorPoolStrategy, DataContext, Dataset, read_datasource
    from ray.data.block import BlockMetadata
    from ray.data.datasource import Datasource, ReadTask
    from ray.exceptions import RayError
except ImportError as error:
    raise missing_extra("ray", "ray") from error

log = logging.getLogger(__name__)

_READER_CPUS = 0.25
_AHEAD = 2  # blocks per worker: one to work on and the next; more would fill the object store
_BLOCKS = 8  # per worker, that the memory for objects must hold: read, waiting, worked on, answered
_ATTEMPTS = 5  # one after another without a finished row
_RETRIES = 3  # of a block that killed its worker


def through_pools(
    dataset: Dataset,
    blocks: ray_blocks.RunBlocks | ray_blocks.UserBlocks,
    pools: Mapping[str, SizedPool],
    ahead: int = _AHEAD,
) -> Dataset:
    """The dataset behind all pools of a profile, so many blocks at each worker; nothing runs before it is read."""
    last = list(pools)[-1]
    # Ray Data's own default is to try a block that kills its worker again for ever.
    tries: dict[str, Any] = {"max_restarts": -1, "max_task_retries": _RETRIES}
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # it has no new name for them yet
        for name, pool in pools.items():
            dataset = dataset.map_batches(
                ray_blocks.Stage,
                fn_constructor_args=(blocks, name, name == last, pool.batch_size),
                batch_format="pyarrow",
                batch_size=pool.batch_size,
                compute=ActorPoolStrategy(
                    min_size=1, max_size=pool.size, initial_size=pool.size, max_tasks_in_flight_per_actor=ahead
                ),
                num_cpus=pool.num_cpus,
                num_gpus=pool.num_gpus or None,
                **tries,
                udf_modifying_row_count=False,
            )
    return dataset


def through_own_pools(dataset: Dataset, pipeline: Pipeline, pools: Mapping[str, Pool]) -> Dataset:
    """A user's dataset behind all pools of a profile; nothing runs before it is read.

    Raises:
        SetupError: more workers than the cluster has room for.
    """
    reader_cpus = 1.0  # the user's readers are scheduled by Ray's own default
    sized = size_pools(pipeline, pools, ray.nodes(), reader_cpus)
    return through_pools(dataset, ray_blocks.UserBlocks(pipeline), sized)


@dataclass(frozen=True)
class _SharedSource:
    """A source that every process of a cluster can read.

    Args:
        reference: of the pickled source in Ray's object store: a list of a million files travels once.
        folder: that every machine must have; None for a source that is not in a folder.
    """

    reference: Any
    folder: str | None

    def read(self, rows: RowRange, block_bytes: int) -> Iterator[Any]:
        """The blocks of a range. A machine that cannot see the folder must not answer that its files are missing."""
        if self.folder is None or Path(self.folder).exists():
            yield from ray_blocks.read_blocks(_unpickled(self.reference), rows, block_bytes)
        else:
            machine = os.uname().nodename
            yield ray_blocks.fault_table(
                SetupError(
                    f"no folder {self.folder!r} on the machine {machine!r}; every machine needs the source in its place"
                )
            )


@functools.lru_cache(maxsize=1)
def _unpickled(reference: Any) -> Source:
    """The source in this process: a list of a million files is not unpickled for every block."""
    return pickle.loads(ray.get(reference))


class _Ranges(Datasource):
    """Ranges of a source, one read task each: with one large block, one worker would get every row."""

    def __init__(self, source: _SharedSource, ranges: Sequence[RowRange], block_bytes: int) -> None:
        super().__init__()
        self.source, self.ranges, self.block_bytes = source, list(ranges), block_bytes

    def get_name(self) -> str:
        return ray_blocks.READ

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        return [
            ReadTask(
                functools.partial(self.source.read, rows, self.block_bytes),
                BlockMetadata(num_rows=len(rows), size_bytes=None, exec_stats=None),
            )
            for rows in self.ranges
        ]


@dataclass
class RayPools:
    """What drives a run in place of worker processes.

    Args:
        address: of a running cluster; None for one on this machine that lasts as long as the run.
        pools: workers of every stage; see `complete_pools`.
        rates: of the stages so far.
    """

    address: str | None
    pools: Mapping[str, Pool]
    rates: StageRates = field(default_factory=StageRates)

    def map(
        self, pipeline: Pipeline, source: Source, ranges: Sequence[RowRange]
    ) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """(shard, its next rows), over all rows of these ranges, each once and in order within its shard.

        What a lost machine took with it is worked on again.

        Raises:
            SetupError: a worker cannot load its models, or the pools do not fit.
            U2SError: the cluster fails again and again.
        """
        buffer, fruitless, failures, single = ReorderBuffer(ranges), 0, 0, False
        if not ranges:
            return
        with connected(self.address), quietly() as settings:
            folder = source.location if Path(source.location).exists() else None
            shared = _SharedSource(ray.put(pickle.dumps(source)), folder)
            while before := buffer.left:
                if failures or single:
                    settings.max_errored_blocks = -1  # what fails again must not keep the others from being done
                reason = "its blocks failed"
                try:
                    yield from buffer.in_order(self._answers(pipeline, shared, buffer, failures, single))
                except RayError as error:
                    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
                    failures += 1
                    reason = f"{type(error).__name__}: {lines[-1] if lines else ''}"  # before it, whole stacks
                    log.warning("Ray failed (%s); what is missing is done again", reason)
                else:
                    alone = buffer.left < before or buffer.left <= LONGEST
                    if single and alone:
                        # They went in, each by itself, and did not come out.
                        lost = buffer.missing(1)
                        yield from buffer.in_order(ray_blocks.withheld_answers(pipeline, source, lost))
                        if buffer.left:
                            raise U2SError(
                                f"{buffer.left} rows that {source.location!r} listed cannot be read any more; "
                                "is it complete?"
                            )
                    single = alone
                gc.collect()  # a failure refers to its workers and to itself; Ray ends those that nothing refers to
                fruitless = 0 if buffer.left < before else fruitless + 1
                if fruitless == _ATTEMPTS:
                    raise U2SError(f"Ray failed {fruitless} times in a row: {reason}")

    def _answers(
        self, pipeline: Pipeline, source: _SharedSource, buffer: ReorderBuffer, failures: int, single: bool
    ) -> Iterator[RowAnswer]:
        """The answers that one pass over the missing rows brings; with `single`, each row travels alone."""
        pools = self._sized(pipeline, failures > 0)
        self.rates.workers = {ray_blocks.READ: max(1.0, ray.cluster_resources().get("CPU", 1.0))}
        self.rates.workers |= {name: pool.size for name, pool in pools.items()}
        # A failure cancels tasks in the middle of an import, which breaks their processes: take new ones.
        fresh = {"runtime_env": {"env_vars": {"U2S_FAILURES": str(failures)}}} if failures else {}
        pieces = buffer.missing(max(pool.size for pool in pools.values()), 1 if single else LONGEST)
        # The cluster's memory for objects must hold several blocks for every worker; Ray splits larger ones.
        memory = ray.cluster_resources().get("object_store_memory", math.inf)
        workers = sum(pool.size for pool in pools.values())
        block_bytes = int(min(ray_blocks.BLOCK_BYTES, memory / (_BLOCKS * workers)))
        DataContext.get_current().target_max_block_size = block_bytes
        ranges = _Ranges(source, pieces, block_bytes)
        read = read_datasource(ranges, num_cpus=_READER_CPUS, override_num_blocks=len(pieces), **fresh)
        # A row that travels alone must not die of the one before it.
        data = through_pools(read, ray_blocks.RunBlocks(pipeline), pools, 1 if single else _AHEAD)
        # Asked to fetch ahead, Ray would keep every block back until the next one is there.
        for table in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            if fault := ray_blocks.fault_in(table):
                raise SetupError(fault)
            self.rates.add(ray_blocks.seconds_in(table), len(table))
            yield from (a for a in ray_blocks.answers_in(table) if a.columns.get(STATUS) in STATUSES)

    def _sized(self, pipeline: Pipeline, again: bool) -> dict[str, SizedPool]:
        """The pools for the cluster as it is now. After a failure it may be smaller, and so are they then."""
        try:
            return size_pools(pipeline, self.pools, ray.nodes(), _READER_CPUS)
        except SetupError as error:
            if not again:
                raise
            log.warning("%s; it goes on with fewer", error)
            fewer = {name: replace(pool, size=None) for name, pool in self.pools.items()}
            return size_pools(pipeline, fewer, ray.nodes(), _READER_CPUS)

    def summary(self, writing: float, rows: int) -> dict[str, Any]:
        """How many workers there were, and the rates of each stage.

        Args:
            writing: seconds in which the calling process wrote shards.
            rows: rows that were done.
        """
        workers = int(sum(number for name, number in self.rates.workers.items() if name != ray_blocks.READ))
        self.rates.workers["write"] = 1
        self.rates.add({"write": writing}, rows)
        return {"workers": workers, **self.rates.summary()}


@contextlib.contextmanager
def connected(address: str | None = None) -> Iterator[None]:
    """A Ray to work with: the one this process is connected to, the one at `address`, or a new one on this machine.

    A new one listens on the loopback interface alone, has no dashboard, keeps its files, images among them, in a
    folder that only this user can read, and ends with this block.

    Raises:
        SetupError: no cluster answers at the address, or this process is connected to another one.
    """
    if ray.is_initialized():
        current = ray.get_runtime_context().gcs_address
        if address not in (None, "auto", current):
            raise SetupError(f"this process is connected to the Ray at {current}, not {address!r}; end that one first")
        yield
        return
    options: dict[str, Any] = {"address": address, "logging_level": "CRITICAL", "log_to_driver": False}
    with contextlib.ExitStack() as stack:
        if address is None:
            options |= {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
            options["_temp_dir"] = stack.enter_context(_session_folder())
        try:
            with _importable(), _on_loopback(address is None), _without_greeting():
                ray.init(**options)
        except (OSError, ValueError, RuntimeError) as error:
            raise SetupError(
                f"no Ray cluster can be used at {address!r}: {error}; start one with `ray start`"
            ) from error
        stack.callback(ray.shutdown)
        if address is None and (host := ray.nodes()[0]["NodeManagerAddress"]) != "127.0.0.1":
            raise SetupError(f"Ray would listen on {host}; start a cluster yourself and give --ray-address")
        yield


@contextlib.contextmanager
def _session_folder() -> Iterator[str]:
    """Where a Ray of our own keeps sockets, logs and what it spills; a killed run leaves it, unreadable for others."""
    short = "/tmp" if Path("/tmp").is_dir() else None  # a socket's path may have about a hundred characters
    folder = tempfile.mkdtemp(prefix="u2s-ray-", dir=short)
    try:
        yield str(Path(folder) / "r")  # Ray opens its own folder to everybody; nobody gets to it through this one
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _importable() -> Iterator[None]:
    """Processes that are started in this block find the modules that this one finds."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    try:
        yield
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


@contextlib.contextmanager
def _on_loopback(wanted: bool) -> Iterator[None]:
    """A Ray that starts here listens on 127.0.0.1, as it does on macOS anyway; there is no public option for it."""
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = before and not wanted
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextlib.contextmanager
def _without_greeting() -> Iterator[None]:
    """Standard error without the line in which Ray's native code reports its own log level."""
    try:
        before = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    with os.fdopen(before, "wb", buffering=0) as console, tempfile.TemporaryFile() as printed:
        os.dup2(printed.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            printed.seek(0)
            console.writelines(line for line in printed if b"RAY_BACKEND_LOG_LEVEL" not in line)


_CHANGED = ("max_errored_blocks", "target_max_block_size")
"""Settings that a run changes as it goes."""


@contextlib.contextmanager
def quietly() -> Iterator[Any]:
    """Ray Data without its own progress bars and greetings: the run has one bar. At the end, all is set as before."""
    context = DataContext.get_current()
    wanted = {
        "enable_progress_bars": False,
        "print_on_execution_start": False,
        "memory_usage_poll_interval_s": None,  # a thread in every worker, for figures that nobody reads
    }
    before = {name: getattr(context, name) for name in (*wanted, *_CHANGED)}
    levels = {logger: logger.level for logger in (logging.getLogger("ray"), logging.getLogger("ray.data"))}
    for name, value in wanted.items():
        setattr(context, name, value)
    for logger in levels:
        logger.setLevel(logging.CRITICAL)
    try:
        yield context
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        for logger, level in levels.items():
            logger.setLevel(level)
