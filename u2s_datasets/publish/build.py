"""Parquet shards in the order of `row_id`, as the Hub's viewer likes them: small row groups and a page index.

Rows are spooled into buckets by their id, so that a set of any size is sorted with one bucket in memory. A row id is
a keyed digest: its order is a shuffle across the whole set, the same at every build.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Features

GROUP_ROWS, GROUP_BYTES = 100, 32 * 1024 * 1024
"""Most rows and bytes of a row group: the viewer reads whole ones, and gives up on large ones."""

CHUNKING = {"min_chunk_size": 256 * 1024, "max_chunk_size": 1024 * 1024, "norm_level": 0}
"""Content-defined page boundaries as `datasets` 5.2 writes them: a new version uploads only what changed."""

_BUCKETS = 64
_SPOOLED = 64 * 1024 * 1024  # bytes in memory before they go to the disk


@dataclass(frozen=True)
class Built:
    """One file that would leave.

    Args:
        path: its name in the repository, with forward slashes.
        file: where it lies here.
        rows: how many rows it holds.
    """

    path: str
    file: Path
    rows: int

    @property
    def size(self) -> int:
        """Its size in bytes."""
        return self.file.stat().st_size


class Builder:
    """Takes rows in any order; `finish` writes them as shards.

    Args:
        folder: what will be uploaded; files take their place below it.
        work: a folder for the buckets, emptied at the end.
        config, split: neutral names, checked by `check_name`.
        features: the columns that leave, in this order.
        max_shard_size: bytes of images in a file, which one row alone may exceed.
    """

    def __init__(self, folder: Path, work: Path, config: str, split: str, features: Features, max_shard_size: int):
        self.home = folder / ("data" if config == "default" else config)
        self.root, self.work, self.split = folder, work, split
        self.features, self.max_shard_size = features, max_shard_size
        self.num_bytes = self.rows = 0
        self._waiting: dict[int, list[dict[str, Any]]] = {}
        self._waiting_bytes = 0
        self._writers: dict[int, Any] = {}

    def add(self, row: Mapping[str, Any]) -> None:
        """Take one row; its image leaves as bytes without a path."""
        image = {"bytes": row[c.ANONYMIZED_IMAGE]["bytes"], "path": None}
        bucket = int(row[c.ROW_ID][:2], 16) * _BUCKETS // 256
        self._waiting.setdefault(bucket, []).append({**row, c.ANONYMIZED_IMAGE: image})
        self._waiting_bytes += len(image["bytes"])
        if self._waiting_bytes > _SPOOLED:
            self._spool()

    def _spool(self) -> None:
        import pyarrow as pa

        self.work.mkdir(parents=True, exist_ok=True)
        for bucket, rows in self._waiting.items():
            if bucket not in self._writers:
                self._writers[bucket] = pa.ipc.new_stream(
                    str(self.work / f"{bucket}.arrow"), self.features.arrow_schema
                )
            self._writers[bucket].write_table(self._table(rows))
        self._waiting, self._waiting_bytes = {}, 0

    def _table(self, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
        import pyarrow as pa

        schema = self.features.arrow_schema
        arrays = [pa.array([row.get(field.name) for row in rows], type=field.type) for field in schema]
        return pa.Table.from_arrays(arrays, schema=schema)

    def finish(self) -> list[Built]:
        """Write the shards. Returns them in order; none where no row came."""
        self._spool()
        for writer in self._writers.values():
            writer.close()
        self.home.mkdir(parents=True, exist_ok=True)
        made: list[tuple[Path, int]] = []
        writer, rows = None, 0
        for group in self._groups():
            if writer is not None and made[-1][0].stat().st_size + _length(group) > self.max_shard_size:
                writer.close()
                made[-1], writer = (made[-1][0], rows), None
            if writer is None:
                made.append((self.home / f"{self.split}-{len(made):05d}.tmp", 0))
                writer, rows = self._writer(made[-1][0]), 0
            table = self._table(group)
            writer.write_table(table, row_group_size=len(group))
            self.num_bytes += table.nbytes
            rows += len(group)
            self.rows += len(group)
        if writer is not None:
            writer.close()
            made[-1] = (made[-1][0], rows)
        return [self._named(number, len(made), *one) for number, one in enumerate(made)]

    def _named(self, number: int, of: int, file: Path, rows: int) -> Built:
        final = file.with_name(f"{self.split}-{number:05d}-of-{of:05d}.parquet")
        file.rename(final)
        return Built(final.relative_to(self.root).as_posix(), final, rows)

    def _writer(self, path: Path) -> Any:
        import pyarrow.parquet as pq

        image = f"{c.ANONYMIZED_IMAGE}.bytes"
        others = [name for name in self.features if name != c.ANONYMIZED_IMAGE]
        return pq.ParquetWriter(
            path,
            self.features.arrow_schema,
            compression={image: "none", **dict.fromkeys(self._leaves(), "snappy")},
            use_dictionary=others or False,
            write_page_index=True,
            use_content_defined_chunking=CHUNKING,
        )

    def _leaves(self) -> Iterator[str]:
        """Paths of the columns in the file, the image's bytes left out."""
        import pyarrow as pa

        def below(path: str, kind: pa.DataType) -> Iterator[str]:
            if pa.types.is_struct(kind):
                for field in kind:
                    yield from below(f"{path}.{field.name}", field.type)
            elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
                yield from below(f"{path}.list.element", kind.value_type)
            else:
                yield path

        for field in self.features.arrow_schema:
            yield from (leaf for leaf in below(field.name, field.type) if leaf != f"{c.ANONYMIZED_IMAGE}.bytes")

    def _groups(self) -> Iterator[list[dict[str, Any]]]:
        """Rows in the order of their ids, as many as make a row group."""
        group: list[dict[str, Any]] = []
        size, most = 0, min(GROUP_BYTES, self.max_shard_size)
        for bucket in sorted(self._writers):
            for row in sorted(self._read(bucket), key=lambda row: row[c.ROW_ID]):
                length = _length([row])
                if group and (len(group) >= GROUP_ROWS or size + length > most):
                    yield group
                    group, size = [], 0
                group.append(row)
                size += length
        if group:
            yield group

    def _read(self, bucket: int) -> list[dict[str, Any]]:
        import pyarrow as pa

        path = self.work / f"{bucket}.arrow"
        with pa.ipc.open_stream(str(path)) as reader:
            rows = [row for batch in reader for row in batch.to_pylist()]
        path.unlink()
        return rows


