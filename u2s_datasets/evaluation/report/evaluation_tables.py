"""The tables of an evaluation, beside those of the row scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from u2s_datasets.evaluation.report.inspection import inspection_tables
from u2s_datasets.evaluation.report.svg import printable
from u2s_datasets.evaluation.report.tables import Table, number
from u2s_datasets.parts.metrics.definitions import UNTOUCHED

_WHO = {"clip": "whole image (CLIP)", "face": "faces"}
_KINDS = {
    "edited": "anonymized",
    "no-op": "control: the originals themselves",
    "shuffled": "control: somebody else's original",
}


def evaluation_tables(found: Mapping[str, Any], private: bool) -> Iterator[Table]:
    """Attacks, controls, the inspection's reliability, and what could not be measured.

    Args:
        found: what `Evaluation.plain` gave, for the owner or for anyone.
        private: the owner also sees what could not be tried.
    """
    yield from _attacks(found, private)
    yield from _controls(found)
    if found.get("inspection"):
        yield from inspection_tables(found["inspection"])
    absent = found.get("absent") or {}
    if absent:
        needs = [
            (", ".join(n for n, v in absent.items() if v == w), printable(w)) for w in dict.fromkeys(absent.values())
        ]
        yield Table("Not measured here", ("score", "needs"), needs)


def _attacks(found: Mapping[str, Any], private: bool) -> Iterator[Table]:
    rows = [
        (
            _WHO.get(a["encoder"], printable(a["encoder"])),
            _KINDS.get(a["kind"], printable(a["kind"])),
            f"{r['k']}",
            f"{r['n']:,}",
            *((f"{a['without']:,}",) if private else ()),
            f"{r['gallery']:,}",
            *(_percent(r[k]) for k in ("rate", "low", "high", "chance")),
        )
        for a in found.get("reidentification") or ()
        for r in a["rates"]
    ]
    if rows:
        tried = ("not tried",) if private else ()
        head = ("by", "images", "rank", "n", *tried, "gallery", "found", "95% from", "to", "chance")
        yield Table("Re-identification: an image finds its own original among all originals", head, rows)


def _controls(found: Mapping[str, Any]) -> Iterator[Table]:
    made = found.get("controls") or {}
    names = [name for name in UNTOUCHED if any(name in kind for kind in made.values())]
    rows = []
    for name in names:
        cells = [made.get(kind, {}).get(name, {"n": 0, "mean": None}) for kind in ("no-op", "shuffled")]
        texts = [text for cell in cells for text in (f"{cell['n']:,}", number(cell["mean"]))]
        rows.append((name, number(UNTOUCHED[name]), *texts))
    if rows:
        head = ("score", "untouched should be", "n", "is", "n", "with another's image")
        yield Table("Controls: each metric on originals as their own edit, and beside somebody else's", head, rows)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
