"""A folder as a source: every image file below it is a row, every other file is counted by kind."""

from __future__ import annotations

import bisect
import hashlib
import mimetypes
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePath
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.images import formats
from u2s_datasets.sources.base import Item, Source, SourceRequest, walk_files
from u2s_datasets.sources.metadata import files_of_rows, read_metadata

_OTHER_SUFFIXES = formats.suffixes(
    "md yaml yml toml log ini jsonl parquet arrow npz pt db gz 7z rar xmp aae thm docx xlsx safetensors part tmp "
    "cls npy"
)


def open_folder(request: SourceRequest) -> FolderSource | None:
    """Any local folder, so other formats that lie in folders are asked first."""
    if request.path is None or not request.path.is_dir():
        return None
    request.refuse_split("folders of images")
    return FolderSource(request.path, request.address, request.keep)


class FolderSource(Source):
    """Every image file below a folder, in the order of its path; other files are counted by kind.

    Args:
        root: the folder.
        location: the folder as the user gave it.
        keep: "label" is the class folder; other columns come from metadata.csv or metadata.jsonl.

    Raises:
        SetupError: it holds no image file, a folder cannot be read, or there is no such column.
    """

    kind = "folder"

    def __init__(self, root: Path, location: str, keep: Sequence[str] = ()) -> None:
        self.root, self.location = root, location
        self.files: list[str] = []
        skipped: Counter[str] = Counter()
        others: list[str] = []
        for path in sorted(walk_files(root), key=os.fsencode):
            kind = skipped_kind(root / path)
            if kind is None:
                self.files.append(path)
            else:
                skipped[kind] += 1
                others.append(path)
        self.skipped = dict(sorted(skipped.items()))
        if not self.files:
            raise SetupError(f"{location!r} holds no image file; what it holds: {self.skipped or 'nothing'}")
        self._escaped = {escape_path(path): path for path in self.files if escape_path(path) != path}
        self.kept, self._values = _read_columns(root, self.files, others, keep)

    def __len__(self) -> int:
        return len(self.files)

    def read(self, start: int, stop: int) -> Iterator[Item]:
        """The files from number `start` up to `stop`; their bytes are read when they are decoded."""
        for path in self.files[start:stop]:
            yield Item(escape_path(path), str(self.root / path), {n: v.get(path) for n, v in self._values.items()})

    def kept_values(self, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """These kept columns of every file."""
        for path in self.files:
            yield {name: self._values[name].get(path) for name in names}

    def fingerprint(self) -> str:
        """Digest of every file's path, size and modification time (not its contents), and of the kept columns."""
        digest = hashlib.sha256(repr((self.kept, self._values)).encode("utf-8", "backslashreplace"))
        for path in self.files:
            stored = (self.root / path).stat()
            digest.update(os.fsencode(path) + f"\0{stored.st_size}\0{stored.st_mtime_ns}\0".encode())
        return digest.hexdigest()

    def find_row(self, source: str) -> int | None:
        """The number of the file of this name; None if it is not an item, or is gone."""
        path = self._escaped.get(source, source)
        row = bisect.bisect_left(self.files, os.fsencode(path), key=os.fsencode)
        found = self.files[row : row + 1] == [path] and escape_path(path) == source
        return row if found and (self.root / path).is_file() else None


def escape_path(path: str) -> str:
    """A file's path as valid Unicode, different for every path: backslashes and undecodable bytes are escaped."""
    return os.fsencode(path).replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def skipped_kind(path: Path) -> str | None:
    """None for an image, else the kind under which the file is counted.

    Raises:
        SetupError: the folder cannot be entered.
    """
    try:
        mode = path.lstat().st_mode
    except PermissionError as error:
        raise SetupError(
            f"the folder {str(path.parent)!r} cannot be entered, so its images would be left out; "
            "give yourself the right to enter it, or move it elsewhere"
        ) from error
    except FileNotFoundError:
        return "vanished file"
    if stat.S_ISLNK(mode):
        return "symbolic link"
    if not stat.S_ISREG(mode):
        return "special file"
    return kind_by_name(path, lambda: formats.looks_like_image(path))


def kind_by_name(path: PurePath, looks_like_image: Callable[[], bool]) -> str | None:
    """None for an image, else the kind under which a regular file is counted.

    Args:
        path: its path, or its name in an archive.
        looks_like_image: whether its first bytes are those of an image; asked if the name does not tell.
    """
    suffix = path.suffix.lower()
    if suffix in formats.IMAGE_SUFFIXES:
        return None
    if path.name.startswith("."):
        return "hidden file"
    if looks_like_image():
        return None
    if not suffix:
        return "file without a suffix"
    return f"{suffix} file" if suffix in _harmless_suffixes() else "other file"


@cache
def _harmless_suffixes() -> set[str]:
    """Suffixes that tell only the kind of a file; others may be names ("letter.to-dr-smith")."""
    return {*mimetypes.MimeTypes(()).types_map[True], *_OTHER_SUFFIXES}


def _read_columns(
    root: Path, files: Sequence[str], others: Sequence[str], keep: Sequence[str]
) -> tuple[Mapping[str, Any], dict[str, dict[str, Any]]]:
    """(column -> its type, column -> file -> value) of the columns that are kept of a folder."""
    if not keep:
        return {}, {}  # importing datasets takes a second, and the workers are started first
    from datasets import ClassLabel, Features

    features: Features = Features()
    values: dict[str, dict[str, Any]] = {}
    described = [name for name in keep if name != "label"]
    if "label" in keep:
        folders = {path: Path(path).parent.name for path in files}
        names = sorted({name for name in folders.values() if name})
        if len(names) < 2:
            raise SetupError(f"keep='label' needs at least two class folders; found {names or 'none'}")
        features["label"] = ClassLabel(names=names)
        values["label"] = {path: names.index(name) for path, name in folders.items() if name}
    if described:
        metadata, table = read_metadata(root)
        for name in described:
            if name not in table.column_names:
                raise SetupError(f"keep={name!r} is not in the folder's metadata; its columns are {table.column_names}")
        rows = files_of_rows(metadata, table["file_name"].to_pylist(), files, others)
        for name in described:
            features[name] = Features.from_arrow_schema(table.select([name]).schema)[name]
            values[name] = dict(zip(rows, table[name].to_pylist(), strict=True))
    return features, values
