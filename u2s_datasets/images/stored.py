"""The bytes of a stored image: bytes, a path, or a {bytes, path} as `datasets` keeps it."""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path
from typing import Any

from u2s_datasets.images.decoding import MAX_PIXELS

_TRANSIENT = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH}
"""Errors of a disk or a network that may be gone at the next try."""


def stored_size(image: Any) -> int:
    """How many bytes a stored image has, for dividing the work; 0 if it has none on this machine."""
    if isinstance(image, dict):
        image = image.get("bytes") or image.get("path")
    if isinstance(image, bytes):
        return len(image)
    with suppress(OSError, ValueError):  # a string may be too long for a path, or hold a null
        return Path(image).stat().st_size if isinstance(image, str) else 0
    return 0


def with_bytes(image: Any) -> Any:
    """A stored image with its file's bytes, for a worker on another machine.

    What is not a file, is empty or is too large to be read stays a path: decoding it fails there as it would here.

    Raises:
        OSError: the disk or the network failed, which another try may mend.
    """
    path = image.get("path") if isinstance(image, dict) and image.get("bytes") is None else image
    if not isinstance(path, str) or "://" in path:
        return image
    try:
        file = Path(path)
        if file.is_file() and 0 < file.stat().st_size <= 8 * MAX_PIXELS + 2**26:
            return {"bytes": file.read_bytes(), "path": path}
    except ValueError:  # a null in the string
        pass
    except OSError as error:  # a string too long for a path, or a file that nobody may read
        if error.errno in _TRANSIENT:
            raise
    return image
