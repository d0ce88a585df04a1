"""What `u2s eval` does with the rows of a finished run: measure what the run did not, and attack them.

Rows go through in batches of 16; what stays in memory is a few numbers per row, what is large lies on disk.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from u2s_datasets import columns as c
from u2s_datasets.errors import RowError
from u2s_datasets.evaluation.attacks import Attack, Gallery
from u2s_datasets.evaluation.report.missing import UNMEASURED
from u2s_datasets.evaluation.report.page import side_by_side
from u2s_datasets.evaluation.report.run_rows import WHOLE, RunRows
from u2s_datasets.evaluation.report.summary import Original, summarize
from u2s_datasets.runs.reader import read
from u2s_datasets.stages.base import each
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.measures import standing_in
from u2s_datasets.stages.score import Score

AT_ONCE = 16
_READ = (c.ROW_ID, c.SOURCE, c.STATUS, c.PRIVACY_FLAG, c.PRIVACY_REVIEW, c.PUBLIC_CAPTION, *c.SCORE, *c.RACE)


def measure_rows(
    folder: RunRows, score: Score, original: Original | None, scratch: Path, over: str = "all", seed: int = 0
) -> tuple[Attack, ...]:
    """Write `eval.parquet` into `scratch`, and the attacks on the set where an encoder was given.

    Args:
        folder: the finished run.
        score: what to measure with.
        original: gives the upright original of a `source`; without one only what needs none is measured.
        scratch: an empty private folder on the same disk.
        over: "flagged" leaves out the pairs of rows that were not flagged.
        seed: of the shuffled control.
    """
    measured = {s.name for s in summarize(folder.stored(c.SCORE)).scores if s.n}
    known = {c.RESIDUAL_FACES, c.RESIDUAL_TEXT, c.TEXT_SIMILARITY, c.TEXT_RECALL} <= measured
    scoring = dataclasses.replace(score, inspect=None) if known and not score.paper_compat else score
    galleries = {name: Gallery(scratch, name) for name, part in (("clip", score.clip), ("face", score.faces)) if part}
    try:
        queries = _measure(folder, scoring, original, scratch, over, galleries)
        return tuple(a for name in galleries for a in galleries[name].attacks(queries, seed))
    finally:
        for gallery in galleries.values():
            gallery.close()


def _measure(
    folder: RunRows, score: Score, original: Original | None, scratch: Path, over: str, galleries: dict[str, Gallery]
) -> int:
    """Write every row's scores, fill the galleries; the number of anonymized images that were tried."""
    features = c.features((c.ROW_ID, *c.SCORE, *c.RACE, UNMEASURED))
    number, queries = 0, 0
    schema = features.arrow_schema.with_metadata({WHOLE: b"1"} if score.paper_compat else {})
    with pq.ParquetWriter(scratch / folder.layout.evaluated.name, schema) as writer:
        (scratch / folder.layout.evaluated.name).chmod(0o600)
        for path in folder.layout.private_halves():
            for stored in _stretches(path):
                rows = _rows(folder, stored, path.name, original)
                tried = [r for r in rows if over == "all" or r.fields[c.PRIVACY_FLAG] is not False]
                known = [dict(row.fields) for row in rows]
                score.run(tried)
                _embed_originals(score, [r for r in rows if not r.embeddings])
                for i, row in enumerate(rows):
                    edited = row.fields[c.STATUS] == c.ANONYMIZED and row in tried
                    queries += edited
                    for name, gallery in galleries.items():
                        before, after = row.embeddings.get(name, (np.zeros((0, 1)), None))
                        gallery.add(number + i, before, after if edited else None)
                number += len(rows)
                answers = [_answer(row, old, score.paper_compat) for row, old in zip(rows, known, strict=True)]
                writer.write_table(pa.Table.from_pylist(answers, schema=schema))
    return queries


def _stretches(path: Path) -> Iterator[list[dict[str, Any]]]:
    return (batch.to_pylist() for batch in read(path, _READ, AT_ONCE))


def _rows(folder: RunRows, stored: Sequence[dict[str, Any]], name: str, original: Original | None) -> list[Row]:
    """Rows to measure: original and published image side by side, where there are both."""
    wanted = [row[c.ROW_ID] for row in stored if row[c.STATUS] != c.WITHHELD]
    published = (
        {row[c.ROW_ID]: row[c.ANONYMIZED_IMAGE] for row in folder.published(wanted, first=name)} if wanted else {}
    )
    originals = side_by_side(lambda row: original_of(row, original), stored)
    return [
        Row(image, {c.PRIVACY_FLAG: None} | row | {c.ANONYMIZED_IMAGE: published.get(row[c.ROW_ID])})
        for image, row in zip(originals, stored, strict=True)
    ]


def original_of(row: dict[str, Any], original: Original | None) -> Any:
    """The upright original of a stored row; none where it is not there."""
    try:
        return original(row[c.SOURCE]) if original and row.get(c.SOURCE) else None
    except RowError:
        return None


def _answer(row: Row, known: dict[str, Any], paper_compat: bool) -> dict[str, Any]:
    """What was measured; a score that the run has is left to the run, unless the paper's definition is asked for."""
    names = [n for n in (*c.SCORE, *c.RACE) if paper_compat or known.get(n) is None]
    notes = json.dumps(row.unmeasured, sort_keys=True)
    return {c.ROW_ID: row.fields[c.ROW_ID], UNMEASURED: notes} | {n: row.fields.get(n) for n in names}


def _embed_originals(score: Score, rows: Sequence[Row]) -> None:
    """The gallery holds all originals, those of withheld rows too."""
    with standing_in(rows, c.IMAGE) as copies:
        live = [row for row in copies if each([row], lambda rs: [rs[0].array.size], "unreadable")[0]]
        for row in live:
            for name, value in _embeddings(score, row):
                row.embeddings[name] = (value, np.zeros((0, 1), np.float32))


def _embeddings(score: Score, row: Row) -> Iterator[tuple[str, np.ndarray]]:
    clip, faces = score.clip, score.faces
    if clip is not None:
        found = each([row], lambda rs: [clip.embed_images([r.decoded.pixels for r in rs])], "error")[0]
        if found is not None:
            yield "clip", found
    if faces is not None:
        met = each([row], lambda rs: faces.embed([r.array for r in rs]), "error")[0]
        if met:
            yield "face", np.stack([f.embedding for f in met])
