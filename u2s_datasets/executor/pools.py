"""The stages as pools of workers side by side: which steps share a pool, what a worker does, how many fit.

Steps share a pool if they share what is expensive. Without models that is the decoded image, so one pool "pipeline"
does everything: a pool of its own for every step would decode each photo three times. With models it is the loaded
model: "inspect" inspects and captions with the vision-language model, "instruct" writes with the language model,
"anonymize" edits, inspects again and scores, on pixels that are not encoded yet. Between pools travel the stored bytes
of an image and what is known of it, never its pixels.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from u2s_datasets.errors import RowError, SetupError
from u2s_datasets.executor.local import WORKER_BYTES
from u2s_datasets.executor.ordering import LONGEST
from u2s_datasets.executor.pipeline import Pipeline, parts_of
from u2s_datasets.parts import Detection, Part, checks
from u2s_datasets.sources.base import Item
from u2s_datasets.stages.base import Step
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.profiles import Profile

PIPELINE, INSPECT, INSTRUCT, ANONYMIZE = "pipeline", "inspect", "instruct", "anonymize"

_ROUNDING = 1e-6  # shares of cores and GPUs are decimal fractions, whose sums are not exact


@dataclass(frozen=True)
class Pool:
    """The workers of one stage.

    Args:
        size: workers; None for one per core (or per GPU) of the cluster, memory permitting, and for one if the stage
            wants a GPU and the cluster has none.
        num_cpus: cores that Ray sets aside for each; None for three quarters of one, or less if there are few. The
            rest is for those that read: with none left, nothing would ever be read.
        num_gpus: GPUs for each, or a fraction of one; None for 1 if the stage loads a model that wants one, or for
            less if there are fewer GPUs than such stages.
        batch_size: rows that a worker gets at once; None for those of one block, or 32 if a model wants a GPU.
    """

    size: int | None = None
    num_cpus: float | None = None
    num_gpus: float | None = None
    batch_size: int | None = None

    def check(self, name: str) -> None:
        """Raise `SetupError` for a number that cannot work."""
        for option, value in vars(self).items():
            if value is not None and option in ("size", "batch_size"):
                checks.check_int(f"pools[{name!r}].{option}", value)
            elif value is not None:
                checks.check_float(f"pools[{name!r}].{option}", value, 0)


@dataclass(frozen=True)
class SizedPool:
    """A pool whose numbers are settled for a cluster; as those of `Pool`."""

    size: int
    num_cpus: float
    num_gpus: float
    batch_size: int | None


def pool_steps(profile: Profile) -> dict[str, list[Step]]:
    """Pool -> the steps that run in it, in the order in which rows go through the pools."""
    last: list[Step] = [profile.anonymize, profile.score]
    describing: list[Step] = [profile.inspect, profile.caption]
    seeing = [step.backend for step in (profile.inspect, profile.caption) if step.backend is not None]
    writing = profile.instruct.backend
    if not seeing and writing is None:
        return {PIPELINE: last}  # anonymize runs what is missing of the steps before it
    if not seeing:
        return {INSTRUCT: [*describing, profile.instruct], ANONYMIZE: last}
    if writing is None or writing in seeing:
        return {INSPECT: [*describing, profile.instruct], ANONYMIZE: last}
    return {INSPECT: describing, INSTRUCT: [profile.instruct], ANONYMIZE: last}


def complete_pools(profile: Profile, given: Mapping[str, Pool] | None, size: int | None = None) -> dict[str, Pool]:
    """Name -> pool, for every pool of a profile.

    Args:
        profile: the steps.
        given: pools in place of the default ones.
        size: workers of every pool whose size is not given.

    Raises:
        SetupError: the profile has no such pool, or a pool's number cannot work.
    """
    pools = dict.fromkeys(pool_steps(profile), Pool())
    for name, pool in (given or {}).items():
        if name not in pools:
            raise SetupError(f"unknown pool {name!r} of profile {profile.name!r}; expected one of: {', '.join(pools)}")
        pool.check(name)
        pools[name] = pool
    return {name: replace(pool, size=pool.size or size) for name, pool in pools.items()}


def size_pools(
    pipeline: Pipeline, pools: Mapping[str, Pool], machines: Sequence[Mapping[str, Any]], reader_cpus: float
) -> dict[str, SizedPool]:
    """The pools with their numbers settled for a cluster of these machines.

    Args:
        pipeline: the steps.
        pools: every pool of its profile.
        machines: each with "Alive" and its "Resources": "CPU", "GPU" and "memory" in bytes, as far as it has them.
        reader_cpus: cores that one reader needs.

    Raises:
        SetupError: they do not fit beside a reader: an engine would wait forever.
    """
    nodes = [machine["Resources"] for machine in machines if machine["Alive"]]
    cores, gpus = (sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
    room = max(1, sum(min(int(n.get("CPU", 0)), int(n.get("memory", 0) // WORKER_BYTES)) for n in nodes))
    on_gpu = {name: PoolWork(pipeline, name).on_gpu() for name in pools}
    alike = Counter(on_gpu.values())
    # An even share of the GPUs for each pool that wants one, rounded down: Ray counts in decimal fractions.
    even_gpus = math.floor(100 / math.ceil(alike[True] / gpus)) / 100 if gpus and alike[True] else 0.0
    sizes, num_gpus = {}, {}
    for name, pool in pools.items():
        wants = on_gpu[name]
        share = num_gpus[name] = pool.num_gpus if pool.num_gpus is not None else even_gpus * wants
        available = int(gpus / share) if share else room
        # One worker if it wants a GPU and there is none: each loads whole models.
        sizes[name] = pool.size or (1 if wants and not share else max(1, available // alike[wants]))
    workers = sum(sizes.values())
    even_cpus = min(0.75, max(0, int(100 * (cores - reader_cpus) / workers)) / 100)
    if even_cpus == 0:
        raise SetupError(f"{workers} workers are more than {cores:g} cores can serve; give the pools fewer")
    sized = {}
    for name, pool in pools.items():
        num_cpus = even_cpus if pool.num_cpus is None else pool.num_cpus
        batch_size = pool.batch_size or (LONGEST if on_gpu[name] else None)
        sized[name] = SizedPool(sizes[name], num_cpus, num_gpus[name], batch_size)
    _check_fit(sized, nodes, reader_cpus)
    return sized


def _check_fit(pools: Mapping[str, SizedPool], nodes: Sequence[Mapping[str, Any]], reader_cpus: float) -> None:
    """Raise `SetupError` unless every worker finds a machine, the largest first, and a reader too."""
    free = [[node.get("GPU", 0.0), node.get("CPU", 0.0)] for node in nodes]
    cpus = sum(pool.size * pool.num_cpus for pool in pools.values()) + reader_cpus
    gpus = sum(pool.size * pool.num_gpus for pool in pools.values())
    for kind, asked, index in (("cores", cpus, 1), ("GPUs", gpus, 0)):
        available = sum(node[index] for node in free)
        if asked > available + _ROUNDING:
            raise SetupError(
                f"the pools, and one reader beside them, ask for {asked:g} {kind} and the cluster has {available:g}; "
                "give the pools fewer workers, or fractions"
            )
    wanted = [
        (pool.num_gpus, pool.num_cpus, f"a worker of pool {name!r}")
        for name, pool in pools.items()
        for _ in range(pool.size)
    ]
    for gpus, cpus, worker in (*sorted(wanted, reverse=True), (0.0, reader_cpus, "a reader")):
        node = next((f for f in free if f[0] + _ROUNDING >= gpus and f[1] + _ROUNDING >= cpus), None)
        if node is None:
            raise SetupError(
                f"no machine has {cpus:g} cores and {gpus:g} GPUs left for {worker}; "
                "give the pools fewer workers, or fractions"
            )
        node[0] -= gpus
        node[1] -= cpus


@dataclass
class RowState:
    """What is known of a row between two pools.

    Args:
        fields: its columns so far.
        failure: why it is withheld, if it is.
        found: what `inspect` found in its pixels; None if it has not looked.
        crashed: whether it killed the process that worked on it.
    """

    fields: dict[str, Any] = field(default_factory=dict)
    failure: RowError | None = None
    found: list[Detection] | None = None
    crashed: bool = False


class PoolRow(NamedTuple):
    """A row on its way through the pools."""

    item: Item
    state: RowState


@dataclass(frozen=True)
class PoolWork:
    """What a worker of one pool does with a chunk of rows: the steps of the pool.

    Args:
        pipeline: all steps.
        name: the pool.
    """

    pipeline: Pipeline
    name: str

    def parts(self) -> list[Part]:
        """The parts that this pool loads: no pool loads another one's models."""
        profile = self.pipeline.profile
        if self.name != ANONYMIZE:
            return [part for step in pool_steps(profile)[self.name] for part in parts_of(step)]
        step = profile.anonymize
        tops = (step.editor, step.identity, step.inspect, step.judge if step.verify else None, profile.score)
        used = [part for top in tops if top is not None for part in parts_of(top)]
        if step.verify or step.inspect.backend is None:
            return used
        asked_before = list(parts_of(step.inspect.backend))
        return [part for part in used if part not in asked_before]

    def on_gpu(self) -> bool:
        """Whether this pool loads a model that wants a GPU."""
        return any(part.on_gpu for part in self.parts())

    def prepare(self) -> None:
        """Load what this pool needs. Raises `SetupError` if a model cannot be loaded."""
        for part in self.parts():
            _ = part.loaded  # loads it, once

    def __call__(self, chunk: Sequence[PoolRow]) -> list[RowState]:
        """One state per row; after the last pool it holds the row's columns."""
        rows = []
        for item, state in chunk:
            row = Row(item.image, state.fields or self.pipeline.read(item))
            row.failure, row.found = state.failure, state.found
            rows.append(row)
        alive = [row for row, (_, state) in zip(rows, chunk, strict=True) if not state.crashed]
        if self.name in (PIPELINE, ANONYMIZE):
            self.pipeline.finish(alive)
        else:
            for step in pool_steps(self.pipeline.profile)[self.name]:
                step.run([row for row in alive if not set(step.writes) <= set(row.fields)])
        return [
            state if state.crashed else RowState(row.fields, row.failure, row.found)
            for row, (_, state) in zip(rows, chunk, strict=True)
        ]

    def crashed(self, row: PoolRow) -> RowState:
        """The state of a row that killed its process: the later pools leave it alone, and it is withheld."""
        return RowState(crashed=True)
