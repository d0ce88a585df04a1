"""The two plots of a page with axes: runs by two scores, and precision-recall curves."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from u2s_datasets.evaluation.report.svg import esc

_LEFT, _TOP, _WIDTH, _HEIGHT = 60, 16, 560, 300
_LINE, _LETTER = 14, 6.2  # what a label of the style's 10 px letters takes
_DASHES = ("", "7 3", "2 3", "9 3 2 3", "5 2")


class Point(NamedTuple):
    """A run in the trade-off plot: its values, how good they are (more is better), and whether it is on the front."""

    name: str
    x: float
    y: float
    right: float
    up: float
    front: bool


class Line(NamedTuple):
    """A curve: its name, its points in the unit square, and the point of the setting in use, if known."""

    name: str
    points: Sequence[tuple[float, float]]
    here: tuple[float, float] | None


def tradeoff(points: Sequence[Point], x: str, y: str) -> str:
    """Runs by two scores, so that up and to the right is better; a line joins the Pareto front.

    Args:
        points: one or more.
        x, y: what stands along the axes.
    """
    rights, ups = _shares([p.right for p in points]), _shares([p.up for p in points])
    places = [_place(right, up) for right, up in zip(rights, ups, strict=True)]
    front = sorted(at for p, at in zip(points, places, strict=True) if p.front)
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in front)
    dots = []
    for p, (a, b) in zip(points, places, strict=True):
        title = f"<title>{esc(p.name)}: {p.x:.4g}, {p.y:.4g}</title>"
        dots.append(
            f'<circle class="{"bin" if p.front else "beaten"}" cx="{a:.1f}" cy="{b:.1f}" r="5">{title}</circle>'
        )
    names = _labels([(f"{p.name} ({p.x:.3g}, {p.y:.3g})", at) for p, at in zip(points, places, strict=True)])
    drawn = f'<polyline class="front" points="{line}" fill="none"/>{"".join(dots)}{names}'
    # The points at the two ends of an axis, one where all are alike.
    across = {share: f"{points[rights.index(share)].x:.3g}" for share in (min(rights), max(rights))}
    upward = {share: f"{points[ups.index(share)].y:.3g}" for share in (min(ups), max(ups))}
    return _frame("trade-off", drawn + _ticks(across, upward), x, y)


def curves(lines: Sequence[Line], x: str, y: str) -> str:
    """Curves in the unit square, told apart by their dashes.

    Args:
        lines: one or more.
        x, y: what stands along the axes.
    """
    drawn = ""
    for v in (0, 0.5, 1):
        drawn += _ticks({v: f"{v:g}"}, {v: f"{v:g}"})
    for i, line in enumerate(lines):
        path = " ".join("{:.1f},{:.1f}".format(*_place(*at)) for at in line.points)
        dash = f'stroke-dasharray="{_DASHES[i % len(_DASHES)]}"'
        drawn += f'<polyline class="curve" {dash} points="{path}" fill="none"/>'
        if line.here:
            a, b = _place(*line.here)
            drawn += f'<circle class="bin" cx="{a:.1f}" cy="{b:.1f}" r="4"><title>{esc(line.name)}</title></circle>'
        low = _TOP + _HEIGHT - _LINE * (len(lines) - i)
        drawn += f'<path class="curve" {dash} d="M{_LEFT + 14} {low - 4}h34"/>'
        drawn += f'<text x="{_LEFT + 56}" y="{low}">{esc(line.name)}</text>'
    return _frame("precision and recall", drawn, x, y)


def _place(right: float, up: float) -> tuple[float, float]:
    return _LEFT + _WIDTH * right, _TOP + _HEIGHT * (1 - up)


def _shares(values: Sequence[float]) -> list[float]:
    """Where each value stands between the least and the most, with a margin; in the middle where all are alike."""
    low, high = min(values), max(values)
    return [0.5 if high == low else 0.1 + 0.8 * (value - low) / (high - low) for value in values]


def _labels(wanted: Sequence[tuple[str, tuple[float, float]]]) -> str:
    """The names beside their points, moved down where two would overlap."""
    taken: list[tuple[float, float, float]] = []
    out = []
    for words, (a, b) in sorted(wanted, key=lambda item: (item[1][1], item[1][0])):
        width, at_end = _LETTER * len(words), a > _LEFT + _WIDTH * 0.7
        left, y = a - 9 - width if at_end else a + 9, b - 8
        while any(abs(y - t) < _LINE and left < r and s < left + width for s, r, t in taken):
            y += _LINE
        taken.append((left, left + width, y))
        x, anchor = (a - 9, "end") if at_end else (a + 9, "start")
        out.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{esc(words)}</text>')
    return "".join(out)


def _ticks(across: Mapping[float, str], upward: Mapping[float, str]) -> str:
    """Numbers along the two axes, by their share of each."""
    return "".join(
        [
            f'<text x="{_place(share, 0)[0]:.1f}" y="{_TOP + _HEIGHT + 13}" text-anchor="middle">{text}</text>'
            for share, text in across.items()
        ]
        + [
            f'<text x="{_LEFT - 5}" y="{_place(0, share)[1] + 3:.1f}" text-anchor="end">{text}</text>'
            for share, text in upward.items()
        ]
    )


def _frame(words: str, drawn: str, x: str, y: str) -> str:
    axes = f'<path class="axis" d="M{_LEFT} {_TOP}V{_TOP + _HEIGHT}H{_LEFT + _WIDTH}" fill="none"/>'
    below = f'<text x="{_LEFT + _WIDTH / 2}" y="{_TOP + _HEIGHT + 30}" text-anchor="middle">{esc(x)} →</text>'
    beside = f'<text x="{-(_TOP + _HEIGHT / 2)}" y="18" transform="rotate(-90)" text-anchor="middle">{esc(y)} →</text>'
    frame = 'class="histogram plot" viewBox="0 0 640 356" role="img"'
    return f'<svg {frame} aria-label="{words}">{axes}{drawn}{below}{beside}</svg>'
