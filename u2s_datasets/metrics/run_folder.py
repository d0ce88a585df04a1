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
from u2s_datasets.metrics.summary import Summary, values_of

if TYPE_CHECKING:
    from PIL import Image

BATCH = 1024
"""Rows of text and numbers at a time; pictures are read 16 at a time, from one row group."""

_AGAIN = "run the same `u2s anonymize` again, which makes missing and changed files anew"


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

    def batches(self, names: Collection[str]) -> Iterator[pa.RecordBatch]:
        """These columns, as far as they are there, of every row in the order of the source."""
        return (batch for path in self.rows for batch in _read(path, names))

    def check(self, made: Summary) -> None:
        """Raise `U2SError` unless `run.json` and `data/` count what `private/rows` counts."""
        counted = {"rows": made.rows, **(made.statuses or {})}
        said = {k: self.run.get(k) for k in counted}
        held = adding_up(made.rows, counted)
        if said != counted:
            raise U2SError(f"run.json says {adding_up(said['rows'], said)}; private/rows holds {held}; {_AGAIN}")
        public = Counter(s for path in self.public for b in _read(path, [c.STATUS]) for s in values_of(b, c.STATUS))
        if public != Counter({s: counted[s] for s in (c.SAFE, c.ANONYMIZED)}):
            raise U2SError(f"data/ holds {dict(public)}; private/rows holds {held}; {_AGAIN}")

    def ids(self) -> list[str]:
        """The row ids of all that is published, sorted."""
        return sorted(i for path in self.public for b in _read(path, [c.ROW_ID]) for i in values_of(b, c.ROW_ID))

    def published(self, ids: Collection[str]) -> Iterator[dict[str, Any]]:
        """The published rows of these ids, with their encoded images, one by one."""
        wanted = pa.array(list(ids), pa.string())
        for path in self.public:
            with pq.ParquetFile(path) as file:
                read = file.read_row_group
                groups = range(file.num_row_groups)
                hit = [g for g in groups if pc.any(pc.is_in(read(g, [c.ROW_ID]).column(0), wanted)).as_py()]
            for batch in _read(path, (c.ROW_ID, c.ANONYMIZED_IMAGE, c.STATUS, c.PUBLIC_CAPTION), 16, hit):
                yield from batch.filter(pc.is_in(batch.column(c.ROW_ID), wanted)).to_pylist()

    def original(self, row: dict[str, Any]) -> Image.Image | None:
        """None: who made the folder knows its source."""
        return None


def _read(
    path: Path, names: Collection[str], size: int = BATCH, groups: list[int] | None = None
) -> Iterator[pa.RecordBatch]:
    try:
        with pq.ParquetFile(path) as file:
            there = [n for n in names if n in file.schema_arrow.names]
            yield from file.iter_batches(size, row_groups=groups, columns=there)
    except (pa.ArrowInvalid, OSError) as error:  # which of them depends on where the file is damaged
        raise U2SError(f"{path.name} cannot be read; remove it and run the same command again") from error


def adding_up(rows: Any, counts: dict[str, Any]) -> str:
    """The sum that fails, for an error."""
    return f"{rows} rows in, but " + " + ".join(f"{counts.get(s)} {s}" for s in c.STATUSES)
