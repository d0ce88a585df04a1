"""The same run on a cluster, driven by Ray Data. With `ray_session` the only file that imports ray.

Small read tasks turn stretches of a source into blocks of encoded bytes, each pool of actors maps blocks to blocks,
and the process that called writes shards as they come, exactly as `runner.run` does: same rows, same files, same
manifest, so that a run that was begun here may be finished on one machine and the other way round.
"""

from __future__ import annotations

import logging
import math
import os
import pickle
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from u2s_datasets.columns import STATUS, STATUSES
from u2s_datasets.errors import SetupError, U2SError
from u2s_datasets.executor import ray_blocks
from u2s_datasets.executor.ordering import LONGEST, InOrder, StageRates, Stretch, words_of
from u2s_datasets.executor.pipeline import Pipeline
from u2s_datasets.executor.pools import Pool, fit, pools_of
from u2s_datasets.executor.ray_session import connected, quietly
from u2s_datasets.sources.base import Source

# isort: split
# Behind `ray_session`, which says it in words where Ray is missing.
import ray
from ray.data import ActorPoolStrategy, DataContext, Dataset, read_datasource
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask
from ray.exceptions import RayError

log = logging.getLogger(__name__)

_READER_CPUS = 0.25
_AHEAD = 2  # blocks per worker: one to work on and the next; more would fill the object store
_BLOCKS = 8  # per worker, that the memory for objects must hold: read, waiting, worked on, answered
_ATTEMPTS = 5  # one after another without a finished row
_RETRIES = 3  # of a block that killed its worker


def through(
    dataset: Dataset, kind: ray_blocks.RunBlocks | ray_blocks.UserBlocks, given: Mapping[str, Pool] | None
) -> Dataset:
    """The dataset behind all pools of a profile; nothing runs before it is read.

    Raises:
        SetupError: an unknown pool, or more workers than the cluster has room for.
    """
    own = isinstance(kind, ray_blocks.RunBlocks)  # other readers ask for a whole core, as is Ray's default
    pools = fit(kind.pipeline, given, ray.nodes(), _READER_CPUS if own else 1.0)
    last = list(pools)[-1]
    # Ray Data's own default is to try a block that kills its worker again for ever.
    tries: dict[str, Any] = {"max_restarts": -1, "max_task_retries": _RETRIES}
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):  # it has no new name for them yet
        for name, pool in pools.items():
            size = pool.size or 1
            dataset = dataset.map_batches(
                ray_blocks.Stage,
                fn_constructor_args=(kind, name, name == last, pool.batch_size),
                batch_format="pyarrow",
                batch_size=pool.batch_size,
                compute=ActorPoolStrategy(
                    min_size=1, max_size=size, initial_size=size, max_tasks_in_flight_per_actor=_AHEAD
                ),
                num_cpus=pool.num_cpus,
                num_gpus=pool.num_gpus or None,
                **tries,
                udf_modifying_row_count=False,
            )
    return dataset


def _block_bytes(pools: Mapping[str, Pool]) -> int:
    """Bytes of a block, so that the cluster's memory for objects holds several for every worker; Ray splits larger."""
    room = ray.cluster_resources().get("object_store_memory", math.inf)
    workers = sum(pool.size or 1 for pool in pools.values())
    return int(min(ray_blocks.BLOCK_BYTES, room / (_BLOCKS * workers)))


class _Stretches(Datasource):
    """Stretches of a source, one read task each: with one large block, one worker would get every row."""

    def __init__(self, source: Any, folder: str | None, pieces: Sequence[Stretch], block_bytes: int) -> None:
        super().__init__()
        self.source, self.folder, self.pieces, self.block_bytes = source, folder, list(pieces), block_bytes

    def get_name(self) -> str:
        return ray_blocks.READ

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *_: Any, **__: Any) -> list[ReadTask]:
        source, folder, most = self.source, self.folder, self.block_bytes

        def task(piece: Stretch) -> ReadTask:
            facts = BlockMetadata(num_rows=piece[2] - piece[1], size_bytes=None, exec_stats=None)
            return ReadTask(lambda: _read(source, folder, piece, most), facts)

        return [task(piece) for piece in self.pieces]


