"""Where rows come from: a folder of images, parquet files, tar shards, a saved dataset or one on the Hub.

A source lists its rows once, in a steady order, and reads any stretch of them. Images stay as they are stored;
local parquet is read in place, so that no second copy of the originals is left in a cache.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.folders import FolderSource, walk
from u2s_datasets.kept import check_kept
from u2s_datasets.remote import remote_parquet
from u2s_datasets.source import Item, Source
from u2s_datasets.tables import DatasetSource, ParquetSource
from u2s_datasets.tars import TarSource

__all__ = ["DatasetSource", "FolderSource", "Item", "ParquetSource", "Source", "TarSource", "open_source"]


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
        src: a folder, a parquet file or folder of them, WebDataset shards (a .tar or a folder of them), a saved
            dataset, a Hub dataset id "ORG/NAME", or parquet on an object store ("s3://bucket/folder") or read from the
            Hub in place ("hf://datasets/ORG/NAME/folder").
        split: the split of a dataset that has several.
        image_column: the image column of a dataset; found by its type where there is only one.
        keep: columns to carry along; for a folder "label" is the class folder, others come from metadata.csv or
            metadata.jsonl. All class names of such a column are published, also of classes without a public row.
        allow: kept columns that may pass although they look identifying.

    Raises:
        SetupError: there is no such source, split or column, or a kept column may not leave.
    """
    path = Path(src).expanduser()
    if "://" in src:
        source: Source = remote_parquet(src, image_column, keep)
    elif path.is_file() and path.suffix == ".tar":
        source = TarSource([path], src, keep)
    elif path.is_file():
        if path.suffix != ".parquet":
            raise SetupError(
                f"{src!r} is a file; give a folder of images, parquet, tar shards, a saved dataset or a Hub id"
            )
        source = ParquetSource([path], src, image_column, keep)
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
    files = [path / name for name in sorted(walk(path), key=os.fsencode)]
    links = [p for p in files if p.is_symlink() and not p.is_file()]
    files = [p for p in files if p.is_file()]
    if files and all(p.suffix in (".tar", ".json") for p in files) and any(p.suffix == ".tar" for p in files):
        return TarSource([p for p in files if p.suffix == ".tar"], src, keep)
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
