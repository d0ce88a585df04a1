"""What travels between pools: Arrow tables of encoded bytes, for a run from a source and for a user's own dataset.

A table of a run has the columns "shard", "position" and "item"; a user's table has the user's. Both carry "state"
from pool to pool; a table of a run also has, per stage, the seconds that each row took, from which the rates come.
"""

import pickle
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from u2s_datasets import columns
from u2s_datasets.errors import RowError, SetupError
from u2s_datasets.executor.local import Workers, chunks_of
from u2s_datasets.executor.ordering import RowAnswer, RowRange
from u2s_datasets.executor.pipeline import Pipeline
from u2s_datasets.executor.pools import PoolRow, PoolWork, RowState
from u2s_datasets.images.stored import stored_size, with_bytes
from u2s_datasets.sources.base import Item, Source
from u2s_datasets.stages.image_column import check_image_type, check_image_values

SHARD, POSITION, ITEM, STATE, ANSWER = "u2s_shard", "u2s_position", "u2s_item", "u2s_state", "u2s_answer"
SECONDS, FAULT = "u2s_seconds_", "u2s_fault"
READ = "read"
"""The stage that reads the source, beside the pools."""

BLOCK_BYTES = 16_000_000
"""What travels at once, at the most: an engine's memory for objects must hold a few of these for every worker."""


def read_blocks(source: Source, rows: RowRange, most: int = BLOCK_BYTES) -> Iterator[pa.Table]:
    """A range of a source, with the bytes of its files: several tables if these have more bytes than `most`."""
    began, items, first = time.monotonic(), [], rows.start
    for position, item in enumerate(source.read(rows.start, rows.stop), rows.start):
        items.append(_dumped(replace(item, image=with_bytes(item.image))))
        if sum(map(len, items)) > most:
            yield _item_table(rows.shard, first, items, time.monotonic() - began)
            began, items, first = time.monotonic(), [], position + 1
    if items:
        yield _item_table(rows.shard, first, items, time.monotonic() - began)


def _item_table(shard: int, first: int, items: Sequence[bytes], seconds: float) -> pa.Table:
    values = {
        SHARD: pa.array([shard] * len(items), pa.int64()),
        POSITION: pa.array(range(first, first + len(items)), pa.int64()),
        ITEM: pa.array(items, pa.large_binary()),
    }
    return _timed(pa.table(values), READ, seconds)


@dataclass(frozen=True)
class RunBlocks:
    """Tables of a run: the last pool answers with the rows that are written.

    Args:
        pipeline: the steps, the key of the row ids, the kept columns.
    """

    pipeline: Pipeline

    def rows(self, table: pa.Table) -> list[PoolRow]:
        """The rows of a table."""
        items = [pickle.loads(value) for value in table[ITEM].to_pylist()]
        return _with_states(table, items, [RowState() for _ in items])

    def answered(self, table: pa.Table, answers: Sequence[dict[str, Any]]) -> pa.Table:
        """The table after the last pool: each row's columns in place of its original."""
        table = table.drop_columns([name for name in (ITEM, STATE) if name in table.column_names])
        return _with_column(table, ANSWER, pa.array(map(_dumped, answers), pa.large_binary()))


@dataclass(frozen=True)
class UserBlocks:
    """Tables of a user's own dataset: the last pool adds typed columns to them.

    Args:
        pipeline: the steps.
    """

    pipeline: Pipeline

    def rows(self, table: pa.Table) -> list[PoolRow]:
        """The rows of a table; columns of earlier steps that the user gives are taken as given."""
        step = self.pipeline.profile.anonymize
        check_image_type(step.image_column, table[step.image_column].type)
        images = _stored_images(table[step.image_column])
        check_image_values(step.image_column, images)
        given = [n for n in dict.fromkeys((*step.inputs(), *step.required())) if n in table.column_names]
        fields = table.select(given).to_pylist() if given else [{} for _ in images]
        return _with_states(table, [Item("", image) for image in images], [RowState(values) for values in fields])

    def answered(self, table: pa.Table, answers: Sequence[dict[str, Any]]) -> pa.Table:
        """The table after the last pool, with the columns of the steps that ran."""
        profile = self.pipeline.profile
        table = table.drop_columns([n for n in table.column_names if n == STATE or n.startswith(SECONDS)])
        present = set(table.column_names)
        names = dict.fromkeys([*profile.anonymize.output_columns(present), *profile.score.output_columns(present)])
        for field in columns.features(names).arrow_schema:
            values = pa.array([answer.get(field.name) for answer in answers], type=field.type)
            table = _with_column(table, field.name, values)
        return table


