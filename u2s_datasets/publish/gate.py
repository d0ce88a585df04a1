"""The gate in front of the build: it judges every row and lists every reason against publishing at once."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from datasets import ClassLabel

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError, U2SError
from u2s_datasets.images import content, same
from u2s_datasets.parts.checks import check_float
from u2s_datasets.parts.metrics.definitions import SPECS
from u2s_datasets.publish import text_check
from u2s_datasets.publish.candidate import ROW_ID, Candidate
from u2s_datasets.publish.people_check import PeopleCheck
from u2s_datasets.publish.provenance import ProvenanceTally
from u2s_datasets.runs.audit import FEWEST, Audit
from u2s_datasets.runs.decisions import APPROVE, REJECT

# Exceptions that a user may name, and what the card says of each. Names of kept columns may be allowed as well.
ALLOWABLE = {
    "audit": "published although the audit asked for is missing or too loose",
    "foreign_files": "the repository held files that this program did not write",
    "originals": "published bytes were not compared with the originals, which were not at hand",
    "quality": "a score that the quality gate asks for was not measured",
    "recognised": "flagged images in which a face network recognises a person of the original were let through",
    "text": "public texts that the leak rules stopped were let through",
    "unbound": "the run is of a version that did not bind its facts, reviews, audits and scores to its rows: the facts "
    "here are those of the rows, and reviews, audits and scores are taken as they stand in its folder",
    "unresolved": "rows whose review was asked for and not given were let through",
    "untouched": "flagged images that look like their originals were let through",
    "unverified": "the edited images were not inspected again",
}

# What to do about each reason.
REMEDIES = {
    "alpha": "an image must be 8-bit RGB without transparency: store `image.convert('RGB')`, or map u2s.anonymize",
    "audit": "audit a sample, or leave the bound out",
    "changed": "these are not the files that the run wrote: run the same `u2s anonymize` again",
    "column": "only public and kept columns may leave: take it out of data/, or name it in keep and in the run",
    "counts": "run the same `u2s anonymize` again",
    "empty": "there is nothing to publish",
    "facts": "give what is asked for: the card does not guess",
    "file_name": "an image must have no path: run the same `u2s anonymize` again",
    "foreign_files": "push into a new repository: this one holds, or held, files that nobody inspected",
    "kept": "leave the column out of keep, or allow it by its name",
    "metadata": "an image must carry pixels only: run `u2s anonymize` on it again",
    "original": "an original may never leave: run again with another --format, such as webp",
    "originals": "put the source back in its place",
    "quality": "map u2s.score with that metric first, or leave it out of the quality gate",
    "recognised": "edit these rows again, or withhold them",
    "repository": "push into a private repository, or say private=False (--public)",
    "review": "correct the review's boxes, or map u2s.inspect without it",
    "row_id": "a row id must be 32 hex digits and unique",
    "status": "expected safe, anonymized or withheld",
    "text": "look at the rows in private/; take the text out, or leave the column out",
    "unbound": "look at its reviews and audits, since nobody would know if some are gone, or run it again into a new "
    "folder",
    "unreadable": "a published image must decode: run `u2s anonymize` again",
    "unresolved": "give the reviews that were asked for",
    "untouched": "edit these rows, or withhold them",
    "unverified": "run `u2s anonymize` without --no-verify",
    "withheld": "a withheld row must have no image: something wrote into the run's output",
}

_SHOWN, _DETAILS = 3, 10  # rows and details named per reason


_UNFIT = re.compile(r"<[/!?A-Za-z]|[\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\U000e0000-\U000e007f]")


def _names(feature: Any) -> Iterator[str]:
    """The names of classes and fields in a feature, at any depth."""
    if isinstance(feature, Mapping):
        for name, inner in feature.items():
            yield name
            yield from _names(inner)
    elif isinstance(feature, ClassLabel):
        yield from feature.names or ()
    elif hasattr(feature, "feature"):
        yield from _names(feature.feature)


@dataclass
class Finding:
    """One reason: how many times, and the first few rows and details."""

    count: int = 0
    details: dict[str, None] = field(default_factory=dict)
    rows: list[str] = field(default_factory=list)


class Refused(U2SError):
    """The gate or the scan stopped the push; nothing was uploaded.

    Args:
        reasons: all of them, code -> description.
    """

    def __init__(self, reasons: Mapping[str, str]) -> None:
        lines = "".join(f"\n  - {code}: {reason}" for code, reason in reasons.items())
        super().__init__(f"not published, nothing was uploaded:{lines}")
        self.reasons = dict(reasons)


class PublishGate:
    """Judges rows one by one and remembers every reason against publishing.

    Args:
        allow: codes of `ALLOWABLE`; they are counted all the same, for the card.
        quality: score -> the worst value that may leave; anonymized rows with a worse one are held back. `SPECS` says
            which way is worse.
        kept: the kept columns.

    Attributes:
        seen, publishable: rows that were judged, and those of them that are safe or anonymized.
        held_back: "rejected" or "below_quality" -> number of rows.
        provenance: of the rows that leave.
        measured: score of `quality` -> number of rows that have it.

    Raises:
        SetupError: an unknown score, or a worst value that is not a finite number.
    """

    def __init__(self, allow: Sequence[str] = (), quality: Mapping[str, float] | None = None, kept: Sequence[str] = ()):
        self.allow, self.quality, self.kept = set(allow), dict(quality or {}), tuple(kept)
        self.seen = self.publishable = 0
        self.held_back: Counter[str] = Counter()
        self.provenance = ProvenanceTally()
        self.measured: Counter[str] = Counter()
        self._findings: dict[str, Finding] = {}
        self._row_ids: set[str] = set()
        self._people = PeopleCheck()
        for name, worst in self.quality.items():
            if name not in SPECS:
                raise SetupError(f"unknown score quality={name!r}; expected one of: {', '.join(SPECS)}")
            check_float(f"quality[{name!r}]", worst)

    def note(self, code: str, detail: str, row: str = "") -> None:
        """Remember a reason."""
        finding = self._findings.setdefault(code, Finding())
        finding.count += 1
        if len(finding.details) < _DETAILS:
            finding.details[detail] = None
        if row and len(finding.rows) < _SHOWN:
            finding.rows.append(row)

    def reasons(self) -> dict[str, str]:
        """What stops the push, code -> description; without what was allowed."""
        return {code: self._describe(code) for code in sorted(self._findings) if code not in self.allow}

    def allowed(self) -> dict[str, int]:
        """The exceptions that were named and needed: code -> how many times."""
        return {code: self._findings[code].count for code in sorted(self.allow & set(self._findings))}

    def _describe(self, code: str) -> str:
        found = self._findings[code]
        times = f"{found.count} times: " if found.count > 1 else ""
        rows = f" (rows {', '.join(found.rows)}{', …' if found.count > len(found.rows) else ''})" if found.rows else ""
        remedy = REMEDIES[code] + (f", or allow {code!r}" if code in ALLOWABLE else "")
        return f"{times}{'; '.join(found.details)}{rows}; {remedy}"

    def judge_audit(self, audit: Audit | None, highest: float | None, most: int) -> None:
        """Note an audit that cannot be of these rows, and one that was asked for and is missing or too loose.

        Args:
            audit: what it found; None without one.
            highest: the highest bound on the share of leaking images that is accepted; None if none was asked for.
            most: how many rows can have been drawn.
        """
        if audit is not None and audit.n > most:
            self.note("audit", f"the audit says that {audit.n:,} images were looked at, of {most:,} that there are")
        if highest is None:
            return
        if audit is None:
            self.note("audit", f"an audit with a bound of {highest:.2%} or less was asked for and is missing")
        elif audit.n < (fewest := min(FEWEST, self.publishable)):
            self.note("audit", f"the audit looked at {audit.n:,} images; expected {fewest:,} or more")
        elif audit.upper_bound > highest:
            self.note("audit", f"the audit's bound is {audit.upper_bound:.2%}, above {highest:.2%}")

    def judge_names(self, features: Any) -> None:
        """Note names of classes, columns and fields that would be markup in the head of a card, which repeats them."""
        if any(_UNFIT.search(name) for name in _names(features)):
            self.note("kept", "a name of a class or a column holds HTML, a line break or a control character")

    def admits(self, row: Candidate) -> bool:
        """Whether a row leaves if nothing stops the push. Notes every reason against it."""
        good = self._meets_quality(row)  # withheld rows count as measured, too
        self.seen += 1
        self.publishable += row.status in (c.SAFE, c.ANONYMIZED)
        if row.status not in (c.SAFE, c.ANONYMIZED):
            if row.status != c.WITHHELD:
                self.note("status", f"a row has the status {row.status!r}", row.row_id)
            elif row.image.data is not None:
                self.note("withheld", "a withheld row has an image", row.row_id)
            return False
        if row.decision == REJECT:
            self.held_back["rejected"] += 1
            return False
        if row.status == c.ANONYMIZED and not good:
            self.held_back["below_quality"] += 1
            return False
        if row.decision not in (None, APPROVE):
            self.note("unresolved", "a review was asked for and not given", row.row_id)
        if not ROW_ID.fullmatch(row.row_id) or row.row_id in self._row_ids:
            self.note("row_id", "a row id is missing, given twice or not a digest")
        self._row_ids.add(row.row_id)
        self.provenance.add(row.public.get(c.PROVENANCE))
        if c.is_unverified(row.status, row.public.get(c.PROVENANCE)):
            self.note("unverified", "a row's provenance does not say that it was inspected again", row.row_id)
        self._judge_image(row)
        return True

    def _meets_quality(self, row: Candidate) -> bool:
        """Whether a row has every score that was asked for, none worse than allowed. Counts those that it has."""
        found = {name: row.scores.get(name) for name in self.quality}
        scores = {name: value for name, value in found.items() if value is not None and math.isfinite(value)}
        self.measured.update(scores.keys())
        return len(scores) == len(found) and all(
            scores[name] >= worst if SPECS[name].better == "higher" else scores[name] <= worst
            for name, worst in self.quality.items()
        )

    def _judge_image(self, row: Candidate) -> None:
        image = row.image
        for code, fault in image.faults():
            self.note(code, fault, row.row_id)
        if image.pixels is None:
            return
        try:
            boxes = row.private_boxes
        except ValueError:  # its text may hold anything, so it is not repeated
            self.note("review", "a box of a review is not (x0, y0, x1, y1) in pixels", row.row_id)
            return
        for original in row.originals:
            if original.data is None:
                self.note("originals", "an original is missing", row.row_id)
            elif original.data == image.data:
                self.note("original", "an image is its original, byte for byte", row.row_id)
            if not row.flagged or original.pixels is None:
                continue
            if self._people.recognises(row.review, original.pixels, image.pixels):
                self.note("recognised", "a flagged image still shows a person of its original", row.row_id)
            if content.digest(original.pixels) == content.digest(image.pixels):
                self.note("original", "a flagged image has its original's pixels", row.row_id)
            elif same.untouched(original.pixels, image.pixels):
                self.note("untouched", "a flagged image looks like its original", row.row_id)
            elif same.left_in_place(original.pixels, image.pixels, boxes, row.is_blurred):
                self.note("untouched", "a private region of a flagged image looks like its original", row.row_id)
        for column, what in text_check.find_private_text(row, self.kept, image.pixels.size):
            self.note("text", f"{column} {what}", row.row_id)

    def close(self) -> None:
        """Note what shows only once every row was seen."""
        if not self._row_ids:
            self.note("empty", "no row is left")
        for name in self.quality:
            if not self.measured[name]:
                self.note("quality", f"{name} was measured on no row")
