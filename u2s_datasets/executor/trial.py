"""A dry run's look at a sample: what would be hidden, in numbers and on a page of pictures, before anything is written.

The page shows originals. It is written where the caller says, for its owner alone.
"""

import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.errors import RowError
from u2s_datasets.executor.local import Workers
from u2s_datasets.executor.pipeline import Pipeline
from u2s_datasets.sources.base import Item

if TYPE_CHECKING:
    from u2s_datasets.evaluation.report.report import Report

SAMPLE = 24
"""Rows that are looked at."""
_CHUNK = 2
_COMPRESSION = 24  # grey levels; JPEG at quality 75 moves fewer


@dataclass(frozen=True)
class Trial:
    """What a sample of a source became.

    Args:
        facts: what is known of the run before any row is done, as in `run.json`.
        report: the numbers of the sample.
        hidden: per edited row, the share of its pixels that changed, in [0, 1].
    """

    facts: Mapping[str, Any]
    report: "Report"
    hidden: Sequence[float]

    def __str__(self) -> str:
        lines = [
            f"{self.report.rows} of {self.facts['rows']:,} rows were tried out, evenly spread",
            "",
            str(self.report),
        ]
        if self.hidden:
            large = sum(share > 0.5 for share in self.hidden)
            lines += [
                "",
                f"painted in edited images: {np.mean(self.hidden):.0%} of the pixels on average, "
                f"{np.median(self.hidden):.0%} in the median; more than half in {large} of {len(self.hidden)}",
            ]
        return "\n".join(lines)

    def write_page(self, path: Path) -> None:
        """Write a page with originals beside what would be published, readable by its owner alone."""
        self.report.to_html(path, private=True)


def try_out(facts: Mapping[str, Any], pipeline: Pipeline, items: Sequence[Item], here: bool) -> Trial:
    """Do all steps with a sample.

    Args:
        facts: see `Trial`.
        pipeline: the steps.
        items: the sample.
        here: work in this process, and not in one that may crash.
    """
    from datasets import Dataset
    from datasets import Image as ImageFeature

    from u2s_datasets.evaluation.report.report import count

    workers: Workers[int, Item, dict[str, Any]] = Workers(pipeline, pipeline.crashed, 1, here=here)
    chunks = [(start, list(items[start : start + _CHUNK])) for start in range(0, len(items), _CHUNK)]
    made = [row for _, rows in workers.map(iter(chunks)) for row in rows]
    names = [name for name in dict.fromkeys((*c.PRIVATE, *c.PUBLIC)) if name != c.ROW_ID]  # a dataset's are numbers
    types = c.features(names)
    types[c.IMAGE] = ImageFeature()
    columns = {name: [row.get(name) for row in made] for name in names}
    columns[c.IMAGE] = [_shown(item) for item in items]
    counted = count(Dataset.from_dict(columns, features=types))
    report = dataclasses.replace(counted, run={**facts, "dry_run": True})
    shares = [_share(item, row) for item, row in zip(items, made, strict=True) if row[c.STATUS] == c.ANONYMIZED]
    return Trial(facts, report, shares)


def _shown(item: Item) -> dict[str, Any] | None:
    """The upright original as a page can show it; None for what cannot be decoded."""
    try:
        pixels = images.decode(item.image).pixels
    except RowError:
        return None
    return {"bytes": images.encode(pixels, "jpeg"), "path": None}  # of a large photo, PNG takes seconds


def _share(item: Item, row: Mapping[str, Any]) -> float:
    """The share of an edited image's pixels that are not the original's; compression moves the others a little."""
    before = np.asarray(images.decode(item.image).pixels, np.int16)
    with Image.open(io.BytesIO(row[c.ANONYMIZED_IMAGE]["bytes"])) as opened:
        after = np.asarray(opened.convert("RGB"), np.int16)
    return float((np.abs(before - after).max(axis=2) > _COMPRESSION).mean())
