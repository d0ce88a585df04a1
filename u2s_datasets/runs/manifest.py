"""`private/manifest.json`: what a run is bound to, and which shards are finished."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError, U2SError
from u2s_datasets.runs.files import ANEW, read_json, read_table
from u2s_datasets.runs.layout import Layout

_BOUND = frozenset({"shards", "source", "source_kind", "split", "image_column", "configuration"})

UNNAMED = "(column not recorded)"
"""Stands for the columns in runs that counted all emptied texts as one."""


@dataclass(frozen=True)
class Shard:
    """A finished shard, as the manifest lists it.

    Args:
        number: of the shard.
        statuses: status -> rows.
        reasons: reason code -> withheld rows.
        unverified: publishable rows that nobody has shown to be free of what was found in them.
        kept_emptied: kept column -> values that were emptied, and rows where all of it was.
        sha256: half ("private", "public") -> digest of its file; a shard without a publishable row has no public half.
    """

    number: int
    statuses: Mapping[str, int]
    reasons: Mapping[str, int]
    unverified: int
    kept_emptied: Mapping[str, int]
    sha256: Mapping[str, str]

    @property
    def rows(self) -> int:
        """Rows of the source; none is lost (law 2)."""
        return sum(self.statuses.values())

    @classmethod
    def of(
        cls, number: int, rows: Sequence[Mapping[str, Any]], emptied: Mapping[str, int], sha256: Mapping[str, str]
    ) -> Shard:
        """The entry of a shard with these private rows.

        Raises:
            U2SError: a row has no known status.
        """
        statuses = Counter(row[c.STATUS] for row in rows)
        if unknown := statuses.keys() - set(c.STATUSES):
            raise U2SError(f"shard {number} has rows of unknown status {unknown}; nothing was written")
        reasons = Counter(row[c.REASON] for row in rows if row[c.STATUS] == c.WITHHELD)
        ordered = {status: statuses[status] for status in c.STATUSES}
        return cls(number, ordered, dict(sorted(reasons.items())), count_unverified(rows), dict(emptied), sha256)

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> Shard:
        """The inverse of `to_json`."""
        statuses = {status: entry[status] for status in c.STATUSES}
        before = {UNNAMED: entry["kept_texts_withheld"]} if entry.get("kept_texts_withheld") else {}
        counts = entry.get("unverified", 0), entry.get("kept_emptied", before)
        return cls(entry["shard"], statuses, entry["reasons"], *counts, entry["sha256"])

    def to_json(self) -> dict[str, Any]:
        """The entry as it stands in the file."""
        facts = {"shard": self.number, "rows": self.rows, **self.statuses, "reasons": dict(self.reasons)}
        facts |= {"unverified": self.unverified, "kept_emptied": dict(self.kept_emptied)}
        return {**facts, "sha256": dict(self.sha256)}


@dataclass(frozen=True)
class RowLocation:
    """Where a row of a run is.

    Args:
        shard: number of its shard.
        index: its position in the shard, which is that in the source.
        status: as the shard says.
        source: its name in the source.
    """

    shard: int
    index: int
    status: str
    source: str


def read_manifest(folder: Path) -> dict[str, Any]:
    """The private manifest of a finished run. Raises `SetupError` if there is none, or a damaged one."""
    layout = Layout(folder)
    if not layout.manifest.exists() or not layout.run.exists():
        raise SetupError(f"no finished run in {str(folder)!r}; finish it with the same `u2s anonymize` command")
    return read_json(layout.manifest, needs=_BOUND, remedy=ANEW)


def shards_of(manifest: Mapping[str, Any]) -> list[Shard]:
    """The finished shards that a manifest lists. Raises `SetupError` if an entry is damaged."""
    try:
        return [Shard.from_json(entry) for entry in manifest["shards"]]
    except (KeyError, TypeError) as error:
        raise SetupError(f"the manifest lists a damaged shard ({error}); {ANEW}") from error


def locate_rows(folder: Path) -> dict[str, RowLocation]:
    """Row id -> where it is, for every row of a finished run, in the order of the source."""
    found = {}
    for shard in shards_of(read_manifest(folder)):
        rows = read_table(Layout(folder).shard("private", shard.number), [c.ROW_ID, c.STATUS, c.SOURCE])
        for index, row in enumerate(rows):
            found[row[c.ROW_ID]] = RowLocation(shard.number, index, row[c.STATUS], row[c.SOURCE])
    return found


def count_unverified(rows: Sequence[Mapping[str, Any]]) -> int:
    """How many of these private rows are publishable and do not say that they were verified."""
    return sum(c.is_unverified(row[c.STATUS], row.get(c.PROVENANCE)) for row in rows)


def count_rows(shards: Sequence[Shard], rows: int | None = None) -> dict[str, Any]:
    """Counts over the finished shards, as they stand in `run.json`.

    Args:
        shards: all of them.
        rows: that went in; None if nobody asks whether one is missing.

    Raises:
        U2SError: a row is missing (law 2).
    """
    statuses = {status: sum(shard.statuses[status] for shard in shards) for status in c.STATUSES}
    if rows is not None and sum(statuses.values()) != rows:
        raise U2SError(f"{rows} rows went in and {statuses} came out; the output cannot be trusted")
    reasons: Counter[str] = Counter()
    for shard in shards:
        reasons.update(shard.reasons)
    emptied: Counter[str] = Counter()
    for shard in shards:
        emptied.update(shard.kept_emptied)
    unverified = sum(shard.unverified for shard in shards)
    return {
        **statuses,
        "reasons": dict(sorted(reasons.items())),
        "verified": not unverified,
        "unverified": unverified,
        "kept_texts_withheld": emptied.total(),
        "kept_emptied": dict(sorted(emptied.items())),
    }
