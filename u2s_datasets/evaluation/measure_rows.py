"""What `u2s eval` does with the rows of a finished run: it measures what the run did not, attacks, and runs controls.

Rows go through in batches of 16; what stays in memory is a few numbers per row, what is large lies on disk.
"""

import contextlib
import dataclasses
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.errors import RowError
from u2s_datasets.evaluation.attacks import Attack, Gallery
from u2s_datasets.evaluation.report.layout import map_threads
from u2s_datasets.evaluation.report.run_rows import WHOLE, RunRows
from u2s_datasets.evaluation.report.summary import Original, summarize
from u2s_datasets.parts.metrics.definitions import SPECS
from u2s_datasets.runs.files import PRIVATE_MODE
from u2s_datasets.runs.reader import read
from u2s_datasets.stages.base import each
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.score import Score, stand_ins

AT_ONCE = 16

CONTROLS = 16
"""Rows on which the controls are measured: they are to show that a metric works, not to estimate anything."""

_READ = (c.ROW_ID, c.SOURCE, c.STATUS, c.PRIVACY_FLAG, c.PRIVACY_REVIEW, c.PUBLIC_CAPTION, *c.SCORE, *c.RACE)


@dataclass(frozen=True)
class EvaluationJob:
    """What is evaluated, and how.

    Args:
        run: the finished run.
        score: what to measure with.
        original: gives the upright original of a `source`; without it only what needs no original is measured.
        over: "flagged" leaves out the pairs of rows that were not flagged.
        seed: of the shuffled attack and of the controls' sample.
    """

    run: RunRows
    score: Score
    original: Original | None
    over: str = "all"
    seed: int = 0

    def original_of(self, stored: Mapping[str, Any]) -> Image.Image | None:
        """The upright original of a stored row; None if it cannot be had."""
        try:
            return self.original(stored[c.SOURCE]) if self.original and stored.get(c.SOURCE) else None
        except RowError:
            return None

    def counts(self, fields: Mapping[str, Any]) -> bool:
        """Whether a row is among those that `over` asks for; a row without a flag is, since doubt is a flag."""
        return self.over == "all" or fields.get(c.PRIVACY_FLAG) is not False


def measure_rows(job: EvaluationJob, path: Path) -> tuple[Attack, ...]:
    """Write the scores of every row, and attack the set by every encoder that there is.

    Args:
        job: what is evaluated.
        path: the file for the scores, in a private folder that takes the embeddings as well.
    """
    score = job.score
    measured = {s.name for s in summarize(job.run.stored(c.SCORE)).scores if s.n}
    if not score.paper_compat and measured.issuperset(s.name for s in SPECS.values() if s.part == "inspect"):
        # The run's detectors looked at the pixels before they were encoded: what they found stands.
        job = dataclasses.replace(job, score=dataclasses.replace(score, inspect=None))
    encoders = {"clip": score.clip, "face": score.faces}
    with contextlib.ExitStack() as stack:
        galleries = {
            name: stack.enter_context(contextlib.closing(Gallery(path.parent, name)))
            for name, part in encoders.items()
            if part
        }
        queries = _measure(job, path, galleries)
        return tuple(attack for gallery in galleries.values() for attack in gallery.attacks(queries, job.seed))


def _measure(job: EvaluationJob, path: Path, galleries: Mapping[str, Gallery]) -> int:
    """Write every row's scores, fill the galleries; the number of anonymized images that were tried."""
    number, queries = 0, 0
    schema = c.features((c.ROW_ID, *c.SCORE, *c.RACE, c.UNMEASURED)).arrow_schema
    schema = schema.with_metadata({WHOLE: b"1"} if job.score.paper_compat else {})
    batches = ((shard, batch) for shard in job.run.layout.private_halves() for batch in read(shard, _READ, AT_ONCE))
    with pq.ParquetWriter(path, schema) as writer:
        path.chmod(PRIVATE_MODE)
        for shard, batch in batches:
            rows = _pairs(job, batch.to_pylist(), shard.name)
            tried = [row for row in rows if job.counts(row.fields)]
            known = [dict(row.fields) for row in rows]
            job.score.run(tried)
            _embed_originals(job.score, [row for row in rows if not row.embeddings])
            answers = []
            for row, old in zip(rows, known, strict=True):
                edited = row.fields[c.STATUS] == c.ANONYMIZED and row in tried
                for encoder, gallery in galleries.items():
                    before, after = row.embeddings.get(encoder, (np.zeros((0, 1)), None))
                    gallery.add(number, before, after if edited else None)
                number, queries = number + 1, queries + edited
                # A score that the run has stays the run's, unless the paper's definition is asked for.
                names = [n for n in (*c.SCORE, *c.RACE) if job.score.paper_compat or old.get(n) is None]
                answer = {n: row.fields.get(n) for n in (c.ROW_ID, *names)}
                answers.append(answer | {c.UNMEASURED: json.dumps(row.unmeasured, sort_keys=True)})
            writer.write_table(pa.Table.from_pylist(answers, schema=schema))
    return queries


def _pairs(job: EvaluationJob, stored: Sequence[dict[str, Any]], shard: str) -> list[Row]:
    """Rows to measure, with the original and the published image, None for one that cannot be had."""
    wanted = [row[c.ROW_ID] for row in stored if row[c.STATUS] != c.WITHHELD]
    found = job.run.published(wanted, first=shard) if wanted else ()
    published = {row[c.ROW_ID]: row[c.ANONYMIZED_IMAGE] for row in found}
    originals = map_threads(job.original_of, stored)
    return [
        Row(image, {c.PRIVACY_FLAG: None} | row | {c.ANONYMIZED_IMAGE: published.get(row[c.ROW_ID])})
        for image, row in zip(originals, stored, strict=True)
    ]


def _embed_originals(score: Score, rows: Sequence[Row]) -> None:
    """Embed the originals of rows that were not measured: the gallery holds all originals, of withheld rows too."""
    clip, faces, nothing = score.clip, score.faces, np.zeros((0, 1), np.float32)
    with stand_ins(rows, c.IMAGE) as copies:
        for row in [row for row in copies if each([row], lambda rs: [rs[0].array.size], "unreadable")[0]]:
            if clip is not None:
                found = each([row], lambda rs: [clip.embed_images([r.decoded.pixels for r in rs])], "error")[0]
                if found is not None:
                    row.embeddings["clip"] = (found, nothing)
            if faces is not None:
                met = each([row], lambda rs: faces.embed([r.array for r in rs]), "error")[0]
                if met:
                    row.embeddings["face"] = (np.stack([face.embedding for face in met]), nothing)


def measure_controls(job: EvaluationJob) -> dict[str, dict[str, tuple[int, float]]]:
    """The controls on 16 rows at most, drawn by the seed: each metric on pairs of which the answer is known.

    An original as its own edit must score as untouched, and beside somebody else's edited image as far apart. A metric
    that does not tell the two apart is broken, whatever it says of the set.

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
