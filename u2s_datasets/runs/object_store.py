"""A run's output on an object store, through pyarrow's filesystems: the same files under the same names.

Every file is made whole on this machine, in a temporary folder, and then put there: its private half first, its
public half, then the manifest, so that a killed run leaves nothing half done. A resumed run reads the manifest from
the store and compares the digest of every listed shard. The report is written from all files, so this machine needs
room for the whole output. An object store has no locks: two runs at once into one folder are not noticed.
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.runs.layout import SHARD, STORED
from u2s_datasets.runs.manifest import Shard
from u2s_datasets.runs.writer import Output, check_free, not_empty
from u2s_datasets.sources.addresses import local_path, open_store, store_errors, strip_credentials

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
        self.found = self._list()
        foreign = sorted(name for name in self.found if not STORED.fullmatch(name))
        if not foreign and not {"private/manifest.json", "private/secret"} & self.found:
            foreign = sorted(self.found)
        if foreign:
            raise not_empty(self.address, foreign[0])
        super().__init__(Path(tempfile.gettempdir()) / f"u2s-{secrets.token_hex(16)}")

    def __enter__(self) -> StoreOutput:
        with ExitStack() as stack:
            stack.enter_context(_ended_by_sigterm())
            self.root.mkdir(mode=0o700)
            stack.callback(shutil.rmtree, self.root, ignore_errors=True)
            super().__enter__()
            stack.callback(super().__exit__)
            for name in {"private/secret", "private/manifest.json"} & self.found:
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

    def resume(self, binding: Mapping[str, Any]) -> list[Shard]:
        """The finished shards, as those of a folder on this machine."""
        with self._named():
            return super().resume(binding)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Nobody knows the temporary folder: what is wrong with it is wrong with the store's."""
        try:
            yield
        except SetupError as error:
            raise SetupError(str(error).replace(str(self.root), self.address)) from error

    def gather(self) -> None:
        """Fetch the shards of earlier runs."""
        for name in self.stored_shards():
            if not (self.root / name).exists():
                self._fetch(name)

    def keep(self, path: Path) -> None:
        """Put a file that was written whole into the store."""
        name = f"{self.base}/{path.relative_to(self.root)}"
        self.filesystem.create_dir(name.rpartition("/")[0], recursive=True)
        with path.open("rb") as file, self.filesystem.open_output_stream(name) as stream:
            while data := file.read(_CHUNK):
                stream.write(data)

    def remove(self, name: str) -> None:
        """Remove a file, here and in the store."""
        super().remove(name)
        if self._exists(name):
            self.filesystem.delete_file(f"{self.base}/{name}")

    def digest(self, name: str) -> str:
        """SHA-256 of a file in the store; "" if it is not there."""
        if not self._exists(name):
            return ""
        digest = hashlib.sha256()
        with self.filesystem.open_input_stream(f"{self.base}/{name}") as stream:
            while data := stream.read(_CHUNK):
                digest.update(data)
        return digest.hexdigest()

    def stored_shards(self) -> set[str]:
        """The files of shards in the store."""
        return {name for name in self._list() if SHARD.fullmatch(name.rpartition("/")[2])}

    def _list(self) -> set[str]:
        from pyarrow import fs

        selector = fs.FileSelector(self.base, allow_not_found=True, recursive=True)
        with store_errors(self.address, "listed"):
            infos = self.filesystem.get_file_info(selector)
        return {info.path.removeprefix(f"{self.base}/") for info in infos if info.is_file}

    def _exists(self, name: str) -> bool:
        from pyarrow import fs

        return self.filesystem.get_file_info(f"{self.base}/{name}").type != fs.FileType.NotFound

    def _fetch(self, name: str) -> None:
        path = self.root / name
        with self.filesystem.open_input_stream(f"{self.base}/{name}") as stream, path.open("wb") as file:
            path.chmod(0o600)
            while data := stream.read(_CHUNK):
                file.write(data)


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Let SIGTERM raise `SystemExit`, so that what is temporary is removed; a handler that is already set stays.

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
