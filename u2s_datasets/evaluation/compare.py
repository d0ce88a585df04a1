"""Several runs over the same source side by side: means, the privacy-utility trade-off, what differs beyond chance.

Rows are matched by their name in the source, since row ids differ from run to run. Everything here is private: the
figures are exact.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.evaluation.report.layout import frame, section, write_page
from u2s_datasets.evaluation.report.plots import Point, tradeoff
from u2s_datasets.evaluation.report.report import Report, report
from u2s_datasets.evaluation.report.run_rows import RunRows
from u2s_datasets.evaluation.report.svg import esc, printable
from u2s_datasets.evaluation.report.tables import Table, html_table, join_tables, number, text_table
from u2s_datasets.parts.metrics.definitions import SPECS, Distribution
from u2s_datasets.parts.metrics.intervals import FEWEST, SIGNIFICANT, Difference, find_differences


@dataclass(frozen=True)
class Comparison:
    """Several runs. Printed, it is a table with everything.

    Args:
        runs: name -> report.
        differences: every score of every two runs.
        x, y: the scores of the plot; None if no score fits.
        points: the runs in the plot.
    """

    runs: dict[str, Report]
    differences: tuple[Difference, ...]
    x: str | None
    y: str | None
    points: tuple[Point, ...]

    def __str__(self) -> str:
        return join_tables(self._tables(), text_table)

    def to_json(self) -> str:
        """The numbers as JSON. Private."""
        runs = {name: json.loads(made.to_json(private=True)) for name, made in self.runs.items()}
        differences = [dataclasses.asdict(d) for d in self.differences]
        points = [{"run": p.name, "x": p.x, "y": p.y, "front": p.front} for p in self.points]
        plain = {"runs": runs, "differences": differences, "tradeoff": {"x": self.x, "y": self.y, "points": points}}
        return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"

    def to_html(self, path: str | Path | None = None) -> str:
        """One self-contained page with the trade-off plot. Private.

        Args:
            path: where to write it too, whole or not at all, mode 0600; an .html file.

        Raises:
            SetupError: the path does not end in .html, or its folder does not exist.
        """
        target = None if path is None else check_page(path)
        names = ", ".join(esc(name) for name in self.runs)
        body = [
            f'<header><p class="kicker">Private comparison</p><h1>{len(self.runs)} runs: {names}</h1></header>',
            '<p class="banner"><b>Do not share.</b> The figures are exact.</p>',
            section("Privacy and utility", self._plot()),
            section("In numbers", join_tables(self._tables(), html_table, "")),
        ]
        page = frame("Comparison", body)
        if target is not None:
            write_page(target, page, private=True)
        return page

    def _plot(self) -> str:
        if not (self.x and self.y and self.points):
            return '<p class="quiet">No two scores for a plot were measured in all runs; run `u2s eval` on each.</p>'
        axes = (f"more use: {self.x} {_better_use(self.x)}", f"more privacy: {self.y} {SPECS[self.y].better}")
        notes = [f"{esc(name)} is the {SPECS[name].meaning}." for name in (self.x, self.y)]
        if SPECS[self.x].copying:
            notes.append(f"As use it counts the pixels that were kept; as privacy, a lower {self.x} is better.")
        for name, values in ((self.x, {p.x for p in self.points}), (self.y, {p.y for p in self.points})):
            if len(self.points) > 1 and len(values) == 1:
                notes.append(f"All runs have the same {name}, so it does not tell them apart.")
        note = (
            "Up and to the right is better; in brackets the means. Filled dots, joined by the line, are the runs that "
            f"no other run beats; hollow ones are beaten. {' '.join(notes)}"
        )
        return f'{tradeoff(self.points, *axes)}<p class="quiet">{note}</p>'

    def _tables(self) -> Iterator[Table]:
        names = tuple(map(printable, self.runs))
        counts = [
            (key, *(f"{getattr(made, key) or 0:,}" for made in self.runs.values()))
            for key in ("rows", c.SAFE, c.ANONYMIZED, c.WITHHELD)
        ]
        yield Table("Rows by status", ("status", *names), counts)
        rows = []
        for name, spec in SPECS.items():
            found = [_measured(made, name) for made in self.runs.values()]
            if any(found):
                rows.append((name, spec.better, *map(_mean_cell, found)))
        head = ("score", "better for privacy", *names)
        yield Table("Means, with their 95% interval and the rows measured", head, rows)
        head = ("score", "from", "to", "n", "difference", "95% interval", "p", "p corrected", "verdict")
        yield Table("Differences on the rows that both have", head, [_difference_row(d) for d in self.differences])
        if self.differences:
            tests = sum(d.p is not None for d in self.differences)
            yield Table(
                f"p: Wilcoxon's signed-rank test; none below {FEWEST} rows. Corrected for {tests} tests by Holm's "
                f"method; significant is a corrected p below {SIGNIFICANT:g}."
            )
        if self.x and self.y and self.points:
            front = ", ".join(printable(p.name) for p in self.points if p.front)
            use, privacy = (
                f"{self.x} ({_better_use(self.x)} is better)",
                f"{self.y} ({SPECS[self.y].better} is better)",
            )
            yield Table(f"Beaten by no other run in both {use} and {privacy}: {front}.")


def compare(folders: Sequence[str | Path], x: str | None = None, y: str | None = None) -> Comparison:
    """Compare finished runs of one source.

    Args:
        folders: output folders of `u2s anonymize`, two or more, evaluated or not.
        x, y: scores of the plot. By default the first by `utility_rank` and by `privacy_rank` that all runs have,
            preferably one in which they differ.

    Raises:
        SetupError: fewer than two folders, an unknown score, runs without a row in common, or runs of which some
            were evaluated by the paper's definitions and some by ours.
    """
    if len(folders) < 2:
        raise SetupError(f"{len(folders)} run to compare; give two or more folders")
    for name in (x, y):
        if name is not None and name not in SPECS:
            raise SetupError(f"unknown score {name!r}; expected one of: {', '.join(SPECS)}")
    paths = dict(zip(_names(folders), (Path(f).expanduser() for f in folders), strict=True))
    opened = {name: RunRows(path) for name, path in paths.items()}
    if len({run.replaces for run in opened.values()}) > 1:
        raise SetupError("some of these runs were evaluated with --paper-compat and some without; evaluate all alike")
    runs = {name: report(path) for name, path in paths.items()}
    values = {
        name: {
            str(row[c.SOURCE]): np.array([row.get(score) for score in SPECS], float)
            for batch in run.batches((c.SOURCE, *SPECS))
            for row in batch.to_pylist()
        }
        for name, run in opened.items()
    }
    differences = find_differences(values, tuple(SPECS))
    x = x or _first(runs, {s.name: s.utility_rank for s in SPECS.values()})
    y = y or _first(runs, {s.name: s.privacy_rank for s in SPECS.values() if s.name != x})
    return Comparison(runs, differences, x, y, _points(runs, x, y))


def check_page(path: str | Path) -> Path:
    """The path, once it is known that a page may be written there. Raises `SetupError`."""
    target = Path(path).expanduser()
    if target.suffix != ".html" or target.is_dir() or not target.parent.is_dir():
        raise SetupError(f"cannot write a page to {str(path)!r}; give an .html file in an existing folder")
    return target


def _names(folders: Sequence[str | Path]) -> list[str]:
    """The folders' own names, or their paths where two have the same name."""
    names = [Path(f).expanduser().resolve().name for f in folders]
    if len(set(names)) < len(names):
        names = [str(f) for f in folders]
    if len(set(names)) < len(names):
        raise SetupError(f"the same folder twice: {', '.join(names)}; give different folders")
    return names


