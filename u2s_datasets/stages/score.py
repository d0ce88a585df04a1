"""Fifth arrow: what the edit kept and what it left, measured per row."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from u2s_datasets import columns, images
from u2s_datasets.errors import SetupError, UnreadableImage
from u2s_datasets.parts import Backend, Detection, Detector, checks
from u2s_datasets.parts.metrics.encoders import ImageTextEncoder, LpipsNetwork
from u2s_datasets.parts.metrics.face_encoders import FaceEncoder
from u2s_datasets.privacy import criteria as criteria_
from u2s_datasets.stages import measures
from u2s_datasets.stages.base import Step, check_detections, each, each_row
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.inspect import Inspect

log = logging.getLogger(__name__)
_told: set[str] = set()

_NEEDS = {
    columns.CLIP_SIMILARITY: ("clip", "open_clip_torch"),
    columns.CLIP_RATIO: ("clip", "open_clip_torch"),
    columns.LPIPS: ("lpips", "lpips"),
    columns.FACE_SIMILARITY: ("faces", "insightface"),
    columns.VLM_SCORE: ("judge", "transformers"),
}
"""Score -> the argument that measures it, and a package that has such a part."""


@dataclass(frozen=True)
class Score(Step):
    """Measure every score for which a part was given; the others are null.

    Without weights that is SSIM, residual faces, residual text and text similarity by OCR. Inside one pipeline SSIM
    compares the pixels before encoding; on a stored dataset it compares what is stored. Withheld rows have no score,
    and a row that one metric cannot measure keeps its other scores.

    Args:
        inspect: its detectors look at the output; none leaves residue and text similarity by OCR unmeasured.
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
        checks.instance("inspect", self.inspect, Inspect, "u2s.Inspect()", optional=True)
        for name, kind in (("clip", ImageTextEncoder), ("lpips", LpipsNetwork), ("faces", FaceEncoder)):
            part = getattr(self, name)
            if part is not None and not isinstance(part, kind):
                raise SetupError(f"{name}={type(part).__name__} is no {kind.__name__}; give one that is")
        for name in ("judge", "reader", "people"):
            backend = getattr(self, name)
            checks.instance(name, backend, Backend, checks.BACKEND, optional=True)
            if backend is not None and not backend.sees:
                raise SetupError(f"{name}={type(backend).__name__} takes no images; give one that sees")
        super().check()

    def __call__(self, batch: Mapping[str, Any], rank: int | None = None) -> Any:
        """The batch with the scores. Raises `SetupError` where no image was anonymized yet, or as every step does."""
        if isinstance(batch, Mapping) and columns.ANONYMIZED_IMAGE not in batch:
            raise SetupError(
                f"there is no column {columns.ANONYMIZED_IMAGE!r} to measure; map u2s.anonymize first, then u2s.score"
            )
        return super().__call__(batch, rank)

    def output_columns(self, present: set[str]) -> tuple[str, ...]:
        """The score columns, and what is seen of people where a model was given for it."""
        return (*self.writes, *(columns.RACE if self.people is not None else ()))

    def run(self, batch: Sequence[Row]) -> None:
        """Write every score column; null where not measured."""
        _tell_once(tuple(name for name, (field, _) in _NEEDS.items() if getattr(self, field) is None))
        for row in batch:
            row.fields.update(dict.fromkeys(self.output_columns(set())))
        live = [row for row in batch if row.edited is not None or row.fields.get(columns.ANONYMIZED_IMAGE) is not None]
        each_row(live, _open, "unreadable")
        live = [row for row in live if row.edited is not None]
        if self.inspect is not None:
            self._look(live)
        live = [row for row in live if _has_original(row)]  # what is below compares with it
        measures.compare(live, self.paper_compat)
        self._measure(live)

    def _measure(self, live: Sequence[Row]) -> None:
        if self.clip is not None:
            measures.fit(self.clip, live)
        if self.lpips is not None:
            measures.perceive(self.lpips, live, self.paper_compat)
        if self.faces is not None:
            measures.meet(self.faces, live, self.paper_compat)
        if self.judge is not None:
            measures.weigh(self.judge, live, self.criteria)
        if self.reader is not None:
            measures.read(self.reader, live, self.paper_compat)
        if self.people is not None:
            measures.see_people(self.people, live)

    def _look(self, batch: Sequence[Row]) -> None:
        unseen = [row for row in batch if row.remaining_detections is None]
        found: dict[int, list[Detection]] = {id(row): [] for row in batch}
        words: dict[int, list[str]] = {
            id(row): [d.text for d in row.remaining_detections or () if d.text] for row in batch
        }
        for detector in self.inspect.detectors if self.inspect else ():

            def look(rs: Sequence[Row], d: Detector = detector) -> Sequence[Sequence[Detection]]:
                return check_detections(d.detect([np.asarray(r.edited) for r in rs]))

            results = each(unseen, look, "error")
            for row, detections in zip(unseen, results, strict=True):
                found[id(row)] += [d for d in detections or () if d.score >= detector.flag_threshold]
                words[id(row)] += [d.text for d in detections or () if d.text]  # as in the review, the weak ones too
        for row in unseen:
            row.remaining_detections = found[id(row)] if row.failure is None else None
        for row in batch:
            if row.remaining_detections is not None:
                row.fields.update(self._residue(row, row.remaining_detections, words[id(row)]))

    def _residue(self, row: Row, residue: Sequence[Detection], after: Sequence[str]) -> dict:
        categories = self.inspect.categories if self.inspect else ()
        number = {c: sum(d.category == c for d in residue) for c in categories}
        counts = {columns.RESIDUAL_FACES: number.get("face"), columns.RESIDUAL_TEXT: number.get("text")}
        if "text" not in number or self.reader is not None:
            return counts
        review = row.fields.get(columns.PRIVACY_REVIEW) or ()
        before = [item["item"] for item in review if item["category"] == "text" and item["item"]]
        return counts | measures.texts(before, after, self.paper_compat)


def _open(row: Row) -> None:
    if row.edited is None:
        row.edited = images.decode(row.fields[columns.ANONYMIZED_IMAGE]).pixels


def _has_original(row: Row) -> bool:
    try:
        return row.array.size > 0
    except UnreadableImage as error:
        row.unmeasured[columns.IMAGE] = error.code
        return False


def say_nothing() -> None:
    """Leave out the warning in this process; a run's report says what was not measured."""
    _told.add("weights")


def _tell_once(names: tuple[str, ...]) -> None:
    if names and "weights" not in _told:
        _told.add("weights")
        packages = sorted({_NEEDS[n][1] for n in names})
        log.warning(
            "%s are not measured: no part that loads their weights was given (%s). `u2s doctor` says what is missing.",
            ", ".join(names),
            ", ".join(packages),
        )
