"""Tables as sources: saved datasets, those from the Hub, and parquet files, which are read in place."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from u2s_datasets import columns, images
from u2s_datasets.errors import SetupError
from u2s_datasets.sources.base import Item, Source

if TYPE_CHECKING:
    from datasets import Features
    from PIL import Image

_NO_IMAGE = {"bytes": None, "path": None}


class _TableSource(Source):
    """What parquet and datasets share: rows by number, columns by name."""

    def __init__(self, location: str, features: Features, image_column: str | None, keep: Sequence[str]) -> None:
        from datasets import Features

        self.location, self.skipped = location, {}
        self.image_column = _image_column(features, image_column, location)
        for name in keep:
            if name not in features or name == self.image_column:
                raise SetupError(f"keep={name!r} is no column that can be kept; the columns are {list(features)}")
        self.kept = Features({name: features[name] for name in keep})

    def _items(self, start: int, table: Any, folders: Sequence[Path], absolute: bool) -> Iterator[Item]:
        images_ = table[self.image_column].to_pylist()
        kept = table.select(list(self.kept)).to_pylist() if self.kept else [{}] * len(images_)
        for i, (image, values) in enumerate(zip(images_, kept, strict=True)):
            yield Item(str(start + i), _own_image(image, folders, absolute), values)

    def original(self, source: str) -> Image.Image | None:
        """The upright original of this row number."""
        if not source.isdigit() or int(source) >= len(self):
            return None
        return images.decode(next(self.read(int(source), int(source) + 1)).image).pixels


def _own_image(image: Any, folders: Sequence[Path], absolute: bool) -> Any:
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
    if file is None or "://" in file or (Path(file).is_absolute() and not absolute):
        return dict(_NO_IMAGE)
    for folder in folders:
        try:
            if (folder / file).resolve().is_relative_to(folder.resolve()):
                return {"bytes": None, "path": path if zipped else str(folder / file)}
        except (OSError, ValueError, RuntimeError):  # a name that no file can have, or links in a circle
            continue
    return dict(_NO_IMAGE)


class DatasetSource(_TableSource):
    """A `datasets.Dataset`: saved with `save_to_disk`, or from the Hub.

    Args:
        folders: where files that rows name may lie: the saved folder, or the caches of a Hub dataset.
            `save_to_disk` stores the bytes of images, so rows of a saved dataset name no file as a rule.
    """

    kind = "dataset"

    def __init__(
        self,
        data: Any,
        location: str,
        image_column: str | None = None,
        keep: Sequence[str] = (),
        folders: Sequence[Path] = (),
    ) -> None:
        super().__init__(location, data.features, image_column, keep)
        self.data = data.with_format("arrow")
        self.folders = [folder.absolute() for folder in folders]

    def __len__(self) -> int:
        return len(self.data)

    def read(self, start: int, stop: int) -> Iterator[Item]:
        """The rows of a stretch, undecoded."""
        for first in range(start, min(stop, len(self)), 64):
            yield from self._items(first, self.data[first : min(first + 64, stop)], self.folders, absolute=True)

    def kept_values(self, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """These kept columns of every row."""
        data = self.data.select_columns(list(names))
        for first in range(0, len(self), 1000):
            yield from data[first : first + 1000].to_pylist()

    def fingerprint(self) -> str:
        """The dataset's own fingerprint."""
        return hashlib.sha256(f"{self.data._fingerprint} {len(self)}".encode()).hexdigest()


