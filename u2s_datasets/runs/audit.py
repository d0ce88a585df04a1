"""An audit by eye: how many of a random sample of publishable images a reviewer found to leak, and what follows.

`private/audit_sample.json` holds the audit under way, `private/audit.json` its result: {"n", "leaks", "confidence",
"upper_bound", "reviewer", "date", "seed", "drawn"}. Reviewer, seed and drawn rows are never published: the last two
tell which rows were seen.
"""

import dataclasses
import datetime
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.parts import checks
from u2s_datasets.parts.metrics.intervals import upper_bound

LEAST_CONFIDENCE = 0.9
FEWEST = 30
"""Images of the smallest sample that says anything of a larger set: no leak among them bounds the share at 9.5%."""


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Args:
        n: images looked at.
        leaks: how many of them leaked.
        confidence: of the bound, in [0.9, 1).
        upper_bound: on the share of leaking images, exact (Clopper and Pearson, 1934).
        date: when, as YYYY-MM-DD.
        drawn: ids of the rows that were looked at; () if the audit does not say.
    """

    n: int
    leaks: int
    confidence: float
    upper_bound: float
    date: str
    drawn: tuple[str, ...] = ()

    def public(self) -> dict[str, Any]:
        """What may be said of it."""
        facts = dataclasses.asdict(self)
        del facts["drawn"]
        return facts


def read_audit(path: Path) -> Audit | None:
    """The audit of a run; None if there was none.

    Raises:
        SetupError: the file is damaged, it says what no audit can, or its bound is below that of its own numbers.
    """
    if not path.exists():
        return None
    try:
        return checked_audit(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise SetupError(f"{str(path)!r} is not a valid audit ({error}); audit again, or remove it") from error


def checked_audit(stated: dict[str, Any]) -> Audit:
    """An audit whose numbers fit each other and say something. Raises `ValueError`, `KeyError` or `TypeError`."""
    n, leaks, confidence, bound = (stated[name] for name in ("n", "leaks", "confidence", "upper_bound"))
    checks.check_int("n", n)
    checks.check_int("leaks", leaks, 0, n)
    check_confidence(confidence)
    checks.check_float("upper_bound", bound)  # what is not finite is below nothing
    exact = upper_bound(n, leaks, confidence)
    if bound < exact - 1e-6:
        raise ValueError(f"upper_bound={bound} is below the exact bound {exact:.6f}")
    drawn = tuple(checks.check_names("drawn", stated.get("drawn", ())))
    if drawn and not len(drawn) == len(set(drawn)) == n:
        raise ValueError(f"n={n} images were looked at, and {len(set(drawn))} rows were drawn")
    date = datetime.date.fromisoformat(str(stated["date"])[:10])
    return Audit(n, leaks, float(confidence), float(bound), date.isoformat(), drawn)


def check_confidence(confidence: Any) -> None:
    """Raise `SetupError` unless a bound that holds with this confidence says something."""
    checks.check_float("confidence", confidence, LEAST_CONFIDENCE, math.nextafter(1, 0))


def read_audit_file(path: Path) -> dict[str, Any] | None:
    """An audit's file as it stands, under way or finished; None if there is none. Raises `SetupError` if damaged."""
    try:
        return json.loads(path.read_text("utf-8")) if path.exists() else None
    except ValueError as error:
        raise SetupError(f"{str(path)!r} is not valid JSON; remove it and audit again") from error
