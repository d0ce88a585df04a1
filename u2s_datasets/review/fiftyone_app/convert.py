"""Rows to FiftyOne samples and back: `to_fiftyone`, `from_fiftyone`.

The database shows what the output holds and never holds anything alone: decisions are written to the output first, so
that a FiftyOne dataset can be deleted and imported again at any time.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING, Any

from u2s_datasets import columns as c
from u2s_datasets.errors import missing_extra

if TYPE_CHECKING:
    import fiftyone as fo
    from datasets import Dataset


def to_fiftyone(
    data: Any,
    name: str,
    media: str | Path,
    *,
    image_column: str = c.IMAGE,
    overwrite: bool = False,
    persistent: bool = True,
    progress: bool = False,
) -> fo.Dataset:
    """Show a run, or a dataset that went through the steps, in FiftyOne.

    Each row is a group of the slices `original` and `anonymized`, and the media fields `original_path` and
    `anonymized_path` toggle within one sample. An original that is not at hand or cannot be decoded is shown as a grey
    picture, so that no row is missing. Review items are `Detections` on the originals.

    Args:
        data: the folder of a finished run, or a `datasets.Dataset`.
        name: of the FiftyOne dataset.
        media: folder for the images that the App shows, originals among them: keep it private.
        image_column: the column of a dataset's originals.
        overwrite: whether to replace an earlier import of this name.
        persistent: whether the database keeps it when Python ends.
        progress: show a progress bar on standard error.

    Returns:
        The dataset, with the saved views "flagged", "withheld", "needs review" and "lowest scores".

    Raises:
        SetupError: no finished run or dataset, a name that is taken, or a column that FiftyOne cannot keep.
    """
    require()
    from u2s_datasets.review.fiftyone_app import bridge

    return bridge.to_fiftyone(data, name, media, image_column, overwrite, persistent, progress)


def from_fiftyone(view: Any) -> Dataset:
    """The rows that a view shows, as a `datasets.Dataset` with the columns that `to_fiftyone` was given.

    A column's type is the one it came with; what was edited in the App (captions, boxes of the review, decisions) is in
    it. Columns that steps added in FiftyOne come after the others. A row that is not publishable has no
    `anonymized_image`.

    Args:
        view: a dataset that `to_fiftyone` made, or any view into it.

    Raises:
        SetupError: it was made by something else.
    """
    require()
    from u2s_datasets.review.fiftyone_app import bridge

    return bridge.from_fiftyone(view)


def require() -> None:
    """Raise `MissingExtra` if FiftyOne is not installed."""
    if importlib.util.find_spec("fiftyone") is None:
        raise missing_extra("fiftyone", "fiftyone")
