"""Several runs over the same source side by side: means, the privacy-utility trade-off, what differs beyond chance.

Rows are matched by their name in the source, since row ids differ from run to run. Everything here is private: the
figures are exact.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from u2s_datasets import columns as c
from u2s_datasets.errors import SetupError
from u2s_datasets.metrics.page import frame, section, write_whole
from u2s_datasets.metrics.report import Report, report
from u2s_datasets.metrics.run_folder import Folder
from u2s_datasets.metrics.scores import SCALES, mean_interval
from u2s_datasets.metrics.svg import Point, printable, tradeoff
from u2s_datasets.metrics.tables import Table, html_table, markdown_table, number, text_table

UTILITY = (c.CLIP_SIMILARITY, c.CLIP_RATIO, c.SSIM)
"""Scores for the plot's x, the first that all runs have. More is better: of SSIM too, as pixels that were kept."""
PRIVACY = (c.VLM_SCORE, c.FACE_SIMILARITY, c.TEXT_RECALL, c.TEXT_SIMILARITY, c.LPIPS, c.SSIM)
"""Scores for the plot's y, each in its own direction."""

SIGNIFICANT = 0.05
FEWEST = 6
"""Pairs of values below which the test cannot reach 0.05 at all."""


@dataclass(frozen=True)
class Difference:
    """One score in two runs, over the rows that both have.

    Args:
        score: the column.
        first, second: names of the runs.
        n: rows with a value in both.
        mean: of second - first; `low`, `high`: its 95% bootstrap interval.
        p: of Wilcoxon's signed-rank test (1945), two-sided; none below 6 rows.
        corrected: p after Holm's correction (1979) over all tests of the comparison.
    """

    score: str
    first: str
    second: str
    n: int
    mean: float | None
    low: float | None
    high: float | None
    p: float | None
    corrected: float | None = None


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
            path: where to write it too, whole or not at all, mode 0600.
        """
        plot = ""
        if self.x and self.y and self.points:
            note = "Up and to the right is better. The line joins the runs that no other run beats in both."
            plot = tradeoff(self.points, *(f"{n}, {_better(n, n == self.x)} is better" for n in (self.x, self.y)))
            plot += f'<p class="quiet">{note}</p>'
        body = [
            f'<header><p class="kicker">Private comparison</p><h1>{len(self.runs)} runs</h1></header>',
            section("Privacy and utility", plot),
            section("In numbers", "".join(map(html_table, self._tables()))),
        ]
        page = frame("Comparison", body)
        if path is not None:
            write_whole(Path(path), page, Path(path).resolve().parent, private=True)
        return page

    def _tables(self) -> Iterator[Table]:
        names = list(self.runs)
        counts = [
            (key, *(f"{getattr(made, key) or 0:,}" for made in self.runs.values()))
            for key in ("rows", c.SAFE, c.ANONYMIZED, c.WITHHELD)
        ]
        yield Table("Rows", ("rows", *map(printable, names)), counts)
        scores = [s for s in SCALES if any(_score(made, s)[0] for made in self.runs.values())]
        rows = [(s, _better(s), *(_cell(made, s) for made in self.runs.values())) for s in scores]
        if rows:
            yield Table("Means, with n and 95% of the mean", ("score", "better", *map(printable, names)), rows)
        if self.differences:
            head = ("score", "from", "to", "n", "difference", "95% of it", "p", "p corrected", "")
            yield Table("Differences on the rows that both have", head, [_line(d) for d in self.differences])
        if self.points:
            front = ", ".join(printable(p.name) for p in self.points if p.front)
            yield Table(f"Not beaten in both {self.x} and {self.y}: {front}.")


def compare(folders: Sequence[str | Path], x: str | None = None, y: str | None = None) -> Comparison:
    """Compare finished runs of one source.

    Args:
        folders: output folders of `u2s anonymize`, two or more, evaluated or not.
        x, y: scores of the plot; where none, the first of `UTILITY` and of `PRIVACY` that all runs have.

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
    opened = {name: Folder(Path(f).expanduser()) for name, f in zip(names, folders, strict=True)}
    if len({folder.replaces for folder in opened.values()}) > 1:
        raise SetupError("some of these runs were evaluated with --paper-compat and some without; evaluate all alike")
    runs = {name: report(Path(f).expanduser()) for name, f in zip(names, folders, strict=True)}
    values = {name: _values(folder) for name, folder in opened.items()}
    differences = tuple(_corrected([d for pair in itertools.combinations(names, 2) for d in _pair(values, *pair)]))
    x = x or _first(UTILITY, runs)
    y = y or _first([name for name in PRIVACY if name != x], runs)
    return Comparison(runs, differences, x, y, _points(runs, x, y))


