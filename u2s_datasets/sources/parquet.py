"""Parquet files as a source, read in place."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from u2s_datasets.errors import SetupError
from u2s_datasets.sources.base import Item, SourceRequest
from u2s_datasets.sources.schemas import common_feature, renumber, require_columns
from u2s_datasets.sources.table import TableSource, may_hold_images

if TYPE_CHECKING:
    from datasets import Features

_BESIDE_PARQUET = (".parquet", ".md", ".json", ".gitattributes")
"""What a folder of parquet may hold; with anything else in it, it is a folder of images."""


def open_parquet(request: SourceRequest) -> ParquetSource | None:
    """A local parquet file, or a folder of parquet files and nothing but their descriptions."""
    tables = [path for path in request.files if path.suffix == ".parquet"]
    if not tables or not all(path.suffix in _BESIDE_PARQUET for path in request.files):
        return None
    chosen = files_of_split([str(path) for path in tables], request)
    source = ParquetSource([Path(file) for file in chosen], request.address, request.image_column, request.keep)
    links = len(request.entries) - len(request.files)
    source.skipped = {"symbolic link": links} if links else {}
    return source


def files_of_split(names: Sequence[str], request: SourceRequest) -> list[str]:
    """Those of these parquet files whose name begins with the requested split; all of them without one.

    Raises:
        SetupError: none is of that split; the message holds those that the names tell.
    """
    split = request.split
    if split is None:
        return list(names)
    chosen = [name for name in names if re.match(rf"{re.escape(split)}([-_.]|$)", PurePath(name).name)]
    if not chosen:
        known = sorted({re.split("[-_.]", PurePath(name).name)[0] for name in names})
        more = f" and {len(known) - 10} more" if len(known) > 10 else ""
        raise SetupError(
            f"{request.address!r} has no parquet file of split {split!r}; its files begin with "
            f"{', '.join(known[:10])}{more}; choose one with --split, or leave it out to take all"
        )
    return chosen


class ParquetSource(TableSource):
    """Parquet files, read in place in the order given.

    The row group that was read last stays in memory, so that ranges that follow each other read it once. `read`
    may be called from one thread of a process at a time.

    Args:
        files: their paths, on this machine or in `filesystem`.
        location: as the user gave it.
        image_column: the name of the image column; None to find it by its type.
        keep: columns to carry along.
        filesystem: a pyarrow filesystem; None for this machine's. Rows of any other must store their images: one that
            names a file has no image, as that file is somebody else's.
        states: (path, size in bytes, modification time in ns) of each file, as the filesystem lists it.

    Raises:
        SetupError: a file cannot be read as parquet, files disagree on a column that is read, or as `TableSource`.
    """

    kind = "parquet"

    def __init__(
        self,
        files: Sequence[Path],
        location: str,
        image_column: str | None = None,
        keep: Sequence[str] = (),
        filesystem: Any = None,
        states: Sequence[tuple[str, int, int]] | None = None,
    ) -> None:
        import pyarrow.dataset

        self.files, self.local, self.states = list(files), filesystem is None, states
        try:
            self.data = pyarrow.dataset.dataset([str(f) for f in self.files], format="parquet", filesystem=filesystem)
            fragments = list(self.data.get_fragments())
            self.rows = [fragment.count_rows() for fragment in fragments]
            declared = _declared_features(fragments, self.rows)
        except (OSError, ValueError) as error:
            raise SetupError(f"{location!r} cannot be read as parquet: {error}") from error
        given = [*keep, *([image_column] if image_column else [])]
        require_columns(declared, [name for name in given if any(name in features for features in declared.values())])
        super().__init__(location, next(iter(declared.values())), image_column, keep)
        self._agree_on_columns(declared)
        self._last: tuple[tuple[str, int], list[Any]] | None = None

    def _agree_on_columns(self, declared: Mapping[str, Features]) -> None:
        """One type for every column that is kept, and the files whose class numbers have to be changed to it."""
        require_columns(declared, [self.image_column])
        for file, features in declared.items():
            if not may_hold_images(features[self.image_column]):
                raise SetupError(
                    f"the column {self.image_column!r} of {file!r} cannot hold images or their paths, as that of other "
                    "files does; name another with --image-column, or leave the file out"
                )
        columns = {name: {file: features[name] for file, features in declared.items()} for name in self.kept}
        self.kept = {name: common_feature(name, features) for name, features in columns.items()}
        changed = {f: {n: v[n] for n, kept in self.kept.items() if v[n] != kept} for f, v in declared.items()}
        self._changed = {file: features for file, features in changed.items() if features}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}

    def __len__(self) -> int:
        return sum(self.rows)

    def read(self, start: int, stop: int) -> Iterator[Item]:
        """The rows from number `start` up to `stop`; whole files and row groups before them are not read."""
        for position, group in self._groups(start, stop):
            folders = [Path(group.path).parent.absolute()] if self.local else []
            for batch in self._batches(group):
                first, last = max(start, position), min(stop, position + len(batch))
                if first < last:
                    rows = batch.slice(first - position, last - first)
                    for item in self.items(first, rows, folders, absolute=False):
                        self._renumber(item.kept, group.path)
                        yield item
                position += len(batch)
                if position >= stop:
                    return

    def _batches(self, group: Any) -> list[Any]:
        """All rows of a row group, in batches of the columns that are read."""
        key = group.path, group.row_groups[0].id
        if self._last is None or self._last[0] != key:
            self._last = None  # before the next is read, so that never two are held
            names = [self.image_column, *self.kept]
            batches = group.to_batches(columns=names, batch_size=64, batch_readahead=1, fragment_readahead=0)
            self._last = key, list(batches)
        return self._last[1]

    def _groups(self, start: int, stop: int) -> Iterator[tuple[int, Any]]:
        """(number of its first row, row group) of the row groups that hold any of these rows."""
        position = 0
        for fragment, rows in zip(self.data.get_fragments(), self.rows, strict=True):
            if position + rows <= start or position >= stop:
                position += rows
                continue
            for group in fragment.split_by_row_group():
                length = sum(g.num_rows for g in group.row_groups)
                if position + length > start and position < stop:
                    yield position, group
                position += length

    def kept_values(self, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """These kept columns of every row."""
        for fragment, rows in zip(self.data.get_fragments(), self.rows, strict=True):
            for batch in fragment.to_batches(columns=list(names), batch_size=1000) if rows else ():
                for row in batch.to_pylist():
                    self._renumber(row, fragment.path)
                    yield row

    def _renumber(self, row: dict[str, Any], file: str) -> None:
        """Give the classes of a file's row their common numbers."""
        for name, declared in self._changed.get(file, {}).items():
            if name in row:
                row[name] = renumber(row[name], declared, self.kept[name])

    def fingerprint(self) -> str:
        """Digest of every file's name, size and modification time (not its contents), and of what is read.

        A path on the Hub holds its commit.
        """
        states = self.states or [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in self.files]
        return hashlib.sha256(repr((states, list(self.kept), self.image_column)).encode()).hexdigest()


def _declared_features(fragments: Sequence[Any], rows: Sequence[int]) -> dict[str, Features]:
    """File -> the types of its columns, of those files that hold rows; of all, if none does."""
    from datasets import Features

    known: dict[bytes, Features] = {}  # files that were written together declare the same
    declared = {}
    for fragment, count in zip(fragments, rows, strict=True):
        if count or not any(rows):
            schema = fragment.physical_schema
            key = schema.serialize().to_pybytes()
            if key not in known:
                known[key] = Features.from_arrow_schema(schema)
            declared[fragment.path] = known[key]
    return declared
