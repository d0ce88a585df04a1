"""An audit by eye: how sure one can be, after looking at a random sample, that few of the published images leak.

The rows are drawn by a seed from all that would be published, each is judged (approve: nothing leaks; reject: it
leaks; once a leak, always one), and the exact bound follows. `private/audit_sample.json` holds the audit under way,
`private/audit.json` its result, see `runs.audit`.
"""

import random
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.parts.metrics.intervals import upper_bound
from u2s_datasets.runs.audit import check_confidence, read_audit_file
from u2s_datasets.runs.change import Change
from u2s_datasets.runs.decisions import APPROVE, PENDING, REEDIT, REJECT, Decisions, entry, read_decisions
from u2s_datasets.runs.layout import AUDITS, REVIEWS, Layout
from u2s_datasets.runs.manifest import RowLocation, locate_rows
from u2s_datasets.runs.writer import open_finished

SAMPLE, RESULT = AUDITS
_LEAK, _CLEAN = "leak", "clean"


def draw(folder: str | Path, n: int, seed: int, by: str) -> list[str]:
    """Draw rows for an audit and ask for the review of each.

    The same call goes on with an audit that was interrupted; what was judged stays judged.

    Args:
        folder: of the run.
        n: how many rows, 1 to the number that would be published.
        seed: of the draw.
        by: who will look.

    Returns:
        The row ids, in the order in which they were drawn.

    Raises:
        SetupError: there are not so many rows, or another audit is under way.
    """
    folder = Path(folder).expanduser()
    sample = read_sample(folder)
    if sample and (sample["n"], sample["seed"]) == (n, seed):
        return sample["drawn"]
    if sample:
        raise SetupError(
            f"an audit of n={sample['n']} with seed={sample['seed']} is under way "
            f"({len(sample['judged'])} judged); go on with it, or drop it"
        )
    with open_finished(folder) as output:
        known, entries = locate_rows(folder), read_decisions(folder)
        rows = publishable(known, entries)
        if not 1 <= n <= len(rows):
            raise SetupError(f"cannot draw n={n} of {len(rows)} publishable rows; expected 1 to {len(rows)}")
        drawn = random.Random(seed).sample(sorted(rows), n)
        asked = {row: entry(PENDING, by, None, known[row].shard) for row in drawn}
        change = Change(output)
        change.write_json(REVIEWS, entries | asked)
        change.write_json(SAMPLE, {"n": n, "seed": seed, "drawn": drawn, "judged": {}})
        change.commit()
    return drawn


def publishable(known: Mapping[str, RowLocation], entries: Decisions) -> list[str]:
    """The rows that would be published: neither withheld nor rejected."""
    rejected = {row for row, e in entries.items() if e[c.REVIEW_DECISION] == REJECT}
    return [row for row, at in known.items() if at.status != c.WITHHELD and row not in rejected]


def count(change: Change, decisions: Mapping[str, str]) -> None:
    """In a change to the run, count judgements of drawn rows. Sending a row back counts as a leak: it was not good
    enough as it was.

    A judgement can be corrected to a leak and not from one: the bound may be too high and never too low.
    """
    sample = read_sample(change.root)
    if sample is None:
        return
    judged = dict(sample["judged"])
    for row in sample["drawn"]:
        word = decisions.get(row)
        if word in (REJECT, REEDIT):
            judged[row] = _LEAK
        elif word == APPROVE:
            judged.setdefault(row, _CLEAN)
    if judged != sample["judged"]:
        change.write_json(SAMPLE, sample | {"judged": judged})


def finish(folder: str | Path, reviewer: str, confidence: float = 0.95) -> dict[str, Any]:
    """Write the result of the audit under way, for the dataset card.

    Args:
        folder: of the run.
        reviewer: who looked.
        confidence: of the bound, from 0.9 up to, and not with, 1.

    Returns:
        What `private/audit.json` holds.

    Raises:
        SetupError: no audit is under way, or a drawn row was not judged.
    """
    folder = Path(folder).expanduser()
    check_confidence(confidence)
    sample = read_sample(folder)
    if sample is None:
        raise SetupError(f"no audit is under way in {str(folder)!r}; draw a sample first")
    if waiting := sample["n"] - len(sample["judged"]):
        raise SetupError(f"{waiting} of {sample['n']} drawn rows are not judged yet; approve or reject each")
    if not reviewer.strip():
        raise SetupError("reviewer='' is empty; give the name of who looked")
    leaks = sum(verdict == _LEAK for verdict in sample["judged"].values())
    result = {
        "n": sample["n"],
        "leaks": leaks,
        "confidence": confidence,
        "upper_bound": upper_bound(sample["n"], leaks, confidence),
        "reviewer": reviewer.strip(),
        "date": datetime.now(UTC).date().isoformat(),
        "seed": sample["seed"],
        "drawn": sample["drawn"],
    }
    with open_finished(folder) as output:
        change = Change(output)
        change.write_json(RESULT, result)
        change.drop(SAMPLE)
        change.commit()
    return result


def drop(folder: str | Path) -> None:
    """Give up the audit under way; the reviews that it asked for are still asked for."""
    with open_finished(Path(folder).expanduser()) as output:
        change = Change(output)
        change.drop(SAMPLE)
        change.commit()


def read_sample(folder: Path) -> dict[str, Any] | None:
    """The audit under way: n, seed, drawn row ids, judged row id -> "clean" or "leak"; None if there is none."""
    return read_audit_file(Layout(folder).audit_sample)


def read_result(folder: Path) -> dict[str, Any] | None:
    """The result of the last audit; None if there was none, or the images changed since."""
    return read_audit_file(Layout(folder).audit)
