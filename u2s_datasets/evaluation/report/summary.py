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
from u2s_datasets.errors import SetupError
from u2s_datasets.evaluation.report import missing
from u2s_datasets.parts.metrics.definitions import SCALES, Score
from u2s_datasets.parts.metrics.privacy import RaceEntropy, race_entropy

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
        race: "before" and "after" -> the entropy of the apparent races, where a model was asked for them.
        by_category: (category of `privacy_review`, score) -> (rows, sum of the score). Private.
        run: `run.json` of the folder; empty for a dataset.
        data: what the rows can be read from again.
        beyond: for the owner (True) and for anyone (False), what an evaluation added; see `Evaluation.plain`.
    """

    rows: int
    statuses: dict[str, int] | None
    reasons: dict[str, int]
    detections: dict[str, tuple[int, int]]
    scores: tuple[Score, ...]
    race: dict[str, RaceEntropy] = field(default_factory=dict)
    by_category: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    data: Any = field(default=None, repr=False, compare=False)
    beyond: dict[bool, dict[str, Any]] = field(default_factory=dict, repr=False)

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


OVER = ("all", "flagged")


def summarize(
    batches: Iterable[pa.RecordBatch], data: Any = None, over: str = "all", paper_compat: bool = False
) -> Summary:
    """Count the rows and gather the scores of record batches, one batch at a time. Does not check the sums.

    Args:
        batches: rows with whatever columns there are.
        data: what the rows can be read from again.
        over: "flagged" leaves the rows that were not flagged out of every score, as the paper does for COCO.
        paper_compat: the paper's definitions, where they differ over a set; see docs/metrics.md.
    """
    if over not in OVER:
        raise SetupError(f"over={over!r} is unknown; use one of: {', '.join(OVER)}")
    rows, names = 0, set(getattr(data, "names", ()))
    statuses, reasons, items, images = Counter(), Counter(), Counter(), Counter()  # type: ignore[var-annotated]
    gathered = _Scores(paper_compat)
    for batch in batches:
        rows += len(batch)
        names.update(batch.schema.names)
        statuses.update(values_of(batch, c.STATUS))
        reasons.update(_reasons(batch))
        _count_items(batch, items, images)
        gathered.add(batch, _kept(batch, over))
    return Summary(
        rows,
        {s: statuses[s] for s in c.STATUSES} if c.STATUS in names else None,
        dict(_ranked(reasons)),
        {name: (k, images[name]) for name, k in _ranked(items) if name != c.ERROR},
        gathered.scores(),
        gathered.race(),
        gathered.by_category(),
        getattr(data, "run", {}),
        data,
        getattr(data, "beyond", {}),
    )


def _kept(batch: pa.RecordBatch, over: str) -> np.ndarray:
    """The rows that count; a row without a flag does, since doubt is a flag."""
    flags = values_of(batch, c.PRIVACY_FLAG) or [None] * len(batch)
    return np.array([over == "all" or flag is not False for flag in flags], bool)


class _Scores:
    """The values of every score, eight bytes each, and what goes with them."""

    def __init__(self, paper_compat: bool) -> None:
        self.paper_compat = paper_compat
        self.values: dict[str, array] = {}
        self.why: dict[str, Counter[str]] = {}
        self.races: dict[str, list[list[str] | None]] = {}
        self.sums: dict[tuple[str, str], list[float]] = {}

    def add(self, batch: pa.RecordBatch, kept: np.ndarray) -> None:
        categories = _categories(batch)
        for name in (n for n in SCALES if n in batch.schema.names):
            values = _numbers(batch.column(name))
            if name == c.FACE_SIMILARITY and self.paper_compat and c.FACES_AFTER in batch.schema.names:
                values = np.where(_numbers(batch.column(c.FACES_AFTER)) == 0, math.nan, values)
            self.values.setdefault(name, array("d")).extend(values[kept])
            self.why.setdefault(name, Counter()).update(missing.why(name, values, batch, kept))
            for i, category in categories:
                if kept[i] and math.isfinite(values[i]):
                    sums = self.sums.setdefault((category, name), [0, 0.0])
                    sums[0] += 1
                    sums[1] += float(values[i])
        for name in (n for n in c.RACE if n in batch.schema.names):
            labels = [v for v, k in zip(values_of(batch, name), kept, strict=True) if k]
            self.races.setdefault(name, []).extend(labels)

    def scores(self) -> tuple[Score, ...]:
        found = ((name, np.array(self.values[name])) for name in SCALES if name in self.values)
        return tuple(Score.of(name, values, len(values), dict(_ranked(self.why[name]))) for name, values in found)

    def race(self) -> dict[str, RaceEntropy]:
        """Before and after, unless no image was judged at all."""
        judged = {name.removeprefix("race_"): v for name, v in self.races.items() if any(x is not None for x in v)}
        return {name: race_entropy(labels, self.paper_compat) for name, labels in judged.items()}

    def by_category(self) -> dict[tuple[str, str], tuple[int, float]]:
        return {key: (int(n), total) for key, (n, total) in sorted(self.sums.items())}


def _categories(batch: pa.RecordBatch) -> list[tuple[int, str]]:
    """(row, category) of all that was found, each once."""
    if not _has_review(batch):
        return []
    review = batch.column(c.PRIVACY_REVIEW)
    names = pc.struct_field(pc.list_flatten(review), "category").to_pylist()
    at = pc.list_parent_indices(review).to_pylist()
    return sorted({(i, str(name)) for i, name in zip(at, names, strict=True) if name != c.ERROR})


def _has_review(batch: pa.RecordBatch) -> bool:
    return c.PRIVACY_REVIEW in batch.schema.names and pa.types.is_list(batch.column(c.PRIVACY_REVIEW).type)


def _numbers(column: pa.Array) -> np.ndarray:
    return np.asarray(column.cast(pa.float64()).fill_null(math.nan).to_numpy(zero_copy_only=False), dtype=float)


def _reasons(batch: pa.RecordBatch) -> Iterator[str]:
    """The codes of the withheld rows. A code outside the vocabulary may be anything, so it is not repeated."""
    status = values_of(batch, c.STATUS)
    codes = values_of(batch, c.REASON) or [str(n).split(":")[0] for n in values_of(batch, c.NOTE)] or status
    return (k if k in c.REASON_CODES else UNRECORDED for k, s in zip(codes, status, strict=True) if s == c.WITHHELD)


def _count_items(batch: pa.RecordBatch, items: Counter, images: Counter) -> None:
    if not _has_review(batch):
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
