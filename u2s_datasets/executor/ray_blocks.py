"""What travels between pools: Arrow tables of encoded bytes, for a run from a source and for a user's own dataset.

A table of a run has the columns "shard", "position" and "item"; a user's table has the user's. Both carry "state"
from pool to pool, and per stage the seconds that each row took, from which rates and the bottleneck come.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from u2s_datasets import columns
from u2s_datasets.errors import RowError, SetupError
from u2s_datasets.executor.ordering import Stretch
from u2s_datasets.executor.pipeline import Pipeline
from u2s_datasets.executor.pool_work import State, Worker, with_bytes
from u2s_datasets.sources.open import Item, Source

SHARD, POSITION, ITEM, STATE, ANSWER, SECONDS = (
    "u2s_shard",
    "u2s_position",
    "u2s_item",
    "u2s_state",
    "u2s_answer",
    "u2s_seconds_",
)
FAULT, READ = "u2s_fault", "read"

BLOCK_BYTES = 16_000_000
"""What travels at once, at the most: an engine's memory for objects must hold a few of these for every worker."""

Entry = tuple[Item, State]


def read_blocks(source: Source, stretch: Stretch, most: int = BLOCK_BYTES) -> Iterator[pa.Table]:
    """One stretch of a source, with the bytes of its files: several tables where these have more bytes than `most`."""
    shard, start, stop = stretch
    began, read, size = time.monotonic(), [], 0
    for position, item in enumerate(source.read(start, stop), start):
        read.append((position, _dump(with_bytes(item))))
        size += len(read[-1][1])
        if size > most:
            yield _timed(_table(shard, read), READ, time.monotonic() - began)
            began, read, size = time.monotonic(), [], 0
    if read:
        yield _timed(_table(shard, read), READ, time.monotonic() - began)


def _table(shard: int, read: Sequence[tuple[int, bytes]]) -> pa.Table:
    values = {
        SHARD: pa.array([shard] * len(read), pa.int64()),
        POSITION: pa.array([position for position, _ in read], pa.int64()),
        ITEM: pa.array([item for _, item in read], pa.large_binary()),
    }
    return pa.table(values)


@dataclass(frozen=True)
class RunBlocks:
    """Tables of a run: the last pool answers with the rows that are written.

    Args:
        pipeline: the steps, the key of the row ids, the kept columns.
    """

    pipeline: Pipeline

    def entries(self, table: pa.Table) -> list[Entry]:
        """(item, state) of every row."""
        items = [pickle.loads(value) for value in table[ITEM].to_pylist()]
        return list(zip(items, _states(table) or [State() for _ in items], strict=True))

    def answered(self, table: pa.Table, entries: Sequence[Entry], states: Sequence[State]) -> pa.Table:
        """The table after the last pool: each row's columns in place of its original."""
        answers = [
            self.pipeline.dead(item) if state.dead else self.pipeline.answer(item, state.fields)
            for (item, _), state in zip(entries, states, strict=True)
        ]
        table = table.drop_columns([n for n in (ITEM, STATE) if n in table.column_names])
        return table.append_column(ANSWER, pa.array([_dump(a) for a in answers], pa.large_binary()))


@dataclass(frozen=True)
class UserBlocks:
    """Tables of a user's own dataset: the last pool adds typed columns to them.

    Args:
        pipeline: the steps.
    """

    pipeline: Pipeline

    def entries(self, table: pa.Table) -> list[Entry]:
        """(item, state) of every row; columns of earlier arrows that the user gives are taken as given."""
        step = self.pipeline.profile.anonymize
        images = _values(table[step.image_column])
        given = [n for n in dict.fromkeys((*step.inputs(), *step.required())) if n in table.column_names]
        fields = table.select(given).to_pylist() if given else [{} for _ in images]
        states = _states(table) or [State(values) for values in fields]
        return [(Item("", image), state) for image, state in zip(images, states, strict=True)]

    def answered(self, table: pa.Table, entries: Sequence[Entry], states: Sequence[State]) -> pa.Table:
        """The table after the last pool, with the columns of the arrows that ran."""
        profile = self.pipeline.profile
        table = table.drop_columns([n for n in table.column_names if n == STATE or n.startswith(SECONDS)])
        present = set(table.column_names)
        names = dict.fromkeys([*profile.anonymize.output_columns(present), *profile.score.output_columns(present)])
        rows = [self.pipeline.dead(entry[0]) if s.dead else s.fields for entry, s in zip(entries, states, strict=True)]
        for field in columns.features(names).arrow_schema:
            values = pa.array([row.get(field.name) for row in rows], type=field.type)
            if field.name in present:
                table = table.set_column(table.column_names.index(field.name), field.name, values)
            else:
                table = table.append_column(field.name, values)
        return table


