"""First step: is this image private, and where?"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from u2s_datasets import columns, images
from u2s_datasets.errors import SetupError
from u2s_datasets.images import Shape, cover_box
from u2s_datasets.parts import Backend, Category, Detection, Detector, Grow, Message, Request, checks
from u2s_datasets.parts.catalog import category_of, known_categories
from u2s_datasets.parts.detectors.faces import Faces
from u2s_datasets.parts.detectors.text import Text
from u2s_datasets.privacy import vispr_attributes as vispr
from u2s_datasets.privacy.criteria import CRITERIA, DEFAULT, Criteria, check_criteria
from u2s_datasets.stages.answers import parse_flag
from u2s_datasets.stages.base import Step, alive, check_backend, check_detections, each, each_row
from u2s_datasets.stages.batch import Row
from u2s_datasets.stages.prompts import criteria_lines, render
from u2s_datasets.stages.query import ask

METHODS = ("choose", "generate")
CHOICES = ("TRUE", "FALSE")
LEAD = "PRIVACY_FLAG:"  # the start of the answer, given to the model, so that the next word is the flag itself

# Criterion -> what none of our detectors looks for, whatever is switched on; see `Category.covers`.
BEYOND = {
    "people": {
        "bodies": "people without a visible face: backs, bodies, hands, tattoos, skin",
        "small_faces": "smaller faces and faces seen from behind",
    },
    "text": {
        "handwriting": "handwriting",
        "logos": "logos",
        "codes": "QR codes and bar codes",
        "unread_codes": "codes that cannot be read (small, blurred, damaged, turned PDF417)",
        "unfound": "text that is curved, below 14 pixels or too blurred, and single letters",
    },
    **{name: {name: words} for name, words in CRITERIA.items() if name not in ("people", "text")},
}


@dataclass(frozen=True)
class Inspect(Step):
    """Flag an image by what detectors find in it, by what a model says of it, or by either.

    One detection at or above its detector's `flag_threshold` flags the image. Once it is flagged, weaker detections
    are listed too, because hiding too much costs less than showing a face. An image that cannot be read or judged is
    flagged, with a review item of category "error".

    With a model the flag is its judgement by the criteria, and `privacy_score` the probability that it does not
    answer FALSE; whatever goes to other words counts as unsafe. With both, either flags and the higher score stands.

    Args:
        detectors: parts that look for private regions; () to let a model judge alone.
        image_column: the column that holds the source image.
        backend: a model that sees.
        criteria: (name, description) of what counts as private, from `load_criteria`. A single criterion is asked for
            by a prompt of its own, in which nothing else that is private matters.
        method: "choose" weighs TRUE against FALSE in one pass and writes no token; "generate" has the flag written,
            as in the paper, with a score of 0 or 1.
        threshold: in (0, 1]; at this score and above "choose" flags. Low, because doubt is TRUE.

    Input columns:
        image: the source image.

    Output columns:
        privacy_flag: whether the image is private, or could not be judged.
        privacy_score: the highest score of the detections and of the model, in [0, 1].
        privacy_review: what was found, with boxes in pixels of the upright image; the model's flag; failures.
    """

    detectors: tuple[Detector, ...] = (Faces(), Text())
    backend: Backend | None = None
    criteria: Criteria = DEFAULT
    method: str = "choose"
    threshold: float = 0.2

    writes = columns.INSPECT

    def check(self) -> None:
        """Raises `SetupError` if there is nothing to inspect with, or for a value that cannot work."""
        checks.check_instances("detectors", self.detectors, Detector, "u2s.Faces()")
        check_backend("backend", self.backend)
        if not self.detectors and self.backend is None:
            raise SetupError("detectors=() inspects nothing; give at least one, such as u2s.Faces(), or a backend")
        checks.check_choice("method", self.method, METHODS)
        checks.check_float("threshold", self.threshold, least=0, most=1, above=True)
        check_criteria(self.criteria)
        super().check()

    @property
    def categories(self) -> tuple[str, ...]:
        """The names of everything that the detectors look for."""
        return tuple(self._described)

    @property
    def _described(self) -> dict[str, Category]:
        return {category.name: category for d in self.detectors for category in map(category_of, d.categories)}

    def growth(self) -> dict[str, Grow]:
        """Category -> how its boxes grow: of these detectors, and of ours for boxes that others report."""
        known = (known_categories() | self._described).values()
        return {name: category.grow for category in known for name in (category.name, *category.aliases)}

    def shapes(self) -> dict[str, Shape]:
        """Category -> the shape that hides it: of these detectors, and of ours for what others report."""
        known = (known_categories() | self._described).values()
        made = {category.name: category.shape or cover_box(category.grow) for category in known}
        return {name: made[category.name] for category in known for name in (category.name, *category.aliases)}

    def scope(self) -> tuple[list[str], list[str]]:
        """(inspected, not inspected) in words, for reports and cards."""
        return scope(tuple(self._described.values()), () if self.backend is None else self.criteria)

    def run(self, batch: Sequence[Row]) -> None:
        """Write `privacy_flag`, `privacy_score` and `privacy_review`."""
        self.detect(batch)
        self.decide(batch)

    def detect(self, batch: Sequence[Row]) -> None:
        """Set `Row.found` to everything that the detectors find, weak evidence included; write no column."""

        def open_image(row: Row) -> images.Decoded:
            row.found = None
            return row.decoded

        each_row(batch, open_image, "unreadable")
        for detector in self.detectors:
            _add_detections(detector, alive(batch))

    def decide(self, batch: Sequence[Row]) -> None:
        """Write the columns from what `detect` found in these rows and what the model says of them.

        A flag or a review that was given alone is added to and never taken back.
        """
        live = alive(batch)
        for row, score in zip(live, self.score_privacy(live), strict=True):
            if row.failure is None:
                row.fields.update(self._verdict(row, score))
        for row in batch:
            if row.failure is not None:
                item = columns.review_item(columns.ERROR, row.failure.code, str(row.failure), None, 1.0)
                review = _extended_review(row, [item])
                row.fields |= {columns.PRIVACY_FLAG: True, columns.PRIVACY_SCORE: 1.0, columns.PRIVACY_REVIEW: review}

    def score_privacy(self, batch: Sequence[Row]) -> list[float | None]:
        """How sure the model is, per row and in [0, 1], that its image is private; None without a model.

        A row fails if its answer is missing, is not a number or cannot be understood.
        """
        backend = self.backend
        if backend is None:
            return [None] * len(batch)
        if self.method == "generate":
            flags = ask(backend, batch, self.request, parse_flag, "inspect_failed")
            return [None if flag is None else float(flag) for flag in flags]

        def weigh(rows: Sequence[Row]) -> list[dict[str, float]]:
            return backend.choose([self.request(row) for row in rows], CHOICES)

        return each(batch, weigh, "inspect_failed", doubt)

    def is_private_score(self, score: float | None) -> bool:
        """Whether the model's score flags its image. Without a model nothing does; without an answer it does."""
        limit = self.threshold - 1e-6 if self.method == "choose" else 1.0  # in floats, 1 - 0.8 is below 0.2
        return self.backend is not None and (score is None or score >= limit)

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

    def add_found(self, row: Row) -> None:
        """Add what `detect` found to given columns, if either of them flags the row.

        The review says which words public texts must not use, so what was read here has to be in it.
        """
        found = row.found or []
        if row.is_flagged or self.is_evidence(found):
            review = _extended_review(row, map(self._item, found))
            row.fields |= {columns.PRIVACY_FLAG: True, columns.PRIVACY_REVIEW: review}

    def is_evidence(self, found: Sequence[Detection]) -> bool:
        """Whether one of these detections flags its image by itself.

        A category that no detector here looks for was reported by somebody else, who is believed.
        """
        limits = {name: d.flag_threshold for d in self.detectors for name in d.category_names}
        return any(d.score >= limits.get(d.category, 0.0) for d in found)

    def _verdict(self, row: Row, score: float | None) -> dict[str, Any]:
        found, by_model = row.found or [], self.is_private_score(score)
        given = row.fields.get(columns.PRIVACY_FLAG)  # a review that was given without a flag is one
        flag = (bool(row.review) if given is None else given) or self.is_evidence(found) or by_model
        items = [self._item(d) for d in found] if flag else []
        if by_model:
            items.append(columns.review_item(columns.JUDGED, "", "judged private by a model", None, score or 1.0))
        return {
            columns.PRIVACY_FLAG: flag,
            columns.PRIVACY_SCORE: max((*(d.score for d in found), score or 0.0)),
            columns.PRIVACY_REVIEW: _extended_review(row, items),
        }

    def _item(self, detection: Detection) -> dict[str, Any]:
        category = self._described.get(detection.category)
        reason = f"detected: {category.description if category else detection.category}"
        return columns.review_item(detection.category, detection.text, reason, detection.box, detection.score)