def _first(runs: dict[str, Report], ranks: dict[str, int]) -> str | None:
    """The first score by rank that all runs have, preferably one that tells them apart; rank 0 is never taken."""
    candidates = sorted((name for name, rank in ranks.items() if rank), key=lambda name: ranks[name])
    means = {name: [_mean(made, name) for made in runs.values()] for name in candidates}
    shared = [name for name in candidates if None not in means[name]]
    apart = [name for name in shared if len(set(means[name])) > 1]
    return next(iter(apart or shared), None)


def _measured(made: Report, name: str) -> Distribution | None:
    """A score of a run, if any row has one."""
    return next((score for score in made.scores if score.name == name and score.n), None)


def _mean(made: Report, name: str) -> float | None:
    score = _measured(made, name)
    return None if score is None else score.mean


def _better_use(name: str) -> str:
    """Which is better for use: of a score that counts as utility more, of another what is better for privacy."""
    return "higher" if SPECS[name].utility_rank else SPECS[name].better


def _points(runs: dict[str, Report], x: str | None, y: str | None) -> tuple[Point, ...]:
    """The runs that have both scores, those on the Pareto front marked."""
    if x is None or y is None:
        return ()
    right = 1.0 if _better_use(x) == "higher" else -1.0
    up = 1.0 if SPECS[y].better == "higher" else -1.0
    found = {name: (_mean(made, x), _mean(made, y)) for name, made in runs.items()}
    means = {name: (a, b) for name, (a, b) in found.items() if a is not None and b is not None}
    goodness = {name: (right * a, up * b) for name, (a, b) in means.items()}
    front = {name for name in means if not any(beats(other, goodness[name]) for other in goodness.values())}
    return tuple(Point(name, a, b, *goodness[name], name in front) for name, (a, b) in means.items())


def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether a point is at least as good in both, and better in one (Pareto); more is better."""
    return all(a >= b for a, b in zip(one, other, strict=True)) and one != other


def _mean_cell(score: Distribution | None) -> str:
    if score is None:
        return "–"
    ends = f" [{number(score.interval[0])}, {number(score.interval[1])}]" if score.interval else ""
    return f"{number(score.mean)}{ends} ({score.n:,})"


def _difference_row(d: Difference) -> tuple[str, ...]:
    ends = "–" if d.low is None else f"{number(d.low)} to {number(d.high)}"
    verdict = "–" if d.corrected is None else "significant" if d.corrected < SIGNIFICANT else "may be chance"
    if d.low == d.high == 0:
        verdict = "no difference"
    cells = (f"{d.n:,}", number(d.mean), ends, number(d.p), number(d.corrected), verdict)
    return (d.score, printable(d.first), printable(d.second), *cells)
