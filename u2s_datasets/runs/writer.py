"""The output folder: who may write, what is already done, and shards that a kill cannot leave half written.

A shard is written whole into `private/tmp` and renamed, its private half first, and counts once the manifest
lists it with the SHA-256 of its files; so a killed run leaves nothing half done, and a resumed one writes the same
bytes. A resumed run drops every shard whose files are gone or are not those that were written, and does it again.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
import secrets
import shutil
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from u2s_datasets import columns
from u2s_datasets.errors import SetupError
from u2s_datasets.runs import layout as names
from u2s_datasets.runs.binding import differences
from u2s_datasets.runs.decisions import read_decisions, withhold_rejected, without_approvals
from u2s_datasets.runs.files import ANEW, PRIVATE_MODE, PUBLIC_MODE, json_bytes, read_json, sha256, write_whole
from u2s_datasets.runs.identity import read_secret
from u2s_datasets.runs.layout import Layout
from u2s_datasets.runs.manifest import Shard, read_manifest, shards_of
from u2s_datasets.runs.seal import (
    BOUND,
    KEY,
    bound_files,
    changed_files,
    check_sealed,
    content_digest,
    file_digest,
    sealed,
)
from u2s_datasets.runs.shards import PUBLISHABLE, public_row, write_halves, write_parquet
from u2s_datasets.runs.transaction import Transaction, roll_forward
from u2s_datasets.sources.addresses import is_inside, local_path, strip_credentials


class Output(Layout):
    """One run's folder, locked for as long as this object is open (use it in `with`).

    Args:
        root: the folder; made if it is not there.

    Raises:
        SetupError: it holds something else, cannot be made, or another run is writing into it.
    """

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.tmp = self.private / "tmp"
        self.files: dict[str, str] | None = {}
        self._locked: int | None = None
        self._new_secret: bytes | None = None
        with _making(root):
            _check_writable(root)
            check_free(root)

    def __enter__(self) -> Output:
        with _making(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            self.private.mkdir(mode=0o700, exist_ok=True)
            self.private.chmod(0o700)
            self._locked = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, PRIVATE_MODE)
            os.fchmod(self._locked, PRIVATE_MODE)
        try:
            fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._locked)
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
        if self._locked is not None:
            os.close(self._locked)

    def secret(self, given: Path | None) -> bytes:
        """The key of the row ids: the given file's, or the one kept in `private/secret`, or a new one.

        A new one is written by `resume`, once that has found the folder to be this run's.

        Raises:
            SetupError: the given file cannot be read or holds fewer than 16 bytes.
        """
        path = given or self.private / "secret"
        if given is None and not path.exists():
            self._new_secret = secrets.token_hex(32).encode()
            return self._new_secret
        return read_secret(path)

    def resume(self, binding: Mapping[str, Any]) -> list[Shard]:
        """The finished shards of a run with this binding (source, configuration, code, secret), all of them whole.

        Shards whose files are missing or changed are left out, and files that belong to no shard are removed.

        Raises:
            SetupError: the folder belongs to a run with another binding, which is named; or its reviews are not those
                that were given, so that nobody knows what was rejected.
        """
        known = json.loads(self.manifest.read_text("utf-8")) if self.manifest.exists() else {**binding, "shards": []}
        self._bound = {name: value for name, value in known.items() if name not in ("shards", KEY)}
        if other := differences(self._bound, binding):
            raise SetupError(f"{str(self.root)!r} was made with another {other}")
        if self._new_secret is not None:
            self.write(self.private / "secret", self._new_secret + b"\n", PRIVATE_MODE)
        if self.manifest.exists():
            self.files = bound_files(known)
            check_sealed(self.root, known, but=set(BOUND) - {names.REVIEWS} | {"private/manifest.json"})
        listed = shards_of(known)
        whole = [shard for shard in listed if self.is_whole(shard)]
        lost = {*names.AUDITS, *names.EVALUATION} & set(changed_files(self.root, known))
        if len(whole) < len(listed) or lost or not self.manifest.exists():
            self.withdraw()
            self._forget({shard.number for shard in listed if shard not in whole}, whole, lost)
        self._sweep(whole)
        return whole

    def _forget(self, again: set[int], whole: Sequence[Shard], lost: set[str]) -> None:
        """List the whole shards alone. What was approved or audited in the others may be another image once they
        are made again."""
        before = read_decisions(self.root)
        after = without_approvals(before, again)
        audits = [name for name in names.AUDITS if again or name in lost]
        if after == before and not any((self.root / name).exists() for name in audits):
            self._bind(dict.fromkeys(audits, ""))
            self._save(whole)
            return
        change = Transaction(self.root)
        change.remove += audits
        self._bind(dict.fromkeys(audits, ""))
        if after != before:
            change.write(names.REVIEWS, json_bytes(after))
            self._bind({names.REVIEWS: content_digest(names.REVIEWS, after)})
        change.write("private/manifest.json", json_bytes(self._listed(whole)))
        change.commit()

    def withdraw(self) -> None:
        """Remove what vouches for a finished run, before its rows change."""
        for name in names.WITHDRAWN:
            self.remove(name)
        self._bind(dict.fromkeys(names.WITHDRAWN, ""))

    def vouch(self, shards: Sequence[Shard], facts: Mapping[str, Any]) -> None:
        """Write `run.json`. The manifest binds it first: a kill between the two leaves no finished run, or one whose
        facts say the same."""
        self._bind({"run.json": content_digest("run.json", facts)})
        self._save(shards)
        self.write(self.run, json_bytes(facts) + b"\n")

    def bind(self, *written: str) -> None:
        """Bind these files of a finished run as they lie there now, written by whoever holds the folder."""
        manifest = read_json(self.manifest, needs=frozenset({"shards"}), remedy=ANEW)
        self.files = bound_files(manifest)
        self._bind({name: file_digest(self.root, name) for name in written})
        self.write(self.manifest, json_bytes(sealed(manifest, self.files)), PRIVATE_MODE)

    def _bind(self, digests: Mapping[str, str]) -> None:
        """Bind files by their digests, or forget those with ""; nothing is bound in an output of an earlier version."""
        if self.files is not None:
            self.files = {name: digest for name, digest in {**self.files, **digests}.items() if digest}

    def gather(self) -> None:
        """Have every file of the run below `root`, to write the report from."""

    def is_whole(self, shard: Shard) -> bool:
        """Whether a shard's files are those that the manifest lists."""
        return all(
            self.digest(names.shard_place(half, shard.number)) == digest for half, digest in shard.sha256.items()
        )

    def _sweep(self, shards: Sequence[Shard]) -> None:
        """A kill between a rename and the manifest leaves a file that the shard's next turn may not replace."""
        listed = {names.shard_place(half, shard.number) for shard in shards for half in shard.sha256}
        for name in self.stored_shards() - listed:
            self.remove(name)

    # Where a file really lies: on this disk. An object store says otherwise.

    def keep(self, path: Path) -> None:
        """Take a file that was written whole to its final place."""

    def remove(self, name: str) -> None:
        """Remove a file, relative to the run's folder, if it is there."""
        (self.root / name).unlink(missing_ok=True)

    def digest(self, name: str) -> str:
        """SHA-256 of a file, relative to the run's folder; "" if it is not there or cannot be read."""
        try:
            return sha256(self.root / name)
        except OSError:
            return ""

    def stored_shards(self) -> set[str]:
        """The files of shards, relative to the run's folder, listed or not."""
        found = (f"{folder}/{path.name}" for folder in names.HALVES.values() for path in (self.root / folder).glob("*"))
        return {name for name in found if names.SHARD.fullmatch(name.rpartition("/")[2])}

    def add_shard(self, done: list[Shard], number: int, rows: Sequence[dict], kept: Mapping[str, Any]) -> None:
        """Write one shard's private and public rows, then list it. Rows that a reviewer rejected are withheld.

        Args:
            done: the finished shards; this one is added.
            number: the shard's.
            rows: the columns of `columns.PRIVATE` and `columns.PUBLIC`, and under "kept" those that the user keeps.
            kept: name -> feature of the kept columns.

        Raises:
            U2SError: a row has no known status; nothing is written.
        """
        given = rows
        rows = withhold_rejected(self.root, given)
        rejected = [
            public_row(before)
            for before, after in zip(given, rows, strict=True)
            if after is not before and before[columns.STATUS] in PUBLISHABLE
        ]
        emptied: Counter[str] = Counter()
        for row in rows:
            emptied.update(row["kept_emptied"])
        shard = Shard.of(number, rows, dict(sorted(emptied.items())), {})
        public = [public_row(row) for row in rows if row[columns.STATUS] in PUBLISHABLE]

        def write(half: str, half_rows: Sequence[Mapping[str, Any]], features: Any) -> str:
            return self.write_table(self.shard(half, number), half_rows, features)

        hashes = write_halves(write, rows, public, kept, rejected)
        for half in names.HALVES.keys() - hashes.keys():
            self.remove(names.shard_place(half, number))
        done.append(dataclasses.replace(shard, sha256=hashes))
        done.sort(key=lambda other: other.number)
        self._save(done)

    def _save(self, shards: Sequence[Shard]) -> None:
        self.write(self.manifest, json_bytes(self._listed(shards)), PRIVATE_MODE)

    def _listed(self, shards: Sequence[Shard]) -> dict[str, Any]:
        """The manifest with these shards."""
        return sealed({**self._bound, "shards": [shard.to_json() for shard in shards]}, self.files)

    def write_table(self, path: Path, rows: Sequence[Mapping[str, Any]], features: Any) -> str:
        """Write these columns of rows, whole. Returns the file's SHA-256."""
        mode = PUBLIC_MODE if path.parent == self.data else PRIVATE_MODE
        path.parent.mkdir(mode=0o700, exist_ok=True)  # few runs have rejected rows
        with write_whole(path, self.tmp, mode) as file:
            write_parquet(file, rows, features)
        self.keep(path)
        return sha256(path)

    def write(self, path: Path, data: bytes, mode: int = PUBLIC_MODE) -> None:
        """Write a file whole: under a temporary name in `private/tmp`, then renamed."""
        with write_whole(path, self.tmp, mode) as file:
            file.write(data)
        self.keep(path)


