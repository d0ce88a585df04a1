"""One function per part that `Score` may have: rows in, score columns written into them.

Each works on stand-ins of the rows, so that a row that one of them cannot measure is still measured by the others.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image

from u2s_datasets import columns
from u2s_datasets.parts import Backend
from u2s_datasets.parts.metrics import privacy
from u2s_datasets.parts.metrics.encoders import ImageTextEncoder, LpipsNetwork
from u2s_datasets.parts.metrics.face_encoders import FaceEncoder
from u2s_datasets.parts.metrics.privacy import Face, match_faces
from u2s_datasets.parts.metrics.quality import clip_ratio, clip_similarity, ssim
from u2s_datasets.privacy import criteria as criteria_
from u2s_datasets.stages import vlm_questions
from u2s_datasets.stages.base import each, each_row
from u2s_datasets.stages.batch import Row


@contextmanager
def standing_in(batch: Sequence[Row], name: str) -> Iterator[list[Row]]:
    """Copies of rows that share all but the failure; why one could not be measured goes to `Row.unmeasured`."""
    copies = [copy.copy(row) for row in batch]
    for row in copies:
        row.failure = None
    yield copies
    for row, stand_in in zip(batch, copies, strict=True):
        if stand_in.failure is not None:
            row.unmeasured[name] = stand_in.failure.code


def compare(batch: Sequence[Row], paper_compat: bool = False, number: int | None = None) -> None:
    """Write `ssim`. Two sizes have none, since their pixels are not aligned; the paper's code stretches one.

    It is the only formula that takes time: a pair's texts take a few microseconds, and so it alone runs on threads.

    Args:
        batch: rows with `edited`.
        paper_compat: stretch the edited image to the original's size.
        number: of threads; where none, as many as this process may use.
    """

    def one(row: Row) -> None:
        if row.edited is row.decoded.pixels:
            row.fields[columns.SSIM] = 1.0
        elif pair := _aligned(row, paper_compat):
            row.fields[columns.SSIM] = ssim(*pair)

    with standing_in(batch, columns.SSIM) as rows, ThreadPoolExecutor(number or threads()) as pool:
        list(pool.map(lambda row: each_row([row], one, "error"), rows))  # numpy and OpenCV let go of the lock


def threads() -> int:
    """All cores, or one in a worker process, of which there are as many as cores."""
    return 1 if multiprocessing.parent_process() else len(os.sched_getaffinity(0))


def perceive(network: LpipsNetwork, batch: Sequence[Row], paper_compat: bool = False) -> None:
    """Write `lpips`, on pixels as in `compare`."""
    with standing_in(batch, columns.LPIPS) as rows:
        pairs = _alive(rows, lambda row: _aligned(row, paper_compat))
        aligned = [(row, pair) for row, pair in pairs if pair is not None]
        by_row = {id(row): pair for row, pair in aligned}
        values = each([row for row, _ in aligned], lambda rs: network.distances([by_row[id(r)] for r in rs]), "error")
        for (row, _), value in zip(aligned, values, strict=True):
            row.fields[columns.LPIPS] = value


def fit(encoder: ImageTextEncoder, batch: Sequence[Row]) -> None:
    """Write `clip_similarity` and `clip_ratio`; keep both images' embeddings for the re-identification."""
    with standing_in(batch, columns.CLIP_SIMILARITY) as rows:
        after = _embedded(rows, lambda rs: encoder.embed_images([r.edited for r in rs if r.edited]))
        before = _embedded(rows, lambda rs: encoder.embed_images([r.decoded.pixels for r in rs]))
        said = [row for row in rows if row.fields.get(columns.PUBLIC_CAPTION)]
        words = _embedded(said, lambda rs: encoder.embed_texts([r.fields[columns.PUBLIC_CAPTION] for r in rs]))
        for row in rows:
            edited, original, text = (found.get(id(row)) for found in (after, before, words))
            if edited is None or original is None:
                continue
            row.embeddings["clip"] = (original[None], edited[None])
            if text is not None:
                similarity = clip_similarity(edited, text)
                row.fields[columns.CLIP_SIMILARITY] = similarity
                row.fields[columns.CLIP_RATIO] = clip_ratio(similarity, clip_similarity(original, text))


