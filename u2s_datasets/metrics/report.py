"""What a run did to a set of images, in numbers: for a terminal, for a card, for two pages.

The counts must add up, or there is no report (law 2). Everything is read in batches, and the columns that hold
images are not read at all: what is kept is eight bytes per row and score.
"""

from __future__ import annotations

import json
import math
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from u2s_datasets import columns as c
from u2s_datasets.errors import U2SError
from u2s_datasets.metrics.dataset_rows import DatasetRows
from u2s_datasets.metrics.page import write_whole
from u2s_datasets.metrics.private_page import private_page
from u2s_datasets.metrics.public_page import public_page
from u2s_datasets.metrics.run_folder import Folder, adding_up, values_of
from u2s_datasets.metrics.scores import SCALES, Score
from u2s_datasets.metrics.tables import UNRECORDED, html_table, markdown_table, tables, text_table

if TYPE_CHECKING:
    from PIL import Image

Original = Callable[[str], "Image.Image | None"]
"""From a `source` to its upright original; none or `RowError` where it cannot be had."""

_RUN = ("skipped", "verified", "inspected_criteria", "not_inspected")


@dataclass(frozen=True)
class Report:
    """The numbers of one set. Printed, it is a table with everything; `to_*` give what may be published.

    Args:
        rows: rows in.
        statuses: rows per status, or none where nothing was anonymized yet.
        reasons: withheld rows per reason code.
        detections: per category of `privacy_review`, (items, images). Private.
        scores: one per score column that is there.
        run: `run.json` of the folder; empty for a dataset.
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

    def __str__(self) -> str:
        return "\n\n".join(map(text_table, tables(self, private=True)))

    def _repr_html_(self) -> str:
        return "".join(map(html_table, tables(self, private=True)))

    def to_markdown(self, private: bool = False) -> str:
        """The tables in Markdown.

        Args:
            private: also what was found per category, each score's worst value, and figures of fewer than 5 rows.
        """
        return "\n\n".join(map(markdown_table, tables(self, private))) + "\n"

    def to_json(self, private: bool = False) -> str:
        """The numbers as JSON; see `to_markdown` for `private`."""
        found = {k: {"items": items, "images": images} for k, (items, images) in self.detections.items()}
        plain = {
            "rows": self.rows,
            **(self.statuses or dict.fromkeys(c.STATUSES)),
            "reasons": self.reasons,
            **({"detections": found} if private else {}),
            "scores": {s.name: s.figures(private) for s in self.scores},
            **{k: self.run[k] for k in _RUN if k in self.run},
        }
        return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"

    def to_html(
        self,
        path: str | Path | None = None,
        private: bool = False,
        original: Original | None = None,
        max_images: int = 48,
        seed: int = 0,
    ) -> str:
        """One self-contained page.

        Args:
            path: where to write it too, whole or not at all; mode 0600 if private.
            private: the page with originals, file names and single rows, instead of the one for anyone.
            original: for a folder, gives the originals of the private page; a dataset has its own.
            max_images: pictures in the public gallery.
            seed: seed of the gallery's sample.
        """
        page = private_page(self, original) if private else public_page(self, max_images, seed)
        if path is not None:
            write_whole(Path(path), page, Path(path).parent, private)
        return page


def report(data: Any) -> Report:
    """The report of a dataset that went through the steps, or of the folder of a finished run.

    Args:
        data: a `datasets.Dataset`; columns may be absent. Or the folder, as a string or a path.

    Raises:
        U2SError: rows in are not safe + anonymized + withheld, or a folder's files disagree about them.
        SetupError: `data` is neither.
    """
    rows = Folder(Path(data)) if isinstance(data, (str, Path)) else DatasetRows(data)
    made = summarize(rows.batches((c.STATUS, c.REASON, c.NOTE, c.PRIVACY_REVIEW, *c.SCORE)), rows)
    if made.statuses and made.rows != sum(made.statuses.values()):
        raise U2SError(f"the rows do not add up: {adding_up(made.rows, made.statuses)}")
    rows.check(made)
    return made


def write_reports(out: Path, original: Original | None = None, max_images: int = 48, seed: int = 0) -> None:
    """Write `out/report.html`, for anyone, and `out/private/report.html`, for the owner, each whole or not at all.

    Args:
        out: folder of a finished run.
        original: gives the upright original of a `source`; none or a `RowError` leaves a placeholder.
        max_images: pictures in the public gallery.
        seed: seed of the gallery's sample.
    """
    made, home = report(out), Path(out) / "private"
    public = made.to_html(max_images=max_images, seed=seed)
    write_whole(home / "report.html", made.to_html(private=True, original=original), home, private=True)
    write_whole(Path(out) / "report.html", public, home, private=False)


def summarize(batches: Iterable[pa.RecordBatch], data: Any = None) -> Report:
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
    return Report(
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