def _length(rows: Sequence[Mapping[str, Any]]) -> int:
    return sum(len(row[c.ANONYMIZED_IMAGE]["bytes"]) for row in rows)


def parse_size(size: str | int) -> int:
    """Bytes of "500MB", "1GB" or a number. Raises `SetupError` for anything else, or for less than a byte."""
    found = re.fullmatch(r"(\d+)\s*(B|KB|MB|GB|TB)?", str(size), re.IGNORECASE)
    if not found or int(found[1]) < 1:
        raise SetupError(f"max_shard_size={size!r} is no size; write it as 500MB or 1GB")
    return int(found[1]) * 1000 ** ["B", "KB", "MB", "GB", "TB"].index((found[2] or "B").upper())


def check_name(kind: str, name: str) -> str:
    """A config's or split's name that may stand in a path. Raises `SetupError` for one that may not."""
    from u2s_datasets.privacy.identifying_text import find_pii_pattern

    pattern = r"\w+(\.\w+)*" if kind == "split" else r"\w[\w.-]*"  # as `datasets` has it
    if (
        not re.fullmatch(pattern, name, re.ASCII)
        or find_pii_pattern(name)
        or (kind == "config_name" and name == "data")
    ):
        raise SetupError(f"{kind}={name!r} cannot stand in public paths; use a plain word such as 'train' or 'default'")
    return name
