"""What curators decided about the rows of a run, in `private/reviews.json` of its folder.

    {row_id: {"review_decision": "approve", "review_by": "ada", "review_at": "2026-11-20T16:00:00+00:00", "shard": 0}}

No entry means that nobody asked for a review. "approve" and "reject" are reviews that were given; "pending" (asked for)
and "re-edit" (sent back) are not, and a row with one of them is unresolved: nothing is published before it is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.runs.files import ANEW, read_json, read_table

if TYPE_CHECKING:
    from u2s_datasets.runs.writer import Output

APPROVE, REJECT, PENDING, REEDIT = "approve", "reject", "pending", "re-edit"
DECISIONS = (APPROVE, REJECT, PENDING, REEDIT)
UNRESOLVED = (PENDING, REEDIT)

FILE = "reviews.json"

_BOUND = frozenset({"shards", "source", "source_kind", "split", "image_column", "configuration"})
"""What a manifest holds, of that which is read of it."""

_REJECTED = {c.STATUS: c.WITHHELD, c.REASON: "rejected", c.NOTE: "rejected: by a reviewer"}


@dataclass(frozen=True)
class Place:
    """Where a row of a run is.

    Args:
        shard: number of its shard.
        index: its position in the shard's private rows, which is that in the source.
        status: as the shard says.
        source: its name in the source.
    """

    shard: int
    index: int
    status: str
    source: str


def places(folder: Path) -> dict[str, Place]:
    """Every row of a run, in the order of the source.

    Raises:
        SetupError: the folder holds no finished run.
    """
    found = {}
    for shard in read_manifest(folder)["shards"]:
        path = folder / "private" / "rows" / f"part-{shard['shard']:05d}.parquet"
        for index, row in enumerate(read_table(path, [c.ROW_ID, c.STATUS, c.SOURCE])):
            found[row[c.ROW_ID]] = Place(shard["shard"], index, row[c.STATUS], row[c.SOURCE])
    return found


def read_manifest(folder: Path) -> dict[str, Any]:
    """The private manifest of a finished run. Raises `SetupError` where there is none, or a damaged one."""
    path = folder / "private" / "manifest.json"
    if not path.exists() or not (folder / "run.json").exists():
        raise SetupError(f"{str(folder)!r} holds no finished run; finish it with the same `u2s anonymize` call")
    return read_json(path, needs=_BOUND, remedy=ANEW)


def read_decisions(folder: str | Path) -> dict[str, dict[str, Any]]:
    """row id -> entry; empty where nobody reviewed. Raises `SetupError` for a damaged file."""
    path = Path(folder).expanduser() / "private" / FILE
    try:
        return json.loads(path.read_text("utf-8")) if path.exists() else {}
    except ValueError as error:
        raise SetupError(f"{str(path)!r} is no JSON; mend it, or remove it and review again") from error


@contextmanager
def opened(folder: Path) -> Iterator[Output]:
    """The folder of a finished run, locked. Raises `SetupError` where there is none, or another writes into it."""
    from u2s_datasets.runs.writer import Output

    read_manifest(folder)
    with Output(folder) as output:
        read_manifest(folder)
        yield output


def decide(
    folder: str | Path, decisions: Mapping[str, str], by: str, at: datetime | None = None
) -> dict[str, dict[str, Any]]:
    """Write down decisions, and count them in an audit that is under way.

    Rejected rows are withheld from now on by whatever publishes; `apply_reviews` takes them out of `data/` as well.

    Args:
        folder: of the run.
        decisions: row id -> one of `DECISIONS`.
        by: who decided.
        at: when; now if none is given.

    Returns:
        The entries that were written. A withheld row has nothing to approve or reject and gets none.

    Raises:
        SetupError: an unknown decision or row, no name, or no finished run.
    """
    from u2s_datasets.review import audit

    folder = Path(folder).expanduser()
    stamp = now(at)
    for word in set(decisions.values()) - set(DECISIONS):
        raise SetupError(f"{word!r} is no decision; use one of: {', '.join(DECISIONS)}")
    if not by.strip():
        raise SetupError("by='' names nobody; say who decides")
    with opened(folder) as output:
        known = places(folder)
        if missing := [row for row in decisions if row not in known]:
            raise SetupError(f"{str(folder)!r} has no row {missing[0]!r}; import the run again")
        new = {
            row: entry(word, by, stamp, known[row].shard)
            for row, word in decisions.items()
            if known[row].status != c.WITHHELD
        }
        audit.count(output, {row: decisions[row] for row in new})
        save(output, read_decisions(folder) | new)
    return new


def entry(decision: str, by: str, at: str, shard: int) -> dict[str, Any]:
    """One entry of the file."""
    return {c.REVIEW_DECISION: decision, c.REVIEW_BY: by.strip(), c.REVIEW_AT: at, "shard": shard}


def text_of(decisions: Mapping[str, Mapping[str, Any]]) -> str:
    """The file's text."""
    return json.dumps(decisions, indent=1, sort_keys=True, ensure_ascii=False)


