"""Where rows come from: a folder of images, parquet files, a saved dataset or one on the Hub.

A source lists its rows once, in a steady order, and reads any stretch of them. Images stay as they are stored;
local parquet is read in place, so that no second copy of the originals is left in a cache.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from u2s_datasets import columns, formats, images, leaks
from u2s_datasets.errors import SetupError

if TYPE_CHECKING:
    from datasets import Features
    from PIL import Image


@dataclass
class Item:
    """One row to work on: its name in the source, its stored image, and the columns that the user keeps."""

    source: str
    image: Any
    kept: dict[str, Any] = field(default_factory=dict)


class Source:
    """A numbered list of items.

    Attributes:
        kind: "folder", "parquet" or "dataset".
        location: the path or id that the user gave.
        kept: the typed columns that travel to the public side.
        skipped: kind of file -> how many were left out as no image.
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
        """A digest that changes when the rows do."""
        raise NotImplementedError

    def original(self, source: str) -> Image.Image | None:
        """The upright original of an item's name, for private reports; none where it cannot be had."""
        return None


def open_source(
    src: str,
    *,
    split: str | None = None,
    image_column: str | None = None,
    keep: Sequence[str] = (),
    allow: Sequence[str] = (),
) -> Source:
    """The source that `src` names.

    Args:
        src: a folder, a parquet file or folder of them, a saved dataset, or a Hub dataset id "ORG/NAME".
        split: the split of a dataset that has several.
        image_column: the image column of a dataset; found by its type where there is only one.
        keep: columns to carry along; for a folder "label" is the class folder, others come from metadata.csv or
            metadata.jsonl.
        allow: kept columns that may pass although they look identifying.

    Raises:
        SetupError: there is no such source, split or column, or a kept column may not leave.
    """
    path = Path(src).expanduser()
    if path.is_file():
        if path.suffix != ".parquet":
            raise SetupError(f"{src!r} is a file; give a folder of images, parquet, a saved dataset or a Hub id")
        source: Source = ParquetSource([path], src, image_column, keep)
    elif path.is_dir():
        source = _open_folder(path, src, split, image_column, keep)
    elif re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", src):
        source = DatasetSource(_from_hub(src, split), src, image_column, keep)
    else:
        raise SetupError(f"there is no file or folder {src!r}; a dataset on the Hub is written ORG/NAME")
    check_kept(source, allow)
    return source


def _open_folder(path: Path, src: str, split: str | None, image_column: str | None, keep: Sequence[str]) -> Source:
    if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        from datasets import load_from_disk

        return DatasetSource(_one_split(load_from_disk(str(path)), src, split), src, image_column, keep)
    files = sorted(p for p in path.rglob("*") if p.is_file())
    if files and all(p.suffix in (".parquet", ".md", ".json", ".gitattributes") for p in files):
        tables = [p for p in files if p.suffix == ".parquet" and (split is None or p.name.startswith(split))]
        if not tables:
            raise SetupError(f"{src!r} has no parquet file of split {split!r}; leave --split out to take all")
        return ParquetSource(tables, src, image_column, keep)
    return FolderSource(path, src, keep)


def _from_hub(name: str, split: str | None) -> Any:
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError

    try:
        return _one_split(load_dataset(name), name, split)
    except (DatasetNotFoundError, ConnectionError, OSError) as error:
        raise SetupError(
            f"{name!r} is no folder here, and the Hub dataset of that name could not be loaded: {error}"
        ) from error


def _one_split(data: Any, name: str, split: str | None) -> Any:
    if not isinstance(data, Mapping):
        return data
    if split is None and len(data) == 1:
        return next(iter(data.values()))
    if split not in data:
        raise SetupError(f"{name!r} has the splits {sorted(data)}, not {split!r}; choose one with --split")
    return data[split]


