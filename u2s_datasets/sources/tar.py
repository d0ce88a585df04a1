"""WebDataset shards as a source: every image in a tar is a row, its other members are counted by kind."""

from __future__ import annotations

import hashlib
import tarfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from u2s_datasets.errors import SetupError
from u2s_datasets.images import formats, max_file_size
from u2s_datasets.sources.base import Item, Source, SourceRequest
from u2s_datasets.sources.folder import escape_path, kind_by_name, skipped_kind


def open_tar(request: SourceRequest) -> TarSource | None:
    """A local tar, or a folder with tars in it.

    What lies beside them is counted by kind; images or parquet there are refused, as their rows would be lost.
    """
    tars = [path for path in request.files if path.suffix == ".tar"]
    if not tars:
        return None
    request.refuse_split("tar shards")
    kinds = {path: skipped_kind(path) for path in request.entries if path.suffix != ".tar"}
    rows = [path for path, kind in kinds.items() if kind is None or path.suffix == ".parquet"]
    if rows:
        raise SetupError(
            f"{request.address!r} mixes tar shards with images or parquet ({rows[0].name!r}), and a run reads one "
            "kind; put them into folders of their own"
        )
    source = TarSource(tars, request.address, request.keep)
    skipped = Counter(source.skipped) + Counter(kind for kind in kinds.values() if kind is not None)
    source.skipped = dict(sorted(skipped.items()))
    return source


class TarImage(NamedTuple):
    """Where one image lies: its tar's number, its name there, how many of that name came, and its bytes' place."""

    tar: int
    member: str
    occurrence: int
    offset: int
    size: int


class TarSource(Source):
    """Every image in tar files, in the order of their names and, in each, as they lie there.

    The headers are read once, to know where every image lies; reading a range reads its bytes alone. An image's
    name is `shard.tar/key.jpg`, the tar's path below the source's folder and the member's name; `#2` follows if a
    tar holds that name a second time. Labels and captions beside the images are not read: nothing can be kept.

    Raises:
        SetupError: a file is not an uncompressed tar, none holds an image, or a column is to be kept.
    """

    kind = "tar"

    def __init__(self, files: Sequence[Path], location: str, keep: Sequence[str] = ()) -> None:
        if keep:
            raise SetupError(f"keep={list(keep)!r}: columns are kept from parquet, datasets and folders, not from tars")
        self.files, self.location, self.kept = list(files), location, {}
        folder = Path(location).expanduser()
        self.paths = [
            path.relative_to(folder).as_posix() if path != folder and path.is_relative_to(folder) else path.name
            for path in self.files
        ]
        self.rows: list[TarImage] = []
        skipped: Counter[str] = Counter()
        for number, path in enumerate(self.files):
            seen: Counter[str] = Counter()
            with path.open("rb") as file:
                for member in _members(path):
                    kind = _skipped_kind(file, member)
                    if kind is None:
                        seen[member.name] += 1
                        image = TarImage(number, member.name, seen[member.name], member.offset_data, member.size)
                        self.rows.append(image)
                    elif kind:
                        skipped[kind] += 1
        self.skipped = dict(sorted(skipped.items()))
        if not self.rows:
            raise SetupError(f"{location!r} holds no image file; what it holds: {self.skipped or 'nothing'}")

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, start: int, stop: int) -> Iterator[Item]:
        """The images from number `start` up to `stop`."""
        for image in self.rows[start:stop]:
            data = None
            if image.size <= max_file_size():
                with self.files[image.tar].open("rb") as file:
                    file.seek(image.offset)
                    data = file.read(image.size)
            # Without bytes there must be no path either: it would be looked for on this machine.
            path = None if data is None else PurePosixPath(escape_path(image.member)).name
            yield Item(self._name(image), {"bytes": data, "path": path})

    def _name(self, image: TarImage) -> str:
        """A name of this item alone: a member whose own name ended in "#2" would not be an image."""
        again = f"#{image.occurrence}" if image.occurrence > 1 else ""
        return f"{escape_path(self.paths[image.tar])}/{escape_path(image.member)}{again}"

    def kept_values(self, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Nothing is kept."""
        return ({} for _ in self.rows)

    def fingerprint(self) -> str:
        """Digest of every file's path, size and modification time (not its contents)."""
        states = [(p, f.stat().st_size, f.stat().st_mtime_ns) for p, f in zip(self.paths, self.files, strict=True)]
        return hashlib.sha256(repr(states).encode()).hexdigest()

    def find_row(self, source: str) -> int | None:
        """The number of the image of this name."""
        return next((row for row, image in enumerate(self.rows) if self._name(image) == source), None)


def _skipped_kind(file: BinaryIO, member: tarfile.TarInfo) -> str | None:
    """None for an image, "" for a folder, else the kind under which a member is counted, as a folder's files are."""
    if member.isdir():
        return ""
    if not member.isreg():
        return "link or special file"
    if member.issparse():  # its bytes do not lie in a row
        return "sparse file"
    return kind_by_name(PurePosixPath(member.name), lambda: _starts_like_image(file, member))


def _starts_like_image(file: BinaryIO, member: tarfile.TarInfo) -> bool:
    file.seek(member.offset_data)
    return formats.sniff_format(file.read(min(32, member.size))) is not None


def _members(path: Path) -> Iterator[tarfile.TarInfo]:
    """The members of an uncompressed tar. Raises `SetupError` if anything lies behind the last one."""
    try:
        with tarfile.open(path, "r:") as tar:
            yield from tar
            end = tar.offset
    except (tarfile.TarError, OSError) as error:
        raise SetupError(f"{str(path)!r} cannot be read as an uncompressed tar: {error}") from error
    # `tarfile` takes a damaged header for the end, and the images behind it would be lost in silence.
    if not _ends_at(path, end):
        raise SetupError(
            f"{str(path)!r} is damaged, cut off or several tars in one: its images behind byte {end:,} cannot be read; "
            "get it again, or leave it out"
        )


def _ends_at(path: Path, end: int) -> bool:
    """Whether a tar ends at this byte: at least one block of zeros, and nothing else behind it."""
    with path.open("rb") as file:
        file.seek(end)
        blocks = 0
        while block := file.read(2**20):
            if block.strip(b"\0"):
                return False
            blocks += len(block) // tarfile.BLOCKSIZE
    return blocks > 0
