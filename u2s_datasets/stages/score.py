"""Fifth step: what the edit kept and what it left, measured per row.

A `Score` calls one function per part that it has, each of which reads rows and writes score columns into them.
"""

import copy
import functools
import logging
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from u2s_datasets import columns, images
from u2s_datasets.errors import SetupError, UnreadableImage
from u2s_datasets.parts import Backend, Detection, Detector, catalog, checks
from u2s_datasets.parts.metrics import privacy
from u2s_datasets.parts.metrics.definitions import SPECS
from u2s_datasets.parts.metrics.encoders import ClipEncoder, ImageTextEncoder, LpipsNetwork, MetricNetwork
from u2s_datasets.parts.metrics.face_encoders import FaceEncoder, InsightFace
from u2s_datasets.parts.metrics.quality import clip_ratio, clip_similarity, ssim
from u2s_datasets.privacy import criteria as criteria_
from u2s_datasets.stages import vlm_questions
from u2s_datasets.stages.base import Step, check_backend, check_detections, each, each_row
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.inspect import Inspect

log = logging.getLogger(__name__)

NETWORKS: dict[str, tuple[type[MetricNetwork], type[MetricNetwork]]] = {
    "clip": (ImageTextEncoder, ClipEncoder),
    "lpips": (LpipsNetwork, LpipsNetwork),
    "faces": (FaceEncoder, InsightFace),
}
"""Field of `Score` -> the kind of part that it takes, and the one that `u2s eval` takes by default."""

_WEIGHTS = {"clip": ("clip", "model"), "lpips": ("lpips", "trunk"), "faces": ("onnx_faces", "file")}
"""Field of `Score` -> the name of a network that takes weights, and the argument for them."""

MODELS = ("judge", "reader", "people")
"""Fields of `Score` that take a model that sees."""


def make_network(field: str, given: str | MetricNetwork = "") -> MetricNetwork:
    """The part for a field of `Score`.

    Args:
        field: a key of `NETWORKS`.
        given: its weights: for "clip" a folder or Hub id, for "lpips" a file, for "faces" an .onnx file, or the name of
            an encoder; "" for the usual ones; or a part as it is.

    Raises:
        SetupError: the field or the name is unknown, or the part is of another kind.
    """
    if field not in NETWORKS:
        raise SetupError(f"unknown network {field!r}; expected one of: {', '.join(NETWORKS)}")
    kind, default = NETWORKS[field]
    made: Any = given
    if given == "":
        made = default()
    elif isinstance(given, str) and field == "faces" and not given.endswith(".onnx"):
        made = catalog.make("encoder", given, catalog.ENCODERS)
    elif isinstance(given, str):
        name, argument = _WEIGHTS[field]
        made = catalog.make("encoder", name, catalog.ENCODERS, **{argument: given})
    checks.check_instance(f"scores[{field!r}]", made, kind, f"u2s.{default.__name__}()")
    return made


