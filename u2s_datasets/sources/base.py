"""What every source is: a numbered list of items that is read in ranges, and the request that opens one."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from u2s_datasets import images
from u2s_datasets.errors import SetupError

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Item:
    """One row to work on.

    Args:
        source: its name in the source: a file's path, or the number of its row.
        image: as it is stored: bytes, a path or a {bytes, path}.
        kept: the values of the columns that the user keeps.
    """

    source: str
    image: Any
    kept: dict[str, Any] = field(default_factory=dict)

    def own_names(self) -> list[str]:
        """The names of the row's own file, with and without their suffixes: a kept text must not contain them.

        Row numbers and names of one or two letters are left out; they would withhold texts by chance.
        """
        path = self.image.get("path") if isinstance(self.image, dict) else self.image
        names = []
        for value in (self.source, path):
            if isinstance(value, str):
                name = re.split(r"[/\\]", value[-1000:])[-1]  # any string may stand there, even an image in base64
                stem = Path(name).stem
                names += [name, stem] if len(stem) >= 3 and not stem.isdigit() else []
        return names


class Source(ABC):
    """A numbered list of items, in an order that never changes.

    Attributes:
        kind: "folder", "parquet", "dataset" or "tar".
        location: the path or id that the user gave.
        kept: the typed columns that travel to the public side.
        skipped: kind of file -> how many were left out.
    """

    kind: str
    location: str
    kept: Mapping[str, Any]
    skipped: dict[str, int]

    @abstractmethod
    def __len__(self) -> int:
        """The number of items."""

    @abstractmethod
    def read(self, start: int, stop: int) -> Iterator[Item]:
        """The items from number `start` up to `stop`, in order, with their images as stored."""

    @abstractmethod
    def fingerprint(self) -> str:
        """A hex digest of what is cheap to read: of files their path, size and modification time.

        A file that was rewritten in place, with its size and its modification time kept, goes unnoticed.
        """

    @abstractmethod
    def kept_values(self, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """These kept columns of every row, in order, without the images."""

    @abstractmethod
    def find_row(self, source: str) -> int | None:
        """The number of the item of this name; None if there is no such item, or it cannot be read."""

    def check_images(self) -> None:  # noqa: B027  most sources find their images by looking at them
        """Raise `SetupError` if no row can have an image, as with a column of plain text. It may read every row."""

    def original(self, source: str) -> Image.Image | None:
        """The upright original of an item's name, for private reports; None if it cannot be had.

        Raises:
            UnreadableImage: the stored image does not decode.
        """
        row = self.find_row(source)
        return None if row is None else images.decode(next(self.read(row, row + 1)).image).pixels


@dataclass(frozen=True)
class SourceRequest:
    """What a user asks to open, for the formats to recognize.

    Args:
        address: as the user gave it.
        path: the path on this machine that it names; None for an object store or the Hub's `hf://`.
        split: the split, if one is asked for.
        image_column: the image column, if one is named.
        keep: columns to carry along.
    """

    address: str
    path: Path | None
    split: str | None = None
    image_column: str | None = None
    keep: Sequence[str] = ()

    @cached_property
    def entries(self) -> list[Path]:
        """The local file, or every file and link below the local folder, sorted by the bytes of their names."""
        if self.path is None or not self.path.is_dir():
            return [] if self.path is None or not self.path.is_file() else [self.path]
        paths = (self.path / name for name in sorted(walk_files(self.path), key=os.fsencode))
        return [path for path in paths if path.is_file() or path.is_symlink()]

    @cached_property
    def files(self) -> list[Path]:
        """The entries that are files, links to files included."""
        return [path for path in self.entries if path.is_file()]

    def refuse_split(self, what: str) -> None:
        """Raise `SetupError` if a split is asked for, which `what` has not."""
        if self.split is not None:
            raise SetupError(
                f"split={self.split!r}: {what} have no splits; leave --split out, and give the split's own folder"
            )


def walk_files(root: Path) -> Iterator[str]:
    """The relative path of every file below a folder, and of every link to a folder, which is not followed.

    Raises:
        SetupError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise SetupError(
            f"the folder {str(error.filename)!r} cannot be read ({error.strerror}), so its images would be left out; "
            "give yourself the right to read it, or move it elsewhere"
        ) from error

    for folder, folders, names in os.walk(root, onerror=refuse):
        below = Path(folder).relative_to(root)
        links = (name for name in folders if Path(folder, name).is_symlink())
        yield from (str(below / name) for name in (*names, *links))
