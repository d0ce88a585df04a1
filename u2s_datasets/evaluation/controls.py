"""The controls of `u2s eval`: each metric on pairs of which the answer is known.

An original as its own edit must score as untouched, and beside somebody else's edited image as far apart. A metric
that does not tell the two apart is broken, whatever it says of the set.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.evaluation.measure_rows import EvaluationJob
from u2s_datasets.parts.metrics.definitions import SPECS
from u2s_datasets.stages.base import each
from u2s_datasets.stages.batch import Row

CONTROLS = 16
"""Rows on which the controls are measured: they are to show that a metric works, not to estimate anything."""


def measure_controls(job: EvaluationJob) -> dict[str, dict[str, tuple[int, float]]]:
    """The controls on 16 rows at most, drawn by the seed; nothing without originals.

    Returns:
        "no-op" and "shuffled" -> score -> (rows, mean).
    """
    if job.original is None:
        return {}
    ids = [row[c.ROW_ID] for row in _published_rows(job)]
    chosen = set(random.Random(job.seed).sample(ids, min(CONTROLS, len(ids))))
    stored = [row for row in _published_rows(job) if row[c.ROW_ID] in chosen]
    values: dict[str, dict[str, list[float]]] = {"no-op": {}, "shuffled": {}}
    for row, other in zip(stored, stored[1:] + stored[:1], strict=True):
        partners = {"no-op": None, "shuffled": other} if len(stored) > 1 else {"no-op": None}
        for kind, partner in partners.items():
            for name, value in _measure_pair(job, row, partner).items():
                values[kind].setdefault(name, []).append(value)
    return {
        kind: {name: (len(v), float(np.mean(v))) for name, v in found.items()}
        for kind, found in values.items()
        if found
    }


def _published_rows(job: EvaluationJob) -> Iterator[dict[str, Any]]:
    names = (c.ROW_ID, c.SOURCE, c.STATUS, c.PRIVACY_FLAG, c.PRIVACY_REVIEW, c.PUBLIC_CAPTION)
    rows = (row for batch in job.run.stored(names) for row in batch.to_pylist())
    return (row for row in rows if row[c.STATUS] != c.WITHHELD and job.counts(row))


def _measure_pair(job: EvaluationJob, stored: dict[str, Any], partner: dict[str, Any] | None) -> dict[str, float]:
    """Scores of an original as its own edit, or beside the published image of a partner."""
    row = Row(job.original_of(stored), dict(stored))

    def prepare(rows: Sequence[Row]) -> list[bool]:
        pixels = row.decoded.pixels
        if partner is None:
            row.edited = pixels.copy()  # `Score` does not look at the pixels of the very same object
        else:
            found = next(iter(job.run.published([partner[c.ROW_ID]])))
            row.edited = images.decode(found[c.ANONYMIZED_IMAGE]).pixels.resize(pixels.size)
        return [True]

    if not each([row], prepare, "error")[0]:
        return {}
    job.score.run([row])
    names = [name for name, spec in SPECS.items() if spec.untouched is not None and name not in row.unmeasured]
    return {name: float(row.fields[name]) for name in names if row.fields.get(name) is not None}
