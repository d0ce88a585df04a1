"""The owner's page, with originals, file names and single rows. As on the public one, the same folder gives
the same bytes."""

from __future__ import annotations

import heapq
import json
import logging
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from u2s_datasets import columns as c
from u2s_datasets.errors import RowError

if TYPE_CHECKING:
    from u2s_datasets.metrics.report import Original, Report

MOST = 200
"""Rows of each kind on the private page."""

_log = logging.getLogger(__name__)


def private_page(report: Report, original: Original | None = None) -> str:
    """The owner's page: the rows withheld and why, then original and published side by side, worst first.

    Worst is what is still found, then the number of attempts, then the least alike (ssim).

    Args:
        original: gives the upright original of a `source`; without it a dataset's own, or placeholders.
    """
    held, worst = _choose(report)
    wanted = {*held, *worst}
    rows = {i: row for i, row in enumerate(_rows(report, c.PRIVATE)) if i in wanted} if wanted else {}
    ids = [rows[i][c.ROW_ID] for i in worst]
    published = {row[c.ROW_ID]: _published(row, 480) for row in report.data.published(ids)} if ids else {}
    counts = report.statuses or dict.fromkeys(c.STATUSES, 0)
    body = [
        '<header><p class="kicker">Private report</p>',
        f"<h1>{_verdict(report)}</h1></header>",
        '<p class="banner"><b>Do not share.</b> This page shows originals, file names and what was read in them.</p>',
        _banner(report.run),
        _bar(report),
        _section("In numbers", "".join(map(html_table, tables(report, private=True)[1:]))),
        _section("Withheld", _left_out(len(held), counts[c.WITHHELD], "in the order of the source")),
        *(_article(rows[i], original, report) for i in held),
        _section("Published", _left_out(len(worst), counts[c.SAFE] + counts[c.ANONYMIZED], "worst first")),
        *(_article(rows[i], original, report, published.get(rows[i][c.ROW_ID], _published(None, 0))) for i in worst),
    ]
    return _page("Private report", body)


def _rows(report: Report, names: Iterable[str]) -> Iterator[dict[str, Any]]:
    batches = report.data.batches(tuple(names)) if report.data is not None else ()
    return (row for batch in batches for row in batch.to_pylist())


def _choose(report: Report) -> tuple[list[int], list[int]]:
    """The numbers of the first withheld rows, and of the worst published ones; no more than these are held."""
    held: list[int] = []

    def published() -> Iterator[tuple[float, ...]]:
        names = (c.STATUS, c.RESIDUAL_FACES, c.RESIDUAL_TEXT, c.SSIM, c.PROVENANCE)
        for i, row in enumerate(_rows(report, names)):
            if row.get(c.STATUS) in (c.SAFE, c.ANONYMIZED):
                left = (row.get(c.RESIDUAL_FACES) or 0) + (row.get(c.RESIDUAL_TEXT) or 0)
                ssim = row.get(c.SSIM)
                yield -left, -_attempts(row), 2.0 if ssim is None or ssim != ssim else ssim, i
            elif row.get(c.STATUS) == c.WITHHELD and len(held) < MOST:
                held.append(i)

    worst = [int(rank[-1]) for rank in heapq.nsmallest(MOST, published())]
    return held, worst


def _attempts(row: dict[str, Any]) -> int:
    try:
        attempts = json.loads(row.get(c.PROVENANCE) or "{}").get("attempts", [])
        return len(attempts)
    except (ValueError, AttributeError, TypeError):
        return 0


def _left_out(shown: int, total: int, order: str) -> str:
    rest = f" {total - shown:,} more are left out here." if total > shown else ""
    return f'<p class="quiet">{shown:,} of {total:,}, {order}.{rest}</p>' if total else '<p class="quiet">None.</p>'


def _article(row: dict[str, Any], original: Original | None, report: Report, published: str = "") -> str:
    figures = f"<figure>{_original(row, original, report)}<figcaption>original</figcaption></figure>"
    if published:
        figures += f"<figure>{published}<figcaption>published</figcaption></figure>"
    attempts = _attempts(row)
    tries = f", {attempts} attempt{'s' * (attempts != 1)}" if attempts else ""
    title = esc(row.get(c.SOURCE) or f"row {row[c.ROW_ID]}")
    status = esc(row.get(c.STATUS))
    return (
        f'<article><h3><i class="{status}"></i><bdi>{title}</bdi><small>{status}{tries}</small></h3>'
        f'<div class="pair">{figures}</div>{_texts(row)}{_review(row)}</article>'
    )


def _original(row: dict[str, Any], original: Original | None, report: Report) -> str:
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


def _texts(row: dict[str, Any]) -> str:
    names = (c.NOTE, c.PRIVATE_CAPTION, c.PUBLIC_CAPTION, c.EDIT_INSTRUCTION, c.EDIT_CAPTION)
    pairs = [(name.replace("_", " "), row[name]) for name in names if row.get(name)]
    if row.get(c.STATUS) == c.WITHHELD:
        code = row.get(c.REASON)
        pairs.insert(0, ("reason", f"{code}: {REASONS.get(code, 'not in the vocabulary')}" if code else "not recorded"))
    scores = [f"{name} {row[name]:.4g}" for name in (c.PRIVACY_SCORE, *c.SCORE) if row.get(name) is not None]
    pairs += [("scores", ", ".join(scores))] if scores else []
    pairs.append(("row id", row[c.ROW_ID]))
    return "<dl>" + "".join(f"<dt>{esc(k)}</dt><dd>{esc(v)}</dd>" for k, v in pairs) + "</dl>"


def _review(row: dict[str, Any]) -> str:
    items = [
        (*("–" if r[k] is None else str(r[k]) for k in ("category", "item", "reason")), _number(r["score"]))
        for r in row.get(c.PRIVACY_REVIEW) or ()
    ]
    return html_table(("", ("category", "item", "reason", "score"), items)) if items else ""


