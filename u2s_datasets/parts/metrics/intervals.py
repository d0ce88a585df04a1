"""How sure a figure is: intervals of means and rates, and which differences of two runs are beyond chance."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from u2s_datasets.errors import SetupError

RESAMPLES, SEED = 1000, 0
NORMAL_ABOVE = 20_000
"""Values above which the normal interval agrees with the bootstrap to three digits."""

SIGNIFICANT = 0.05
FEWEST = 6
"""Pairs of values below which the signed-rank test cannot reach 0.05 at all."""


def mean_interval(values: np.ndarray, seed: int = SEED) -> tuple[float, float] | None:
    """The 95% interval of a mean: percentiles of the means of 1000 resamples drawn from one seed (Efron 1979).

    Above 20,000 values it is mean ± 1.96 standard errors.

    Args:
        values: (n,) finite numbers.
        seed: of the draws, so that the same values have the same interval.

    Returns:
        (low, high); None for fewer than two values.
    """
    n = len(values)
    if n < 2:
        return None
    if n > NORMAL_ABOVE:
        half = 1.96 * float(values.std(ddof=1)) / math.sqrt(n)
        return float(values.mean()) - half, float(values.mean()) + half
    random = np.random.default_rng(seed)
    # 50 resamples at a time: 1000 × 20,000 indices at once would take 160 MB
    means = np.concatenate([values[random.integers(0, n, (50, n))].mean(axis=1) for _ in range(RESAMPLES // 50)])
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def rate_interval(found: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """The exact two-sided binomial interval of the rate found / n (Clopper and Pearson 1934), in [0, 1]."""
    from scipy.stats import binomtest

    interval = binomtest(found, n).proportion_ci(level, method="exact")
    return float(interval.low), float(interval.high)


def upper_bound(n: int, leaks: int, confidence: float = 0.95) -> float:
    """The exact one-sided upper bound on a rate (Clopper and Pearson, Biometrika 26, 1934), in [0, 1].

    The rate p at which `leaks` or fewer in n draws have probability 1 - confidence: the quantile `confidence` of
    Beta(leaks + 1, n - leaks). With no leak at all that is 1 - (1 - confidence)^(1/n).

    Args:
        n: images looked at, 1 or more.
        leaks: how many leaked, 0 to n.
        confidence: in (0, 1).

    Raises:
        SetupError: numbers outside these ranges.
    """
    from scipy.stats import beta

    if not (n >= 1 and 0 <= leaks <= n and 0 < confidence < 1):
        raise SetupError(
            f"impossible audit: n={n}, leaks={leaks}, confidence={confidence}; expected 0 <= leaks <= n, n of 1 or "
            "more and a confidence between 0 and 1, such as 0.95"
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
        p: of Wilcoxon's signed-rank test (1945), two-sided; None below 6 rows.
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


def find_differences(values: Mapping[str, Mapping[str, np.ndarray]], scores: Sequence[str]) -> tuple[Difference, ...]:
    """Every score of every two runs, corrected for the number of tests.

    Args:
        values: run -> row -> its values, (len(scores),), NaN where a score is missing.
        scores: the columns.

    Raises:
        SetupError: two runs have no row in common.
    """
    found: list[Difference] = []
    for first, second in itertools.combinations(values, 2):
        shared = [row for row in values[first] if row in values[second]]
        if not shared:
            raise SetupError(f"{first!r} and {second!r} have no row in common; compare runs of one source")
        one, two = (np.array([values[run][row] for row in shared]) for run in (first, second))
        for score, change in zip(scores, (two - one).T, strict=True):
            change = change[np.isfinite(change)]
            if len(change):
                low, high = mean_interval(change) or (None, None)
                mean, p = float(change.mean()), signed_rank(change)
                found.append(Difference(score, first, second, len(change), mean, low, high, p))
    corrected = iter(holm([d.p for d in found if d.p is not None]))
    return tuple(d if d.p is None else dataclasses.replace(d, corrected=next(corrected)) for d in found)


def signed_rank(differences: np.ndarray) -> float | None:
    """Two-sided p of Wilcoxon's signed-rank test, range [0, 1]: the lower, the less likely is a chance difference.

    Args:
        differences: (n,) of paired values.

    Returns:
        1 where nothing differs; None below 6 pairs, of which no outcome is unlikely enough.
    """
    from scipy.stats import wilcoxon

    if len(differences) < FEWEST:
        return None
    if not differences.any():
        return 1.0
    # Pratt: pairs without a difference count against one. Exact tables hold without ties and zeros only.
    exact = len(differences) <= 50 and np.unique(np.abs(differences)).size == len(differences) and differences.all()
    return float(wilcoxon(differences, zero_method="pratt", method="exact" if exact else "approx").pvalue)


def holm(values: Sequence[float]) -> list[float]:
    """p values after Holm's correction: p_(i) becomes max_{j≤i} min(1, (m - j + 1) p_(j))."""
    order = np.argsort(values, kind="stable")
    scaled = np.asarray(values)[order] * np.arange(len(values), 0, -1)
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(scaled))
    return corrected.tolist()
