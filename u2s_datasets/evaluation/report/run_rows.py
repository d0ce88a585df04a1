"""The rows of a finished run, with what `u2s eval` measured beside what the run itself did."""

import json
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from PIL import Image

from u2s_datasets import columns as c
from u2s_datasets.errors import U2SError
from u2s_datasets.evaluation.report.summary import Summary, values_of
from u2s_datasets.runs.files import AGAIN, readable
from u2s_datasets.runs.reader import RunFolder, read

BEYOND = ("reidentification", "controls", "absent", "inspection")
"""The keys of `eval.json` that are not of the rows' scores; see `Evaluation.plain`."""

WHOLE = b"u2s_whole"
"""Metadata of `private/eval.parquet` if its scores replace the run's: they are by the paper's definitions."""

_EVAL_AGAIN = "remove it, or run `u2s eval` again"


class RunRows(RunFolder):
    """A finished run as reports read it.

    Raises:
        SetupError: there is no finished run.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.beyond: dict[bool, dict[str, Any]] = {}
        if self.layout.evaluated.exists():
            folders = {True: self.layout.private, False: root}
            self.beyond = {private: _beyond(folder / "eval.json") for private, folder in folders.items()}

    def batches(self, names: Collection[str]) -> Iterator[pa.RecordBatch]:
        """As those of the run; what `u2s eval` measured stands in the columns that the run left empty."""
        path = self.layout.evaluated
        if not path.exists():
            return super().batches(names)
        measured = read(path, {*names, c.ROW_ID}, remedy=_EVAL_AGAIN)
        return _filled(super().batches({*names, c.ROW_ID}), measured, self.replaces)

    def stored(self, names: Collection[str]) -> Iterator[pa.RecordBatch]:
        """As `batches`, of the run alone."""
        return super().batches(names)

    @property
    def replaces(self) -> bool:
        """Whether the run was evaluated by the paper's definitions, whose scores replace the run's."""
        if not self.layout.evaluated.exists():
            return False
        with readable(self.layout.evaluated, _EVAL_AGAIN):
            return WHOLE in (pq.read_schema(self.layout.evaluated).metadata or {})

    def check(self, made: Summary) -> None:
        """Raise `U2SError` unless `run.json` and `data/` count what `private/rows` counts."""
        counted = {"rows": made.rows, **(made.statuses or {})}
        stated = {k: self.run.get(k) for k in counted}
        held = adding_up(made.rows, counted)
        if stated != counted:
            raise U2SError(f"run.json says {adding_up(stated['rows'], stated)}; private/rows holds {held}; {AGAIN}")
        public = Counter(status for batch in self.public_batches([c.STATUS]) for status in values_of(batch, c.STATUS))
        if public != Counter({s: counted[s] for s in (c.SAFE, c.ANONYMIZED)}):
            raise U2SError(f"data/ holds {dict(public)}; private/rows holds {held}; {AGAIN}")

    def original(self, row: dict[str, Any]) -> Image.Image | None:
        """None: whoever made the folder knows its source."""
        return None


def _beyond(path: Path) -> dict[str, Any]:
    """What `u2s eval` found beyond the rows' scores; {} if it did not run."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {k: found[k] for k in BEYOND if k in found}


def _filled(
    stored: Iterator[pa.RecordBatch], measured: Iterator[pa.RecordBatch], whole: bool
) -> Iterator[pa.RecordBatch]:
    """The stored rows with the measured columns: instead of theirs if `whole`, else for each value that is missing.

    Raises:
        U2SError: the two are not of the same rows.
    """
    ahead: list[pa.RecordBatch] = []
    for batch in stored:
        while sum(map(len, ahead)) < len(batch) and (more := next(measured, None)) is not None:
            ahead.append(more)
        table = pa.Table.from_batches(ahead) if ahead else None
        if table is None or table.column(c.ROW_ID)[: len(batch)].to_pylist() != batch.column(c.ROW_ID).to_pylist():
            raise U2SError(f"private/eval.parquet is of other rows; {_EVAL_AGAIN}")
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
