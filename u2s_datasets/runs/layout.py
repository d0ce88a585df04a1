"""What lies where in a run's folder. Every name on the disk is spelled here, once.

DIR/data/part-00000.parquet          public columns of publishable rows, ordered by `row_id`
DIR/report.html, DIR/run.json        for anyone
DIR/eval.json, DIR/eval.md           once the run was evaluated
DIR/private/  (mode 0700)            rows/part-00000.parquet, secret, manifest.json, report.html, eval.*;
                                     reviews.json, audit_sample.json and audit.json once somebody reviewed;
                                     rejected/part-00000.parquet, public rows that a reviewer rejected
"""

import re
from pathlib import Path

SHARD = re.compile(r"part-\d{5,}\.parquet")
HALVES = {"private": "private/rows", "public": "data", "rejected": "private/rejected"}
"""Half of a shard -> the folder of its files."""

REVIEWS = "private/reviews.json"
AUDITS = ("private/audit_sample.json", "private/audit.json")
EVALUATION = ("eval.json", "eval.md", "private/eval.json", "private/eval.md", "private/eval.parquet")
WITHDRAWN = ("run.json", "report.html", "private/report.html", *EVALUATION)
"""What vouches for a finished run, and is removed before its rows change."""

TOP = {"data", "private", "run.json", "report.html", "eval.json", "eval.md"}
PRIVATE = {
    "lock",
    "secret",
    "rows",
    "rejected",
    "tmp",
    "manifest.json",
    "report.html",
    "eval.json",
    "eval.md",
    "eval.parquet",
}
"""What a run that was killed at any moment may have left in `private/`, once it had its lock."""

_SHARDS = r"(data|private/(rows|rejected))/part-[0-9]{5,}\.parquet"
_REPORTS = r"run\.json|(private/)?(report\.html|eval\.(json|md))|private/eval\.parquet"
STORED = re.compile(rf"{_SHARDS}|{_REPORTS}|private/(secret|manifest\.json)")
"""The files of a run on an object store."""
CHANGEABLE = re.compile(rf"{_SHARDS}|{_REPORTS}|private/(manifest|reviews|audit|audit_sample)\.json")
"""The files that a change to a finished run may place or remove. A folder may come from anyone, with any plan in it."""


def shard_name(number: int) -> str:
    """The file name of both halves of a shard."""
    return f"part-{number:05d}.parquet"


def shard_place(half: str, number: int) -> str:
    """Where a half of a shard lies, relative to the run's folder; `half` is a key of `HALVES`."""
    return f"{HALVES[half]}/{shard_name(number)}"


class Layout:
    """The places of one run.

    Args:
        root: the run's folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @property
    def private(self) -> Path:
        """What never leaves."""
        return self.root / "private"

    @property
    def data(self) -> Path:
        """The public halves of the shards."""
        return self.root / HALVES["public"]

    @property
    def rows(self) -> Path:
        """The private halves of the shards."""
        return self.root / HALVES["private"]

    @property
    def manifest(self) -> Path:
        """What the run is bound to, and its finished shards."""
        return self.private / "manifest.json"

    @property
    def run(self) -> Path:
        """The public facts of a finished run."""
        return self.root / "run.json"

    @property
    def reviews(self) -> Path:
        """What curators decided."""
        return self.root / REVIEWS

    @property
    def audit(self) -> Path:
        """The result of the last audit."""
        return self.private / "audit.json"

    @property
    def audit_sample(self) -> Path:
        """The audit under way."""
        return self.private / "audit_sample.json"

    @property
    def evaluated(self) -> Path:
        """Scores by `u2s eval`: one row per private row, in the same order."""
        return self.private / "eval.parquet"

    @property
    def lock(self) -> Path:
        """Held by whoever writes."""
        return self.private / "lock"

    def shard(self, half: str, number: int) -> Path:
        """The file of a half of a shard."""
        return self.root / shard_place(half, number)

    def private_halves(self) -> list[Path]:
        """The files of all private halves, in order."""
        return sorted(self.rows.glob("*.parquet"))

    def public_halves(self) -> list[Path]:
        """The files of all public halves, in order."""
        return sorted(self.data.glob("*.parquet"))
