"""What a source of rows is: a numbered list of items, read by stretches."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL import Image


@dataclass
class Item:
    """One row to work on: its name in the source, its stored image, and the columns that the user keeps."""

    source: str
    image: Any
    kept: dict[str, Any] = field(default_factory=dict)

    def own_names(self) -> list[str]:
        """What the row's own file is called, whole and without its suffix: a kept text must not say it.

        Row numbers and names of one or two letters are left out; they would stop texts by chance.
        """
        path = self.image.get("path") if isinstance(self.image, dict) else self.image
        names = []
        for value in (self.source, path):
            if isinstance(value, str):
                name = re.split(r"[/\\]", value[-1000:])[-1]  # the column may hold any string, even an image in base64
                stem = Path(name).stem
                names += [name, stem] if len(stem) >= 3 and not stem.isdigit() else []
        return names


class Source:
    """A numbered list of items.

    Attributes:
        kind: "folder", "parquet" or "dataset".
        location: the path or id that the user gave.
        kept: the typed columns that travel to the public side.
        skipped: kind of file -> how many were left out.
    """

    kind: str
    location: str
    kept: Mapping[str, Any]
    skipped: dict[str, int]

    def __len__(self) -> int:
        raise NotImplementedError

    def read(self, start: int, stop: int) -> Iterator[Item]:
        """The items of a stretch, in order."""
        raise NotImplementedError

    def fingerprint(self) -> str:
        """A digest of what is cheap to see, of files their path, size and time of change only.

        A file that was rewritten in place with its size and its time kept is not noticed.
        """
        raise NotImplementedError

    def kept_values(self, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """These kept columns of every row, in order, without the images."""
        raise NotImplementedError

    def original(self, source: str) -> Image.Image | None:
        """The upright original of an item's name, for private reports; none where it cannot be had."""
        return None
