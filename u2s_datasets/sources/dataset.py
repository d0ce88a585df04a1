"""Datasets as sources: saved with `save_to_disk`, or from the Hub."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.sources.base import Item, SourceRequest
from u2s_datasets.sources.table import TableSource


def open_saved_dataset(request: SourceRequest) -> DatasetSource | None:
    """A local folder that `save_to_disk` wrote."""
    path = request.path
    if path is None or not any((path / name).exists() for name in ("dataset_dict.json", "state.json")):
        return None
    from datasets import load_from_disk

    return _open(load_from_disk(str(path)), request, [path])


def open_hub_dataset(request: SourceRequest) -> DatasetSource | None:
    """A dataset on the Hub, by its id "ORG/NAME"."""
    name = request.address
    # Asking the Hub for a missing local path would tell the Hub what folders here are called.
    local = "./" in name or name.startswith(("/", "~")) or Path(name.split("/")[0]).exists()
    if local or not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name):
        return None
    from datasets import config, load_dataset
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub.constants import HF_HUB_CACHE

    try:
        data = load_dataset(name)
    except (DatasetNotFoundError, ConnectionError, OSError) as error:
        raise SetupError(
            f"{name!r} is not a folder here, and the Hub dataset of that name could not be loaded: {error}"
        ) from error
    caches = (config.HF_DATASETS_CACHE, config.DOWNLOADED_DATASETS_PATH, config.EXTRACTED_DATASETS_PATH)
    own = Path(HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}"
    return _open(data, request, [own, *map(Path, caches)])


def _open(data: Any, request: SourceRequest, folders: Sequence[Path]) -> DatasetSource:
    """The source of a dataset, or of the one split of a dict of datasets that is asked for."""
    if isinstance(data, Mapping):
        split = next(iter(data)) if request.split is None and len(data) == 1 else request.split
        if split not in data:
            raise SetupError(
                f"{request.address!r} has the splits {sorted(data)}, not {split!r}; choose one with --split"
            )
        data = data[split]
    return DatasetSource(data, request.address, request.image_column, request.keep, folders)


class DatasetSource(TableSource):
    """A `datasets.Dataset`.

    Args:
        data: the dataset.
        location: as the user gave it.
        image_column: the name of the image column; None to find it by its type.
        keep: columns to carry along.
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
        """The rows from number `start` up to `stop`, undecoded."""
        for first in range(start, min(stop, len(self)), 64):
            yield from self.items(first, self.data[first : min(first + 64, stop)], self.folders, absolute=True)

    def kept_values(self, names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """These kept columns of every row."""
        data = self.data.select_columns(list(names))
        for first in range(0, len(self), 1000):
            yield from data[first : first + 1000].to_pylist()

    def fingerprint(self) -> str:
        """Digest of the dataset's own fingerprint."""
        return hashlib.sha256(f"{self.data._fingerprint} {len(self)}".encode()).hexdigest()