def _read(reference: Any, folder: str | None, piece: Stretch, most: int) -> Iterator[Any]:
    """The blocks of a piece. A machine that cannot see the source must not answer that its files are missing."""
    if folder is None or Path(folder).exists():
        yield from ray_blocks.read_blocks(_here(reference), piece, most)
    else:
        machine = os.uname().nodename
        yield ray_blocks.fault_table(
            SetupError(
                f"{folder!r} is not there on the machine {machine!r}; every machine needs the source in its place"
            )
        )


_sources: dict[str, Source] = {}


def _here(reference: Any) -> Source:
    """The source in this process: a list of a million files is not unpacked for every block."""
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
        order, fruitless, failures, single = InOrder(stretches), 0, 0, False
        if not stretches:
            return
        with connected(self.address), quietly() as settings:
            given = ray.put(pickle.dumps(source)), source.location if Path(source.location).exists() else None
            while before := order.left:
                if failures or single:
                    settings.max_errored_blocks = -1  # what fails again must not keep the others from being done
                told = "its blocks failed"
                try:
                    for shard, position, answer in self._stream(pipeline, given, order, failures, single):
                        yield from order.add(shard, position, answer)
                except RayError as error:
                    failures, told = failures + 1, words_of(error)
                    log.warning("Ray failed (%s); what is missing is done again", told)
                else:
                    alone = order.left < before or order.left <= LONGEST
                    if single and alone:
                        yield from _lost(pipeline, source, order)
                    single = alone
                fruitless = 0 if order.left < before else fruitless + 1
                if fruitless == _ATTEMPTS:
                    raise U2SError(f"Ray failed {fruitless} times in a row: {told}")

    def _stream(
        self, pipeline: Pipeline, source: tuple[Any, str | None], order: InOrder, failures: int, single: bool
    ) -> Iterator[tuple[int, int, dict[str, Any]]]:
        sized = self._sized(pipeline, failures > 0)
        self.rates.workers = {ray_blocks.READ: max(1.0, ray.cluster_resources().get("CPU", 1.0))}
        self.rates.workers |= {name: pool.size or 1 for name, pool in sized.items()}
        # A failure cancels tasks in the middle of an import, which breaks their processes: take new ones.
        fresh = {"runtime_env": {"env_vars": {"U2S_FAILURES": str(failures)}}} if failures else {}
        pieces = order.missing(max(pool.size or 1 for pool in sized.values()), 1 if single else LONGEST)
        most = DataContext.get_current().target_max_block_size = _block_bytes(sized)
        stretches = _Stretches(*source, pieces, most)
        read = read_datasource(stretches, num_cpus=_READER_CPUS, override_num_blocks=len(pieces), **fresh)
        data = through(read, ray_blocks.RunBlocks(pipeline), sized)
        # Asked to fetch ahead, Ray would keep every block back until the next one is there.
        for table in data.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            if fault := ray_blocks.fault_in(table):
                raise SetupError(fault)
            self.rates.add(ray_blocks.seconds_in(table), len(table))
            for shard, position, answer in ray_blocks.answers_in(table):
                if answer.get(STATUS) in STATUSES:
                    yield shard, position, answer

    def _sized(self, pipeline: Pipeline, again: bool) -> dict[str, Pool]:
        """The pools for the cluster as it is now. After a failure it may be smaller, and so are they then."""
        given = pools_of(pipeline.profile, self.pools)
        pools = {n: p if p.size or self.size is None else replace(p, size=self.size) for n, p in given.items()}
        try:
            return fit(pipeline, pools, ray.nodes(), _READER_CPUS)
        except SetupError as error:
            if not again:
                raise
            log.warning("%s; it goes on with fewer", error)
            return fit(pipeline, {n: replace(p, size=None) for n, p in pools.items()}, ray.nodes(), _READER_CPUS)


def _lost(pipeline: Pipeline, source: Source, order: InOrder) -> Iterator[tuple[int, list[dict[str, Any]]]]:
    """Rows that went in, each by itself, and did not come out: they have no verdict, so they are withheld."""
    for stretch in order.missing(1):
        for shard, position, answer in ray_blocks.lost(pipeline, source, stretch):
            yield from order.add(shard, position, answer)
    if order.left:
        raise U2SError(f"{order.left} rows that {source.location!r} listed cannot be read any more; is it complete?")
