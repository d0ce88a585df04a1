"""Files of a finished run that cannot be read any more: one line that names the file and what mends it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from u2s_datasets.errors import SetupError

AGAIN = "run the same `u2s anonymize` again, which makes missing and changed files anew"
ANEW = "put back a copy of it, or anonymize again into a new folder"


@contextmanager
def readable(path: Path, remedy: str = AGAIN) -> Iterator[None]:
    """Turn what pyarrow raises while it reads this file into a `SetupError`."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError) as error:  # which of them depends on where the file is damaged
        raise SetupError(f"{str(path)!r} cannot be read; {remedy}") from error


def read_table(path: Path, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """The rows of a shard. Raises `SetupError` where it is damaged."""
    from pyarrow import parquet

    with readable(path):
        return parquet.read_table(path, columns=columns).to_pylist()


def read_json(path: Path, *, needs: frozenset[str] = frozenset(), remedy: str = AGAIN) -> dict[str, Any]:
    """An object that was written as JSON. Raises `SetupError` where it is damaged or lacks one of these keys."""
    try:
        found = json.loads(path.read_text("utf-8"))
        if not isinstance(found, dict) or not needs <= set(found):
            raise ValueError("it lacks " + ", ".join(sorted(needs)))
    except (OSError, ValueError) as error:
        raise SetupError(f"{str(path)!r} cannot be read; {remedy}") from error
    return found
