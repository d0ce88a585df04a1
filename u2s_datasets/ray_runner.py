"""The same run on a cluster, driven by Ray Data. The only file that imports ray.

Small read tasks turn stretches of a source into blocks of encoded bytes, each pool of actors maps blocks to blocks,
and the process that called writes shards as they come, exactly as `runner.run` does: same rows, same files, same
manifest, so that a run that was begun here may be finished on one machine and the other way round.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from u2s_datasets import blocks
from u2s_datasets.columns import STATUS, STATUSES
from u2s_datasets.errors import SetupError, U2SError, missing_extra
from u2s_datasets.pipeline import Pipeline
from u2s_datasets.pools import Pool, fit, pools_of
from u2s_datasets.sources import Source
from u2s_datasets.stretches import InOrder, StageRates, Stretch, importable, words_of

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would tell its makers about this machine
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what it recovers from is no news on a run's console
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # a stage without a GPU is not hidden from it

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
_ATTEMPTS = 5  # one after another without a finished row


@contextlib.contextmanager
def connected(address: str | None = None) -> Iterator[None]:
    """A Ray to work with: the one this process is connected to, the one at `address`, or a new one on this machine.

    A new one listens on the loopback interface alone, has no dashboard, and ends with this block.

    Raises:
        SetupError: no cluster answers at the address.
    """
    if ray.is_initialized():
        yield
        return
    options: dict[str, Any] = {"address": address, "logging_level": "CRITICAL", "log_to_driver": False}
    if address is None:
        options |= {"address": "local", "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
    try:
        with importable(), _on_loopback(address is None), _without_greeting():
            ray.init(**options)
    except (OSError, ValueError, RuntimeError) as error:
        raise SetupError(f"no Ray cluster can be used at {address!r}: {error}; start one with `ray start`") from error
    try:
        if address is None and (there := ray.nodes()[0]["NodeManagerAddress"]) != "127.0.0.1":
            raise SetupError(f"Ray would listen on {there}; start a cluster yourself and say --ray-address")
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _on_loopback(wanted: bool) -> Iterator[None]:
    """A Ray that starts here listens on 127.0.0.1, as by itself on macOS; there is no public option for it."""
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = before and not wanted
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


@contextlib.contextmanager
def _without_greeting() -> Iterator[None]:
    """Ray's native code says on standard error that it was told to say nothing; all else that it says, it may."""
    try:
        before = os.dup(2)
    except OSError:  # there is no standard error
        yield
        return
    with os.fdopen(before, "wb", buffering=0) as console, tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(before, 2)
            said.seek(0)
            console.writelines(line for line in said if b"RAY_BACKEND_LOG_LEVEL" not in line)


def through(dataset: Dataset, kind: blocks.RunBlocks | blocks.UserBlocks, given: Mapping[str, Pool] | None) -> Dataset:
    """The dataset behind all pools of a profile; nothing runs before it is read.

    Raises:
        SetupError: an unknown pool, or more workers than the cluster has room for.
    """
    own = isinstance(kind, blocks.RunBlocks)  # other readers ask for a whole core, as is Ray's default
    pools = fit(kind.pipeline, given, ray.nodes(), _READER_CPUS if own else 1.0)
    last = list(pools)[-1]
    for name, pool in pools.items():
        size = pool.size or 1
        dataset = dataset.map_batches(
            blocks.Stage,
            fn_constructor_args=(kind, name, name == last),
            batch_format="pyarrow",
            batch_size=pool.batch_size,
            compute=ActorPoolStrategy(
                min_size=1, max_size=size, initial_size=size, max_tasks_in_flight_per_actor=_AHEAD
            ),
            num_cpus=pool.num_cpus,
            num_gpus=pool.num_gpus or None,
            udf_modifying_row_count=False,
        )
    return dataset


class _Stretches(Datasource):
    """Stretches of a source, one read task each: with one large block, one worker would get every row."""

    def __init__(self, source: Any, pieces: Sequence[Stretch]) -> None:
        super().__init__()
        self.source, self.pieces = source, list(pieces)

    def get_name(self) -> str:
        return blocks.READ

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        source = self.source

        def task(piece: Stretch) -> ReadTask:
            facts = BlockMetadata(num_rows=piece[2] - piece[1], size_bytes=None, exec_stats=None)
            return ReadTask(lambda: blocks.read_blocks(_here(source), *piece), facts)

        return [task(piece) for piece in self.pieces]


