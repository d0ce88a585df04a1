"""What tables share as sources, be they parquet or datasets: rows by number, columns by name, images checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from u2s_datasets import columns
from u2s_datasets.errors import SetupError
from u2s_datasets.sources.base import Item, Source

if TYPE_CHECKING:
    from datasets import Features


class TableSource(Source):
    """Rows by number, columns by name.

    Args:
        location: as the user gave it.
        features: the types of all columns.
        image_column: the name of the image column; None to find it by its type.
        keep: columns to carry along.

    Raises:
        SetupError: no such column, or no single image column.
    """

    def __init__(self, location: str, features: Features, image_column: str | None, keep: Sequence[str]) -> None:
        from datasets import Features

        self.location, self.skipped = location, {}
        self.image_column = _find_image_column(features, image_column, location)
        for name in keep:
            if name not in features or name == self.image_column:
                raise SetupError(f"keep={name!r} is not a column that can be kept; the columns are {list(features)}")
        self.kept = Features({name: features[name] for name in keep})
        self.names_images = _holds_text(features[self.image_column])

    def items(self, start: int, table: Any, folders: Sequence[Path], absolute: bool) -> Iterator[Item]:
        """The rows of a piece of the table as items.

        Args:
            start: the number of its first row.
            table: an Arrow table or record batch with the image column and the kept ones.
            folders: where files that the rows name may lie.
            absolute: whether absolute paths into these folders are allowed, and zip archives in them.
        """
        stored = table[self.image_column].to_pylist()
        kept = table.select(list(self.kept)).to_pylist() if self.kept else [{}] * len(stored)
        for number, (image, values) in enumerate(zip(stored, kept, strict=True), start):
            yield Item(str(number), _without_foreign_file(image, folders, absolute), values)

    def check_images(self) -> None:
        """Raise `SetupError` if the image column is of texts and none of them names a file that may be read."""
        if self.names_images and not any(_is_there(item.image) for item in self.read(0, len(self))):
            raise SetupError(
                f"the column {self.image_column!r} of {self.location!r} holds texts, and none names an image file that "
                "lies with it; name the column of images with --image-column, or put the files where the texts say"
            )

    def find_row(self, source: str) -> int | None:
        """The row of this number."""
        return int(source) if source.isdecimal() and int(source) < len(self) else None


def _without_foreign_file(image: Any, folders: Sequence[Path], absolute: bool) -> Any:
    """A stored image: its bytes, or a file below one of these folders; no image for any other file or a URL.

    Whoever wrote the table may name any file of this machine, and a step would read and publish it.
    """
    if isinstance(image, Mapping):
        path = image.get("path") if isinstance(image.get("path"), str) else None
        if image.get("bytes") is not None:
            return {"bytes": image["bytes"], "path": path}
    elif isinstance(image, str):
        path = image
    else:
        return image
    zipped = re.fullmatch(r"zip://[^:]*::(.+)", path or "") if absolute else None  # as a zipped Hub dataset has it
    file = zipped[1] if zipped else path
    if file is not None and "://" not in file and (absolute or not Path(file).is_absolute()):
        for folder in folders:
            try:
                # Resolved, since ".." and links lead out of the folder as well.
                if (folder / file).resolve().is_relative_to(folder.resolve()):
                    return {"bytes": None, "path": path if zipped else str(folder / file)}
            except (OSError, ValueError, RuntimeError):  # a name that no file can have, or links in a circle
                continue
    return {"bytes": None, "path": None}


def _is_there(image: Any) -> bool:
    """Whether a stored image is at hand: its bytes, or its file."""
    if not isinstance(image, Mapping) or image.get("bytes") is not None:
        return image is not None
    with suppress(OSError, ValueError):  # a name that no file can have
        return Path(image["path"] or "").is_file()
    return False


def _find_image_column(features: Features, wanted: str | None, location: str) -> str:
    """The name of the column that holds the images, or their paths."""
    holding = [name for name, feature in features.items() if _holds_images(feature)]
    if wanted is not None:
        if wanted not in features:
            raise SetupError(f"{location!r} has no column {wanted!r}; the columns are {list(features)}")
        if not may_hold_images(features[wanted]):
            can = f"; those that can are {holding}" if holding else ""
            raise SetupError(f"the column {wanted!r} of {location!r} cannot hold images or their paths{can}")
        return wanted
    if columns.IMAGE in holding or (not holding and _holds_text(features.get(columns.IMAGE))):
        return columns.IMAGE
    if len(holding) == 1:
        return holding[0]
    raise SetupError(
        f"{location!r} has {'no' if not holding else 'several'} image columns; the columns are {list(features)}; "
        "name one with --image-column"
    )


def may_hold_images(feature: Any) -> bool:
    """Whether a column of this type may hold images, or paths of images."""
    return _holds_images(feature) or _holds_text(feature)


def _holds_images(feature: Any) -> bool:
    from datasets import Image

    return (
        isinstance(feature, Image)
        or getattr(feature, "dtype", "") in ("binary", "large_binary")
        or (isinstance(feature, dict) and {"bytes", "path"} <= set(feature))
    )


def _holds_text(feature: Any) -> bool:
    """Whether it may hold paths of images."""
    return getattr(feature, "dtype", "") in ("string", "large_string")
