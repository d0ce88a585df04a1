"""The output folder: what lies where, who may write, and what is already done.

    DIR/data/part-00000.parquet          public columns of publishable rows, in the order of `row_id`
    DIR/report.html, DIR/run.json        for anyone
    DIR/private/  (mode 0700)            rows/part-00000.parquet, secret, manifest.json, report.html,
                                         reviews.json and audit.json once somebody reviewed

A shard is written whole into `private/tmp` and renamed, its private half first, and counts once the manifest
lists it with the SHA-256 of its files; so a killed run leaves nothing half done, and a resumed one writes the same
bytes. A resumed run drops every shard whose files are gone or are not those that were written, and does it again.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from u2s_datasets import columns
from u2s_datasets.errors import SetupError, U2SError
from u2s_datasets.review.decisions import forget_approvals, without_rejected
from u2s_datasets.runs.binding import differences
from u2s_datasets.runs.transaction import roll_forward
from u2s_datasets.sources.addresses import is_inside, local_path, strip_credentials

_EVALUATION = ("eval.json", "eval.md", "private/eval.json", "private/eval.md", "private/eval.parquet")
WITHDRAWN = ("run.json", "report.html", "private/report.html", *_EVALUATION)
"""What speaks for a finished run, and goes before its rows change."""
_OURS = {"data", "private", "run.json", "report.html", "eval.json", "eval.md"}
_OUR_PRIVATE = {"lock", "secret", "rows", "tmp", "manifest.json", "report.html"} | {
    Path(name).name for name in _EVALUATION if name.startswith("private/")
}
_PART = re.compile(r"part-\d{5,}\.parquet")
_PRIVATE_MODE, _PUBLIC_MODE = 0o600, 0o644
_ROW_GROUP = 64  # rows; the Hub's viewer reads whole row groups


class Output:
    """One run's folder, locked for as long as this object is open (use it in `with`).

    Args:
        root: the folder; made where it is not there.

    Raises:
        SetupError: it holds something else, cannot be made, or another run is writing into it.
    """

    def __init__(self, root: Path) -> None:
        self.root, self.private = root, root / "private"
        self.data, self.rows, self.tmp = root / "data", self.private / "rows", self.private / "tmp"
        self._lock: int | None = None
        self._new_secret: bytes | None = None
        with _made(root):
            _check_place(root)
            check_free(root)

    def __enter__(self) -> Output:
        with _made(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            self.private.mkdir(mode=0o700, exist_ok=True)
            self.private.chmod(0o700)
            self._lock = os.open(self.private / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, _PRIVATE_MODE)
            os.fchmod(self._lock, _PRIVATE_MODE)
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
        roll_forward(self.root)
        return self

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.tmp, ignore_errors=True)
        if self._lock is not None:
            os.close(self._lock)

    def secret(self, given: Path | None) -> bytes:
        """The key of the row ids: the given file's, or the one kept in `private/secret`, or a new one.

        A new one is written by `manifest`, once that has found the folder to be this run's.

        Raises:
            SetupError: the given file cannot be read or holds fewer than 16 bytes.
        """
        path = given or self.private / "secret"
        if given is None and not path.exists():
            self._new_secret = secrets.token_hex(32).encode()
            return self._new_secret
        return read_secret(path)

    def manifest(self, binding: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The finished shards of a run with this binding (source, configuration, code, secret), all of them whole.

        Shards whose files are missing or changed are left out, and files that belong to no shard are removed.

        Raises:
            SetupError: the folder belongs to a run with another binding, which is named.
        """
        path = self.private / "manifest.json"
        known = json.loads(path.read_text("utf-8")) if path.exists() else {**binding, "shards": []}
        self._bound = {k: v for k, v in known.items() if k != "shards"}
        if other := differences(self._bound, binding):
            raise SetupError(f"{str(self.root)!r} was made with another {other}")
        if self._new_secret is not None:
            self.write(self.private / "secret", self._new_secret + b"\n", _PRIVATE_MODE)
        whole = [shard for shard in known["shards"] if self.is_whole(shard)]
        if len(whole) < len(known["shards"]) or not path.exists():
            self.withdraw()
            forget_approvals(self, {shard["shard"] for shard in known["shards"] if shard not in whole})
            self._save(whole)
        self._sweep(whole)
        return whole

    def withdraw(self) -> None:
        """Remove what speaks for a finished run, before its rows change."""
        for name in WITHDRAWN:
            (self.root / name).unlink(missing_ok=True)

    def gather(self) -> None:
        """Have every file of the run below `root`, to write the report from."""

    def publish(self) -> None:
        """Take the report where the run's files are."""

    def is_whole(self, shard: Mapping[str, Any]) -> bool:
        """Whether a shard's files are those that the manifest lists."""
        name = f"part-{shard['shard']:05d}.parquet"
        try:
            return all(_sha256(self._half(half) / name) == digest for half, digest in shard["sha256"].items())
        except OSError:
            return False

    def _sweep(self, shards: Sequence[Mapping[str, Any]]) -> None:
        """A kill between a rename and the manifest leaves a file that the shard's next turn may not replace."""
        for half in ("private", "public"):
            listed = {f"part-{s['shard']:05d}.parquet" for s in shards if half in s["sha256"]}
            for path in self._half(half).iterdir():
                if _PART.fullmatch(path.name) and path.name not in listed:
                    path.unlink()

    def _half(self, half: str) -> Path:
        return {"private": self.rows, "public": self.data}[half]

    def add_shard(self, done: list[dict[str, Any]], number: int, rows: Sequence[dict], kept: Mapping[str, Any]) -> None:
        """Write one shard's private and public rows, then list it. Rows that a reviewer rejected are withheld.

        Args:
            done: the finished shards; this one is added.
            number: the shard's.
            rows: the columns of `columns.PRIVATE` and `columns.PUBLIC`, and under "kept" those that the user keeps.
            kept: name -> feature of the kept columns.

        Raises:
            U2SError: a row has no known status; nothing is written.
        """
        if unknown := {r[columns.STATUS] for r in rows} - set(columns.STATUSES):
            raise U2SError(f"shard {number} has rows of status {unknown}; they are neither published nor counted")
        rows = without_rejected(self.root, rows)
        name = f"part-{number:05d}.parquet"
        public = [r for r in rows if r[columns.STATUS] in (columns.SAFE, columns.ANONYMIZED)]
        hashes = {"private": self.write_table(self.rows / name, rows, columns.PRIVATE, {})}
        if public:
            public = [{**r.get("kept", {}), **{n: r.get(n) for n in columns.PUBLIC}} for r in public]
            public.sort(key=lambda r: r[columns.ROW_ID])
            hashes["public"] = self.write_table(self.data / name, public, columns.PUBLIC, kept)
        else:
            (self.data / name).unlink(missing_ok=True)
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
        self.write(self.private / "manifest.json", text.encode("utf-8", "backslashreplace"), _PRIVATE_MODE)

    def write_table(self, path: Path, rows: Sequence[dict], names: Sequence[str], kept: Mapping[str, Any]) -> str:
        """Write these columns of rows, whole. Returns the file's SHA-256."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        features = columns.features(names)
        features.update({name: feature for name, feature in kept.items() if name not in features})
        schema = features.arrow_schema
        arrays = [pa.array([row.get(field.name) for row in rows], type=field.type) for field in schema]
        with self._whole(path, _PUBLIC_MODE if path.parent == self.data else _PRIVATE_MODE) as file:
            pq.write_table(pa.Table.from_arrays(arrays, schema=schema), file, row_group_size=_ROW_GROUP)
        return _sha256(path)

    def write(self, path: Path, data: bytes, mode: int = _PUBLIC_MODE) -> None:
        """Write a file whole: under a temporary name in `private/tmp`, then renamed."""
        with self._whole(path, mode) as file:
            file.write(data)

    @contextmanager
    def _whole(self, path: Path, mode: int) -> Iterator[IO[bytes]]:
        """A file to write that takes its name once all of it is on the disk; a private one has its mode from the
        first byte on, whatever the umask."""
        temporary = self.tmp / path.name
        with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
            if mode == _PRIVATE_MODE:
                os.fchmod(file.fileno(), mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # a power cut must not undo the rename of a shard that the manifest lists
        finally:
            os.close(folder)


@contextmanager
def _made(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _no_place(root, error.strerror or str(error)) from error


def _no_place(root: Path, why: str) -> SetupError:
    return SetupError(f"{str(root)!r} cannot be made: {why}; choose a folder you may write to")


def _check_place(root: Path) -> None:
    """Raise `SetupError` where a folder cannot be made or written to, as far as that shows without making it."""
    nearest = next(path for path in (root.absolute(), *root.absolute().parents) if os.access(path, os.F_OK))
    if nearest == root.absolute() and not nearest.is_dir():
        return  # `check_free` says so
    if not nearest.is_dir():
        raise _no_place(root, f"{str(nearest)!r} is no folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise _no_place(root, f"no right to write into {str(nearest)!r}")


def check_free(root: Path) -> None:
    """Raise `SetupError` where a folder is no place to write a run: a file, or a folder of something else.

    A folder that is not empty has to be one of ours: no name is foreign, and `private/` holds our manifest, or our
    lock and nothing foreign either. A link in place of a folder would let files be written elsewhere.
    """
    if root.exists() and not root.is_dir():
        raise SetupError(f"{str(root)!r} is a file; give a folder for the output")
    there = _names(root)
    foreign = sorted(there - _OURS) or sorted(there if "private" not in there else ())
    private = root / "private"
    for folder in (private, root / "data", private / "rows", private / "tmp"):
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            foreign.append(f"{folder.relative_to(root)}, which is no folder")
    if there and not foreign:
        foreign = [f"private/{name}" for name in _foreign_private(private, alone=there == {"private"})]
        for name in ("data", "private/rows"):
            foreign += [f"{name}/{f}" for f in sorted(_names(root / name)) if not _PART.fullmatch(f)]
    if foreign:
        raise SetupError(f"{str(root)!r} holds something else ({foreign[0]!r}); give a new or empty folder")


def _foreign_private(private: Path, alone: bool) -> list[str]:
    """What makes a folder `private/` somebody else's; one that is empty and alone was left by a kill at the start."""
    names = _names(private)
    if "manifest.json" in names:
        try:
            ours = {"shards", "secret", "source_content"} <= set(
                json.loads((private / "manifest.json").read_text("utf-8"))
            )
        except (OSError, ValueError, TypeError):
            ours = False
        return [] if ours else ["manifest.json"]
    foreign = sorted(names - _OUR_PRIVATE)
    return foreign if foreign or "lock" in names or (alone and not names) else [min(names, default="")]


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def check_apart(src: str | Path, out: str | Path) -> None:
    """Raise `SetupError` where the source and the output lie in each other: one would be read or changed as the
    other. Both may be addresses of a store."""
    source, output = local_path(src), local_path(out)
    if source is None and output is None:
        inside, around = is_inside(str(out), str(src)), is_inside(str(src), str(out))
    elif source is not None and output is not None:
        inside = source.is_dir() and output.resolve().is_relative_to(source.resolve())
        around = source.exists() and source.resolve().is_relative_to(output.resolve())
    else:
        return
    names = repr(strip_credentials(str(src))), repr(strip_credentials(str(out)))
    if inside:
        raise SetupError(f"the output {names[1]} lies inside the source {names[0]}; choose a folder beside it")
    if around:
        raise SetupError(f"the source {names[0]} lies inside the output {names[1]}; choose a folder beside it")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
