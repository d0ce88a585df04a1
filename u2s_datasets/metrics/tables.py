"""The tables of a report, and how a table is written as text, Markdown and HTML."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from u2s_datasets import columns as c
from u2s_datasets.metrics.scores import COPYING
from u2s_datasets.metrics.svg import esc, printable

if TYPE_CHECKING:
    from u2s_datasets.metrics.report import Report

Table = tuple[str, tuple[str, ...], Sequence[tuple[str, ...]]]
"""A title, a header and rows of cells. Without a header the title is a sentence that stands alone."""

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


