"""A report written out: its tables as text, Markdown and HTML, and the two pages.

The public page is built from counts, `run.json` and `data/` alone; it never sees a private row. Neither page
holds a date, a duration or the place of a file, so that the same folder gives the same bytes.
"""

from __future__ import annotations

import heapq
import io
import json
import logging
import os
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from u2s_datasets import columns as c
from u2s_datasets.errors import RowError
from u2s_datasets.metrics.report import REASONS, Original, Report
from u2s_datasets.metrics.svg import FEW, MEANINGS, STYLE, bar, esc, histogram, photo, printable, thumbnail

Table = tuple[str, tuple[str, ...], Sequence[tuple[str, ...]]]
"""A title, a header and rows of cells. Without a header the title is a sentence that stands alone."""

MOST = 200
"""Rows of each kind on the private page."""

_PRIVATE_WORDS = {"seed", "secret", "token", "password", "key", "source", "src", "out", "path", "dir", "folder"} | {
    "root", "url", "user", "host", "cache"
}  # fmt: skip
_PLACE = re.compile(r"(?<![\w.:/])[/~]|\\|\.\.?/|\b[A-Za-z]:/|file:")
"""An absolute or relative path anywhere in a value; `org/model` and a version are none."""

_log = logging.getLogger(__name__)


def tables(report: Report, private: bool) -> list[Table]:
    """The report as tables.

    Args:
        private: also what was found per category, each score's worst value, and figures of fewer than 5 rows.
    """
    made: list[Table] = [_counts(report)]
    rows: Sequence[tuple[str, ...]]
    if report.reasons:
        rows = [(code, f"{k:,}", REASONS[code]) for code, k in report.reasons.items()]
        made.append(("Withheld because", ("reason", "rows", "meaning"), rows))
    if private and report.detections:
        rows = [(printable(k), f"{items:,}", f"{images:,}") for k, (items, images) in report.detections.items()]
        made.append(("Found before editing", ("category", "items", "images"), rows))
    if measured := [s for s in report.scores if s.n]:
        names = ("mean", "median", "worst") if private else ("mean", "median")
        rows = [
            (s.name, s.better, f"{s.n:,}", f"{s.missing:,}", *(_number(s.figures(private).get(k)) for k in names))
            for s in measured
        ]
        made.append(("Scores", ("score", "better", "n", "missing", *names), rows))
    if skipped := report.run.get("skipped"):
        made.append(("Skipped, no images", ("kind", "files"), _ranked(skipped)))
    return [*made, *((line, (), ()) for line in _remarks(report))]


def _counts(report: Report) -> Table:
    if report.statuses is None:
        return f"{report.rows:,} rows, not anonymized yet", (), []
    parts = [("rows", report.rows), *report.statuses.items()]
    shares = [(name, f"{k:,}", f"{k / report.rows:.1%}" if report.rows else "–") for name, k in parts]
    total = " + ".join(f"{k:,} {name}" for name, k in report.statuses.items())
    return f"{report.rows:,} rows = {total}", ("status", "rows", "share"), shares


def _remarks(report: Report) -> Iterator[str]:
    if empty := [s.name for s in report.scores if not s.n]:
        yield f"Not measured: {', '.join(empty)}."
    for key, words in (("inspected_criteria", "Looked for"), ("not_inspected", "Not looked for")):
        if report.run.get(key):
            yield f"{words}: {'; '.join(map(printable, report.run[key]))}."
    if report.run.get("verified") is False:
        yield "Not verified: the edited images were not inspected again."


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _ranked(counts: dict[str, int]) -> list[tuple[str, ...]]:
    return [(printable(k), f"{n:,}") for k, n in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))]


def text_table(table: Table) -> str:
    """A table for a terminal."""
    title, head, rows = table
    columns = [_aligned(column) for column in zip(head, *rows, strict=True)]
    return "\n".join([title, *("  " + "  ".join(line).rstrip() for line in zip(*columns, strict=True))])


def _aligned(column: Sequence[str]) -> list[str]:
    width, numbers = max(map(len, column)), all(re.fullmatch(r"[-\d.,e+%–]+", cell) for cell in column[1:])
    return [cell.rjust(width) if numbers else cell.ljust(width) for cell in column]


def markdown_table(table: Table) -> str:
    """A table in Markdown, escaped."""
    title, head, rows = table
    if not head:
        return _markdown(title)
    lines = [head, ["---"] * len(head), *([_markdown(cell) for cell in row] for row in rows)]
    return f"**{_markdown(title)}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_<>\[\]|&#])", r"\\\1", text)


