"""The page for anyone.

It is built from counts, `run.json`, `eval.json` and `data/` alone; it never sees a private row. It holds no date, no
duration and no place of a file, so that the same folder gives the same bytes.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from u2s_datasets import columns as c
from u2s_datasets.evaluation.report.evaluation_page import evaluation_sections
from u2s_datasets.evaluation.report.page import (
    banner,
    frame,
    picture,
    scope,
    section,
    side_by_side,
    status_bar,
    verdict,
)
from u2s_datasets.evaluation.report.svg import esc, histogram
from u2s_datasets.evaluation.report.tables import REASONS, Table, html_table, number, ranked
from u2s_datasets.parts.metrics.definitions import FEW, MEANINGS

if TYPE_CHECKING:
    from u2s_datasets.evaluation.report.summary import Summary

_PRIVATE_WORDS = {"seed", "secret", "token", "password", "key", "source", "src", "out", "path", "dir", "folder"} | {
    "root", "url", "user", "host", "cache"
}  # fmt: skip
_PLACE = re.compile(r"(?<![\w.:/])[/~]|\\|\.\.?/|\b[A-Za-z]:/|file:")
"""An absolute or relative path anywhere in a value; `org/model` and a version are none."""

_GLOSSARY = (
    "<p><b>Safe</b>: nothing that was looked for was found; the pixels are those of the original, written anew "
    "without metadata. <b>Anonymized</b>: what was found was changed. <b>Withheld</b>: it could not be made safe, "
    "or could not be judged; it is not published.</p><p>No detector finds everything. This page holds no file "
    "names, no originals and no scores of single images.</p>"
)


def public_page(report: Summary, max_images: int = 48, seed: int = 0) -> str:
    """The page for anyone: counts, what was and was not looked for, histograms, and a sample of what is published.

    Args:
        max_images: pictures at most.
        seed: seed of the sample.
    """
    run = report.run
    body = [
        "<header><p class=kicker>Privacy report</p>",
        f"<h1>{verdict(report)}</h1></header>",
        banner(run),
        status_bar(report),
        scope(run),
        section("Why images are withheld", _reasons(report)),
        section(
            "Files that were skipped",
            html_table(Table("", ("kind", "files"), ranked(run.get("skipped") or {}))) if run.get("skipped") else "",
        ),
        section("Scores", _histograms(report)),
        *evaluation_sections(report.beyond.get(False, {}), private=False),
        section("A sample of what is published", _gallery(report, max_images, seed)),
        section("How it was made", _configuration(run)),
        f"<footer>{_GLOSSARY}</footer>",
    ]
    return frame("Privacy report", body)


def _reasons(report: Summary) -> str:
    rows = [(REASONS[code], f"{k:,}", code) for code, k in report.reasons.items()]
    return html_table(Table("", ("reason", "rows", "code"), rows)) if rows else ""


def _gallery(report: Summary, max_images: int, seed: int) -> str:
    ids = report.data.ids() if report.data is not None else []
    chosen = sorted(random.Random(seed).sample(ids, min(max_images, len(ids))))
    rows = report.data.published(chosen) if chosen else ()
    figures = dict(side_by_side(lambda row: (row[c.ROW_ID], _figure(row)), rows))
    if not figures:
        return ""
    said = f"{len(figures):,} of {len(ids):,}, drawn at random, as small copies."
    return (
        f'<p class="quiet">{said}</p><div class="gallery">{"".join(figures[i] for i in chosen if i in figures)}</div>'
    )


def _figure(row: dict[str, Any]) -> str:
    status = esc(row[c.STATUS])
    words = f"<span>{esc(row[c.PUBLIC_CAPTION])}</span>" if row.get(c.PUBLIC_CAPTION) else ""
    caption = f'<figcaption><i class="{status}"></i>{status}{words}</figcaption>'
    return f"<figure>{picture(row, 320)}{caption}</figure>"


def _histograms(report: Summary) -> str:
    shown, few = [s for s in report.scores if s.n >= FEW], [s.name for s in report.scores if 0 < s.n < FEW]
    cards = "".join(
        f"<figure>{histogram(s)}<figcaption><b>{s.name}</b>, goal: {s.goal}<span>{esc(MEANINGS[s.name])}; "
        f"n {s.n:,}, missing {s.missing:,}, mean {number(s.figures(False)['mean'])}</span></figcaption></figure>"
        for s in shown
    )
    if not cards and not few:
        return ""
    left = f" Too few rows to show: {', '.join(few)}." if few else ""
    hint = f"Rows per range; a faint line stands for fewer than {FEW} rows, possibly none.{left}"
    return f'<p class="quiet">{hint}</p><div class="histograms">{cards}</div>'


def _configuration(run: dict[str, Any]) -> str:
    plain = {k: run[k] for k in ("profile", "configuration", "versions") if run.get(k)}
    rows = [(key.removeprefix("configuration."), value) for key, value in _flat("", plain)]
    if not rows:
        return ""
    table = html_table(Table("", ("setting", "value"), rows))
    return f"<details><summary>Configuration and versions</summary>{table}</details>"


def _flat(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names. Seeds, secrets and places stay home."""
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(v, (dict, list)) for v in value)):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in pairs:
            yield from _flat(f"{key}.{name}".strip("."), inner)
        return
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    hidden = _PRIVATE_WORDS & set(re.split(r"[._]", key.lower())) or _PLACE.search(text)
    yield key, "(not shown)" if hidden and value is not None else text
