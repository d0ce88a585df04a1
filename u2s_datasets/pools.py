"""The stages as pools that run beside each other: which arrows share a pool, and what one worker of it does.

Arrows share a pool where they share what is expensive. Without models that is the decoded picture, so one pool
"pipeline" does everything: a pool of its own for every arrow would decode each photo three times. With models it is
the loaded model: "inspect" looks and captions with the vision-language model, "instruct" writes with the language
model, "anonymize" edits, looks again and scores, on pixels that are not encoded yet. Between pools travel the stored
bytes of an image and what is known of it, never its pixels.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from u2s_datasets import columns
from u2s_datasets.decoding import MAX_PIXELS
from u2s_datasets.errors import RowError, SetupError
from u2s_datasets.parts import Detection, Part
from u2s_datasets.pipeline import Pipeline, parts_of
from u2s_datasets.profiles import Profile
from u2s_datasets.rows import Row
from u2s_datasets.sources import Item
from u2s_datasets.stages import score
from u2s_datasets.workers import WORKER_BYTES, Workers, chunks_of

PIPELINE, INSPECT, INSTRUCT, ANONYMIZE = "pipeline", "inspect", "instruct", "anonymize"


@dataclass(frozen=True)
class Pool:
    """The workers of one stage.

    Args:
        size: workers; None for one per core (or per GPU) of the cluster, as far as its memory goes.
        num_cpus: cores that Ray sets aside for each; None for three quarters of one, or less where there are few. The
            rest is for those that read: with none left, nothing would ever be read.
        num_gpus: GPUs for each, or a fraction of one; None for 1 where the stage loads a model that wants one.
        batch_size: rows per call; None for the rows of one block.
    """

    size: int | None = None
    num_cpus: float | None = None
    num_gpus: float | None = None
    batch_size: int | None = None

    def check(self, name: str) -> None:
        """Raises `SetupError` for a number that cannot work."""
        for said, value in (("size", self.size), ("batch_size", self.batch_size)):
            if value is not None and not (type(value) is int and value >= 1):
                raise SetupError(f"pool {name!r}: {said}={value!r} is no whole number of 1 or more; give one")
        for said, number in (("num_cpus", self.num_cpus), ("num_gpus", self.num_gpus)):
            if number is not None and not (type(number) in (int, float) and 0 <= number < math.inf):
                raise SetupError(f"pool {name!r}: {said}={number!r} is no number of 0 or more; give one, or a fraction")


def pool_names(profile: Profile) -> tuple[str, ...]:
    """The pools of a profile, in the order in which rows go through them."""
    seeing = [b for b in (profile.inspect.backend, profile.caption.backend) if b is not None]
    writing = profile.instruct.backend
    if not seeing and writing is None:
        return (PIPELINE,)
    apart = writing is not None and writing not in seeing
    return (*((INSPECT,) if seeing else ()), *((INSTRUCT,) if apart else ()), ANONYMIZE)


def pools_of(profile: Profile, given: Mapping[str, Pool] | None = None) -> dict[str, Pool]:
    """Name -> pool, the profile's own with those that were given in their place.

    Raises:
        SetupError: the profile has no such pool, or a pool's number cannot work.
    """
    names = pool_names(profile)
    for name, pool in (given or {}).items():
        if name not in names:
            raise SetupError(f"pools: the profile {profile.name!r} has no pool {name!r}; it has {', '.join(names)}")
        pool.check(name)
    return {name: (given or {}).get(name, Pool()) for name in names}


def fit(
    pipeline: Pipeline, given: Mapping[str, Pool] | None, machines: Sequence[Mapping[str, Any]], reader_cpus: float
) -> dict[str, Pool]:
    """The pools with numbers in place of their Nones, for a cluster of these machines.

    Args:
        pipeline: the steps.
        given: pools in place of the default ones.
        machines: each with "Alive" and its "Resources": "CPU", "GPU" and "memory" in bytes, as far as it has them.
        reader_cpus: what one reader needs.

    Raises:
        SetupError: they do not fit beside a reader: an engine would wait for ever.
    """
    pools = pools_of(pipeline.profile, given)
    nodes = [machine["Resources"] for machine in machines if machine["Alive"]]
    cores, gpus = (sum(node.get(what, 0) for node in nodes) for what in ("CPU", "GPU"))
    room = max(1, sum(min(int(n.get("CPU", 0)), int(n.get("memory", 0) // WORKER_BYTES)) for n in nodes))
    on_gpu = {name: PoolWork(pipeline, name).on_gpu() for name in pools}
    for name, pool in pools.items():
        share = pool.num_gpus if pool.num_gpus is not None else float(on_gpu[name] and gpus > 0)
        most = int(gpus // share) if share else room
        size = pool.size or max(1, most // sum(same == on_gpu[name] for same in on_gpu.values()))
        pools[name] = replace(pool, num_gpus=share, size=size)
    even = min(0.75, max(0, int(100 * (cores - reader_cpus) / sum(p.size or 1 for p in pools.values()))) / 100)
    pools = {n: p if p.num_cpus is not None else replace(p, num_cpus=even) for n, p in pools.items()}
    _check_room("cores", sum((p.size or 1) * (p.num_cpus or 0) for p in pools.values()) + reader_cpus, cores)
    _check_room("GPUs", sum((p.size or 1) * (p.num_gpus or 0) for p in pools.values()), gpus)
    return pools


def _check_room(what: str, asked: float, there: float) -> None:
    if asked > there + 1e-6:
        raise SetupError(
            f"the pools, and one reader beside them, ask for {asked:g} {what} and the cluster has {there:g}; "
            "give the pools fewer workers, or fractions"
        )


@dataclass
class State:
    """What is known of a row between two pools."""

    fields: dict[str, Any] = field(default_factory=dict)
    failure: RowError | None = None
    found: list[Detection] | None = None
    dead: bool = False


@dataclass(frozen=True)
class PoolWork:
    """What a worker of one pool does with a chunk of (item, state): the arrows of the pool.

    Args:
        pipeline: all arrows.
        name: the pool.
    """

    pipeline: Pipeline
    name: str

    def parts(self) -> Iterator[Part]:
        """The parts that this pool loads: no pool loads another one's models."""
        profile = self.pipeline.profile
        if self.name == PIPELINE:
            yield from (*parts_of(profile.anonymize), *parts_of(profile.score))
        elif self.name == ANONYMIZE:
            redacts, backend = profile.anonymize.editor.redacts, profile.inspect.backend
            elsewhere = [] if redacts or backend is None else list(parts_of(backend))  # asked before, and not again
            for step in (profile.anonymize.editor, profile.inspect, profile.score):
                yield from (part for part in parts_of(step) if part not in elsewhere)
        else:
            yield from (part for step in self._early() for part in parts_of(step))

    def on_gpu(self) -> bool:
        """Whether this pool loads a model that wants a GPU."""
        return any(part.on_gpu for part in self.parts())

    def _early(self) -> list[Any]:
        """The arrows of this pool before the fourth."""
        profile, names = self.pipeline.profile, pool_names(self.pipeline.profile)
        seeing = [profile.inspect, profile.caption] if self.name == INSPECT or INSPECT not in names else []
        writing = [profile.instruct] if self.name == INSTRUCT or INSTRUCT not in names else []
        return [*seeing, *writing]

    def prepare(self) -> None:
        """Load what this pool needs. Raises `SetupError` where a model cannot be loaded."""
        for part in self.parts():
            part.loaded  # noqa: B018  loads it, once

    def __call__(self, chunk: Sequence[tuple[Item, State]]) -> list[State]:
        """One state per row; after the last pool it holds the row's columns."""
        score.say_nothing()
        rows = [self._row(item, state) for item, state in chunk]
        alive = [row for row, (_, state) in zip(rows, chunk, strict=True) if not state.dead]
        for step in self._early() if self.name not in (PIPELINE, ANONYMIZE) else ():
            absent = [row for row in alive if not set(step.writes) <= set(row.fields)]
            flags = [row.fields.get(columns.PRIVACY_FLAG) for row in absent]
            step.run(absent)
            for row, flag in zip(absent, flags, strict=True):
                if flag is True:  # a flag that was given alone is not taken back
                    row.fields[columns.PRIVACY_FLAG] = True
        if self.name in (PIPELINE, ANONYMIZE):
            profile = self.pipeline.profile
            profile.anonymize.run(alive)
            profile.score.run(alive)
            if (gate := getattr(profile, "gate", None)) is not None:
                gate.run(alive)
        return [
            state if state.dead else State(row.fields, row.failure, row.found)
            for row, (_, state) in zip(rows, chunk, strict=True)
        ]

    def _row(self, item: Item, state: State) -> Row:
        row = Row(item.image, state.fields or self.pipeline.read(item))
        row.failure, row.found = state.failure, state.found
        return row

    def dead(self, entry: tuple[Item, State]) -> State:
        """The state of a row that killed its process: the later pools leave it alone, and it is withheld."""
        return State(dead=True)


