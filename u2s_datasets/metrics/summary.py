"""The numbers of one set of rows, counted in batches.

The columns that hold images are not read at all: what is kept is eight bytes per row and score.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from u2s_datasets import columns as c
from u2s_datasets.metrics.scores import SCALES, Score

if TYPE_CHECKING:
    from PIL import Image

Original = Callable[[str], "Image.Image | None"]
"""From a `source` to its upright original; none or `RowError` where it cannot be had."""


UNRECORDED = "unrecorded"
"""Stands for a reason code that is not in the vocabulary."""


@dataclass(frozen=True)
class Summary:
    """The numbers of one set.

    Args:
        rows: rows in.
        statuses: rows per status, or none where nothing was anonymized yet.
        reasons: withheld rows per reason code.
        detections: per category of `privacy_review`, (items, images). Private.
        scores: one per score column that is there.
        run: `run.json` of the folder; empty for a dataset.
        data: what the rows can be read from again.
    """

    rows: int
    statuses: dict[str, int] | None
    reasons: dict[str, int]
    detections: dict[str, tuple[int, int]]
    scores: tuple[Score, ...]
    run: dict[str, Any] = field(default_factory=dict)
    data: Any = field(default=None, repr=False, compare=False)

    @property
    def safe(self) -> int | None:
        """Rows in which nothing was found."""
        return self.statuses[c.SAFE] if self.statuses else None

    @property
    def anonymized(self) -> int | None:
        """Rows that were edited."""
        return self.statuses[c.ANONYMIZED] if self.statuses else None

    @property
    def withheld(self) -> int | None:
        """Rows that stay home."""
        return self.statuses[c.WITHHELD] if self.statuses else None


def summarize(batches: Iterable[pa.RecordBatch], data: Any = None) -> Summary:
    """Count the rows and gather the scores of record batches, one batch at a time. Does not check the sums."""
    rows, names = 0, set(getattr(data, "names", ()))
    statuses, reasons, items, images = Counter(), Counter(), Counter(), Counter()  # type: ignore[var-annotated]
    values: dict[str, array] = {}
    for batch in batches:
        rows += len(batch)
        names.update(batch.schema.names)
        statuses.update(values_of(batch, c.STATUS))
        reasons.update(_reasons(batch))
        _count_items(batch, items, images)
        for name in SCALES:
            if name in batch.schema.names:
                values.setdefault(name, array("d")).extend(_numbers(batch.column(name)))
    return Summary(
        rows,
        {s: statuses[s] for s in c.STATUSES} if c.STATUS in names else None,
        dict(_ranked(reasons)),
        {name: (k, images[name]) for name, k in _ranked(items) if name != c.ERROR},
        tuple(Score.of(name, np.array(values[name]), rows) for name in SCALES if name in values),
        getattr(data, "run", {}),
        data,
    )


def _numbers(column: pa.Array) -> np.ndarray:
    return np.asarray(column.cast(pa.float64()).fill_null(math.nan).to_numpy(zero_copy_only=False), dtype=float)


def _reasons(batch: pa.RecordBatch) -> Iterator[str]:
    """The codes of the withheld rows. A code outside the vocabulary may be anything, so it is not repeated."""
    status = values_of(batch, c.STATUS)
    codes = values_of(batch, c.REASON) or [str(n).split(":")[0] for n in values_of(batch, c.NOTE)] or status
    return (k if k in c.REASON_CODES else UNRECORDED for k, s in zip(codes, status, strict=True) if s == c.WITHHELD)


def _count_items(batch: pa.RecordBatch, items: Counter, images: Counter) -> None:
    if c.PRIVACY_REVIEW not in batch.schema.names or not pa.types.is_list(batch.column(c.PRIVACY_REVIEW).type):
        return
    review = batch.column(c.PRIVACY_REVIEW)
    categories = pc.struct_field(pc.list_flatten(review), "category").to_pylist()
    items.update(categories)
    images.update(name for name, _ in set(zip(categories, pc.list_parent_indices(review).to_pylist(), strict=True)))


def _ranked(counts: Counter) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))


def values_of(batch: pa.RecordBatch, name: str) -> list[Any]:
    """A column as a list; empty where it is not there."""
    return batch.column(name).to_pylist() if name in batch.schema.names else []
