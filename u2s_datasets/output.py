"""The output folder: what lies where, who may write, and what is already done.

    DIR/data/part-00000.parquet          public columns of publishable rows, in the order of `row_id`
    DIR/report.html, DIR/run.json        for anyone
    DIR/private/  (mode 0700)            rows/part-00000.parquet, secret, manifest.json, report.html

A shard is written whole into `private/tmp` and renamed, its private half first, and counts once the manifest
lists it; so a killed run leaves nothing half done, and a resumed one writes the same bytes.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from u2s_datasets import columns
from u2s_datasets.errors import SetupError

if TYPE_CHECKING:
    from datasets import Features

_OURS = {"data", "private", "run.json", "report.html"}
_ROW_GROUP = 64  # rows; the Hub's viewer reads whole row groups


class Output:
    """One run's folder, locked for as long as this object is open (use it in `with`).

    Args:
        root: the folder; made where it is not there.

    Raises:
        SetupError: it holds something else, or another run is writing into it.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.private = root, root / "private"
        self.data, self.rows, self.tmp = root / "data", self.private / "rows", self.private / "tmp"
        self._lock: int | None = None
        check_free(root)

    def __enter__(self) -> Output:
        self.root.mkdir(parents=True, exist_ok=True)
        self.private.mkdir(mode=0o700, exist_ok=True)
        self.private.chmod(0o700)
        self._lock = os.open(self.private / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise SetupError(
                f"another run is writing into {str(self.root)!r}; wait for it, or use another folder"
            ) from error
        shutil.rmtree(self.tmp, ignore_errors=True)
        for folder in (self.data, self.rows, self.tmp):
            folder.mkdir(exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.tmp, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)

    def secret(self, given: Path | None) -> bytes:
        """The key of the row ids: the given file's, or one made once and kept in `private/secret`.

        Raises:
            SetupError: the given file cannot be read or holds fewer than 16 bytes.
        """
        path = given or self.private / "secret"
        if given is None and not path.exists():
            self.write(path, secrets.token_hex(32).encode() + b"\n", mode=0o600)
        return read_secret(path)

    def manifest(self, binding: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The finished shards of a run with this binding (source, configuration, code, secret).

        Raises:
            SetupError: the folder belongs to a run with another binding, which is named.
        """
        path = self.private / "manifest.json"
        if not path.exists():
            self._bound = dict(binding)
            self._save([])
            return []
        known = json.loads(path.read_text())
        self._bound = {k: v for k, v in known.items() if k != "shards"}
        other = [k for k in binding if self._bound.get(k) != binding[k]]
        if other:
            raise SetupError(
                f"{str(self.root)!r} was made with another {' and '.join(other)}; "
                "repeat that call to resume it, or use another folder"
            )
        return known["shards"]

    def add_shard(self, done: list[dict[str, Any]], number: int, rows: Sequence[dict], kept: Mapping[str, Any]) -> None:
        """Write one shard's private and public rows, then list it."""
        name = f"part-{number:05d}.parquet"
        public = sorted((r for r in rows if r[columns.STATUS] != columns.WITHHELD), key=lambda r: r[columns.ROW_ID])
        hashes = {"private": self._write_table(self.rows / name, rows, columns.features(columns.PRIVATE))}
        if public:
            features = columns.features(columns.PUBLIC)
            features.update(kept)
            hashes["public"] = self._write_table(self.data / name, public, features)
        count = {s: sum(r[columns.STATUS] == s for r in rows) for s in columns.STATUSES}
        reasons = Counter(r[columns.REASON] for r in rows if r[columns.STATUS] == columns.WITHHELD)
        stopped = sum(r["kept_texts_withheld"] for r in rows)
        facts = {
            **count,
            "reasons": dict(sorted(reasons.items())),
            "kept_texts_withheld": stopped,
            "sha256": hashes,
        }
        done.append({"shard": number, "rows": len(rows), **facts})
        done.sort(key=lambda shard: shard["shard"])
        self._save(done)

    def _save(self, shards: Sequence[dict[str, Any]]) -> None:
        text = json.dumps({**self._bound, "shards": list(shards)}, indent=1, sort_keys=True, ensure_ascii=False)
        self.write(self.private / "manifest.json", text.encode("utf-8", "backslashreplace"))

    def _write_table(self, path: Path, rows: Sequence[dict], features: Features) -> str:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = features.arrow_schema
        arrays = [pa.array([row.get(field.name) for row in rows], type=field.type) for field in schema]
        temporary = self.tmp / path.name
        pq.write_table(pa.Table.from_arrays(arrays, schema=schema), temporary, row_group_size=_ROW_GROUP)
        digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
        temporary.replace(path)
        return digest

    def write(self, path: Path, data: bytes, mode: int = 0o644) -> None:
        """Write a file whole: under a temporary name in `private/tmp`, then renamed."""
        temporary = self.tmp / path.name
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            file.write(data)
        temporary.replace(path)


def check_free(root: Path) -> None:
    """Raise `SetupError` where a folder is no place to write a run: a file, or a folder of something else."""
    if root.exists() and not root.is_dir():
        raise SetupError(f"{str(root)!r} is a file; give a folder for the output")
    there = {p.name for p in root.iterdir()} if root.is_dir() else set()
    if there and ("private" not in there or there - _OURS):
        example = sorted(there - _OURS or there)[0]
        raise SetupError(f"{str(root)!r} holds something else ({example!r}); give a new or empty folder")


def read_secret(path: Path) -> bytes:
    """The key in a file. Raises `SetupError` where there is none or it is short."""
    try:
        key = path.read_bytes().strip()
    except OSError as error:
        raise SetupError(f"the secret {str(path)!r} cannot be read: {error.strerror}") from error
    if len(key) < 16:
        raise SetupError(
            f"the secret {str(path)!r} has {len(key)} bytes; give at least 16, such as 32 random hex digits"
        )
    return key


def row_id(secret: bytes, source: str) -> str:
    """The name under which a row is published: HMAC-SHA256 of its source, 32 hex digits."""
    return hmac.new(secret, source.encode("utf-8", "backslashreplace"), hashlib.sha256).hexdigest()[:32]
