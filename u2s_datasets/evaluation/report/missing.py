"""Why a row has no value of a score, in words for a table."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from u2s_datasets import columns as c
from u2s_datasets.parts.metrics.definitions import SPECS

NO_ORIGINAL = "the original is not there"
FAILED = "could not be measured"
NOT_MEASURED = "not measured"


def rows_of(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """The columns that `missing_reasons` reads, None where the batch has no such column."""
    names = (c.STATUS, c.UNMEASURED, *c.SCORE)
    present = batch.select([name for name in names if name in batch.schema.names])
    return [dict.fromkeys(names) | row for row in present.to_pylist()]


def missing_reasons(name: str, rows: Sequence[Mapping[str, Any]], lost: np.ndarray) -> Counter[str]:
    """How many rows have no value for which reason.

    Args:
        name: the score column.
        rows: as of `rows_of`.
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