def html_table(table: Table) -> str:
    """A table in HTML, escaped."""
    title, head, rows = table
    if not head:
        return f"<p>{esc(title)}</p>"
    top = "".join(f"<th>{esc(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{esc(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    caption = f"<caption>{esc(title)}</caption>" if title else ""
    return f'<div class="scroll"><table>{caption}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def public_page(report: Report, max_images: int = 48, seed: int = 0) -> str:
    """The page for anyone: counts, what was and was not looked for, histograms, and a sample of what is published.

    Args:
        max_images: pictures at most.
        seed: seed of the sample.
    """
    run = report.run
    body = [
        "<header><p class=kicker>Privacy report</p>",
        f"<h1>{_verdict(report)}</h1></header>",
        _banner(run),
        _bar(report),
        _scope(run),
        _section("Why images are withheld", _reasons(report)),
        _section(
            "Files that were skipped",
            html_table(("", ("kind", "files"), _ranked(run.get("skipped") or {}))) if run.get("skipped") else "",
        ),
        _section("Scores", _histograms(report)),
        _section("A sample of what is published", _gallery(report, max_images, seed)),
        _section("How it was made", _configuration(run)),
        f"<footer>{_GLOSSARY}</footer>",
    ]
    return _page("Privacy report", body)


_GLOSSARY = (
    "<p><b>Safe</b>: nothing that was looked for was found; the pixels are those of the original, written anew "
    "without metadata. <b>Anonymized</b>: what was found was changed. <b>Withheld</b>: it could not be made safe, "
    "or could not be judged; it is not published.</p><p>No detector finds everything. This page holds no file "
    "names, no originals and no scores of single images.</p>"
)


def _page(title: str, body: Iterable[str]) -> str:
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n<meta name="color-scheme" content="light dark">\n'
        f"<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<section><h2>{title}</h2>{content}</section>" if content else ""


def _verdict(report: Report) -> str:
    if report.statuses is None:
        return f"{report.rows:,} images, not anonymized yet."
    if not report.rows:
        return "The source held no images, so nothing is published."
    safe, edited, held = report.statuses.values()
    if held == report.rows:
        return f"Nothing is published: all {held:,} images are withheld."
    proof = {True: " and inspected again", False: " but not inspected again"}.get(report.run.get("verified"), "")  # type: ignore[arg-type]
    parts = [f"{safe:,} in which nothing was found"] * bool(safe) + [f"{edited:,} anonymized{proof}"] * bool(edited)
    rest = f"; {held:,} withheld" if held else ""
    return f"{safe + edited:,} of {report.rows:,} images are in the public set: {', '.join(parts)}{rest}."


def _banner(run: dict[str, Any]) -> str:
    if run.get("verified") is not False:
        return ""
    return (
        '<p class="banner"><b>Unverified.</b> The edited images were not inspected again. '
        "Whether something private is left in them is not known.</p>"
    )


def _bar(report: Report) -> str:
    if not report.statuses:
        return ""
    words = "".join(
        f'<li><i class="{name}"></i><b>{k:,}</b> {name}<small>{k / (report.rows or 1):.1%}</small></li>'
        for name, k in report.statuses.items()
    )
    total = " + ".join(f"{k:,}" for k in report.statuses.values())
    return (
        f'<section>{bar(list(report.statuses.items()))}<ul class="legend">{words}</ul>'
        f'<p class="quiet">{report.rows:,} rows = {total}. Every row of the source is counted once.</p></section>'
    )


def _scope(run: dict[str, Any]) -> str:
    if "inspected_criteria" not in run:
        return '<section><p class="quiet">What was looked for is not recorded here.</p></section>'
    looked, not_looked = (
        "".join(f"<li>{esc(name)}</li>" for name in run.get(key) or ["nothing"])
        for key in ("inspected_criteria", "not_inspected")
    )
    warning = "These may be in the published images."
    return (
        f'<section class="scope"><div><h2>Looked for</h2><ul>{looked}</ul></div>'
        f'<div class="not"><h2>Not looked for</h2><ul>{not_looked}</ul>'
        f"{f'<p>{warning}</p>' if run.get('not_inspected') else ''}</div></section>"
    )


def _reasons(report: Report) -> str:
    rows = [(REASONS[code], f"{k:,}", code) for code, k in report.reasons.items()]
    return html_table(("", ("reason", "rows", "code"), rows)) if rows else ""


def _gallery(report: Report, max_images: int, seed: int) -> str:
    ids = report.data.ids() if report.data is not None else []
    chosen = sorted(random.Random(seed).sample(ids, min(max_images, len(ids))))
    figures = {row[c.ROW_ID]: _figure(row) for row in report.data.published(chosen)} if chosen else {}
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
    return f"<figure>{_published(row, 320)}{caption}</figure>"


def _published(row: dict[str, Any] | None, side: int) -> str:
    """The published picture of a row of `published`, or a placeholder."""
    value = (row or {}).get(c.ANONYMIZED_IMAGE) or {}
    try:
        with Image.open(io.BytesIO(value.get("bytes") or b"")) as image:
            size = image.size
            image.draft("RGB", (2 * side, 2 * side))
            return photo(thumbnail(image, side), size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return '<p class="absent">image not readable</p>'


def _histograms(report: Report) -> str:
    shown, few = [s for s in report.scores if s.n >= FEW], [s.name for s in report.scores if 0 < s.n < FEW]
    cards = "".join(
        f"<figure>{histogram(s)}<figcaption><b>{s.name}</b>, {s.better} is better<span>{esc(MEANINGS[s.name])}; "
        f"n {s.n:,}, missing {s.missing:,}, mean {_number(s.figures(False)['mean'])}</span></figcaption></figure>"
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
    table = html_table(("", ("setting", "value"), rows))
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


def write_whole(path: Path, text: str, scratch: Path, private: bool) -> None:
    """Write a file whole or not at all.

    Args:
        path: the file.
        text: its content.
        scratch: folder on the same disk for the unfinished file.
        private: mode 0600, from its first byte on.
    """
    scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = scratch / f".{path.name}.{'private' if private else 'public'}"
    unfinished.unlink(missing_ok=True)
    with open(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644), "wb") as file:  # noqa: PTH123
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
