"""What curators decided about the rows of a run: the format of `private/reviews.json`, and what follows from it.

    {row_id: {"review_decision": "approve", "review_by": "ada", "review_at": "2026-11-20T16:00:00+00:00", "shard": 0}}

A row without an entry was never sent to review. "approve" and "reject" are reviews that were given; "pending" (asked
for) and "re-edit" (sent back) leave a row unresolved, and nothing is published before it is resolved.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.runs.layout import Layout

APPROVE, REJECT, PENDING, REEDIT = "approve", "reject", "pending", "re-edit"
DECISIONS = (APPROVE, REJECT, PENDING, REEDIT)
UNRESOLVED = (PENDING, REEDIT)

REJECTED = {c.STATUS: c.WITHHELD, c.REASON: "rejected", c.NOTE: "rejected: by a reviewer"}
"""The columns of a row that a reviewer rejected."""

Decisions = Mapping[str, Mapping[str, Any]]
"""row id -> entry."""


def read_decisions(folder: str | Path) -> dict[str, dict[str, Any]]:
    """row id -> entry; {} if nobody reviewed. Raises `SetupError` for a damaged file."""
    path = Layout(Path(folder).expanduser()).reviews
    try:
        found = json.loads(path.read_text("utf-8")) if path.exists() else {}
        if not all(isinstance(e[c.REVIEW_DECISION], str) for e in found.values()):
            raise ValueError("a decision is not a word")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise SetupError(
            f"{str(path)!r} does not map row ids to decisions ({type(error).__name__}); restore a copy of it"
        ) from error
    return found


def entry(decision: str, by: str, at: datetime | None, shard: int) -> dict[str, Any]:
    """One entry of the file; `at` is now if not given."""
    moment = (at or datetime.now(UTC)).isoformat(timespec="seconds")
    return {c.REVIEW_DECISION: decision, c.REVIEW_BY: by.strip(), c.REVIEW_AT: moment, "shard": shard}


def rejected_rows(folder: Path) -> set[str]:
    """Ids of the rows that a reviewer rejected."""
    return {row for row, e in read_decisions(folder).items() if e[c.REVIEW_DECISION] == REJECT}


def withhold_rejected(folder: Path, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a shard that is written again, the rejected ones withheld."""
    ids = rejected_rows(folder)
    return [row | REJECTED if row[c.ROW_ID] in ids and row[c.STATUS] != c.WITHHELD else row for row in rows]


def without_approvals(decisions: Decisions, shards: set[int]) -> dict[str, Mapping[str, Any]]:
    """The decisions with the approvals in these shards asked for again: what was approved may be another image now."""
    return {
        row: {**e, c.REVIEW_DECISION: PENDING}
        if e[c.REVIEW_DECISION] == APPROVE and e.get("shard", next(iter(shards), None)) in shards
        else e
        for row, e in decisions.items()
    }
