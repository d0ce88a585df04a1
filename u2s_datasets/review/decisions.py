"""Decisions of curators about the rows of a finished run: written down, counted in audits, and applied to `data/`."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.evaluation.report.report import rewrite_reports
from u2s_datasets.review import audit
from u2s_datasets.runs.change import Change
from u2s_datasets.runs.decisions import DECISIONS, REJECTED, UNRESOLVED, entry, read_decisions, rejected_rows
from u2s_datasets.runs.files import PRIVATE_MODE, json_bytes, read_json
from u2s_datasets.runs.layout import Layout
from u2s_datasets.runs.manifest import locate_rows
from u2s_datasets.runs.writer import open_finished


def decide(
    folder: str | Path, decisions: Mapping[str, str], by: str, at: datetime | None = None
) -> dict[str, dict[str, Any]]:
    """Write down decisions, and count them in an audit that is under way.

    Rejected rows are withheld from now on by whatever publishes; `apply_reviews` takes them out of `data/` as well.

    Args:
        folder: of the run.
        decisions: row id -> one of `DECISIONS`.
        by: who decided.
        at: when; now if not given.

    Returns:
        The entries that were written. A withheld row has nothing to approve or reject and gets none.

    Raises:
        SetupError: an unknown decision or row, no name, or no finished run.
    """
    folder = Path(folder).expanduser()
    for decision in set(decisions.values()) - set(DECISIONS):
        raise SetupError(f"unknown decision {decision!r}; expected one of: {', '.join(DECISIONS)}")
    if not by.strip():
        raise SetupError("by='' is empty; give the name of the reviewer")
    with open_finished(folder) as output:
        known = locate_rows(folder)
        check_rows(folder, decisions, known)
        new = {
            row: entry(decision, by, at, known[row].shard)
            for row, decision in decisions.items()
            if known[row].status != c.WITHHELD
        }
        audit.count(output, {row: decisions[row] for row in new})
        output.write(output.reviews, json_bytes(read_decisions(folder) | new), PRIVATE_MODE)
    return new


def check_rows(folder: Path, rows: Mapping[str, Any] | list[str], known: Mapping[str, Any]) -> None:
    """Raise `SetupError` if the run has no row of one of these ids."""
    if missing := [row for row in rows if row not in known]:
        raise SetupError(f"unknown row {missing[0]!r} in {str(folder)!r}; import the run again")


def unresolved(folder: str | Path) -> list[str]:
    """Ids of the publishable rows whose review was asked for and not given."""
    folder = Path(folder).expanduser()
    waiting = {row for row, e in read_decisions(folder).items() if e[c.REVIEW_DECISION] in UNRESOLVED}
    return [row for row, at in locate_rows(folder).items() if row in waiting and at.status != c.WITHHELD]


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
    folder = Path(folder).expanduser()
    with open_finished(folder) as output:
        ids = rejected_rows(folder)
        rows = {row: REJECTED for row, at in locate_rows(folder).items() if row in ids and at.status != c.WITHHELD}
        if rows:
            change = Change(output)
            change.replace_rows(rows)
            change.commit()
    if rows or not (folder / "report.html").exists():
        rewrite_reports(folder)
    return read_json(Layout(folder).run)
