"""First arrow: is this image private, and where?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from u2s_datasets import columns, criteria
from u2s_datasets.detectors.faces import Faces
from u2s_datasets.detectors.text import Text
from u2s_datasets.errors import RowError, SetupError
from u2s_datasets.parts import Detection, Detector
from u2s_datasets.rows import Row
from u2s_datasets.stages.step import Step, each, each_row, sound


@dataclass(frozen=True)
class Inspect(Step):
    """Flag an image by what detectors find in it.

    One detection at or above its detector's `flag_threshold` flags the image; once it is flagged, weaker
    detections are listed too, because hiding too much costs less than showing a face. An image that cannot be
    read or judged is flagged, with a review item of category "error".

    Args:
        detectors: parts that look for private regions.
        image_column: the column that holds the source image.
    """

    detectors: tuple[Detector, ...] = (Faces(), Text())

    writes = columns.INSPECT

    def check(self) -> None:
        """Raises `SetupError` where there is nothing to inspect with."""
        if not self.detectors:
            raise SetupError("detectors=() inspects nothing; give at least one, such as u2s.Faces()")
        super().check()

    @property
    def categories(self) -> tuple[str, ...]:
        """Everything that this step looks for."""
        return tuple(dict.fromkeys(c for d in self.detectors for c in d.categories))

    def scope(self) -> tuple[list[str], list[str]]:
        """(inspected, not inspected) in words, for reports and cards."""
        return criteria.scope(self.categories)

    def run(self, batch: Sequence[Row]) -> None:
        """Write `privacy_flag`, `privacy_score` and `privacy_review`."""
        self.look(batch)
        for row in batch:
            row.fields.update(_failed(row.failure) if row.failure else self._verdict(row))

    def look(self, batch: Sequence[Row]) -> None:
        """Set `Row.found` to everything that the detectors find, weak evidence included, and write no column."""
        each_row(batch, _open, "unreadable")
        for detector in self.detectors:
            alive = [row for row in batch if row.failure is None]

            def look(rs: Sequence[Row], d: Detector = detector) -> Sequence[Sequence[Detection]]:
                return sound(d.detect([r.array for r in rs]))

            for row, detections in zip(alive, each(alive, look, "inspect_failed"), strict=True):
                if detections is not None:
                    row.found = [*(row.found or ()), *detections]

    def flags(self, found: Sequence[Detection]) -> bool:
        """Whether one of these detections is evidence enough by itself.

        A category that no detector here claims was reported by somebody else, who is believed.
        """
        limits = {c: d.flag_threshold for d in self.detectors for c in d.categories}
        return any(d.score >= limits.get(d.category, 0.0) for d in found)

    def _verdict(self, row: Row) -> dict:
        found = row.found or []
        flag = self.flags(found)
        return {
            columns.PRIVACY_FLAG: flag,
            columns.PRIVACY_SCORE: max((d.score for d in found), default=0.0),
            columns.PRIVACY_REVIEW: [_item(d) for d in found] if flag else [],
        }


def _open(row: Row) -> None:
    row.found = None
    row.decoded  # noqa: B018  decoding is what is tried


def _failed(error: RowError) -> dict:
    item = columns.review_item(columns.ERROR, error.code, str(error), None, 1.0)
    return {columns.PRIVACY_FLAG: True, columns.PRIVACY_SCORE: 1.0, columns.PRIVACY_REVIEW: [item]}


def _item(detection: Detection) -> dict:
    words = criteria.DETECTED.get(detection.category, detection.category)
    return columns.review_item(detection.category, detection.text, f"detected: {words}", detection.box, detection.score)
