"""The metrics of flags, against numbers worked by hand, a plain bootstrap, and scikit-learn where it is installed."""

import numpy as np
import pytest

from u2s_datasets.parts.metrics import flags

TRUTH = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0], dtype=bool)
FLAGS = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0], dtype=bool)


def test_counts_and_metrics_by_hand():
    counts = flags.count(TRUTH, FLAGS)
    assert counts == flags.Counts(3, 2, 1, 4)
    assert flags.recall(counts) == 3 / 4
    assert flags.precision(counts) == 3 / 5
    assert flags.f1(counts) == 6 / 9


@pytest.mark.parametrize(
    ("counts", "recall", "precision", "f1"),
    [
        (flags.Counts(0, 0, 0, 5), None, None, None),
        (flags.Counts(0, 0, 2, 5), 0, None, 0),
        (flags.Counts(0, 2, 0, 5), None, 0, 0),
        (flags.Counts(3, 0, 0, 0), 1, 1, 1),
    ],
)
def test_what_is_not_defined_is_none(counts, recall, precision, f1):
    assert (flags.recall(counts), flags.precision(counts), flags.f1(counts)) == (recall, precision, f1)
    drawn = flags.bootstrap(counts, resamples=50)
    assert [drawn[name].value for name in ("recall", "precision", "f1")] == [recall, precision, f1]
    assert all((i.low is None) == (i.value is None) for i in drawn.values())


def test_no_images_have_no_metrics():
    assert flags.bootstrap(flags.Counts(0, 0, 0, 0))["recall"] == flags.Interval(None)


def test_the_bootstrap_is_that_over_images():
    rng = np.random.default_rng(5)
    truth = rng.random(400) < 0.3
    flagged = np.where(rng.random(400) < 0.2, ~truth, truth)
    fast = flags.bootstrap(flags.count(truth, flagged), resamples=4_000)
    slow = {name: [] for name in flags.METRICS}
    for _ in range(4_000):
        drawn = rng.integers(0, 400, 400)
        for name, metric in flags.METRICS.items():
            slow[name].append(metric(flags.count(truth[drawn], flagged[drawn])))
    for name, interval in fast.items():
        assert interval.low < interval.value < interval.high
        # The quantiles of 4,000 draws with a deviation of about 0.035 have a standard error of about 0.0015.
        assert (interval.low, interval.high) == pytest.approx(np.quantile(slow[name], [0.025, 0.975]), abs=0.008)


def test_the_same_seed_gives_the_same_interval():
    counts = flags.Counts(30, 20, 10, 40)
    assert flags.bootstrap(counts, seed=3) == flags.bootstrap(counts, seed=3) != flags.bootstrap(counts, seed=4)
    assert flags.bootstrap(counts, level=0.5)["recall"].low > flags.bootstrap(counts, level=0.95)["recall"].low


def test_a_curve_by_hand():
    """Five private images of eight; equal scores are flagged together."""
    truth = [1, 1, 1, 1, 1, 0, 0, 0]
    scores = [0.95, 0.6, 0.9, 0.1, 0.9, 0.05, 0.3, 0.1]
    curve = flags.precision_recall_curve(np.array(truth), np.array(scores))
    assert curve.threshold == (0.05, 0.1, 0.3, 0.6, 0.9, 0.95)
    assert curve.precision == pytest.approx((5 / 8, 5 / 7, 4 / 5, 1, 1, 1))
    assert curve.recall == pytest.approx((1, 1, 0.8, 0.8, 0.6, 0.2))
    assert curve.average_precision == pytest.approx(0.2 + 0.4 + 0.2 + 0.2 * 5 / 7)


def test_a_curve_needs_a_positive_and_finite_scores():
    assert flags.precision_recall_curve(np.zeros(3), np.ones(3)) is None
    with pytest.raises(ValueError, match="not finite"):
        flags.precision_recall_curve(np.ones(2), np.array([0.1, np.nan]))
    with pytest.raises(ValueError, match="one number per image"):
        flags.precision_recall_curve(np.ones(2), np.ones(3))


def test_a_curve_is_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed: pip install scikit-learn")
    rng = np.random.default_rng(0)
    truth, scores = rng.random(500) < 0.4, rng.integers(0, 60, 500) / 60
    curve = flags.precision_recall_curve(truth, scores)
    precision, recall, threshold = metrics.precision_recall_curve(truth, scores)
    assert curve.threshold == tuple(threshold)
    assert curve.precision == pytest.approx(precision[:-1])  # scikit-learn adds the point (1, 0)
    assert curve.recall == pytest.approx(recall[:-1])
    assert curve.average_precision == pytest.approx(metrics.average_precision_score(truth, scores))
