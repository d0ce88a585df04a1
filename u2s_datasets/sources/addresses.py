"""Addresses such as "s3://bucket/folder": which of them name this machine, and what of them may be told."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from u2s_datasets.errors import SetupError

_OPTIONS = {"endpoint_override", "region", "scheme"}
"""What may follow "?" and be told: which store it is. Whatever else stands there may be a key."""
_SAME = {"gcs": "gs", "abfss": "abfs"}


def local_path(address: str | Path) -> Path | None:
    """The path on this machine that is named, be it by "file:///…"; none for the address of a store.

    Raises:
        SetupError: nothing, which would be the current folder, or a "file://" that names no path.
    """
    text = str(address)
    if not text.strip():
        raise SetupError(f"{text!r} names no folder; give one, and look whether a variable is unset ('.' is this one)")
    scheme, mark, _ = text.partition("://")
    if not mark:
        return Path(text).expanduser()
    return Path(open_store(text)[1]) if scheme.lower() in ("file", "local") else None


def without_keys(address: str) -> str:
    """An address as it is stored, compared and printed: the same one whoever's keys it was given with."""
    if "://" not in address:
        return address
    scheme = address.partition("://")[0]
    try:
        parts = urlsplit(address)
        if parts.port is not None and scheme != "hdfs":
            raise ValueError
    except ValueError:  # a key with a slash in it ends what looks like the host, and would stand in the path
        return f"{scheme}://…"
    user, _, host = parts.netloc.rpartition("@")
    if scheme in ("abfs", "abfss") and (container := user.partition(":")[0]):
        host = f"{container}@{host}"
    options = sorted((n, v.rpartition("@")[2]) for n, v in parse_qsl(parts.query) if n in _OPTIONS)
    return urlunsplit((scheme, host, parts.path.rstrip("/"), urlencode(options, safe=":/"), ""))


def lies_in(inner: str, outer: str) -> bool:
    """Whether an address of a store is another one or below it.

    Endpoints are not compared: one store has many, and one may be in the environment.
    """
    (kind, path), (other, folder) = _place(inner), _place(outer)
    return kind == other and path.is_relative_to(folder)


def _place(address: str) -> tuple[str, PurePosixPath]:
    parts = urlsplit(without_keys(address))
    path = posixpath.normpath(f"/{parts.netloc}/{unquote(parts.path)}".replace("//", "/"))
    return _SAME.get(parts.scheme, parts.scheme), PurePosixPath(path)


def open_store(address: str, others: str = "s3:// or gs://") -> tuple[Any, str]:
    """(pyarrow filesystem, path in it) of an address; the store's own environment variables hold its keys.

    Args:
        address: such as "s3://bucket/folder".
        others: the kinds of address that the message of an unknown one offers.

    Raises:
        SetupError: an unknown kind of address, or one that cannot be opened.
    """
    from pyarrow import fs

    with explained(address, "opened", f"; give a path here, or {others}"):
        filesystem, path = fs.FileSystem.from_uri(address)
    return filesystem, path.rstrip("/")


@contextmanager
def explained(address: str, done: str, remedy: str = "") -> Iterator[None]:
    """Turn what a store's client raises into a `SetupError` that holds neither the address's keys nor the token."""
    from huggingface_hub.errors import HTTPError

    try:
        yield
    except SetupError:
        raise
    except (OSError, ValueError, NotImplementedError, HTTPError) as error:
        name, text = without_keys(address), str(error)
        said = re.sub(r"hf_\w{8,}", "hf_…", text.replace(address, name))
        for key in _keys(address):
            said = said.replace(key, "…")
        cause = error if said == text else None  # a traceback would tell the key after all
        raise SetupError(f"{name!r} cannot be {done}: {said}{remedy}") from cause


def _keys(address: str) -> Iterator[str]:
    """What may be a key in an address, in every way that it may be written; what is too short to be one is a word."""
    if without_keys(address).endswith("://…"):
        return
    parts = urlsplit(address)
    given = [value for name, value in parse_qsl(parts.query) if name not in _OPTIONS]
    for key in (*parts.netloc.rpartition("@")[0].split(":"), *given):
        if len(key) > 4:
            yield from (key, unquote(key), quote(key, safe=""))