def _names(folders: Sequence[str | Path]) -> list[str]:
    short = [Path(f).expanduser().resolve().name for f in folders]
    names = short if len(set(short)) == len(short) else [str(f) for f in folders]
    if len(set(names)) < len(names):
        raise SetupError(f"the same folder twice: {', '.join(names)}")
    return names


def _values(folder: Folder) -> dict[str, np.ndarray]:
    """Source -> its scores in the order of `SCALES`, NaN where there is none."""
    found = {}
    for batch in folder.batches((c.SOURCE, *SCALES)):
        for row in batch.to_pylist():
            scores = [row.get(name) for name in SCALES]
            found[str(row[c.SOURCE])] = np.array([math.nan if v is None else v for v in scores], float)
    return found


def _pair(values: dict[str, dict[str, np.ndarray]], first: str, second: str) -> Iterator[Difference]:
    shared = [source for source in values[first] if source in values[second]]
    if not shared:
        raise SetupError(f"{first!r} and {second!r} have no row in common; compare runs of one source")
    one, two = (np.array([values[name][source] for source in shared]) for name in (first, second))
    for i, name in enumerate(SCALES):
        change = (two - one)[:, i]
        change = change[np.isfinite(change)]
        if len(change):
            low, high = mean_interval(change) or (None, None)
            yield Difference(name, first, second, len(change), float(change.mean()), low, high, signed_rank(change))


def signed_rank(differences: np.ndarray) -> float | None:
    """Two-sided p of Wilcoxon's signed-rank test, range [0, 1]: the lower, the less likely is a chance difference.

    Args:
        differences: (n,) of paired values.

    Returns:
        1 where nothing differs; none below 6 pairs, of which no outcome is unlikely enough.
    """
    from scipy.stats import wilcoxon

    if len(differences) < FEWEST:
        return None
    if not differences.any():
        return 1.0
    # Pratt: pairs without a difference count against one. Exact tables hold without ties and zeros only.
    plain = len(differences) <= 50 and np.unique(np.abs(differences)).size == len(differences) and differences.all()
    return float(wilcoxon(differences, zero_method="pratt", method="exact" if plain else "approx").pvalue)


def _corrected(found: list[Difference]) -> list[Difference]:
    corrected = iter(holm([d.p for d in found if d.p is not None]))
    return [d if d.p is None else dataclasses.replace(d, corrected=next(corrected)) for d in found]


def holm(values: Sequence[float]) -> list[float]:
    """p values after Holm's correction: p_(i) becomes max_{j≤i} min(1, (m - j + 1) p_(j))."""
    order = np.argsort(values, kind="stable")
    worst, out = 0.0, [0.0] * len(values)
    for rank, i in enumerate(order):
        worst = max(worst, min(1.0, (len(values) - rank) * values[i]))
        out[i] = worst
    return out


def _first(names: Sequence[str], runs: dict[str, Report]) -> str | None:
    return next((name for name in names if all(_score(made, name)[0] for made in runs.values())), None)


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
    mark = "significant" if d.corrected is not None and d.corrected < SIGNIFICANT else ""
    cells = (f"{d.n:,}", number(d.mean), ends, number(d.p), number(d.corrected), mark)
    return (d.score, printable(d.first), printable(d.second), *cells)