def save(output: Output, decisions: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the file whole."""
    output.write(output.private / FILE, text_of(decisions).encode("utf-8", "backslashreplace"), 0o600)


def unresolved(folder: str | Path) -> list[str]:
    """Ids of the publishable rows whose review was asked for and not given."""
    folder = Path(folder).expanduser()
    entries = read_decisions(folder)
    waiting = {row for row, e in entries.items() if e[c.REVIEW_DECISION] in UNRESOLVED}
    return [row for row, place in places(folder).items() if row in waiting and place.status != c.WITHHELD]


def forget_approvals(output: Output, shards: set[int]) -> None:
    """Ask again for the reviews of shards that will be made anew: what was approved may have been another image."""
    entries = read_decisions(output.root)
    stale = {row for row, e in entries.items() if e["shard"] in shards and e[c.REVIEW_DECISION] == APPROVE}
    if stale:
        save(output, {row: e | {c.REVIEW_DECISION: PENDING} if row in stale else e for row, e in entries.items()})
    if shards:
        (output.private / "audit.json").unlink(missing_ok=True)


def rejected(folder: Path) -> set[str]:
    """Ids of the rows that a reviewer rejected."""
    return {row for row, e in read_decisions(folder).items() if e[c.REVIEW_DECISION] == REJECT}


def without_rejected(folder: Path, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a shard that is written anew, the rejected ones withheld as `apply_reviews` does it."""
    ids = rejected(folder)
    return [r | _REJECTED if ids and r[c.ROW_ID] in ids and r[c.STATUS] != c.WITHHELD else r for r in rows]


def apply_reviews(folder: str | Path) -> dict[str, Any]:
    """Take rejected rows out of a run's public shards: they become withheld, for the reason "rejected".

    A kill at any moment loses nothing: the folder is either as before, or the next call finishes the change.

    Args:
        folder: of the run.

    Returns:
        What `run.json` holds now.

    Raises:
        SetupError: there is no finished run, a file of it was changed, or another call is writing into it.
    """
    from u2s_datasets.executor.run import rewrite_reports
    from u2s_datasets.runs.transaction import Change, replace_rows

    folder = Path(folder).expanduser()
    with opened(folder) as output:
        ids = rejected(folder)
        rows = {r: _REJECTED for r, place in places(folder).items() if r in ids and place.status != c.WITHHELD}
        if rows:
            change = Change(output)
            replace_rows(change, rows)
            change.commit()
    if rows or not (folder / "report.html").exists():
        rewrite_reports(folder)
    return read_json(folder / "run.json")


def now(at: datetime | None = None) -> str:
    """A moment as it is written down; this one if none is given."""
    return (at or datetime.now(UTC)).isoformat(timespec="seconds")