class Worker:
    """One worker of a pool: a process of its own that may die of a row, as in a run on one machine."""

    def __init__(self, pipeline: Pipeline, name: str) -> None:
        work = PoolWork(pipeline, name)
        self.on_gpu = work.on_gpu()
        self.workers: Workers = Workers(work, work.dead, 1)
        self.workers.start()

    def __call__(self, entries: Sequence[tuple[Item, State]]) -> tuple[list[State], float]:
        """(one state per row, the seconds that it took)."""
        began = time.monotonic()
        chunks = chunks_of(entries, lambda entry: _size(entry[0].image), self.on_gpu)
        states = [s for _, answers in self.workers.stream((None, chunk) for chunk in chunks) for s in answers]
        return states, time.monotonic() - began


def _size(image: Any) -> int:
    data = image.get("bytes") if isinstance(image, dict) else None
    return len(data) if data is not None else 0


def with_bytes(item: Item) -> Item:
    """The item with its file's bytes, for a worker on another machine.

    What is no file, is empty or is too large to be read stays a name: decoding it fails there as it would here.
    """
    image = item.image
    path = image.get("path") if isinstance(image, dict) and image.get("bytes") is None else image
    if not isinstance(path, str) or "://" in path:
        return item
    try:
        file = Path(path)
        if file.is_file() and 0 < file.stat().st_size <= 8 * MAX_PIXELS + 2**26:
            return Item(item.source, {"bytes": file.read_bytes(), "path": path}, item.kept)
    except (OSError, ValueError):  # a string may be too long for a path, or hold a null
        pass
    return item
