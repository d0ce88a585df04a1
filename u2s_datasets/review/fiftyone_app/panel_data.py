"""What the panel "Privacy review" shows: counts, distributions, the queue, one pair. Bulk reads only."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from fiftyone import ViewField as F

from u2s_datasets import columns as c
from u2s_datasets.parts.metrics.definitions import SPECS
from u2s_datasets.review import audit
from u2s_datasets.review.fiftyone_app import actions, mirror
from u2s_datasets.review.fiftyone_app import fields as f
from u2s_datasets.review.fiftyone_app import samples as s
from u2s_datasets.runs.decisions import APPROVE, PENDING, REEDIT, REJECT

QUEUE = 500
"""Rows of the queue that are looked up at a time."""

_EDGES = {f.RISK: (0.0, 1.0, 20), c.PRIVACY_SCORE: (0.0, 1.0, 20)}


@dataclass(frozen=True)
class Histogram:
    """One score's distribution.

    Args:
        name: of its field.
        goal: what is hoped for, for people.
        edges: n + 1 edges of n bars; a bar holds its lower edge, the last one both.
        counts: rows per bar.
    """

    name: str
    goal: str
    edges: list[float]
    counts: list[int]

    @property
    def middles(self) -> list[float]:
        """Where the bars are drawn."""
        return [round((a + b) / 2, 6) for a, b in zip(self.edges, self.edges[1:], strict=False)]


def is_ready(dataset: Any) -> bool:
    """Whether there is something to review: an import of anonymized rows."""
    schema = dataset.get_field_schema() if s.info_of(dataset) else {}
    return {c.STATUS, c.PRIVACY_REVIEW, f.RISK} <= set(schema)


def counts(dataset: Any) -> dict[str, dict[str, int]]:
    """Rows per status, per criterion of the review (images that have it), and per withheld row's reason."""
    view = s.originals(dataset)
    schema = dataset.get_field_schema()
    found: dict[str, dict[str, int]] = {}
    for title, field in (("status", c.STATUS), ("reason", c.REASON)):
        if field in schema:
            found[title] = {k: n for k, n in view.count_values(field).items() if k is not None}
    if c.PRIVACY_REVIEW in schema:
        paths = [f"{c.PRIVACY_REVIEW}.detections.label", f"{f.UNPLACED}.classifications.label"]
        boxes, others = view.values(paths)
        both = (set(a or ()) | set(b or ()) for a, b in zip(boxes, others, strict=True))
        found["criterion"] = dict(Counter(name for names in both for name in names).most_common())
    return found


def histograms(dataset: Any) -> list[Histogram]:
    """The distribution of every score that some row has; the residual risk first."""
    schema, view = dataset.get_field_schema(), s.originals(dataset)
    names = [name for name in (*_EDGES, *SPECS) if name in schema]
    found = []
    for name, values in zip(names, view.values(names) if names else [], strict=True):
        known = [value for value in values if value is not None]
        if known:
            low, high, bars = _bins(name)
            numbers, edges = np.histogram(np.clip(known, low, high), bars, (low, high))
            goal = SPECS[name].goal if name in SPECS else "low (less suspected)"
            found.append(Histogram(name, goal, [float(edge) for edge in edges], [int(n) for n in numbers]))
    return found


def _bins(name: str) -> tuple[float, float, int]:
    """The least and the greatest edge, and the number of bars."""
    return (SPECS[name].low, SPECS[name].high, SPECS[name].bins) if name in SPECS else _EDGES[name]


def bar_view(dataset: Any, name: str, bar: int) -> Any:
    """The samples behind a bar. The outer bars are open: what lies beyond the edges is in them."""
    low, high, bars = _bins(name)
    edges = np.linspace(low, high, bars + 1)
    chosen = F(name) != None  # noqa: E711  a field's own comparison
    if bar > 0:
        chosen &= F(name) >= float(edges[bar])
    if bar < bars - 1:
        chosen &= F(name) < float(edges[bar + 1])
    return dataset.match(chosen)


def queue(dataset: Any, audit_first: bool = True) -> list[str]:
    """The rows to look at next: an audit's in their drawn order, else the highest residual risk first.

    A row that was approved or rejected is done with; one that is sent back is not looked at again before it is edited.
    """
    folder = mirror.run_folder(dataset)
    sample = audit.read_sample(folder) if folder is not None and audit_first else None
    if sample is not None:
        return [row for row in sample["drawn"] if row not in sample["judged"]]
    view = s.originals(dataset).match(F(c.STATUS).is_in([c.SAFE, c.ANONYMIZED]))
    if c.REVIEW_DECISION in dataset.get_field_schema():
        done = [APPROVE, REJECT, REEDIT]
        asked = view.match(F(c.REVIEW_DECISION) == PENDING).sort_by(f.RISK, reverse=True)
        others = view.match(~F(c.REVIEW_DECISION).is_in([*done, PENDING])).sort_by(f.RISK, reverse=True)
        return [*asked.limit(QUEUE).values(c.ROW_ID), *others.limit(QUEUE).values(c.ROW_ID)]
    return view.sort_by(f.RISK, reverse=True).limit(QUEUE).values(c.ROW_ID)


def pair(dataset: Any, row: str) -> dict[str, Any]:
    """What the pair view shows of a row: both images' addresses in the App, and what is known of it."""
    sample = mirror.carriers(dataset, [row]).first()
    folder = Path(s.info_of(dataset).get("media", "/"))
    paths = [sample[name] for name in (f.ORIGINAL_PATH, f.ANONYMIZED_PATH)]
    shown = [p if p and Path(p).is_relative_to(folder) else None for p in paths]
    boxes = sample[c.PRIVACY_REVIEW].detections if sample[c.PRIVACY_REVIEW] else []
    found = Counter(box.label for box in boxes)
    return {
        "row": row,
        "original": None if shown[0] is None else f"/media?filepath={quote(shown[0])}",
        "anonymized": None if shown[1] is None else f"/media?filepath={quote(shown[1])}",
        "status": sample[c.STATUS],
        "decision": sample[c.REVIEW_DECISION] if sample.has_field(c.REVIEW_DECISION) else None,
        "risk": sample[f.RISK],
        "found": ", ".join(f"{n} {name}" for name, n in found.items()) or "nothing",
    }


def pair_view(dataset: Any, row: str) -> Any:
    """The row's group alone."""
    return dataset.match(F(c.ROW_ID) == row)


def progress(dataset: Any) -> dict[str, Any]:
    """Decisions so far, and the audit under way or its result."""
    folder = mirror.run_folder(dataset)
    found: dict[str, Any] = {"decisions": {}}
    if folder is not None:
        found["decisions"] = dict(actions.progress_of(dataset))
        sample, result = audit.read_sample(folder), audit.read_result(folder)
        found["audit"] = None if sample is None else {"n": sample["n"], "judged": len(sample["judged"])}
        found["result"] = result
    return found
