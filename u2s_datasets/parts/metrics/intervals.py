"""What differs between two runs beyond chance, score by score, on the rows that both have."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from u2s_datasets.errors import SetupError
from u2s_datasets.parts.metrics.definitions import SCALES, mean_interval

SIGNIFICANT = 0.05
FEWEST = 6
"""Pairs of values below which the test cannot reach 0.05 at all."""


def upper_bound(n: int, leaks: int, confidence: float = 0.95) -> float:
    """The exact one-sided upper bound on a rate (Clopper and Pearson, Biometrika 26, 1934).

    The rate p at which `leaks` or fewer in n draws have probability 1 - confidence: the quantile `confidence` of
    Beta(leaks + 1, n - leaks). With no leak at all that is 1 - (1 - confidence)^(1/n).

    Args:
        n: images looked at, 1 or more.
        leaks: how many leaked, 0 to n.
        confidence: in (0, 1).

    Raises:
        SetupError: numbers that cannot be.
    """
    from scipy.stats import beta

    if not (n >= 1 and 0 <= leaks <= n and 0 < confidence < 1):
        raise SetupError(
            f"n={n}, leaks={leaks}, confidence={confidence} cannot be; give 0 <= leaks <= n and a "
            "confidence between 0 and 1, such as 0.95"
        )
    return 1.0 if leaks == n else float(beta.ppf(confidence, leaks + 1, n - leaks))


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


def differences_of(values: Mapping[str, Mapping[str, np.ndarray]]) -> tuple[Difference, ...]:
    """Every score of every two runs, corrected for how many were tested.

    Args:
        values: run -> row -> its scores in the order of `SCALES`, NaN where there is none.

    Raises:
        SetupError: two runs have no row in common.
    """
    pairs = itertools.combinations(values, 2)
    return tuple(_corrected([d for first, second in pairs for d in _pair(values, first, second)]))


def _pair(values: Mapping[str, Mapping[str, np.ndarray]], first: str, second: str) -> Iterator[Difference]:
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