class FolderSource(Source):
    """Every image file below a folder, in the order of its path; other files are counted by kind."""

    kind = "folder"

    def __init__(self, root: Path, location: str, keep: Sequence[str] = ()) -> None:
        self.root, self.location = root, location
        self.files: list[str] = []
        skipped: Counter[str] = Counter()
        for path in sorted(_walk(root), key=os.fsencode):
            kind = _kind_of_no_image(root / path)
            if kind is None:
                self.files.append(path)
            else:
                skipped[kind] += 1
        self.skipped = dict(sorted(skipped.items()))
        if not self.files:
            raise SetupError(f"{location!r} holds no image file; what it holds: {self.skipped or 'nothing'}")
        self.kept, self._values = _folder_columns(root, self.files, keep)

    def __len__(self) -> int:
        return len(self.files)

    def read(self, start: int, stop: int) -> Iterator[Item]:
        """The files of a stretch; their bytes are read by whoever decodes them."""
        for path in self.files[start:stop]:
            yield Item(printable(path), str(self.root / path), {n: v.get(path) for n, v in self._values.items()})

    def fingerprint(self) -> str:
        """Digest of every file's path, size and time of change, and of the kept columns."""
        digest = hashlib.sha256(repr((self.kept, self._values)).encode("utf-8", "backslashreplace"))
        for path in self.files:
            stat = (self.root / path).stat()
            digest.update(os.fsencode(path) + f"\0{stat.st_size}\0{stat.st_mtime_ns}\0".encode())
        return digest.hexdigest()

    def original(self, source: str) -> Image.Image | None:
        """The upright original of this relative path."""
        path = self.root / source
        return images.decode(path).pixels if path.is_file() else None


def printable(path: str) -> str:
    """A file's path as valid Unicode: bytes that are no UTF-8 are written as escapes."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _walk(root: Path) -> Iterator[str]:
    for folder, _, names in os.walk(root):
        for name in names:
            yield os.path.relpath(os.path.join(folder, name), root)  # noqa: PTH118  keeps undecodable names


def _kind_of_no_image(path: Path) -> str | None:
    """None for an image, else the word under which the file is counted."""
    if path.is_symlink():
        return "symbolic link"
    if not path.is_file():
        return "special file"
    if path.suffix.lower() in formats.IMAGE_SUFFIXES:
        return None
    if path.name.startswith("."):
        return "hidden file"
    if formats.looks_like_image(path):
        return None
    return f"{path.suffix.lower()} file" if path.suffix else "file without a suffix"


def _folder_columns(
    root: Path, files: Sequence[str], keep: Sequence[str]
) -> tuple[Features, dict[str, dict[str, Any]]]:
    if not keep:
        return {}, {}  # without the second that importing datasets takes: the workers are started first
    from datasets import ClassLabel, Features

    features, values = Features(), {}
    if "label" in keep:
        folders = {path: Path(path).parent.name for path in files}
        names = sorted({name for name in folders.values() if name})
        if len(names) < 2:
            raise SetupError("keep='label' needs class folders, at least two; this folder has none")
        features["label"] = ClassLabel(names=names)
        values["label"] = {path: names.index(name) for path, name in folders.items() if name}
    others = [name for name in keep if name != "label"]
    if others:
        table = _metadata(root)
        by_file = dict(zip(table["file_name"].to_pylist(), range(len(table)), strict=True))
        for name in others:
            if name not in table.column_names:
                raise SetupError(f"keep={name!r} is no column of the folder's metadata: {table.column_names}")
            features[name] = Features.from_arrow_schema(table.select([name]).schema)[name]
            column = table[name].to_pylist()
            values[name] = {path: column[i] for path, i in by_file.items()}
    return features, values


def _metadata(root: Path) -> Any:
    import pyarrow.csv
    import pyarrow.json

    readers = {"metadata.csv": pyarrow.csv.read_csv, "metadata.jsonl": pyarrow.json.read_json}
    for name, reader in readers.items():
        if (root / name).is_file():
            table = reader(root / name)
            if "file_name" in table.column_names:
                return table
    raise SetupError(f"--keep needs class folders for 'label', or a file of {' or '.join(readers)} with 'file_name'")


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

    def _items(self, start: int, table: Any) -> Iterator[Item]:
        images_ = table[self.image_column].to_pylist()
        kept = table.select(list(self.kept)).to_pylist() if self.kept else [{}] * len(images_)
        for i, (image, values) in enumerate(zip(images_, kept, strict=True)):
            yield Item(str(start + i), image, values)

    def original(self, source: str) -> Image.Image | None:
        """The upright original of this row number."""
        if not source.isdigit() or int(source) >= len(self):
            return None
        return images.decode(next(self.read(int(source), int(source) + 1)).image).pixels


class DatasetSource(_TableSource):
    """A `datasets.Dataset`: saved with `save_to_disk`, or from the Hub."""

    kind = "dataset"

    def __init__(self, data: Any, location: str, image_column: str | None = None, keep: Sequence[str] = ()) -> None:
        super().__init__(location, data.features, image_column, keep)
        self.data = data.with_format("arrow")

    def __len__(self) -> int:
        return len(self.data)

    def read(self, start: int, stop: int) -> Iterator[Item]:
        """The rows of a stretch, undecoded."""
        for first in range(start, min(stop, len(self)), 64):
            yield from self._items(first, self.data[first : min(first + 64, stop)])

    def fingerprint(self) -> str:
        """The dataset's own fingerprint."""
        return hashlib.sha256(f"{self.data._fingerprint} {len(self)}".encode()).hexdigest()