@contextmanager
def open_finished(folder: Path, but: Collection[str] = ()) -> Iterator[Output]:
    """The folder of a finished run, locked.

    Args:
        folder: of the run.
        but: bound files that may be anything, since they are written anew.

    Raises:
        SetupError: there is none, another writes into it, or a bound file is missing or was changed.
    """
    read_manifest(folder)  # before the lock, which would make a folder of what is none
    with Output(folder) as output:
        check_sealed(folder, read_manifest(folder), but)
        yield output


def finish_change(folder: Path) -> None:
    """Carry out a change that was decided and cut off, if there is one. Raises as `Output`."""
    if (folder / "private" / "next").exists():
        with Output(folder):
            pass


@contextmanager
def _making(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _unusable(root, error.strerror or str(error)) from error


def _unusable(root: Path, why: str) -> SetupError:
    return SetupError(f"cannot create the output folder {str(root)!r}: {why}; use a folder you may write to")


def _check_writable(root: Path) -> None:
    """Raise `SetupError` if a folder cannot be made or written to, as far as that shows without making it."""
    nearest = next(path for path in (root.absolute(), *root.absolute().parents) if os.access(path, os.F_OK))
    if nearest == root.absolute() and not nearest.is_dir():
        return  # `check_free` says so
    if not nearest.is_dir():
        raise _unusable(root, f"{str(nearest)!r} is not a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise _unusable(root, f"no permission to write into {str(nearest)!r}")


def check_free(root: Path) -> None:
    """Raise `SetupError` if a run may not be written here: this is a file, or a folder of something else.

    A folder that is not empty has to be one of ours: no name is foreign, and `private/` holds our manifest, or our
    lock and nothing foreign either. A link in place of a folder would let files be written elsewhere.
    """
    if root.exists() and not root.is_dir():
        raise SetupError(f"{str(root)!r} is a file; expected a folder for the output")
    found = _entries(root)
    foreign = sorted(found - names.TOP) or sorted(found if "private" not in found else ())
    places = Layout(root)
    for folder in (places.private, *(root / half for half in names.HALVES.values()), places.private / "tmp"):
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            foreign.append(f"{folder.relative_to(root)}, which is not a folder")
    if found and not foreign:
        foreign = [f"private/{name}" for name in _foreign_private(places, alone=found == {"private"})]
        for name in names.HALVES.values():
            foreign += [f"{name}/{f}" for f in sorted(_entries(root / name)) if not names.SHARD.fullmatch(f)]
    if foreign:
        raise not_empty(str(root), foreign[0])


def not_empty(place: str, found: str) -> SetupError:
    """The error for an output that holds something else."""
    return SetupError(f"output folder {place!r} is not empty (found {found!r}); use a new or empty folder")


def _foreign_private(places: Layout, alone: bool) -> list[str]:
    """What makes a folder `private/` somebody else's; one that is empty and alone was left by a kill at the start."""
    found = _entries(places.private)
    if "manifest.json" in found:
        try:
            ours = {"shards", "secret", "source_content"} <= set(json.loads(places.manifest.read_text("utf-8")))
        except (OSError, ValueError, TypeError):
            ours = False
        return [] if ours else ["manifest.json"]
    foreign = sorted(found - names.PRIVATE)
    return foreign if foreign or "lock" in found or (alone and not found) else [min(found, default="")]


def _entries(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def check_apart(src: str | Path, out: str | Path) -> None:
    """Raise `SetupError` if the source and the output lie in each other: one would be read or changed as the other.

    Both may be addresses of a store.
    """
    source, output = local_path(src), local_path(out)
    if source is None and output is None:
        inside, around = is_inside(str(out), str(src)), is_inside(str(src), str(out))
    elif source is not None and output is not None:
        inside = source.is_dir() and output.resolve().is_relative_to(source.resolve())
        around = source.exists() and source.resolve().is_relative_to(output.resolve())
    else:
        return
    source_name, output_name = repr(strip_credentials(str(src))), repr(strip_credentials(str(out)))
    if inside:
        raise SetupError(f"the output {output_name} lies inside the source {source_name}; use a folder beside it")
    if around:
        raise SetupError(f"the source {source_name} lies inside the output {output_name}; use a folder beside it")
