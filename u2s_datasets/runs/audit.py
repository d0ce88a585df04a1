"""An audit by eye: how many of a random sample of publishable images a reviewer found to leak, and what follows.

`private/audit_sample.json` holds the audit under way, `private/audit.json` its result: {"n", "leaks", "confidence",
"upper_bound", "reviewer", "date", "seed"}. Reviewer and seed are never published: the seed tells which rows were seen.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.parts import checks
from u2s_datasets.parts.metrics.intervals import upper_bound


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Args:
        n: images looked at.
        leaks: how many of them leaked.
        confidence: of the bound, in (0, 1).
        upper_bound: on the share of leaking images, exact (Clopper and Pearson, 1934).
        date: when, as the reviewer's program wrote it.
    """

    n: int
    leaks: int
    confidence: float
    upper_bound: float
    date: str


def read_audit(path: Path) -> Audit | None:
    """The audit of a run; None if there was none.

    Raises:
        SetupError: the file is damaged, or its bound is below the exact one of its own numbers.
    """
    if not path.exists():
        return None
    try:
        return checked_audit(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SetupError(f"{str(path)!r} is not a valid audit ({error}); audit again, or remove it") from error


def checked_audit(stated: dict[str, Any]) -> Audit:
    """An audit whose numbers fit each other. Raises `ValueError`, `KeyError` or `TypeError` otherwise."""
    n, leaks, confidence, bound = (stated[name] for name in ("n", "leaks", "confidence", "upper_bound"))
    checks.check_int("n", n)
    checks.check_int("leaks", leaks, 0, n)
    checks.check_float("confidence", confidence)
    checks.check_float("upper_bound", bound)  # what is not finite is below nothing
    exact = upper_bound(n, leaks, confidence)
    if bound < exact - 1e-6:
        raise ValueError(f"upper_bound={bound} is below the exact bound {exact:.6f}")
    return Audit(n, leaks, float(confidence), float(bound), str(stated["date"])[:10])


def read_audit_file(path: Path) -> dict[str, Any] | None:
    """An audit's file as it stands, under way or finished; None if there is none. Raises `SetupError` if damaged."""
    try:
        return json.loads(path.read_text("utf-8")) if path.exists() else None
    except ValueError as error:
        raise SetupError(f"{str(path)!r} is not valid JSON; remove it and audit again") from error