@dataclass(frozen=True)
class Score(Step):
    """Measure every score for which a part was given; the others are null.

    Without weights that is SSIM, residual faces, residual text and text similarity by OCR. Inside one pipeline SSIM
    compares the pixels before encoding; on a stored dataset it compares what is stored. Withheld rows have no score,
    and a row that one metric cannot measure keeps its other scores.

    Args:
        inspect: its detectors look at the output; None leaves residue and text similarity by OCR unmeasured.
        image_column: the column that holds the source image.
        clip: `clip_similarity` and `clip_ratio`, of the public caption.
        lpips: `lpips`.
        faces: `face_similarity` and what became of the faces.
        judge: a model that sees two images: `vlm_score`.
        reader: a model that sees: reads the text of both images, instead of OCR.
        people: a model that sees: `race_before` and `race_after`, for the entropy over the set.
        criteria: (name, words) of what counts as private, for the judge.
        paper_compat: the paper's definitions where they differ; see docs/metrics.md.

    Input columns:
        image: the source image.
        anonymized_image: the edited image.
        anonymization_status: what became of the row.
        privacy_review: what was read in the original.
        public_caption: what `clip_similarity` compares with the image.

    Output columns:
        columns.SCORE: every score; None for one that was not measured.
        columns.RACE: with `people`, what a model calls the people of both images. Private.
    """

    inspect: Inspect | None = Inspect()
    clip: ImageTextEncoder | None = None
    lpips: LpipsNetwork | None = None
    faces: FaceEncoder | None = None
    judge: Backend | None = None
    reader: Backend | None = None
    people: Backend | None = None
    criteria: criteria_.Criteria = criteria_.DEFAULT
    paper_compat: bool = False

    reads = (columns.ANONYMIZED_IMAGE, columns.STATUS, columns.PRIVACY_REVIEW, columns.PUBLIC_CAPTION)
    writes = columns.SCORE

    def check(self) -> None:
        """Raises `SetupError` for a part of another kind or a backend that takes no images, then checks the parts."""
        checks.check_instance("inspect", self.inspect, Inspect, "u2s.Inspect()", optional=True)
        for name, (kind, default) in NETWORKS.items():
            checks.check_instance(name, getattr(self, name), kind, f"u2s.{default.__name__}()", optional=True)
        for name in MODELS:
            check_backend(name, getattr(self, name))
        super().check()

    def measures(self, name: str) -> bool:
        """Whether it was given what it needs to measure this score."""
        part = SPECS[name].part
        return not part or getattr(self, part) is not None

    def __call__(self, batch: Mapping[str, Any], rank: int | None = None) -> Any:
        """The batch with the scores. Raises `SetupError` if it has no anonymized images, or as every step does."""
        if isinstance(batch, Mapping) and columns.ANONYMIZED_IMAGE not in batch:
            raise SetupError(
                f"no column {columns.ANONYMIZED_IMAGE!r} to measure; map u2s.anonymize first, then u2s.score"
            )
        self._warn_once()
        return super().__call__(batch, rank)

    def _warn_once(self) -> None:
        """Name the scores that no part measures. Runs do not come here, since their reports say it."""
        lacking = [s for s in SPECS.values() if s.package and not s.detail_of and getattr(self, s.part) is None]
        if lacking and "_warned" not in self.__dict__:
            object.__setattr__(self, "_warned", True)
            log.warning(
                "%s are not measured: no part that loads their weights was given (%s). `u2s doctor` says what is "
                "missing.",
                ", ".join(spec.name for spec in lacking),
                ", ".join(sorted({spec.package for spec in lacking})),
            )

    def output_columns(self, present: set[str]) -> tuple[str, ...]:
        """The score columns, and what is seen of people if a model was given for it."""
        return (*self.writes, *(columns.RACE if self.people is not None else ()))

    def run(self, batch: Sequence[Row]) -> None:
        """Write every score column; null where not measured."""
        for row in batch:
            row.fields.update(dict.fromkeys(self.output_columns(set())))
        live = [row for row in batch if row.edited is not None or row.fields.get(columns.ANONYMIZED_IMAGE) is not None]
        each_row(live, _decode_edited, "unreadable")
        live = [row for row in live if row.edited is not None]
        if self.inspect is not None:
            self._score_residue(live, self.inspect)
        live = [row for row in live if _has_original(row)]  # what is below compares with it
        score_ssim(live, self.paper_compat)
        if self.clip is not None:
            score_clip(self.clip, live)
        if self.lpips is not None:
            score_lpips(self.lpips, live, self.paper_compat)
        if self.faces is not None:
            score_faces(self.faces, live, self.paper_compat)
        if self.judge is not None:
            score_vlm(self.judge, live, self.criteria)
        if self.reader is not None:
            score_text(self.reader, live, self.paper_compat)
        if self.people is not None:
            score_demographics(self.people, live)

    def _score_residue(self, batch: Sequence[Row], inspect: Inspect) -> None:
        """Write the residual counts, and without a reader the scores of the text by OCR."""
        categories = inspect.categories
        for row, found in _find_residue(batch, inspect.detectors):
            for name, category in ((columns.RESIDUAL_FACES, "face"), (columns.RESIDUAL_TEXT, "text")):
                if category in categories:
                    row.fields[name] = sum(d.category == category for d in row.remaining_detections or ())
            if "text" in categories and self.reader is None:
                review = row.fields.get(columns.PRIVACY_REVIEW) or ()
                before = [item["item"] for item in review if item["category"] == "text" and item["item"]]
                after = [d.text for d in found if d.text]
                row.fields |= text_scores(before, after, self.paper_compat)


