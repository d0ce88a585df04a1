"""Parquet that is not on this machine: on an object store, or on the Hub, read in place through its filesystem."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.sources.addresses import explained, open_store, without_keys
from u2s_datasets.sources.table import ParquetSource, of_split


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
        """Digest of every file's path, size and time of change (not its contents); on the Hub its path has the
        commit."""
        return hashlib.sha256(repr((self.infos, list(self.kept), self.image_column)).encode()).hexdigest()


def remote_parquet(address: str, split: str | None, image_column: str | None, keep: Sequence[str]) -> RemoteParquet:
    """The parquet at an address such as "s3://bucket/folder" or "hf://datasets/ORG/NAME".

    Raises:
        SetupError: nothing there, nothing of that split, or no way to read it.
    """
    from pyarrow import fs

    if address.startswith("hf://"):
        filesystem, path = _open_hub(address)
        name = f"hf://{path}"
    else:
        filesystem, path = open_store(address, "s3://, gs:// or hf://")
        name = without_keys(address)
    with explained(address, "read"):
        info = filesystem.get_file_info(path)
        found = [info] if info.is_file else filesystem.get_file_info(fs.FileSelector(path, recursive=True))
        files = {f.path: f for f in found if f.is_file and f.path.endswith(".parquet")}
        if not files:
            raise SetupError(f"{name!r} holds no parquet file; images are read from parquet there, not file by file")
        chosen = of_split(sorted(files), split, name)
        return RemoteParquet(name, filesystem, [files[path] for path in chosen], image_column, keep)


def _open_hub(address: str) -> tuple[Any, str]:
    """(pyarrow filesystem, path in it) of an address on the Hub, at the commit where its revision is now.

    A push would otherwise change rows in the middle of a run. A bucket has no commits: there, as on any store, the
    files' times are compared.
    """
    from huggingface_hub import HfApi, HfFileSystem
    from pyarrow import fs

    with explained(
        address, "opened", "; give hf://datasets/ORG/NAME, and log in with `hf auth login` where it is private"
    ):
        hub = HfFileSystem(skip_instance_cache=True)  # one that was used before would not see a new repository
        asked: Any = hub.resolve_path(address)
        path = asked.unresolve()
        if hasattr(asked, "repo_id"):
            commit = HfApi().repo_info(asked.repo_id, repo_type=asked.repo_type, revision=asked.revision).sha
            kind = {"dataset": "datasets/", "space": "spaces/"}.get(asked.repo_type, "")
            path = f"{kind}{asked.repo_id}@{commit}/{asked.path_in_repo}"
    return fs.PyFileSystem(fs.FSSpecHandler(hub)), path.rstrip("/")
