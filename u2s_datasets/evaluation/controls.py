"""The controls of `u2s eval`: each metric on pairs of which the answer is known.

An original as its own edit must score as untouched, and beside somebody else's edited image as far apart. A metric
that does not call the two so is broken, whatever it says of the set.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.evaluation.measure_rows import original_of
from u2s_datasets.evaluation.report.run_rows import RunRows
from u2s_datasets.evaluation.report.summary import Original
from u2s_datasets.parts.metrics.definitions import UNTOUCHED
from u2s_datasets.stages.base import each
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.score import Score

CONTROLS = 16
"""Rows on which the controls are measured: they are to show that a metric works, not to estimate anything."""


def measure_controls(
    folder: RunRows, score: Score, original: Original | None, over: str = "all", seed: int = 0
) -> dict[str, dict[str, tuple[int, float | None]]]:
    """ "no-op" and "shuffled" -> score -> (rows, mean), of 16 rows at most.

    Args:
        folder: the finished run.
        score: what to measure with.
        original: gives the upright original of a `source`; without one there is no control.
        over: "flagged" draws from the flagged rows alone.
        seed: of the sample.
    """
    ids = [r[c.ROW_ID] for r in _published_rows(folder, over)]
    chosen = set(random.Random(seed).sample(ids, min(CONTROLS, len(ids))))
    stored = [row for row in _published_rows(folder, over) if row[c.ROW_ID] in chosen]
    values: dict[str, dict[str, list[float]]] = {"no-op": {}, "shuffled": {}}
    for i, row in enumerate(stored if original else ()):
        other = stored[(i + 1) % len(stored)]
        for kind, partner in (("no-op", None), ("shuffled", other if len(stored) > 1 else None)):
            if kind == "shuffled" and partner is None:
                continue
            made = _control(folder, score, row, partner, original)
            for name, value in made.items():
                values[kind].setdefault(name, []).append(value)
    return {
        kind: {name: (len(v), float(np.mean(v))) for name, v in found.items()}
        for kind, found in values.items()
        if found
    }


def _published_rows(folder: RunRows, over: str) -> Iterator[dict[str, Any]]:
    names = (c.ROW_ID, c.SOURCE, c.STATUS, c.PRIVACY_FLAG, c.PRIVACY_REVIEW, c.PUBLIC_CAPTION)
    for batch in folder.stored(names):
        for row in batch.to_pylist():
            if row[c.STATUS] != c.WITHHELD and (over == "all" or row.get(c.PRIVACY_FLAG) is not False):
                yield row


def _control(
    folder: RunRows, score: Score, stored: dict[str, Any], partner: dict[str, Any] | None, original: Original | None
) -> dict[str, float]:
    row = Row(original_of(stored, original), dict(stored))

    def prepare(rows: Sequence[Row]) -> list[bool]:
        pixels = row.decoded.pixels
        if partner is None:
            row.edited = pixels.copy()  # a copy: the same object is not even looked at
        else:
            found = next(iter(folder.published([partner[c.ROW_ID]])))
            row.edited = images.decode(found[c.ANONYMIZED_IMAGE]).pixels.resize(pixels.size)
        return [True]

    if each([row], prepare, "error")[0]:
        score.run([row])
    return (
        {n: float(row.fields[n]) for n in UNTOUCHED if row.fields.get(n) is not None and n not in row.unmeasured}
        if row.edited
        else {}
    )
