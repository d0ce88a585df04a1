"""Rows for the bridge, from a run or a dataset: typed columns, and both images as they are stored."""

import json
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.images.stored import stored_bytes
from u2s_datasets.runs.decisions import REJECT
from u2s_datasets.runs.reader import RunFolder, StoredRow


@dataclass(frozen=True)
class BridgeRow:
    """One row.

    Args:
        name: its row id.
        index: its position.
        values: the columns, without images.
        original: the stored original; None if it cannot be had.
        anonymized: the encoded publishable image; None if the row is withheld.
    """

    name: str
    index: int
    values: dict[str, Any]
    original: Any
    anonymized: bytes | None


class RunRows:
    """The rows of a run, with the curators' decisions: a rejected row is withheld here before `data/` knows it.

    Args:
        folder: of the run.

    Raises:
        SetupError: it holds no finished run.
    """

    def __init__(self, folder: str | Path) -> None:
        self.run = RunFolder(Path(folder).expanduser().resolve())
        private = c.features((*c.PRIVATE, *c.REVIEW))
        self.features = {**private, **self.run.kept_features, **c.features([c.ANONYMIZED_IMAGE])}
        self.folder = self.run.layout.root
        self.info = {"folder": str(self.folder)}

    def __len__(self) -> int:
        return sum(shard.rows for shard in self.run.shards)

    def __iter__(self) -> Iterator[BridgeRow]:
        return self.some(None)

    def some(self, wanted: Collection[str] | None, originals: bool = True) -> Iterator[BridgeRow]:
        """These rows, or all of them; a shard without any of them is not read.

        Args:
            wanted: row ids.
            originals: whether to look up the originals as well.
        """
        decisions = self.run.decisions()
        for row in self.run.rows(wanted, originals, to_show=True):
            if row.private:
                yield _bridged(row, decisions.get(row.private[c.ROW_ID], {}))


def _bridged(row: StoredRow, decision: dict[str, Any]) -> BridgeRow:
    values = {**row.public, **row.private, **{name: decision.get(name) for name in c.REVIEW}}
    image = values.pop(c.ANONYMIZED_IMAGE, None)
    if decision.get(c.REVIEW_DECISION) == REJECT and values[c.STATUS] != c.WITHHELD:
        values |= {c.STATUS: c.WITHHELD, c.REASON: "rejected"}
    shown = image is not None and values[c.STATUS] in (c.SAFE, c.ANONYMIZED)
    original = None if row.item is None else row.item.image
    return BridgeRow(row.private[c.ROW_ID], row.position, values, original, image["bytes"] if shown else None)


class DatasetRows:
    """The rows of a dataset that went through some or all of the steps.

    Args:
        data: a `datasets.Dataset`.
        image_column: the column of the originals; it may be absent.

    Raises:
        SetupError: it is not a `Dataset`, or holds further images.
    """

    def __init__(self, data: Any, image_column: str = c.IMAGE) -> None:
        from datasets import Dataset, Image

        if not isinstance(data, Dataset):
            raise SetupError(
                f"cannot show a value of type {type(data).__name__}; expected a run's folder or a datasets.Dataset "
                "(one split; collect a stream with Dataset.from_list)"
            )
        pictures = [n for n, f in data.features.items() if isinstance(f, Image)]
        if others := [n for n in pictures if n not in (image_column, c.ANONYMIZED_IMAGE)]:
            raise SetupError(f"column {others[0]!r} holds further images; remove it, or pass image_column='…'")
        for name in pictures:
            data = data.cast_column(name, Image(decode=False))
        self.data, self.image_column = data, image_column
        self.features = {n: Image() if n in pictures else f for n, f in data.features.items()}
        self.info = {"image_column": image_column}

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[BridgeRow]:
        for index, row in enumerate(self.data):
            original, image = row.pop(self.image_column, None), row.pop(c.ANONYMIZED_IMAGE, None)
            given = row.get(c.ROW_ID)
            name = given if given and re.fullmatch(r"[\w-]{1,64}", given) else f"row-{index:07d}"  # it names files
            yield BridgeRow(name, index, row, original, stored_bytes(image))


def features_json(features: dict[str, Any]) -> str:
    """Features as JSON, for a dataset's `info`."""
    from datasets import Features

    return json.dumps(Features(features).to_dict())


def features_from(text: str) -> dict[str, Any]:
    """The features of `features_json`."""
    from datasets import Features

    return dict(Features.from_dict(json.loads(text)))
