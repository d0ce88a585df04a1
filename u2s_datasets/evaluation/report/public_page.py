"""The page for anyone.

It is built from counts, `run.json`, `eval.json` and `data/` alone; it never sees a private row. It holds no date, no
duration and no place of a file, so that the same folder gives the same bytes.
"""

import random
import re
from collections.abc import Iterator, Sequence
from typing import Any

from u2s_datasets import columns as c
from u2s_datasets.evaluation.report.layout import (
    evaluation_sections,
    frame,
    map_threads,
    picture,
    section,
    top,
    verdict,
)
from u2s_datasets.evaluation.report.summary import Summary
from u2s_datasets.evaluation.report.svg import esc, histogram
from u2s_datasets.evaluation.report.tables import REASONS, Table, html_table, join_tables, kept_tables, number, ranked
from u2s_datasets.parts.metrics.definitions import FEW

_PRIVATE_WORDS = {
    *("seed", "secret", "token", "password", "key"),
    *("source", "src", "out", "path", "dir", "folder", "root", "url", "user", "host", "cache"),
}
_PLACE = re.compile(r"(?<![\w.:/])[/~]|\\|\.\.?/|\b[A-Za-z]:/|file:")
"""An absolute or relative path anywhere in a value. `org/model` and a version do not match."""

_GLOSSARY = (
    "<p><b>Safe</b>: nothing that was looked for was found; the pixels are those of the original, written anew "
    "without metadata. <b>Anonymized</b>: what was found was changed. <b>Withheld</b>: it could not be made safe, "
    "or could not be judged; it is not published.</p><p>No detector finds everything. This page holds no file "
    "names, no originals and no scores of single images.</p>"
)


def public_page(report: Summary, max_images: int = 48, seed: int = 0) -> str:
    """The page for anyone: counts, what was and was not looked for, histograms, and a sample of what is published.

    Args:
        report: the numbers.
        max_images: pictures at most.
        seed: seed of the sample.
    """
    run = report.run
    reasons = [(REASONS[code], f"{k:,}", code) for code, k in report.reasons.items()]
    skipped = ranked(run.get("skipped") or {})
    body = [
        "<header><p class=kicker>Privacy report</p>",
        f"<h1>{verdict(report)}</h1></header>",
        *top(report),
        section("Why images are withheld", _plain_table(("reason", "rows", "code"), reasons)),
        section("Kept columns", join_tables(kept_tables(run), html_table, "")),
        section("Files that were skipped", _plain_table(("kind", "files"), skipped)),
        section("Scores", _histograms(report)),
        *evaluation_sections(report.beyond.get(False, {}), private=False),
        section("A sample of what is published", _gallery(report, max_images, seed)),
        section("How it was made", _configuration(run)),
        f"<footer>{_GLOSSARY}</footer>",
    ]
    return frame("Privacy report", body)


def _plain_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    return html_table(Table("", head, rows)) if rows else ""


def _gallery(report: Summary, max_images: int, seed: int) -> str:
    ids = report.data.ids() if report.data is not None else []
    chosen = sorted(random.Random(seed).sample(ids, min(max_images, len(ids))))
    rows = report.data.published(chosen) if chosen else ()

    def figure(row: dict[str, Any]) -> tuple[str, str]:
        status = esc(row[c.STATUS])
        words = f"<span>{esc(row[c.PUBLIC_CAPTION])}</span>" if row.get(c.PUBLIC_CAPTION) else ""
        caption = f'<figcaption><i class="{status}"></i>{status}{words}</figcaption>'
        return row[c.ROW_ID], f"<figure>{picture(row, 320)}{caption}</figure>"

    figures = dict(map_threads(figure, rows))
    if not figures:
        return ""
    words = f"{len(figures):,} of {len(ids):,}, drawn at random, as small copies."
    shown = "".join(figures[i] for i in chosen if i in figures)
    return f'<p class="quiet">{words}</p><div class="gallery">{shown}</div>'


def _histograms(report: Summary) -> str:
    shown, few = [s for s in report.scores if s.n >= FEW], [s.name for s in report.scores if 0 < s.n < FEW]
    cards = "".join(
        f"<figure>{histogram(s)}<figcaption><b>{s.name}</b>, goal: {s.spec.goal}<span>{esc(s.spec.meaning)}; "
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
    table = _plain_table(("setting", "value"), rows)
    return f"<details><summary>Configuration and versions</summary>{table}</details>" if rows else ""


def _flat(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Nested settings as dotted names. Seeds, secrets and places are not shown."""
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(v, (dict, list)) for v in value)):
        for name, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _flat(f"{key}.{name}".strip("."), inner)
        return
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    hidden = _PRIVATE_WORDS & set(re.split(r"[._]", key.lower())) or _PLACE.search(text)
    yield key, "(not shown)" if hidden and value is not None else text
