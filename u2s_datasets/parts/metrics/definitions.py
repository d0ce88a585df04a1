"""The numbers of one score column over a set, and how they are shown: scales, goals, meanings."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from u2s_datasets import columns as c

SCALES = {
    c.CLIP_SIMILARITY: ("higher", 0.0, 0.5, 20),
    c.CLIP_RATIO: ("higher", 0.0, 1.5, 15),
    c.SSIM: ("lower", 0.0, 1.0, 20),
    c.LPIPS: ("higher", 0.0, 1.0, 20),
    c.FACE_SIMILARITY: ("lower", -0.2, 1.0, 24),
    **dict.fromkeys((c.FACES_BEFORE, c.FACES_AFTER, c.FACES_MATCHED), ("lower", 0.0, 11.0, 11)),
    c.FACES_VANISHED: ("higher", 0.0, 11.0, 11),
    c.FACES_NEW: ("higher", 0.0, 11.0, 11),
    c.FACES_SAME: ("lower", 0.0, 11.0, 11),
    c.TEXT_SIMILARITY: ("lower", 0.0, 1.0, 20),
    c.TEXT_RECALL: ("lower", 0.0, 1.0, 20),
    c.VLM_SCORE: ("higher", 0.0, 100.0, 20),
    c.RESIDUAL_FACES: ("lower", 0.0, 11.0, 11),
    c.RESIDUAL_TEXT: ("lower", 0.0, 11.0, 11),
}
"""Per score: which is better, for privacy, and the histogram's (low, high, bins). The edges are fixed, since
edges taken from the data would publish its extremes; the outer bins are open."""

COUNT = "(a count)"
GOALS = {
    c.CLIP_SIMILARITY: "high (fits caption)",
    c.CLIP_RATIO: "high (fits caption)",
    c.SSIM: "low (less copied)",
    c.LPIPS: "high (less copied)",
    c.FACE_SIMILARITY: "low (faces changed)",
    c.FACES_BEFORE: COUNT,
    c.FACES_AFTER: COUNT,
    c.FACES_MATCHED: COUNT,
    c.FACES_VANISHED: COUNT,
    c.FACES_NEW: COUNT,
    c.FACES_SAME: "0 (nobody known)",
    c.TEXT_SIMILARITY: "low (words changed)",
    c.TEXT_RECALL: "low (words gone)",
    c.VLM_SCORE: "high (well removed)",
    c.RESIDUAL_FACES: "0 (none left)",
    c.RESIDUAL_TEXT: "0 (none left)",
}
"""Per score: what is hoped for, in words for a reader who does not know it. "Copied" is the paper's cheating
group: an edit that copies the original keeps what is private, and scores a high ssim and a low lpips."""

UNTOUCHED = {
    c.CLIP_RATIO: 1.0,
    c.SSIM: 1.0,
    c.LPIPS: 0.0,
    c.FACE_SIMILARITY: 1.0,
    c.FACES_VANISHED: 0.0,
    c.FACES_NEW: 0.0,
    c.TEXT_SIMILARITY: 1.0,
    c.TEXT_RECALL: 1.0,
    c.VLM_SCORE: 0.0,
}
"""Per score that has one: its value for an image that was left as it is. A judge may miss it; the others must not."""

COPYING = {c.SSIM, c.LPIPS}
"""Scores whose worst value is that of an untouched image, which is what a safe row is; it tells nothing."""

MEANINGS = {
    c.CLIP_SIMILARITY: "how well the image fits its public caption",
    c.CLIP_RATIO: "the same, relative to the original",
    c.SSIM: "likeness of the pixels to the original's",
    c.LPIPS: "perceived distance from the original",
    c.FACE_SIMILARITY: "likeness of the faces to the original's",
    c.FACES_BEFORE: "faces found in the original",
    c.FACES_AFTER: "faces found in the edited image",
    c.FACES_MATCHED: "faces of the original with a counterpart",
    c.FACES_VANISHED: "faces of the original without one",
    c.FACES_NEW: "faces that are nobody's counterpart",
    c.FACES_SAME: "people who can still be recognised",
    c.TEXT_SIMILARITY: "likeness of the words to the original's",
    c.TEXT_RECALL: "share of the original's words still read",
    c.VLM_SCORE: "a model's grade of the removal",
    c.RESIDUAL_FACES: "faces still found",
    c.RESIDUAL_TEXT: "words still found",
}

FEW = 5
"""Fewer rows than this are never shown apart in public."""


@dataclass(frozen=True)
class Score:
    """One score column over a set. Null, NaN and infinite values are missing and enter no figure.

    Args:
        name: the column.
        n, missing: rows with and without a value.
        mean, median, worst: none where n is 0. `worst` is one row's own value, so it is private.
        counts: rows per bin of `SCALES`. Private; `public_counts` is what may be shown.
        interval: 95% interval of the mean, see `mean_interval`.
        why: missing rows per reason. Private.
    """

    name: str
    n: int
    missing: int
    mean: float | None
    median: float | None
    worst: float | None
    counts: tuple[int, ...]
    interval: tuple[float, float] | None = None
    why: dict[str, int] = field(default_factory=dict)

    @property
    def goal(self) -> str:
        """What is hoped for, in two or three words."""
        return GOALS[self.name]

    @property
    def edges(self) -> list[float]:
        """The edges of the bins, one more than `counts`."""
        _, low, high, bins = SCALES[self.name]
        return [round(float(v), 6) for v in np.linspace(low, high, bins + 1)]

    def figures(self, private: bool) -> dict[str, float | None]:
        """The numbers by name; in public rounded, without `worst`, and none at all of fewer than 5 rows."""
        if private:
            ends = dict(zip(("low", "high"), self.interval or (None, None), strict=True))
            values = {"mean": self.mean, **ends, "median": self.median, "worst": self.worst}
        else:
            low, high = self.interval or (None, None)
            pairs = {"mean": self.mean, "low": low, "high": high, "median": self.median} if self.n >= FEW else {}
            values = {name: None if v is None else round(v, 2) for name, v in pairs.items()}
        return {"n": self.n, "missing": self.missing, **values}

    def public_counts(self) -> list[int | None]:
        """The counts, none where a bin has 0 to 4 rows.

        An empty bin is hidden like a small one, and never one small bin alone: n minus the others would tell it.
        """
        shown: list[int | None] = [k if k >= FEW else None for k in self.counts]
        if shown.count(None) == 1 and self.counts[shown.index(None)]:
            shown[min((k, i) for i, k in enumerate(shown) if k is not None)[1]] = None
        return shown

    @classmethod
    def of(cls, name: str, values: np.ndarray, rows: int, why: dict[str, int] | None = None) -> Score:
        """The score of these values, NaN where a row has none, shape (rows,), and why those have none."""
        better, low, high, bins = SCALES[name]
        values = values[np.isfinite(values)]
        if not len(values):
            return cls(name, 0, rows, None, None, None, (0,) * bins, None, why or {})
        # 1e-9: an edge such as 0.15 has no exact float, and a score of 0.15 belongs above it.
        at = np.clip(np.floor((values - low) / (high - low) * bins + 1e-9), 0, bins - 1).astype(int)
        counts = tuple(int(k) for k in np.bincount(at, minlength=bins))
        worst = float(values.min() if better == "higher" else values.max())
        mean = math.fsum(values) / len(values)
        facts = (mean, float(np.median(values)), worst, counts, mean_interval(values), why or {})
        return cls(name, len(values), rows - len(values), *facts)


RESAMPLES, SEED, MANY = 1000, 0, 20_000


def mean_interval(values: np.ndarray, seed: int = SEED) -> tuple[float, float] | None:
    """The 95% interval of a mean: percentiles of the means of 1000 resamples drawn from one seed (Efron 1979).

    Above 20,000 values it is mean ± 1.96 standard errors, which agrees to three digits by then.

    Args:
        values: (n,) finite numbers.
        seed: of the draws, so that the same values have the same interval.

    Returns:
        (low, high); none for fewer than two values.
    """
    n = len(values)
    if n < 2:
        return None
    if n > MANY:
        half = 1.96 * float(values.std(ddof=1)) / math.sqrt(n)
        return float(values.mean()) - half, float(values.mean()) + half
    random = np.random.default_rng(seed)
    means = np.concatenate([values[random.integers(0, n, (50, n))].mean(axis=1) for _ in range(RESAMPLES // 50)])
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)
