"""Fifth arrow: what the edit kept and what it left, measured per row."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from u2s_datasets import columns, images
from u2s_datasets.metrics.privacy import text_similarity
from u2s_datasets.metrics.quality import ssim
from u2s_datasets.parts import Detection, Detector
from u2s_datasets.rows import Row
from u2s_datasets.stages.inspect import Inspect
from u2s_datasets.stages.step import Step, each, each_row, sound

log = logging.getLogger(__name__)
_told: set[str] = set()

_WEIGHTS = {
    columns.CLIP_SIMILARITY: "open_clip_torch",
    columns.CLIP_RATIO: "open_clip_torch",
    columns.LPIPS: "lpips",
    columns.FACE_SIMILARITY: "insightface",
    columns.VLM_SCORE: "transformers",
}


@dataclass(frozen=True)
class Score(Step):
    """Measure what needs no download: SSIM, residual faces, residual text, text similarity by OCR.

    Inside one pipeline SSIM compares the pixels before encoding; on a stored dataset it compares what is stored.
    The other scores are null: they need weights that the profile `cpu` does not load. Withheld rows have no score.

    Args:
        inspect: its detectors look at the output; none leaves residue and text similarity unmeasured.
        image_column: the column that holds the source image.
    """

    inspect: Inspect | None = Inspect()

    reads = (columns.ANONYMIZED_IMAGE, columns.STATUS, columns.PRIVACY_REVIEW)
    writes = columns.SCORE

    def run(self, batch: Sequence[Row]) -> None:
        """Write every score column; null where not measured."""
        _tell_once(tuple(_WEIGHTS))
        for row in batch:
            row.fields.update(dict.fromkeys(columns.SCORE))
        live = [row for row in batch if row.edited is not None or row.fields.get(columns.ANONYMIZED_IMAGE)]
        each_row(live, _open, "unreadable")
        live = [row for row in live if row.edited is not None]
        each_row(live, _compare, "error")
        if self.inspect is not None:
            self._look(live)

    def _look(self, batch: Sequence[Row]) -> None:
        unseen = [row for row in batch if row.residue is None]
        found: dict[int, list[Detection]] = {id(row): [] for row in unseen}
        for detector in self.inspect.detectors if self.inspect else ():

            def look(rs: Sequence[Row], d: Detector = detector) -> Sequence[Sequence[Detection]]:
                return sound(d.detect([np.asarray(r.edited) for r in rs]))

            results = each(unseen, look, "error")
            for row, detections in zip(unseen, results, strict=True):
                found[id(row)] += [d for d in detections or () if d.score >= detector.flag_threshold]
        for row in unseen:
            row.residue = found[id(row)] if row.failure is None else None
        for row in batch:
            if row.residue is not None:
                row.fields.update(_residue(row, row.residue, self.inspect.categories if self.inspect else ()))


def _open(row: Row) -> None:
    if row.edited is None:
        row.edited = images.decode(row.fields[columns.ANONYMIZED_IMAGE]).pixels


def _compare(row: Row) -> None:
    if row.edited is row.decoded.pixels:
        row.fields[columns.SSIM] = 1.0
    elif row.edited is not None and row.edited.size == row.decoded.pixels.size:
        row.fields[columns.SSIM] = ssim(row.array, np.asarray(row.edited))


def _residue(row: Row, residue: Sequence[Detection], categories: Sequence[str]) -> dict:
    review = row.fields.get(columns.PRIVACY_REVIEW) or ()
    before = [item["item"] for item in review if item["category"] == "text" and item["item"]]
    after = [d.text for d in residue if d.text]
    number = {c: sum(d.category == c for d in residue) for c in categories}
    return {
        columns.RESIDUAL_FACES: number.get("face"),
        columns.RESIDUAL_TEXT: number.get("text"),
        columns.TEXT_SIMILARITY: text_similarity(before, after) if "text" in number else None,
    }


def say_nothing() -> None:
    """Leave out the warning in this process; a run's report says what was not measured."""
    _told.add("weights")


def _tell_once(names: tuple[str, ...]) -> None:
    if "weights" not in _told:
        _told.add("weights")
        packages = sorted({_WEIGHTS[n] for n in names})
        log.warning(
            "%s are not measured: the profile 'cpu' loads no model weights (%s). `u2s doctor` says what is missing.",
            ", ".join(names),
            ", ".join(packages),
        )
