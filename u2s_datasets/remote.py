"""Parquet that is not on this machine: on an object store, or on the Hub, read in place through its filesystem."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.tables import ParquetSource


class RemoteParquet(ParquetSource):
    """Parquet files below an address; only the row groups that a stretch needs are fetched.

    Images are stored in the rows: a row that names a file has no image, as that file is somebody else's.
    """

    def __init__(
        self, address: str, filesystem: Any, infos: Sequence[Any], image_column: str | None, keep: Sequence[str]
    ) -> None:
        self.infos = [(info.path, info.size, info.mtime_ns) for info in infos]
        super().__init__([Path(path) for path, _, _ in self.infos], address, image_column, keep, filesystem)

    def folders(self, path: str) -> list[Path]:
        """None."""
        return []

    def fingerprint(self) -> str:
        """Digest of every file's path, size and time of change (not its contents)."""
        return hashlib.sha256(repr((self.infos, list(self.kept), self.image_column)).encode()).hexdigest()


def remote_parquet(address: str, image_column: str | None, keep: Sequence[str]) -> RemoteParquet:
    """The parquet at an address such as "s3://bucket/folder" or "hf://datasets/ORG/NAME".

    Raises:
        SetupError: nothing there, or no way to read it.
    """
    from pyarrow import fs

    filesystem, path = open_filesystem(address)
    try:
        info = filesystem.get_file_info(path)
        found = [info] if info.is_file else filesystem.get_file_info(fs.FileSelector(path, recursive=True))
    except OSError as error:
        raise SetupError(f"{address!r} cannot be read: {error}") from error
    files = sorted((f for f in found if f.is_file and f.path.endswith(".parquet")), key=lambda f: f.path)
    if not files:
        raise SetupError(f"{address!r} holds no parquet file; images are read from parquet there, not file by file")
    return RemoteParquet(address, filesystem, files, image_column, keep)


def open_filesystem(address: str) -> tuple[Any, str]:
    """(pyarrow filesystem, path in it) of an address; the store's own environment variables hold its keys.

    Raises:
        SetupError: an unknown kind of address, or one that cannot be opened.
    """
    from pyarrow import fs

    try:
        if address.startswith("hf://"):
            from huggingface_hub import HfFileSystem

            return fs.PyFileSystem(fs.FSSpecHandler(HfFileSystem())), address.removeprefix("hf://").rstrip("/")
        filesystem, path = fs.FileSystem.from_uri(address)
    except (OSError, ValueError, NotImplementedError) as error:
        raise SetupError(
            f"{address!r} cannot be opened: {error}; give a path here, or s3://, gs:// or hf://"
        ) from error
    return filesystem, path.rstrip("/")
