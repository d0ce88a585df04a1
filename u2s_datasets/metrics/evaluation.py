"""What `u2s eval` does with the folder of a finished run: measure what the run did not, attack it, and say so.

Rows go through in batches of 16; what stays in memory is a few numbers per row, what is large lies on disk.
"""

from __future__ import annotations

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

from u2s_datasets import columns as c
from u2s_datasets import images
from u2s_datasets.errors import RowError
from u2s_datasets.metrics.gallery import Attack, Gallery
from u2s_datasets.metrics.missing import UNMEASURED
from u2s_datasets.metrics.page import side_by_side
from u2s_datasets.metrics.run_folder import EVALUATED, WHOLE, Folder
from u2s_datasets.metrics.scores import FEW
from u2s_datasets.metrics.summary import Original, summarize
from u2s_datasets.rows import Row
from u2s_datasets.stages.measures import standing_in
from u2s_datasets.stages.score import Score
from u2s_datasets.stages.step import each

AT_ONCE = 16
CONTROLS = 16
"""Rows on which the controls are measured: they are to show that a metric works, not to estimate anything."""

_READ = (c.ROW_ID, c.SOURCE, c.STATUS, c.PRIVACY_FLAG, c.PRIVACY_REVIEW, c.PUBLIC_CAPTION, *c.SCORE, *c.RACE)


@dataclass(frozen=True)
class Evaluation:
    """What was found of a set beyond its rows' scores.

    Args:
        attacks: re-identification, where an encoder was given.
        controls: "no-op" and "shuffled" -> score -> (rows, mean), on a few rows.
        absent: score -> what it would need.
    """

    attacks: tuple[Attack, ...]
    controls: Mapping[str, Mapping[str, tuple[int, float | None]]]
    absent: Mapping[str, str]

    def plain(self, private: bool) -> dict[str, Any]:
        """As plain values; for anyone only rates and means of 5 rows or more, with two digits."""
        attacks = [dataclasses.asdict(a) for a in self.attacks]
        if private:
            controls: Any = {k: {n: {"n": m, "mean": v} for n, (m, v) in d.items()} for k, d in self.controls.items()}
            return {"reidentification": attacks, "controls": controls, "absent": dict(self.absent)}
        for attack in attacks:
            attack["rates"] = [_public(r) for r in attack["rates"] if r["n"] >= FEW and r["gallery"] >= FEW]
            attack.pop("without")
        shown = {
            kind: {name: {"n": n, "mean": round(v, 2)} for name, (n, v) in made.items() if n >= FEW and v is not None}
            for kind, made in self.controls.items()
        }
        return {"reidentification": [a for a in attacks if a["rates"]], "controls": shown, "absent": dict(self.absent)}


def _public(rate: dict[str, Any]) -> dict[str, Any]:
    shown = {k: rate[k] for k in ("k", "n", "gallery")}
    return shown | {k: None if rate[k] is None else round(rate[k], 2) for k in ("rate", "low", "high", "chance")}


def evaluate(
    out: Path,
    score: Score,
    original: Original | None,
    scratch: Path,
    over: str = "all",
    seed: int = 0,
    absent: Mapping[str, str] | None = None,
) -> Evaluation:
    """Measure the pairs of a finished run and write `private/eval.parquet`.

    Args:
        out: the run's folder.
        score: what to measure with.
        original: gives the upright original of a `source`; without one only what needs none is measured.
        scratch: an empty private folder on the same disk.
        over: "flagged" leaves out the pairs of rows that were not flagged.
        seed: of the controls' sample.
        absent: score -> what it would need; goes into the result as it is.
    """
    folder = Folder(out)
    measured = {s.name for s in summarize(folder.stored(c.SCORE)).scores if s.n}
    known = {c.RESIDUAL_FACES, c.RESIDUAL_TEXT, c.TEXT_SIMILARITY, c.TEXT_RECALL} <= measured
    scoring = dataclasses.replace(score, inspect=None) if known and not score.paper_compat else score
    galleries = {name: Gallery(scratch, name) for name, part in (("clip", score.clip), ("face", score.faces)) if part}
    try:
        queries = _measure(folder, scoring, original, scratch, over, galleries)
        attacks = [a for name in galleries for a in galleries[name].attacks(queries, seed)]
    finally:
        for gallery in galleries.values():
            gallery.close()
    controls = _controls(folder, score, original, over, seed)
    (scratch / EVALUATED).replace(out / "private" / EVALUATED)
    return Evaluation(tuple(attacks), controls, absent or {})


def _measure(
    folder: Folder, score: Score, original: Original | None, scratch: Path, over: str, galleries: dict[str, Gallery]
) -> int:
    """Write every row's scores, fill the galleries; the number of anonymized images that were tried."""
    features = c.features((c.ROW_ID, *c.SCORE, *c.RACE, UNMEASURED))
    number, queries = 0, 0
    schema = features.arrow_schema.with_metadata({WHOLE: b"1"} if score.paper_compat else {})
    with pq.ParquetWriter(scratch / EVALUATED, schema) as writer:
        (scratch / EVALUATED).chmod(0o600)
        for path in folder.rows:
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
    with pq.ParquetFile(path) as file:
        names = [n for n in _READ if n in file.schema_arrow.names]
        for batch in file.iter_batches(AT_ONCE, columns=names):
            yield batch.to_pylist()


def _rows(folder: Folder, stored: Sequence[dict[str, Any]], name: str, original: Original | None) -> list[Row]:
    """Rows to measure: original and published image side by side, where there are both."""
    wanted = [row[c.ROW_ID] for row in stored if row[c.STATUS] != c.WITHHELD]
    published = (
        {row[c.ROW_ID]: row[c.ANONYMIZED_IMAGE] for row in folder.published(wanted, first=name)} if wanted else {}
    )
    originals = side_by_side(lambda row: _original(row, original), stored)
    return [
        Row(image, {c.PRIVACY_FLAG: None} | row | {c.ANONYMIZED_IMAGE: published.get(row[c.ROW_ID])})
        for image, row in zip(originals, stored, strict=True)
    ]


def _original(row: dict[str, Any], original: Original | None) -> Any:
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


def _controls(
    folder: Folder, score: Score, original: Original | None, over: str, seed: int
) -> dict[str, dict[str, tuple[int, float | None]]]:
    """Mean scores of a few originals as their own edit, and beside somebody else's edited image.

    A metric that does not call the first untouched and the second far apart is broken, whatever it says of the set.
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


def _published_rows(folder: Folder, over: str) -> Iterator[dict[str, Any]]:
    names = (c.ROW_ID, c.SOURCE, c.STATUS, c.PRIVACY_FLAG, c.PRIVACY_REVIEW, c.PUBLIC_CAPTION)
    for batch in folder.stored(names):
        for row in batch.to_pylist():
            if row[c.STATUS] != c.WITHHELD and (over == "all" or row.get(c.PRIVACY_FLAG) is not False):
                yield row


def _control(
    folder: Folder, score: Score, stored: dict[str, Any], partner: dict[str, Any] | None, original: Original | None
) -> dict[str, float]:
    row = Row(_original(stored, original), dict(stored))

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
        {n: float(row.fields[n]) for n in c.SCORE if row.fields.get(n) is not None and n not in row.unmeasured}
        if row.edited
        else {}
    )
