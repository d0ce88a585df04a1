"""Parquet that is not on this machine: on an object store, or on the Hub, read in place through its filesystem."""

import dataclasses
from pathlib import Path
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.sources.addresses import open_store, store_errors, strip_credentials
from u2s_datasets.sources.base import SourceRequest
from u2s_datasets.sources.parquet import ParquetSource, files_of_split


def open_remote_parquet(request: SourceRequest) -> ParquetSource | None:
    """The parquet at an address such as "s3://bucket/folder" or "hf://datasets/ORG/NAME".

    Only the row groups that hold the rows of a range are fetched.

    Raises:
        SetupError: no parquet there, none of that split, or it cannot be read.
    """
    if request.path is not None:
        return None
    from pyarrow import fs

    address = request.address
    if address.startswith("hf://"):
        filesystem, path = _open_hub(address)
        request = dataclasses.replace(request, address=f"hf://{path}")
    else:
        filesystem, path = open_store(address, "s3://, gs:// or hf://")
        request = dataclasses.replace(request, address=strip_credentials(address))
    with store_errors(address, "read"):
        info = filesystem.get_file_info(path)
        found = [info] if info.is_file else filesystem.get_file_info(fs.FileSelector(path, recursive=True))
        files = {f.path: f for f in found if f.is_file and f.path.endswith(".parquet")}
        if not files:
            raise SetupError(
                f"{request.address!r} holds no parquet file; images are read from parquet there, not file by file"
            )
        states = [(files[n].path, files[n].size, files[n].mtime_ns) for n in files_of_split(sorted(files), request)]
        paths = [Path(path) for path, _, _ in states]
        return ParquetSource(paths, request.address, request.image_column, request.keep, filesystem, states)


def _open_hub(address: str) -> tuple[Any, str]:
    """(pyarrow filesystem, path in it) of an address on the Hub, at the commit where its revision is now.

    A push would otherwise change rows in the middle of a run. A bucket has no commits: there, as on any store, the
    files' modification times are compared.
    """
    from huggingface_hub import HfApi, HfFileSystem
    from pyarrow import fs

    remedy = "; give hf://datasets/ORG/NAME, and log in with `hf auth login` if it is private"
    with store_errors(address, "opened", remedy):
        hub = HfFileSystem(skip_instance_cache=True)  # one that was used before would not see a new repository
        asked: Any = hub.resolve_path(address)
        path = asked.unresolve()
        if hasattr(asked, "repo_id"):
            commit = HfApi().repo_info(asked.repo_id, repo_type=asked.repo_type, revision=asked.revision).sha
            kind = {"dataset": "datasets/", "space": "spaces/"}.get(asked.repo_type, "")
            path = f"{kind}{asked.repo_id}@{commit}/{asked.path_in_repo}"
    return fs.PyFileSystem(fs.FSSpecHandler(hub)), path.rstrip("/")
