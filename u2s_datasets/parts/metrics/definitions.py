"""Every score column: how it is stored, measured, read, shown and documented; and its distribution over a set.

To add a score: its name in `columns.SCORE`, a formula in `quality` or `privacy`, a `ScoreSpec` here, the call that
measures it in `stages.score`, and a test. Tables, pages, comparisons and docs/metrics.md follow from `SPECS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from u2s_datasets import columns as c
from u2s_datasets.parts.metrics.intervals import mean_interval

FEW = 5
"""Fewer rows than this are never shown apart in public."""

COUNT = "(a count)"
"""The goal of a score that is neither good nor bad by itself."""


@dataclass(frozen=True)
class Undefined:
    """A case in which a score has no value although nothing failed.

    Args:
        reason: in words, for a table of missing values.
        applies: a row's columns -> whether this is that case.
    """

    reason: str
    applies: Callable[[Mapping[str, Any]], bool]


@dataclass(frozen=True)
class ScoreSpec:
    """One score column.

    Args:
        name: the column.
        meaning: what it says, in words.
        goal: what is hoped for, in words for a reader who does not know it. "Copied" is the paper's cheating group: an
            edit that copies the original keeps what is private, and scores a high ssim and a low lpips.
        group: "quality", "cheating" or "privacy", as in the paper.
        better: "higher" or "lower", for privacy.
        low, high, bins: of the histogram. The edges are fixed, since edges taken from the data would publish its
            extremes; the outer bins are open.
        value_range: of the formula, in words.
        formula: "module.function" within the package, whose docstring docs/metrics.md shows; "" for a mere count.
        dtype: of the column.
        exceeds_high: whether values may lie above `high`.
        untouched: the value of an image that was left as it was; None if that has none. A judge may miss it, the
            other metrics must not.
        copying: whether the worst value is that of an untouched image, which is what a safe row is, so that the worst
            value of a set says nothing.
        part: the field of `u2s.Score` that measures it; "" if it needs no part.
        package: a package with such a part, to install; "" if none is needed.
        needs: what the part needs, in words, unless it is a network that says so itself in `weights`.
        detail_of: a score that this one is a detail of, and that stands for it where it was not measured.
        noted_as: the score under which a failure to measure this one is noted; "" for its own name.
        undefined: when it has no value although nothing failed.
        utility_rank, privacy_rank: its place among the scores that `u2s compare` may plot as utility (where more is
            better) and as privacy, 1 being the first choice; 0 for never.
    """

    name: str
    meaning: str
    goal: str
    better: str
    low: float
    high: float
    bins: int
    value_range: str
    group: str = "privacy"
    formula: str = ""
    dtype: str = "float64"
    exceeds_high: bool = False
    untouched: float | None = None
    copying: bool = False
    part: str = ""
    package: str = ""
    needs: str = "nothing"
    detail_of: str = ""
    noted_as: str = ""
    undefined: Undefined | None = None
    utility_rank: int = 0
    privacy_rank: int = 0

    @property
    def is_count(self) -> bool:
        """Whether its values are whole numbers, one to a bin."""
        return self.dtype == "int32"


def _count(name: str, meaning: str, goal: str = COUNT, better: str = "lower", **more: Any) -> ScoreSpec:
    """The spec of a column that counts; the last of its bins holds 10 and more."""
    return ScoreSpec(name, meaning, goal, better, 0.0, 11.0, 11, "a count", dtype="int32", exceeds_high=True, **more)


_OCR = "nothing: PP-OCR by rapidocr, in its wheel (Apache-2.0); or a model that sees"
_FACES: dict[str, Any] = {"part": "faces", "package": "insightface", "formula": "parts.metrics.privacy.match_faces"}
_FACE_COUNT = _FACES | {"detail_of": c.FACE_SIMILARITY}
_NO_TEXT = Undefined("no text in the original", lambda row: row[c.RESIDUAL_TEXT] is not None)
_TWO_SIZES = Undefined(
    "the two sizes differ, or are too small",
    lambda row: row[c.UNMEASURED] is not None and not _is_finite(row[c.SSIM]),
)


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


SPECS: dict[str, ScoreSpec] = {
    spec.name: spec
    for spec in (
        ScoreSpec(
            c.CLIP_SIMILARITY,
            "how well the image fits its public caption",
            "high (fits caption)",
            better="higher",
            low=0.0,
            high=0.5,
            bins=20,
            value_range="[-1, 1]",
            group="quality",
            formula="parts.metrics.quality.clip_similarity",
            exceeds_high=True,
            part="clip",
            package="open_clip_torch",
            utility_rank=1,
        ),
        ScoreSpec(
            c.CLIP_RATIO,
            "the same, relative to the original",
            "high (fits caption)",
            better="higher",
            low=0.0,
            high=1.5,
            bins=15,
            value_range="from 0",
            group="quality",
            formula="parts.metrics.quality.clip_ratio",
            exceeds_high=True,
            untouched=1.0,
            part="clip",
            package="open_clip_torch",
            undefined=Undefined(
                "the original does not fit its caption",
                lambda row: row[c.UNMEASURED] is not None and _is_finite(row[c.CLIP_SIMILARITY]),
            ),
            utility_rank=2,
        ),
        ScoreSpec(
            c.SSIM,
            "likeness of the pixels to the original's",
            "low (less copied)",
            better="lower",
            low=0.0,
            high=1.0,
            bins=20,
            value_range="[-1, 1]",
            group="cheating",
            formula="parts.metrics.quality.ssim",
            untouched=1.0,
            copying=True,
            undefined=_TWO_SIZES,
            utility_rank=3,  # as utility it counts the pixels that were kept
            privacy_rank=6,
        ),
        ScoreSpec(
            c.LPIPS,
            "perceived distance from the original",
            "high (less copied)",
            better="higher",
            low=0.0,
            high=1.0,
            bins=20,
            value_range="from 0",
            group="cheating",
            formula="parts.metrics.quality.lpips",
            exceeds_high=True,
            untouched=0.0,
            copying=True,
            part="lpips",
            package="lpips",
            undefined=_TWO_SIZES,
            privacy_rank=5,
        ),
        ScoreSpec(
            c.FACE_SIMILARITY,
            "likeness of the faces to the original's",
            "low (faces changed)",
            better="lower",
            low=-0.2,
            high=1.0,
            bins=24,
            value_range="[-1, 1]",
            untouched=1.0,
            **_FACES,
            undefined=Undefined("no face in the original", lambda row: row[c.FACES_BEFORE] == 0),
            privacy_rank=2,
        ),
        _count(c.FACES_BEFORE, "faces found in the original", **_FACE_COUNT),
        _count(c.FACES_AFTER, "faces found in the edited image", **_FACE_COUNT),
        _count(c.FACES_MATCHED, "faces of the original with a counterpart", **_FACE_COUNT),
        _count(c.FACES_VANISHED, "faces of the original without one", better="higher", untouched=0.0, **_FACE_COUNT),
        _count(c.FACES_NEW, "faces that are nobody's counterpart", better="higher", untouched=0.0, **_FACE_COUNT),
        _count(c.FACES_SAME, "people who can still be recognised", "0 (nobody known)", **_FACE_COUNT),
        ScoreSpec(
            c.TEXT_SIMILARITY,
            "likeness of the words to the original's",
            "low (words changed)",
            better="lower",
            low=0.0,
            high=1.0,
            bins=20,
            value_range="[0, 1]",
            formula="parts.metrics.privacy.text_similarity",
            untouched=1.0,
            part="inspect",
            needs=_OCR,
            undefined=_NO_TEXT,
            privacy_rank=4,
        ),
        ScoreSpec(
            c.TEXT_RECALL,
            "share of the original's words still read",
            "low (words gone)",
            better="lower",
            low=0.0,
            high=1.0,
            bins=20,
            value_range="[0, 1]",
            formula="parts.metrics.privacy.text_recall",
            untouched=1.0,
            part="inspect",
            needs=_OCR,
            noted_as=c.TEXT_SIMILARITY,
            undefined=_NO_TEXT,
            privacy_rank=3,
        ),
        ScoreSpec(
            c.VLM_SCORE,
            "a model's grade of the removal",
            "high (well removed)",
            better="higher",
            low=0.0,
            high=100.0,
            bins=20,
            value_range="[0, 100]",
            formula="stages.vlm_questions.ask_vlm_scores",
            untouched=0.0,
            part="judge",
            package="transformers",
            needs="a model that sees, such as InternVL3.5-8B-HF (Apache-2.0)",
            privacy_rank=1,
        ),
        _count(
            c.RESIDUAL_FACES,
            "faces still found",
            "0 (none left)",
            part="inspect",
            needs="nothing: CenterFace ships with this package (MIT)",
        ),
        _count(c.RESIDUAL_TEXT, "words still found", "0 (none left)", part="inspect", needs=_OCR),
    )
}
"""Column -> its spec, in the order of `columns.SCORE`."""


@dataclass(frozen=True)
class Distribution:
    """One score column over a set. Null, NaN and infinite values are missing and enter no figure.

    Args:
        name: the column.
        n, missing: rows with and without a value.
        mean, median, worst: None where n is 0. `worst` is one row's own value, so it is private.
        counts: rows per bin of the spec. Private; `public_counts` is what may be shown.
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
    def spec(self) -> ScoreSpec:
        """Of its column."""
        return SPECS[self.name]

    @property
    def edges(self) -> list[float]:
        """The edges of the bins, one more than `counts`."""
        edges = np.linspace(self.spec.low, self.spec.high, self.spec.bins + 1)
        return [round(float(v), 6) for v in edges]

    def figures(self, private: bool) -> dict[str, float | None]:
        """The numbers by name; in public rounded, without `worst`, and no number at all of fewer than 5 rows."""
        low, high = self.interval or (None, None)
        values = {"mean": self.mean, "low": low, "high": high, "median": self.median}
        if private:
            values["worst"] = self.worst
        elif self.n >= FEW:
            values = {name: None if v is None else round(v, 2) for name, v in values.items()}
        else:
            values = {}
        return {"n": self.n, "missing": self.missing, **values}

    def public_counts(self) -> list[int | None]:
        """The counts, None where a bin has 0 to 4 rows.

        An empty bin is hidden like a small one, and never one small bin alone: n minus the others would tell it.
        """
        shown: list[int | None] = [k if k >= FEW else None for k in self.counts]
        if shown.count(None) == 1 and self.counts[shown.index(None)]:
            shown[min((k, i) for i, k in enumerate(shown) if k is not None)[1]] = None
        return shown

    @classmethod
    def of(cls, name: str, values: np.ndarray, rows: int, why: dict[str, int] | None = None) -> Distribution:
        """The distribution of these values.

        Args:
            name: the column.
            values: (rows,), NaN for a row without a value.
            rows: how many there are.
            why: missing rows per reason.
        """
        spec = SPECS[name]
        values = values[np.isfinite(values)]
        n = len(values)
        if not n:
            return cls(name, 0, rows, None, None, None, (0,) * spec.bins, None, why or {})
        # 1e-9: an edge such as 0.15 has no exact float, and a score of 0.15 belongs above it.
        positions = np.floor((values - spec.low) / (spec.high - spec.low) * spec.bins + 1e-9)
        bins = np.clip(positions, 0, spec.bins - 1).astype(int)
        return cls(
            name,
            n,
            missing=rows - n,
            mean=math.fsum(values) / n,
            median=float(np.median(values)),
            worst=float(values.min() if spec.better == "higher" else values.max()),
            counts=tuple(np.bincount(bins, minlength=spec.bins).tolist()),
            interval=mean_interval(values),
            why=why or {},
        )
