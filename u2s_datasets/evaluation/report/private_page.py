"""The owner's page, with originals, file names and single rows. Like the public one, it is the same bytes for the same
folder."""

import heapq
import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from u2s_datasets import columns as c
from u2s_datasets.errors import RowError
from u2s_datasets.evaluation.report.layout import (
    evaluation_sections,
    frame,
    map_threads,
    picture,
    section,
    top,
    verdict,
)
from u2s_datasets.evaluation.report.summary import Original, Summary
from u2s_datasets.evaluation.report.svg import esc, photo, thumbnail
from u2s_datasets.evaluation.report.tables import REASONS, html_table, join_tables, number_tables

MOST = 40
"""Rows of each kind on the private page."""

FEW_WORDS = 12
"""Texts that are shown of one category before the rest is folded."""

_log = logging.getLogger(__name__)


def private_page(report: Summary, original: Original | None = None) -> str:
    """The owner's page: the rows withheld and why, then original and published side by side, worst first.

    Worst is what is still found or can still be recognised, then the number of attempts, then ssim, the lowest first.

    Args:
        report: the numbers.
        original: gives the upright original of a `source`; without it a dataset's own, or placeholders.
    """
    held, worst = _choose(report)
    wanted = {*held, *worst}
    rows = {i: row for i, row in enumerate(_rows(report, c.PRIVATE)) if i in wanted} if wanted else {}
    ids = [rows[i][c.ROW_ID] for i in worst]
    found = report.data.published(ids) if ids else ()
    published = dict(map_threads(lambda row: (row[c.ROW_ID], picture(row, 480)), found))

    def withheld(i: int) -> str:
        return _article(rows[i], original, report)

    def pair(i: int) -> str:
        return _article(rows[i], original, report, published.get(rows[i][c.ROW_ID], picture(None, 0)))

    counts = report.statuses or dict.fromkeys(c.STATUSES, 0)
    body = [
        '<header><p class="kicker">Private report</p>',
        f"<h1>{verdict(report)}</h1></header>",
        '<p class="banner"><b>Do not share.</b> This page shows originals, file names and what was read in them.</p>',
        *top(report),
        section("In numbers", join_tables(number_tables(report, private=True), html_table, "")),
        *evaluation_sections(report.beyond.get(True, {}), private=True),
        section("Withheld", _shown_of(len(held), counts[c.WITHHELD], "in the order of the source")),
        *map_threads(withheld, held),
        section("Published", _shown_of(len(worst), counts[c.SAFE] + counts[c.ANONYMIZED], "worst first")),
        *map_threads(pair, worst),
    ]
    return frame("Private report", body)


def _rows(report: Summary, names: Iterable[str]) -> Iterator[dict[str, Any]]:
    batches = report.data.batches(tuple(names)) if report.data is not None else ()
    return (row for batch in batches for row in batch.to_pylist())


def _choose(report: Summary) -> tuple[list[int], list[int]]:
    """The numbers of the first withheld rows, and of the worst published ones; no more than these are held."""
    held: list[int] = []

    def published() -> Iterator[tuple[float, ...]]:
        names = (c.STATUS, c.RESIDUAL_FACES, c.RESIDUAL_TEXT, c.FACES_SAME, c.SSIM, c.PROVENANCE)
        for i, row in enumerate(_rows(report, names)):
            if row.get(c.STATUS) in (c.SAFE, c.ANONYMIZED):
                left = sum(row.get(name) or 0 for name in names[1:4])
                ssim = row.get(c.SSIM)
                yield -left, -_attempts(row), 2.0 if ssim is None or math.isnan(ssim) else ssim, i
            elif row.get(c.STATUS) == c.WITHHELD and len(held) < MOST:
                held.append(i)

    worst = [int(rank[-1]) for rank in heapq.nsmallest(MOST, published())]
    return held, worst


def _attempts(row: dict[str, Any]) -> int:
    try:
        return len(json.loads(row.get(c.PROVENANCE) or "{}").get("attempts", []))
    except (ValueError, AttributeError, TypeError):
        return 0


def _shown_of(shown: int, total: int, order: str) -> str:
    rest = f" {total - shown:,} more are left out here." if total > shown else ""
    return f'<p class="quiet">{shown:,} of {total:,}, {order}.{rest}</p>' if total else '<p class="quiet">None.</p>'