def _add_detections(detector: Detector, batch: Sequence[Row]) -> None:
    found = each(batch, lambda rows: detector.detect([row.shown for row in rows]), "inspect_failed", check_detections)
    for row, detections in zip(batch, found, strict=True):
        if detections is not None:
            row.found = [*(row.found or ()), *detections]


def doubt(probabilities: Mapping[str, float]) -> float:
    """1 - p(FALSE): what goes to other words is doubt. Raises `ValueError` without the probability of either choice."""
    true, false = (float(probabilities[choice]) for choice in CHOICES)
    if not (math.isfinite(true + false) and min(true, false) >= 0 and true + false <= 1 + 1e-3):
        raise ValueError("the model gave no probabilities of TRUE and FALSE")
    return min(1.0, max(0.0, 1.0 - false))


def _extended_review(row: Row, items: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The row's review with those of the items that it does not have yet."""
    known = {_identity(item) for item in row.review}
    return [*row.review, *(item for item in items if _identity(item) not in known)]


def _identity(item: Mapping[str, Any]) -> tuple[object, ...]:
    """What tells a review item from others, also after it lay in a table of 32-bit numbers."""
    box = None if item["box"] is None else tuple(f"{v:.0f}" for v in item["box"])  # a given one may not be finite
    return item["category"], item["item"] or "", box


def scope(categories: Sequence[Category], asked: Criteria = ()) -> tuple[list[str], list[str]]:
    """(inspected, not inspected), in words for anyone: a user's own criteria are not repeated.

    Args:
        categories: what detectors look for.
        asked: what a model is asked for.
    """
    ours = [name for name, words in asked if CRITERIA.get(name) == words]
    known = [name for name, words in asked if name in vispr.ATTRIBUTES and vispr.ATTRIBUTES[name].words == words]
    judged = [CRITERIA[name] for name in ours]
    if len(known) == len(vispr.ATTRIBUTES):
        judged.append(f"all {len(known)} attributes of VISPR")
    else:
        judged += [vispr.ATTRIBUTES[name].words for name in known]
    if len(asked) > len(ours) + len(known):
        judged.append("criteria of the user's own")
    # The nine criteria sum VISPR's attributes up, so whoever is asked for all of those is asked for all of these.
    criteria = {*CRITERIA} if len(known) == len(vispr.ATTRIBUTES) else {*ours}
    looked_for = {category.name for category in categories}
    # What covers a key of BEYOND is named there.
    known_left = (c for c in known_categories().values() if c.name not in looked_for and not c.covers)
    left = [c for c in known_left if c.criterion not in criteria]
    covered = {key for category in categories for key in category.covers}
    beyond = [
        _listed(words for key, words in parts.items() if key not in covered)
        for criterion, parts in BEYOND.items()
        if criterion not in criteria and not covered.issuperset(parts)
    ]
    inspected = [category.description for category in categories] + [f"{words} (judged by a model)" for words in judged]
    return inspected, [*(category.description for category in left), *beyond]


def _listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