class ParquetSource(_TableSource):
    """Local parquet files, read in place in the order of their names."""

    kind = "parquet"

    def __init__(self, files: Sequence[Path], location: str, image_column: str | None = None, keep: Sequence[str] = ()):
        import pyarrow.dataset
        from datasets import Features

        self.files = list(files)
        try:
            self.data = pyarrow.dataset.dataset([str(f) for f in self.files], format="parquet")
            self.count = self.data.count_rows()
        except (OSError, ValueError) as error:
            raise SetupError(f"{location!r} cannot be read as parquet: {error}") from error
        super().__init__(location, Features.from_arrow_schema(self.data.schema), image_column, keep)

    def __len__(self) -> int:
        return self.count

    def read(self, start: int, stop: int) -> Iterator[Item]:
        """The rows of a stretch; whole files and batches before it are passed over."""
        names = [self.image_column, *self.kept]
        position = 0
        for fragment in self.data.get_fragments():
            rows = fragment.count_rows()
            if position + rows <= start:
                position += rows
                continue
            for batch in fragment.to_batches(columns=names, batch_size=64, batch_readahead=1, fragment_readahead=0):
                first, last = max(start, position), min(stop, position + len(batch))
                if first < last:
                    yield from self._items(first, batch.slice(first - position, last - first))
                position += len(batch)
                if position >= stop:
                    return

    def fingerprint(self) -> str:
        """Digest of every file's name, size and time of change."""
        facts = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in self.files]
        return hashlib.sha256(repr((facts, list(self.kept), self.image_column)).encode()).hexdigest()


def _image_column(features: Features, wanted: str | None, location: str) -> str:
    from datasets import Image

    if wanted is not None:
        if wanted not in features:
            raise SetupError(f"{location!r} has no column {wanted!r}; the columns are {list(features)}")
        return wanted
    typed = [name for name, feature in features.items() if isinstance(feature, Image)]
    if columns.IMAGE in features:
        return columns.IMAGE
    if len(typed) == 1:
        return typed[0]
    raise SetupError(
        f"{location!r} has {'no' if not typed else 'several'} image columns; the columns are {list(features)}; "
        "name one with --image-column"
    )


def check_kept(source: Source, allow: Sequence[str] = ()) -> None:
    """Raise `SetupError` for a kept column that may not leave, saying why and how to let it.

    Classes, boxes and texts pass (texts are checked row by row); images never do; names and numbers that look
    like identifiers, dates or coordinates need `allow`.
    """
    for name in set(allow) - set(source.kept):
        raise SetupError(f"allow={name!r} is no kept column; name it in --keep as well")
    if not source.kept:
        return
    from datasets import ClassLabel, Image, Value

    for name, feature in source.kept.items():
        if name in (*columns.PUBLIC, *columns.PRIVATE):
            raise SetupError(f"keep={name!r} is a column that this program writes; rename it in the source")
        if isinstance(feature, Image):
            raise SetupError(f"keep={name!r} is an image column, which nothing has inspected; leave it out")
        if name in allow:
            continue
        reason = "its name" if leaks.telling_name(name) else None
        if isinstance(feature, ClassLabel):
            reason = next((f"class {n!r} holds {r}" for n in feature.names if (r := leaks.telling(n))), None)
        elif reason is None and isinstance(feature, Value) and feature.dtype != "string":
            sample = [item.kept[name] for item in source.read(0, min(len(source), 1000))]
            odd = not feature.dtype.startswith(("int", "uint", "float", "bool"))
            reason = f"its type {feature.dtype}" if odd else leaks.identifying_numbers(sample)
        if reason:
            raise SetupError(f"keep={name!r} may identify people or places ({reason}); say --allow {name} to keep it")
