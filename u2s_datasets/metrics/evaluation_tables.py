"""The tables of an evaluation, beside those of the report."""

from __future__ import annotations

from collections.abc import Iterator

from u2s_datasets.metrics.evaluation import Evaluation
from u2s_datasets.metrics.scores import FEW
from u2s_datasets.metrics.svg import printable
from u2s_datasets.metrics.tables import Table, number

_WHO = {"clip": "whole image (CLIP)", "face": "faces"}


def evaluation_tables(made: Evaluation, private: bool) -> Iterator[Table]:
    """Attacks, controls, and what could not be measured.

    Args:
        private: also figures of fewer than 5 rows.
    """
    rows = [
        (
            _WHO.get(a.encoder, a.encoder),
            a.kind,
            f"{r.k}",
            f"{r.n:,}",
            f"{a.without:,}" if private else "–",
            f"{r.gallery:,}",
            *(_percent(v) for v in (r.rate, r.low, r.high, r.chance)),
        )
        for a in made.attacks
        for r in a.rates
        if private or (r.n >= FEW and r.gallery >= FEW)
    ]
    if rows:
        head = ("by", "images", "rank", "n", "not tried", "gallery", "found", "low", "high", "chance")
        yield Table("Re-identification: an image finds its own original among all originals", head, rows)
    yield from _controls(made, private)
    if made.absent:
        needs = [(", ".join(n for n, v in made.absent.items() if v == w), printable(w)) for w in _once(made)]
        yield Table("Not measured here", ("score", "needs"), needs)


def _controls(made: Evaluation, private: bool) -> Iterator[Table]:
    names = list(dict.fromkeys(name for found in made.controls.values() for name in found))
    rows = []
    for name in names:
        cells = []
        for kind in ("no-op", "shuffled"):
            n, mean = made.controls.get(kind, {}).get(name, (0, None))
            shown = mean if private or n >= FEW else None
            cells += [f"{n:,}", number(shown)]
        rows.append((name, *cells))
    if rows:
        head = ("score", "n", "untouched", "n", "another's image")
        yield Table("Controls: each metric on pairs of which the answer is known", head, rows)


def _once(made: Evaluation) -> list[str]:
    return list(dict.fromkeys(made.absent.values()))


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
