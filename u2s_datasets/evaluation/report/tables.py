"""The tables of a report, and how a table is written as text, Markdown and HTML."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from u2s_datasets import columns as c
from u2s_datasets.evaluation.report.summary import UNRECORDED, Summary
from u2s_datasets.evaluation.report.svg import esc, printable
from u2s_datasets.parts.metrics.definitions import COPYING, FEW, Score

REASONS = c.REASON_CODES | {UNRECORDED: "no known reason code was recorded"}

_WIDTH = 96  # characters of a line of prose in a terminal


class Table(NamedTuple):
    """A title, a header and rows of cells; a list of one cell per line; or, the title alone, a sentence."""

    title: str
    head: tuple[str, ...] = ()
    rows: Sequence[tuple[str, ...]] = ()


def tables(report: Summary, private: bool) -> list[Table]:
    """The whole report as tables.

    Args:
        private: also what was found per category, each score's worst value, and figures of fewer than 5 rows.
    """
    return [_counts(report), *numbers(report, private), *_scope(report)]


def numbers(report: Summary, private: bool) -> Iterator[Table]:
    """The tables between the counts of the rows and what was looked for."""
    if report.reasons:
        why = [(code, f"{k:,}", REASONS[code]) for code, k in report.reasons.items()]
        yield Table("Withheld because", ("reason", "rows", "meaning"), why)
    if private and report.detections:
        found = [(printable(k), f"{items:,}", f"{images:,}") for k, (items, images) in report.detections.items()]
        yield Table("Found before editing", ("category", "items", "images"), found)
    if measured := [s for s in report.scores if s.n]:
        yield _scores(measured, private)
        if private and (lost := _missing(measured)):
            yield lost
    if private:
        yield from _breakdown(report)
    yield from _races(report, private)
    if empty := [s.name for s in report.scores if not s.n and s.name not in c.FACES]:
        yield Table(f"Not measured: {', '.join(empty)}.")
    if skipped := report.run.get("skipped"):
        yield Table("Skipped, no images", ("kind", "files"), ranked(skipped))


def _counts(report: Summary) -> Table:
    if report.statuses is None:
        return Table(f"{report.rows:,} rows, not anonymized yet")
    parts = [("rows", report.rows), *report.statuses.items()]
    shares = [(name, f"{k:,}", f"{k / report.rows:.1%}" if report.rows else "–") for name, k in parts]
    total = " + ".join(f"{k:,} {name}" for name, k in report.statuses.items())
    return Table(f"{report.rows:,} rows = {total}", ("status", "rows", "share"), shares)


def _scores(measured: Sequence[Score], private: bool) -> Table:
    names = ("median", "worst") if private else ("median",)
    rows = []
    for score in measured:
        figures = score.figures(private)
        if score.name in COPYING:
            figures["worst"] = None
        cells = (number(figures.get(name)) for name in names)
        counts = (f"{score.n:,}", f"{score.missing:,}")
        rows.append((score.name, score.goal, *counts, number(figures.get("mean")), _interval(figures), *cells))
    return Table("Scores", ("score", "goal", "n", "missing", "mean", "95% of the mean", *names), rows)


def _interval(figures: dict[str, float | None]) -> str:
    ends = [figures.get(name) for name in ("low", "high")]
    return "–" if None in ends else " to ".join(map(number, ends))


def _missing(scores: Sequence[Score]) -> Table | None:
    """Why rows have no value; scores that nobody measured are left to `numbers`."""
    rows = [
        (s.name, printable(why), f"{k:,}") for s in scores if s.n and s.name not in c.FACES for why, k in s.why.items()
    ]
    return Table("Missing because", ("score", "reason", "rows"), rows) if rows else None


def _races(report: Summary, private: bool) -> Iterator[Table]:
    """The race entropies; the shares of the classes, which tell of single images, in private only."""
    if not report.race or not (private or all(made.n >= FEW for made in report.race.values())):
        return
    names = list(next(iter(report.race.values())).counts) if private else []
    rows = []
    for when, made in report.race.items():
        shares = (f"{made.counts[name] / (sum(made.counts.values()) or 1):.0%}" for name in names)
        others = (f"{made.without:,}", f"{made.missing:,}") if private else ()
        value = made.value if private or made.value is None else round(made.value, 2)
        rows.append((when, number(value), f"{made.n:,}", *others, *shares))
    head = ("images", "entropy", "with people", *(("without", "not judged") if private else ()), *names)
    yield Table("Apparent races, evenly spread is 1; Middle Eastern counts as Other, Indian as Asian", head, rows)


def _breakdown(report: Summary) -> Iterator[Table]:
    """Mean score per category of what was found; private, as the categories are."""
    shown = {name for _, name in report.by_category} - {*c.FACES}
    names = sorted(shown, key=[s.name for s in report.scores].index)
    if not names:
        return
    groups = dict.fromkeys(category for category, _ in report.by_category)
    empty = (0, 0.0)
    rows = []
    for category in groups:
        found = [report.by_category.get((category, name), empty) for name in names]
        cells = [f"{number(total / n)} ({n:,})" if n else "–" for n, total in found]
        rows.append((printable(category), *cells))
    yield Table("Mean scores of the images in which this was found (rows)", ("category", *names), rows)


def _scope(report: Summary) -> Iterator[Table]:
    for key, words in (("inspected_criteria", "Looked for"), ("not_inspected", "Not looked for")):
        if report.run.get(key):
            yield Table(words, rows=[(printable(name),) for name in report.run[key]])
    if report.run.get("verified") is False:
        yield Table("Not verified: the edited images were not inspected again.")


def number(value: float | None) -> str:
    """Four digits, or a dash."""
    return "–" if value is None else f"{value:.4g}"


def ranked(counts: dict[str, int]) -> list[tuple[str, ...]]:
    """Rows of names and counts, the most frequent first."""
    return [(printable(k), f"{n:,}") for k, n in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))]


def text_table(table: Table) -> str:
    """A table for a terminal."""
    title, head, rows = table
    if not head:
        items = [textwrap.fill(cell, _WIDTH, initial_indent="  - ", subsequent_indent="    ") for (cell,) in rows]
        return "\n".join([textwrap.fill(title, _WIDTH), *items])
    columns = [_aligned(column) for column in zip(head, *rows, strict=True)]
    return "\n".join([title, *("  " + "  ".join(line).rstrip() for line in zip(*columns, strict=True))])


def _aligned(column: Sequence[str]) -> list[str]:
    width, numeric = max(map(len, column)), all(re.fullmatch(r"[-\d.,e+%–]+", cell) for cell in column[1:])
    return [cell.rjust(width) if numeric else cell.ljust(width) for cell in column]


def markdown_table(table: Table) -> str:
    """A table in Markdown, escaped."""
    title, head, rows = table
    if not rows and not head:
        return _markdown(title)
    if not head:
        return f"**{_markdown(title)}**\n\n" + "\n".join(f"- {_markdown(cell)}" for (cell,) in rows)
    lines = [head, ["---"] * len(head), *([_markdown(cell) for cell in row] for row in rows)]
    return f"**{_markdown(title)}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _markdown(text: str) -> str:
    return re.sub(r"([\\`*_<>\[\]|&#])", r"\\\1", text)


def html_table(table: Table) -> str:
    """A table in HTML, escaped."""
    title, head, rows = table
    if not head:
        items = "".join(f"<li>{esc(cell)}</li>" for (cell,) in rows)
        return f"<p>{esc(title)}</p>" + (f"<ul>{items}</ul>" if items else "")
    top = "".join(f"<th>{esc(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{esc(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    caption = f"<caption>{esc(title)}</caption>" if title else ""
    return f'<div class="scroll"><table>{caption}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
