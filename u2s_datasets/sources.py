"""Where rows come from: a folder of images, parquet files, a saved dataset or one on the Hub.

A source lists its rows once, in a steady order, and reads any stretch of them. Images stay as they are stored;
local parquet is read in place, so that no second copy of the originals is left in a cache.
"""

from __future__ import annotations

import bisect
import hashlib
import mimetypes
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from u2s_datasets import columns, formats, images
from u2s_datasets.errors import SetupError
from u2s_datasets.kept import check_kept, folder_columns

if TYPE_CHECKING:
    from datasets import Features
    from PIL import Image


_NO_IMAGE = {"bytes": None, "path": None}
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
            metadata.jsonl. All class names of such a column are published, also of classes without a public row.
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
    elif re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", src) and not _looks_local(src):
        source = DatasetSource(_from_hub(src, split), src, image_column, keep, folders=_hub_folders(src))
    else:
        raise SetupError(f"there is no file or folder {src!r}; a dataset on the Hub is written ORG/NAME")
    check_kept(source, allow)
    return source


def _looks_local(src: str) -> bool:
    """Whether a missing path is one here: asking the Hub for it would tell the Hub how folders are called."""
    return "./" in src or src.startswith(("/", "~")) or Path(src.split("/")[0]).exists()


def _open_folder(path: Path, src: str, split: str | None, image_column: str | None, keep: Sequence[str]) -> Source:
    if (path / "dataset_dict.json").exists() or (path / "state.json").exists():
        from datasets import load_from_disk

        data = _one_split(load_from_disk(str(path)), src, split)
        return DatasetSource(data, src, image_column, keep, folders=[path])
    files = [path / name for name in sorted(_walk(path), key=os.fsencode)]
    links = [p for p in files if p.is_symlink() and not p.is_file()]
    files = [p for p in files if p.is_file()]
    if not files or not all(p.suffix in (".parquet", ".md", ".json", ".gitattributes") for p in files):
        return FolderSource(path, src, keep)
    chosen = re.compile(rf"{re.escape(split)}([-_.]|$)" if split is not None else "")
    tables = [p for p in files if p.suffix == ".parquet" and chosen.match(p.name)]
    if not tables:
        raise SetupError(f"{src!r} has no parquet file of split {split!r}; leave --split out to take all")
    source = ParquetSource(tables, src, image_column, keep)
    source.skipped = {"symbolic link": len(links)} if links else {}
    return source


def _hub_folders(name: str) -> list[Path]:
    """Where `datasets` puts the files of a Hub dataset."""
    import datasets
    from huggingface_hub.constants import HF_HUB_CACHE

    config = datasets.config
    own = Path(HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}"
    return [
        own,
        *map(Path, (config.HF_DATASETS_CACHE, config.DOWNLOADED_DATASETS_PATH, config.EXTRACTED_DATASETS_PATH)),
    ]


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


def _walk(root: Path) -> Iterator[str]:
    """Every file below a folder, and every link to a folder, which is not followed."""

    def refuse(error: OSError) -> None:
        raise SetupError(
            f"the folder {str(error.filename)!r} cannot be read ({error.strerror}), so its images would be left out; "
            "give yourself the right to read it, or move it elsewhere"
        ) from error

    for folder, folders, names in os.walk(root, onerror=refuse):
        for name in (*names, *(f for f in folders if os.path.islink(os.path.join(folder, f)))):  # noqa: PTH114, PTH118
            yield os.path.relpath(os.path.join(folder, name), root)  # noqa: PTH118  keeps undecodable names


def _kind_of_no_image(path: Path) -> str | None:
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
                    rows_ = batch.slice(first - position, last - first)
                    yield from self._items(first, rows_, [Path(fragment.path).parent.absolute()], absolute=False)
                position += len(batch)
                if position >= stop:
                    return

    def kept_values(self, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """These kept columns of every row."""
        for batch in self.data.to_batches(columns=list(names), batch_size=1000):
            yield from batch.to_pylist()

    def fingerprint(self) -> str:
        """Digest of every file's name, size and time of change (not its contents)."""
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