class ParquetSource(_TableSource):
    """Local parquet files, read in place in the order of their names.

    The row group that was read last stays in memory, so that stretches that follow each other read it once. `read`
    may be called from one thread of a process at a time.
    """

    kind = "parquet"

    def __init__(
        self,
        files: Sequence[Path],
        location: str,
        image_column: str | None = None,
        keep: Sequence[str] = (),
        filesystem: Any = None,
    ):
        import pyarrow.dataset
        from datasets import Features

        self.files = list(files)
        try:
            self.data = pyarrow.dataset.dataset([str(f) for f in self.files], format="parquet", filesystem=filesystem)
            self.rows = [fragment.count_rows() for fragment in self.data.get_fragments()]
        except (OSError, ValueError) as error:
            raise SetupError(f"{location!r} cannot be read as parquet: {error}") from error
        super().__init__(location, Features.from_arrow_schema(self.data.schema), image_column, keep)
        self._last: tuple[tuple[str, int], list[Any]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_last": None}

    def __len__(self) -> int:
        return sum(self.rows)

    def read(self, start: int, stop: int) -> Iterator[Item]:
        """The rows of a stretch; whole files and row groups before it are passed over."""
        for position, group in self._groups(start, stop):
            folders = self.folders(group.path)
            for batch in self._batches(group):
                first, last = max(start, position), min(stop, position + len(batch))
                if first < last:
                    rows_ = batch.slice(first - position, last - first)
                    yield from self._items(first, rows_, folders, absolute=False)
                position += len(batch)
                if position >= stop:
                    return

    def _batches(self, group: Any) -> list[Any]:
        """All rows of a row group, in batches of the columns that are read."""
        key = group.path, group.row_groups[0].id
        if self._last is None or self._last[0] != key:
            self._last = None  # before the next is read: there is never room for two
            names = [self.image_column, *self.kept]
            batches = group.to_batches(columns=names, batch_size=64, batch_readahead=1, fragment_readahead=0)
            self._last = key, list(batches)
        return self._last[1]

    def _groups(self, start: int, stop: int) -> Iterator[tuple[int, Any]]:
        """(number of its first row, row group) of the row groups that hold rows of a stretch."""
        position = 0
        for fragment, rows in zip(self.data.get_fragments(), self.rows, strict=True):
            if position + rows > start and position < stop:
                at = position
                for group in fragment.split_by_row_group():
                    length = sum(g.num_rows for g in group.row_groups)
                    if at + length > start and at < stop:
                        yield at, group
                    at += length
            position += rows

    def folders(self, path: str) -> list[Path]:
        """Where files that the rows of this parquet file name may lie."""
        return [Path(path).parent.absolute()]

    def kept_values(self, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """These kept columns of every row."""
        for batch in self.data.to_batches(columns=list(names), batch_size=1000):
            yield from batch.to_pylist()

    def fingerprint(self) -> str:
        """Digest of every file's name, size and time of change (not its contents)."""
        facts = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in self.files]
        return hashlib.sha256(repr((facts, list(self.kept), self.image_column)).encode()).hexdigest()


def of_split(names: Sequence[str], split: str | None, location: str) -> list[str]:
    """Those of these parquet files whose name begins with the split; all of them where none is asked for.

    Raises:
        SetupError: none is of that split; those that the names tell are in the message.
    """
    if split is None:
        return list(names)
    chosen = [name for name in names if re.match(rf"{re.escape(split)}([-_.]|$)", PurePath(name).name)]
    if not chosen:
        there = sorted({re.split("[-_.]", PurePath(name).name)[0] for name in names})
        more = f" and {len(there) - 10} more" if len(there) > 10 else ""
        raise SetupError(
            f"{location!r} has no parquet file of split {split!r}; its files begin with {', '.join(there[:10])}{more}; "
            "choose one with --split, or leave it out to take all"
        )
    return chosen


def _image_column(features: Features, wanted: str | None, location: str) -> str:
    holding = [name for name, feature in features.items() if _holds_images(feature)]
    if wanted is not None:
        if wanted not in features:
            raise SetupError(f"{location!r} has no column {wanted!r}; the columns are {list(features)}")
        if wanted not in holding and not _is_text(features[wanted]):
            can = f"; those that can are {holding}" if holding else ""
            raise SetupError(f"the column {wanted!r} of {location!r} cannot hold images or their paths{can}")
        return wanted
    if columns.IMAGE in holding or (not holding and _is_text(features.get(columns.IMAGE))):
        return columns.IMAGE
    if len(holding) == 1:
        return holding[0]
    raise SetupError(
        f"{location!r} has {'no' if not holding else 'several'} image columns; the columns are {list(features)}; "
        "name one with --image-column"
    )


def _holds_images(feature: Any) -> bool:
    from datasets import Image

    return (
        isinstance(feature, Image)
        or getattr(feature, "dtype", "") in ("binary", "large_binary")
        or (isinstance(feature, dict) and {"bytes", "path"} <= set(feature))
    )


def _is_text(feature: Any) -> bool:
    """Whether it may hold paths of images."""
    return getattr(feature, "dtype", "") in ("string", "large_string")
