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
from u2s_datasets.runs.decisions import (
    DECISIONS,
    PENDING,
    REJECT,
    REJECTED,
    UNRESOLVED,
    entry,
    read_decisions,
    rejected_rows,
)
from u2s_datasets.runs.files import read_json
from u2s_datasets.runs.layout import AUDITS, REVIEWS, Layout
from u2s_datasets.runs.manifest import locate_rows
from u2s_datasets.runs.writer import open_finished


def decide(
    folder: str | Path, decisions: Mapping[str, str], by: str, at: datetime | None = None
) -> dict[str, dict[str, Any]]:
    """Write down decisions, and count them in an audit that is under way.

    A rejected row is withheld at once, and its image moves from `data/` to the private half; another decision takes
    it back. The reports and the evaluation, which may show it, go; `apply_reviews` writes the reports again.

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
        change = Change(output)
        changed: dict[str, Mapping[str, Any]] = {row: REJECTED for row, word in decisions.items() if word == REJECT}
        for row, status in change.rejected_rows().items():
            if decisions.get(row, REJECT) != REJECT:
                changed[row] = {c.STATUS: status, c.REASON: None, c.NOTE: None}
        new = {
            row: entry(decision, by, at, known[row].shard)
            for row, decision in decisions.items()
            if known[row].status != c.WITHHELD or changed.get(row, REJECTED) is not REJECTED
        }
        audit.count(change, {row: decisions[row] for row in new})
        change.write_json(REVIEWS, read_decisions(folder) | new)
        if changed := {row: values for row, values in changed.items() if row in new}:
            change.replace_rows(changed)
        change.commit()
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
    """Take rejected rows out of a run's public shards, and write reports that are missing.

    `decide` takes them out at once; those of earlier versions did not. A kill at any moment loses nothing: the folder
    is either as before, or the next call finishes the change.

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


def review_again(folder: str | Path, by: str) -> dict[str, dict[str, Any]]:
    """Ask for the review of every publishable row of a run whose reviews or audits were lost or changed by hand.

    What was decided is not known any more, so nothing is published before every row was decided about once more.
    Audits are dropped. Rows that were rejected left `data/` when they were, and stay away.

    Args:
        folder: of the run.
        by: who asks for it.

    Returns:
        The entries that were written.

    Raises:
        SetupError: no name, no finished run, or one of which something else was changed.
    """
    folder = Path(folder).expanduser()
    if not by.strip():
        raise SetupError("by='' is empty; give the name of the reviewer")
    with open_finished(folder, but={REVIEWS, *AUDITS}) as output:
        known = locate_rows(folder)
        asked = {row: entry(PENDING, by, None, at.shard) for row, at in known.items() if at.status != c.WITHHELD}
        change = Change(output)
        change.drop(*AUDITS)
        change.write_json(REVIEWS, asked)
        change.commit()
    return asked