class Stage:
    """One worker of a pool, as Ray Data calls it: a table in, a table out.

    It works in a process of its own, which may die of a row as in a run on one machine.

    Args:
        blocks: how a table is read and answered.
        name: the pool.
        last: whether no other pool comes after it.
        batch_size: rows that the worker works on at once; None for the default of `chunks_of`.
    """

    def __init__(self, blocks: RunBlocks | UserBlocks, name: str, last: bool, batch_size: int | None = None) -> None:
        self.blocks, self.name, self.last, self.batch_size = blocks, name, last, batch_size
        work = PoolWork(blocks.pipeline, name)
        self.on_gpu = work.on_gpu()
        self.workers: Workers[None, PoolRow, RowState] = Workers(work, work.crashed, 1)
        self.fault: SetupError | None = None
        try:
            self.workers.start()
        except SetupError as error:
            self.fault = error  # raised with the first table: Ray would start this worker again and again

    def __call__(self, table: pa.Table) -> pa.Table:
        """The table with what this pool found out.

        Raises:
            SetupError: the worker cannot work. In a run the message travels as a table, see `fault_in`.
        """
        if FAULT in table.column_names:
            return table
        try:
            if self.fault is not None:
                raise self.fault
            rows = self.blocks.rows(table)
            began = time.monotonic()
            chunks = chunks_of(rows, lambda row: stored_size(row.item.image), self.on_gpu, self.batch_size)
            states = [s for _, answers in self.workers.stream((None, chunk) for chunk in chunks) for s in answers]
            seconds = time.monotonic() - began
        except SetupError as error:
            if isinstance(self.blocks, RunBlocks):
                return fault_table(error)
            raise
        if self.last:
            table = self.blocks.answered(table, _answers(self.blocks.pipeline, rows, states))
        else:
            table = _with_column(table, STATE, pa.array(map(_dumped, states), pa.large_binary()))
        return _timed(table, self.name, seconds) if isinstance(self.blocks, RunBlocks) else table


def _answers(pipeline: Pipeline, rows: Sequence[PoolRow], states: Sequence[RowState]) -> list[dict[str, Any]]:
    """What became of each row, once it went through the last pool."""
    return [
        pipeline.crashed(item) if state.crashed else pipeline.answer(item, state.fields)
        for (item, _), state in zip(rows, states, strict=True)
    ]


def fault_table(error: SetupError) -> pa.Table:
    """Why a worker or a reader cannot work, as a table: Ray would wrap an exception beyond recognition."""
    return pa.table({FAULT: [str(error)]})


def fault_in(table: pa.Table) -> str | None:
    """Why a worker cannot work, if that is what the table says; it may have been joined with tables of rows."""
    faults = table[FAULT].to_pylist() if FAULT in table.column_names else []
    return next((fault for fault in faults if fault is not None), None)


def seconds_in(table: pa.Table) -> dict[str, float]:
    """Stage -> seconds of work that these rows took there."""
    timed = [name for name in table.column_names if name.startswith(SECONDS)]
    return {name.removeprefix(SECONDS): float(sum(table[name].to_pylist())) for name in timed}


def answers_in(table: pa.Table) -> list[RowAnswer]:
    """The answers for the rows that went through all pools."""
    rows = zip(*(table[name].to_pylist() for name in (SHARD, POSITION, ANSWER)), strict=True)
    return [RowAnswer(shard, position, pickle.loads(answer)) for shard, position, answer in rows if answer is not None]


def withheld_answers(pipeline: Pipeline, source: Source, lost: Sequence[RowRange]) -> Iterator[RowAnswer]:
    """Answers for rows that the engine lost: they have no verdict, so they are withheld."""
    error = RowError("an error of the engine carried this row past a stage")
    for rows in lost:
        for position, item in enumerate(source.read(rows.start, rows.stop), rows.start):
            yield RowAnswer(rows.shard, position, pipeline.withheld(item, error))


def _dumped(value: Any) -> bytes:
    """A value as bytes: Arrow's own types would make another value of an empty list or a None."""
    return pickle.dumps(value, protocol=5)


def _with_states(table: pa.Table, items: Sequence[Item], first: Sequence[RowState]) -> list[PoolRow]:
    """Items with the states that the pool before gave them; without a pool before, with these first ones."""
    states = first
    if STATE in table.column_names:
        # Ray joins blocks, and fills a column that one of them lacks with nulls.
        states = [RowState() if value is None else pickle.loads(value) for value in table[STATE].to_pylist()]
    return [PoolRow(item, state) for item, state in zip(items, states, strict=True)]


def _stored_images(column: pa.ChunkedArray) -> list[Any]:
    """Stored images as they are; Ray's tensors, which are decoded images, as arrays."""
    if isinstance(column.type, pa.BaseExtensionType):
        return [np.asarray(v) for chunk in column.chunks for v in chunk.to_numpy(zero_copy_only=False)]
    return column.to_pylist()


def _timed(table: pa.Table, stage: str, seconds: float) -> pa.Table:
    """The table with the seconds that each of its rows took in a stage: tables are cut and joined on their way."""
    each = seconds / max(1, len(table))
    return table.append_column(f"{SECONDS}{stage}", pa.array([each] * len(table), pa.float64()))


def _with_column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    """The table with these values in a column, in its place if it has the column already."""
    if name in table.column_names:
        return table.set_column(table.column_names.index(name), name, values)
    return table.append_column(name, values)
