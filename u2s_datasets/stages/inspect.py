"""First arrow: is this image private, and where?"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from u2s_datasets import columns
from u2s_datasets.errors import RowError, SetupError
from u2s_datasets.parts import Backend, Category, Detection, Detector, Grow, Message, Request, checks
from u2s_datasets.parts.catalog import category_of, known_categories
from u2s_datasets.parts.detectors.faces import Faces
from u2s_datasets.parts.detectors.text import Text
from u2s_datasets.privacy import criteria as criteria_
from u2s_datasets.stages.answers import parse_flag
from u2s_datasets.stages.base import Step, each, each_row, sound
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.prompts import criteria_lines, render
from u2s_datasets.stages.query import ask
from u2s_datasets.stages.scope import scope

METHODS = ("choose", "generate")
CHOICES = ("TRUE", "FALSE")
LEAD = "PRIVACY_FLAG:"
"""The answer's beginning, given to the model, so that the next word is the flag itself."""


@dataclass(frozen=True)
class Inspect(Step):
    """Flag an image by what detectors find in it, by what a model says of it, or by either.

    One detection at or above its detector's `flag_threshold` flags the image; once it is flagged, weaker
    detections are listed too, because hiding too much costs less than showing a face. An image that cannot be
    read or judged is flagged, with a review item of category "error".

    With a model the flag is its judgement by the criteria and `privacy_score` its probability that FALSE is not
    the answer; whatever goes to other words counts as unsafe. With both, either flags and the higher score stands.

    Args:
        detectors: parts that look for private regions; () where a model alone is to judge.
        image_column: the column that holds the source image.
        backend: a model that sees.
        criteria: (name, words) of what counts as private, from `load_criteria`. One alone is asked for by a prompt
            of its own, in which nothing else that is private matters.
        method: "choose" weighs TRUE against FALSE in one pass and writes no token; "generate" has the flag written,
            as in the paper, with a score of 0 or 1.
        threshold: in (0, 1]; at this score and above "choose" flags. Low, because doubt is TRUE.
    """

    detectors: tuple[Detector, ...] = (Faces(), Text())
    backend: Backend | None = None
    criteria: criteria_.Criteria = criteria_.DEFAULT
    method: str = "choose"
    threshold: float = 0.2

    writes = columns.INSPECT

    def check(self) -> None:
        """Raises `SetupError` where there is nothing to inspect with, or a value that cannot work."""
        checks.check_instances("detectors", self.detectors, Detector, "u2s.Faces()")
        checks.check_instance("backend", self.backend, Backend, checks.BACKEND, optional=True)
        if not self.detectors and self.backend is None:
            raise SetupError("detectors=() inspects nothing; give at least one, such as u2s.Faces(), or a backend")
        if self.backend is not None and not self.backend.sees:
            raise SetupError(f"backend={type(self.backend).__name__} takes no images; give one that sees")
        if self.method not in METHODS:
            raise SetupError(f"method={self.method!r} is unknown; use one of: {', '.join(METHODS)}")
        checks.check_float("threshold", self.threshold)
        if not 0 < self.threshold <= 1:
            raise SetupError(f"threshold={self.threshold!r} is not in (0, 1]; the lower, the more is flagged")
        criteria_.check(self.criteria)
        super().check()

    @property
    def categories(self) -> tuple[str, ...]:
        """Everything that this step looks for."""
        return tuple(self._described)

    @property
    def _described(self) -> dict[str, Category]:
        return {category.name: category for d in self.detectors for category in map(category_of, d.categories)}

    def growth(self) -> dict[str, Grow]:
        """Category -> how its boxes grow: those of the detectors here, and of ours for boxes that others report."""
        known = (known_categories() | self._described).values()
        return {name: category.grow for category in known for name in (category.name, *category.aliases)}

    def scope(self) -> tuple[list[str], list[str]]:
        """(inspected, not inspected) in words, for reports and cards."""
        return scope(tuple(self._described.values()), () if self.backend is None else self.criteria)

    def run(self, batch: Sequence[Row]) -> None:
        """Write `privacy_flag`, `privacy_score` and `privacy_review`."""
        self.look(batch)
        self.conclude(batch)

    def conclude(self, batch: Sequence[Row]) -> None:
        """Write the columns from what `look` found in these rows and from what the model says of them.

        A flag or a review that was given alone is added to and never taken back.
        """
        alive = [row for row in batch if row.failure is None]
        scores = dict(zip(map(id, alive), self.judge(alive), strict=True))
        for row in batch:
            row.fields.update(_failed(row, row.failure) if row.failure else self._verdict(row, scores[id(row)]))

    def judge(self, batch: Sequence[Row]) -> list[float | None]:
        """How sure the model is, per row and in [0, 1], that its image is private; None without a model.

        A row whose answer is missing, is no number or cannot be understood fails.
        """
        if self.backend is None:
            return [None] * len(batch)
        if self.method == "generate":
            flags = ask(self.backend, batch, self.request, parse_flag, "inspect_failed")
            return [None if flag is None else float(flag) for flag in flags]
        backend = self.backend

        def weigh(rows: Sequence[Row]) -> list[float]:
            return [_unsafe(p) for p in backend.choose([self.request(row) for row in rows], CHOICES)]

        return each(batch, weigh, "inspect_failed")

    def condemns(self, judged: float | None) -> bool:
        """Whether an answer of `judge` flags its image; without a model nothing does, without an answer it does."""
        limit = self.threshold - 1e-6 if self.method == "choose" else 1.0  # 1 - 0.8 is below 0.2
        return self.backend is not None and (judged is None or judged >= limit)

    def request(self, row: Row) -> Request:
        """The question for one row; for "choose" with the answer begun."""
        begun = (Message("assistant", (LEAD,)),) if self.method == "choose" else ()
        return Request((Message("user", (row.decoded.pixels, self._question())), *begun), max_tokens=16)

    def _question(self) -> str:
        if len(self.criteria) > 1:
            return render("flag", criteria=criteria_lines(dict(self.criteria)))
        name, words = self.criteria[0]
        readable = re.sub(r"^a\d+_", "", name).replace("_", " ")  # VISPR's ids, such as a9_face_complete
        return render("flag_one_criterion", name=readable, description=words.removeprefix(f"{name}: "))

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

    def add_found(self, row: Row) -> None:
        """Add to given columns what `look` found besides, where the row is flagged by either.

        What the texts may not say is taken from the review, so what was read here has to stand in it.
        """
        found = row.found or []
        if row.fields.get(columns.PRIVACY_FLAG) is not False or self.flags(found):
            review = _longer_review(row, map(self._item, found))
            row.fields |= {columns.PRIVACY_FLAG: True, columns.PRIVACY_REVIEW: review}

    def flags(self, found: Sequence[Detection]) -> bool:
        """Whether one of these detections is evidence enough by itself.

        A category that no detector here claims was reported by somebody else, who is believed.
        """
        limits = {c: d.flag_threshold for d in self.detectors for c in d.category_names}
        return any(d.score >= limits.get(d.category, 0.0) for d in found)

    def _verdict(self, row: Row, judged: float | None) -> dict:
        found, by_model = row.found or [], self.condemns(judged)
        flag = _flagged_before(row) or self.flags(found) or by_model
        items = [self._item(d) for d in found] if flag else []
        if by_model:
            items.append(columns.review_item(columns.JUDGED, "", "judged private by a model", None, judged or 1.0))
        return {
            columns.PRIVACY_FLAG: flag,
            columns.PRIVACY_SCORE: max((*(d.score for d in found), judged or 0.0)),
            columns.PRIVACY_REVIEW: _longer_review(row, items),
        }

    def _item(self, detection: Detection) -> dict:
        category = self._described.get(detection.category)
        reason = f"detected: {category.description if category else detection.category}"
        return columns.review_item(detection.category, detection.text, reason, detection.box, detection.score)


