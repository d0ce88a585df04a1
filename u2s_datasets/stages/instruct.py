"""Third arrow: what the editor is to do, and how the result will look, in public words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from u2s_datasets import columns
from u2s_datasets.rows import Row
from u2s_datasets.stages import places
from u2s_datasets.stages.step import Step, each_row


@dataclass(frozen=True)
class Instruct(Step):
    """Write the edit instruction from counts and places, and merge it with the public caption.

    Rows that were not flagged, or cannot be edited, get no instruction.

    Args:
        image_column: the column that holds the source image.
    """

    reads = (*columns.INSPECT, columns.PUBLIC_CAPTION)
    writes = columns.INSTRUCT

    def run(self, batch: Sequence[Row]) -> None:
        """Write `edit_instruction` and `edit_caption`."""
        for row in batch:
            row.fields.update(dict.fromkeys(columns.INSTRUCT))
        each_row([row for row in batch if row.failure is None], _instruct, "error")


def _instruct(row: Row) -> None:
    caption = row.fields.get(columns.PUBLIC_CAPTION)
    found = places.regions(row.fields.get(columns.PRIVACY_REVIEW) or [], row.decoded.pixels.size)
    if row.fields.get(columns.PRIVACY_FLAG) is False:
        row.fields[columns.EDIT_CAPTION] = caption
    elif found:
        row.fields[columns.EDIT_INSTRUCTION] = f"Hide {places.phrase(found)} and keep everything else as it is."
        row.fields[columns.EDIT_CAPTION] = f"A {places.shape(row.decoded.pixels.size)} photo in which " + (
            f"{places.phrase(found)} cannot be made out."
        )
