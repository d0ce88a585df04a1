"""The numbers of one set of rows, counted in batches.

The columns that hold images are not read at all; eight bytes per row and score stay in memory.
"""

import itertools
import json
import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.parts.metrics.definitions import SPECS, Distribution
from u2s_datasets.parts.metrics.privacy import RaceEntropy, race_entropy

if TYPE_CHECKING:
    from PIL import Image

Original = Callable[[str], "Image.Image | None"]
"""From a `source` to its upright original; None or a `RowError` for one that cannot be had."""

OVER = ("all", "flagged")
"""Which rows count in the scores."""

NO_ORIGINAL = "the original is not there"
FAILED = "could not be measured"
NOT_MEASURED = "not measured"

UNRECORDED = "unrecorded"
"""Stands for a reason code that is not in the vocabulary."""


@dataclass(frozen=True)
class Summary:
    """The numbers of one set.

    Args:
        rows: rows in.
        statuses: rows per status, None where nothing was anonymized yet.
        reasons: withheld rows per reason code.
        unverified: publishable rows that are not verified; None where no row says anything of it.
        detections: per category of `privacy_review`, (items, images). Private.
        scores: one distribution per score column that was read.
        race: "before" and "after" -> the entropy of the apparent races, where a model was asked for them.
        by_category: (category of `privacy_review`, score) -> (rows, sum of the score). Private.
        run: `run.json` of the folder; empty for a dataset.
        data: what the rows can be read from again.
        beyond: for the owner (True) and for anyone (False), what an evaluation added; see `Evaluation.plain`.
    """

    rows: int
    statuses: dict[str, int] | None
    reasons: dict[str, int]
    unverified: int | None
    detections: dict[str, tuple[int, int]]
    scores: tuple[Distribution, ...]
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
        """Rows that are not published."""
        return self.statuses[c.WITHHELD] if self.statuses else None


def check_over(over: str) -> None:
    """Raise `SetupError` for an unknown choice of rows."""
    if over not in OVER:
        raise SetupError(f"unknown over={over!r}; expected one of: {', '.join(OVER)}")


def summarize(
    batches: Iterable[pa.RecordBatch], data: Any = None, over: str = "all", paper_compat: bool = False
) -> Summary:
    """Count the rows and gather the scores of record batches, one batch at a time. Does not check the sums.

    Args:
        batches: rows with whatever columns there are.
        data: what the rows can be read from again.
        over: "flagged" leaves the rows that were not flagged out of every score, as the paper does for COCO.
        paper_compat: the paper's definitions, where they differ over a set; see docs/metrics.md.

    Raises:
        SetupError: an unknown `over`.
    """
    check_over(over)
    rows, names = 0, set(getattr(data, "names", ()))
    statuses: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    unverified: Counter[bool] = Counter()
    items: Counter[str] = Counter()
    images: Counter[str] = Counter()
    gathered = _Scores(paper_compat)
    for batch in batches:
        rows += len(batch)
        names.update(batch.schema.names)
        statuses.update(values_of(batch, c.STATUS))
        reasons.update(_withheld_reasons(batch))
        unverified.update(map(c.is_unverified, values_of(batch, c.STATUS), values_of(batch, c.PROVENANCE)))
        found = _found(batch)
        items.update(category for _, category in found)
        images.update(category for _, category in set(found))
        # A row without a flag counts too, since doubt is a flag.
        flags = values_of(batch, c.PRIVACY_FLAG) or [None] * len(batch)
        gathered.add(batch, np.array([over == "all" or flag is not False for flag in flags], bool), found)
    return Summary(
        rows,
        {s: statuses[s] for s in c.STATUSES} if c.STATUS in names else None,
        dict(_ranked(reasons)),
        unverified[True] if c.PROVENANCE in names else None,
        {name: (k, images[name]) for name, k in _ranked(items) if name != c.ERROR},
        gathered.distributions(),
        gathered.race(),
        dict(sorted(gathered.sums.items())),
        getattr(data, "run", {}),
        data,
        getattr(data, "beyond", {}),
    )


