"""Why a row has no value of a score, in words for a table."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

from u2s_datasets import columns as c

UNMEASURED = "unmeasured"
"""A column of `private/eval.parquet`: JSON, score -> the reason code why this row could not be measured."""

WITHHELD, NO_FACE, NO_TEXT = "withheld", "no face in the original", "no text in the original"
NO_ORIGINAL, FAILED, ELSE = "the original is not there", "could not be measured", "not measured"
_OF_TEXT = (c.TEXT_SIMILARITY, c.TEXT_RECALL)
_OF_PIXELS = (c.SSIM, c.LPIPS)
_NO_FIT = "the original does not fit its caption"
_SIZES = "the two sizes differ, or are too small"


def why(name: str, values: np.ndarray, batch: pa.RecordBatch, kept: np.ndarray) -> Counter[str]:
    """How many of the kept rows without a finite value have none for which reason.

    Args:
        name: the score column.
        values: (rows,) float64, NaN where there is none.
        batch: the rows, with whatever other columns were read.
        kept: (rows,) bool.
    """
    found: Counter[str] = Counter()
    if not (lost := np.flatnonzero(~np.isfinite(values) & kept)).size:
        return found
    status, noted, texts, faces = (_list(batch, n) for n in (c.STATUS, UNMEASURED, c.RESIDUAL_TEXT, c.FACES_BEFORE))
    ssim, clip = np.isfinite(_numbers(batch, c.SSIM)), _numbers(batch, c.CLIP_SIMILARITY)
    for i in lost:
        notes = json.loads(noted[i] or "{}")
        if status[i] == c.WITHHELD:
            found[WITHHELD] += 1
        elif c.IMAGE in notes:
            found[NO_ORIGINAL] += 1
        elif name in notes or (name == c.TEXT_RECALL and c.TEXT_SIMILARITY in notes):
            found[FAILED] += 1
        elif name == c.FACE_SIMILARITY and faces[i] == 0:
            found[NO_FACE] += 1
        elif name == c.CLIP_RATIO and noted[i] is not None and np.isfinite(clip[i]):
            found[_NO_FIT] += 1
        elif name in _OF_TEXT and texts[i] is not None:
            found[NO_TEXT] += 1
        elif name in _OF_PIXELS and not ssim[i] and noted[i] is not None:
            found[_SIZES] += 1
        else:
            found[ELSE] += 1
    return found


def _list(batch: pa.RecordBatch, name: str) -> list[Any]:
    return batch.column(name).to_pylist() if name in batch.schema.names else [None] * len(batch)


def _numbers(batch: pa.RecordBatch, name: str) -> np.ndarray:
    return np.array([np.nan if v is None else v for v in _list(batch, name)], float)