def _find_residue(batch: Sequence[Row], detectors: Sequence[Detector]) -> Iterator[tuple[Row, Sequence[Detection]]]:
    """The rows whose edited image was looked at, with all that was found, the weak detections too, as in the review.

    After redaction `anonymize` found the remaining detections in these very pixels. All others are looked at here.
    """
    unseen = [row for row in batch if row.remaining_detections is None]
    yield from [(row, row.remaining_detections) for row in batch if row.remaining_detections is not None]
    found: list[list[Detection]] = [[] for _ in unseen]
    flagged: list[list[Detection]] = [[] for _ in unseen]
    for detector in detectors:
        for i, detections in enumerate(each(unseen, functools.partial(_detect, detector), "error", check_detections)):
            found[i] += detections or ()
            flagged[i] += [d for d in detections or () if d.score >= detector.flag_threshold]
    for row, all_found, residue in zip(unseen, found, flagged, strict=True):
        if row.failure is None:
            row.remaining_detections = residue
            yield row, all_found


def _decode_edited(row: Row) -> None:
    if row.edited is None:
        row.edited = images.decode(row.fields[columns.ANONYMIZED_IMAGE]).pixels


def _has_original(row: Row) -> bool:
    try:
        return row.array.size > 0
    except UnreadableImage as error:
        row.unmeasured[columns.IMAGE] = error.code
        return False


def _detect(detector: Detector, rows: Sequence[Row]) -> Sequence[Sequence[Detection]]:
    return detector.detect([images.stretched(np.asarray(row.edited)) for row in rows])


@contextmanager
def stand_ins(batch: Sequence[Row], name: str) -> Iterator[list[Row]]:
    """Copies of rows that share all but the failure, so that a row that fails here is still measured by other metrics.

    Args:
        batch: the rows.
        name: the column under which `Row.unmeasured` of a row notes why its stand-in failed.
    """
    copies = [copy.copy(row) for row in batch]
    for row in copies:
        row.failure = None
    yield copies
    for row, stand_in in zip(batch, copies, strict=True):
        if stand_in.failure is not None:
            row.unmeasured[name] = stand_in.failure.code


def score_ssim(batch: Sequence[Row], paper_compat: bool = False, threads: int | None = None) -> None:
    """Write `ssim`. Two sizes have no value, since their pixels are not aligned; the paper's code stretches one.

    It is the only formula that takes time: a pair's texts take a few microseconds, and so it alone runs on threads.

    Args:
        batch: rows with `edited`.
        paper_compat: stretch the edited image to the original's size.
        threads: how many; None for as many as this process may use.
    """

    def score(row: Row) -> None:
        if row.edited is row.decoded.pixels:
            row.fields[columns.SSIM] = 1.0
        elif pair := _aligned(row, paper_compat):
            row.fields[columns.SSIM] = ssim(*pair)

    with stand_ins(batch, columns.SSIM) as rows, ThreadPoolExecutor(threads or available_threads()) as pool:
        list(pool.map(lambda row: each_row([row], score, "error"), rows))  # numpy and OpenCV release the lock


def available_threads() -> int:
    """All cores, or one in a worker process, of which there are as many as cores."""
    return 1 if multiprocessing.parent_process() else len(os.sched_getaffinity(0))


def score_lpips(network: LpipsNetwork, batch: Sequence[Row], paper_compat: bool = False) -> None:
    """Write `lpips`, on pixels as in `score_ssim`."""
    with stand_ins(batch, columns.LPIPS) as rows:
        pairs = each(rows, lambda rs: [_aligned(row, paper_compat) for row in rs], "error")
        by_row = {id(row): pair for row, pair in zip(rows, pairs, strict=True) if pair is not None}
        aligned = [row for row in rows if id(row) in by_row]
        values = each(aligned, lambda rs: network.distances([by_row[id(row)] for row in rs]), "error")
        for row, value in zip(aligned, values, strict=True):
            row.fields[columns.LPIPS] = value


def score_clip(encoder: ImageTextEncoder, batch: Sequence[Row]) -> None:
    """Write `clip_similarity` and `clip_ratio`; keep both images' embeddings for the re-identification."""
    with stand_ins(batch, columns.CLIP_SIMILARITY) as rows:
        after = _embed(rows, lambda rs: encoder.embed_images([r.edited for r in rs if r.edited]))
        before = _embed(rows, lambda rs: encoder.embed_images([r.decoded.pixels for r in rs]))
        captioned = [row for row in rows if row.fields.get(columns.PUBLIC_CAPTION)]
        captions = _embed(captioned, lambda rs: encoder.embed_texts([r.fields[columns.PUBLIC_CAPTION] for r in rs]))
        for row in rows:
            edited, original, text = (found.get(id(row)) for found in (after, before, captions))
            if edited is None or original is None:
                continue
            row.embeddings["clip"] = (original[None], edited[None])
            if text is not None:
                similarity = clip_similarity(edited, text)
                row.fields[columns.CLIP_SIMILARITY] = similarity
                row.fields[columns.CLIP_RATIO] = clip_ratio(similarity, clip_similarity(original, text))


