"""A folder as a source: every image file below it is a row, every other file is counted by kind."""

from __future__ import annotations

import bisect
import hashlib
import mimetypes
import os
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from u2s_datasets import images
from u2s_datasets.errors import SetupError
from u2s_datasets.images import formats
from u2s_datasets.privacy.kept_columns import folder_columns
from u2s_datasets.sources.base import Item, Source

if TYPE_CHECKING:
    from PIL import Image

_OTHER_SUFFIXES = {
    ".md",
    ".yaml",
    ".yml",
    ".toml",
    ".log",
    ".ini",
    ".jsonl",
    ".parquet",
    ".arrow",
    ".npz",
    ".pt",
    ".db",
}
_OTHER_SUFFIXES |= {".gz", ".7z", ".rar", ".xmp", ".aae", ".thm", ".docx", ".xlsx", ".safetensors", ".part", ".tmp"}


class FolderSource(Source):
    """Every image file below a folder, in the order of its path; other files are counted by kind."""

    kind = "folder"

    def __init__(self, root: Path, location: str, keep: Sequence[str] = ()) -> None:
        self.root, self.location = root, location
        self.files: list[str] = []
        skipped: Counter[str] = Counter()
        for path in sorted(walk(root), key=os.fsencode):
            kind = kind_of_no_image(root / path)
            if kind is None:
                self.files.append(path)
            else:
                skipped[kind] += 1
        self.skipped = dict(sorted(skipped.items()))
        if not self.files:
            raise SetupError(f"{location!r} holds no image file; what it holds: {self.skipped or 'nothing'}")
        self._paths = {printable(path): path for path in self.files if printable(path) != path}
        self.kept, self._values = folder_columns(root, self.files, keep)

    def __len__(self) -> int:
        return len(self.files)

    def read(self, start: int, stop: int) -> Iterator[Item]:
        """The files of a stretch; their bytes are read by whoever decodes them."""
        for path in self.files[start:stop]:
            yield Item(printable(path), str(self.root / path), {n: v.get(path) for n, v in self._values.items()})

    def kept_values(self, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """These kept columns of every file."""
        for path in self.files:
            yield {name: self._values[name].get(path) for name in names}

    def fingerprint(self) -> str:
        """Digest of every file's path, size and time of change (not its contents), and of the kept columns."""
        digest = hashlib.sha256(repr((self.kept, self._values)).encode("utf-8", "backslashreplace"))
        for path in self.files:
            stat = (self.root / path).stat()
            digest.update(os.fsencode(path) + f"\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
        return digest.hexdigest()

    def original(self, source: str) -> Image.Image | None:
        """The upright original of this item's name; none for a file that is no item."""
        path = self._paths.get(source, source)
        found = bisect.bisect_left(self.files, os.fsencode(path), key=os.fsencode)
        there = self.files[found : found + 1] == [path] and printable(path) == source
        return images.decode(self.root / path).pixels if there and (self.root / path).is_file() else None


def printable(path: str) -> str:
    """A file's path as valid Unicode, two paths never alike: backslashes and bytes that are no UTF-8 are escaped."""
    return os.fsencode(path).replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")


def walk(root: Path) -> Iterator[str]:
    """Every file below a folder, and every link to a folder, which is not followed."""

    def refuse(error: OSError) -> None:
        raise SetupError(
            f"the folder {str(error.filename)!r} cannot be read ({error.strerror}), so its images would be left out; "
            "give yourself the right to read it, or move it elsewhere"
        ) from error

    for folder, folders, names in os.walk(root, onerror=refuse):
        for name in (*names, *(f for f in folders if os.path.islink(os.path.join(folder, f)))):  # noqa: PTH114, PTH118
            yield os.path.relpath(os.path.join(folder, name), root)  # noqa: PTH118  keeps undecodable names


def kind_of_no_image(path: Path) -> str | None:
    """None for an image, else the word under which the file is counted."""
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
    suffix = path.suffix.lower()
    if suffix in formats.IMAGE_SUFFIXES:
        return None
    if path.name.startswith("."):
        return "hidden file"
    if formats.looks_like_image(path):
        return None
    if not suffix:
        return "file without a suffix"
    return f"{suffix} file" if suffix in _suffixes() else "other file"


@cache
def _suffixes() -> set[str]:
    """Suffixes that tell no more than a kind of file; others may be names ("letter.to-dr-smith")."""
    return {*mimetypes.MimeTypes(()).types_map[True], *_OTHER_SUFFIXES}
