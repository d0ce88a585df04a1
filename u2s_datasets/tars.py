"""WebDataset shards as a source: every image in a tar is a row, its other members are counted by kind."""

from __future__ import annotations

import hashlib
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from u2s_datasets import formats, images
from u2s_datasets.decoding import MAX_PIXELS
from u2s_datasets.errors import SetupError
from u2s_datasets.source import Item, Source

if TYPE_CHECKING:
    from PIL import Image

_LONGEST = 8 * MAX_PIXELS + 2**26  # bytes, as for files


class TarSource(Source):
    """Every image in tar files, in the order of their names and, in each, as they lie there.

    The headers are read once, to know where every image lies; reading a stretch reads its bytes alone. An image's
    name is `shard.tar/key.jpg`. Labels and captions beside the images are not read: nothing can be kept.

    Raises:
        SetupError: a file is no tar or compressed, none holds an image, or a column is to be kept.
    """

    kind = "tar"

    def __init__(self, files: Sequence[Path], location: str, keep: Sequence[str] = ()) -> None:
        if keep:
            raise SetupError(f"keep={list(keep)!r}: columns are kept from parquet, datasets and folders, not from tars")
        self.files, self.location, self.kept = list(files), location, {}
        self.rows: list[tuple[int, str, int, int]] = []  # file, member, offset, bytes
        skipped: Counter[str] = Counter()
        for number, path in enumerate(self.files):
            for member in _members(path):
                suffix = PurePosixPath(member.name).suffix.lower()
                if member.isreg() and suffix in formats.IMAGE_SUFFIXES:
                    self.rows.append((number, member.name, member.offset_data, member.size))
                elif not member.isdir():
                    skipped[_kind(member, suffix)] += 1
        self.skipped = dict(sorted(skipped.items()))
        if not self.rows:
            raise SetupError(f"{location!r} holds no image file; what it holds: {self.skipped or 'nothing'}")

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, start: int, stop: int) -> Iterator[Item]:
        """The images of a stretch."""
        for number, member, offset, size in self.rows[start:stop]:
            data = None
            if size <= _LONGEST:
                with self.files[number].open("rb") as file:
                    file.seek(offset)
                    data = file.read(size)
            # Without bytes there must be no path either: it would be looked for on this machine.
            path = None if data is None else PurePosixPath(_printable(member)).name
            yield Item(f"{self.files[number].name}/{_printable(member)}", {"bytes": data, "path": path})

    def kept_values(self, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Nothing is kept."""
        return ({} for _ in self.rows)

    def fingerprint(self) -> str:
        """Digest of every file's name, size and time of change (not its contents)."""
        facts = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in self.files]
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def original(self, source: str) -> Image.Image | None:
        """The upright original of this item's name."""
        for row, (number, member, _, _) in enumerate(self.rows):
            if source == f"{self.files[number].name}/{_printable(member)}":
                return images.decode(next(self.read(row, row + 1)).image).pixels
        return None


def _members(path: Path) -> Iterator[tarfile.TarInfo]:
    try:
        with tarfile.open(path, "r:") as tar:
            yield from tar
    except (tarfile.TarError, OSError, EOFError) as error:
        raise SetupError(f"{str(path)!r} cannot be read as an uncompressed tar: {error}") from error


def _printable(member: str) -> str:
    return member.encode("utf-8", "backslashreplace").decode()


def _kind(member: tarfile.TarInfo, suffix: str) -> str:
    if not member.isreg():
        return "link or special file"
    return f"{suffix} file" if suffix in {".json", ".txt", ".cls", ".npy"} else "other file"
