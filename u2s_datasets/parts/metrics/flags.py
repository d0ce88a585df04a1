"""How well flags agree with labels. Pure functions on arrays; what is not defined is None, never a number."""

import dataclasses
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Counts:
    """The confusion counts of flags against labels; the four add up to the images."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int


@dataclass(frozen=True)
class Interval:
    """A value with its bootstrap interval; all None where it is not defined."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Curve:
    """Precision and recall where everything that scores at or above a threshold is flagged.

    Args:
        threshold: the different scores, ascending, (T,).
        precision, recall: each in [0, 1], (T,).
        average_precision: Σ (R_t - R_t') P_t, t' being the next higher threshold, and R = 0 above the highest.
    """

    threshold: tuple[float, ...]
    precision: tuple[float, ...]
    recall: tuple[float, ...]
    average_precision: float


def count(truth: np.ndarray, flagged: np.ndarray) -> Counts:
    """The confusion counts of two (N,) boolean arrays."""
    truth, flagged = _pair(truth, flagged)
    kinds = (truth & flagged, ~truth & flagged, truth & ~flagged, ~truth & ~flagged)
    return Counts(*(int(kind.sum()) for kind in kinds))


def recall(counts: Counts) -> float | None:
    """TP / (TP + FN), range [0, 1], higher is better: the share of private images that is flagged."""
    return _ratio(counts.true_positives, counts.true_positives + counts.false_negatives)


def precision(counts: Counts) -> float | None:
    """TP / (TP + FP), range [0, 1], higher is better: the share of flagged images that is private."""
    return _ratio(counts.true_positives, counts.true_positives + counts.false_positives)


def f1(counts: Counts) -> float | None:
    """2 TP / (2 TP + FP + FN), range [0, 1], higher is better: the harmonic mean of precision and recall."""
    twice = 2 * counts.true_positives
    return _ratio(twice, twice + counts.false_positives + counts.false_negatives)


METRICS = {"recall": recall, "precision": precision, "f1": f1}


def bootstrap(counts: Counts, resamples: int = 2_000, level: float = 0.95, seed: int = 0) -> dict[str, Interval]:
    """Every metric with its percentile bootstrap interval over images (Efron 1979).

    N images drawn with replacement have multinomial counts of the four kinds, so the counts are drawn at once.
    A resample in which a metric is not defined, such as one without a flag, does not count for that metric. At a
    value of exactly 0 or 1 the interval has no width, as always with this bootstrap; that does not make it certain.

    Args:
        counts: of the N images.
        resamples: how many sets are drawn.
        level: the interval's share of the resamples, in (0, 1).
        seed: of the draws; the same seed gives the same interval.
    """
    kinds = np.array(dataclasses.astuple(counts))
    if not kinds.sum():
        return dict.fromkeys(METRICS, Interval(None))
    drawn = np.random.default_rng(seed).multinomial(kinds.sum(), kinds / kinds.sum(), size=resamples)
    sets = [Counts(*row) for row in drawn.tolist()]
    return {name: _interval(metric(counts), [metric(s) for s in sets], level) for name, metric in METRICS.items()}


def _interval(value: float | None, drawn: list[float | None], level: float) -> Interval:
    defined = [v for v in drawn if v is not None]
    if value is None or not defined:
        return Interval(value)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2]).tolist()
    return Interval(value, low, high)


def precision_recall_curve(truth: np.ndarray, scores: np.ndarray) -> Curve | None:
    """Precision and recall at every threshold that changes anything; None without a positive.

    Args:
        truth: (N,) booleans.
        scores: (N,) finite; higher is surer.
    """
    truth, scores = _pair(truth, np.asarray(scores, dtype=float), of=float)
    if not np.isfinite(scores).all():
        raise ValueError("a score is not finite")
    if not truth.any():
        return None
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # equal scores are flagged together
    found = np.cumsum(truth[order])[last]
    precisions, recalls = found / (last + 1), found / truth.sum()
    average = float(np.sum(np.diff(recalls, prepend=0.0) * precisions))
    thresholds = scores[order][last]
    threshold, p, r = (tuple(array[::-1].tolist()) for array in (thresholds, precisions, recalls))
    return Curve(threshold, p, r, average)


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _pair(truth: np.ndarray, other: np.ndarray, of: type = bool) -> tuple[np.ndarray, np.ndarray]:
    truth, other = np.asarray(truth, dtype=bool), np.asarray(other, dtype=of)
    if truth.ndim != 1 or truth.shape != other.shape:
        raise ValueError(f"shapes {truth.shape} and {other.shape} are not one number per image")
    return truth, other
