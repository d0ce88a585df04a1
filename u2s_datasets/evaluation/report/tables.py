"""The tables of a report, and how a table is written as text, Markdown and HTML."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from u2s_datasets import columns as c
from u2s_datasets.evaluation.report.summary import UNRECORDED, Summary
from u2s_datasets.evaluation.report.svg import esc, printable
from u2s_datasets.parts.metrics.definitions import FEW, SPECS, Distribution

REASONS = c.REASON_CODES | {UNRECORDED: "no known reason code was recorded"}

_WIDTH = 96  # characters of a line of prose in a terminal
_ENCODERS = {"clip": "whole image (CLIP)", "face": "faces"}
_KINDS = {
    "edited": "anonymized",
    "no-op": "control: the originals themselves",
    "shuffled": "control: somebody else's original",
}


class Table(NamedTuple):
    """A title, a header and rows of cells; a list of one cell per line; or, the title alone, a sentence."""

    title: str
    head: tuple[str, ...] = ()
    rows: Sequence[tuple[str, ...]] = ()


def report_tables(report: Summary, private: bool) -> Iterator[Table]:
    """The whole report.

    Args:
        report: the numbers.
        private: also what was found per category, each score's worst value, and figures of fewer than 5 rows.
    """
    if report.statuses is None:
        yield Table(f"{report.rows:,} rows, not anonymized yet")
    else:
        parts = [("rows", report.rows), *report.statuses.items()]
        shares = [(name, f"{k:,}", f"{k / report.rows:.1%}" if report.rows else "–") for name, k in parts]
        total = " + ".join(f"{k:,} {name}" for name, k in report.statuses.items())
        yield Table(f"{report.rows:,} rows = {total}", ("status", "rows", "share"), shares)
    yield from number_tables(report, private)
    for key, title in (("inspected_criteria", "Looked for"), ("not_inspected", "Not looked for")):
        if report.run.get(key):
            yield Table(title, rows=[(printable(name),) for name in report.run[key]])
    if report.run.get("verified") is False:
        yield Table("Not verified: the edited images were not inspected again.")
    yield from evaluation_tables(report.beyond.get(private, {}), private)


def number_tables(report: Summary, private: bool) -> Iterator[Table]:
    """The tables between the counts of the rows and what was looked for."""
    if report.reasons:
        why = [(code, f"{k:,}", REASONS[code]) for code, k in report.reasons.items()]
        yield Table("Withheld because", ("reason", "rows", "meaning"), why)
    if private and report.detections:
        found = [(printable(k), f"{items:,}", f"{images:,}") for k, (items, images) in report.detections.items()]
        yield Table("Found before editing", ("category", "items", "images"), found)
    if measured := [s for s in report.scores if s.n]:
        yield _scores(measured, private)
        lost = [
            (s.name, printable(why), f"{k:,}") for s in measured if not s.spec.detail_of for why, k in s.why.items()
        ]
        if private and lost:
            yield Table("Missing because", ("score", "reason", "rows"), lost)
    if private:
        yield from _scores_by_category(report)
    yield from _races(report, private)
    if empty := [s.name for s in report.scores if not s.n and not s.spec.detail_of]:
        yield Table(f"Not measured: {', '.join(empty)}.")
    if skipped := report.run.get("skipped"):
        yield Table("Skipped, no images", ("kind", "files"), ranked(skipped))


def _scores(measured: Sequence[Distribution], private: bool) -> Table:
    rows = []
    for score in measured:
        figures = score.figures(private)
        ends = [number(figures[k]) for k in ("low", "high") if figures.get(k) is not None]
        cells = [number(figures.get("mean")), " to ".join(ends) or "–", number(figures.get("median"))]
        if private:
            cells.append(number(None if score.spec.copying else score.worst))
        rows.append((score.name, score.spec.goal, f"{score.n:,}", f"{score.missing:,}", *cells))
    worst = ("worst",) if private else ()
    return Table("Scores", ("score", "goal", "n", "missing", "mean", "95% of the mean", "median", *worst), rows)


def _scores_by_category(report: Summary) -> Iterator[Table]:
    """Mean score per category of what was found; private, as the categories are."""
    shown = {name for _, name in report.by_category}
    names = [s.name for s in report.scores if s.name in shown and not s.spec.detail_of]
    rows = []
    for category in dict.fromkeys(category for category, _ in report.by_category):
        sums = [report.by_category.get((category, name), (0, 0.0)) for name in names]
        rows.append((printable(category), *(f"{number(total / n)} ({n:,})" if n else "–" for n, total in sums)))
    if names:
        yield Table("Mean scores of the images in which this was found (rows)", ("category", *names), rows)


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
    absent: Mapping[str, str] = found.get("absent") or {}
    needs = [(", ".join(n for n, v in absent.items() if v == w), printable(w)) for w in dict.fromkeys(absent.values())]
    if needs:
        yield Table("Not measured here", ("score", "needs"), needs)


def _attacks(found: Mapping[str, Any], private: bool) -> Iterator[Table]:
    rows = [
        (
            _ENCODERS.get(attack["encoder"], printable(attack["encoder"])),
            _KINDS.get(attack["kind"], printable(attack["kind"])),
            f"{rate['k']}",
            f"{rate['n']:,}",
            *((f"{attack['without']:,}",) if private else ()),
            f"{rate['gallery']:,}",
            *("–" if rate[k] is None else f"{rate[k]:.1%}" for k in ("rate", "low", "high", "chance")),
        )
        for attack in found.get("reidentification") or ()
        for rate in attack["rates"]
    ]
    if rows:
        tried = ("not tried",) if private else ()
        head = ("by", "images", "rank", "n", *tried, "gallery", "found", "95% from", "to", "chance")
        yield Table("Re-identification: an image finds its own original among all originals", head, rows)


def _controls(found: Mapping[str, Any]) -> Iterator[Table]:
    made: Mapping[str, Any] = found.get("controls") or {}
    rows = []
    for name, spec in SPECS.items():
        if spec.untouched is not None and any(name in kind for kind in made.values()):
            cells = [made.get(kind, {}).get(name, {"n": 0, "mean": None}) for kind in ("no-op", "shuffled")]
            texts = [text for cell in cells for text in (f"{cell['n']:,}", number(cell["mean"]))]
            rows.append((name, number(spec.untouched), *texts))
    if rows:
        head = ("score", "untouched should be", "n", "is", "n", "with another's image")
        yield Table("Controls: each metric on originals as their own edit, and beside somebody else's", head, rows)


def inspection_tables(found: Mapping[str, Any]) -> Iterator[Table]:
    """How reliable the inspection is, of what `read_inspection` gave, and what was not measured."""
    head = ("what", "images with it", "flagged", "failed", "recall", "precision", "F1", "average precision")
    rows = [
        (
            q["title"],
            *(f"{q[k]:,}" for k in ("private", "flagged", "failed")),
            *(share(m["value"], m["low"], m["high"]) for m in q["metrics"].values()),
            share(q["average_precision"]),
        )
        for q in found["questions"]
        if "metrics" in q
    ]
    title = f"The inspection on VISPR {found['split']}: profile {found['profile']}, {found['images']:,} labelled images"
    if rows:
        yield Table(title, head, rows)
        yield Table("In brackets: 95% bootstrap intervals. Recall: the share of private images that is flagged.")
    for q in found["questions"]:
        if "metrics" not in q:
            yield Table(f"{q['title']}: not measured on VISPR: {q['not_measured']}")


def number(value: float | None) -> str:
    """Four digits, or a dash."""
    return "–" if value is None else f"{value:.4g}"


def share(value: float | None, low: float | None = None, high: float | None = None) -> str:
    """Three digits after the point, with its interval in brackets if it has one; or a dash."""
    if value is None:
        return "–"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def ranked(counts: dict[str, int]) -> list[tuple[str, ...]]:
    """Rows of names and counts, the most frequent first."""
    return [(printable(k), f"{n:,}") for k, n in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))]


def text_table(table: Table) -> str:
    """A table for a terminal."""
    title, head, rows = table
    if not head:
        items = [textwrap.fill(cell, _WIDTH, initial_indent="  - ", subsequent_indent="    ") for (cell,) in rows]
        return "\n".join([textwrap.fill(title, _WIDTH), *items])
    columns = []
    for column in zip(head, *rows, strict=True):
        width = max(map(len, column))
        numeric = all(re.fullmatch(r"[-\d.,e+%–]+", cell) for cell in column[1:])
        columns.append([cell.rjust(width) if numeric else cell.ljust(width) for cell in column])
    return "\n".join([title, *("  " + "  ".join(line).rstrip() for line in zip(*columns, strict=True))])


def markdown_table(table: Table) -> str:
    """A table in Markdown, escaped."""
    title, head, rows = table
    if not rows and not head:
        return _escaped_markdown(title)
    if not head:
        return f"**{_escaped_markdown(title)}**\n\n" + "\n".join(f"- {_escaped_markdown(cell)}" for (cell,) in rows)
    lines = [head, ["---"] * len(head), *([_escaped_markdown(cell) for cell in row] for row in rows)]
    return f"**{_escaped_markdown(title)}**\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _escaped_markdown(text: str) -> str:
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