class _Scores:
    """The values of every score, eight bytes each, and what goes with them.

    Attributes:
        values: score -> one value per row that counts, NaN where it has none.
        why: score -> rows without a value per reason.
        labels: column of `columns.RACE` -> one list of labels per row, None where it was not judged.
        sums: (category of what was found, score) -> (rows, sum of the score).
    """

    def __init__(self, paper_compat: bool) -> None:
        self.paper_compat = paper_compat
        self.values: dict[str, array[float]] = {}
        self.why: dict[str, Counter[str]] = {}
        self.labels: dict[str, list[list[str] | None]] = {}
        self.sums: dict[tuple[str, str], tuple[int, float]] = {}

    def add(self, batch: pa.RecordBatch, kept: np.ndarray, found: Iterable[tuple[int, str]]) -> None:
        """Add the rows of a batch that are kept, a (rows,) bool; `found` as of `_found`."""
        names = (c.STATUS, c.UNMEASURED, *c.SCORE)
        present = batch.select([name for name in names if name in batch.schema.names])
        rows = [dict.fromkeys(names) | row for row in present.to_pylist()]
        categories = sorted({(i, str(name)) for i, name in found if name != c.ERROR and kept[i]})
        for name in (n for n in SPECS if n in batch.schema.names):
            values = _numbers(batch.column(name))
            if name == c.FACE_SIMILARITY and self.paper_compat and c.FACES_AFTER in batch.schema.names:
                values = np.where(_numbers(batch.column(c.FACES_AFTER)) == 0, math.nan, values)
            lost = ~np.isfinite(values)
            self.values.setdefault(name, array("d")).extend(values[kept])
            self.why.setdefault(name, Counter()).update(_missing_reasons(name, rows, lost & kept))
            for i, category in categories:
                if not lost[i]:
                    n, total = self.sums.get((category, name), (0, 0.0))
                    self.sums[category, name] = (n + 1, total + float(values[i]))
        for name in (n for n in c.RACE if n in batch.schema.names):
            labels = itertools.compress(values_of(batch, name), kept)
            self.labels.setdefault(name, []).extend(labels)

    def distributions(self) -> tuple[Distribution, ...]:
        """One per score column that some batch had."""
        found = {name: np.array(self.values[name]) for name in SPECS if name in self.values}
        return tuple(Distribution.of(n, values, len(values), dict(_ranked(self.why[n]))) for n, values in found.items())

    def race(self) -> dict[str, RaceEntropy]:
        """Before and after, unless no image was judged at all."""
        judged = {name.removeprefix("race_"): v for name, v in self.labels.items() if any(x is not None for x in v)}
        return {name: race_entropy(labels, self.paper_compat) for name, labels in judged.items()}


def _missing_reasons(name: str, rows: Sequence[Mapping[str, Any]], lost: np.ndarray) -> Counter[str]:
    """How many rows have no value for which reason.

    Args:
        name: the score column.
        rows: the columns that tell, None where there is no such column.
        lost: (rows,) bool, the rows without a finite value that count.
    """
    spec = SPECS[name]
    found: Counter[str] = Counter()
    for row in itertools.compress(rows, lost):
        notes = json.loads(row[c.UNMEASURED] or "{}")
        if row[c.STATUS] == c.WITHHELD:
            found[c.WITHHELD] += 1
        elif c.IMAGE in notes:
            found[NO_ORIGINAL] += 1
        elif name in notes or spec.noted_as in notes:
            found[FAILED] += 1
        elif spec.undefined is not None and spec.undefined.applies(row):
            found[spec.undefined.reason] += 1
        else:
            found[NOT_MEASURED] += 1
    return found


def _found(batch: pa.RecordBatch) -> list[tuple[int, str]]:
    """(row, category) of every item of the reviews."""
    if c.PRIVACY_REVIEW not in batch.schema.names or not pa.types.is_list(batch.column(c.PRIVACY_REVIEW).type):
        return []
    review = batch.column(c.PRIVACY_REVIEW)
    categories = pc.struct_field(pc.list_flatten(review), "category").to_pylist()
    return list(zip(pc.list_parent_indices(review).to_pylist(), categories, strict=True))


def _withheld_reasons(batch: pa.RecordBatch) -> Iterator[str]:
    """The reason codes of the withheld rows.

    A code outside the vocabulary may be any text, and the counts are public, so it is not repeated.
    """
    status = values_of(batch, c.STATUS)
    codes = values_of(batch, c.REASON) or [str(n).split(":")[0] for n in values_of(batch, c.NOTE)] or status
    return (k if k in c.REASON_CODES else UNRECORDED for k, s in zip(codes, status, strict=True) if s == c.WITHHELD)


def _numbers(column: pa.Array) -> np.ndarray:
    return np.asarray(column.cast(pa.float64()).fill_null(math.nan).to_numpy(zero_copy_only=False), dtype=float)


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))


def values_of(batch: pa.RecordBatch, name: str) -> list[Any]:
    """A column as a list; empty where the batch has no such column."""
    return batch.column(name).to_pylist() if name in batch.schema.names else []
