"""Second arrow: a private and a public caption. Without a model they say counts and places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from u2s_datasets import columns
from u2s_datasets.rows import Row
from u2s_datasets.stages import places
from u2s_datasets.stages.step import Step, each_row


@dataclass(frozen=True)
class Caption(Step):
    """Describe an image twice from what `inspect` found.

    The private caption holds what was read; the public one holds counts and places only. Rows that were not
    flagged get a public caption alone; rows that could not be read get none.

    Args:
        image_column: the column that holds the source image.
    """

    reads = columns.INSPECT
    writes = columns.CAPTION

    def run(self, batch: Sequence[Row]) -> None:
        """Write `private_caption` and `public_caption`."""
        for row in batch:
            row.fields.update(dict.fromkeys(columns.CAPTION))
        each_row([row for row in batch if row.failure is None], _caption, "error")


def _caption(row: Row) -> None:
    review = row.fields.get(columns.PRIVACY_REVIEW) or []
    size = row.decoded.pixels.size
    found = places.regions(review, size)
    public = f"A {places.shape(size)} photo" + (f" with {places.phrase(found)}" if found else "") + "."
    read = [item["item"] for item in review if item["category"] == "text" and item["item"]]
    row.fields[columns.PUBLIC_CAPTION] = public
    if row.fields.get(columns.PRIVACY_FLAG) is not False:
        row.fields[columns.PRIVATE_CAPTION] = public + (f" It reads: {'; '.join(read)}." if read else "")
