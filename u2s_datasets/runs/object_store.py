"""A run's output on an object store, through pyarrow's filesystems: the same files under the same names.

Every file is made whole on this machine, in a temporary folder, and then put there: its private half first, its
public half, then the manifest, so that a killed run leaves nothing half done. A resumed run reads the manifest from
the store and compares the digest of every listed shard. The report is written from all files, so this machine needs
room for the whole output. An object store has no locks: two runs at once into one folder are not noticed.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.runs.writer import WITHDRAWN, Output, check_free
from u2s_datasets.sources.addresses import local_path, open_store, store_errors, strip_credentials

_OURS = re.compile(
    r"(data|private/rows)/part-\d{5,}\.parquet|run\.json|(private/)?(report\.html|eval\.(json|md|parquet))"
    r"|private/(secret|manifest\.json)"
)
_CHUNK = 2**20


def output_at(out: str | Path) -> Output:
    """The output at a path on this machine or at the address of an object store.

    Raises:
        SetupError: it holds something else, or would publish the private half.
    """
    if str(out).lower().startswith("hf://"):
        raise SetupError(
            f"{str(out)!r}: an output holds a key and originals, and is never written to the Hub; "
            "give a folder, then publish its safe rows with `u2s push DIR ORG/NAME`"
        )
    path = local_path(out)
    return StoreOutput(str(out)) if path is None else Output(path)


class StoreOutput(Output):
    """One run's folder on an object store (use it in `with`).

    While it is open there is a copy in a temporary folder of this machine that nobody else may read. It goes with
    every end that Python sees, SIGTERM among them. `kill -9` leaves it: a folder `u2s-…` with the key and private
    rows, to be removed by hand.

    Args:
        address: such as "s3://bucket/folder".

    Raises:
        SetupError: it cannot be opened, or holds something else.
    """

    def __init__(self, address: str) -> None:
        self.address = strip_credentials(address)
        self.filesystem, self.base = open_store(address)
        self.there = self._listed()
        foreign = sorted(name for name in self.there if not _OURS.fullmatch(name))
        if not foreign and not {"private/manifest.json", "private/secret"} & self.there:
            foreign = sorted(self.there)
        if foreign:
            raise SetupError(f"{self.address!r} holds something else ({foreign[0]!r}); give a new or empty folder")
        super().__init__(Path(tempfile.gettempdir()) / f"u2s-{secrets.token_hex(16)}")

    def __enter__(self) -> StoreOutput:
        with ExitStack() as stack:
            stack.enter_context(_ended_by_sigterm())
            self.root.mkdir(mode=0o700)
            stack.callback(shutil.rmtree, self.root, ignore_errors=True)
            super().__enter__()
            stack.callback(super().__exit__)
            for name in {"private/secret", "private/manifest.json"} & self.there:
                self._fetch(name)
            with self._named():
                check_free(self.root)
            self._opened = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def secret(self, given: Path | None) -> bytes:
        """The key of the row ids, as that of a folder on this machine."""
        with self._named():
            return super().secret(given)

    def manifest(self, binding: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The finished shards, as those of a folder on this machine."""
        with self._named():
            return super().manifest(binding)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Nobody knows the temporary folder: what is wrong with it is wrong with the store's."""
        try:
            yield
        except SetupError as error:
            raise SetupError(str(error).replace(str(self.root), self.address)) from error

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
        with store_errors(self.address, "listed"):
            infos = self.filesystem.get_file_info(selector)
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


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM raise `SystemExit`, so that what is temporary is removed; whoever handles it already goes on to.

    Only the main thread may say what a signal does.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(*_: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a second one must not stop the removal
        raise SystemExit(128 + signal.SIGTERM)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
