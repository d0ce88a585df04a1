"""Several runs over the same source side by side: means, the privacy-utility trade-off, what differs beyond chance.

Rows are matched by their name in the source, since row ids differ from run to run. Everything here is private: the
figures are exact.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.evaluation.report.page import frame, section, write_whole
from u2s_datasets.evaluation.report.plots import Point, tradeoff
from u2s_datasets.evaluation.report.report import Report, report
from u2s_datasets.evaluation.report.run_rows import RunRows
from u2s_datasets.evaluation.report.svg import esc, printable
from u2s_datasets.evaluation.report.tables import Table, html_table, markdown_table, number, text_table
from u2s_datasets.parts.metrics.definitions import COPYING, MEANINGS, SCALES
from u2s_datasets.parts.metrics.intervals import FEWEST, SIGNIFICANT, Difference, differences_of

UTILITY = (c.CLIP_SIMILARITY, c.CLIP_RATIO, c.SSIM)
"""Scores for the plot's x. More is better: of SSIM too, as pixels that were kept."""
PRIVACY = (c.VLM_SCORE, c.FACE_SIMILARITY, c.TEXT_RECALL, c.TEXT_SIMILARITY, c.LPIPS, c.SSIM)
"""Scores for the plot's y, each in its own direction."""


@dataclass(frozen=True)
class Comparison:
    """Several runs. Printed, it is a table with everything.

    Args:
        runs: name -> report.
        differences: every score of every two runs.
        x, y: the scores of the plot; none where no score fits.
        points: the runs in the plot.
    """

    runs: dict[str, Report]
    differences: tuple[Difference, ...]
    x: str | None
    y: str | None
    points: tuple[Point, ...]

    def __str__(self) -> str:
        return "\n\n".join(map(text_table, self._tables()))

    def to_markdown(self) -> str:
        """The tables in Markdown. Private."""
        return "\n\n".join(map(markdown_table, self._tables())) + "\n"

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
            SetupError: the path is no such file, or its folder is not there.
        """
        target = None if path is None else page_at(path)
        names = ", ".join(esc(name) for name in self.runs)
        body = [
            f'<header><p class="kicker">Private comparison</p><h1>{len(self.runs)} runs: {names}</h1></header>',
            '<p class="banner"><b>Do not share.</b> The figures are exact.</p>',
            section("Privacy and utility", self._plot()),
            section("In numbers", "".join(map(html_table, self._tables()))),
        ]
        page = frame("Comparison", body)
        if target is not None:
            write_whole(target, page, target.resolve().parent, private=True)
        return page

    def _plot(self) -> str:
        if not (self.x and self.y and self.points):
            return '<p class="quiet">No two scores for a plot were measured in all runs; run `u2s eval` on each.</p>'
        axes = (f"more use: {self.x} {_better(self.x, True)}", f"more privacy: {self.y} {_better(self.y)}")
        words = [f"{esc(name)} is the {MEANINGS[name]}." for name in (self.x, self.y)]
        if self.x in COPYING:
            words.append(f"As use it counts the pixels that were kept; as privacy, a lower {self.x} is better.")
        for axis, name in enumerate((self.x, self.y)):
            if len(self.points) > 1 and len({(p.x, p.y)[axis] for p in self.points}) == 1:
                words.append(f"All runs have the same {name}, so it does not tell them apart.")
        note = (
            "Up and to the right is better; in brackets the means. Filled dots, joined by the line, are the runs that "
            f"no other run beats; hollow ones are beaten. {' '.join(words)}"
        )
        return f'{tradeoff(self.points, *axes)}<p class="quiet">{note}</p>'

    def _tables(self) -> Iterator[Table]:
        names = list(self.runs)
        counts = [
            (key, *(f"{getattr(made, key) or 0:,}" for made in self.runs.values()))
            for key in ("rows", c.SAFE, c.ANONYMIZED, c.WITHHELD)
        ]
        yield Table("Rows by status", ("status", *map(printable, names)), counts)
        scores = [s for s in SCALES if any(_score(made, s)[0] for made in self.runs.values())]
        rows = [(s, _better(s), *(_cell(made, s) for made in self.runs.values())) for s in scores]
        if rows:
            head = ("score", "better for privacy", *map(printable, names))
            yield Table("Means, with their 95% interval and the rows measured", head, rows)
        if self.differences:
            head = ("score", "from", "to", "n", "difference", "95% interval", "p", "p corrected", "verdict")
            yield Table("Differences on the rows that both have", head, [_line(d) for d in self.differences])
            tests = sum(d.p is not None for d in self.differences)
            yield Table(
                f"p: Wilcoxon's signed-rank test; none below {FEWEST} rows. Corrected for {tests} tests by Holm's "
                f"method; significant is a corrected p below {SIGNIFICANT:g}."
            )
        if self.points:
            front = ", ".join(printable(p.name) for p in self.points if p.front)
            axes = (
                f"{self.x} ({_better(self.x or '', True)} is better) and {self.y} ({_better(self.y or '')} is better)"
            )
            yield Table(f"Beaten by no other run in both {axes}: {front}.")


def compare(folders: Sequence[str | Path], x: str | None = None, y: str | None = None) -> Comparison:
    """Compare finished runs of one source.

    Args:
        folders: output folders of `u2s anonymize`, two or more, evaluated or not.
        x, y: scores of the plot; where none, the first of `UTILITY` and of `PRIVACY` that all runs have, if there is
            one in which they differ.

    Raises:
        SetupError: fewer than two folders, an unknown score, runs without a row in common, or runs of which some
            were evaluated by the paper's definitions and some by ours.
    """
    if len(folders) < 2:
        raise SetupError(f"{len(folders)} run to compare; give two or more folders")
    for name in (x, y):
        if name is not None and name not in SCALES:
            raise SetupError(f"{name!r} is no score; use one of: {', '.join(SCALES)}")
    names = _names(folders)
    opened = {name: RunRows(Path(f).expanduser()) for name, f in zip(names, folders, strict=True)}
    if len({folder.replaces for folder in opened.values()}) > 1:
        raise SetupError("some of these runs were evaluated with --paper-compat and some without; evaluate all alike")
    runs = {name: report(Path(f).expanduser()) for name, f in zip(names, folders, strict=True)}
    values = {name: _values(folder) for name, folder in opened.items()}
    differences = differences_of(values)
    x = x or _first(UTILITY, runs)
    y = y or _first([name for name in PRIVACY if name != x], runs)
    return Comparison(runs, differences, x, y, _points(runs, x, y))


def page_at(path: str | Path) -> Path:
    """The path, where a page may be written there. Raises `SetupError`."""
    target = Path(path).expanduser()
    if target.suffix != ".html" or target.is_dir() or not target.parent.is_dir():
        raise SetupError(f"a page cannot be written to {str(path)!r}; give a file such as compare.html in a folder")
    return target


def _names(folders: Sequence[str | Path]) -> list[str]:
    short = [Path(f).expanduser().resolve().name for f in folders]
    names = short if len(set(short)) == len(short) else [str(f) for f in folders]
    if len(set(names)) < len(names):
        raise SetupError(f"the same folder twice: {', '.join(names)}")
    return names


def _values(folder: RunRows) -> dict[str, np.ndarray]:
    """Source -> its scores in the order of `SCALES`, NaN where there is none."""
    found = {}
    for batch in folder.batches((c.SOURCE, *SCALES)):
        for row in batch.to_pylist():
            scores = [row.get(name) for name in SCALES]
            found[str(row[c.SOURCE])] = np.array([math.nan if v is None else v for v in scores], float)
    return found


def _first(names: Sequence[str], runs: dict[str, Report]) -> str | None:
    """The first score that all runs have, one that tells them apart if there is one."""
    shared = [name for name in names if all(_score(made, name)[0] for made in runs.values())]
    apart = [name for name in shared if len({_score(made, name)[1] for made in runs.values()}) > 1]
    return next(iter(apart or shared), None)


def _score(made: Report, name: str) -> tuple[int, float | None, tuple[float, float] | None]:
    found = next((s for s in made.scores if s.name == name), None)
    return (found.n, found.mean, found.interval) if found else (0, None, None)


def _better(name: str, utility: bool = False) -> str:
    return "higher" if utility and name in UTILITY else SCALES[name][0]


def _points(runs: dict[str, Report], x: str | None, y: str | None) -> tuple[Point, ...]:
    """The runs that have both scores, those on the Pareto front marked."""
    if x is None or y is None:
        return ()
    means = {name: (_score(made, x)[1], _score(made, y)[1]) for name, made in runs.items()}
    known = {name: (a, b) for name, (a, b) in means.items() if a is not None and b is not None}
    signs = [1.0 if _better(name, i == 0) == "higher" else -1.0 for i, name in enumerate((x, y))]
    goodness = {name: (signs[0] * a, signs[1] * b) for name, (a, b) in known.items()}
    front = {name for name in known if not any(beats(other, goodness[name]) for other in goodness.values())}
    return tuple(Point(name, a, b, *goodness[name], name in front) for name, (a, b) in known.items())


def beats(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Whether a point is at least as good in both, and better in one (Pareto); more is better."""
    return all(a >= b for a, b in zip(one, other, strict=True)) and one != other


def _cell(made: Report, name: str) -> str:
    n, mean, interval = _score(made, name)
    if not n:
        return "–"
    ends = f" [{number(interval[0])}, {number(interval[1])}]" if interval else ""
    return f"{number(mean)}{ends} ({n:,})"


def _line(d: Difference) -> tuple[str, ...]:
    ends = "–" if d.low is None else f"{number(d.low)} to {number(d.high)}"
    mark = "–" if d.corrected is None else "significant" if d.corrected < SIGNIFICANT else "may be chance"
    if d.low == d.high == 0:
        mark = "no difference"
    cells = (f"{d.n:,}", number(d.mean), ends, number(d.p), number(d.corrected), mark)
    return (d.score, printable(d.first), printable(d.second), *cells)
