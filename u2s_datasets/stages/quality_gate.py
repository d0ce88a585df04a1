"""The quality gate: it withholds what scores badly, or still shows what it should not."""

import math
import numbers
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from u2s_datasets import columns
from u2s_datasets.errors import ResidueFound, RowError, SetupError
from u2s_datasets.parts.metrics.definitions import SPECS
from u2s_datasets.stages.base import Step
from u2s_datasets.stages.batch import Row, read_rows, with_columns
from u2s_datasets.stages.row_edit import last_attempt

Limits = tuple[tuple[str, float], ...]
_RESIDUAL = (columns.RESIDUAL_FACES, columns.RESIDUAL_TEXT)


@dataclass(frozen=True)
class Gate(Step):
    """Withhold rows by their scores: after `score`, in a pipeline or by `.map(gate, batched=True)`.

    A row that fails loses its image and its scores and becomes `withheld`; its note says by which score, and reports
    count it under "quality" or "residue". Rows that were withheld already stay as they are.

    Limits judge an edit, so they are for edited rows alone: a `safe` row is its own original, whose people are of
    course the same. Limits on `residual_faces` and `residual_text`, and `residue`, are for safe rows too, since they
    say that the inspection missed something that it looks for. A score that is not a finite number fails every limit.

    Args:
        above: score -> a value that it has to exceed, as a mapping or pairs. The paper's filter is clip_ratio 0.7.
        at_most: score -> a value that it must not exceed. By default nobody may still be recognised.
        residue: also withhold what `anonymize` left over (law 4), and rows of redaction, or without any edit, in
            which `score` still found a face or a word.
        strict: a score that was not measured fails, but for a likeness of faces or texts in a photo that had none;
            without it only measured ones count.
        image_column: the column of the edited images.

    Input columns:
        anonymized_image: the edited image.
        anonymization_status: what became of the row; required.
        anonymization_note: why it was withheld.
        provenance: what the last edit left over.
        columns.SCORE: the scores that are limited.

    Output columns:
        anonymized_image: None for a row that fails.
        anonymization_status: "withheld" for a row that fails.
        anonymization_note: the score and the limit by which it fails. Private.
        columns.SCORE: those scores that are given; None for a row that fails.
    """

    above: Limits = ((columns.CLIP_RATIO, 0.7),)
    at_most: Limits = ((columns.FACES_SAME, 0),)
    residue: bool = True
    strict: bool = False
    image_column: str = columns.ANONYMIZED_IMAGE

    shown: ClassVar[tuple[str, ...]] = ("above", "at_most")
    reads = (columns.STATUS, columns.NOTE, columns.PROVENANCE, *columns.SCORE)
    writes = (columns.ANONYMIZED_IMAGE, columns.STATUS, columns.NOTE)

    def __post_init__(self) -> None:
        for name in ("above", "at_most"):
            value = getattr(self, name)
            object.__setattr__(self, name, tuple(value.items() if isinstance(value, Mapping) else map(tuple, value)))

    def __call__(self, batch: Mapping[str, Any], rank: int | None = None) -> Any:
        """The batch with the images, states and notes of the rows that fail; see `Step`."""
        self.check()
        rows = read_rows(batch, self.image_column, self.reads, (columns.STATUS,))
        for row in rows:
            row.fields[columns.ANONYMIZED_IMAGE] = row.image
        self.run(rows)
        names = self.output_columns(set(batch))
        if getattr(batch, "pa_table", None) is not None:
            return with_columns(batch, rows, names)
        return {name: [row.fields.get(name) for row in rows] for name in names}  # images as they came

    def check(self) -> None:
        """Raises `SetupError` for a limit on an unknown score, or one that is not a number."""
        for name, limit in (*self.above, *self.at_most):
            if name not in columns.SCORE:
                raise SetupError(f"unknown score {name!r}; expected one of: {', '.join(columns.SCORE)}")
            if not isinstance(limit, (int, float)) or math.isnan(limit):
                raise SetupError(f"invalid limit {limit!r} of {name}; expected a number")
        super().check()

    def output_columns(self, present: set[str]) -> tuple[str, ...]:
        """This step's columns and those of the scores that are present."""
        return (*self.writes, *(name for name in columns.SCORE if name in present))

    def run(self, batch: Sequence[Row]) -> None:
        """Withhold the rows that fail."""
        for row in batch:
            if row.fields.get(columns.STATUS) in (columns.SAFE, columns.ANONYMIZED):
                error = self._judge(row)
                if error is not None:
                    _withhold(row, error)

    def _judge(self, row: Row) -> RowError | None:
        """Why a row fails; None for one that passes."""
        fields = row.fields
        is_edited = fields[columns.STATUS] == columns.ANONYMIZED
        limits = [(name, limit, operator.gt, "above") for name, limit in self.above]
        limits += [(name, limit, operator.le, "at most") for name, limit in self.at_most]
        for name, limit, passes, words in limits:
            value = fields.get(name)
            if not is_edited and name not in _RESIDUAL:
                continue
            if value is None and self.strict and not _is_undefined(name, row):
                return RowError(f"{name} was not measured", "quality")
            if value is not None and not passes(_finite(value), limit):
                return RowError(f"{name} {_finite(value):.4g} is not {words} {limit:g}", "quality")
        left = _describe_residue(fields) if self.residue else ""
        return ResidueFound(left) if left else None


def _finite(score: Any) -> float:
    """A measured score; NaN, which is neither above nor at most any limit, unless it is a finite number."""
    return float(score) if isinstance(score, numbers.Real) and math.isfinite(score) else math.nan


def _is_undefined(name: str, row: Row) -> bool:
    """Whether a likeness has no value since there is nothing to be like, such as that of texts in a photo without any.

    Only a row that was scored in this very pass knows what failed; of any other it is not known, and counts as failed.
    Of a quality without a value, such as a caption that does not even fit the original, nobody knows anything either.
    """
    spec, empty = SPECS[name], dict.fromkeys((*columns.SCORE, columns.UNMEASURED))
    if spec.undefined is None or spec.group != "privacy" or row.edited is None:
        return False
    if {name, spec.noted_as, columns.IMAGE} & row.unmeasured.keys():
        return False
    return spec.undefined.applies(empty | row.fields)


def _describe_residue(fields: Mapping[str, Any]) -> str:
    """What is still there and must not be, in words; "" for nothing."""
    try:
        attempt = last_attempt(fields) or {}
    except ValueError:
        return "the row's provenance cannot be read"
    if attempt.get("residue"):
        return f"{attempt['residue']} regions were left over by the last attempt"
    # A rewriting editor rightly shows new people and words; without a word on it, an editor counts as redacting.
    if attempt.get("redacts") is False:
        return ""
    found = [n for n in _RESIDUAL if fields.get(n) is not None and not _finite(fields[n]) <= 0]
    return f"still found: {', '.join(found)}" if found else ""


def _withhold(row: Row, error: RowError) -> None:
    row.fail(error)
    row.fields |= {
        columns.ANONYMIZED_IMAGE: None,
        columns.STATUS: columns.WITHHELD,
        columns.NOTE: f"{error.code}: {error}",
        columns.REASON: error.code,
        **dict.fromkeys(columns.SCORE),
    }
    row.edited = None
