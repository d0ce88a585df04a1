"""Addresses such as "s3://bucket/folder": which of them name this machine, and what of them may be printed."""

import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from u2s_datasets.errors import SetupError

_PUBLIC_OPTIONS = {"endpoint_override", "region", "scheme"}
"""The options after "?" that say which store it is and may be printed. Any other may be a key."""
_ALIASES = {"gcs": "gs", "abfss": "abfs"}


def local_path(address: str | Path) -> Path | None:
    """The path on this machine that an address names, "file:///…" included; None for the address of a store.

    Raises:
        SetupError: an empty address, which would be the current folder, or a "file://" without a path.
    """
    text = str(address)
    if not text.strip():
        raise SetupError(f"{text!r} names no folder; give one, and look whether a variable is unset ('.' is this one)")
    scheme, separator, _ = text.partition("://")
    if not separator:
        return Path(text).expanduser()
    return Path(open_store(text)[1]) if scheme.lower() in ("file", "local") else None


def strip_credentials(address: str) -> str:
    """An address as it is stored, compared and printed: the same one whoever's keys it was given with."""
    scheme, separator, _ = address.partition("://")
    if not separator:
        return address
    try:
        parts = urlsplit(address)
        if parts.port is not None and scheme != "hdfs":
            raise ValueError
    except ValueError:  # a key with a slash in it ends what looks like the host, and would stand in the path
        return f"{scheme}://…"
    user, _, host = parts.netloc.rpartition("@")
    if scheme in ("abfs", "abfss") and (container := user.partition(":")[0]):
        host = f"{container}@{host}"
    options = sorted((n, v.rpartition("@")[2]) for n, v in parse_qsl(parts.query) if n in _PUBLIC_OPTIONS)
    return urlunsplit((scheme, host, parts.path.rstrip("/"), urlencode(options, safe=":/"), ""))


def is_inside(inner: str, outer: str) -> bool:
    """Whether an address of a store is another one or below it.

    Endpoints are not compared: one store has many, and one may be in the environment.
    """
    paths = []
    for address in (inner, outer):
        parts = urlsplit(strip_credentials(address))
        path = posixpath.normpath(f"/{parts.netloc}/{unquote(parts.path)}".replace("//", "/"))
        paths.append(PurePosixPath(_ALIASES.get(parts.scheme, parts.scheme) + path))
    return paths[0].is_relative_to(paths[1])


def open_store(address: str, others: str = "s3:// or gs://") -> tuple[Any, str]:
    """(pyarrow filesystem, path in it) of an address; the keys are in the store's own environment variables.

    Args:
        address: such as "s3://bucket/folder".
        others: the kinds of address that the message of an unknown one offers.

    Raises:
        SetupError: an unknown kind of address, or one that cannot be opened.
    """
    from pyarrow import fs

    with store_errors(address, "opened", f"; give a path here, or {others}"):
        filesystem, path = fs.FileSystem.from_uri(address)
    return filesystem, path.rstrip("/")


@contextmanager
def store_errors(address: str, done: str, remedy: str = "") -> Iterator[None]:
    """Turn what a store's client raises into a `SetupError` without the address's keys or the Hub's token.

    Args:
        address: may hold keys.
        done: what failed, such as "read".
        remedy: what to do about it, for the end of the message.
    """
    from huggingface_hub.errors import HTTPError

    try:
        yield
    except SetupError:
        raise
    except (OSError, ValueError, NotImplementedError, HTTPError) as error:
        name, original = strip_credentials(address), str(error)
        message = re.sub(r"hf_\w{8,}", "hf_…", original.replace(address, name))
        for key in _keys(address):
            message = message.replace(key, "…")
        cause = error if message == original else None  # a traceback would print the key after all
        raise SetupError(f"{name!r} cannot be {done}: {message}{remedy}") from cause


def _keys(address: str) -> Iterator[str]:
    """What may be a key in an address, in every way of writing it; up to four letters are a word."""
    if strip_credentials(address).endswith("://…"):
        return
    parts = urlsplit(address)
    given = [value for name, value in parse_qsl(parts.query) if name not in _PUBLIC_OPTIONS]
    for key in (*parts.netloc.rpartition("@")[0].split(":"), *given):
        if len(key) > 4:
            yield from (key, unquote(key), quote(key, safe=""))
