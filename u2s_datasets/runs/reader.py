"""Reads the folder of a finished run, in batches; the columns that hold images only where they are shown."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError, U2SError
from u2s_datasets.evaluation.report.summary import Summary, values_of
from u2s_datasets.evaluation.result import BEYOND
from u2s_datasets.runs.files import AGAIN, readable

if TYPE_CHECKING:
    from PIL import Image

BATCH = 1024
"""Rows of text and numbers at a time; pictures are read 16 at a time, from one row group."""

EVALUATED = "eval.parquet"
"""In `private/`: scores by `u2s eval`, one row per row of `private/rows`, in the same order."""

WHOLE = b"u2s_whole"
"""Metadata of an `EVALUATED` whose scores replace the run's: they are by the paper's definitions."""

_EVAL_AGAIN = "remove it, or run `u2s eval` again"


class Folder:
    """The folder of a finished run, read in batches.

    Raises:
        SetupError: there is no finished run.
    """

    names = c.PRIVATE

    def __init__(self, path: Path) -> None:
        try:
            self.run = json.loads((path / "run.json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SetupError(f"{path} holds no finished run: run.json cannot be read; run `u2s anonymize`") from error
        self.rows = sorted((path / "private" / "rows").glob("*.parquet"))
        self.public = sorted((path / "data").glob("*.parquet"))
        self.evaluated = path / "private" / EVALUATED
        self.beyond = {p: _beyond(f / "eval.json") for p, f in ((True, path / "private"), (False, path))}
        if not self.evaluated.exists():
            self.beyond = {}

    def batches(self, names: Collection[str]) -> Iterator[pa.RecordBatch]:
        """These columns, as far as they are there, of every row in the order of the source.

        What `u2s eval` measured stands in the columns that the run left empty.
        """
        if not self.evaluated.exists():
            return self.stored(names)
        return _filled(self.stored({*names, c.ROW_ID}), read(self.evaluated, {*names, c.ROW_ID}), self.replaces)

    @property
    def replaces(self) -> bool:
        """Whether the run was evaluated by the paper's definitions, whose scores replace the run's."""
        if not self.evaluated.exists():
            return False
        with readable(self.evaluated, _EVAL_AGAIN):
            return WHOLE in (pq.read_schema(self.evaluated).metadata or {})

    def stored(self, names: Collection[str]) -> Iterator[pa.RecordBatch]:
        """As `batches`, of the run alone."""
        return (batch for path in self.rows for batch in read(path, names))

    def check(self, made: Summary) -> None:
        """Raise `U2SError` unless `run.json` and `data/` count what `private/rows` counts."""
        counted = {"rows": made.rows, **(made.statuses or {})}
        said = {k: self.run.get(k) for k in counted}
        held = adding_up(made.rows, counted)
        if said != counted:
            raise U2SError(f"run.json says {adding_up(said['rows'], said)}; private/rows holds {held}; {AGAIN}")
        public = Counter(s for path in self.public for b in read(path, [c.STATUS]) for s in values_of(b, c.STATUS))
        if public != Counter({s: counted[s] for s in (c.SAFE, c.ANONYMIZED)}):
            raise U2SError(f"data/ holds {dict(public)}; private/rows holds {held}; {AGAIN}")

    def ids(self) -> list[str]:
        """The row ids of all that is published, sorted."""
        return sorted(i for path in self.public for b in read(path, [c.ROW_ID]) for i in values_of(b, c.ROW_ID))

    def published(self, ids: Collection[str], first: str = "") -> Iterator[dict[str, Any]]:
        """The published rows of these ids, with their encoded images, one by one; the file `first` is read first."""
        left = set(ids)
        for path in sorted(self.public, key=lambda p: (p.name != first, p.name)):
            if not left:
                return
            for row in _published_in(path, pa.array(sorted(left), pa.string())):
                left.discard(row[c.ROW_ID])
                yield row

    def original(self, row: dict[str, Any]) -> Image.Image | None:
        """None: who made the folder knows its source."""
        return None


def _beyond(path: Path) -> dict[str, Any]:
    """What `u2s eval` found beyond the rows' scores; nothing where it did not run."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {k: found[k] for k in BEYOND if k in found}


def _published_in(path: Path, wanted: pa.Array) -> Iterator[dict[str, Any]]:
    with readable(path), pq.ParquetFile(path) as file:
        group = file.read_row_group
        groups = range(file.num_row_groups)
        hit = [g for g in groups if pc.any(pc.is_in(group(g, [c.ROW_ID]).column(0), wanted)).as_py()]
    for batch in read(path, (c.ROW_ID, c.ANONYMIZED_IMAGE, c.STATUS, c.PUBLIC_CAPTION), 16, hit):
        yield from batch.filter(pc.is_in(batch.column(c.ROW_ID), wanted)).to_pylist()


def read(
    path: Path, names: Collection[str], size: int = BATCH, groups: list[int] | None = None
) -> Iterator[pa.RecordBatch]:
    """These columns of a file of the run, as far as they are there. Raises `SetupError` where it is damaged."""
    with readable(path, _EVAL_AGAIN if path.name == EVALUATED else AGAIN), pq.ParquetFile(path) as file:
        there = [n for n in names if n in file.schema_arrow.names]
        yield from file.iter_batches(size, row_groups=groups, columns=there)


def _filled(
    stored: Iterator[pa.RecordBatch], measured: Iterator[pa.RecordBatch], whole: bool
) -> Iterator[pa.RecordBatch]:
    """The stored rows with the measured columns: where `whole` instead of theirs, else each value where there is none.

    Raises:
        U2SError: the two are not of the same rows.
    """
    ahead: list[pa.RecordBatch] = []
    for batch in stored:
        while sum(map(len, ahead)) < len(batch) and (more := next(measured, None)) is not None:
            ahead.append(more)
        table = pa.Table.from_batches(ahead) if ahead else None
        if table is None or table.column(c.ROW_ID)[: len(batch)].to_pylist() != batch.column(c.ROW_ID).to_pylist():
            raise U2SError(f"private/{EVALUATED} is of other rows; remove it, or run `u2s eval` again")
        ahead = table.slice(len(batch)).to_batches()
        yield _with(batch, table.slice(0, len(batch)), whole)


def _with(batch: pa.RecordBatch, table: pa.Table, whole: bool) -> pa.RecordBatch:
    for name in (n for n in table.column_names if n != c.ROW_ID):
        values = pa.concat_arrays(table.column(name).chunks)
        at = batch.schema.get_field_index(name)
        if at < 0:
            batch = batch.append_column(name, values)
        elif whole or batch.column(at).null_count == len(batch):
            batch = batch.set_column(at, name, values)
        elif not pa.types.is_nested(values.type):
            batch = batch.set_column(at, name, pc.coalesce(batch.column(at).cast(values.type), values))
    return batch


def adding_up(rows: Any, counts: dict[str, Any]) -> str:
    """The sum that fails, for an error."""
    return f"{rows} rows in, but " + " + ".join(f"{counts.get(s)} {s}" for s in c.STATUSES)
