"""Parquet shards in the order of `row_id`, as the Hub's viewer likes them: small row groups and a page index.

Rows are spooled into buckets by their id, so that a set of any size is sorted with one bucket in memory. A row id is
a keyed digest: its order is a shuffle across the whole set, the same at every build.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.privacy.identifying_text import find_pii_pattern

# Most rows and bytes of a row group: the viewer reads whole ones, and gives up on large ones.
GROUP_ROWS, GROUP_BYTES = 100, 32 * 1024 * 1024
# Content-defined page boundaries as `datasets` 5.2 writes them: a new version uploads only what changed.
CHUNKING = {"min_chunk_size": 256 * 1024, "max_chunk_size": 1024 * 1024, "norm_level": 0}
_BUCKETS = 64
_SPOOLED = 64 * 1024 * 1024  # bytes in memory before they go to the disk
_IMAGE_BYTES = f"{c.ANONYMIZED_IMAGE}.bytes"


@dataclass(frozen=True)
class BuiltFile:
    """One file that would leave.

    Args:
        path: its name in the repository, with forward slashes.
        file: where it lies here.
        rows: how many rows it holds.
    """

    path: str
    file: Path
    rows: int


class Builder:
    """Takes rows in any order; `finish` writes them as shards.

    Args:
        folder: what will be uploaded; files take their place below it.
        work: a folder for the buckets, emptied at the end.
        config, split: neutral names, checked by `check_name`.
        features: the columns that leave, in this order.
        max_shard_size: bytes of images in a file, such as "500MB" or a number, which one row alone may exceed.

    Raises:
        SetupError: an invalid size.
    """

    def __init__(
        self, folder: Path, work: Path, config: str, split: str, features: Features, max_shard_size: str | int
    ) -> None:
        self.folder, self.work, self.split = folder, work, split
        self.target = folder / config_folder(config)
        self._schema, self.max_shard_size = features.arrow_schema, parse_size(max_shard_size)
        self.num_bytes = self.rows = 0
        self._waiting: dict[int, list[dict[str, Any]]] = {}
        self._waiting_bytes = 0
        self._spools: dict[int, Any] = {}

    def add(self, row: Mapping[str, Any]) -> None:
        """Take one row; its image leaves as bytes without a path."""
        image = {"bytes": row[c.ANONYMIZED_IMAGE]["bytes"], "path": None}
        bucket = int(row[c.ROW_ID][:2], 16) * _BUCKETS // 256
        self._waiting.setdefault(bucket, []).append({**row, c.ANONYMIZED_IMAGE: image})
        self._waiting_bytes += len(image["bytes"])
        if self._waiting_bytes > _SPOOLED:
            self._spool()

    def finish(self) -> list[BuiltFile]:
        """Write the shards. Returns them in order; empty if no row came."""
        self._spool()
        for spool in self._spools.values():
            spool.close()
        self.target.mkdir(parents=True, exist_ok=True)
        files: list[Path] = []
        rows: list[int] = []
        writer = None
        for group in self._groups():
            # The size on the disk counts, which is known only once the groups before are written.
            if writer is not None and files[-1].stat().st_size + _image_bytes(group) > self.max_shard_size:
                writer.close()
                writer = None
            if writer is None:
                files.append(self.target / f"{len(files)}.tmp")
                rows.append(0)
                writer = self._open_shard(files[-1])
            table = pa.Table.from_pylist(group, schema=self._schema)
            writer.write_table(table, row_group_size=len(group))
            self.num_bytes += table.nbytes
            rows[-1] += len(group)
        if writer is not None:
            writer.close()
        self.rows = sum(rows)
        names = [self.target / f"{self.split}-{n:05d}-of-{len(files):05d}.parquet" for n in range(len(files))]
        return [
            BuiltFile(name.relative_to(self.folder).as_posix(), file.rename(name), count)
            for file, name, count in zip(files, names, rows, strict=True)
        ]

    def _spool(self) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        for bucket, rows in self._waiting.items():
            if bucket not in self._spools:
                self._spools[bucket] = pa.ipc.new_stream(str(self.work / f"{bucket}.arrow"), self._schema)
            self._spools[bucket].write_table(pa.Table.from_pylist(rows, schema=self._schema))
        self._waiting, self._waiting_bytes = {}, 0

    def _groups(self) -> Iterator[list[dict[str, Any]]]:
        """Rows in the order of their ids, as many as make a row group."""
        group: list[dict[str, Any]] = []
        most = min(GROUP_BYTES, self.max_shard_size)
        for bucket in sorted(self._spools):
            path = self.work / f"{bucket}.arrow"
            with pa.ipc.open_stream(str(path)) as spool:
                rows = [row for batch in spool for row in batch.to_pylist()]
            path.unlink()
            for row in sorted(rows, key=lambda row: row[c.ROW_ID]):
                if group and (len(group) >= GROUP_ROWS or _image_bytes([*group, row]) > most):
                    yield group
                    group = []
                group.append(row)
        if group:
            yield group

    def _open_shard(self, path: Path) -> Any:
        empty = pa.BufferOutputStream()  # a file of no rows, for the paths of its columns
        pq.write_table(self._schema.empty_table(), empty)
        leaves = [leaf.path for leaf in pq.read_metadata(pa.BufferReader(empty.getvalue())).schema]
        return pq.ParquetWriter(
            path,
            self._schema,
            compression={leaf: "none" if leaf == _IMAGE_BYTES else "snappy" for leaf in leaves},
            use_dictionary=[name for name in self._schema.names if name != c.ANONYMIZED_IMAGE] or False,
            write_page_index=True,
            use_content_defined_chunking=CHUNKING,
        )


def _image_bytes(rows: Sequence[Mapping[str, Any]]) -> int:
    return sum(len(row[c.ANONYMIZED_IMAGE]["bytes"]) for row in rows)


def config_folder(config: str) -> str:
    """Where the files of a config lie in the repository."""
    return "data" if config == "default" else config


def folder_files(folder: Path) -> list[tuple[str, Path]]:
    """(name in the repository, file) of everything below a folder, in the order of names."""
    return sorted((p.relative_to(folder).as_posix(), p) for p in folder.rglob("*") if p.is_file())


def parse_size(size: str | int) -> int:
    """Bytes of "500MB", "1GB" or a number. Raises `SetupError` for anything else, or for less than a byte."""
    found = re.fullmatch(r"(\d+)\s*(B|KB|MB|GB|TB)?", str(size), re.IGNORECASE)
    if not found or int(found[1]) < 1:
        raise SetupError(f"invalid max_shard_size={size!r}; expected a size such as 500MB or 1GB")
    return int(found[1]) * 1000 ** ["B", "KB", "MB", "GB", "TB"].index((found[2] or "B").upper())


def check_name(kind: str, name: str) -> str:
    """A config's or split's name that may stand in a path. Raises `SetupError` for one that may not."""
    pattern = r"\w+(\.\w+)*" if kind == "split" else r"\w[\w.-]*"  # as `datasets` has it
    is_plain = re.fullmatch(pattern, name, re.ASCII) and not find_pii_pattern(name)
    if not is_plain or (kind == "config_name" and name == "data"):
        raise SetupError(
            f"{kind}={name!r} cannot stand in public paths; expected a plain word such as 'train' or 'default'"
        )
    return name
