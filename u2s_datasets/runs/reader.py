"""`RunFolder`: the folder of a finished run, read. Images are read only where they are shown."""

import fcntl
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.runs.decisions import read_decisions
from u2s_datasets.runs.files import AGAIN, read_json, readable
from u2s_datasets.runs.layout import Layout
from u2s_datasets.runs.manifest import Shard, read_manifest, shards_of
from u2s_datasets.runs.origin import find_origin
from u2s_datasets.runs.shards import kept_features
from u2s_datasets.sources.base import Item

BATCH = 1024
"""Rows of text and numbers at a time; images are read 16 at a time, from one row group."""


@dataclass(frozen=True)
class StoredRow:
    """One row of a run: both its halves and its original.

    Args:
        private: columns of `columns.PRIVATE`; {} for a public row without a private one, which no run writes.
        public: public and kept columns, the encoded image among them; {} if the row is not in `data/`.
        position: in the source.
        item: the row of the source; None if it cannot be had or is another one now.
    """

    private: dict[str, Any]
    public: dict[str, Any]
    position: int
    item: Item | None


class RunFolder:
    """A finished run.

    Args:
        root: its folder.

    Raises:
        SetupError: there is no finished run.
    """

    names = c.PRIVATE

    def __init__(self, root: Path) -> None:
        self.layout = Layout(root)
        if not self.layout.run.exists():
            raise SetupError(f"no finished run in {str(root)!r} (run.json is missing); finish it with `u2s anonymize`")
        self.run = read_json(self.layout.run, remedy="finish the run with `u2s anonymize`")

    @cached_property
    def manifest(self) -> dict[str, Any]:
        """What the run is bound to. Raises `SetupError` if it is missing or damaged."""
        return read_manifest(self.layout.root)

    @cached_property
    def shards(self) -> list[Shard]:
        """The finished shards, in order."""
        return shards_of(self.manifest)

    @cached_property
    def kept_features(self) -> dict[str, Any]:
        """Name -> feature of the columns that the user kept; {} if nothing was published."""
        return next(map(kept_features, self.layout.public_halves()), {})

    def decisions(self) -> dict[str, dict[str, Any]]:
        """Row id -> what a curator decided, as of now."""
        return read_decisions(self.layout.root)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep runs from writing into the folder meanwhile. Raises `SetupError` if one does."""
        if not self.layout.lock.exists():  # a copy of a run has none
            yield
            return
        with self.layout.lock.open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise SetupError(f"a run is writing into {str(self.layout.root)!r}; wait for it") from error
            yield

    def batches(self, names: Collection[str]) -> Iterator[pa.RecordBatch]:
        """Those of these private columns that exist, of every row in the order of the source."""
        return (batch for path in self.layout.private_halves() for batch in read(path, names))

    def public_batches(self, names: Collection[str]) -> Iterator[pa.RecordBatch]:
        """Those of these public columns that exist, of every published row."""
        return (batch for path in self.layout.public_halves() for batch in read(path, names))

    def ids(self) -> list[str]:
        """The row ids of all that is published, sorted."""
        return sorted(i for batch in self.public_batches([c.ROW_ID]) for i in batch.column(c.ROW_ID).to_pylist())

    def published(self, ids: Collection[str], first: str = "") -> Iterator[dict[str, Any]]:
        """The published rows of these ids, with their encoded images, one by one; the file `first` is read first."""
        left = set(ids)
        for path in sorted(self.layout.public_halves(), key=lambda p: (p.name != first, p.name)):
            if not left:
                return
            for row in _published_in(path, pa.array(sorted(left), pa.string())):
                left.discard(row[c.ROW_ID])
                yield row

    def rows(
        self, wanted: Collection[str] | None = None, originals: bool = True, to_show: bool = False
    ) -> Iterator[StoredRow]:
        """Every row of the source, in its order, then rows in `data/` that no row of the source stands for.

        Args:
            wanted: row ids; None for all. A shard without any of them is not read further.
            originals: whether to look up the rows of the source as well.
            to_show: whether a source that was changed since will do, see `origin.open_origin`.
        """
        source, position = find_origin(self.manifest, to_show) if originals else None, 0
        for shard in self.shards:
            private = _table(self.layout.shard("private", shard.number)).to_pylist()
            if wanted is None or any(row[c.ROW_ID] in wanted for row in private):
                public = _table(self.layout.shard("public", shard.number))
                at = {row: i for i, row in enumerate(public.column(c.ROW_ID).to_pylist())} if len(public) else {}
                items = iter(()) if source is None else source.read(position, position + len(private))
                for index, row in enumerate(private):
                    item = next(items, None)
                    if item is not None and item.source != row[c.SOURCE]:
                        item = None
                    public_at = at.pop(row[c.ROW_ID], None)
                    if wanted is None or row[c.ROW_ID] in wanted:
                        yield StoredRow(row, _row(public, public_at), position + index, item)
                for public_at in at.values() if wanted is None else ():
                    yield StoredRow({}, _row(public, public_at), position, None)
            position += len(private)


def read(
    path: Path, names: Collection[str], size: int = BATCH, groups: list[int] | None = None, remedy: str = AGAIN
) -> Iterator[pa.RecordBatch]:
    """Those of these columns that exist in a file of a run, in batches. Raises `SetupError` if it is damaged."""
    with readable(path, remedy), pq.ParquetFile(path) as file:
        present = [n for n in names if n in file.schema_arrow.names]
        yield from file.iter_batches(size, row_groups=groups, columns=present)


def _table(path: Path) -> pa.Table:
    if not path.exists():
        return pa.table({})
    with readable(path), pq.ParquetFile(path) as file:
        return file.read()


def _row(table: pa.Table, at: int | None) -> dict[str, Any]:
    """One row; the images of a shard do not all become Python objects."""
    return {} if at is None else table.slice(at, 1).to_pylist()[0]


def _published_in(path: Path, wanted: pa.Array) -> Iterator[dict[str, Any]]:
    with readable(path), pq.ParquetFile(path) as file:
        hit = [
            group
            for group in range(file.num_row_groups)
            if pc.any(pc.is_in(file.read_row_group(group, [c.ROW_ID]).column(0), wanted)).as_py()
        ]
    for batch in read(path, (c.ROW_ID, c.ANONYMIZED_IMAGE, c.STATUS, c.PUBLIC_CAPTION), 16, hit):
        yield from batch.filter(pc.is_in(batch.column(c.ROW_ID), wanted)).to_pylist()
