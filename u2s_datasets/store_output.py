"""A run's output on an object store, through pyarrow's filesystems: the same files under the same names.

Every file is made whole on this machine, in a temporary folder, and then put there: its private half first, its
public half, then the manifest, so that a killed run leaves nothing half done. A resumed run reads the manifest from
the store and compares the digest of every listed shard. The report is written from all files, so this machine needs
room for the whole output. An object store has no locks: two runs at once into one folder are not noticed.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.output import WITHDRAWN, Output
from u2s_datasets.remote import open_filesystem

_OURS = re.compile(
    r"(data|private/rows)/part-\d{5,}\.parquet|run\.json|(private/)?(report\.html|eval\.(json|md|parquet))"
    r"|private/(secret|manifest\.json)"
)
_CHUNK = 2**20


def output_at(out: str | Path) -> Output:
    """The output at a path on this machine or at the address of an object store.

    Raises:
        SetupError: it holds something else.
    """
    return StoreOutput(str(out)) if "://" in str(out) else Output(Path(out).expanduser())


class StoreOutput(Output):
    """One run's folder on an object store (use it in `with`).

    Args:
        address: such as "s3://bucket/folder".

    Raises:
        SetupError: it cannot be opened, or holds something else.
    """

    def __init__(self, address: str) -> None:
        self.filesystem, self.base = open_filesystem(address)
        self.there = self._listed()
        foreign = sorted(name for name in self.there if not _OURS.fullmatch(name))
        if not foreign and not {"private/manifest.json", "private/secret"} & self.there:
            foreign = sorted(self.there)
        if foreign:
            raise SetupError(f"{address!r} holds something else ({foreign[0]!r}); give a new or empty folder")
        super().__init__(Path(tempfile.mkdtemp(prefix="u2s-")))

    def __enter__(self) -> StoreOutput:
        super().__enter__()
        for name in {"private/secret", "private/manifest.json"} & self.there:
            self._fetch(name)
        return self

    def __exit__(self, *arguments: object) -> None:
        super().__exit__(*arguments)
        shutil.rmtree(self.root, ignore_errors=True)

    def write(self, path: Path, data: bytes, mode: int = 0o644) -> None:
        """Write a file whole, here and there."""
        super().write(path, data, mode)
        self._put(path)

    def withdraw(self) -> None:
        """Remove what speaks for a finished run, here and there."""
        super().withdraw()
        for name in WITHDRAWN:
            self._remove(name)

    def gather(self) -> None:
        """Fetch the shards of earlier runs."""
        for name in self._listed():
            if name.endswith(".parquet") and not (self.root / name).exists():
                self._fetch(name)

    def publish(self) -> None:
        """Put the reports there."""
        for path in (self.private / "report.html", self.root / "report.html"):
            self._put(path)

    def write_table(self, path: Path, rows: Sequence[dict], names: Sequence[str], kept: Mapping[str, Any]) -> str:
        digest = super().write_table(path, rows, names, kept)
        self._put(path)
        return digest

    def is_whole(self, shard: Mapping[str, Any]) -> bool:
        name = f"part-{shard['shard']:05d}.parquet"
        return all(
            self._digest(str((self._half(half) / name).relative_to(self.root))) == digest
            for half, digest in shard["sha256"].items()
        )

    def _sweep(self, shards: Sequence[Mapping[str, Any]]) -> None:
        halves = {half: self._half(half).relative_to(self.root) for half in ("private", "public")}
        listed = {str(halves[h] / f"part-{s['shard']:05d}.parquet") for s in shards for h in s["sha256"]}
        for name in self._listed():
            if name.endswith(".parquet") and name not in listed:
                self._remove(name)

    def _listed(self) -> set[str]:
        from pyarrow import fs

        selector = fs.FileSelector(self.base, allow_not_found=True, recursive=True)
        try:
            infos = self.filesystem.get_file_info(selector)
        except OSError as error:
            raise SetupError(f"the folder {self.base!r} of the store cannot be listed: {error}") from error
        return {info.path.removeprefix(f"{self.base}/") for info in infos if info.is_file}

    def _put(self, path: Path) -> None:
        name = f"{self.base}/{path.relative_to(self.root)}"
        self.filesystem.create_dir(name.rpartition("/")[0], recursive=True)
        with path.open("rb") as file, self.filesystem.open_output_stream(name) as stream:
            while data := file.read(_CHUNK):
                stream.write(data)

    def _fetch(self, name: str) -> None:
        path = self.root / name
        with self.filesystem.open_input_stream(f"{self.base}/{name}") as stream, path.open("wb") as file:
            path.chmod(0o600)
            while data := stream.read(_CHUNK):
                file.write(data)

    def _remove(self, name: str) -> None:
        from pyarrow import fs

        if self.filesystem.get_file_info(f"{self.base}/{name}").type != fs.FileType.NotFound:
            self.filesystem.delete_file(f"{self.base}/{name}")

    def _digest(self, name: str) -> str | None:
        from pyarrow import fs

        if self.filesystem.get_file_info(f"{self.base}/{name}").type == fs.FileType.NotFound:
            return None
        digest = hashlib.sha256()
        with self.filesystem.open_input_stream(f"{self.base}/{name}") as stream:
            while data := stream.read(_CHUNK):
                digest.update(data)
        return digest.hexdigest()
