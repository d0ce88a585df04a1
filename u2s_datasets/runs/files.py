"""Files of a run: written whole or not at all, and read with one line that names the file and what mends it."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from u2s_datasets.errors import SetupError

AGAIN = "repeat the same `u2s anonymize` command, which rebuilds missing and changed files"
ANEW = "restore a copy of it, or anonymize again into a new folder"
PRIVATE_MODE, PUBLIC_MODE = 0o600, 0o644


@contextmanager
def write_whole(path: Path, scratch: Path, mode: int) -> Iterator[IO[bytes]]:
    """A file to write that takes its name once all of it is on the disk.

    Args:
        path: the file.
        scratch: an existing folder on the same disk for the unfinished file.
        mode: its permissions; those of a private file hold from the first byte on, whatever the umask.
    """
    # Both halves of a report have one name and may be written at once: the mode tells their unfinished files apart.
    unfinished = scratch / f".{path.name}.{mode:o}"
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        if mode == PRIVATE_MODE:
            os.fchmod(file.fileno(), mode)
        yield file
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # a power cut must not undo the rename of a shard that the manifest lists
    finally:
        os.close(folder)


def json_bytes(value: Mapping[str, Any]) -> bytes:
    """A JSON file as runs write it: sorted, so that equal values are equal bytes."""
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False).encode("utf-8", "backslashreplace")


def sha256(path: Path) -> str:
    """The digest of a file, as hex digits; "" if there is no file."""
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def readable(path: Path, remedy: str = AGAIN) -> Iterator[None]:
    """Turn what pyarrow raises while it reads this file into a `SetupError`."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:  # which of them depends on where the file is damaged
        raise SetupError(f"cannot read {str(path)!r}; {remedy}") from error


def read_table(path: Path, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """The rows of a shard. Raises `SetupError` if it is damaged."""
    from pyarrow import parquet

    with readable(path):
        return parquet.read_table(path, columns=columns).to_pylist()


def read_json(path: Path, *, needs: frozenset[str] = frozenset(), remedy: str = AGAIN) -> dict[str, Any]:
    """An object that was written as JSON. Raises `SetupError` if it is damaged or lacks one of these keys."""
    try:
        found = json.loads(path.read_text("utf-8"))
        if not isinstance(found, dict) or not needs <= set(found):
            raise ValueError("it lacks " + ", ".join(sorted(needs)))
    except (OSError, ValueError) as error:
        raise SetupError(f"cannot read {str(path)!r}; {remedy}") from error
    return found
