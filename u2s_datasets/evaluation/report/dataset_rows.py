"""Reads a dataset that went through the steps, in batches, as `runs.reader` reads a folder."""

from collections.abc import Collection, Iterator
from typing import Any

import pyarrow as pa
from PIL import Image

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.evaluation.report.summary import Summary
from u2s_datasets.runs.reader import BATCH


class DatasetRows:
    """A dataset in memory or on disk; a row's id is its number.

    Args:
        data: a `datasets.Dataset`.

    Raises:
        SetupError: it is something else, or no step went over it.
    """

    def __init__(self, data: Any) -> None:
        from datasets import Dataset
        from datasets import Image as Feature

        if not isinstance(data, Dataset):
            raise SetupError(f"report() takes a Dataset or the folder of a run, not {type(data).__name__}")
        if not set(data.column_names) & {*c.PRIVATE, *c.PUBLIC}:
            raise SetupError(f"no column of a step among {data.column_names}; map u2s.anonymize over it first")
        self.data, self.names = data.with_format(None), data.column_names
        self.run: dict[str, Any] = {}
        pictures = [n for n, f in data.features.items() if isinstance(f, Feature) and n != c.ANONYMIZED_IMAGE]
        # Of several, only the steps' own default is known; another photo must not stand beside a row as its original.
        self.image = c.IMAGE if c.IMAGE in pictures else pictures[0] if len(pictures) == 1 else None

    def batches(self, names: Collection[str]) -> Iterator[pa.RecordBatch]:
        """Those of these columns that exist, and `row_id`, of every row."""
        present = [n for n in names if n in self.data.column_names and n != c.ROW_ID] or self.data.column_names[:1]
        start = 0
        for table in self.data.select_columns(present).with_format("arrow").iter(BATCH):
            for batch in table.to_batches():
                ids = pa.array([f"{i:09d}" for i in range(start, start + len(batch))], pa.string())
                start += len(batch)
                yield batch.append_column(c.ROW_ID, ids)

    def check(self, made: Summary) -> None:
        """Nothing: no other file counts these rows."""

    def ids(self) -> list[str]:
        """The numbers of the rows that may be published, sorted."""
        if c.ANONYMIZED_IMAGE not in self.data.column_names:
            return []
        rows = (row for batch in self.batches((c.STATUS,)) for row in batch.to_pylist())
        return [row[c.ROW_ID] for row in rows if row.get(c.STATUS) in (c.SAFE, c.ANONYMIZED)]

    def published(self, ids: Collection[str]) -> Iterator[dict[str, Any]]:
        """Those rows, with their encoded images, one by one."""
        names = [n for n in (c.ANONYMIZED_IMAGE, c.STATUS, c.PUBLIC_CAPTION) if n in self.data.column_names]
        for i in ids if c.ANONYMIZED_IMAGE in names else ():
            yield {**self._one(int(i), c.ANONYMIZED_IMAGE, names), c.ROW_ID: i}

    def original(self, row: dict[str, Any]) -> Image.Image | None:
        """The upright image of a row of `batches`."""
        from datasets import Image as Feature
        from PIL import ImageOps

        if self.image is None:
            return None
        value = self._one(int(row[c.ROW_ID]), self.image, [self.image])[self.image]
        return None if value is None else ImageOps.exif_transpose(Feature().decode_example(value))

    def _one(self, at: int, image: str, names: list[str]) -> dict[str, Any]:
        from datasets import Image as Feature

        return self.data.select([at]).select_columns(names).cast_column(image, Feature(decode=False))[0]
