"""One row on its way out: what would leave, and beside it what must not be said."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from u2s_datasets import columns as c

DECISION = "review_decision"
"""Column with a curator's decision: none where no review was asked for, "approve", "reject"; anything else waits."""

DECISIONS_FILE = "reviews.json"
"""In `private/` of a run: {row_id: {"review_decision": …, "review_by": …, "review_at": …}}."""


@dataclass(frozen=True)
class Candidate:
    """One row of a source.

    Args:
        public: the columns that would leave, by name; the image as it is stored, {bytes, path}. Empty where the row
            stays home.
        status: `safe`, `anonymized`, `withheld` or whatever stands there.
        flagged: whether the original is private; a row about which nothing is known counts as private.
        review: the privacy review.
        caption: the private caption, or "".
        classes: names of its classes, which the user publishes; a text may say them.
        names: what the row's own file is called, see `Item.own_names`.
        source: the row's place in the source, a path as a rule, or "".
        seed: the row's own seed.
        scores: score -> value, none where it was not measured.
        decision: see `DECISION`.
        original: the stored original; none where it cannot be had.
        others: further images of the row, any of which may be the original instead.
    """

    public: Mapping[str, Any]
    status: str
    flagged: bool = True
    review: Sequence[dict[str, Any]] = ()
    caption: str = ""
    classes: str = ""
    names: Sequence[str] = ()
    source: str = ""
    seed: int | None = None
    scores: Mapping[str, float | None] = field(default_factory=dict)
    decision: str | None = None
    original: Any = None
    others: Sequence[Any] = ()

    @property
    def originals(self) -> tuple[Any, ...]:
        """Everything that an image is compared with."""
        return (self.original, *self.others)


def classes_of(row: Mapping[str, Any], features: Mapping[str, Any]) -> str:
    """The names of a row's classes, in one text."""
    from datasets import ClassLabel

    labels = [(f, row.get(name)) for name, f in features.items() if isinstance(f, ClassLabel)]
    return " ".join(f.names[v] for f, v in labels if isinstance(v, int) and 0 <= v < f.num_classes).replace("_", " ")


def caption_of(row: Mapping[str, Any], public: Mapping[str, Any]) -> str:
    """A row's private caption; "" where the row stays home and its public caption is the same, so not private."""
    caption = row.get(c.PRIVATE_CAPTION) or ""
    return caption if public or caption != row.get(c.PUBLIC_CAPTION) else ""


def rounded(value: float | None) -> float | None:
    """A score with two digits: one with all of them would recognise a candidate original."""
    return None if value is None or not math.isfinite(value) else float(f"{value:.2g}")