def meet(encoder: FaceEncoder, batch: Sequence[Row], paper_compat: bool = False) -> None:
    """Write `face_similarity` and the counts of faces; keep the embeddings for the re-identification."""
    with standing_in(batch, columns.FACE_SIMILARITY) as rows:
        before = each(rows, lambda rs: encoder.embed([r.array for r in rs]), "error")
        after = each(rows, lambda rs: encoder.embed([np.asarray(r.edited) for r in rs]), "error")
        for row, old, new in zip(rows, before, after, strict=True):
            if old is not None and new is not None:
                each_row([row], lambda r, o=old, n=new: _faces(r, o, n, encoder.same, paper_compat), "error")  # type: ignore[misc]


def _faces(row: Row, before: list[Face], after: list[Face], same: float, paper_compat: bool) -> None:
    made = match_faces(before, after, same)
    row.fields |= {
        columns.FACE_SIMILARITY: None if paper_compat and not after else made.similarity,
        columns.FACES_BEFORE: made.before,
        columns.FACES_AFTER: made.after,
        columns.FACES_MATCHED: made.matched,
        columns.FACES_VANISHED: made.vanished,
        columns.FACES_NEW: made.new,
        columns.FACES_SAME: made.same,
    }
    old, new = (np.array([f.embedding for f in faces]) for faces in (before, after))
    row.embeddings["face"] = (old, new)


def weigh(backend: Backend, batch: Sequence[Row], criteria: criteria_.Criteria) -> None:
    """Write `vlm_score`."""
    with standing_in(batch, columns.VLM_SCORE) as rows:
        for row, value in zip(rows, vlm_questions.vlm_scores(backend, rows, criteria), strict=True):
            row.fields[columns.VLM_SCORE] = value


def read(backend: Backend, batch: Sequence[Row], paper_compat: bool = False) -> None:
    """Write `text_similarity` and `text_recall` from what a model reads in both images."""
    with standing_in(batch, columns.TEXT_SIMILARITY) as rows:
        before, after = (vlm_questions.texts(backend, rows, edited) for edited in (False, True))
        for row, old, new in zip(rows, before, after, strict=True):
            if old is not None and new is not None:
                row.fields |= texts(old, new, paper_compat)


def texts(before: Sequence[str], after: Sequence[str], paper_compat: bool) -> dict[str, Any]:
    """The columns of two images' texts."""
    similarity = privacy.text_similarity_of_the_paper if paper_compat else privacy.text_similarity
    return {
        columns.TEXT_SIMILARITY: similarity(before, after),
        columns.TEXT_RECALL: privacy.text_recall(before, after),
    }


def see_people(backend: Backend, batch: Sequence[Row]) -> None:
    """Write `race_before` and `race_after`, from which the set's entropy comes."""
    for name, edited in ((columns.RACE_BEFORE, False), (columns.RACE_AFTER, True)):
        with standing_in(batch, name) as rows:
            for row, value in zip(rows, vlm_questions.races(backend, rows, edited), strict=True):
                row.fields[name] = value


def _aligned(row: Row, stretch: bool) -> tuple[np.ndarray, np.ndarray] | None:
    """The pixels of both images; none where their sizes differ and neither may be stretched."""
    edited, size = row.edited, row.decoded.pixels.size
    if edited is not None and edited.size != size and stretch:
        edited = edited.resize(size, Image.Resampling.BICUBIC)
    return (row.array, np.asarray(edited)) if edited is not None and edited.size == size else None


def _alive(rows: Sequence[Row], work: Callable[[Row], Any]) -> list[tuple[Row, Any]]:
    found = each(rows, lambda rs: [(work(r),) for r in rs], "error")
    return [(row, value[0]) for row, value in zip(rows, found, strict=True) if value is not None]


def _embedded(rows: Sequence[Row], work: Callable[[Sequence[Row]], np.ndarray]) -> dict[int, np.ndarray]:
    live = [row for row in rows if row.failure is None]
    found = each(live, lambda rs: list(work(rs)) if rs else [], "error")
    return {id(row): value for row, value in zip(live, found, strict=True) if value is not None}