def _embed(rows: Sequence[Row], embed: Callable[[Sequence[Row]], np.ndarray]) -> dict[int, np.ndarray]:
    """`id` of a row -> its (D,) embedding, of those rows that have not failed and did not fail at it."""
    live = [row for row in rows if row.failure is None]
    found = each(live, lambda rs: list(embed(rs)) if rs else [], "error")
    return {id(row): value for row, value in zip(live, found, strict=True) if value is not None}


def score_faces(encoder: FaceEncoder, batch: Sequence[Row], paper_compat: bool = False) -> None:
    """Write `face_similarity` and the counts of faces; keep the embeddings for the re-identification."""
    with stand_ins(batch, columns.FACE_SIMILARITY) as rows:
        before = each(rows, lambda rs: encoder.embed([r.array for r in rs]), "error")
        after = each(rows, lambda rs: encoder.embed([np.asarray(r.edited) for r in rs]), "error")
        for row, old, new in zip(rows, before, after, strict=True):
            if old is not None and new is not None:
                write = functools.partial(
                    _write_faces, before=old, after=new, same=encoder.same, paper_compat=paper_compat
                )
                each_row([row], write, "error")


def _write_faces(
    row: Row, before: list[privacy.Face], after: list[privacy.Face], same: float, paper_compat: bool
) -> None:
    match = privacy.match_faces(before, after, same)
    row.fields |= {
        columns.FACE_SIMILARITY: None if paper_compat and not after else match.similarity,
        columns.FACES_BEFORE: match.before,
        columns.FACES_AFTER: match.after,
        columns.FACES_MATCHED: match.matched,
        columns.FACES_VANISHED: match.vanished,
        columns.FACES_NEW: match.new,
        columns.FACES_SAME: match.same,
    }
    old, new = (np.array([face.embedding for face in faces]) for faces in (before, after))
    row.embeddings["face"] = (old, new)


def score_vlm(backend: Backend, batch: Sequence[Row], criteria: criteria_.Criteria) -> None:
    """Write `vlm_score`."""
    with stand_ins(batch, columns.VLM_SCORE) as rows:
        for row, value in zip(rows, vlm_questions.ask_vlm_scores(backend, rows, criteria), strict=True):
            row.fields[columns.VLM_SCORE] = value


def score_text(backend: Backend, batch: Sequence[Row], paper_compat: bool = False) -> None:
    """Write `text_similarity` and `text_recall` from what a model reads in both images."""
    with stand_ins(batch, columns.TEXT_SIMILARITY) as rows:
        before, after = (vlm_questions.ask_texts(backend, rows, edited) for edited in (False, True))
        for row, old, new in zip(rows, before, after, strict=True):
            if old is not None and new is not None:
                row.fields |= text_scores(old, new, paper_compat)


def text_scores(before: Sequence[str], after: Sequence[str], paper_compat: bool) -> dict[str, Any]:
    """The columns of two images' texts."""
    similarity = privacy.paper_text_similarity if paper_compat else privacy.text_similarity
    return {
        columns.TEXT_SIMILARITY: similarity(before, after),
        columns.TEXT_RECALL: privacy.text_recall(before, after),
    }


def score_demographics(backend: Backend, batch: Sequence[Row]) -> None:
    """Write `race_before` and `race_after`, from which the set's entropy comes."""
    for name, edited in ((columns.RACE_BEFORE, False), (columns.RACE_AFTER, True)):
        with stand_ins(batch, name) as rows:
            for row, value in zip(rows, vlm_questions.ask_races(backend, rows, edited), strict=True):
                row.fields[name] = value


def _aligned(row: Row, stretch: bool) -> tuple[np.ndarray, np.ndarray] | None:
    """The pixels of both images; None where their sizes differ and neither may be stretched."""
    edited, size = row.edited, row.decoded.pixels.size
    if edited is not None and edited.size != size and stretch:
        edited = edited.resize(size, Image.Resampling.BICUBIC)
    return (row.array, np.asarray(edited)) if edited is not None and edited.size == size else None
