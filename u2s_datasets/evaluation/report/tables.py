"""The tables of a report, and how a table is written as text, Markdown and HTML."""

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from u2s_datasets import columns as c
from u2s_datasets.evaluation.report.summary import UNRECORDED, Summary
from u2s_datasets.evaluation.report.svg import esc, printable
from u2s_datasets.parts.metrics.definitions import FEW, SPECS, Distribution
from u2s_datasets.parts.metrics.privacy import CLASSES
from u2s_datasets.privacy.kept_columns import NOT_CHECKED

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


def join_tables(tables: Iterable[Table], write: Callable[[Table], str], between: str = "\n\n") -> str:
    """Tables one after another as `text_table`, `markdown_table` or `html_table` writes them.

    A table with a header and without rows is left out.
    """
    return between.join(write(table) for table in tables if table.rows or not table.head)


def report_tables(report: Summary, private: bool) -> Iterator[Table]:
    """The whole report.

    Args:
        report: the numbers.
        private: also what was found per category, each score's worst value, and figures of fewer than 5 rows.
    """
    if report.statuses is None:
        yield Table(f"{report.rows:,} rows, not anonymized yet")
    else:
        parts = {"rows": report.rows, **report.statuses}
        shares = [(name, f"{k:,}", f"{k / report.rows:.1%}" if report.rows else "–") for name, k in parts.items()]
        total = " + ".join(f"{k:,} {name}" for name, k in report.statuses.items())
        yield Table(f"{report.rows:,} rows = {total}", ("status", "rows", "share"), shares)
    yield from number_tables(report, private)
    for key, title in (("inspected_criteria", "Looked for"), ("not_inspected", "Not looked for")):
        if report.run.get(key):
            yield Table(title, rows=[(printable(name),) for name in report.run[key]])
    if report.unverified:
        yield Table(
            f"Not verified: {report.unverified:,} of the published images, which may still show something private."
        )
    yield from evaluation_tables(report.beyond.get(private, {}), private)


def number_tables(report: Summary, private: bool) -> Iterator[Table]:
    """The tables between the counts of the rows and what was looked for."""
    reasons = [(code, f"{k:,}", REASONS[code]) for code, k in report.reasons.items()]
    yield Table("Withheld because", ("reason", "rows", "meaning"), reasons)
    measured = [score for score in report.scores if score.n]
    if private:
        found = [(printable(k), f"{items:,}", f"{images:,}") for k, (items, images) in report.detections.items()]
        yield Table("Found before editing", ("category", "items", "images"), found)
    yield _scores(measured, private)
    if private:
        whole = [score for score in measured if not score.spec.detail_of]
        lost = [(score.name, printable(why), f"{k:,}") for score in whole for why, k in score.why.items()]
        yield Table("Missing because", ("score", "reason", "rows"), lost)
        yield _scores_by_category(report)
    yield _races(report, private)
    if empty := [score.name for score in report.scores if not score.n and not score.spec.detail_of]:
        yield Table(f"Not measured: {', '.join(empty)}.")
    yield Table("Skipped, no images", ("kind", "files"), ranked(report.run.get("skipped") or {}))
    yield from kept_tables(report.run)


def kept_tables(run: Mapping[str, Any]) -> Iterator[Table]:
    """What of the kept columns was emptied, by column and count, and what was not looked for in them."""
    yield Table("Emptied in kept columns", ("column", "values"), ranked(run.get("kept_emptied") or {}))
    for column in run.get("names_not_checked") or ():
        yield Table(f"Column {printable(column)}: {NOT_CHECKED}.")


def _scores(measured: Sequence[Distribution], private: bool) -> Table:
    rows = []
    for score in measured:
        figures = score.figures(private)
        ends = [number(figures[k]) for k in ("low", "high") if figures.get(k) is not None]
        cells = [number(figures.get("mean")), " to ".join(ends) or "–", number(figures.get("median"))]
        if private:
            cells.append(number(None if score.spec.copying else score.worst))
        rows.append((score.name, score.spec.goal, f"{score.n:,}", f"{score.missing:,}", *cells))
    head = ("score", "goal", "n", "missing", "mean", "95% of the mean", "median")
    return Table("Scores", (*head, "worst") if private else head, rows)


