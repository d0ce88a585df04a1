"""Where rows come from: a folder of images, parquet files, tar shards, a saved dataset or one on the Hub.

A source lists its rows once, in a steady order, and reads any stretch of them. Images stay as they are stored;
local parquet is read in place, so that no second copy of the originals is left in a cache.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.parts import checks
from u2s_datasets.privacy.kept_columns import check_kept
from u2s_datasets.sources.addresses import local_path
from u2s_datasets.sources.base import Item, Source
from u2s_datasets.sources.folder import FolderSource, kind_of_no_image, walk
from u2s_datasets.sources.remote import remote_parquet
from u2s_datasets.sources.table import DatasetSource, ParquetSource, of_split
from u2s_datasets.sources.tar import TarSource

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
        split: the split of a dataset that has several; of parquet files, those whose name begins with it.
        image_column: the image column of a dataset; found by its type where there is only one.
        keep: columns to carry along; for a folder "label" is the class folder, others come from metadata.csv or
            metadata.jsonl. All class names of such a column are published, also of classes without a public row.
        allow: kept columns that may pass although they look identifying.

    Raises:
        SetupError: there is no such source, split or column, it holds no row, or a kept column may not leave.
    """
    path = local_path(src)
    keep, allow = checks.check_names("keep", keep), checks.check_names("allow", allow)
    if path is None:
        source: Source = remote_parquet(src, split, image_column, keep)
    elif "://" in src:
        return open_source(str(path), split=split, image_column=image_column, keep=keep, allow=allow)
    elif path.is_file() and path.suffix == ".tar":
        source = _tars([path], [], src, split, keep)
    elif path.is_file():
        if path.suffix != ".parquet":
            raise SetupError(
                f"{src!r} is a file; give a folder of images, parquet, tar shards, a saved dataset or a Hub id"
            )
        source = _parquet([path], src, split, image_column, keep)
    elif path.is_dir():
        source = _open_folder(path, src, split, image_column, keep)
    elif re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", src) and not _looks_local(src):
        source = DatasetSource(_from_hub(src, split), src, image_column, keep, folders=_hub_folders(src))
    else:
        raise SetupError(f"there is no file or folder {src!r}; a dataset on the Hub is written ORG/NAME")
    if not len(source):
        raise SetupError(f"{source.location!r} holds no row; give a source with images")
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
    if tars := [p for p in files if p.suffix == ".tar"]:
        return _tars(tars, [p for p in (*files, *links) if p.suffix != ".tar"], src, split, keep)
    tables = [p for p in files if p.suffix == ".parquet"]
    if not tables or not all(p.suffix in (".parquet", ".md", ".json", ".gitattributes") for p in files):
        _refuse_split(split, "folders of images")
        return FolderSource(path, src, keep)
    source = _parquet(tables, src, split, image_column, keep)
    source.skipped = {"symbolic link": len(links)} if links else {}
    return source


def _parquet(
    files: Sequence[Path], src: str, split: str | None, image_column: str | None, keep: Sequence[str]
) -> ParquetSource:
    chosen = of_split([str(file) for file in files], split, src)
    return ParquetSource([Path(file) for file in chosen], src, image_column, keep)


def _tars(tars: Sequence[Path], others: Sequence[Path], src: str, split: str | None, keep: Sequence[str]) -> TarSource:
    """Tar shards; what lies beside them is counted, unless it holds rows itself."""
    _refuse_split(split, "tar shards")
    kinds = {path: kind_of_no_image(path) for path in others}
    rows = [path for path, kind in kinds.items() if kind is None or path.suffix == ".parquet"]
    if rows:
        raise SetupError(
            f"{src!r} mixes tar shards with images or parquet ({rows[0].name!r}), and a run reads one kind; "
            "put them into folders of their own"
        )
    source = TarSource(tars, src, keep)
    skipped = Counter(source.skipped) + Counter(kind for kind in kinds.values() if kind is not None)
    source.skipped = dict(sorted(skipped.items()))
    return source


def _refuse_split(split: str | None, what: str) -> None:
    if split is not None:
        raise SetupError(f"split={split!r}: {what} have no splits; leave --split out, and give the split's own folder")


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
