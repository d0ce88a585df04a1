"""The names under which rows are published: keyed, so that nobody without the key can tell a source by its row."""

import hashlib
import hmac
from pathlib import Path

from u2s_datasets.errors import SetupError


def read_secret(path: Path) -> bytes:
    """The key of the row ids.

    Raises:
        SetupError: the file cannot be read, or its key has fewer than 16 bytes.
    """
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise SetupError(f"cannot read the secret {str(path)!r}: {error.strerror}") from error
    if len(key) < 16:
        raise SetupError(
            f"the secret {str(path)!r} has {len(key)} bytes; expected at least 16, such as 32 random hex digits"
        )
    return key


def row_id(secret: bytes, source: str) -> str:
    """The name under which a row is published: HMAC-SHA256 of its source, 32 hex digits."""
    return hmac.new(secret, source.encode("utf-8", "backslashreplace"), hashlib.sha256).hexdigest()[:32]