def _unsafe(probabilities: Mapping[str, float]) -> float:
    """1 - p(FALSE). Raises `ValueError` where the answer holds no such probabilities."""
    true, false = (float(probabilities[choice]) for choice in CHOICES)
    if not (math.isfinite(true + false) and min(true, false) >= 0 and true + false <= 1 + 1e-3):
        raise ValueError("the model gave no probabilities of TRUE and FALSE")
    return min(1.0, max(0.0, 1.0 - false))


def _open(row: Row) -> None:
    row.found = None
    row.decoded  # noqa: B018  decoding is what is tried


def _failed(row: Row, error: RowError) -> dict:
    item = columns.review_item(columns.ERROR, error.code, str(error), None, 1.0)
    return {columns.PRIVACY_FLAG: True, columns.PRIVACY_SCORE: 1.0, columns.PRIVACY_REVIEW: _longer_review(row, [item])}


def _flagged_before(row: Row) -> bool:
    """Whether a flag was given, or a review without a word on the flag."""
    flag = row.fields.get(columns.PRIVACY_FLAG)
    return bool(row.fields.get(columns.PRIVACY_REVIEW)) if flag is None else flag


def _longer_review(row: Row, items: Iterable[dict]) -> list[dict]:
    """The row's review, and those of the items that it does not have yet."""
    review = row.fields.get(columns.PRIVACY_REVIEW) or []
    known = {_place(item) for item in review}
    return [*review, *(item for item in items if _place(item) not in known)]


def _place(item: Mapping[str, Any]) -> tuple[object, ...]:
    """What tells a detection from others, also after it lay in a table of 32-bit numbers."""
    box = None if item["box"] is None else tuple(f"{v:.0f}" for v in item["box"])  # a given one may not be finite
    return item["category"], item["item"] or "", box