class Stage:
    """One worker of a pool, as Ray Data calls it: a table in, a table out.

    Args:
        blocks: how a table is read and answered.
        name: the pool.
        last: whether no other pool comes after it.
        batch_size: rows that the worker works on at once, where it is given.
    """

    def __init__(self, blocks: RunBlocks | UserBlocks, name: str, last: bool, batch_size: int | None = None) -> None:
        self.blocks, self.name, self.last = blocks, name, last
        self.fault: SetupError | None = None
        try:
            self.worker = Worker(blocks.pipeline, name, batch_size)
        except SetupError as error:
            self.fault = error

    def __call__(self, table: pa.Table) -> pa.Table:
        """The table with what this pool found out.

        Raises:
            SetupError: the worker cannot work. In a run the words travel as a table, see `fault_in`.
        """
        if FAULT in table.column_names:
            return table
        try:
            if self.fault is not None:
                raise self.fault
            entries = self.blocks.entries(table)
            states, seconds = self.worker(entries)
        except SetupError as error:
            if isinstance(self.blocks, RunBlocks):
                return fault_table(error)
            raise
        if self.last:
            table = self.blocks.answered(table, entries, states)
        else:
            table = _replaced(table, STATE, pa.array([_dump(s) for s in states], pa.large_binary()))
        return _timed(table, self.name, seconds) if isinstance(self.blocks, RunBlocks) else table


def fault_table(error: SetupError) -> pa.Table:
    """Why a worker or a reader cannot work, as a table: Ray would wrap an exception beyond recognition."""
    return pa.table({FAULT: [str(error)]})


def fault_in(table: pa.Table) -> str | None:
    """Why a worker cannot work, if that is what the table says; it may have been joined with tables of rows."""
    said = table[FAULT].to_pylist() if FAULT in table.column_names else []
    return next((fault for fault in said if fault is not None), None)


def seconds_in(table: pa.Table) -> dict[str, float]:
    """Stage -> seconds of work that these rows took there."""
    found = [n for n in table.column_names if n.startswith(SECONDS)]
    return {name.removeprefix(SECONDS): float(sum(table[name].to_pylist())) for name in found}


def answers_in(table: pa.Table) -> list[tuple[int, int, dict[str, Any]]]:
    """(shard, position, columns) of every row that went through all pools."""
    rows = zip(table[SHARD].to_pylist(), table[POSITION].to_pylist(), table[ANSWER].to_pylist(), strict=True)
    return [(shard, position, pickle.loads(answer)) for shard, position, answer in rows if answer is not None]


def lost(pipeline: Pipeline, source: Source, stretch: Stretch) -> Iterator[tuple[int, int, dict[str, Any]]]:
    """Answers for rows that went in and did not come out: they have no verdict, so they are withheld."""
    shard, start, stop = stretch
    error = RowError("an error of the engine carried this row past a stage")
    for position, item in enumerate(source.read(start, stop), start):
        yield shard, position, pipeline.withheld(item, error)


def _dump(value: Any) -> bytes:
    """As bytes: Arrow's own types would make another value of an empty list or a None."""
    return pickle.dumps(value, protocol=5)


def _states(table: pa.Table) -> list[State] | None:
    if STATE not in table.column_names:
        return None
    return [State() if value is None else pickle.loads(value) for value in table[STATE].to_pylist()]


def _values(column: pa.ChunkedArray) -> list[Any]:
    """Stored images as they are; Ray's tensors, which are decoded pictures, as arrays."""
    if isinstance(column.type, pa.BaseExtensionType):
        return [np.asarray(v) for chunk in column.chunks for v in chunk.to_numpy(zero_copy_only=False)]
    return column.to_pylist()


def _timed(table: pa.Table, stage: str, seconds: float) -> pa.Table:
    each = seconds / max(1, len(table))
    return table.append_column(f"{SECONDS}{stage}", pa.array([each] * len(table), pa.float64()))


def _replaced(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    if name in table.column_names:
        table = table.drop_columns([name])
    return table.append_column(name, values)