_sources: dict[str, Source] = {}


def _here(reference: Any) -> Source:
    """The source in this process: a list of ten million files is not unpacked for every block."""
    key = reference.hex()
    if key not in _sources:
        _sources.clear()
        _sources[key] = pickle.loads(ray.get(reference))
    return _sources[key]


@dataclass
class RayPools:
    """What drives a run in place of worker processes.

    Args:
        address: of a running cluster; None for one on this machine that lasts as long as the run.
        pools: workers by stage, in place of the default ones.
        size: workers of every pool whose size is not given.
    """

    address: str | None = None
    pools: Mapping[str, Pool] | None = None
    size: int | None = None
    rates: StageRates = field(default_factory=StageRates)

    def map(
        self, pipeline: Pipeline, source: Source, stretches: Sequence[Stretch]
    ) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """(shard, its next rows), over all rows of these stretches, each once and in order within its shard.

        What a lost machine took with it is worked on again.

        Raises:
            SetupError: a worker cannot load its models, or the pools do not fit.
            U2SError: the cluster fails again and again.
        """
        order, fruitless, failures = InOrder(stretches), 0, 0
        if not stretches:
            return
        with connected(self.address), _settings():
            reference = ray.put(pickle.dumps(source))
            while order.open:
                before = order.count
                try:
                    for shard, position, answer in self._stream(pipeline, reference, order, failures):
                        yield from order.add(shard, position, answer)
                except RayError as error:
                    failures += 1
                    fruitless = 0 if order.count > before else fruitless + 1
                    if fruitless == _ATTEMPTS:
                        raise U2SError(f"Ray failed {fruitless} times in a row: {words_of(error)}") from error
                    log.warning("Ray failed (%s); what is missing is done again", words_of(error))
                else:
                    for stretch in order.missing(1):
                        for shard, position, answer in blocks.lost(pipeline, source, stretch):
                            yield from order.add(shard, position, answer)

    def _stream(
        self, pipeline: Pipeline, reference: Any, order: InOrder, failures: int
    ) -> Iterator[tuple[int, int, dict[str, Any]]]:
        given = pools_of(pipeline.profile, self.pools)
        pools = {n: p if p.size or self.size is None else replace(p, size=self.size) for n, p in given.items()}
        sized = fit(pipeline, pools, ray.nodes(), _READER_CPUS)
        self.rates.workers = {blocks.READ: max(1.0, ray.cluster_resources().get("CPU", 1.0))}
        self.rates.workers |= {name: pool.size or 1 for name, pool in sized.items()}
        # A failure cancels tasks in the middle of an import, which breaks their processes: take new ones.
        fresh = {"runtime_env": {"env_vars": {"U2S_FAILURES": str(failures)}}} if failures else {}
        pieces = order.missing(max(pool.size or 1 for pool in sized.values()))
        read = read_datasource(
            _Stretches(reference, pieces), num_cpus=_READER_CPUS, override_num_blocks=len(pieces), **fresh
        )
        data = through(read, blocks.RunBlocks(pipeline), sized)
        # Asked to fetch ahead, Ray would keep every block back until the next one is there.
        for table in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            if fault := blocks.fault_in(table):
                raise SetupError(fault)
            self.rates.add(blocks.seconds_in(table), len(table))
            for shard, position, answer in blocks.answers_in(table):
                if answer.get(STATUS) in STATUSES:
                    yield shard, position, answer


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    """Ray Data with small blocks, and without its own progress bars and greetings: the run has one bar."""
    context = DataContext.get_current()
    wanted = {
        "enable_progress_bars": False,
        "print_on_execution_start": False,
        "target_max_block_size": blocks.BLOCK_BYTES,
        "memory_usage_poll_interval_s": None,  # a thread in every worker that nobody reads
    }
    before = {name: getattr(context, name) for name in wanted}
    loggers = [logging.getLogger(name) for name in ("ray", "ray.data")]
    levels = [logger.level for logger in loggers]
    for name, value in wanted.items():
        setattr(context, name, value)
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
