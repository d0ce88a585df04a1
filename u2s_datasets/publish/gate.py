"""The gate before anything is built: every reason against publishing, listed at once."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError, U2SError
from u2s_datasets.images import same
from u2s_datasets.images.metadata import metadata_in
from u2s_datasets.parts.checks import number
from u2s_datasets.parts.metrics.definitions import SPECS
from u2s_datasets.publish import text_check
from u2s_datasets.publish.candidate import Candidate, pixels_of, stored_bytes

ALLOWABLE = {
    "audit": "published although the audit asked for is missing or too loose",
    "foreign_files": "the repository held files that this program did not write",
    "originals": "published bytes were not compared with the originals, which were not at hand",
    "quality": "a score that the quality gate asks for was not measured",
    "text": "public texts that the leak rules stopped were let through",
    "unresolved": "rows whose review was asked for and not given were let through",
    "untouched": "flagged images that look like their originals were let through",
    "unverified": "the edited images were not inspected again",
}
"""Exceptions that a user may name, and what the card says of each. Names of kept columns may be allowed as well."""

REMEDIES = {
    "audit": "audit a sample, or leave the bound out",
    "changed": "the rows are not those that the run wrote: run the same `u2s anonymize` again",
    "column": "only public columns and kept ones leave: take it out of data/, or name it in keep and in the run",
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
    "repository": "push into a private repository, or say private=False (--public)",
    "row_id": "a row id is 32 hex digits and given once",
    "status": "only safe, anonymized and withheld are known",
    "text": "look at the rows in private/; take the text out, or leave the column out",
    "unreadable": "a published image must decode: run `u2s anonymize` again",
    "unresolved": "give the reviews that were asked for",
    "untouched": "edit these rows, or withhold them",
    "unverified": "run `u2s anonymize` without --no-verify",
    "withheld": "a withheld row must have no image: something wrote into the run's output",
}

_ROW_ID = re.compile(r"[0-9a-f]{32}")
_SHOWN = 3  # rows and details named per reason


@dataclass
class Finding:
    """One reason: how many times, and the first few rows and details."""

    count: int = 0
    details: dict[str, None] = field(default_factory=dict)
    rows: list[str] = field(default_factory=list)


class Refused(U2SError):
    """The gate or the scan stopped the publishing; nothing was uploaded.

    Args:
        reasons: all of them, code -> words.
    """

    def __init__(self, reasons: Mapping[str, str]) -> None:
        lines = "".join(f"\n  - {code}: {words}" for code, words in reasons.items())
        super().__init__(f"not published, nothing was uploaded:{lines}")
        self.reasons = dict(reasons)


class Gate:
    """Judges rows one by one and remembers every reason against publishing.

    Args:
        allow: codes of `ALLOWABLE`; they are counted all the same, for the card.
        quality: score -> the worst value that may leave; anonymized rows with a worse one stay home; `SPECS` says
            which way is worse.
        kept: the kept columns.

    Raises:
        SetupError: an unknown score, or a worst value that is no finite number.
    """

    def __init__(self, allow: Sequence[str] = (), quality: Mapping[str, float] | None = None, kept: Sequence[str] = ()):
        self.allow, self.quality, self.kept = set(allow), dict(quality or {}), tuple(kept)
        self.found: dict[str, Finding] = {}
        self.home: Counter[str] = Counter()
        self.status: Counter[str] = Counter()
        self.published: Counter[str] = Counter()
        self.measured: Counter[str] = Counter()
        self._ids: set[str] = set()
        for name, worst in self.quality.items():
            if name not in SPECS:
                raise SetupError(f"quality={name!r} is no score; use one of: {', '.join(SPECS)}")
            number(f"quality[{name!r}]", worst)

    def note(self, code: str, detail: str = "", row: str = "") -> None:
        """Remember a reason."""
        finding = self.found.setdefault(code, Finding())
        finding.count += 1
        if detail and len(finding.details) < _SHOWN:
            finding.details[detail] = None
        if row and len(finding.rows) < _SHOWN:
            finding.rows.append(row)

    def reasons(self) -> dict[str, str]:
        """What stops the publishing, code -> words; what was allowed is not among it."""
        return {code: self._words(code) for code in sorted(self.found) if code not in self.allow}

    def allowed(self) -> dict[str, int]:
        """The exceptions that were named and needed: code -> how many times."""
        return {code: self.found[code].count for code in sorted(self.allow & set(self.found))}

    def _words(self, code: str) -> str:
        found = self.found[code]
        times = f"{found.count} times: " if found.count > 1 else ""
        details = "; ".join(found.details)
        rows = f" (rows {', '.join(found.rows)}{', …' if found.count > len(found.rows) else ''})" if found.rows else ""
        more = f", or allow {code!r}" if code in ALLOWABLE else ""
        return f"{times}{details}{rows}; {REMEDIES[code]}{more}"

    def admits(self, row: Candidate) -> bool:
        """Whether a row leaves, if nothing stops the whole; every reason against it is noted."""
        self.status[row.status] += 1
        self.measured.update(name for name in self.quality if _measured(row, name) is not None)
        name = str(row.public.get(c.ROW_ID, ""))
        if row.status not in (c.SAFE, c.ANONYMIZED):
            if row.status != c.WITHHELD:
                self.note("status", f"a row has the status {row.status!r}", name)
            elif row.public and stored_bytes(row.public.get(c.ANONYMIZED_IMAGE)) is not None:
                self.note("withheld", "a withheld row has an image", name)
            return False
        if (why := self._stays_home(row)) is not None:
            self.home[why] += 1
            return False
        if row.decision is not None and row.decision != "approve":
            self.note("unresolved", "a review was asked for and not given", name)
        if not _ROW_ID.fullmatch(name) or name in self._ids:
            self.note("row_id", "a row id is missing, given twice or no digest")
        self._ids.add(name)
        self._judge_image(row, name)
        self.published[row.status] += 1
        return True

    def _stays_home(self, row: Candidate) -> str | None:
        if row.decision == "reject":
            return "rejected"
        for name, worst in self.quality.items() if row.status == c.ANONYMIZED else ():
            value = _measured(row, name)
            if value is None or (value < worst if SPECS[name].better == "higher" else value > worst):
                return "below_quality"
        return None

    def _judge_image(self, row: Candidate, name: str) -> None:
        stored = row.public.get(c.ANONYMIZED_IMAGE)
        if isinstance(stored, Mapping) and stored.get("path"):
            self.note("file_name", "an image has a path or a file name", name)
        data = stored_bytes(stored)
        picture = pixels_of(data)
        if data is None or picture is None:
            self.note("unreadable", "an image cannot be decoded", name)
            return
        if left := metadata_in(data):
            self.note("metadata", f"an image holds {', '.join(left)}", name)
        self._compare(row, name, data, picture)
        for column, what in text_check.said(row, self.kept, picture.size):
            self.note("text", f"{column} {what}", name)

    def _compare(self, row: Candidate, name: str, data: bytes, picture: Any) -> None:
        """An image against everything that may be its original."""
        for original in row.originals:
            before = stored_bytes(original)
            if before is None:
                self.note("originals", "an original is not at hand", name)
                continue
            if hashlib.sha256(before).digest() == hashlib.sha256(data).digest():
                self.note("original", "an image is its original, byte for byte", name)
            was = pixels_of(before) if row.flagged else None
            if was is None:
                continue
            if same.digest(was) == same.digest(picture):
                self.note("original", "a flagged image has its original's pixels", name)
            elif same.untouched(was, picture):
                self.note("untouched", "a flagged image looks like its original", name)

    def close(self) -> None:
        """Note what shows only once every row was seen."""
        if not sum(self.published.values()):
            self.note("empty", "no row is left")
        for name in self.quality:
            if not self.measured[name]:
                self.note("quality", f"{name} was measured on no row")


def _measured(row: Candidate, name: str) -> float | None:
    """A row's score; none where it was not measured, which NaN and infinity say as well."""
    value = row.scores.get(name)
    return value if value is not None and math.isfinite(value) else None