def _article(row: dict[str, Any], original: Original | None, report: Summary, published: str = "") -> str:
    figures = f"<figure>{_original(row, original, report)}<figcaption>original</figcaption></figure>"
    if published:
        figures += f"<figure>{published}<figcaption>published</figcaption></figure>"
    attempts = _attempts(row)
    tries = f", {attempts} attempt{'s' * (attempts != 1)}" if attempts else ""
    title = esc(row.get(c.SOURCE) or f"row {row[c.ROW_ID]}")
    status = esc(row.get(c.STATUS))
    return (
        f'<article><h3><i class="{status}"></i><bdi>{title}</bdi><small>{status}{tries}</small></h3>'
        f'<div class="pair">{figures}</div>{_details(row, report)}</article>'
    )


def _original(row: dict[str, Any], original: Original | None, report: Summary) -> str:
    """The original with its boxes, or a placeholder: one unreadable file must not cost the page."""
    try:
        image = original(row.get(c.SOURCE) or "") if original else report.data.original(row)
        if image is not None:
            return photo(thumbnail(image, 480), image.size, row.get(c.PRIVACY_REVIEW) or ())
    except RowError:
        pass
    except Exception:  # noqa: BLE001  the row boundary: decoders raise anything on a hostile file
        _log.debug("no original for %r", row.get(c.SOURCE), exc_info=True)
    return '<p class="absent">original not available</p>'


def _details(row: dict[str, Any], report: Summary) -> str:
    """What a reader compares the two pictures with; the rest is folded."""
    details: list[tuple[str, str]] = []
    if row.get(c.STATUS) == c.WITHHELD:
        code = row.get(c.REASON)
        why = f"{code}: {REASONS.get(code, 'not in the vocabulary')}" if code else "not recorded"
        details.append(("reason", esc(why)))
    details += _texts(row, c.NOTE)
    # The page says at its top what was looked for, which needs no repeating with every item.
    known = {f"detected: {name}" for name in report.run.get("inspected_criteria") or ()}
    groups: dict[str, list[dict[str, Any]]] = {}
    for item in row.get(c.PRIVACY_REVIEW) or ():
        groups.setdefault(str(item["category"]), []).append(item)
    details += [(category, _found(category, items, known)) for category, items in groups.items()]
    scores = [f"{name} {row[name]:.4g}" for name in (c.PRIVACY_SCORE, *c.SCORE) if row.get(name) is not None]
    if scores:
        details.append(("scores", esc(", ".join(scores))))
    details += _texts(row, c.PUBLIC_CAPTION)
    rest = _texts(row, c.PRIVATE_CAPTION, c.EDIT_INSTRUCTION, c.EDIT_CAPTION, c.ROW_ID)
    title = "private caption, instruction, row id" if len(rest) > 1 else "row id"
    return f"{_list(details)}<details><summary>{title}</summary>{_list(rest)}</details>"


def _texts(row: dict[str, Any], *names: str) -> list[tuple[str, str]]:
    return [(name, esc(row[name])) for name in names if row.get(name)]


def _list(pairs: Iterable[tuple[str, str]]) -> str:
    lines = "".join(f"<dt>{esc(name.replace('_', ' '))}</dt><dd>{value}</dd>" for name, value in pairs)
    return f"<dl>{lines}</dl>" if lines else ""


def _found(category: str, items: Sequence[dict[str, Any]], known: set[str]) -> str:
    """The items of one category of a `privacy_review`, in HTML: their number, scores, words read and reasons.

    Args:
        category: its name.
        items: at least one.
        known: reasons that are not repeated.
    """
    words = Counter(str(i["item"]) for i in items if i["item"] and i["item"] != category)
    reasons = dict.fromkeys(str(i["reason"]) for i in items if i["reason"] and i["reason"] not in known)
    head = "not judged" if category == c.ERROR else f"{len(items)} found{_score_range([i['score'] for i in items])}"
    return head + _folded([w if k == 1 else f"{w} ×{k}" for w, k in words.items()]) + _folded(list(reasons))


def _score_range(scores: Sequence[float | None]) -> str:
    known = [v for v in scores if v is not None and math.isfinite(v)]
    if not known:
        return ""
    low, high = f"{min(known):.2f}", f"{max(known):.2f}"
    return f", score {low}" if low == high else f", scores {low}–{high}"


def _folded(texts: Sequence[str]) -> str:
    """A few of these on a line of their own, the others folded."""
    if not texts:
        return ""
    shown, rest = (" · ".join(map(esc, part)) for part in (texts[:FEW_WORDS], texts[FEW_WORDS:]))
    more = f"<details><summary>{len(texts) - FEW_WORDS:,} more</summary>{rest}</details>" if rest else ""
    return f'<div class="quiet">{shown}{more}</div>'
