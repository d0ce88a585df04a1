"""WebDataset shards as a source: every image in a tar is a row, its other members are counted by kind."""

from __future__ import annotations

import hashlib
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from u2s_datasets import images
from u2s_datasets.errors import SetupError
from u2s_datasets.images import formats
from u2s_datasets.images.decoding import MAX_PIXELS
from u2s_datasets.sources.base import Item, Source
from u2s_datasets.sources.folder import printable

if TYPE_CHECKING:
    from PIL import Image

_LONGEST = 8 * MAX_PIXELS + 2**26  # bytes, as for files


class TarSource(Source):
    """Every image in tar files, in the order of their names and, in each, as they lie there.

    The headers are read once, to know where every image lies; reading a stretch reads its bytes alone. An image's
    name is `shard.tar/key.jpg`, the tar's path below the source's folder and the member's name; `#2` follows where a
    tar holds that name a second time. Labels and captions beside the images are not read: nothing can be kept.

    Raises:
        SetupError: a file is no tar or compressed, none holds an image, or a column is to be kept.
    """

    kind = "tar"

    def __init__(self, files: Sequence[Path], location: str, keep: Sequence[str] = ()) -> None:
        if keep:
            raise SetupError(f"keep={list(keep)!r}: columns are kept from parquet, datasets and folders, not from tars")
        self.files, self.location, self.kept = list(files), location, {}
        self.paths = [_below(path, Path(location).expanduser()) for path in self.files]
        self.rows: list[tuple[int, str, int, int, int]] = []  # file, member, its how many-th, offset, bytes
        skipped: Counter[str] = Counter()
        for number, path in enumerate(self.files):
            seen: Counter[str] = Counter()
            for member in _members(path):
                suffix = PurePosixPath(member.name).suffix.lower()
                if member.isreg() and suffix in formats.IMAGE_SUFFIXES:
                    seen[member.name] += 1
                    self.rows.append((number, member.name, seen[member.name], member.offset_data, member.size))
                elif not member.isdir():
                    skipped[_kind(member, suffix)] += 1
        self.skipped = dict(sorted(skipped.items()))
        if not self.rows:
            raise SetupError(f"{location!r} holds no image file; what it holds: {self.skipped or 'nothing'}")

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, start: int, stop: int) -> Iterator[Item]:
        """The images of a stretch."""
        for number, member, which, offset, size in self.rows[start:stop]:
            data = None
            if size <= _LONGEST:
                with self.files[number].open("rb") as file:
                    file.seek(offset)
                    data = file.read(size)
            # Without bytes there must be no path either: it would be looked for on this machine.
            path = None if data is None else PurePosixPath(printable(member)).name
            yield Item(self._name(number, member, which), {"bytes": data, "path": path})

    def _name(self, number: int, member: str, which: int) -> str:
        """An item's name, of one item alone: a member whose name ended in "#2" would be no image."""
        return f"{printable(self.paths[number])}/{printable(member)}" + (f"#{which}" if which > 1 else "")

    def kept_values(self, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Nothing is kept."""
        return ({} for _ in self.rows)

    def fingerprint(self) -> str:
        """Digest of every file's path, size and time of change (not its contents)."""
        facts = [(p, f.stat().st_size, f.stat().st_mtime_ns) for p, f in zip(self.paths, self.files, strict=True)]
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def original(self, source: str) -> Image.Image | None:
        """The upright original of this item's name."""
        for row, (number, member, which, _, _) in enumerate(self.rows):
            if source == self._name(number, member, which):
                return images.decode(next(self.read(row, row + 1)).image).pixels
        return None


def _members(path: Path) -> Iterator[tarfile.TarInfo]:
    try:
        with tarfile.open(path, "r:") as tar:
            yield from tar
            end = tar.offset
    except (tarfile.TarError, OSError) as error:
        raise SetupError(f"{str(path)!r} cannot be read as an uncompressed tar: {error}") from error
    if not _ends_at(path, end):  # `tarfile` takes a damaged header for the end, and what is behind it would be lost
        raise SetupError(
            f"{str(path)!r} is damaged, cut off or several tars in one: its images behind byte {end:,} cannot be read; "
            "get it again, or leave it out"
        )


def _ends_at(path: Path, end: int) -> bool:
    """Whether a tar's end lies there: at least one block of zeros, and nothing else behind it."""
    with path.open("rb") as file:
        file.seek(end)
        blocks = 0
        while block := file.read(2**20):
            if block.strip(b"\0"):
                return False
            blocks += len(block) // tarfile.BLOCKSIZE
    return blocks > 0


def _below(path: Path, folder: Path) -> str:
    """A tar's path below the source's folder; its name where the tar itself is the source."""
    return path.relative_to(folder).as_posix() if path != folder and path.is_relative_to(folder) else path.name


def _kind(member: tarfile.TarInfo, suffix: str) -> str:
    if not member.isreg():
        return "link or special file"
    return f"{suffix} file" if suffix in {".json", ".txt", ".cls", ".npy"} else "other file"
