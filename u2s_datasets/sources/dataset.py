"""Datasets as sources: saved with `save_to_disk`, or from the Hub."""

from __future__ import annotations

import hashlib
import json
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
    folder = _folder_of_split(path, request) if (path / "dataset_dict.json").is_file() else path
    try:
        state = json.loads((folder / "state.json").read_bytes())
        parts = [folder / str(part["filename"]) for part in state["_data_files"]]
        if not parts:  # `datasets` writes this and cannot read it
            raise SetupError(f"{request.address!r} holds no row; give a source with images")
        from datasets import load_from_disk

        data: Any = load_from_disk(str(folder))
        if folder == path and request.split not in (None, str(data.split)):
            request.refuse_split("datasets saved without a dict of splits")
        _check_parts(parts, data.features, request.keep)
    except SetupError:
        raise
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise SetupError(
            f"{request.address!r} cannot be read as a saved dataset: {type(error).__name__}: {error}; "
            "save it again with save_to_disk"
        ) from error
    return DatasetSource(data, request.address, request.image_column, request.keep, [path])


def _folder_of_split(path: Path, request: SourceRequest) -> Path:
    """The folder of the split that is asked for, or of the only one."""
    try:
        splits = json.loads((path / "dataset_dict.json").read_bytes())["splits"]
        return path / _choose_split(splits, request)
    except (OSError, ValueError, LookupError, TypeError) as error:
        if isinstance(error, SetupError):
            raise
        raise SetupError(
            f"{str(path / 'dataset_dict.json')!r} cannot be read: {error}; save the dataset again"
        ) from error


def _check_parts(parts: Sequence[Path], features: Any, keep: Sequence[str]) -> None:
    """Raise `SetupError` if a part declares a kept column otherwise than the whole: its classes would be exchanged."""
    import pyarrow as pa
    from datasets import Features

    for part in parts:
        with pa.memory_map(str(part)) as file:
            schema = pa.ipc.open_stream(file).schema
        own = Features.from_arrow_schema(schema) if b"huggingface" in (schema.metadata or {}) else {}
        for name in keep:
            if name in features and own.get(name, features[name]) != features[name]:
                raise SetupError(
                    f"column {name!r} is {own[name]} in the part {part.name!r} and {features[name]} in the dataset; "
                    f"save it again with save_to_disk, or leave --keep {name} out"
                )


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
    if isinstance(data, Mapping):
        data = data[_choose_split(list(data), request)]
    return DatasetSource(data, request.address, request.image_column, request.keep, [own, *map(Path, caches)])


def _choose_split(splits: Sequence[str], request: SourceRequest) -> str:
    """The split that is asked for, or the only one. Raises `SetupError` if there is no such split, or several."""
    split = splits[0] if request.split is None and len(splits) == 1 else request.split
    if split is None or split not in splits:
        raise SetupError(f"{request.address!r} has the splits {sorted(splits)}, not {split!r}; choose one with --split")
    return split


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
