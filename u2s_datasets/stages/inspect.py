"""First arrow: is this image private, and where?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from u2s_datasets import columns, criteria
from u2s_datasets.detectors.faces import Faces
from u2s_datasets.detectors.text import Text
from u2s_datasets.errors import RowError, SetupError, UnreadableImage
from u2s_datasets.parts import Detection, Detector
from u2s_datasets.rows import Row
from u2s_datasets.stages.step import Step, each


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
        readable = [row for row in batch if _is_readable(row)]
        found: dict[int, list[tuple[Detector, Detection]]] = {id(row): [] for row in batch}
        for detector in self.detectors:
            alive = [row for row in readable if row.failure is None]

            def look(rs: Sequence[Row], d: Detector = detector) -> list[list[Detection]]:
                return d.detect([r.array for r in rs])

            for row, detections in zip(alive, each(alive, look, "inspect_failed"), strict=True):
                found[id(row)] += [(detector, d) for d in detections or ()]
        for row in batch:
            row.fields.update(_verdict(row, found[id(row)]))


def _is_readable(row: Row) -> bool:
    try:
        row.decoded  # noqa: B018  decoding is what is tried
    except UnreadableImage as error:
        row.fail(error)
    return row.failure is None


def _verdict(row: Row, found: list[tuple[Detector, Detection]]) -> dict:
    if row.failure is not None:
        return _failed(row.failure)
    flag = any(d.score >= detector.flag_threshold for detector, d in found)
    score = max((d.score for _, d in found), default=0.0)
    return {
        columns.PRIVACY_FLAG: flag,
        columns.PRIVACY_SCORE: score,
        columns.PRIVACY_REVIEW: [_item(d) for _, d in found] if flag else [],
    }


def _failed(error: RowError) -> dict:
    item = columns.review_item(columns.ERROR, error.code, str(error), None, 1.0)
    return {columns.PRIVACY_FLAG: True, columns.PRIVACY_SCORE: 1.0, columns.PRIVACY_REVIEW: [item]}


def _item(detection: Detection) -> dict:
    words = criteria.DETECTED.get(detection.category, detection.category)
    return columns.review_item(detection.category, detection.text, f"detected: {words}", detection.box, detection.score)
