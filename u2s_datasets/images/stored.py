"""The bytes of a stored image: bytes, a path, or a {bytes, path} as `datasets` keeps it."""

import errno
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from u2s_datasets.errors import UnreadableImage
from u2s_datasets.images.decoding import max_file_size

_TRANSIENT = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENETUNREACH}
"""Errors of a disk or a network that may be gone at the next try."""


def _bytes_and_path(image: Any) -> tuple[bytes | None, str | None]:
    """(bytes, path) of a stored image, each None if it has none; beside bytes, a path only tells the name."""
    data, path = (image.get("bytes"), image.get("path")) if isinstance(image, Mapping) else (image, image)
    return (
        bytes(data) if isinstance(data, (bytes, bytearray)) else None,
        str(path) if isinstance(path, (str, Path)) else None,
    )


def stored_bytes(image: Any) -> bytes | None:
    """The encoded bytes of a stored image, read from its file if need be; None if they are not on this machine."""
    data, path = _bytes_and_path(image)
    if data is None and path is not None and "://" not in path:
        with suppress(OSError, ValueError):  # no such file, or a name that no file can have
            return Path(path).read_bytes()
    return data


def pixel_size(image: Any) -> tuple[int, int] | None:
    """(width, height) of a stored image, from its header alone; None if it has no bytes, or no header that is read."""
    import io

    from PIL import Image

    data, _ = _bytes_and_path(image)
    if data is None:
        return None
    try:
        with Image.open(io.BytesIO(data)) as opened:
            return opened.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None


def stored_size(image: Any) -> int:
    """How many bytes a stored image has, for dividing the work; 0 if it has none on this machine."""
    data, path = _bytes_and_path(image)
    if data is None and path is not None:
        with suppress(OSError, ValueError):  # as above
            return Path(path).stat().st_size
    return len(data or b"")


def with_bytes(image: Any) -> Any:
    """A stored image with its file's bytes, for a worker on another machine.

    What is not a file, is empty or is too large to be read stays a path: decoding it fails there as it would here.

    Raises:
        OSError: the disk or the network failed, which another try may mend.
    """
    data, path = _bytes_and_path(image)
    if data is not None or path is None or "://" in path:
        return image
    try:
        file = Path(path)
        if file.is_file() and 0 < file.stat().st_size <= max_file_size():
            return {"bytes": file.read_bytes(), "path": path}
    except ValueError:  # a null in the string
        pass
    except OSError as error:  # a string too long for a path, or a file that nobody may read
        if error.errno in _TRANSIENT:
            raise
    return image


def fetch_remote(image: Any) -> Any:
    """A stored image with its bytes, if it is a remote path as streaming datasets have them; else as it is.

    Raises:
        UnreadableImage: it cannot be fetched; code "missing".
    """
    path = image.get("path") if isinstance(image, Mapping) and image.get("bytes") is None else None
    if not (isinstance(path, str) and "://" in path):
        return image
    from datasets.utils.file_utils import xopen

    try:
        with xopen(path, "rb") as file:
            return {"bytes": file.read(), "path": path}
    except Exception as error:  # a store's own library may be missing, or raise anything: this row has no image
        raise UnreadableImage(f"{path} could not be fetched: {error}", "missing") from error