def _scores_by_category(report: Summary) -> Table:
    """Mean score per category of what was found; private, as the categories are."""
    known = {name for _, name in report.by_category}
    names = [score.name for score in report.scores if score.name in known and not score.spec.detail_of]
    rows = []
    for category in dict.fromkeys(category for category, _ in report.by_category if names):
        sums = [report.by_category.get((category, name), (0, 0.0)) for name in names]
        rows.append((printable(category), *(f"{number(total / n)} ({n:,})" if n else "–" for n, total in sums)))
    return Table("Mean scores of the images in which this was found (rows)", ("category", *names), rows)


def _races(report: Summary, private: bool) -> Table:
    """The race entropies; the shares of the classes, which tell of single images, in private only."""
    shown = report.race if private or all(made.n >= FEW for made in report.race.values()) else {}
    rows = []
    for when, made in shown.items():
        if private:
            total = sum(made.counts.values()) or 1
            shares = (f"{made.counts[name] / total:.0%}" for name in CLASSES)
            rows.append((when, number(made.value), f"{made.n:,}", f"{made.without:,}", f"{made.missing:,}", *shares))
        else:
            rows.append((when, number(None if made.value is None else round(made.value, 2)), f"{made.n:,}"))
    more = ("without", "not judged", *CLASSES) if private else ()
    title = "Apparent races, evenly spread is 1; Middle Eastern counts as Other, Indian as Asian"
    return Table(title, ("images", "entropy", "with people", *more), rows)


def evaluation_tables(found: Mapping[str, Any], private: bool) -> Iterator[Table]:
    """Attacks, controls, the inspection's reliability, and what could not be measured.

    Args:
        found: what `Evaluation.plain` gave, for the owner or for anyone.
        private: the owner also sees what could not be tried.
    """
    yield _attacks(found.get("reidentification") or (), private)
    yield _controls(found.get("controls") or {})
    if found.get("inspection"):
        yield from inspection_tables(found["inspection"])
    absent: Mapping[str, str] = found.get("absent") or {}
    needs = [(", ".join(n for n, v in absent.items() if v == w), printable(w)) for w in dict.fromkeys(absent.values())]
    yield Table("Not measured here", ("score", "needs"), needs)


def _attacks(attacks: Iterable[Mapping[str, Any]], private: bool) -> Table:
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
        for attack in attacks
        for rate in attack["rates"]
    ]
    tried = ("not tried",) if private else ()
    head = ("by", "images", "rank", "n", *tried, "gallery", "found", "95% from", "to", "chance")
    return Table("Re-identification: an image finds its own original among all originals", head, rows)


def _controls(controls: Mapping[str, Any]) -> Table:
    rows = []
    for name, spec in SPECS.items():
        if spec.untouched is not None and any(name in found for found in controls.values()):
            cells = [controls.get(kind, {}).get(name, {"n": 0, "mean": None}) for kind in ("no-op", "shuffled")]
            texts = [text for cell in cells for text in (f"{cell['n']:,}", number(cell["mean"]))]
            rows.append((name, number(spec.untouched), *texts))
    head = ("score", "untouched should be", "n", "is", "n", "with another's image")
    return Table("Controls: each metric on originals as their own edit, and beside somebody else's", head, rows)


def inspection_tables(found: Mapping[str, Any]) -> Iterator[Table]:
    """How reliable the inspection is, of what `read_inspection` gave, and what was not measured."""
    head = ("what", "images with it", "flagged", "failed", "recall", "precision", "F1", "average precision")
    measured = [q for q in found["questions"] if "metrics" in q]
    rows = []
    for q in measured:
        images = (f"{q[k]:,}" for k in ("private", "flagged", "failed"))
        shares = (share(m["value"], m["low"], m["high"]) for m in q["metrics"].values())
        rows.append((q["title"], *images, *shares, share(q["average_precision"])))
    title = f"The inspection on VISPR {found['split']}: profile {found['profile']}, {found['images']:,} labelled images"
    yield Table(title, head, rows)
    if measured:
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
