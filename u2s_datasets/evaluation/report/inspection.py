"""How reliable the inspection is, in a run's report: a result of `u2s vispr` as plain values, and its plot.

The figures are of VISPR's images, which are public, and never of the run's own, so both pages may show them.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from u2s_datasets.errors import SetupError
from u2s_datasets.evaluation.report.plots import Line, curves
from u2s_datasets.evaluation.report.svg import printable
from u2s_datasets.parts.metrics.flags import METRICS

MOST = 100
"""Points of a curve that are kept: it has one per different score, more than a plot can show."""


def read_inspection(path: str | Path) -> dict[str, Any]:
    """A result of `u2s vispr` as a report keeps it: without the thresholds, and with thinned curves.

    Raises:
        SetupError: the file cannot be read, or holds something else.
    """
    remedy = "give the FILE.json that `u2s vispr --out FILE.json` wrote"
    try:
        found = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SetupError(f"vispr={str(path)!r} cannot be read as JSON ({error}); {remedy}") from error
    try:
        if found["dataset"] != "VISPR":
            raise ValueError(found["dataset"])
        return {
            **{k: printable(found[k]) for k in ("split", "profile")},
            "images": int(found["images"]),
            "questions": [_question(q) for q in found["questions"]],
        }
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise SetupError(f"vispr={str(path)!r} is not a result of `u2s vispr`; {remedy}") from error


def _question(q: Mapping[str, Any]) -> dict[str, Any]:
    title = printable(q["title"])
    if q["not_measured"]:
        return {"title": title, "not_measured": printable(q["not_measured"])}
    counts = {k: int(q["counts"][k]) for k in ("true_positives", "false_positives", "false_negatives")}
    metrics = {name: {k: _four_digits(q["metrics"][name][k]) for k in ("value", "low", "high")} for name in METRICS}
    curve = q["curve"] or {"recall": (), "precision": (), "average_precision": None}
    points = [(_four_digits(r), _four_digits(p)) for r, p in zip(curve["recall"], curve["precision"], strict=True)]
    return {
        "title": title,
        "private": counts["true_positives"] + counts["false_negatives"],
        "flagged": counts["true_positives"] + counts["false_positives"],
        "failed": sum(int(n) for n in q["failed"].values()),
        "metrics": metrics,
        "average_precision": _four_digits(curve["average_precision"]),
        "curve": points[:: math.ceil(len(points) / MOST) or 1],
    }


def _four_digits(value: Any) -> float | None:
    """A number in [0, 1], rounded. Raises `ValueError` for any other number."""
    if value is None:
        return None
    if not 0 <= float(value) <= 1:
        raise ValueError(f"{value} is not in [0, 1]")
    return round(float(value), 4)


def inspection_plot(found: Mapping[str, Any]) -> str:
    """The precision-recall curves as SVG, with a point on each for the flags as they are set; "" without a curve."""
    lines = []
    for q in found["questions"]:
        if q.get("curve"):
            recall, precision = (q["metrics"][name]["value"] for name in ("recall", "precision"))
            here = None if recall is None or precision is None else (recall, precision)
            lines.append(Line(q["title"], [(r, p) for r, p in q["curve"]], here))
    if not lines:
        return ""
    words = "Each line moves the threshold of the privacy score; the dot is where the profile sets its flags."
    return f'{curves(lines, "recall", "precision")}<p class="quiet">{words} Up and to the right is better.</p>'
